//! Tokens for programs that only know the endpoints of IMDS and App Service: HTTP/1.1 on imds.sock, and on
//! loopback where it is configured.
//!
//! On the socket the kernel's word about the caller is enough. On loopback any program on the node, and any
//! web page in its browser, can send a request, so there the `X-IDENTITY-HEADER` must be right as well.
//! Everything that is not a question for a token is 404; nothing is ever passed on to the real IMDS.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use nightlatch_tokens::{Caller, Door};
use tokio::net::{TcpListener, UnixListener};

use super::door::{Listen, Present, Recognise, Slots, Who, admit};
use super::http_answer::{self as answer, Answer};
use super::http_question::{self as question, Place};
use super::identity_header::{BootKey, HeaderName};
use super::kernel::{Loopback, Socket};
use super::pace::{Pace, Paced};
use super::refusal::Refusal;
use super::service::Broker;

/// The largest form of a POST, in bytes.
pub const MAX_BODY_BYTES: usize = 8 * 1024;
/// The largest head of a request, in bytes; where hyper reads ahead of this limit we count ourselves.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The most headers of a request.
pub const MAX_HEADERS: usize = 64;
/// The header of App Service.
const IDENTITY_HEADER: &str = "x-identity-header";
/// The header of IMDS that no web page can send.
const METADATA: &str = "metadata";

/// Serves imds.sock until the task is dropped.
pub async fn serve(listener: UnixListener, broker: Arc<Broker>, slots: Arc<Slots>) {
    serve_with(listener, Socket(Door::Imds), broker, slots, None).await;
}

/// Serves loopback until the task is dropped; `key` is what identity headers are checked with.
pub async fn serve_loopback(
    listener: TcpListener,
    broker: Arc<Broker>,
    slots: Arc<Slots>,
    key: Arc<BootKey>,
) {
    serve_with(listener, Loopback, broker, slots, Some(key)).await;
}

/// Serves a listener whose callers `recognise` names.
pub(super) async fn serve_with<L: Listen>(
    listener: L,
    recognise: impl Recognise<L::Stream>,
    broker: Arc<Broker>,
    slots: Arc<Slots>,
    key: Option<Arc<BootKey>>,
) {
    let recognise = Arc::new(recognise);
    loop {
        let (stream, slot) = admit(&listener, &*recognise, &slots, broker.audit()).await;
        let (recognise, broker, key) = (Arc::clone(&recognise), Arc::clone(&broker), key.clone());
        tokio::spawn(async move {
            let who = recognise.who(&stream);
            let stream = Paced::questions(stream);
            let connection = Connection { broker, who, key, pace: stream.pace() };
            let connection = &connection;
            let service = service_fn(move |request| connection.answer(request));
            // What ends a connection is the peer's doing: nothing to say.
            let _ = http1::Builder::new()
                .header_read_timeout(None)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(slot);
        });
    }
}

/// One connection.
struct Connection {
    broker: Arc<Broker>,
    who: Who,
    key: Option<Arc<BootKey>>,
    pace: Arc<Pace>,
}

