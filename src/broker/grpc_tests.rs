//! The verbs of broker.sock, with the details of their errors, and watches that end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use nightlatch_tokens::{Failure, FailureClass};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::surface_tests::{CANARY, CLIENT_ID, LIFE, RULES, Rig, START, policy};
use super::v1::token_broker_client::TokenBrokerClient;
use super::v1::{self, GetTokenRequest};

/// How long anything in these tests may take.
const SOON: Duration = Duration::from_secs(20);

async fn channel(rig: &Rig, door: &PathBuf, uid: u32) -> Channel {
    let stream = rig.connect(door, uid).await;
    let mut once = Some(TokioIo::new(stream));
    let connect = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = once.take().ok_or_else(|| std::io::Error::other("only one connection"));
        async move { stream }
    });
    Endpoint::from_static("http://nightlatch").connect_with_connector(connect).await.unwrap()
}

async fn client(rig: &Rig, door: &PathBuf, uid: u32) -> TokenBrokerClient<Channel> {
    TokenBrokerClient::new(channel(rig, door, uid).await)
}

fn vault() -> GetTokenRequest {
    GetTokenRequest { resource: "https://vault.azure.net/.default".into(), ..GetTokenRequest::default() }
}

#[tokio::test]
async fn a_token_comes_with_where_it_is_from_and_why() {
    let rig = Rig::new();
    let mut client = client(&rig, &rig.grpc(), 1_000).await;
    let first = client.get_token(vault()).await.unwrap().into_inner();
    assert!(first.token.contains(CANARY));
    assert_eq!((first.source.as_str(), first.age, first.token_type.as_str()), ("source", 0, "Bearer"));
    assert_eq!((first.identity.as_str(), first.rule.as_str()), ("node", "web"));
    assert_eq!((first.expires_on, first.client_id.as_str()), (START.0 + LIFE, CLIENT_ID));
    assert!(first.refresh_on > START.0 && first.refresh_on < first.expires_on);
    assert_eq!(first.correlation.len(), 10);
    rig.hands.advance(20);
    let again = client.get_token(vault()).await.unwrap().into_inner();
    assert_eq!((again.source.as_str(), again.age), ("cache", 20));
    assert_eq!((&again.token, rig.source.made.load(Ordering::SeqCst)), (&first.token, 1));
}

#[tokio::test]
async fn a_caller_that_did_not_ask_for_it_never_gets_a_token_for_continuous_evaluation() {
    let rig = Rig::new();
    let mut client = client(&rig, &rig.grpc(), 1_000).await;
    let cae = GetTokenRequest { enable_cae: true, ..vault() };
    for _ in 0..3 {
        assert!(client.get_token(cae.clone()).await.unwrap().into_inner().token.contains("-cae-"));
        assert!(client.get_token(vault()).await.unwrap().into_inner().token.contains("-plain-"));
    }
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn errors_have_a_code_a_word_and_what_to_do() {
    let rig = Rig::new();
    let door = rig.grpc();
    let denied = client(&rig, &door, 65_534).await.get_token(vault()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let info = denied.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("not_allowed", "nightlatch"));
    assert_eq!(info.metadata["rule"], "default");
    assert_eq!(info.metadata["caller"], "uid 65534, host on imds.sock, unit web.service");
    assert!(denied.message().contains(&info.metadata["correlation"]));

    let unknown = client(&rig, &door, 4_040).await.get_token(vault()).await.unwrap_err();
    assert_eq!(unknown.get_details_error_info().unwrap().reason, "caller_unknown");

    let mut slow = client(&rig, &door, 2_000).await;
    for _ in 0..2 {
        slow.get_token(vault()).await.unwrap();
    }
    let limited = slow.get_token(vault()).await.unwrap_err();
    assert_eq!(limited.code(), Code::ResourceExhausted);
    assert_eq!(limited.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(31)));

    let mut web = client(&rig, &door, 1_000).await;
    for bad in [
        GetTokenRequest::default(),
        GetTokenRequest { resource: "https://a\\b".into(), ..vault() },
        GetTokenRequest { purpose: "fun".into(), ..vault() },
        GetTokenRequest { claims: "[]".into(), ..vault() },
        GetTokenRequest { scopes: vec!["a b".into()], ..vault() },
        GetTokenRequest { scopes: vec!["s".into(); 33], ..vault() },
    ] {
        let refused = web.get_token(bad.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, "bad_request");
    }
    let large = GetTokenRequest { claims: "x".repeat(70_000), ..vault() };
    assert!(web.get_token(large).await.is_err());

    let mut failure = Failure::new(FailureClass::NeedsUser, "sign in again");
    failure.claims = Some("{\"a\":1}".into());
    *rig.source.failure.lock().unwrap() = Some(failure);
    let person = GetTokenRequest { force_refresh: true, enable_cae: true, ..vault() };
    let sign_in = web.get_token(person).await.unwrap_err();
    assert_eq!(sign_in.code(), Code::FailedPrecondition);
    let info = sign_in.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["command"].as_str()),
        ("sign_in_needed", "nightlatch login")
    );
    assert_eq!(info.metadata["claims"], "{\"a\":1}");
}

