//! Listing: role and deny assignments are fetched from ARM and evaluated here.
//!
//! Costs at least four reads for each question, so it is for `explain` and for single machines; it needs
//! the right to read authorization objects and nothing else. `assignedTo` follows groups of groups, yet
//! three things stay invisible: conditions cannot be evaluated (such a role never grants), a deny
//! assignment may spare the person through a group that is not shown (then the answer is unknown), and
//! what a management group holds is taken from what ARM lists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nightlatch_model::{Guid, ObjectId, Timestamp};
use nightlatch_policy::{
    ActionSet, RbacFacts, Refused, RoleAnswer, RoleAssignment, RoleDefinition, Scope, UnknownCause, evaluate,
};
use serde::de::DeserializeOwned;

use super::call::{garbage, upstream};
use super::checkaccess::refused;
use super::listing_json::{
    self as json, Assignment, Definition, Deny, Item, KnownDeny, Page, Schedule, Window, trailing_guid,
};
use super::{Answered, Ask, Caller, DEFAULT_TTL, because};
use crate::entra::http::{Reply, Request, same_origin, with_query};

/// The version of role and deny assignments and of role definitions.
const VERSION: &str = "2022-04-01";
/// The version of schedule instances.
const SCHEDULE_VERSION: &str = "2020-10-01";
/// How many pages of one list are read.
const MAX_PAGES: usize = 20;
/// How many roles one person may have here.
const MAX_DEFINITIONS: usize = 100;
/// How many definitions are kept.
const MAX_KEPT_DEFINITIONS: usize = 512;
/// How long a definition is kept, in seconds.
const KEEP_DEFINITION: i64 = 300;

/// A definition and since when it is known.
type Kept = HashMap<Guid, (RoleDefinition, Timestamp)>;

/// Why there is no list.
enum Stop {
    Status(Box<Reply>),
    Cause(UnknownCause),
}

impl From<UnknownCause> for Stop {
    fn from(cause: UnknownCause) -> Self {
        Self::Cause(cause)
    }
}

impl From<Stop> for UnknownCause {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Status(reply) => refused(&reply),
            Stop::Cause(cause) => cause,
        }
    }
}

/// Azure Resource Manager's lists.
#[derive(Clone, Debug)]
pub struct Listing {
    caller: Caller,
    arm: String,
    definitions: Arc<Mutex<Kept>>,
}

impl Listing {
    /// The lists at `arm`, as in [`crate::entra::clouds::Endpoints::arm`]. `caller` carries tokens for
    /// [`crate::entra::clouds::Endpoints::arm_audience`].
    #[must_use]
    pub fn new(caller: Caller, arm: &str) -> Self {
        Self { caller, arm: arm.trim_end_matches('/').to_owned(), definitions: Arc::default() }
    }

    pub(super) async fn at_scope(
        &self,
        oid: ObjectId,
        scope: &Scope,
        actions: &ActionSet,
        ask: &Ask,
    ) -> Answered {
        match self.evaluated(oid, scope, actions, ask).await {
            Ok(answer) => (answer, DEFAULT_TTL),
            Err(cause) => because(cause),
        }
    }

    async fn evaluated(
        &self,
        oid: ObjectId,
        scope: &Scope,
        actions: &ActionSet,
        ask: &Ask,
    ) -> Result<RoleAnswer, UnknownCause> {
        let listed: Vec<Item<Assignment>> = self.list(scope, "roleAssignments", VERSION, oid, ask).await?;
        let mut assignments = read_all(listed, json::assignment)?;
        // The list was filtered for the person, so every principal in it is the person or a group of theirs.
        let mut known: Vec<ObjectId> = assignments.iter().map(|a| a.principal).collect();
        known.push(oid);
        known.sort_unstable();
        known.dedup();
        let denies: Vec<Item<Deny>> = self.list(scope, "denyAssignments", VERSION, oid, ask).await?;
        let denies = read_all(denies, |item| json::deny(item, &known))?;
        if !assignments.is_empty() {
            close_windows(&mut assignments, &self.windows(scope, oid, ask).await?);
        }
        let definitions = self.definitions_of(&assignments, ask).await?;
        let facts = |denies: Vec<_>| RbacFacts {
            definitions: definitions.clone(),
            assignments: assignments.clone(),
            denies,
        };
        let strict = facts(denies.iter().map(|d| d.deny.clone()).collect());
        let answer = evaluate(&strict, &known, scope, actions, ask.now);
        let RoleAnswer::NotGranted(Refused::DenyAssignment { id }) = &answer else { return Ok(answer) };
        // A deny that may spare the person is no definite no, unless they would be refused without it too.
        let certain = |d: &&KnownDeny| !d.may_spare;
        let lenient = facts(denies.iter().filter(certain).map(|d| d.deny.clone()).collect());
        match evaluate(&lenient, &known, scope, actions, ask.now) {
            RoleAnswer::Granted(_) => Err(upstream(format!(
                "deny assignment {id} spares groups that cannot be seen here: use roles_from = \"pdp\""
            ))),
            other => Ok(other),
        }
    }

