//! Who signed in: the claims of an ID token that came over our own TLS connection to the token endpoint,
//! where OpenID Connect Core 1.0 section 3.1.3.7 (6) lets TLS stand for the signature. An ID token that
//! came any other way must never be read here.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::{AuthContext, Guid, ObjectId, Secret, TenantId, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// The longest name of a person that is kept, in bytes.
pub const MAX_USERNAME_BYTES: usize = 256;
/// The largest ID token, in bytes.
const MAX_ID_TOKEN_BYTES: usize = 64 * 1024;
/// How far the two clocks may be apart, in seconds.
const SKEW: i64 = 300;

/// Why an answer is nobody's sign-in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdTokenError {
    /// None came.
    #[error("Entra's answer does not say whose it is: allow openid for the application of `broker.sign_in`")]
    Missing,
    /// It cannot be read.
    #[error("Entra's answer about the person cannot be read: sign in again")]
    Form,
    /// It is an access token, or another kind of token.
    #[error("Entra's answer holds one kind of token in place of another: sign in again")]
    Kind,
    /// Of another cloud or server.
    #[error("the sign-in was not made by the configured cloud: check `cloud`")]
    Issuer,
    /// For another application.
    #[error("the sign-in is for another application: check `broker.sign_in.client_id`")]
    Audience,
    /// Of another tenant.
    #[error("the sign-in is of another tenant: sign in with an account of the configured `tenant`")]
    OtherTenant,
    /// For another sign-in.
    #[error("the sign-in does not belong to the one that was begun: begin again")]
    Nonce,
    /// Ended, or not begun.
    #[error("the sign-in is out of its time: compare this machine's clock, and sign in again")]
    Time,
    /// No object id.
    #[error("Entra's answer names no person: sign in again")]
    NoPerson,
}

/// Who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonId {
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub object_id: ObjectId,
    /// The name to show; never compared.
    pub username: String,
}

/// What an ID token said.
pub(super) struct Said {
    pub(super) person: PersonId,
    pub(super) contexts: Vec<AuthContext>,
    pub(super) issued: Option<Timestamp>,
    pub(super) ends: Timestamp,
}

/// What an ID token has to say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) tenant: TenantId,
    pub(super) client: Guid,
    /// The nonce that was sent, for a sign-in that had one.
    pub(super) nonce: Option<&'a str>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    tid: Option<TenantId>,
    oid: Option<ObjectId>,
    nonce: Option<String>,
    preferred_username: Option<String>,
    acrs: Option<Value>,
    /// Only access tokens have scopes or roles of an application.
    scp: Option<serde::de::IgnoredAny>,
    azp: Option<serde::de::IgnoredAny>,
    appid: Option<serde::de::IgnoredAny>,
}

fn part<T: DeserializeOwned>(text: Option<&str>) -> Result<T, IdTokenError> {
    let bytes = text.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or(IdTokenError::Form)?;
    serde_json::from_slice(&bytes).map_err(|_| IdTokenError::Form)
}

/// The contexts in `acrs`. In any other form than a list it names none, and other values are not ours to ask for.
fn contexts(acrs: Option<&Value>) -> Vec<AuthContext> {
    let listed = acrs.and_then(Value::as_array).into_iter().flatten();
    let mut contexts = Vec::new();
    for context in listed.filter_map(|value| value.as_str()?.parse().ok()) {
        if !contexts.contains(&context) {
            contexts.push(context);
        }
    }
    contexts
}

/// Reads who signed in, and how.
pub(super) fn read(token: &Secret, expected: &Expected<'_>, now: Timestamp) -> Result<Said, IdTokenError> {
    let text = token.expose();
    if text.len() > MAX_ID_TOKEN_BYTES || text.split('.').count() != 3 {
        return Err(IdTokenError::Form);
    }
    let mut parts = text.split('.');
    let header: Header = part(parts.next())?;
    let claims: Claims = part(parts.next())?;
    let plain_type = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("jwt"));
    let signed =
        !header.alg.eq_ignore_ascii_case("none") && parts.next().is_some_and(|part| !part.is_empty());
    if !plain_type || !signed || claims.scp.is_some() || claims.azp.is_some() || claims.appid.is_some() {
        return Err(IdTokenError::Kind);
    }
    if claims.tid.is_some_and(|tid| tid != expected.tenant) {
        return Err(IdTokenError::OtherTenant);
    }
    if claims.tid.is_none() || claims.iss != expected.issuer {
        return Err(IdTokenError::Issuer);
    }
    if claims.aud.parse::<Guid>() != Ok(expected.client) {
        return Err(IdTokenError::Audience);
    }
    if let Some(nonce) = expected.nonce {
        let said = claims.nonce.as_deref().unwrap_or_default();
        verify_slices_are_equal(nonce.as_bytes(), said.as_bytes()).map_err(|_| IdTokenError::Nonce)?;
    }
    let begun = |at: Option<i64>| at.is_none_or(|at| at <= now.0.saturating_add(SKEW));
    if claims.exp.saturating_add(SKEW) <= now.0 || !begun(claims.nbf) || !begun(claims.iat) {
        return Err(IdTokenError::Time);
    }
    let object_id = claims.oid.ok_or(IdTokenError::NoPerson)?;
    let plain = |name: &String| {
        !name.is_empty() && name.len() <= MAX_USERNAME_BYTES && name.bytes().all(|b| b.is_ascii_graphic())
    };
    let username = claims.preferred_username.filter(plain).unwrap_or_else(|| object_id.to_string());
    let person = PersonId { tenant: expected.tenant, object_id, username };
    let (issued, ends) = (claims.iat.map(Timestamp), Timestamp(claims.exp));
    Ok(Said { person, contexts: contexts(claims.acrs.as_ref()), issued, ends })
}