impl Connection {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let answer = self.route(request).await;
        self.pace.answer_is_ready();
        Ok(answer)
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        if let Err(refusal) =
            question::check_local(&head.headers, head.uri.authority().map(|authority| authority.as_str()))
        {
            return answer::refusal(&refusal);
        }
        let head_bytes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        if head_bytes.sum::<usize>() > MAX_HEAD_BYTES {
            let sentence = format!("the headers of a request have at most {MAX_HEAD_BYTES} bytes");
            return answer::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_request", &sentence);
        }
        let Some(place) = Place::of(head.uri.path()) else {
            let sentence = "only tokens are given here; ask 169.254.169.254 itself for other metadata";
            return answer::error(StatusCode::NOT_FOUND, "not_found", sentence);
        };
        if head.method != Method::GET && head.method != Method::POST {
            return answer::wrong_method();
        }
        if place == Place::Health {
            return answer::healthy();
        }
        let is_true = |value: &hyper::header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"true");
        if place == Place::Imds && !head.headers.get(METADATA).is_some_and(is_true) {
            return answer::refusal(&Refusal::bad_request("the header `Metadata: true` is missing"));
        }
        let form = if head.method == Method::POST {
            let content = head.headers.get(CONTENT_TYPE).map(hyper::header::HeaderValue::as_bytes);
            match read_form(content, body).await {
                Ok(form) => form,
                Err(refused) => return *refused,
            }
        } else {
            String::new()
        };
        self.pace.question_is_whole();
        let asked = question::read(place, head.uri.query().unwrap_or_default(), &form);
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let header = shown_header(place, &head.headers);
        if self.key.is_some() && header.is_none() && place == Place::Imds {
            return answer::arc_challenge();
        }
        let present = match self.present() {
            Ok(present) => present,
            Err(refusal) => return answer::refusal(&refusal),
        };
        let proven;
        let caller = match &self.key {
            None => present.caller(),
            Some(key) => match prove(key, header, present.caller()) {
                Ok(caller) => {
                    proven = caller;
                    &proven
                }
                Err(refusal) => return answer::refusal(&refusal),
            },
        };
        match self.broker.get(caller, &asked.ask).await {
            Ok(given) => {
                let client_id =
                    self.broker.identity(&given.key.identity).and_then(|info| info.client_id.as_ref());
                let client_id = client_id.map(ToString::to_string);
                answer::token(&given, &asked, client_id.as_deref(), self.broker.clock().now())
            }
            Err(refusal) => answer::refusal(&refusal),
        }
    }

    /// The caller, when the very process that connected is still there.
    fn present(&self) -> Result<&dyn Present, Refusal> {
        let present = self.who.as_ref().map_err(|sentence| Refusal::unknown_caller(sentence.as_str()))?;
        if present.still_there() {
            Ok(present.as_ref())
        } else {
            Err(Refusal::unknown_caller("the process that made this connection is gone; connect again"))
        }
    }
}

/// What the program shows to prove that it was given it: the header of App Service, or, in the dialect of the
/// Arc agent, the content of the file that the challenge named, as `Basic` without any coding (Microsoft
/// Learn, "Authenticate against Azure resources with Azure Arc-enabled servers").
fn shown_header(place: Place, headers: &HeaderMap) -> Option<&str> {
    if let Some(header) = headers.get(IDENTITY_HEADER) {
        return header.to_str().ok();
    }
    let proof = headers.get(AUTHORIZATION).filter(|_| place == Place::Imds)?;
    proof.to_str().ok()?.strip_prefix("Basic ").map(str::trim)
}

/// What the header proves: that the caller was given it. A header for a uid must be of the caller's own.
fn prove(key: &BootKey, header: Option<&str>, caller: &Caller) -> Result<Caller, Refusal> {
    let name = key.check(header.unwrap_or_default());
    let name = name.map_err(|cause| Refusal::unknown_caller(cause.to_string()))?;
    let mut caller = caller.clone();
    match name {
        HeaderName::Unit(unit) => caller.header_unit = Some(unit),
        HeaderName::Uid(uid) if uid == caller.uid => {}
        HeaderName::Uid(uid) => {
            let sentence =
                format!("the X-IDENTITY-HEADER was made for uid {uid}, not for uid {}", caller.uid);
            return Err(Refusal::unknown_caller(sentence));
        }
    }
    Ok(caller)
}

async fn read_form(content: Option<&[u8]>, body: Incoming) -> Result<String, Box<Answer>> {
    let bad = |sentence: &str| Box::new(answer::refusal(&Refusal::bad_request(sentence)));
    let too_large = || {
        let sentence = format!("a form has at most {MAX_BODY_BYTES} bytes");
        Box::new(answer::error(StatusCode::PAYLOAD_TOO_LARGE, "bad_request", &sentence))
    };
    if body.size_hint().lower() > u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let whole = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let whole = whole.map_err(|cause| {
        if cause.is::<http_body_util::LengthLimitError>() { too_large() } else { bad("the form broke off") }
    })?;
    let bytes = whole.to_bytes();
    let form = b"application/x-www-form-urlencoded";
    let is_form = content
        .is_some_and(|kind| kind.get(..form.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(form)));
    if !is_form && !bytes.is_empty() {
        return Err(bad("the body of a POST must be application/x-www-form-urlencoded"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| bad("the form is not text"))
}
