//! Deciding one question: the first rule that matches, and a no without one.
//!
//! `Rule::miss` is the only place that compares a rule with a question; the decision, the trace and
//! the lists of what is granted all go through it, so that an explanation cannot differ from what is done.

use std::sync::Arc;

use super::trace::why;
use super::{ANY, Decision, Denied, Grant, Index, Policy, Rule};
use crate::identity::PERSON;
use crate::{Ask, Caller, Door, IdentityInfo, IdentityRef, IdentityTable, Place, Purpose, Resource};

/// The scope that stands for a question without scopes.
const DEFAULT_SCOPE: &str = ".default";

/// The first reason for which a rule is not about a question. In the order of comparing: the later it
/// comes, the closer the rule was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    Uid,
    NotRoot,
    Gid,
    Container,
    Place,
    Unit,
    Slice,
    Pod,
    /// Might match if the caller could be placed.
    Unplaced,
    Purpose,
    Resource,
    Scope,
    Cae,
    Pop,
    Identity,
    /// A person's token is for the node itself only.
    PersonElsewhere,
}

impl Miss {
    /// The word of a refusal for which this was the closest that any rule came.
    const fn word(self) -> &'static str {
        match self {
            Self::Unplaced | Self::PersonElsewhere => "caller_unknown",
            Self::Purpose => "purpose_not_allowed",
            Self::Resource => "resource_not_allowed",
            Self::Scope => "scope_not_allowed",
            Self::Cae => "cae_not_allowed",
            Self::Pop => "pop_not_allowed",
            Self::Identity => "identity_not_allowed",
            _ => "not_allowed",
        }
    }
}

/// A caller in numbers.
pub(super) struct SeenCaller<'a> {
    pub(super) caller: &'a Caller,
    /// The unit, by its number and by that of its template.
    units: [Option<u32>; 2],
    /// The slice and those that it lies in.
    slices: Vec<u32>,
}

/// A question in numbers.
pub(super) struct SeenAsk<'a> {
    pub(super) ask: &'a Ask,
    permit_resources: [u32; 3],
    deny_resources: [u32; 3],
    scopes: Vec<String>,
}

/// What a question without an identity, or with one, may be answered with.
enum Wanted<'a> {
    /// Whatever is granted first.
    Any,
    /// One of these.
    These(Vec<&'a IdentityInfo>),
}

impl Wanted<'_> {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(these) => these.iter().any(|info| *info.name == *name),
        }
    }
}

impl Index {
    pub(super) fn caller<'a>(&self, caller: &'a Caller) -> SeenCaller<'a> {
        let unit = unit_of(caller);
        let exact = unit.and_then(|unit| self.units.get(unit).copied());
        let template = unit.filter(|_| !self.units.is_empty()).and_then(template_of);
        let template = template.and_then(|template| self.units.get(template.as_str()).copied());
        let slice = caller.process.as_ref().and_then(|process| process.slice.as_deref());
        let slices = match slice.filter(|_| caller.place != Place::Unknown && !self.slices.is_empty()) {
            Some(slice) => slices_around(slice).filter_map(|slice| self.slices.get(slice).copied()).collect(),
            None => Vec::new(),
        };
        SeenCaller { caller, units: [exact, template], slices }
    }

    pub(super) fn ask<'a>(&self, ask: &'a Ask) -> SeenAsk<'a> {
        let canonical = ask.resource.canonical();
        let exact = self.exact.get(canonical).copied().unwrap_or(ANY);
        let folded = if canonical.bytes().any(|b| b.is_ascii_uppercase()) {
            self.folded.get(canonical.to_ascii_lowercase().as_str())
        } else {
            self.folded.get(canonical)
        };
        let suffix = behind_first_label(&ask.resource).and_then(|suffix| self.suffix.get(suffix));
        let suffix = suffix.copied().unwrap_or(ANY);
        SeenAsk {
            ask,
            // `ANY` twice does no harm: it only ever equals the pattern `*`, which matches anyway.
            permit_resources: [ANY, exact, suffix],
            deny_resources: [ANY, folded.copied().unwrap_or(ANY), suffix],
            scopes: ask.scopes.iter().map(|scope| scope.to_ascii_lowercase()).collect(),
        }
    }
}

/// The unit that a rule may go by. On loopback the kernel names no process; there it is the unit that the
/// identity header was made for.
pub(super) fn unit_of(caller: &Caller) -> Option<&str> {
    match (caller.door, caller.place) {
        (Door::Loopback, _) => caller.header_unit.as_deref(),
        (_, Place::Unknown) => None,
        _ => caller.process.as_ref().and_then(|process| process.unit.as_deref()),
    }
}

