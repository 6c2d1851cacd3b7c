//! An independent OpenPubkey client for tests.
//!
//! It makes the SSH certificates that an unmodified `opkssh` client writes after a login at Entra ID, and
//! certificates that break exactly one thing each. It shares no code with the product, so that the product's
//! verifier is tested by other eyes. `FORMAT.md` beside this crate's manifest says what the format is and
//! where each fact was read.
//!
//! With an identity provider of the test's own: make a [`Client`], hand [`Client::nonce`] to the provider, and
//! turn the ID token it gives into a [`PkToken`] and a certificate. Without one: [`case`] does it all, with
//! the small [`Issuer`] of this crate.

mod broken;
mod cases;
mod certificate;
mod cic;
mod issuer;
mod key;
mod ssh;
#[cfg(test)]
mod tests;
mod token;

pub use broken::Broken;
pub use cases::{Case, case};
pub use certificate::{CertificateSpec, NO_END, WILDCARD_PRINCIPAL};
pub use cic::{Client, commitment};
pub use issuer::Issuer;
pub use key::{Key, KeyType};
pub use token::PkToken;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Why a token or a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The crypto library refused, which it does without a reason.
    #[error("the crypto library refused to {0}")]
    Crypto(&'static str),
    /// An ID token that is not three parts, or whose payload cannot be read.
    #[error("not an ID token: {0}")]
    IdToken(&'static str),
}

/// base64url without padding.
pub(crate) fn b64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// base64url without padding, read.
pub(crate) fn from_b64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The base64 of SSH: the standard alphabet, padded.
pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Crypto("make random bytes"))?;
    Ok(bytes)
}
