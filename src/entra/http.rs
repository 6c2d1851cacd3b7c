//! The one way out: every HTTP request that Nightlatch makes goes through [`Http`].
//!
//! Two reaches exist. The internet reach speaks https only, with the system's roots, through a proxy
//! only where the root-owned configuration says so. The node reach speaks plain http, to the two
//! literal addresses of IMDS and of the Arc agent only, and never through a proxy. Neither follows a
//! redirect, waits without an end, or reads more than [`MAX_BODY_BYTES`]. A body that nests deeper
//! than serde_json's recursion limit of 128 is refused by serde_json itself; no compression is
//! offered, so a small answer cannot grow. This room never decides what an answer means.

use std::time::Duration;

use nightlatch_model::{Secret, Timestamp};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The largest answer that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long making a connection (name, TCP, TLS) may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take from beginning to end, unless it says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept for the next request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many idle connections are kept for each host.
const POOL_IDLE_PER_HOST: usize = 4;
/// The longest wait that a `Retry-After` is believed for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How much of an answer that is not understood is kept for the message, in bytes.
const HEAD_BYTES: usize = 120;

/// The addresses that the node reach may talk to (Azure VM instance metadata service; Azure
/// Connected Machine agent, which listens on loopback).
const NODE_HOSTS: [&str; 2] = ["169.254.169.254", "127.0.0.1"];

/// Why no answer came, or none that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made ({0}): check the system's certificate store (ca-certificates)")]
    Build(String),
    /// The address is outside the reach of this client.
    #[error(
        "{0} is not an address that may be asked here: https is required, plain http only for IMDS and himds"
    )]
    OutOfReach(String),
    /// No connection, or it broke.
    #[error("{host} cannot be reached ({detail}): check the network, the proxy and the firewall")]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// What the stack said.
        detail: String,
    },
    /// No answer in time.
    #[error("{host} did not answer in time: check the network, or try again")]
    TimedOut {
        /// The host that was asked.
        host: String,
    },
    /// The answer was a redirect, which is never followed.
    #[error(
        "{host} answered with a redirect ({status}), which is never followed: check the cloud and the proxy"
    )]
    Redirected {
        /// The host that was asked.
        host: String,
        /// The status code.
        status: u16,
    },
    /// The answer is larger than [`MAX_BODY_BYTES`].
    #[error("{host} sent more than {MAX_BODY_BYTES} bytes: this is not the service that was asked for")]
    TooLarge {
        /// The host that was asked.
        host: String,
    },
    /// The answer is not the JSON that was expected.
    #[error("{host} sent an answer that cannot be read (status {status}, begins with {head:?}): {detail}")]
    NotUnderstood {
        /// The host that was asked.
        host: String,
        /// The status code.
        status: u16,
        /// How the body begins, printable ASCII only.
        head: String,
        /// What the parser said.
        detail: String,
    },
    /// The request itself could not be written.
    #[error("the request cannot be written: {0}")]
    Request(String),
}

impl HttpError {
    /// Whether the same request may work in a moment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }
}

/// Whether a proxy may stand between the node and the internet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyRule {
    /// None, whatever the environment says.
    Direct,
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` of the daemon's own environment (`network.proxy =
    /// "env"`); systemd sets it from root-owned files.
    Environment,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Internet,
    Node,
}

/// An HTTP client with limits. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    reach: Reach,
}

impl Http {
    /// The client for Entra, ARM, PDP and Graph: https with the system's roots.
    ///
    /// # Errors
    /// [`HttpError::Build`] when the system's certificate store cannot be used.
    pub fn internet(proxy: ProxyRule) -> Result<Self, HttpError> {
        let mut builder = limits();
        if proxy == ProxyRule::Direct {
            builder = builder.no_proxy();
        }
        Self::build(builder.https_only(!cfg!(test)), Reach::Internet)
    }

    /// The client for IMDS and himds: plain http to their literal addresses, never a proxy.
    ///
    /// # Errors
    /// [`HttpError::Build`] when the client cannot be made.
    pub fn node() -> Result<Self, HttpError> {
        Self::build(limits().no_proxy(), Reach::Node)
    }

