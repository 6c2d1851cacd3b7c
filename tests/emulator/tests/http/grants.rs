//! The grants one by one: code with PKCE, device code, client credentials, federated, on behalf of, and the
//! certificate branch as OpenSSH sees it.

use std::process::Command;

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::{Stage, claims, code};

const SSH: &str = "https://pas.windows.net/CheckMyAccess/Linux/.default";
const GRAPH: &str = "https://graph.microsoft.com/.default";
const LOGIN_HOST: &str = "login.microsoftonline.com";
// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn authorize(stage: &Stage, more: &str) -> String {
    let target = format!(
        "/{}/oauth2/v2.0/authorize?client_id={}&response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A9&scope=openid%20User.Read&state=s%261&code_challenge={CHALLENGE}&code_challenge_method=S256{more}",
        world::TENANT,
        world::AZURE_CLI
    );
    let reply = stage.web(LOGIN_HOST, Ask::get(target)).await;
    assert_eq!(reply.status, 302, "{}", reply.text());
    reply.header("location").to_owned()
}

async fn redeem(stage: &Stage, location: &str, verifier: &str) -> nightlatch_emulator::client::Reply {
    let code = location.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", world::AZURE_CLI),
        ("code", code),
        ("redirect_uri", "http://localhost:9"),
        ("code_verifier", verifier),
        ("scope", GRAPH),
    ];
    stage.token(&fields).await
}

#[tokio::test]
async fn a_code_is_good_once_and_only_with_its_verifier() {
    let stage = Stage::new().await;
    let claims_wanted = "&login_hint=adele%40contoso.com&claims=%7B%22access_token%22%3A%7B%22acrs%22%3A%7B%22value%22%3A%22c2%22%7D%7D%7D";
    let location = authorize(&stage, claims_wanted).await;
    assert!(
        location.starts_with("http://localhost:9?code=") && location.ends_with("state=s%261"),
        "{location}"
    );
    let first = redeem(&stage, &location, VERIFIER).await.json();
    let token = claims(first["access_token"].as_str().unwrap());
    assert_eq!((&token["oid"], &token["acrs"]), (&json!(world::ADELE.oid), &json!(["c2"])));
    assert_eq!(code(&redeem(&stage, &location, VERIFIER).await), 70000);
    let location = authorize(&stage, "").await;
    assert_eq!(code(&redeem(&stage, &location, "wrong").await), 501_481);
    stage.control("PUT", "/control/entra", json!({"authorize_error": 53003})).await;
    assert!(authorize(&stage, "").await.contains("AADSTS53003"));
}

#[tokio::test]
async fn a_device_code_is_pending_then_decided() {
    let stage = Stage::new().await;
    stage.control("PUT", "/control/entra", json!({"device_approve_after": null})).await;
    let path = format!("/{}/oauth2/v2.0/devicecode", world::TENANT);
    let begin = async || {
        let ask = Ask::form(path.clone(), &[("client_id", world::AZURE_CLI), ("scope", GRAPH)]);
        stage.web(LOGIN_HOST, ask).await.json()
    };
    let poll = async |device: &Value| {
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", world::AZURE_CLI),
            ("device_code", device["device_code"].as_str().unwrap()),
        ];
        stage.token(&fields).await
    };
    let device = begin().await;
    let pending = poll(&device).await;
    assert_eq!((code(&pending), pending.json()["error"].as_str()), (70016, Some("authorization_pending")));
    let route = format!("/control/device/{}", device["user_code"].as_str().unwrap());
    stage.control("POST", &route, json!({"user": world::BOB_MAIL})).await;
    let token = claims(poll(&device).await.json()["access_token"].as_str().unwrap());
    assert_eq!((&token["oid"], &token["acct"]), (&json!(world::BOB.oid), &json!(1)));
    let declined = begin().await;
    let route = format!("/control/device/{}", declined["user_code"].as_str().unwrap());
    stage.control("POST", &route, json!({})).await;
    assert_eq!(code(&poll(&declined).await), 70020);
    let late = begin().await;
    stage.control("PUT", "/control/time", json!({"clock_offset": 901})).await;
    assert_eq!(code(&poll(&late).await), 70019);
}

#[tokio::test]
async fn a_client_proves_itself_by_secret() {
    let stage = Stage::new().await;
    let ask = async |secret: Option<&str>| {
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", world::CI_PIPELINE_APP),
            ("scope", GRAPH),
        ];
        fields.extend(secret.map(|secret| ("client_secret", secret)));
        stage.token(&fields).await
    };
    let token = claims(ask(Some(world::CI_PIPELINE_SECRET)).await.json()["access_token"].as_str().unwrap());
    assert_eq!(
        (&token["oid"], &token["idtyp"], token.get("scp")),
        (&json!(world::CI_PIPELINE.oid), &json!("app"), None)
    );
    let wrong = ask(Some("wrong")).await;
    assert_eq!((wrong.status, code(&wrong)), (401, 7_000_215));
    assert_eq!(code(&ask(None).await), 7_000_218);
}

