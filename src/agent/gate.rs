//! The two questions: may this certificate be offered (hook), may this person enter (account)?
//!
//! Here the pure rooms meet the facts: the gate gathers, `login::admit` and `policy::judge`
//! decide, the gate acts. A yes leaves only after the account is bound and unlocked on disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Reason, TenantId, Timestamp};
use nightlatch_policy::{
    Facts, Judgement, LoginRequest, RoleAnswer, Rules, Scope, Service, UidFact, UnknownCause, Verdict, judge,
};
use nightlatch_wire::{Account, Auth, Message, NO_LOGINUID};
use tokio::runtime::Handle;
use tracing::error;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::login::{
    Admission, AdmitRules, IdentityMap, Known, Limiter, LocalNames, Monitors, Offered, Revocations,
    TrustStore, Verified, admit, clean, correlation_id,
};
use crate::telemetry::{Record, Recorder};

use super::case::{Case, Decided};
use super::credential::Credential;

/// The longest wait for Azure whatever LoginGraceTime is: the PAM helper ends itself at 10 s.
pub const MAX_UPSTREAM_WAIT: Duration = Duration::from_secs(9);
/// Refused offers of one login name that are recorded at once; beyond it one in a second.
const RECORDED_REFUSALS: u32 = 30;
/// Decisions for one client address at once; then [`SOURCE_PER_SECOND`].
const SOURCE_BURST: u32 = 200;
/// Decisions for one client address in a second: more than one node's sshd can ask for.
const SOURCE_PER_SECOND: f64 = 50.0;

/// A login takes a kept answer for as long as its source lets it be kept.
pub(super) const MAX_AGE: Duration = Duration::MAX;
/// `sudo` asks anew: a role that was taken away ends there at once.
const MAX_AGE_SUDO: Duration = Duration::ZERO;

const fn max_age(service: Service) -> Duration {
    match service {
        Service::Sudo => MAX_AGE_SUDO,
        Service::Ssh | Service::Other => MAX_AGE,
    }
}

/// Whoever answers which right a person has.
pub trait AskRoles: Send + Sync {
    /// Asks within `wait`; an answer that is late is UNKNOWN. A kept answer may be `max_age` old.
    fn ask<'a>(
        &'a self,
        tenant: TenantId,
        oid: ObjectId,
        wait: Duration,
        max_age: Duration,
    ) -> Pin<Box<dyn Future<Output = RoleAnswer> + Send + 'a>>;
}

/// Whoever knows which object a login name belongs to, for certificates that do not say it.
pub trait FindPerson: Send + Sync {
    /// The object id; `None` when it cannot be found out.
    fn find<'a>(&'a self, name: &'a LoginName)
    -> Pin<Box<dyn Future<Output = Option<ObjectId>> + Send + 'a>>;
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
}

/// How the gate is set up.
pub struct GateSettings {
    /// For the hook's question.
    pub admit: AdmitRules,
    /// For the account question.
    pub rules: Rules,
    /// A quarter of LoginGraceTime, at most [`MAX_UPSTREAM_WAIT`].
    pub wait: Duration,
    /// Where a missing role is best assigned.
    pub scope: Option<Scope>,
    /// Whether certificate-level reasons are shown by keyboard-interactive.
    pub interactive_reason: bool,
}

pub(super) struct Limits {
    pub(super) refused: Limiter<String>,
    source: Limiter<String>,
}

