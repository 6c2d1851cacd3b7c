//! From files to rules: every value is checked here, so that deciding cannot fail.

use std::collections::HashMap;

use nightlatch_model::{ObjectId, Role};
use nightlatch_page::{MAX_POLICY_FILES, MAX_RULES, Page, PolicyError, Warning};
use nightlatch_policy::{
    AccessPolicy, AccessRule, DoorKind, Forwarding, Limits, Network, ProofKind, Require, ResourcePattern,
    RuleEffect, Where, Who,
};
use toml::Spanned;

use super::file::{
    DoorText, EffectText, ForwardText, ProofText, RequireText, RoleText, RuleText, WhereText, WhoText, read,
};
use super::{Compiled, Zones, lint, words};

pub(super) fn compile(files: &[(String, String)], zones: &dyn Zones) -> Result<Compiled, PolicyError> {
    let mut work = Work { zones, policy: AccessPolicy::default(), warnings: Vec::new(), labels: Vec::new() };
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut last: Option<Page<'_>> = None;
    for (count, (file, text)) in files.iter().enumerate() {
        let page = Page { file, text };
        if count >= MAX_POLICY_FILES {
            let problem = format!("there are more than {MAX_POLICY_FILES} policy files");
            return Err(page.error(0, problem, "put several rules into one file"));
        }
        for rule in page.some_rules(read(&page)?.rule)? {
            let at = rule.name.span().start;
            if work.policy.rules.len() >= MAX_RULES {
                let problem = format!("there are more than {MAX_RULES} rules");
                return Err(page.error(at, problem, "let one rule name several people or networks"));
            }
            let name = page.rule_name(&rule.name, &[])?.to_owned();
            if let Some(first) = seen.insert(name.clone(), format!("`{file}`, line {}", page.line(at))) {
                let problem = format!("a second rule is called `{name}`; the first stands in {first}");
                return Err(page.error(at, problem, "names stand in refusals and records: give it its own"));
            }
            work.rule(&page, &rule)?;
        }
        last = Some(page);
    }
    // Whom no rule matches is refused: a policy that permits nobody would be noticed too late.
    let permits = work.policy.rules.iter().any(|rule| rule.effect != RuleEffect::Deny);
    if let (Some(page), false, false) = (last, permits, work.policy.rules.is_empty()) {
        let hint = "end with a rule for everybody else: `effect = \"permit\"`, `who = { anyone = true }`";
        return Err(page.error(page.text.len(), "no rule permits anybody, so nobody could log in", hint));
    }
    Ok(Compiled { policy: work.policy, warnings: work.warnings, labels: work.labels })
}

/// What is at hand while the rules are taken in.
struct Work<'a> {
    zones: &'a dyn Zones,
    policy: AccessPolicy,
    warnings: Vec<Warning>,
    labels: Vec<(String, Warning)>,
}

impl Work<'_> {
    fn rule(&mut self, page: &Page<'_>, text: &RuleText) -> Result<(), PolicyError> {
        let effect = match text.effect {
            EffectText::Permit => RuleEffect::Permit,
            EffectText::StepUp => RuleEffect::StepUp,
            EffectText::Deny => RuleEffect::Deny,
        };
        let when =
            text.when.as_ref().map(|when| words::when(page, when, |zone| self.zone(zone))).transpose()?;
        let rule = AccessRule {
            name: text.name.get_ref().as_str().into(),
            effect,
            who: who(page, &text.who)?,
            place: text.place.as_ref().map(|text| place(page, text)).transpose()?.unwrap_or_default(),
            when,
            network: text.network.as_ref().map(|list| page.words(list, network)).transpose()?,
            proof: text.proof.as_ref().map(|list| proof(page, list)).transpose()?,
            doors: text.service.as_ref().map(|list| doors(page, list)).transpose()?,
            require: text.require.as_ref().map(|text| require(page, text)).transpose()?.unwrap_or_default(),
            limits: limits(page, text)?,
        };
        check_effect(page, text, &rule)?;
        lint::rule(page, text, &rule, &self.policy.rules, &mut self.warnings);
        self.labels.extend(lint::labels(page, text));
        self.policy.rules.push(rule);
        Ok(())
    }

    /// The number of a time zone.
    fn zone(&mut self, name: &str) -> Option<usize> {
        let known = self.policy.zones.iter().position(|zone| zone == name);
        known.or_else(|| {
            self.zones.exists(name).then(|| {
                self.policy.zones.push(name.to_owned());
                self.policy.zones.len() - 1
            })
        })
    }
}