    async fn list<T: DeserializeOwned>(
        &self,
        scope: &Scope,
        kind: &str,
        version: &str,
        oid: ObjectId,
        ask: &Ask,
    ) -> Result<Vec<T>, Stop> {
        let at = scope.as_str().trim_end_matches('/');
        let filter = format!("assignedTo('{oid}')");
        let mut url = with_query(
            &format!("{}{at}/providers/Microsoft.Authorization/{kind}", self.arm),
            &[("api-version", version), ("$filter", &filter)],
        );
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let reply = self.caller.send(ask, || Request::get(url.clone())).await?;
            if !reply.is_success() {
                return Err(Stop::Status(Box::new(reply)));
            }
            let page: Page<T> = reply.json().map_err(|e| garbage(&e))?;
            all.extend(page.value);
            let Some(next) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(all) };
            if !same_origin(&self.arm, &next) {
                return Err(upstream("a list continues at another host, which is not followed").into());
            }
            url = next;
        }
        Err(upstream(format!("the list of {kind} has too many pages")).into())
    }

    /// The windows of Privileged Identity Management. They only ever shorten a right, and a tenant without
    /// the licence (400), or a node without the right to see them (403, 404), has none to show.
    async fn windows(&self, scope: &Scope, oid: ObjectId, ask: &Ask) -> Result<Vec<Window>, UnknownCause> {
        let kind = "roleAssignmentScheduleInstances";
        match self.list::<Item<Schedule>>(scope, kind, SCHEDULE_VERSION, oid, ask).await {
            Ok(listed) => Ok(read_all(listed, json::window)?.into_iter().flatten().collect()),
            Err(Stop::Status(reply)) if matches!(reply.status(), 400 | 403 | 404) => Ok(Vec::new()),
            Err(stop) => Err(stop.into()),
        }
    }

    async fn definitions_of(
        &self,
        assignments: &[RoleAssignment],
        ask: &Ask,
    ) -> Result<Vec<RoleDefinition>, UnknownCause> {
        let mut found: HashMap<Guid, RoleDefinition> = HashMap::new();
        for assignment in assignments {
            let Some(id) = trailing_guid(&assignment.definition) else { continue };
            if found.contains_key(&id) {
                continue;
            }
            if found.len() >= MAX_DEFINITIONS {
                return Err(upstream("the person has more roles here than are read"));
            }
            if let Some(definition) = self.definition(id, &assignment.definition, ask).await? {
                found.insert(id, definition);
            }
        }
        Ok(found.into_values().collect())
    }

    /// One definition; `None` when it is gone, which the evaluation turns into an unknown if it matters.
    async fn definition(
        &self,
        id: Guid,
        path: &str,
        ask: &Ask,
    ) -> Result<Option<RoleDefinition>, UnknownCause> {
        let kept = || self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let young = |since: Timestamp| (0..KEEP_DEFINITION).contains(&ask.now.since(since));
        if let Some((definition, _)) = kept().get(&id).filter(|(_, since)| young(*since)) {
            return Ok(Some(definition.clone()));
        }
        // The path came with an answer; only the shape of an ARM id may go into an address.
        let Ok(path) = Scope::parse(path) else { return Ok(None) };
        let url = with_query(&format!("{}{path}", self.arm), &[("api-version", VERSION)]);
        let reply = self.caller.send(ask, || Request::get(url.clone())).await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        if !reply.is_success() {
            return Err(refused(&reply));
        }
        let item: Item<Definition> = reply.json().map_err(|e| garbage(&e))?;
        let definition = json::definition(item);
        if trailing_guid(&definition.id) != Some(id) {
            return Err(upstream("Azure answered with another role definition than was asked for"));
        }
        let mut table = kept();
        if table.len() >= MAX_KEPT_DEFINITIONS {
            table.clear();
        }
        table.insert(id, (definition.clone(), ask.now));
        Ok(Some(definition))
    }
}

fn read_all<T, U>(items: Vec<T>, read: impl Fn(T) -> Result<U, String>) -> Result<Vec<U>, UnknownCause> {
    items.into_iter().map(read).collect::<Result<_, _>>().map_err(upstream)
}

/// Gives each assignment the narrowest window that names it.
fn close_windows(assignments: &mut [RoleAssignment], windows: &[Window]) {
    for assignment in assignments {
        let ours = |w: &&Window| w.assignment.eq_ignore_ascii_case(&assignment.id);
        let (mut starts, mut ends) = (None, None);
        for window in windows.iter().filter(ours) {
            starts = starts.max(window.starts);
            ends = [ends, window.ends].into_iter().flatten().min();
        }
        (assignment.starts, assignment.ends) = (starts, ends);
    }
}
