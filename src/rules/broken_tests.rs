//! Every way to get a file wrong: each row is a text with a hole, what belongs into it, and the one thing that does not.

use super::compile_tests::{PLAIN, compiled, file, refused};

/// A row: the line that must be named, the text, what fits into its hole, what does not, and a word of the problem and
/// of the hint.
type Row = (usize, &'static str, &'static str, &'static str, &'static str, &'static str);

const FORM: &str = "a file holds `[[rule]]` tables";
const MISSPELT: &str = "a misspelt limit would be no limit";
const EMPTY: &str = "an empty list matches nothing";
const NETWORK: &str = "no bits behind its length";
const OID: &str = "the object id from Entra";
const RESOURCE: &str = "the beginning of a resource id";
const CONTEXT: &str = "`c1` to `c99`";
const DAY: &str = "from one to another as `mon-fri`";
const MINUTE: &str = "write it as `08:00`";
const RANGE: &str = "between 1min and 365d";
const GRACE: &str = "`0` or a time up to `24h`";
const LIST: &str = "write a list: `[\"...\"]`";
const TABLE: &str = "write a table: `{ ... }`";
const QUOTES: &str = "write it in quotes";
const BOOL: &str = "`true` or `false`, without quotes";
const WORD: &str = "one of these words";
const ONE_WORD: &str = "without brackets";
const NO_SPACE: &str = "printable characters without a space";

fn check(before: &str, rows: &[Row]) {
    for (line, text, good, bad, problem, hint) in rows {
        assert_eq!(text.matches('@').count(), 1, "one change: {text}");
        let with = |word: &str| format!("{before}{}", text.replace('@', word));
        compiled(&with(good));
        let error = refused(&[file("a.toml", with(bad))]);
        assert_eq!((error.file.as_str(), error.line), ("a.toml", *line), "{}\n{error}", with(bad));
        assert!(error.problem.contains(problem) && error.hint.contains(hint), "{}\n{error}", with(bad));
    }
}

#[test]
fn files_and_rules_that_are_not_what_they_should_be() {
    const NAME: &str = "1 to 64 letters, digits, `-`, `_` and `.`";
    const NO_NAME: &str = "[[rule]]\neffect = 'permit'\nwho.anyone = true@";
    const NO_EFFECT: &str = "[[rule]]\nname = 'a'\nwho.anyone = true@";
    const NO_WHO: &str = "[[rule]]\nname = 'a'\neffect = 'permit'@";
    const CALLED: &str = "[[rule]]\nname = @\neffect = 'permit'\nwho = { anyone = true }";
    const EFFECT: &str = "[[rule]]\nname = 'a'\neffect = @\nwho = { anyone = true }";
    const SHOWS: &str = "[[rule]]\nname = 'a'\nwho = { anyone = true }\neffect = @";
    const WHO: &str = "[[rule]]\nname = 'a'\neffect = 'permit'\nwho = @";
    const ONE: &str = "[[rule]]\nname = 'a'\neffect = 'permit'\nwho = { @ }";
    const USERS: &str = "[[rule]]\nname = 'a'\neffect = 'permit'\nwho = { users = [@] }";
    const GROUPS: &str = "[[rule]]\nname = 'a'\neffect = 'permit'\nwho = { groups = [@] }";
    const GOOD: &str = "[[rule]]\nname = 'a'\neffect = 'permit'\nwho.anyone = true";
    const BEFORE: &str = "@\n[[rule]]\nname = 'a'\neffect = 'permit'\nwho.anyone = true";
    const FIRST: &str = "\n@[rule]]\n[[rule]]\nname = 'a'\neffect = 'permit'\nwho.anyone = true";
    const LINES: &str = "[[rule]]\nname = 'a'\neffect = 'permit'\n[rule.who]\nusers = [\n @]";
    const BESIDE: &str = "beside other selectors";
    const ID: &str = "'5f0c2d3e-0000-4000-8000-00000000000a'";
    check(
        "",
        &[
            (1, "@", GOOD, "rule = 1", "expected a list", LIST),
            (1, "@", GOOD, "rule = {}", "expected a list", FORM),
            (1, "@", GOOD, "rules = []", "unknown field `rules`", MISSPELT),
            (1, BEFORE, "", "version = 1", "unknown field `version`", MISSPELT),
            (2, FIRST, "#", "[", "missing field `name`", FORM),
            (1, NO_NAME, "\nname = 'a'", "", "missing field `name`", FORM),
            (1, NO_EFFECT, "\neffect = 'permit'", "", "missing field `effect`", FORM),
            (1, NO_WHO, "\nwho.anyone = true", "", "missing field `who`", FORM),
            (2, CALLED, "'a'", "''", "not a plain name", NAME),
            (2, CALLED, "'two-words'", "'two words'", "not a plain name", NAME),
            (2, CALLED, "'gaeste'", "'g\u{e4}ste'", "not a plain name", NAME),
            (2, CALLED, "\"a\"", "\"a\\n\"", "not a plain name", NAME),
            (2, CALLED, "'7'", "7", "integer `7`, expected text", QUOTES),
            (3, EFFECT, "'permit'", "'allow'", "unknown variant `allow`", WORD),
            (3, EFFECT, "'permit'", "'Permit'", "unknown variant `Permit`", WORD),
            (3, EFFECT, "'permit'", "['permit']", "one word is expected", ONE_WORD),
            (3, EFFECT, "'permit'", "true", "one word is expected", ONE_WORD),
            (4, EFFECT, "'permit'", "'deny'", "no rule permits anybody", "for everybody else"),
            (2, SHOWS, "'permit'", "'step-up'", "must require something", "say what to show"),
            (4, WHO, "{ anyone = true }", "'anyone'", "expected a table", TABLE),
            (4, ONE, "anyone = true", "", "`who` names nobody", "or say `anyone = true`"),
            (4, ONE, "anyone = true", "anyone = false", "`anyone = false` says nothing", "leave it out"),
            (4, ONE, "anyone = true", "anyone = true, role = 'admin'", BESIDE, "one of the two"),
            (4, ONE, "guests = false", "guests = false, anyone = true", BESIDE, "one of the two"),
            (4, ONE, "anyone = true", "anyone = 'true'", "expected a boolean", BOOL),
            (4, ONE, "anyone = true", "everyone = true", "unknown field `everyone`", MISSPELT),
            (4, ONE, "role = 'admin'", "role = 'root'", "unknown variant `root`", WORD),
            (4, ONE, "role = 'admin'", "role = ['admin']", "one word is expected", ONE_WORD),
            (4, ONE, "guests = true", "guests = 'no'", "expected a boolean", BOOL),
            (4, USERS, ID, "'alice@contoso.com'", "`alice@contoso.com` is not", OID),
            (4, USERS, ID, "'5f0c2d3e-0000-4000-8000-0000000000a'", "0a` is not accepted here", OID),
            (4, USERS, ID, "", EMPTY, "or name something"),
            (6, LINES, ID, "'bob'", "`bob` is not accepted here", OID),
            (4, GROUPS, ID, "'sre'", "`sre` is not accepted here", OID),
            (4, GROUPS, ID, "'*'", "`*` is not accepted here", OID),
            (4, GROUPS, ID, "true", "boolean `true`, expected text", QUOTES),
        ],
    );
}

#[test]
fn conditions_that_are_not_what_they_should_be() {
    const RESOURCES: &str = "where = { resource = [@] }";
    const LABELS: &str = "labels = { a = 'b' }";
    const DAYS: &str = "when = { days = [@] }";
    const ZONE: &str = "when = { days = ['mon'], zone = '@' }";
    const FROM: &str = "when = { from = '@', to = '18:00' }";
    const TO: &str = "when = { from = '08:00', to = '@' }";
    check(
        PLAIN,
        &[
            (5, "@ = ['10.0.0.0/8']", "network", "networks", "unknown field `networks`", MISSPELT),
            (5, "network = [@]", "'10.0.0.0/8'", "", EMPTY, "or name something"),
            (5, "network = @", "['10.0.0.0/8']", "'10.0.0.0/8'", "expected a list", LIST),
            (5, "network = [@]", "'10.0.0.0/8'", "10", "integer `10`, expected text", QUOTES),
            (5, "network = [@]", "'10.0.0.0/8'", "'10.0.0.1/8'", "`10.0.0.1/8` is not", NETWORK),
            (5, "network = [@]", "'10.0.0.0/32'", "'10.0.0.0/33'", "`10.0.0.0/33` is not", NETWORK),
            (5, "network = [@]", "'2001:db8::/128'", "'2001:db8::/129'", "/129` is not", NETWORK),
            (5, "network = [@]", "'2001:db8::/32'", "'2001:db8::1/32'", "/32` is not", NETWORK),
            (5, "network = [@]", "'::ffff:10.0.0.0/104'", "'::ffff:10.0.0.0/8'", "/8` is not", NETWORK),
            (5, "network = [@]", "'::ffff:10.0.0.0/104'", "'::ffff:10.0.0.1/104'", "/104` is not", NETWORK),
            (5, "network = [@]", "'10.0.0.0/8'", "'10.0.0.0/255.0.0.0'", "255.0.0.0` is not", NETWORK),
            (5, "network = [@]", "'10.0.0.0/8'", "'10.0.0.0/+8'", "`10.0.0.0/+8` is not", NETWORK),
            (5, "network = [@]", "'10.0.0.0/8'", "'10.0.0.0/'", "`10.0.0.0/` is not", NETWORK),
            (5, "network = [@]", "'10.0.0.0/8'", "'office'", "`office` is not", NETWORK),
            (5, "network = [@]", "'fe80::/10'", "'fe80::1%eth0'", "`fe80::1%eth0` is not", NETWORK),
            (6, "network = ['10.0.0.0/8',\n @]", "'10.0.0.1'", "' 10.0.0.1'", "not a plain name", NO_SPACE),
            (5, "proof = [@]", "'entra'", "", EMPTY, "or name something"),
            (5, "proof = [@]", "'openpubkey'", "'OpenPubkey'", "unknown variant `OpenPubkey`", WORD),
            (5, "proof = @", "['entra']", "'entra'", "expected a list", LIST),
            (5, "service = [@]", "'login'", "'ssh'", "unknown variant `ssh`", WORD),
            (5, "service = [@]", "'login'", "", EMPTY, "or name something"),
            (5, "where = { @ }", LABELS, "", "`where` names no node", "name `labels` or `resource`"),
            (5, "where = { @ }", LABELS, "labels = {}", EMPTY, "or name something"),
            (5, "where = { @ }", LABELS, "labels = { a = 1 }", "integer `1`, expected text", QUOTES),
            (5, "where = { @ }", LABELS, "labels = 'prod'", "expected a table", TABLE),
            (5, "where = { @ }", LABELS, "label = { a = 'b' }", "unknown field `label`", MISSPELT),
            (5, RESOURCES, "'/subscriptions/1'", "'subscriptions/1'", "is not accepted", RESOURCE),
            (5, RESOURCES, "'/subscriptions/1'", "'/subscriptions/1/'", "is not accepted", RESOURCE),
            (5, RESOURCES, "'/subscriptions/*'", "'/subscriptions//x'", "is not accepted", RESOURCE),
            (5, RESOURCES, "'/*'", "'/'", "is not accepted", RESOURCE),
            (5, RESOURCES, "'/subscriptions/1'", "'/subscriptions/a b'", "not a plain name", NO_SPACE),
            (5, RESOURCES, "'/subscriptions/1'", "", EMPTY, "or name something"),
            (5, "when = { @ }", "days = ['mon']", "", "`when` names no time", "name `days`"),
            (5, "when = { @ }", "days = ['mon']", "zone = 'UTC'", "`when` names no time", "name `days`"),
            (5, "when = { @ }", "days = ['mon']", "days = []", EMPTY, "or name something"),
            (5, DAYS, "'mon'", "'monday'", "`monday` is not", DAY),
            (5, DAYS, "'mon'", "'Mon'", "`Mon` is not", DAY),
            (5, DAYS, "'mon-fri'", "'mon-'", "`mon-` is not", DAY),
            (5, DAYS, "'mon-fri'", "'mon-fri-sun'", "is not", DAY),
            (5, DAYS, "'mon-fri'", "'mon - fri'", "not a plain name", NO_SPACE),
            (5, "when = { days = ['mon'], @ = 'UTC' }", "zone", "timezone", "field `timezone`", MISSPELT),
            (5, ZONE, "Europe/Berlin", "Mars/Base", "`Mars/Base` is not known", "`local`"),
            (5, ZONE, "UTC", "", "is not known", "IANA"),
            (5, "when = { from = '08:00'@ }", ", to = '18:00'", "", "belong together", "write both"),
            (5, "when = { @to = '18:00' }", "from = '08:00', ", "", "belong together", "write both"),
            (5, FROM, "08:00", "18:00", "hold no time", "for the whole day"),
            (5, FROM, "00:00", "24:00", "hold no time", "for the whole day"),
            (5, FROM, "08:00", "8:00", "not a time of day", MINUTE),
            (5, FROM, "08:00", "08:60", "not a time of day", MINUTE),
            (5, TO, "24:00", "24:01", "not a time of day", MINUTE),
            (5, TO, "18:00", "6pm", "not a time of day", MINUTE),
            (5, "when = { from = @, to = '18:00' }", "'08:00'", "08:00:00", "expected text", QUOTES),
            (7, "[rule.when]\nfrom = '08:00'\nto = '@'", "18:00", "25:00", "not a time of day", MINUTE),
        ],
    );
}

#[test]
fn demands_and_limits_that_are_not_what_they_should_be() {
    const DEMAND: &str = "require = { @ }";
    const ACRS: &str = "require = { acrs = ['@'] }";
    check(
        PLAIN,
        &[
            (5, DEMAND, "device = true", "", "`require` requires nothing", "name `amr`, `acrs`"),
            (5, DEMAND, "device = true", "device = false", "`device = false` says nothing", "leave it out"),
            (5, DEMAND, "device = true", "device = 'yes'", "expected a boolean", BOOL),
            (5, "require = @", "{ device = true }", "true", "expected a table", TABLE),
            (6, "[rule.require]\n@ = ['mfa']", "amr", "mfa", "unknown field `mfa`", MISSPELT),
            (5, "require = { amr = [@] }", "'mfa'", "", EMPTY, "or name something"),
            (5, "require = { amr = @ }", "['mfa']", "'mfa'", "expected a list", LIST),
            (5, ACRS, "c1", "c0", "`c0` is not", CONTEXT),
            (5, ACRS, "c99", "c100", "`c100` is not", CONTEXT),
            (5, ACRS, "c1", "c01", "`c01` is not", CONTEXT),
            (5, ACRS, "c1", "c+1", "`c+1` is not", CONTEXT),
            (5, ACRS, "c1", "C1", "`C1` is not", CONTEXT),
            (5, ACRS, "c1", "c", "`c` is not", CONTEXT),
            (5, ACRS, "c1", "mfa", "`mfa` is not", CONTEXT),
            (5, "require = { acrs = [@] }", "'c1'", "", EMPTY, "or name something"),
            (5, "require = { max_age = @ }", "'1h'", "3600", "integer `3600`, expected text", QUOTES),
            (5, "require = { max_age = '@' }", "1min", "59s", "59s is out of range", RANGE),
            (5, "require = { max_age = '@' }", "1h", "soon", "not a length of time", "`1h 30min`"),
            (5, "require = { max_auth_age = '@' }", "365d", "366d", "366d is out of range", RANGE),
            (5, "require = { max_auth_age = '@' }", "8h", "-8h", "not a length of time", "`8h`"),
            (5, "max_session = '@'", "60", "59", "59s is out of range", RANGE),
            (5, "max_session = '@'", "8h", "8", "8s is out of range", RANGE),
            (5, "max_session = '@'", "8h", "", "not a length of time", "`8h`"),
            (5, "max_session = @", "'8h'", "8", "integer `8`, expected text", QUOTES),
            (5, "@ = '8h'", "max_session", "max-session", "unknown field `max-session`", MISSPELT),
            (5, "grace = '@'", "24h", "86401", "not a length of grace", GRACE),
            (5, "grace = '@'", "0", "none", "not a length of grace", GRACE),
            (5, "forward = @", "['port']", "'port'", "expected a list", LIST),
            (5, "forward = [@]", "'x11'", "'X11'", "unknown variant `X11`", WORD),
            (5, "@", "grace = '0'", "name = 'b'", "duplicate key", "only once"),
            (5, "@", "", "nonsense", "key with no value", "no TOML"),
            (5, "grace = @", "'0'", "'0", "invalid literal string", "no TOML"),
        ],
    );
}

#[test]
fn a_deny_rule_has_nothing_to_demand_and_nothing_to_limit() {
    for (line, problem, hint) in [
        ("require = { amr = ['mfa'] }", "a deny rule requires nothing", "effect = \"step-up\""),
        ("max_session = '8h'", "a deny rule limits nothing", "leave the limit out"),
        ("forward = []", "a deny rule limits nothing", "leave the limit out"),
        ("grace = '0'", "a deny rule limits nothing", "leave the limit out"),
    ] {
        let with = |effect: &str| {
            let rule = PLAIN.replace("plain", "first").replace("permit", effect);
            format!("{rule}network = ['10.0.0.0/8']\n{line}\n{PLAIN}")
        };
        assert_eq!(compiled(&with("permit")).policy.rules.len(), 2);
        let error = refused(&[file("a.toml", with("deny"))]);
        assert_eq!(error.line, 6, "{error}");
        assert!(error.problem.contains(problem) && error.hint.contains(hint), "{error}");
    }
}

#[test]
fn what_certificates_of_entra_cannot_show_is_not_demanded_of_them() {
    for claim in ["amr = ['mfa']", "acrs = ['c1']", "device = true", "max_auth_age = '1h'"] {
        for effect in ["permit", "step-up"] {
            let with = |proof: &str, require: &str| {
                let rule = PLAIN.replace("permit", effect);
                format!("{rule}proof = [{proof}]\nrequire = {{ {require} }}")
            };
            compiled(&with("'openpubkey'", claim));
            compiled(&with("'entra', 'openpubkey'", claim));
            compiled(&with("'entra'", "max_age = '1h'"));
            if claim != "device = true" {
                // A sign-in at the prompt may show it.
                compiled(&with("'entra'", claim));
                continue;
            }
            let error = refused(&[file("a.toml", with("'entra'", claim))]);
            assert_eq!(error.line, 2, "{error}");
            assert!(error.problem.contains("can never be shown with `proof = [\"entra\"]`"), "{error}");
            assert!(error.hint.contains("name no device"), "{error}");
        }
    }
}
