use std::fmt::Write as _;

use nightlatch_page::{MAX_LIST, MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, MAX_RULES, MAX_WORD_BYTES};

use super::compile;
use super::compile_tests::{Fixed, PLAIN, compiled, file, refused};

/// The entry of a list by its number.
type Entry = fn(usize) -> String;

const LISTS: [(&str, Entry); 8] = [
    ("users", id),
    ("groups", id),
    ("resource", |n| format!("'/subscriptions/{n}'")),
    ("network", |n| format!("'2001:db8::{n:x}'")),
    ("amr", |n| format!("'m{n}'")),
    ("acrs", |n| format!("'c{}'", n % 99 + 1)),
    ("days", |_| "'mon'".to_owned()),
    ("proof", |_| "'openpubkey'".to_owned()),
];

fn id(n: usize) -> String {
    format!("'5f0c2d3e-0000-4000-8000-{n:012x}'")
}

fn list(key: &str, entry: Entry, count: usize) -> String {
    let entries = (0..count).map(entry).collect::<Vec<_>>().join(", ");
    match key {
        "users" | "groups" => PLAIN.replace("anyone = true", &format!("{key} = [{entries}]")),
        "resource" => format!("{PLAIN}where = {{ resource = [{entries}] }}\n"),
        "days" => format!("{PLAIN}when = {{ days = [{entries}] }}\n"),
        "amr" | "acrs" => format!("{PLAIN}require = {{ {key} = [{entries}] }}\n"),
        _ => format!("{PLAIN}{key} = [{entries}]\n"),
    }
}

#[test]
fn a_list_holds_at_most_256_entries() {
    for (key, entry) in LISTS {
        compiled(&list(key, entry, MAX_LIST));
        let error = refused(&[file("a.toml", list(key, entry, MAX_LIST + 1))]);
        assert_eq!(error.line, if ["users", "groups"].contains(&key) { 4 } else { 5 }, "{key}: {error}");
        assert!(error.problem.contains("a list of more than 256"), "{key}: {error}");
        assert!(error.hint.contains("several rules"), "{key}: {error}");
    }
    let labels = |count: usize| {
        let all = (0..count).map(|n| format!("k{n} = 'v'")).collect::<Vec<_>>().join(", ");
        format!("{PLAIN}where = {{ labels = {{ {all} }} }}\n")
    };
    compiled(&labels(MAX_LIST));
    assert_eq!(refused(&[file("a.toml", labels(MAX_LIST + 1))]).line, 5);
}

#[test]
fn a_name_has_at_most_64_bytes_and_a_word_256() {
    let name = |count: usize| PLAIN.replace("plain", &"x".repeat(count));
    compiled(&name(64));
    let error = refused(&[file("a.toml", name(65))]);
    assert_eq!((error.line, error.hint.contains("1 to 64 letters")), (2, true), "{error}");
    let word = |count: usize| format!("{PLAIN}require = {{ amr = ['{}'] }}\n", "x".repeat(count));
    compiled(&word(MAX_WORD_BYTES));
    let error = refused(&[file("a.toml", word(MAX_WORD_BYTES + 1))]);
    assert_eq!((error.line, error.hint.contains("1 to 256 printable")), (5, true), "{error}");
}

