//! The decision together with what must be kept of it: a yes that grace may rest on later, or that there
//! is none any more.
//!
//! Nothing here may keep a yes that Azure did not give just now, leave one standing after a no, or forget
//! an end that Azure told.

use nightlatch_model::{Answer, Role, Timestamp};

use crate::answer::{RoleAnswer, earlier};
use crate::facts::{Facts, LoginRequest, Rules};
use crate::grace::{FreshYes, Grace, GraceRule, Moment, grace};
use crate::judge::{Judgement, Permit, Verdict, judge};

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
}

/// Judges one login, `sudo` or living session, with grace where Azure does not answer.
///
/// `last` is what is kept of this person, looked up by tenant and object id. It and the grace that
/// follows from it take the place of [`Facts::last`] and [`Facts::grace`]. Ends are judged by the wall
/// clock of `now`.
pub fn decide(
    last: Option<&FreshYes>,
    request: &LoginRequest,
    facts: &Facts,
    rules: &Rules,
    rule: GraceRule,
    now: Moment,
) -> Ruling {
    let grace = facts.identity.map_or_else(Grace::default, |who| grace(last, who, request, rule, now));
    let facts = Facts { grace, last: last.cloned(), ..facts.clone() };
    let judgement = judge(request, &facts, rules, now.wall);
    let effect = effect(request, &facts, &judgement.verdict, now);
    Ruling { judgement, effect }
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
