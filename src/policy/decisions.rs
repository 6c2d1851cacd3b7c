//! Folding CheckAccess answers (PDP v2 and ARM v1 alike) into one answer.
//!
//! An answer is believed only when it is complete: every requested action has a decision, in a word
//! that is known here. An empty list, a page that is missing or a new word is UNKNOWN, never a yes and
//! never the person's denial.

use std::cmp::Reverse;

use crate::answer::{Evidence, Refused, Right, RoleAnswer, UnknownCause, settle};

/// Which right an action stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActionKind {
    /// To log in.
    User,
    /// To be an administrator.
    Admin,
}

/// One action that was asked about; always a data action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requested {
    /// The right that it stands for.
    pub kind: ActionKind,
    /// The action as it was sent.
    pub id: String,
}

/// The word in `accessDecision`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// `Allowed`
    Allowed,
    /// `NotAllowed`: no role assignment gives it.
    NotAllowed,
    /// `Denied`: a deny assignment forbids it.
    Denied,
    /// Any other word.
    Other(String),
}

impl Access {
    /// Reads the word as Azure writes it.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "Allowed" => Self::Allowed,
            "NotAllowed" => Self::NotAllowed,
            "Denied" => Self::Denied,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One decision of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The action that it is about; compared without ASCII case.
    pub action_id: String,
    /// `isDataAction`, where the answer says so. A decision about a control action is about another
    /// action, whatever its name.
    pub is_data_action: Option<bool>,
    /// The decision.
    pub access: Access,
    /// `roleAssignment.id`, else its `roleDefinitionId`, for `explain`.
    pub role_assignment: Option<String>,
    /// `denyAssignment.id`.
    pub deny_assignment: Option<String>,
    /// `roleAssignment.scope`.
    pub scope: Option<String>,
    /// True when `roleAssignment.condition` is there. Such an `Allowed` is not taken for a grant: what
    /// the condition would need to know was not sent.
    pub has_condition: bool,
    /// `timeToLiveInMs`: for how many milliseconds the answer may be kept.
    pub ttl_ms: Option<u64>,
}

impl Decision {
    fn is_about(&self, action: &str) -> bool {
        self.is_data_action != Some(false) && self.action_id.eq_ignore_ascii_case(action)
    }

    /// Stricter decisions are greater. A definite no is stricter than a word that nobody knows.
    fn strictness(&self) -> u8 {
        match self.access {
            Access::Denied => 4,
            Access::NotAllowed => 3,
            Access::Other(_) => 2,
            Access::Allowed if self.has_condition => 1,
            Access::Allowed => 0,
        }
    }
}

/// What the decisions say about what was requested.
///
/// Decisions that nobody asked for are ignored; of several about one action the strictest counts; a deny
/// of any login action is a denial even where other decisions are missing.
pub fn fold(requested: &[Requested], decisions: &[Decision]) -> RoleAnswer {
    let unknown = |text: String| RoleAnswer::Unknown(UnknownCause::Upstream(text));
    let strictest = |action: &str| {
        decisions.iter().filter(|d| d.is_about(action)).max_by_key(|d| {
            // Ties by what they show, so that the order of the answer does not matter.
            (d.strictness(), Reverse((&d.access, &d.deny_assignment, &d.role_assignment, &d.scope)))
        })
    };
    let found: Vec<(&Requested, Option<&Decision>)> =
        requested.iter().map(|r| (r, strictest(&r.id))).collect();
    let right = |kind: ActionKind| {
        right(found.iter().filter(|(r, _)| r.kind == kind).filter_map(|(r, d)| d.map(|d| (*r, d))))
    };

    let user = right(ActionKind::User);
    if let Right::Refused(refused @ Refused::DenyAssignment { .. }) = user {
        return RoleAnswer::NotGranted(refused);
    }
    if !requested.iter().any(|r| r.kind == ActionKind::User) {
        return unknown("no login action was asked about".to_owned());
    }
    for (request, decision) in &found {
        match decision.map(|d| &d.access) {
            None => return unknown(format!("the answer holds no decision about {}", request.id)),
            Some(Access::Other(word)) => return unknown(format!("unknown access decision {word:?}")),
            Some(_) => {}
        }
    }
    settle(user, right(ActionKind::Admin))
}

/// For how long, in milliseconds, all decisions that count may be kept: the shortest that is stated.
#[must_use]
pub fn shortest_ttl_ms(requested: &[Requested], decisions: &[Decision]) -> Option<u64> {
    let counts = |d: &&Decision| requested.iter().any(|r| d.is_about(&r.id));
    decisions.iter().filter(counts).filter_map(|d| d.ttl_ms).min()
}

fn right<'a>(decided: impl Iterator<Item = (&'a Requested, &'a Decision)>) -> Right {
    let mut granted = None;
    let mut refused = Vec::new();
    for (request, decision) in decided {
        match decision.access {
            Access::Denied => {
                let id = decision.deny_assignment.clone().unwrap_or_else(|| "(not named)".to_owned());
                refused.push(Refused::DenyAssignment { id });
            }
            Access::Allowed if decision.has_condition => {
                let assignment = decision.role_assignment.clone().unwrap_or_else(|| "(not named)".to_owned());
                refused.push(Refused::Conditional { assignment });
            }
            Access::Allowed => {
                granted.get_or_insert_with(|| Evidence {
                    kind: None,
                    scope: decision.scope.clone(),
                    assignment: decision.role_assignment.clone(),
                    action: request.id.clone(),
                });
            }
            Access::NotAllowed | Access::Other(_) => {}
        }
    }
    match (Refused::merge(refused), granted) {
        (Some(refused @ Refused::DenyAssignment { .. }), _) => Right::Refused(refused),
        (_, Some(evidence)) => Right::Granted { until: None, evidence },
        (refused, None) => Right::Refused(refused.unwrap_or(Refused::NoAssignment)),
    }
}
