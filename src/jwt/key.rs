//! One public key (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::verify;

use crate::compact::decode;
use crate::header::Algorithm;
use crate::json::{Object, text};
use crate::limits::{MAX_RSA_BITS, MIN_RSA_BITS};

/// The exponent of every RSA key that is taken: 65,537.
const EXPONENT: &str = "AQAB";

/// What the key is made of, in the key set's own spelling.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Material {
    /// An RSA key of this modulus.
    Rsa { n: String },
    /// A point of P-256.
    P256 { x: String, y: String },
    /// A point of Ed25519.
    Ed25519 { x: String },
}

impl Material {
    /// Reads the key of a JWK; `None` for what cannot check a signature here.
    pub(crate) fn of_jwk(jwk: &Object) -> Option<Self> {
        let part = |name: &str| text(jwk, name).map(str::to_owned);
        let material = match (text(jwk, "kty")?, text(jwk, "crv")) {
            ("RSA", None) if text(jwk, "e")? == EXPONENT => Self::Rsa { n: part("n")? },
            ("EC", Some("P-256")) => Self::P256 { x: part("x")?, y: part("y")? },
            ("OKP", Some("Ed25519")) => Self::Ed25519 { x: part("x")? },
            _ => return None,
        };
        material.is_sound().then_some(material)
    }

    /// Whether the numbers have the size that they must have.
    pub(crate) fn is_sound(&self) -> bool {
        let is_32 = |part: &String| decode(part).is_ok_and(|bytes| bytes.len() == 32);
        match self {
            Self::Rsa { n } => decode(n).is_ok_and(|n| (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits(&n))),
            Self::P256 { x, y } => is_32(x) && is_32(y),
            Self::Ed25519 { x } => is_32(x),
        }
    }

    /// Whether it can check signatures of this algorithm.
    pub(crate) const fn fits(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Self::P256 { .. }, Algorithm::Es256)
                | (Self::Ed25519 { .. }, Algorithm::EdDsa)
        )
    }

    /// The key as an SSH public key blob: P-256 (RFC 5656 §3.1) or Ed25519 (RFC 8709 §4); `None` for RSA.
    pub(crate) fn ssh_blob(&self) -> Option<Vec<u8>> {
        let mut blob = Vec::new();
        let mut string = |bytes: &[u8]| {
            blob.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_be_bytes());
            blob.extend_from_slice(bytes);
            Some(())
        };
        match self {
            Self::Rsa { .. } => return None,
            Self::P256 { x, y } => {
                string(b"ecdsa-sha2-nistp256")?;
                string(b"nistp256")?;
                string(&[&[4][..], &decode(x).ok()?, &decode(y).ok()?].concat())?;
            }
            Self::Ed25519 { x } => {
                string(b"ssh-ed25519")?;
                string(&decode(x).ok()?)?;
            }
        }
        Some(blob)
    }

    /// Whether this is the signature of these bytes. The algorithm is the caller's; one of another kind of key is no.
    pub(crate) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &str) -> bool {
        let (key, algorithm) = match (self, algorithm) {
            (Self::Rsa { n }, Algorithm::Rs256) => {
                (DecodingKey::from_rsa_components(n, EXPONENT), jsonwebtoken::Algorithm::RS256)
            }
            (Self::Rsa { n }, Algorithm::Ps256) => {
                (DecodingKey::from_rsa_components(n, EXPONENT), jsonwebtoken::Algorithm::PS256)
            }
            (Self::P256 { x, y }, Algorithm::Es256) => {
                (DecodingKey::from_ec_components(x, y), jsonwebtoken::Algorithm::ES256)
            }
            (Self::Ed25519 { x }, Algorithm::EdDsa) => {
                (DecodingKey::from_ed_components(x), jsonwebtoken::Algorithm::EdDSA)
            }
            _ => return false,
        };
        key.is_ok_and(|key| verify(signature, signed, &key, algorithm).unwrap_or(false))
    }
}

/// The length of a number, in bits.
fn bits(number: &[u8]) -> usize {
    let Some(first) = number.iter().position(|byte| *byte != 0) else { return 0 };
    let top = number.get(first).map_or(0, |byte| byte.leading_zeros() as usize);
    (number.len() - first) * 8 - top
}
