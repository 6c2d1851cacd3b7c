//! What the questions share: the facts, the clock, the books of people, and whoever is asked outside.
//!
//! Here the pure rooms meet the facts: the gate gathers, `login::admit` and `policy::decide` decide, the
//! gate acts. The questions stand in files of their own: `offer.rs` (hook), `account.rs` (PAM account),
//! `live.rs` (a session that lives), `explain.rs` and `observed.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use nightlatch_jwt::KeySet;
use nightlatch_model::{LoginName, ObjectId, Reason, TenantId, Timestamp};
use nightlatch_policy::{
    BootId, Effect, Facts, Grace, GraceRule, LoginRequest, Moment, NodeFacts, RoleAnswer, Ruled, Rules,
    Ruling, Scope, Service, UidFact, UnknownCause, decide,
};
use nightlatch_wire::session::{Pending, Row, State};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::access::InForce;
use crate::accounts::{Accounts, GraceLedger, SignIns, Withdrawn};
use crate::azure::Purpose;
use crate::clock::{Clock, Mark};
use crate::login::{
    Admission, AdmitRules, IdentityMap, Known as AdmitFacts, Limiter, LocalNames, Monitors, Offered,
    Revocations, TrustStore, Verified, admit, correlation_id,
};
use crate::sessions::Control;
use crate::telemetry::{Observations, Recorder};

use super::credential::Credential;
use super::step_up::{Prompts, SignInElsewhere};

/// The longest wait for Azure whatever LoginGraceTime is: the PAM helper ends itself at 10 s.
pub const MAX_UPSTREAM_WAIT: Duration = Duration::from_secs(9);
/// Refused offers of one login name that are recorded at once; beyond it one in a second.
const RECORDED_REFUSALS: u32 = 30;
/// Decisions for one client address at once; then [`SOURCE_PER_SECOND`].
const SOURCE_BURST: u32 = 200;
/// Decisions for one client address in a second: more than one node's sshd can ask for.
const SOURCE_PER_SECOND: f64 = 50.0;
/// Sign-ins at the prompt that one person is asked for at once; then [`PROMPTS_PER_SECOND`].
const PROMPT_BURST: u32 = 5;
/// Such sign-ins in a second: one in 20 s. Each is a question to Entra.
const PROMPTS_PER_SECOND: f64 = 0.05;

/// A login takes a kept answer for as long as its source lets it be kept.
pub(super) const MAX_AGE: Duration = Duration::MAX;
/// `sudo` and a session that is judged again ask anew: a role that was taken away ends there at once.
const MAX_AGE_ANEW: Duration = Duration::ZERO;

/// One question about a person's right.
#[derive(Clone, Copy, Debug)]
pub struct RoleAsk {
    /// The person's tenant.
    pub tenant: TenantId,
    /// The person.
    pub oid: ObjectId,
    /// How long to wait; an answer that is late is UNKNOWN.
    pub wait: Duration,
    /// How old a kept answer may be.
    pub max_age: Duration,
    /// Whether a person waits at a prompt.
    pub purpose: Purpose,
}

/// What is known about a person's right.
#[derive(Clone, Debug)]
pub struct Known {
    /// The answer.
    pub answer: RoleAnswer,
    /// How long ago it was given: a kept answer is no fresh yes.
    pub age: Duration,
}

/// Whoever answers which right a person has.
pub trait AskRoles: Send + Sync {
    /// Asks, on these terms.
    fn ask<'a>(&'a self, ask: RoleAsk) -> Pin<Box<dyn Future<Output = Known> + Send + 'a>>;

    /// Why it cannot answer as it should, as far as that is known without asking; for `status`.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// Whoever knows which object a login name belongs to, for certificates that do not say it.
pub trait FindPerson: Send + Sync {
    /// The object id; `None` when it cannot be found out.
    fn find<'a>(&'a self, name: &'a LoginName)
    -> Pin<Box<dyn Future<Output = Option<ObjectId>> + Send + 'a>>;
}

