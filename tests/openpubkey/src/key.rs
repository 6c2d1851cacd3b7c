//! The user's key pair in each form that the client needs: as a JWK, as an SSH public key, as a signer of JWS
//! and of SSH certificates, and as an OpenSSH private key file.

use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
};

use crate::ssh::Writer;
use crate::{Error, b64, b64url, random};

/// The comment that the client puts into its private key files.
const COMMENT: &str = "openpubkey cert";

/// The two key types that the client can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA over P-256: the client's default.
    EcdsaP256,
    /// Ed25519: the client's option `-t ed25519`.
    Ed25519,
}

impl KeyType {
    /// The algorithm's name in a JWS header and in `upk`.
    pub fn jws_alg(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ES256",
            Self::Ed25519 => "EdDSA",
        }
    }

    /// The name of an SSH key of this type; a signature bears it too.
    pub fn ssh_name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::Ed25519 => "ssh-ed25519",
        }
    }

    /// The name of an SSH certificate of this type.
    pub fn certificate_name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
        }
    }

    /// The other type, for what must not fit.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::EcdsaP256 => Self::Ed25519,
            Self::Ed25519 => Self::EcdsaP256,
        }
    }
}

#[derive(Debug)]
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key pair.
#[derive(Debug)]
pub struct Key {
    pair: Pair,
}

impl Key {
    /// A new key pair.
    pub fn generate(key_type: KeyType) -> Result<Self, Error> {
        let pair = match key_type {
            KeyType::EcdsaP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Ecdsa),
            KeyType::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Ok(Self { pair: pair.map_err(|_| Error::Crypto("make a key"))? })
    }

    /// Its type.
    pub fn key_type(&self) -> KeyType {
        match self.pair {
            Pair::Ecdsa(_) => KeyType::EcdsaP256,
            Pair::Ed25519(_) => KeyType::Ed25519,
        }
    }

    /// The public key: for P-256 the 65 bytes `04 X Y`, for Ed25519 its 32 bytes.
    pub fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public key as the JSON text of a JWK, as it stands in `upk`: members sorted, no white space.
    pub fn jwk(&self) -> String {
        match self.key_type() {
            KeyType::EcdsaP256 => {
                let x = b64url(self.public().get(1..33).unwrap_or_default());
                let y = b64url(self.public().get(33..65).unwrap_or_default());
                format!(r#"{{"alg":"ES256","crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            KeyType::Ed25519 => {
                let x = b64url(self.public());
                format!(r#"{{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        }
    }

    /// The key's own fields as they follow the nonce in a certificate and the name in a public key.
    pub(crate) fn ssh_fields(&self) -> Vec<u8> {
        match self.key_type() {
            KeyType::EcdsaP256 => Writer::new().string("nistp256").string(self.public()).done(),
            KeyType::Ed25519 => Writer::new().string(self.public()).done(),
        }
    }

    /// The public key as an SSH blob.
    pub fn ssh_blob(&self) -> Vec<u8> {
        Writer::new().string(self.key_type().ssh_name()).raw(&self.ssh_fields()).done()
    }

    /// The signature of a JWS: 64 bytes for either type.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| Error::Crypto("sign")),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// Whether a JWS signature is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verdict = match self.key_type() {
            KeyType::EcdsaP256 => {
                UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED, self.public())
                    .verify(message, signature)
            }
            KeyType::Ed25519 => UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, self.public())
                .verify(message, signature),
        };
        verdict.is_ok()
    }

    /// The signature of an SSH certificate, as a blob: the algorithm's name and its own form.
    pub(crate) fn sign_ssh(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let fixed = self.sign(message)?;
        let own = match self.key_type() {
            KeyType::EcdsaP256 => {
                let (r, s) = fixed.split_at_checked(32).ok_or(Error::Crypto("sign in 64 bytes"))?;
                Writer::new().mpint(r).mpint(s).done()
            }
            KeyType::Ed25519 => fixed,
        };
        Ok(Writer::new().string(self.key_type().ssh_name()).string(own).done())
    }

    /// The text of an OpenSSH private key file without a passphrase.
    pub fn private_key_openssh(&self) -> Result<String, Error> {
        let check = u32::from_be_bytes(random()?);
        let private = Writer::new().u32(check).u32(check).string(self.key_type().ssh_name());
        let private = match &self.pair {
            Pair::Ecdsa(pair) => {
                let scalar: EcPrivateKeyBin<'_> =
                    pair.private_key().as_be_bytes().map_err(|_| Error::Crypto("show a private key"))?;
                private.string("nistp256").string(self.public()).mpint(scalar.as_ref())
            }
            Pair::Ed25519(pair) => {
                let seed = pair.seed().map_err(|_| Error::Crypto("show a private key"))?;
                let seed = seed.as_be_bytes().map_err(|_| Error::Crypto("show a private key"))?;
                private.string(self.public()).string([seed.as_ref(), self.public()].concat())
            }
        };
        let mut private = private.string(COMMENT);
        for pad in 1..=8_u8 {
            if private.len() % 8 == 0 {
                break;
            }
            private = private.raw(&[pad]);
        }
        let file = Writer::new()
            .raw(b"openssh-key-v1\0")
            .string("none")
            .string("none")
            .string("")
            .u32(1)
            .string(self.ssh_blob())
            .string(private.done())
            .done();
        let mut text = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
        for line in b64(file).as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END OPENSSH PRIVATE KEY-----\n");
        Ok(text)
    }
}