    fn build(builder: reqwest::ClientBuilder, reach: Reach) -> Result<Self, HttpError> {
        let client = builder.build().map_err(|e| HttpError::Build(chain(&e)))?;
        Ok(Self { client, reach })
    }

    fn check(&self, text: &str) -> Result<Url, HttpError> {
        let refuse = || HttpError::OutOfReach(printable(text.as_bytes()));
        let url = Url::parse(text).map_err(|_| refuse())?;
        let host = url.host_str().unwrap_or_default();
        let plain_url = url.username().is_empty() && url.password().is_none() && !host.is_empty();
        let in_reach = match self.reach {
            // A unit test serves its answers on loopback without TLS; nothing else may.
            Reach::Internet => url.scheme() == "https" || (cfg!(test) && host == "127.0.0.1"),
            Reach::Node => url.scheme() == "http" && NODE_HOSTS.contains(&host),
        };
        if plain_url && in_reach { Ok(url) } else { Err(refuse()) }
    }

    /// Sends `request` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Every way in which no complete answer came; a 3xx is an error, other statuses are answers.
    pub async fn send(&self, request: Request) -> Result<Reply, HttpError> {
        let url = self.check(&request.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut call = self.client.request(request.method, url).headers(request.headers);
        if let Some(problem) = request.problem {
            return Err(HttpError::Request(problem));
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        let work = async {
            let response = call.send().await.map_err(|e| failure(&host, &e))?;
            read(response, &host).await
        };
        tokio::time::timeout(request.within, work)
            .await
            .unwrap_or(Err(HttpError::TimedOut { host: host.clone() }))
    }
}

fn limits() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_IDLE_PER_HOST)
        .referer(false)
        .user_agent(concat!("nightlatch/", env!("CARGO_PKG_VERSION")))
}

async fn read(mut response: reqwest::Response, host: &str) -> Result<Reply, HttpError> {
    let status = response.status().as_u16();
    if response.status().is_redirection() {
        return Err(HttpError::Redirected { host: host.to_owned(), status });
    }
    let too_large = || HttpError::TooLarge { host: host.to_owned() };
    if response.content_length().is_some_and(|n| n > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| failure(host, &e))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { host: host.to_owned(), status, headers, body })
}

fn failure(host: &str, error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        HttpError::TimedOut { host: host.to_owned() }
    } else {
        HttpError::Unreachable { host: host.to_owned(), detail: chain(error) }
    }
}

/// The deepest sentence of an error says most; the URL, which may hold an object id, stays out.
fn chain(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    printable(source.to_string().as_bytes())
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(HEAD_BYTES)
        .map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' })
        .collect()
}

/// One request.
#[derive(Debug)]
pub struct Request {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    within: Duration,
    problem: Option<String>,
}

impl Request {
    fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, within: REQUEST_TIMEOUT, problem: None }
    }

    /// A GET of a complete address; make the query with [`with_query`].
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url.into())
    }

    /// A POST of a JSON body.
    #[must_use]
    pub fn post_json(url: impl Into<String>, body: &impl Serialize) -> Self {
        let mut request = Self::new(Method::POST, url.into()).header("content-type", "application/json");
        match serde_json::to_vec(body) {
            Ok(bytes) => request.body = Some(bytes),
            Err(error) => request.problem = Some(error.to_string()),
        }
        request
    }

    /// A POST of a form.
    #[must_use]
    pub fn post_form(url: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let mut request =
            Self::new(Method::POST, url.into()).header("content-type", "application/x-www-form-urlencoded");
        request.body = Some(encoded(fields).into_bytes());
        request
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.insert(HeaderName::from_static(name), value);
            }
            Err(_) => self.problem = Some(format!("the header {name} holds a character that is not allowed")),
        }
        self
    }

    /// Adds an `Authorization` header of the scheme (`Bearer`, `Basic`) that is kept out of logs.
    #[must_use]
    pub fn authorization(mut self, scheme: &str, secret: &Secret) -> Self {
        match HeaderValue::from_str(&format!("{scheme} {}", secret.expose())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(reqwest::header::AUTHORIZATION, value);
            }
            Err(_) => self.problem = Some("the token holds a character that is not allowed".to_owned()),
        }
        self
    }

    /// Bounds the whole exchange; the default is [`REQUEST_TIMEOUT`].
    #[must_use]
    pub const fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }
}