#[tokio::test]
async fn a_managed_identity_is_a_federated_credential() {
    let stage = Stage::new().await;
    let assertion = stage.node_token("api://AzureADTokenExchange").await;
    let ask = async |assertion: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", world::NODE_APP),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
            ("scope", "https://authorization.azure.net/.default"),
        ];
        stage.token(&fields).await
    };
    let issuer = format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT);
    let set = async |subject: &str| {
        let body = json!({"federated": [{"issuer": issuer, "subject": subject}]});
        stage.control("PUT", &format!("/control/apps/{}", world::NODE_APP), body).await;
    };
    set("someone-else").await;
    let unmatched = ask(&assertion).await;
    assert_eq!(code(&unmatched), 700_213);
    assert!(unmatched.json()["error_description"].as_str().unwrap().contains(world::KUBELET_OID));
    set(world::KUBELET_OID).await;
    let token = claims(ask(&assertion).await.json()["access_token"].as_str().unwrap());
    assert_eq!((&token["oid"], &token["appidacr"]), (&json!(world::NODE_APP_OID), &json!("2")));
    let other = stage.node_token("https://authorization.azure.net").await;
    let wrong_issuer = ask(&other).await;
    assert_eq!(code(&wrong_issuer), 700_211);
    assert!(wrong_issuer.text().contains("sts.windows.net"));
    let forged = json!({"user": world::KUBELET_OID, "audience": "api://AzureADTokenExchange", "v2": true, "key": "foreign"});
    let forged = stage.control("POST", "/control/tokens", forged).await;
    assert_eq!(code(&ask(forged["access_token"].as_str().unwrap()).await), 7_000_214);
}

#[tokio::test]
async fn on_behalf_of_keeps_the_person() {
    let stage = Stage::new().await;
    let body = json!({"public": false, "secrets": ["s"]});
    stage.control("PUT", &format!("/control/apps/{}", world::OWN_APP), body).await;
    let first = stage.refresh(world::ALICE.oid, &format!("api://{}/login", world::OWN_APP), &[]).await.json();
    let ask = async |assertion: &str| {
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("client_id", world::OWN_APP),
            ("client_secret", "s"),
            ("assertion", assertion),
            ("requested_token_use", "on_behalf_of"),
            ("scope", GRAPH),
        ];
        stage.token(&fields).await
    };
    let token =
        claims(ask(first["access_token"].as_str().unwrap()).await.json()["access_token"].as_str().unwrap());
    assert_eq!((&token["oid"], &token["appid"]), (&json!(world::ALICE.oid), &json!(world::OWN_APP)));
    let foreign = stage.refresh(world::ALICE.oid, GRAPH, &[]).await.json();
    assert_eq!(code(&ask(foreign["access_token"].as_str().unwrap()).await), 9_002_313);
}

#[tokio::test]
async fn ssh_certificates_need_their_scope() {
    let stage = Stage::new().await;
    let more = [("token_type", "ssh-cert"), ("req_cnf", "{}"), ("key_id", "x")];
    assert_eq!(code(&stage.refresh(world::ALICE.oid, GRAPH, &more).await), 70011);
    assert_eq!(code(&stage.refresh(world::ALICE.oid, SSH, &more).await), 9_002_313);
    let counters = stage.control("GET", "/control/counters", Value::Null).await;
    assert_eq!(counters["entra"]["paths"]["grant refresh_token ssh-cert"], 2);
}

fn ssh_keygen(arguments: &[&str]) -> String {
    let out = Command::new("ssh-keygen").args(arguments).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn certificates_made_to_measure_are_read_by_openssh() {
    let stage = Stage::new().await;
    let dir = stage.path().to_str().unwrap().to_owned();
    for kind in ["rsa", "ed25519", "ecdsa"] {
        let key = format!("{dir}/id_{kind}");
        ssh_keygen(&["-q", "-t", kind, "-N", "", "-f", &key]);
        let line = std::fs::read_to_string(format!("{key}.pub")).unwrap();
        let order = json!({"user": world::DORA.upn, "public_key": line, "valid_after": 1_000_000_000, "valid_before": 2_000_000_000,
            "principals": ["one", "two"], "serial": 9, "key_id": "k", "critical": {"force-command": "true", "x@y": {"hex": "00ff"}},
            "extensions": {"permit-pty": true}, "ca": "foreign", "algorithm": "rsa-sha2-512"});
        let made = stage.control("POST", "/control/ssh-cert", order).await;
        let file = format!("{key}-cert.pub");
        std::fs::write(&file, made["certificate"].as_str().unwrap()).unwrap();
        let shown = ssh_keygen(&["-L", "-f", &file]);
        for want in [
            "Key ID: \"k\"",
            "Serial: 9",
            "one",
            "two",
            "force-command true",
            "x@y UNKNOWN OPTION: 00ff",
            "permit-pty",
            "rsa-sha2-512",
        ] {
            assert!(shown.contains(want), "{want} in {shown}");
        }
        assert!(!shown.contains("permit-user-rc") && !shown.contains("oid@"), "{shown}");
    }
    // The private key in the state directory signs for ssh-keygen as well.
    let ca = stage.state().join("ssh-ca");
    let key = format!("{dir}/id_rsa");
    ssh_keygen(&["-q", "-s", ca.to_str().unwrap(), "-I", "x", "-n", "p", &format!("{key}.pub")]);
    assert!(ssh_keygen(&["-L", "-f", &format!("{key}-cert.pub")]).contains("Key ID: \"x\""));
}
