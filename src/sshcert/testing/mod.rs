//! Keys and certificates for tests: any field, any byte, signed with the right key all the same.
//!
//! Nothing of the parser is used here, so that a mistake there cannot hide itself. Behind the
//! feature `testing`; a product binary must never enable it. It panics where a test would.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod builder;
mod keys;

pub use builder::CertificateBuilder;
pub use keys::TestKey;

/// An RFC 4251 `string`.
#[must_use]
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A positive RFC 4251 `mpint` in its shortest form, from big-endian bytes.
#[must_use]
pub fn mpint(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let mut shortest = number[zeros..].to_vec();
    if shortest.first().is_some_and(|byte| *byte >= 0x80) {
        shortest.insert(0, 0);
    }
    string(&shortest)
}

/// Several strings in a row: a list of principals, or names and values.
#[must_use]
pub fn strings<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    items.into_iter().flat_map(|item| string(item.as_ref())).collect()
}

/// `type base64` of a key's or certificate's blob: a file as `az ssh cert` writes it, without
/// comment and without line end.
#[must_use]
pub fn line(blob: &[u8]) -> String {
    let (name, _) = split_string(blob);
    format!("{} {}", String::from_utf8_lossy(name), crate::base64::encode(blob))
}

/// The first `string` of `bytes`, and what follows it.
fn split_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    bytes[4..].split_at(length)
}
