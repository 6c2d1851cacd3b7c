//! Classes 4, 5 and 6: key ids that are paths, commands and addresses; tokens that bring their key along; extensions
//! that must be understood. (CVE-2025-59420.)

use nightlatch_jwt::{MAX_KID_BYTES, Refusal};

use crate::algorithm::Concat as _;
use crate::case::{Batch, Case};
use crate::draft::{Draft, Signer, base64url, quoted};
use crate::kit::{TENANT, kit, v2_issuer};

pub(crate) fn cases() -> Vec<Case> {
    let mut ids = Batch::of(4);
    unknown_ids(&mut ids);
    impossible_ids(&mut ids);
    let mut own = Batch::of(5);
    own_keys(&mut own);
    own_keys_of_strangers(&mut own);
    let mut critical = Batch::of(6);
    extensions(&mut critical);
    [ids.done(), own.done(), critical.done()].concat_cases()
}

/// Names that could be a key's and are none's.
fn unknown_ids(batch: &mut Batch) {
    let twin = Draft::v2();
    let known = kit().primary.kid;
    let longest = "k".repeat(MAX_KID_BYTES);
    let canary = kit().canary_url("kid");
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "..\\..\\windows\\win.ini",
        "file:///etc/passwd",
        "'/**/OR/**/'1'='1",
        "x';DROP/**/TABLE/**/keys;--",
        "x'UNION/**/SELECT'AAAA",
        "$(id)",
        "`id`",
        "|id",
        "${jndi:ldap://127.0.0.1/a}",
        "{{7*7}}",
        "%s%s%n",
        "%00",
        "..%2f..%2fkey",
        "*",
        ".*",
        "__proto__",
        "constructor",
        "null",
        "0",
        "-",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        &canary,
        &longest,
        &known.to_ascii_lowercase(),
        &known.to_ascii_uppercase(),
        &known[..26],
        &format!("{known}="),
        &format!("{known}x"),
        &format!("{known},{}", kit().exact.kid),
        &known.chars().rev().collect::<String>(),
        kit().stranger.kid,
    ] {
        let hostile = twin.clone().head("kid", quoted(kid));
        batch.add(format!("kid {}", short(kid)), &twin, &hostile, Refusal::UnknownKey);
    }
    let hostile = twin.clone().under(&kit().stranger);
    batch.add("a stranger's key under its own name", &twin, &hostile, Refusal::UnknownKey);
    let hostile = twin.clone().by(Signer::Rs256(&kit().stranger));
    batch.add("a stranger's key under a known name", &twin, &hostile, Refusal::Signature);
    let hostile = twin.clone().head("kid", quoted(kit().exact.kid));
    batch.add("the name of another key of the set", &twin, &hostile, Refusal::Signature);
}

/// What cannot be a key's name.
fn impossible_ids(batch: &mut Batch) {
    let twin = Draft::v2();
    let known = kit().primary.kid;
    for kid in [
        String::new(),
        "k".repeat(MAX_KID_BYTES + 1),
        "../".repeat(3_400),
        "k".repeat(10_000),
        format!("{known}\0"),
        format!("\0{known}"),
        format!("{known}\n"),
        format!("{known}\r\n"),
        format!("{known}\t"),
        format!("{known} "),
        format!(" {known}"),
        format!("{known}\u{1b}[2J"),
        format!("{known}\u{7f}"),
        format!("{known}\u{85}"),
        format!("{known}\u{a0}"),
        format!("{known}\u{200b}"),
        format!("\u{feff}{known}"),
        format!("\u{202e}{known}"),
        format!("{known}\nMESSAGE=forged"),
        "' OR 1=1 --".to_owned(),
        "schl\u{fc}ssel".to_owned(),
        "\u{ff30}rimaryKeyOfTheTestIssuer_1".to_owned(),
        "\u{1f511}".to_owned(),
    ] {
        let hostile = twin.clone().head("kid", quoted(&kid));
        batch.add(format!("kid {}", short(&kid)), &twin, &hostile, Refusal::KeyId);
    }
    for raw in ["null", "0", "true", "[]", "{}", "1.5"] {
        batch.add(format!("kid {raw}"), &twin, &twin.clone().head("kid", raw), Refusal::KeyId);
    }
    let listed = format!("[{}]", quoted(known));
    batch.add("kid in a list", &twin, &twin.clone().head("kid", listed), Refusal::KeyId);
    batch.add("no kid", &twin, &twin.clone().unhead("kid"), Refusal::KeyId);
    let hostile = twin.clone().unhead("kid").head("x5t", quoted(known));
    batch.add("x5t for kid", &twin, &hostile, Refusal::KeyId);
    let hostile = twin.clone().unhead("kid").head("KID", quoted(known));
    batch.add("KID for kid", &twin, &hostile, Refusal::KeyId);
}

/// As Rust writes it, cut where it is long.
fn short(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    if shown == text { format!("{text:?}") } else { format!("{shown:?}… of {} bytes", text.len()) }
}