#[test]
fn a_policy_has_at_most_1000_rules_in_64_files_of_256_kib() {
    let rules = |from: usize, to: usize| {
        (from..to).map(|n| PLAIN.replace("plain", &format!("r{n}"))).collect::<String>()
    };
    let files = |last: usize| [file("a.toml", rules(0, 600)), file("b.toml", rules(600, last))];
    assert_eq!(compile(&files(MAX_RULES), &Fixed).unwrap().policy.rules.len(), MAX_RULES);
    let error = refused(&files(MAX_RULES + 1));
    assert_eq!((error.file.as_str(), error.line), ("b.toml", 400 * 4 + 2), "{error}");
    assert!(
        error.problem.contains("more than 1000 rules") && error.hint.contains("several people"),
        "{error}"
    );

    let mut many: Vec<_> =
        (0..MAX_POLICY_FILES).map(|n| file(&format!("{n:02}.toml"), rules(n, n + 1))).collect();
    assert_eq!(compile(&many, &Fixed).unwrap().policy.rules.len(), MAX_POLICY_FILES);
    many.push(file("64.toml", rules(64, 65)));
    let error = refused(&many);
    assert_eq!((error.file.as_str(), error.line), ("64.toml", 1), "{error}");
    assert!(
        error.problem.contains("more than 64 policy files") && error.hint.contains("one file"),
        "{error}"
    );

    let full = |bytes: usize| format!("{PLAIN}#{}", "x".repeat(bytes - PLAIN.len() - 1));
    compiled(&full(MAX_POLICY_FILE_BYTES));
    let error = refused(&[file("a.toml", full(MAX_POLICY_FILE_BYTES + 1))]);
    assert_eq!(error.line, 1, "{error}");
    assert!(
        error.problem.contains("more than 262144 bytes") && error.hint.contains("several files"),
        "{error}"
    );
}

#[test]
fn a_name_that_comes_twice_is_refused_and_the_first_place_is_named() {
    let other = PLAIN.replace("plain", "Plain");
    compiled(&format!("{PLAIN}{other}"));
    let one = refused(&[file("a.toml", format!("# one file\n{PLAIN}{PLAIN}"))]);
    assert_eq!((one.file.as_str(), one.line), ("a.toml", 7), "{one}");
    assert!(one.problem.contains("called `plain`; the first stands in `a.toml`, line 3"), "{one}");
    let files = [file("a.toml", PLAIN), file("b.toml", format!("\n\n{other}{PLAIN}"))];
    let two = refused(&files);
    assert_eq!((two.file.as_str(), two.line), ("b.toml", 8), "{two}");
    assert!(two.problem.contains("the first stands in `a.toml`, line 2"), "{two}");
    assert!(two.hint.contains("give it its own"), "{two}");
}

#[test]
fn the_first_file_that_is_wrong_is_named_whatever_stands_in_the_others() {
    let bad = |value: &str| file("b.toml", format!("{}grace = '{value}'\n", PLAIN.replace("plain", "b")));
    let good = [file("a.toml", PLAIN), bad("0"), file("c.toml", PLAIN.replace("plain", "c"))];
    assert_eq!(compile(&good, &Fixed).unwrap().policy.rules.len(), 3);
    let error = refused(&[file("a.toml", PLAIN), bad("soon"), file("c.toml", "rule = 1\n")]);
    assert_eq!((error.file.as_str(), error.line), ("b.toml", 5), "{error}");
    // Denials alone are noticed over all files together.
    let deny = |name: &str| file(name, PLAIN.replace("permit", "deny").replace("plain", &name[..1]));
    assert!(compile(&[deny("x.toml"), deny("y.toml"), file("z.toml", PLAIN)], &Fixed).is_ok());
    let error = refused(&[deny("x.toml"), deny("y.toml")]);
    assert_eq!(error.file, "y.toml");
    assert!(error.problem.contains("no rule permits anybody"), "{error}");
}

#[test]
fn what_a_file_quotes_comes_out_on_one_short_printable_line() {
    let hostile = "\\u001b[31m\\n\\r\\u0000\\u2028\\u00e4\\\"";
    let mut long = String::new();
    for n in 0..2_000 {
        let _ = write!(long, "{n} ");
    }
    for word in [hostile, &long] {
        for text in [
            format!("{PLAIN}\"{word}\" = 1\n"),
            PLAIN.replace("'plain'", &format!("\"{word}\"")),
            PLAIN.replace("'permit'", &format!("\"{word}\"")),
            format!("{PLAIN}network = [\"{word}\"]\n"),
            format!("{PLAIN}require = {{ max_age = \"{word}\" }}\n"),
            format!("{PLAIN}when = {{ days = ['mon'], zone = \"{word}\" }}\n"),
            format!("{PLAIN}network = \"{word}\"\n"),
        ] {
            let error = refused(&[file("a.toml", &text)]);
            assert!(error.to_string().len() < 700, "{error}");
            assert!(error.line <= 5, "{error}");
        }
    }
}