/// Whoever keeps the table of sessions.
pub trait KeepSessions: Send + Sync {
    /// Notes whose session the next one of a monitor will be; must be known before PAM gets its yes.
    fn pending<'a>(
        &'a self,
        pending: Pending,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// The live session with this audit session id; `None` where there is none or it cannot be found out.
    fn live<'a>(&'a self, audit_session: u32) -> Pin<Box<dyn Future<Output = Option<Row>> + Send + 'a>>;
}

/// What the node knows by itself; the refresher replaces parts of it.
#[derive(Debug, Default)]
pub struct LocalFacts {
    /// Keys of certificate authorities.
    pub trust: TrustStore,
    /// What was taken back.
    pub revoked: Revocations,
    /// Names in /etc/passwd.
    pub local: LocalNames,
    /// The administrator's table of people.
    pub map: IdentityMap,
    /// The keys that Entra signs tokens with.
    pub token_keys: KeySet,
    /// The access rules in force.
    pub access: Arc<InForce>,
}

/// How the gate is set up.
pub struct GateSettings {
    /// For the hook's question.
    pub admit: AdmitRules,
    /// For every decision.
    pub rules: Rules,
    /// How long an old yes may stand in while Azure is silent.
    pub grace: GraceRule,
    /// A quarter of LoginGraceTime, at most [`MAX_UPSTREAM_WAIT`].
    pub wait: Duration,
    /// sshd's LoginGraceTime: how long a session may take to open after its yes.
    pub login_grace: Duration,
    /// Where a missing role is best assigned.
    pub scope: Option<Scope>,
    /// Whether certificate-level reasons are shown by keyboard-interactive.
    pub interactive_reason: bool,
    /// Decide nothing; judge what others let in.
    pub observing: bool,
    /// What the node is, for access rules.
    pub node: NodeFacts,
}

/// The time as the gate knows it.
#[derive(Clone, Debug)]
pub struct Time {
    /// The node's clocks.
    pub clock: Clock,
    /// The latest time that somebody authenticated told.
    pub mark: Mark,
    /// This boot.
    pub boot: BootId,
}

/// The books that survive a restart.
pub struct Books {
    /// Who was let in under which uid.
    pub accounts: Accounts,
    /// Who got a fresh yes.
    pub grace: GraceLedger,
    /// Whose access was withdrawn.
    pub withdrawn: Withdrawn,
    /// What certificates said of the sign-ins behind them.
    pub sign_ins: SignIns,
}

/// Whoever is asked outside the daemon.
pub struct Outside {
    /// About roles.
    pub roles: Arc<dyn AskRoles>,
    /// About object ids, where it is allowed.
    pub people: Option<Arc<dyn FindPerson>>,
    /// About sessions.
    pub sessions: Arc<dyn KeepSessions>,
    /// For sign-ins at the prompt, where they are asked for.
    pub prompt: Option<Arc<dyn SignInElsewhere>>,
}

impl Known {
    /// There is nobody to ask about.
    pub(super) fn nobody() -> Self {
        let cause = UnknownCause::Upstream("nobody to ask about".into());
        Self { answer: RoleAnswer::Unknown(cause), age: Duration::ZERO }
    }
}

impl KeepSessions for Control {
    fn pending<'a>(
        &'a self,
        pending: Pending,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            let done = Self::pending(self, pending).await;
            done.map_err(|cause| format!("{cause}: {:?}", std::error::Error::source(&cause)))
        })
    }

    fn live<'a>(&'a self, audit_session: u32) -> Pin<Box<dyn Future<Output = Option<Row>> + Send + 'a>> {
        Box::pin(async move {
            let rows = self.list(false).await.inspect_err(|cause| warn!("{cause}")).ok()?;
            rows.into_iter().find(|row| row.audit_session == audit_session && row.state == State::Open)
        })
    }
}

pub(super) struct Limits {
    pub(super) refused: Limiter<String>,
    pub(super) source: Limiter<String>,
    pub(super) prompts: Limiter<ObjectId>,
}

