//! What an application finds in its ID tokens: the contexts that a sign-in satisfied, when the person gave credentials,
//! and the groups.

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::{Stage, claims, code};

// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// A time long ago, at which a browser may have been signed in.
const PINNED: i64 = 1_700_000_000;

/// A tenant whose own application asks for these optional claims.
async fn stage(optional: &[&str]) -> Stage {
    let stage = Stage::new().await;
    let route = format!("/control/apps/{}", world::OWN_APP);
    stage.control("PUT", &route, json!({"optional_id_claims": optional})).await;
    stage
}

/// The token endpoint's answer to this person's sign-in in a browser.
async fn sign_in(stage: &Stage, who: &str, more: &[(&str, &str)]) -> Value {
    let fixed = [
        ("client_id", world::OWN_APP),
        ("response_type", "code"),
        ("redirect_uri", "http://localhost:9"),
        ("scope", "openid offline_access"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("login_hint", who),
    ];
    let fields = fixed.iter().chain(more).map(|(name, value)| format!("{name}={}", encoded(value)));
    let query: Vec<String> = fields.collect();
    let target = format!("/{}/oauth2/v2.0/authorize?{}", world::TENANT, query.join("&"));
    let reply = stage.web("login.microsoftonline.com", Ask::get(target)).await;
    assert_eq!(reply.status, 302, "{}", reply.text());
    let location = reply.header("location").to_owned();
    let code = location.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", world::OWN_APP),
        ("code", code),
        ("redirect_uri", "http://localhost:9"),
        ("code_verifier", VERIFIER),
        ("scope", "openid offline_access"),
    ];
    stage.token(&fields).await.json()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The claims of the ID token in an answer.
fn id_token(answer: &Value) -> Value {
    claims(answer["id_token"].as_str().unwrap_or_else(|| panic!("no ID token: {answer}")))
}

#[tokio::test]
async fn the_contexts_that_were_asked_for_are_there_and_the_standing_ones() {
    let stage = stage(&["acrs"]).await;
    let alice = world::ALICE.upn;
    assert_eq!(id_token(&sign_in(&stage, alice, &[]).await).get("acrs"), None);
    for (asked, acrs) in [
        (json!({"id_token": {"acrs": {"essential": true, "value": "c1"}}}), json!(["c1"])),
        (json!({"id_token": {"acrs": {"essential": true, "values": ["c2", "c3"]}}}), json!(["c2", "c3"])),
        (json!({"access_token": {"acrs": {"value": "c4"}}, "id_token": {"acrs": null}}), json!(["c4"])),
        (
            json!({"access_token": {"acrs": {"value": "c1"}}, "id_token": {"acrs": {"values": ["c1", "c5"]}}}),
            json!(["c1", "c5"]),
        ),
    ] {
        let answer = sign_in(&stage, alice, &[("claims", &asked.to_string())]).await;
        assert_eq!(id_token(&answer)["acrs"], acrs, "{asked}");
        assert_eq!(claims(answer["access_token"].as_str().unwrap())["acrs"], acrs, "{asked}");
    }
    let standing = format!("/control/users/{alice}/claims");
    stage.control("PUT", &standing, json!({"acrs": ["c9", "c1"]})).await;
    assert_eq!(id_token(&sign_in(&stage, alice, &[]).await)["acrs"], json!(["c9", "c1"]));
    let asked = json!({"id_token": {"acrs": {"value": "c1"}}}).to_string();
    let answer = sign_in(&stage, alice, &[("claims", &asked)]).await;
    assert_eq!(id_token(&answer)["acrs"], json!(["c1", "c9"]));

    // An application that does not ask for the claim has none.
    let route = format!("/control/apps/{}", world::OWN_APP);
    stage.control("PUT", &route, json!({"optional_id_claims": []})).await;
    assert_eq!(id_token(&sign_in(&stage, alice, &[("claims", &asked)]).await).get("acrs"), None);
}

#[tokio::test]
async fn a_context_of_the_id_token_is_refused_without_a_browser() {
    let stage = stage(&["acrs"]).await;
    let asked = json!({"id_token": {"acrs": {"essential": true, "value": "c1"}}}).to_string();
    let refused = stage.refresh(world::ALICE.oid, "openid", &[("claims", &asked)]).await;
    assert_eq!(code(&refused), 50076);
    let standing = format!("/control/users/{}/claims", world::ALICE.upn);
    stage.control("PUT", &standing, json!({"acrs": ["c1"]})).await;
    assert_eq!(stage.refresh(world::ALICE.oid, "openid", &[("claims", &asked)]).await.status, 200);
}

#[tokio::test]
async fn credentials_given_anew_are_no_old_sign_in() {
    let stage = stage(&["auth_time"]).await;
    let alice = world::ALICE.upn;
    let standing = format!("/control/users/{alice}/claims");
    stage.control("PUT", &standing, json!({"auth_time": PINNED})).await;
    for (prompt, fresh) in [("", false), ("select_account", false), ("login", true), ("consent login", true)]
    {
        let before = Stage::now();
        let more: Vec<_> =
            Some(("prompt", prompt)).into_iter().filter(|(_, prompt)| !prompt.is_empty()).collect();
        let answer = sign_in(&stage, alice, &more).await;
        let access = claims(answer["access_token"].as_str().unwrap());
        for token in [id_token(&answer), access] {
            let auth_time = token["auth_time"].as_i64().unwrap();
            assert_eq!((auth_time >= before, auth_time == PINNED), (fresh, !fresh), "{prompt}: {auth_time}");
        }
    }
}

#[tokio::test]
async fn groups_are_named_up_to_two_hundred() {
    let stage = stage(&["groups"]).await;
    let grace = async || id_token(&sign_in(&stage, world::GRACE.upn, &[]).await);
    let token = grace().await;
    assert_eq!(
        token["groups"],
        json!([world::GROUP_OUTER, world::GROUP_INNER]),
        "the outer one through the inner"
    );
    assert_eq!(token.get("_claim_names"), None);
    let join = async |number: usize| {
        let route = format!("/control/groups/94000000-0000-4000-8000-{number:012}");
        stage.control("PUT", &route, json!({"members": [world::GRACE.oid]})).await;
    };
    for number in 3..=200 {
        join(number).await;
    }
    assert_eq!(grace().await["groups"].as_array().unwrap().len(), 200);
    join(201).await;
    let token = grace().await;
    assert_eq!((token.get("groups"), &token["_claim_names"]), (None, &json!({"groups": "src1"})));
    let endpoint = token["_claim_sources"]["src1"]["endpoint"].as_str().unwrap();
    assert!(endpoint.ends_with(&format!("/users/{}/getMemberObjects", world::GRACE.oid)), "{endpoint}");

    // Nothing to say of somebody who is in none, nor to an application that does not ask.
    let of_alice = async || id_token(&sign_in(&stage, world::ALICE.upn, &[]).await);
    let token = of_alice().await;
    assert_eq!((token.get("groups"), token.get("_claim_names")), (None, None));
    stage
        .control(
            "PUT",
            &format!("/control/groups/{}/members/{}", world::GROUP_OUTER, world::ALICE.oid),
            json!({}),
        )
        .await;
    assert_eq!(of_alice().await["groups"], json!([world::GROUP_OUTER]));
    stage
        .control("PUT", &format!("/control/apps/{}", world::OWN_APP), json!({"optional_id_claims": []}))
        .await;
    assert_eq!(of_alice().await.get("groups"), None);
}
