//! Replays every recording in `tests/recordings`: documents of the recorded forms go through the
//! product's own readers, which must make of them what they made of the real ones.

use std::path::PathBuf;
use std::time::Duration;

use nightlatch_model::{ObjectId, TenantId, Timestamp};
use nightlatch_policy::{ActionSet, Scope, ScopeKind};
use nightlatch_sshcert::testing::TestKey;
use nightlatch_sshcert::{Certificate, PublicKey};
use serde_json::{Value, json};

use super::super::heard::reader_word;
use super::super::roles::role_word;
use super::super::{FORMAT, Finding, Verdict, findings};
use super::stand_in;
use crate::azure::{Ask, Caller, CheckAccess, Pdp, Purpose, RoleQuestion, RoleSource};
use crate::entra::http::{Http, ProxyRule};
use crate::entra::node_identity::{NodeIdentity, TokenSource};
use crate::entra::tiny_server::{Answer, Server};
use crate::imds::Imds;

const NOW: Timestamp = Timestamp(1_800_000_000);

fn recordings() -> Vec<(String, Value)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings"));
    let mut found: Vec<(String, Value)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            (path.display().to_string(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty());
    found
}

/// The recording of the emulated AKS node.
fn aks() -> Value {
    let mut all = recordings().into_iter();
    all.find(|(name, _)| name.ends_with("emulated-aks.json")).unwrap().1
}

fn of<'a>(all: &'a [Finding], about: &str) -> &'a Finding {
    all.iter()
        .find(|finding| finding.about == about)
        .unwrap_or_else(|| panic!("nothing about {about} in {all:#?}"))
}

fn service(recording: &Value) -> Option<&Value> {
    ["himds", "imds"]
        .into_iter()
        .map(|name| &recording[name])
        .find(|service| service.get("instance").is_some())
}

/// What today's reader makes of a document of this form.
async fn ca_keys_reader(answer: &Value) -> &'static str {
    let body = if answer["body"].get("not_json").is_some() {
        "text".to_owned()
    } else {
        stand_in::document(&answer["body"]).to_string()
    };
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    let server = Server::start(vec![Answer::new(status, &body)]).await;
    let keys = Imds::at(&server.url("")).unwrap().ca_keys().await;
    for key in keys.iter().flat_map(|found| &found.keys) {
        PublicKey::from_openssh_line(&format!("{} {}", key.key_type, key.base64))
            .expect("a key that can be used");
    }
    reader_word(&keys)
}

async fn role_reader(answer: &Value, pdp: bool) -> &'static str {
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    let body = stand_in::document(&answer["body"]).to_string();
    let server = Server::start(vec![Answer::new(status, &body)]).await;
    let tokens = Server::start(vec![Answer::new(200, r#"{"access_token":"t","expires_in":3600}"#)]).await;
    let imds = Imds::at(&tokens.url("")).unwrap();
    let identity = NodeIdentity::new(vec![TokenSource::Imds { imds, client_id: None }]);
    let caller =
        Caller::new(Http::internet(ProxyRule::Direct).unwrap(), identity, "https://authorization.azure.net");
    let source = if pdp {
        RoleSource::Pdp(Pdp::new(caller, &server.url("")))
    } else {
        RoleSource::CheckAccess(CheckAccess::new(caller, &server.url("")))
    };
    let scope = Scope::parse(&stand_in::text(answer["asked_at"].as_str().unwrap())).unwrap();
    let arc = answer["asked_at"].as_str().unwrap().contains("HybridCompute");
    let question = RoleQuestion {
        tenant: TenantId(stand_in::text("<guid-1>").parse().unwrap()),
        oid: ObjectId(stand_in::text("<guid-1>").parse().unwrap()),
        scopes: vec![(ScopeKind::Node, scope)],
        actions: if arc { ActionSet::arc() } else { ActionSet::azure() },
    };
    let found = source.roles(&question, &Ask::new(Purpose::NewLogin, NOW, Duration::from_secs(5))).await;
    role_word(&found.answer, status < 300)
}

/// Whether a certificate with these extensions gives the ids under the configured names.
fn ids(recorded: &Value, oid: &str, tid: &str) -> (bool, bool) {
    let certificate =
        Certificate::parse(&stand_in::certificate(recorded, &TestKey::ed25519([1; 32]))).unwrap();
    let guid = |name: &str| {
        certificate.extension_text(name).ok().flatten().is_some_and(|text| text.parse::<ObjectId>().is_ok())
    };
    (guid(oid), guid(tid))
}

#[tokio::test]
async fn every_recording_is_read_as_the_real_answers_were() {
    for (name, recording) in recordings() {
        assert_eq!(recording["format"], FORMAT, "{name}");
        let found = findings(&recording);
        if let Some(service) = service(&recording) {
            let reader = ca_keys_reader(&service["ca_keys"]).await;
            assert_eq!(service["ca_keys"]["reader"], reader, "{name}");
            assert_eq!(of(&found, "trust.ca").verdict == Verdict::Holds, reader == "accepts", "{name}");
        }
        for (at, pdp) in [("pdp", true), ("checkaccess", false)] {
            if recording[at].get("status").is_some() {
                assert_eq!(recording[at]["reader"], role_reader(&recording[at], pdp).await, "{name} {at}");
            }
        }
        if recording["certificate"]["reader"] == "accepts" {
            let assumed = |key: &str| recording["assumed"][key].as_str().unwrap().to_owned();
            let (oid, tid) =
                ids(&recording["certificate"], &assumed("oid_extension"), &assumed("tid_extension"));
            assert_eq!(of(&found, "identity.oid_extension").verdict == Verdict::Holds, oid, "{name}");
            assert_eq!(of(&found, "identity.tid_extension").verdict == Verdict::Holds, tid, "{name}");
        }
    }
}

#[tokio::test]
async fn keys_in_another_schema_are_refused_and_the_finding_says_where_they_are() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 4] = [
        (|keys| *keys = json!({"value": keys["keys"]}), "stand under `value`"),
        (|keys| *keys = json!({"keys": {"a": keys["keys"][0]}}), "are in no list"),
        (
            |keys| keys["keys"][0] = json!({"publicKey": "<base64url 342 chars>", "id": "<guid-1>"}),
            "id, publicKey",
        ),
        (|keys| *keys = json!({"not_json": "PEM", "bytes": 800, "lines": 12}), "come as PEM"),
    ];
    for (change, said) in cases {
        let mut recording = aks();
        let answer = &mut recording["imds"]["ca_keys"];
        change(&mut answer["body"]);
        let reader = ca_keys_reader(answer).await;
        assert_eq!(reader, "does not understand", "{answer}");
        answer["reader"] = json!(reader);
        let found = findings(&recording);
        let finding = of(&found, "trust.ca");
        assert_eq!(finding.verdict, Verdict::Unsupported);
        assert!(finding.text.contains(said) && finding.text.contains("trust.ca = [\"file\"]"), "{finding:?}");
    }
}

