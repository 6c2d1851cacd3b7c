//! The real decision, put to a history: its steps become facts, and its effects are carried out.
//!
//! It must never judge: what it hands over is what happened, and what comes back is passed on as it is.

use std::num::NonZeroU32;
use std::time::Duration;

use nightlatch_model::{Answer, Guid, LoginName, ObjectId, Role, TenantId, Timestamp};
use nightlatch_policy::{
    AccessRules, BootId, Effect, Evidence, Facts, FreshYes, Grace, GraceRule, Grant, LoginRequest, Moment,
    Refused, RoleAnswer, Ruled, Rules, Service, UidFact, UnknownCause, Verdict, decide,
};

use crate::model::{Node, Said};
use crate::world::{
    AdminPart, Ask, Cause, Clocks, DAY, Event, Flaw, Found, History, NAMES, PEOPLE, Right, SECOND, Settings,
};

/// The uid that a name has by itself; each name another.
const FIRST_UID: u32 = 1_900_000_000;

const fn tenant(n: u8) -> TenantId {
    TenantId(Guid::from_bytes([n; 16]))
}

fn oid(person: usize) -> ObjectId {
    ObjectId(Guid::from_bytes([u8::try_from(person).unwrap() + 1; 16]))
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap())
}

/// The node under test: what it keeps on its disk, its clocks, and the facts of the question at hand.
pub(crate) struct Real {
    names: Vec<LoginName>,
    request: LoginRequest,
    facts: Facts,
    rules: Rules,
    grace: GraceRule,
    clocks: Clocks,
    /// By person, as the caller keeps them.
    kept: [Option<FreshYes>; PEOPLE],
}

impl Real {
    pub(crate) fn new() -> Self {
        let names: Vec<_> = NAMES.iter().map(|name| LoginName::parse(name).unwrap()).collect();
        Self {
            request: LoginRequest { service: Service::Ssh, name: names[0].clone() },
            names,
            facts: Facts {
                admitted: true,
                tenant: None,
                identity: None,
                guest: None,
                credential_end: None,
                uid: UidFact { held: None, expected: 0, owner: None, bound_uid: None, name_owner: None },
                roles: RoleAnswer::NotGranted(Refused::NoAssignment),
                grace: Grace::default(),
                last: None,
                scope: None,
                sign_in: None,
                from: None,
                began: None,
                told: None,
                access: Ruled::NoPolicy,
            },
            rules: Rules { tenant: tenant(1), domains: Vec::new(), guests: false, max_session: None },
            grace: GraceRule::default(),
            clocks: Clocks::new(),
            kept: [const { None }; PEOPLE],
        }
    }

    /// The wall clock in milliseconds.
    pub(crate) fn wall(&self) -> i64 {
        self.clocks.seconds() * SECOND
    }

    /// Milliseconds since the start.
    pub(crate) const fn up(&self) -> i64 {
        self.clocks.up
    }

    pub(crate) const fn kept(&self, person: usize) -> Option<&FreshYes> {
        self.kept[person].as_ref()
    }

    /// In how many seconds the right ends of which the yes that is handed over tells: the sooner one.
    pub(crate) fn role_end(&self, ask: &Ask) -> Option<i64> {
        let yes = self.kept(ask.handed)?;
        let sooner = yes.admin_ends.filter(|_| ask.service != Service::Live).or(yes.ends)?;
        Some(sooner.0 - self.clocks.seconds())
    }

    /// Another node, as the history finds it.
    pub(crate) fn begin(&mut self, history: &History) {
        let Settings { user_window, admin_window, max_session, one_domain, guests } = history.settings;
        self.grace = GraceRule::new(millis(user_window), millis(admin_window));
        self.rules.domains.clear();
        if one_domain {
            self.rules.domains.push("contoso.com".to_owned());
        }
        self.rules.guests = guests;
        self.rules.max_session = max_session.and_then(NonZeroU32::new);
        // What a caller leaves there must not count.
        self.facts.grace = if one_domain {
            Grace::default()
        } else {
            Grace::Holds { until: Timestamp(i64::MAX), role: Role::Admin }
        };
        self.clocks = Clocks::new();
        self.kept = [const { None }; PEOPLE];
        if let Some(found) = history.found {
            self.kept[found.person] = Some(self.found(found));
        }
    }

