//! What each refusal means. The numbers of the table choose words only: a test takes them away and expects
//! the same class.

use std::time::Duration;

use nightlatch_model::Secret;
use nightlatch_tokens::{Failure, FailureClass};
use serde_json::json;

use super::{CLIENT, NOW, TENANT, endpoint};
use crate::entra::http::{Http, HttpError, ProxyRule};
use crate::entra::oauth::failure::{page, unheard};
use crate::entra::oauth::{
    Client, DEVICE_CODE_GRANT, Form, Grant, ON_BEHALF_OF_GRANT, Said, TokenEndpoint, classify,
};
use crate::entra::tiny_server::{Answer, Server};

use FailureClass::{Config, Lag, NeedsUser, Revoked, Transient};

/// Number, status, `error`, `suberror`, grant, class, a word of the advice.
type Row = (u32, u16, &'static str, Option<&'static str>, Grant, FailureClass, &'static str);

const ROWS: &[Row] = &[
    // Ask again later.
    (0, 500, "server_error", None, Grant::Client, Transient, "asked again"),
    (0, 502, "invalid_client", None, Grant::Client, Transient, "prove itself"),
    (0, 408, "invalid_request", None, Grant::Refresh, Transient, "asked again"),
    (0, 429, "temporarily_unavailable", None, Grant::Client, Transient, "left alone"),
    (90_033, 503, "temporarily_unavailable", None, Grant::Refresh, Transient, "asked again"),
    (90_055, 400, "temporarily_unavailable", None, Grant::Client, Transient, "asked again"),
    (70_016, 400, "authorization_pending", None, Grant::Device, Transient, "not finished"),
    (0, 400, "slow_down", None, Grant::Device, Transient, "not finished"),
    // Perhaps not known everywhere yet.
    (7_000_215, 401, "invalid_client", None, Grant::Client, Lag, "secret_file"),
    (7_000_222, 401, "invalid_client", None, Grant::Client, Lag, "expired"),
    (700_027, 401, "invalid_client", None, Grant::Client, Lag, "certificate_file"),
    (700_024, 401, "invalid_client", None, Grant::Client, Lag, "clock"),
    (700_211, 401, "invalid_client", None, Grant::Client, Lag, "issuer"),
    (700_213, 401, "invalid_client", None, Grant::Client, Lag, "subject"),
    (700_016, 400, "unauthorized_client", None, Grant::Client, Lag, "client_id"),
    (0, 401, "invalid_client", None, Grant::OnBehalfOf, Lag, "prove itself"),
    // A person has to do something.
    (50_076, 400, "interaction_required", Some("basic_action"), Grant::Refresh, NeedsUser, "factor"),
    (50_079, 400, "interaction_required", Some("basic_action"), Grant::OnBehalfOf, NeedsUser, "factor"),
    (50_058, 400, "interaction_required", None, Grant::Refresh, NeedsUser, "sign in"),
    (65_001, 400, "invalid_grant", Some("consent_required"), Grant::Refresh, NeedsUser, "consent"),
    (70_043, 400, "invalid_grant", Some("token_expired"), Grant::Refresh, NeedsUser, "older"),
    (0, 400, "invalid_grant", Some("basic_action"), Grant::Refresh, NeedsUser, "proof"),
    (0, 400, "invalid_grant", Some("additional_action"), Grant::Refresh, NeedsUser, "proof"),
    (0, 400, "invalid_grant", Some("user_password_expired"), Grant::Refresh, NeedsUser, "older"),
    (0, 400, "invalid_grant", Some("something_new"), Grant::Refresh, NeedsUser, "sign in"),
    (0, 400, "consent_required", None, Grant::Code, NeedsUser, "consent"),
    (0, 400, "login_required", None, Grant::Refresh, NeedsUser, "sign in"),
    (70_000, 400, "invalid_grant", None, Grant::Code, NeedsUser, "sign in"),
    (500_133, 400, "invalid_grant", None, Grant::OnBehalfOf, NeedsUser, "sign in"),
    (70_020, 400, "authorization_declined", None, Grant::Device, NeedsUser, "declined"),
    (70_019, 400, "expired_token", None, Grant::Device, NeedsUser, "too long"),
    (70_018, 400, "bad_verification_code", None, Grant::Device, NeedsUser, "mistyped"),
    (0, 400, "access_denied", None, Grant::Code, NeedsUser, "declined"),
    // The refresh token is dead.
    (50_173, 400, "invalid_grant", Some("bad_token"), Grant::Refresh, Revoked, "ended"),
    (700_082, 400, "invalid_grant", Some("bad_token"), Grant::Refresh, Revoked, "unused"),
    (70_008, 400, "invalid_grant", None, Grant::Refresh, Revoked, "ended"),
    (50_057, 400, "invalid_grant", None, Grant::Refresh, Revoked, "disabled"),
    // A setting.
    (500_011, 400, "invalid_resource", None, Grant::Client, Config, "spelling"),
    (70_011, 400, "invalid_scope", None, Grant::Client, Config, "scope"),
    (53_003, 400, "interaction_required", Some("message_only"), Grant::Refresh, Config, "Conditional Access"),
    (530_032, 400, "interaction_required", Some("message_only"), Grant::Client, Config, "Conditional Access"),
    (50_076, 400, "interaction_required", Some("basic_action"), Grant::Client, Config, "factor"),
    (700_005, 400, "invalid_grant", Some("client_mismatch"), Grant::Refresh, Config, "another application"),
    (
        0,
        400,
        "invalid_grant",
        Some("protection_policy_required"),
        Grant::Refresh,
        Config,
        "Conditional Access",
    ),
    (90_002, 400, "invalid_request", None, Grant::Client, Config, "tenant"),
    (0, 400, "invalid_request", None, Grant::Client, Config, "registration"),
    (0, 400, "unsupported_grant_type", None, Grant::Code, Config, "configuration"),
    (0, 400, "never_heard_of", None, Grant::Refresh, Config, "configuration"),
];

fn grant_type(grant: Grant) -> &'static str {
    match grant {
        Grant::Client => "client_credentials",
        Grant::Refresh => "refresh_token",
        Grant::Code => "authorization_code",
        Grant::Device => DEVICE_CODE_GRANT,
        Grant::OnBehalfOf => ON_BEHALF_OF_GRANT,
    }
}

