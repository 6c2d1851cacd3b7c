//! A second reading of the rules, written for clearness only, against the compiled one; and what must hold
//! whatever the rules say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::decide_tests::{Names, resource, table};
use super::*;
use crate::{Ask, Door, IdentityRef, Pod, PopAsk, Process};

const RESOURCES: [&str; 5] = [
    "https://vault.azure.net",
    "https://a.vault.azure.net",
    "https://a.b.vault.azure.net",
    "https://management.azure.com",
    "api://app/Path",
];
const PATTERNS: [&str; 5] = [
    "*",
    "https://vault.azure.net",
    "https://*.vault.azure.net",
    "https://management.azure.com",
    "api://app/Path",
];
const IDENTITIES: [&str; 4] = ["node", "backup", "spare", "person"];
const UNITS: [&str; 3] = ["backup.service", "dump@mon.service", "web.service"];
const UNIT_RULES: [&str; 2] = ["backup.service", "dump@*.service"];
const PODS: [&str; 2] = ["0f6d2c64-0000-4000-8000-000000000001", "0f6d2c64-0000-4000-8000-000000000002"];
const SCOPES: [&str; 3] = ["user.read", "mail.send", ".default"];

/// A rule in the model: lists of what is named, `None` where nothing is.
#[derive(Clone, Debug)]
struct Modelled {
    name: String,
    permit: bool,
    uids: Option<Vec<u32>>,
    gids: Option<Vec<u32>>,
    units: Option<Vec<&'static str>>,
    pods: Option<Vec<&'static str>>,
    place: Option<Place>,
    identities: Option<Vec<&'static str>>,
    patterns: Option<Vec<&'static str>>,
    scopes: Option<Vec<&'static str>>,
    cae: Option<bool>,
    pop: Option<bool>,
    agent: Option<bool>,
}

impl Modelled {
    fn anyone(&self) -> bool {
        self.uids.is_none() && self.gids.is_none() && self.units.is_none() && self.pods.is_none()
    }

    fn toml(&self) -> String {
        let mut who = Vec::new();
        let mut may = Vec::new();
        let put = |list: &mut Vec<String>, key: &str, value: Option<String>| {
            list.extend(value.map(|value| format!("{key} = {value}")));
        };
        put(&mut who, "uid", self.uids.as_ref().map(|list| format!("{list:?}")));
        put(&mut who, "gid", self.gids.as_ref().map(|list| format!("{list:?}")));
        put(&mut who, "unit", self.units.as_ref().map(|list| format!("{list:?}")));
        put(&mut who, "pod", self.pods.as_ref().map(|list| format!("{list:?}")));
        put(&mut who, "anyone", self.anyone().then(|| "true".to_owned()));
        let place = self.place.map(|place| if place == Place::Host { "\"host\"" } else { "\"container\"" });
        put(&mut who, "place", place.map(str::to_owned));
        put(&mut may, "identity", self.identities.as_ref().map(|list| format!("{list:?}")));
        put(&mut may, "resource", self.patterns.as_ref().map(|list| format!("{list:?}")));
        put(&mut may, "scope", self.scopes.as_ref().map(|list| format!("{list:?}")));
        put(&mut may, "cae", self.cae.map(|cae| cae.to_string()));
        put(&mut may, "pop", self.pop.map(|pop| pop.to_string()));
        let agent = self.agent.map(|agent| if agent { "\"agent\"" } else { "\"program\"" });
        put(&mut may, "purpose", agent.map(str::to_owned));
        let effect = if self.permit { "permit" } else { "deny" };
        let mut text = String::new();
        writeln!(text, "[[rule]]\nname = \"{}\"\neffect = \"{effect}\"", self.name).unwrap();
        writeln!(text, "who = {{ {} }}\nmay = {{ {} }}", who.join(", "), may.join(", ")).unwrap();
        text
    }

