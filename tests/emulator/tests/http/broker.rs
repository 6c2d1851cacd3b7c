//! What a broker of tokens leans on: limits of IMDS, identities by every name, proofs of applications that are
//! really checked, refresh, device polls in a hurry, bound tokens, and counters to hold it all against.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::world;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use crate::stage::{Stage, claims, code};

const GRAPH: &str = "https://graph.microsoft.com/.default";
const TOKEN: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn paths(stage: &Stage, service: &str) -> Value {
    stage.control("GET", "/control/counters", Value::Null).await[service].clone()
}

#[tokio::test]
async fn imds_works_on_five_token_requests_at_once() {
    let stage = Stage::new().await;
    let slow = json!({"kind": "slow", "ms": 1000});
    stage.control("PUT", "/control/faults/imds", slow).await;
    let mut crowd = tokio::task::JoinSet::new();
    let imds = stage.running().endpoints().imds.unwrap();
    let mut storm = async |many: usize| -> Vec<u16> {
        for _ in 0..many {
            crowd.spawn(async move {
                Ask::get(TOKEN).header("Metadata", "true").over_tcp(imds).await.unwrap().status
            });
        }
        let mut said = Vec::new();
        while let Some(status) = crowd.join_next().await {
            said.push(status.unwrap());
        }
        said.sort_unstable();
        said
    };
    assert_eq!(storm(7).await, [200; 7], "no limit unless it is switched on");
    assert_eq!(paths(&stage, "imds").await["peak"], 7);
    stage.control("PUT", "/control/buckets", json!({"imds_enabled": true})).await;
    stage.control("DELETE", "/control/counters", Value::Null).await;
    assert_eq!(storm(7).await, [200, 200, 200, 200, 200, 429, 429]);
    let counted = paths(&stage, "imds").await;
    assert!(counted["peak"].as_u64().unwrap() > 5 && counted["total"] == 7, "{counted}");
    assert_eq!(storm(5).await, [200; 5], "places are given back");
}

#[tokio::test]
async fn imds_forgives_after_a_second() {
    let stage = Stage::new().await;
    stage.control("PUT", "/control/buckets", json!({"imds_enabled": true})).await;
    let mut refused = None;
    for _ in 0..60 {
        let reply = stage.imds(TOKEN).await;
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("sixty at once are more than twenty a second");
    assert_eq!(
        (refused.header("retry-after"), refused.json()["error"].as_str()),
        ("1", Some("too_many_requests"))
    );
    for status in [410, 404] {
        let fault = json!({"kind": "status", "status": status, "times": 1, "path": "/identity/"});
        stage.control("PUT", "/control/faults/imds", fault).await;
        assert_eq!(stage.imds(TOKEN).await.status, status);
    }
}

#[tokio::test]
async fn arc_answers_for_an_assigned_identity_and_says_which() {
    let stage = Stage::new().await;
    let himds = stage.running().endpoints().himds.unwrap();
    let mut arc = stage.control("GET", "/control/arc", Value::Null).await;
    let id =
        "/subscriptions/s/resourcegroups/r/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai";
    let addon = json!({"client_id": world::ADDON_CLIENT, "object_id": world::ADDON_OID, "resource_id": id});
    arc["identities"].as_array_mut().unwrap().push(addon);
    stage.control("PUT", "/control/arc", arc).await;
    let ask = async |more: &str| -> Reply {
        let target = format!(
            "/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https://vault.azure.net{more}"
        );
        let ask = || Ask::get(target.clone()).header("Metadata", "true");
        let challenge = ask().over_tcp(himds).await.unwrap();
        let file = challenge.header("www-authenticate").strip_prefix("Basic realm=").unwrap().to_owned();
        let secret = std::fs::read_to_string(file).unwrap();
        ask().header("Authorization", &format!("Basic {secret}")).over_tcp(himds).await.unwrap()
    };
    let system = ask("").await.json();
    assert_eq!((&system["client_id"], system.get("msi_res_id")), (&json!(world::ARC_CLIENT), None));
    let user = ask(&format!("&msi_res_id={id}")).await.json();
    assert_eq!((&user["client_id"], &user["msi_res_id"]), (&json!(world::ADDON_CLIENT), &json!(id)));
    assert_eq!(claims(user["access_token"].as_str().unwrap())["xms_mirid"], id);
    let named = ask(&format!("&object_id={}", world::ADDON_OID)).await.json();
    assert_eq!(
        (&named["client_id"], &named["object_id"]),
        (&json!(world::ADDON_CLIENT), &json!(world::ADDON_OID))
    );
    assert_eq!(ask("&client_id=unknown").await.status, 400);
}

/// A key with a certificate: its own, or an authority's.
struct Signer {
    key: rsa::KeyPair,
    pem: String,
    der: Vec<u8>,
}

fn key() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn signer(made: rcgen::Certificate, key: &KeyPair) -> Signer {
    let pair = rsa::KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    Signer { key: pair, pem: made.pem(), der: made.der().to_vec() }
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let (ca_key, mut ca) = (key(), CertificateParams::new(Vec::new()).unwrap());
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    (Issuer::new(ca, ca_key), pem)
}

fn own() -> Signer {
    let key = key();
    signer(CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap(), &key)
}

fn issued(issuer: &Issuer<'static, KeyPair>) -> Signer {
    let key = key();
    signer(CertificateParams::new(Vec::new()).unwrap().signed_by(&key, issuer).unwrap(), &key)
}

impl Signer {
    fn assertion(&self, head: Value, body: Value) -> String {
        let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        let now = Stage::now();
        let mut header = json!({"typ": "JWT", "alg": "PS256", "x5t#S256": URL_SAFE_NO_PAD.encode(print)});
        let mut payload = json!({"aud": format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", world::TENANT),
            "iss": world::CI_PIPELINE_APP, "sub": world::CI_PIPELINE_APP, "jti": "one", "iat": now, "nbf": now, "exp": now + 300});
        header.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
        payload.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&payload));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn chain(&self) -> Value {
        json!({"x5c": [STANDARD.encode(&self.der)]})
    }
}

