//! What IMDS and the Arc agent (himds) answer: the instance, the authorities' keys, a token.
//!
//! Every question is asked twice: once for the raw answer, whose form is told, and once through the
//! product's own reader, so that the recording says whether it would have worked. A token is read
//! only to learn that it is one.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nightlatch_model::{Guid, Timestamp};
use serde_json::{Value, json};

use super::heard::{Answer, ask, reader_word};
use super::scrub::Scrubber;
use super::shape;
use crate::entra::http::{Http, HttpError, Request, with_query};
use crate::imds::{HIMDS_BASE, HIMDS_TOKENS, Himds, IMDS_BASE, Imds, Instance};

/// The version of IMDS' instance document; the same as the product asks for.
const IMDS_INSTANCE: &str = "2021-02-01";
/// The version of IMDS' token endpoint.
const IMDS_TOKEN: &str = "2018-02-01";
/// The version of himds' instance document and token endpoint.
const HIMDS_VERSION: &str = "2020-06-01";
/// The one version of the keys' document seen in public logs.
const CA_KEYS: &str = "2019-03-11";
/// How long the first question may take: on a machine without the service nothing answers at all.
const PRESENCE_LIMIT: Duration = Duration::from_secs(5);

/// For whom tokens are asked.
pub(super) struct Audiences {
    /// The policy decision point's.
    pub(super) pdp: String,
    /// Azure Resource Manager's.
    pub(super) arm: String,
    /// Which of several identities, on an Azure VM.
    pub(super) client_id: Option<Guid>,
}

/// What one service answered.
pub(super) struct Metadata {
    is_himds: bool,
    instance: Answer,
    ca_keys: Option<(Answer, &'static str)>,
    tokens: Vec<(&'static str, Answer, &'static str)>,
    /// The instance as the product reads it.
    pub(super) parsed: Option<Instance>,
}

fn request(url: &str, fields: &[(&str, &str)]) -> Request {
    Request::get(with_query(url, fields)).header("metadata", "true")
}

impl Metadata {
    /// Asks IMDS who this machine is.
    pub(super) async fn of_imds() -> Result<Self, HttpError> {
        let url = format!("{IMDS_BASE}/metadata/instance/compute");
        let instance = ask(&Http::node()?, request(&url, &[("api-version", IMDS_INSTANCE)])).await;
        let parsed = match instance {
            Answer::Reply { .. } => Imds::new()?.instance().await.ok(),
            Answer::None(_) => None,
        };
        Ok(Self { is_himds: false, instance, ca_keys: None, tokens: Vec::new(), parsed })
    }

    /// Asks himds who this machine is.
    pub(super) async fn of_himds() -> Result<Self, HttpError> {
        let url = format!("{HIMDS_BASE}/metadata/instance");
        let http = Http::node()?;
        let question = ask(&http, request(&url, &[("api-version", HIMDS_VERSION)]));
        let instance =
            tokio::time::timeout(PRESENCE_LIMIT, question).await.unwrap_or(Answer::None("no answer in time"));
        let parsed = match instance {
            Answer::Reply { .. } => Himds::new()?.instance().await.ok(),
            Answer::None(_) => None,
        };
        Ok(Self { is_himds: true, instance, ca_keys: None, tokens: Vec::new(), parsed })
    }

    /// Whether anything answers there.
    pub(super) const fn answers(&self) -> bool {
        matches!(self.instance, Answer::Reply { .. })
    }

    /// Asks for keys and tokens, where something answers.
    pub(super) async fn go_on(&mut self, audiences: &Audiences, now: Timestamp) -> Result<(), HttpError> {
        if !self.answers() {
            return Ok(());
        }
        let http = Http::node()?;
        let base = if self.is_himds { HIMDS_BASE } else { IMDS_BASE };
        let keys =
            ask(&http, request(&format!("{base}/metadata/login/ca_keys"), &[("api-version", CA_KEYS)])).await;
        let read = if self.is_himds {
            reader_word(&Himds::new()?.ca_keys().await)
        } else {
            reader_word(&Imds::new()?.ca_keys().await)
        };
        self.ca_keys = Some((keys, read));
        let client_id = audiences.client_id.map(|id| id.to_string());
        for (name, audience) in [("pdp", &audiences.pdp), ("arm", &audiences.arm)] {
            let version = if self.is_himds { HIMDS_VERSION } else { IMDS_TOKEN };
            let mut fields = vec![("api-version", version), ("resource", audience.as_str())];
            if let (Some(id), false) = (&client_id, self.is_himds) {
                fields.push(("client_id", id));
            }
            let raw = ask(&http, request(&format!("{base}/metadata/identity/oauth2/token"), &fields)).await;
            let read = if self.is_himds {
                reader_word(&Himds::new()?.identity_token(audience, now).await)
            } else {
                reader_word(&Imds::new()?.identity_token(audience, audiences.client_id, now).await)
            };
            self.tokens.push((name, raw, read));
        }
        Ok(())
    }

