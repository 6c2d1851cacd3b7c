//! May this person log in (or run `sudo`) on this node, and until when?
//!
//! Every rule is looked at, in one fixed order, and leaves a [`Step`]; the first that fails decides, so
//! that a refusal has exactly one reason and `explain` still shows all of them. A rule whose inputs are
//! not there is skipped; then the rule that demands those inputs has failed. UNKNOWN refuses, unless
//! grace holds: `held_role` is the one place that says so.

use nightlatch_model::{Reason, Role, Timestamp};

use crate::access::{Forwarding, Ruled};
use crate::answer::{Grant, Refused, RoleAnswer, UnknownCause, earlier};
use crate::denial::Denial;
use crate::facts::{Facts, LoginRequest, Rules, Service, UidFact};
use crate::grace::{Grace, NoGrace};

/// What a rule said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Satisfied.
    Pass,
    /// Broken.
    Fail(Reason),
    /// Does not apply, or has nothing to look at.
    Skip,
}

/// One rule's trace, for `explain`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The rule's stable name.
    pub rule: &'static str,
    /// What the rule looked at; for administrators only.
    pub input: String,
    /// What it said.
    pub outcome: Outcome,
}

/// A yes. Only [`judge`] makes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Permit {
    role: Role,
    until: Timestamp,
    admin_until: Option<Timestamp>,
    degraded: bool,
    session_end: Option<Timestamp>,
    /// When it would end if the rule's time of day had no end.
    beyond_window: Timestamp,
}

impl Permit {
    /// The right at the time of the decision.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The first second in which the permit no longer holds.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// True when the holder is an administrator now.
    #[must_use]
    pub const fn admin(&self) -> bool {
        matches!(self.role, Role::Admin)
    }

    /// When the administrator's right ends: never after [`Permit::until`]; `None` for a user.
    #[must_use]
    pub const fn admin_until(&self) -> Option<Timestamp> {
        self.admin_until
    }

    /// When the session is over by an access rule's `max_session`, which nothing puts off.
    #[must_use]
    pub const fn session_end(&self) -> Option<Timestamp> {
        self.session_end
    }

    /// When the permit would end if the time of day of its access rule had no end: another rule may go on with it.
    #[must_use]
    pub const fn beyond_window(&self) -> Timestamp {
        self.beyond_window
    }

    /// True when Azure did not answer and grace stood in: the step `grace` says how.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }
}

/// The decision.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// Yes.
    Permit(Permit),
    /// No, or cannot tell.
    Denial(Denial),
}

/// The decision and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Judgement {
    /// Every rule, in order.
    pub steps: Vec<Step>,
    /// The decision.
    pub verdict: Verdict,
}

/// Judges one login, `sudo` or living session.
pub fn judge(request: &LoginRequest, facts: &Facts, rules: &Rules, now: Timestamp) -> Judgement {
    let held = held_role(request.service, facts, now);
    let steps = vec![
        admit(facts),
        tenant(facts, rules),
        domain(request, rules),
        session(facts, now),
        credential(facts, now),
        identity(facts),
        name_owner(request, facts),
        uid_held(facts),
        uid_owner(facts),
        guest(request, facts, rules),
        role(facts, &held),
        by_grace(request, facts, &held),
        admin(request, facts, &held),
        access(facts, &held),
    ];
    let failed = steps.iter().find_map(|step| match step.outcome {
        Outcome::Fail(reason) => Some(reason),
        Outcome::Pass | Outcome::Skip => None,
    });
    let verdict = match (failed, facts.credential_end, held) {
        (None, Some(end), Ok(held)) => Verdict::Permit(permit(&held, end, facts, rules, now)),
        (reason, ..) => Verdict::Denial(Denial::new(reason.unwrap_or(Reason::Internal), request, facts)),
    };
    Judgement { steps, verdict }
}

/// The permit that ends with the first of its caps.
fn permit(held: &Held, end: Timestamp, facts: &Facts, rules: &Rules, now: Timestamp) -> Permit {
    let cap = rules.max_session.map(|seconds| now.plus(i64::from(seconds.get())));
    let closes = match facts.access {
        Ruled::Permits { closes, .. } => closes,
        Ruled::NoPolicy | Ruled::Refuses { .. } => None,
    };
    let session_end = session_end(facts, now);
    let beyond_window = [held.until, cap, session_end].into_iter().flatten().fold(end, Timestamp::min);
    let until = closes.into_iter().fold(beyond_window, Timestamp::min);
    let admin_until = held.admin.is_ok().then(|| held.admin_until.map_or(until, |end| end.min(until)));
    let role = if admin_until.is_some() { Role::Admin } else { Role::User };
    Permit { role, until, admin_until, degraded: held.degraded, session_end, beyond_window }
}

