//! The access rules that an administrator writes, and the cases beside them.

use std::collections::BTreeMap;

use nightlatch_model::{Guid, ObjectId, Role, Timestamp};
use nightlatch_page::PolicyError;
use nightlatch_policy::{
    AccessPolicy, AccessRules, Circumstances, Forwarding, NodeFacts, ProofKind, Ruled, Service, SignIn,
};
use nightlatch_rules::{CaseResult, Zones, cases, compile, offsets};
use toml::Value;

use super::rules_plain::{denies_everybody, lets_in};

/// Parts a file of rules from the next one, and the last one from the cases; no TOML can hold it.
const NEXT_FILE: char = '\x01';
const PERSON: &str = "5f0c2d3e-0000-4000-8000-00000000000a";
const GROUP: &str = "5f0c2d3e-0000-4000-8000-000000000001";
pub(super) const RESOURCE: &str =
    "/subscriptions/1/resourceGroups/prod-1/providers/Microsoft.Compute/virtualMachines/0";
/// A Wednesday at noon, UTC.
const NOON: Timestamp = Timestamp(1_767_787_200);

pub(super) struct Fixed;

impl Zones for Fixed {
    fn exists(&self, zone: &str) -> bool {
        ["UTC", "local", "Europe/Berlin", "Test/Lost"].contains(&zone)
    }

    fn offset(&self, zone: &str, _: Timestamp) -> Option<i32> {
        [("UTC", 0), ("local", 19_800), ("Europe/Berlin", 3_600)]
            .into_iter()
            .find_map(|(name, offset)| (name == zone).then_some(offset))
    }
}

/// Any text as files of rules and as a file of cases: an error is one printable line and names a line of its file; what
/// compiles does so the same each time, tells whoever comes an answer, lets in only whom a rule lets in that stands before
/// every denial of everybody, and never for what could not be found out.
pub fn access_rules(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (rules, beside) = text.rsplit_once(NEXT_FILE).unwrap_or((text, text));
    let named = |(n, text): (usize, &str)| (format!("{n}.toml"), text.to_owned());
    let files: Vec<(String, String)> = rules.split(NEXT_FILE).enumerate().map(named).collect();
    let policy = match (compile(&files, &Fixed), compile(&files, &Fixed)) {
        (Ok(one), Ok(two)) => {
            assert_eq!((&one.policy, &one.warnings), (&two.policy, &two.warnings), "compile is a function");
            for warning in &one.warnings {
                names_a_line(&files, &warning.file, warning.line, &warning.to_string());
                assert!(one.policy.rules.iter().any(|rule| *rule.name == *warning.rule), "{warning}");
            }
            one.policy
        }
        (Err(one), Err(two)) => {
            assert_eq!(one, two, "compile is a function");
            is_helpful(&files, &one);
            AccessPolicy::default()
        }
        (one, two) => panic!("compiled once: {:?} {:?}", one.err(), two.err()),
    };
    decides(&files, &policy);
    tries(beside, &policy);
}

fn is_helpful(files: &[(String, String)], error: &PolicyError) {
    names_a_line(files, &error.file, error.line, &error.to_string());
    assert!(!error.problem.is_empty() && !error.hint.is_empty(), "{error}");
}

fn names_a_line(files: &[(String, String)], file: &str, line: usize, told: &str) {
    let (_, text) = files.iter().find(|(name, _)| name == file).expect("one of the files");
    assert!((1..=text.split('\n').count()).contains(&line), "{told}");
    assert!(printable(told), "{told:?}");
}

