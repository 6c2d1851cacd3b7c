//! How an application proves itself at the token endpoint: secret, certificate-signed assertion (signature
//! checked against the registered certificate) or federated assertion (checked against its issuer's keys).

use super::refusal::Refusal;
use super::{CLOUDS, issuer};
use crate::apps::{App, RegisteredCertificate};
use crate::form::Fields;
use crate::jwt::{self, Parts, PublicKey};
use crate::state::World;

/// Leeway for assertion times, seconds.
const ASSERTION_LEEWAY: i64 = 300;

/// `azpacr`/`appidacr`: how the client proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    Public,
    Secret,
    Assertion,
}

impl Proof {
    /// The claim's value.
    pub(crate) fn acr(self) -> &'static str {
        match self {
            Self::Public => "0",
            Self::Secret => "1",
            Self::Assertion => "2",
        }
    }
}

/// Find the application and check its proof; `audiences` are the token endpoint's own addresses.
pub(crate) fn authenticate(world: &World, form: &Fields) -> Result<(App, Proof), Refusal> {
    let assertion = form.get("client_assertion");
    let named = form.get("client_id").map(str::to_owned);
    let client_id =
        named.or_else(|| assertion.and_then(jwt::parse).map(|parts| parts.claim("sub").to_owned()));
    let Some(client_id) = client_id else {
        return Err(Refusal::new(90014).about("client_id"));
    };
    let app = world.apps.get(&client_id.to_ascii_lowercase());
    let Some(app) = app else {
        return Err(Refusal::new(700_016).about(&client_id));
    };
    let proof = if let Some(assertion) = assertion {
        check_assertion(world, app, assertion)?;
        Proof::Assertion
    } else if let Some(secret) = form.get("client_secret") {
        if !app.secrets.iter().any(|have| have == secret) {
            return Err(Refusal::new(7_000_215).about(&app.client_id));
        }
        Proof::Secret
    } else if app.public && form.text("grant_type") != "client_credentials" {
        Proof::Public
    } else {
        return Err(Refusal::new(7_000_218));
    };
    Ok((app.clone(), proof))
}

fn check_assertion(world: &World, app: &App, assertion: &str) -> Result<(), Refusal> {
    let Some(parts) = jwt::parse(assertion) else {
        return Err(Refusal::new(700_027).about("the assertion is not a signed JWT"));
    };
    if parts.claim("iss").eq_ignore_ascii_case(&app.client_id) {
        check_certificate(world, app, &parts)
    } else {
        check_federated(world, app, &parts)
    }
}

fn check_certificate(world: &World, app: &App, parts: &Parts) -> Result<(), Refusal> {
    let wrong = |why: &str| Err(Refusal::new(700_027).about(why));
    if !parts.claim("sub").eq_ignore_ascii_case(&app.client_id) {
        return wrong("subject is not the application");
    }
    let audience = parts.claim("aud");
    let ours = CLOUDS.iter().any(|cloud| audience.starts_with(&format!("https://{}/", cloud.login)));
    let local = audience.starts_with("https://localhost") || audience.starts_with("https://127.0.0.1");
    if !ours && !local {
        return wrong("audience is not this token endpoint");
    }
    let brought = brought(parts);
    if parts.header.contains_key("x5c") && !brought.as_ref().is_some_and(|one| names(parts, one)) {
        return wrong("'x5c' does not begin with the certificate of the thumbprint.");
    }
    let registered = app.certificates.iter().filter_map(|pem| RegisteredCertificate::from_pem(pem));
    let vouched = brought.filter(|_| vouched_for(app, parts));
    let Some(certificate) = registered.chain(vouched).find(|one| names(parts, one)) else {
        return wrong("The key was not found.");
    };
    if parts.claim("jti").is_empty() {
        return wrong("The assertion has no 'jti'.");
    }
    if !parts.verifies(&certificate.key) {
        return wrong("The signature does not verify.");
    }
    in_time(world, parts)
}

