//! Random identifiers and the few encodings every room needs. GUIDs are kept as lower-case text with
//! dashes; the services differ only in how they print them.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

/// Base64url that writes no padding and reads with or without it, as Entra's endpoints do.
pub(crate) const B64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Standard base64 text of `bytes`, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

/// Bytes of standard base64, or nothing.
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    general_purpose::STANDARD.decode(text).ok()
}

/// Base64url text of `bytes`, unpadded.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    B64URL.encode(bytes)
}

/// Bytes of base64url, padding optional, or nothing.
pub(crate) fn unbase64url(text: &str) -> Option<Vec<u8>> {
    B64URL.decode(text).ok()
}

/// Lower-case hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` random bytes. The generator of the crypto library does not fail once the process runs; were it to,
/// zeroes would make tests that expect different ids fail loudly.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = [0; N];
    }
    bytes
}

/// A random version-4 GUID, lower case with dashes.
pub(crate) fn guid() -> String {
    let number = u128::from_be_bytes(random()) & !(0xf000_u128 << 64) & !(0xc000_u128 << 48);
    let text = format!("{:032x}", number | (0x4000_u128 << 64) | (0x8000_u128 << 48));
    dashed(&text).unwrap_or(text)
}

/// Put dashes into 32 hexadecimal digits.
pub(crate) fn dashed(digits: &str) -> Option<String> {
    let part = |from, to| digits.get(from..to);
    (digits.len() == 32).then_some(())?;
    Some(format!("{}-{}-{}-{}-{}", part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?))
}

/// The PDP's spelling: the same digits without dashes.
pub(crate) fn undashed(guid: &str) -> String {
    guid.replace('-', "").to_ascii_lowercase()
}

/// Does `text` look like a GUID with dashes?
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, letter)| match at {
            8 | 13 | 18 | 23 => letter == '-',
            _ => letter.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_version_four_and_differ() {
        let (one, other) = (guid(), guid());
        assert_ne!(one, other);
        assert!(is_guid(&one), "{one}");
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
        assert_eq!(dashed(&undashed(&one)), Some(one));
    }

    #[test]
    fn base64url_reads_both_paddings() {
        assert_eq!(unbase64url("AQAB"), Some(vec![1, 0, 1]));
        assert_eq!(unbase64url("AA=="), Some(vec![0]));
        assert_eq!(unbase64url("AA"), Some(vec![0]));
        assert_eq!(unbase64url("A*"), None);
    }
}
