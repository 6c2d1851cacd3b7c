//! Each quirk of the HTTP door as bytes on a socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nightlatch_tokens::{Failure, FailureClass};

use super::identity_header::{BootKey, identity_header};
use super::surface_tests::{CANARY, CLIENT_ID, LIFE, OBJECT_ID, RESOURCE_ID, Rig, START, ask};

const VAULT: &str = "resource=https%3A%2F%2Fvault.azure.net";
const HOST: &str = "Host: 127.0.0.1\r\n";

fn imds(more: &str) -> String {
    get(
        &format!("/metadata/identity/oauth2/token?api-version=2018-02-01&{VAULT}{more}"),
        "Metadata: true\r\n",
    )
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{HOST}{headers}\r\n")
}

fn post(target: &str, headers: &str, form: &str) -> String {
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    format!("POST {target} HTTP/1.1\r\n{HOST}{kind}{headers}Content-Length: {}\r\n\r\n{form}", form.len())
}

#[tokio::test]
async fn a_token_has_every_field_that_a_library_reads_and_numbers_are_strings() {
    let rig = Rig::new();
    let door = rig.http(None);
    let reply = rig.raw(&door, 1_000, &imds("")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(!reply.headers.contains_key("transfer-encoding"));
    let body = reply.json();
    assert!(body["access_token"].as_str().unwrap().contains(CANARY));
    for (field, value) in [
        ("client_id", CLIENT_ID.to_owned()),
        ("expires_in", LIFE.to_string()),
        ("ext_expires_in", LIFE.to_string()),
        ("expires_on", (START.0 + LIFE).to_string()),
        ("not_before", START.0.to_string()),
        ("resource", "https://vault.azure.net".to_owned()),
        ("token_type", "Bearer".to_owned()),
    ] {
        assert_eq!(body[field], value.as_str(), "{field}");
    }
    assert!(body.get("object_id").is_none() && body.get("msi_res_id").is_none());
}

#[tokio::test]
async fn every_way_to_ask_that_a_library_has_is_answered_from_one_token() {
    let rig = Rig::new();
    let door = rig.http(None);
    let metadata = "Metadata: TRUE\r\n";
    let query = format!("api-version=2018-02-01&{VAULT}");
    let app = format!("api-version=2019-08-01&{VAULT}");
    for request in [
        get(&format!("/metadata/identity/oauth2/token?{query}"), metadata),
        get(&format!("/metadata/identity/oauth2/token/?{query}"), metadata),
        get(&format!("/Metadata/identity/oauth2/token?{query}"), metadata),
        get(&format!("/metadata/identity/oauth2/token?api-version=2020-06-01&{VAULT}%2F.default"), metadata),
        get(&format!("/msi/token?{app}"), ""),
        get(&format!("/msi/token?{app}"), "X-IDENTITY-HEADER: whatever\r\n"),
        post("/msi/token?api-version=2019-08-01", "", VAULT),
        post("/metadata/identity/oauth2/token", metadata, &query),
        get(&format!("/msi/token?{app}"), "").replace(HOST, "Host: LocalHost:50342\r\n"),
    ] {
        let reply = rig.raw(&door, 1_000, &request).await;
        assert_eq!(reply.status, 200, "{request}\n{reply:?}");
    }
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_identity_is_found_by_every_id_and_its_id_comes_back() {
    let rig = Rig::new();
    let door = rig.http(None);
    for name in ["client_id", "clientid"] {
        let reply = rig.raw(&door, 1_000, &imds(&format!("&{name}={CLIENT_ID}"))).await;
        assert_eq!((reply.status, reply.json()["client_id"].as_str()), (200, Some(CLIENT_ID)));
    }
    for name in ["object_id", "principal_id"] {
        let reply = rig.raw(&door, 1_000, &imds(&format!("&{name}={OBJECT_ID}"))).await;
        assert_eq!((reply.status, reply.json()["object_id"].as_str()), (200, Some(OBJECT_ID)));
    }
    for name in ["msi_res_id", "mi_res_id"] {
        let reply = rig.raw(&door, 1_000, &imds(&format!("&{name}={RESOURCE_ID}"))).await;
        assert_eq!((reply.status, reply.json()["msi_res_id"].as_str()), (200, Some(RESOURCE_ID)));
    }
    let other = "00000000-0000-4000-8000-0000000000bb";
    let reply = rig.raw(&door, 1_000, &imds(&format!("&client_id={other}"))).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (403, Some("identity_not_allowed")));
}

#[tokio::test]
async fn a_refusal_speaks_both_dialects_and_is_never_asked_again() {
    let rig = Rig::new();
    let door = rig.http(None);
    for uid in [0, 65_534] {
        let reply = rig.raw(&door, uid, &imds("")).await;
        assert_eq!(reply.status, 403);
        let body = reply.json();
        assert_eq!((&body["error"], &body["statusCode"]), (&"not_allowed".into(), &403.into()));
        assert_eq!(body["error_description"], body["message"]);
        let text = body["message"].as_str().unwrap();
        assert!(text.contains("rule default, ref "), "{text}");
    }
    let reply = rig.raw(&door, 4_040, &imds("")).await;
    assert_eq!((reply.status, reply.json()["error"].as_str()), (403, Some("caller_unknown")));
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_no_program_on_this_node_sends_is_refused() {
    let rig = Rig::new();
    let door = rig.http(None);
    let without_metadata = imds("").replace("Metadata: true\r\n", "");
    for (request, status) in [
        (without_metadata.clone(), 400),
        (imds("").replace("Metadata: true", "Metadata: false"), 400),
        (imds("").replace(HOST, "Host: 127.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\n"), 400),
        (imds("").replace(HOST, "Host: 127.0.0.1\r\nForwarded: for=10.0.0.1\r\n"), 400),
        (imds("").replace(HOST, "Host: rebound.example.org\r\n"), 400),
        (imds("").replace(HOST, "Host: 127.0.0.1.nip.io\r\n"), 400),
        (imds("").replace(HOST, "Host: 127.0.0.1\r\nHost: evil.example\r\n"), 400),
        (imds("").replace(HOST, ""), 400),
        (imds("").replace("GET /", "GET http://evil.example/"), 400),
        (imds("").replace("GET /", "GET http://user@127.0.0.1/"), 400),
        (imds("").replace("GET ", "HEAD "), 405),
        (imds("").replace("GET ", "PUT "), 405),
        (imds("").replace("GET ", "DELETE "), 405),
        (imds("").replace("GET ", "OPTIONS "), 405),
        (imds("&resource=https%3A%2F%2Fother"), 400),
        (imds("&client_id="), 400),
        (imds("&x=%zz"), 400),
        (get("/metadata/identity/oauth2/token", "Metadata: true\r\n"), 400),
        (post("/msi/token?api-version=2019-08-01", "", VAULT).replace("x-www-form-urlencoded", "json"), 400),
    ] {
        let reply = rig.raw(&door, 1_000, &request).await;
        assert_eq!(reply.status, status, "{request}\n{reply:?}");
        if status == 405 {
            assert_eq!(reply.headers["allow"], "GET, POST");
        } else {
            assert_eq!(reply.json()["statusCode"], status);
        }
    }
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn limits_of_a_request_hold() {
    let rig = Rig::new();
    let door = rig.http(None);
    let many = (0..80).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let large = format!("X-Large: {}\r\n", "y".repeat(40_000));
    for (request, status) in [
        (get("/healthz", &many), 431),
        (get("/healthz", &large), 431),
        (post("/msi/token?api-version=2019-08-01", "", &format!("{VAULT}&x={}", "y".repeat(9_000))), 413),
        (get("/healthz", ""), 200),
    ] {
        let mut stream = rig.connect(&door, 1_000).await;
        // A head without an end is answered when it is too large; hyper's own answer has a length, too.
        let reply = ask(&mut stream, &request).await.expect("an answer");
        assert_eq!(reply.status, status, "{} bytes", request.len());
    }
    let chunks = format!("{:x}\r\n{}\r\n", 5_000, "y".repeat(5_000)).repeat(2);
    let chunked = format!(
        "POST /msi/token?api-version=2019-08-01 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    assert_eq!(rig.raw(&door, 1_000, &chunked).await.status, 413);
}

#[tokio::test]
async fn past_bug_51_nothing_of_the_real_metadata_service_is_served() {
    let rig = Rig::new();
    let door = rig.http(None);
    for path in [
        "/metadata/instance?api-version=2021-02-01",
        "/metadata/instance/compute/userData?api-version=2021-01-01&format=text",
        "/metadata/attested/document?api-version=2020-09-01",
        "/metadata/identity/info?api-version=2018-02-01",
        "/metadata/loadbalancer",
        "/metadata/versions",
        "/",
    ] {
        let reply = rig.raw(&door, 1_000, &get(path, "Metadata: true\r\n")).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    // A caller that no rule names gets no token, whatever it asks for.
    assert_eq!(rig.raw(&door, 65_534, &imds("")).await.status, 403);
}

#[tokio::test]
async fn past_bug_50_no_trick_in_a_path_or_a_resource_gets_a_token() {
    let rig = Rig::new();
    let door = rig.http(None);
    let good = format!("api-version=2018-02-01&{VAULT}");
    for path in [
        "/metadata\\identity/oauth2/token",
        "/metadata%5cidentity/oauth2/token",
        "//metadata/identity/oauth2/token",
        "/metadata//identity/oauth2/token",
        "/metadata/x/../identity/oauth2/token",
        "/metadata/identity/oauth2/token//",
        "/metadata/identity%2foauth2/token",
    ] {
        let reply = rig.raw(&door, 1_000, &get(&format!("{path}?{good}"), "Metadata: true\r\n")).await;
        assert!(matches!(reply.status, 400 | 404), "{path}: {reply:?}");
    }
    for resource in [
        "https://vault.azure.net\\",
        "https%3A%2F%2Fvault.azure.net%5C",
        "https%3A%2F%2Fvault.azure.net%255C",
        "https://vault.azure.net//x",
        "https://vault.azure.net/../x",
        "https://me@vault.azure.net",
        "https://vault.azure.net%2Fx%00",
    ] {
        let target = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}");
        let reply = rig.raw(&door, 1_000, &get(&target, "Metadata: true\r\n")).await;
        assert_eq!(reply.status, 400, "{resource}");
    }
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn on_loopback_the_header_is_demanded_and_names_the_unit() {
    let rig = Rig::new();
    let key = Arc::new(BootKey::new(&[9; 32]));
    let door = rig.http(Some(Arc::clone(&key)));
    let storage = "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com";
    let header = |name: &str| format!("X-IDENTITY-HEADER: {}\r\n", identity_header(&key, name));
    let other = identity_header(&BootKey::new(&[8; 32]), "backup.service");
    for (uid, headers, status) in [
        (5_000, String::new(), 403),
        (5_000, "X-IDENTITY-HEADER: backup.service.00\r\n".into(), 403),
        (5_000, format!("X-IDENTITY-HEADER: {other}\r\n"), 403),
        (5_000, header("web.service"), 403),
        (5_000, header("uid:5001"), 403),
    ] {
        let reply = rig.raw(&door, uid, &get(storage, &headers)).await;
        assert_eq!(reply.status, status, "{headers}");
        // IMDS's own path has no way around it: nothing shown is answered by the demand for proof.
        let reply = rig.raw(&door, uid, &imds("").replace(HOST, &format!("{HOST}{headers}"))).await;
        assert_eq!(reply.status, if headers.is_empty() { 401 } else { status }, "{headers}");
    }
    let right = format!("/msi/token?api-version=2019-08-01&{VAULT}");
    assert_eq!(rig.raw(&door, 1_000, &get(&right, &header("uid:1000"))).await.status, 200);
    assert_eq!(rig.raw(&door, 1_000, &get(&right, "")).await.status, 403);
    assert_eq!(rig.raw(&door, 1_000, &get("/healthz", "")).await.status, 200);
}

/// What the libraries do on a server with the Arc agent: asked without proof they are told of a file, and show
/// what it holds.
#[tokio::test]
async fn on_loopback_the_dialect_of_the_arc_agent_is_spoken_too() {
    let rig = Rig::new();
    let key = Arc::new(BootKey::new(&[9; 32]));
    let door = rig.http(Some(Arc::clone(&key)));
    let ask = |more: &str| imds("").replace(HOST, &format!("{HOST}{more}"));
    let first = rig.raw(&door, 1_000, &ask("")).await;
    assert_eq!(first.status, 401);
    let realm = first.headers.get("www-authenticate").map(String::as_str);
    assert_eq!(realm, Some("Basic realm=/var/opt/azcmagent/tokens/nightlatch.key"));
    let proof = format!("Authorization: Basic {}\r\n", identity_header(&key, "uid:1000"));
    assert_eq!(rig.raw(&door, 1_000, &ask(&proof)).await.status, 200);
    assert_eq!(rig.raw(&door, 1_001, &ask(&proof)).await.status, 403);
    assert_eq!(rig.raw(&door, 1_000, &ask("Authorization: Basic none\r\n")).await.status, 403);
    // App Service's own path does not know it, and the socket needs no proof.
    let right = format!("/msi/token?api-version=2019-08-01&{VAULT}");
    assert_eq!(rig.raw(&door, 1_000, &get(&right, &proof)).await.status, 403);
    assert_eq!(rig.raw(&rig.http(None), 1_000, &ask("")).await.status, 200);
}

#[tokio::test]
async fn our_own_limit_is_429_and_a_source_that_is_down_is_503() {
    let rig = Rig::new();
    let door = rig.http(None);
    let mut stream = rig.connect(&door, 2_000).await;
    for _ in 0..2 {
        assert_eq!(ask(&mut stream, &imds("")).await.unwrap().status, 200);
    }
    let reply = ask(&mut stream, &imds("")).await.unwrap();
    assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (429, "31"));
    assert_eq!(reply.json()["error"], "rate_limited");
    rig.hands.advance(31);
    assert_eq!(ask(&mut stream, &imds("")).await.unwrap().status, 200);

    let rig = Rig::new();
    let door = rig.http(None);
    for (class, status, word) in [
        (FailureClass::Config, 400, "source_refused"),
        (FailureClass::NeedsUser, 403, "sign_in_needed"),
        (FailureClass::Transient, 503, "source_unavailable"),
    ] {
        let mut failure = Failure::new(class, "say what to do");
        failure.retry_after = Some(Duration::from_secs(9));
        *rig.source.failure.lock().unwrap() = Some(failure);
        // A new key for each, so that no failure is remembered for the next.
        let request = imds("").replace(
            "vault.azure.net",
            &format!("vault.azure.net{}", "%2F".repeat(usize::from(status == 503))),
        );
        let reply = rig.raw(&door, if status == 403 { 1_001 } else { 1_000 }, &request).await;
        if class == FailureClass::Transient {
            let wait: u64 = reply.headers["retry-after"].parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.json()["error"], word);
        rig.hands.advance(24 * 3_600);
    }
}

#[tokio::test]
async fn past_bug_45_a_process_that_is_gone_is_not_answered_on_its_own_connection() {
    let rig = Rig::new();
    let door = rig.http(None);
    let mut stream = rig.connect(&door, 1_000).await;
    assert_eq!(ask(&mut stream, &imds("")).await.unwrap().status, 200);
    rig.there.store(false, Ordering::SeqCst);
    let reply = ask(&mut stream, &imds("")).await.unwrap();
    assert_eq!((reply.status, reply.json()["error"].as_str()), (403, Some("caller_unknown")));
}

#[tokio::test]
async fn a_rule_with_a_longest_life_serves_no_older_token_and_tells_no_later_end() {
    let rig = Rig::new();
    let door = rig.http(None);
    let first = rig.raw(&door, 3_000, &imds("")).await.json();
    assert_eq!(first["expires_in"], "900");
    assert_eq!(first["expires_on"], (START.0 + 900).to_string());
    rig.hands.advance(899);
    let kept = rig.raw(&door, 3_000, &imds("")).await.json();
    assert_eq!((&kept["access_token"], &kept["expires_in"]), (&first["access_token"], &"900".into()));
    rig.hands.advance(1);
    let newer = rig.raw(&door, 3_000, &imds("")).await.json();
    assert_ne!(newer["access_token"], first["access_token"]);
    rig.hands.advance(901);
    *rig.source.failure.lock().unwrap() = Some(Failure::new(FailureClass::Transient, "down"));
    let reply = rig.raw(&door, 3_000, &imds("")).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    // Others, whose rule has no such limit, are served while Entra is away.
    assert_eq!(rig.raw(&door, 1_000, &imds("")).await.status, 200);
}

#[tokio::test]
async fn past_bug_54_no_event_and_no_refusal_holds_a_token() {
    let rig = Rig::new();
    let door = rig.http(None);
    let mut refusals = String::new();
    for uid in [1_000, 2_000, 2_000, 2_000, 65_534] {
        // The second time of each is a repeat, whose count is the writer's last word.
        let reply = rig.raw(&door, uid, &imds("")).await;
        if reply.status != 200 {
            refusals.push_str(&reply.body);
        }
    }
    assert!(refusals.contains("not_allowed") && refusals.contains("rate_limited"), "{refusals}");
    assert!(!refusals.contains(CANARY));
    let events = rig.events().await;
    assert!(events.contains("\"uti\":\"uti-1\"") && events.contains("\"word\":\"not_allowed\""), "{events}");
    assert!(!events.contains(CANARY), "{events}");
}
