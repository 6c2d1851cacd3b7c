//! The decision together with what must be kept of it: a yes that grace may rest on later, or that there
//! is none any more.
//!
//! Nothing here may keep a yes that Azure did not give just now, leave one standing after a no, or forget
//! an end that Azure told.

use nightlatch_model::{Answer, Reason, Role, Timestamp};

use crate::access::{AccessRules, Circumstances, Ruled};
use crate::answer::{RoleAnswer, earlier};
use crate::facts::{Facts, LoginRequest, Rules};
use crate::grace::{FreshYes, Grace, GraceRule, Moment, grace};
use crate::judge::{Judgement, Permit, Verdict, judge, role_for_rules};

/// What must be on the disk before the answer leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Effect {
    /// Nothing changes.
    Nothing,
    /// Keep this yes in place of the person's last one.
    Remember(FreshYes),
    /// Forget the person's last yes.
    Erase,
}

/// The decision and its effect.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Ruling {
    /// The decision and how it came about.
    pub judgement: Judgement,
    /// What must be durable before the answer leaves.
    pub effect: Effect,
    /// The right that the access rules were asked with.
    pub role: Option<Role>,
    /// What would have been decided without access rules: the reason of the refusal, if that is one. Where it is none and
    /// the verdict is a denial, a rule alone refused, and this login alone is meant.
    pub without_rules: Option<Reason>,
}

/// Judges one login, `sudo` or living session, with grace where Azure does not answer.
///
/// `last` is what is kept of this person, looked up by tenant and object id. It and the grace that
/// follows from it take the place of [`Facts::last`] and [`Facts::grace`], and what the access rules say
/// that of [`Facts::access`]. Ends are judged by the wall clock of `now`.
pub fn decide(
    last: Option<&FreshYes>,
    request: &LoginRequest,
    facts: &Facts,
    rules: &Rules,
    rule: GraceRule,
    access: AccessRules<'_>,
    now: Moment,
) -> Ruling {
    let of = |rule| facts.identity.map_or_else(Grace::default, |who| grace(last, who, request, rule, now));
    let mut facts = Facts { grace: of(rule), last: last.cloned(), ..facts.clone() };
    let role = role_for_rules(request.service, &facts, now.wall);
    facts.access = ruled(request, &facts, role, access, now.wall);
    let bare = Facts { access: Ruled::NoPolicy, ..facts.clone() };
    // By the role that the node's own grace gives, the access rules say how much of it stays.
    facts.grace = of(rule.at_most(facts.access.limits().grace));
    let judgement = judge(request, &facts, rules, now.wall);
    let without = match &judgement.verdict {
        Verdict::Denial(_) if facts.access != Ruled::NoPolicy => {
            judge(request, &bare, rules, now.wall).verdict
        }
        verdict => verdict.clone(),
    };
    // What is kept follows the role alone: what a rule refuses says nothing about it, and the rules are asked in grace.
    let (effect, without_rules) = match (&judgement.verdict, &without) {
        // Nobody was let in, so nothing is kept; but what Azure took away must not stand.
        (Verdict::Denial(_), Verdict::Permit(_)) => {
            (effect(request, &bare, &without, Moment { suspect: true, ..now }), None)
        }
        (_, Verdict::Denial(denial)) => (effect(request, &bare, &without, now), Some(denial.reason())),
        (verdict @ Verdict::Permit(_), Verdict::Permit(_)) => (effect(request, &facts, verdict, now), None),
    };
    Ruling { judgement, effect, role, without_rules }
}

/// What the access rules say of a login.
fn ruled(
    request: &LoginRequest,
    facts: &Facts,
    role: Option<Role>,
    access: AccessRules<'_>,
    now: Timestamp,
) -> Ruled {
    access.rule(&Circumstances {
        service: request.service,
        oid: facts.identity.map(|(_, oid)| oid),
        role,
        guest: facts.guest,
        sign_in: facts.sign_in.as_ref(),
        from: facts.from,
        began: facts.began,
        now,
    })
}

fn effect(request: &LoginRequest, facts: &Facts, verdict: &Verdict, now: Moment) -> Effect {
    let Some((tid, oid)) = facts.identity else { return Effect::Nothing };
    let theirs = facts.last.as_ref().filter(|last| (last.tid, last.oid) == (tid, oid));
    let gone = match verdict {
        Verdict::Permit(permit) if permit.degraded() => false,
        Verdict::Permit(permit) => {
            let (ends, admin_ends) = ends(&facts.roles, permit);
            let name = request.name.clone();
            let yes = FreshYes { tid, oid, name, role: permit.role(), at: now, ends, admin_ends };
            if !now.suspect {
                return Effect::Remember(yes);
            }
            // Its time cannot be told, so it is not kept; neither is what it takes away.
            theirs.is_some_and(|last| yes.gives_less_than(last))
        }
        // A definite no about the role counts, whatever else the refusal is given for.
        Verdict::Denial(denial) => {
            denial.answer() == Answer::Denial || matches!(facts.roles, RoleAnswer::NotGranted(_))
        }
    };
    if gone && theirs.is_some() { Effect::Erase } else { Effect::Nothing }
}

/// When the right to log in and the administrator's right end, as Azure told with this permit.
fn ends(roles: &RoleAnswer, permit: &Permit) -> (Option<Timestamp>, Option<Timestamp>) {
    match roles {
        RoleAnswer::Granted(grant) => {
            let admin_ends = earlier(grant.admin_until, grant.until).filter(|_| permit.role() == Role::Admin);
            (grant.until, admin_ends)
        }
        RoleAnswer::NotGranted(_) | RoleAnswer::Unknown(_) => (None, None),
    }
}
