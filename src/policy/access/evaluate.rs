//! The walk over the rules.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use nightlatch_model::{Reason, Timestamp};

use super::{
    AccessRule, AccessRules, Circumstances, DoorKind, Forwarding, Limits, Missing, Require, RuleEffect,
    Ruled, SignIn, Truth, Where, Who,
};
use crate::facts::Service;

/// How many rules that did not match are told in a trace.
const MAX_TOLD: usize = 12;

/// The first condition of a rule that does not hold for sure.
struct Seen {
    truth: Truth,
    /// Its key in the file; empty when all hold.
    by: &'static str,
    /// When the rule's time is over.
    closes: Option<Timestamp>,
}

impl AccessRules<'_> {
    /// What the rules say of a login.
    #[must_use]
    pub fn rule(&self, about: &Circumstances<'_>) -> Ruled {
        if self.policy.rules.is_empty() {
            return Ruled::NoPolicy;
        }
        let mut trace = Trace::default();
        let mut unmet: Option<(Arc<str>, Vec<Missing>)> = None;
        // Of rules that could have been the one, had more been known: hiding evidence must not widen a limit.
        let mut possible = Limits::default();
        for rule in &self.policy.rules {
            let seen = self.look(rule, about);
            if seen.truth == Truth::No {
                trace.passed_over(rule, seen.by);
                continue;
            }
            let missing = missing(&rule.require, about);
            let (met, sure) = (missing.is_empty(), seen.truth == Truth::Yes);
            let refuse = |reason, missing, trace: Trace| Ruled::Refuses {
                rule: Some(Arc::clone(&rule.name)),
                reason,
                missing,
                trace: trace.text,
            };
            match (rule.effect, sure, met) {
                (RuleEffect::Permit | RuleEffect::StepUp, true, true) => {
                    trace.decided(rule, "permits");
                    return Ruled::Permits {
                        rule: Arc::clone(&rule.name),
                        limits: rule.limits.and(possible),
                        closes: seen.closes,
                        trace: trace.text,
                    };
                }
                (RuleEffect::Deny, true, _) => {
                    trace.decided(rule, "refuses");
                    return refuse(Reason::PolicyDenied, Vec::new(), trace);
                }
                (RuleEffect::Deny, false, _) => {
                    trace.decided(rule, &format!("cannot be ruled out ({} is not known)", seen.by));
                    return refuse(Reason::EvidenceMissing, claims_wanted(rule, about), trace);
                }
                (RuleEffect::StepUp, _, false) => {
                    trace.decided(rule, "wants more evidence");
                    return refuse(Reason::StepUp, missing, trace);
                }
                (RuleEffect::Permit, true, false) => {
                    trace.passed_over(rule, "require");
                    unmet.get_or_insert_with(|| (Arc::clone(&rule.name), missing));
                }
                // Were it about this login, it would let it in: the rules behind it have the word.
                (RuleEffect::StepUp, false, true) => {
                    trace.passed_over(rule, seen.by);
                    possible = possible.and(rule.limits);
                }
                (RuleEffect::Permit, false, _) => {
                    trace.passed_over(rule, seen.by);
                    if met {
                        possible = possible.and(rule.limits);
                    }
                    let wanted = claims_wanted(rule, about);
                    if !wanted.is_empty() {
                        unmet.get_or_insert_with(|| (Arc::clone(&rule.name), wanted));
                    }
                }
            }
        }
        let (rule, reason, missing) = match unmet {
            Some((rule, missing)) => (Some(rule), Reason::EvidenceMissing, missing),
            None => (None, Reason::PolicyNoRule, Vec::new()),
        };
        trace.ended();
        Ruled::Refuses { rule, reason, missing, trace: trace.text }
    }

    /// The ways through a session that every rule allows which could turn out to be the one that decides. Asked before
    /// the role and the network are known: sshd is told of forwardings before it has a proof. Where a sign-in may follow at
    /// the prompt, what it could show may be shown by then.
    #[must_use]
    pub fn forwarding(&self, about: &Circumstances<'_>, prompt_follows: bool) -> Forwarding {
        let mut allowed = Forwarding::ALL;
        for rule in &self.policy.rules {
            let truth = self.look(rule, about).truth;
            if truth == Truth::No {
                continue;
            }
            let missing = missing(&rule.require, about);
            let met = missing.is_empty();
            let may_be_met = met || (prompt_follows && missing.iter().all(Missing::is_by_sign_in));
            if rule.effect == RuleEffect::Permit && !may_be_met {
                continue;
            }
            // A rule that can only refuse narrows nothing.
            if rule.effect != RuleEffect::Deny && may_be_met {
                allowed = allowed.and(rule.limits.forward.unwrap_or(Forwarding::ALL));
            }
            if truth == Truth::Yes && (met || rule.effect != RuleEffect::Permit) {
                break;
            }
        }
        allowed
    }

    fn look(&self, rule: &AccessRule, about: &Circumstances<'_>) -> Seen {
        let mut closes = None;
        let time = match rule.when {
            None => Truth::Yes,
            Some(when) => match self.offsets.get(when.zone).copied().flatten() {
                None => Truth::Unknown,
                Some(offset) => {
                    let found = when.holds(about.now, offset);
                    closes = found.flatten();
                    found.is_some().into()
                }
            },
        };
        let door = if about.service == Service::Sudo { DoorKind::Sudo } else { DoorKind::Login };
        let network = rule.network.as_ref().map_or(Truth::Yes, |networks| {
            about.from.map_or(Truth::Unknown, |from| networks.iter().any(|one| one.contains(from)).into())
        });
        let proof = rule.proof.as_ref().map_or(Truth::Yes, |kinds| {
            about.sign_in.map_or(Truth::Unknown, |sign_in| kinds.contains(&sign_in.proof).into())
        });
        let [role, users, guests] = who(&rule.who, about);
        let conditions = [
            ("service", rule.doors.as_ref().is_none_or(|doors| doors.contains(&door)).into()),
            ("where", self.is_there(&rule.place)),
            ("when", time),
            ("network", network),
            ("proof", proof),
            ("who.role", role),
            ("who.users", users),
            ("who.guests", guests),
        ];
        let mut least = conditions.into_iter().min_by_key(|(_, truth)| *truth);
        // The lists of groups are long: they are looked at when nothing else rules it out.
        if least.is_none_or(|(_, truth)| truth != Truth::No) {
            let groups = ("who.groups", groups(&rule.who, about));
            least = least.into_iter().chain([groups]).min_by_key(|(_, truth)| *truth);
        }
        let (by, truth) = least.filter(|(_, truth)| *truth != Truth::Yes).unwrap_or(("", Truth::Yes));
        Seen { truth, by, closes }
    }

    /// A node that knows no resource id of its own cannot be told from any, and one that does not know all of them only
    /// from those that it knows.
    fn is_there(&self, place: &Where) -> Truth {
        let labels = place.labels.as_ref().is_none_or(|labels| {
            labels.iter().all(|(key, value)| self.node.labels.get(key).is_some_and(|own| own == value))
        });
        let fits = |resource: &String| place.resources.iter().flatten().any(|one| one.matches(resource));
        let known = &self.node.resources;
        match (labels, place.resources.is_some()) {
            (false, _) => Truth::No,
            (true, false) => Truth::Yes,
            (true, true) if known.iter().any(fits) => Truth::Yes,
            (true, true) if known.is_empty() || self.node.is_half_known => Truth::Unknown,
            (true, true) => Truth::No,
        }
    }
}

