//! The role that rules are asked with, and what is kept where they refuse: by hand.

use nightlatch_model::{Reason, Role};
use nightlatch_policy::{
    AccessRules, Effect, Facts, FreshYes, GraceRule, Grant, LoginRequest, Moment, Permit, Refused,
    RoleAnswer, RuleEffect, Ruling, Service, Verdict, decide,
};

use crate::given::{self, BOOT, NOW, UP, denied, ending, good, grant, now, secs, upstream, yes};
use crate::world::{Plain, SERVICES, policy};

const MUTE: fn() -> RoleAnswer = || RoleAnswer::Unknown(upstream());

/// Azure says that alice may log in, and cannot say whether she is an administrator.
fn half() -> RoleAnswer {
    RoleAnswer::Granted(Grant { unknown: Some(upstream()), ..grant(Role::User) })
}

/// One decision about alice.
struct Ask {
    service: Service,
    roles: RoleAnswer,
    last: Option<FreshYes>,
    /// For users and for administrators.
    grace: (u64, u64),
    rules: Vec<Plain>,
    now: Moment,
    change: fn(&mut Facts),
}

impl Ask {
    fn new(service: Service, roles: RoleAnswer, was: Role, rules: &[Plain]) -> Self {
        Self {
            service,
            roles,
            last: Some(yes(was, secs(600))),
            grace: (3_600, 0),
            rules: rules.to_vec(),
            now: now(),
            change: |_| (),
        }
    }

    fn ask(&self) -> Ruling {
        let (request, facts, rules) = good();
        let request = LoginRequest { service: self.service, ..request };
        let mut facts = Facts { roles: self.roles.clone(), ..facts };
        (self.change)(&mut facts);
        let policy = policy(&self.rules);
        let access = AccessRules { policy: &policy, ..AccessRules::none() };
        let grace = GraceRule::new(secs(self.grace.0), secs(self.grace.1));
        decide(self.last.as_ref(), &request, &facts, &rules, grace, access, self.now)
    }

    fn permit(&self) -> Result<Permit, Reason> {
        match self.ask().judgement.verdict {
            Verdict::Permit(permit) => Ok(permit),
            Verdict::Denial(denial) => Err(denial.reason()),
        }
    }

    /// Role and whether degraded, or the reason.
    fn out(&self) -> Result<(Role, bool), Reason> {
        self.permit().map(|permit| (permit.role(), permit.degraded()))
    }
}

fn of(effect: RuleEffect, role: Role) -> Plain {
    Plain { role: Some(role), ..Plain::new("by-role", effect) }
}

fn rest() -> Plain {
    Plain::new("rest", RuleEffect::Permit)
}

#[test]
fn an_outage_throws_no_administrator_out_of_a_session() {
    let admins_alone = [of(RuleEffect::Permit, Role::Admin)];
    let no_users = [of(RuleEffect::Deny, Role::User), rest()];
    let no_admins = [of(RuleEffect::Deny, Role::Admin), rest()];
    let users_alone = [of(RuleEffect::Permit, Role::User)];
    for roles in [MUTE(), half()] {
        let degraded = roles == MUTE();
        let ask = |was, rules: &[Plain]| Ask::new(Service::Live, roles.clone(), was, rules);
        for rules in [&admins_alone[..], &no_users] {
            let admin = ask(Role::Admin, rules);
            assert_eq!(admin.ask().role, Some(Role::Admin));
            assert_eq!(admin.out(), Ok((Role::User, degraded)), "let live, and as a user");
            assert_eq!(admin.permit().unwrap().admin_until(), None);
        }
        for rules in [&no_admins[..], &users_alone] {
            let reason = if rules.len() == 1 { Reason::PolicyNoRule } else { Reason::PolicyDenied };
            assert_eq!(ask(Role::Admin, rules).out(), Err(reason));
            assert_eq!(ask(Role::User, rules).out(), Ok((Role::User, degraded)));
        }
        // Who never was one is asked about as a user.
        assert_eq!(ask(Role::User, &admins_alone).ask().role, Some(Role::User));
        assert_eq!(ask(Role::User, &admins_alone).out(), Err(Reason::PolicyNoRule));
        assert_eq!(ask(Role::User, &no_users).out(), Err(Reason::PolicyDenied));
        // A rule for administrators alone, by a step-up of which all is shown.
        assert!(ask(Role::Admin, &[of(RuleEffect::StepUp, Role::Admin)]).out().is_ok());
    }
}

