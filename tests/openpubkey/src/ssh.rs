//! The wire types of SSH (RFC 4251, section 5), written only.

/// A growing buffer of SSH wire values.
#[derive(Debug, Default, Clone)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A number of 32 bits.
    pub(crate) fn u32(self, number: u32) -> Self {
        self.raw(&number.to_be_bytes())
    }

    /// A number of 64 bits.
    pub(crate) fn u64(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }

    /// A string: its length, then its bytes. Nothing here comes near the 4 GiB of the length field.
    pub(crate) fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }

    /// A positive number of any length: no leading zeros, and one zero byte if the top bit is set.
    pub(crate) fn mpint(self, big_endian: &[u8]) -> Self {
        let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
        let digits = big_endian.get(start..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(digits.len().saturating_add(1));
        if digits.first().is_some_and(|top| top & 0x80 != 0) {
            bytes.push(0);
        }
        bytes.extend_from_slice(digits);
        self.string(bytes)
    }

    /// How much is written.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is written.
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}
