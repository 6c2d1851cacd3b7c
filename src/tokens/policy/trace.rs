//! Telling what the rules say: for an explanation, for `whoami`, for the list of identities.
//!
//! Everything here goes through the walk that decides, so that what is told is what is done.

use std::collections::HashMap;
use std::sync::Arc;

use super::decide::{Miss, Step};
use super::{Policy, Rule};
use crate::identity::PERSON;
use crate::{Ask, Caller, IdentityRef, IdentityTable, Place, Purpose};

/// What one rule did with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// The rule.
    pub rule: Arc<str>,
    /// `permit`, `deny` or `no match`.
    pub outcome: &'static str,
    /// Why, in plain words.
    pub why: String,
}

impl Policy {
    /// What each rule does with the question, in order, and the built-in rule for persons where it is asked.
    #[must_use]
    pub fn trace(&self, caller: &Caller, ask: &Ask, identities: &IdentityTable) -> Vec<RuleTrace> {
        let mut told = Vec::with_capacity(self.rules.len().saturating_add(1));
        let mut decided = false;
        let decision = self.walk(caller, ask, identities, |rule, step| {
            let (outcome, why) = match step {
                Step::Missed(miss) => ("no match", why(miss, rule, caller, ask)),
                Step::Narrowed => {
                    ("deny", "denies some of its identities; others may still be had".to_owned())
                }
                Step::Permits(identity) => {
                    ("permit", format!("everything matches; the identity is `{identity}`"))
                }
                Step::Denies => ("deny", "everything matches".to_owned()),
                Step::NotReached(by) => ("no match", format!("not reached: `{by}` decided before")),
            };
            decided |= matches!(step, Step::Permits(_) | Step::Denies);
            told.push(RuleTrace { rule: Arc::clone(&rule.name), outcome, why });
        });
        if !decided {
            let (rule, outcome, why) = match decision {
                super::Decision::Permit(grant) => {
                    (grant.rule, "permit", "a person's own token on the node itself".to_owned())
                }
                super::Decision::Deny(denied) => (denied.rule, "deny", "no rule decided".to_owned()),
            };
            told.push(RuleTrace { rule, outcome, why });
        }
        told
    }

    /// The rules whose `who` is about the caller, in order.
    #[must_use]
    pub fn rules_of(&self, caller: &Caller) -> Vec<Arc<str>> {
        let seen = self.index.caller(caller);
        let about = self.rules.iter().filter(|rule| rule.who_miss(&seen).is_none());
        about.map(|rule| Arc::clone(&rule.name)).collect()
    }

    /// Which identities the caller can have for which resources (patterns; `*` is any), in the order of the
    /// rules. To show only: what a deny rule takes away in part still stands here.
    #[must_use]
    pub fn grants_of(&self, caller: &Caller) -> Vec<(Arc<str>, Vec<String>)> {
        let seen = self.index.caller(caller);
        let mut order: Vec<(Arc<str>, Vec<String>)> = Vec::new();
        let mut at: HashMap<Arc<str>, usize> = HashMap::new();
        let mut gone: Vec<&str> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.who_miss(&seen).is_none()) {
            let may = &rule.may;
            if !rule.permit {
                let whole = may.resources.is_none() || may.patterns.iter().any(|pattern| **pattern == *"*");
                let limits =
                    may.scopes.is_some() || may.cae.is_some() || may.pop.is_some() || may.purpose.is_some();
                match &may.identities {
                    _ if !whole || limits => {}
                    None => return order,
                    Some(names) => gone.extend(names.iter().map(|name| &**name)),
                }
                continue;
            }
            for name in may.identities.iter().flatten() {
                let elsewhere = **name == *PERSON && caller.place != Place::Host;
                if elsewhere || gone.contains(&&**name) {
                    continue;
                }
                let index = *at.entry(Arc::clone(name)).or_insert_with(|| {
                    order.push((Arc::clone(name), Vec::new()));
                    order.len().saturating_sub(1)
                });
                let Some((_, resources)) = order.get_mut(index) else { continue };
                for pattern in &may.patterns {
                    if !resources.iter().any(|known| **known == **pattern) {
                        resources.push(pattern.to_string());
                    }
                }
            }
        }
        // The built-in rule.
        if caller.place == Place::Host && !gone.contains(&PERSON) {
            match at.get(PERSON).and_then(|index| order.get_mut(*index)) {
                Some((_, resources)) => *resources = vec!["*".to_owned()],
                None => order.push((Arc::clone(&self.person_identity), vec!["*".to_owned()])),
            }
        }
        order
    }
}

/// In plain words, about "it", the rule.
pub(super) fn why(miss: Miss, rule: &Rule, caller: &Caller, ask: &Ask) -> String {
    let process = caller.process.as_ref();
    let none = "none";
    match miss {
        Miss::Uid => format!("it does not name uid {}", caller.uid),
        Miss::NotRoot => "uid 0 of a container is not the node's root".to_owned(),
        Miss::Gid => "it names none of the caller's groups".to_owned(),
        Miss::Container => {
            "the caller is in a container, and the rule does not say `place = \"container\"` or `pod`".to_owned()
        }
        Miss::Place => "the caller is not in the place that it names".to_owned(),
        Miss::Unit => {
            let unit = super::decide::unit_of(caller).unwrap_or(none);
            format!("it does not name the caller's unit ({unit})")
        }
        Miss::Slice => {
            let slice = process.and_then(|process| process.slice.as_deref()).unwrap_or(none);
            format!("it does not name the caller's slice ({slice})")
        }
        Miss::Pod => {
            let pod = process.and_then(|process| process.pod.as_ref()).map_or(none, |pod| &pod.uid);
            format!("it does not name the caller's pod ({pod})")
        }
        Miss::Unplaced => {
            "it needs the caller's place, unit or pod, and these could not be found out".to_owned()
        }
        Miss::Purpose if ask.purpose == Purpose::Agent => {
            "it does not say `purpose = \"agent\"`".to_owned()
        }
        Miss::Purpose => "it serves only software agents".to_owned(),
        Miss::Resource => format!("it does not name {}", ask.resource),
        Miss::Scope if ask.scopes.is_empty() => "it does not name the scope .default".to_owned(),
        Miss::Scope => format!("it does not name the scopes {}", ask.scopes.join(" ")),
        Miss::Cae if rule.permit => "it says `cae = false`".to_owned(),
        Miss::Cae => "it is about questions with another `cae`".to_owned(),
        Miss::Pop if rule.permit => "it does not say `pop = true`".to_owned(),
        Miss::Pop => "it is about questions with another `pop`".to_owned(),
        Miss::Identity if ask.identity == IdentityRef::Default => {
            "all that it grants was denied before".to_owned()
        }
        Miss::Identity => "it does not name the identity, or a rule before denies it".to_owned(),
        Miss::PersonElsewhere => {
            "a person's token goes only to the node itself, and the caller is in a container or could not be placed"
                .to_owned()
        }
    }
}
