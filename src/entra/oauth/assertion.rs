//! A client's own assertion: a short JWT signed with the key of its certificate (Microsoft Learn,
//! "Microsoft identity platform application authentication certificate credentials").
//!
//! PS256 with the certificate's SHA-256 thumbprint; with the chain where the application is registered
//! by subject name and issuer. The key stays in memory only as long as the value lives.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use nightlatch_model::{Guid, Secret, Timestamp};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// How long an assertion is good for, in seconds: it is made anew for each use.
pub const ASSERTION_LIFE: i64 = 600;
/// The most certificates of a chain.
const MAX_CHAIN: usize = 10;

/// Why a certificate cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// No key, or one behind a password.
    #[error(
        "it holds no private key in PEM form without a password; write key and certificate into one file"
    )]
    NoKey,
    /// No certificate, or too many.
    #[error("it holds no certificate in PEM form, or more than {MAX_CHAIN}")]
    NoCertificate,
    /// Not RSA.
    #[error("its key is not an RSA key of at least 2048 bits, which is all that Entra takes")]
    NotRsa,
    /// None of the certificates is for the key.
    #[error("none of its certificates belongs to its private key")]
    Mismatch,
    /// The key does not sign.
    #[error("its key cannot sign")]
    Sign,
}

/// A certificate with its key.
pub struct Certificate {
    key: EncodingKey,
    thumbprint: String,
    chain: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

impl Certificate {
    /// Reads a PEM file with a private key, its certificate and perhaps the chain, in any order. With
    /// `send_chain` all certificates are shown to Entra, the key's own one first.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_pem(pem: &Secret, send_chain: bool) -> Result<Self, CertificateError> {
        let text = pem.expose().as_bytes();
        let private = PrivateKeyDer::from_pem_slice(text).map_err(|_| CertificateError::NoKey)?;
        let mut certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate)?;
        if certificates.is_empty() || certificates.len() > MAX_CHAIN {
            return Err(CertificateError::NoCertificate);
        }
        let key =
            EncodingKey::from_rsa_pem(key_block(pem.expose()).ok_or(CertificateError::NoKey)?.as_bytes())
                .map_err(|_| CertificateError::NotRsa)?;
        let signer = any_supported_type(&private).map_err(|_| CertificateError::NotRsa)?;
        let own = certificates
            .iter()
            .position(|one| CertifiedKey::new(vec![one.clone()], signer.clone()).keys_match().is_ok())
            .ok_or(CertificateError::Mismatch)?;
        let leaf = certificates.remove(own);
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&leaf));
        certificates.insert(0, leaf);
        let chain = send_chain.then(|| certificates.iter().map(|one| STANDARD.encode(one)).collect());
        Ok(Self { key, thumbprint, chain })
    }

    /// An assertion for `audience`, the address of the token endpoint. `jti` must be new each time.
    ///
    /// # Errors
    /// [`CertificateError::Sign`].
    pub fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: Timestamp,
        jti: Guid,
    ) -> Result<Secret, CertificateError> {
        let mut header = Header::new(Algorithm::PS256);
        header.x5t_s256 = Some(self.thumbprint.clone());
        header.x5c.clone_from(&self.chain);
        let claims = Claims {
            aud: audience,
            iss: client_id,
            sub: client_id,
            jti: jti.to_string(),
            nbf: now.0,
            iat: now.0,
            exp: now.plus(ASSERTION_LIFE).0,
        };
        let signed = jsonwebtoken::encode(&header, &claims, &self.key);
        signed.map(Secret::new).map_err(|_| CertificateError::Sign)
    }
}

/// The PEM block of the private key: the JWT library reads the first block of a text only.
fn key_block(text: &str) -> Option<&str> {
    const END: &str = "PRIVATE KEY-----";
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find("-----BEGIN ") {
        let begin = from + at;
        let line = text.get(begin..)?.lines().next()?.trim_end();
        let label = line.strip_prefix("-----BEGIN ")?;
        if label.ends_with(END) {
            let rest = text.get(begin + line.len()..)?;
            let end = rest.find("-----END ")?;
            let tail = rest.get(end..)?.lines().next()?.trim_end().len();
            return text.get(begin..begin + line.len() + end + tail);
        }
        from = begin + line.len();
    }
    None
}
