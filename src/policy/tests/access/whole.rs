//! A second telling of what the access rules make of a decision: with which role they are asked, who is let
//! in, and what is kept. What is decided without rules is taken as it is.

use std::time::Duration;

use nightlatch_model::{Reason, Role};
use nightlatch_policy::{Effect, FreshYes, Grant, RoleAnswer, RuleEffect, Ruling, Service, Verdict};

use crate::case::{CASES, Case, decided_at};
use crate::mistakes::{IN_WHOLE, Mistake};
use crate::model::{Said, Told, list, tell};
use crate::world::Scene;

/// Within how many cases a mistake must be noticed.
const NOTICED_WITHIN: u64 = 10_000;

/// What both must say.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Whole {
    /// With which role the rules are asked.
    role: Option<Role>,
    /// As what somebody is let in, or why not.
    out: Result<Role, Reason>,
    effect: Effect,
}

fn of(ruling: &Ruling) -> Whole {
    let out = match &ruling.judgement.verdict {
        Verdict::Permit(permit) => Ok(permit.role()),
        Verdict::Denial(denial) => Err(denial.reason()),
    };
    Whole { role: ruling.role, out, effect: ruling.effect.clone() }
}

/// The role that the kept yes gives while Azure is silent, in windows no longer than this.
fn stands_in(case: &Case, longest: Option<Duration>) -> Option<Role> {
    let last = case.last.as_ref()?;
    if Some((last.tid, last.oid)) != case.facts.identity || last.name != case.request.name {
        return None;
    }
    let as_user = case.scene.service == Service::Live || last.role == Role::User;
    if as_user && case.scene.service == Service::Sudo {
        return None;
    }
    let window = if as_user { case.grace.user() } else { case.grace.admin() };
    let window = longest.map_or(window, |longest| longest.min(window));
    let end = if as_user { last.ends } else { last.admin_ends.into_iter().chain(last.ends).min() };
    let sure = !case.now.suspect && !last.at.suspect;
    // Cases of another boot are older than any window here.
    let age = case.now.since_boot.checked_sub(last.at.since_boot).filter(|_| last.at.boot == case.now.boot);
    let holds = sure && end.is_none_or(|end| end > case.now.wall) && age.is_some_and(|age| age < window);
    holds.then_some(if as_user { Role::User } else { Role::Admin })
}

/// Azure granted the login and said nothing about the administrator.
fn half(grant: &Grant, mistake: Mistake) -> bool {
    grant.role == Role::User
        && grant.unknown.is_some()
        && (grant.admin_refused.is_none() || mistake == Mistake::LiveRefusedIsSilence)
}

/// The role that somebody has, by Azure or by grace.
fn held(case: &Case, mistake: Mistake) -> Option<Role> {
    let over = |end: Option<nightlatch_model::Timestamp>| end.is_some_and(|end| end <= case.now.wall);
    match &case.facts.roles {
        RoleAnswer::NotGranted(_) => None,
        RoleAnswer::Unknown(_) => stands_in(case, None),
        RoleAnswer::Granted(grant) if over(grant.until) && mistake != Mistake::EndedLoginIsUser => None,
        RoleAnswer::Granted(grant) => {
            let admin = grant.role == Role::Admin
                && (!over(grant.admin_until) || mistake == Mistake::EndedAdminIsAdmin);
            let by_grace = case.scene.service == Service::Sudo
                && half(grant, Mistake::Nothing)
                && stands_in(case, None) == Some(Role::Admin)
                && mistake != Mistake::SudoHalfIsUser;
            Some(if admin || by_grace { Role::Admin } else { Role::User })
        }
    }
}

/// The role that the rules are asked with.
fn asked(case: &Case, mistake: Mistake) -> Option<Role> {
    let held = held(case, mistake);
    let silent = match &case.facts.roles {
        RoleAnswer::Unknown(_) => true,
        RoleAnswer::Granted(grant) => half(grant, mistake) && mistake != Mistake::LiveHalfIsAnAnswer,
        RoleAnswer::NotGranted(_) => false,
    } || mistake == Mistake::LiveAskedInSpiteOfNo;
    let was_admin = case.last.as_ref().is_some_and(|last| {
        let theirs =
            case.facts.identity == Some((last.tid, last.oid)) || mistake == Mistake::LiveAskedByAnothers;
        let ends = [last.admin_ends, last.ends].into_iter().flatten().min();
        let over = ends.is_some_and(|end| end <= case.now.wall) && mistake != Mistake::LiveAskedPastItsEnd;
        let admin = last.role == Role::Admin || mistake == Mistake::LiveAskedAsAdmin;
        theirs && !over && admin
    });
    let live = case.scene.service == Service::Live || mistake == Mistake::AllAskedAsLive;
    let user = held == Some(Role::User) || (held.is_none() && mistake == Mistake::LiveAskedWithoutGrace);
    if live && silent && user && was_admin && mistake != Mistake::LiveAskedAsUser {
        Some(Role::Admin)
    } else {
        held
    }
}