/// The decider.
pub struct Gate {
    pub(super) settings: GateSettings,
    pub(super) time: Time,
    facts: RwLock<LocalFacts>,
    verified: Verified,
    pub(super) monitors: Mutex<Monitors>,
    pub(super) prompts: Mutex<Prompts>,
    pub(super) accounts: Mutex<Accounts>,
    pub(super) grace: Mutex<GraceLedger>,
    pub(super) withdrawn: Mutex<Withdrawn>,
    pub(super) sign_ins: Mutex<SignIns>,
    pub(super) limits: Mutex<Limits>,
    pub(super) outside: Outside,
    pub(super) recorder: Recorder,
    pub(super) observations: Observations,
    pub(super) background: Option<Handle>,
    pub(super) wake: super::rejudge::Wake,
    /// Somebody showed a token whose key is not known.
    pub(super) unknown_key: Notify,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not lock everybody out; the values behind are replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A gate over these facts.
    #[must_use]
    pub fn new(
        settings: GateSettings,
        time: Time,
        facts: LocalFacts,
        books: Books,
        outside: Outside,
        recorder: Recorder,
        observations: Observations,
    ) -> Self {
        let limits = Limits {
            refused: Limiter::new(RECORDED_REFUSALS, 1.0),
            source: Limiter::new(SOURCE_BURST, SOURCE_PER_SECOND),
            prompts: Limiter::new(PROMPT_BURST, PROMPTS_PER_SECOND),
        };
        Self {
            settings,
            time,
            facts: RwLock::new(facts),
            verified: Verified::default(),
            monitors: Mutex::default(),
            prompts: Mutex::default(),
            accounts: Mutex::new(books.accounts),
            grace: Mutex::new(books.grace),
            withdrawn: Mutex::new(books.withdrawn),
            sign_ins: Mutex::new(books.sign_ins),
            limits: Mutex::new(limits),
            outside,
            recorder,
            observations,
            background: None,
            wake: super::rejudge::Wake::default(),
            unknown_key: Notify::new(),
        }
    }

    /// Lets the gate ask for roles before PAM wants them, on this runtime: never on the one that
    /// answers the hook.
    #[must_use]
    pub fn in_background(mut self, runtime: Handle) -> Self {
        self.background = Some(runtime);
        self
    }

