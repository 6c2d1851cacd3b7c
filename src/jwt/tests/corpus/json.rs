//! Class 19: JSON that two readers read in two ways, and JSON that is none. All of it is rightly signed.

use nightlatch_jwt::Refusal;

use crate::case::{Batch, Case};
use crate::draft::{Draft, quoted};
use crate::kit::{BOB, OTHER_TENANT, kit};

pub(crate) fn cases() -> Vec<Case> {
    let mut batch = Batch::of(19);
    claims_twice(&mut batch);
    claims_of_another(&mut batch);
    header_twice(&mut batch);
    nested_twice(&mut batch);
    for part in ["header", "payload"] {
        for (name, text) in
            odd_objects(part).into_iter().chain(odd_values(part)).chain(odd_bytes(part)).chain(bombs(part))
        {
            no_json(&mut batch, part, &name, &text);
        }
    }
    batch.done()
}

fn claims_twice(batch: &mut Batch) {
    let wanted = Refusal::DuplicateMember("payload");
    for (version, twin) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        for (claim, raw) in &twin.claims.0 {
            let hostile = twin.clone().also(claim, raw);
            batch.add(format!("version {version}: {claim} twice"), &twin, &hostile, wanted);
            let hostile = twin.clone().also(claim, "null");
            batch.add(format!("version {version}: {claim}, then null"), &twin, &hostile, wanted);
            let hostile = Draft { claims: twin.claims.clone().first(claim, "0"), ..twin.clone() };
            batch.add(format!("version {version}: 0, then {claim}"), &twin, &hostile, wanted);
        }
    }
}

/// Both values are of the right form; which one counts would be the reader's choice.
fn claims_of_another(batch: &mut Batch) {
    let twin = Draft::v1();
    let wanted = Refusal::DuplicateMember("payload");
    for (claim, spelled, raw) in [
        ("oid", "oid", quoted(BOB)),
        ("oid", "o\\u0069d", quoted(BOB)),
        ("oid", "\\u006f\\u0069\\u0064", quoted(BOB)),
        ("tid", "tid", quoted(OTHER_TENANT)),
        ("tid", "\\u0074id", quoted(OTHER_TENANT)),
        ("aud", "aud", quoted("https://graph.microsoft.com")),
        ("iss", "iss", quoted("https://example.com/")),
        ("exp", "exp", "1".to_owned()),
        ("exp", "e\\u0078p", "253402300799".to_owned()),
        ("amr", "amr", "[\"pwd\"]".to_owned()),
        ("acrs", "acrs", "[]".to_owned()),
        ("groups", "groups", "[]".to_owned()),
        ("scp", "scp", "\"\"".to_owned()),
        ("deviceid", "deviceid", quoted(BOB)),
        ("upn", "upn", "\"bob@example.com\"".to_owned()),
    ] {
        let hostile = Draft { claims: twin.claims.clone().first(spelled, &raw), ..twin.clone() };
        batch.add(format!("another {claim} (as {spelled}) first"), &twin, &hostile, wanted);
        batch.add(
            format!("another {claim} (as {spelled}) last"),
            &twin,
            &twin.clone().also(spelled, &raw),
            wanted,
        );
    }
    let unknown = twin.clone().with("x", 1);
    batch.add("an unknown claim twice", &unknown, &unknown.clone().also("x", 1), wanted);
    let unknown = twin.clone().with("", 1);
    batch.add("a claim without a name twice", &unknown, &unknown.clone().also("", 1), wanted);
}

fn header_twice(batch: &mut Batch) {
    let twin = Draft::v2();
    let wanted = Refusal::DuplicateMember("header");
    let header = twin.header.clone();
    let kid = quoted(kit().primary.kid);
    for (member, raw) in [
        ("alg", "\"RS256\""),
        ("alg", "\"none\""),
        ("alg", "\"HS256\""),
        ("\\u0061lg", "\"none\""),
        ("kid", &kid),
        ("kid", "\"../../dev/null\""),
        ("k\\u0069d", &kid),
        ("typ", "\"JWT\""),
        ("typ", "\"pop\""),
        ("typ", "null"),
    ] {
        let hostile = Draft { header: header.clone().also(member, raw), ..twin.clone() };
        batch.add(format!("header: {member} {raw} last"), &twin, &hostile, wanted);
        let hostile = Draft { header: header.clone().first(member, raw), ..twin.clone() };
        batch.add(format!("header: {member} {raw} first"), &twin, &hostile, wanted);
    }
    let known = twin.clone().head("x", 1);
    let hostile = Draft { header: known.header.clone().also("x", 1), ..known.clone() };
    batch.add("header: an unknown member twice", &known, &hostile, wanted);
}

