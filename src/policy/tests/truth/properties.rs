//! What must hold whatever the facts are.

use nightlatch_model::{Role, Timestamp};
use nightlatch_policy::{
    Access, ActionSet, Decision, Evidence, Grant, Refused, RoleAnswer, ScopeKind, Service, Verdict, combine,
    evaluate, fold, judge,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::num::NonZeroU32;

use crate::dice::Dice;
use crate::given::*;
use crate::world::{self, AT, World};

pub(crate) fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn answer(world: &World) -> RoleAnswer {
    evaluate(&world.facts, &world.principals, &world.target(), &world.actions, AT)
}

/// How much an answer gives: role and ends, more is greater; "no end" is the greatest.
fn worth(answer: &RoleAnswer) -> (Option<Role>, i64, i64) {
    let end = |end: Option<Timestamp>| end.map_or(i64::MAX, |t| t.0);
    match answer {
        RoleAnswer::Granted(g) if g.role == Role::Admin => (Some(g.role), end(g.until), end(g.admin_until)),
        RoleAnswer::Granted(g) => (Some(g.role), end(g.until), i64::MIN),
        RoleAnswer::NotGranted(_) | RoleAnswer::Unknown(_) => (None, i64::MIN, i64::MIN),
    }
}

fn gives_no_more(less: &RoleAnswer, more: &RoleAnswer) -> bool {
    let (a, b) = (worth(less), worth(more));
    a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2
}

fn any_end() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of((-20_i64..7_200).prop_map(|s| NOW.plus(s)))
}

fn any_refused() -> impl Strategy<Value = Refused> {
    prop_oneof![
        "[ab]".prop_map(|id| Refused::DenyAssignment { id }),
        (any_end(), any_end()).prop_map(|(opens, ended)| Refused::PimNotActive { opens, ended }),
        "[ab]".prop_map(|assignment| Refused::Conditional { assignment }),
        Just(Refused::NoAssignment),
    ]
}

pub(crate) fn any_answer() -> impl Strategy<Value = RoleAnswer> {
    let granted =
        (any::<bool>(), any_end(), any_end(), prop::option::of(any_refused()), any::<bool>(), "[ab]");
    let granted = granted.prop_map(|(admin, until, admin_until, refused, unknown, action)| {
        let evidence = Evidence { action, ..Evidence::default() };
        RoleAnswer::Granted(Grant {
            role: if admin { Role::Admin } else { Role::User },
            until,
            admin_until: admin_until.filter(|_| admin),
            admin_evidence: admin.then(|| evidence.clone()),
            evidence,
            admin_refused: refused.filter(|_| !admin),
            unknown: unknown.then(upstream),
        })
    });
    prop_oneof![
        3 => granted,
        1 => any_refused().prop_map(RoleAnswer::NotGranted),
        1 => Just(RoleAnswer::Unknown(upstream())),
    ]
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let action = prop::sample::select(vec![LOGIN, LOGIN_AS_ADMIN, "other"]);
    let word = prop::sample::select(vec!["Allowed", "Allowed", "NotAllowed", "Denied", "Perhaps", "New"]);
    (action, word, prop::option::of("[ab]"), any::<bool>()).prop_map(|(action, word, id, odd)| Decision {
        action_id: action.to_owned(),
        is_data_action: None,
        access: Access::from_word(word),
        role_assignment: id.clone(),
        deny_assignment: id,
        scope: None,
        has_condition: odd && word == "Allowed",
        ttl_ms: None,
    })
}

