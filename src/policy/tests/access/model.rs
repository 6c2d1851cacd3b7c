//! A second, plain telling of the walk: who is let in by which rule, or why not.
//!
//! It shares nothing with the first: its conditions are those of [`crate::plain`], and each is looked at
//! before anything is decided. Nothing here may be taken over from the code that it is compared with.

use nightlatch_model::{Reason, Role};
use nightlatch_policy::{DoorKind, Forwarding, Limits, Missing, ProofKind, RuleEffect, Service, SignIn};

use crate::mistakes::Mistake;
use crate::plain::{below, lies_in, walk};
use crate::world::{Plain, Scene, WINDOWS, guid};

/// Whether a permit is also limited by the rules before it that could have permitted, had more been known.
pub(crate) const POSSIBLE_NARROWS: bool = true;

/// What both must say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    NoPolicy,
    In { rule: String, limits: Limits, closes: Option<i64> },
    Out { rule: Option<String>, reason: Reason },
}

/// What the model says, and for the shares, how it came about.
pub(crate) struct Told {
    pub(crate) said: Said,
    /// The evidence that would have helped.
    pub(crate) missing: Vec<Missing>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Permit,
    PermitWithTime,
    StepUpPermits,
    StepUpRefuses,
    StepUpRefusesUnknown,
    Denied,
    DeniedUnknown,
    EndMissing,
    EndClaims,
    EndGroups,
    EndNoRule,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Is {
    Yes,
    No,
    /// Not known, and which evidence would have told, if there is such evidence.
    Unknown(Option<Missing>),
}

fn sure(yes: bool) -> Is {
    if yes { Is::Yes } else { Is::No }
}

/// One rule beside one scene.
struct Looked {
    all: Vec<Is>,
    missing: Vec<Missing>,
    closes: Option<i64>,
}

pub(crate) fn tell(rules: &[Plain], scene: &Scene, mistake: Mistake) -> Told {
    let out = |rule: Option<&Plain>, reason, missing, kind| Told {
        said: Said::Out { rule: rule.map(|rule| rule.name.to_owned()), reason },
        missing,
        kind,
    };
    let mut order: Vec<&Plain> = rules.iter().collect();
    if mistake == Mistake::LastRuleFirst {
        order.reverse();
    }
    let mut almost = None;
    let mut possible: Vec<&Plain> = vec![];
    for rule in order {
        let Looked { all, missing, closes } = look(rule, scene, mistake);
        let mut no = all.contains(&Is::No);
        let mut unknown = all.iter().any(|is| matches!(is, Is::Unknown(_)));
        match mistake {
            Mistake::UnknownBeatsNo => no &= !unknown,
            Mistake::UnknownIsYes => unknown = false,
            Mistake::UnknownIsNo => (no, unknown) = (no || unknown, false),
            _ => {}
        }
        if no {
            continue;
        }
        let shown = missing.is_empty();
        let helps = helps(&all, mistake);
        let before = if POSSIBLE_NARROWS { possible.clone() } else { vec![] };
        let permits = |kind| Told { said: permits(rule, &before, closes, mistake), missing: vec![], kind };
        let could = match rule.effect {
            RuleEffect::Deny => false,
            RuleEffect::StepUp => shown && mistake != Mistake::PossibleStepUpIsPassedOver,
            RuleEffect::Permit => shown || mistake == Mistake::PossibleWithoutEvidence,
        };
        if could && unknown && mistake != Mistake::PossibleIsPassedOver {
            possible.push(rule);
        }
        match rule.effect {
            RuleEffect::Permit if !unknown && shown => {
                return permits(if closes.is_some() { Kind::PermitWithTime } else { Kind::Permit });
            }
            RuleEffect::Permit if !shown && mistake == Mistake::PermitRefuses => {
                return out(Some(rule), Reason::StepUp, missing, Kind::StepUpRefuses);
            }
            RuleEffect::Permit if !helps.is_empty() => {
                let kind = if helps == [Missing::Groups] { Kind::EndGroups } else { Kind::EndClaims };
                let also = if mistake == Mistake::EvidenceBesideGroups { missing } else { vec![] };
                almost.get_or_insert_with(|| (rule, [helps, also].concat(), kind));
            }
            RuleEffect::Permit if !shown && (!unknown || mistake == Mistake::EvidenceWhateverElse) => {
                almost.get_or_insert((rule, missing, Kind::EndMissing));
            }
            RuleEffect::Permit => {}
            RuleEffect::StepUp if !shown && mistake == Mistake::StepUpPassesOn => {
                almost.get_or_insert((rule, missing, Kind::EndMissing));
            }
            RuleEffect::StepUp if !shown && unknown && mistake == Mistake::StepUpNeedsCertainty => {}
            RuleEffect::StepUp if !shown => {
                let kind = if unknown { Kind::StepUpRefusesUnknown } else { Kind::StepUpRefuses };
                let also = if mistake == Mistake::StepUpWantsGroups { helps } else { vec![] };
                return out(Some(rule), Reason::StepUp, [missing, also].concat(), kind);
            }
            RuleEffect::StepUp if !unknown || mistake == Mistake::StepUpPermitsUnknown => {
                return permits(Kind::StepUpPermits);
            }
            RuleEffect::StepUp => {}
            RuleEffect::Deny if !unknown => {
                return out(Some(rule), Reason::PolicyDenied, vec![], Kind::Denied);
            }
            RuleEffect::Deny if mistake == Mistake::DenyNeedsCertainty => {}
            RuleEffect::Deny if mistake == Mistake::UnknownIsDenied => {
                return out(Some(rule), Reason::PolicyDenied, vec![], Kind::DeniedUnknown);
            }
            RuleEffect::Deny => {
                let named = Some(rule).filter(|_| mistake != Mistake::DenyNotNamed);
                return out(named, Reason::EvidenceMissing, helps, Kind::DeniedUnknown);
            }
        }
    }
    match almost.filter(|_| mistake != Mistake::EndIsAlwaysNoRule) {
        // The first of them is named.
        Some((rule, missing, kind)) => out(Some(rule), Reason::EvidenceMissing, missing, kind),
        None => out(None, Reason::PolicyNoRule, vec![], Kind::EndNoRule),
    }
}

/// The evidence that would have told what is not known.
fn helps(all: &[Is], mistake: Mistake) -> Vec<Missing> {
    let forgotten = match mistake {
        Mistake::ClaimsAreNoEvidence => Some(Missing::Claims),
        Mistake::GroupsAreNoEvidence => Some(Missing::Groups),
        _ => None,
    };
    let wanted = |evidence: &Missing| {
        all.contains(&Is::Unknown(Some(evidence.clone()))) && forgotten.as_ref() != Some(evidence)
    };
    [Missing::Claims, Missing::Groups].into_iter().filter(wanted).collect()
}

/// The ways that may be opened before all is known: what every rule allows that could still permit, up to the
/// first that is sure to decide.
pub(crate) fn ways(rules: &[Plain], scene: &Scene, mistake: Mistake) -> Forwarding {
    let mut open = [true; 3];
    for rule in rules {
        let Looked { all, missing, .. } = look(rule, scene, mistake);
        if all.contains(&Is::No) {
            continue;
        }
        let certain = all.iter().all(|is| *is == Is::Yes);
        let (could_permit, decides) = match (rule.effect, missing.is_empty()) {
            (RuleEffect::Deny, _) => (false, certain && mistake != Mistake::WaysBehindDeny),
            (RuleEffect::Permit, false) => (mistake == Mistake::WaysOfPermitWithoutEvidence, false),
            (RuleEffect::StepUp, false) => {
                let ends = certain && mistake != Mistake::WaysBehindStepUp;
                (mistake == Mistake::WaysOfStepUpWithoutEvidence, ends || mistake == Mistake::WaysEndAtStepUp)
            }
            (RuleEffect::Permit | RuleEffect::StepUp, true) => {
                (certain || mistake != Mistake::WaysOfCertainOnly, certain)
            }
        };
        if let Some(forward) = rule.limits.forward.filter(|_| could_permit) {
            for (way, allowed) in open.iter_mut().zip(list(forward)) {
                *way &= allowed;
            }
        }
        if (decides && mistake != Mistake::WaysNeverEnd) || mistake == Mistake::WaysOfFirstOnly {
            break;
        }
    }
    Forwarding { port: open[0], agent: open[1], x11: open[2] }
}

/// Each way by itself.
pub(crate) fn list(forward: Forwarding) -> [bool; 3] {
    [forward.port, forward.agent, forward.x11]
}

/// The narrowest that a rule and those before it set.
fn narrowest(rule: &Plain, before: &[&Plain], mistake: Mistake) -> Limits {
    let rules = || {
        let own = Some(rule).filter(|_| before.is_empty() || mistake != Mistake::PossibleClearsOwn);
        before.iter().copied().chain(own).map(|rule| rule.limits)
    };
    let of_forgetful = |forgets: Mistake| if mistake == forgets { before.len() } else { 0 };
    let lengths = rules().skip(of_forgetful(Mistake::PossibleSessionForgotten)).filter_map(|l| l.max_session);
    let graces = rules().skip(of_forgetful(Mistake::PossibleGraceForgotten)).filter_map(|l| l.grace);
    let ways: Vec<_> = rules()
        .skip(of_forgetful(Mistake::PossibleForwardForgotten))
        .filter_map(|l| l.forward)
        .map(list)
        .collect();
    let widens = mistake == Mistake::PossibleWidens;
    let way = |at: usize| ways.iter().all(|ways| ways[at]);
    Limits {
        max_session: if widens { lengths.max() } else { lengths.min() },
        grace: if widens { graces.max() } else { graces.min() },
        forward: (!ways.is_empty()).then(|| Forwarding { port: way(0), agent: way(1), x11: way(2) }),
    }
}

fn permits(rule: &Plain, before: &[&Plain], closes: Option<i64>, mistake: Mistake) -> Said {
    let forgotten = mistake == Mistake::LimitsForgotten
        || (mistake == Mistake::StepUpWithoutLimits && rule.effect == RuleEffect::StepUp);
    Said::In {
        rule: rule.name.to_owned(),
        limits: if forgotten { Limits::default() } else { narrowest(rule, before, mistake) },
        closes: closes.filter(|_| mistake != Mistake::ClosesForgotten),
    }
}

fn look(rule: &Plain, scene: &Scene, mistake: Mistake) -> Looked {
    let mut all = vec![];
    // One kind of certificate has claims in it, and whoever signed in at the prompt showed them beside it. Where there are
    // claims, others of their kind may list groups.
    let has_claims = scene.sign_in.as_ref().is_some_and(|sign_in| {
        let prompted = sign_in.prompted.is_some() && mistake != Mistake::PromptNotBelieved;
        sign_in.proof == ProofKind::OpenPubkey || prompted
    });
    let (groups_by, guests_by) = match has_claims {
        true if mistake == Mistake::GroupsByClaims => (Some(Missing::Claims), None),
        true if mistake == Mistake::GuestsByGroups => (Some(Missing::Groups), Some(Missing::Groups)),
        true => (Some(Missing::Groups), None),
        false if mistake == Mistake::ClaimsByGroups => (Some(Missing::Groups), Some(Missing::Claims)),
        false if mistake == Mistake::UnknownSignInByGroups && scene.sign_in.is_none() => {
            (Some(Missing::Groups), Some(Missing::Claims))
        }
        false => (Some(Missing::Claims), Some(Missing::Claims)),
    };
    if let Some(doors) = &rule.doors {
        let sudo = scene.service == Service::Sudo;
        let forgotten = (mistake == Mistake::LiveIsNoLogin && scene.service == Service::Live)
            || (mistake == Mistake::OtherIsNoLogin && scene.service == Service::Other);
        let door = if sudo { DoorKind::Sudo } else { DoorKind::Login };
        all.push(sure(doors.contains(&door) && !forgotten));
    }
    if let Some(labels) = &rule.labels {
        let held = labels.iter().filter(|label| scene.labels.contains(label)).count();
        all.push(sure(if mistake == Mistake::AnyLabel { held > 0 } else { held == labels.len() }));
    }
    if let Some(patterns) = &rule.patterns {
        let fits = |resource: &&str| patterns.iter().any(|pattern| below(pattern, resource, mistake));
        all.push(match (scene.resources.is_empty(), mistake) {
            (true, Mistake::NoResourceIsNone) => Is::No,
            (true, Mistake::NoResourceIsAny) => Is::Yes,
            (true, Mistake::NoResourceByClaims) => Is::Unknown(Some(Missing::Claims)),
            (true, _) => Is::Unknown(None),
            (false, Mistake::EveryResource) => sure(scene.resources.iter().all(fits)),
            // What the other one is called nobody told.
            (false, mistake)
                if scene.half_known
                    && mistake != Mistake::HalfKnownIsKnown
                    && !scene.resources.iter().any(fits) =>
            {
                Is::Unknown(None)
            }
            (false, _) => sure(scene.resources.iter().any(fits)),
        });
    }
    let mut closes = None;
    if let Some(window) = rule.window.map(|at| WINDOWS[at]) {
        match scene.offsets.get(window.3).copied().flatten() {
            None if mistake == Mistake::UnknownZoneIsUtc => {
                all.push(sure(walk(window, scene.now, 0, mistake).is_some()))
            }
            None => all.push(Is::Unknown(None)),
            Some(offset) => {
                let found = walk(window, scene.now, i64::from(offset), mistake);
                all.push(sure(found.is_some()));
                closes = found.flatten();
            }
        }
    }
    if let Some(networks) = &rule.networks {
        let looked = &networks[..if mistake == Mistake::FirstNetworkOnly { 1 } else { networks.len() }];
        all.push(scene.from.map_or(Is::Unknown(None), |from| {
            sure(looked.iter().any(|&(address, prefix)| lies_in(address, prefix, from, mistake)))
        }));
    }
    if let Some(proof) = &rule.proof {
        let found = scene.sign_in.as_ref().map(|sign_in| sign_in.proof);
        all.push(found.map_or(Is::Unknown(None), |found| sure(proof.contains(&found))));
    }
    if let Some(role) = rule.role {
        all.push(scene.role.map_or(Is::Unknown(None), |held| {
            sure(held == role || (mistake == Mistake::AdminIsAlsoUser && held == Role::Admin))
        }));
    }
    if let Some(users) = &rule.users {
        all.push(scene.person.map_or(Is::Unknown(None), |person| sure(users.contains(&person))));
    }
    if let Some(guests) = rule.guests.filter(|guests| *guests || mistake != Mistake::NoGuestsIsNoCondition) {
        let unknown =
            if mistake == Mistake::UnknownGuestIsNone { sure(!guests) } else { Is::Unknown(guests_by) };
        all.push(scene.guest.map_or(unknown, |guest| sure(guest == guests)));
    }
    if let Some(groups) = &rule.groups {
        let unknown = if mistake == Mistake::UnlistedGroupsAreNone { Is::No } else { Is::Unknown(groups_by) };
        let listed = scene.sign_in.as_ref().and_then(|sign_in| sign_in.groups.as_ref());
        all.push(listed.map_or(unknown, |listed| {
            let is_in = |group: &u8| listed.contains(&guid(*group));
            sure(if mistake == Mistake::EveryGroup {
                groups.iter().all(is_in)
            } else {
                groups.iter().any(is_in)
            })
        }));
    }
    Looked { all, missing: not_shown(rule, scene, mistake), closes }
}

/// What the rule requires and the sign-in does not show.
fn not_shown(rule: &Plain, scene: &Scene, mistake: Mistake) -> Vec<Missing> {
    let at = if mistake == Mistake::AgesNow { scene.now } else { scene.began.unwrap_or(scene.now) };
    let young =
        |then: i64, most: u32| at - then <= i64::from(most) - i64::from(mistake == Mistake::LastSecondTooOld);
    let asks = !rule.amr.is_empty() || !rule.acrs.is_empty() || rule.device || rule.max_auth_age.is_some();
    let believed = |sign_in: &&SignIn| {
        let prompted = sign_in.prompted.is_some() && mistake != Mistake::PromptNotBelieved;
        sign_in.proof == ProofKind::OpenPubkey || prompted || mistake == Mistake::ClaimsOfEntraBelieved
    };
    // What only the one kind of certificate can say.
    let claims = scene.sign_in.as_ref().filter(believed);
    let lacking = |wanted: &[&str], held: Option<&Vec<String>>, any: bool| -> Vec<String> {
        let held = |word: &str| held.is_some_and(|held| held.iter().any(|one| one == word));
        let absent: Vec<_> = wanted.iter().filter(|word| !held(word)).map(|&word| word.to_owned()).collect();
        if any && absent.len() < wanted.len() { vec![] } else { absent }
    };
    let mut missing = vec![];
    if asks && claims.is_none() {
        missing.push(Missing::Claims);
    }
    let amr = lacking(&rule.amr, claims.and_then(|s| s.amr.as_ref()), mistake == Mistake::AnyAmr);
    missing.extend(amr.into_iter().map(Missing::Amr));
    let acrs = lacking(&rule.acrs, claims.and_then(|s| s.acrs.as_ref()), mistake == Mistake::AnyContext);
    missing.extend(acrs.into_iter().map(Missing::Acrs));
    if rule.device && claims.and_then(|s| s.device).is_none() && mistake != Mistake::DeviceForgotten {
        missing.push(Missing::Device);
    }
    let issued = scene.sign_in.as_ref().map(|s| s.issued.0);
    let auth_time = claims.and_then(|s| s.auth_time).map(|then| then.0);
    let auth_time = if mistake == Mistake::AuthAgeByIssue { issued } else { auth_time };
    for (most, then, tells) in [
        (rule.max_auth_age, auth_time, Missing::AuthAge as fn(u32) -> Missing),
        (rule.max_age, issued, Missing::Age),
    ] {
        if let Some(most) = most.filter(|most| !then.is_some_and(|then| young(then, *most))) {
            missing.push(tells(most));
        }
    }
    missing
}