    /// Texts of the instance that name the customer's things.
    pub(super) fn guard(&self, scrub: &mut Scrubber) {
        let document = serde_json::from_slice(self.instance.body()).unwrap_or(Value::Null);
        guard_names(scrub, "", &document);
    }

    /// Tokens that came, to be searched for at the end.
    pub(super) fn secrets(&self) -> impl Iterator<Item = String> {
        self.tokens.iter().filter_map(|(_, raw, _)| {
            let body: Value = serde_json::from_slice(raw.body()).ok()?;
            Some(body.get("access_token")?.as_str()?.to_owned())
        })
    }

    /// The keys' body.
    pub(super) fn keys_body(&self) -> &[u8] {
        self.ca_keys.as_ref().map_or(&[], |(answer, _)| answer.body())
    }

    /// The form in which it is told.
    pub(super) fn shape(&self, scrub: &mut Scrubber) -> Value {
        if !self.answers() {
            return shape::answer(scrub, &self.instance);
        }
        let mut instance = shape::answer(scrub, &self.instance);
        add(
            &mut instance,
            "reader",
            json!(if self.parsed.is_some() { "accepts" } else { "does not understand" }),
        );
        let mut out = json!({"instance": instance});
        if let Some((answer, read)) = &self.ca_keys {
            let mut keys = shape::key_answer(scrub, answer);
            add(&mut keys, "reader", json!(read));
            add(&mut out, "ca_keys", keys);
        }
        for (name, raw, read) in &self.tokens {
            let mut token = shape::answer(scrub, raw);
            add(&mut token, "reader", json!(read));
            if self.is_himds {
                add(&mut token, "challenge", challenge(raw.header("www-authenticate")));
            }
            add(&mut out, &format!("token_for_{name}"), token);
        }
        out
    }
}

/// Adds a member to an object.
pub(super) fn add(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// The rule of the challenge's file: where it is said to be, and what is there. It is not opened.
fn challenge(header: Option<&str>) -> Value {
    let Some(header) = header else { return Value::Null };
    let Some(named) = header.trim().strip_prefix("Basic realm=") else { return json!("another scheme") };
    let path = Path::new(named.trim_matches('"'));
    let file = std::fs::symlink_metadata(path).ok().map(|meta| {
        json!({"plain_file": meta.is_file(), "bytes": meta.len(), "mode": format!("{:o}", meta.mode() & 0o7777),
            "owner_is_root": meta.uid() == 0, "group_is_root": meta.gid() == 0})
    });
    json!({
        "scheme": "Basic realm=",
        "quoted": named.starts_with('"'),
        "in_the_agents_folder": path.parent() == Some(Path::new(HIMDS_TOKENS)),
        "ends_with_key": path.extension().is_some_and(|end| end == "key"),
        "file": file,
    })
}

fn guard_names(scrub: &mut Scrubber, member: &str, value: &Value) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| guard_names(scrub, name, value)),
        Value::Array(entries) => entries.iter().for_each(|entry| guard_names(scrub, member, entry)),
        Value::String(text) => {
            let member = member.to_ascii_lowercase();
            let names = ["name", "username", "value", "fqdn"].iter().any(|end| member.ends_with(end));
            if names || member == "tags" {
                scrub.guard(text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
impl Metadata {
    /// Prepared answers.
    pub(super) fn prepared(
        instance: Answer,
        keys: (Answer, &'static str),
        token: (Answer, &'static str),
    ) -> Self {
        let tokens = vec![("pdp", token.0, token.1)];
        Self { is_himds: false, instance, ca_keys: Some(keys), tokens, parsed: Some(Instance::default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_the_challenge_is_told_and_its_file_is_not_named() {
        let inside = challenge(Some("Basic realm=/var/opt/azcmagent/tokens/0b1c-nowhere.key"));
        assert_eq!(inside["in_the_agents_folder"], true);
        assert_eq!(inside["ends_with_key"], true);
        assert_eq!(inside["file"], Value::Null);
        let outside = challenge(Some("Basic realm=\"/etc/passwd\""));
        assert_eq!((&outside["in_the_agents_folder"], &outside["quoted"]), (&json!(false), &json!(true)));
        assert_eq!(outside["file"]["owner_is_root"], true);
        assert!(!inside.to_string().contains("nowhere") && !outside.to_string().contains("passwd"));
        assert_eq!(challenge(Some("Bearer x")), json!("another scheme"));
        assert_eq!(challenge(None), Value::Null);
    }
}
