//! Class 1: what is not one signed token in compact form, and what was changed after it was signed. (CVE-2025-3757,
//! CVE-2025-4658.)

use nightlatch_jwt::{MAX_TOKEN_BYTES, Refusal};

use crate::case::{Batch, Case};
use crate::draft::{Draft, Signer, base64url, quoted};
use crate::kit::{BOB, kit};

pub(crate) fn cases() -> Vec<Case> {
    let mut batch = Batch::of(1);
    sizes(&mut batch);
    segments(&mut batch);
    serializations(&mut batch);
    alphabets(&mut batch);
    spellings(&mut batch);
    signatures(&mut batch);
    other_members(&mut batch);
    batch.done()
}

/// A draft whose token has this many bytes.
pub(crate) fn padded_to(draft: &Draft, bytes: usize) -> Draft {
    let encoded = |text: String| base64url(text).len();
    let signature = 342;
    for blanks in 0..3 {
        let longer = draft.clone().head("pad", quoted(&"h".repeat(blanks)));
        let rest = bytes - encoded(longer.header.text()) - signature - 2;
        let base = longer.clone().with("pad", "\"\"").claims.text().len();
        let fit = (rest * 3 / 4).saturating_sub(base);
        let full = longer.with("pad", quoted(&"p".repeat(fit)));
        if encoded(full.claims.text()) == rest {
            return full;
        }
    }
    panic!("no padding makes a token of {bytes} bytes");
}

fn sizes(batch: &mut Batch) {
    let twin = padded_to(&Draft::v2(), MAX_TOKEN_BYTES);
    for more in [1, 2, 3, 4, 1_000, 50_000] {
        let hostile = padded_to(&Draft::v2(), MAX_TOKEN_BYTES + more);
        batch.add(format!("{more} bytes more than a token may have"), &twin, &hostile, Refusal::TooLarge);
    }
    let twin = Draft::v2();
    for (name, text) in [
        ("a megabyte of dots", ".".repeat(1 << 20)),
        ("17 KiB of dots", ".".repeat(17 << 10)),
        ("a token and 16 KiB of signature", twin.text() + &"A".repeat(MAX_TOKEN_BYTES)),
        ("a token and 16 KiB of blanks", twin.text() + &" ".repeat(MAX_TOKEN_BYTES)),
        ("a hundred tokens in a row", vec![twin.text(); 100].join(".")),
    ] {
        batch.text(name, &twin, text, Refusal::TooLarge);
    }
}