/// What does not go together.
fn check_effect(page: &Page<'_>, text: &RuleText, rule: &AccessRule) -> Result<(), PolicyError> {
    let at = text.name.span().start;
    let limits = [
        text.max_session.as_ref().map(|text| text.span().start),
        text.forward.as_ref().map(|text| text.span().start),
        text.grace.as_ref().map(|text| text.span().start),
    ];
    match rule.effect {
        RuleEffect::Deny => {
            if let Some(require) = &text.require {
                let hint = "let the deny rule select, or write `effect = \"step-up\"` to refuse who does not show it";
                return Err(page.error(require.span().start, "a deny rule requires nothing", hint));
            }
            if let Some(at) = limits.into_iter().flatten().next() {
                return Err(page.error(at, "a deny rule limits nothing", "leave the limit out"));
            }
        }
        RuleEffect::StepUp if rule.require == Require::default() => {
            let hint = "say what to show: `require = { acrs = [\"c1\"] }`";
            return Err(page.error(at, "a step-up rule must require something", hint));
        }
        RuleEffect::StepUp | RuleEffect::Permit => {}
    }
    if rule.require.device && only_entra(rule) {
        let hint = "Entra's own SSH certificates name no device, and a sign-in at the prompt shows none";
        return Err(page.error(at, "this can never be shown with `proof = [\"entra\"]`", hint));
    }
    Ok(())
}

/// Whether a rule is about Entra's own certificates alone, which carry no claims.
pub(super) fn only_entra(rule: &AccessRule) -> bool {
    rule.proof.as_ref().is_some_and(|kinds| !kinds.contains(&ProofKind::OpenPubkey))
}

fn who(page: &Page<'_>, text: &Spanned<WhoText>) -> Result<Who, PolicyError> {
    let (at, who) = (text.span().start, text.get_ref());
    let selects = who.role.is_some() || who.groups.is_some() || who.users.is_some() || who.guests.is_some();
    match &who.anyone {
        Some(anyone) if !anyone.get_ref() => {
            let hint = "leave it out, or say `anyone = true`";
            return Err(page.error(anyone.span().start, "`anyone = false` says nothing", hint));
        }
        Some(anyone) if selects => {
            return Err(page.error(
                anyone.span().start,
                "`anyone` beside other selectors",
                "leave out one of the two",
            ));
        }
        None if !selects => {
            let hint = "name `role`, `groups`, `users` or `guests`, or say `anyone = true`";
            return Err(page.error(at, "`who` names nobody", hint));
        }
        _ => {}
    }
    let guid = "write the object id from Entra: names and addresses can be given to somebody else";
    Ok(Who {
        role: who.role.map(|role| match role {
            RoleText::User => Role::User,
            RoleText::Admin => Role::Admin,
        }),
        groups: who
            .groups
            .as_ref()
            .map(|list| page.words(list, |text| text.parse().map_err(|_| guid)))
            .transpose()?,
        users: who
            .users
            .as_ref()
            .map(|list| page.words(list, |text| text.parse::<ObjectId>().map_err(|_| guid)))
            .transpose()?,
        guests: who.guests,
    })
}