async fn refused(answer: Answer, form: &Form<'_>) -> Failure {
    let (endpoint, server) = endpoint(vec![answer]).await;
    let failure = endpoint.post(form, NOW).await.map(|_| ()).unwrap_err();
    assert_eq!(server.seen().len(), 1, "asked once");
    failure
}

#[tokio::test]
async fn every_row_of_the_table_has_its_class_and_its_advice() {
    for &(number, status, error, suberror, grant, class, word) in ROWS {
        let mut body = json!({"error": error, "error_description": "Words. Trace ID: t Correlation ID: c"});
        if let Some(suberror) = suberror {
            body["suberror"] = suberror.into();
        }
        if number != 0 {
            body["error_codes"] = json!([number]);
        }
        let form = Form::new(&[("grant_type", grant_type(grant))]);
        let failure = refused(Answer::new(status, &body.to_string()), &form).await;
        let row = format!("{number} {status} {error} {suberror:?} {grant:?}: {}", failure.sentence);
        assert_eq!(failure.class, class, "{row}");
        assert!(failure.sentence.contains(word), "{row}");
        assert!(failure.sentence.ends_with("(Entra: Words.)"), "{row}");
        assert_eq!((failure.error.as_deref(), failure.suberror.as_deref()), (Some(error), suberror));
    }
}

