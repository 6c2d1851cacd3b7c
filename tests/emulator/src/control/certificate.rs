//! `POST /control/ssh-cert`: certificates no real service would issue, so that a story can make its own case.
//! It refuses only what cannot be written down at all.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::secrets::generate;
use super::{Answer, Wrong};
use crate::entra::ssh;
use crate::ids;
use crate::rsakey::Digest;
use crate::sshcert::{self, SubjectKey, Writer};
use crate::state::Emulated;

/// A certificate made to measure. Everything but `public_key` has the value the token endpoint would give.
#[derive(Debug, Deserialize)]
pub(super) struct CertificateOrder {
    #[serde(default)]
    user: Option<String>,
    /// Public key line of any type.
    public_key: String,
    #[serde(default)]
    valid_after: Option<u64>,
    #[serde(default)]
    valid_before: Option<u64>,
    #[serde(default)]
    principals: Option<Vec<String>>,
    #[serde(default)]
    critical: Map<String, Value>,
    /// Replaces all extensions.
    #[serde(default)]
    extensions: Option<Map<String, Value>>,
    /// Added to, or with `null` removed from, the extensions.
    #[serde(default)]
    extensions_patch: Map<String, Value>,
    /// `trusted` (default), `foreign`, or the kid of one of our CA keys.
    #[serde(default)]
    ca: Option<String>,
    #[serde(default)]
    key_id: Option<String>,
    #[serde(default)]
    serial: Option<u64>,
    /// `user` (default) or `host`.
    #[serde(default)]
    kind: Option<String>,
    /// `rsa-sha2-256` (default) or `rsa-sha2-512`.
    #[serde(default)]
    algorithm: Option<String>,
    /// Spoil the signature's last byte.
    #[serde(default)]
    tamper: bool,
}

// Text values are wrapped as SSH strings; "" and true are empty data; `{"hex": …}` is raw.
fn data(value: &Value) -> Result<Vec<u8>, Wrong> {
    match value {
        Value::Null | Value::Bool(_) => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => {
            let mut writer = Writer::default();
            writer.string(text.as_bytes());
            Ok(writer.into_bytes())
        }
        other => other
            .get("hex")
            .and_then(Value::as_str)
            .and_then(unhex)
            .ok_or_else(|| Wrong::bad("option data must be a text, true, or {\"hex\": \"…\"}")),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

pub(super) async fn issue(State(app): State<Emulated>, Json(order): Json<CertificateOrder>) -> Answer {
    let subject =
        SubjectKey::from_line(&order.public_key).ok_or_else(|| Wrong::bad("public_key is not a key line"))?;
    let mut world = app.world();
    let user = order.user.as_deref().unwrap_or(crate::world::ALICE.upn);
    let who = world.directory.find(user).cloned();
    let who = who.ok_or_else(|| Wrong::missing(&format!("principal {user}")))?;
    let ca = match order.ca.as_deref() {
        None | Some("trusted") => world.ssh_ca().ok_or_else(|| Wrong::missing("SSH CA"))?,
        Some("foreign") => match &world.foreign_ca {
            Some(key) => key.clone(),
            None => {
                let key = generate()?;
                world.foreign_ca = Some(key.clone());
                key
            }
        },
        Some(kid) => {
            let ca = world.ssh_cas.iter().find(|ca| ca.key.kid() == kid);
            ca.ok_or_else(|| Wrong::missing(&format!("SSH CA {kid}")))?.key.clone()
        }
    };
    let mut contents = ssh::contents(&world, &who);
    contents.valid_after = order.valid_after.unwrap_or(contents.valid_after);
    contents.valid_before = order.valid_before.unwrap_or(contents.valid_before);
    contents.principals = order.principals.unwrap_or(contents.principals);
    contents.key_id = order.key_id.unwrap_or(contents.key_id);
    contents.serial = order.serial.unwrap_or(contents.serial);
    contents.kind = if order.kind.as_deref() == Some("host") { 2 } else { 1 };
    for (name, value) in &order.critical {
        contents.critical.push((name.clone(), data(value)?));
    }
    if let Some(extensions) = &order.extensions {
        contents.extensions.clear();
        for (name, value) in extensions {
            contents.extensions.push((name.clone(), data(value)?));
        }
    }
    for (name, value) in &order.extensions_patch {
        contents.extensions.retain(|(have, _)| have != name);
        if !value.is_null() {
            contents.extensions.push((name.clone(), data(value)?));
        }
    }
    let digest = match order.algorithm.as_deref() {
        None | Some("rsa-sha2-256") => Digest::Sha256,
        Some("rsa-sha2-512") => Digest::Sha512,
        Some(other) => return Err(Wrong::bad(format!("algorithm {other} cannot be made here"))),
    };
    let mut blob = sshcert::issue(&subject, &contents, &ca, digest);
    if let (true, Some(last)) = (order.tamper, blob.last_mut()) {
        *last ^= 1;
    }
    let text = ids::base64(&blob);
    Ok(Json(json!({
        "certificate": format!("{} {text}", subject.certificate_kind()),
        "access_token": text,
        "key_id": contents.key_id,
        "principals": contents.principals,
        "valid_after": contents.valid_after,
        "valid_before": contents.valid_before,
        "ca_public_key": sshcert::public_line(&ca, "ca"),
    })))
}