#[tokio::test]
async fn a_source_that_is_down_says_when_to_ask_again() {
    let rig = Rig::new();
    *rig.source.failure.lock().unwrap() =
        Some(Failure::new(FailureClass::Transient, "Entra does not answer"));
    let down = client(&rig, &rig.grpc(), 1_000).await.get_token(vault()).await.unwrap_err();
    assert_eq!(down.code(), Code::Unavailable);
    assert_eq!(down.get_details_error_info().unwrap().reason, "source_unavailable");
    assert!(down.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn a_proof_without_a_key_is_a_setting_and_not_a_bearer_token() {
    let rig = Rig::new();
    let request =
        v1::GetPopTokenRequest { token: Some(vault()), u: "/subscriptions/s".into(), nonce: String::new() };
    let refused = client(&rig, &rig.grpc(), 1_000).await.get_pop_token(request).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().reason, "pop_not_allowed");
    rig.broker.set_policy(policy(&RULES.replace("cae = true", "pop = true")));
    let request =
        v1::GetPopTokenRequest { token: Some(vault()), u: "/subscriptions/s".into(), nonce: String::new() };
    let refused = client(&rig, &rig.grpc(), 1_000).await.get_pop_token(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_watch_brings_each_newer_token_and_ends_when_the_policy_says_no() {
    let rig = Rig::new();
    let mut client = client(&rig, &rig.grpc(), 1_000).await;
    let mut watch = client.watch_token(vault()).await.unwrap().into_inner();
    let first = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    rig.hands.advance(60);
    let forced = GetTokenRequest { force_refresh: true, ..vault() };
    let newer = client.get_token(forced).await.unwrap().into_inner();
    assert_ne!(newer.token, first.token);
    let second = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.token, newer.token);
    // A policy that still allows it brings nothing and ends nothing; the next does.
    rig.broker.set_policy(policy(RULES));
    rig.broker.set_policy(policy(&RULES.replace("[1000, 1001]", "[1001]")));
    let ended = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert!(timeout(SOON, watch.next()).await.unwrap().is_none());
    // What was allowed a moment ago is not served from the cache either.
    assert_eq!(client.get_token(vault()).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_watch_that_is_not_allowed_does_not_begin_and_one_without_a_process_ends() {
    let rig = Rig::new();
    let door = rig.grpc();
    let refused = client(&rig, &door, 65_534).await.watch_token(vault()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut web = client(&rig, &door, 1_000).await;
    let mut watch = web.watch_token(vault()).await.unwrap().into_inner();
    timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    let other = client(&rig, &door, 1_001).await.watch_token(vault()).await.unwrap();
    drop(other);
    rig.hands.advance(60);
    rig.there.store(false, Ordering::SeqCst);
    let ask = nightlatch_tokens::Ask {
        force_refresh: true,
        ..nightlatch_tokens::Ask::new(
            nightlatch_tokens::IdentityRef::Default,
            "https://vault.azure.net".parse().unwrap(),
        )
    };
    rig.broker.get(&super::surface_tests::caller(1_000), &ask).await.ok().unwrap();
    let ended = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(ended.get_details_error_info().unwrap().reason, "caller_unknown");
}

#[tokio::test]
async fn the_broker_tells_what_it_sees_and_never_a_token() {
    let rig = Rig::new();
    let door = rig.grpc();
    let mut web = client(&rig, &door, 1_000).await;
    let dry = web.explain(vault()).await.unwrap().into_inner();
    assert!(dry.allowed && !dry.cached);
    assert_eq!((dry.rule.as_str(), dry.identity.as_str()), ("web", "node"));
    assert_eq!(dry.trace[0].outcome, "permit");
    assert_eq!(rig.source.made.load(Ordering::SeqCst), 0);
    web.get_token(vault()).await.unwrap();
    rig.hands.advance(100);
    let dry = web.explain(vault()).await.unwrap().into_inner();
    assert_eq!((dry.cached, dry.seconds_left), (true, LIFE - 100));
    let no = client(&rig, &door, 65_534).await.explain(vault()).await.unwrap().into_inner();
    assert_eq!((no.allowed, no.rule.as_str(), no.reason.as_str()), (false, "default", "not_allowed"));

    let me = web.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.uid, me.place.as_str(), me.unit.as_str(), me.pid), (1_000, "host", "web.service", 7));
    assert_eq!(
        (me.person.unwrap().username.as_str(), &me.rules[..]),
        ("anna@contoso.com", &["web".to_owned()][..])
    );
    let list = web.list_identities(v1::ListIdentitiesRequest {}).await.unwrap().into_inner();
    let node = list.identities.iter().find(|identity| identity.name == "node").unwrap();
    assert_eq!((node.kind.as_str(), node.client_id.as_str()), ("managed", CLIENT_ID));
    assert_eq!(node.resources, ["https://vault.azure.net"]);

    // The node's token is not the uid's; root sees it.
    assert!(web.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens.is_empty());
    let mut root = client(&rig, &door, 0).await;
    let kept = root.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner();
    assert_eq!((kept.tokens.len(), kept.tokens[0].uti.as_str()), (1, "uti-1"));
    assert!(!format!("{kept:?}{list:?}{dry:?}").contains(CANARY));
}

#[tokio::test]
async fn past_bug_22_a_persons_token_is_kept_and_shown_under_its_own_uid_only() {
    let rig = Rig::new();
    let door = rig.grpc();
    let mine = GetTokenRequest {
        identity: Some(v1::Identity { by: Some(v1::identity::By::Person(true)) }),
        ..vault()
    };
    let mut anna = client(&rig, &door, 1_000).await;
    let mut ben = client(&rig, &door, 1_001).await;
    let hers = anna.get_token(mine.clone()).await.unwrap().into_inner();
    let his = ben.get_token(mine.clone()).await.unwrap().into_inner();
    assert_ne!(hers.token, his.token);
    assert_eq!(anna.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens.len(), 1);
    // Signing out forgets hers and leaves his.
    let out = anna.logout(v1::LogoutRequest {}).await.unwrap().into_inner();
    assert_eq!(out.username, "anna@contoso.com");
    assert!(anna.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens.is_empty());
    assert_eq!(ben.get_token(mine).await.unwrap().into_inner().token, his.token);
}

#[tokio::test]
async fn signing_in_passes_its_steps_on_and_only_the_right_uid_finishes() {
    let rig = Rig::new();
    let door = rig.grpc();
    let mut anna = client(&rig, &door, 1_000).await;
    let wish = v1::BeginLoginRequest { redirect_port: 4_711, ..v1::BeginLoginRequest::default() };
    let mut steps = anna.begin_login(wish).await.unwrap().into_inner();
    let step = steps.next().await.unwrap().unwrap().step.unwrap();
    assert!(
        matches!(step, v1::login_progress::Step::Browser(page) if page.url.ends_with("uid=1000&port=4711"))
    );
    let step = steps.next().await.unwrap().unwrap().step.unwrap();
    assert!(matches!(step, v1::login_progress::Step::Done(who) if who.username == "anna@contoso.com"));
    assert!(steps.next().await.is_none());
    let redirect = v1::FinishLoginRequest { redirect: "code=1".into() };
    anna.finish_login(redirect.clone()).await.unwrap();
    let stranger = client(&rig, &door, 1_001).await.finish_login(redirect).await.unwrap_err();
    assert_eq!(stranger.code(), Code::InvalidArgument);
    let port = v1::BeginLoginRequest { redirect_port: 70_000, ..v1::BeginLoginRequest::default() };
    assert_eq!(anna.begin_login(port).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn health_is_served_to_everybody() {
    use tonic_health::pb::health_check_response::ServingStatus;
    let rig = Rig::new();
    let channel = channel(&rig, &rig.grpc(), 65_534).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let service = "nightlatch.broker.v1.TokenBroker".to_owned();
    let reply = health.check(tonic_health::pb::HealthCheckRequest { service }).await.unwrap().into_inner();
    assert_eq!(reply.status(), ServingStatus::Serving);
    assert!(Arc::strong_count(&rig.broker) > 1);
}
