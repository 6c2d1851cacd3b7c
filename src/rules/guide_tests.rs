//! The guide for administrators, tried: what it shows compiles, and is what it says.

use nightlatch_model::Timestamp;

use super::{Zones, cases, compile};

const GUIDE: &str = include_str!("../../docs/access-rules.md");
const README: &str = include_str!("../../README.md");
/// A rule for everybody else, for examples that permit nobody by themselves.
const REST: &str = "[[rule]]\nname = \"the-rest\"\neffect = \"permit\"\nwho = { anyone = true }\n";

struct Known;

impl Zones for Known {
    fn exists(&self, zone: &str) -> bool {
        ["UTC", "local", "Europe/Berlin"].contains(&zone)
    }

    fn offset(&self, _: &str, _: Timestamp) -> Option<i32> {
        Some(3_600)
    }
}

/// The examples of a page.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```toml\n").skip(1);
    blocks.filter_map(|block| block.split_once("```").map(|(text, _)| text.to_owned())).collect()
}

#[test]
fn every_example_of_the_guide_can_be_used() {
    let (mut rules, mut tried) = (0, 0);
    for (number, text) in examples(GUIDE).into_iter().enumerate() {
        let name = format!("example-{number}.toml");
        if text.contains("[[case]]") {
            tried += cases(&[(name, text)]).unwrap_or_else(|why| panic!("{why}")).len();
            continue;
        }
        let whole = if text.contains("\"permit\"") { text } else { format!("{text}{REST}") };
        let compiled = compile(&[(name, whole)], &Known).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(compiled.warnings, [], "an example has nothing doubtful");
        rules += compiled.policy.rules.len();
    }
    assert_eq!((rules, tried), (8, 2));
}

/// The first case of the guide belongs to its first example, and the second to its second.
#[test]
fn the_cases_of_the_guide_hold() {
    let examples = examples(GUIDE);
    let found = cases(&[("guide.test.toml".into(), examples.last().unwrap().clone())]).unwrap();
    for (case, rules) in found.iter().zip(&examples) {
        let compiled = compile(&[("guide.toml".into(), rules.clone())], &Known).unwrap();
        assert_eq!(case.run(&compiled.policy, &Known), super::CaseResult::Held, "{}", case.name);
    }
}

#[test]
fn the_example_of_the_readme_can_be_used() {
    let of_rules = |text: &&String| text.contains("[[rule]]\nname = \"no-guests\"");
    let text = examples(README).iter().find(of_rules).cloned().unwrap();
    compile(&[("README.toml".into(), text)], &Known).unwrap();
}

#[test]
fn the_guide_names_every_key() {
    for key in [
        "who.anyone",
        "who.role",
        "who.users",
        "who.groups",
        "who.guests",
        "where.labels",
        "where.resource",
        "when.days",
        "when.from",
        "when.to",
        "when.zone",
        "network",
        "proof",
        "service",
        "require.amr",
        "require.acrs",
        "require.device",
        "require.max_auth_age",
        "require.max_age",
        "max_session",
        "forward",
        "grace",
    ] {
        assert!(GUIDE.contains(&format!("`{key}`")), "{key}");
    }
}
