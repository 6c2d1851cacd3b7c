//! What went wrong at the source, in the classes that decide what to do next.
//!
//! Decided on the HTTP status, `error` and `suberror` only: AADSTS numbers "should never be used by the
//! client" (Microsoft Learn, "Microsoft Entra authentication and authorization error codes"); they stand
//! in messages as hints, and one of them keeps a sign-in (`entra/oauth`).

use std::time::Duration;

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// No answer, 408, 429, 5xx, `temporarily_unavailable`: ask again later, serve what is still good.
    Transient,
    /// Perhaps not replicated yet (a new secret, application or federated credential): a few tries within
    /// two minutes, then as [`Self::Config`].
    Lag,
    /// A person has to sign in (again), perhaps with `claims`.
    NeedsUser,
    /// Somebody has to change a setting, at Entra or on this node.
    Config,
    /// The credential was taken back (`invalid_grant` of a refresh token): it must never be sent again.
    Revoked,
}

impl FailureClass {
    /// The stable word, as events and error details show it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Transient => "source_unavailable",
            Self::Lag => "source_not_ready",
            Self::NeedsUser => "sign_in_needed",
            Self::Config => "source_refused",
            Self::Revoked => "credential_revoked",
        }
    }
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do.
    pub class: FailureClass,
    /// One sentence for the person: printable ASCII, no token, no secret, says what to do.
    pub sentence: String,
    /// The OAuth `error`, where there was one.
    pub error: Option<String>,
    /// The OAuth `suberror`, where there was one.
    pub suberror: Option<String>,
    /// The claims that a new sign-in must carry, as JSON.
    pub claims: Option<String>,
    /// How long the source wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure with a sentence and nothing else.
    #[must_use]
    pub fn new(class: FailureClass, sentence: impl Into<String>) -> Self {
        Self {
            class,
            sentence: sentence.into(),
            error: None,
            suberror: None,
            claims: None,
            retry_after: None,
        }
    }
}
