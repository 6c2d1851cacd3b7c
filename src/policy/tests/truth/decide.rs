//! Grace within the whole decision: what it opens, what it never opens, and what is kept of a decision.

use std::num::NonZeroU32;
use std::time::Duration;

use nightlatch_model::{Answer, LoginName, Reason, Role};
use nightlatch_policy::{
    AccessRules, BootId, Denial, Effect, Facts, FreshYes, Grace, GraceRule, Grant, LoginRequest, Moment,
    Outcome, Permit, Refused, RoleAnswer, Ruling, Service, Step, UnknownCause, Verdict, decide, judge,
};

use crate::given::*;
use crate::judge::{BREAKS, Case};

const OPT_IN: u64 = 1_800;

/// Alice while Azure is mute, and how the node is set: she was let in ten minutes ago.
struct World {
    case: Case,
    last: Option<FreshYes>,
    rule: GraceRule,
    now: Moment,
}

fn mute(service: Service, was: Role) -> World {
    let mut case = good();
    case.0.service = service;
    case.1.roles = RoleAnswer::Unknown(upstream());
    World { case, last: Some(yes(was, secs(600))), rule: GraceRule::default(), now: now() }
}

impl World {
    fn ask(&self) -> Ruling {
        let (request, facts, rules) = &self.case;
        decide(self.last.as_ref(), request, facts, rules, self.rule, AccessRules::none(), self.now)
    }

    fn permit(&self) -> Permit {
        match self.ask().judgement.verdict {
            Verdict::Permit(permit) => permit,
            Verdict::Denial(denial) => panic!("a permit, not {denial:?}"),
        }
    }

    fn denial(&self) -> Denial {
        match self.ask().judgement.verdict {
            Verdict::Permit(permit) => panic!("refused, not {permit:?}"),
            Verdict::Denial(denial) => denial,
        }
    }