/// `backup@.service` for `backup@monday.service`.
fn template_of(unit: &str) -> Option<String> {
    let (name, instance) = unit.split_once('@')?;
    let (_, kind) = instance.rsplit_once('.')?;
    Some(format!("{name}@.{kind}"))
}

/// `a-b-c`, `a-b`, `a` and the root `-` for `a-b-c.slice`: the dashes of a slice's name are its path
/// (systemd.slice(5)).
fn slices_around(slice: &str) -> impl Iterator<Item = &str> {
    let stem = slice.strip_suffix(".slice").unwrap_or_default();
    let parents = stem.match_indices('-').filter_map(|(at, _)| stem.get(..at));
    parents.chain([stem, "-"])
}

/// `vault.azure.net` for `https://name.vault.azure.net`; nothing where there is a port or a path.
fn behind_first_label(resource: &Resource) -> Option<&str> {
    let host = resource.canonical().strip_prefix("https://")?;
    let (first, rest) = host.split_once('.')?;
    let label = !first.is_empty() && first.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    label.then_some(rest)
}

impl Rule {
    /// Why this rule's `who` is not about the caller. What is not known of the caller fits no rule that permits, and rules
    /// out none that denies: who comes by loopback must not get by a group what is denied to it.
    pub(super) fn who_miss(&self, seen: &SeenCaller<'_>) -> Option<Miss> {
        let (who, caller) = (&self.who, seen.caller);
        let unplaced = caller.place == Place::Unknown;
        if let Some(uids) = &who.uids {
            if uids.binary_search(&caller.uid).is_err() {
                return Some(Miss::Uid);
            }
            // Uid 0 is meant as the node's root, unless the rule is about containers. A deny reaches both.
            let contained = who.place == Some(Place::Container) || who.pods.is_some();
            if self.permit && caller.uid == 0 && !caller.is_root() && !contained {
                return Some(if unplaced { Miss::Unplaced } else { Miss::NotRoot });
            }
        }
        if let Some(gids) = &who.gids {
            let mut theirs = caller.gid.iter().chain(&caller.groups);
            let hidden = caller.gid.is_none() && !self.permit;
            if !hidden && !theirs.any(|gid| gids.binary_search(gid).is_ok()) {
                return Some(Miss::Gid);
            }
        }
        match who.place {
            Some(_) if unplaced && self.permit => return Some(Miss::Unplaced),
            Some(place) if !unplaced && place != caller.place => return Some(Miss::Place),
            None if self.permit && who.pods.is_none() && caller.place == Place::Container => {
                return Some(Miss::Container);
            }
            _ => {}
        }
        if let Some(units) = &who.units
            && !seen.units.iter().flatten().any(|unit| units.contains(unit))
        {
            let by_header = caller.door == Door::Loopback;
            let hidden = if by_header { caller.header_unit.is_none() } else { unplaced };
            if self.permit || !hidden {
                return Some(if unplaced && !by_header { Miss::Unplaced } else { Miss::Unit });
            }
        }
        if let Some(slices) = &who.slices
            && !seen.slices.iter().any(|slice| slices.contains(slice))
            && (self.permit || !unplaced)
        {
            return Some(if unplaced { Miss::Unplaced } else { Miss::Slice });
        }
        if let Some(pods) = &who.pods {
            let process = caller.process.as_ref().filter(|_| !unplaced);
            let theirs = process.and_then(|process| process.pod.as_ref());
            let hidden = unplaced && !self.permit;
            if !hidden && !theirs.is_some_and(|pod| pods.iter().any(|uid| **uid == *"*" || **uid == *pod.uid))
            {
                return Some(if unplaced { Miss::Unplaced } else { Miss::Pod });
            }
        }
        None
    }