fn known(wanted: bool, found: Option<bool>) -> Truth {
    match (wanted, found) {
        (false, _) => Truth::Yes,
        (true, None) => Truth::Unknown,
        (true, Some(holds)) => holds.into(),
    }
}

fn who(who: &Who, about: &Circumstances<'_>) -> [Truth; 3] {
    [
        known(who.role.is_some(), about.role.map(|role| Some(role) == who.role)),
        known(who.users.is_some(), about.oid.map(|oid| who.users.iter().flatten().any(|one| *one == oid))),
        known(who.guests.is_some(), about.guest.map(|guest| Some(guest) == who.guests)),
    ]
}

fn groups(who: &Who, about: &Circumstances<'_>) -> Truth {
    let Some(wanted) = &who.groups else { return Truth::Yes };
    let listed = about.sign_in.and_then(|sign_in| sign_in.groups.as_ref());
    known(true, listed.map(|own| wanted.iter().any(|one| own.contains(one))))
}

/// What is required and not shown.
fn missing(require: &Require, about: &Circumstances<'_>) -> Vec<Missing> {
    let mut missing = Vec::new();
    let sign_in = about.sign_in;
    if require.wants_claims() && !sign_in.is_some_and(SignIn::has_claims) {
        missing.push(Missing::Claims);
    }
    let shown = |list: fn(&SignIn) -> &Option<Vec<String>>, word: &String| {
        sign_in.and_then(|sign_in| list(sign_in).as_ref()).is_some_and(|list| list.contains(word))
    };
    let amr = require.amr.iter().filter(|word| !shown(|sign_in| &sign_in.amr, word));
    missing.extend(amr.map(|word| Missing::Amr(word.clone())));
    let acrs = require.acrs.iter().filter(|word| !shown(|sign_in| &sign_in.acrs, word));
    missing.extend(acrs.map(|word| Missing::Acrs(word.clone())));
    if require.device && sign_in.is_none_or(|sign_in| sign_in.device.is_none()) {
        missing.push(Missing::Device);
    }
    // A session goes on by the ages that it began with.
    let at = about.began.unwrap_or(about.now);
    let older = |limit: NonZeroU32, since: Option<Timestamp>| {
        since.is_none_or(|since| at.since(since) > i64::from(limit.get()))
    };
    if let Some(limit) = require.max_auth_age
        && older(limit, sign_in.and_then(|sign_in| sign_in.auth_time))
    {
        missing.push(Missing::AuthAge(limit.get()));
    }
    if let Some(limit) = require.max_age
        && older(limit, sign_in.map(|sign_in| sign_in.issued))
    {
        missing.push(Missing::Age(limit.get()));
    }
    missing
}

