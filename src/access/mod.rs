//! The access rules of this node: where they lie, and what they would have said about logins of the past.
//!
//! How rules are written stands in the room `rules`, how they decide in `policy`. Nothing here grants anything: a policy
//! that cannot be read as a whole is not used in part.

mod replay;
mod zones;

use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use nightlatch_model::Timestamp;
use nightlatch_page::{MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, Warning};
use nightlatch_policy::{AccessPolicy, AccessRules, NodeFacts};
use nightlatch_rules::{Compiled, compile};

use crate::store::Folder;

pub use replay::{Difference, Past, Replayed, Trial, replay};
pub use zones::NodeZones;
use zones::Zone;

/// Rules in force, with their time zones at hand: asking them reads no file.
#[derive(Debug, Default)]
pub struct InForce {
    policy: AccessPolicy,
    zones: Vec<Option<Zone>>,
}

impl InForce {
    /// The authentication contexts that a rule requires, all of them.
    #[must_use]
    pub fn contexts_of(&self, rule: &str) -> &[String] {
        let found = self.policy.rules.iter().find(|one| *one.name == *rule);
        found.map_or(&[], |one| one.require.acrs.as_slice())
    }

    /// Looks the time zones up.
    #[must_use]
    pub fn new(policy: AccessPolicy) -> Self {
        let zones = policy.zones.iter().map(|zone| Zone::find(zone)).collect();
        Self { policy, zones }
    }

    /// Whether these are the same rules.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.policy == other.policy
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.policy.rules.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.policy.rules.len()
    }

    /// Whether some rule wants what only a certificate with claims shows.
    #[must_use]
    pub fn wants_claims(&self) -> bool {
        self.policy.rules.iter().any(|rule| rule.require.wants_claims() || rule.who.groups.is_some())
    }

    /// Asks them, on this node at this time.
    pub fn ask<T>(&self, node: &NodeFacts, now: Timestamp, question: impl FnOnce(AccessRules<'_>) -> T) -> T {
        let offset = |zone: &Option<Zone>| zone.as_ref().and_then(|zone| zone.offset(now));
        let offsets: Vec<Option<i32>> = self.zones.iter().map(offset).collect();
        question(AccessRules { policy: &self.policy, node, offsets: &offsets })
    }
}

/// Rules that were read.
#[derive(Debug)]
pub struct Loaded {
    /// What they are.
    pub rules: Compiled,
    /// By which they are told apart.
    pub digest: String,
}

/// Where the rules lie when nothing is configured.
pub const POLICY_DIR: &str = "/etc/nightlatch/policy.d";
/// The end of the names of files with cases.
const CASES: &str = ".test.toml";

/// The files of rules in a folder.
#[must_use]
pub fn rule_files(folder: &Path) -> Folder {
    Folder { except: Some(CASES), ..toml_files(folder) }
}

/// The files of cases in a folder.
#[must_use]
pub fn case_files(folder: &Path) -> Folder {
    Folder { suffix: CASES, ..toml_files(folder) }
}

/// The files of TOML in a folder, with the limits of files of rules of any kind.
#[must_use]
pub fn toml_files(folder: &Path) -> Folder {
    Folder {
        path: folder.to_owned(),
        suffix: ".toml",
        except: None,
        most: MAX_POLICY_FILES,
        largest: MAX_POLICY_FILE_BYTES as u64,
    }
}

/// Whether a file holds cases, by its name.
#[must_use]
pub fn holds_cases(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(CASES))
}

/// The rules of a folder that only root may write. A folder that somebody configured must be there, and so must one that
/// held rules before (`had_rules`): whoever wants none leaves it empty.
///
/// # Errors
/// In words, with file, line and what to write instead.
pub fn load(folder: &Path, had_rules: bool) -> Result<Loaded, String> {
    let files = rule_files(folder);
    files.not_gone(had_rules)?;
    if folder != Path::new(POLICY_DIR) && !folder.is_dir() {
        return Err(format!(
            "{}: there is no such folder that nightlatchd can see; make it, or correct `login.policy_dir`",
            folder.display()
        ));
    }
    let texts = files.trusted_texts()?;
    let digest = digest(&texts);
    compile(&texts, &NodeZones).map(|rules| Loaded { rules, digest }).map_err(|cause| cause.to_string())
}

/// Eight digits by which an operator can tell whether two nodes have the same rules: of the names and texts of their files.
#[must_use]
pub fn digest(texts: &[(String, String)]) -> String {
    let mut whole = Context::new(&SHA256);
    for part in texts.iter().flat_map(|(name, text)| [name, text]) {
        whole.update(&(part.len() as u64).to_be_bytes());
        whole.update(part.as_bytes());
    }
    whole.finish().as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl Loaded {
    /// What works and is likely not meant, on this node.
    #[must_use]
    pub fn doubts(&self, node: &NodeFacts) -> Vec<Warning> {
        [self.rules.warnings.clone(), self.rules.doubts_on(node)].concat()
    }

    /// One line about them.
    #[must_use]
    pub fn summary(&self, folder: &Path) -> String {
        let (folder, digest) = (folder.display(), &self.digest);
        match self.rules.policy.rules.len() {
            0 => format!("none in {folder}: the role alone decides"),
            1 => format!("1 rule from {folder}, digest {digest}"),
            many => format!("{many} rules from {folder}, digest {digest}"),
        }
    }
}