// Does the header name this certificate?
fn names(parts: &Parts, certificate: &RegisteredCertificate) -> bool {
    let head = |name: &str| parts.head(name).trim_end_matches('=');
    head("x5t#S256") == certificate.x5t_s256 || head("x5t") == certificate.x5t
}

// The first certificate of `x5c`: standard base64, the signer's own first (RFC 7515 §4.1.6).
fn first_of_chain(parts: &Parts) -> Option<Vec<u8>> {
    let first = parts.header.get("x5c")?.as_array()?.first()?.as_str()?;
    // msal writes the line ends of the PEM file along.
    crate::ids::unbase64(&first.split_whitespace().collect::<String>())
}

fn brought(parts: &Parts) -> Option<RegisteredCertificate> {
    RegisteredCertificate::from_der(&first_of_chain(parts)?)
}

fn vouched_for(app: &App, parts: &Parts) -> bool {
    let authorities = app.authorities.iter().filter_map(|pem| RegisteredCertificate::from_pem(pem));
    first_of_chain(parts).is_some_and(|der| authorities.into_iter().any(|one| one.signed(&der)))
}

/// How an accepted proof was made, for the counters: `PS256 x5t#S256 x5c`, `secret` or `none`.
pub(crate) fn manner(form: &Fields) -> String {
    let Some(parts) = form.get("client_assertion").and_then(jwt::parse) else {
        return if form.get("client_secret").is_some() { "secret".into() } else { "none".into() };
    };
    let named = ["x5t#S256", "x5t", "x5c"].into_iter().filter(|name| parts.header.contains_key(*name));
    [parts.head("alg")].into_iter().chain(named).collect::<Vec<_>>().join(" ")
}

fn in_time(world: &World, parts: &Parts) -> Result<(), Refusal> {
    let now = world.now();
    let begun = parts.number("nbf").is_none_or(|nbf| nbf <= now + ASSERTION_LEEWAY);
    let live = parts.number("exp").is_some_and(|exp| now < exp + ASSERTION_LEEWAY);
    if begun && live { Ok(()) } else { Err(Refusal::new(700_024)) }
}

fn check_federated(world: &World, app: &App, parts: &Parts) -> Result<(), Refusal> {
    let (iss, sub, aud) = (parts.claim("iss"), parts.claim("sub"), parts.claim("aud"));
    if !app.federated.iter().any(|one| one.issuer == iss) {
        return Err(Refusal::new(700_211).about(iss));
    }
    if !app.federated.iter().any(|one| one.issuer == iss && one.subject == sub) {
        return Err(Refusal::new(700_213).about(sub));
    }
    if !app.federated.iter().any(|one| one.issuer == iss && one.subject == sub && one.audience == aud) {
        return Err(Refusal::new(700_212).about(aud));
    }
    if !issuer_keys(world, iss, parts.head("kid")).iter().any(|key| parts.verifies(key)) {
        return Err(Refusal::new(7_000_214));
    }
    in_time(world, parts)
}

// Keys of an issuer: ours for a managed identity's token, registered ones for everybody else.
fn issuer_keys(world: &World, iss: &str, kid: &str) -> Vec<PublicKey> {
    if CLOUDS.iter().any(|cloud| issuer(cloud, &world.tenant, true) == iss) {
        return own_keys(world, kid);
    }
    let keys = world.issuers.iter().filter(|issuer| issuer.issuer == iss).flat_map(|issuer| &issuer.keys);
    keys.filter(|key| key.kid == kid || key.kid.is_empty()).filter_map(crate::apps::Jwk::public_key).collect()
}

/// The tenant's signing keys with this id, whether published or not.
pub(crate) fn own_keys(world: &World, kid: &str) -> Vec<PublicKey> {
    let keys = world.token_keys.iter().map(|key| &key.key).filter(|key| key.kid() == kid);
    keys.map(|key| PublicKey { n: key.n().to_vec(), e: key.e().to_vec() }).collect()
}