    /// Whether the rule is about this caller and question, when it is asked for the token of `identity`.
    fn about(&self, caller: &Caller, ask: &Ask, identity: &str) -> bool {
        let process = caller.process.as_ref().filter(|_| caller.place != Place::Unknown);
        let container_rule = self.place == Some(Place::Container) || self.pods.is_some();
        let uid = match &self.uids {
            None => true,
            Some(uids) => {
                let root = caller.uid == 0 && self.permit && !container_rule;
                uids.contains(&caller.uid) && (!root || caller.place == Place::Host)
            }
        };
        let gid = match &self.gids {
            None => true,
            // A deny is about everybody of whom it is not known.
            Some(_) if !self.permit && caller.gid.is_none() => true,
            Some(gids) => gids.iter().any(|gid| caller.gid == Some(*gid) || caller.groups.contains(gid)),
        };
        let unit_name = if caller.door == Door::Loopback {
            caller.header_unit.clone()
        } else {
            process.and_then(|process| process.unit.clone())
        };
        let no_unit = match caller.door {
            Door::Loopback => caller.header_unit.is_none(),
            _ => caller.place == Place::Unknown,
        };
        let unit = match &self.units {
            None => true,
            Some(_) if !self.permit && no_unit => true,
            Some(units) => unit_name.is_some_and(|name| {
                units.iter().any(|rule| match rule.split_once("@*.") {
                    None => *rule == name,
                    Some((stem, kind)) => {
                        name.starts_with(&format!("{stem}@")) && name.ends_with(&format!(".{kind}"))
                    }
                })
            }),
        };
        let pod = match &self.pods {
            None => true,
            Some(_) if !self.permit && caller.place == Place::Unknown => true,
            Some(pods) => process
                .and_then(|process| process.pod.as_ref())
                .is_some_and(|pod| pods.iter().any(|rule| *rule == "*" || *rule == pod.uid)),
        };
        let place = match self.place {
            Some(place) => caller.place == place || (!self.permit && caller.place == Place::Unknown),
            None => !self.permit || self.pods.is_some() || caller.place != Place::Container,
        };
        let asked = ask.resource.canonical();
        let resource = self.patterns.as_ref().is_none_or(|patterns| {
            patterns.iter().any(|pattern| match pattern.strip_prefix("https://*.") {
                _ if *pattern == "*" => true,
                None => *pattern == asked,
                Some(suffix) => {
                    let host = asked.strip_prefix("https://").unwrap_or("").strip_suffix(suffix);
                    host.is_some_and(|label| label.len() > 1 && label.find('.') == Some(label.len() - 1))
                }
            })
        });
        let scope = self.scopes.as_ref().is_none_or(|scopes| {
            let asked: Vec<&str> = if ask.scopes.is_empty() {
                vec![".default"]
            } else {
                ask.scopes.iter().map(String::as_str).collect()
            };
            if self.permit {
                asked.iter().all(|scope| scopes.contains(scope))
            } else {
                asked.contains(&".default") || asked.iter().any(|scope| scopes.contains(scope))
            }
        });
        let cae = match (self.permit, self.cae) {
            (true, cae) => !ask.cae || cae != Some(false),
            (false, cae) => cae.is_none_or(|cae| cae == ask.cae),
        };
        let pop = match (self.permit, self.pop) {
            (true, pop) => ask.pop.is_none() || pop == Some(true),
            (false, pop) => pop.is_none_or(|pop| pop == ask.pop.is_some()),
        };
        let asks_as_agent = ask.purpose == Purpose::Agent;
        let purpose = match (self.permit, self.agent) {
            (true, agent) => agent.unwrap_or(false) == asks_as_agent,
            (false, agent) => agent.is_none_or(|agent| agent == asks_as_agent),
        };
        let whose = self.identities.as_ref().is_none_or(|names| names.contains(&identity))
            && !(self.permit && identity == "person" && caller.place != Place::Host);
        uid && gid && unit && pod && place && resource && scope && cae && pop && purpose && whose
    }
}

/// Who decides about one identity: the first rule that is about it.
fn one(rules: &[Modelled], caller: &Caller, ask: &Ask, identity: &str) -> (bool, String) {
    if let Some(rule) = rules.iter().find(|rule| rule.about(caller, ask, identity)) {
        return (rule.permit, rule.name.clone());
    }
    (false, "default".to_owned())
}