/// When the session is over by the access rules, however long its credential lasts.
fn session_end(facts: &Facts, now: Timestamp) -> Option<Timestamp> {
    let longest = facts.access.limits().max_session?;
    Some(facts.began.unwrap_or(now).plus(i64::from(longest.get())))
}

/// The right that access rules are asked with; `None` where there is none or it is not known.
///
/// A session that lives is kept as a user's while Azure is silent. To the rules its administrator is one all the same: an
/// outage must not throw them out of the shell in which they mend it.
pub(crate) fn role_for_rules(service: Service, facts: &Facts, now: Timestamp) -> Option<Role> {
    let held = held_role(service, facts, now).ok()?;
    let unsaid = match &facts.roles {
        RoleAnswer::Unknown(_) => true,
        RoleAnswer::Granted(grant) => {
            grant.role == Role::User && grant.admin_refused.is_none() && grant.unknown.is_some()
        }
        RoleAnswer::NotGranted(_) => false,
    };
    let was_admin = facts.last.as_ref().is_some_and(|last| {
        let theirs = Some((last.tid, last.oid)) == facts.identity;
        theirs && last.role == Role::Admin && last.end_of(Role::Admin).is_none_or(|end| now < end)
    });
    let still = unsaid && service == Service::Live && was_admin;
    Some(if held.admin.is_ok() || still { Role::Admin } else { Role::User })
}

/// What of a role answer, or of the grace in its place, still stands at `now`; answers are cached and may
/// have run out since.
struct Held {
    until: Option<Timestamp>,
    admin_until: Option<Timestamp>,
    /// Why not an administrator.
    admin: Result<(), Reason>,
    /// True when it rests on grace.
    degraded: bool,
}

impl Held {
    /// What grace gives in place of an answer; where it does not hold, why UNKNOWN is refused.
    fn instead(cause: &UnknownCause, grace: Grace, now: Timestamp) -> Result<Self, Reason> {
        let (until, role) = match grace {
            Grace::Holds { until, role } if now < until => (until, role),
            Grace::Fails(NoGrace::ClockSuspect) => return Err(Reason::ClockSuspect),
            Grace::Holds { .. } | Grace::Fails(_) => return Err(cause.reason()),
        };
        let admin = if role == Role::Admin { Ok(()) } else { Err(cause.reason()) };
        Ok(Self { until: Some(until), admin_until: admin.is_ok().then_some(until), admin, degraded: true })
    }
}

/// What Azure did not say although this door needs it. What it did say about the administrator's right
/// stands: grace is for silence only.
pub(crate) fn silence(service: Service, roles: &RoleAnswer) -> Option<&UnknownCause> {
    match roles {
        RoleAnswer::Unknown(cause) => Some(cause),
        RoleAnswer::Granted(Grant { role: Role::User, admin_refused: None, unknown, .. })
            if service == Service::Sudo =>
        {
            unknown.as_ref()
        }
        RoleAnswer::Granted(_) | RoleAnswer::NotGranted(_) => None,
    }
}

fn held_role(service: Service, facts: &Facts, now: Timestamp) -> Result<Held, Reason> {
    let over = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
    let instead = silence(service, &facts.roles).map(|cause| Held::instead(cause, facts.grace, now));
    let grant = match &facts.roles {
        RoleAnswer::Granted(grant) => grant,
        RoleAnswer::NotGranted(refused) => return Err(refused.reason()),
        RoleAnswer::Unknown(cause) => return instead.unwrap_or_else(|| Err(cause.reason())),
    };
    if over(grant.until) {
        return Err(Reason::PimNotActive);
    }
    let admin = match (grant.role, &grant.admin_refused, &grant.unknown) {
        (Role::Admin, _, _) if over(grant.admin_until) => Err(Reason::PimNotActive),
        (Role::Admin, _, _) => Ok(()),
        // A deny is definite; anything else may be cured by what could not be found out.
        (Role::User, Some(deny @ Refused::DenyAssignment { .. }), _) => Err(deny.reason()),
        (Role::User, _, Some(cause)) => match instead {
            Some(Ok(held)) if held.admin.is_ok() => {
                return Ok(Held { until: earlier(held.until, grant.until), ..held });
            }
            Some(Err(reason)) => Err(reason),
            Some(Ok(_)) | None => Err(cause.reason()),
        },
        (Role::User, None | Some(Refused::NoAssignment), None) => Err(Reason::NoAdminRole),
        (Role::User, Some(refused), None) => Err(refused.reason()),
    };
    let admin_until = earlier(grant.admin_until, grant.until);
    Ok(Held { until: grant.until, admin_until, admin, degraded: false })
}