async fn prove(stage: &Stage, assertion: &str) -> Reply {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", world::CI_PIPELINE_APP),
        ("client_assertion_type", ASSERTION),
        ("client_assertion", assertion),
        ("scope", GRAPH),
    ];
    stage.token(&fields).await
}

#[tokio::test]
async fn an_assertion_is_checked_to_the_last_byte() {
    let stage = Stage::new().await;
    let (registered, stranger) = (own(), own());
    let app = format!("/control/apps/{}", world::CI_PIPELINE_APP);
    stage.control("PUT", &app, json!({"certificates": [registered.pem]})).await;
    let good = prove(&stage, &registered.assertion(json!({}), json!({}))).await;
    assert_eq!(good.status, 200, "{}", good.text());
    assert_eq!(claims(good.json()["access_token"].as_str().unwrap())["appidacr"], "2");
    assert_eq!(prove(&stage, &registered.assertion(registered.chain(), json!({}))).await.status, 200);
    let counted = paths(&stage, "entra").await;
    assert_eq!(counted["paths"]["proof PS256 x5t#S256"], 1);
    assert_eq!(counted["paths"]["proof PS256 x5t#S256 x5c"], 1);
    assert_eq!(counted["total"], 2, "proofs are not requests");
    let now = Stage::now();
    for (bad, number) in [
        (stranger.assertion(json!({}), json!({})), 700_027),
        (stranger.assertion(stranger.chain(), json!({})), 700_027),
        (registered.assertion(stranger.chain(), json!({})), 700_027),
        (registered.assertion(json!({"alg": "RS256"}), json!({})), 700_027),
        (registered.assertion(json!({"alg": "none"}), json!({})), 700_027),
        (registered.assertion(json!({}), json!({"aud": "https://example.com/token"})), 700_027),
        (registered.assertion(json!({}), json!({"sub": world::NODE_APP})), 700_027),
        (registered.assertion(json!({}), json!({"jti": null})), 700_027),
        (registered.assertion(json!({}), json!({"exp": now - 301})), 700_024),
        (registered.assertion(json!({}), json!({"nbf": now + 600})), 700_024),
    ] {
        let refused = prove(&stage, &bad).await;
        assert_eq!((refused.status, code(&refused)), (401, number), "{}", refused.text());
    }
}

#[tokio::test]
async fn a_chain_stands_for_a_certificate_that_nobody_registered() {
    let stage = Stage::new().await;
    let ((ours, ca), (theirs, _)) = (authority(), authority());
    let (good, bad) = (issued(&ours), issued(&theirs));
    let app = format!("/control/apps/{}", world::CI_PIPELINE_APP);
    stage.control("PUT", &app, json!({"authorities": [ca]})).await;
    assert_eq!(prove(&stage, &good.assertion(good.chain(), json!({}))).await.status, 200);
    assert_eq!(code(&prove(&stage, &good.assertion(json!({}), json!({}))).await), 700_027, "no chain");
    assert_eq!(
        code(&prove(&stage, &bad.assertion(bad.chain(), json!({}))).await),
        700_027,
        "another authority"
    );
}

