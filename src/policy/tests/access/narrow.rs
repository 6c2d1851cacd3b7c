//! Within the whole decision: access rules only take away, and of what is kept, what the role takes away.

use nightlatch_model::{Answer, Reason, Role};
use nightlatch_policy::{
    AccessRules, Effect, GraceRule, Limits, LoginRequest, Permit, RoleAnswer, RuleEffect, Ruled, Ruling,
    Service, Verdict, decide,
};

use crate::case::{Case, FEWER_CASES, case, decided};
use crate::given::{self, good, secs, upstream};
use crate::world::{Plain, policy};

/// An administrator's right that is not there ends before all others.
fn admin_end(permit: &Permit) -> i64 {
    permit.admin_until().map_or(i64::MIN, |end| end.0)
}

/// What is left of the effect without rules where a rule refuses: never a yes. Of a yes, what it takes away.
fn without_its_yes(case: &Case, without: &Ruling) -> Effect {
    match &without.effect {
        Effect::Remember(yes) => {
            let same = |last: &&nightlatch_policy::FreshYes| (last.tid, last.oid) == (yes.tid, yes.oid);
            let less = case.last.as_ref().filter(same).is_some_and(|last| yes.gives_less_than(last));
            if less { Effect::Erase } else { Effect::Nothing }
        }
        other => other.clone(),
    }
}

#[test]
fn a_policy_only_takes_away() {
    let (mut both, mut degraded, mut shorter, mut ruled_out, mut lost_grace, mut neither) =
        (0, 0, 0, 0, 0, 0);
    let (mut taken, mut changed) = (0, 0);
    for (number, case, with, without) in decided() {
        // What the caller is told about the world without rules is what is decided there.
        let reason = match &without.judgement.verdict {
            Verdict::Denial(denial) => Some(denial.reason()),
            Verdict::Permit(_) => None,
        };
        assert_eq!(with.without_rules, reason, "case {number}");
        match (&with.judgement.verdict, &without.judgement.verdict) {
            (Verdict::Permit(with), Verdict::Permit(without)) => {
                assert!(with.role() <= without.role() && with.until() <= without.until(), "case {number}");
                assert!(
                    admin_end(with) <= admin_end(without) && case.now.wall < with.until(),
                    "case {number}"
                );
                assert_eq!(with.degraded(), without.degraded(), "case {number}");
                both += 1;
                degraded += u32::from(with.degraded());
                shorter += u32::from(with.until() < without.until());
            }
            (Verdict::Permit(permit), Verdict::Denial(denial)) => {
                panic!("case {number}: {permit:?} rather than {denial:?}")
            }
            (Verdict::Denial(denial), Verdict::Permit(permit)) => {
                let of_rules = denial.reason().is_of_access_rules();
                if of_rules && !permit.degraded() {
                    assert_eq!(with.effect, without_its_yes(&case, without), "case {number}");
                } else {
                    assert_eq!(with.effect, Effect::Nothing, "case {number}: the role was not refused");
                    assert!(of_rules || permit.degraded(), "case {number}: {denial:?}");
                }
                taken += u32::from(with.effect == Effect::Erase);
                changed += u32::from(denial.reason() == Reason::PolicyChanged);
                ruled_out += u32::from(of_rules);
                lost_grace += u32::from(!of_rules);
            }
            (Verdict::Denial(with), Verdict::Denial(without)) => {
                neither += 1;
                // A definite no keeps its reason, unless the session had ended before it.
                let same = [without.reason(), Reason::SessionOver].contains(&with.reason());
                assert!(same || without.answer() == Answer::Unknown, "case {number}: {with:?} {without:?}");
            }
        }
    }
    println!("{both} permits ({degraded} in grace, {shorter} shorter), {ruled_out} refused by rules,");
    println!(
        "{lost_grace} for want of grace, {neither} refused without them, too; of those refused by rules"
    );
    println!("{taken} lost what was kept, {changed} because more was open than the rule allows");
    assert!(both > 4_000 && degraded > 500 && shorter > 800, "it shows nothing");
    assert!(ruled_out > 8_000 && lost_grace > 80 && neither > 8_000, "it shows nothing");
    assert!(taken > 500 && changed > 300, "it shows nothing");
}

/// The first of: the end without rules, the end of the rule's time, of its longest session, of its grace.
#[test]
fn the_end_of_a_permit_is_the_first_of_its_ends() {
    let (mut by_length, mut by_time, mut seen) = (0, 0, 0);
    for (number, case, with, without) in decided() {
        let role = with.role;
        let (Verdict::Permit(with), Verdict::Permit(without)) =
            (&with.judgement.verdict, &without.judgement.verdict)
        else {
            continue;
        };
        // A living session may be asked about as an administrator's that is none by grace.
        let live = case.scene.service == Service::Live;
        assert!(role == Some(with.role()) || (live && role == Some(Role::Admin)), "case {number}");
        let Ruled::Permits { limits, closes, .. } = case.ruled(role) else {
            panic!("case {number}: let in although the rules do not")
        };
        let began = case.facts.began.unwrap_or(case.now.wall);
        let length = limits.max_session.map(|longest| began.plus(i64::from(longest.get())));
        let mut ends = vec![without.until()];
        ends.extend(length);
        ends.extend(closes);
        if with.degraded() {
            // The same boot, or it could not be told: then the kept yes is as old as its wall clock says.
            let age = case.now.wall.since(case.last.as_ref().unwrap().at.wall);
            ends.extend(
                limits.grace.map(|grace| case.now.wall.plus(i64::try_from(grace.as_secs()).unwrap() - age)),
            );
        }
        assert_eq!(Some(with.until()), ends.iter().min().copied(), "case {number} {ends:?}");
        seen += 1;
        by_length += u32::from(Some(with.until()) == length);
        by_time += u32::from(Some(with.until()) == closes);
    }
    assert!(
        seen > 4_000 && by_length > 500 && by_time > 20,
        "{seen} {by_length} {by_time}: it shows nothing"
    );
}

