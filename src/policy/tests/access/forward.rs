//! The ways through a session, asked before all is known: never more than the rule allows that decides.

use nightlatch_model::{Role, Timestamp};
use nightlatch_policy::{AccessRules, DoorKind, Forwarding, Limits, RuleEffect, Ruled, Service};

use crate::chance::{ADDRESSES, RESOURCES, rules, scene};
use crate::dice::Dice;
use crate::mistakes::{IN_WAYS, Mistake};
use crate::model::{POSSIBLE_NARROWS, ways};
use crate::world::{Plain, Scene, policy};

const POLICIES: u64 = 25_000;
/// Within how many policies a mistake must be noticed.
const NOTICED_WITHIN: u64 = 4_000;

fn within(less: Forwarding, more: Forwarding) -> bool {
    less.and(more) == less
}

/// What the rule that permits allows; `None` where nobody is let in.
fn decided(rules: AccessRules<'_>, scene: &Scene) -> Option<Forwarding> {
    match rules.rule(&scene.circumstances()) {
        Ruled::NoPolicy => Some(Forwarding::ALL),
        Ruled::Permits { limits, .. } => Some(limits.forward.unwrap_or(Forwarding::ALL)),
        Ruled::Refuses { .. } => None,
    }
}

/// Every role and address with which it could be asked again, and not knowing them.
fn later(scene: &Scene) -> impl Iterator<Item = Scene> {
    let froms: Vec<_> = ADDRESSES.iter().map(|text| Some(text.parse().unwrap())).chain([None]).collect();
    [None, Some(Role::User), Some(Role::Admin)]
        .into_iter()
        .flat_map(move |role| froms.clone().into_iter().map(move |from| (role, from)))
        .map(|(role, from)| Scene { role, from, ..scene.clone() })
}

#[test]
fn never_more_than_the_rule_that_decides_later() {
    let (mut permits, mut narrower, mut by_a_later_rule) = (0_u32, 0_u32, 0_u32);
    for number in 0..POLICIES {
        let dice = &mut Dice(number);
        let policy = policy(&rules(dice));
        let early = Scene { role: None, from: None, ..scene(dice) };
        early.with(&policy, |access| {
            let told = access.forwarding(&early.circumstances(), false);
            for scene in later(&early) {
                let Some(allowed) = decided(access, &scene) else { continue };
                assert!(
                    within(told, allowed),
                    "policy {number}: {told:?} {allowed:?}\n{policy:?}\n{scene:?}"
                );
                permits += 1;
                narrower += u32::from(allowed != Forwarding::ALL);
                by_a_later_rule += u32::from(told != allowed);
            }
        });
    }
    println!(
        "{permits} permits, {narrower} of them narrower than all, {by_a_later_rule} told still less before"
    );
    assert!(permits > 100_000 && narrower > 50_000 && by_a_later_rule > 5_000, "it shows nothing");
}

/// Who, whether a guest, the zone, and which node it is may be found out later, too; the sign-in may not.
#[test]
fn never_more_than_what_is_decided_when_more_is_known() {
    let mut permits = 0_u32;
    for number in 0..POLICIES {
        let dice = &mut Dice(!number);
        let policy = policy(&rules(dice));
        let late = scene(dice);
        let mut early = Scene { role: None, from: None, ..late.clone() };
        if dice.once_in(2) {
            early.person = None;
        }
        if dice.once_in(2) {
            early.guest = None;
        }
        if dice.once_in(2) {
            early.offsets[1] = None;
        }
        if dice.once_in(2) {
            early.resources.clear();
        }
        let told = early.with(&policy, |access| access.forwarding(&early.circumstances(), false));
        let Some(allowed) = late.with(&policy, |access| decided(access, &late)) else { continue };
        assert!(
            within(told, allowed),
            "policy {number}: {told:?} {allowed:?}\n{policy:?}\n{early:?}\n{late:?}"
        );
        permits += u32::from(allowed != Forwarding::ALL);
    }
    assert!(permits > 1_000, "{permits} show nothing");
}

