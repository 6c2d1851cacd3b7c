//! Token answers, good and bad.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::Secret;
use nightlatch_tokens::{FailureClass, TokenType};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CLIENT, NOW, endpoint};
use crate::entra::oauth::answer::{self, Expected};
use crate::entra::oauth::{Client, Form};
use crate::entra::tiny_server::Answer;

fn read(body: &Value) -> Result<answer::Answer, String> {
    let expected = Expected { kind: TokenType::Bearer, client_id: Some(CLIENT) };
    answer::read(body.to_string().as_bytes(), expected, NOW)
}

fn whole() -> Value {
    json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "refresh_in": 1800,
        "access_token": "at", "refresh_token": "rt", "id_token": "it", "client_info": "ci", "foci": "1",
        "scope": "s"})
}

fn with(name: &str, value: Value) -> Value {
    let mut body = whole();
    body[name] = value;
    body
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn a_form_goes_out_whole_and_an_answer_is_read_whole() {
    let (endpoint, server) = endpoint(vec![Answer::new(200, &whole().to_string())]).await;
    let secret = Secret::new("s&c=r+t".to_owned());
    let client = Client::secret(CLIENT, &secret);
    let form = Form::client_credentials("https://vault.azure.net/.default").client(&client);
    let answer = endpoint.post(&form, NOW).await.unwrap();
    assert_eq!(answer.access_token.expose(), "at");
    assert_eq!((answer.kind, answer.expires), (TokenType::Bearer, NOW.plus(3599)));
    assert_eq!(answer.refresh_in, Some(Duration::from_secs(1800)));
    assert_eq!(answer.refresh_token.as_ref().unwrap().expose(), "rt");
    assert_eq!(answer.id_token.as_ref().unwrap().expose(), "it");
    assert_eq!(
        (answer.client_info.as_deref(), answer.family, answer.scope.as_deref()),
        (Some("ci"), true, Some("s"))
    );
    let seen = server.seen();
    assert_eq!(seen[0].line, format!("POST /{}/oauth2/v2.0/token HTTP/1.1", super::TENANT));
    assert_eq!(
        seen[0].body,
        format!(
            "grant_type=client_credentials&scope=https%3A%2F%2Fvault.azure.net%2F.default&client_id={CLIENT}&client_secret=s%26c%3Dr%2Bt"
        )
    );
}

#[test]
fn lives_are_believed_within_reason() {
    let life = |value: Value| read(&with("expires_in", value)).map(|a| a.expires.since(NOW)).ok();
    assert_eq!(life(json!("3600")), Some(3600), "some versions write numbers as text");
    assert_eq!(life(json!(i64::MAX)), Some(28 * 3600));
    for bad in [json!(0), json!(-1), json!("soon"), json!(1.5), json!(null), json!([]), json!(u64::MAX)] {
        assert_eq!(life(bad.clone()), None, "{bad}");
    }
    let refresh = |value: Value| read(&with("refresh_in", value)).map(|a| a.refresh_in).ok();
    for none in [json!(0), json!(-5), json!(3599), json!(999_999), json!(null)] {
        assert_eq!(refresh(none.clone()), Some(None), "{none}: advice that cannot be followed");
    }
}

#[test]
fn past_bug_17_no_other_token_is_taken_for_an_access_token() {
    let id_token = jwt(&json!({"aud": CLIENT, "iss": "i", "nonce": "n", "sub": "s"}));
    let own_api = jwt(&json!({"aud": CLIENT, "azp": CLIENT}));
    let mut missing = whole();
    missing.as_object_mut().unwrap().remove("access_token");
    for (body, what) in [
        (missing, "only an id token and a refresh token"),
        (with("access_token", json!("rt")), "the refresh token"),
        (with("access_token", json!("it")), "the id token"),
        (with("access_token", json!(id_token)), "an id token alone"),
        (with("access_token", json!("")), "nothing"),
        (with("access_token", json!("a b")), "a sentence"),
        (with("access_token", json!("tök")), "not plain"),
        (with("access_token", json!("a\r\nx: y")), "a header"),
        (with("access_token", json!("a".repeat(64 * 1024 + 1))), "too long"),
        (with("access_token", json!(null)), "null"),
        (with("access_token", json!(1)), "a number"),
        (with("token_type", json!("pop")), "bound to a key although nobody asked"),
        (with("token_type", json!("ssh-cert")), "a certificate"),
        (with("token_type", json!(null)), "of no type"),
        (json!([]), "a list"),
        (json!({"error": "invalid_grant"}), "a refusal with status 200"),
    ] {
        assert!(read(&body).is_err(), "{what}");
    }
    assert!(read(&with("access_token", json!(own_api))).is_ok(), "a token for the application's own API");
    let pop = Expected { kind: TokenType::Pop, client_id: None };
    assert!(answer::read(whole().to_string().as_bytes(), pop, NOW).is_err(), "a bearer token instead of pop");
}

#[tokio::test]
async fn past_bug_75_a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let away = Answer::new(status, "").header("location", "{base}/elsewhere");
        let (endpoint, server) = endpoint(vec![away, Answer::new(200, &whole().to_string())]).await;
        let failure = endpoint.post(&Form::client_credentials("s"), NOW).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.class, FailureClass::Transient);
        assert!(failure.sentence.contains("redirect"), "{}", failure.sentence);
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_token_repeats_nothing() {
    let body = r#"{"token_type":"Bearer","expires_in":"CANARY-1","access_token":"CANARY-2""#;
    for (body, status) in [(body, 200), ("CANARY-3", 200), (r#"{"access_token":"CANARY-4"}"#, 200)] {
        let (endpoint, _server) = endpoint(vec![Answer::new(status, body)]).await;
        let failure = endpoint.post(&Form::client_credentials("s"), NOW).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.class, FailureClass::Transient);
        assert!(!failure.sentence.contains("CANARY"), "{}", failure.sentence);
    }
}

proptest! {
    /// Whatever comes, it is a token that could be used or a refusal without its contents.
    #[test]
    fn mutated_answers_become_a_usable_token_or_a_refusal(
        at in 0_usize..160, cut in 0_usize..220, byte in any::<u8>(), kind in 0..3_u8
    ) {
        let mut body = whole().to_string().into_bytes();
        match kind {
            0 => body.truncate(cut),
            1 => { let at = at.min(body.len() - 1); body[at] = byte; }
            _ => body.insert(at.min(body.len()), byte),
        }
        let expected = Expected { kind: TokenType::Bearer, client_id: Some(CLIENT) };
        match answer::read(&body, expected, NOW) {
            Ok(answer) => {
                let text = answer.access_token.expose();
                prop_assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(answer.expires > NOW && answer.expires.since(NOW) <= 28 * 3600);
            }
            Err(why) => prop_assert!(why.is_ascii() && why.len() < 120),
        }
    }

    #[test]
    fn noise_is_no_token(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let expected = Expected { kind: TokenType::Bearer, client_id: None };
        prop_assert!(answer::read(&body, expected, NOW).is_err());
    }
}
