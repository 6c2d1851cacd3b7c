//! Everything that can go wrong on the way. No fault is a yes, and none is the person's denial.

use super::*;
use crate::entra::http::MAX_BODY_BYTES;

/// Every fault around decisions that `shape` turns into the whole answer of one back end. With 200 and
/// nothing wrong that answer would make the person an administrator.
fn faults(shape: fn(&[String]) -> String) -> Vec<(&'static str, Answer)> {
    let page = shape;
    let allowed = page(&[decision("Allowed", LOGIN), decision("Allowed", ADMIN)]);
    vec![
        ("silence", Answer::never()),
        ("cut short", Answer::cut()),
        ("too slow", Answer::new(200, &allowed).after(Duration::from_secs(30))),
        ("redirect", Answer::new(302, &allowed).header("location", "{base}/elsewhere")),
        ("temporary redirect", Answer::new(307, &allowed).header("location", "{base}/elsewhere")),
        ("huge", Answer::new(200, &format!("{allowed}{}", " ".repeat(MAX_BODY_BYTES)))),
        ("huge in chunks", Answer::new(200, &format!("{allowed}{}", " ".repeat(MAX_BODY_BYTES))).chunked()),
        ("deep", Answer::new(200, &"[".repeat(100_000))),
        ("nothing", Answer::new(200, "")),
        ("no content", Answer::new(204, "")),
        ("a login page", Answer::new(200, "<html>Sign in</html>")),
        ("null", Answer::new(200, "null")),
        ("an empty object", Answer::new(200, "{}")),
        ("an empty list", Answer::new(200, "[]")),
        ("an empty page", Answer::new(200, r#"{"value":[],"nextLink":null}"#)),
        ("half of it", Answer::new(200, &allowed[..allowed.len() - 9])),
        ("one decision of two", Answer::new(200, &page(&[decision("Allowed", LOGIN)]))),
        ("a new word", Answer::new(200, &page(&[decision("Maybe", LOGIN), decision("Allowed", ADMIN)]))),
        ("other actions", Answer::new(200, &page(&[decision("Allowed", "x"), decision("Allowed", "*")]))),
        ("bad request", Answer::new(400, &allowed)),
        ("unauthorized", Answer::new(401, &allowed)),
        ("forbidden", Answer::new(403, &allowed)),
        ("not found", Answer::new(404, &allowed)),
        ("gone", Answer::new(410, &allowed)),
        ("throttled", Answer::new(429, &allowed).header("retry-after", "60")),
        ("broken", Answer::new(500, &allowed)),
        ("bad gateway", Answer::new(502, "<html>")),
        ("unavailable", Answer::new(503, &allowed).header("retry-after", "60")),
    ]
}

fn bare_list(decisions: &[String]) -> String {
    format!("[{}]", decisions.join(","))
}

async fn no_fault_is_an_answer(shape: fn(&[String]) -> String, source: fn(Caller, &str) -> RoleSource) {
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let imds = Server::start(vec![Answer::new(200, r#"{"access_token":"tok","expires_in":"3600"}"#)]).await;
    let identity = TokenSource::Imds { imds: Imds::at(&imds.url("")).unwrap(), client_id: None };
    let identity = NodeIdentity::new(vec![identity]);
    for (name, answer) in faults(shape) {
        let server = Server::start(vec![answer]).await;
        // Short where nothing comes or everything is tried again, long where there is an answer to read.
        let patience = match name {
            "silence" | "too slow" | "cut short" | "broken" | "bad gateway" | "unavailable" => 250,
            _ => 20_000,
        };
        // Each with a budget of its own, so that one's throttling does not stop the next.
        let caller = Caller::new(http.clone(), identity.clone(), "https://example");
        let source = source(caller, &server.url(""));
        if name == "an empty page" && matches!(source, RoleSource::Listing(_)) {
            continue; // Nothing listed is an answer: no assignment.
        }
        let found = source.roles(&question(), &login(patience)).await;
        let said = cause(&found.answer);
        match name {
            "throttled" => assert_eq!(said, &UnknownCause::Throttled { retry_after: 60 }),
            "forbidden" | "not found" => {}
            _ => assert!(matches!(said, UnknownCause::Upstream(_)), "{name}: {said:?}"),
        }
        assert!(server.seen().iter().all(|seen| !seen.line.contains("elsewhere")), "{name}");
    }
}

#[tokio::test]
async fn no_fault_of_the_pdp_is_an_answer_about_the_person() {
    no_fault_is_an_answer(page, |caller, url| RoleSource::Pdp(Pdp::new(caller, url))).await;
}

#[tokio::test]
async fn no_fault_of_checkaccess_is_an_answer_about_the_person() {
    no_fault_is_an_answer(bare_list, |caller, url| RoleSource::CheckAccess(CheckAccess::new(caller, url)))
        .await;
}

#[tokio::test]
async fn no_fault_of_a_list_is_an_answer_about_the_person() {
    no_fault_is_an_answer(page, |caller, url| RoleSource::Listing(Listing::new(caller, url))).await;
}

#[tokio::test]
async fn a_node_without_a_token_finds_nothing_out_and_sends_nothing() {
    let server = Server::start(vec![both("Allowed")]).await;
    let caller = Caller::new(Http::internet(ProxyRule::Direct).unwrap(), NodeIdentity::new(Vec::new()), "a");
    let source = RoleSource::Pdp(Pdp::new(caller, &server.url("")));
    let found = source.roles(&question(), &login(300)).await;
    assert!(matches!(cause(&found.answer), UnknownCause::Upstream(text) if text.contains("identity")));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn without_a_scope_nothing_is_asked_and_nothing_granted() {
    let server = Server::start(vec![both("Allowed")]).await;
    let question = RoleQuestion { scopes: Vec::new(), ..question() };
    let found = pdp(&server).await.roles(&question, &login(300)).await;
    assert!(matches!(cause(&found.answer), UnknownCause::Upstream(_)));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_login_waits_out_a_short_throttle_and_a_refresh_does_not() {
    let throttled = || Answer::new(429, "").header("retry-after", "0");
    let server = Server::start(vec![throttled(), throttled(), both("Allowed")]).await;
    let source = pdp(&server).await;
    let refresh = Ask { purpose: Purpose::Refresh, ..login(9000) };
    let found = source.roles(&question(), &refresh).await;
    assert!(matches!(cause(&found.answer), UnknownCause::Throttled { .. }));
    let found = source.roles(&question(), &login(9000)).await;
    assert_eq!(role(&found.answer), Some(Role::Admin));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_passing_fault_is_tried_again_and_a_refused_token_replaced_once() {
    let server = Server::start(vec![Answer::new(503, ""), Answer::new(401, "{}"), both("Allowed")]).await;
    let found = pdp(&server).await.roles(&question(), &login(9000)).await;
    assert_eq!(role(&found.answer), Some(Role::Admin));

    let server = Server::start(vec![Answer::new(401, "{}")]).await;
    let found = pdp(&server).await.roles(&question(), &login(9000)).await;
    assert!(matches!(cause(&found.answer), UnknownCause::Upstream(_)));
    assert_eq!(server.seen().len(), 2);

    let server = Server::start(vec![Answer::new(500, "")]).await;
    let _ = pdp(&server).await.roles(&question(), &login(9000)).await;
    assert_eq!(server.seen().len(), 3, "three tries");
}

#[tokio::test]
async fn a_metadata_service_that_is_busy_is_asked_again() {
    let token = Answer::new(200, r#"{"access_token":"tok","expires_in":"3600"}"#);
    let imds = Server::start(vec![Answer::new(429, ""), token]).await;
    let source = TokenSource::Imds { imds: Imds::at(&imds.url("")).unwrap(), client_id: None };
    let server = Server::start(vec![both("Allowed")]).await;
    let caller =
        Caller::new(Http::internet(ProxyRule::Direct).unwrap(), NodeIdentity::new(vec![source]), "a");
    let found = RoleSource::Pdp(Pdp::new(caller, &server.url(""))).roles(&question(), &login(9000)).await;
    assert_eq!(role(&found.answer), Some(Role::Admin));
    assert_eq!(imds.seen().len(), 2);
}

/// What the person gets when the decision point throttles and ARM says this.
async fn relieved(arm: Answer, milliseconds: u64) -> (RoleAnswer, usize) {
    let busy = Server::start(vec![Answer::new(429, "{}").header("retry-after", "60")]).await;
    let arm = Server::start(vec![arm]).await;
    let relief = CheckAccess::new(caller("https://management.azure.com/").await, &arm.url(""));
    let pdp = Pdp::new(caller("https://authorization.azure.net").await, &busy.url(""));
    let source = RoleSource::Pdp(pdp.with_relief(relief));
    let found = source.roles(&question(), &login(milliseconds)).await;
    (found.answer, busy.seen().len() + arm.seen().len())
}

#[tokio::test]
async fn arm_relieves_a_throttled_decision_point_and_denies_nobody_a_role() {
    let list = |word: &str| Answer::new(200, &bare_list(&[decision(word, LOGIN), decision(word, ADMIN)]));
    assert_eq!(role(&relieved(list("Allowed"), 5_000).await.0), Some(nightlatch_model::Role::Admin));
    let (denied, _) = relieved(list("Denied"), 5_000).await;
    assert!(matches!(denied, RoleAnswer::NotGranted(Refused::DenyAssignment { .. })), "{denied:?}");
    let throttled = || Answer::new(429, "{}").header("retry-after", "60");
    for arm in [
        list("NotAllowed"),
        Answer::new(403, "{}"),
        Answer::new(404, "{}"),
        throttled(),
        Answer::new(500, ""),
    ] {
        let (answer, calls) = relieved(arm, 1_500).await;
        assert!(matches!(cause(&answer), UnknownCause::Throttled { .. }), "{answer:?}");
        // Neither service is asked again while it said to wait; only a broken one is tried anew.
        assert!(calls <= 4, "{calls} calls");
    }
}

#[tokio::test]
async fn a_refresh_does_not_use_up_what_relieves_logins() {
    let busy = Server::start(vec![Answer::new(429, "{}").header("retry-after", "60")]).await;
    let arm = Server::start(vec![Answer::new(200, "[]")]).await;
    let relief = CheckAccess::new(caller("https://management.azure.com/").await, &arm.url(""));
    let pdp = Pdp::new(caller("https://authorization.azure.net").await, &busy.url("")).with_relief(relief);
    let ask = Ask::new(Purpose::Refresh, NOW, Duration::from_secs(5));
    let found = RoleSource::Pdp(pdp).roles(&question(), &ask).await;
    assert!(matches!(cause(&found.answer), UnknownCause::Throttled { .. }));
    assert!(arm.seen().is_empty());
}

#[tokio::test]
async fn a_nodes_own_pace_is_no_reason_to_ask_arm() {
    let server = Server::start(vec![both("Allowed")]).await;
    let arm = Server::start(vec![Answer::new(200, "[]")]).await;
    let relief = CheckAccess::new(caller("https://management.azure.com/").await, &arm.url(""));
    let pdp = Pdp::new(caller("https://authorization.azure.net").await, &server.url("")).with_relief(relief);
    let source = RoleSource::Pdp(pdp);
    let burst = usize::try_from(crate::azure::LOCAL_BURST).unwrap();
    let many = (0..burst + 5).map(|_| {
        let source = source.clone();
        tokio::spawn(async move { source.roles(&question(), &login(5_000)).await })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(role(&one.await.unwrap().answer).is_some());
    }
    assert_eq!((server.seen().len(), arm.seen().len()), (burst + 5, 0));
}
