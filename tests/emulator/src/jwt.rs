//! Signing the tenant's JWTs and checking those that come back as bearer tokens or client assertions.
//! Signatures are checked for real: a test that passes here sent a well-formed, rightly signed token.

use aws_lc_rs::signature::{self, RsaParameters};
use serde_json::{Map, Value, json};

use crate::ids;
use crate::rsakey::{Digest, RsaKey};

/// A JWT taken apart; nothing about it is proven yet.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// JOSE header.
    pub(crate) header: Map<String, Value>,
    /// Claims.
    pub(crate) claims: Map<String, Value>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// A public RSA key as its two numbers.
#[derive(Debug, Clone)]
pub(crate) struct PublicKey {
    /// Modulus, big endian.
    pub(crate) n: Vec<u8>,
    /// Exponent, big endian.
    pub(crate) e: Vec<u8>,
}

/// Sign `claims` with RS256; the header carries `kid`, and `x5t` as v1 tokens do.
pub(crate) fn sign(key: &RsaKey, claims: &Value) -> String {
    let kid = key.kid();
    sign_as(key, &json!({"typ": "JWT", "alg": "RS256", "x5t": kid, "kid": kid}), claims)
}

/// Sign `claims` with RS256 under a header of any content.
pub(crate) fn sign_as(key: &RsaKey, header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        ids::base64url(header.to_string().as_bytes()),
        ids::base64url(claims.to_string().as_bytes())
    );
    let signature = ids::base64url(&key.sign(Digest::Sha256, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// An unsigned JWT, the form of Graph-style opaque test tokens and of `alg: none` attacks.
pub(crate) fn unsigned(claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "none"});
    format!(
        "{}.{}.",
        ids::base64url(header.to_string().as_bytes()),
        ids::base64url(claims.to_string().as_bytes())
    )
}

/// Take a compact JWT apart.
pub(crate) fn parse(token: &str) -> Option<Parts> {
    let mut pieces = token.split('.');
    let (head, body, tail) = (pieces.next()?, pieces.next()?, pieces.next()?);
    pieces.next().is_none().then_some(())?;
    Some(Parts {
        header: serde_json::from_slice(&ids::unbase64url(head)?).ok()?,
        claims: serde_json::from_slice(&ids::unbase64url(body)?).ok()?,
        signed: format!("{head}.{body}").into_bytes(),
        signature: ids::unbase64url(tail)?,
    })
}

impl Parts {
    /// Does `key` verify the signature under the header's algorithm (RS256 or PS256)?
    pub(crate) fn verifies(&self, key: &PublicKey) -> bool {
        let check: &'static RsaParameters = match self.head("alg") {
            "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
            _ => return false,
        };
        let public = signature::RsaPublicKeyComponents { n: &key.n, e: &key.e };
        public.verify(check, &self.signed, &self.signature).is_ok()
    }

    /// A header member as text, empty if absent.
    pub(crate) fn head(&self, name: &str) -> &str {
        self.header.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// A claim as text, empty if absent.
    pub(crate) fn claim(&self, name: &str) -> &str {
        self.claims.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// A NumericDate claim in whole seconds; clients may write a fraction (RFC 7519 §2).
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a float beyond i64 saturates, which is out of any window"
    )]
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        let value = self.claims.get(name)?;
        value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signing_key_and_a_known_algorithm_verify() {
        let (key, other) = (RsaKey::generate().unwrap(), RsaKey::generate().unwrap());
        let public = |key: &RsaKey| PublicKey { n: key.n().to_vec(), e: key.e().to_vec() };
        let token = sign(&key, &json!({"aud": "x", "exp": 5, "nbf": 7.9}));
        let parts = parse(&token).unwrap();
        assert_eq!((parts.claim("aud"), parts.number("exp"), parts.number("nbf")), ("x", Some(5), Some(7)));
        assert!(parts.verifies(&public(&key)));
        assert!(!parts.verifies(&public(&other)));
        assert!(!parse(&unsigned(&json!({"aud": "x"}))).unwrap().verifies(&public(&key)));
        assert!(parse("a.b").is_none());
        assert!(parse(&format!("{token}.x")).is_none());
    }
}
