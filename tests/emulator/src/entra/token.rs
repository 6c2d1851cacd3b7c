//! The token endpoint: one function per grant, then one place that issues (RFC 6749, RFC 7636, RFC 8628,
//! RFC 7523; Microsoft Learn, "OAuth 2.0 authorization code flow" and its siblings).

use serde_json::{Value, json};

use super::client::{self, Proof};
use super::issue::{self, Order};
use super::refusal::Refusal;
use super::resource::{self, Wanted};
use super::{Cloud, pop, ssh};
use crate::apps::App;
use crate::call::Call;
use crate::faults::Service;
use crate::form::Fields;
use crate::ids;
use crate::jwt;
use crate::sessions::Session;
use crate::state::World;

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const BEHALF_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Seconds a refresh token lives unused.
const REFRESH_SECONDS: i64 = 90 * 86_400;
/// Tokens that live this long come with `refresh_in`, seconds.
const HALF_LIFE_SECONDS: i64 = 2 * 3600;

/// What the `claims` parameter asks: contexts of either token, a capability of the access token.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) acrs: Vec<String>,
    pub(crate) capable: bool,
}

/// Read the `claims` parameter.
pub(crate) fn asked(claims: Option<&str>) -> Result<Asked, Refusal> {
    let Some(text) = claims.filter(|text| !text.is_empty()) else {
        return Ok(Asked::default());
    };
    let claims: Value = serde_json::from_str(text).map_err(|_| Refusal::new(90023).about(text))?;
    let member = |path: &str| claims.pointer(path).cloned().unwrap_or(Value::Null);
    let values = |claim: &Value| -> Vec<String> {
        let several = claim.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
        let one = claim.get("value").cloned();
        several.into_iter().chain(one).filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let capable =
        values(&member("/access_token/xms_cc")).iter().any(|value| value.eq_ignore_ascii_case("cp1"));
    let mut acrs: Vec<String> = Vec::new();
    for context in ["/access_token/acrs", "/id_token/acrs"].into_iter().flat_map(|path| values(&member(path)))
    {
        if !acrs.contains(&context) {
            acrs.push(context);
        }
    }
    Ok(Asked { acrs, capable })
}

/// Answer `POST …/token`.
pub(crate) fn answer(world: &mut World, call: &Call, cloud: &Cloud, v1: bool) -> Result<Value, Refusal> {
    let form = call.form();
    let grant = form.text("grant_type").to_owned();
    let kind = match (ssh::is_wanted(&form), pop::is_wanted(&form)) {
        (true, _) => "ssh-cert",
        (_, true) => "pop",
        _ => "bearer",
    };
    world.record.count(Service::Entra, &format!("grant {grant} {kind}"));
    let (app, proof) = client::authenticate(world, &form)?;
    world.record.count(Service::Entra, &format!("proof {}", client::manner(&form)));
    let session = match grant.as_str() {
        "refresh_token" => Some(from_refresh(world, &app, &form)?),
        "authorization_code" => Some(from_code(world, &app, &form)?),
        DEVICE_GRANT => Some(super::interactive::poll(world, &app, form.text("device_code"))?),
        BEHALF_GRANT => Some(from_assertion(world, &app, &form)?),
        "client_credentials" => None,
        "" => return Err(Refusal::new(90014).about("grant_type")),
        other => return Err(Refusal::new(9_002_313).about(&format!("Unsupported grant type '{other}'."))),
    };
    let oid = match &session {
        Some(session) => session.oid.clone(),
        None => world.directory.by_app(&app.client_id).map(|one| one.oid.clone()).unwrap_or_default(),
    };
    let wanted = wanted(world, &form, session.as_ref(), v1)?;
    strike(world, &grant, &wanted, &app, &oid)?;
    let asked = asked(form.get("claims"))?;
    usable(world, &oid, session.as_ref())?;
    if let Some(session) = &session {
        stepped_up(world, session, &asked, &wanted)?;
    }
    let request = Request { cloud, form: &form, app: &app, proof, wanted, asked, v1 };
    respond(world, &request, &oid, session)
}

struct Request<'a> {
    cloud: &'a Cloud,
    form: &'a Fields,
    app: &'a App,
    proof: Proof,
    wanted: Wanted,
    asked: Asked,
    v1: bool,
}

