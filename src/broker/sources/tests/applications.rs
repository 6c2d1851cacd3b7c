//! Applications with each proof, in each cloud, over real TLS; the other side checks what is sent with
//! code of its own.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_emulator::world;
use nightlatch_tokens::{Claims, FailureClass, PopAsk, TokenType};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;

use super::{Tenant, VAULT, at, claims, file, key, one, refused};
use crate::broker::Source;
use crate::broker::sources::{Application, Proof, TokenProxy, Way};
use crate::entra::clouds::Cloud;
use crate::entra::tiny_server::{Answer, Server};

const PUBLIC: &str = "login.microsoftonline.com";
const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"tok"}"#;

fn secret_way(tenant: &Tenant, host: &str, text: &str) -> Way {
    let file = file(tenant.folder.path(), "secret", text);
    Way::Application(tenant.application(host, world::CI_PIPELINE_APP, Proof::Secret(file)))
}

fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

#[tokio::test]
async fn each_cloud_is_asked_at_its_own_hosts() {
    let tenant = Tenant::new().await;
    for cloud in Cloud::ALL {
        let ends = cloud.endpoints();
        let host = ends.login.strip_prefix("https://").unwrap();
        let sources = tenant.sources(one("ci", secret_way(&tenant, host, "ci-pipeline-secret\n")), None);
        let token = sources.fetch(&key("ci", &ends.arm_audience()), None).await.unwrap();
        let claims = claims(&token);
        assert_eq!(claims["aud"], ends.arm_audience(), "{cloud}");
        assert_eq!(token.stamp.oid.as_deref(), Some(world::CI_PIPELINE.oid), "{cloud}");
        assert_eq!(token.client_id.as_deref(), Some(world::CI_PIPELINE_APP));
        let seen = tenant.control("GET", "/control/requests?service=entra", json!({})).await;
        let last = seen.as_array().unwrap().last().unwrap().clone();
        assert!(last.to_string().contains(host), "{cloud}: {last}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_named_and_a_new_file_needs_no_restart() {
    let tenant = Tenant::new().await;
    let sources = tenant.sources(one("ci", secret_way(&tenant, PUBLIC, "CANARY-wrong")), None);
    let failure = refused(&sources, &key("ci", VAULT)).await;
    assert_eq!(failure.class, FailureClass::Lag);
    assert!(failure.sentence.contains("secret_file") && failure.sentence.contains("AADSTS7000215"));
    assert!(!failure.sentence.contains("CANARY"), "{}", failure.sentence);
    file(tenant.folder.path(), "secret", world::CI_PIPELINE_SECRET);
    assert!(sources.fetch(&key("ci", VAULT), None).await.is_ok());
    assert_eq!(sources.circuit(&key("ci", VAULT)), format!("https://{PUBLIC} {}", world::CI_PIPELINE_APP));
}

#[tokio::test]
async fn an_assertion_of_ours_is_verified_by_code_of_another_hand() {
    let tenant = Tenant::new().await;
    let (own, foreign) = (rsa(), rsa());
    let leaf =
        |key: &KeyPair| CertificateParams::new(vec!["leaf".to_owned()]).unwrap().self_signed(key).unwrap();
    let (certificate, other) = (leaf(&own), leaf(&foreign));
    let registered = json!({"certificates": [certificate.pem()]});
    tenant.control("PUT", &format!("/control/apps/{}", world::NODE_APP), registered).await;
    for send_chain in [false, true] {
        let pem =
            file(tenant.folder.path(), "own.pem", &format!("{}{}", certificate.pem(), own.serialize_pem()));
        let proof = Proof::Certificate { file: pem, send_chain };
        let way = Way::Application(tenant.application(PUBLIC, world::NODE_APP, proof));
        let token = tenant.sources(one("app", way), None).fetch(&key("app", VAULT), None).await.unwrap();
        assert_eq!(token.stamp.oid.as_deref(), Some(world::NODE_APP_OID));
        assert_eq!(claims(&token)["appidacr"], "2", "proved with an assertion");
    }
    let pem =
        file(tenant.folder.path(), "foreign.pem", &format!("{}{}", other.pem(), foreign.serialize_pem()));
    let proof = Proof::Certificate { file: pem, send_chain: false };
    let way = Way::Application(tenant.application(PUBLIC, world::NODE_APP, proof));
    let failure = refused(&tenant.sources(one("app", way), None), &key("app", VAULT)).await;
    assert_eq!(failure.class, FailureClass::Lag);
    assert!(failure.sentence.contains("certificate is not registered"), "{}", failure.sentence);
}

/// An outside issuer and a token of its for `subject`.
async fn outside(tenant: &Tenant, key: &KeyPair, subject: &str) -> String {
    use aws_lc_rs::signature::KeyPair as _;
    let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let n = URL_SAFE_NO_PAD.encode(pair.public_key().modulus().big_endian_without_leading_zero());
    let issuer = "https://issuer.example";
    let jwk = json!({"kid": "k1", "n": n, "e": "AQAB"});
    tenant.control("PUT", "/control/issuers", json!([{"issuer": issuer, "keys": [jwk]}])).await;
    let federated = json!({"federated": [{"issuer": issuer, "subject": "system:serviceaccount:a:b"}]});
    tenant.control("PUT", &format!("/control/apps/{}", world::NODE_APP), federated).await;
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some("k1".to_owned());
    let now = crate::clock::Clock::System.now().0;
    let claims = json!({"iss": issuer, "sub": subject, "aud": "api://AzureADTokenExchange",
        "iat": now, "nbf": now, "exp": now + 600});
    let signer = jsonwebtoken::EncodingKey::from_rsa_pem(key.serialize_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, &claims, &signer).unwrap()
}

#[tokio::test]
async fn a_federated_token_is_read_again_at_each_use() {
    let tenant = Tenant::new().await;
    let issuer = rsa();
    let wrong = outside(&tenant, &issuer, "system:serviceaccount:a:other").await;
    let path = file(tenant.folder.path(), "token", &wrong);
    let proof = Proof::Federated { file: path.clone(), proxy: None };
    let way = Way::Application(tenant.application(PUBLIC, world::NODE_APP, proof));
    let sources = tenant.sources(one("wl", way), None);
    let failure = refused(&sources, &key("wl", VAULT)).await;
    assert_eq!(failure.class, FailureClass::Lag, "{}", failure.sentence);
    assert!(failure.sentence.contains("issuer, subject and audience"), "{}", failure.sentence);
    let good = outside(&tenant, &issuer, "system:serviceaccount:a:b").await;
    std::fs::write(&path, format!("{good}\n")).unwrap();
    let token = sources.fetch(&key("wl", VAULT), None).await.unwrap();
    assert_eq!(token.stamp.oid.as_deref(), Some(world::NODE_APP_OID));
    std::fs::write(&path, "").unwrap();
    assert_eq!(refused(&sources, &key("wl", VAULT)).await.class, FailureClass::Transient, "being replaced");
}

/// The proxy of AKS identity bindings: its own authority, its own name, the same path.
#[tokio::test]
async fn a_token_proxy_is_believed_by_its_own_authority_and_name() {
    let tenant = Tenant::new().await;
    let issuer = rsa();
    let good = outside(&tenant, &issuer, "system:serviceaccount:a:b").await;
    let path = file(tenant.folder.path(), "token", &good);
    let stranger = CertificateParams::new(Vec::new()).unwrap().self_signed(&rsa()).unwrap();
    let stranger = file(tenant.folder.path(), "stranger.pem", &stranger.pem());
    let nonsense = file(tenant.folder.path(), "nonsense.pem", "nothing\n");
    let way = |ca_file: Option<&PathBuf>, sni: Option<&str>| {
        let url = format!("https://127.0.0.1:{}", tenant.port());
        let proxy = TokenProxy { url, ca_file: ca_file.cloned(), sni: sni.map(str::to_owned) };
        let proof = Proof::Federated { file: path.clone(), proxy: Some(proxy) };
        // Entra itself is out of reach of such a pod: only the proxy can be asked.
        let mut application = tenant.application("entra.invalid", world::NODE_APP, proof);
        application.login = "https://entra.invalid".to_owned();
        one("wl", Way::Application(application))
    };
    let authority = tenant.authority();
    // The name of the certificate, asked for at an address that the certificate need not know.
    for sni in [None, Some(PUBLIC), Some("login.microsoftonline.us")] {
        let sources = tenant.sources(way(Some(&authority), sni), None);
        let token = sources.fetch(&key("wl", VAULT), None).await;
        let token = token.unwrap_or_else(|failure| panic!("{sni:?}: {}", failure.sentence));
        assert_eq!(token.stamp.oid.as_deref(), Some(world::NODE_APP_OID), "{sni:?}");
    }
    let sources = tenant.sources(way(Some(&authority), Some("proxy.example")), None);
    let failure = refused(&sources, &key("wl", VAULT)).await;
    assert_eq!(failure.class, FailureClass::Transient, "not its name: {}", failure.sentence);
    for (ca_file, word) in [
        (Some(&stranger), "certificate of an unknown authority"),
        (None, "certificate of an unknown authority"),
        (Some(&nonsense), "`token_proxy` cannot be used"),
    ] {
        let failure = refused(&tenant.sources(way(ca_file, Some(PUBLIC)), None), &key("wl", VAULT)).await;
        assert!(failure.sentence.contains(word), "{}", failure.sentence);
    }
}

#[tokio::test]
async fn the_capability_is_sent_only_for_who_handles_it() {
    let tenant = Tenant::new().await;
    let sources = tenant.sources(one("ci", secret_way(&tenant, PUBLIC, world::CI_PIPELINE_SECRET)), None);
    let plain = sources.fetch(&key("ci", VAULT), None).await.unwrap();
    let mut capable = key("ci", VAULT);
    capable.cae = true;
    let challenge = Claims::new(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#).unwrap();
    let long = sources.fetch(&capable, Some(&challenge)).await.unwrap();
    assert_eq!(claims(&plain).get("xms_cc"), None);
    assert_eq!(claims(&long)["xms_cc"], json!(["cp1"]));
    assert!(long.expires.since(plain.expires) > 3600, "such tokens live longer");
}

fn direct(server: &Server, folder: &Path) -> Vec<crate::broker::sources::IdentitySettings> {
    let proof = Proof::Secret(file(folder, "secret", "s"));
    one(
        "app",
        Way::Application(Application {
            tenant: world::TENANT.parse().unwrap(),
            client_id: world::NODE_APP.parse().unwrap(),
            login: server.url(""),
            proof,
        }),
    )
}

#[tokio::test]
async fn a_bound_token_is_asked_for_with_our_key_and_wrapped_for_one_service() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(vec![Answer::new(200, &TOKEN.replace("Bearer", "pop")), Answer::new(200, TOKEN)]).await;
    let sources = at(&server.url(""), folder.path(), direct(&server, folder.path()));
    let thumbprint = sources.pop_thumbprint();
    let mut bound = key("app", "6256c85f-0aad-4d50-b960-e6e9b21efe35");
    bound.pop_key = Some(thumbprint.clone());
    let token = sources.fetch(&bound, None).await.unwrap();
    assert_eq!((token.kind, token.secret.expose()), (TokenType::Pop, "tok"));
    let body = server.seen()[0].body.clone();
    let confirmation = URL_SAFE_NO_PAD.encode(format!(r#"{{"kid":"{thumbprint}","xms_ksl":"sw"}}"#));
    assert!(body.contains("&token_type=pop") && body.contains(&format!("&req_cnf={confirmation}")), "{body}");
    let ask = PopAsk::new("/subscriptions/s", Some("n1")).unwrap();
    let signed = sources.signed_request(&token, &ask, super::NOW).unwrap();
    let signed: Vec<&str> = signed.expose().split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(signed[1]).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (&payload["at"], &payload["u"], &payload["nonce"]),
        (&json!("tok"), &json!("/subscriptions/s"), &json!("n1"))
    );
    let ask = PopAsk::new("/subscriptions/s", None).unwrap();
    let again = |_| sources.signed_request(&token, &ask, super::NOW).unwrap().expose().to_owned();
    assert_ne!(again(1), again(2), "a nonce of its own each time");
    // A bearer token in its place could be used by anybody who sees it.
    assert!(refused(&sources, &bound).await.sentence.contains("type that was asked for"));
    bound.pop_key = Some("a key of before the restart".to_owned());
    assert_eq!(refused(&sources, &bound).await.class, FailureClass::Transient);
    assert_eq!(server.seen().len(), 2);
    // A federated application has no credential of its own that Entra would bind a token to.
    let proof = Proof::Federated { file: file(folder.path(), "token", "a.b.c"), proxy: None };
    let mut settings = direct(&server, folder.path());
    if let Way::Application(application) = &mut settings[0].way {
        application.proof = proof;
    }
    let sources = at(&server.url(""), folder.path(), settings);
    bound.pop_key = Some(sources.pop_thumbprint());
    assert_eq!(refused(&sources, &bound).await.class, FailureClass::Config);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn files_that_others_could_read_are_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(vec![Answer::new(200, TOKEN)]).await;
    let sources = at(&server.url(""), folder.path(), direct(&server, folder.path()));
    let path = folder.path().join("secret");
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o644, 0o660, 0o602] {
        mode(open);
        let failure = refused(&sources, &key("app", VAULT)).await;
        assert!(failure.sentence.contains("others could read or change it"), "{}", failure.sentence);
    }
    mode(0o640);
    std::fs::write(&path, "two\nlines").unwrap();
    assert!(refused(&sources, &key("app", VAULT)).await.sentence.contains("more than one line"));
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    assert!(refused(&sources, &key("app", VAULT)).await.sentence.contains("at most 4096 bytes"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused(&sources, &key("app", VAULT)).await.class, FailureClass::Config);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused(&sources, &key("app", VAULT)).await.sentence.contains("not a plain file"));
    assert!(server.seen().is_empty());
    let mut scoped = key("app", VAULT);
    scoped.scopes = vec!["a.read".to_owned()];
    assert!(refused(&sources, &scoped).await.sentence.contains("no delegated scopes"));
    assert_eq!(refused(&sources, &key("nobody", VAULT)).await.class, FailureClass::Config);
}