/// Where all is known beforehand, it is what the rule says that decides, and no less.
#[test]
fn no_less_than_the_rule_that_decides_where_all_is_known() {
    let mut permits = 0_u32;
    for number in 0..POLICIES {
        let dice = &mut Dice(number);
        let policy = policy(&rules(dice));
        let mut scene = scene(dice);
        scene.offsets = vec![Some(0); 4];
        scene.person.get_or_insert(0xa1);
        scene.guest.get_or_insert(false);
        scene.role.get_or_insert(Role::User);
        scene.from.get_or_insert_with(|| ADDRESSES[0].parse().unwrap());
        if scene.resources.is_empty() {
            scene.resources.push(dice.pick(&RESOURCES));
        }
        scene.half_known = false;
        if scene.sign_in.as_ref().is_none_or(|sign_in| sign_in.groups.is_none()) {
            continue;
        }
        scene.with(&policy, |access| {
            let Some(allowed) = decided(access, &scene) else { return };
            assert_eq!(
                access.forwarding(&scene.circumstances(), false),
                allowed,
                "policy {number}\n{policy:?}\n{scene:?}"
            );
            permits += u32::from(allowed != Forwarding::ALL);
        });
    }
    assert!(permits > 1_000, "{permits} show nothing");
}

/// Not showing who, whence, whether a guest or which node never gets more than showing it.
#[test]
fn what_is_not_known_widens_no_limit() {
    if !POSSIBLE_NARROWS {
        return;
    }
    let (mut both, mut narrower) = (0_u32, 0_u32);
    for number in 0..POLICIES {
        let dice = &mut Dice(number);
        let policy = policy(&rules(dice));
        let open = scene(dice);
        let mut hidden = open.clone();
        if dice.once_in(2) {
            hidden.person = None;
        }
        match dice.below(4) {
            0 => hidden.role = None,
            1 => hidden.from = None,
            2 => hidden.guest = None,
            _ => hidden.resources.clear(),
        }
        let limits = |scene: &Scene| match scene.with(&policy, |access| access.rule(&scene.circumstances())) {
            Ruled::Permits { limits, .. } => Some(limits),
            Ruled::NoPolicy | Ruled::Refuses { .. } => None,
        };
        let (Some(less), Some(more)) = (limits(&hidden), limits(&open)) else { continue };
        let text = format!("policy {number}: {less:?} {more:?}");
        let all = Forwarding::ALL;
        assert!(within(less.forward.unwrap_or(all), more.forward.unwrap_or(all)), "{text}");
        assert!(more.grace.is_none_or(|more| less.grace.is_some_and(|less| less <= more)), "{text}");
        assert!(
            more.max_session.is_none_or(|more| less.max_session.is_some_and(|less| less <= more)),
            "{text}"
        );
        both += 1;
        narrower += u32::from(less != more);
    }
    assert!(both > 4_000 && narrower > 200, "{both} {narrower}: it shows nothing");
}

/// One policy put to both, with what is known when sshd asks and with more and less.
fn compare(number: u64, mistake: Mistake, mut seen: impl FnMut(Forwarding)) -> Result<(), String> {
    let dice = &mut Dice(number);
    let rules = rules(dice);
    let policy = policy(&rules);
    for _ in 0..4 {
        let mut scene = scene(dice);
        if !dice.once_in(4) {
            (scene.role, scene.from) = (None, None);
        }
        let found = scene.with(&policy, |access| access.forwarding(&scene.circumstances(), false));
        let want = ways(&rules, &scene, mistake);
        if found != want {
            return Err(format!("policy {number}\n{rules:?}\n{scene:?}\n{found:?} rather than {want:?}"));
        }
        seen(found);
    }
    Ok(())
}

#[test]
fn every_case_opens_what_the_model_opens() {
    let (mut all, mut less) = (0_u32, 0_u32);
    for number in 0..POLICIES / 2 {
        let seen = |forward| if forward == Forwarding::ALL { all += 1 } else { less += 1 };
        compare(number, Mistake::Nothing, seen).unwrap_or_else(|text| panic!("{text}"));
    }
    assert!(all > 10_000 && less > 10_000, "{all} {less}: it shows nothing");
}

#[test]
fn each_mistake_about_the_ways_is_noticed() {
    for &mistake in IN_WAYS.iter().chain(&[Mistake::NoResourceIsNone, Mistake::NoResourceIsAny]) {
        let noticed = (0..NOTICED_WITHIN).find(|&number| compare(number, mistake, |_| ()).is_err());
        let number = noticed.unwrap_or_else(|| panic!("{mistake:?} was not noticed"));
        assert_eq!(compare(number, Mistake::Nothing, |_| ()), Ok(()), "without any mistake");
        println!("{mistake:?}: noticed with policy {number}");
    }
}