/// Two of a name further down, in claims that nobody here reads.
fn nested_twice(batch: &mut Batch) {
    let twin = Draft::v2().with("x", "{\"a\":1}");
    for raw in [
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":2}",
        "[{\"a\":1,\"a\":2}]",
        "{\"b\":{\"a\":1,\"a\":2}}",
        "[[{\"b\":[{\"a\":{},\"a\":[]}]}]]",
        "{\"\":1,\"\":2}",
        "{\"a\":1,\"b\":2,\"c\":3,\"a\":1}",
    ] {
        let hostile = twin.clone().with("x", raw);
        batch.add(format!("x {raw}"), &twin, &hostile, Refusal::DuplicateMember("payload"));
        let known = Draft::v2().head("x", "{\"a\":1}");
        let hostile = known.clone().head("x", raw);
        batch.add(format!("header: x {raw}"), &known, &hostile, Refusal::DuplicateMember("header"));
    }
    let twin = Draft::v2().with("_claim_names", "{\"groups\":\"src1\"}");
    let hostile = twin.clone().with("_claim_names", "{\"groups\":\"src1\",\"groups\":\"src2\"}");
    batch.add("groups twice in _claim_names", &twin, &hostile, Refusal::DuplicateMember("payload"));
}

fn no_json(batch: &mut Batch, part: &'static str, name: &str, text: &[u8]) {
    let twin = Draft::v2();
    let hostile = match part {
        "header" => twin.sealed(text, twin.claims.text()),
        _ => twin.sealed(twin.header.text(), text),
    };
    batch.text(format!("{part}: {name}"), &twin, hostile, Refusal::Json(part));
}

/// The good text of a part.
fn good(part: &str) -> String {
    let twin = Draft::v2();
    if part == "header" { twin.header.text() } else { twin.claims.text() }
}

