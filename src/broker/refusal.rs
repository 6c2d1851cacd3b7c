//! Why no token came, in words that stay the same: programs compare them, people read the sentence.

use std::sync::Arc;
use std::time::Duration;

use nightlatch_tokens::{Failure, FailureClass};

/// What a refusal means for whoever asked; each surface has one answer for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The policy said no. Asking again changes nothing.
    Denied,
    /// A person has to sign in.
    SignIn,
    /// The source does not answer; asking again later may help.
    Unavailable,
    /// Too many questions under this rule.
    Limited,
    /// The question cannot be understood.
    BadRequest,
    /// Somebody has to change a setting, at Entra or on this node.
    Misconfigured,
}

/// The command that signs a person in.
pub const SIGN_IN_COMMAND: &str = "nightlatch login";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub kind: RefusalKind,
    /// The stable word.
    pub word: &'static str,
    /// The rule that refused, or `default`; empty where no rule was asked.
    pub rule: Arc<str>,
    /// One sentence that says what to do; no token, no secret.
    pub sentence: String,
    /// The claims that a new sign-in must carry.
    pub claims: Option<String>,
    /// When to ask again.
    pub retry_after: Option<Duration>,
    /// Joins what the person reads with the event; empty where there is none.
    pub correlation: Arc<str>,
}

impl Refusal {
    /// A refusal with a sentence and nothing else.
    #[must_use]
    pub fn new(kind: RefusalKind, word: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            word,
            rule: "".into(),
            sentence: sentence.into(),
            claims: None,
            retry_after: None,
            correlation: "".into(),
        }
    }

    /// A question that cannot be understood.
    #[must_use]
    pub fn bad_request(sentence: impl Into<String>) -> Self {
        Self::new(RefusalKind::BadRequest, "bad_request", sentence)
    }

    /// The caller is not known, or is gone.
    #[must_use]
    pub fn unknown_caller(sentence: impl Into<String>) -> Self {
        Self::new(RefusalKind::Denied, "caller_unknown", sentence)
    }

    /// What a source's failure means here.
    #[must_use]
    pub fn of_source(failure: Failure) -> Self {
        let (kind, word) = match failure.class {
            FailureClass::Transient | FailureClass::Lag => (RefusalKind::Unavailable, failure.class.word()),
            // Both end with a person at the sign-in page.
            FailureClass::NeedsUser | FailureClass::Revoked => {
                (RefusalKind::SignIn, FailureClass::NeedsUser.word())
            }
            FailureClass::Config => (RefusalKind::Misconfigured, failure.class.word()),
        };
        Self {
            claims: failure.claims,
            retry_after: failure.retry_after,
            ..Self::new(kind, word, failure.sentence)
        }
    }
}