/// `base` with a query made of `fields`, percent-encoded.
#[must_use]
pub fn with_query(base: &str, fields: &[(&str, &str)]) -> String {
    format!("{base}?{}", encoded(fields))
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        escape(&mut out, name);
        out.push('=');
        escape(&mut out, value);
    }
    out
}

/// RFC 3986: everything but the unreserved characters, so that one text means the same in a query
/// and in a form.
fn escape(out: &mut String, text: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(
                [HEX.get(usize::from(byte >> 4)), HEX.get(usize::from(byte & 15))].into_iter().flatten(),
            );
        }
    }
}

/// Whether `link` has the scheme, host and port of `origin`: the only kind of `nextLink` that may be
/// followed, because the token goes with it.
#[must_use]
pub fn same_origin(origin: &str, link: &str) -> bool {
    match (Url::parse(origin), Url::parse(link)) {
        (Ok(a), Ok(b)) => {
            a.origin() == b.origin()
                && a.origin().is_tuple()
                && b.username().is_empty()
                && b.password().is_none()
        }
        _ => false,
    }
}

/// A complete answer.
#[derive(Clone)]
pub struct Reply {
    host: String,
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    /// The status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The body, at most [`MAX_BODY_BYTES`].
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether the same request may work in a moment: 408, 429 and 5xx.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599)
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`HttpError::NotUnderstood`] with the beginning of the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|e| HttpError::NotUnderstood {
            host: self.host.clone(),
            status: self.status,
            head: self.head(),
            detail: e.to_string(),
        })
    }

    /// How the body begins, in printable ASCII, for a message to an administrator.
    #[must_use]
    pub fn head(&self) -> String {
        printable(&self.body)
    }

    /// How long the service wants us to wait: `Retry-After` in seconds or as an HTTP date (RFC 9110
    /// §10.2.3), which counts from the answer's own `Date` where there is one and from `now` otherwise.
    /// At most [`MAX_RETRY_AFTER`].
    #[must_use]
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        let seconds = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            text.parse().unwrap_or(u64::MAX)
        } else {
            let until = http_date(text)?;
            let from = self.header("date").and_then(http_date).unwrap_or(now);
            u64::try_from(until.since(from)).unwrap_or(0)
        };
        Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }

    /// The smallest number in any `x-ms-ratelimit-remaining-*` header (ARM, "Understand how Azure
    /// Resource Manager throttles requests").
    #[must_use]
    pub fn remaining_calls(&self) -> Option<u64> {
        self.headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-ms-ratelimit-remaining-"))
            .filter_map(|(_, value)| value.to_str().ok()?.trim().parse().ok())
            .min()
    }
}

