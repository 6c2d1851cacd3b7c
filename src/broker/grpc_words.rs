//! From the protocol's messages to our questions, and from our answers and refusals to its messages.

use std::collections::HashMap;
use std::time::Duration;

use nightlatch_model::Guid;
use nightlatch_tokens::{Ask, AskError, Caller, Claims, IdentityRef, Place, PopAsk, Purpose, Resource};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::cache::KeptToken;
use super::http_answer::sentence_of;
use super::inventory::{Explanation, GrantedIdentity, Seen, or_zero, whole_seconds};
use super::refusal::{Refusal, RefusalKind, SIGN_IN_COMMAND};
use super::service::{Broker, HandOut};
use super::sign_in::{LoginWish, Progress, SignedIn};
use super::v1;

/// Where the reasons of our errors are defined.
const DOMAIN: &str = "nightlatch";
/// The most scopes of one question.
const MAX_SCOPES: usize = 32;
/// The longest scope, in bytes.
const MAX_SCOPE_BYTES: usize = 256;
/// The longest name on a sign-in page, in bytes.
const MAX_HINT_BYTES: usize = 256;
/// The wait that an error names when the source named none.
const DEFAULT_RETRY: Duration = Duration::from_secs(2);

/// A question.
pub(super) fn ask(request: &v1::GetTokenRequest) -> Result<Ask, Refusal> {
    let resource: Resource =
        request.resource.parse().map_err(|cause| Refusal::bad_request(format!("resource: {cause}")))?;
    let bad = |cause: AskError| Refusal::bad_request(cause.to_string());
    let guid = |text: &str| text.parse::<Guid>().map_err(|_| bad(AskError::Identity));
    let identity = match request.identity.as_ref().and_then(|identity| identity.by.as_ref()) {
        None | Some(v1::identity::By::Person(false)) => IdentityRef::Default,
        Some(v1::identity::By::Person(true)) => IdentityRef::Person,
        Some(v1::identity::By::Name(name)) => IdentityRef::name(name).map_err(bad)?,
        Some(v1::identity::By::ClientId(id)) => IdentityRef::ClientId(guid(id)?),
        Some(v1::identity::By::ObjectId(id)) => IdentityRef::ObjectId(guid(id)?),
        Some(v1::identity::By::ResourceId(id)) => IdentityRef::resource_id(id).map_err(bad)?,
    };
    let mut ask = Ask::new(identity, resource);
    ask.scopes = scopes(&request.scopes, &ask.resource)?;
    ask.claims = claims(&request.claims)?;
    ask.cae = request.enable_cae;
    ask.min_validity = (request.min_validity > 0).then(|| Duration::from_secs(request.min_validity.into()));
    ask.force_refresh = request.force_refresh;
    ask.purpose = match request.purpose.as_str() {
        "" | "program" => Purpose::Program,
        "agent" => Purpose::Agent,
        _ => return Err(Refusal::bad_request("the purpose is either empty or `agent`")),
    };
    Ok(ask)
}

/// A question for a proof of possession.
pub(super) fn pop_ask(request: &v1::GetPopTokenRequest) -> Result<Ask, Refusal> {
    let token =
        request.token.as_ref().ok_or_else(|| Refusal::bad_request("the token's resource is missing"))?;
    let mut ask = ask(token)?;
    let nonce = Some(request.nonce.as_str()).filter(|nonce| !nonce.is_empty());
    let pop = PopAsk::new(&request.u, nonce).map_err(|cause| Refusal::bad_request(cause.to_string()))?;
    ask.pop = Some(pop);
    Ok(ask)
}

fn claims(json: &str) -> Result<Option<Claims>, Refusal> {
    if json.is_empty() {
        return Ok(None);
    }
    Claims::new(json).map(Some).map_err(|cause| Refusal::bad_request(cause.to_string()))
}