/// What is kept is the same with and without rules; only a rule that refuses lets nothing be remembered.
#[test]
fn what_is_kept_follows_the_role_alone() {
    let (mut remembered, mut erased, mut spared, mut taken) = (0, 0, 0, 0);
    for (number, case, with, without) in decided() {
        let refused = match &with.judgement.verdict {
            Verdict::Denial(denial) => Some(denial.reason()),
            Verdict::Permit(_) => None,
        };
        if refused.is_some_and(Reason::is_of_access_rules) {
            assert_eq!(with.effect, without_its_yes(&case, without), "case {number}");
            let no_role = matches!(case.facts.roles, RoleAnswer::NotGranted(_));
            let own =
                case.last.as_ref().is_some_and(|last| Some((last.tid, last.oid)) == case.facts.identity);
            assert!(!no_role || with.effect == if own { Effect::Erase } else { Effect::Nothing });
            spared += u32::from(case.last.is_some() && with.effect == Effect::Nothing);
            taken += u32::from(!no_role && with.effect == Effect::Erase);
        } else if refused.is_none() || matches!(without.judgement.verdict, Verdict::Denial(_)) {
            assert_eq!(with.effect, without.effect, "case {number}");
            remembered += u32::from(matches!(with.effect, Effect::Remember(_)));
            erased += u32::from(with.effect == Effect::Erase);
        } else {
            assert_eq!(with.effect, Effect::Nothing, "case {number}: only the grace was lost");
        }
    }
    assert!(
        remembered > 2_500 && erased > 500 && spared > 5_000 && taken > 1_000,
        "{remembered} {erased} {spared} {taken}: it shows nothing"
    );
}

/// Never has sshd opened more than the rule allows that lets in; where it has not, it makes no difference.
#[test]
fn no_permit_has_more_open_than_its_rule_allows() {
    let (mut narrow, mut refused, mut the_same) = (0, 0, 0);
    for number in 0..FEWER_CASES {
        let mut case = case(number);
        let Some(told) = case.facts.told else { continue };
        let with = case.by_rules();
        case.facts.told = None;
        let untold = case.by_rules();
        let forward = match case.ruled(with.role) {
            Ruled::Permits { limits, .. } => limits.forward,
            Ruled::NoPolicy | Ruled::Refuses { .. } => None,
        };
        let beyond = forward
            .is_some_and(|f| (told.port && !f.port) || (told.agent && !f.agent) || (told.x11 && !f.x11));
        match (&with.judgement.verdict, &untold.judgement.verdict) {
            (Verdict::Denial(denial), Verdict::Permit(_)) => {
                assert_eq!((denial.reason(), beyond), (Reason::PolicyChanged, true), "case {number}");
                refused += 1;
            }
            (with, untold) => {
                assert_eq!(with, untold, "case {number}");
                assert!(!beyond || matches!(with, Verdict::Denial(_)), "case {number}");
                narrow += u32::from(forward.is_some() && matches!(with, Verdict::Permit(_)));
                the_same += 1;
            }
        }
        assert_eq!(with.role, untold.role, "case {number}");
    }
    assert!(narrow > 400 && refused > 250 && the_same > 9_000, "{narrow} {refused} {the_same}");
}

/// By hand: ten minutes after the yes, Azure is mute.
#[test]
fn a_rule_shortens_the_grace_of_whom_it_permits() {
    let (request, mut facts, rules) = good();
    facts.roles = RoleAnswer::Unknown(upstream());
    let last = given::yes(Role::User, secs(600));
    let until = |grace: Option<u64>, service| {
        let limits = Limits { grace: grace.map(secs), ..Limits::default() };
        let policy = policy(&[Plain { limits, ..Plain::new("short", RuleEffect::Permit) }]);
        let access = AccessRules { policy: &policy, ..AccessRules::none() };
        let request = LoginRequest { service, ..request.clone() };
        let now = given::now();
        match decide(Some(&last), &request, &facts, &rules, GraceRule::default(), access, now)
            .judgement
            .verdict
        {
            Verdict::Permit(permit) => Ok(permit.until().since(now.wall)),
            Verdict::Denial(denial) => Err(denial.reason()),
        }
    };
    for service in [Service::Ssh, Service::Other, Service::Live] {
        assert_eq!(until(None, service), Ok(3_000));
        assert_eq!(until(Some(200_000), service), Ok(3_000), "the node's own is not widened");
        assert_eq!(until(Some(601), service), Ok(1));
        assert_eq!(until(Some(600), service), Err(Reason::UpstreamUnknown));
        assert_eq!(until(Some(0), service), Err(Reason::UpstreamUnknown));
    }
}
