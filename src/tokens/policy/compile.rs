//! From policy files to tables: every value is checked here, so that deciding cannot fail.
//!
//! Also the lints: what is allowed, and likely a mistake.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_page::{MAX_POLICY_FILES, MAX_RULES, Page, PolicyError, Warning, Words};
use toml::Spanned;

use super::file::{Effect, MayText, PlaceText, PurposeText, RuleText, WhoText, read};
use super::words::{duration, pod_uid, rate, scope_name, slice_stem, unit_name};
use super::{
    ANY, DEFAULT_RULE, Index, LEAST_USEFUL_LIFE, MAX_AGENT_LIFE, May, NameLookup, PERSON_RULE, Policy, Rule,
    Who,
};
use crate::identity::PERSON;
use crate::{IdentityTable, Place, Purpose, Resource};

/// The uid that means "none" (credentials(7), `(uid_t) -1`).
const NO_UID: u32 = u32::MAX;

pub(super) fn compile(
    files: &[(String, String)],
    names: &dyn NameLookup,
    identities: &IdentityTable,
) -> Result<Policy, PolicyError> {
    let mut work = Work { names, identities, index: Index::default(), next: ANY, warnings: Vec::new() };
    let mut rules: Vec<Rule> = Vec::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    for (count, (file, text)) in files.iter().enumerate() {
        let page = Page { file, text };
        if count >= MAX_POLICY_FILES {
            let problem = format!("there are more than {MAX_POLICY_FILES} policy files");
            return Err(page.error(0, problem, "put several rules into one file"));
        }
        for rule in page.some_rules(read(&page)?.rule)? {
            let at = rule.get_ref().name.span().start;
            if rules.len() >= MAX_RULES {
                let problem = format!("there are more than {MAX_RULES} rules");
                return Err(page.error(at, problem, "let one rule name several units or resources"));
            }
            let name = rule.get_ref().name.get_ref().clone();
            page.rule_name(&rule.get_ref().name, &[DEFAULT_RULE, PERSON_RULE])?;
            if let Some(first) = seen.insert(name.clone(), format!("`{file}`, line {}", page.line(at))) {
                let problem = format!("a second rule is called `{name}`; the first stands in {first}");
                return Err(page.error(at, problem, "names stand in refusals and records: give it its own"));
            }
            rules.push(work.rule(&page, rule.into_inner())?);
        }
    }
    Ok(Policy {
        rules: rules.into(),
        index: work.index,
        warnings: work.warnings,
        default: DEFAULT_RULE.into(),
        person: PERSON_RULE.into(),
        person_identity: PERSON.into(),
    })
}

/// What is at hand while the rules are taken in.
struct Work<'a> {
    names: &'a dyn NameLookup,
    identities: &'a IdentityTable,
    index: Index,
    next: u32,
    warnings: Vec<Warning>,
}

