//! What was heard, as it came: kept in memory only, until every value in it has been scrubbed.

use std::time::Duration;

use crate::entra::http::{Http, HttpError, Request};
use crate::imds::ImdsError;

/// How long one question may take.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The headers that are looked at.
pub(super) const HEADERS: [&str; 7] = [
    "content-type",
    "server",
    "www-authenticate",
    "retry-after",
    "x-ms-correlation-request-id",
    "x-ms-request-id",
    "x-ms-ratelimit-remaining-subscription-reads",
];

/// An answer, or the class of why there is none. Never the address: it may hold an object id.
pub(super) enum Answer {
    /// It came, whatever its status.
    Reply {
        /// The status code.
        status: u16,
        /// Those of [`HEADERS`] that came.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// None came.
    None(&'static str),
}

impl Answer {
    /// The body, when there is one.
    pub(super) fn body(&self) -> &[u8] {
        match self {
            Self::Reply { body, .. } => body,
            Self::None(_) => &[],
        }
    }

    /// A header of [`HEADERS`].
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        match self {
            Self::Reply { headers, .. } => {
                headers.iter().find(|(have, _)| *have == name).map(|(_, text)| text.as_str())
            }
            Self::None(_) => None,
        }
    }
}

/// Asks once.
pub(super) async fn ask(http: &Http, request: Request) -> Answer {
    match http.send(request.within(ANSWER_LIMIT)).await {
        Ok(reply) => Answer::Reply {
            status: reply.status(),
            headers: HEADERS
                .into_iter()
                .filter_map(|name| Some((name, reply.header(name)?.to_owned())))
                .collect(),
            body: reply.body().to_vec(),
        },
        Err(HttpError::TimedOut { .. }) => Answer::None("no answer in time"),
        Err(HttpError::Unreachable { .. }) => Answer::None("unreachable"),
        Err(HttpError::Redirected { .. }) => Answer::None("a redirect"),
        Err(HttpError::TooLarge { .. }) => Answer::None("too large"),
        Err(_) => Answer::None("not asked"),
    }
}

/// What the product's own reader made of an answer, in a word that quotes nothing.
pub(super) fn reader_word<T>(outcome: &Result<T, ImdsError>) -> &'static str {
    match outcome {
        Ok(_) => "accepts",
        Err(ImdsError::Http(error)) if error.is_transient() => "no answer",
        Err(ImdsError::Http(_) | ImdsError::Unusable { .. }) => "does not understand",
        Err(ImdsError::Refused { .. } | ImdsError::NoIdentity(_)) => "refused",
        Err(ImdsError::ManyIdentities) => "several identities",
        Err(ImdsError::Challenge(_)) => "challenge not accepted",
        Err(ImdsError::ChallengeUnreadable(_)) => "challenge unreadable",
    }
}