    /// Why this rule's `may` is not about the question, the identity aside.
    fn may_miss(&self, seen: &SeenAsk<'_>) -> Option<Miss> {
        let (may, ask) = (&self.may, seen.ask);
        if may.purpose.is_some_and(|purpose| purpose != ask.purpose) {
            return Some(Miss::Purpose);
        }
        if let Some(resources) = &may.resources {
            let theirs = if self.permit { &seen.permit_resources } else { &seen.deny_resources };
            if !resources.iter().any(|pattern| theirs.contains(pattern)) {
                return Some(Miss::Resource);
            }
        }
        if let Some(scopes) = &may.scopes {
            let listed = |scope: &str| scopes.iter().any(|known| **known == *scope);
            // `.default` brings every scope that was consented to, so a deny of one scope reaches it too.
            let about = match (self.permit, seen.scopes.is_empty()) {
                (true, true) => listed(DEFAULT_SCOPE),
                (true, false) => seen.scopes.iter().all(|scope| listed(scope)),
                (false, true) => true,
                (false, false) => seen.scopes.iter().any(|scope| listed(scope) || scope == DEFAULT_SCOPE),
            };
            if !about {
                return Some(Miss::Scope);
            }
        }
        let pop = ask.pop.is_some();
        if self.permit {
            // Continuous access evaluation may be used unless the rule says no; a bound token only
            // where it says yes.
            if ask.cae && may.cae == Some(false) {
                return Some(Miss::Cae);
            }
            if pop && may.pop != Some(true) {
                return Some(Miss::Pop);
            }
        } else if may.cae.is_some_and(|cae| cae != ask.cae) {
            return Some(Miss::Cae);
        } else if may.pop.is_some_and(|denied| denied != pop) {
            return Some(Miss::Pop);
        }
        None
    }

    /// Why this rule is not about the question, the identity aside.
    pub(super) fn miss(&self, caller: &SeenCaller<'_>, ask: &SeenAsk<'_>) -> Option<Miss> {
        self.who_miss(caller).or_else(|| self.may_miss(ask))
    }
}

/// What one rule did, for whoever wants to tell it.
pub(super) enum Step<'a> {
    /// It was not about the question.
    Missed(Miss),
    /// It denies some of the identities in question; the search goes on with the others.
    Narrowed,
    /// It decides: yes with this identity.
    Permits(&'a str),
    /// It decides: no.
    Denies,
    /// A rule before has decided.
    NotReached(&'a str),
}

/// A question on its way through the rules.
struct Walk<'a> {
    caller: &'a Caller,
    ask: &'a Ask,
    identities: &'a IdentityTable,
    wanted: Wanted<'a>,
    /// The identities that a rule before has denied, and the first such rule.
    denied: Vec<&'a str>,
    denier: Option<&'a Rule>,
    /// The permit rule that came closest.
    closest: Option<(Miss, &'a Rule)>,
}

impl Policy {
    /// May `caller` have what it asks for? The first rule that matches decides, without one it is no.
    ///
    /// A question without an identity gets the first identity that is granted; one with an identity gets
    /// that one or nothing. Pure and quick: no clock, no file, well under 5 µs for 200 rules.
    #[must_use]
    pub fn decide(&self, caller: &Caller, ask: &Ask, identities: &IdentityTable) -> Decision {
        self.walk(caller, ask, identities, |_, _| {})
    }

    /// [`Self::decide`], telling `tell` what each rule did.
    pub(super) fn walk<'a>(
        &'a self,
        caller: &'a Caller,
        ask: &'a Ask,
        identities: &'a IdentityTable,
        mut tell: impl FnMut(&'a Rule, Step<'a>),
    ) -> Decision {
        let (seen_caller, seen_ask) = (self.index.caller(caller), self.index.ask(ask));
        let wanted = match &ask.identity {
            IdentityRef::Default => Wanted::Any,
            named => Wanted::These(identities.meant(named).collect()),
        };
        let mut walk =
            Walk { caller, ask, identities, wanted, denied: Vec::new(), denier: None, closest: None };
        for (at, rule) in self.rules.iter().enumerate() {
            let (step, decision) = match rule.miss(&seen_caller, &seen_ask) {
                Some(miss) => (Step::Missed(miss), None),
                None if rule.permit => walk.permit(rule),
                None => walk.deny(rule),
            };
            if let Step::Missed(miss) = step
                && rule.permit
                && walk.closest.is_none_or(|(best, _)| miss > best)
            {
                walk.closest = Some((miss, rule));
            }
            tell(rule, step);
            if let Some(decision) = decision {
                for later in self.rules.iter().skip(at.saturating_add(1)) {
                    tell(later, Step::NotReached(&rule.name));
                }
                return decision;
            }
        }
        self.without_a_rule(&walk)
    }

    /// What is answered when no rule has decided.
    fn without_a_rule(&self, walk: &Walk<'_>) -> Decision {
        let Walk { caller, ask, .. } = walk;
        let named_person = matches!(&walk.wanted, Wanted::These(_)) && walk.wanted.includes(PERSON);
        if named_person && !walk.denied.contains(&PERSON) && ask.purpose == Purpose::Program {
            if caller.place == Place::Host {
                return Decision::Permit(Grant {
                    rule: Arc::clone(&self.person),
                    identity: Arc::clone(&self.person_identity),
                    max_life: None,
                    rate: None,
                    purpose: Purpose::Program,
                });
            }
            return Decision::Deny(Denied {
                rule: Arc::clone(&self.person),
                word: Miss::PersonElsewhere.word(),
                sentence: refusal(
                    walk,
                    "the token of a person goes only to that person's own programs on the node itself, and \
                     this caller is in a container or could not be placed",
                ),
            });
        }
        if let Some(rule) = walk.denier {
            return denial(walk, rule);
        }
        let unknown = matches!(&walk.wanted, Wanted::These(these) if these.is_empty());
        let word = match walk.closest {
            _ if caller.uid == u32::MAX => Miss::Unplaced.word(),
            Some((miss, _)) if unknown && miss >= Miss::Identity => Miss::Identity.word(),
            Some((miss, _)) => miss.word(),
            None => "not_allowed",
        };
        let why = match walk.closest.filter(|(miss, _)| miss.word() != "not_allowed") {
            Some((miss, rule)) => {
                format!(
                    "no rule allows it; `{}` comes closest, but {}",
                    rule.name,
                    why(miss, rule, caller, ask)
                )
            }
            None => "no rule allows it, and without one the answer is no".to_owned(),
        };
        Decision::Deny(Denied { rule: Arc::clone(&self.default), word, sentence: refusal(walk, &why) })
    }
}