/// The answer: `Some((rule, identity))`, or nothing.
fn model(rules: &[Modelled], caller: &Caller, ask: &Ask) -> Option<(String, String)> {
    let wanted: Vec<&str> = match &ask.identity {
        IdentityRef::Default => {
            // The first rule that gives anything, and the first that it gives.
            for rule in rules.iter().filter(|rule| rule.permit) {
                for identity in rule.identities.as_ref().unwrap() {
                    if one(rules, caller, ask, identity) == (true, rule.name.clone()) {
                        return Some((rule.name.clone(), (*identity).to_owned()));
                    }
                }
            }
            return None;
        }
        IdentityRef::Name(name) => vec![name.as_str()],
        IdentityRef::Person => vec!["person"],
        _ => unreachable!("not asked here"),
    };
    let identity = wanted[0];
    match one(rules, caller, ask, identity) {
        (true, rule) => Some((rule, identity.to_owned())),
        (false, rule) if rule == "default" => {
            let own = identity == "person" && caller.place == Place::Host && ask.purpose == Purpose::Program;
            own.then(|| ("person".to_owned(), "person".to_owned()))
        }
        (false, _) => None,
    }
}

fn answer(policy: &Policy, caller: &Caller, ask: &Ask) -> Option<(String, String)> {
    match policy.decide(caller, ask, &table()) {
        Decision::Permit(grant) => Some((grant.rule.to_string(), grant.identity.to_string())),
        Decision::Deny(_) => None,
    }
}

fn compiled(rules: &[Modelled]) -> Policy {
    let text: String = rules.iter().map(Modelled::toml).collect();
    let files = [("m.toml".to_owned(), text.clone())];
    // A file without rules is refused; a folder without files is not.
    let files = if rules.is_empty() { &files[..0] } else { &files[..] };
    Policy::compile(files, &Names, &table()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = Option<Vec<T>>> {
    prop::option::of(prop::sample::subsequence(all, 1..=all.len()).prop_shuffle())
}

const UIDS: [u32; 4] = [0, 1000, 1001, 1002];

fn a_rule() -> impl Strategy<Value = Modelled> {
    let place = prop_oneof![3 => Just(None), 1 => Just(Some(Place::Host)), 1 => Just(Some(Place::Container))];
    let who = (
        some_of(&UIDS),
        prop_oneof![3 => Just(None), 1 => some_of(&UIDS)],
        prop_oneof![3 => Just(None), 1 => some_of(&UNIT_RULES)],
        prop_oneof![4 => Just(None), 1 => some_of(&PODS), 1 => Just(Some(vec!["*"]))],
        place,
    );
    let may = (
        some_of(&IDENTITIES),
        some_of(&PATTERNS),
        prop_oneof![3 => Just(None), 1 => some_of(&SCOPES)],
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
        prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)],
    );
    (any::<bool>(), who, may).prop_map(|(permit, who, may)| {
        let (uids, gids, units, pods, mut place) = who;
        let (mut identities, mut patterns, scopes, cae, pop, agent) = may;
        if permit {
            identities.get_or_insert_with(|| vec!["node"]);
            patterns.get_or_insert_with(|| vec!["*"]);
        }
        if pods.is_some() {
            place = place.filter(|place| *place != Place::Host);
        }
        let name = String::new();
        Modelled {
            name,
            permit,
            uids,
            gids,
            units,
            pods,
            place,
            identities,
            patterns,
            scopes,
            cae,
            pop,
            agent,
        }
    })
}

fn rules() -> impl Strategy<Value = Vec<Modelled>> {
    prop::collection::vec(a_rule(), 0..12).prop_map(|mut rules| {
        for (at, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("r{at}");
        }
        rules
    })
}

fn a_caller() -> impl Strategy<Value = Caller> {
    let place = prop_oneof![3 => Just(Place::Host), 2 => Just(Place::Container), 1 => Just(Place::Unknown)];
    let unit = || prop::option::of(prop::sample::select(&UNITS[..]));
    let door = prop_oneof![3 => Just(Door::Broker), 1 => Just(Door::Imds), 1 => Just(Door::Loopback)];
    let groups = prop::sample::subsequence(&UIDS[..], 0..=2);
    (
        prop::sample::select(&UIDS[..]),
        prop::option::of(prop::sample::select(&UIDS[..])),
        groups,
        place,
        door,
        unit(),
        unit(),
        prop::option::of(prop::sample::select(&PODS[..])),
        any::<bool>(),
    )
        .prop_map(|(uid, gid, groups, place, door, unit, header, pod, known)| Caller {
            uid,
            gid,
            groups,
            door,
            place,
            process: known.then(|| Process {
                pid: 1,
                start: 1,
                unit: unit.map(str::to_owned),
                slice: None,
                pod: pod.map(|uid| Pod { uid: uid.to_owned(), container: None }),
            }),
            header_unit: header.map(str::to_owned),
        })
}