#[test]
fn the_number_never_decides() {
    for &(_, status, error, suberror, grant, class, _) in ROWS {
        for number in [None, Some(7_000_222), Some(50_173), Some(90_033)] {
            let said = Said {
                status,
                error: Some(error.to_owned()),
                suberror: suberror.map(str::to_owned),
                number,
                ..Said::default()
            };
            assert_eq!(classify(&said, grant), class, "{error} {suberror:?} {number:?}");
        }
    }
}

/// Throttled is not taken back: the only number that counts, and it only keeps.
#[tokio::test]
async fn a_request_loop_costs_nobody_their_sign_in() {
    let body = |more: &str| format!(r#"{{"error": "invalid_grant", "error_codes": [50196]{more}}}"#);
    for grant in [Grant::Refresh, Grant::Client, Grant::OnBehalfOf] {
        let form = Form::new(&[("grant_type", grant_type(grant))]);
        let failure = refused(Answer::new(400, &body("")), &form).await;
        assert_eq!(
            (failure.class, failure.retry_after),
            (Transient, Some(Duration::from_secs(60))),
            "{grant:?}"
        );
        assert!(failure.sentence.contains("loop"), "{}", failure.sentence);
        let failure = refused(Answer::new(400, &body("")).header("retry-after", "7"), &form).await;
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    }
    // Beside a word that says more it says nothing.
    let form = Form::new(&[("grant_type", "refresh_token")]);
    let failure = refused(Answer::new(400, &body(r#", "suberror": "bad_token""#)), &form).await;
    assert_eq!(failure.class, Revoked);
}

#[tokio::test]
async fn a_federated_credential_that_is_not_known_yet_is_no_mistake_yet() {
    let body = json!({"error": "invalid_request", "error_description": "AADSTS70021: No matching record."});
    let assertion = Secret::new("a.b.c".to_owned());
    let client = Client::assertion(CLIENT, &assertion);
    let form = Form::client_credentials("s").client(&client);
    let failure = refused(Answer::new(400, &body.to_string()), &form).await;
    assert_eq!(failure.class, Lag);
    assert!(failure.sentence.contains("issuer, subject and audience"), "{}", failure.sentence);
    assert!(failure.sentence.contains("AADSTS70021: No matching record."), "{}", failure.sentence);
}

#[tokio::test]
async fn waits_and_claims_are_handed_on() {
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let body = json!({"error": "interaction_required", "suberror": "basic_action", "claims": claims});
    let form = Form::new(&[("grant_type", "refresh_token")]);
    let failure = refused(Answer::new(400, &body.to_string()), &form).await;
    assert_eq!(failure.claims.as_deref(), Some(claims));
    let body = json!({"error": "interaction_required", "claims": "[not an object]"});
    assert_eq!(refused(Answer::new(400, &body.to_string()), &form).await.claims, None);
    let busy = json!({"error": "temporarily_unavailable"}).to_string();
    let failure = refused(Answer::new(429, &busy).header("retry-after", "60"), &form).await;
    assert_eq!((failure.class, failure.retry_after), (Transient, Some(Duration::from_secs(60))));
    let failure = refused(Answer::new(503, &busy).header("retry-after", "999999"), &form).await;
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3600)), "not for ever");
}

#[tokio::test]
async fn a_page_of_somebody_in_between_is_named_as_one() {
    let html = "<html><body>Welcome to the hotel</body></html>";
    let form = Form::new(&[("grant_type", "refresh_token"), ("refresh_token", "r")]);
    for (status, kind) in
        [(200, "text/html"), (200, "application/json"), (403, "text/html"), (511, "text/html")]
    {
        let failure = refused(Answer::new(status, html).header("content-type", kind), &form).await;
        assert_eq!(failure.class, Transient, "{status}: it says nothing about the refresh token");
        assert!(failure.sentence.contains("a proxy or a sign-in page"), "{}", failure.sentence);
        assert!(failure.sentence.contains("127.0.0.1") && failure.error.is_none());
    }
    let failure = refused(Answer::new(407, html), &form).await;
    assert!(failure.sentence.contains("wants a password (407)"), "{}", failure.sentence);
    assert!(page("h", 200).is_ascii());
}

#[test]
fn what_stands_in_the_way_is_named() {
    let failure = |detail: &str| {
        unheard(&HttpError::Unreachable { host: "login.example".to_owned(), detail: detail.to_owned() })
    };
    for (detail, word) in [
        ("invalid peer certificate: UnknownIssuer", "update-ca-certificates"),
        ("proxy authorization required", "wants a password"),
        ("unsuccessful", "allow CONNECT to login.example:443"),
        ("Connection refused (os error 111)", "check the network"),
    ] {
        let failure = failure(detail);
        assert_eq!(failure.class, Transient);
        assert!(failure.sentence.contains(word), "{detail}: {}", failure.sentence);
        assert!(failure.sentence.contains("login.example"), "{}", failure.sentence);
    }
    assert_eq!(unheard(&HttpError::OutOfReach("http://x".to_owned())).class, Config);
}

#[tokio::test]
async fn a_secret_never_comes_back_in_a_sentence() {
    let long = format!("eyJ{}", "x".repeat(200));
    let secret = Secret::new("CANARY-secret".to_owned());
    let assertion = Secret::new("CANARY.asser.tion".to_owned());
    let clients = [Client::secret(CLIENT, &secret), Client::assertion(CLIENT, &assertion)];
    for client in &clients {
        for name in ["refresh_token", "code", "device_code", "code_verifier", "assertion"] {
            let form = Form::client_credentials("s").client(client).with(name, "CANARY-field");
            for echoed in ["CANARY-secret", "CANARY.asser.tion", "CANARY-field"] {
                let sent = form.fields().iter().any(|(_, value)| *value == echoed);
                let text = format!("AADSTS9002313: bad value '{echoed}' {long} \u{1b}[2J\r\nx. Trace ID: t");
                let body = json!({"error": "invalid_request", "error_description": text});
                let failure = refused(Answer::new(400, &body.to_string()), &form).await;
                assert!(!sent || !failure.sentence.contains("CANARY"), "{}", failure.sentence);
                assert!(!failure.sentence.contains("xxxx"), "{}", failure.sentence);
                assert!(failure.sentence.bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", failure.sentence);
            }
        }
    }
    let odd = json!({"error": "a b\u{1b}", "suberror": "x".repeat(99)});
    let failure = refused(Answer::new(400, &odd.to_string()), &Form::client_credentials("s")).await;
    assert_eq!((failure.error.as_deref(), failure.suberror), (Some("unknown"), None));
}

/// What the HTTP library really says of a proxy that refuses, not what it is believed to say.
#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    const INNER: &str = "INNER_PROXY_EXPECTS";
    if let Ok(expected) = std::env::var(INNER) {
        let http = Http::internet(ProxyRule::Environment).unwrap();
        let endpoint = TokenEndpoint::new(http, "https://login.example", TENANT);
        let failure = endpoint.post(&Form::client_credentials("s"), NOW).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.class, Transient);
        assert!(failure.sentence.contains(&expected), "{}", failure.sentence);
        return;
    }
    let test = "entra::oauth::tests::refusals::a_proxy_that_refuses_is_named";
    for (status, expected) in [(407, "wants a password (407)"), (403, "allow CONNECT to login.example:443")] {
        let proxy = Server::start(vec![Answer::new(status, "")]).await;
        let mut inner = tokio::process::Command::new(std::env::current_exe().unwrap());
        inner.args(["--exact", test, "--test-threads", "1"]).env_remove("NO_PROXY").env_remove("no_proxy");
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            inner.env(name, proxy.url(""));
        }
        let done = inner.env(INNER, expected).output().await.unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains("1 passed"), "{status}: {said}");
        assert_eq!(proxy.seen().len(), 1, "{status}");
        assert!(proxy.seen()[0].line.starts_with("CONNECT login.example:443"));
    }
}
