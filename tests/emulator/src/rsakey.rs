//! RSA key pairs: the tenant's token-signing keys, the SSH certificate authority, and a foreign authority.
//! Keys live in memory and, as PKCS#8 PEM, in the state directory; they protect nothing real.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};

use crate::ids;

/// A private RSA key with the public numbers at hand.
pub(crate) struct RsaKey {
    pair: KeyPair,
    pkcs8: Vec<u8>,
    n: Vec<u8>,
    e: Vec<u8>,
}

/// Which digest a signature is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    /// RSASSA-PKCS1-v1_5 with SHA-256: RS256 and rsa-sha2-256.
    Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-512: rsa-sha2-512.
    Sha512,
}

/// The key could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("RSA key unusable: {0}; delete it from the state directory to have a new one made")]
pub(crate) struct KeyError(String);

impl RsaKey {
    /// Make a 2048-bit key, the size of the public certificate endpoints' keys.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError("generation failed".into()))?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError("encoding failed".into()))?;
        let pkcs8 = der.as_ref().to_vec();
        Ok(Self::assemble(pair, pkcs8))
    }

    /// Read a PKCS#8 PEM file made by [`Self::pem`].
    pub(crate) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let pkcs8 = ids::unbase64(&body).ok_or_else(|| KeyError("not base64 in PEM armour".into()))?;
        let pair = KeyPair::from_pkcs8(&pkcs8).map_err(|error| KeyError(error.to_string()))?;
        Ok(Self::assemble(pair, pkcs8))
    }

    fn assemble(pair: KeyPair, pkcs8: Vec<u8>) -> Self {
        let (n, e) = {
            let public = pair.public_key();
            (
                public.modulus().big_endian_without_leading_zero().to_vec(),
                public.exponent().big_endian_without_leading_zero().to_vec(),
            )
        };
        Self { pair, pkcs8, n, e }
    }

    /// PKCS#8 PEM, which `ssh-keygen -s` and OpenSSL read.
    pub(crate) fn pem(&self) -> String {
        let body = ids::base64(&self.pkcs8);
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).filter_map(|chunk| std::str::from_utf8(chunk).ok()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// Modulus, big endian, no leading zero.
    pub(crate) fn n(&self) -> &[u8] {
        &self.n
    }

    /// Exponent, big endian, no leading zero.
    pub(crate) fn e(&self) -> &[u8] {
        &self.e
    }

    /// A stable key id: hash of the modulus, base64url, 27 characters like the public endpoints'.
    pub(crate) fn kid(&self) -> String {
        let mut text =
            ids::base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.n).as_ref());
        text.truncate(27);
        text
    }

    /// Sign `message`; an empty signature (which nothing accepts) if the library refuses.
    pub(crate) fn sign(&self, digest: Digest, message: &[u8]) -> Vec<u8> {
        let padding: &'static dyn RsaEncoding = match digest {
            Digest::Sha256 => &signature::RSA_PKCS1_SHA256,
            Digest::Sha512 => &signature::RSA_PKCS1_SHA512,
        };
        let mut out = vec![0; self.pair.public_modulus_len()];
        match self.pair.sign(padding, &SystemRandom::new(), message, &mut out) {
            Ok(()) => out,
            Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_round_trips_and_signatures_verify() {
        let key = RsaKey::generate().unwrap();
        let again = RsaKey::from_pem(&key.pem()).unwrap();
        assert_eq!(key.n(), again.n());
        assert_eq!(key.n().len(), 256);
        assert_eq!(key.kid().len(), 27);
        let public = signature::RsaPublicKeyComponents { n: key.n(), e: key.e() };
        for (digest, check) in [
            (Digest::Sha256, &signature::RSA_PKCS1_2048_8192_SHA256),
            (Digest::Sha512, &signature::RSA_PKCS1_2048_8192_SHA512),
        ] {
            let made = again.sign(digest, b"text");
            assert!(public.verify(check, b"text", &made).is_ok());
            assert!(public.verify(check, b"other", &made).is_err());
        }
        assert!(RsaKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n").is_err());
    }
}