    fn found(&self, found: Found) -> FreshYes {
        let at = |end: Option<i64>| end.map(|end| Timestamp(self.clocks.seconds() + end));
        let boot = if found.before_restart { 0 } else { self.clocks.starts };
        // The boot before this one had lasted longer than this one has.
        let since_boot = if found.before_restart { 5 * DAY } else { self.clocks.up - found.age };
        FreshYes {
            tid: tenant(if found.other_tenant { 2 } else { 1 }),
            oid: oid(found.person),
            name: self.names[found.name].clone(),
            role: if found.admin { Role::Admin } else { Role::User },
            at: Moment {
                wall: Timestamp(self.clocks.seconds() - found.age / SECOND),
                boot: BootId([boot; 16]),
                since_boot: millis(since_boot),
                suspect: found.suspect,
            },
            ends: at(found.ends),
            admin_ends: at(found.admin_ends),
        }
    }

    pub(crate) fn pass(&mut self, event: Event) {
        self.clocks.pass(event);
    }

    pub(crate) fn now(&self) -> Moment {
        Moment {
            wall: Timestamp(self.clocks.seconds()),
            boot: BootId([self.clocks.starts; 16]),
            since_boot: millis(self.clocks.up),
            suspect: self.clocks.lift.is_some(),
        }
    }

    /// Asks, and does what the effect says.
    pub(crate) fn decide(&mut self, ask: &Ask) -> (Said, Effect) {
        self.gather(ask);
        let last = self.kept[ask.handed].as_ref();
        let rules = AccessRules::none();
        let ruling = decide(last, &self.request, &self.facts, &self.rules, self.grace, rules, self.now());
        match &ruling.effect {
            Effect::Nothing => {}
            Effect::Remember(yes) => self.kept[ask.person] = Some(yes.clone()),
            Effect::Erase => self.kept[ask.person] = None,
        }
        let said = match &ruling.judgement.verdict {
            Verdict::Permit(permit) => {
                let (until, admin_until) = (permit.until().0, permit.admin_until().map(|end| end.0));
                Said::In { admin: permit.admin(), admin_until, degraded: permit.degraded(), until }
            }
            Verdict::Denial(denial) => match denial.answer() {
                Answer::Denial => Said::No,
                Answer::Unknown => Said::Unknown(denial.reason()),
            },
        };
        (said, ruling.effect)
    }

    fn gather(&mut self, ask: &Ask) {
        let has = |flaw| ask.flaws.contains(&flaw);
        let now = self.clocks.seconds();
        self.request.service = ask.service;
        if self.request.name != self.names[ask.name] {
            self.request.name = self.names[ask.name].clone();
        }
        self.facts.admitted = !has(Flaw::NotAdmitted);
        self.facts.tenant = match (has(Flaw::NoTenant), has(Flaw::OtherTenant)) {
            (true, _) => None,
            (_, other) => Some(tenant(if other { 2 } else { 1 })),
        };
        let home = tenant(if has(Flaw::IdentityOfOtherTenant) { 2 } else { 1 });
        self.facts.identity = (!has(Flaw::IdentityWithdrawn)).then(|| (home, oid(ask.person)));
        self.facts.guest = ask.guest;
        self.facts.credential_end = (!has(Flaw::NoEnd)).then(|| Timestamp(now + ask.credential));
        self.facts.uid = uid(ask);
        self.facts.roles = roles(ask.right, now);
    }