fn an_ask() -> impl Strategy<Value = Ask> {
    let identity = prop_oneof![
        2 => Just(IdentityRef::Default),
        1 => Just(IdentityRef::Person),
        3 => prop::sample::select(&IDENTITIES[..]).prop_map(|name| IdentityRef::Name(name.to_owned())),
    ];
    let scopes = prop::sample::subsequence(&SCOPES[..], 0..=2);
    (identity, prop::sample::select(&RESOURCES[..]), scopes, any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(identity, text, scopes, cae, pop, agent)| {
            let mut ask = Ask::new(identity, resource(text));
            ask.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            ask.cae = cae;
            ask.pop = pop.then(|| PopAsk::new("/subscriptions/s", None).unwrap());
            ask.purpose = if agent { Purpose::Agent } else { Purpose::Program };
            ask
        })
}

/// Without a source file to keep failures beside: the seed is printed with a failure.
fn plan(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(plan(if cfg!(debug_assertions) { 300 } else { 20_000 }))]

    #[test]
    fn the_compiled_policy_and_the_plain_model_agree(
        rules in rules(), callers in prop::collection::vec(a_caller(), 4), asks in prop::collection::vec(an_ask(), 4)
    ) {
        let policy = compiled(&rules);
        for caller in &callers {
            for ask in &asks {
                let (ours, theirs) = (answer(&policy, caller, ask), model(&rules, caller, ask));
                prop_assert_eq!(&ours, &theirs, "{:#?}\n{:?}\n{:?}", rules, caller, ask);
                let trace = policy.trace(caller, ask, &table());
                let permits = trace.iter().find(|line| line.outcome == "permit");
                prop_assert_eq!(permits.map(|line| line.rule.to_string()), ours.map(|(rule, _)| rule));
            }
        }
    }

    /// Rules that are not about a question may stand in any order, or not at all.
    #[test]
    fn the_order_of_rules_that_do_not_match_changes_nothing(
        rules in rules(), caller in a_caller(), ask in an_ask(), turn in any::<usize>()
    ) {
        let before = answer(&compiled(&rules), &caller, &ask);
        let about = |rule: &Modelled| IDENTITIES.iter().any(|identity| rule.about(&caller, &ask, identity));
        let (matching, mut others): (Vec<Modelled>, Vec<Modelled>) = rules.into_iter().partition(about);
        prop_assert_eq!(&answer(&compiled(&matching), &caller, &ask), &before);
        others.reverse();
        let at = turn % (others.len() + 1);
        let late = others.split_off(at);
        let mixed: Vec<Modelled> = others.into_iter().chain(matching).chain(late).collect();
        prop_assert_eq!(&answer(&compiled(&mixed), &caller, &ask), &before);
    }

    /// Another deny never gives anything, and another permit at the end never takes anything away.
    #[test]
    fn a_deny_gives_nothing_and_a_last_permit_takes_nothing(
        rules in rules(), extra in a_rule(), caller in a_caller(), ask in an_ask()
    ) {
        let before = answer(&compiled(&rules), &caller, &ask);
        let mut extra = Modelled { name: "extra".into(), ..extra };
        let mut more = rules.clone();
        if extra.permit {
            more.push(extra);
            prop_assert!(before.is_none() || answer(&compiled(&more), &caller, &ask).is_some());
        } else {
            extra.agent = None;
            more.insert(0, extra);
            if ask.identity != IdentityRef::Default {
                prop_assert!(before.is_some() || answer(&compiled(&more), &caller, &ask).is_none());
            }
        }
    }
}