fn wanted(world: &World, form: &Fields, session: Option<&Session>, v1: bool) -> Result<Wanted, Refusal> {
    if v1 {
        let mut wanted = resource::from_resource(world, form.text("resource"))?;
        wanted.offline = session.is_some();
        return Ok(wanted);
    }
    let scope = form.get("scope").or_else(|| session.map(|session| session.scope.as_str()));
    resource::from_scope(world, scope.ok_or_else(|| Refusal::new(90014).about("scope"))?)
}

fn from_refresh(world: &World, app: &App, form: &Fields) -> Result<Session, Refusal> {
    let Some(session) = world.sessions.refresh.get(form.text("refresh_token")) else {
        return Err(Refusal::new(9_002_313));
    };
    let family = app.family && world.apps.get(&session.client_id).is_some_and(|owner| owner.family);
    if !session.client_id.is_empty() && session.client_id != app.client_id && !family {
        return Err(Refusal::new(700_005));
    }
    Ok(session.clone())
}

fn from_code(world: &mut World, app: &App, form: &Fields) -> Result<Session, Refusal> {
    let Some(code) = world.sessions.codes.remove(form.text("code")) else {
        return Err(Refusal::new(70000));
    };
    if code.session.client_id != app.client_id {
        return Err(Refusal::new(700_005));
    }
    if world.now() >= code.expires {
        return Err(Refusal::new(70008));
    }
    if form.text("redirect_uri") != code.redirect_uri {
        return Err(Refusal::new(50011).about(form.text("redirect_uri")));
    }
    let verifier = form.text("code_verifier");
    let shown = if code.challenge_method == "S256" {
        ids::base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()).as_ref())
    } else {
        verifier.to_owned()
    };
    if shown != code.challenge.trim_end_matches('=') {
        return Err(Refusal::new(501_481));
    }
    Ok(code.session)
}

// On behalf of: a token of ours, for this application, in exchange for one further on.
fn from_assertion(world: &World, app: &App, form: &Fields) -> Result<Session, Refusal> {
    let parts = jwt::parse(form.text("assertion")).ok_or_else(|| Refusal::new(9_002_313))?;
    let genuine = client::own_keys(world, parts.head("kid")).iter().any(|key| parts.verifies(key));
    let audience = parts.claim("aud");
    let ours = audience == app.client_id || app.identifier_uris.iter().any(|uri| uri == audience);
    if !genuine || !ours || form.text("requested_token_use") != "on_behalf_of" {
        return Err(Refusal::new(9_002_313).about("The assertion is not a token for this application."));
    }
    if parts.number("exp").is_none_or(|exp| exp <= world.now()) {
        return Err(Refusal::new(500_133));
    }
    Ok(Session {
        oid: parts.claim("oid").to_owned(),
        client_id: app.client_id.clone(),
        auth_time: parts.number("auth_time").unwrap_or_else(|| world.now()),
        fresh: false,
        acrs: Vec::new(),
        scope: String::new(),
        nonce: String::new(),
    })
}

// Scripted refusals come after the proof of client and grant, where Entra's own policies sit.
fn strike(world: &mut World, grant: &str, wanted: &Wanted, app: &App, oid: &str) -> Result<(), Refusal> {
    let upn = world.directory.find(oid).map(|one| one.upn.clone()).unwrap_or_default();
    let hit = world.scripts.iter_mut().find(|script| {
        script.times != Some(0)
            && script.grant.as_deref().is_none_or(|wants| wants == grant)
            && script.scope.as_deref().is_none_or(|part| wanted.audience.contains(part))
            && script.who.as_deref().is_none_or(|who| {
                [oid, &upn, &app.client_id].iter().any(|name| name.eq_ignore_ascii_case(who))
            })
    });
    let Some(script) = hit else {
        return Ok(());
    };
    script.times = script.times.map(|times| times - 1);
    let mut refusal = Refusal::new(script.code).about(&wanted.audience);
    if let Some(suberror) = &script.suberror {
        refusal = refusal.with_suberror(suberror);
    }
    if let Some(claims) = &script.claims {
        refusal = refusal.with_claims(claims);
    }
    if let Some(error) = &script.error {
        refusal = refusal.with_error(error);
    }
    if let Some(status) = script.status {
        refusal = refusal.with_status(status);
    }
    Err(refusal)
}