/// What a certificate would have to tell for a rule to know whether it is about this person.
fn claims_wanted(rule: &AccessRule, about: &Circumstances<'_>) -> Vec<Missing> {
    let told = about.sign_in.is_some_and(SignIn::has_claims);
    let groups = rule.who.groups.is_some() && about.sign_in.is_none_or(|sign_in| sign_in.groups.is_none());
    let guests = rule.who.guests.is_some() && about.guest.is_none();
    match (groups, guests, told) {
        (true, _, true) => vec![Missing::Groups],
        (true, _, false) | (_, true, false) => vec![Missing::Claims],
        (false, ..) => Vec::new(),
    }
}

/// What each rule did, in few words.
#[derive(Default)]
struct Trace {
    text: String,
    told: usize,
}

impl Trace {
    fn passed_over(&mut self, rule: &AccessRule, by: &str) {
        self.told += 1;
        if self.told <= MAX_TOLD {
            let _ = write!(self.text, "{} does not match ({by}), ", rule.name);
        }
    }

    fn decided(&mut self, rule: &AccessRule, what: &str) {
        self.count_the_rest();
        let _ = write!(self.text, "{} {what}", rule.name);
    }

    fn ended(&mut self) {
        self.count_the_rest();
        self.text.push_str("no rule decides");
    }

    fn count_the_rest(&mut self) {
        if self.told > MAX_TOLD {
            let _ = write!(self.text, "{} more do not match, ", self.told - MAX_TOLD);
        }
    }
}
