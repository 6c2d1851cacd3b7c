use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use nightlatch_model::{Role, Timestamp};
use nightlatch_page::PolicyError;
use nightlatch_policy::{
    AccessRule, DoorKind, Forwarding, Limits, Network, ProofKind, Require, ResourcePattern, RuleEffect, When,
    Where, Who,
};

use super::{Compiled, Zones, compile};

pub(super) const ALICE: &str = "5f0c2d3e-0000-4000-8000-00000000000a";
pub(super) const BOB: &str = "5f0c2d3e-0000-4000-8000-00000000000b";
/// Permits everybody everything; four lines.
pub(super) const PLAIN: &str = "[[rule]]\nname = 'plain'\neffect = 'permit'\nwho = { anyone = true }\n";

/// Three zones with the offsets of 2026, and one that is known and has none.
pub(super) struct Fixed;

impl Zones for Fixed {
    fn exists(&self, zone: &str) -> bool {
        ["UTC", "Europe/Berlin", "local", "Test/Lost"].contains(&zone)
    }

    fn offset(&self, zone: &str, at: Timestamp) -> Option<i32> {
        let on = |text| Timestamp::from_rfc3339(text).unwrap();
        let summer = on("2026-03-29T01:00:00Z") <= at && at < on("2026-10-25T01:00:00Z");
        match zone {
            "UTC" => Some(0),
            "Europe/Berlin" => Some(if summer { 7_200 } else { 3_600 }),
            "local" => Some(19_800),
            _ => None,
        }
    }
}

pub(super) fn file(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}

