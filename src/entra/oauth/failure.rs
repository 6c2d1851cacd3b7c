//! What a refusal means and what to do about it.
//!
//! The class follows from the HTTP status, `error` and `suberror` alone: AADSTS numbers "should never be
//! used by the client" (Microsoft Learn, "Microsoft Entra authentication and authorization error codes");
//! they only choose the advice in the sentence. The one exception keeps what the words would have taken away:
//! [`REQUEST_LOOP`]. Nothing that was sent as a secret stands in a sentence.

use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_tokens::{Claims, Failure, FailureClass};
use serde::Deserialize;

use super::grants::{Form, Grant};
use crate::entra::http::{HttpError, Reply};

/// How much of Entra's description goes into a sentence, in characters.
const DESCRIPTION_CHARS: usize = 240;
/// A longer word of a description may be a token, in characters.
const LONGEST_WORD: usize = 72;
/// The longest `error` and `suberror`, in bytes.
const MAX_WORD_BYTES: usize = 64;
/// What a refusal by a policy is begun with.
const CONDITIONAL_ACCESS: &str =
    "Conditional Access refuses this: ask an administrator of the tenant which policy it was";
/// Fields of a form that nobody may read in a message.
const SECRET_FIELDS: [&str; 7] = [
    "client_secret",
    "client_assertion",
    "refresh_token",
    "code",
    "assertion",
    "device_code",
    "code_verifier",
];

/// AADSTS50196, "client request loop": how Entra throttles a person's sign-in. It is told as `invalid_grant` (Microsoft Learn,
/// "throttling", of MSAL.NET), the words for a sign-in that was taken back: a program that asks too often would sign its person
/// out and end their sessions.
const REQUEST_LOOP: u32 = 50_196;
/// How long Entra is left alone after [`REQUEST_LOOP`] where it does not say: what it says to applications.
const LOOP_WAIT: Duration = Duration::from_secs(60);

/// A refusal as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The HTTP status.
    pub status: u16,
    /// `error`; `None` when the answer is not one of an OAuth server.
    pub error: Option<String>,
    /// `suberror`.
    pub suberror: Option<String>,
    /// The AADSTS number, for the advice.
    pub number: Option<u32>,
    /// The first sentence of the description, printable, without long words and secrets.
    pub description: String,
    /// The claims that a new sign-in must carry.
    pub claims: Option<String>,
    /// Whether the form proved its client with an assertion of somebody else or its own.
    pub by_assertion: bool,
}

impl Said {
    /// Reads a refusal of `form`.
    #[must_use]
    pub fn of(reply: &Reply, form: &Form<'_>) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: String,
            suberror: Option<String>,
            #[serde(default)]
            error_description: String,
            #[serde(default)]
            error_codes: Vec<u32>,
            claims: Option<String>,
        }
        let by_assertion = form.get("client_assertion").is_some();
        let Ok(body) = serde_json::from_slice::<Body>(reply.body()) else {
            return Self { status: reply.status(), by_assertion, ..Self::default() };
        };
        let description = printable(&body.error_description, form);
        Self {
            status: reply.status(),
            error: word(&body.error).or_else(|| Some("unknown".to_owned())),
            suberror: body.suberror.as_deref().and_then(word),
            number: body.error_codes.first().copied().or_else(|| number_in(&body.error_description)),
            description,
            claims: body.claims.and_then(|text| Claims::new(&text).ok()).map(|c| c.as_str().to_owned()),
            by_assertion,
        }
    }
}

fn word(text: &str) -> Option<String> {
    let plain = !text.is_empty()
        && text.len() <= MAX_WORD_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    plain.then(|| text.to_owned())
}

fn number_in(description: &str) -> Option<u32> {
    let digits = description.strip_prefix("AADSTS")?;
    digits.get(..digits.find(|c: char| !c.is_ascii_digit())?)?.parse().ok()
}

