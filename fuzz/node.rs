//! What the node is told about itself: azure.json, the metadata services, the keys they publish.

use std::path::Path;

use nightlatch::imds::{AzureJson, AzureJsonError, Instance, MAX_CA_KEYS, MAX_TOKEN_LIFE, TokenAnswer};
use nightlatch::imds::{challenge_file, parse_ca_keys};
use nightlatch_model::Timestamp;
use nightlatch_sshcert::{CertError, KeyType, PublicKey};
use serde_json::Value;

const NOW: Timestamp = Timestamp(1_800_000_000);
const AUDIENCE: &str = "https://authorization.azure.net";
const TOKENS: &str = "/var/opt/azcmagent/tokens";
/// The longest complaint that an answer of a stranger may cause, in bytes.
const MAX_WORDS: usize = 400;

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Any bytes as azure.json: what is understood is what a plain JSON reader sees, nothing known is
/// empty, and a complaint names a place in the file and never a value.
pub fn azure_json(data: &[u8]) {
    let value = serde_json::from_slice::<Value>(data).ok();
    match AzureJson::parse(data, "azure.json") {
        Ok(json) => {
            // What the parser passes over may be no JSON to a reader who keeps all of it (a number beyond
            // all bounds, half a surrogate pair), and a derived reader takes a list for an object as well.
            let Some(value) = value.filter(Value::is_object) else { return };
            assert_eq!(text(&value, "tenantId").and_then(|id| id.parse().ok()), Some(json.tenant));
            assert_eq!(text(&value, "subscriptionId").and_then(|id| id.parse().ok()), json.subscription);
            assert_eq!(text(&value, "resourceGroup"), json.resource_group.as_deref());
            assert_eq!(text(&value, "location"), json.location.as_deref());
            assert_eq!(text(&value, "vmType"), json.vm_type.as_deref());
            let identity = text(&value, "userAssignedIdentityID").and_then(|id| id.parse().ok());
            assert_eq!(identity, json.kubelet_identity);
            let named = text(&value, "cloud").is_some();
            assert!(named || json.cloud.name() == "AzureCloud", "a silent file means the public cloud");
        }
        Err(AzureJsonError::NotUnderstood { path, detail }) => {
            let place = detail.strip_prefix("line ").and_then(|rest| rest.split_once(", column "));
            let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            assert!(path == "azure.json" && place.is_some_and(|(l, c)| number(l) && number(c)), "{detail}");
        }
        Err(AzureJsonError::Cloud(_)) => {
            assert!(value.is_none_or(|value| value.is_array() || text(&value, "cloud").is_some()));
        }
        Err(other) => panic!("nothing was read, and yet: {other}"),
    }
}

/// Any bytes as a document of CA keys: between one and the most entries, each of them a key or named, in their order, each key
/// of the type that it says. A key that sshd's own form takes is strong enough and keeps its bytes; one that came as
/// numbers is always taken, unless its numbers are no RSA key.
pub fn ca_keys(data: &[u8]) {
    let found = match parse_ca_keys(data) {
        Ok(found) => found,
        Err(words) => {
            assert!(words.len() <= MAX_WORDS, "{} bytes of complaint", words.len());
            return;
        }
    };
    let keys = &found.keys;
    assert!(!keys.is_empty() && keys.len() + found.left_out.len() <= MAX_CA_KEYS);
    assert!(found.left_out.iter().all(|words| words.len() <= MAX_WORDS));
    let document = str::from_utf8(data).ok().and_then(|text| serde_json::from_str::<Value>(text.trim()).ok());
    let entries = document.as_ref().and_then(|value| value.get("keys").unwrap_or(value).as_array());
    assert!(entries.is_none_or(|entries| entries.len() == keys.len() + found.left_out.len()));
    for (at, key) in keys.iter().enumerate() {
        assert!(KeyType::ALL.iter().any(|known| known.name() == key.key_type), "{key:?}");
        assert!(!key.base64.contains(|c: char| c.is_whitespace() || c.is_control()), "one word");
        let entry = entries.filter(|_| found.left_out.is_empty()).and_then(|entries| entries.get(at));
        match PublicKey::from_openssh_line(&format!("{} {}", key.key_type, key.base64)) {
            Ok(usable) => {
                assert_eq!(usable.key_type().name(), key.key_type);
                assert_eq!(usable.to_base64(), key.base64, "a key has one spelling");
                assert!(usable.key_type() != KeyType::Rsa || (2048..=8192).contains(&usable.bits()));
                assert_eq!(PublicKey::parse(usable.blob()).as_ref(), Ok(&usable));
            }
            Err(cause) => {
                let numbers = entry.is_some_and(Value::is_object);
                assert!(!numbers || cause == CertError::RsaNumbers, "{cause}: {key:?}");
            }
        }
    }
}

/// Any bytes as what IMDS or himds answers: the instance, the token, and the header that asks for proof.
pub fn imds_answers(data: &[u8]) {
    let value = serde_json::from_slice::<Value>(data).ok().filter(Value::is_object);
    if let Ok(instance) = serde_json::from_slice::<Instance>(data).map(Instance::without_empty)
        && let Some(value) = &value
    {
        assert_eq!(instance.resource_id.as_deref(), text(value, "resourceId"));
        assert_eq!(instance.subscription_id.as_deref(), text(value, "subscriptionId"));
        assert_eq!(instance.resource_group_name.as_deref(), text(value, "resourceGroupName"));
        assert_eq!(instance.location.as_deref(), text(value, "location"));
        assert_eq!(instance.az_environment.as_deref(), text(value, "azEnvironment"));
        let tags = value.get("tagsList").and_then(Value::as_array);
        assert!(instance.tags().len() <= tags.map_or(0, Vec::len));
    }
    if let Ok(answer) = serde_json::from_slice::<TokenAnswer>(data) {
        let said = value.as_ref().and_then(|value| text(value, "access_token"));
        match answer.into_token(AUDIENCE, NOW) {
            Ok(token) => {
                let life = token.expires().since(NOW);
                assert!(0 < life && life <= MAX_TOKEN_LIFE, "{life} s");
                let secret = token.secret().expose();
                assert!(!secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic()));
                let for_us = |value: &Value| text(value, "resource").is_none_or(|r| r.contains(AUDIENCE));
                assert!(value.as_ref().is_none_or(|v| for_us(v) && said == Some(secret)));
            }
            Err(words) => {
                assert!(words.len() <= MAX_WORDS);
                assert!(said.is_none_or(|token| token.len() < 40 || !words.contains(token)), "{words}");
            }
        }
    }
    if let Ok(header) = str::from_utf8(data)
        && let Ok(file) = challenge_file(Some(header), Path::new(TOKENS))
    {
        assert_eq!(file.parent(), Some(Path::new(TOKENS)), "directly in the agent's folder");
        let name = file.file_name().and_then(|name| name.to_str()).expect("it has a name");
        assert!(name.ends_with(".key") && !name.contains(['/', '\0']) && name != ".key");
        assert_eq!(format!("Basic realm={TOKENS}/{name}"), header.trim());
    }
}