/// Where Azure did say something about the administrator, or grace does not hold, it is as it was.
#[test]
fn a_session_is_asked_about_as_an_administrators_in_silence_only() {
    let admins = [of(RuleEffect::Permit, Role::Admin)];
    let user =
        |admin_refused, unknown| RoleAnswer::Granted(Grant { admin_refused, unknown, ..grant(Role::User) });
    for roles in [
        user(None, None),
        user(Some(denied()), None),
        user(Some(denied()), Some(upstream())),
        user(Some(Refused::PimNotActive { opens: None, ended: Some(NOW) }), Some(upstream())),
        RoleAnswer::Granted(Grant { admin_until: Some(NOW), ..grant(Role::Admin) }),
    ] {
        let ask = Ask::new(Service::Live, roles.clone(), Role::Admin, &admins);
        assert_eq!((ask.ask().role, ask.out()), (Some(Role::User), Err(Reason::PolicyNoRule)), "{roles:?}");
        assert_eq!(ask.ask().effect, Effect::Erase, "an administrator no more: {roles:?}");
    }
    let fresh = Ask::new(Service::Live, RoleAnswer::Granted(grant(Role::Admin)), Role::User, &admins);
    assert_eq!((fresh.ask().role, fresh.out()), (Some(Role::Admin), Ok((Role::Admin, false))));
    for roles in [RoleAnswer::NotGranted(denied()), RoleAnswer::NotGranted(Refused::NoAssignment)] {
        let ask = Ask::new(Service::Live, roles, Role::Admin, &admins);
        assert_eq!((ask.ask().role, ask.ask().effect), (None, Effect::Erase));
        assert!(ask.out().is_err());
    }
    let changes: [fn(&mut Ask); 4] = [
        |a| a.last = None,
        |a| a.grace = (600, 3_600),
        |a| a.now.suspect = true,
        |a| a.last = Some(ending(Role::Admin, secs(600), Some(0), Some(0))),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut ask = Ask::new(Service::Live, MUTE(), Role::Admin, &admins);
        change(&mut ask);
        assert_eq!(ask.ask().role, None, "{at}: there is no grace");
        let reason = if ask.now.suspect { Reason::ClockSuspect } else { Reason::UpstreamUnknown };
        assert_eq!((ask.out(), ask.ask().effect), (Err(reason), Effect::Nothing), "{at}");
    }
}

/// The other doors are asked about as what grace gives, and not at all as anything where it gives nothing.
#[test]
fn a_login_is_asked_about_as_what_grace_gives() {
    let admins = [of(RuleEffect::Permit, Role::Admin)];
    let no_users = [of(RuleEffect::Deny, Role::User), rest()];
    for service in [Service::Ssh, Service::Other, Service::Sudo] {
        for rules in [&admins[..], &no_users] {
            let none = Ask::new(service, MUTE(), Role::Admin, rules);
            assert_eq!((none.ask().role, none.out()), (None, Err(Reason::UpstreamUnknown)), "{service:?}");
            let admin = Ask { grace: (3_600, 3_600), ..Ask::new(service, MUTE(), Role::Admin, rules) };
            assert_eq!(admin.ask().role, Some(Role::Admin), "{service:?}");
            assert_eq!(admin.out(), Ok((Role::Admin, true)), "{service:?}");
        }
    }
    for service in [Service::Ssh, Service::Other] {
        let user = Ask::new(service, MUTE(), Role::User, &admins);
        assert_eq!((user.ask().role, user.out()), (Some(Role::User), Err(Reason::PolicyNoRule)));
        // What Azure did say stands: a user, whatever was kept.
        let half = Ask { grace: (3_600, 3_600), ..Ask::new(service, half(), Role::Admin, &admins) };
        assert_eq!((half.ask().role, half.out()), (Some(Role::User), Err(Reason::PolicyNoRule)));
    }
    let sudo = |grace| Ask { grace, ..Ask::new(Service::Sudo, half(), Role::Admin, &admins) };
    let by_grace = sudo((0, 3_600));
    assert_eq!((by_grace.ask().role, by_grace.out()), (Some(Role::Admin), Ok((Role::Admin, true))));
    let user = sudo((3_600, 0));
    assert_eq!((user.ask().role, user.out()), (Some(Role::User), Err(Reason::UpstreamUnknown)));
}

/// An administrator's session, round for round as a node asks: the effect of each is kept before the next.
fn rounds(answers: impl IntoIterator<Item = RoleAnswer>) -> Vec<Result<(Role, bool), Reason>> {
    let admins = [of(RuleEffect::Permit, Role::Admin)];
    let mut last = Some(yes(Role::Admin, secs(60)));
    let round = |(round, roles)| {
        let passed = secs(round * 300);
        let wall = NOW.plus(i64::try_from(round * 300).unwrap());
        let now = Moment { wall, boot: BOOT, since_boot: UP + passed, suspect: false };
        let ask = Ask { last: last.clone(), now, ..Ask::new(Service::Live, roles, Role::Admin, &admins) };
        match ask.ask().effect {
            Effect::Nothing => {}
            Effect::Remember(yes) => last = Some(yes),
            Effect::Erase => last = None,
        }
        ask.out()
    };
    (1_u64..).zip(answers).map(round).collect()
}

#[test]
fn a_session_of_an_administrator_lives_through_rounds_of_silence() {
    assert_eq!(rounds([MUTE(), MUTE(), MUTE()]), [Ok((Role::User, true)); 3]);
    assert_eq!(rounds([MUTE(), half()]), [Ok((Role::User, true)), Ok((Role::User, false))]);
}

