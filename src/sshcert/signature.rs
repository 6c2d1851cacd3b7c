//! The authority's signature: which algorithms, which forms, and the check itself. SHA-1 has no
//! place here, not even behind a flag.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
};

use crate::error::{CertError, Field};
use crate::key::{KeyType, PublicKey};
use crate::limits::{MAX_SIGNATURE_BYTES, MAX_TYPE_BYTES};
use crate::reader::Reader;

/// The accepted signature algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignatureAlgorithm {
    /// `rsa-sha2-256` (RFC 8332).
    RsaSha256,
    /// `rsa-sha2-512` (RFC 8332).
    RsaSha512,
    /// `ecdsa-sha2-nistp256` (RFC 5656).
    EcdsaP256,
    /// `ecdsa-sha2-nistp384` (RFC 5656).
    EcdsaP384,
    /// `ssh-ed25519` (RFC 8709).
    Ed25519,
}

impl SignatureAlgorithm {
    /// Every accepted algorithm.
    pub const ALL: [Self; 5] =
        [Self::RsaSha256, Self::RsaSha512, Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha2-256",
            Self::RsaSha512 => "rsa-sha2-512",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::Ed25519 => "ssh-ed25519",
        }
    }

    /// The only key type that can make such a signature.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::RsaSha256 | Self::RsaSha512 => KeyType::Rsa,
            Self::EcdsaP256 => KeyType::EcdsaP256,
            Self::EcdsaP384 => KeyType::EcdsaP384,
            Self::Ed25519 => KeyType::Ed25519,
        }
    }
}

/// A signature in the form that aws-lc takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Signature {
    pub(crate) algorithm: SignatureAlgorithm,
    value: Vec<u8>,
}

impl Signature {
    /// Reads the signature field of a certificate signed by `ca`.
    pub(crate) fn parse(bytes: &[u8], ca: &PublicKey) -> Result<Self, CertError> {
        let mut reader = Reader::new(bytes);
        let name = reader.string(Field::Signature, MAX_TYPE_BYTES)?;
        let algorithm = SignatureAlgorithm::ALL
            .into_iter()
            .find(|known| known.name().as_bytes() == name && known.key_type() == ca.key_type())
            .ok_or(CertError::SignatureAlgorithm)?;
        let inner = reader.string(Field::Signature, MAX_SIGNATURE_BYTES)?;
        reader.end(Field::Signature)?;
        let value = match algorithm {
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaSha512 => {
                // RFC 8332 §3: some signers drop leading zeros, and a verifier may put them back.
                pad(inner, ca.bits().div_ceil(8) as usize)?
            }
            SignatureAlgorithm::EcdsaP256 => pair(inner, 32)?,
            SignatureAlgorithm::EcdsaP384 => pair(inner, 48)?,
            SignatureAlgorithm::Ed25519 if inner.len() == 64 => inner.to_vec(),
            SignatureAlgorithm::Ed25519 => return Err(CertError::SignatureForm),
        };
        Ok(Self { algorithm, value })
    }

    /// Checks the signature over `message`.
    pub(crate) fn verify(&self, ca: &PublicKey, message: &[u8]) -> Result<(), CertError> {
        let answer = match self.algorithm {
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaSha512 => {
                let (e, n) = ca.rsa_numbers().ok_or(CertError::BadSignature)?;
                let rule = if self.algorithm == SignatureAlgorithm::RsaSha256 {
                    &RSA_PKCS1_2048_8192_SHA256
                } else {
                    &RSA_PKCS1_2048_8192_SHA512
                };
                PublicKeyComponents { n, e }.verify(rule, message, &self.value)
            }
            SignatureAlgorithm::EcdsaP256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(ca)?).verify(message, &self.value)
            }
            SignatureAlgorithm::EcdsaP384 => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point(ca)?).verify(message, &self.value)
            }
            SignatureAlgorithm::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, point(ca)?).verify(message, &self.value)
            }
        };
        answer.map_err(|_| CertError::BadSignature)
    }
}

fn point(ca: &PublicKey) -> Result<&[u8], CertError> {
    ca.point().ok_or(CertError::BadSignature)
}

/// RFC 5656 §3.1.2: two mpints, turned into two numbers of `width` bytes.
fn pair(bytes: &[u8], width: usize) -> Result<Vec<u8>, CertError> {
    let mut reader = Reader::new(bytes);
    let mut value = pad(reader.positive_mpint(Field::Signature, MAX_SIGNATURE_BYTES)?, width)?;
    value.extend(pad(reader.positive_mpint(Field::Signature, MAX_SIGNATURE_BYTES)?, width)?);
    reader.end(Field::Signature)?;
    Ok(value)
}

fn pad(bytes: &[u8], width: usize) -> Result<Vec<u8>, CertError> {
    let missing = width.checked_sub(bytes.len()).ok_or(CertError::SignatureForm)?;
    let mut value = vec![0; missing];
    value.extend_from_slice(bytes);
    Ok(value)
}