/// The decider.
pub struct Gate {
    pub(super) settings: GateSettings,
    pub(super) clock: Clock,
    facts: RwLock<LocalFacts>,
    verified: Verified,
    pub(super) monitors: Mutex<Monitors>,
    accounts: Mutex<Accounts>,
    pub(super) limits: Mutex<Limits>,
    pub(super) roles: Arc<dyn AskRoles>,
    people: Option<Arc<dyn FindPerson>>,
    pub(super) recorder: Recorder,
    pub(super) background: Option<Handle>,
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
        clock: Clock,
        facts: LocalFacts,
        accounts: Accounts,
        roles: Arc<dyn AskRoles>,
        people: Option<Arc<dyn FindPerson>>,
        recorder: Recorder,
    ) -> Self {
        let limits = Limits {
            refused: Limiter::new(RECORDED_REFUSALS, 1.0),
            source: Limiter::new(SOURCE_BURST, SOURCE_PER_SECOND),
        };
        Self {
            settings,
            clock,
            facts: RwLock::new(facts),
            verified: Verified::default(),
            monitors: Mutex::default(),
            accounts: Mutex::new(accounts),
            limits: Mutex::new(limits),
            roles,
            people,
            recorder,
            background: None,
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
        &self.clock
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

    pub(super) fn new_correlation() -> String {
        let mut random = [0_u8; 8];
        // Without randomness the ids repeat; the decision stands all the same.
        let _ = aws_lc_rs::rand::fill(&mut random);
        correlation_id(random)
    }

    pub(super) fn admission(&self, offered: Offered<'_>, now: Timestamp) -> Admission {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let known = Known {
            trust: &facts.trust,
            revoked: &facts.revoked,
            local: &facts.local,
            map: &facts.map,
            verified: &self.verified,
        };
        admit(offered, &self.settings.admit, known, now)
    }

    /// The account question: the decision. Records it.
    pub async fn account(&self, account: &Account) -> Message {
        let decided = self.decide(account).await;
        self.recorder.record(decided.record);
        decided.answer
    }

    async fn decide(&self, account: &Account) -> Decided {
        let boot = self.clock.boot();
        let service = Service::from_pam(&account.service);
        let found = lock(&self.monitors).find(&account.parents, boot).map(|(key, row)| (key, row.clone()));
        let (monitor, row) = found.unzip();
        let correlation = row.as_ref().map_or_else(Self::new_correlation, |row| row.correlation.clone());
        let case = Case::new(account, correlation, self.clock.now());
        let Ok(name) = LoginName::parse(&account.user) else {
            return case.refuse(Reason::NameNotAllowed, Arc::default());
        };
        if !lock(&self.limits).source.take(account.rhost.clone(), boot) {
            return case.refuse(Reason::RateLimited, Arc::default());
        }
        let mut credential = match service {
            Service::Sudo => self.sudo_credential(&name, account.loginuid),
            Service::Ssh | Service::Other => Credential::of_login(row.as_ref(), &name),
        };
        self.identify(&name, &mut credential).await;
        let roles = match credential.identity {
            Some((tid, oid)) => self.roles.ask(tid, oid, self.settings.wait, max_age(service)).await,
            None => RoleAnswer::Unknown(UnknownCause::Upstream("nobody to ask about".into())),
        };
        if let (Some(monitor), true, Service::Ssh) = (monitor, credential.admitted, service) {
            // What was judged makes room for others.
            lock(&self.monitors).settle(monitor);
        }
        let now = self.clock.now();
        let steps = credential.steps.clone();
        let judgement = self.judge(service, &name, &credential, roles, now);
        match &judgement.verdict {
            Verdict::Permit(permit) => {
                let Some((_, oid)) = credential.identity else { return case.refuse(Reason::Internal, steps) };
                let (until, admin) = (permit.until(), permit.admin());
                // For sudo the account is open already; only the group may change.
                let unlocked = lock(&self.accounts).unlock(oid, &name, admin, until);
                if let Err(cause) = unlocked {
                    error!(
                        "{} refused although permitted: {cause}: {:?}",
                        name,
                        std::error::Error::source(&cause)
                    );
                    return case.refuse(Reason::Internal, steps);
                }
                case.permit(steps, &judgement, oid, until, admin)
            }
            Verdict::Denial(denial) => {
                if let Some((_, oid)) = credential.identity {
                    self.take_back(oid, &name, denial.reason());
                }
                case.deny(steps, &judgement, credential.identity.map(|(_, oid)| oid))
            }
        }
    }

    /// Finds out who holds a certificate that does not say it, where an administrator allowed to ask.
    async fn identify(&self, name: &LoginName, credential: &mut Credential) {
        if !credential.admitted || credential.identity.is_some() {
            return;
        }
        if let (Some(tid), Some(people)) = (credential.tenant, &self.people) {
            let found = tokio::time::timeout(self.settings.wait, people.find(name)).await;
            credential.identity = found.ok().flatten().map(|oid| (tid, oid));
        }
    }

    fn judge(
        &self,
        service: Service,
        name: &LoginName,
        credential: &Credential,
        roles: RoleAnswer,
        now: Timestamp,
    ) -> Judgement {
        let uid = self.uid_fact(name, credential);
        let facts = Facts {
            admitted: credential.admitted,
            tenant: credential.identity.map(|(tid, _)| tid).or(credential.tenant),
            identity: credential.identity,
            guest: None,
            credential_end: credential.ends,
            uid,
            roles,
            scope: self.settings.scope.clone(),
        };
        judge(&LoginRequest { service, name: name.clone() }, &facts, &self.settings.rules, now)
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

    /// Who runs sudo: somebody who was let in, on the credential of that time. A person who was locked
    /// out meanwhile is judged anew, so that the reason is the real one.
    fn sudo_credential(&self, name: &LoginName, loginuid: u32) -> Credential {
        let accounts = lock(&self.accounts);
        let Some(person) = accounts.by_name(name) else { return Credential::default() };
        // The audit uid tells from whose login this process descends, when it tells anything.
        let held = if loginuid == NO_LOGINUID || !nightlatch_model::is_our_uid(loginuid) {
            person.uid
        } else {
            loginuid
        };
        Credential {
            admitted: true,
            tenant: Some(person.tid),
            identity: Some((person.tid, person.oid)),
            ends: person.unlocked_until,
            held: Some(held),
            steps: Arc::default(),
        }
    }

    /// What a definite no changes at once; what could not be found out changes nothing.
    fn take_back(&self, oid: ObjectId, name: &LoginName, reason: Reason) {
        let mut accounts = lock(&self.accounts);
        let changed = match reason {
            Reason::Renamed => accounts.rename(oid, name).map(|()| true),
            Reason::NoVmRole | Reason::DenyAssignment | Reason::PimNotActive | Reason::ConditionalRole => {
                accounts.lock(oid)
            }
            Reason::NoAdminRole => accounts.demote(oid),
            _ => Ok(false),
        };
        if let Err(cause) = changed {
            error!(
                "the account of {name} could not be locked: {cause}: {:?}",
                std::error::Error::source(&cause)
            );
        }
    }

    /// What the keyboard-interactive fallback may show: only what can be read from the
    /// certificate itself, since whoever asks has proven nothing.
    #[must_use]
    pub fn auth_text(&self, auth: &Auth) -> String {
        if !self.settings.interactive_reason {
            return String::new();
        }
        let boot = self.clock.boot();
        let monitors = lock(&self.monitors);
        let Some((_, row)) = monitors.find(&auth.parents, boot) else { return String::new() };
        match row.refused {
            Some(
                reason @ (Reason::CertExpired
                | Reason::CertNotYetValid
                | Reason::CaUnknown
                | Reason::WrongPrincipal
                | Reason::TenantMismatch),
            ) => format!("{}\n{}\nref {}", reason.text(), reason.cure(), row.correlation),
            _ => String::new(),
        }
    }

    /// Judges without doing: nothing is bound, unlocked or locked.
    pub async fn explain(&self, user: &str, certificate: Option<(&str, &str)>, service: &str) -> Record {
        let now = self.clock.now();
        let account = Account {
            user: clean(user),
            service: service.to_owned(),
            rhost: String::new(),
            tty: String::new(),
            loginuid: NO_LOGINUID,
            parents: vec![],
        };
        let case = Case::new(&account, Self::new_correlation(), now);
        let Ok(name) = LoginName::parse(user) else {
            return case.refuse(Reason::NameNotAllowed, Arc::default()).record;
        };
        let mut credential = match certificate {
            Some((key_type, key)) => {
                let admission = self.admission(Offered { user, key_type, key, key_len: key.len() }, now);
                match admission.result {
                    Err(reason) => return case.refuse(reason, admission.steps).record,
                    Ok(admitted) => {
                        let held = lock(&self.accounts).uid_for(&name);
                        Credential::of_admitted(&admitted, held, admission.steps)
                    }
                }
            }
            None => self.known_person(&name, now),
        };
        self.identify(&name, &mut credential).await;
        let roles = match credential.identity {
            Some((tid, oid)) => {
                self.roles.ask(tid, oid, self.settings.wait, max_age(Service::from_pam(service))).await
            }
            None => RoleAnswer::Unknown(UnknownCause::Upstream("nobody to ask about".into())),
        };
        let judgement = self.judge(Service::from_pam(service), &name, &credential, roles, now);
        let oid = credential.identity.map(|(_, oid)| oid);
        match &judgement.verdict {
            Verdict::Permit(permit) => match oid {
                Some(oid) => {
                    case.permit(credential.steps, &judgement, oid, permit.until(), permit.admin()).record
                }
                None => case.refuse(Reason::Internal, credential.steps).record,
            },
            Verdict::Denial(_) => {
                let mut record = case.deny(credential.steps, &judgement, oid).record;
                if certificate.is_none() && record.reason() == Some(Reason::IdentityUnknown) {
                    record.hint = "the person was never here: give their certificate with --cert FILE".into();
                }
                record
            }
        }
    }

    /// Without a certificate: who holds the name here, or in the administrator's table.
    fn known_person(&self, name: &LoginName, now: Timestamp) -> Credential {
        let accounts = lock(&self.accounts);
        let mapped = self.facts.read().unwrap_or_else(PoisonError::into_inner).map.get(name);
        let oid = accounts.by_name(name).map(|person| person.oid).or(mapped);
        Credential {
            admitted: true,
            tenant: Some(accounts.tenant()),
            identity: oid.map(|oid| (accounts.tenant(), oid)),
            // As if a fresh certificate had been shown.
            ends: Some(now.plus(3_600)),
            held: Some(accounts.uid_for(name)),
            steps: Arc::default(),
        }
    }
}
