//! The client's side of an OpenPubkey proof: the header that the sign-in commits to, and the token that comes of it
//! (`tests/openpubkey/FORMAT.md`). Only Ed25519: the client is ours, and every sshd since 6.5 takes it.
//!
//! It makes text and keeps nothing; the key stays with whoever calls.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA3_256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The header in which a client says which key it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHeader {
    json: String,
}

impl ClientHeader {
    /// For this Ed25519 key; `random` makes the commitment another one for each sign-in.
    #[must_use]
    pub fn ed25519(public: &[u8; 32], random: &[u8; 32]) -> Self {
        let rz = random.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let x = URL_SAFE_NO_PAD.encode(public);
        // The members stand in the order of their names: others hash what they wrote themselves.
        let upk = format!(r#"{{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Self { json: format!(r#"{{"alg":"EdDSA","rz":"{rz}","typ":"CIC","upk":{upk}}}"#) }
    }

    /// The nonce that the sign-in must ask for.
    #[must_use]
    pub fn commitment(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA3_256, self.json.as_bytes()))
    }

    /// What the client signs of this ID token; `None` when it is no compact token.
    #[must_use]
    pub fn to_sign(&self, id_token: &str) -> Option<String> {
        let [_, payload, _] = parts(id_token)?;
        Some(format!("{}.{payload}", URL_SAFE_NO_PAD.encode(&self.json)))
    }

    /// The proof, with the client's signature over [`ClientHeader::to_sign`].
    #[must_use]
    pub fn proof(&self, id_token: &str, signature: &[u8]) -> Option<String> {
        let [header, payload, theirs] = parts(id_token)?;
        let ours = (URL_SAFE_NO_PAD.encode(&self.json), URL_SAFE_NO_PAD.encode(signature));
        Some(format!("{payload}:{header}:{theirs}:{}:{}", ours.0, ours.1))
    }
}

/// The same proof with a newer ID token of the same sign-in beside it, in place of an earlier one; `None` when either cannot
/// be one.
#[must_use]
pub fn with_refreshed(proof: &str, id_token: &str) -> Option<String> {
    parts(id_token)?;
    let first = proof.split('.').next()?;
    (first.split(':').count() == 5).then(|| format!("{first}.{id_token}"))
}

fn parts(token: &str) -> Option<[&str; 3]> {
    let mut parts = token.split('.');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}