fn usable(world: &World, oid: &str, session: Option<&Session>) -> Result<(), Refusal> {
    let Some(principal) = world.directory.principals.get(oid) else {
        return Err(Refusal::new(if session.is_some() { 50034 } else { 700_016 }).about(oid));
    };
    if !principal.enabled {
        return Err(Refusal::new(50057));
    }
    let Some(session) = session else {
        return Ok(());
    };
    if session.auth_time < principal.sessions_valid_from {
        return Err(Refusal::new(50173));
    }
    if world.now() - session.auth_time > REFRESH_SECONDS {
        return Err(Refusal::new(700_082));
    }
    Ok(())
}

fn stepped_up(world: &World, session: &Session, asked: &Asked, wanted: &Wanted) -> Result<(), Refusal> {
    let standing = world.directory.find(&session.oid).map(|one| one.claims.acrs.clone()).unwrap_or_default();
    let missing = asked.acrs.iter().find(|acr| !session.acrs.contains(acr) && !standing.contains(acr));
    match missing {
        None => Ok(()),
        Some(acr) => Err(Refusal::new(50076)
            .about(&wanted.audience)
            .with_claims(&json!({"access_token": {"acrs": {"essential": true, "value": acr}}}))),
    }
}

fn respond(
    world: &mut World,
    request: &Request<'_>,
    oid: &str,
    session: Option<Session>,
) -> Result<Value, Refusal> {
    let Some(principal) = world.directory.principals.get(oid).cloned() else {
        return Err(Refusal::new(50034).about(oid));
    };
    let (wanted, app) = (&request.wanted, request.app);
    let is_ssh = ssh::is_wanted(request.form);
    let seconds = match (is_ssh, request.asked.capable) {
        (true, _) => world.time.certificate_seconds,
        (false, true) => world.entra.cae_token_seconds,
        (false, false) => world.entra.access_token_seconds,
    };
    let bound = pop::is_wanted(request.form).then(|| pop::confirmation(request.form)).transpose()?;
    let token_type = match (is_ssh, &bound) {
        (true, _) => "ssh-cert",
        (_, Some(_)) => "pop",
        _ => "Bearer",
    };
    let access_token = if is_ssh {
        ssh::certify(world, wanted, request.form, &principal)?
    } else {
        let order = Order {
            cloud: request.cloud,
            principal: &principal,
            audience: &wanted.audience,
            v2: wanted.v2,
            client_id: &app.client_id,
            proof: request.proof,
            session: session.as_ref(),
            permissions: &wanted.permissions,
            capable: request.asked.capable,
            mirid: None,
            confirmation: bound,
            seconds,
        };
        issue::access_token(world, &order)
    };
    let mut body = json!({
        "token_type": token_type,
        "expires_in": seconds,
        "ext_expires_in": seconds,
        "access_token": access_token,
    });
    let mut set = |name: &str, value: Value| {
        if let Some(members) = body.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    let half = (seconds >= HALF_LIFE_SECONDS).then_some(seconds / 2);
    if let (Some(refresh_in), false) = (world.entra.refresh_in.or(half), is_ssh) {
        set("refresh_in", refresh_in.into());
    }
    if request.v1 {
        // The v1 endpoint writes its numbers as text.
        for name in ["expires_in", "ext_expires_in"] {
            set(name, seconds.to_string().into());
        }
        set("expires_on", (world.now() + seconds).to_string().into());
        set("not_before", world.now().to_string().into());
        set("resource", wanted.audience.as_str().into());
    }
    if let Some(mut session) = session {
        session.client_id = app.client_id.clone();
        session.scope = request.form.get("scope").map_or(session.scope, str::to_owned);
        set("scope", wanted.scope.as_str().into());
        if wanted.offline {
            set("refresh_token", world.sessions.issue_refresh(&session).into());
            if app.family {
                set("foci", "1".into());
            }
        }
        if wanted.openid {
            set("id_token", issue::id_token(world, request.cloud, &principal, app, &session).into());
        }
        if request.form.text("client_info") == "1" {
            set("client_info", issue::client_info(world, &principal).into());
        }
    }
    Ok(body)
}