fn place(page: &Page<'_>, text: &Spanned<WhereText>) -> Result<Where, PolicyError> {
    let (at, place) = (text.span().start, text.get_ref());
    if place.labels.is_none() && place.resource.is_none() {
        return Err(page.error(at, "`where` names no node", "name `labels` or `resource`, or leave it out"));
    }
    if let Some(labels) = &place.labels {
        page.length(at, labels.len())?;
    }
    let form = "write the beginning of a resource id, such as `/subscriptions/*/resourceGroups/prod-*`";
    let pattern = |text: &str| ResourcePattern::new(text).ok_or(form);
    let resources = place.resource.as_ref().map(|list| page.words(list, pattern)).transpose()?;
    Ok(Where { labels: place.labels.clone(), resources })
}

fn network(text: &str) -> Result<Network, &'static str> {
    const FORM: &str =
        "write a network such as `10.0.0.0/8` or `2001:db8::/32`, with no bits behind its length";
    let (address, prefix) = match text.split_once('/') {
        // A number alone would be read with a plus sign before it.
        Some((address, prefix)) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
            (address, Some(prefix.parse().map_err(|_| FORM)?))
        }
        Some(_) => return Err(FORM),
        None => (text, None),
    };
    let address: core::net::IpAddr = address.parse().map_err(|_| FORM)?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    Network::new(address, prefix.unwrap_or(whole)).ok_or(FORM)
}

fn proof(page: &Page<'_>, list: &Spanned<Vec<ProofText>>) -> Result<Vec<ProofKind>, PolicyError> {
    page.length(list.span().start, list.get_ref().len())?;
    let kind = |text: &ProofText| match text {
        ProofText::Entra => ProofKind::Entra,
        ProofText::Openpubkey => ProofKind::OpenPubkey,
    };
    Ok(list.get_ref().iter().map(kind).collect())
}

fn doors(page: &Page<'_>, list: &Spanned<Vec<DoorText>>) -> Result<Vec<DoorKind>, PolicyError> {
    page.length(list.span().start, list.get_ref().len())?;
    let kind = |text: &DoorText| match text {
        DoorText::Login => DoorKind::Login,
        DoorText::Sudo => DoorKind::Sudo,
    };
    Ok(list.get_ref().iter().map(kind).collect())
}

fn require(page: &Page<'_>, text: &Spanned<RequireText>) -> Result<Require, PolicyError> {
    let (at, require) = (text.span().start, text.get_ref());
    if let Some(device) = require.device.as_ref().filter(|device| !*device.get_ref()) {
        let hint = "leave it out, or say `device = true`";
        return Err(page.error(device.span().start, "`device = false` says nothing", hint));
    }
    let list = |list: &Option<nightlatch_page::Words>, form: fn(&str) -> Result<String, &'static str>| {
        list.as_ref().map(|list| page.words(list, form)).transpose().map(Option::unwrap_or_default)
    };
    let found = Require {
        amr: list(&require.amr, |text| Ok(text.to_owned()))?,
        acrs: list(&require.acrs, words::context)?,
        device: require.device.is_some(),
        max_auth_age: require.max_auth_age.as_ref().map(|text| words::span(page, text)).transpose()?,
        max_age: require.max_age.as_ref().map(|text| words::span(page, text)).transpose()?,
    };
    if found == Require::default() {
        let hint = "name `amr`, `acrs`, `device`, `max_auth_age` or `max_age`, or leave it out";
        return Err(page.error(at, "`require` requires nothing", hint));
    }
    Ok(found)
}

fn limits(page: &Page<'_>, text: &RuleText) -> Result<Limits, PolicyError> {
    let forward = text.forward.as_ref().map(|list| Forwarding {
        port: list.get_ref().contains(&ForwardText::Port),
        agent: list.get_ref().contains(&ForwardText::Agent),
        x11: list.get_ref().contains(&ForwardText::X11),
    });
    Ok(Limits {
        max_session: text.max_session.as_ref().map(|text| words::span(page, text)).transpose()?,
        forward,
        grace: text.grace.as_ref().map(|text| words::grace(page, text)).transpose()?,
    })
}
