//! The one way to believe a token.

use nightlatch_model::{TenantId, Timestamp};

use crate::claims::{Claims, Groups};
use crate::compact::Compact;
use crate::expected::{Evidence, Expected, Kind, Version};
use crate::header::{Header, refusal_of};
use crate::json::object;
use crate::key_set::KeySet;
use crate::limits::{MAX_LEEWAY_S, MAX_LIFETIME_S};
use crate::read::Payload;
use crate::refusal::Refusal;

/// The tenant of personal Microsoft accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Whether this token is what the caller expects, and what it says.
///
/// # Errors
/// The first thing that is wrong. A wrong signature is said before anything that the claims say.
pub fn validate(token: &str, expected: &Expected, keys: &KeySet, now: Timestamp) -> Result<Claims, Refusal> {
    let claims = signed(token, expected, keys, now)?;
    times(&claims, expected.leeway_s.clamp(0, MAX_LEEWAY_S), now)?;
    allowed(&claims, expected, now)?;
    Ok(claims)
}

/// Whether guests are welcome, and all is shown that must be.
pub(crate) fn allowed(claims: &Claims, expected: &Expected, now: Timestamp) -> Result<(), Refusal> {
    if claims.guest == Some(true) && !expected.guests {
        return Err(Refusal::Guest);
    }
    shown(claims, &expected.evidence, now)
}