fn printable(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// Asks the rules about a handful of people.
fn decides(files: &[(String, String)], policy: &AccessPolicy) {
    // What was refused may be no TOML; there is no rule of it then.
    let read = |(_, text): &(String, String)| toml::from_str::<toml::Table>(text).ok();
    let tables: Vec<toml::Table> = files.iter().filter_map(read).collect();
    let list = |table: &toml::Table| table.get("rule").and_then(Value::as_array).cloned().unwrap_or_default();
    let rules: Vec<Value> = tables.iter().flat_map(list).collect();
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let node = NodeFacts { labels, resources: vec![RESOURCE.to_owned()], is_half_known: false };
    let sign_ins = sign_ins();
    for about in &people(&sign_ins) {
        let offsets = offsets(policy, &Fixed, about.now);
        let access = AccessRules { policy, node: &node, offsets: &offsets };
        let ruled = access.rule(about);
        assert_eq!(ruled, access.rule(about), "a decision is a function");
        assert_eq!(ruled == Ruled::NoPolicy, policy.rules.is_empty());
        match &ruled {
            Ruled::NoPolicy => {}
            Ruled::Permits { rule, limits, closes, trace } => {
                assert!(printable(trace), "{trace:?}");
                assert!(closes.is_none_or(|end| about.now < end), "{closes:?}");
                let at = policy.rules.iter().position(|one| one.name == *rule).expect("one of the rules");
                if rules.len() == policy.rules.len() {
                    assert!(lets_in(&rules[at], about), "{about:?}\n{}", rules[at]);
                    assert!(!rules[..at].iter().any(denies_everybody), "{rules:?}");
                }
                let before = access.forwarding(&Circumstances { role: None, from: None, ..*about }, false);
                assert_eq!(before, before.and(limits.forward.unwrap_or(Forwarding::ALL)), "{rule}");
            }
            Ruled::Refuses { rule, reason, missing, trace } => {
                assert!(reason.is_of_access_rules() && printable(trace), "{reason} {trace:?}");
                assert!(missing.iter().all(|one| printable(&one.to_string())), "{missing:?}");
                assert!(rule.as_ref().is_none_or(|rule| policy.rules.iter().any(|one| one.name == *rule)));
                for less in [
                    Circumstances { role: None, ..*about },
                    Circumstances { from: None, ..*about },
                    Circumstances { guest: None, ..*about },
                    Circumstances { oid: None, ..*about },
                    Circumstances { sign_in: None, ..*about },
                ] {
                    let found = access.rule(&less);
                    assert!(!matches!(found, Ruled::Permits { .. }), "less is known of {about:?}: {found:?}");
                }
            }
        }
    }
}

/// What a certificate of Entra's says, an ID token that says much, and one that says nothing.
fn sign_ins() -> [SignIn; 3] {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let issued = NOON.plus(-120);
    let poor = SignIn {
        proof: ProofKind::OpenPubkey,
        issued,
        auth_time: None,
        amr: None,
        acrs: None,
        device: None,
        groups: None,
        prompted: None,
    };
    let rich = SignIn {
        auth_time: Some(NOON.plus(-4_000)),
        amr: words(&["pwd", "mfa"]),
        acrs: words(&["c1"]),
        device: Some(Guid::from_bytes([7; 16])),
        groups: Some(vec![GROUP.parse().expect("a group")]),
        ..poor.clone()
    };
    [SignIn { proof: ProofKind::Entra, ..poor.clone() }, rich, poor]
}

fn people(sign_ins: &[SignIn; 3]) -> [Circumstances<'_>; 9] {
    let [entra, rich, poor] = sign_ins;
    let alice = Circumstances {
        service: Service::Ssh,
        oid: PERSON.parse().ok(),
        role: Some(Role::User),
        guest: None,
        sign_in: Some(entra),
        from: "10.1.2.3".parse().ok(),
        began: None,
        now: NOON,
    };
    let admin = Circumstances { role: Some(Role::Admin), guest: Some(false), sign_in: Some(rich), ..alice };
    let stranger = Some(ObjectId(Guid::from_bytes(*b"never in a file!")));
    let guest = Circumstances { oid: stranger, guest: Some(true), sign_in: Some(poor), ..alice };
    [
        alice,
        admin,
        guest,
        Circumstances { service: Service::Sudo, ..admin },
        Circumstances { service: Service::Live, began: Some(NOON.plus(-60)), ..admin },
        Circumstances { now: NOON.plus(3 * 86_400 + 11 * 3_600), ..admin },
        Circumstances { from: "2001:db8::7".parse().ok(), sign_in: Some(rich), ..alice },
        Circumstances { from: "127.0.0.1".parse().ok(), ..guest },
        Circumstances { oid: None, role: None, guest: None, sign_in: None, from: None, ..alice },
    ]
}

/// Runs any text as cases, on these rules and on none.
fn tries(text: &str, policy: &AccessPolicy) {
    let files = [("0.test.toml".to_owned(), text.to_owned())];
    let (one, two) = (cases(&files), cases(&files));
    assert_eq!(format!("{one:?}"), format!("{two:?}"), "reading cases is a function");
    let found = match one {
        Ok(found) => found,
        Err(error) => return is_helpful(&files, &error),
    };
    let table: toml::Table = toml::from_str(text).expect("what was taken is TOML");
    let written = table.get("case").and_then(Value::as_array).cloned().unwrap_or_default();
    assert_eq!(found.len(), written.len());
    for (case, written) in found.iter().zip(&written) {
        let result = case.run(policy, &Fixed);
        assert_eq!(result, case.run(policy, &Fixed), "a case is a function");
        if let CaseResult::Differs { expected, came, .. } = &result {
            assert_ne!(expected, came);
        }
        if !written.is_table() {
            continue;
        }
        let word = |key: &str| written.get(key).and_then(Value::as_str);
        assert_eq!(word("name"), Some(case.name.as_str()));
        // Without rules everybody is let in, and no rule decides.
        let held = case.run(&AccessPolicy::default(), &Fixed) == CaseResult::Held;
        assert_eq!(held, word("expect") == Some("permit") && written.get("rule").is_none());
    }
}