    fn step(&self, rule: &str) -> Step {
        self.ask().judgement.steps.into_iter().find(|step| step.rule == rule).unwrap()
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn azure(self, roles: RoleAnswer) -> Self {
        self.with(|w| w.case.1.roles = roles)
    }
}

fn causes() -> [UnknownCause; 4] {
    [
        upstream(),
        UnknownCause::Throttled { retry_after: 9 },
        UnknownCause::ScopeUnknown,
        UnknownCause::NodeNotPermitted,
    ]
}

fn admin_mute() -> RoleAnswer {
    RoleAnswer::Granted(Grant { unknown: Some(upstream()), ..grant(Role::User) })
}

#[test]
fn an_old_yes_stands_in_for_every_kind_of_silence() {
    for cause in causes() {
        let world = mute(Service::Ssh, Role::User).azure(RoleAnswer::Unknown(cause));
        let permit = world.permit();
        assert_eq!((permit.role(), permit.degraded(), permit.admin_until()), (Role::User, true, None));
        assert_eq!(permit.until(), NOW.plus(3_000));
        assert_eq!(world.ask().effect, Effect::Nothing, "what rests on grace renews no grace");
        assert_eq!(world.step("role").outcome, Outcome::Pass);
        let grace = world.step("grace");
        assert_eq!(grace.outcome, Outcome::Pass);
        for told in ["last=user", "at=2026-11-21T22:20:05Z", "holds as user until 2026-11-21T23:20:05Z"] {
            assert!(grace.input.contains(told), "{}", grace.input);
        }
    }
}

#[test]
fn without_grace_the_silence_keeps_its_own_reason() {
    for cause in causes() {
        let reason = cause.reason();
        let world = mute(Service::Ssh, Role::User).azure(RoleAnswer::Unknown(cause)).with(|w| w.last = None);
        let denial = world.denial();
        assert_eq!((denial.reason(), denial.answer()), (reason, Answer::Unknown));
        assert_eq!(world.ask().effect, Effect::Nothing);
        assert_eq!(world.step("role").outcome, Outcome::Fail(reason));
        assert_eq!(world.step("grace").outcome, Outcome::Skip);
        assert!(world.step("grace").input.contains("no earlier yes is kept"));
    }
}

/// Grace answers one question only: every other rule still decides.
#[test]
fn every_other_rule_must_still_pass() {
    for service in [Service::Ssh, Service::Other, Service::Live] {
        for (rule, reason, break_it) in BREAKS.iter().filter(|(rule, ..)| !["role", "admin"].contains(rule)) {
            let world = mute(service, Role::User).with(|w| break_it(&mut w.case));
            assert_eq!(world.denial().reason(), *reason, "{service:?} {rule}");
        }
    }
}

#[test]
fn a_no_is_never_overruled() {
    for refused in [
        Refused::NoAssignment,
        denied(),
        Refused::PimNotActive { opens: None, ended: Some(NOW) },
        Refused::Conditional { assignment: "a".to_owned() },
    ] {
        for service in [Service::Ssh, Service::Sudo, Service::Other, Service::Live] {
            let reason = refused.reason();
            let world = mute(service, Role::Admin)
                .azure(RoleAnswer::NotGranted(refused.clone()))
                .with(|w| w.rule = GraceRule::new(secs(3_600), secs(3_600)));
            assert_eq!(world.denial().reason(), reason);
            assert_eq!(world.ask().effect, Effect::Erase);
            assert_eq!(world.step("grace").outcome, Outcome::Skip);
            // After that no there is nothing to rest on.
            let after = mute(service, Role::Admin).with(|w| w.last = None);
            assert_eq!(after.denial().reason(), Reason::UpstreamUnknown);
        }
    }
}

#[test]
fn grace_lengthens_nothing() {
    let until = |credential: i64, session: Option<u32>| {
        let world = mute(Service::Ssh, Role::User).with(|w| {
            w.case.1.credential_end = Some(NOW.plus(credential));
            w.case.2.max_session = session.and_then(NonZeroU32::new);
        });
        world.permit().until().since(NOW)
    };
    assert_eq!(until(9_999, None), 3_000);
    assert_eq!(until(60, None), 60);
    assert_eq!(until(9_999, Some(30)), 30);
    assert_eq!(until(60, Some(90)), 60);
    // In its last fraction of a second there is no whole second left to give.
    let over = mute(Service::Ssh, Role::User)
        .with(|w| w.last = Some(yes(Role::User, secs(3_600) - Duration::from_nanos(1))));
    assert_eq!(over.denial().reason(), Reason::UpstreamUnknown);
}

#[test]
fn administrators() {
    let opted_in =
        |service| mute(service, Role::Admin).with(|w| w.rule = GraceRule::new(secs(60), secs(OPT_IN)));
    for service in [Service::Ssh, Service::Sudo, Service::Other] {
        assert_eq!(mute(service, Role::Admin).denial().reason(), Reason::UpstreamUnknown, "{service:?}");
        let permit = opted_in(service).permit();
        assert_eq!((permit.role(), permit.degraded()), (Role::Admin, true), "{service:?}");
        assert_eq!((permit.until(), permit.admin_until()), (NOW.plus(1_200), Some(NOW.plus(1_200))));
    }
    let live = mute(Service::Live, Role::Admin).permit();
    assert_eq!((live.role(), live.degraded(), live.until()), (Role::User, true, NOW.plus(3_000)));
    assert_eq!(mute(Service::Sudo, Role::User).denial().reason(), Reason::UpstreamUnknown);
}

/// Azure grants the login but does not say whether the person is an administrator.
#[test]
fn the_administrators_half_of_an_answer() {
    let half = |service, admin: u64| {
        mute(service, Role::Admin)
            .azure(admin_mute())
            .with(|w| w.rule = GraceRule::new(secs(3_600), secs(admin)))
    };
    for service in [Service::Ssh, Service::Other, Service::Live] {
        let world = half(service, OPT_IN);
        let permit = world.permit();
        assert_eq!((permit.role(), permit.degraded()), (Role::User, false), "{service:?}: no need of grace");
        assert_eq!(permit.until(), NOW.plus(3_600));
        assert_eq!(world.step("grace").outcome, Outcome::Skip);
    }
    assert_eq!(half(Service::Sudo, 0).denial().reason(), Reason::UpstreamUnknown);
    let sudo = half(Service::Sudo, OPT_IN);
    let permit = sudo.permit();
    assert_eq!((permit.role(), permit.degraded()), (Role::Admin, true));
    assert_eq!((permit.until(), permit.admin_until()), (NOW.plus(1_200), Some(NOW.plus(1_200))));
    assert_eq!((sudo.step("grace").outcome, sudo.ask().effect), (Outcome::Pass, Effect::Nothing));
    // The end of the right to log in is known and stands.
    let ends = Grant { until: Some(NOW.plus(5)), unknown: Some(upstream()), ..grant(Role::User) };
    let permit = half(Service::Sudo, OPT_IN).azure(RoleAnswer::Granted(ends)).permit();
    assert_eq!((permit.until(), permit.admin_until()), (NOW.plus(5), Some(NOW.plus(5))));
    // What Azure did say about the administrator's right is no silence.
    for (refused, reason) in [
        (denied(), Reason::DenyAssignment),
        (Refused::PimNotActive { opens: None, ended: Some(NOW) }, Reason::UpstreamUnknown),
    ] {
        let said = Grant { admin_refused: Some(refused), unknown: Some(upstream()), ..grant(Role::User) };
        let world = half(Service::Sudo, OPT_IN).azure(RoleAnswer::Granted(said));
        assert_eq!(world.denial().reason(), reason);
        assert_eq!(world.step("grace").outcome, Outcome::Skip);
    }
}

#[test]
fn a_suspect_clock_is_the_reason_only_where_grace_was_due() {
    let suspect = |w: &mut World| w.now.suspect = true;
    let reason = |service, was, change: fn(&mut World)| {
        mute(service, was).with(suspect).with(change).denial().reason()
    };
    let admins: fn(&mut World) = |w| w.rule = GraceRule::new(secs(3_600), secs(3_600));
    assert_eq!(reason(Service::Ssh, Role::User, |_| ()), Reason::ClockSuspect);
    assert_eq!(reason(Service::Live, Role::Admin, |_| ()), Reason::ClockSuspect);
    assert_eq!(reason(Service::Sudo, Role::Admin, admins), Reason::ClockSuspect);
    assert_eq!(
        mute(Service::Sudo, Role::Admin).with(admins).azure(admin_mute()).with(suspect).denial().reason(),
        Reason::ClockSuspect
    );
    let rebooted: fn(&mut World) = |w| {
        w.now = Moment { wall: NOW.plus(-9_999), boot: BootId([2; 16]), since_boot: secs(9), suspect: false };
    };
    assert_eq!(mute(Service::Ssh, Role::User).with(rebooted).denial().reason(), Reason::ClockSuspect);
    for (service, was, change) in [
        (Service::Ssh, Role::User, (|w| w.last = None) as fn(&mut World)),
        (Service::Ssh, Role::User, |w| w.rule = GraceRule::new(Duration::ZERO, secs(60))),
        (Service::Ssh, Role::User, |w| w.case.0.name = LoginName::parse("ali@contoso.com").unwrap()),
        (Service::Ssh, Role::User, |w| w.last.as_mut().unwrap().oid = bob()),
        (Service::Ssh, Role::Admin, |_| ()),
        (Service::Sudo, Role::User, admins),
    ] {
        assert_eq!(reason(service, was, change), Reason::UpstreamUnknown, "{service:?} {was:?}");
    }
    // An answer of Azure needs no grace.
    let fresh = mute(Service::Ssh, Role::User).azure(RoleAnswer::Granted(grant(Role::User))).with(suspect);
    assert!(!fresh.permit().degraded());
}

#[test]
fn the_credential_ends_by_the_wall_clock_of_the_moment() {
    let world = mute(Service::Ssh, Role::User).with(|w| w.now.wall = NOW.plus(3_600));
    assert_eq!(world.denial().reason(), Reason::CertExpired);
}

/// `judge` believes the facts alone: a grace that has run out since is none.
#[test]
fn a_grace_that_ran_out_is_none() {
    let World { case: (request, mut facts, rules), .. } = mute(Service::Ssh, Role::User);
    facts.grace = Grace::Holds { until: NOW.plus(1), role: Role::User };
    assert!(matches!(judge(&request, &facts, &rules, NOW).verdict, Verdict::Permit(p) if p.degraded()));
    assert!(matches!(judge(&request, &facts, &rules, NOW.plus(1)).verdict, Verdict::Denial(_)));
    // A user's grace opens no sudo, whether all of the answer is missing or half.
    let sudo = LoginRequest { service: Service::Sudo, ..request };
    let skipped = |steps: &[Step]| steps.iter().any(|s| s.rule == "grace" && s.outcome == Outcome::Skip);
    for roles in [RoleAnswer::Unknown(upstream()), admin_mute()] {
        let half = matches!(roles, RoleAnswer::Granted(_));
        facts.roles = roles;
        let judgement = judge(&sudo, &facts, &rules, NOW);
        let Verdict::Denial(denial) = &judgement.verdict else { panic!("refused") };
        assert_eq!(denial.reason(), Reason::UpstreamUnknown);
        assert_eq!(skipped(&judgement.steps), half, "it stood in for the login only");
    }
    // Nor anything to nobody.
    let nobody = Facts { identity: None, roles: RoleAnswer::Unknown(upstream()), ..facts.clone() };
    assert!(skipped(&judge(&sudo, &nobody, &rules, NOW).steps));
    // And decide asks nobody but the kept yes.
    let asked = decide(None, &sudo, &facts, &rules, GraceRule::default(), AccessRules::none(), now());
    assert!(matches!(asked.judgement.verdict, Verdict::Denial(_)));
}

#[test]
fn a_yes_of_azure_is_remembered() {
    for (service, roles, role) in [
        (Service::Ssh, RoleAnswer::Granted(grant(Role::User)), Role::User),
        (Service::Ssh, RoleAnswer::Granted(grant(Role::Admin)), Role::Admin),
        (Service::Live, RoleAnswer::Granted(grant(Role::Admin)), Role::Admin),
        (Service::Sudo, RoleAnswer::Granted(grant(Role::Admin)), Role::Admin),
        (
            Service::Ssh,
            RoleAnswer::Granted(Grant { admin_until: Some(NOW), ..grant(Role::Admin) }),
            Role::User,
        ),
        (Service::Ssh, admin_mute(), Role::User),
    ] {
        for last in [None, Some(yes(Role::Admin, secs(9)))] {
            let world = mute(service, Role::User).azure(roles.clone()).with(|w| w.last = last);
            let want = FreshYes { at: now(), ..yes(role, Duration::ZERO) };
            assert_eq!(world.ask().effect, Effect::Remember(want), "{service:?} {roles:?}");
        }
    }
}

/// The ends that Azure told are kept with the yes, and the permit of today is none of them.
#[test]
fn the_ends_of_the_role_are_remembered() {
    let (at, long) = (|seconds: i64| Some(NOW.plus(seconds)), 90_000);
    let admin = |until, admin_until| RoleAnswer::Granted(Grant { until, admin_until, ..grant(Role::Admin) });
    let user = |until| RoleAnswer::Granted(Grant { until, ..grant(Role::User) });
    for (roles, role, ends, admin_ends) in [
        (user(None), Role::User, None, None),
        (user(at(long)), Role::User, Some(long), None),
        (admin(None, None), Role::Admin, None, None),
        (admin(None, at(60)), Role::Admin, None, Some(60)),
        (admin(at(long), at(60)), Role::Admin, Some(long), Some(60)),
        (admin(at(long), None), Role::Admin, Some(long), Some(long)),
        (admin(at(60), at(long)), Role::Admin, Some(60), Some(60)),
        (admin(at(long), at(0)), Role::User, Some(long), None),
    ] {
        let world = mute(Service::Ssh, Role::User).azure(roles.clone());
        let want = FreshYes { at: now(), ..ending(role, Duration::ZERO, ends, admin_ends) };
        assert_eq!(world.ask().effect, Effect::Remember(want), "{roles:?}");
    }
}

/// A yes of a role with an end, then silence: in until that end, and not a second longer.
#[test]
fn grace_does_not_outlive_the_end_of_the_role() {
    let told = RoleAnswer::Granted(Grant { until: Some(NOW.plus(120)), ..grant(Role::User) });
    let Effect::Remember(kept) = mute(Service::Ssh, Role::User).azure(told).ask().effect else {
        panic!("a yes")
    };
    let later = |service, seconds: i64| {
        mute(service, Role::User).with(|w| {
            w.last = Some(kept.clone());
            w.now.wall = NOW.plus(seconds);
            w.now.since_boot = UP + secs(seconds.unsigned_abs());
        })
    };
    for service in [Service::Ssh, Service::Other, Service::Live] {
        assert_eq!(later(service, 60).permit().until(), NOW.plus(120), "{service:?}");
        assert_eq!(later(service, 119).permit().until(), NOW.plus(120), "{service:?}");
        assert_eq!(later(service, 120).denial().reason(), Reason::UpstreamUnknown, "{service:?}");
        assert_eq!(later(service, 120).ask().effect, Effect::Nothing);
    }
    let step = later(Service::Ssh, 120).step("grace");
    assert_eq!(step.outcome, Outcome::Skip);
    for told in ["ends=2026-11-21T22:32:05Z", "admin_ends=-", "none: the role ended while Azure was silent"] {
        assert!(step.input.contains(told), "{}", step.input);
    }
}

#[test]
fn the_administrators_grace_ends_with_the_administrators_right() {
    let world = |service, seconds| {
        mute(service, Role::Admin).with(|w| {
            w.last = Some(ending(Role::Admin, secs(600), Some(700), Some(seconds)));
            w.rule = GraceRule::new(secs(3_600), secs(OPT_IN));
        })
    };
    for service in [Service::Ssh, Service::Sudo, Service::Other] {
        let permit = world(service, 60).permit();
        assert_eq!((permit.role(), permit.until()), (Role::Admin, NOW.plus(60)), "{service:?}");
        assert_eq!(world(service, 0).denial().reason(), Reason::UpstreamUnknown, "{service:?}");
    }
    // Azure grants the login and is silent about the administrator.
    let half = |seconds| world(Service::Sudo, seconds).azure(admin_mute());
    assert_eq!(half(60).permit().admin_until(), Some(NOW.plus(60)));
    assert!(half(0).denial().text().ends_with("; your role ended while Azure was silent"));
    let live = world(Service::Live, 0).permit();
    assert_eq!((live.role(), live.until()), (Role::User, NOW.plus(700)));
}

#[test]
fn a_no_erases_what_there_is() {
    let user = RoleAnswer::Granted(grant(Role::User));
    let no = || RoleAnswer::NotGranted(Refused::NoAssignment);
    assert_eq!(mute(Service::Sudo, Role::User).azure(user).ask().effect, Effect::Erase, "no administrator");
    let expired = mute(Service::Ssh, Role::User).with(|w| w.case.1.credential_end = Some(NOW));
    assert_eq!(expired.ask().effect, Effect::Erase, "any definite no");
    let none = mute(Service::Ssh, Role::User).azure(no()).with(|w| w.last = None);
    assert_eq!(none.ask().effect, Effect::Nothing, "nothing is kept");
    let bobs = mute(Service::Ssh, Role::User).azure(no()).with(|w| w.last.as_mut().unwrap().oid = bob());
    assert_eq!(bobs.ask().effect, Effect::Nothing, "somebody else's");
    let nobody = mute(Service::Ssh, Role::User).azure(no()).with(|w| w.case.1.identity = None);
    assert_eq!(nobody.ask().effect, Effect::Nothing, "nobody knows whose");
    // A no about the role is seen even where the refusal has another reason.
    let hidden = mute(Service::Ssh, Role::User).azure(no()).with(|w| {
        w.case.2.guests = false;
        w.case.2.domains.clear();
    });
    assert_eq!((hidden.denial().answer(), hidden.ask().effect), (Answer::Unknown, Effect::Erase));
}

#[test]
fn while_the_clock_is_suspect_nothing_is_remembered() {
    let ask = |was: Role, is: Role| {
        let world =
            mute(Service::Ssh, was).azure(RoleAnswer::Granted(grant(is))).with(|w| w.now.suspect = true);
        world.ask().effect
    };
    assert_eq!(ask(Role::User, Role::User), Effect::Nothing);
    assert_eq!(ask(Role::Admin, Role::Admin), Effect::Nothing);
    assert_eq!(ask(Role::User, Role::Admin), Effect::Nothing);
    assert_eq!(ask(Role::Admin, Role::User), Effect::Erase, "an administrator no more");
    // An end that is sooner than the one that is kept takes something away as well.
    let ends = |kept: Option<i64>, told: Option<i64>| {
        let told = Grant { until: told.map(|end| NOW.plus(end)), ..grant(Role::User) };
        let world = mute(Service::Ssh, Role::User).azure(RoleAnswer::Granted(told));
        let kept = Some(ending(Role::User, secs(600), kept, None));
        world.with(|w| (w.now.suspect, w.last) = (true, kept)).ask().effect
    };
    assert_eq!(ends(None, Some(60)), Effect::Erase);
    assert_eq!(ends(Some(61), Some(60)), Effect::Erase);
    assert_eq!(ends(Some(60), Some(60)), Effect::Nothing);
    assert_eq!(ends(Some(60), None), Effect::Nothing);
    let no =
        mute(Service::Ssh, Role::User).azure(RoleAnswer::NotGranted(denied())).with(|w| w.now.suspect = true);
    assert_eq!(no.ask().effect, Effect::Erase);
}

#[test]
fn the_refusal_says_why_there_is_no_grace() {
    let admins = "administrators get no grace on this node";
    let old = "the last answer of Azure is older than this node allows";
    let mute_text = "Azure did not answer whether you may log in";
    let aged = |w: &mut World| w.last.as_mut().unwrap().at.since_boot = UP - secs(90_000);
    for service in [Service::Ssh, Service::Sudo, Service::Other] {
        assert_eq!(mute(service, Role::Admin).denial().text(), format!("{mute_text}; {admins}"));
    }
    for service in [Service::Ssh, Service::Live] {
        assert_eq!(mute(service, Role::User).with(aged).denial().text(), format!("{mute_text}; {old}"));
    }
    let throttled = RoleAnswer::Unknown(UnknownCause::Throttled { retry_after: 9 });
    assert_eq!(
        mute(Service::Ssh, Role::Admin).azure(throttled).denial().text(),
        format!("Azure throttles this node's questions; Azure asks to wait 9 seconds; {admins}")
    );
    assert!(mute(Service::Sudo, Role::Admin).azure(admin_mute()).denial().text().ends_with(admins));
    let ended = |w: &mut World| w.last.as_mut().unwrap().ends = Some(NOW);
    for cause in causes() {
        let world = mute(Service::Ssh, Role::User).with(ended);
        let denial = world.azure(RoleAnswer::Unknown(cause.clone())).denial();
        assert_eq!(denial.reason(), cause.reason());
        assert!(denial.text().ends_with("; your role ended while Azure was silent"), "{}", denial.text());
    }
    let suspect = mute(Service::Ssh, Role::User).with(ended).with(|w| w.now.suspect = true).denial();
    assert_eq!(suspect.reason(), Reason::UpstreamUnknown, "a clock that is right would say the same");
    // None of it is said where it is not so.
    assert_eq!(mute(Service::Sudo, Role::User).denial().text(), mute_text);
    let no_users = |w: &mut World| w.rule = GraceRule::new(Duration::ZERO, Duration::ZERO);
    assert_eq!(mute(Service::Ssh, Role::User).with(no_users).denial().text(), mute_text);
    assert_eq!(mute(Service::Live, Role::Admin).with(no_users).denial().text(), mute_text);
    assert_eq!(mute(Service::Ssh, Role::User).with(|w| w.last = None).denial().text(), mute_text);
    let suspect = mute(Service::Ssh, Role::User).with(|w| w.now.suspect = true).denial();
    assert_eq!(suspect.text(), Reason::ClockSuspect.text());
    let definite =
        mute(Service::Ssh, Role::User).with(aged).azure(RoleAnswer::NotGranted(Refused::NoAssignment));
    assert_eq!(definite.denial().text(), Reason::NoVmRole.text());
    let other_rule = mute(Service::Ssh, Role::User).with(aged).with(|w| w.case.1.uid.held = Some(8));
    assert_eq!(other_rule.denial().text(), Reason::UidChanged.text());
}

#[test]
fn nobody_has_no_grace() {
    let nobody = mute(Service::Ssh, Role::User).with(|w| w.case.1.identity = None);
    assert_eq!(nobody.denial().reason(), Reason::IdentityUnknown);
    assert_eq!((nobody.step("role").outcome, nobody.step("grace").outcome), (Outcome::Skip, Outcome::Skip));
}
