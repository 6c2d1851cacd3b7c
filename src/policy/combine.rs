//! One answer from several scopes (`login.role_scopes = ["node", "cluster"]`).
//!
//! A deny at any scope wins, then a grant at any scope, then "could not be found out". An unknown
//! beside a grant is recorded and adds nothing.

use std::cmp::Reverse;

use nightlatch_model::Role;

use crate::answer::{Evidence, Grant, Refused, RoleAnswer, ScopeKind, UnknownCause, earlier, lasting};

/// Puts the answers of all configured scopes together; their order does not matter. No answer at all is
/// an unknown.
pub fn combine(answers: &[(ScopeKind, RoleAnswer)]) -> RoleAnswer {
    let mut grants: Vec<Grant> = Vec::new();
    let mut refused: Vec<Refused> = Vec::new();
    let mut unknown: Vec<UnknownCause> = Vec::new();
    for (kind, answer) in answers {
        match answer {
            RoleAnswer::Granted(grant) => {
                let seen = |evidence: &Evidence| Evidence { kind: Some(*kind), ..evidence.clone() };
                unknown.extend(grant.unknown.clone());
                grants.push(Grant {
                    evidence: seen(&grant.evidence),
                    admin_evidence: grant.admin_evidence.as_ref().map(seen),
                    ..grant.clone()
                });
            }
            RoleAnswer::NotGranted(why) => refused.push(why.clone()),
            RoleAnswer::Unknown(cause) => unknown.push(cause.clone()),
        }
    }
    let refused = Refused::merge(refused);
    let unknown = UnknownCause::merge(unknown);
    match (refused, unknown) {
        (Some(deny @ Refused::DenyAssignment { .. }), _) => RoleAnswer::NotGranted(deny),
        (_, unknown) if !grants.is_empty() => strongest(&grants, unknown),
        (_, Some(cause)) => RoleAnswer::Unknown(cause),
        (Some(refused), None) => RoleAnswer::NotGranted(refused),
        (None, None) => RoleAnswer::Unknown(UnknownCause::Upstream("no role scope is configured".to_owned())),
    }
}

/// The union of the grants: each right lasts as long as at the scope where it lasts longest, and the
/// administrator's right falls to a deny at any scope.
fn strongest(grants: &[Grant], unknown: Option<UnknownCause>) -> RoleAnswer {
    let admin_refused = Refused::merge(grants.iter().filter_map(|g| g.admin_refused.clone()));
    let denied = matches!(admin_refused, Some(Refused::DenyAssignment { .. }));
    let user = grants.iter().min_by_key(|g| (Reverse(lasting(g.until)), &g.evidence));
    let admin = grants
        .iter()
        .filter(|g| g.role == Role::Admin && !denied)
        .min_by_key(|g| (Reverse(lasting(g.admin_until)), &g.admin_evidence));
    let Some(user) = user else { return RoleAnswer::NotGranted(Refused::NoAssignment) };
    RoleAnswer::Granted(Grant {
        role: if admin.is_some() { Role::Admin } else { Role::User },
        until: user.until,
        admin_until: admin.and_then(|g| earlier(g.admin_until, user.until)),
        evidence: user.evidence.clone(),
        admin_evidence: admin.and_then(|g| g.admin_evidence.clone()),
        admin_refused: if admin.is_some() { None } else { admin_refused },
        unknown,
    })
}