pub(super) fn compiled(text: &str) -> Compiled {
    compile(&[file("a.toml", text)], &Fixed).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub(super) fn refused(files: &[(String, String)]) -> PolicyError {
    let Err(error) = compile(files, &Fixed) else { panic!("taken: {files:?}") };
    one_printable_line(&error);
    error
}

pub(super) fn one_printable_line(error: &PolicyError) {
    let text = error.to_string();
    assert!(text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{text:?}");
    assert!(!error.problem.is_empty() && !error.hint.is_empty(), "{text}");
    assert!(text.starts_with(&format!("`{}`, line {}: ", error.file, error.line)), "{text}");
}

/// The plain rule with more lines.
fn rule(lines: &str) -> AccessRule {
    compiled(&format!("{PLAIN}{lines}\n")).policy.rules.remove(0)
}

fn network(address: &str, prefix: u8) -> Network {
    Network::new(address.parse().unwrap(), prefix).unwrap()
}

fn seconds(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

#[test]
fn a_rule_with_every_key_compiles_to_all_of_its_fields() {
    let text = format!(
        "[[rule]]
name = \"every.key_is-here\"
effect = \"step-up\"
who = {{ role = \"admin\", groups = [\"{ALICE}\"], users = [\"{ALICE}\", \"{BOB}\"], guests = false }}
where = {{ labels = {{ env = \"prod\", tier = \"1\" }}, resource = [\"/subscriptions/*/resourceGroups/prod-*\"] }}
when = {{ days = [\"mon-fri\", \"sun\"], from = \"08:00\", to = \"18:30\", zone = \"Europe/Berlin\" }}
network = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]
proof = [\"openpubkey\", \"entra\"]
service = [\"login\", \"sudo\"]
require = {{ amr = [\"mfa\", \"rsa\"], acrs = [\"c1\"], device = true, max_auth_age = \"8h\", max_age = \"1h 30min\" }}
max_session = \"12h\"
forward = [\"port\", \"agent\"]
grace = \"10min\"
"
    );
    let found = compiled(&text);
    let labels = BTreeMap::from([("env", "prod"), ("tier", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let pattern = ResourcePattern::new("/subscriptions/*/resourceGroups/prod-*").unwrap();
    let expected = AccessRule {
        name: "every.key_is-here".into(),
        effect: RuleEffect::StepUp,
        who: Who {
            role: Some(Role::Admin),
            groups: Some(vec![ALICE.parse().unwrap()]),
            users: Some(vec![ALICE.parse().unwrap(), BOB.parse().unwrap()]),
            guests: Some(false),
        },
        place: Where { labels: Some(labels), resources: Some(vec![pattern]) },
        when: Some(When {
            days: [true, true, true, true, true, false, true],
            from_min: 8 * 60,
            to_min: 18 * 60 + 30,
            zone: 0,
        }),
        network: Some(vec![network("10.0.0.0", 8), network("2001:db8::", 32), network("192.0.2.7", 32)]),
        proof: Some(vec![ProofKind::OpenPubkey, ProofKind::Entra]),
        doors: Some(vec![DoorKind::Login, DoorKind::Sudo]),
        require: Require {
            amr: vec!["mfa".into(), "rsa".into()],
            acrs: vec!["c1".into()],
            device: true,
            max_auth_age: seconds(28_800),
            max_age: seconds(5_400),
        },
        limits: Limits {
            max_session: seconds(43_200),
            forward: Some(Forwarding { port: true, agent: true, x11: false }),
            grace: Some(Duration::from_secs(600)),
        },
    };
    assert_eq!(found.policy.rules, [expected]);
    assert_eq!(found.policy.zones, ["Europe/Berlin"]);
}

#[test]
fn a_rule_with_only_the_needed_keys_has_no_condition_and_no_limit() {
    let expected = AccessRule {
        name: "plain".into(),
        effect: RuleEffect::Permit,
        who: Who::default(),
        place: Where::default(),
        when: None,
        network: None,
        proof: None,
        doors: None,
        require: Require::default(),
        limits: Limits::default(),
    };
    // Tables of their own, line ends of Windows and its mark at the beginning say the same.
    let tables = "[[rule]]\nname = 'plain'\neffect = 'permit'\n[rule.who]\nanyone = true\n";
    let windows = format!("\u{feff}{}", PLAIN.replace('\n', "\r\n"));
    for text in [PLAIN, tables, &windows] {
        assert_eq!(compiled(text).policy.rules, std::slice::from_ref(&expected), "{text:?}");
    }
}

#[test]
fn lengths_of_time_are_read_as_systemd_writes_them() {
    for (text, expected) in [
        ("60", 60),
        ("1min", 60),
        ("1m", 60),
        ("90s", 90),
        ("1h 30min", 5_400),
        ("1h30min", 5_400),
        ("2d", 172_800),
        ("1w", 604_800),
        ("365d", 31_536_000),
    ] {
        let rule = rule(&format!(
            "max_session = '{text}'\nrequire = {{ max_age = '{text}', max_auth_age = '{text}' }}"
        ));
        let found = [rule.limits.max_session, rule.require.max_age, rule.require.max_auth_age];
        assert_eq!(found, [seconds(expected); 3], "{text}");
    }
    for (text, expected) in [("0", 0), ("0s", 0), ("90s", 90), ("24h", 86_400), ("1d", 86_400)] {
        let grace = rule(&format!("grace = '{text}'")).limits.grace;
        assert_eq!(grace, Some(Duration::from_secs(expected)), "{text}");
    }
}

#[test]
fn days_and_times_of_day_are_read_in_every_form() {
    let week = [true; 7];
    for (text, days, from, to) in [
        ("days = ['mon']", [true, false, false, false, false, false, false], 0, 1_440),
        ("days = ['tue', 'thu']", [false, true, false, true, false, false, false], 0, 1_440),
        ("days = ['sat-sun']", [false, false, false, false, false, true, true], 0, 1_440),
        ("days = ['sat-mon']", [true, false, false, false, false, true, true], 0, 1_440),
        ("days = ['wed-wed', 'fri']", [false, false, true, false, true, false, false], 0, 1_440),
        ("days = ['mon-sun']", week, 0, 1_440),
        ("from = '00:00', to = '24:00'", week, 0, 1_440),
        ("from = '22:00', to = '06:00'", week, 1_320, 360),
        ("from = '12:00', to = '00:00'", week, 720, 0),
        ("from = '00:00', to = '00:01'", week, 0, 1),
        ("from = '23:59', to = '24:00'", week, 1_439, 1_440),
    ] {
        let when = rule(&format!("when = {{ {text} }}")).when.unwrap();
        assert_eq!((when.days, when.from_min, when.to_min), (days, from, to), "{text}");
    }
}

#[test]
fn networks_are_read_in_every_form() {
    for (text, address, prefix) in [
        ("0.0.0.0/0", "0.0.0.0", 0),
        ("10.1.2.3", "10.1.2.3", 32),
        ("10.1.2.3/32", "10.1.2.3", 32),
        ("192.0.2.128/25", "192.0.2.128", 25),
        ("::/0", "::", 0),
        ("2001:DB8::1", "2001:db8::1", 128),
        ("2001:db8:8000::/33", "2001:db8:8000::", 33),
        // An IPv4 address in IPv6 clothes is an IPv4 address.
        ("::ffff:10.0.0.0/104", "10.0.0.0", 8),
        ("::ffff:10.1.2.3", "10.1.2.3", 32),
    ] {
        let found = rule(&format!("network = ['{text}']")).network;
        assert_eq!(found, Some(vec![network(address, prefix)]), "{text}");
    }
}

#[test]
fn words_and_ids_are_read_in_every_form() {
    let who = |who: &str| compiled(&PLAIN.replace("anyone = true", who)).policy.rules.remove(0).who;
    assert_eq!(who("role = 'user'"), Who { role: Some(Role::User), ..Who::default() });
    assert_eq!(who("role = 'admin'"), Who { role: Some(Role::Admin), ..Who::default() });
    assert_eq!(who("guests = true"), Who { guests: Some(true), ..Who::default() });
    for spelled in [ALICE.to_owned(), ALICE.to_uppercase(), ALICE.replace('-', "")] {
        let expected = Who { users: Some(vec![ALICE.parse().unwrap()]), ..Who::default() };
        assert_eq!(who(&format!("users = ['{spelled}']")), expected);
        let expected = Who { groups: Some(vec![ALICE.parse().unwrap()]), ..Who::default() };
        assert_eq!(who(&format!("groups = ['{spelled}']")), expected);
    }
    for context in ["c1", "c9", "c10", "c99"] {
        assert_eq!(rule(&format!("require = {{ acrs = ['{context}'] }}")).require.acrs, [context]);
    }
    for (text, port, agent, x11) in [
        ("", false, false, false),
        ("'port'", true, false, false),
        ("'agent'", false, true, false),
        ("'x11', 'port'", true, false, true),
    ] {
        let forward = rule(&format!("forward = [{text}]")).limits.forward;
        assert_eq!(forward, Some(Forwarding { port, agent, x11 }), "{text}");
    }
    assert_eq!(rule("service = ['sudo']").doors, Some(vec![DoorKind::Sudo]));
    assert_eq!(rule("proof = ['entra']").proof, Some(vec![ProofKind::Entra]));
    let resource = rule("where = { resource = ['/subscriptions/*'] }").place.resources.unwrap();
    assert!(resource[0].matches("/Subscriptions/x/resourceGroups/y") && !resource[0].matches("/tenants/x"));
}

#[test]
fn rules_count_in_the_order_of_files_and_zones_once() {
    let at = |name: &str, zone: &str| {
        format!("{}when = {{ days = ['mon'], zone = '{zone}' }}\n", PLAIN.replace("plain", name))
    };
    let files = [
        file("20.toml", at("z", "Europe/Berlin") + &at("a", "UTC")),
        file("10.toml", at("m", "Europe/Berlin") + &at("b", "local") + &at("c", "UTC")),
    ];
    let policy = compile(&files, &Fixed).unwrap().policy;
    let names: Vec<&str> = policy.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["z", "a", "m", "b", "c"], "as the files were given, not as they are called");
    assert_eq!(policy.zones, ["Europe/Berlin", "UTC", "local"]);
    let zones: Vec<usize> = policy.rules.iter().map(|rule| rule.when.unwrap().zone).collect();
    assert_eq!(zones, [0, 1, 0, 2, 1]);
    // Without a zone it is UTC.
    let plain = compiled(&format!("{PLAIN}when = {{ days = ['mon'] }}\n")).policy;
    assert_eq!(plain.zones, ["UTC"]);
}

#[test]
fn no_file_is_no_policy_and_an_empty_file_is_a_mistake() {
    let found = compile(&[], &Fixed).unwrap();
    assert!(found.policy.rules.is_empty() && found.warnings.is_empty());
    for empty in ["", "\n", "# [[rule]]\n", "rule = []\n"] {
        let error = refused(&[file("a.toml", PLAIN), file("b.toml", empty)]);
        assert_eq!((error.file.as_str(), error.line), ("b.toml", 1), "{error}");
        assert!(error.problem.contains("holds no rule") && error.hint.contains("remove the file"), "{error}");
    }
}
