//! Answers are kept for as long as Azure lets them, and asked for once however many wait.
//!
//! A grant is kept for at most [`KEEP_GRANT`], a refusal for [`KEEP_REFUSAL`] (the person was just given
//! the role and tries again). Of the unknowns only those that say something about Azure's side stay, for
//! [`KEEP_UNKNOWN`]: whoever has more time than the last one may try again at once. Nothing is kept beyond the end of a right. The key is the whole question: tenant, object id,
//! scopes and actions.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightlatch_model::{ObjectId, TenantId, Timestamp};
use nightlatch_policy::{Refused, RoleAnswer, UnknownCause};

use super::{Ask, Found, RoleQuestion, RoleSource};
use crate::entra::flight::Flights;

/// The longest time for which a grant is kept.
pub const KEEP_GRANT: Duration = Duration::from_secs(300);
/// The longest time for which a refusal is kept.
pub const KEEP_REFUSAL: Duration = Duration::from_secs(30);
/// The time for which it is kept that Azure does not know the node, or lets it not ask.
pub const KEEP_UNKNOWN: Duration = Duration::from_secs(3);
/// How many answers are kept.
pub const MAX_KEPT: usize = 4096;
/// How long after a node was made Azure may not know it, in seconds.
pub const YOUNG_NODE: i64 = 600;

struct Kept {
    tenant: TenantId,
    oid: ObjectId,
    found: Found,
    until: Timestamp,
}

#[derive(Default)]
struct Table {
    answers: HashMap<String, Kept>,
    /// How often something was forgotten: a question from before must not answer one from after.
    forgotten: u64,
}

struct Inner {
    source: RoleSource,
    node_since: Timestamp,
    kept: Mutex<Table>,
    flights: Arc<Flights<Found>>,
}

/// The roles of people on this node. Cloning shares the cache.
#[derive(Clone)]
pub struct Roles(Arc<Inner>);

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roles").field("source", &self.0.source).finish_non_exhaustive()
    }
}

impl Roles {
    /// Roles from `source`. `node_since` is when this node first ran: Azure needs up to ten minutes to
    /// know a new one.
    #[must_use]
    pub fn new(source: RoleSource, node_since: Timestamp) -> Self {
        let kept = Mutex::new(Table::default());
        Self(Arc::new(Inner { source, node_since, kept, flights: Flights::new() }))
    }

    /// The back end behind the cache.
    #[must_use]
    pub fn source(&self) -> &RoleSource {
        &self.0.source
    }

    /// What the person may be, from the cache or from the source. The source is asked in a task of its
    /// own, so whoever goes away before there is an answer still leaves it to the next.
    pub async fn roles(&self, question: &RoleQuestion, ask: &Ask) -> Found {
        let key = key(question);
        let forgotten = match self.0.known(&key, ask) {
            Ok(found) => return found,
            Err(forgotten) => forgotten,
        };
        let (found, led) = self.fly(&key, forgotten, question, ask).await;
        if led || !matches!(found.answer, RoleAnswer::Unknown(_)) || ask.left().is_zero() {
            return found;
        }
        // Somebody with less time asked in our place and did not find out: once more on our own terms.
        match self.0.known(&key, ask) {
            Ok(found) => found,
            Err(forgotten) => self.fly(&key, forgotten, question, ask).await.0,
        }
    }

    /// Asks the source, or waits for who does; also says which of the two.
    async fn fly(&self, key: &str, forgotten: u64, question: &RoleQuestion, ask: &Ask) -> (Found, bool) {
        // A login must not wait behind a refresh that was told to stand back.
        let flight = format!("{:?} {forgotten} {key}", ask.purpose);
        let (inner, key, question, terms) = (Arc::clone(&self.0), key.to_owned(), question.clone(), *ask);
        let mut led = false;
        let answer = self.0.flights.join(&flight, || {
            led = true;
            async move {
                let found = inner.ask(&question, &terms).await;
                inner.keep(key, forgotten, &question, &found);
                found
            }
        });
        let late = |text: &str| Found::unknown(UnknownCause::Upstream(text.to_owned()), ask.now);
        let found = match tokio::time::timeout_at(ask.deadline, answer).await {
            Ok(Some(found)) => found,
            Ok(None) => late("the question ended without an answer"),
            Err(_) => late("Azure did not answer in time"),
        };
        (found, led)
    }

