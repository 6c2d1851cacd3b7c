//! The limits of the client, against a server that misbehaves.

use super::*;
use crate::entra::tiny_server::{Answer, Server};
use nightlatch_model::Timestamp;

#[tokio::test]
async fn the_reach_is_enforced_before_anything_is_sent() {
    let node = Http::node().unwrap();
    let internet = Http::internet(ProxyRule::Direct).unwrap();
    for url in [
        "http://169.254.169.253/",
        "http://localhost:1/",
        "https://169.254.169.254/",
        "http://user@169.254.169.254/",
        "http://169.254.169.254.example.com/",
        "file:///etc/passwd",
        "x",
    ] {
        let said = node.send(Request::get(url)).await.map(|_| ());
        assert!(matches!(said, Err(HttpError::OutOfReach(_))), "{url}");
    }
    for url in ["http://login.microsoftonline.com/", "http://169.254.169.254/", "https://a:b@example.com/"] {
        let said = internet.send(Request::get(url)).await.map(|_| ());
        assert!(matches!(said, Err(HttpError::OutOfReach(_))), "{url}");
    }
}

#[tokio::test]
async fn faults_are_errors_with_their_own_names() {
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let server = Server::start(vec![
        Answer::new(302, "").header("location", "http://127.0.0.1:1/"),
        Answer::new(200, &"x".repeat(MAX_BODY_BYTES + 1)),
        Answer::new(200, &"x".repeat(MAX_BODY_BYTES + 1)).chunked(),
        Answer::never(),
        Answer::cut(),
        Answer::new(200, "Not here"),
        Answer::new(200, &"[".repeat(100_000)),
    ])
    .await;
    let ask = || http.send(Request::get(server.url("/x")).within(Duration::from_millis(500)));
    assert!(matches!(ask().await, Err(HttpError::Redirected { status: 302, .. })));
    assert!(matches!(ask().await, Err(HttpError::TooLarge { .. })));
    assert!(matches!(ask().await, Err(HttpError::TooLarge { .. })));
    assert!(matches!(ask().await, Err(HttpError::TimedOut { .. })));
    assert!(matches!(ask().await, Err(HttpError::Unreachable { .. })));
    for _ in 0..2 {
        let reply = ask().await.unwrap();
        let said = reply.json::<serde_json::Value>();
        assert!(matches!(said, Err(HttpError::NotUnderstood { status: 200, .. })));
    }
    assert_eq!(server.seen().len(), 7, "a redirect was followed or a request repeated");
}

#[tokio::test]
async fn waits_and_remaining_calls_are_read() {
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let now = Timestamp::from_rfc3339("1994-11-06T08:49:00Z").unwrap();
    let server = Server::start(vec![
        Answer::new(429, "").header("retry-after", "17"),
        Answer::new(429, "").header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
        Answer::new(429, "")
            .header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("date", "Sun, 06 Nov 1994 08:49:30 GMT"),
        Answer::new(429, "").header("retry-after", "99999999999999999999"),
        Answer::new(429, "").header("retry-after", "soon"),
        Answer::new(200, "")
            .header("x-ms-ratelimit-remaining-subscription-reads", "249")
            .header("x-ms-ratelimit-remaining-tenant-reads", "11"),
    ])
    .await;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let reply = http.send(Request::get(server.url("/"))).await.unwrap();
        assert!(reply.is_transient());
        waits.push(reply.retry_after(now).map(|d| d.as_secs()));
    }
    assert_eq!(waits, [Some(17), Some(37), Some(7), Some(3600), None]);
    let reply = http.send(Request::get(server.url("/"))).await.unwrap();
    assert_eq!(reply.remaining_calls(), Some(11));
}

/// Runs itself again with a proxy in the environment, which a test may not set for all threads.
#[tokio::test]
async fn the_environment_moves_the_internet_reach_only() {
    if std::env::var_os("NIGHTLATCH_TEST_INNER").is_none() {
        let proxy = Server::start(vec![Answer::new(200, "proxy")]).await;
        let mut inner = tokio::process::Command::new(std::env::current_exe().unwrap());
        inner.args(["--exact", "entra::http::tests::the_environment_moves_the_internet_reach_only"]);
        inner.env("NIGHTLATCH_TEST_INNER", "1").env_remove("NO_PROXY").env_remove("no_proxy");
        for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            inner.env(name, proxy.url("/"));
        }
        let done = inner.output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        assert_eq!(proxy.seen().len(), 1, "the inner test did not run");
        return;
    }
    let server = Server::start(vec![Answer::new(200, "direct")]).await;
    let clients = [
        (Http::node().unwrap(), "direct"),
        (Http::internet(ProxyRule::Direct).unwrap(), "direct"),
        (Http::internet(ProxyRule::Environment).unwrap(), "proxy"),
    ];
    for (http, expected) in clients {
        let reply = http.send(Request::get(server.url("/"))).await.unwrap();
        assert_eq!(reply.body(), expected.as_bytes());
    }
}

#[test]
fn queries_are_escaped_and_origins_compared() {
    assert_eq!(with_query("https://h/p", &[("a", "b c/&=+é")]), "https://h/p?a=b%20c%2F%26%3D%2B%C3%A9");
    let home = "https://management.azure.com/x";
    assert!(same_origin(home, "https://management.azure.com/y?z"));
    for link in [
        "https://management.azure.com:444/y",
        "http://management.azure.com/y",
        "https://management.azure.com.evil.example/y",
        "https://management.azure.com@evil.example/y",
        "https://u@management.azure.com/y",
        "/y",
        "",
    ] {
        assert!(!same_origin(home, link), "{link}");
    }
}