/// The same without its times, guests and evidence: who issued it, for whom, and what it says.
pub(crate) fn signed(
    token: &str,
    expected: &Expected,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Claims, Refusal> {
    let compact = Compact::parse(token)?;
    let header = Header::parse(&compact.header, &expected.algorithms)?;
    let named = || keys.named(&header.kid, now).filter(|key| key.material.fits(header.algorithm));
    let signed = compact.signed.as_bytes();
    let mut candidates = named().peekable();
    candidates.peek().ok_or(Refusal::UnknownKey)?;
    let signer = candidates.find(|key| key.material.verifies(header.algorithm, signed, compact.signature));
    let signer = signer.ok_or(Refusal::Signature)?;
    let payload = Payload(object(&compact.payload).map_err(|error| refusal_of(error, "payload"))?);
    let claims = read(&payload, expected.kind)?;
    origin(&payload, &claims, expected)?;
    // One key can stand under one name in the documents of two issuers.
    let tenant = claims.tenant.to_string();
    let same = named().filter(|key| key.material == signer.material);
    if !same.into_iter().any(|key| key.signs_for(&claims.issuer, &tenant)) {
        return Err(Refusal::KeyIssuer);
    }
    purpose(&payload, &claims, expected)?;
    Ok(claims)
}

/// Every claim that anybody looks at, typed.
fn read(payload: &Payload, kind: Kind) -> Result<Claims, Refusal> {
    let issuer = payload.text("iss")?.ok_or(Refusal::Missing("iss"))?;
    let audience = payload.text("aud")?.ok_or(Refusal::Missing("aud"))?;
    let tenant = payload.tenant()?;
    let scopes = payload.text("scp")?.unwrap_or_default();
    // Each form of token has its own claim for it; the other form's says nothing.
    let (v1, v2) = (payload.text("appid")?, payload.text("azp")?);
    let version = version(payload)?;
    let client = if version == Version::V1 { v1 } else { v2 };
    Ok(Claims {
        guest: payload.guest(&issuer, tenant)?,
        issuer,
        audience,
        tenant,
        oid: payload.oid()?,
        subject: payload.required("sub")?,
        issued_at: payload.required_time("iat")?,
        not_before: payload.required_time("nbf")?,
        expires: payload.required_time("exp")?,
        client,
        upn: payload.text("upn")?,
        user_name: payload.user_name()?,
        preferred_username: payload.text("preferred_username")?,
        scopes: scopes.split_ascii_whitespace().map(str::to_owned).collect(),
        roles: payload.list("roles")?.unwrap_or_default(),
        // A tenant can have its ID tokens name groups otherwise than by id; no login rests on them.
        groups: match kind {
            Kind::Id => payload.groups().unwrap_or(Groups::Unsaid),
            Kind::UserAccess | Kind::AppAccess => payload.groups()?,
        },
        directory_roles: match kind {
            Kind::Id => payload.ids("wids").unwrap_or(None),
            Kind::UserAccess | Kind::AppAccess => payload.ids("wids")?,
        },
        amr: payload.list("amr")?,
        acr: payload.text("acr")?,
        acrs: payload.list("acrs")?,
        auth_time: payload.time("auth_time")?,
        device: payload.id("deviceid")?,
        address: payload.text("ipaddr")?,
        client_capabilities: payload.list("xms_cc")?,
        token_id: payload.text("uti")?,
        nonce: payload.text("nonce")?,
    })
}

/// The form that it says it has.
fn version(payload: &Payload) -> Result<Version, Refusal> {
    match payload.required("ver")?.as_str() {
        "1.0" => Ok(Version::V1),
        "2.0" => Ok(Version::V2),
        _ => Err(Refusal::Malformed("ver")),
    }
}

/// Who issued it, in which form, for which tenant.
fn origin(payload: &Payload, claims: &Claims, expected: &Expected) -> Result<(), Refusal> {
    let version = version(payload)?;
    let consumers = CONSUMERS.parse::<TenantId>();
    if consumers.is_ok_and(|consumers| claims.tenant == consumers) {
        return Err(Refusal::ConsumerTenant);
    }
    let issuer = expected.issuers.iter().find(|issuer| issuer.text == claims.issuer);
    let issuer = issuer.ok_or(Refusal::Issuer)?;
    if claims.tenant != expected.tenant {
        return Err(Refusal::Tenant);
    }
    if issuer.version != version {
        return Err(Refusal::Version);
    }
    Ok(())
}

/// What it is for, whom it was issued to, and whom it is about.
fn purpose(payload: &Payload, claims: &Claims, expected: &Expected) -> Result<(), Refusal> {
    if !expected.audiences.contains(&claims.audience) {
        return Err(Refusal::Audience);
    }
    if payload.has("cnf") {
        return Err(Refusal::ProofOfPossession);
    }
    let is_app = payload.text("idtyp")?.as_deref() == Some("app");
    let of_access = ["appid", "appidacr", "azpacr"].into_iter().any(|name| payload.has(name));
    match expected.kind {
        Kind::UserAccess if is_app => return Err(Refusal::Application),
        Kind::UserAccess if claims.scopes.is_empty() && claims.roles.is_empty() => {
            return Err(Refusal::NotAnAccessToken);
        }
        Kind::UserAccess if claims.scopes.is_empty() => return Err(Refusal::Application),
        Kind::AppAccess if !claims.scopes.is_empty() => return Err(Refusal::NotAnAccessToken),
        Kind::AppAccess if claims.roles.is_empty() && !is_app => return Err(Refusal::NotAnAccessToken),
        Kind::Id if is_app || of_access || payload.has("scp") => return Err(Refusal::NotAnIdToken),
        Kind::UserAccess | Kind::AppAccess | Kind::Id => {}
    }
    let accepted = |client: &String| expected.clients.contains(client);
    if !expected.clients.is_empty() && !claims.client.as_ref().is_some_and(accepted) {
        return Err(Refusal::Client);
    }
    if expected.person.is_some_and(|person| person != claims.oid) {
        return Err(Refusal::Person);
    }
    if expected.nonce.is_some() && expected.nonce != claims.nonce {
        return Err(Refusal::Nonce);
    }
    Ok(())
}

fn times(claims: &Claims, leeway_s: i64, now: Timestamp) -> Result<(), Refusal> {
    if now.since(claims.expires) >= leeway_s {
        return Err(Refusal::Expired);
    }
    if claims.not_before.since(now) > leeway_s {
        return Err(Refusal::NotYetValid);
    }
    if claims.issued_at.since(now) > leeway_s {
        return Err(Refusal::IssuedInFuture);
    }
    let begins = claims.issued_at.min(claims.not_before);
    if claims.expires <= claims.issued_at || claims.expires.since(begins) > MAX_LIFETIME_S {
        return Err(Refusal::Lifetime);
    }
    Ok(())
}

/// Whether it shows all that must be shown; what it does not say it does not show.
fn shown(claims: &Claims, evidence: &Evidence, now: Timestamp) -> Result<(), Refusal> {
    let all = |wanted: &[String], found: Option<&Vec<String>>| {
        wanted.iter().all(|word| found.is_some_and(|found| found.contains(word)))
    };
    let forbidden = |method: &String| evidence.forbidden_amr.contains(method);
    if claims.amr.iter().flatten().any(forbidden) {
        return Err(Refusal::ForbiddenMethod);
    }
    if !evidence.forbidden_amr.is_empty() && claims.amr.is_none() {
        return Err(Refusal::Evidence("amr"));
    }
    if !all(&evidence.amr, claims.amr.as_ref()) {
        return Err(Refusal::Evidence("amr"));
    }
    if !all(&evidence.acrs, claims.acrs.as_ref()) {
        return Err(Refusal::Evidence("acrs"));
    }
    if evidence.device && claims.device.is_none() {
        return Err(Refusal::Evidence("deviceid"));
    }
    match (evidence.max_auth_age_s, claims.auth_time) {
        (Some(_), None) => Err(Refusal::Evidence("auth_time")),
        // One in the future says nothing about its age.
        (Some(most), Some(at)) if !(-MAX_LEEWAY_S..=most).contains(&now.since(at)) => Err(Refusal::AuthAge),
        _ => Ok(()),
    }
}