/// The finding: a rule refused, and what Azure took away came back by grace.
#[test]
fn what_azure_takes_away_is_erased_though_a_rule_refuses() {
    let refusals = [
        (vec![Plain::new("no", RuleEffect::Deny)], Reason::PolicyDenied),
        (vec![of(RuleEffect::Permit, Role::Admin), of(RuleEffect::Deny, Role::Admin)], Reason::PolicyNoRule),
        (vec![Plain { device: true, ..Plain::new("strong", RuleEffect::StepUp) }], Reason::StepUp),
        (vec![Plain { device: true, ..Plain::new("strong", RuleEffect::Permit) }], Reason::EvidenceMissing),
    ];
    let user = |admin_refused| RoleAnswer::Granted(Grant { admin_refused, ..grant(Role::User) });
    for (rules, reason) in &refusals {
        for service in [Service::Ssh, Service::Other, Service::Live] {
            let ask = |roles: RoleAnswer, last: Option<FreshYes>| {
                let ask = Ask { last, ..Ask::new(service, roles, Role::User, rules) };
                assert_eq!(ask.out(), Err(*reason), "{service:?}");
                ask.ask().effect
            };
            let admin = || Some(yes(Role::Admin, secs(60)));
            let kept = |role, ends, admin_ends| Some(ending(role, secs(60), ends, admin_ends));
            for roles in [user(Some(denied())), user(Some(Refused::NoAssignment)), user(None)] {
                assert_eq!(ask(roles.clone(), admin()), Effect::Erase, "{service:?} {reason}");
                assert_eq!(ask(roles.clone(), Some(yes(Role::User, secs(60)))), Effect::Nothing, "equal");
                assert_eq!(ask(roles, None), Effect::Nothing, "nothing is kept");
            }
            let until = |end: Option<i64>| {
                RoleAnswer::Granted(Grant { until: end.map(|end| NOW.plus(end)), ..grant(Role::User) })
            };
            for (told, before, effect) in [
                (Some(60), None, Effect::Erase),
                (Some(60), Some(61), Effect::Erase),
                (Some(60), Some(60), Effect::Nothing),
                (Some(60), Some(59), Effect::Nothing),
                (None, Some(60), Effect::Nothing),
            ] {
                assert_eq!(ask(until(told), kept(Role::User, before, None)), effect, "{told:?} {before:?}");
            }
            // Somebody else's yes is not touched.
            let bobs = FreshYes { oid: given::bob(), ..yes(Role::Admin, secs(60)) };
            assert_eq!(ask(user(Some(denied())), Some(bobs)), Effect::Nothing);
            // Silence takes nothing away.
            assert_eq!(ask(MUTE(), Some(yes(Role::User, secs(60)))), Effect::Nothing, "{service:?}");
        }
    }
    // Nor does a rule that refuses an administrator who is one still, and whose right ends as it was kept.
    for service in SERVICES {
        for (told, kept, effect) in [
            (None, None, Effect::Nothing),
            (Some(90), Some(90), Effect::Nothing),
            (Some(90), Some(80), Effect::Nothing),
            (Some(90), Some(91), Effect::Erase),
            (Some(90), None, Effect::Erase),
        ] {
            let at = |end: Option<i64>| end.map(|end| NOW.plus(end));
            let roles = RoleAnswer::Granted(Grant { admin_until: at(told), ..grant(Role::Admin) });
            let last = Some(ending(Role::Admin, secs(60), None, kept));
            let ask = Ask { last, ..Ask::new(service, roles, Role::Admin, &refusals[0].0) };
            assert_eq!(
                (ask.out(), ask.ask().effect),
                (Err(Reason::PolicyDenied), effect),
                "{told:?} {kept:?}"
            );
        }
    }
}

/// Without rules the deny assignment is the reason; with them the session is over first, and no less lost.
#[test]
fn a_no_behind_a_session_that_is_over_erases() {
    let limits =
        nightlatch_policy::Limits { max_session: std::num::NonZeroU32::new(60), ..Default::default() };
    let rules = [Plain { limits, ..Plain::new("minute", RuleEffect::Permit) }];
    let half_no = RoleAnswer::Granted(Grant { admin_refused: Some(denied()), ..grant(Role::User) });
    for (service, roles, effect) in [
        (Service::Live, RoleAnswer::NotGranted(denied()), Effect::Erase),
        (Service::Live, half_no.clone(), Effect::Erase),
        (Service::Sudo, half_no, Effect::Erase),
        (Service::Live, RoleAnswer::Granted(grant(Role::Admin)), Effect::Nothing),
        (Service::Live, MUTE(), Effect::Nothing),
        (Service::Sudo, MUTE(), Effect::Nothing),
    ] {
        let change: fn(&mut Facts) = |facts| facts.began = Some(NOW.plus(-60));
        let ask = Ask { change, ..Ask::new(service, roles.clone(), Role::Admin, &rules) };
        assert_eq!(
            (ask.out(), ask.ask().effect),
            (Err(Reason::SessionOver), effect),
            "{service:?} {roles:?}"
        );
    }
}