/// Sorted, once each, and without the resource in front; `.default` is what no scope means.
fn scopes(asked: &[String], resource: &Resource) -> Result<Vec<String>, Refusal> {
    let mut scopes = Vec::with_capacity(asked.len().min(MAX_SCOPES));
    for scope in asked {
        let own = scope.strip_prefix(resource.exact()).or_else(|| scope.strip_prefix(resource.canonical()));
        let own = own.and_then(|rest| rest.strip_prefix('/')).unwrap_or(scope);
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\%".contains(&b);
        if own.is_empty()
            || own.len() > MAX_SCOPE_BYTES
            || !own.bytes().all(plain)
            || scopes.len() >= MAX_SCOPES
        {
            return Err(Refusal::bad_request("a scope is empty, too long or holds strange characters"));
        }
        if own != ".default" {
            scopes.push(own.to_owned());
        }
    }
    scopes.sort();
    scopes.dedup();
    Ok(scopes)
}

/// What a person wishes for their sign-in.
pub(super) fn login_wish(request: &v1::BeginLoginRequest) -> Result<LoginWish, Refusal> {
    let hint = Some(&request.login_hint).filter(|hint| !hint.is_empty());
    if hint.is_some_and(|hint| hint.len() > MAX_HINT_BYTES || hint.chars().any(char::is_control)) {
        return Err(Refusal::bad_request("the login hint is too long or holds strange characters"));
    }
    let port =
        u16::try_from(request.redirect_port).map_err(|_| Refusal::bad_request("redirect_port is no port"))?;
    if request.scopes.len() > MAX_SCOPES
        || request.scopes.iter().any(|scope| scope.len() > 2 * MAX_SCOPE_BYTES)
    {
        return Err(Refusal::bad_request("there are too many scopes, or one is too long"));
    }
    Ok(LoginWish {
        device_code: request.device_code,
        scopes: request.scopes.clone(),
        claims: claims(&request.claims)?,
        login_hint: hint.cloned(),
        redirect_port: (port != 0).then_some(port),
    })
}

/// A token.
pub(super) fn access_token(given: &HandOut, broker: &Broker) -> v1::AccessToken {
    let configured = broker.identity(&given.key.identity).and_then(|info| info.client_id.as_ref());
    v1::AccessToken {
        token: given.text().to_owned(),
        token_type: given.token_type().to_owned(),
        expires_on: given.expires.0,
        refresh_on: or_zero(given.refresh_on),
        identity: given.key.identity.to_string(),
        client_id: configured
            .map(ToString::to_string)
            .or_else(|| given.token.client_id.clone())
            .unwrap_or_default(),
        source: if given.fresh { "source" } else { "cache" }.to_owned(),
        age: whole_seconds(given.age),
        stale_reason: given.stale.clone().unwrap_or_default(),
        resource: given.key.resource.canonical().to_owned(),
        rule: given.rule.to_string(),
        correlation: given.correlation.to_string(),
    }
}

/// A refusal as a status with typed details.
pub(super) fn status(refusal: &Refusal, caller: Option<&Caller>) -> Status {
    let code = match refusal.kind {
        RefusalKind::Denied => Code::PermissionDenied,
        RefusalKind::SignIn => Code::FailedPrecondition,
        RefusalKind::Unavailable => Code::Unavailable,
        RefusalKind::Limited => Code::ResourceExhausted,
        RefusalKind::BadRequest => Code::InvalidArgument,
        RefusalKind::Misconfigured => Code::Internal,
    };
    let mut metadata = HashMap::new();
    let mut tell = |name: &str, value: String| {
        if !value.is_empty() {
            metadata.insert(name.to_owned(), value);
        }
    };
    tell("rule", refusal.rule.to_string());
    tell("correlation", refusal.correlation.to_string());
    if refusal.kind == RefusalKind::Denied {
        tell("caller", caller.map(seen).unwrap_or_default());
    }
    if refusal.kind == RefusalKind::SignIn {
        tell("command", SIGN_IN_COMMAND.to_owned());
        tell("claims", refusal.claims.clone().unwrap_or_default());
    }
    let mut details = ErrorDetails::with_error_info(refusal.word, DOMAIN, metadata);
    if matches!(refusal.kind, RefusalKind::Unavailable | RefusalKind::Limited) {
        details.set_retry_info(Some(refusal.retry_after.unwrap_or(DEFAULT_RETRY)));
    }
    Status::with_error_details(code, sentence_of(refusal), details)
}