fn printable(description: &str, form: &Form<'_>) -> String {
    let secrets = SECRET_FIELDS.iter().filter_map(|name| form.get(name));
    if secrets.filter(|secret| !secret.is_empty()).any(|secret| description.contains(secret)) {
        return "its words are left out, because they repeat a secret".to_owned();
    }
    let first = description.split(" Trace ID").next().unwrap_or_default();
    let words = first.split_whitespace().map(|word| if word.len() > LONGEST_WORD { "[...]" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(DESCRIPTION_CHARS).collect()
}

/// The class of a refusal.
#[must_use]
pub fn classify(said: &Said, grant: Grant) -> FailureClass {
    use FailureClass::{Config, Lag, NeedsUser, Revoked, Transient};
    // Nobody can sign an application in; what asks for a person is a setting there.
    let person = if grant == Grant::Client { Config } else { NeedsUser };
    let passing = matches!(said.status, 408 | 429 | 500..=599);
    let Some(error) = said.error.as_deref() else {
        // Not Entra's own word: it says nothing about the next answer.
        return Transient;
    };
    match (error, said.suberror.as_deref()) {
        _ if passing => Transient,
        ("invalid_grant", None) if said.number == Some(REQUEST_LOOP) => Transient,
        ("temporarily_unavailable" | "server_error" | "authorization_pending" | "slow_down", _) => Transient,
        // The person can do nothing but read it: Conditional Access blocks.
        (_, Some("message_only")) => Config,
        ("interaction_required" | "insufficient_claims" | "login_required" | "consent_required", _) => person,
        ("invalid_grant", Some("client_mismatch" | "protection_policy_required")) => Config,
        ("invalid_grant", None | Some("bad_token")) if grant == Grant::Refresh => Revoked,
        ("invalid_grant", _) => person,
        ("authorization_declined" | "access_denied" | "expired_token" | "bad_verification_code", _) => person,
        // A new secret, certificate, federated credential or application takes a while to be known everywhere.
        ("invalid_client" | "unauthorized_client", _) => Lag,
        ("invalid_request", _) if said.by_assertion => Lag,
        _ => Config,
    }
}

/// The failure of a refusal.
pub(super) fn refused(said: &Said, grant: Grant, reply: &Reply, now: Timestamp) -> Failure {
    let class = classify(said, grant);
    let sentence = match &said.error {
        Some(error) => {
            let what = advice(said, class, grant);
            let words = if said.description.is_empty() { error } else { &said.description };
            format!("{what} (Entra: {words})")
        }
        None => page(reply.host(), reply.status()),
    };
    Failure {
        class,
        sentence,
        error: said.error.clone(),
        suberror: said.suberror.clone(),
        claims: said.claims.clone(),
        retry_after: reply
            .retry_after(now)
            .or_else(|| (said.number == Some(REQUEST_LOOP)).then_some(LOOP_WAIT)),
    }
}

/// Whether a policy of the tenant's refused it, for the words to a person alone.
#[must_use]
pub(in crate::entra) fn is_by_policy(failure: &Failure) -> bool {
    failure.sentence.starts_with(CONDITIONAL_ACCESS)
}

/// What to do, by the number where one is known, otherwise by the words.
fn advice(said: &Said, class: FailureClass, grant: Grant) -> &'static str {
    if let Some(advice) = said.number.and_then(by_number) {
        return advice;
    }
    match (said.error.as_deref().unwrap_or_default(), said.suberror.as_deref()) {
        _ if said.status == 429 => "Entra is asked too often: it wants to be left alone for a while",
        ("authorization_pending" | "slow_down", _) => "the sign-in is not finished yet",
        ("authorization_declined" | "access_denied", _) => {
            "the sign-in was declined: begin again to try once more"
        }
        ("expired_token" | "bad_verification_code", _) => {
            "the sign-in took too long or the code was mistyped: begin again"
        }
        (_, Some("consent_required")) | ("consent_required", _) => {
            "nobody has consented to this application: sign in again and consent, or ask an administrator to"
        }
        (_, Some("basic_action" | "additional_action")) => {
            "Entra wants another proof of the person: sign in again"
        }
        (_, Some("token_expired" | "user_password_expired")) => {
            "the sign-in is older than the tenant allows: sign in again"
        }
        (_, Some("message_only" | "protection_policy_required")) => CONDITIONAL_ACCESS,
        (_, Some("client_mismatch")) => {
            "the sign-in belongs to another application: check `client_id`, and sign in again"
        }
        ("invalid_client", _) => {
            "the application cannot prove itself: check its secret, certificate or federated credential, and `client_id`"
        }
        ("unauthorized_client", _) => {
            "the application may not do this: check `client_id`, `tenant` and its registration"
        }
        ("invalid_scope", _) => "the scope is not one of the resource: check its spelling",
        ("invalid_resource" | "invalid_target", _) => {
            "the resource is not known in this tenant: check its spelling"
        }
        _ => match class {
            FailureClass::Transient => "Entra cannot answer now: it is asked again",
            FailureClass::Lag => "the application is not known here yet: check its registration",
            FailureClass::NeedsUser => "a person has to sign in again",
            FailureClass::Revoked => "the sign-in was taken back: sign in again",
            FailureClass::Config if grant == Grant::Client => {
                "Entra refuses this application: check its registration and the rights that it was given"
            }
            FailureClass::Config => "Entra refuses this: check the configuration of the identity",
        },
    }
}

/// Advice for numbers that are worth more than their words. Never a decision.
const fn by_number(number: u32) -> Option<&'static str> {
    Some(match number {
        7_000_215 => {
            "the client secret is not right: write its value, not its id, to `secret_file`; a new one needs a minute"
        }
        7_000_222 => "the client secret has expired: make a new one and write it to `secret_file`",
        700_027 => {
            "the certificate is not registered with the application: upload it there, or check `certificate_file`"
        }
        700_024 => {
            "the assertion's times are not right: compare this machine's clock, or see that `token_file` is kept fresh"
        }
        700_016 => {
            "the application is not known in this tenant: check `client_id` and `tenant`; a new one needs a minute"
        }
        70_021 | 700_211 | 700_212 | 700_213 => {
            "no federated credential fits the token in `token_file`: compare issuer, subject and audience"
        }
        90_002 => "the tenant is not known in this cloud: check `tenant` and `cloud`",
        500_011 => {
            "the resource is not known in this tenant: check its spelling, and that its application is there"
        }
        70_011 => "the scope is not one of the resource: check its spelling",
        53_000..=53_004 | 530_032 => CONDITIONAL_ACCESS,
        50_057 => "the account is disabled: ask an administrator of the tenant",
        50_076 | 50_079 | 50_074 => "Entra wants another factor: sign in again",
        50_173 | 700_082 | 70_008 => {
            "the sign-in has ended (password changed, taken back or unused): sign in again"
        }
        70_043 => "the sign-in is older than the tenant allows: sign in again",
        65_001 => {
            "nobody has consented to this application: sign in again and consent, or ask an administrator to"
        }
        REQUEST_LOOP => {
            "Entra saw the same question too often and stopped answering: find the program that asks in a loop"
        }
        _ => return None,
    })
}

