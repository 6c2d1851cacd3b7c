//! What is asked: the request, its query and its secrets. Nothing is sent here.

use std::time::Duration;

use nightlatch_model::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;

use super::REQUEST_TIMEOUT;

/// One request.
#[derive(Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
    pub(super) within: Duration,
    pub(super) problem: Option<String>,
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
