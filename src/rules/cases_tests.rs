use nightlatch_page::PolicyError;
use nightlatch_policy::AccessPolicy;

use super::compile_tests::{ALICE, BOB, Fixed, PLAIN, compiled, file, one_printable_line};
use super::{Case, CaseResult, MAX_CASES, cases};

const CASE: &str = "[[case]]\nname = 'x'\nexpect = 'permit'\n";

fn read(text: &str) -> Vec<Case> {
    cases(&[file("a.test.toml", text)]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What comes of one case on these rules.
fn run(rules: &str, case: &str) -> CaseResult {
    read(case)[0].run(&compiled(rules).policy, &Fixed)
}

fn refused(files: &[(String, String)]) -> PolicyError {
    let Err(error) = cases(files) else { panic!("taken: {files:?}") };
    one_printable_line(&error);
    error
}

/// The plain rule for these people, with more lines.
fn rule(who: &str, lines: &str) -> String {
    format!("{}{lines}\n", PLAIN.replace("anyone = true", who))
}

fn all(lines: &str) -> String {
    rule("anyone = true", lines)
}

#[test]
fn every_key_of_a_case_can_turn_it() {
    let id = |key: &str, id: &str| format!("{key} = '{id}'");
    let ids = |id: &str| format!("proof = 'openpubkey'\ngroups = ['{id}']");
    let users = rule(&format!("users = ['{ALICE}']"), "");
    let groups = rule(&format!("groups = ['{ALICE}', '{BOB}']"), "");
    let guests = rule("guests = true", "");
    let text = |text: &str| text.to_owned();
    let claims = "proof = 'openpubkey'\n";
    for (rules, holds, differs, without) in [
        (all("service = ['sudo']"), text("service = 'sudo'"), text("service = 'login'"), false),
        (all("service = ['login']"), text("service = 'login'"), text("service = 'sudo'"), true),
        (rule("role = 'admin'", ""), text("role = 'admin'"), text("role = 'user'"), false),
        (rule("role = 'user'", ""), text("role = 'user'"), text("role = 'admin'"), true),
        (users, id("user", ALICE), id("user", BOB), false),
        (groups, ids(BOB), ids("5f0c2d3e-0000-4000-8000-00000000000c"), false),
        (guests, text("guest = true"), text("guest = false"), false),
        (all("network = ['10.0.0.0/8']"), text("from = '10.1.2.3'"), text("from = '11.1.2.3'"), false),
        (
            all("network = ['10.0.0.0/8']"),
            text("from = '::ffff:10.1.2.3'"),
            text("from = '::10.1.2.3'"),
            false,
        ),
        (
            all("when = { days = ['mon'] }"),
            text("at = '2026-11-30T09:15:00Z'"),
            text("at = '2026-12-01T09:15:00Z'"),
            false,
        ),
        (all("proof = ['openpubkey']"), text("proof = 'openpubkey'"), text("proof = 'entra'"), false),
        (all("proof = ['entra']"), text("proof = 'entra'"), text("proof = 'openpubkey'"), true),
        (
            all("require = { amr = ['mfa'] }"),
            format!("{claims}amr = ['pwd', 'mfa']"),
            format!("{claims}amr = ['pwd']"),
            false,
        ),
        (
            all("require = { amr = ['mfa', 'rsa'] }"),
            format!("{claims}amr = ['rsa', 'mfa']"),
            format!("{claims}amr = ['mfa']"),
            false,
        ),
        (
            all("require = { acrs = ['c1'] }"),
            format!("{claims}acrs = ['c1']"),
            format!("{claims}acrs = ['c2']"),
            false,
        ),
        (
            all("require = { device = true }"),
            format!("{claims}device = true"),
            format!("{claims}device = false"),
            false,
        ),
        (
            all("require = { max_auth_age = '1h' }"),
            format!("{claims}auth_age = '1h'"),
            format!("{claims}auth_age = '61min'"),
            false,
        ),
        (
            all("require = { acrs = ['c1'] }"),
            text("prompt = true\nacrs = ['c1']"),
            text("prompt = true\nacrs = ['c2']"),
            false,
        ),
        (all("require = { max_age = '1h' }"), text("age = '1h'"), text("age = '3601s'"), true),
        (
            all("where = { labels = { env = 'prod', tier = '1' } }"),
            text("node = { labels = { env = 'prod', tier = '1', more = 'x' } }"),
            text("node = { labels = { env = 'prod' } }"),
            false,
        ),
        (
            all("where = { labels = { env = 'prod' } }"),
            text("node = { labels = { env = 'prod' } }"),
            text("node = { labels = { env = 'Prod' } }"),
            false,
        ),
        (
            all("where = { resource = ['/subscriptions/*/resourceGroups/prod-*'] }"),
            text("node = { resource = ['/subscriptions/1/resourcegroups/Prod-1/providers/x'] }"),
            text("node = { resource = ['/subscriptions/1/resourceGroups/dev-1'] }"),
            false,
        ),
        (PLAIN.to_owned(), text("rule = 'plain'"), text("rule = 'plane'"), true),
    ] {
        assert_eq!(run(&rules, &format!("{CASE}{holds}\n")), CaseResult::Held, "{holds}\n{rules}");
        let other = run(&rules, &format!("{CASE}{differs}\n"));
        assert!(matches!(other, CaseResult::Differs { .. }), "{differs}\n{rules}");
        assert_eq!(run(&rules, CASE) == CaseResult::Held, without, "without it: {rules}");
    }
}

/// A case that no login can be holds for nobody, and whoever reads it believes that it does.
#[test]
fn a_certificate_of_entras_has_claims_only_with_a_sign_in_at_the_prompt() {
    for claim in [
        "amr = ['mfa']",
        "acrs = ['c1']",
        "auth_age = '1min'",
        "groups = ['5f0c2d3e-0000-4000-8000-00000000000a']",
        "device = true",
    ] {
        for kind in ["", "proof = 'entra'\n", "prompt = false\n"] {
            let error = refused(&[file("a.test.toml", format!("{CASE}{kind}{claim}\n"))]);
            assert!(
                error.problem.contains("has no such claims") && error.hint.contains("prompt"),
                "{error:?}"
            );
        }
        read(&format!("{CASE}proof = 'openpubkey'\n{claim}\n"));
        read(&format!("{CASE}proof = 'openpubkey'\nprompt = true\n{claim}\n"));
        if claim != "device = true" {
            read(&format!("{CASE}prompt = true\n{claim}\n"));
        }
    }
    read(&format!("{CASE}device = false\n"));
    let error = refused(&[file("a.test.toml", format!("{CASE}prompt = true\ndevice = true\n"))]);
    assert!(error.problem.contains("shows no device"), "{error:?}");
}

#[test]
fn each_outcome_can_be_expected() {
    let deny = all("").replace("permit", "deny") + &PLAIN.replace("plain", "rest");
    let step_up = all("require = { acrs = ['c1'] }").replace("permit", "step-up");
    for (rules, outcome, by) in [
        (PLAIN.to_owned(), "permit", "plain"),
        (deny, "policy_denied", "plain"),
        (step_up, "step_up", "plain"),
        (all("require = { amr = ['mfa'] }"), "evidence_missing", "plain"),
        (rule("role = 'admin'", ""), "policy_no_rule", ""),
    ] {
        let expect = |word: &str| format!("[[case]]\nname = 'x'\nexpect = '{word}'\n");
        assert_eq!(run(&rules, &expect(outcome)), CaseResult::Held, "{outcome}\n{rules}");
        for other in ["permit", "policy_denied", "step_up", "evidence_missing", "policy_no_rule"] {
            let held = run(&rules, &expect(other)) == CaseResult::Held;
            assert_eq!(held, other == outcome, "{other}\n{rules}");
        }
        let by = if by.is_empty() { "nobody" } else { by };
        let named = run(&rules, &format!("{}rule = '{by}'\n", expect(outcome)));
        assert_eq!(named == CaseResult::Held, by == "plain", "{rules}");
    }
}

#[test]
fn what_differs_is_told_with_what_each_rule_did() {
    let rules = rule("role = 'admin'", "") + &PLAIN.replace("plain", "night").replace("permit", "deny");
    let differs = |expected: &str, came: &str, trace: &str| CaseResult::Differs {
        expected: expected.to_owned(),
        came: came.to_owned(),
        trace: trace.to_owned(),
    };
    let trace = "plain does not match (who.role), night refuses";
    assert_eq!(run(&rules, CASE), differs("permit", "policy_denied by `night`", trace));
    let named = format!("{CASE}rule = 'plain'\n");
    assert_eq!(run(&rules, &named), differs("permit by `plain`", "policy_denied by `night`", trace));
    let admin = format!("{CASE}rule = 'night'\nrole = 'admin'\n");
    assert_eq!(run(&rules, &admin), differs("permit by `night`", "permit by `plain`", "plain permits"));
    let nobody = run(&rule("role = 'admin'", ""), CASE);
    let trace = "plain does not match (who.role), no rule decides";
    assert_eq!(nobody, differs("permit", "policy_no_rule", trace));
    let case = cases(&[file("a.test.toml", CASE.replace("permit", "policy_no_rule"))]).unwrap().remove(0);
    let none = case.run(&AccessPolicy::default(), &Fixed);
    assert_eq!(none, differs("policy_no_rule", "permit", ""), "without a rule, the rules let everybody in");
}

#[test]
fn who_names_nothing_comes_on_a_wednesday_at_noon_utc() {
    for (when, outcome) in [
        ("days = ['wed'], from = '12:00', to = '12:01'", "permit"),
        ("days = ['thu'], from = '12:00', to = '12:01'", "policy_no_rule"),
        ("days = ['wed'], from = '12:01', to = '12:02'", "policy_no_rule"),
        ("days = ['wed'], from = '11:59', to = '12:00'", "policy_no_rule"),
        ("days = ['wed'], from = '13:00', to = '13:01', zone = 'Europe/Berlin'", "permit"),
    ] {
        let case = CASE.replace("permit", outcome);
        assert_eq!(run(&all(&format!("when = {{ {when} }}")), &case), CaseResult::Held, "{when}");
    }
    // A credential of that very moment, of Entra's own authority.
    let fresh = all("proof = ['entra']\nrequire = { max_age = '1min' }");
    assert_eq!(run(&fresh, CASE), CaseResult::Held);
}

#[test]
fn a_window_follows_the_clocks_of_its_zone_in_summer_and_winter() {
    let rules = all("when = { days = ['mon-fri'], from = '08:00', to = '18:00', zone = 'Europe/Berlin' }");
    let night = all("when = { days = ['fri'], from = '22:00', to = '06:00', zone = 'local' }");
    for (rules, at, outcome) in [
        // Thursday, 15 January: one hour ahead of UTC.
        (&rules, "2026-01-15T06:59:59Z", "policy_no_rule"),
        (&rules, "2026-01-15T07:00:00Z", "permit"),
        (&rules, "2026-01-15T16:59:59Z", "permit"),
        (&rules, "2026-01-15T17:00:00Z", "policy_no_rule"),
        // Wednesday, 15 July: two hours.
        (&rules, "2026-07-15T05:59:59Z", "policy_no_rule"),
        (&rules, "2026-07-15T06:00:00Z", "permit"),
        (&rules, "2026-07-15T15:59:59Z", "permit"),
        (&rules, "2026-07-15T16:00:00Z", "policy_no_rule"),
        // Saturday and Sunday.
        (&rules, "2026-07-18T10:00:00Z", "policy_no_rule"),
        (&rules, "2026-07-19T10:00:00Z", "policy_no_rule"),
        // A night belongs to the day on which it begins, here five and a half hours ahead of UTC.
        (&night, "2026-07-17T16:29:59Z", "policy_no_rule"),
        (&night, "2026-07-17T16:30:00Z", "permit"),
        (&night, "2026-07-18T00:29:59Z", "permit"),
        (&night, "2026-07-18T00:30:00Z", "policy_no_rule"),
        (&night, "2026-07-17T00:00:00Z", "policy_no_rule"),
    ] {
        let case = format!("{}at = '{at}'\n", CASE.replace("permit", outcome));
        assert_eq!(run(rules, &case), CaseResult::Held, "{at}");
    }
}

#[test]
fn a_zone_that_got_lost_permits_nobody_and_rules_no_denial_out() {
    let window = "when = { days = ['wed'], zone = 'Test/Lost' }";
    let permit = all(window);
    let deny = all(window).replace("permit", "deny") + &PLAIN.replace("plain", "rest");
    for (rules, outcome) in [(&permit, "policy_no_rule"), (&deny, "evidence_missing")] {
        assert_eq!(run(rules, &CASE.replace("permit", outcome)), CaseResult::Held, "{rules}");
        let known = rules.replace("Test/Lost", "UTC");
        assert!(
            matches!(run(&known, &CASE.replace("permit", outcome)), CaseResult::Differs { .. }),
            "{known}"
        );
    }
}

#[test]
fn a_case_says_where_it_stands() {
    let second = CASE.replace("'x'", "'y'");
    let files = [file("a.test.toml", format!("# two\n{CASE}\n{second}")), file("b.test.toml", CASE)];
    let found = cases(&files).unwrap();
    let places: Vec<_> = found.iter().map(|case| (case.name.as_str(), case.place.as_str())).collect();
    let expected =
        [("x", "`a.test.toml`, line 3"), ("y", "`a.test.toml`, line 7"), ("x", "`b.test.toml`, line 2")];
    assert_eq!(places, expected);
    assert_eq!(cases(&[file("a.test.toml", "")]).unwrap().len(), 0);
}

#[test]
fn there_are_at_most_10000_cases_in_all_files() {
    const FILES: usize = 25;
    let part = CASE.repeat(MAX_CASES / FILES);
    let mut files: Vec<_> = (0..FILES).map(|n| file(&format!("{n:02}.test.toml"), &part)).collect();
    assert_eq!(cases(&files).unwrap().len(), MAX_CASES);
    files[FILES - 1].1 += CASE;
    let error = refused(&files);
    assert_eq!((error.file.as_str(), error.line), ("24.test.toml", MAX_CASES / FILES * 3 + 2), "{error}");
    assert!(
        error.problem.contains("more than 10000 cases") && error.hint.contains("several folders"),
        "{error}"
    );
}