#[test]
fn an_extension_of_another_name_is_found_and_its_key_named() {
    let mut recording = aks();
    let rename = |recording: &mut Value, from: &str, to: &str| {
        for extension in recording["certificate"]["extensions"].as_array_mut().unwrap() {
            if extension["name"] == from {
                extension["name"] = json!(to);
            }
        }
    };
    rename(&mut recording, "oid@entra.microsoft.com", "objectid@sshca.microsoft.com");
    rename(&mut recording, "tid@entra.microsoft.com", "tenant@sshca.microsoft.com");
    let found = findings(&recording);
    let line = |about: &str| (of(&found, about).verdict, of(&found, about).line.clone().unwrap());
    assert_eq!(
        line("identity.oid_extension"),
        (Verdict::Set, "oid_extension = \"objectid@sshca.microsoft.com\"".into())
    );
    assert_eq!(
        line("identity.tid_extension"),
        (Verdict::Set, "tid_extension = \"tenant@sshca.microsoft.com\"".into())
    );
    // The lines are configuration, and with them the ids are read.
    for about in ["identity.oid_extension", "identity.tid_extension"] {
        toml::from_str::<crate::config::Config>(&format!("[identity]\n{}\n", line(about).1)).unwrap();
    }
    let cert = &recording["certificate"];
    assert_eq!(ids(cert, "objectid@sshca.microsoft.com", "tenant@sshca.microsoft.com"), (true, true));
    assert_eq!(ids(cert, "oid@entra.microsoft.com", "tid@entra.microsoft.com"), (false, false));
}

#[test]
fn ids_in_another_form_are_not_supported_and_no_ids_want_a_table() {
    for (form, value) in [("raw text", "<guid-1>"), ("raw bytes", "<16 bytes>")] {
        let mut recording = aks();
        for extension in recording["certificate"]["extensions"].as_array_mut().unwrap() {
            if extension["name"] == "oid@entra.microsoft.com" {
                extension["form"] = json!(form);
                extension["value"] = json!(value);
            }
        }
        let found = findings(&recording);
        let finding = of(&found, "identity.oid_extension");
        assert_eq!(finding.verdict, Verdict::Unsupported, "{form}");
        assert!(finding.text.contains("not as a nested string"), "{finding:?}");
        assert!(!ids(&recording["certificate"], "oid@entra.microsoft.com", "").0, "{form}");
    }
    let mut recording = aks();
    recording["certificate"]["extensions"] = json!([{"name": "permit-pty", "form": "empty"}]);
    let found = findings(&recording);
    assert_eq!(of(&found, "identity.map_file").verdict, Verdict::Set);
    assert!(found.iter().any(|f| f.about == "trust.ca" && f.verdict == Verdict::Set), "{found:#?}");
}

#[tokio::test]
async fn refusals_of_the_nodes_own_calls_are_named() {
    let mut recording = aks();
    let refused = json!({"statusCode": 403, "message": "<sentence: Caller does not have RBAC permission>"});
    recording["pdp"]["status"] = json!(403);
    recording["pdp"]["body"] = refused;
    let reader = role_reader(&recording["pdp"], true).await;
    assert_eq!(reader, "this node may not ask");
    recording["pdp"]["reader"] = json!(reader);
    recording["pdp"]["body"]["value"] = json!([]);
    recording["imds"]["token_for_pdp"]["reader"] = json!("several identities");
    let found = findings(&recording);
    let grant = of(&found, "login.roles_from = \"pdp\"");
    assert!(grant.line.as_ref().unwrap().contains("CheckAccess Reader"), "{grant:?}");
    assert_eq!(of(&found, "node.client_id").verdict, Verdict::Set);

    let mut other = aks();
    let decisions = other["pdp"]["body"]["value"].take();
    other["pdp"]["body"] = json!({"decisions": decisions});
    let reader = role_reader(&other["pdp"], true).await;
    assert_eq!(reader, "does not understand");
    other["pdp"]["reader"] = json!(reader);
    assert_eq!(of(&findings(&other), "login.roles_from = \"pdp\"").verdict, Verdict::Unsupported);
}

#[test]
fn a_recording_of_another_form_says_nothing() {
    assert_eq!(findings(&json!({"format": "nightlatch-recording/2"})), []);
    assert_eq!(findings(&json!({})), []);
}
