//! Canaries: texts planted everywhere a service, a certificate or a machine can put one.

use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use serde_json::{Value, json};

use super::super::heard::Answer;
use super::super::machine::Machine;
use super::super::metadata::Metadata;
use super::super::{Heard, Question, findings, roles, written};
use crate::config::Config;

const PERSON: &str = "a11ce000-0000-4000-8000-000000000001";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const SCOPE: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/MC_payroll_weu/providers/Microsoft.Compute/virtualMachineScaleSets/payroll-vmss/virtualMachines/0";
const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJh.eyJhdWQiOiJodHRwczovL2F1.c2lnbmF0dXJl";
/// Pieces of what is planted below; none may be in the recording, in any case.
const CANARIES: [&str; 16] = [
    "alice",
    "fabrikam",
    "a11ce000",
    "a11ce0000000",
    "11111111-2222",
    "22222222-0000",
    "payroll",
    "westcanary",
    "eyj0exai",
    "10.20.30.40",
    "canary-host",
    "s3cret",
    "opaque-secret",
    "aks-pool",
    "fd00:",
    "canary-tag",
];

pub(super) fn reply(status: u16, body: &Value) -> Answer {
    let server = ("server", "canary-host/1.2".to_owned());
    Answer::Reply { status, headers: vec![server], body: body.to_string().into_bytes() }
}

fn instance() -> Value {
    json!({"azEnvironment": "AzurePublicCloud", "location": "westcanary", "name": "aks-pool-payroll_0",
        "resourceId": SCOPE, "subscriptionId": "22222222-0000-0000-0000-000000000001", "vmId": PERSON,
        "resourceGroupName": "MC_payroll_weu", "tags": "canary-tag:payroll", "tagsList": [{"name": "canary-tag", "value": "payroll"}],
        "osProfile": {"adminUsername": "alice", "computerName": "canary-host"}, "userData": "s3cret",
        "network": {"ip": "10.20.30.40", "ipv6": "fd00::1"}, "payrollMember": 1, PERSON: {"x": "alice@fabrikam.com"}})
}

fn heard() -> Heard {
    let keys = json!({"keys": [{"kty": "RSA", "kid": PERSON, "n": "s3cret", "e": "AQAB", "owner": "alice@fabrikam.com"}],
        "issuer": format!("https://login.microsoftonline.com/{TENANT}"), "alice": true});
    let token = json!({"access_token": TOKEN, "client_id": PERSON, "expires_in": "86399", "resource": "https://authorization.azure.net",
        "token_type": "Bearer", "refresh_token": "opaque-secret"});
    let refusal = json!({"error": {"code": "AuthorizationFailed", "message":
        format!("The client '{PERSON}' does not have authorization to perform action 'x' over scope '{SCOPE}'")}});
    let decision = json!({"value": [{"accessDecision": "Allowed", "actionId": "Microsoft.Compute/virtualMachines/login/action",
        "roleAssignment": {"principalId": "a11ce000000040008000000000000001", "scope": SCOPE}, "decisionReason": 1,
        "timeToLiveInMs": 60000}], "nextLink": "https://payroll.example/?$skiptoken=opaque-secret"});
    let at = || nightlatch_policy::Scope::parse(SCOPE).unwrap();
    Heard {
        machine: Machine {
            os: Some(("fabrikamos".into(), "10.20.30.40".into())),
            sshd: Some("OpenSSH_9.2p1 canary-host".into()),
            azure_json: None,
            azure_json_exists: false,
            names: vec!["canary-host.fabrikam.com".into()],
        },
        kind: "vm",
        imds: Metadata::prepared(
            reply(200, &instance()),
            (reply(200, &keys), "does not understand"),
            (reply(200, &token), "accepts"),
        ),
        himds: Metadata::prepared(
            Answer::None("unreachable"),
            (Answer::None("x"), "x"),
            (Answer::None("x"), "x"),
        ),
        tenant: TENANT.parse().ok(),
        pdp: Some(roles::Heard { raw: reply(200, &decision), reader: "granted", scope: at() }),
        checkaccess: Some(roles::Heard {
            raw: reply(403, &refusal),
            reader: "this node may not ask",
            scope: at(),
        }),
    }
}

fn question() -> Question {
    let ca = TestKey::ed25519([1; 32]);
    let line = CertificateBuilder::new(&TestKey::ed25519([2; 32]))
        .principals(["Alice@fabrikam.com"])
        .valid(1_800_000_000, 1_800_003_600)
        .text_extension("oid@entra.microsoft.com", PERSON)
        .text_extension("mail@fabrikam.com", "alice@fabrikam.com")
        .text_extension(format!("{PERSON}@x"), "s3cret")
        .extension("raw@entra.microsoft.com", TENANT)
        .extension("bytes@entra.microsoft.com", [0_u8, 1, 2])
        .extension("permit-pty", "")
        .line(&ca);
    Question {
        config: Config::default(),
        oid_extension: "oid@entra.microsoft.com".into(),
        tid_extension: "tid@entra.microsoft.com".into(),
        certificate: Some(line.into_bytes()),
        person: PERSON.parse().ok(),
    }
}

#[test]
fn no_planted_name_id_token_or_secret_comes_through() {
    let recording = written(&question(), &heard()).unwrap();
    let text = recording.to_string().to_ascii_lowercase();
    for canary in CANARIES {
        assert!(!text.contains(canary), "{canary} in {recording:#}");
    }
    // And it is not silent: the forms are there.
    assert_eq!(recording["certificate"]["principals"], json!(["<address-1 mixed case>"]), "{recording:#}");
    assert_eq!(recording["pdp"]["body"]["value"][0]["accessDecision"], "Allowed");
    assert_eq!(recording["checkaccess"]["body"]["error"]["code"], "AuthorizationFailed");
    let principal = recording["pdp"]["body"]["value"][0]["roleAssignment"]["principalId"].as_str().unwrap();
    let vm = recording["imds"]["instance"]["body"]["vmId"].as_str().unwrap();
    assert_eq!(principal, vm.replace('>', " undashed>"), "equal values have equal placeholders");
    for finding in findings(&recording) {
        let said = format!("{finding:?}").to_ascii_lowercase();
        assert!(!CANARIES.iter().any(|canary| said.contains(canary)), "{said}");
    }
}

/// The certificate with every extension name, of a person named like the schema's own words.
#[test]
fn a_person_named_like_a_schema_word_changes_no_form() {
    let mut question = question();
    let line = CertificateBuilder::new(&TestKey::ed25519([2; 32]))
        .principals(["value.keys@contoso.com"])
        .text_extension("oid@entra.microsoft.com", PERSON)
        .line(&TestKey::ed25519([1; 32]));
    question.certificate = Some(line.into_bytes());
    let recording = written(&question, &heard()).unwrap();
    assert!(recording["pdp"]["body"]["value"].is_array());
    assert_eq!(recording["certificate"]["extensions"][0]["name"], "oid@entra.microsoft.com");
}

/// If scrubbing had a hole, there is no recording at all.
#[test]
fn a_hole_in_the_scrubbing_is_noticed() {
    let mut heard = heard();
    heard.kind = TENANT;
    assert!(written(&question(), &heard).unwrap_err().to_string().contains("an id"));
    heard.kind = TOKEN;
    assert!(written(&question(), &heard).unwrap_err().to_string().contains("a token"));
}
