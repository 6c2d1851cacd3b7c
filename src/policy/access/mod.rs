//! Access rules: what an administrator demands of a login beside the role.
//!
//! The first rule that matches decides. A rule can only take away: whoever it permits still needs the role, and no limit
//! of a rule is wider than the node's own. What could not be found out never helps a login: a permit rule does not match
//! on it, a deny rule cannot be ruled out by it, and a step-up rule wants its evidence all the same.
//!
//! Here are the rules as data and the walk over them; how they are written stands in the room `rules`.

mod condition;
mod evaluate;
mod missing;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use core::net::IpAddr;
use nightlatch_model::{Guid, ObjectId, Reason, Role, Timestamp};
use serde::{Deserialize, Serialize};

pub use condition::{Network, ResourcePattern, Truth, When};
pub use missing::{Missing, shown_by_a_sign_in};
pub(crate) use missing::{command, sentence};

use crate::facts::Service;

/// What stands behind a login: which of the two kinds of proof.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofKind {
    /// A certificate that Entra's own SSH authority signed: it says who, and when it was issued, and no more.
    Entra,
    /// An OpenPubkey certificate: with the claims of an ID token.
    OpenPubkey,
}

impl ProofKind {
    /// The word in rules, records and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::OpenPubkey => "openpubkey",
        }
    }
}

/// The sign-in behind a credential, as far as the credential tells. What is `None` was not said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignIn {
    /// Which kind of proof.
    pub proof: ProofKind,
    /// When the credential was issued: the certificate's beginning, or `iat` of the ID token.
    pub issued: Timestamp,
    /// When the person last gave credentials: `auth_time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Timestamp>,
    /// How the person signed in: `amr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amr: Option<Vec<String>>,
    /// The authentication contexts that were satisfied: `acrs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acrs: Option<Vec<String>>,
    /// The registered device: `deviceid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Guid>,
    /// The groups, only where the token lists them all: `groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Guid>>,
    /// When the person signed in at the prompt of this very login, where they did: the claims are that sign-in's as well,
    /// whatever the certificate can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompted: Option<Timestamp>,
}

impl SignIn {
    /// Whether the claims of a sign-in stand behind it.
    #[must_use]
    pub const fn has_claims(&self) -> bool {
        matches!(self.proof, ProofKind::OpenPubkey) || self.prompted.is_some()
    }

    /// What a sign-in of the same person at the prompt shows, beside a certificate. How and when they signed in is that
    /// sign-in's alone: the strength of one and the freshness of another are no third that has both. The certificate stays what
    /// it is, with its kind, age and device; and the groups, which both may list, it has told already.
    #[must_use]
    pub fn with_prompted(&self, fresh: &Self, at: Timestamp) -> Self {
        let own = self.has_claims().then_some(self);
        Self {
            proof: self.proof,
            issued: self.issued,
            auth_time: fresh.auth_time,
            amr: fresh.amr.clone(),
            acrs: fresh.acrs.clone(),
            // The code may be typed on any device: which one says nothing about this login.
            device: own.and_then(|own| own.device),
            groups: own.and_then(|own| own.groups.clone()).or_else(|| fresh.groups.clone()),
            prompted: Some(at),
        }
    }
}

/// What the node is, for rules that are about some nodes only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFacts {
    /// The labels that the configuration gives it.
    pub labels: BTreeMap<String, String>,
    /// Its resource ids, as far as they are known: the machine's, and the cluster's where there is one.
    pub resources: Vec<String>,
    /// Whether the machine has a resource id that nobody told.
    pub is_half_known: bool,
}

/// What a login is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The door.
    pub service: Service,
    /// Who.
    pub oid: Option<ObjectId>,
    /// The right that the person has; `None` while it is not known.
    pub role: Option<Role>,
    /// Whether a guest of the tenant, where a source says so.
    pub guest: Option<bool>,
    /// The sign-in behind the credential; `None` where nothing is known of it.
    pub sign_in: Option<&'a SignIn>,
    /// Where the connection comes from; `None` where it is not known or no address.
    pub from: Option<IpAddr>,
    /// When the session began; `None` for one that is to begin. A session goes on by the ages that it began with.
    pub began: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleEffect {
    /// Lets in who shows what it requires; others are left to the next rule.
    Permit,
    /// Lets in who shows what it requires, and refuses everybody else whom it is about.
    StepUp,
    /// Refuses.
    Deny,
}

impl RuleEffect {
    /// The word in files and traces.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::StepUp => "step-up",
            Self::Deny => "deny",
        }
    }
}

/// Which door a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DoorKind {
    /// A login, and the session for as long as it lives.
    Login,
    /// `sudo`.
    Sudo,
}

/// Whom a rule is about. `None` is no condition; all that are given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Who {
    /// The right on this node: this one and no other.
    pub role: Option<Role>,
    /// A member of one of these groups.
    pub groups: Option<Vec<Guid>>,
    /// One of these people.
    pub users: Option<Vec<ObjectId>>,
    /// Guests of the tenant, or only those who are none.
    pub guests: Option<bool>,
}