fn segments(batch: &mut Batch) {
    let twin = Draft::v2();
    let text = twin.text();
    let [header, payload, signature] = twin.parts();
    let forged = Draft::v2().with("oid", quoted(BOB)).by(Signer::Rs256(&kit().stranger)).parts();
    for (name, hostile) in [
        ("nothing", String::new()),
        ("one part", header.clone()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{text}.{signature}")),
        ("four parts, the last a forged signature", format!("{text}.{}", forged[2])),
        ("four parts, a forged payload between", format!("{header}.{}.{payload}.{signature}", forged[1])),
        ("four parts, a forged header first", format!("{}.{text}", forged[0])),
        ("five parts, as an encrypted token has", format!("{header}..{payload}.{signature}.AAAA")),
        ("six parts: two tokens in a row", format!("{text}.{}", forged.join("."))),
        ("a dot behind", format!("{text}.")),
        ("a dot in front", format!(".{text}")),
        ("a dot too much", format!("{header}..{payload}.{signature}")),
        ("four dots", ".".repeat(4)),
        ("a dot written %2E", format!("{header}%2E{payload}.{signature}")),
        ("an ideographic full stop", format!("{header}\u{3002}{payload}.{signature}")),
        ("a full-width full stop", format!("{header}\u{ff0e}{payload}.{signature}")),
        ("commas for dots", text.replace('.', ",")),
        ("an SSH certificate", "ssh-rsa-cert-v01@openssh_com AAAAHHNzaC1yc2E".to_owned()),
    ] {
        batch.text(name, &twin, hostile, Refusal::NotCompact);
    }
    // Three parts, one of them empty: each is refused by what then is missing in it.
    batch.text("an empty header", &twin, format!(".{payload}.{signature}"), Refusal::Json("header"));
    batch.text("a detached payload", &twin, format!("{header}..{signature}"), Refusal::Signature);
    batch.text("an empty signature", &twin, format!("{header}.{payload}."), Refusal::Signature);
}

fn serializations(batch: &mut Batch) {
    let twin = Draft::v2();
    let [header, payload, signature] = twin.parts();
    let [forged_header, _, forged] = Draft::v2().by(Signer::Rs256(&kit().stranger)).parts();
    let good = format!("{{\"protected\":\"{header}\",\"signature\":\"{signature}\"}}");
    let bad = format!("{{\"protected\":\"{forged_header}\",\"signature\":\"{forged}\"}}");
    let flat = format!("\"payload\":\"{payload}\",\"signature\":\"{signature}\"");
    for (name, hostile) in [
        ("general serialization", format!("{{\"payload\":\"{payload}\",\"signatures\":[{good}]}}")),
        ("good and forged signature", format!("{{\"payload\":\"{payload}\",\"signatures\":[{good},{bad}]}}")),
        ("forged and good signature", format!("{{\"payload\":\"{payload}\",\"signatures\":[{bad},{good}]}}")),
        ("flattened serialization", format!("{{\"protected\":\"{header}\",{flat}}}")),
        ("an unprotected header", format!("{{{flat},\"header\":{}}}", twin.header.text())),
        ("an unprotected header beside", format!("{{\"protected\":\"{header}\",{flat},\"header\":{{}}}}")),
        ("no signatures", format!("{{\"payload\":\"{payload}\",\"signatures\":[]}}")),
        ("a token response", format!("{{\"access_token\":\"{payload}\"}}")),
    ] {
        batch.text(name, &twin, hostile, Refusal::NotCompact);
    }
}

/// Characters that are not base64url, in each part.
fn alphabets(batch: &mut Batch) {
    let twin = Draft::v2();
    let text = twin.text();
    for (name, extra) in [
        ("=", "="),
        ("==", "=="),
        ("a blank", " "),
        ("a tab", "\t"),
        ("a newline", "\n"),
        ("CR LF", "\r\n"),
        ("NUL", "\0"),
        ("+", "+AAA"),
        ("/", "/AAA"),
        ("a quotation mark", "\""),
        ("a percent escape", "%41"),
        ("a zero-width space", "\u{200b}"),
        ("a full-width letter", "\u{ff21}"),
        ("a tilde", "~AAA"),
    ] {
        for (part, which) in ["header", "payload", "signature"].into_iter().enumerate() {
            let mut parts = twin.parts();
            parts[part].push_str(extra);
            batch.text(format!("{name} behind the {which}"), &twin, parts.join("."), Refusal::Base64);
        }
    }
    for (name, front) in [
        ("Bearer", "Bearer "),
        ("a blank", " "),
        ("a newline", "\n"),
        ("a byte order mark", "\u{feff}"),
        ("NUL", "\0"),
        ("a quotation mark", "\""),
        ("a data URL", "data:application/jwt,"),
    ] {
        batch.text(format!("{name} in front"), &twin, format!("{front}{text}"), Refusal::Base64);
    }
}

/// Base64url that decodes to the same bytes in a lenient reader; signed again where the text is signed.
fn spellings(batch: &mut Batch) {
    let twin = Draft::v2();
    for (part, which) in ["header", "payload", "signature"].into_iter().enumerate() {
        let mut whole = twin.parts();
        // 4n + 1 characters encode nothing.
        while !whole[part].len().is_multiple_of(4) {
            whole[part].pop();
        }
        whole[part].push('A');
        batch.text(format!("4n + 1 characters of {which}"), &twin, whole.join("."), Refusal::Base64);
    }
    // One byte more than a multiple of three: four bits of the last character are to be zero.
    let loose = |text: String| {
        let last = text.chars().last().expect("text");
        let at = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = at.chars().nth(at.find(last).expect("base64url") + 1).expect("a next one");
        text[..text.len() - 1].to_owned() + &next.to_string()
    };
    let fitting = |text: String| text.clone() + &" ".repeat((4 - text.len() % 3) % 3);
    let header = base64url(fitting(twin.header.text()));
    let payload = base64url(fitting(twin.claims.text()));
    let signer = &twin.signer;
    batch.text("loose bits in the header", &twin, signer.seal(&loose(header), &payload), Refusal::Base64);
    let header = base64url(twin.header.text());
    batch.text("loose bits in the payload", &twin, signer.seal(&header, &loose(payload)), Refusal::Base64);
    batch.text("loose bits in the signature", &twin, loose(twin.text()), Refusal::Base64);
    let padded = |text: String| text.clone() + &"=".repeat((4 - text.len() % 4) % 4);
    let blank = base64url(fitting(twin.claims.text()));
    batch.text("a padded payload, signed so", &twin, signer.seal(&header, &padded(blank)), Refusal::Base64);
    let blank = base64url(fitting(twin.header.text()));
    let payload = base64url(twin.claims.text());
    batch.text("a padded header, signed so", &twin, signer.seal(&padded(blank), &payload), Refusal::Base64);
    let standard = base64url(twin.clone().with("x", "\"\u{3ff}\u{3ff}\u{3ff}~~~???>>>\"").claims.text());
    let standard = standard.replace('-', "+").replace('_', "/");
    assert!(standard.contains(['+', '/']), "the text needs a character that the alphabets spell differently");
    batch.text("the standard alphabet, signed so", &twin, signer.seal(&header, &standard), Refusal::Base64);
}

fn signatures(batch: &mut Batch) {
    let twin = Draft::v2();
    let [header, payload, signature] = twin.parts();
    let good = twin.signer.sign(&format!("{header}.{payload}"));
    let flipped = |at: usize, bit: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= bit;
        bytes
    };
    let kit = kit();
    for (name, bytes) in [
        ("the first bit changed", flipped(0, 0x80)),
        ("a bit in the middle changed", flipped(128, 1)),
        ("the last bit changed", flipped(255, 1)),
        ("one byte short", good[..255].to_vec()),
        ("the first byte missing", good[1..].to_vec()),
        ("one byte more", [&good[..], &[0]].concat()),
        ("a zero in front", [&[0], &good[..]].concat()),
        ("all zeros", vec![0; 256]),
        ("the number one", [vec![0; 255], vec![1]].concat()),
        ("all ones", vec![0xff; 256]),
        ("the modulus", kit.primary.modulus()),
        ("one byte", vec![0]),
        ("twice", [&good[..], &good[..]].concat()),
        ("of the header alone", twin.signer.sign(&header)),
        ("of the payload alone", twin.signer.sign(&payload)),
        ("of payload and header", twin.signer.sign(&format!("{payload}.{header}"))),
        (
            "of the texts before base64url",
            twin.signer.sign(&(twin.header.text() + "." + &twin.claims.text())),
        ),
        ("of another token", Signer::Rs256(&kit.primary).sign(&Draft::v1().text())),
        ("with SHA-384", Signer::Rs384(&kit.primary).sign(&format!("{header}.{payload}"))),
        ("with SHA-512", Signer::Rs512(&kit.primary).sign(&format!("{header}.{payload}"))),
        ("with PSS", Signer::Ps256(&kit.primary).sign(&format!("{header}.{payload}"))),
        ("by a stranger", Signer::Rs256(&kit.stranger).sign(&format!("{header}.{payload}"))),
        ("by another key of the set", Signer::Rs256(&kit.exact).sign(&format!("{header}.{payload}"))),
    ] {
        let hostile = twin.clone().by(Signer::Bytes(bytes));
        batch.add(format!("a signature {name}"), &twin, &hostile, Refusal::Signature);
    }
    for (name, changed) in [
        ("another oid", twin.clone().with("oid", quoted(BOB))),
        ("a later exp", twin.clone().with("exp", crate::kit::now() + 9_000)),
        ("one more claim", twin.clone().with("x", 1)),
        ("one claim less", twin.clone().without("uti")),
        ("a header without typ", twin.clone().unhead("typ")),
        ("a header with one member more", twin.clone().head("x", 1)),
        ("the kid of another key of the set", twin.clone().head("kid", quoted(kit.exact.kid))),
    ] {
        let [header, payload, _] = changed.parts();
        let hostile = format!("{header}.{payload}.{signature}");
        batch.text(format!("{name} after signing"), &twin, hostile, Refusal::Signature);
    }
    let swapped = format!("{payload}.{header}.{signature}");
    // The payload has no alg where the header should have it.
    batch.text("header and payload exchanged", &twin, swapped, Refusal::Algorithm);
}

/// Members that make of a signed token something else: compressed, encrypted, nested, detached.
fn other_members(batch: &mut Batch) {
    let twin = Draft::v2();
    for (member, raw) in [
        ("zip", "\"DEF\""),
        ("zip", "null"),
        ("zip", "\"\""),
        ("enc", "\"A256GCM\""),
        ("enc", "null"),
        ("b64", "false"),
        ("b64", "true"),
        ("cty", "\"JWT\""),
        ("cty", "\"application/json\""),
        ("epk", "{\"kty\":\"EC\"}"),
        ("epk", "null"),
    ] {
        let hostile = twin.clone().head(member, raw);
        batch.add(format!("a header with {member} {raw}"), &twin, &hostile, Refusal::HeaderMember(member));
    }
    let [header, payload, _] = twin.clone().head("b64", "false").parts();
    let made = base64url(twin.signer.sign(&(header.clone() + "." + &twin.claims.text())));
    let hostile = format!("{header}.{payload}.{made}");
    batch.text("a payload signed as it is (b64 false)", &twin, hostile, Refusal::HeaderMember("b64"));
}
