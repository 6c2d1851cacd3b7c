//! Sign-in without a human: the authorize endpoint approves by itself, a device code after some polls or by
//! the control API. A step-up asked for with `claims` is always satisfied here.

use std::time::Duration;

use axum::response::Response;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::token;
use crate::apps::App;
use crate::call::{self, Call};
use crate::clock;
use crate::form;
use crate::ids;
use crate::sessions::{Code, Device, Session};
use crate::state::World;

/// Seconds an authorization code lives.
const CODE_SECONDS: i64 = 600;
/// Seconds a device code lives.
const DEVICE_SECONDS: i64 = 900;
/// What a poll before its time adds to the interval, seconds (RFC 8628 §3.5).
const SLOW_DOWN_SECONDS: u64 = 5;

fn session(world: &World, oid: &str, client_id: &str, scope: &str, acrs: Vec<String>) -> Option<Session> {
    let person = world.directory.find(oid)?;
    Some(Session {
        oid: person.oid.clone(),
        client_id: client_id.to_ascii_lowercase(),
        auth_time: world.now(),
        fresh: false,
        acrs,
        scope: scope.to_owned(),
        nonce: String::new(),
    })
}

/// `GET …/authorize`: redirect with a code, or post it by form, or say why not.
pub(crate) fn authorize(world: &mut World, call: &Call) -> Response {
    let query = &call.query;
    let (client_id, redirect) = (query.text("client_id"), query.text("redirect_uri"));
    let Some(app) = world.apps.get(&client_id.to_ascii_lowercase()).cloned() else {
        return Refusal::new(700_016).about(client_id).response(world);
    };
    if !redirect_allowed(&app, redirect) {
        return Refusal::new(50011).about(redirect).response(world);
    }
    let outcome = match world.entra.authorize_error {
        Some(code) => Err(Refusal::new(code).about(client_id)),
        None => approve(world, call, &app),
    };
    let mut fields = match outcome {
        Ok(code) => vec![("code", code)],
        Err(refusal) => {
            let (error, text) = refusal.words(world);
            vec![("error", error.to_owned()), ("error_description", text)]
        }
    };
    fields.push(("state", query.text("state").to_owned()));
    if query.text("response_mode") == "form_post" {
        return call::html(post_page(redirect, &fields));
    }
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", form::encode(value))).collect();
    let joint = if redirect.contains('?') { '&' } else { '?' };
    let target = format!("{redirect}{joint}{}", pairs.join("&"));
    call::with_header(call::text(302, ""), "location", &target)
}

fn approve(world: &mut World, call: &Call, app: &App) -> Result<String, Refusal> {
    let query = &call.query;
    if query.text("response_type") != "code" {
        return Err(Refusal::new(9_002_313).about("Only response_type=code is supported."));
    }
    let challenge = query.text("code_challenge").to_owned();
    if challenge.is_empty() && app.public {
        return Err(Refusal::new(9_002_325));
    }
    let hint = query.get("login_hint").map_or_else(|| world.entra.interactive_user.clone(), str::to_owned);
    let acrs = token::asked(query.get("claims"))?.acrs;
    let mut session = session(world, &hint, &app.client_id, query.text("scope"), acrs)
        .ok_or_else(|| Refusal::new(50034).about(&hint))?;
    if world.directory.find(&hint).is_some_and(|person| !person.enabled) {
        return Err(Refusal::new(50057));
    }
    session.nonce = query.text("nonce").to_owned();
    session.fresh = query.text("prompt").split(' ').any(|prompt| prompt == "login");
    let code = Code {
        session,
        redirect_uri: query.text("redirect_uri").to_owned(),
        challenge,
        challenge_method: query.text("code_challenge_method").to_owned(),
        expires: world.now() + CODE_SECONDS,
    };
    Ok(world.sessions.issue_code(code))
}

fn redirect_allowed(app: &App, redirect: &str) -> bool {
    let loopback = ["http://localhost", "http://127.0.0.1"].iter().any(|start| {
        redirect.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    loopback || app.redirect_uris.iter().any(|allowed| allowed == redirect)
}

fn post_page(redirect: &str, fields: &[(&str, String)]) -> String {
    let safe = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let inputs: String = fields
        .iter()
        .map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\"/>", safe(value)))
        .collect();
    format!(
        "<html><body onload=\"document.forms[0].submit()\"><form method=\"POST\" action=\"{}\">{inputs}</form></body></html>",
        safe(redirect)
    )
}

/// `POST …/devicecode`.
pub(crate) fn device_code(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let form = call.form();
    let client_id = form.text("client_id").to_ascii_lowercase();
    if !world.apps.get(&client_id).is_some_and(|app| app.public) {
        return Err(Refusal::new(700_016).about(&client_id));
    }
    let letters: String = ids::guid().replace('-', "").to_ascii_uppercase().chars().take(9).collect();
    let device_code = format!("D{}", ids::base64url(&ids::random::<48>()));
    let device = Device {
        user_code: letters.clone(),
        client_id,
        scope: form.text("scope").to_owned(),
        claims: form.text("claims").to_owned(),
        polls: 0,
        interval: world.entra.device_interval,
        polled: None,
        outcome: None,
        expires: world.now() + DEVICE_SECONDS,
    };
    world.sessions.devices.insert(device_code.clone(), device);
    let page = "https://login.microsoft.com/device";
    Ok(json!({
        "user_code": letters,
        "device_code": device_code,
        "verification_uri": page,
        "expires_in": DEVICE_SECONDS,
        "interval": world.entra.device_interval,
        "message": format!("To sign in, use a web browser to open the page {page} and enter the code {letters} to authenticate."),
    }))
}

/// One poll of the token endpoint with a device code: pending, refused, or the session.
pub(crate) fn poll(world: &mut World, app: &App, device_code: &str) -> Result<Session, Refusal> {
    let (now, after, user) =
        (world.now(), world.entra.device_approve_after, world.entra.interactive_user.clone());
    let (strict, at) = (world.entra.device_slow_down, clock::monotonic());
    let device = world.sessions.devices.get_mut(device_code).ok_or_else(|| Refusal::new(70018))?;
    if device.client_id != app.client_id {
        return Err(Refusal::new(700_005));
    }
    if now >= device.expires {
        return Err(Refusal::new(70019));
    }
    let early = device.polled.is_some_and(|last| at < last + Duration::from_secs(device.interval));
    device.polled = Some(at);
    if strict && early {
        device.interval += SLOW_DOWN_SECONDS;
        return Err(Refusal::new(70016).with_error("slow_down"));
    }
    device.polls += 1;
    if device.outcome.is_none() && after.is_some_and(|after| device.polls > after) {
        device.outcome = Some(Some(user));
    }
    let who = match &device.outcome {
        None => return Err(Refusal::new(70016)),
        Some(None) => return Err(Refusal::new(70020)),
        Some(Some(who)) => who.clone(),
    };
    let (scope, claims) = (device.scope.clone(), device.claims.clone());
    let acrs = token::asked(Some(&claims))?.acrs;
    world.sessions.devices.remove(device_code);
    session(world, &who, &app.client_id, &scope, acrs).ok_or_else(|| Refusal::new(50034).about(&who))
}
