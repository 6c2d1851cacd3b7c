//! What a person may be on this node, asked of Azure or of a file.
//!
//! Four back ends stand behind [`RoleSource`]; [`Roles`] puts a cache and single flight in front. Each
//! gives one of three answers, and a fault (no answer, garbage, throttling, a refusal of the node's own
//! call) is always [`RoleAnswer::Unknown`], never a yes and never the person's denial. What an answer
//! means is decided in `nightlatch_policy`; this room only asks.

mod budget;
mod cache;
mod call;
mod checkaccess;
pub mod decision_json;
mod file;
mod listing;
pub mod listing_json;
mod pdp;
#[cfg(test)]
mod tests;

pub use budget::{
    Budget, LOCAL_BURST, LOCAL_PER_SECOND, MAX_BLOCK, Purpose, SHARED_CAPACITY, SHARED_LIFE, Turn,
};
pub use cache::{KEEP_GRANT, KEEP_REFUSAL, KEEP_UNKNOWN, MAX_KEPT, Roles, YOUNG_NODE};
pub use call::Caller;
pub use checkaccess::CheckAccess;
pub use file::{MAX_ROLES_ENTRIES, MAX_ROLES_FILE_BYTES, RolesFile, RolesFileError};
pub use listing::Listing;
pub use pdp::Pdp;

use std::time::Duration;

use nightlatch_model::{ObjectId, TenantId, Timestamp};
use nightlatch_policy::{ActionSet, RoleAnswer, Scope, ScopeKind, UnknownCause, combine};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// For how long an answer that states no time to live may be kept.
pub const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// Who, where, what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleQuestion {
    /// The person's tenant.
    pub tenant: TenantId,
    /// The person or service principal.
    pub oid: ObjectId,
    /// The node's own scope and, where configured, the cluster's.
    pub scopes: Vec<(ScopeKind, Scope)>,
    /// The data actions that count.
    pub actions: ActionSet,
}

/// Under what terms a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// What the answer is for: half of the budget is kept for new logins.
    pub purpose: Purpose,
    /// The time of the question.
    pub now: Timestamp,
    /// Until when there must be an answer.
    pub deadline: Instant,
    /// How old a kept answer may be, beside its own time to live.
    pub max_age: Duration,
    made: Instant,
    /// Whether it may stand in line while Azure throttles.
    patient: bool,
}

impl Ask {
    /// A question at `now` that waits at most `limit` from this moment on.
    #[must_use]
    pub fn new(purpose: Purpose, now: Timestamp, limit: Duration) -> Self {
        let made = Instant::now();
        Self { purpose, now, deadline: made + limit, max_age: Duration::MAX, made, patient: true }
    }

    /// The same question, answered "throttled" at once where it would have to stand in line.
    const fn impatient(self) -> Self {
        Self { patient: false, ..self }
    }

    /// The same question, content only with an answer that is at most `max_age` old; zero always asks.
    #[must_use]
    pub const fn no_older_than(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// The time it is by now, for a question that had to wait.
    fn time(&self) -> Timestamp {
        self.now.plus(i64::try_from(self.made.elapsed().as_secs()).unwrap_or(0))
    }

    /// The time that is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// An answer and how old it may get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The answer.
    pub answer: RoleAnswer,
    /// When it was asked for.
    pub asked: Timestamp,
    /// For how long the source lets it be kept.
    pub ttl: Duration,
}

impl Found {
    fn unknown(cause: UnknownCause, asked: Timestamp) -> Self {
        Self { answer: RoleAnswer::Unknown(cause), asked, ttl: Duration::ZERO }
    }
}

/// Where roles come from (`login.roles_from`).
#[derive(Clone, Debug)]
pub enum RoleSource {
    /// `pdp`: CheckAccess v2 at the regional policy decision point.
    Pdp(Pdp),
    /// `checkaccess`: CheckAccess v1 at Azure Resource Manager.
    CheckAccess(CheckAccess),
    /// `list`: role and deny assignments are listed and evaluated here.
    Listing(Listing),
    /// `file`: a roles file, for machines that cannot ask.
    File(RolesFile),
}

impl RoleSource {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pdp(_) => "pdp",
            Self::CheckAccess(_) => "checkaccess",
            Self::Listing(_) => "list",
            Self::File(_) => "file",
        }
    }

    /// Asks about every scope at once and puts the answers together.
    pub async fn roles(&self, question: &RoleQuestion, ask: &Ask) -> Found {
        if let Self::File(file) = self {
            return file.roles(question, ask.now);
        }
        let mut asked = JoinSet::new();
        for (kind, scope) in question.scopes.clone() {
            let (source, oid, actions, ask) = (self.clone(), question.oid, question.actions.clone(), *ask);
            asked.spawn(async move { (kind, source.at_scope(oid, &scope, &actions, &ask).await) });
        }
        let mut answers = Vec::new();
        let mut ttl = Duration::MAX;
        while let Some(done) = asked.join_next().await {
            let (kind, (answer, keep)) = match done {
                Ok(answered) => answered,
                // It panicked; which scope it was does not change what "unknown" means.
                Err(_) => (ScopeKind::Node, unknown("the question ended without an answer")),
            };
            ttl = ttl.min(keep);
            answers.push((kind, answer));
        }
        Found {
            answer: combine(&answers),
            asked: ask.now,
            ttl: if answers.is_empty() { Duration::ZERO } else { ttl },
        }
    }

    async fn at_scope(&self, oid: ObjectId, scope: &Scope, actions: &ActionSet, ask: &Ask) -> Answered {
        match self {
            Self::Pdp(pdp) => pdp.at_scope(oid, scope, actions, ask).await,
            Self::CheckAccess(arm) => arm.at_scope(oid, scope, actions, ask).await,
            Self::Listing(arm) => arm.at_scope(oid, scope, actions, ask).await,
            Self::File(_) => unknown("the roles file is not asked scope by scope"),
        }
    }
}

/// An answer about one scope and for how long it may be kept.
type Answered = (RoleAnswer, Duration);

fn unknown(text: impl Into<String>) -> Answered {
    because(UnknownCause::Upstream(text.into()))
}

const fn because(cause: UnknownCause) -> Answered {
    (RoleAnswer::Unknown(cause), Duration::ZERO)
}
