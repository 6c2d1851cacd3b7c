//! IMDS and himds: which identity is asked for, what is tried again, and what is never read or believed.

use std::path::Path;
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_tokens::FailureClass;
use serde_json::json;

use super::{Tenant, VAULT, at, key, one, refused};
use crate::broker::Source;
use crate::broker::sources::Way;
use crate::entra::tiny_server::{Answer, Server};
use crate::imds::{HIMDS_BASE, ImdsError, ManagedId};

const TOKEN: &str = r#"{"access_token":"tok","expires_in":"86399","expires_on":"1","resource":"https://vault.azure.net","token_type":"Bearer","client_id":"8d6e7a10-0000-4000-8000-000000000001"}"#;
const CLIENT: &str = "8d6e7a10-0000-4000-8000-000000000001";
const UAMI: &str =
    "/subscriptions/s/resourceGroups/r/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u";

fn managed() -> Vec<crate::broker::sources::IdentitySettings> {
    one("node", Way::Managed(ManagedId::Only))
}

#[tokio::test]
async fn an_identity_is_named_by_any_of_its_three_ids() {
    for (which, field) in [
        (ManagedId::Only, String::new()),
        (ManagedId::Client(CLIENT.parse().unwrap()), format!("&client_id={CLIENT}")),
        (ManagedId::Object(CLIENT.parse().unwrap()), format!("&object_id={CLIENT}")),
        (ManagedId::Resource(UAMI.to_owned()), format!("&msi_res_id={}", UAMI.replace('/', "%2F"))),
    ] {
        let server = Server::start(vec![Answer::new(200, TOKEN)]).await;
        let sources = at(&server.url(""), Path::new("/"), one("node", Way::Managed(which)));
        let token = sources.fetch(&key("node", VAULT), None).await.unwrap();
        assert_eq!((token.secret.expose(), token.expires.since(super::NOW)), ("tok", 86_399));
        assert_eq!(token.client_id.as_deref(), Some(CLIENT));
        let line = server.seen()[0].line.clone();
        assert!(line.ends_with(&format!("resource=https%3A%2F%2Fvault.azure.net{field} HTTP/1.1")), "{line}");
        assert!(server.seen()[0].head.contains("\nmetadata: true"));
    }
}

