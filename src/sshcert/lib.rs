//! OpenSSH user certificates: a strict parser and a signature check over the bytes as received.
//!
//! This room reads what a stranger sent (PROTOCOL.certkeys, RFC 4251, RFC 4253, RFC 5656,
//! RFC 8332, RFC 8709) and answers what it says and whether the authority named in it signed it.
//! It must never re-encode what it verifies, guess what a broken field meant, print, read a clock,
//! or decide whether somebody may log in. Everything it refuses although OpenSSH takes it is
//! listed in `REFUSALS.md` and counted by the differential test.

mod base64;
mod certificate;
mod error;
mod key;
mod limits;
mod option;
mod reader;
mod signature;
#[cfg(feature = "testing")]
pub mod testing;

pub use certificate::{CertKind, Certificate};
pub use error::{CertError, Field};
pub use key::{KeyType, PublicKey};
pub use limits::{
    MAX_CERT_BYTES, MAX_KEY_BYTES, MAX_KEY_ID_BYTES, MAX_KEY_LINE_BYTES, MAX_NONCE_BYTES, MAX_OPTION_BYTES,
    MAX_OPTION_NAME_BYTES, MAX_OPTIONS, MAX_PRINCIPAL_BYTES, MAX_PRINCIPALS, MAX_RSA_BITS,
    MAX_RSA_EXPONENT_BITS, MAX_SIGNATURE_BYTES, MAX_TYPE_BYTES, MIN_RSA_BITS,
};
pub use option::RawOption;
pub use signature::SignatureAlgorithm;