/// Whether more is open than the rule allows.
fn beyond(case: &Case, rule: &str, forward: Option<[bool; 3]>, mistake: Mistake) -> bool {
    let step_up = case.plain.iter().any(|plain| plain.name == rule && plain.effect == RuleEffect::StepUp);
    let forgotten = mistake == Mistake::ToldIgnored || (step_up && mistake == Mistake::ToldOfStepUpIgnored);
    let (Some(told), false) = (case.facts.told.map(list), forgotten) else { return false };
    let allowed = match forward {
        Some(allowed) => allowed,
        None if mistake == Mistake::ToldBeyondNode => [false; 3],
        None => return false,
    };
    let more = |way: usize| {
        let unseen = [Mistake::ToldWithoutPort, Mistake::ToldWithoutAgent, Mistake::ToldWithoutX11];
        told[way] && !allowed[way] && mistake != unseen[way]
    };
    match mistake {
        Mistake::ToldMustBeAll => told != allowed,
        Mistake::ToldAnyWay => told.contains(&true) && told.iter().zip(&allowed).all(|(t, a)| !(*t && *a)),
        Mistake::ToldLess => (0..3).any(more) && (0..3).all(|way| told[way] || !allowed[way]),
        _ => (0..3).any(more),
    }
}

/// What is kept after a rule refused.
fn kept(case: &Case, without: &Ruling, mistake: Mistake) -> Effect {
    let erase = |yes: bool| if yes { Effect::Erase } else { Effect::Nothing };
    let own = |last: &&FreshYes| {
        Some((last.tid, last.oid)) == case.facts.identity || mistake == Mistake::RefusalErasesOthers
    };
    let last = case.last.as_ref().filter(own);
    match mistake {
        Mistake::RefusalKeeps => return Effect::Nothing,
        Mistake::RefusalErases => return erase(last.is_some()),
        Mistake::RefusalRemembers => return without.effect.clone(),
        Mistake::RefusalErasesNoRoleOnly => {
            return erase(last.is_some() && matches!(case.facts.roles, RoleAnswer::NotGranted(_)));
        }
        _ => {}
    }
    let permit = match &without.judgement.verdict {
        Verdict::Denial(_) => return without.effect.clone(),
        Verdict::Permit(permit) => permit,
    };
    let (Some(last), RoleAnswer::Granted(grant)) = (last, &case.facts.roles) else {
        return erase(last.is_some() && mistake == Mistake::RefusalErasesDegraded);
    };
    if permit.degraded() {
        return erase(mistake == Mistake::RefusalErasesDegraded);
    }
    if mistake == Mistake::RefusalErasesFresh {
        return Effect::Erase;
    }
    let end = |all: [Option<nightlatch_model::Timestamp>; 2]| {
        all.into_iter().flatten().map(|end| end.0).min().unwrap_or(i64::MAX)
    };
    let no_longer_admin = last.role == Role::Admin && permit.role() == Role::User;
    let sooner = end([grant.until, None]) < end([last.ends, None]) && mistake != Mistake::RefusalSparesEnds;
    let admin_sooner = last.role == Role::Admin
        && end([grant.until, grant.admin_until]) < end([last.ends, last.admin_ends])
        && mistake != Mistake::RefusalSparesAdminEnds;
    erase(no_longer_admin || sooner || admin_sooner)
}

