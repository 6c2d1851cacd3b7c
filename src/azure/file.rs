//! The roles file: rights for machines that cannot ask Azure, and for the first try.
//!
//! ```toml
//! [[assignment]]
//! principal = "5f0c…"            # the object id of the person; groups are not known here
//! role = "admin"                 # "user" or "admin", or instead: actions = ["Microsoft.Compute/…"]
//! scope = "node"                 # "node" (the default), "cluster" or an ARM id
//! ends = "2026-12-31T00:00:00Z"  # starts and ends are optional
//!
//! [[deny]]
//! principal = "everyone"         # or an object id
//! except = ["5f0c…"]
//! ```
//!
//! It is read again when it changes. A file that cannot be read leaves the last good one in force and is
//! reported; before there was a good one the answer is unknown. So does one without any assignment, as a full disk leaves
//! it: everybody would be thrown out. Where nobody is to have a right it says `assignment = []`. Evaluation is that of Azure's own
//! assignments, with the built-in login roles.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightlatch_model::{Guid, ObjectId, Role, Timestamp};
use nightlatch_policy::{
    DenyAssignment, DenyPrincipals, Permissions, RbacFacts, RoleAnswer, RoleAssignment, RoleDefinition,
    Scope, ScopeKind, UnknownCause, builtin_definitions, combine, evaluate,
};
use serde::Deserialize;
use thiserror::Error;

use super::{Found, RoleQuestion};

/// The largest roles file, in bytes.
pub const MAX_ROLES_FILE_BYTES: u64 = 1024 * 1024;
/// The most entries of one kind.
pub const MAX_ROLES_ENTRIES: usize = 10_000;

/// `Virtual Machine User Login` and `Virtual Machine Administrator Login`.
const USER_LOGIN: &str = "fb879df8-f326-4884-b1cf-06f3ad86be52";
const ADMIN_LOGIN: &str = "1c0163c0-47e6-4577-8991-ea5c82e286e4";

/// Why a roles file is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RolesFileError {
    /// It cannot be read.
    #[error("{path} cannot be read: {detail}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// Somebody else could write it.
    #[error("{0} must be a regular file of root that group and others cannot write: chown root, chmod 644")]
    Writable(String),
    /// It is too large.
    #[error("{0} is larger than {MAX_ROLES_FILE_BYTES} bytes or has more than {MAX_ROLES_ENTRIES} entries")]
    TooLarge(String),
    /// It does not say what it should.
    #[error("{path} cannot be understood: {detail}")]
    NotUnderstood {
        /// The file.
        path: String,
        /// Which entry, and what to write instead.
        detail: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    assignment: Option<Vec<RawAssignment>>,
    #[serde(default)]
    deny: Vec<RawDeny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAssignment {
    principal: ObjectId,
    role: Option<Role>,
    actions: Option<Vec<String>>,
    #[serde(default)]
    scope: Place,
    starts: Option<Time>,
    ends: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDeny {
    principal: Whom,
    #[serde(default)]
    except: Vec<ObjectId>,
    actions: Option<Vec<String>>,
    #[serde(default)]
    scope: Place,
}

#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
enum Place {
    Kind(ScopeKind),
    At(Scope),
}

impl Default for Place {
    fn default() -> Self {
        Self::Kind(ScopeKind::Node)
    }
}

impl TryFrom<String> for Place {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "node" => Ok(Self::Kind(ScopeKind::Node)),
            "cluster" => Ok(Self::Kind(ScopeKind::Cluster)),
            id => Scope::parse(id).map(Self::At).map_err(|e| format!("scope {id:?}: {e}")),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
enum Whom {
    Everyone,
    One(ObjectId),
}

impl TryFrom<String> for Whom {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "everyone" {
            return Ok(Self::Everyone);
        }
        text.parse().map(Self::One).map_err(|_| format!("principal {text:?}: an object id or \"everyone\""))
    }
}

/// RFC 3339, in quotes or as TOML's own date.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Toml(toml::value::Datetime),
}

impl Time {
    fn read(&self) -> Result<Timestamp, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Toml(date) => date.to_string(),
        };
        Timestamp::from_rfc3339(&text)
            .ok_or_else(|| format!("time {text:?}: write it as 2026-12-31T00:00:00Z"))
    }
}

