//! One hostile token beside its valid twin, one valid variant, and what collects them.

use std::sync::Arc;

use nightlatch_jwt::{Claims, Expected, Kind, Refusal, validate};
use nightlatch_model::Timestamp;

use crate::draft::Draft;
use crate::kit::{APP, APP_URI, Keys, TENANT, keys, now};

/// The classes of reference/08 §1a, in its order.
pub(crate) const CLASSES: [&str; 23] = [
    "not one compact token",
    "alg none",
    "algorithm confusion, odd keys",
    "kid injection",
    "a key of its own",
    "crit",
    "wrong JSON types",
    "times, forged and expired",
    "audience",
    "tenant and issuer",
    "names as identity",
    "a name used again",
    "guests",
    "groups by name",
    "group overage",
    "applications",
    "another kind of token",
    "missing evidence",
    "JSON read in two ways",
    "bound to a key",
    "device-code phishing",
    "somebody else's token",
    "renewed for another",
];

/// A token, and what it is judged by.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) token: String,
    pub(crate) expected: Expected,
    pub(crate) keys: Arc<Keys>,
}

impl Given {
    pub(crate) fn validate(&self) -> Result<Claims, Refusal> {
        validate(&self.token, &self.expected, &self.keys.set, Timestamp(now()))
    }

    /// In how many of its three respects it differs from another.
    pub(crate) fn differences(&self, other: &Self) -> usize {
        usize::from(self.token != other.token)
            + usize::from(self.expected != other.expected)
            + usize::from(self.keys.document != other.keys.document)
    }
}

/// A hostile token, and the valid one that it was made from.
pub(crate) struct Case {
    pub(crate) class: u8,
    pub(crate) name: String,
    pub(crate) hostile: Given,
    pub(crate) twin: Given,
    pub(crate) wanted: Refusal,
}

/// What is expected of a person's access token.
pub(crate) fn user() -> Expected {
    let mut expected = Expected::person(TENANT.parse().expect("a GUID"), APP);
    expected.audiences.push(APP_URI.to_owned());
    expected
}

/// What is expected of another kind of token.
pub(crate) fn kind(kind: Kind) -> Expected {
    Expected { kind, ..user() }
}

/// Collects the cases of one class.
pub(crate) struct Batch {
    class: u8,
    expected: Expected,
    keys: Arc<Keys>,
    cases: Vec<Case>,
}

impl Batch {
    pub(crate) fn of(class: u8) -> Self {
        Self { class, expected: user(), keys: keys(), cases: Vec::new() }
    }

    /// From here on this is expected.
    pub(crate) fn expect(&mut self, expected: Expected) {
        self.expected = expected;
    }

    pub(crate) fn given(&self, token: String) -> Given {
        Given { token, expected: self.expected.clone(), keys: Arc::clone(&self.keys) }
    }

    /// A hostile draft beside its twin.
    pub(crate) fn add(&mut self, name: impl Into<String>, twin: &Draft, hostile: &Draft, wanted: Refusal) {
        self.text(name, twin, hostile.text(), wanted);
    }

    /// A hostile text beside its twin.
    pub(crate) fn text(&mut self, name: impl Into<String>, twin: &Draft, hostile: String, wanted: Refusal) {
        self.pair(name, self.given(twin.text()), self.given(hostile), wanted);
    }

    /// The twin's token before other keys.
    pub(crate) fn keyed(
        &mut self,
        name: impl Into<String>,
        token: &Draft,
        [good, bad]: [Arc<Keys>; 2],
        wanted: Refusal,
    ) {
        let twin = Given { keys: good, ..self.given(token.text()) };
        let hostile = Given { keys: bad, ..twin.clone() };
        self.pair(name, twin, hostile, wanted);
    }

    /// The twin's token where something else is expected.
    pub(crate) fn judged(
        &mut self,
        name: impl Into<String>,
        token: &Draft,
        expected: Expected,
        wanted: Refusal,
    ) {
        let twin = self.given(token.text());
        let hostile = Given { expected, ..twin.clone() };
        self.pair(name, twin, hostile, wanted);
    }

    pub(crate) fn pair(&mut self, name: impl Into<String>, twin: Given, hostile: Given, wanted: Refusal) {
        self.cases.push(Case { class: self.class, name: name.into(), hostile, twin, wanted });
    }

    pub(crate) fn done(self) -> Vec<Case> {
        self.cases
    }
}
