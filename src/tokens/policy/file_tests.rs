//! What is refused in a policy file, and what is warned of.

use super::decide_tests::{Names, policy, table};
use super::*;

fn refused(text: &str) -> PolicyError {
    Policy::compile(&[("20-bad.toml".into(), text.into())], &Names, &table()).unwrap_err()
}

/// A file with one good rule whose `who` and `may` are these.
fn rule(who: &str, may: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nwho = {{ {who} }}\nmay = {{ {may} }}\n")
}

const MAY: &str = r#"identity = ["node"], resource = ["https://vault.azure.net"]"#;

#[test]
fn errors_name_file_line_and_what_to_write() {
    let good = rule("uid = [1]", MAY);
    for (text, line, words) in [
        (format!("{good}\n[[rule]]\nname = \"x\"\nwoh = {{ uid = [1] }}\n"), 8, "unknown field `woh`"),
        (rule("uid = [1], exe = \"/bin/a\"", MAY), 3, "`exe` cannot be honoured"),
        (rule("uids = [1]", MAY), 3, "unknown field `uids`"),
        (rule("", MAY), 3, "`who` names nobody"),
        (rule("place = \"host\"", MAY), 3, "`who` names nobody"),
        (rule("anyone = false", MAY), 3, "`anyone = false`"),
        (rule("anyone = true, uid = [1]", MAY), 3, "`anyone` beside other selectors"),
        (rule("uid = []", MAY), 3, "empty list"),
        (rule("uid = [-1]", MAY), 3, "invalid value"),
        (rule("uid = [4294967295]", MAY), 3, "nobody's id"),
        (rule("uid = [4294967296]", MAY), 3, "invalid value"),
        (rule("uid = [1], place = \"moon\"", MAY), 3, "unknown variant `moon`"),
        (rule("pod = [\"*\"], place = \"host\"", MAY), 3, "never on the host"),
        (rule("pod = [\"web\"]", MAY), 3, "`web` is not accepted here"),
        (rule("unit = [\"backup\"]", MAY), 3, "`backup` is not accepted here"),
        (rule("unit = [\"*.service\"]", MAY), 3, "`*.service` is not accepted here"),
        (rule("unit = [\"a b.service\"]", MAY), 3, "not a plain name"),
        (rule("slice = [\"system\"]", MAY), 3, "`system` is not accepted here"),
        (rule("uid = [1]", "resource = [\"*\"]"), 2, "names no identity"),
        (rule("uid = [1]", "identity = [\"node\"]"), 2, "names no resource"),
        (rule("uid = [1]", "identity = [\"nod\"], resource = [\"*\"]"), 4, "no identity `nod`"),
        (rule("uid = [1]", "identity = [\"*\"], resource = [\"*\"]"), 4, "no identity `*`"),
        (rule("uid = [1]", "identity = [\"node\"], resource = [\"https://*.net\"]"), 4, "two labels"),
        (rule("uid = [1]", "identity = [\"node\"], resource = [\"https://*.a.net/x\"]"), 4, "two labels"),
        (rule("uid = [1]", "identity = [\"node\"], resource = [\"https://a*.b.net\"]"), 4, "`*` can stand"),
        (rule("uid = [1]", "identity = [\"node\"], resource = [\"https://a\\\\b\"]"), 4, "holds `\\`"),
        (rule("uid = [1]", &format!("{MAY}, purpose = \"agent\", max_life = \"16m\"")), 4, "too long"),
        (rule("uid = [1]", &format!("{MAY}, purpose = \"bot\"")), 4, "unknown variant `bot`"),
        (rule("uid = [1]", &format!("{MAY}, max_life = \"soon\"")), 4, "no length of time"),
        (rule("uid = [1]", &format!("{MAY}, max_life = \"0s\"")), 4, "no length of time"),
        (rule("uid = [1]", &format!("{MAY}, max_life = \"10\"")), 4, "no length of time"),
        (rule("uid = [1]", &format!("{MAY}, rate = \"0/min\"")), 4, "no rate"),
        (rule("uid = [1]", &format!("{MAY}, rate = \"60\"")), 4, "no rate"),
        (rule("uid = [1]", &format!("{MAY}, scope = [\"Mail.*\"]")), 4, "not accepted here"),
        (format!("{good}{good}"), 6, "a second rule is called `r`"),
        ("[[rule]]\nname = \"default\"\nwho = { uid = [1] }".into(), 2, "built-in rule"),
        ("[[rule]]\nname = \"person\"\nwho = { uid = [1] }".into(), 2, "built-in rule"),
        ("[[rule]]\nname = \"a b\"\nwho = { uid = [1] }".into(), 2, "not a plain name"),
        ("[[rule]]\nname = \"a\"\neffect = \"deny\"\nwho = { user = [\"zoe\"] }".into(), 4, "no user `zoe`"),
        (
            "[[rule]]\nname = \"a\"\neffect = \"deny\"\nwho = { uid = [1] }\nmay = { rate = \"1/s\" }".into(),
            5,
            "denies",
        ),
        ("[[rule]]\nname = \"a\"".into(), 1, "missing field `who`"),
        ("rule = 1".into(), 1, "invalid type"),
        ("\n\n[[rule".into(), 3, ""),
        (format!("# {}\n", "x".repeat(MAX_POLICY_FILE_BYTES)), 1, "more than"),
    ] {
        let error = refused(&text);
        assert_eq!((error.file.as_str(), error.line), ("20-bad.toml", line), "{text}\n{error}");
        assert!(error.problem.contains(words), "{text}\n{error}");
        assert!(
            !error.hint.is_empty() && error.to_string().bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        );
    }
    let exe = refused(&rule("exe = \"/bin/a\"", MAY));
    assert!(exe.hint.contains("cannot read another uid's /proc/PID/exe"), "{exe}");
}

