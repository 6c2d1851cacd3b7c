//! Where tokens come from, on a real node: an application's secret, its certificate with the chain, an outside
//! issuer's token with and without a cluster's proxy, and tokens bound to a key. What the tenant was shown is
//! read from its own counters.

use std::path::Path;

use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::broker::{STORAGE, Stage, VAULT, stage};

const APP: &str = "svc-app";
const ISSUED: &str = "/etc/nightlatch/outside.token";
const BUS: &str = "https://servicebus.azure.net";

impl Stage {
    fn app(&self, method: &str, request: &Value) -> (i32, Value) {
        self.grpc("app.service", APP, method, request)
    }

    /// A token by this identity; the client id that it names.
    fn client_of(&self, identity: &str, resource: &str) -> String {
        let (code, said) =
            self.app("GetToken", &json!({"resource": resource, "identity": {"name": identity}}));
        assert_eq!((code, &said["identity"]), (0, &json!(identity)), "{said}\n{}", self.journal());
        said["token"]["client_id"].as_str().unwrap().to_owned()
    }

    /// How often the tenant counted this.
    fn counted(&self, what: &str) -> u64 {
        let counters = self.tenant.control("GET", "counters", &json!({})).unwrap();
        counters["entra"]["paths"][what].as_u64().unwrap_or(0)
    }

    /// A token as an outside issuer would write it for this node.
    fn issue(&self, subject: &str) {
        let order = json!({"user": subject, "audience": "api://AzureADTokenExchange", "v2": true});
        let made = self.tenant.control("POST", "tokens", &order).unwrap();
        let text = made["access_token"].as_str().unwrap();
        self.node.write_file(ISSUED, text.as_bytes(), 0o640, "root:nightlatch").unwrap();
    }
}

#[test]
fn a_secret_proves_an_application() {
    let stage = stage();
    let before = stage.counted("proof secret");
    assert_eq!(stage.client_of("by-secret", VAULT), world::CI_PIPELINE_APP);
    assert_eq!(stage.counted("proof secret"), before + 1);
}

#[test]
fn a_certificate_signs_the_assertion_and_may_bring_its_chain() {
    let stage = stage();
    let pem = String::from_utf8(stage.node.read_file("/etc/nightlatch/ci.pem").unwrap()).unwrap();
    let begin = pem.find("-----BEGIN CERTIFICATE-----").unwrap();
    let app = format!("apps/{}", world::CI_PIPELINE_APP);
    stage
        .tenant
        .control("PUT", &app, &json!({"certificates": [&pem[begin..]], "secrets": ["ci-pipeline-secret"]}))
        .unwrap();
    assert_eq!(stage.client_of("by-certificate", VAULT), world::CI_PIPELINE_APP);
    assert_eq!(stage.counted("proof PS256 x5t#S256"), 1);
    assert_eq!(stage.client_of("by-chain", VAULT), world::CI_PIPELINE_APP);
    assert_eq!(stage.counted("proof PS256 x5t#S256 x5c"), 1);
    let sent = stage.tenant.control("GET", "requests?service=entra", &json!({})).unwrap();
    let with_key = |one: &&Value| one["body"].as_str().is_some_and(|body| body.contains("PRIVATE"));
    assert_eq!(sent.as_array().unwrap().iter().filter(with_key).count(), 0);
}

#[test]
fn an_outside_issuers_token_is_read_at_each_use() {
    let stage = stage();
    let issuer = format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT);
    let federated = json!({"federated": [{"issuer": issuer, "subject": world::KUBELET_OID}]});
    stage.tenant.control("PUT", &format!("apps/{}", world::NODE_APP), &federated).unwrap();
    stage.issue(world::KUBELET_OID);
    assert_eq!(stage.client_of("by-federation", VAULT), world::NODE_APP);
    assert_eq!(stage.client_of("by-proxy", STORAGE), world::NODE_APP);
    let seen = stage.tenant.control("GET", "requests?service=entra", &json!({})).unwrap();
    let last = seen.as_array().unwrap().last().unwrap().clone();
    assert!(!last["host"].as_str().unwrap().starts_with("login."), "not by the proxy: {last}");
    // Somebody else's token in the file is sent and refused: it was read again.
    stage.issue(world::ADDON_OID);
    let (code, said) =
        stage.app("GetToken", &json!({"resource": BUS, "identity": {"name": "by-federation"}}));
    assert_eq!(code, 3, "{said}");
    assert!(said["message"].as_str().unwrap().contains("700213"), "the number is a hint for people: {said}");
    stage.issue(world::KUBELET_OID);
}