/// Which nodes a rule is about. `None` is no condition; both must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Where {
    /// The node has all of these labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// One of the node's resource ids fits one of these.
    pub resources: Option<Vec<ResourcePattern>>,
}

/// What the sign-in must show. `None` and nothing listed is no condition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Require {
    /// Ways of signing in, all of them.
    pub amr: Vec<String>,
    /// Authentication contexts, all of them.
    pub acrs: Vec<String>,
    /// A registered device.
    pub device: bool,
    /// The longest time since the person gave credentials, in seconds.
    pub max_auth_age: Option<NonZeroU32>,
    /// The longest time since the credential was issued, in seconds.
    pub max_age: Option<NonZeroU32>,
}

impl Require {
    /// Whether only a certificate with claims can show it.
    #[must_use]
    pub const fn wants_claims(&self) -> bool {
        !self.amr.is_empty() || !self.acrs.is_empty() || self.device || self.max_auth_age.is_some()
    }
}

/// Ways through a session, beside the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forwarding {
    /// `-L`, `-R`, `-D`.
    pub port: bool,
    /// `-A`.
    pub agent: bool,
    /// `-X`.
    pub x11: bool,
}

impl Forwarding {
    /// No restriction.
    pub const ALL: Self = Self { port: true, agent: true, x11: true };

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { port: self.port && other.port, agent: self.agent && other.agent, x11: self.x11 && other.x11 }
    }
}

/// What a rule sets to a login that it permits. `None` leaves the node's own; nothing here can widen that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// The longest session, in seconds from its beginning.
    pub max_session: Option<NonZeroU32>,
    /// The ways through it.
    pub forward: Option<Forwarding>,
    /// The longest grace.
    pub grace: Option<Duration>,
}

impl Limits {
    /// The narrower of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn least<T>(a: Option<T>, b: Option<T>, narrower: fn(T, T) -> T) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(narrower(a, b)),
                (a, b) => a.or(b),
            }
        }
        Self {
            max_session: least(self.max_session, other.max_session, Ord::min),
            forward: least(self.forward, other.forward, Forwarding::and),
            grace: least(self.grace, other.grace, Ord::min),
        }
    }
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRule {
    /// Its name, which stands in refusals and records.
    pub name: Arc<str>,
    /// What it does.
    pub effect: RuleEffect,
    /// Whom it is about.
    pub who: Who,
    /// Which nodes.
    pub place: Where,
    /// At what time.
    pub when: Option<When>,
    /// From where.
    pub network: Option<Vec<Network>>,
    /// With which kinds of proof.
    pub proof: Option<Vec<ProofKind>>,
    /// At which doors.
    pub doors: Option<Vec<DoorKind>>,
    /// What it requires; nothing in a deny rule.
    pub require: Require,
    /// What it sets; nothing in a deny rule.
    pub limits: Limits,
}

/// All rules of a node, in order. Without a rule, the role alone decides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccessPolicy {
    /// The rules.
    pub rules: Vec<AccessRule>,
    /// The time zones that [`When::zone`] counts, by their names.
    pub zones: Vec<String>,
}

/// A policy with what it is read by.
#[derive(Clone, Copy, Debug)]
pub struct AccessRules<'a> {
    /// The rules.
    pub policy: &'a AccessPolicy,
    /// What the node is.
    pub node: &'a NodeFacts,
    /// Seconds east of UTC now, of each of the policy's zones; `None` where a zone is not known.
    pub offsets: &'a [Option<i32>],
}

impl AccessRules<'_> {
    /// No policy.
    #[must_use]
    pub fn none() -> AccessRules<'static> {
        static POLICY: AccessPolicy = AccessPolicy { rules: Vec::new(), zones: Vec::new() };
        static NODE: NodeFacts =
            NodeFacts { labels: BTreeMap::new(), resources: Vec::new(), is_half_known: false };
        AccessRules { policy: &POLICY, node: &NODE, offsets: &[] }
    }
}

/// What the rules say of a login.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Ruled {
    /// There are none.
    #[default]
    NoPolicy,
    /// Yes, as far as they go.
    Permits {
        /// The rule.
        rule: Arc<str>,
        /// What it sets, with what those before it set that could not be told to be about this login.
        limits: Limits,
        /// When the rule's time is over, if it has one.
        closes: Option<Timestamp>,
        /// What each rule did, in words; for administrators.
        trace: String,
    },
    /// No.
    Refuses {
        /// The rule that refuses, or the first that would have permitted with more evidence; `None` where there is none.
        rule: Option<Arc<str>>,
        /// The reason.
        reason: Reason,
        /// The evidence that would have helped.
        missing: Vec<Missing>,
        /// What each rule did, in words; for administrators.
        trace: String,
    },
}

impl Ruled {
    /// The limits that it sets.
    #[must_use]
    pub fn limits(&self) -> Limits {
        match self {
            Self::Permits { limits, .. } => *limits,
            Self::NoPolicy | Self::Refuses { .. } => Limits::default(),
        }
    }
}