/// What the file says, with `node` and `cluster` still unresolved.
struct Rules {
    definitions: Vec<RoleDefinition>,
    assignments: Vec<(Place, RoleAssignment)>,
    denies: Vec<(Place, DenyAssignment)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

#[derive(Default)]
struct State {
    rules: Option<Arc<Rules>>,
    stamp: Option<Stamp>,
    problem: Option<RolesFileError>,
}

/// A roles file. Cloning shares what was read.
#[derive(Clone)]
pub struct RolesFile {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for RolesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RolesFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RolesFile {
    /// The file at `path`. It may be missing or bad: then every answer is unknown and [`Self::problem`]
    /// says why.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let file = Self { path: path.to_owned(), state: Arc::default() };
        file.refresh();
        file
    }

    /// Why the file on disk is not in force, if it is not.
    #[must_use]
    pub fn problem(&self) -> Option<RolesFileError> {
        self.refresh();
        self.state().problem.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the file and reads it when it is another one than last time. One `stat` of a local file,
    /// so it is not handed to another thread.
    fn refresh(&self) -> Option<Arc<Rules>> {
        let mut state = self.state();
        let stamp = stamp(&self.path);
        if stamp.is_none() || stamp != state.stamp {
            state.stamp = stamp;
            match read(&self.path) {
                Ok(rules) => {
                    state.rules = Some(Arc::new(rules));
                    state.problem = None;
                }
                Err(problem) => {
                    if state.problem.as_ref() != Some(&problem) {
                        tracing::warn!(%problem, kept = state.rules.is_some(), "the roles file is not in force");
                    }
                    state.problem = Some(problem);
                }
            }
        }
        state.rules.clone()
    }

    /// Answers from the file. On a machine without any ARM id the node is everything there is.
    pub(super) fn roles(&self, question: &RoleQuestion, now: Timestamp) -> Found {
        let Some(rules) = self.refresh() else {
            let why = self.state().problem.as_ref().map_or_else(String::new, ToString::to_string);
            return Found::unknown(UnknownCause::Upstream(why), now);
        };
        let mut scopes = question.scopes.clone();
        if scopes.is_empty() {
            scopes.extend(Scope::parse("/").ok().map(|root| (ScopeKind::Node, root)));
        }
        let answers: Vec<(ScopeKind, RoleAnswer)> = scopes
            .iter()
            .map(|(kind, scope)| {
                let facts = rules.at(*kind, scope, question.oid);
                (*kind, evaluate(&facts, &[question.oid], scope, &question.actions, now))
            })
            .collect();
        Found { answer: combine(&answers), asked: now, ttl: Duration::ZERO }
    }
}

impl Rules {
    /// The facts for a question about `scope`, which is the node's or the cluster's.
    /// The file knows no groups, so one person's lines are all that can matter: the rest is not copied.
    fn at(&self, kind: ScopeKind, scope: &Scope, oid: ObjectId) -> RbacFacts {
        let resolve = |place: &Place| match place {
            Place::At(at) => Some(at.clone()),
            Place::Kind(named) => (*named == kind).then(|| scope.clone()),
        };
        let assignments: Vec<RoleAssignment> = self
            .assignments
            .iter()
            .filter(|(_, a)| a.principal == oid)
            .filter_map(|(place, a)| Some(RoleAssignment { scope: resolve(place)?, ..a.clone() }))
            .collect();
        let used = |id: &str| assignments.iter().any(|a| a.definition == id);
        let definitions = self.definitions.iter().filter(|d| used(&d.id)).cloned().collect();
        let denies = self
            .denies
            .iter()
            .filter_map(|(place, d)| Some(DenyAssignment { scope: resolve(place)?, ..d.clone() }));
        RbacFacts { definitions, denies: denies.collect(), assignments }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    let changed = (facts.ctime(), facts.ctime_nsec());
    Some(Stamp { device: facts.dev(), inode: facts.ino(), size: facts.len(), changed })
}

fn read(path: &Path) -> Result<Rules, RolesFileError> {
    let name = path.display().to_string();
    let failed = |e: std::io::Error| RolesFileError::Read { path: name.clone(), detail: e.to_string() };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    let own = facts.uid() == 0 || facts.uid() == nix::unistd::geteuid().as_raw();
    if !facts.is_file() || !own || facts.mode() & 0o022 != 0 {
        return Err(RolesFileError::Writable(name));
    }
    let mut text = String::new();
    file.take(MAX_ROLES_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_ROLES_FILE_BYTES {
        return Err(RolesFileError::TooLarge(name));
    }
    let bad = |detail: String| RolesFileError::NotUnderstood { path: name.clone(), detail };
    let raw: Raw = toml::from_str(&text).map_err(|e| bad(e.to_string().trim_end().replace('\n', " ")))?;
    let nobody = "it holds no `[[assignment]]`: write `assignment = []` if nobody is to have a right";
    let assignments = raw.assignment.ok_or_else(|| bad(nobody.to_owned()))?;
    if assignments.len() > MAX_ROLES_ENTRIES || raw.deny.len() > MAX_ROLES_ENTRIES {
        return Err(RolesFileError::TooLarge(name));
    }
    rules(assignments, raw.deny).map_err(bad)
}

fn rules(given: Vec<RawAssignment>, denied: Vec<RawDeny>) -> Result<Rules, String> {
    let mut definitions = builtin_definitions();
    let mut assignments = Vec::new();
    for (at, entry) in given.into_iter().enumerate() {
        let number = at + 1;
        let definition = match (entry.role, entry.actions) {
            (Some(Role::User), None) => USER_LOGIN.to_owned(),
            (Some(Role::Admin), None) => ADMIN_LOGIN.to_owned(),
            (None, Some(data_actions)) if !data_actions.is_empty() => {
                let id = own_id(at);
                let permissions = vec![Permissions { data_actions, ..Permissions::default() }];
                let name = format!("assignment {number}");
                definitions.push(RoleDefinition { id: id.clone(), name, permissions });
                id
            }
            _ => return Err(format!("assignment {number}: write either role or a list of actions")),
        };
        let time = |time: Option<Time>| {
            time.map(|t| t.read()).transpose().map_err(|e| format!("assignment {number}: {e}"))
        };
        let assignment = RoleAssignment {
            id: format!("roles file, assignment {number}"),
            principal: entry.principal,
            definition,
            scope: Scope::parse("/").map_err(|e| e.to_string())?,
            condition: None,
            starts: time(entry.starts)?,
            ends: time(entry.ends)?,
        };
        assignments.push((entry.scope, assignment));
    }
    let mut denies = Vec::new();
    for (at, entry) in denied.into_iter().enumerate() {
        let data_actions = entry.actions.unwrap_or_else(|| vec!["*".to_owned()]);
        let deny = DenyAssignment {
            id: format!("roles file, deny {}", at + 1),
            principals: match entry.principal {
                Whom::Everyone => DenyPrincipals::Everyone,
                Whom::One(oid) => DenyPrincipals::Listed(vec![oid]),
            },
            exclude_principals: entry.except,
            scope: Scope::parse("/").map_err(|e| e.to_string())?,
            do_not_apply_to_child_scopes: false,
            permissions: vec![Permissions { data_actions, ..Permissions::default() }],
            condition: None,
        };
        denies.push((entry.scope, deny));
    }
    Ok(Rules { definitions, assignments, denies })
}

/// An id for the role that an entry spells out; no role of Azure has one of these.
fn own_id(at: usize) -> String {
    let mut bytes = *b"nightlat\0\0\0\0\0\0\0\0";
    for (slot, byte) in bytes.iter_mut().skip(8).zip((at as u64).to_be_bytes()) {
        *slot = byte;
    }
    Guid::from_bytes(bytes).to_string()
}