#[test]
fn a_bound_token_comes_in_a_signed_request() {
    let stage = stage();
    let server = "6256c85f-0aad-4d50-b960-e6e9b21efe35";
    let ask = |nonce: &str| {
        let token = json!({"resource": server, "identity": {"name": "by-secret"}});
        stage.app("GetPopToken", &json!({"token": token, "u": world::ARC_CLUSTER, "nonce": nonce}))
    };
    let (code, first) = ask("one");
    assert_eq!((code, &first["token_type"]), (0, &json!("pop")), "{first}\n{}", stage.journal());
    let (_, second) = ask("two");
    for (said, nonce) in [(&first, "one"), (&second, "two")] {
        let sent = json!({"token": said["signed_request"], "u": world::ARC_CLUSTER, "nonce": nonce});
        let taken = stage.tenant.control("POST", "pop", &sent).unwrap();
        assert_eq!(taken["claims"]["appid"], world::CI_PIPELINE_APP, "{taken}");
    }
    let elsewhere = json!({"token": first["signed_request"], "u": world::CLUSTER, "nonce": "one"});
    assert!(stage.tenant.control("POST", "pop", &elsewhere).unwrap_err().to_string().contains("`u`"));
    assert_eq!(stage.counted("grant client_credentials pop"), 1, "the second request signs the kept token");
}

#[test]
fn continuous_access_evaluation_is_for_who_asks() {
    let stage = stage();
    let ask = |cae: bool| {
        let request = json!({"resource": "https://graph.microsoft.com", "identity": {"name": "by-secret"}, "enable_cae": cae});
        let (code, said) = stage.app("GetToken", &request);
        assert_eq!(code, 0, "{said}\n{}", stage.journal());
        (said["token"]["uti"].clone(), said["expires_on"].as_str().unwrap().parse::<i64>().unwrap())
    };
    let (plain, short) = ask(false);
    let (capable, long) = ask(true);
    assert_ne!(plain, capable);
    assert!(long > short + 3600, "a token for who handles it lives longer: {short} {long}");
    assert_eq!((ask(false).0, ask(true).0), (plain, capable), "neither is given to the other");
}

#[test]
fn a_refused_secret_is_told_and_not_tried_for_ever() {
    let stage = stage();
    let script = json!({"code": 7_000_222, "who": world::CI_PIPELINE_APP, "scope": "servicebus"});
    stage.tenant.control("POST", "entra/scripts", &script).unwrap();
    let ask = || stage.app("GetToken", &json!({"resource": BUS, "identity": {"name": "by-secret"}}));
    let sent = || stage.counted("grant client_credentials bearer");
    let before = sent();
    let (code, said) = ask();
    assert_eq!(code, 3, "{said}");
    for _ in 0..20 {
        assert_eq!(ask().0, 3);
    }
    stage.tenant.control("DELETE", "entra/scripts", &json!({})).unwrap();
    assert!(said["message"].as_str().unwrap().contains("7000222"), "{said}");
    assert!(sent() - before <= 5, "{} questions for twenty-one", sent() - before);
}

/// What the shared stage lays for these stories before the daemon starts.
pub(crate) fn lay(folder: &Path) -> Vec<(&'static str, Vec<u8>)> {
    crate::broker_oidc::certificate(folder, "ci", "ci-pipeline");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let pem = [read("ci-key.pem"), read("ci.pem")].concat();
    vec![
        ("/etc/nightlatch/ci.secret", world::CI_PIPELINE_SECRET.as_bytes().to_vec()),
        ("/etc/nightlatch/ci.pem", pem),
        ("/etc/nightlatch/acting.secret", world::NODE_APP_SECRET.as_bytes().to_vec()),
        (ISSUED, b"none yet".to_vec()),
    ]
}

/// Their identities.
pub(crate) fn identities() -> String {
    let app = |name: &str, kind: &str, client: &str, more: &str| {
        format!(
            "[[broker.identity]]\nname = \"{name}\"\nkind = \"{kind}\"\nclient_id = \"{client}\"\n{more}\n"
        )
    };
    let certificate = "certificate_file = \"/etc/nightlatch/ci.pem\"";
    let token = format!("token_file = \"{ISSUED}\"");
    let proxy = "token_proxy = \"https://127.0.0.1\"\ntoken_proxy_sni = \"shop.ests.aks\"\n\
                 token_proxy_ca_file = \"/etc/nightlatch/proxy-ca.pem\"";
    [
        app("by-secret", "secret", world::CI_PIPELINE_APP, "secret_file = \"/etc/nightlatch/ci.secret\""),
        app("acting", "on-behalf-of", world::NODE_APP, "secret_file = \"/etc/nightlatch/acting.secret\""),
        app("by-certificate", "certificate", world::CI_PIPELINE_APP, certificate),
        app("by-chain", "certificate", world::CI_PIPELINE_APP, &format!("{certificate}\nsend_chain = true")),
        app("by-federation", "federated", world::NODE_APP, &token),
        app("by-proxy", "federated", world::NODE_APP, &format!("{token}\n{proxy}")),
    ]
    .concat()
}
