//! What came back: a whole answer, and what its headers say about waiting.

use std::time::Duration;

use nightlatch_model::Timestamp;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

use super::{HttpError, MAX_RETRY_AFTER, printable};

/// A complete answer.
#[derive(Clone)]
pub struct Reply {
    pub(super) host: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Tokens come in bodies; the token that is taken out is wiped by its own type, the rest of the body here.
impl Drop for Reply {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl Reply {
    /// The status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The host that was asked.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether this is a page for people: a service that speaks JSON did not write it.
    #[must_use]
    pub fn is_page(&self) -> bool {
        let html = self.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        html || self.body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<')
    }

    /// The body, capped.
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
            // It may quote a text of the body, however long.
            detail: printable(e.to_string().as_bytes()),
        })
    }

    /// The body as JSON that holds a secret: an error names a place in it and repeats nothing.
    ///
    /// # Errors
    /// [`HttpError::NotUnderstood`] without the beginning of the body.
    pub fn secret_json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|e| HttpError::NotUnderstood {
            host: self.host.clone(),
            status: self.status,
            head: "(not shown)".to_owned(),
            detail: format!("line {}, column {}", e.line(), e.column()),
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
            let from = self.date().unwrap_or(now);
            u64::try_from(until.since(from)).unwrap_or(0)
        };
        Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }

    /// The `Date` of the answer.
    #[must_use]
    pub fn date(&self) -> Option<Timestamp> {
        self.header("date").and_then(http_date)
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
