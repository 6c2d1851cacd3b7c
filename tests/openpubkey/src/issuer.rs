//! A small identity provider that signs ID tokens as Entra ID does: RS256, v2.0 claims.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use crate::{Error, b64url};

/// An identity provider with one key.
#[derive(Debug)]
pub struct Issuer {
    tenant: String,
    client_id: String,
    kid: String,
    key: RsaKeyPair,
}

impl Issuer {
    /// A provider for one tenant and one client, with a new key of 2048 bits.
    pub fn new(tenant: &str, client_id: &str) -> Result<Self, Error> {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| Error::Crypto("make an RSA key"))?;
        let kid = b64url(crate::random::<20>()?);
        Ok(Self { tenant: tenant.to_owned(), client_id: client_id.to_owned(), kid, key })
    }

    /// The issuer's name: the claim `iss`.
    pub fn issuer(&self) -> String {
        issuer_of(&self.tenant)
    }

    /// The client id: the claim `aud`.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The tenant: the claim `tid`.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The key set that Entra would publish: no `alg` in it.
    pub fn jwks(&self) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.key.public_key().into();
        json!({"keys": [{
            "kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid, "issuer": self.issuer(),
            "n": b64url(public.n), "e": b64url(public.e),
        }]})
    }

    /// The claims, the optional `upn` among them, of a work account that signed in at `now`, in seconds since 1970. Entra dates tokens back by
    /// 5 minutes. An empty nonce is left out.
    pub fn claims(&self, nonce: &str, now: i64) -> Value {
        let issued = now.saturating_sub(300);
        let mut claims = json!({
            "aud": self.client_id,
            "iss": self.issuer(),
            "iat": issued,
            "nbf": issued,
            "exp": issued.saturating_add(3900),
            "aio": "AXQAi/8UAAAA",
            "email": "ada@example.com",
            "name": "Ada Example",
            "oid": "11111111-2222-4333-8444-555555555555",
            "preferred_username": "ada@example.com",
            "rh": "1.AXoA.",
            "sid": "66666666-7777-4888-8999-aaaaaaaaaaaa",
            "sub": "dGhlIHBhaXJ3aXNlIHN1YmplY3Qgb2YgQWRh",
            "tid": self.tenant,
            "upn": "ada@example.com",
            "uti": "dXRpIG9mIGEgdG9rZW4",
            "ver": "2.0",
        });
        if !nonce.is_empty()
            && let Some(claims) = claims.as_object_mut()
        {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        claims
    }

    /// An ID token of these claims.
    pub fn id_token(&self, claims: &Value) -> Result<String, Error> {
        self.id_token_with(&format!(r#"{{"typ":"JWT","alg":"RS256","kid":"{}"}}"#, self.kid), claims)
    }

    /// An ID token of these claims that names this provider's key but bears another provider's signature.
    pub(crate) fn forged(&self, by: &Self, claims: &Value) -> Result<String, Error> {
        by.id_token_with(&format!(r#"{{"typ":"JWT","alg":"RS256","kid":"{}"}}"#, self.kid), claims)
    }

    /// An ID token without a signature, which its header admits.
    pub(crate) fn unsigned(&self, claims: &Value) -> String {
        let header = format!(r#"{{"typ":"JWT","alg":"none","kid":"{}"}}"#, self.kid);
        format!("{}.{}.", b64url(header), b64url(claims.to_string()))
    }

    fn id_token_with(&self, header: &str, claims: &Value) -> Result<String, Error> {
        let signed = format!("{}.{}", b64url(header), b64url(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Error::Crypto("sign an ID token"))?;
        Ok(format!("{signed}.{}", b64url(signature)))
    }

    /// Whether an RS256 signature is this provider's.
    #[cfg(test)]
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256,
            self.key.public_key().as_ref(),
        );
        key.verify(message, signature).is_ok()
    }
}

/// The issuer's name of a tenant.
pub(crate) fn issuer_of(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}