    /// Drops what is known about a person, so that the next question goes to the source.
    pub fn forget(&self, tenant: TenantId, oid: ObjectId) {
        let mut table = self.0.table();
        table.answers.retain(|_, kept| (kept.tenant, kept.oid) != (tenant, oid));
        table.forgotten += 1;
    }

    /// Drops everything that is known.
    pub fn forget_all(&self) {
        let mut table = self.0.table();
        table.answers.clear();
        table.forgotten += 1;
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept and still good. A clock that was set back makes everything too young to be true.
    /// Otherwise says how often something was forgotten so far.
    fn known(&self, key: &str, ask: &Ask) -> Result<Found, u64> {
        let table = self.table();
        let now = ask.now;
        let oldest = i64::try_from(ask.max_age.as_secs()).unwrap_or(i64::MAX);
        match table.answers.get(key) {
            Some(kept)
                if !ask.max_age.is_zero()
                    && kept.found.asked <= now
                    && now < kept.until
                    && now.since(kept.found.asked) <= oldest =>
            {
                Ok(kept.found.clone())
            }
            _ => Err(table.forgotten),
        }
    }

    async fn ask(&self, question: &RoleQuestion, ask: &Ask) -> Found {
        let mut found = self.source.roles(question, ask).await;
        let young = (0..YOUNG_NODE).contains(&ask.now.since(self.node_since));
        if found.answer == RoleAnswer::Unknown(UnknownCause::ScopeUnknown) && !young {
            // It will not be known by waiting any more. Still not the person's denial.
            let scopes: Vec<&str> = question.scopes.iter().map(|(_, s)| s.as_str()).collect();
            let text = format!("Azure does not know {}: check node.resource_id", scopes.join(" or "));
            found.answer = RoleAnswer::Unknown(UnknownCause::Upstream(text));
        }
        found
    }

    fn keep(&self, key: String, forgotten: u64, question: &RoleQuestion, found: &Found) {
        let life = match &found.answer {
            // The file is not kept: it is as near as the cache, and a change must show at once.
            _ if matches!(self.source, RoleSource::File(_)) => return,
            RoleAnswer::Granted(_) => found.ttl.min(KEEP_GRANT),
            RoleAnswer::NotGranted(_) => found.ttl.min(KEEP_REFUSAL),
            RoleAnswer::Unknown(UnknownCause::NodeNotPermitted | UnknownCause::ScopeUnknown) => KEEP_UNKNOWN,
            RoleAnswer::Unknown(_) => return,
        };
        let life = i64::try_from(life.as_secs()).unwrap_or(0);
        let until = boundary(&found.answer).into_iter().chain([found.asked.plus(life)]).min();
        let Some(until) = until.filter(|until| found.asked < *until) else { return };
        let mut table = self.table();
        if table.forgotten != forgotten {
            return;
        }
        if table.answers.len() >= MAX_KEPT {
            table.answers.retain(|_, kept| found.asked < kept.until);
        }
        if table.answers.len() >= MAX_KEPT {
            table.answers.clear();
        }
        let (tenant, oid) = (question.tenant, question.oid);
        table.answers.insert(key, Kept { tenant, oid, found: found.clone(), until });
    }
}

/// When the answer stops being true by itself.
fn boundary(answer: &RoleAnswer) -> Option<Timestamp> {
    match answer {
        RoleAnswer::Granted(grant) => grant.until.into_iter().chain(grant.admin_until).min(),
        RoleAnswer::NotGranted(Refused::PimNotActive { opens, .. }) => *opens,
        RoleAnswer::NotGranted(_) | RoleAnswer::Unknown(_) => None,
    }
}

/// The whole question as text. No part holds a newline: GUIDs, and scopes and actions are printed as
/// literals.
fn key(question: &RoleQuestion) -> String {
    let mut key = format!("{}\n{}", question.tenant, question.oid);
    for (kind, scope) in &question.scopes {
        // Writing to a String cannot fail.
        let _ = write!(key, "\n{kind} {:?}", scope.as_str().to_ascii_lowercase());
    }
    for (what, list) in [("user", &question.actions.user), ("admin", &question.actions.admin)] {
        for action in list {
            let _ = write!(key, "\n{what} {:?}", action.to_ascii_lowercase());
        }
    }
    key
}