/// No question of one uid is ever answered with what only another may have, by whatever name it asks.
#[test]
fn past_bug_22_random_cross_asks_never_hit() {
    let asks = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    // A hundred uids, each with an own resource and identity of its own; persons have no rule at all.
    let mut text = String::new();
    let names: Vec<String> = (0..100).map(|n| format!("app-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        writeln!(
            text,
            "[[rule]]\nname = \"only-{n}\"\nwho = {{ uid = [{}] }}\nmay = {{ identity = [\"{name}\"], resource = [\"https://r{n}.vault.azure.net\"] }}",
            1_000 + n
        )
        .unwrap();
    }
    let info = |(n, name): (usize, &String)| {
        let mut info = crate::IdentityInfo::new(name, crate::IdentityKind::Secret);
        let mut bytes = [0; 16];
        bytes[0] = u8::try_from(n).unwrap();
        info.client_id = Some(nightlatch_model::Guid::from_bytes(bytes));
        bytes[1] = 1;
        info.object_id = Some(nightlatch_model::Guid::from_bytes(bytes));
        info.resource_id = Some(format!("/subscriptions/S/{name}"));
        info
    };
    let table = IdentityTable::new(names.iter().enumerate().map(info).collect());
    let policy = Policy::compile(&[("x.toml".into(), text)], &Names, &table).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut hits, mut own, mut persons) = (0, 0, BTreeSet::new());
    for _ in 0..asks {
        let (who, whose, what) = (next(100), next(100), next(100));
        let info = table.by_name(&names[whose]).unwrap();
        let identity = match next(7) {
            0 => IdentityRef::Default,
            1 => IdentityRef::Person,
            2 => IdentityRef::Name(names[whose].clone()),
            3 => IdentityRef::Name(names[whose].to_uppercase()),
            4 => IdentityRef::ClientId(info.client_id.unwrap()),
            5 => IdentityRef::ObjectId(info.object_id.unwrap()),
            _ => IdentityRef::resource_id(&format!("/SUBSCRIPTIONS/s/{}", names[whose])).unwrap(),
        };
        let spelling = ["https://r", "HTTPS://R"][next(2)];
        let tail = ["", "/", "/.default"][next(3)];
        let ask = Ask::new(identity, resource(&format!("{spelling}{what}.vault.azure.net{tail}")));
        let caller = super::decide_tests::caller(u32::try_from(1_000 + who).unwrap());
        if let Decision::Permit(grant) = policy.decide(&caller, &ask, &table) {
            if *grant.identity == *crate::PERSON {
                persons.insert((caller.uid, grant.owner(&caller)));
                hits += usize::from(ask.identity != IdentityRef::Person);
            } else {
                own += 1;
                hits += usize::from(
                    *grant.identity != *names[who] || what != who || grant.owner(&caller).is_some(),
                );
            }
        }
    }
    assert_eq!(hits, 0);
    assert!(own > 100 && persons.len() == 100, "{own} {}", persons.len());
    assert!(persons.iter().all(|(uid, owner)| *owner == Some(*uid)), "a person's token for another uid");
}

/// What a grant is bound to follows from the question alone; the same question is answered the same way.
#[test]
fn past_bug_23_the_same_question_has_the_same_answer_and_a_changed_one_its_own() {
    let text = r#"
        [[rule]]
        name = "a"
        who = { uid = [1] }
        may = { identity = ["node"], resource = ["https://vault.azure.net"] }
    "#;
    let policy = super::decide_tests::policy(text);
    let caller = super::decide_tests::caller;
    let ask = |identity: &str, text: &str| Ask::new(IdentityRef::name(identity).unwrap(), resource(text));
    let vault = "https://vault.azure.net";
    let first = answer(&policy, &caller(1), &ask("node", vault));
    assert!(first.is_some());
    assert_eq!(answer(&policy, &caller(1), &ask("node", vault)), first);
    // Another uid, another client, another audience: each is a question of its own.
    assert_eq!(answer(&policy, &caller(2), &ask("node", vault)), None);
    assert_eq!(answer(&policy, &caller(1), &ask("backup", vault)), None);
    assert_eq!(answer(&policy, &caller(1), &ask("node", "https://management.azure.com")), None);
}
