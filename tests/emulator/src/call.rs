//! One HTTP request read into memory, and the shapes of answers. Rooms get a `Call` and give a `Response`;
//! none of them touches a connection.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use crate::form::Fields;

/// Largest request body read, bytes.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Host as the client named it, with port if it gave one.
    pub(crate) authority: String,
    /// Path as sent, still escaped.
    pub(crate) path: String,
    pub(crate) raw_query: String,
    pub(crate) query: Fields,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// Read a request whole; `None` if its body is too large or breaks off.
    pub(crate) async fn read(request: Request<Body>) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let authority = parts.uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or("");
        let raw_query = parts.uri.query().unwrap_or("").to_owned();
        Some(Self {
            method: parts.method.as_str().to_owned(),
            authority: authority.to_ascii_lowercase(),
            path: parts.uri.path().to_owned(),
            query: Fields::parse(&raw_query),
            raw_query,
            headers: parts.headers.clone(),
            body: axum::body::to_bytes(body, MAX_BODY_BYTES).await.ok()?,
        })
    }

    /// Host name without port.
    pub(crate) fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host)
    }

    /// A header as text, empty if absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as a form.
    pub(crate) fn form(&self) -> Fields {
        Fields::parse(&String::from_utf8_lossy(&self.body))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Lower-case path segments, unescaped, no empty ones.
    pub(crate) fn segments(&self) -> Vec<String> {
        let parts = self.path.split('/').filter(|part| !part.is_empty());
        parts.map(|part| crate::form::decode(part).to_ascii_lowercase()).collect()
    }
}

/// A JSON answer.
pub(crate) fn json(status: u16, body: &Value) -> Response {
    with_type(status, "application/json; charset=utf-8", body.to_string())
}

/// A plain-text answer.
pub(crate) fn text(status: u16, body: &str) -> Response {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

/// An HTML answer.
pub(crate) fn html(body: String) -> Response {
    with_type(200, "text/html; charset=utf-8", body)
}

/// Any answer with a body.
pub(crate) fn with_type(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Add a header; a value that cannot be one is left out.
pub(crate) fn with_header(mut response: Response, name: &'static str, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
