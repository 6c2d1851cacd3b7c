//! The walk over the rules beside the model of it, over many random policies and circumstances.

use nightlatch_policy::{Missing, ProofKind, Ruled};

use crate::chance::{rules, scene};
use crate::dice::Dice;
use crate::mistakes::{IN_POSSIBLE, IN_WALK, Mistake};
use crate::model::{Kind, POSSIBLE_NARROWS, Said, Told, tell};
use crate::world::{Plain, Scene, policy};

const POLICIES: u64 = 32_000;
/// How many scenes each policy is asked about.
const SCENES: usize = 10;
/// Within how many policies a mistake must be noticed.
const NOTICED_WITHIN: u64 = 4_000;

/// Each kind of outcome, and how many thousandths of all cases it must be at least.
const KINDS: [(Kind, usize); 11] = [
    (Kind::Permit, 80),
    (Kind::PermitWithTime, 10),
    (Kind::StepUpPermits, 20),
    (Kind::StepUpRefuses, 40),
    (Kind::StepUpRefusesUnknown, 20),
    (Kind::Denied, 20),
    (Kind::DeniedUnknown, 20),
    (Kind::EndMissing, 20),
    (Kind::EndClaims, 10),
    (Kind::EndGroups, 10),
    (Kind::EndNoRule, 80),
];

fn of(ruled: &Ruled) -> Said {
    match ruled {
        Ruled::NoPolicy => Said::NoPolicy,
        Ruled::Permits { rule, limits, closes, .. } => {
            Said::In { rule: rule.to_string(), limits: *limits, closes: closes.map(|end| end.0) }
        }
        Ruled::Refuses { rule, reason, .. } => {
            Said::Out { rule: rule.as_ref().map(ToString::to_string), reason: *reason }
        }
    }
}

/// Whether both miss the same. Where an Entra certificate holds words that it cannot say, "a certificate with
/// claims" is enough, and the words may be left out.
fn same_evidence(ruled: &Ruled, model: &[Missing], scene: &Scene) -> bool {
    let told = if let Ruled::Refuses { missing, .. } = ruled { missing.as_slice() } else { &[] };
    let both = |one: &[Missing], two: &[Missing]| one.iter().all(|missing| two.contains(missing));
    let odd = scene
        .sign_in
        .as_ref()
        .is_some_and(|s| s.proof == ProofKind::Entra && s.prompted.is_none() && s.amr.is_some());
    both(told, model) && (both(model, told) || (odd && told.contains(&Missing::Claims)))
}

/// One policy and its scenes, put to both.
fn compare(number: u64, mistake: Mistake, mut seen: impl FnMut(Kind)) -> Result<(), String> {
    let dice = &mut Dice(number);
    let rules = rules(dice);
    let policy = policy(&rules);
    for _ in 0..SCENES {
        let scene = scene(dice);
        let ruled = scene.with(&policy, |access| access.rule(&scene.circumstances()));
        let Told { said, missing, kind } = tell(&rules, &scene, mistake);
        if of(&ruled) != said || !same_evidence(&ruled, &missing, &scene) {
            return Err(difference(number, &rules, &scene, &ruled, &(said, missing)));
        }
        seen(kind);
    }
    Ok(())
}

fn difference(
    number: u64,
    rules: &[Plain],
    scene: &Scene,
    ruled: &Ruled,
    said: &(Said, Vec<Missing>),
) -> String {
    format!("policy {number}\n{rules:?}\n{scene:?}\nit says {ruled:?}\nthe model {said:?}")
}

#[test]
fn every_case_has_the_models_answer() {
    let mut counts = [0_usize; KINDS.len()];
    for number in 0..POLICIES {
        let seen = |kind| counts[KINDS.iter().position(|(known, _)| *known == kind).unwrap()] += 1;
        compare(number, Mistake::Nothing, seen).unwrap_or_else(|text| panic!("{text}"));
    }
    let all: usize = counts.iter().sum();
    println!("{all} cases");
    for ((kind, least), count) in KINDS.iter().zip(counts) {
        println!("  {kind:?}: {count} ({:.1} %)", 100.0 * count as f64 / all as f64);
        assert!(count * 1_000 >= all * least, "{kind:?}: {count} of {all} are too few");
    }
    assert!(all >= 300_000, "{all}");
}

#[test]
fn each_mistake_in_the_model_is_noticed() {
    let possible = if POSSIBLE_NARROWS { IN_POSSIBLE } else { &[] };
    for &mistake in IN_WALK.iter().chain(possible) {
        let noticed = (0..NOTICED_WITHIN).find(|&number| compare(number, mistake, |_| ()).is_err());
        let Some(number) = noticed else {
            panic!("{mistake:?} was not noticed in {NOTICED_WITHIN} policies")
        };
        assert_eq!(compare(number, Mistake::Nothing, |_| ()), Ok(()), "without any mistake");
        println!("{mistake:?}: noticed with policy {number}");
    }
}