proptest! {
    #![proptest_config(fixed(800))]

    #[test]
    fn the_order_of_the_facts_does_not_matter(seed in any::<u64>()) {
        let mut world = world::world(seed);
        let before = answer(&world);
        let mut dice = Dice(seed ^ 1);
        dice.shuffle(&mut world.facts.definitions);
        dice.shuffle(&mut world.facts.assignments);
        dice.shuffle(&mut world.facts.denies);
        dice.shuffle(&mut world.principals);
        prop_assert_eq!(before, answer(&world));
    }

    #[test]
    fn a_deny_never_grants(seed in any::<u64>()) {
        let mut world = world::world(seed);
        let before = answer(&world);
        world.facts.denies.push(world::deny(&mut Dice(seed ^ 2), world.target, "new").0);
        prop_assert!(gives_no_more(&answer(&world), &before));
    }

    #[test]
    fn an_assignment_never_takes_away(seed in any::<u64>()) {
        let mut world = world::world(seed);
        let before = answer(&world);
        world.facts.assignments.push(world::assignment(&mut Dice(seed ^ 3), world.target, "new").0);
        prop_assert!(gives_no_more(&before, &answer(&world)));
    }

    #[test]
    fn a_condition_never_grants(seed in any::<u64>()) {
        let mut world = world::world(seed);
        let before = answer(&world);
        for assignment in &mut world.facts.assignments {
            assignment.condition.get_or_insert_with(String::new);
        }
        let after = answer(&world);
        prop_assert!(gives_no_more(&after, &before));
        prop_assert_eq!(role_of(&after), None);
    }

    #[test]
    fn a_missing_definition_never_grants_and_never_denies(seed in any::<u64>()) {
        let mut world = world::world(seed);
        let before = answer(&world);
        world.facts.definitions.clear();
        let after = answer(&world);
        prop_assert_eq!(role_of(&after), None);
        if role_of(&before).is_some() {
            prop_assert!(matches!(after, RoleAnswer::Unknown(_)));
        }
    }

    #[test]
    fn the_order_of_decisions_does_not_matter(
        decisions in prop::collection::vec(any_decision(), 0..6), seed in any::<u64>()
    ) {
        let requested = ActionSet::azure().requested();
        let mut mixed = decisions.clone();
        Dice(seed).shuffle(&mut mixed);
        let (one, two) = (fold(&requested, &decisions), fold(&requested, &mixed));
        // A word that nobody knows may be quoted differently; everything else is the same.
        let quoted = |a: &RoleAnswer| matches!(a, RoleAnswer::Unknown(_));
        prop_assert!(one == two || (quoted(&one) && quoted(&two)));
        let allowed = |action: &str| decisions.iter().any(|d| d.action_id == action && d.access == Access::Allowed);
        if role_of(&one).is_some() {
            prop_assert!(allowed(LOGIN));
        }
        if role_of(&one) == Some(Role::Admin) {
            prop_assert!(allowed(LOGIN_AS_ADMIN));
        }
    }

    #[test]
    fn combined_scopes_are_the_best_of_them_or_denied(
        answers in prop::collection::vec((prop::sample::select(vec![ScopeKind::Node, ScopeKind::Cluster]), any_answer()), 1..4),
        seed in any::<u64>()
    ) {
        let whole = combine(&answers);
        let mut mixed = answers.clone();
        Dice(seed).shuffle(&mut mixed);
        prop_assert_eq!(&whole, &combine(&mixed));
        let best = |f: fn(&(Option<Role>, i64, i64)) -> i64| answers.iter().map(|(_, a)| f(&worth(a))).max().unwrap();
        let got = worth(&whole);
        prop_assert!(got.0 <= answers.iter().map(|(_, a)| worth(a).0).max().unwrap());
        prop_assert!(got.1 <= best(|w| w.1));
        prop_assert!(got.2 <= best(|w| w.2));
        let denied = answers.iter().any(|(_, a)| matches!(a, RoleAnswer::NotGranted(Refused::DenyAssignment { .. })));
        let granted = answers.iter().any(|(_, a)| role_of(a).is_some());
        prop_assert_eq!(role_of(&whole).is_some(), granted && !denied);
    }

    #[test]
    fn a_permit_never_exceeds_a_cap(
        roles in any_answer(), end in -20_i64..7_200, session in prop::option::of(1_u32..7_200), sudo in any::<bool>()
    ) {
        let (mut request, mut facts, mut rules) = good();
        request.service = if sudo { Service::Sudo } else { Service::Ssh };
        facts.credential_end = Some(NOW.plus(end));
        facts.roles = roles.clone();
        rules.max_session = session.and_then(NonZeroU32::new);
        let Verdict::Permit(permit) = judge(&request, &facts, &rules, NOW).verdict else { return Ok(()) };
        let RoleAnswer::Granted(grant) = roles else { return Err(TestCaseError::fail("a permit without a grant")) };
        prop_assert!(NOW < permit.until());
        prop_assert!(permit.until() <= NOW.plus(end));
        prop_assert!(grant.until.is_none_or(|end| permit.until() <= end));
        prop_assert!(session.is_none_or(|cap| permit.until() <= NOW.plus(i64::from(cap))));
        prop_assert!(permit.role() <= grant.role);
        prop_assert!(permit.admin() || !sudo);
        prop_assert_eq!(permit.admin(), permit.admin_until().is_some());
        if let Some(admin_until) = permit.admin_until() {
            prop_assert!(NOW < admin_until && admin_until <= permit.until());
            prop_assert!(grant.admin_until.is_none_or(|end| admin_until <= end));
        }
        // And it is one of the caps: nothing shortens it for no reason.
        let caps = [Some(NOW.plus(end)), grant.until, session.map(|cap| NOW.plus(i64::from(cap)))];
        prop_assert!(caps.contains(&Some(permit.until())));
    }
}
