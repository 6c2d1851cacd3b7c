//! Reads RFC 4251 values from received bytes. It never reads past the end, never allocates and
//! never accepts a second spelling of the same value.

use crate::error::{CertError, Field};

/// A cursor over received bytes.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize, field: Field) -> Result<&'a [u8], CertError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(CertError::Truncated(field))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: Field) -> Result<[u8; N], CertError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(CertError::Truncated(field))?;
        self.rest = tail;
        Ok(*head)
    }

    pub(crate) fn u32(&mut self, field: Field) -> Result<u32, CertError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, field: Field) -> Result<u64, CertError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A `string`: four bytes of length, then that many bytes, at most `max`.
    pub(crate) fn string(&mut self, field: Field, max: usize) -> Result<&'a [u8], CertError> {
        let length = self.u32(field)?;
        let length = usize::try_from(length).map_err(|_| CertError::FieldTooLong(field))?;
        // Cut short first: a length of 4 GiB is a broken field, not a long one.
        if length > self.rest.len() {
            return Err(CertError::Truncated(field));
        }
        if length > max {
            return Err(CertError::FieldTooLong(field));
        }
        self.take(length, field)
    }

    /// The magnitude of a positive `mpint`, without a leading zero byte. Zero, a negative number
    /// and a needless zero byte are refused.
    pub(crate) fn positive_mpint(&mut self, field: Field, max: usize) -> Result<&'a [u8], CertError> {
        let bytes = self.string(field, max)?;
        match bytes {
            [0, second, ..] if *second >= 0x80 => Ok(bytes.split_at(1).1),
            [first, ..] if (1..0x80).contains(first) => Ok(bytes),
            _ => Err(CertError::NotCanonical(field)),
        }
    }

    /// Nothing may be left.
    pub(crate) const fn end(&self, field: Field) -> Result<(), CertError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CertError::Trailing(field)) }
    }
}

/// The number of significant bits of a magnitude without leading zero bytes.
pub(crate) fn bits(magnitude: &[u8]) -> u32 {
    let Some(first) = magnitude.first() else { return 0 };
    let below = u32::try_from(magnitude.len() - 1).unwrap_or(u32::MAX / 8);
    below.saturating_mul(8).saturating_add(8 - first.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mpint(bytes: &[u8]) -> Result<Vec<u8>, CertError> {
        let mut wire = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        wire.extend_from_slice(bytes);
        let mut reader = Reader::new(&wire);
        let got = reader.positive_mpint(Field::RsaModulus, 16)?.to_vec();
        reader.end(Field::RsaModulus)?;
        Ok(got)
    }

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(mpint(&[1, 0, 1]), Ok(vec![1, 0, 1]));
        assert_eq!(mpint(&[0, 0x80]), Ok(vec![0x80]));
        for wrong in [&[][..], &[0], &[0, 0], &[0, 1], &[0, 0, 0x80], &[0x80], &[0xff, 0]] {
            assert_eq!(mpint(wrong), Err(CertError::NotCanonical(Field::RsaModulus)), "{wrong:?}");
        }
        assert_eq!(mpint(&[1; 17]), Err(CertError::FieldTooLong(Field::RsaModulus)));
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for wire in [&[][..], &[0, 0, 0], &[0, 0, 0, 1], &[0xff, 0xff, 0xff, 0xff, 0], &[0, 0, 1, 0, 1]] {
            assert_eq!(Reader::new(wire).string(Field::KeyId, 8), Err(CertError::Truncated(Field::KeyId)));
        }
        assert_eq!(Reader::new(&[0; 7]).u64(Field::Serial), Err(CertError::Truncated(Field::Serial)));
        assert_eq!(Reader::new(&[0]).end(Field::Whole), Err(CertError::Trailing(Field::Whole)));
    }

    #[test]
    fn bits_are_counted_from_the_first_one() {
        assert_eq!(bits(&[]), 0);
        assert_eq!(bits(&[1]), 1);
        assert_eq!(bits(&[0x80]), 8);
        assert_eq!(bits(&[1, 0, 1]), 17);
    }
}