fn tell_whole(case: &Case, without: &Ruling, mistake: Mistake) -> Whole {
    let role = asked(case, mistake);
    let scene = Scene { role, ..case.scene.clone() };
    let Told { said, .. } = tell(&case.plain, &scene, Mistake::Nothing);
    let over = if let Said::In { limits, .. } = &said {
        let began = case.scene.began.unwrap_or(case.scene.now);
        limits.max_session.is_some_and(|longest| began + i64::from(longest.get()) <= case.scene.now)
    } else {
        false
    };
    let changed = if let Said::In { rule, limits, .. } = &said {
        beyond(case, rule, limits.forward.map(list), mistake)
    } else {
        false
    };
    let grace_left = |limits: &Said| match limits {
        Said::In { limits, .. } if mistake != Mistake::GraceOfRuleForgotten => {
            stands_in(case, limits.grace).is_some()
        }
        _ => true,
    };
    let no_grace =
        |said: &Said| matches!(said, Said::In { limits, .. } if limits.grace == Some(Duration::ZERO));
    let out = match &without.judgement.verdict {
        _ if !case.facts.admitted => Err(Reason::NoAdmit),
        _ if changed && mistake == Mistake::ToldBeforeSession => Err(Reason::PolicyChanged),
        _ if over => Err(Reason::SessionOver),
        _ if changed && mistake == Mistake::ToldBeforeRole => Err(Reason::PolicyChanged),
        // Where the rule gives no grace at all, a clock that is right would not help.
        Verdict::Denial(denial) if denial.reason() == Reason::ClockSuspect && no_grace(&said) => {
            Err(Reason::UpstreamUnknown)
        }
        Verdict::Denial(denial) => Err(denial.reason()),
        Verdict::Permit(permit) if permit.degraded() && !grace_left(&said) => Err(Reason::UpstreamUnknown),
        Verdict::Permit(permit) => match &said {
            Said::NoPolicy => Ok(permit.role()),
            Said::Out { reason, .. } => Err(*reason),
            Said::In { .. } if changed => Err(Reason::PolicyChanged),
            Said::In { .. } => Ok(permit.role()),
        },
    };
    let effect = match (&out, &without.judgement.verdict) {
        (Err(reason), _) if reason.is_of_access_rules() => kept(case, without, mistake),
        // The grace was lost; of it nothing was kept.
        (Err(_), Verdict::Permit(_)) => Effect::Nothing,
        (Ok(_), _) | (Err(_), Verdict::Denial(_)) => without.effect.clone(),
    };
    Whole { role, out, effect }
}

fn compare(number: u64, mistake: Mistake, mut seen: impl FnMut(&Case, &Whole)) -> Result<(), String> {
    let (case, with, without) = decided_at(number);
    let (found, want) = (of(with), tell_whole(&case, without, mistake));
    if found != want {
        let Case { plain, scene, facts, grace, last, now, .. } = &case;
        return Err(format!(
            "case {number}\n{plain:?}\n{scene:?}\n{facts:?}\n{last:?}\n{grace:?} {now:?}\n\
             without: {without:?}\nit says {found:?}\nthe model {want:?}"
        ));
    }
    seen(&case, &found);
    Ok(())
}

#[test]
fn every_decision_is_the_models() {
    let (mut changed, mut over, mut taken, mut live) = (0, 0, 0, 0);
    for number in 0..CASES / 2 {
        let seen = |case: &Case, found: &Whole| {
            changed += u32::from(found.out == Err(Reason::PolicyChanged));
            over += u32::from(found.out == Err(Reason::SessionOver));
            taken += u32::from(
                found.effect == Effect::Erase
                    && found.out.is_err_and(Reason::is_of_access_rules)
                    && !matches!(case.facts.roles, RoleAnswer::NotGranted(_)),
            );
            live += u32::from(found.role == Some(Role::Admin) && found.out == Ok(Role::User));
        };
        compare(number, Mistake::Nothing, seen).unwrap_or_else(|text| panic!("{text}"));
    }
    println!(
        "{changed} with more open, {over} over, {taken} refused and erased, {live} let live as they were"
    );
    assert!(changed > 300 && over > 250 && taken > 1_500 && live > 60, "it shows nothing");
}

#[test]
fn each_mistake_about_the_decision_is_noticed() {
    for &mistake in IN_WHOLE {
        let noticed = (0..NOTICED_WITHIN).find(|&number| compare(number, mistake, |_, _| ()).is_err());
        let number = noticed.unwrap_or_else(|| panic!("{mistake:?} was not noticed"));
        assert_eq!(compare(number, Mistake::Nothing, |_, _| ()), Ok(()), "without any mistake");
        println!("{mistake:?}: noticed with case {number}");
    }
}