#[test]
fn the_number_of_files_rules_and_entries_is_bound() {
    let many = |count: usize| -> String {
        (0..count).map(|n| rule("uid = [1]", MAY).replace("\"r\"", &format!("\"r{n}\""))).collect()
    };
    assert_eq!(policy(&many(MAX_RULES)).len(), MAX_RULES);
    assert!(refused(&many(MAX_RULES + 1)).problem.contains("more than 1000 rules"));
    let uids = |count: usize| rule(&format!("uid = {:?}", vec![1; count]), MAY);
    assert_eq!(policy(&uids(MAX_LIST)).len(), 1);
    assert!(refused(&uids(MAX_LIST + 1)).problem.contains("a list of more than"));
    let one = |n| (format!("{n}.toml"), rule("uid = [1]", MAY).replace("\"r\"", &format!("\"r{n}\"")));
    let files: Vec<(String, String)> = (0..=MAX_POLICY_FILES).map(one).collect();
    assert!(Policy::compile(&files, &Names, &table()).is_err());
    assert!(Policy::compile(&files[1..], &Names, &table()).is_ok());
}

#[test]
fn names_are_unique_across_files() {
    let files =
        [("a.toml".to_owned(), rule("uid = [1]", MAY)), ("b.toml".to_owned(), rule("uid = [2]", MAY))];
    let error = Policy::compile(&files, &Names, &table()).unwrap_err();
    assert_eq!(error.file, "b.toml");
    assert!(error.problem.contains("the first stands in `a.toml`, line 2"), "{error}");
}

#[test]
fn what_is_likely_not_meant_is_warned_of() {
    let warned = |who: &str, may: &str| -> Vec<String> {
        policy(&rule(who, may)).warnings().iter().map(ToString::to_string).collect()
    };
    assert_eq!(warned("uid = [1]", MAY), Vec::<String>::new());
    assert_eq!(warned("unit = [\"a.service\"], uid = [1]", MAY), Vec::<String>::new());
    for (who, may, words) in [
        ("anyone = true", MAY, "the kubelet has it too"),
        ("unit = [\"a.service\"]", MAY, "names a unit or slice without a uid"),
        ("uid = [1]", "identity = [\"node\"], resource = [\"*\"]", "a wildcard"),
        ("uid = [1]", "identity = [\"node\"], resource = [\"https://*.vault.azure.net\"]", "a wildcard"),
        ("user = [\"zoe\", \"anna\"]", MAY, "no user `zoe`"),
        ("group = [\"zoe\"]", MAY, "no group `zoe`"),
        ("uid = [1]", &format!("{MAY}, max_life = \"5m\""), "less than 5 min"),
    ] {
        let found = warned(who, may);
        assert_eq!(found.len(), 1, "{who} {may}: {found:?}");
        assert!(found[0].contains(words) && found[0].starts_with("`10-test.toml`, line "), "{found:?}");
    }
    // A deny may be as wide as it likes.
    let deny = "[[rule]]\nname = \"d\"\neffect = \"deny\"\nwho = { anyone = true }\n";
    assert!(policy(deny).warnings().is_empty());
}

/// Damaged files are refused or compiled, and never do harm.
#[test]
fn damaged_policy_files_are_refused_without_harm() {
    let whole = format!(
        "{}[[rule]]\nname = \"s\"\neffect = \"deny\"\nwho = {{ unit = [\"a@*.service\"], slice = [\"b.slice\"] }}\n\
         [[rule]]\nname = \"t\"\nwho = {{ pod = [\"*\"] }}\nmay = {{ {MAY}, scope = [\"User.Read\"], rate = \"1/s\" }}\n",
        rule("user = [\"anna\"]", &format!("{MAY}, max_life = \"1h 30min\", purpose = \"program\""))
    );
    assert_eq!(policy(&whole).len(), 3);
    let compile = |text: String| Policy::compile(&[("f.toml".into(), text)], &Names, &table());
    for end in 0..whole.len() {
        let _ = compile(whole[..end].to_owned());
    }
    // A small generator is enough, and prints nothing: the place of the damage is its number.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut refusals = 0;
    for _ in 0..3_000 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % bytes.len();
            bytes[at] = state.to_le_bytes()[3] & 0x7f;
        }
        if let Err(error) = compile(String::from_utf8(bytes).unwrap()) {
            refusals += 1;
            assert!(error.line >= 1 && error.to_string().bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
        }
    }
    assert!(refusals > 2_000, "{refusals}");
}