fn named(list: Vec<(&str, String)>) -> Vec<(String, Vec<u8>)> {
    list.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

/// Not one JSON object and nothing else.
fn odd_objects(part: &str) -> Vec<(String, Vec<u8>)> {
    let good = good(part);
    let open = &good[1..];
    let cut = &good[..good.len() - 1];
    let mut list = vec![
        ("blanks alone", "   ".to_owned()),
        ("a list around it", format!("[{good}]")),
        ("a text around it", quoted(&good)),
        ("two objects", format!("{good}{good}")),
        ("an empty object behind", format!("{good}{{}}")),
        ("an empty object in front", format!("{{}}{good}")),
        ("a letter behind", format!("{good}x")),
        ("a comma behind", format!("{good},")),
        ("NUL behind", format!("{good}\0")),
        ("a form feed behind", format!("{good}\u{c}")),
        ("a record separator in front", format!("\u{1e}{good}")),
        ("a no-break space in front", format!("\u{a0}{good}")),
        ("a guard in front", format!(")]}}'\n{good}")),
        ("its end missing", cut.to_owned()),
        ("its start missing", open.to_owned()),
        ("a comma before its end", format!("{cut},}}")),
        ("a comma after its start", format!("{{,{open}")),
        ("two commas", good.replacen(',', ",,", 1)),
        ("no comma", good.replacen(',', " ", 1)),
        ("two colons", good.replacen(':', "::", 1)),
        ("an equals sign", good.replacen(':', "=", 1)),
        ("a comment", format!("{{/* x */{open}")),
        ("a comment at the end of a line", format!("{{// x\n{open}")),
        ("a comment of a shell", format!("# x\n{good}")),
        ("single quotes", good.replace('"', "'")),
        ("a name without quotes", format!("{{x:1,{open}")),
        ("a name without a value", format!("{{\"x\",{open}")),
        ("null", "null".to_owned()),
        ("true", "true".to_owned()),
        ("a number", "5".to_owned()),
        ("an empty text", "\"\"".to_owned()),
        ("an empty list", "[]".to_owned()),
    ];
    if part == "payload" {
        // An empty header is with the cases of class 1.
        list.push(("nothing", String::new()));
    }
    named(list)
}

/// One member whose value is not JSON.
fn odd_values(part: &str) -> Vec<(String, Vec<u8>)> {
    let good = good(part);
    let values = [
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "-01",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "--1",
        "0x10",
        "1_000",
        "1,000",
        "True",
        "nul",
        "undefined",
        "None",
        "",
        "'x'",
        "\"x",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"\\\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud83dx\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"a\0b\"",
        "\"a\u{1f}b\"",
        "[1,]",
        "[,1]",
        "[1",
        "1]",
        "{\"a\"}",
        "{\"a\":}",
        "{1:2}",
        "[1 2]",
        "(1)",
        "<1>",
        "\u{b}1",
        "\u{a0}1",
        "\u{2028}1",
        "\u{ff11}",
        "\u{221e}",
    ];
    values
        .into_iter()
        .map(|raw| (format!("a value {raw:?}"), format!("{{\"x\":{raw},{}", &good[1..]).into_bytes()))
        .collect()
}

/// Not UTF-8, or not UTF-8 alone.
fn odd_bytes(part: &str) -> Vec<(String, Vec<u8>)> {
    let good = good(part);
    let with = |bytes: &[u8]| [b"{\"x\":\"", bytes, b"\",", &good.as_bytes()[1..]].concat();
    let wide = |order: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    vec![
        ("a byte order mark".to_owned(), [&[0xef, 0xbb, 0xbf], good.as_bytes()].concat()),
        ("two byte order marks".to_owned(), [&b"\xef\xbb\xbf\xef\xbb\xbf"[..], good.as_bytes()].concat()),
        ("UTF-16, small end first".to_owned(), wide(u16::to_le_bytes)),
        ("UTF-16, big end first".to_owned(), wide(u16::to_be_bytes)),
        ("UTF-16 with its mark".to_owned(), [&[0xff, 0xfe][..], &wide(u16::to_le_bytes)].concat()),
        ("the byte ff".to_owned(), with(&[0xff])),
        ("Latin-1".to_owned(), with(&[b'a', 0xe9, b'b'])),
        ("a continuation alone".to_owned(), with(&[0x80])),
        ("a sequence cut short".to_owned(), with(&[0xe2, 0x82])),
        ("a slash too long".to_owned(), with(&[0xc0, 0xaf])),
        ("NUL too long".to_owned(), with(&[0xc0, 0x80])),
        ("a surrogate".to_owned(), with(&[0xed, 0xa0, 0x80])),
        ("a pair of surrogates".to_owned(), with(&[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80])),
        ("beyond U+10FFFF".to_owned(), with(&[0xf4, 0x90, 0x80, 0x80])),
        ("five bytes for one character".to_owned(), with(&[0xf8, 0x88, 0x80, 0x80, 0x80])),
        ("ff behind".to_owned(), [good.as_bytes(), &[0xff]].concat()),
        ("gzip".to_owned(), [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0][..], good.as_bytes()].concat()),
        ("CBOR".to_owned(), [&[0xa1, 0x61, b'x', 0x01][..], good.as_bytes()].concat()),
    ]
}

/// Right JSON, and too much of it.
fn bombs(part: &str) -> Vec<(String, Vec<u8>)> {
    let good = good(part);
    let with = |raw: &str| format!("{{\"x\":{raw},{}", &good[1..]).into_bytes();
    let lists = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let mut bombs = Vec::new();
    for depth in [10, 16, 64, 127, 128, 129, 1_000, 4_000] {
        bombs.push((format!("{depth} lists within each other"), with(&lists(depth))));
    }
    for depth in [10, 16, 64, 128, 1_000] {
        bombs.push((format!("{depth} objects within each other"), with(&objects(depth))));
    }
    bombs.push(("5,000 lists that do not end".to_owned(), with(&"[".repeat(5_000))));
    for count in [2_100, 3_000, 4_500] {
        bombs
            .push((format!("a list of {count} numbers"), with(&format!("[{}]", vec!["0"; count].join(",")))));
    }
    bombs.push(("3,000 empty objects".to_owned(), with(&format!("[{}]", vec!["{}"; 3_000].join(",")))));
    bombs
}
