//! Private keys for tests: made anew each time, never written down.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
};

use super::{mpint, string, strings};

/// A private key that signs certificates or stands in for a holder's key.
pub enum TestKey {
    /// RSA of 2048 bits or more.
    Rsa(Box<rsa::KeyPair>),
    /// ECDSA on the curve named (`nistp256`, `nistp384`, or `nistp521`, which the parser refuses).
    Ecdsa(&'static str, Box<EcdsaKeyPair>),
    /// Ed25519.
    Ed25519(Box<Ed25519KeyPair>),
}

impl TestKey {
    /// A new RSA key of 2048 bits. Takes a tenth of a second or more: make one per test binary.
    #[must_use]
    pub fn rsa2048() -> Self {
        Self::Rsa(Box::new(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap()))
    }

    /// A new ECDSA P-256 key.
    #[must_use]
    pub fn p256() -> Self {
        Self::ecdsa("nistp256")
    }

    /// A new ECDSA key on the curve named.
    #[must_use]
    pub fn ecdsa(curve: &'static str) -> Self {
        let algorithm = match curve {
            "nistp256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
            "nistp384" => &ECDSA_P384_SHA384_FIXED_SIGNING,
            "nistp521" => &ECDSA_P521_SHA512_FIXED_SIGNING,
            other => panic!("no curve {other}"),
        };
        Self::Ecdsa(curve, Box::new(EcdsaKeyPair::generate(algorithm).unwrap()))
    }

    /// The Ed25519 key of a seed: the same seed, the same key.
    #[must_use]
    pub fn ed25519(seed: [u8; 32]) -> Self {
        Self::Ed25519(Box::new(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()))
    }

    /// The name of the plain key's type.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::Rsa(_) => "ssh-rsa".to_owned(),
            Self::Ecdsa(curve, _) => format!("ecdsa-sha2-{curve}"),
            Self::Ed25519(_) => "ssh-ed25519".to_owned(),
        }
    }

    /// The fields after the type's name, in a plain key and in a certificate.
    #[must_use]
    pub fn numbers(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => {
                let (n, e) = self.rsa_n_e().unwrap();
                [mpint(&e), mpint(&n)].concat()
            }
            Self::Ecdsa(curve, pair) => strings([curve.as_bytes(), pair.public_key().as_ref()]),
            Self::Ed25519(pair) => string(pair.public_key().as_ref()),
        }
    }

    /// The plain public key's blob.
    #[must_use]
    pub fn blob(&self) -> Vec<u8> {
        [string(self.type_name().as_bytes()), self.numbers()].concat()
    }

    /// The plain public key's line: `type base64`.
    #[must_use]
    pub fn line(&self) -> String {
        super::line(&self.blob())
    }

    /// Modulus and exponent without leading zeros, for the JWK of an RSA authority.
    #[must_use]
    pub fn rsa_n_e(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let Self::Rsa(pair) = self else { return None };
        let public = pair.public_key();
        Some((
            public.modulus().big_endian_without_leading_zero().to_vec(),
            public.exponent().big_endian_without_leading_zero().to_vec(),
        ))
    }

    /// The algorithm that an authority with this key uses.
    #[must_use]
    pub fn algorithm(&self) -> String {
        if matches!(self, Self::Rsa(_)) { "rsa-sha2-256".to_owned() } else { self.type_name() }
    }

    /// A whole signature field over `message`, labelled `algorithm`. RSA signs with SHA-512 under
    /// `rsa-sha2-512` and with SHA-256 under any other label, however wrong.
    #[must_use]
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        strings([algorithm.as_bytes(), &self.sign_raw(algorithm, message)])
    }

    /// The inner part of the signature field.
    #[must_use]
    pub fn sign_raw(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let padding = if algorithm == "rsa-sha2-512" { &RSA_PKCS1_SHA512 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ecdsa(_, pair) => {
                let signature = pair.sign(&random, message).unwrap();
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                [mpint(r), mpint(s)].concat()
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}