impl Work<'_> {
    fn rule(&mut self, page: &Page<'_>, text: RuleText) -> Result<Rule, PolicyError> {
        let permit = text.effect == Effect::Permit;
        let name: Arc<str> = text.name.get_ref().as_str().into();
        let at = text.name.span().start;
        let who = self.who(page, &name, permit, &text.who)?;
        let may = self.may(page, &name, permit, at, &text.may)?;
        if permit {
            self.lint(page, &name, at, text.who.get_ref(), &who, &may);
        }
        Ok(Rule { name, permit, who, may })
    }

    fn warn(&mut self, page: &Page<'_>, rule: &str, at: usize, text: String) {
        self.warnings.push(page.warning(at, rule, text));
    }

    // ---- who ----

    fn who(
        &mut self,
        page: &Page<'_>,
        rule: &str,
        permit: bool,
        text: &Spanned<WhoText>,
    ) -> Result<Who, PolicyError> {
        let (at, who) = (text.span().start, text.get_ref());
        if let Some(exe) = &who.exe {
            let hint = "the daemon has no privileges and cannot read another uid's /proc/PID/exe; name `unit` and \
                        `uid` instead";
            return Err(page.error(exe.span().start, "`exe` cannot be honoured", hint));
        }
        let selects = who.uid.is_some()
            || who.user.is_some()
            || who.gid.is_some()
            || who.group.is_some()
            || who.unit.is_some()
            || who.slice.is_some()
            || who.pod.is_some();
        match &who.anyone {
            Some(anyone) if !anyone.get_ref() => {
                let hint = "leave it out, or say `anyone = true`";
                return Err(page.error(anyone.span().start, "`anyone = false` says nothing", hint));
            }
            Some(anyone) if selects => {
                let hint = "leave out one of the two";
                return Err(page.error(anyone.span().start, "`anyone` beside other selectors", hint));
            }
            None if !selects => {
                let hint =
                    "name `uid`, `user`, `gid`, `group`, `unit`, `slice` or `pod`, or say `anyone = true`";
                return Err(page.error(at, "`who` names nobody", hint));
            }
            _ => {}
        }
        if who.pod.is_some() && who.place == Some(PlaceText::Host) {
            return Err(page.error(at, "a pod is never on the host", "leave out `place`"));
        }
        let uids = self.numbers(page, rule, permit, who.uid.as_ref(), who.user.as_ref(), true)?;
        let gids = self.numbers(page, rule, permit, who.gid.as_ref(), who.group.as_ref(), false)?;
        let units = who.unit.as_ref().map(|units| self.units(page, units)).transpose()?;
        let slices = who.slice.as_ref().map(|slices| self.slices(page, slices)).transpose()?;
        let pods = who.pod.as_ref().map(|list| page.words(list, pod_uid)).transpose()?.map(Into::into);
        let place = who.place.map(|place| match place {
            PlaceText::Host => Place::Host,
            PlaceText::Container => Place::Container,
        });
        Ok(Who { uids, gids, units, slices, pods, place })
    }

    /// Ids and names of one kind together, sorted.
    fn numbers(
        &mut self,
        page: &Page<'_>,
        rule: &str,
        permit: bool,
        ids: Option<&Spanned<Vec<u32>>>,
        named: Option<&Words>,
        users: bool,
    ) -> Result<Option<Box<[u32]>>, PolicyError> {
        if ids.is_none() && named.is_none() {
            return Ok(None);
        }
        let mut found = Vec::new();
        if let Some(ids) = ids {
            let at = ids.span().start;
            page.length(at, ids.get_ref().len())?;
            if ids.get_ref().contains(&NO_UID) {
                return Err(page.error(at, format!("{NO_UID} is nobody's id"), "write the real id"));
            }
            found.extend_from_slice(ids.get_ref());
        }
        if let Some(named) = named {
            page.length(named.span().start, named.get_ref().len())?;
            for name in named.get_ref() {
                let (at, name) = (name.span().start, page.word(name)?);
                let id = if users { self.names.uid(name) } else { self.names.gid(name) };
                let kind = if users { "user" } else { "group" };
                match id.filter(|id| *id != NO_UID) {
                    Some(id) => found.push(id),
                    // A permit without its user lets nobody in; a deny without its user would deny nobody.
                    None if permit => {
                        self.warn(
                            page,
                            rule,
                            at,
                            format!("this node has no {kind} `{name}`: it matches nobody"),
                        );
                    }
                    None => {
                        let hint = "a deny rule must reach whom it names: create it, or write the number";
                        return Err(page.error(at, format!("this node has no {kind} `{name}`"), hint));
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(Some(found.into()))
    }

    fn units(&mut self, page: &Page<'_>, list: &Words) -> Result<Box<[u32]>, PolicyError> {
        let units = page.words(list, unit_name)?;
        Ok(units.iter().map(|unit| number(&mut self.index.units, &mut self.next, unit)).collect())
    }

    fn slices(&mut self, page: &Page<'_>, list: &Words) -> Result<Box<[u32]>, PolicyError> {
        let slices = page.words(list, slice_stem)?;
        Ok(slices.iter().map(|slice| number(&mut self.index.slices, &mut self.next, slice)).collect())
    }

    // ---- may ----

    fn may(
        &mut self,
        page: &Page<'_>,
        rule: &str,
        permit: bool,
        at: usize,
        may: &MayText,
    ) -> Result<May, PolicyError> {
        if permit && may.identity.is_none() {
            let hint = "write `identity = [\"...\"]` under `may`; the first of them is the default one";
            return Err(page.error(at, format!("rule `{rule}` permits, but names no identity"), hint));
        }
        if permit && may.resource.is_none() {
            let hint = "write `resource = [\"https://...\"]` under `may`";
            return Err(page.error(at, format!("rule `{rule}` permits, but names no resource"), hint));
        }
        let identities = may.identity.as_ref().map(|list| self.identities(page, list)).transpose()?;
        let (mut resources, mut patterns) = (None, Vec::new());
        if let Some(list) = &may.resource {
            page.length(list.span().start, list.get_ref().len())?;
            let mut ids = Vec::with_capacity(list.get_ref().len());
            for word in list.get_ref() {
                let (id, shown) = self.resource(page, permit, word)?;
                ids.push(id);
                patterns.push(shown);
            }
            resources = Some(ids.into());
        }
        let scopes = may.scope.as_ref().map(|list| page.words(list, scope_name)).transpose()?.map(Into::into);
        let purpose = match may.purpose {
            Some(PurposeText::Agent) => Some(Purpose::Agent),
            Some(PurposeText::Program) => Some(Purpose::Program),
            None if permit => Some(Purpose::Program),
            None => None,
        };
        for (limit, key) in [(&may.max_life, "max_life"), (&may.rate, "rate")] {
            if let Some(limit) = limit.as_ref().filter(|_| !permit) {
                let problem = format!("`{key}` in a rule that denies");
                return Err(page.error(limit.span().start, problem, "leave it out"));
            }
        }
        let max_life = self.max_life(page, rule, purpose, may.max_life.as_ref())?;
        let rate = may.rate.as_ref().map(|text| rate(page, text)).transpose()?;
        Ok(May {
            identities,
            resources,
            patterns: patterns.into(),
            scopes,
            cae: may.cae,
            pop: may.pop,
            purpose,
            max_life,
            rate,
        })
    }

    fn identities(&self, page: &Page<'_>, list: &Words) -> Result<Box<[Arc<str>]>, PolicyError> {
        page.length(list.span().start, list.get_ref().len())?;
        let one = |word: &Spanned<String>| {
            let name = page.word(word)?;
            self.identities.by_name(name).map(|info| Arc::clone(&info.name)).ok_or_else(|| {
                let known: Vec<&str> = self.identities.iter().map(|info| &*info.name).take(8).collect();
                let hint = format!("the configuration names {}; see [[broker.identity]]", known.join(", "));
                page.error(word.span().start, format!("there is no identity `{name}`"), hint)
            })
        };
        list.get_ref().iter().map(one).collect()
    }

    /// The number of a pattern, and how it is shown.
    fn resource(
        &mut self,
        page: &Page<'_>,
        permit: bool,
        word: &Spanned<String>,
    ) -> Result<(u32, Box<str>), PolicyError> {
        let (at, text) = (word.span().start, word.get_ref().as_str());
        if text == "*" {
            return Ok((ANY, "*".into()));
        }
        let bad = |problem: String| {
            let hint = "write one resource, `https://*.suffix` for one label in front, or `*`";
            page.error(at, problem, hint)
        };
        if let Some(suffix) = text.strip_prefix("https://*.") {
            let suffix = suffix.to_ascii_lowercase();
            let label = |label: &str| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            if suffix.split('.').count() < 2 || !suffix.split('.').all(label) {
                return Err(bad("what follows `*.` is no domain of two labels or more".into()));
            }
            let shown = format!("https://*.{suffix}");
            return Ok((number(&mut self.index.suffix, &mut self.next, &suffix), shown.into()));
        }
        if text.contains('*') {
            return Err(bad("`*` can stand alone or for the first label of a host".into()));
        }
        let resource: Resource = text.parse().map_err(|cause| bad(format!("{cause}")))?;
        let canonical = resource.canonical();
        let id = if permit {
            number(&mut self.index.exact, &mut self.next, canonical)
        } else {
            number(&mut self.index.folded, &mut self.next, &canonical.to_ascii_lowercase())
        };
        Ok((id, canonical.into()))
    }

    fn max_life(
        &mut self,
        page: &Page<'_>,
        rule: &str,
        purpose: Option<Purpose>,
        text: Option<&Spanned<String>>,
    ) -> Result<Option<Duration>, PolicyError> {
        let agent = purpose == Some(Purpose::Agent);
        let Some(text) = text else { return Ok(agent.then_some(MAX_AGENT_LIFE)) };
        let at = text.span().start;
        let life = duration(text.get_ref()).filter(|life| !life.is_zero()).ok_or_else(|| {
            page.error(at, "`max_life` is no length of time", "write `15m`, `90s` or `1h 30min`")
        })?;
        if agent && life > MAX_AGENT_LIFE {
            let hint = format!("write {} min or less", MAX_AGENT_LIFE.as_secs() / 60);
            return Err(page.error(at, "a token for a software agent would be served for too long", hint));
        }
        if life < LEAST_USEFUL_LIFE {
            let text = "Microsoft's libraries take a token with less than 5 min of life as ended and ask \
                        again at once; 6m is the least that serves them";
            self.warn(page, rule, at, text.to_owned());
        }
        Ok(Some(life))
    }

    // ---- lints ----

    fn lint(&mut self, page: &Page<'_>, rule: &str, at: usize, text: &WhoText, who: &Who, may: &May) {
        if text.anyone.is_some() {
            let names = may.identities.iter().flatten();
            let nodes = names
                .filter(|name| self.identities.by_name(name).is_some_and(|info| info.kind.is_the_nodes()));
            let nodes: Vec<String> = nodes.map(|name| format!("`{name}`")).collect();
            if !nodes.is_empty() {
                let text = format!(
                    "gives the machine's own identity {} to every program; on a cluster's node the \
                     kubelet has it too, and every node of the pool shares it: name uids",
                    nodes.join(", ")
                );
                self.warn(page, rule, at, text);
            }
        }
        let only_hints = who.uids.is_none() && who.gids.is_none();
        if only_hints && (who.units.is_some() || who.slices.is_some()) {
            let text = "names a unit or slice without a uid: that is a hint against mistakes and no border, \
                        because root and each process of the same uid can get into it; add `uid` or `user`";
            self.warn(page, rule, at, text.to_owned());
        }
        if may.patterns.iter().any(|pattern| pattern.contains('*')) {
            let text = "a wildcard for the resource also grants what is added later, and one resource can \
                        have several names: list what the program needs";
            self.warn(page, rule, at, text.to_owned());
        }
    }
}

fn number(map: &mut HashMap<Box<str>, u32>, next: &mut u32, text: &str) -> u32 {
    if let Some(known) = map.get(text) {
        return *known;
    }
    // At most MAX_RULES × 2 × MAX_LIST numbers are given out, and `ANY` is never among them.
    *next = next.saturating_add(1);
    map.insert(text.into(), *next);
    *next
}