impl<'a> Walk<'a> {
    /// The first identity of a matching permit rule that may be had.
    fn permit(&self, rule: &'a Rule) -> (Step<'a>, Option<Decision>) {
        let mut miss = Miss::Identity;
        for name in rule.may.identities.iter().flatten() {
            // A name that the configuration has dropped since is as good as not granted.
            let Some(known) = self.identities.by_name(name) else { continue };
            if !self.wanted.includes(name) || self.denied.contains(&&**name) {
                continue;
            }
            // Rule 0, also where an application stands between. Whose person it is follows from the caller's
            // uid alone, and whoever writes a pod's specification chooses the uid in it.
            if known.kind.is_personal() && self.caller.place != Place::Host {
                miss = Miss::PersonElsewhere;
                continue;
            }
            let grant = Grant {
                rule: Arc::clone(&rule.name),
                identity: Arc::clone(name),
                max_life: rule.may.max_life,
                rate: rule.may.rate,
                purpose: self.ask.purpose,
            };
            return (Step::Permits(name), Some(Decision::Permit(grant)));
        }
        (Step::Missed(miss), None)
    }

    /// Takes what a matching deny rule denies out of the question.
    fn deny(&mut self, rule: &'a Rule) -> (Step<'a>, Option<Decision>) {
        let Some(names) = &rule.may.identities else { return (Step::Denies, Some(denial(self, rule))) };
        let before = self.denied.len();
        self.denied.extend(names.iter().map(|name| &**name).filter(|name| self.wanted.includes(name)));
        if self.denied.len() == before {
            return (Step::Missed(Miss::Identity), None);
        }
        if self.denier.is_none() {
            self.denier = Some(rule);
        }
        let over = match &self.wanted {
            Wanted::Any => false,
            Wanted::These(these) => these.iter().all(|info| self.denied.contains(&&*info.name)),
        };
        if over { (Step::Denies, Some(denial(self, rule))) } else { (Step::Narrowed, None) }
    }
}

fn denial(walk: &Walk<'_>, rule: &Rule) -> Decision {
    let sentence = refusal(walk, &format!("rule `{}` denies it", rule.name));
    Decision::Deny(Denied { rule: Arc::clone(&rule.name), word: "not_allowed", sentence })
}

/// The sentence of a refusal: who, what, why, and where to see more.
fn refusal(walk: &Walk<'_>, why: &str) -> String {
    let (caller, resource) = (walk.caller, &walk.ask.resource);
    let unit = unit_of(caller).map_or_else(String::new, |unit| format!(" in {unit}"));
    let (of, option) = match &walk.ask.identity {
        IdentityRef::Default => (String::new(), String::new()),
        named => {
            let name = spelling(named);
            (format!(" of {name}"), format!(" --identity {name}"))
        }
    };
    let sentence = format!(
        "uid {}{unit} gets no token{of} for {resource}: {why}; see: nightlatch token explain --resource \
         {resource}{option}",
        caller.uid
    );
    // Scopes and names come from the caller; what a terminal could obey is not said back.
    sentence.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn spelling(identity: &IdentityRef) -> String {
    match identity {
        IdentityRef::Default => "default".to_owned(),
        IdentityRef::Name(name) => name.clone(),
        IdentityRef::ClientId(id) | IdentityRef::ObjectId(id) => id.to_string(),
        IdentityRef::ResourceId(id) => id.clone(),
        IdentityRef::Person => PERSON.to_owned(),
    }
}
