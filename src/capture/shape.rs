//! JSON and answers with every value replaced by what kind of value it is.

use serde_json::{Map, Value, json};

use super::heard::Answer;
use super::keys::public_keys;
use super::scrub::Scrubber;

/// How deep a document is followed.
const MAX_DEPTH: usize = 16;
/// How many entries of a list are shown.
const MAX_ENTRIES: usize = 32;
/// Members whose whole content is the customer's own.
const NOT_LOOKED_AT: [&str; 8] = [
    "tags",
    "tagsList",
    "userData",
    "customData",
    "userAssignedIdentities",
    "publicKeys",
    "securityProfile",
    "osProfile",
];
/// Numbers that are codes of a public list.
const CODES: [&str; 4] = ["decisionReason", "timeToLiveInMs", "statusCode", "error_codes"];
/// Headers of which only the presence is told.
const PRESENT: [&str; 4] = [
    "retry-after",
    "x-ms-correlation-request-id",
    "x-ms-request-id",
    "x-ms-ratelimit-remaining-subscription-reads",
];

/// A document with kinds in place of values.
pub(super) fn of(scrub: &mut Scrubber, value: &Value) -> Value {
    walk(scrub, "", value, 0)
}

fn walk(scrub: &mut Scrubber, member: &str, value: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return json!("<deeper>");
    }
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) if member == "isDataAction" => value.clone(),
        Value::Bool(_) => json!("<bool>"),
        Value::Number(_) if CODES.contains(&member) => value.clone(),
        Value::Number(_) => json!("<number>"),
        Value::String(text) => Value::String(scrub.under(member, text)),
        Value::Array(entries) => {
            let mut out: Vec<Value> =
                entries.iter().take(MAX_ENTRIES).map(|entry| walk(scrub, member, entry, depth + 1)).collect();
            if entries.len() > MAX_ENTRIES {
                out.push(json!(format!("<and {} more>", entries.len() - MAX_ENTRIES)));
            }
            Value::Array(out)
        }
        Value::Object(members) => {
            let mut out = Map::new();
            for (name, value) in members {
                let kept = scrub.member(name);
                let shape = if NOT_LOOKED_AT.contains(&&**name) {
                    json!("<not looked at>")
                } else {
                    walk(scrub, name, value, depth + 1)
                };
                out.insert(kept, shape);
            }
            Value::Object(out)
        }
    }
}

/// An answer: status, a few headers, the body's shape.
pub(super) fn answer(scrub: &mut Scrubber, answer: &Answer) -> Value {
    let status = match answer {
        Answer::Reply { status, .. } => *status,
        Answer::None(why) => return json!({"no_answer": why}),
    };
    let mut headers = Map::new();
    if let Some(text) = answer.header("content-type") {
        let kept: Vec<String> = text.split([';', '=', '/']).map(|word| scrub.word(word.trim())).collect();
        let known = kept.iter().all(|word| !word.starts_with('<'));
        let text = if known { text.to_ascii_lowercase() } else { scrub.text(text) };
        headers.insert("content-type".to_owned(), Value::String(text));
    }
    if let Some(text) = answer.header("server") {
        let product = text.split('/').next().unwrap_or_default();
        headers.insert("server".to_owned(), Value::String(scrub.word(product)));
    }
    for name in PRESENT {
        if answer.header(name).is_some() {
            headers.insert(name.to_owned(), json!("<present>"));
        }
    }
    json!({"status": status, "headers": headers, "body": body(scrub, answer.body())})
}

/// The same, with the public keys that stand in it.
pub(super) fn key_answer(scrub: &mut Scrubber, given: &Answer) -> Value {
    let mut out = answer(scrub, given);
    if let (Answer::Reply { body, .. }, Some(out)) = (given, out.as_object_mut()) {
        out.insert("public_keys".to_owned(), Value::Array(public_keys(body)));
    }
    out
}

fn body(scrub: &mut Scrubber, bytes: &[u8]) -> Value {
    if let Ok(document) = serde_json::from_slice::<Value>(bytes) {
        return of(scrub, &document);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let looks = if text.is_empty() {
        "nothing"
    } else if text.starts_with('<') {
        "markup"
    } else if text.starts_with("-----BEGIN ") {
        "PEM"
    } else if text.lines().all(|line| line.starts_with('#') || line.is_empty() || line.contains(" AAAA")) {
        "OpenSSH public key lines"
    } else {
        "text"
    };
    json!({"not_json": looks, "bytes": bytes.len(), "lines": text.lines().count()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_form_and_loses_its_values() {
        let document = json!({"value": [{"accessDecision": "Allowed", "isDataAction": true, "ttl": 5,
            "timeToLiveInMs": 60000, "roleAssignment": {"principalId": "a11ce0000000400080000000000000ff"},
            "a11ce000-0000-4000-8000-0000000000ff": "x"}], "tags": {"payroll": "x"}, "nextLink": null});
        let shape = of(&mut Scrubber::default(), &document);
        assert_eq!(
            shape,
            json!({"value": [{"accessDecision": "Allowed", "isDataAction": true, "ttl": "<number>",
                "timeToLiveInMs": 60000, "roleAssignment": {"principalId": "<guid-1 undashed>"},
                "<guid-1>": "<text-1>"}], "tags": "<not looked at>", "nextLink": null})
        );
    }

    #[test]
    fn what_is_no_json_is_described() {
        let mut scrub = Scrubber::default();
        assert_eq!(body(&mut scrub, b"Not Found"), json!({"not_json": "text", "bytes": 9, "lines": 1}));
        assert_eq!(body(&mut scrub, b"<html>alice</html>")["not_json"], "markup");
        assert_eq!(body(&mut scrub, b"ssh-rsa AAAAB3 alice\n")["not_json"], "OpenSSH public key lines");
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(body(&mut scrub, deep.as_bytes()).to_string().contains("<deeper>"));
    }
}