/// The one rule that could decide, by effect and what it knows.
#[test]
fn rules_that_cannot_decide_take_nothing_away() {
    let none = Forwarding { port: false, agent: false, x11: false };
    let narrow = Limits { forward: Some(none), ..Limits::default() };
    let scene = Scene { service: Service::Ssh, sign_in: None, role: None, from: None, ..scene(&mut Dice(1)) };
    let told = |rules: &[Plain]| {
        scene.with(&policy(rules), |access| access.forwarding(&scene.circumstances(), false))
    };
    let permit = || Plain { limits: narrow, ..Plain::new("narrow", RuleEffect::Permit) };
    let wide = || Plain::new("wide", RuleEffect::Permit);
    assert_eq!(told(&[]), Forwarding::ALL);
    assert_eq!(told(&[permit()]), none);
    assert_eq!(told(&[wide(), permit()]), Forwarding::ALL, "the first decides");
    for (role, forwarding) in [(Some(Role::User), none), (None, Forwarding::ALL)] {
        assert_eq!(told(&[Plain { role, ..wide() }, permit()]), forwarding, "unless its role is not sure");
        assert_eq!(told(&[Plain { role, effect: RuleEffect::Deny, ..wide() }, permit()]), forwarding);
        assert_eq!(told(&[Plain { role, effect: RuleEffect::StepUp, ..wide() }, permit()]), forwarding);
    }
    assert_eq!(told(&[Plain { device: true, ..permit() }]), Forwarding::ALL, "it will never permit");
    // A step-up rule whose evidence is missing can only refuse.
    let step_up = |role| Plain { role, device: true, effect: RuleEffect::StepUp, ..permit() };
    for role in [None, Some(Role::User)] {
        assert_eq!(told(&[step_up(role)]), Forwarding::ALL, "it narrows nothing");
        assert_eq!(told(&[step_up(role), wide()]), Forwarding::ALL, "it narrows nothing");
    }
    assert_eq!(told(&[step_up(None), permit()]), Forwarding::ALL, "nobody gets past it");
    assert_eq!(told(&[step_up(Some(Role::User)), permit()]), none, "somebody may");
    let shown = Plain { effect: RuleEffect::StepUp, ..permit() };
    assert_eq!(told(&[shown.clone(), wide()]), none, "it asks for nothing and decides");
    assert_eq!(told(&[Plain { role: Some(Role::User), ..shown }, wide()]), none, "it may decide");
    // Which node it is may be found out until then; its labels are known.
    let bare = Scene { resources: vec![], labels: vec![("env", "prod")], ..scene.clone() };
    let told_bare =
        |rules: &[Plain]| bare.with(&policy(rules), |access| access.forwarding(&bare.circumstances(), false));
    let at =
        |label| Plain { patterns: Some(vec!["/subscriptions/s1"]), labels: Some(vec![label]), ..permit() };
    assert_eq!(told_bare(&[at(("env", "prod")), wide()]), none);
    assert_eq!(told_bare(&[at(("env", "test")), wide()]), Forwarding::ALL);
    let door = Some(vec![DoorKind::Sudo]);
    assert_eq!(told(&[Plain { doors: door, ..permit() }]), Forwarding::ALL, "it is about another door");
}

/// Where a sign-in may follow at the prompt, what it shows takes nothing back of what sshd was told: whoever shows less must
/// not be told more.
#[test]
fn never_more_than_what_a_sign_in_at_the_prompt_leads_to() {
    let (mut permits, mut without) = (0_u32, 0_u32);
    for number in 0..POLICIES {
        let dice = &mut Dice(number ^ 0x5157_0000);
        let policy = policy(&rules(dice));
        let (before, other) = (scene(dice), scene(dice));
        let (Some(certificate), Some(fresh)) = (&before.sign_in, &other.sign_in) else { continue };
        let early = Scene { role: None, from: None, ..before.clone() };
        let both = certificate.with_prompted(fresh, Timestamp(before.now));
        // The sign-in may say that the person is a guest, where the certificate does not.
        let guest = before.guest.or(other.guest);
        let late = Scene { sign_in: Some(both), guest, ..before.clone() };
        let told = early.with(&policy, |access| access.forwarding(&early.circumstances(), true));
        let plain = early.with(&policy, |access| access.forwarding(&early.circumstances(), false));
        assert!(within(told, plain), "policy {number}: {told:?} {plain:?}\n{policy:?}");
        // Whoever is let in as they are is not asked for a sign-in.
        let as_it_is = before.with(&policy, |access| decided(access, &before));
        for scene in if as_it_is.is_some() { [&before] } else { [&late] } {
            let Some(allowed) = scene.with(&policy, |access| decided(access, scene)) else { continue };
            assert!(
                within(told, allowed),
                "policy {number}: {told:?} {allowed:?}\n{policy:?}\n{early:?}\n{scene:?}"
            );
            permits += 1;
            without += u32::from(!within(plain, allowed));
        }
    }
    assert!(permits > 5_000 && without > 20, "it shows nothing: {permits} {without}");
}
