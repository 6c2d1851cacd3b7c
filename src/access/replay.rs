//! What other rules would have decided about logins that were decided before.
//!
//! Only what a decision was made from is looked at: the role, the sign-in, the address and the time of then. Whatever
//! else refused a login then still refuses it.

use nightlatch_model::{ObjectId, Reason, Timestamp};
use nightlatch_policy::{Circumstances, NodeFacts, Ruled, Service, shown_by_a_sign_in};

use super::InForce;
use crate::telemetry::AccessInput;

/// The most differences that are kept one by one.
const MAX_DIFFERENCES: usize = 500;

/// What would have become of a login that is asked to sign in at the prompt: whoever does gets in.
const PROMPT: &str = "prompt";

/// One login on which the rules of now and the rules of then differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// When it was decided.
    pub at: Timestamp,
    /// The login name.
    pub user: String,
    /// `login` or `sudo`.
    pub service: &'static str,
    /// Where it came from; empty where nobody told.
    pub rhost: String,
    /// What was decided: `permit`, or the reason.
    pub was: String,
    /// What these rules would have decided: the same, or [`PROMPT`].
    pub now: String,
    /// The rule that would have; empty where none matched.
    pub rule: String,
    /// The id of the decision.
    pub correlation: String,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// When the oldest of them was decided.
    pub oldest: Option<Timestamp>,
    /// How many decisions were looked at.
    pub looked_at: usize,
    /// How many could not be, because an earlier release kept too little of them.
    pub unreadable: usize,
    /// How many would have become refusals.
    pub refused: usize,
    /// How many would have become permits.
    pub permitted: usize,
    /// How many would have been asked to sign in at the prompt.
    pub prompted: usize,
    /// Those that differ, newest first, at most [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
}

/// One decision of the past.
#[derive(Clone, Debug)]
pub struct Past {
    /// When.
    pub at: Timestamp,
    /// The login name.
    pub user: String,
    /// Where from.
    pub rhost: String,
    /// The id.
    pub correlation: String,
    /// Who.
    pub oid: Option<ObjectId>,
    /// The reason's word; none for a permit.
    pub reason: Option<String>,
    /// What it was made from.
    pub input: Option<AccessInput>,
}

/// The rules that are tried, and where.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The rules.
    pub rules: &'a InForce,
    /// The node.
    pub node: &'a NodeFacts,
    /// Whether people are asked to sign in at the prompt.
    pub prompts: bool,
}

/// Tries rules on decisions, which come oldest first.
#[must_use]
pub fn replay(past: &[Past], trial: Trial<'_>) -> Replayed {
    let oldest = past.iter().map(|one| one.at).min();
    let mut found = Replayed { oldest, ..Replayed::default() };
    for one in past.iter().rev() {
        let Some(input) = &one.input else {
            found.unreadable += 1;
            continue;
        };
        found.looked_at += 1;
        let was = one.reason.clone();
        let (rule, now) = match &input.others {
            Some(reason) => (String::new(), Some(reason.clone())),
            None => trial.verdict(one, input),
        };
        match (&was, now.as_deref()) {
            (_, Some(PROMPT)) => found.prompted += 1,
            (None, Some(_)) => found.refused += 1,
            (Some(_), None) => found.permitted += 1,
            _ => {}
        }
        if was != now && found.differences.len() < MAX_DIFFERENCES {
            let word = |reason: Option<String>| reason.unwrap_or_else(|| "permit".to_owned());
            found.differences.push(Difference {
                at: one.at,
                user: one.user.clone(),
                service: if input.sudo { "sudo" } else { "login" },
                rhost: one.rhost.clone(),
                was: word(was),
                now: word(now),
                rule,
                correlation: one.correlation.clone(),
            });
        }
    }
    found
}

impl Trial<'_> {
    /// The rule that decides, and the reason of a refusal.
    fn verdict(self, one: &Past, input: &AccessInput) -> (String, Option<String>) {
        let about = Circumstances {
            service: if input.sudo { Service::Sudo } else { Service::Ssh },
            oid: one.oid,
            role: input.role,
            guest: input.guest,
            sign_in: input.sign_in.as_ref(),
            from: input.from,
            began: None,
            now: one.at,
        };
        match self.rules.ask(self.node, one.at, |access| access.rule(&about)) {
            Ruled::NoPolicy => (String::new(), None),
            // An old yes that stood in must be young enough for the rule as well.
            Ruled::Permits { rule, limits, .. } => {
                let too_old =
                    limits.grace.zip(input.grace_age_s).is_some_and(|(most, age)| age >= most.as_secs());
                (rule.to_string(), too_old.then(|| Reason::UpstreamUnknown.word().to_owned()))
            }
            Ruled::Refuses { rule, reason, missing, .. } => {
                let rule = rule.map_or_else(String::new, |rule| rule.to_string());
                let asked = self.prompts
                    && !input.sudo
                    && shown_by_a_sign_in(reason, &missing, self.rules.contexts_of(&rule));
                // Who was asked then, and did not sign in, was refused for this reason: the rules made no difference.
                let word = if asked && one.reason.as_deref() != Some(reason.word()) {
                    PROMPT
                } else {
                    reason.word()
                };
                (rule, Some(word.to_owned()))
            }
        }
    }
}
