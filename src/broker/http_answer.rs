//! The bodies of HTTP answers: one that every client library can read, of a token and of a refusal.
//!
//! Numbers are strings, as IMDS writes them; a library in Rust takes nothing else. A refusal has the fields
//! of IMDS and those of App Service, because each library shows only its own.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::{HeaderValue, StatusCode};
use nightlatch_model::Timestamp;

use super::http_question::Question;
use super::refusal::{Refusal, RefusalKind};
use super::service::HandOut;

/// What leaves.
pub(super) type Answer = hyper::Response<Full<Bytes>>;

/// What a body has beside the token, in bytes.
const FRAME_BYTES: usize = 768;
/// The wait that a refusal names when the source named none, in seconds.
const DEFAULT_RETRY_SECONDS: u64 = 2;
/// The longest wait that a refusal names, in seconds.
const MAX_RETRY_SECONDS: u64 = 3_600;

/// The answer with a token.
pub(super) fn token(given: &HandOut, question: &Question, client_id: Option<&str>, now: Timestamp) -> Answer {
    let mut body = String::with_capacity(given.text().len() + FRAME_BYTES);
    let seconds = given.expires.since(now).max(0).to_string();
    let age = i64::try_from(given.age.as_secs()).unwrap_or(0);
    let mut next = '{';
    let mut field = |name: &str, value: &str| {
        body.push(next);
        next = ',';
        body.push('"');
        body.push_str(name);
        body.push_str("\":");
        push_text(&mut body, value);
    };
    field("access_token", given.text());
    field("client_id", client_id.or(given.token.client_id.as_deref()).unwrap_or_default());
    field("expires_in", &seconds);
    field("expires_on", &given.expires.0.to_string());
    field("ext_expires_in", &seconds);
    field("not_before", &now.plus(-age).0.to_string());
    field("resource", given.key.resource.exact());
    field("token_type", given.token_type());
    if let Some(id) = &question.object_id {
        field("object_id", id);
    }
    if let Some(id) = &question.resource_id {
        field("msi_res_id", id);
    }
    body.push('}');
    json(StatusCode::OK, body)
}

/// Appends JSON text. What a token is made of needs no escape.
fn push_text(body: &mut String, value: &str) {
    // No early end: so the compiler looks at many bytes at once, and a token has a thousand and more.
    let odd =
        value.bytes().fold(false, |odd, b| odd | !(b' '..=b'~').contains(&b) | (b == b'"') | (b == b'\\'));
    if !odd {
        body.push('"');
        body.push_str(value);
        body.push('"');
    } else {
        body.push_str(&serde_json::Value::from(value).to_string());
    }
}

/// The answer of a refusal. Never 5xx for what the policy says: libraries would ask four times more.
pub(super) fn refusal(refusal: &Refusal) -> Answer {
    let status = match refusal.kind {
        RefusalKind::Denied | RefusalKind::SignIn => StatusCode::FORBIDDEN,
        RefusalKind::BadRequest | RefusalKind::Misconfigured => StatusCode::BAD_REQUEST,
        RefusalKind::Limited => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut answer = error(status, refusal.word, &sentence_of(refusal));
    if matches!(refusal.kind, RefusalKind::Limited | RefusalKind::Unavailable) {
        let wait = refusal.retry_after.map_or(DEFAULT_RETRY_SECONDS, |wait| wait.as_secs());
        let wait = HeaderValue::from(wait.clamp(1, MAX_RETRY_SECONDS));
        answer.headers_mut().insert(RETRY_AFTER, wait);
    }
    answer
}

/// The sentence with what an administrator looks it up by.
pub(super) fn sentence_of(refusal: &Refusal) -> String {
    match (refusal.rule.as_ref(), refusal.correlation.as_ref()) {
        (_, "") => refusal.sentence.clone(),
        ("", id) => format!("{} (ref {id})", refusal.sentence),
        (rule, id) => format!("{} (rule {rule}, ref {id})", refusal.sentence),
    }
}

/// An error in both forms.
pub(super) fn error(status: StatusCode, word: &str, sentence: &str) -> Answer {
    let body = serde_json::json!({
        "error": word,
        "error_description": sentence,
        "statusCode": status.as_u16(),
        "message": sentence,
    });
    json(status, body.to_string())
}

/// The answer to a method that is not taken.
pub(super) fn wrong_method() -> Answer {
    let sentence = "only GET and POST are answered here";
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", sentence);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    answer
}

/// The first answer in the dialect of the Arc agent: prove that you can read this file. The libraries take
/// no other folder and no other ending; the file holds the identity header of the unit that may read it.
pub(super) fn arc_challenge() -> Answer {
    let sentence = "show the content of the file that WWW-Authenticate names, or X-IDENTITY-HEADER: \
                    see `nightlatch token header`";
    let mut answer = error(StatusCode::UNAUTHORIZED, "proof_needed", sentence);
    let realm = HeaderValue::from_static("Basic realm=/var/opt/azcmagent/tokens/nightlatch.key");
    answer.headers_mut().insert(WWW_AUTHENTICATE, realm);
    answer
}

/// The answer to a health check.
pub(super) fn healthy() -> Answer {
    json(StatusCode::OK, "{\"status\":\"ok\"}".to_owned())
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