fn step(rule: &'static str, input: String, outcome: Outcome) -> Step {
    Step { rule, input, outcome }
}

fn pass_if(good: bool, reason: Reason) -> Outcome {
    if good { Outcome::Pass } else { Outcome::Fail(reason) }
}

fn admit(facts: &Facts) -> Step {
    step("admit", format!("admitted={}", facts.admitted), pass_if(facts.admitted, Reason::NoAdmit))
}

/// Everything that names a tenant must name ours; whether anything does is the rule on identity.
fn tenant(facts: &Facts, rules: &Rules) -> Step {
    let named = [facts.tenant, facts.identity.map(|(tenant, _)| tenant)];
    let outcome = if named.iter().all(Option::is_none) {
        Outcome::Skip
    } else {
        pass_if(named.iter().flatten().all(|tenant| *tenant == rules.tenant), Reason::TenantMismatch)
    };
    step(
        "tenant",
        format!("stated={} identity={} ours={}", show(named[0]), show(named[1]), rules.tenant),
        outcome,
    )
}

fn domain(request: &LoginRequest, rules: &Rules) -> Step {
    let outcome = match request.name.domain() {
        None => Outcome::Skip,
        Some(_) if rules.domains.is_empty() => Outcome::Skip,
        Some(_) => pass_if(domain_listed(request, rules), Reason::DomainNotAllowed),
    };
    step("domain", format!("domain={} allowed={:?}", show(request.name.domain()), rules.domains), outcome)
}

fn domain_listed(request: &LoginRequest, rules: &Rules) -> bool {
    request.name.domain().is_some_and(|domain| rules.domains.iter().any(|d| d.eq_ignore_ascii_case(domain)))
}

/// Before the credential, which ends with the session or later: the length is what was reached.
fn session(facts: &Facts, now: Timestamp) -> Step {
    let end = session_end(facts, now);
    let outcome = end.map_or(Outcome::Skip, |end| pass_if(now < end, Reason::SessionOver));
    step("session", format!("began={} over={}", show(facts.began), show(end)), outcome)
}

/// A credential without an end would make a permit without one.
fn credential(facts: &Facts, now: Timestamp) -> Step {
    let outcome = match facts.credential_end {
        None => Outcome::Fail(Reason::CertLifetime),
        Some(end) => pass_if(now < end, Reason::CertExpired),
    };
    step("credential", format!("ends={} now={now}", show(facts.credential_end)), outcome)
}

fn identity(facts: &Facts) -> Step {
    let oid = facts.identity.map(|(_, oid)| oid);
    step("identity", format!("oid={}", show(oid)), pass_if(oid.is_some(), Reason::IdentityUnknown))
}

/// A leaver's name given to a joiner is another person. Before the uids, since the joiner's name hashes to
/// the leaver's uid and "this name was somebody else's" says more.
fn name_owner(request: &LoginRequest, facts: &Facts) -> Step {
    let owner = facts.uid.name_owner;
    let outcome = match facts.identity {
        None => Outcome::Skip,
        Some((_, oid)) => pass_if(owner.is_none_or(|owner| owner == oid), Reason::NameReused),
    };
    step("name_owner", format!("name={} bound_to={}", request.name, show(owner)), outcome)
}

/// The uid that sshd took at its first look-up must be the person's: the one bound, else the name's own.
fn uid_held(facts: &Facts) -> Step {
    let UidFact { held, expected, bound_uid, .. } = facts.uid;
    let renamed = bound_uid.is_some_and(|bound| bound != expected);
    let outcome = if facts.identity.is_none() {
        Outcome::Skip
    } else if held == Some(bound_uid.unwrap_or(expected)) {
        Outcome::Pass
    } else {
        Outcome::Fail(if renamed { Reason::Renamed } else { Reason::UidChanged })
    };
    step("uid_held", format!("held={} expected={expected} bound={}", show(held), show(bound_uid)), outcome)
}

fn uid_owner(facts: &Facts) -> Step {
    let owner = facts.uid.owner;
    let outcome = match facts.identity {
        None => Outcome::Skip,
        Some((_, oid)) => pass_if(owner.is_none_or(|owner| owner == oid), Reason::UidTaken),
    };
    step("uid_owner", format!("uid={} bound_to={}", show(facts.uid.held), show(owner)), outcome)
}

