//! The public keys that stand anywhere in an answer, whatever its schema: type, size, fingerprint.
//! Found by what they are, not by where they stand, so that an unknown schema hides none.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nightlatch_sshcert::PublicKey;
use serde_json::{Value, json};

/// The most keys that are told.
const MAX_KEYS: usize = 64;

/// The keys in a body.
pub(super) fn public_keys(body: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    match serde_json::from_slice::<Value>(body) {
        Ok(document) => search(&document, &mut found),
        Err(_) => {
            for line in String::from_utf8_lossy(body).lines() {
                found.extend(PublicKey::from_openssh_line(line.trim()).ok());
            }
        }
    }
    found.truncate(MAX_KEYS);
    found.iter().map(shown).collect()
}

/// Type, size, fingerprint.
pub(super) fn shown(key: &PublicKey) -> Value {
    json!({"type": key.key_type().name(), "bits": key.bits(), "fingerprint": key.fingerprint()})
}

fn search(value: &Value, found: &mut Vec<PublicKey>) {
    match value {
        Value::Object(members) => {
            let number = |name: &str| {
                let text = members.get(name)?.as_str()?;
                let plain = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
                URL_SAFE_NO_PAD.decode(plain).ok()
            };
            for (n, e) in [("n", "e"), ("modulus", "exponent"), ("Modulus", "Exponent")] {
                if let (Some(n), Some(e)) = (number(n), number(e)) {
                    found.extend(PublicKey::rsa_from_n_e(&n, &e).ok());
                }
            }
            members.values().for_each(|value| search(value, found));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| search(entry, found)),
        Value::String(text) => {
            let text = text.trim();
            let line = PublicKey::from_openssh_line(text);
            let key = line.ok().or_else(|| PublicKey::parse(&STANDARD.decode(text).ok()?).ok());
            found.extend(key);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_sshcert::testing::{TestKey, line};

    #[test]
    fn keys_are_found_in_any_schema() {
        let key = line(&TestKey::ed25519([7; 32]).blob());
        let blob = key.split(' ').nth(1).unwrap();
        let n = URL_SAFE_NO_PAD.encode([0xc5_u8; 256]);
        let all = json!({"value": [{"kid": "x", "n": n, "e": "AQAB"}, {"publicKey": key}, [blob]], "y": 1});
        let found = public_keys(all.to_string().as_bytes());
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!((&found[0]["type"], &found[0]["bits"]), (&json!("ssh-rsa"), &json!(2048)));
        assert_eq!(found[1], found[2]);
        assert_eq!(public_keys(format!("# c\n{key}\n").as_bytes()).len(), 1);
        assert!(public_keys(b"Not Found").is_empty());
    }
}