/// The one date form that HTTP servers write today: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split([' ', ':']);
    let mut next = || parts.next();
    let day = next()?.parse().ok()?;
    let month_name = next()?;
    let month = MONTHS.iter().position(|m| *m == month_name)? + 1;
    let year = next()?.parse().ok()?;
    let (hour, minute, second) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    if next()? != "GMT" || next().is_some() {
        return None;
    }
    Timestamp::from_civil(year, u8::try_from(month).ok()?, day, hour, minute, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::tiny_server::{Answer, Server};

    #[tokio::test]
    async fn the_reach_is_enforced_before_anything_is_sent() {
        let node = Http::node().unwrap();
        let internet = Http::internet(ProxyRule::Direct).unwrap();
        for url in [
            "http://169.254.169.253/",
            "http://localhost:1/",
            "https://169.254.169.254/",
            "http://user@169.254.169.254/",
            "http://169.254.169.254.example.com/",
            "file:///etc/passwd",
            "x",
        ] {
            let said = node.send(Request::get(url)).await.map(|_| ());
            assert!(matches!(said, Err(HttpError::OutOfReach(_))), "{url}");
        }
        for url in
            ["http://login.microsoftonline.com/", "http://169.254.169.254/", "https://a:b@example.com/"]
        {
            let said = internet.send(Request::get(url)).await.map(|_| ());
            assert!(matches!(said, Err(HttpError::OutOfReach(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn faults_are_errors_with_their_own_names() {
        let http = Http::internet(ProxyRule::Direct).unwrap();
        let server = Server::start(vec![
            Answer::new(302, "").header("location", "http://127.0.0.1:1/"),
            Answer::new(200, &"x".repeat(MAX_BODY_BYTES + 1)),
            Answer::new(200, &"x".repeat(MAX_BODY_BYTES + 1)).chunked(),
            Answer::never(),
            Answer::cut(),
            Answer::new(200, "Not here"),
            Answer::new(200, &"[".repeat(100_000)),
        ])
        .await;
        let ask = || http.send(Request::get(server.url("/x")).within(Duration::from_millis(500)));
        assert!(matches!(ask().await, Err(HttpError::Redirected { status: 302, .. })));
        assert!(matches!(ask().await, Err(HttpError::TooLarge { .. })));
        assert!(matches!(ask().await, Err(HttpError::TooLarge { .. })));
        assert!(matches!(ask().await, Err(HttpError::TimedOut { .. })));
        assert!(matches!(ask().await, Err(HttpError::Unreachable { .. })));
        for _ in 0..2 {
            let reply = ask().await.unwrap();
            let said = reply.json::<serde_json::Value>();
            assert!(matches!(said, Err(HttpError::NotUnderstood { status: 200, .. })));
        }
        assert_eq!(server.seen().len(), 7, "a redirect was followed or a request repeated");
    }

    #[tokio::test]
    async fn waits_and_remaining_calls_are_read() {
        let http = Http::internet(ProxyRule::Direct).unwrap();
        let now = Timestamp::from_rfc3339("1994-11-06T08:49:00Z").unwrap();
        let server = Server::start(vec![
            Answer::new(429, "").header("retry-after", "17"),
            Answer::new(429, "").header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            Answer::new(429, "")
                .header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")
                .header("date", "Sun, 06 Nov 1994 08:49:30 GMT"),
            Answer::new(429, "").header("retry-after", "99999999999999999999"),
            Answer::new(429, "").header("retry-after", "soon"),
            Answer::new(200, "")
                .header("x-ms-ratelimit-remaining-subscription-reads", "249")
                .header("x-ms-ratelimit-remaining-tenant-reads", "11"),
        ])
        .await;
        let mut waits = Vec::new();
        for _ in 0..5 {
            let reply = http.send(Request::get(server.url("/"))).await.unwrap();
            assert!(reply.is_transient());
            waits.push(reply.retry_after(now).map(|d| d.as_secs()));
        }
        assert_eq!(waits, [Some(17), Some(37), Some(7), Some(3600), None]);
        let reply = http.send(Request::get(server.url("/"))).await.unwrap();
        assert_eq!(reply.remaining_calls(), Some(11));
    }

    #[test]
    fn queries_are_escaped_and_origins_compared() {
        assert_eq!(with_query("https://h/p", &[("a", "b c/&=+é")]), "https://h/p?a=b%20c%2F%26%3D%2B%C3%A9");
        let home = "https://management.azure.com/x";
        assert!(same_origin(home, "https://management.azure.com/y?z"));
        for link in [
            "https://management.azure.com:444/y",
            "http://management.azure.com/y",
            "https://management.azure.com.evil.example/y",
            "https://management.azure.com@evil.example/y",
            "https://u@management.azure.com/y",
            "/y",
            "",
        ] {
            assert!(!same_origin(home, link), "{link}");
        }
    }
}