/// Something else than Entra answered.
pub(super) fn page(host: &str, status: u16) -> String {
    if status == 407 {
        return proxy_wants_password(host);
    }
    format!(
        "somebody in between answered in place of {host} (status {status}): a proxy or a sign-in page of the network; let {host} pass unchanged"
    )
}

fn proxy_wants_password(host: &str) -> String {
    format!(
        "the proxy before {host} wants a password (407): put it into the proxy variable of nightlatchd's environment, or let {host} pass without one"
    )
}

/// No answer at all.
pub(super) fn unheard(error: &HttpError) -> Failure {
    let class = match error {
        HttpError::OutOfReach(_) | HttpError::Build(_) | HttpError::Request(_) => FailureClass::Config,
        _ => FailureClass::Transient,
    };
    let sentence = match error {
        HttpError::Unreachable { host, detail } => {
            let low = detail.to_ascii_lowercase();
            if low.contains("unknownissuer") || low.contains("unknown issuer") {
                format!(
                    "{host} shows a certificate of an unknown authority: if a proxy opens TLS on the way, add its CA to the system's store (update-ca-certificates); otherwise somebody else answers"
                )
            } else if low.contains("407") || low.contains("proxy auth") {
                proxy_wants_password(host)
            } else if low.contains("unsuccessful") || low.contains("tunnel") {
                format!(
                    "the proxy does not let {host} pass: allow CONNECT to {host}:443, or set `network.proxy`"
                )
            } else {
                error.to_string()
            }
        }
        _ => error.to_string(),
    };
    Failure::new(class, sentence)
}
