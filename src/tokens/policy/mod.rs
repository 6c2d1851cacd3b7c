//! Who may have which token: rules in files, compiled to tables, asked for every hand-out.
//!
//! The first rule that matches decides, and without one the answer is no. A rule has two halves: `who`
//! is matched against what the kernel says of the caller, `may` against the question.
//!
//! Rule 0 is built in and cannot be configured: a person's tokens go only to the uid that signed in, and
//! only on the node itself. Whoever asks for its *own* person's token gets it by default, under the
//! rule name [`PERSON_RULE`], unless a `deny` rule matches; a permit rule that names `person` can add
//! limits. Software agents (`purpose = "agent"`) are served by rules of their own and nothing else.
//!
//! What a missing selector means is always the narrow side. A permit rule that names neither a place nor
//! a pod does not serve containers; uid 0 means the node's own root; a `deny` rule reaches everywhere.

mod compile;
mod decide;
mod file;
mod trace;
mod words;

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod unknown_tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use nightlatch_page::{
    MAX_LIST, MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, MAX_RULES, PolicyError, Warning,
};
pub use trace::RuleTrace;

use crate::identity::PERSON;
use crate::{Caller, IdentityTable, Place, Purpose};

/// The name that a refusal has when no rule matched.
pub const DEFAULT_RULE: &str = "default";
/// The name of the built-in rule for a person's own tokens.
pub const PERSON_RULE: &str = "person";
/// The longest life that a token for a software agent may be served for.
pub const MAX_AGENT_LIFE: Duration = Duration::from_secs(15 * 60);
/// A served life below this is warned of: the Microsoft libraries take a token with less than five
/// minutes as ended and ask again at once.
pub const LEAST_USEFUL_LIFE: Duration = Duration::from_secs(6 * 60);

/// Names of users and groups, looked up while compiling.
pub trait NameLookup {
    /// The uid of a user.
    fn uid(&self, user: &str) -> Option<u32>;
    /// The gid of a group.
    fn gid(&self, group: &str) -> Option<u32>;
}

/// How often a rule may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// So many hand-outs …
    pub count: u32,
    /// … in this time.
    pub per: Duration,
}

/// A yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rule that allows it.
    pub rule: Arc<str>,
    /// The name of the identity whose token it is.
    pub identity: Arc<str>,
    /// The longest life that may be served.
    pub max_life: Option<Duration>,
    /// How often.
    pub rate: Option<Rate>,
    /// What for.
    pub purpose: Purpose,
}

impl Grant {
    /// The uid whose person's token this is, the `owner` of the cache key: always the caller's own.
    #[must_use]
    pub fn owner(&self, caller: &Caller) -> Option<u32> {
        (*self.identity == *PERSON).then_some(caller.uid)
    }
}

/// A no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The rule that denies it, or [`DEFAULT_RULE`], or [`PERSON_RULE`].
    pub rule: Arc<str>,
    /// The stable word: `not_allowed`, `caller_unknown`, or what was not granted, such as
    /// `resource_not_allowed`.
    pub word: &'static str,
    /// One sentence for the person, printable, lower case.
    pub sentence: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, with limits.
    Permit(Grant),
    /// No.
    Deny(Denied),
}

/// Whom a rule is about. `None` is no condition; all that are given must hold.
#[derive(Debug)]
struct Who {
    uids: Option<Box<[u32]>>,
    gids: Option<Box<[u32]>>,
    units: Option<Box<[u32]>>,
    slices: Option<Box<[u32]>>,
    pods: Option<Box<[Box<str>]>>,
    place: Option<Place>,
}

/// What a rule is about.
#[derive(Debug)]
struct May {
    /// `None` in deny rules only: any.
    identities: Option<Box<[Arc<str>]>>,
    /// `None` in deny rules only: any.
    resources: Option<Box<[u32]>>,
    /// The patterns behind `resources`, to show them.
    patterns: Box<[Box<str>]>,
    scopes: Option<Box<[Box<str>]>>,
    cae: Option<bool>,
    pop: Option<bool>,
    /// `None` in deny rules only: any.
    purpose: Option<Purpose>,
    max_life: Option<Duration>,
    rate: Option<Rate>,
}

#[derive(Debug)]
struct Rule {
    name: Arc<str>,
    permit: bool,
    who: Who,
    may: May,
}

/// Numbers for the texts in rules, so that a question is compared with a rule by number.
#[derive(Debug, Default)]
struct Index {
    /// Canonical resources of permit rules.
    exact: HashMap<Box<str>, u32>,
    /// Resources of deny rules, in lower case: no other spelling gets past a deny.
    folded: HashMap<Box<str>, u32>,
    /// What follows the `*.` of `https://*.suffix`.
    suffix: HashMap<Box<str>, u32>,
    /// Units, and templates as `name@.service`.
    units: HashMap<Box<str>, u32>,
    /// Slices, without `.slice`.
    slices: HashMap<Box<str>, u32>,
}

/// The number of the pattern `*`.
const ANY: u32 = 0;

/// The compiled rules.
#[derive(Debug)]
pub struct Policy {
    rules: Box<[Rule]>,
    index: Index,
    warnings: Vec<Warning>,
    default: Arc<str>,
    person: Arc<str>,
    person_identity: Arc<str>,
}

impl Policy {
    /// Compiles `files`, each a name and its TOML text, in the order in which their rules count.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and what to write instead.
    pub fn compile(
        files: &[(String, String)],
        names: &dyn NameLookup,
        identities: &IdentityTable,
    ) -> Result<Self, PolicyError> {
        compile::compile(files, names, identities)
    }

    /// What works and is likely not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no rules: everything but a person's own tokens is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}