/// The token is good; the member alone is one too much.
fn own_keys(batch: &mut Batch) {
    let twin = Draft::v2();
    let kit = kit();
    let jwk = kit.primary.jwk().text();
    for (member, raw) in [
        ("jwk", jwk.clone()),
        ("jwk", kit.stranger.jwk().text()),
        ("jwk", "{}".to_owned()),
        ("jwk", "null".to_owned()),
        ("jwk", "\"\"".to_owned()),
        ("jwk", "[]".to_owned()),
        ("jwk", quoted(&jwk)),
        ("jwk", "{\"kty\":\"oct\",\"k\":\"AAAA\"}".to_owned()),
        ("jku", quoted(&kit.canary_url("jku"))),
        ("jku", quoted(&format!("https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"))),
        ("jku", quoted("https://login.microsoftonline.com@127.0.0.1/keys")),
        ("jku", quoted("file:///dev/stdin")),
        ("jku", quoted("http://169.254.169.254/metadata/identity")),
        ("jku", "\"\"".to_owned()),
        ("jku", "null".to_owned()),
        ("jku", "[]".to_owned()),
        ("x5u", quoted(&kit.canary_url("x5u"))),
        ("x5u", quoted("https://login.microsoftonline.com/cert.pem")),
        ("x5u", "\"\"".to_owned()),
        ("x5u", "null".to_owned()),
        ("x5u", "{}".to_owned()),
        ("x5c", "[\"MIIDBTCCAe2gAwIBAgIQ\"]".to_owned()),
        ("x5c", "[]".to_owned()),
        ("x5c", "null".to_owned()),
        ("x5c", "\"MIIDBTCCAe2gAwIBAgIQ\"".to_owned()),
        ("x5c", "[\"\"]".to_owned()),
    ] {
        let hostile = twin.clone().head(member, &raw);
        let name = format!("a good token with {member} {}", short(&raw));
        batch.add(name, &twin, &hostile, Refusal::EmbeddedKey(member));
    }
}

/// The attack itself: signed by a stranger whose key comes along.
fn own_keys_of_strangers(batch: &mut Batch) {
    let twin = Draft::v2();
    let stranger = &kit().stranger;
    let forged = twin.clone().by(Signer::Rs256(stranger));
    let named = stranger.jwk().with("kid", quoted(kit().primary.kid)).text();
    let hostile = forged.clone().head("jwk", named);
    batch.add("a stranger's key under a known name", &twin, &hostile, Refusal::EmbeddedKey("jwk"));
    let hostile = twin.clone().under(stranger).head("jwk", stranger.jwk_of(&v2_issuer(TENANT)).text());
    batch.add("a stranger's key under its own name", &twin, &hostile, Refusal::EmbeddedKey("jwk"));
    let hostile = forged.clone().unhead("kid").head("jwk", stranger.jwk().text());
    batch.add("a stranger's key without a name", &twin, &hostile, Refusal::EmbeddedKey("jwk"));
    let hostile = forged.clone().head("jku", quoted(&kit().canary_url("strangers/jku")));
    batch.add("a stranger's key set", &twin, &hostile, Refusal::EmbeddedKey("jku"));
    let hostile = forged.clone().head("x5u", quoted(&kit().canary_url("strangers/x5u")));
    batch.add("a stranger's certificate elsewhere", &twin, &hostile, Refusal::EmbeddedKey("x5u"));
    let hostile = forged.head("x5c", format!("[{}]", quoted(&base64url(stranger.spki()))));
    batch.add("a stranger's certificate", &twin, &hostile, Refusal::EmbeddedKey("x5c"));
}

/// `crit` in every shape; what it names is there too where that makes a difference.
fn extensions(batch: &mut Batch) {
    let twin = Draft::v2();
    for raw in [
        "[\"cnf\"]",
        "[]",
        "[\"exp\"]",
        "[\"alg\"]",
        "[\"kid\",\"typ\"]",
        "[\"crit\"]",
        "[\"b64\"]",
        "[\"http://example.com/UNDEFINED\"]",
        "[\"\"]",
        "[null]",
        "[5]",
        "[[\"cnf\"]]",
        "[{}]",
        "[\"x\",\"x\"]",
        "\"cnf\"",
        "\"\"",
        "null",
        "true",
        "false",
        "0",
        "{}",
        "{\"0\":\"cnf\"}",
    ] {
        batch.add(format!("crit {raw}"), &twin, &twin.clone().head("crit", raw), Refusal::Critical);
    }
    for (member, raw) in [("cnf", "{\"kid\":\"x\"}"), ("http://example.com/UNDEFINED", "true"), ("exp", "5")]
    {
        let base = twin.clone().head(member, raw);
        let hostile = base.clone().head("crit", format!("[{}]", quoted(member)));
        batch.add(format!("crit with {member}, which is there"), &base, &hostile, Refusal::Critical);
    }
    let first = Draft { header: twin.header.clone().first("crit", "[\"x\"]"), ..twin.clone() };
    batch.add("crit as the first member", &twin, &first, Refusal::Critical);
    let v1 = Draft::v1();
    batch.add("crit in a token of version 1.0", &v1, &v1.clone().head("crit", "[\"x\"]"), Refusal::Critical);
    let hostile = twin.clone().head("cr\\u0069t", "[\"x\"]");
    batch.add("crit with an escape in its name", &twin, &hostile, Refusal::Critical);
}