#[tokio::test]
async fn what_may_pass_is_asked_five_times_and_what_may_not_once() {
    for (status, tries) in
        [(404, 5), (429, 5), (500, 5), (503, 5), (410, 7), (400, 1), (401, 1), (403, 1), (405, 1)]
    {
        let server = Server::start(vec![Answer::new(status, r#"{"error":"x"}"#)]).await;
        let sources = at(&server.url(""), Path::new("/"), managed());
        let failure = refused(&sources, &key("node", VAULT)).await;
        assert_eq!(server.seen().len(), tries, "{status}");
        let passing = tries > 1;
        assert_eq!(failure.class == FailureClass::Transient, passing, "{status}: {}", failure.sentence);
    }
    let server =
        Server::start(vec![Answer::new(410, ""), Answer::new(500, ""), Answer::new(200, TOKEN)]).await;
    let sources = at(&server.url(""), Path::new("/"), managed());
    assert!(sources.fetch(&key("node", VAULT), None).await.is_ok());
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_wait_that_the_service_names_is_handed_on() {
    for (status, wait) in [(429, 60), (429, 1), (503, 5)] {
        let answer = Answer::new(status, "").header("retry-after", &wait.to_string());
        let server = Server::start(vec![answer]).await;
        let sources = at(&server.url(""), Path::new("/"), managed());
        let failure = refused(&sources, &key("node", VAULT)).await;
        assert_eq!(
            (failure.class, failure.retry_after),
            (FailureClass::Transient, Some(Duration::from_secs(wait)))
        );
        assert_eq!(server.seen().len(), 1, "not again before it may");
    }
}

#[test]
fn the_documented_schedule_is_what_the_product_keeps() {
    let refused = |status, retry_after| ImdsError::Refused {
        service: "IMDS",
        status,
        detail: String::new(),
        transient: true,
        retry_after,
    };
    let pace = super::super::machine::Pace::DOCUMENTED;
    let walk = |error: &ImdsError| {
        let (mut spent, mut at) = (Duration::ZERO, vec![0]);
        while let Some(wait) = pace.next(at.len() - 1, spent, error) {
            spent += wait;
            at.push(spent.as_secs());
        }
        at
    };
    assert_eq!(walk(&refused(429, None)), [0, 2, 6, 14, 30]);
    assert_eq!(walk(&refused(410, None)), [0, 2, 6, 14, 30, 50, 70]);
    assert_eq!(walk(&refused(429, Some(Duration::from_secs(1)))), [0]);
    assert_eq!(walk(&refused(503, Some(Duration::from_secs(31)))), [0]);
    assert_eq!(walk(&ImdsError::ManyIdentities), [0]);
}

#[tokio::test]
async fn the_token_of_another_identity_is_not_handed_out() {
    let other = TOKEN.replace(CLIENT, "8d6e7a10-0000-4000-8000-000000000009");
    let server = Server::start(vec![Answer::new(200, &other)]).await;
    let which = ManagedId::Client(CLIENT.parse().unwrap());
    let sources = at(&server.url(""), Path::new("/"), one("node", Way::Managed(which)));
    let failure = refused(&sources, &key("node", VAULT)).await;
    assert!(failure.sentence.contains("another identity"), "{}", failure.sentence);
    // Neither is one for another resource.
    let server = Server::start(vec![Answer::new(200, TOKEN)]).await;
    let sources = at(&server.url(""), Path::new("/"), managed());
    let failure = refused(&sources, &key("node", "https://management.azure.com")).await;
    assert!(failure.sentence.contains("another resource"), "{}", failure.sentence);
}

#[tokio::test]
async fn past_bug_51_a_redirect_of_the_metadata_service_leads_nowhere() {
    let away = Answer::new(302, "").header("location", "{base}/elsewhere");
    let server = Server::start(vec![away, Answer::new(200, TOKEN)]).await;
    let sources = at(&server.url(""), Path::new("/"), managed());
    let failure = refused(&sources, &key("node", VAULT)).await;
    assert!(failure.sentence.contains("redirect"), "{}", failure.sentence);
    assert_eq!(server.seen().len(), 1);
    // Scopes and bound tokens are nothing that it could give; it is not even asked.
    let mut scoped = key("node", VAULT);
    scoped.scopes = vec!["user_impersonation".to_owned()];
    let mut bound = key("node", VAULT);
    bound.pop_key = Some("kid".to_owned());
    for odd in [scoped, bound] {
        assert_eq!(refused(&sources, &odd).await.class, FailureClass::Config);
    }
    assert_eq!(server.seen().len(), 1);
}

/// Arc agent CVE-2026-26117 and CVE-2026-21224: the agent's port is where its secrets go, so nothing but a
/// literal says where it is. The environment of an attacker names another; it is not read.
#[tokio::test]
async fn past_bug_49_no_variable_moves_the_arc_agent() {
    assert_eq!(HIMDS_BASE, "http://127.0.0.1:40342");
    if std::env::var_os("INNER_PAST_BUG_49").is_some() {
        let himds = crate::imds::Himds::new().unwrap();
        assert!(format!("{himds:?}").contains("\"http://127.0.0.1:40342\""));
        return;
    }
    let test = "broker::sources::tests::machine::past_bug_49_no_variable_moves_the_arc_agent";
    let decoy = Server::start(vec![Answer::new(200, TOKEN)]).await;
    let mut inner = tokio::process::Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", test, "--test-threads", "1"]).env("INNER_PAST_BUG_49", "1");
    for name in ["IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST"] {
        inner.env(name, decoy.url(""));
    }
    let done = inner.output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    assert!(decoy.seen().is_empty());
    // Another host than loopback is out of reach whoever asks.
    for base in ["http://169.254.169.253", "http://10.0.0.1:40342", "https://127.0.0.1:40342"] {
        let sources = at(base, Path::new("/"), one("arc", Way::Arc(None)));
        let failure = refused(&sources, &key("arc", VAULT)).await;
        assert!(failure.sentence.contains("not an address"), "{}", failure.sentence);
    }
}

/// CVE-2024-35255: whoever answers on the agent's port names the file that is sent to it.
#[tokio::test]
async fn past_bug_48_a_challenge_reads_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    put("good.key", b"proof");
    put("good.txt", b"s3cret");
    put("big.key", &[b'a'; 5 * 1024]);
    std::fs::write(outside.path().join("o.key"), "s3cret").unwrap();
    std::os::unix::fs::symlink(outside.path().join("o.key"), folder.path().join("link.key")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("fifo.key"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let dir = folder.path().display();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    for realm in [
        "/etc/shadow".to_owned(),
        format!("{dir}/link.key"),
        format!("{dir}/../{name}/o.key"),
        format!("{dir}/big.key"),
        format!("{dir}/fifo.key"),
        format!("{dir}/good.txt"),
    ] {
        let challenge = Answer::new(401, "").header("www-authenticate", &format!("Basic realm={realm}"));
        let server = Server::start(vec![challenge, Answer::new(200, TOKEN)]).await;
        let sources = at(&server.url(""), folder.path(), one("arc", Way::Arc(None)));
        let failure = refused(&sources, &key("arc", VAULT)).await;
        assert_eq!(failure.class, FailureClass::Config, "{realm}: {}", failure.sentence);
        assert!(failure.sentence.contains("was not read"), "{realm}: {}", failure.sentence);
        assert_eq!(server.seen().len(), 1, "{realm}: nothing was sent");
    }
    // The right file is sent once; a second challenge ends it.
    let good = Answer::new(401, "").header("www-authenticate", &format!("Basic realm={dir}/good.key"));
    let server = Server::start(vec![good]).await;
    let sources = at(&server.url(""), folder.path(), one("arc", Way::Arc(None)));
    let failure = refused(&sources, &key("arc", VAULT)).await;
    assert!(failure.sentence.contains("did not accept its own secret"), "{}", failure.sentence);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].head.contains("\nauthorization: basic proof"));
}

#[tokio::test]
async fn a_user_assigned_identity_of_an_arc_machine_must_be_named_in_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.key"), "proof").unwrap();
    let realm = format!("Basic realm={}/a.key", folder.path().display());
    let echo = |name: &str, id: &str| TOKEN.replace("{\"access", &format!("{{\"{name}\":\"{id}\",\"access"));
    for (answer, good) in [
        (TOKEN.to_owned(), false),
        (echo("msi_res_id", "/subscriptions/s/other"), false),
        (echo("msi_res_id", UAMI), true),
        (echo("mi_res_id", &UAMI.to_lowercase()), true),
    ] {
        let challenge = Answer::new(401, "").header("www-authenticate", &realm);
        let server = Server::start(vec![challenge, Answer::new(200, &answer)]).await;
        let sources = at(&server.url(""), folder.path(), one("arc", Way::Arc(Some(UAMI.to_owned()))));
        assert_eq!(sources.fetch(&key("arc", VAULT), None).await.is_ok(), good, "{answer}");
        assert!(server.seen().iter().all(|seen| seen.line.contains("&msi_res_id=%2Fsubscriptions")));
    }
}

#[tokio::test]
async fn both_services_of_another_hand_give_their_tokens() {
    let tenant = Tenant::new().await;
    let kubelet = world::KUBELET_CLIENT.parse().unwrap();
    let mut settings = one("node", Way::Managed(ManagedId::Client(kubelet)));
    settings.extend(one("object", Way::Managed(ManagedId::Object(world::KUBELET_OID.parse().unwrap()))));
    settings.extend(one("gone", Way::Managed(ManagedId::Client(world::ADDON_CLIENT.parse().unwrap()))));
    settings.extend(one("arc", Way::Arc(None)));
    let sources = tenant.sources(settings, None);
    for (name, oid) in [("node", world::KUBELET_OID), ("object", world::KUBELET_OID), ("arc", world::ARC_OID)]
    {
        let token = sources.fetch(&key(name, VAULT), None).await.unwrap();
        assert_eq!(token.stamp.oid.as_deref(), Some(oid), "{name}");
        assert_eq!(super::claims(&token)["aud"], VAULT, "{name}");
        assert!(token.client_id.is_some(), "{name}");
    }
    let failure = refused(&sources, &key("gone", VAULT)).await;
    assert_eq!(failure.class, FailureClass::Lag, "a new identity is not known at once");
    assert!(failure.sentence.contains("no such managed identity"), "{}", failure.sentence);
    let fault = json!({"kind": "status", "status": 429, "times": 3});
    tenant.control("PUT", "/control/faults/imds", fault).await;
    assert!(sources.fetch(&key("node", VAULT), None).await.is_ok(), "three refusals later");
}
