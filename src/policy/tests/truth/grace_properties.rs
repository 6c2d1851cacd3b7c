//! What must hold of grace whatever the facts, the clocks and the order of things are.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use nightlatch_model::{Answer, LoginName, Role, Timestamp};
use nightlatch_policy::{
    AccessRules, BootId, Effect, FreshYes, GraceRule, Grant, MAX_GRACE, Moment, Refused, RoleAnswer, Service,
    Verdict, decide, judge,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::dice::Dice;
use crate::given::*;
use crate::properties::{any_answer, fixed};

const SERVICES: [Service; 4] = [Service::Ssh, Service::Sudo, Service::Other, Service::Live];

fn any_rule() -> impl Strategy<Value = GraceRule> {
    let window = || prop::sample::select(vec![0, 1, 60, 3_600, 80_000, 86_400, 200_000]).prop_map(secs);
    (window(), window()).prop_map(|(user, admin)| GraceRule::new(user, admin))
}

/// A kept yes: mostly alice's, of this boot or another, of the past or the future, of a role that may end.
fn any_yes() -> impl Strategy<Value = FreshYes> {
    let ago = prop_oneof![Just(0_i64), -5_000..0_i64, 0..5_000_000_i64, 0..100_000_000_i64];
    let odd = || prop::sample::select(vec![false, false, false, false, false, false, false, true]);
    let end = || prop::option::of(-20_i64..7_200);
    (any::<bool>(), ago, -9_000_i64..9_000, odd(), odd(), odd(), odd(), end(), end()).prop_map(
        |(admin, millis, drift, boot, suspect, person, name, ends, admin_ends)| {
            let role = if admin { Role::Admin } else { Role::User };
            let mut yes = ending(role, Duration::ZERO, ends, admin_ends.filter(|_| admin));
            let past = Duration::from_millis(millis.unsigned_abs());
            yes.at.since_boot = if millis < 0 { UP + past } else { UP - past };
            yes.at.wall = NOW.plus(-(millis / 1_000) + drift);
            yes.at.suspect = suspect;
            if boot {
                yes.at.boot = BootId([9; 16]);
            }
            if person {
                yes.oid = bob();
            }
            if name {
                yes.name = LoginName::parse("alice@fabrikam.com").unwrap();
            }
            yes
        },
    )
}

/// The seconds that grace may give, counted in whole numbers and straight from the rule's text.
fn seconds_left(last: &FreshYes, service: Service, rule: GraceRule, now: Moment) -> Option<i128> {
    let end = match (service, last.role) {
        (Service::Live, _) | (_, Role::User) => last.ends,
        (_, Role::Admin) => [last.admin_ends, last.ends].into_iter().flatten().min(),
    };
    let to_end = end.map_or(i128::MAX, |end| i128::from(end.0 - now.wall.0));
    let alices = last.oid == alice() && last.name.to_string() == "alice@contoso.com";
    let window = match (service, last.role) {
        (Service::Live, _) => rule.user(),
        (Service::Sudo, Role::User) => Duration::ZERO,
        (_, Role::User) => rule.user(),
        (_, Role::Admin) => rule.admin(),
    };
    let nanos = |d: Duration| i128::try_from(d.as_nanos()).unwrap();
    let age = if last.at.boot == now.boot {
        nanos(now.since_boot) - nanos(last.at.since_boot)
    } else {
        let wall = i128::from(now.wall.0 - last.at.wall.0) * 1_000_000_000;
        if wall < 0 { -1 } else { wall.max(nanos(now.since_boot)) }
    };
    let left = nanos(window) - age;
    let sane = !now.suspect && !last.at.suspect && age >= 0;
    (alices && sane && left >= 1_000_000_000 && to_end > 0).then_some(to_end.min(left / 1_000_000_000))
}

/// A permit under UNKNOWN: exactly where the rule says so, never beyond the credential, the window, the end
/// of the role or the ceiling, never more than was granted, never without a kept yes; and it renews nothing.
#[test]
fn a_degraded_permit_is_exactly_what_the_rule_gives() {
    let (degraded, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    let ups = prop::sample::select(vec![UP, UP, UP, secs(30)]);
    let input = (
        prop::option::weighted(0.9, any_yes()),
        prop_oneof![1 => any_answer(), 2 => Just(RoleAnswer::Unknown(upstream()))],
        prop::sample::select(SERVICES.to_vec()),
        any_rule(),
        (1_i64..200_000, prop::option::of(1_u32..7_200)),
        (ups, prop::sample::select(vec![false, false, false, true])),
    );
    let done = TestRunner::new(fixed(20_000)).run(
        &input,
        |(last, roles, service, rule, (end, session), (since_boot, suspect))| {
            let (mut request, mut facts, mut rules) = good();
            request.service = service;
            facts.credential_end = Some(NOW.plus(end));
            facts.roles = roles.clone();
            rules.max_session = session.and_then(NonZeroU32::new);
            let now = Moment { since_boot, suspect, ..now() };
            let ruling = decide(last.as_ref(), &request, &facts, &rules, rule, AccessRules::none(), now);
            let left = last.as_ref().and_then(|last| seconds_left(last, service, rule, now));
            let unknown = matches!(roles, RoleAnswer::Unknown(_));
            let Verdict::Permit(permit) = ruling.judgement.verdict else {
                refused.set(refused.get() + 1);
                prop_assert!(!unknown || left.is_none(), "grace was due");
                return Ok(());
            };
            prop_assert!(permit.degraded() || !unknown);
            if !permit.degraded() {
                return Ok(());
            }
            degraded.set(degraded.get() + 1);
            let (Some(last), Some(left)) = (last, left) else {
                return Err(TestCaseError::fail("a degraded permit without grace"));
            };
            prop_assert_eq!(ruling.effect, Effect::Nothing);
            let length = i128::from(permit.until().since(NOW));
            prop_assert!(length > 0 && length <= left && length <= i128::from(end));
            prop_assert!(length <= i128::from(MAX_GRACE.as_secs()));
            prop_assert!(session.is_none_or(|cap| length <= i128::from(cap)));
            prop_assert!(permit.role() <= last.role);
            prop_assert!(last.ends.is_none_or(|end| permit.until() <= end));
            let admin_end = last.admin_ends.filter(|_| permit.admin());
            prop_assert!(admin_end.is_none_or(|end| permit.until() <= end));
            prop_assert!(permit.admin() || service != Service::Sudo);
            prop_assert!(!permit.admin() || service != Service::Live);
            prop_assert!(permit.admin_until().is_none_or(|end| end <= permit.until()));
            if unknown {
                // One of the caps, so nothing shortens it for no reason.
                let caps = [Some(left), Some(i128::from(end)), session.map(i128::from)];
                prop_assert_eq!(Some(length), caps.into_iter().flatten().min());
            }
            Ok(())
        },
    );
    done.unwrap();
    assert!(degraded.get() > 1_000 && refused.get() > 1_000, "{} {}", degraded.get(), refused.get());
}

proptest! {
    #![proptest_config(fixed(2_000))]

    #[test]
    fn without_a_kept_yes_no_permit_is_degraded_and_nothing_changes(
        roles in any_answer(), service in prop::sample::select(SERVICES.to_vec()), rule in any_rule(), suspect in any::<bool>()
    ) {
        let (mut request, mut facts, rules) = good();
        request.service = service;
        facts.roles = roles;
        let moment = Moment { suspect, ..now() };
        let ruling = decide(None, &request, &facts, &rules, rule, AccessRules::none(), moment);
        prop_assert_eq!(&ruling.judgement, &judge(&request, &facts, &rules, NOW));
        prop_assert_ne!(&ruling.effect, &Effect::Erase);
        if let Verdict::Permit(permit) = ruling.judgement.verdict {
            prop_assert!(!permit.degraded());
            prop_assert_eq!(matches!(ruling.effect, Effect::Remember(_)), !suspect);
        }
    }

    /// Grace is for silence: where Azure said all that the door needs, a kept yes changes nothing.
    #[test]
    fn an_answer_is_judged_the_same_with_and_without_a_kept_yes(
        roles in any_answer(), last in any_yes(), service in prop::sample::select(SERVICES.to_vec()), rule in any_rule()
    ) {
        let silent = match &roles {
            RoleAnswer::Unknown(_) => true,
            RoleAnswer::Granted(grant) => service == Service::Sudo && grant.unknown.is_some(),
            RoleAnswer::NotGranted(_) => false,
        };
        prop_assume!(!silent);
        let (mut request, mut facts, rules) = good();
        request.service = service;
        facts.roles = roles;
        let with = decide(Some(&last), &request, &facts, &rules, rule, AccessRules::none(), now());
        let without = decide(None, &request, &facts, &rules, rule, AccessRules::none(), now());
        prop_assert_eq!(&with.judgement, &without.judgement);
        match with.judgement.verdict {
            Verdict::Permit(_) => prop_assert_eq!(with.effect, without.effect),
            Verdict::Denial(denial) if denial.answer() == Answer::Denial && last.oid == alice() => {
                prop_assert_eq!(with.effect, Effect::Erase);
            }
            Verdict::Denial(_) => prop_assert_eq!(with.effect, Effect::Nothing),
        }
    }
}

/// What the test itself remembers of one person's past.
#[derive(Default)]
struct Past {
    /// The true time of the last yes of Azure, in seconds, if no definite no came after it.
    yes: Option<(u64, Role)>,
    /// When the login and the administrator's right end by the last answer that was all that its door needs.
    ends: (Option<Timestamp>, Option<Timestamp>),
}

/// Lives of a node: answers, silences, jumps of the clock and reboots in any order, each effect applied.
/// A degraded permit always rests on a yes that no definite no followed, and that is younger in true time
/// than its window, and it ends with the role of which Azure told last.
#[test]
fn no_degraded_permit_after_a_no_or_past_the_window_in_any_order_of_things() {
    let (mut degraded, mut erased, mut cut) = (0_u32, 0_u32, 0_u32);
    for seed in 0..1_500 {
        let dice = &mut Dice(seed);
        let rule = GraceRule::new(secs(3_600), secs(dice.pick(&[0, 0, 900])));
        let (mut kept, mut past) = (None, Past::default());
        let (mut truth, mut booted, mut boot) = (0_u64, 0_u64, 0_u8);
        for _ in 0..40 {
            truth += dice.pick(&[1, 60, 300, 900, 2_000]);
            if dice.once_in(12) {
                (booted, boot) = (truth, boot + 1);
            }
            // Over a boot only a clock that is right or known to be wrong is promised.
            let suspect = dice.once_in(12);
            let wall = NOW.plus(i64::try_from(truth).unwrap());
            let now = Moment { wall, boot: BootId([boot; 16]), since_boot: secs(truth - booted), suspect };
            let (mut request, mut facts, rules) = good();
            request.service = dice.pick(&SERVICES);
            facts.credential_end = Some(wall.plus(3_600));
            facts.roles = dice.pick(&[
                RoleAnswer::Granted(grant(Role::User)),
                RoleAnswer::Granted(grant(Role::Admin)),
                RoleAnswer::Granted(Grant { until: Some(wall.plus(1_200)), ..grant(Role::User) }),
                RoleAnswer::Granted(Grant {
                    until: Some(wall.plus(1_500)),
                    admin_until: Some(wall.plus(500)),
                    ..grant(Role::Admin)
                }),
                RoleAnswer::Granted(Grant { unknown: Some(upstream()), ..grant(Role::User) }),
                RoleAnswer::NotGranted(Refused::NoAssignment),
                RoleAnswer::Unknown(upstream()),
                RoleAnswer::Unknown(upstream()),
                RoleAnswer::Unknown(upstream()),
            ]);
            let ruling = decide(kept.as_ref(), &request, &facts, &rules, rule, AccessRules::none(), now);
            match ruling.judgement.verdict {
                Verdict::Permit(permit) if permit.degraded() => {
                    degraded += 1;
                    let (at, role) = past.yes.expect("a yes that no definite no followed");
                    let window = if permit.admin() { rule.admin() } else { rule.user() };
                    assert!(permit.role() <= role, "seed {seed}");
                    assert!(secs(truth - at) < window, "seed {seed}");
                    let left = permit.until().since(wall).unsigned_abs();
                    assert!(truth + left <= at + window.as_secs(), "seed {seed}");
                    assert!(!suspect, "seed {seed}");
                    let end = if permit.admin() { past.ends.1.or(past.ends.0) } else { past.ends.0 };
                    assert!(end.is_none_or(|end| permit.until() <= end), "seed {seed}");
                    cut += u32::from(end == Some(permit.until()));
                }
                Verdict::Permit(permit) if !suspect => past.yes = Some((truth, permit.role())),
                // Not kept, but what it takes away is gone.
                Verdict::Permit(permit) => past.yes = past.yes.filter(|(_, role)| *role <= permit.role()),
                Verdict::Denial(denial) if denial.answer() == Answer::Denial => past.yes = None,
                Verdict::Denial(_) => {}
            }
            if let RoleAnswer::Granted(told) = &facts.roles
                && (told.unknown.is_none() || request.service != Service::Sudo)
            {
                past.ends = (told.until, told.admin_until);
            }
            match ruling.effect {
                Effect::Nothing => {}
                Effect::Remember(yes) => kept = Some(yes),
                Effect::Erase => {
                    erased += 1;
                    kept = None;
                }
            }
        }
    }
    assert!(degraded > 1_000 && erased > 1_000 && cut > 100, "{degraded} {erased} {cut}: it shows nothing");
}