#[tokio::test]
async fn refresh_tokens_multiply_and_lives_tell_when_to_refresh() {
    let stage = Stage::new().await;
    let scope = format!("{GRAPH} offline_access");
    let first = stage.refresh(world::ALICE.oid, &scope, &[]).await.json();
    assert_eq!(first.get("refresh_in"), None, "too short a life");
    let cp1 = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
    let use_it = async |token: &str, more: &[(&str, &str)]| {
        let mut fields = vec![
            ("grant_type", "refresh_token"),
            ("client_id", world::AZURE_CLI),
            ("refresh_token", token),
            ("scope", scope.as_str()),
        ];
        fields.extend_from_slice(more);
        stage.token(&fields).await.json()
    };
    let old = first["refresh_token"].as_str().unwrap();
    let second = use_it(old, &[("claims", cp1)]).await;
    let new = second["refresh_token"].as_str().unwrap();
    assert_ne!(old, new);
    assert_eq!((&second["expires_in"], &second["refresh_in"]), (&json!(86_400), &json!(43_200)));
    assert_eq!(claims(second["access_token"].as_str().unwrap())["xms_cc"], json!(["cp1"]));
    // The one before stays good: who replaces it must forget it.
    let third = use_it(old, &[]).await;
    assert!(third["access_token"].is_string() && use_it(new, &[]).await["access_token"].is_string());
    let stamp =
        |answer: &Value| claims(answer["access_token"].as_str().unwrap())["uti"].as_str().unwrap().to_owned();
    assert_ne!(stamp(&second), stamp(&third));
    stage.control("PUT", "/control/entra", json!({"refresh_in": 7})).await;
    assert_eq!(use_it(new, &[]).await["refresh_in"], 7);
    let scripted = json!({"code": 50173, "error": "invalid_grant", "suberror": "bad_token", "times": 1});
    stage.control("POST", "/control/entra/scripts", scripted).await;
    let refused = use_it(new, &[]).await;
    assert_eq!((&refused["error"], &refused["suberror"]), (&json!("invalid_grant"), &json!("bad_token")));
}

#[tokio::test]
async fn scripts_choose_word_and_status() {
    let stage = Stage::new().await;
    for (script, status, word, sub) in [
        (json!({"code": 90033, "times": 1}), 503, "temporarily_unavailable", Value::Null),
        (json!({"code": 7_000_222, "times": 1}), 401, "invalid_client", Value::Null),
        (json!({"code": 70021, "times": 1}), 400, "invalid_request", Value::Null),
        (
            json!({"code": 1, "error": "invalid_grant", "suberror": "consent_required", "times": 1}),
            400,
            "invalid_grant",
            json!("consent_required"),
        ),
        (
            json!({"code": 2, "error": "server_error", "status": 500, "times": 1}),
            500,
            "server_error",
            Value::Null,
        ),
    ] {
        stage.control("POST", "/control/entra/scripts", script).await;
        let reply = stage.refresh(world::ALICE.oid, GRAPH, &[]).await;
        let body = reply.json();
        assert_eq!((reply.status, body["error"].as_str(), &body["suberror"]), (status, Some(word), &sub));
    }
    assert_eq!(stage.refresh(world::ALICE.oid, GRAPH, &[]).await.status, 200);
}

#[tokio::test]
async fn a_hurried_device_is_told_to_slow_down() {
    let stage = Stage::new().await;
    let settings = json!({"device_slow_down": true, "device_approve_after": null, "device_interval": 60});
    stage.control("PUT", "/control/entra", settings).await;
    let path = format!("/{}/oauth2/v2.0/devicecode", world::TENANT);
    let ask = Ask::form(path, &[("client_id", world::OWN_APP), ("scope", GRAPH)]);
    let device = stage.web("login.microsoftonline.com", ask).await.json();
    let poll = async || {
        let code = device["device_code"].as_str().unwrap();
        let fields = [("grant_type", DEVICE), ("client_id", world::OWN_APP), ("device_code", code)];
        stage.token(&fields).await.json()["error"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!((poll().await, poll().await), ("authorization_pending".into(), "slow_down".into()));
}

#[tokio::test]
async fn a_bound_token_names_its_key() {
    let stage = Stage::new().await;
    let print = URL_SAFE_NO_PAD.encode([7; 32]);
    let cnf = URL_SAFE_NO_PAD.encode(json!({"kid": print, "xms_ksl": "sw"}).to_string());
    let ask = async |cnf: Option<&str>| {
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", world::CI_PIPELINE_APP),
            ("client_secret", world::CI_PIPELINE_SECRET),
            ("scope", "6256c85f-0aad-4d50-b960-e6e9b21efe35/.default"),
            ("token_type", "pop"),
        ];
        fields.extend(cnf.map(|cnf| ("req_cnf", cnf)));
        stage.token(&fields).await
    };
    let bound = ask(Some(&cnf)).await.json();
    assert_eq!(bound["token_type"], "pop");
    let token = claims(bound["access_token"].as_str().unwrap());
    assert_eq!((&token["cnf"]["kid"], token["uti"].is_string()), (&json!(print), true));
    assert_eq!(code(&ask(None).await), 90014);
    assert_eq!(paths(&stage, "entra").await["paths"]["grant client_credentials pop"], 2);
    // A bare token is no signed request.
    let bare = json!({"token": bound["access_token"], "u": "/x"});
    let ask = Ask::json("POST", "/control/pop", &bare);
    let refused = ask.over_unix(&stage.path().join("control.sock")).await.unwrap();
    assert_eq!((refused.status, refused.text().contains("typ")), (400, true));
}

#[tokio::test]
async fn subscriptions_are_listed_to_who_holds_something_there() {
    let stage = Stage::new().await;
    let token = stage.node_token("https://management.azure.com/").await;
    let ask = Ask::get("/subscriptions?api-version=2022-12-01").bearer(&token);
    let list = stage.web("management.azure.com", ask).await.json();
    assert_eq!(list["value"][0]["subscriptionId"], world::SUBSCRIPTION);
    assert_eq!(list["value"][0]["tenantId"], world::TENANT);
}
