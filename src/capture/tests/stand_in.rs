//! From a placeholder back to a text of that kind: what a real service could have sent.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey, line};
use serde_json::{Map, Value};

/// A document in which every placeholder has become a value of its kind.
pub(super) fn document(shape: &Value) -> Value {
    match shape {
        Value::String(kind) if kind == "<number>" => 3600.into(),
        Value::String(kind) if kind == "<bool>" => true.into(),
        Value::String(kind) => Value::String(text(kind)),
        Value::Array(entries) => Value::Array(entries.iter().map(document).collect()),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (text(name), document(value)));
            Value::Object(members.collect::<Map<String, Value>>())
        }
        other => other.clone(),
    }
}

/// A text with every placeholder in it replaced.
pub(super) fn text(kind: &str) -> String {
    let mut out = String::new();
    let mut rest = kind;
    while let Some((before, after)) = rest.split_once('<') {
        let (name, after) = after.split_once('>').expect("a placeholder ends");
        out.push_str(before);
        out.push_str(&one(name));
        rest = after;
    }
    out + rest
}

fn one(name: &str) -> String {
    let (kind, more) = name.split_once(' ').unwrap_or((name, ""));
    let number = kind.rsplit_once('-').and_then(|(_, n)| n.parse::<u32>().ok()).unwrap_or(0);
    let guid = format!("00000000-0000-4000-8000-0000000000{number:02x}");
    match kind {
        _ if kind.starts_with("guid-") && more == "undashed" => guid.replace('-', ""),
        _ if kind.starts_with("guid-") => guid,
        _ if kind.starts_with("address-") => format!("person{number}@contoso.com"),
        _ if kind.starts_with("guest-address-") => format!("p{number}_x.com#EXT#@contoso.onmicrosoft.com"),
        _ if kind.starts_with("url-") => format!("https://host{number}.example/"),
        _ if kind.starts_with("ip-") => format!("192.0.2.{number}"),
        "digits" => "3600".to_owned(),
        "jwt" => "eyJh.eyJi.c2ln".to_owned(),
        "base64url" | "base64" | "hex" => encoded(kind, more),
        "ssh" => line(&TestKey::ed25519([9; 32]).blob()),
        "sentence:" => more.to_owned(),
        _ => format!("{}{number}", kind.split('-').next().unwrap()),
    }
}

/// As many characters, of the same alphabet; an odd number with its highest bit set, as a modulus is.
fn encoded(kind: &str, more: &str) -> String {
    let chars: usize = more.split(' ').find_map(|word| word.parse().ok()).unwrap();
    if kind == "hex" {
        return "c5".repeat(chars / 2);
    }
    let bytes = chars * 3 / 4 - usize::from(more.ends_with("padded"));
    let bytes = vec![0xc5_u8; bytes];
    let text = if kind == "base64url" { URL_SAFE.encode(bytes) } else { STANDARD.encode(bytes) };
    if more.ends_with("padded") { text } else { text.trim_end_matches('=').to_owned() }
}

/// A certificate with the recorded extensions, principals and life, signed by `ca`.
pub(super) fn certificate(recorded: &Value, ca: &TestKey) -> Vec<u8> {
    let texts = |at: &str| {
        recorded[at].as_array().unwrap().iter().map(|v| text(v.as_str().unwrap())).collect::<Vec<_>>()
    };
    let life = recorded["lifetime_s"].as_u64().unwrap();
    let mut builder = CertificateBuilder::new(&TestKey::ed25519([2; 32]))
        .principals(texts("principals"))
        .valid(1_800_000_000, 1_800_000_000 + life);
    builder.key_id = text(recorded["key_id"].as_str().unwrap()).into_bytes();
    for extension in recorded["extensions"].as_array().unwrap() {
        let name = extension["name"].as_str().unwrap();
        let value = text(extension["value"].as_str().unwrap_or_default());
        builder = match extension["form"].as_str().unwrap() {
            "empty" => builder.extension(name, ""),
            "nested string" => builder.text_extension(name, value),
            "raw text" => builder.extension(name, value),
            "raw bytes" => builder.extension(name, [0xc5_u8; 16]),
            other => panic!("unknown form {other}"),
        };
    }
    builder.sign(ca)
}
