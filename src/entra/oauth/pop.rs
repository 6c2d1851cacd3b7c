//! Proof of possession: a key that the broker keeps, and the signed request around an access token that
//! is bound to it (Azure/kubelogin, `pkg/internal/pop`; RFC 7638 for the key's name).
//!
//! The key never leaves this value and is never written down; with the process it is gone, and so are the
//! tokens that were bound to it.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::{Secret, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The key could not be made or does not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key for proof of possession cannot be made or used; restart nightlatchd")]
pub struct PopError;

/// An RSA key of 2048 bits.
pub struct PopKey {
    pair: KeyPair,
    n: String,
    e: String,
    kid: String,
}

/// The key of this process, made when it is first needed.
#[derive(Default)]
pub struct LazyPopKey(OnceLock<Option<PopKey>>);

impl LazyPopKey {
    /// The key. Only the first call takes its time; make it where nobody waits.
    ///
    /// # Errors
    /// [`PopError`].
    pub fn get(&self) -> Result<&PopKey, PopError> {
        self.0.get_or_init(|| PopKey::generate().ok()).as_ref().ok_or(PopError)
    }
}

/// What a signed request says.
pub struct SignedRequest<'a> {
    /// The access token that is bound to the key.
    pub token: &'a Secret,
    /// The `u` claim: on Arc-enabled clusters the ARM id of the cluster.
    pub u: &'a str,
    /// The `nonce` claim: the one that was asked for, or a new random one.
    pub nonce: &'a str,
    /// The `ts` claim.
    pub now: Timestamp,
}

impl PopKey {
    /// A new key. Takes a tenth of a second and more: not for a thread that answers others.
    ///
    /// # Errors
    /// [`PopError`].
    pub fn generate() -> Result<Self, PopError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| PopError)?;
        let public = pair.public_key();
        let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        // RFC 7638: the required members in the order of their names, without any space.
        let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        Ok(Self { pair, n, e, kid })
    }

    /// The key's thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The `req_cnf` field of a token request.
    #[must_use]
    pub fn req_cnf(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"kid": self.kid, "xms_ksl": "sw"}).to_string())
    }

    /// The signed request, which is what the service takes in place of the token.
    ///
    /// # Errors
    /// [`PopError`].
    pub fn sign(&self, request: &SignedRequest<'_>) -> Result<Secret, PopError> {
        let header = json!({"typ": "pop", "alg": "RS256", "kid": self.kid}).to_string();
        let payload = Secret::new(
            json!({
                "at": request.token.expose(),
                "ts": request.now.0,
                "u": request.u,
                "cnf": {"jwk": {"kty": "RSA", "n": self.n, "e": self.e, "alg": "RS256", "kid": self.kid}},
                "nonce": request.nonce,
            })
            .to_string(),
        );
        let mut text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload.expose()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| PopError)?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(&signature));
        Ok(Secret::new(text))
    }
}
