use nightlatch_policy::NodeFacts;

use super::compile_tests::{ALICE, Fixed, PLAIN, compiled, file};
use super::{Compiled, compile};

const GROUP: &str = "groups = ['5f0c2d3e-0000-4000-8000-00000000000a']";

/// A rule called `x`.
fn rule(effect: &str, who: &str, lines: &str) -> String {
    format!("[[rule]]\nname = 'x'\neffect = '{effect}'\nwho = {{ {who} }}\n{lines}\n")
}

fn all(lines: &str) -> String {
    rule("permit", "anyone = true", lines)
}

fn users(lines: &str) -> String {
    rule("permit", "role = 'user'", lines)
}

#[test]
fn each_doubt_is_told_once_and_its_twin_has_none() {
    let loopback = "every login that is relayed";
    let reached = "it is never reached: `x` before it decides for everybody";
    let openings = "sshd is told of forwardings before role and address are known";
    for (doubtful, twin, line, rule_name, words) in [
        (all("") + PLAIN, users("") + PLAIN, 7, "plain", reached),
        (all("") + PLAIN, all("service = ['sudo']") + PLAIN, 7, "plain", reached),
        (all("") + PLAIN, all("proof = ['entra']") + PLAIN, 7, "plain", reached),
        (all("") + PLAIN, all("network = ['10.0.0.0/8']") + PLAIN, 7, "plain", reached),
        (all("") + PLAIN, all("when = { days = ['mon'] }") + PLAIN, 7, "plain", reached),
        (all("") + PLAIN, all("where = { labels = { a = 'b' } }") + PLAIN, 7, "plain", reached),
        // A permit rule leaves whom it does not let in to the next, a step-up rule does not.
        (
            rule("step-up", "anyone = true", "require = { amr = ['mfa'] }") + PLAIN,
            all("require = { amr = ['mfa'] }") + PLAIN,
            7,
            "plain",
            reached,
        ),
        (
            rule("deny", "anyone = true", "") + PLAIN,
            rule("deny", "role = 'user'", "") + PLAIN,
            7,
            "plain",
            reached,
        ),
        (
            rule("deny", GROUP, "") + PLAIN,
            rule("deny", &GROUP.replace("groups", "users"), "") + PLAIN,
            2,
            "x",
            "certificates without a `groups` claim",
        ),
        (rule("deny", GROUP, "") + PLAIN, rule("permit", GROUP, "") + PLAIN, 2, "x", "refused as well"),
        (
            rule("deny", "guests = true", "") + PLAIN,
            rule("deny", "guests = true", "proof = ['openpubkey']") + PLAIN,
            2,
            "x",
            "do not say who is a guest",
        ),
        (
            users("proof = ['entra']\nrequire = { acrs = ['c1'] }"),
            users("require = { acrs = ['c1'] }"),
            2,
            "x",
            "only where `login.step_up_prompt` is on",
        ),
        (users("forward = []"), all("forward = []"), 2, "x", openings),
        (users("forward = ['port']"), users("max_session = '8h'"), 2, "x", openings),
        (
            all("network = ['10.0.0.0/8']\nforward = []"),
            all("where = { labels = { a = 'b' } }\nforward = []"),
            2,
            "x",
            openings,
        ),
        (
            all("require = { acrs = ['c1', 'c2'] }"),
            all("require = { acrs = ['c1'] }"),
            2,
            "x",
            "one authentication context at a time",
        ),
        (
            all("service = ['sudo']\nmax_session = '1h'"),
            all("service = ['login']\nmax_session = '1h'"),
            2,
            "x",
            "mean nothing for `sudo`",
        ),
        (
            all("service = ['sudo']\nforward = []"),
            all("service = ['sudo']\ngrace = '0'"),
            2,
            "x",
            "for `sudo`",
        ),
        (all("network = ['127.0.0.0/8']"), all("network = ['127.0.0.0/8', '10.0.0.0/8']"), 2, "x", loopback),
        (all("network = ['::1', '127.0.0.1']"), all("network = ['::2']"), 2, "x", loopback),
        (all("network = ['::1']"), all("network = ['::1']\nservice = ['sudo']"), 2, "x", loopback),
        (
            all("network = ['::1']"),
            rule("deny", "anyone = true", "network = ['::1']") + PLAIN,
            2,
            "x",
            loopback,
        ),
    ] {
        let found = compiled(&doubtful).warnings;
        assert_eq!(found.len(), 1, "{found:?}\n{doubtful}");
        let place = (found[0].file.as_str(), found[0].line, found[0].rule.as_str());
        assert_eq!(place, ("a.toml", line, rule_name), "{doubtful}");
        assert!(found[0].text.contains(words), "{}", found[0]);
        let shown = found[0].to_string();
        assert!(shown.starts_with(&format!("`a.toml`, line {line}: rule `{rule_name}`: ")), "{shown}");
        assert!(shown.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{shown:?}");
        assert_eq!(compiled(&twin).warnings, [], "{twin}");
    }
}

#[test]
fn every_rule_behind_one_that_decides_is_named_in_its_own_file() {
    let deny = format!("[[rule]]\nname = 'late'\neffect = 'deny'\nwho = {{ users = ['{ALICE}'] }}\n");
    let files = [file("10.toml", PLAIN), file("20.toml", format!("\n\n{deny}{}", all("")))];
    let Compiled { policy, warnings, .. } = compile(&files, &Fixed).unwrap();
    assert_eq!(policy.rules.len(), 3, "doubts take no rule away");
    let places: Vec<_> =
        warnings.iter().map(|one| (one.file.as_str(), one.line, one.rule.as_str())).collect();
    assert_eq!(places, [("20.toml", 4, "late"), ("20.toml", 8, "x")]);
    assert!(warnings.iter().all(|one| one.text.contains("`plain` before it decides")), "{warnings:?}");
}

#[test]
fn a_label_that_the_node_has_not_is_doubtful_there_and_there_alone() {
    let text = rule("deny", "anyone = true", "where = { labels = { evn = 'prod', site = 'ams' } }") + PLAIN;
    let compiled = compiled(&text);
    assert_eq!(compiled.warnings, []);
    let on = |labels: &[&str]| {
        let labels = labels.iter().map(|label| ((*label).to_owned(), "x".to_owned())).collect();
        compiled.doubts_on(&NodeFacts { labels, ..NodeFacts::default() })
    };
    assert_eq!(on(&["evn", "site", "other"]), []);
    let doubts = on(&["env", "site"]);
    assert_eq!(doubts.len(), 1);
    assert_eq!((doubts[0].line, doubts[0].rule.as_str()), (5, "x"));
    assert!(doubts[0].text.contains("no label `evn`"), "{}", doubts[0]);
    assert_eq!(on(&[]).len(), 2);
}
