use super::cases;
use super::compile_tests::{file, one_printable_line};

#[test]
fn a_case_that_is_not_what_it_should_be_is_named_with_line_and_hint() {
    const FORM: &str = "a file holds `[[case]]` tables";
    const NOT_KNOWN: &str = "this value is not understood";
    const UTC: &str = "in UTC, as `2026-11-30T09:15:00Z`";
    const SPAN: &str = "a length of time such as `10min`";
    const WORD: &str = "one of these words";
    const QUOTES: &str = "write it in quotes";
    const LIST: &str = "write a list";
    const MISSPELT: &str = "a key that is not known is refused";
    const CASE: &str = "[[case]]\nname = 'x'\nexpect = 'permit'\n@\nprompt = true\n";
    const EXPECT: &str = "[[case]]\nname = 'x'\nexpect = @\n";
    for (line, text, good, bad, problem, hint) in [
        (1, "@", "case = []", "case = 1", "expected a list", LIST),
        (1, "@", "case = []", "case = {}", "expected a list", FORM),
        (
            1,
            "@",
            "[[case]]\nname = 'x'\nexpect = 'permit'",
            "[[rule]]\nname = 'x'",
            "unknown field `rule`",
            MISSPELT,
        ),
        (1, "[[case]]\n@expect = 'permit'\n", "name = 'x'\n", "", "missing field `name`", FORM),
        (1, "[[case]]\nname = 'x'\n@", "expect = 'permit'\n", "", "missing field `expect`", FORM),
        (2, "[[case]]\nname = @\nexpect = 'permit'\n", "'7'", "7", "expected text", QUOTES),
        (3, EXPECT, "'permit'", "'permitted'", NOT_KNOWN, "`policy_denied`, `policy_no_rule`, `step_up`"),
        (3, EXPECT, "'policy_denied'", "'deny'", NOT_KNOWN, "`policy_denied`"),
        (3, EXPECT, "'permit'", "true", "expected text", QUOTES),
        (4, CASE, "service = 'sudo'", "service = 'ssh'", "unknown variant `ssh`", WORD),
        (4, CASE, "service = 'sudo'", "service = ['sudo']", "one word is expected", "without brackets"),
        (4, CASE, "role = 'admin'", "role = 'root'", "unknown variant `root`", WORD),
        (4, CASE, "proof = 'entra'", "proof = 'opkssh'", "unknown variant `opkssh`", WORD),
        (
            4,
            CASE,
            "user = '5f0c2d3e-0000-4000-8000-00000000000a'",
            "user = 'alice@contoso.com'",
            NOT_KNOWN,
            "object id",
        ),
        (
            4,
            CASE,
            "groups = ['5f0c2d3e-0000-4000-8000-00000000000a']",
            "groups = ['sre']",
            "`sre`",
            "id of a group",
        ),
        (4, CASE, "guest = true", "guest = 'yes'", "expected a boolean", "without quotes"),
        (4, CASE, "from = '10.1.2.3'", "from = '10.0.0.0/8'", NOT_KNOWN, "an address such as"),
        (4, CASE, "from = '10.1.2.3'", "from = 'client.example'", NOT_KNOWN, "an address such as"),
        (4, CASE, "at = '2026-01-15T07:00:00Z'", "at = 2026-01-15T07:00:00Z", "expected text", QUOTES),
        (4, CASE, "at = '2026-01-15T07:00:00Z'", "at = '2026-01-15T07:00:00+01:00'", NOT_KNOWN, UTC),
        (4, CASE, "at = '2026-01-15T07:00:00Z'", "at = '2026-01-32T07:00:00Z'", NOT_KNOWN, UTC),
        (4, CASE, "at = '2026-01-15T07:00:00Z'", "at = '15.1.2026 07:00'", NOT_KNOWN, UTC),
        (4, CASE, "amr = ['mfa']", "amr = 'mfa'", "expected a list", LIST),
        (4, CASE, "acrs = ['c1']", "acr = ['c1']", "unknown field `acr`", MISSPELT),
        (4, CASE, "device = false", "device = 'laptop'", "expected a boolean", "without quotes"),
        (4, CASE, "auth_age = '10min'", "auth_age = 10", "expected text", QUOTES),
        (4, CASE, "auth_age = '10min'", "auth_age = 'now'", NOT_KNOWN, SPAN),
        (4, CASE, "age = '10min'", "age = '-10min'", NOT_KNOWN, SPAN),
        (
            4,
            CASE,
            "node = { labels = { a = 'b' } }",
            "node = { label = { a = 'b' } }",
            "field `label`",
            MISSPELT,
        ),
        (
            4,
            CASE,
            "node = { labels = { a = 'b' } }",
            "node = { labels = { a = 1 } }",
            "expected text",
            QUOTES,
        ),
        (4, CASE, "node = { labels = { a = 'b' } }", "node = 'prod'", "expected a table", "write a table"),
        (4, CASE, "node = { resource = ['/a'] }", "node = { resource = '/a' }", "expected a list", LIST),
        (
            6,
            "[[case]]\nname = 'x'\nexpect = 'permit'\n[case.node.labels]\na = 'b'\n@",
            "",
            "a = 'c'",
            "duplicate key",
            "once",
        ),
    ] {
        assert_eq!(text.matches('@').count(), 1, "one change: {text}");
        let with = |word: &str| [file("a.test.toml", text.replace('@', word))];
        assert!(cases(&with(good)).is_ok(), "{:?}", cases(&with(good)));
        let Err(error) = cases(&with(bad)) else { panic!("taken: {bad}") };
        one_printable_line(&error);
        assert_eq!((error.file.as_str(), error.line), ("a.test.toml", line), "{bad}\n{error}");
        assert!(error.problem.contains(problem) && error.hint.contains(hint), "{bad}\n{error}");
    }
}

#[test]
fn the_first_case_that_is_wrong_is_named_whatever_stands_before() {
    let case = |at: &str| format!("[[case]]\nname = 'x'\nexpect = 'permit'\nat = '{at}'\n");
    let noon = case("2026-01-15T12:00:00Z");
    let files =
        |last: &str| [file("a.test.toml", &noon), file("b.test.toml", format!("{noon}{}", case(last)))];
    assert_eq!(cases(&files("2026-01-15T12:00:00Z")).unwrap().len(), 3);
    let error = cases(&files("noon")).unwrap_err();
    assert_eq!((error.file.as_str(), error.line), ("b.test.toml", 8), "{error}");
}