    /// The clock that the gate judges by.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.time.clock
    }

    /// The records of decisions.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Changes what the node knows by itself.
    pub fn with_facts<T>(&self, change: impl FnOnce(&mut LocalFacts) -> T) -> T {
        change(&mut self.facts.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the node knows by itself, to look at: the hook's questions look at the same time.
    pub(super) fn facts(&self) -> RwLockReadGuard<'_, LocalFacts> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The access rules in force.
    pub(super) fn access_rules(&self) -> Arc<InForce> {
        Arc::clone(&self.facts().access)
    }

    /// Now: the clock, or the mark where the clock is behind it and so suspect.
    pub(super) fn moment(&self) -> Moment {
        let since_boot = self.time.clock.boot();
        let (wall, suspect) = self.time.mark.judge_by(self.time.clock.now(), since_boot);
        Moment { wall, boot: self.time.boot, since_boot, suspect }
    }

    pub(super) fn new_correlation() -> String {
        let mut random = [0_u8; 8];
        // Without randomness the ids repeat; the decision stands all the same.
        let _ = aws_lc_rs::rand::fill(&mut random);
        correlation_id(random)
    }

    pub(super) fn admission(&self, offered: Offered<'_>, now: Timestamp) -> Admission {
        let facts = self.facts();
        facts.access.ask(&self.settings.node, now, |access| {
            let known = AdmitFacts {
                trust: &facts.trust,
                revoked: &facts.revoked,
                local: &facts.local,
                map: &facts.map,
                verified: &self.verified,
                token_keys: &facts.token_keys,
                access,
            };
            admit(offered, &self.settings.admit, known, now)
        })
    }

    /// The object id that the administrator's table gives a name.
    pub(super) fn mapped(&self, name: &LoginName) -> Option<ObjectId> {
        self.facts().map.get(name)
    }

    /// The terms of a question about a person: `sudo`, a session that lives, and everybody while the clock
    /// is suspect are asked anew.
    pub(super) fn role_ask(&self, (tenant, oid): (TenantId, ObjectId), service: Service) -> RoleAsk {
        let anew = self.moment().suspect || matches!(service, Service::Sudo | Service::Live);
        let max_age = if anew { MAX_AGE_ANEW } else { MAX_AGE };
        let purpose = if service == Service::Live { Purpose::Refresh } else { Purpose::NewLogin };
        RoleAsk { tenant, oid, wait: self.settings.wait, max_age, purpose }
    }

    /// The right of whoever stands behind a credential.
    pub(super) async fn roles_of(&self, credential: &Credential, service: Service) -> Known {
        match credential.identity {
            Some(who) => self.outside.roles.ask(self.role_ask(who, service)).await,
            None => Known::nobody(),
        }
    }

    /// Finds out who holds a certificate that does not say it, where an administrator allowed to ask.
    pub(super) async fn identify(&self, name: &LoginName, credential: &mut Credential) {
        if !credential.admitted || credential.identity.is_some() {
            return;
        }
        if let (Some(tid), Some(people)) = (credential.tenant, &self.outside.people) {
            let found = tokio::time::timeout(self.settings.wait, people.find(name)).await;
            credential.identity = found.ok().flatten().map(|oid| (tid, oid));
        }
    }

    /// Decides, and changes nothing.
    pub(super) fn rule(
        &self,
        service: Service,
        name: &LoginName,
        credential: &Credential,
        roles: RoleAnswer,
        now: Moment,
    ) -> Ruling {
        let facts = Facts {
            admitted: credential.admitted,
            tenant: credential.identity.map(|(tid, _)| tid).or(credential.tenant),
            identity: credential.identity,
            guest: credential.guest,
            credential_end: credential.ends,
            uid: self.uid_fact(name, credential),
            roles,
            grace: Grace::default(),
            last: None,
            scope: self.settings.scope.clone(),
            sign_in: credential.sign_in.clone(),
            from: credential.from,
            began: credential.began,
            told: credential.told,
            access: Ruled::default(),
        };
        let request = LoginRequest { service, name: name.clone() };
        let last = credential.identity.and_then(|(_, oid)| lock(&self.grace).last(oid).cloned());
        let access = self.access_rules();
        let (rules, grace) = (&self.settings.rules, self.settings.grace);
        access.ask(&self.settings.node, now.wall, |access| {
            decide(last.as_ref(), &request, &facts, rules, grace, access, now)
        })
    }

    fn uid_fact(&self, name: &LoginName, credential: &Credential) -> UidFact {
        let accounts = lock(&self.accounts);
        let oid = credential.identity.map(|(_, oid)| oid);
        UidFact {
            held: credential.held,
            expected: accounts.computed_uid(name),
            owner: credential.held.and_then(|uid| accounts.by_uid(uid)).map(|person| person.oid),
            bound_uid: oid.and_then(|oid| accounts.by_oid(oid)).map(|person| person.uid),
            name_owner: accounts.by_name(name).map(|person| person.oid),
        }
    }

    /// Why the access behind a credential was withdrawn after it had begun, if it was.
    pub(super) fn withdrawn(&self, credential: &Credential) -> Option<Reason> {
        let begins = credential.begins.unwrap_or(Timestamp(i64::MIN));
        credential.identity.and_then(|(_, oid)| lock(&self.withdrawn).covers(oid, begins))
    }

    /// Makes durable what a decision changes for the grace of later ones; before its answer leaves. `age` is
    /// how old the answer about the right was.
    pub(super) fn settle_grace(&self, oid: ObjectId, effect: Effect, age: Duration) {
        let mut ledger = lock(&self.grace);
        let done = match effect {
            Effect::Nothing => Ok(()),
            Effect::Remember(mut yes) => ledger
                .remember({
                    yes.at.since_boot = yes.at.since_boot.saturating_sub(age);
                    yes.at.wall = yes.at.wall.plus(-i64::try_from(age.as_secs()).unwrap_or(0));
                    yes
                })
                .inspect_err(|cause| {
                    // Forgetting it takes grace away and gives nobody any.
                    warn!("a yes is not kept for times when Azure is silent: {cause}");
                }),
            Effect::Erase => ledger.erase(oid).map(drop),
        };
        if let Err(cause) = done {
            error!(
                "what is kept for times when Azure is silent cannot be written: {cause}: {:?}",
                std::error::Error::source(&cause)
            );
        }
    }
}