/// With guests off, somebody of whom no source says "no guest" passes only by a name in a listed domain:
/// a guest's user name carries `#EXT#`, which is no login name here.
fn guest(request: &LoginRequest, facts: &Facts, rules: &Rules) -> Step {
    let outcome = match facts.guest {
        _ if rules.guests || request.name.domain().is_none() => Outcome::Skip,
        Some(guest) => pass_if(!guest, Reason::NameNotAllowed),
        None => pass_if(domain_listed(request, rules), Reason::IdentityUnknown),
    };
    step("guest", format!("guest={} allowed={}", show(facts.guest), rules.guests), outcome)
}

fn role(facts: &Facts, held: &Result<Held, Reason>) -> Step {
    let outcome = match held {
        _ if facts.identity.is_none() => Outcome::Skip,
        Ok(_) => Outcome::Pass,
        Err(reason) => Outcome::Fail(*reason),
    };
    let input = match &facts.roles {
        RoleAnswer::Granted(grant) => {
            let seen = &grant.evidence;
            format!(
                "role={} until={} action={} scope={} at={} assignment={}",
                grant.role,
                show(grant.until),
                seen.action,
                show(seen.scope.as_ref()),
                show(seen.kind),
                show(seen.assignment.as_ref())
            )
        }
        RoleAnswer::NotGranted(refused) => refused.to_string(),
        RoleAnswer::Unknown(cause) => format!("unknown: {cause}"),
    };
    step("role", input, outcome)
}

/// Whether an old yes stands in for what Azure did not say. Where it does not, the rule that needed the
/// answer has failed, so that a refusal keeps its one reason.
fn by_grace(request: &LoginRequest, facts: &Facts, held: &Result<Held, Reason>) -> Step {
    let Some(cause) = silence(request.service, &facts.roles).filter(|_| facts.identity.is_some()) else {
        return step("grace", "not needed".to_owned(), Outcome::Skip);
    };
    let last = facts.last.as_ref();
    let input = format!(
        "unknown={} last={} at={} ends={} admin_ends={} grace={}",
        cause.reason(),
        show(last.map(|last| last.role)),
        show(last.map(|last| last.at.wall)),
        show(last.and_then(|last| last.ends)),
        show(last.and_then(|last| last.admin_ends)),
        facts.grace
    );
    let used = held.as_ref().is_ok_and(|held| held.degraded);
    step("grace", input, if used { Outcome::Pass } else { Outcome::Skip })
}

fn admin(request: &LoginRequest, facts: &Facts, held: &Result<Held, Reason>) -> Step {
    let outcome = match (request.service, held) {
        (Service::Ssh | Service::Other | Service::Live, _) | (_, Err(_)) => Outcome::Skip,
        _ if facts.identity.is_none() => Outcome::Skip,
        (Service::Sudo, Ok(held)) => held.admin.map_or_else(Outcome::Fail, |()| Outcome::Pass),
    };
    let input = match &facts.roles {
        RoleAnswer::Granted(grant) => format!(
            "role={} until={} refused={} unknown={}",
            grant.role,
            show(grant.admin_until),
            show(grant.admin_refused.as_ref()),
            show(grant.unknown.as_ref())
        ),
        RoleAnswer::Unknown(_) if held.is_ok() => "by grace".to_owned(),
        RoleAnswer::NotGranted(_) | RoleAnswer::Unknown(_) => "no role".to_owned(),
    };
    step("admin", input, outcome)
}

/// The access rules have the last word: they are about people who hold the right.
fn access(facts: &Facts, held: &Result<Held, Reason>) -> Step {
    let (input, outcome) = match &facts.access {
        Ruled::NoPolicy => ("no rules".to_owned(), Outcome::Skip),
        // sshd was told before the proof, and the person chose the time of it: another rule may decide by now.
        Ruled::Permits { trace, limits, .. } => {
            let allowed = limits.forward.unwrap_or(Forwarding::ALL);
            let more = facts.told.is_some_and(|told| told.and(allowed) != told);
            (trace.clone(), if more { Outcome::Fail(Reason::PolicyChanged) } else { Outcome::Pass })
        }
        Ruled::Refuses { trace, reason, .. } => (trace.clone(), Outcome::Fail(*reason)),
    };
    let outcome = if held.is_ok() { outcome } else { Outcome::Skip };
    step("access rules", input, outcome)
}

/// A value, or `-` where there is none.
fn show(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