/// The caller in a few words, as the policy sees it.
fn seen(caller: &Caller) -> String {
    let mut text = format!("uid {}, {} on {}", caller.uid, place(caller.place), caller.door);
    let process = caller.process.as_ref();
    let unit = process.and_then(|process| process.unit.as_ref()).or(caller.header_unit.as_ref());
    if let Some(unit) = unit {
        text.push_str(&format!(", unit {unit}"));
    }
    if let Some(pod) = process.and_then(|process| process.pod.as_ref()) {
        text.push_str(&format!(", pod {}", pod.uid));
    }
    text
}

const fn place(place: Place) -> &'static str {
    match place {
        Place::Host => "host",
        Place::Container => "container",
        Place::Unknown => "unknown",
    }
}

/// What the broker sees of the caller.
pub(super) fn who_am_i(caller: &Caller, seen: Seen) -> v1::WhoAmIReply {
    let process = caller.process.clone();
    let (pid, unit, slice, pod) = process.map_or((0, None, None, None), |process| {
        (process.pid, process.unit, process.slice, process.pod.map(|pod| pod.uid))
    });
    v1::WhoAmIReply {
        uid: caller.uid,
        place: place(caller.place).to_owned(),
        unit: unit.or_else(|| caller.header_unit.clone()).unwrap_or_default(),
        slice: slice.unwrap_or_default(),
        pod: pod.unwrap_or_default(),
        pid,
        person: seen.person.map(signed_in),
        rules: seen.rules.iter().map(ToString::to_string).collect(),
    }
}

fn signed_in(person: SignedIn) -> v1::SignedIn {
    v1::SignedIn { username: person.username, tenant: person.tenant, object_id: person.object_id }
}

/// A dry run.
pub(super) fn explanation(explained: Explanation, caller: v1::WhoAmIReply) -> v1::ExplainTokenReply {
    let trace = explained.trace.into_iter().map(|step| v1::RuleTrace {
        rule: step.rule.to_string(),
        outcome: step.outcome.to_string(),
        why: step.why,
    });
    v1::ExplainTokenReply {
        allowed: explained.allowed,
        rule: explained.rule.to_string(),
        reason: explained.word.to_owned(),
        text: explained.sentence,
        trace: trace.collect(),
        caller: Some(caller),
        identity: explained.identity.map(|name| name.to_string()).unwrap_or_default(),
        cached: explained.seconds_left.is_some(),
        seconds_left: explained.seconds_left.unwrap_or(0),
    }
}

/// An identity with its resources.
pub(super) fn identity(granted: GrantedIdentity<'_>) -> v1::IdentityInfo {
    let text = |id: Option<String>| id.unwrap_or_default();
    v1::IdentityInfo {
        name: granted.info.name.to_string(),
        kind: granted.info.kind.word().to_owned(),
        client_id: text(granted.info.client_id.as_ref().map(ToString::to_string)),
        tenant: text(granted.info.tenant.as_ref().map(ToString::to_string)),
        resources: granted.resources,
    }
}

/// A kept token, without the token.
pub(super) fn kept_token(kept: KeptToken) -> v1::KeptToken {
    v1::KeptToken {
        identity: kept.key.identity.to_string(),
        resource: kept.key.resource.canonical().to_owned(),
        expires_on: or_zero(kept.expires),
        refresh_on: or_zero(kept.refresh_on),
        idle: whole_seconds(kept.idle),
        failure: kept.failure.map(|failure| failure.sentence).unwrap_or_default(),
        uti: kept.stamp.and_then(|stamp| stamp.uti).unwrap_or_default(),
        cae: kept.key.cae,
    }
}

/// A step of a sign-in.
pub(super) fn progress(step: Progress) -> v1::LoginProgress {
    use v1::login_progress::Step;
    let step = match step {
        Progress::Browser { url } => Step::Browser(v1::BrowserStep { url }),
        Progress::Device { user_code, verification_uri, expires_in, message } => {
            Step::Device(v1::DeviceStep { user_code, verification_uri, expires_in, message })
        }
        Progress::Waiting(seconds) => Step::Waiting(seconds),
        Progress::Done(person) => Step::Done(signed_in(person)),
    };
    v1::LoginProgress { step: Some(step) }
}