    /// What differs in what is kept, if anything does.
    pub(crate) fn left_otherwise(&self, model: &Node, ask: &Ask, effect: &Effect) -> Option<String> {
        let from_now = |end: Option<Timestamp>| end.map(|end| end.0 - self.clocks.seconds());
        for (person, (real, model)) in self.kept.iter().zip(&model.people).enumerate() {
            let same = match (real, model) {
                (None, None) => true,
                (Some(real), Some(model)) => {
                    (real.role == Role::Admin) == model.admin
                        && real.name == self.names[model.name]
                        && from_now(real.ends) == model.ends
                        && from_now(real.admin_ends) == model.admin_ends
                }
                _ => false,
            };
            if !same {
                return Some(format!("person {person} is left with {real:?}, in the model with {model:?}"));
            }
        }
        let Effect::Remember(yes) = effect else { return None };
        let whole = yes.tid == tenant(1) && yes.oid == oid(ask.person) && yes.at == self.now();
        (!whole).then(|| format!("{yes:?} is not of this person and moment"))
    }
}

fn uid(ask: &Ask) -> UidFact {
    let has = |flaw| ask.flaws.contains(&flaw);
    let own = FIRST_UID + u32::try_from(ask.name).unwrap();
    let other = Some(oid((ask.person + 1) % PEOPLE));
    UidFact {
        held: if has(Flaw::NoUid) { None } else { Some(own) },
        expected: if has(Flaw::UidMoved) { own + 100 } else { own },
        owner: if has(Flaw::UidOfAnother) { other } else { None },
        bound_uid: if has(Flaw::Renamed) { Some(own + 200) } else { None },
        name_owner: if has(Flaw::NameOfAnother) { other } else { None },
    }
}

fn roles(right: Right, now: i64) -> RoleAnswer {
    let at = |end: Option<i64>| end.map(|end| Timestamp(now + end));
    let grant = |role, until, admin_until| Grant {
        role,
        until,
        admin_until,
        evidence: Evidence::default(),
        admin_evidence: (role == Role::Admin).then(Evidence::default),
        admin_refused: None,
        unknown: None,
    };
    match right {
        Right::User(end, part) => RoleAnswer::Granted(Grant {
            admin_refused: match part {
                AdminPart::No | AdminPart::Unknown(_) => None,
                AdminPart::Refused | AdminPart::UnknownAndRefused(_) => {
                    Some(Refused::PimNotActive { opens: None, ended: None })
                }
                AdminPart::UnknownAndDenied(_) => Some(Refused::DenyAssignment { id: String::new() }),
            },
            unknown: match part {
                AdminPart::No | AdminPart::Refused => None,
                AdminPart::Unknown(cause)
                | AdminPart::UnknownAndRefused(cause)
                | AdminPart::UnknownAndDenied(cause) => Some(unknown(cause)),
            },
            ..grant(Role::User, at(end), None)
        }),
        Right::Admin(end, admin_end) => RoleAnswer::Granted(grant(Role::Admin, at(end), at(admin_end))),
        Right::DenyAssignment => RoleAnswer::NotGranted(Refused::DenyAssignment { id: String::new() }),
        Right::PimNotActive => RoleAnswer::NotGranted(Refused::PimNotActive { opens: None, ended: None }),
        Right::Conditional => RoleAnswer::NotGranted(Refused::Conditional { assignment: String::new() }),
        Right::NoAssignment => RoleAnswer::NotGranted(Refused::NoAssignment),
        Right::Unknown(cause) => RoleAnswer::Unknown(unknown(cause)),
    }
}

const fn unknown(cause: Cause) -> UnknownCause {
    match cause {
        Cause::NodeNotPermitted => UnknownCause::NodeNotPermitted,
        Cause::Throttled => UnknownCause::Throttled { retry_after: 7 },
        Cause::ScopeUnknown => UnknownCause::ScopeUnknown,
        Cause::Upstream => UnknownCause::Upstream(String::new()),
    }
}
