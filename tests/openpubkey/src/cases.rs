//! Whole cases: a client, an ID token of the crate's own [`Issuer`], and the certificate, with one thing broken.

use serde_json::Value;

use crate::issuer::issuer_of;
use crate::token::tampered;
use crate::{Broken, CertificateSpec, Client, Error, Issuer, KeyType, PkToken};

/// A user's other tenant, which no verifier of the tests knows.
const OTHER_TENANT: &str = "00000000-0000-4000-8000-00000000beef";

/// How many bytes are too many: more than 64 KiB of certificate, less than a command line can hold.
const TOO_MANY: usize = 60_000;

/// How long ago an original token was issued that has a refreshed one, in seconds.
const ORIGINAL_AGE: i64 = 7200;

/// A certificate with all that it was made of.
#[derive(Debug)]
pub struct Case {
    /// What is broken in it.
    pub broken: Broken,
    /// The client that made it, with the private key.
    pub client: Client,
    /// The claims of the ID token.
    pub claims: Value,
    /// The ID token as the provider gave it.
    pub id_token: String,
    /// The PK token.
    pub pk_token: PkToken,
    /// The certificate's line.
    pub certificate: String,
}

/// A certificate with one thing broken, of a login at `now`, in seconds since 1970.
///
/// Those of [`Broken::is_of_refresh`] bear a refreshed token: the original one was issued two hours before `now`
/// and has expired. For a whole one with a refreshed token see [`Case::with_fresh`].
pub fn case(broken: Broken, key_type: KeyType, issuer: &Issuer, now: i64) -> Result<Case, Error> {
    let signed_in = match broken {
        Broken::IdTokenOld => now.saturating_sub(8 * 24 * 3600),
        _ if broken.is_of_refresh() => now.saturating_sub(ORIGINAL_AGE),
        _ => now,
    };
    let whole = whole(broken, key_type, issuer, signed_in)?;
    if broken.is_of_refresh() {
        let fresh = fresh(broken, issuer, &whole.claims, now)?;
        return whole.refreshed(&fresh);
    }
    Ok(whole)
}

impl Case {
    /// A case of nothing broken that has a refreshed token: the original one was issued two hours before `now`.
    pub fn with_fresh(key_type: KeyType, issuer: &Issuer, now: i64) -> Result<Self, Error> {
        let whole = whole(Broken::Nothing, key_type, issuer, now.saturating_sub(ORIGINAL_AGE))?;
        let fresh = fresh(Broken::Nothing, issuer, &whole.claims, now)?;
        whole.refreshed(&fresh)
    }

    /// The same client's next certificate, with this refreshed token.
    pub fn refreshed(self, fresh: &str) -> Result<Self, Error> {
        let pk_token = self.pk_token.with_fresh(fresh);
        let certificate = self.client.certificate(&CertificateSpec::new(pk_token.clone()))?;
        Ok(Self { pk_token, certificate, ..self })
    }
}

/// The login itself.
fn whole(broken: Broken, key_type: KeyType, issuer: &Issuer, now: i64) -> Result<Case, Error> {
    let client = Client::with(key_type, broken)?;
    let mut claims = issuer.claims(&client.nonce(), now);
    match broken {
        Broken::IdTokenOtherAudience => set(&mut claims, "aud", "00000000-0000-4000-8000-0000000000aa"),
        Broken::IdTokenOtherIssuer => set(&mut claims, "iss", issuer_of(OTHER_TENANT)),
        Broken::Oversized => set(&mut claims, "filler", "x".repeat(TOO_MANY)),
        _ => {}
    }
    let id_token = match broken {
        Broken::IdTokenAlgNone => issuer.unsigned(&claims),
        Broken::IdTokenForged => issuer.forged(&stranger(issuer)?, &claims)?,
        _ => issuer.id_token(&claims)?,
    };
    let pk_token = client.pk_token(&id_token)?;
    let certificate = client.certificate(&CertificateSpec::new(pk_token.clone()))?;
    Ok(Case { broken, client, claims, id_token, pk_token, certificate })
}

/// The refreshed ID token of a login with these claims. It has the original's nonce, as Entra's can have.
fn fresh(broken: Broken, issuer: &Issuer, original: &Value, now: i64) -> Result<String, Error> {
    let nonce = original.get("nonce").and_then(Value::as_str).unwrap_or_default();
    let issued = match broken {
        // Both tokens are of the original's time, and that is over.
        Broken::FreshExpired => now.saturating_sub(ORIGINAL_AGE).saturating_add(60),
        _ => now,
    };
    let mut claims = issuer.claims(nonce, issued);
    match broken {
        Broken::FreshOtherSubject => set(&mut claims, "sub", "dGhlIHN1YmplY3Qgb2YgR3JhY2U"),
        Broken::FreshOtherObject => set(&mut claims, "oid", "22222222-3333-4444-8555-666666666666"),
        Broken::FreshOtherAudience => set(&mut claims, "aud", "00000000-0000-4000-8000-0000000000aa"),
        Broken::FreshOtherIssuer => set(&mut claims, "iss", issuer_of(OTHER_TENANT)),
        Broken::FreshOtherNonce => set(&mut claims, "nonce", crate::commitment("another client's")),
        Broken::FreshNotNewer => {
            let before = original.get("iat").and_then(Value::as_i64).unwrap_or_default().saturating_sub(1);
            set(&mut claims, "iat", before);
            set(&mut claims, "nbf", before);
        }
        _ => {}
    }
    match broken {
        Broken::FreshAlgNone => Ok(issuer.unsigned(&claims)),
        Broken::FreshForged => issuer.forged(&stranger(issuer)?, &claims),
        Broken::FreshSignature => {
            let token = issuer.id_token(&claims)?;
            let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
            Ok(format!("{signed}.{}", tampered(signature)))
        }
        Broken::FreshMalformed => {
            let token = issuer.id_token(&claims)?;
            Ok(token.rsplit_once('.').unwrap_or_default().0.to_owned())
        }
        _ => issuer.id_token(&claims),
    }
}

/// A provider that says it is this one and has another key.
fn stranger(issuer: &Issuer) -> Result<Issuer, Error> {
    Issuer::new(issuer.tenant(), issuer.client_id())
}

fn set(claims: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(claims) = claims.as_object_mut() {
        claims.insert(name.to_owned(), value.into());
    }
}
