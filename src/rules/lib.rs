//! Access rules as an administrator writes them: read from TOML, checked with line and hint, and tried on cases.
//!
//! The walk over the rules is the room `policy`'s; nothing here decides. Files are somebody else's to read.

mod cases;
mod compile;
mod file;
mod lint;
mod words;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod broken_cases_tests;
#[cfg(test)]
mod broken_tests;
#[cfg(test)]
mod cases_tests;
#[cfg(test)]
mod compile_tests;
#[cfg(test)]
mod guide_tests;
#[cfg(test)]
mod lint_tests;

use nightlatch_model::Timestamp;
use nightlatch_page::{PolicyError, Warning};
use nightlatch_policy::{AccessPolicy, NodeFacts};

pub use cases::{Case, CaseResult, MAX_CASES, cases};

/// Whoever knows time zones.
pub trait Zones {
    /// Whether there is a zone of this name.
    fn exists(&self, zone: &str) -> bool;
    /// How many seconds east of UTC it is at this time; `None` where there is none.
    fn offset(&self, zone: &str, at: Timestamp) -> Option<i32>;
}

/// The offsets of a policy's zones at this time.
#[must_use]
pub fn offsets(policy: &AccessPolicy, zones: &dyn Zones, at: Timestamp) -> Vec<Option<i32>> {
    policy.zones.iter().map(|zone| zones.offset(zone, at)).collect()
}

/// Rules that hold together.
#[derive(Debug)]
pub struct Compiled {
    /// The rules, in order.
    pub policy: AccessPolicy,
    /// What works and is likely not meant.
    pub warnings: Vec<Warning>,
    /// Each label that a rule asks for, with what is to be said where the node has none of this name.
    labels: Vec<(String, Warning)>,
}

impl Compiled {
    /// What is likely not meant on this node: a rule that asks for a label which it has not, with any value, is about no
    /// login here; misspelt, a rule that denies would refuse nobody.
    #[must_use]
    pub fn doubts_on(&self, node: &NodeFacts) -> Vec<Warning> {
        let strange = self.labels.iter().filter(|(label, _)| !node.labels.contains_key(label));
        strange.map(|(_, warning)| warning.clone()).collect()
    }
}

/// Compiles `files`, each a name and its TOML text, in the order in which their rules count.
///
/// # Errors
/// The first thing that is wrong, with file, line and what to write instead.
pub fn compile(files: &[(String, String)], zones: &dyn Zones) -> Result<Compiled, PolicyError> {
    compile::compile(files, zones)
}
