//! What comes back from a sign-in, right and wrong in one point each.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp(1_795_300_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "0a990000-0000-4000-8000-000000000001";
const OID: &str = "a11ce000-0000-4000-8000-000000000001";
const ISSUER: &str = "https://login.example/11111111-2222-3333-4444-555555555555/v2.0";

fn jwt(header: &Value, claims: &Value) -> Secret {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Secret::new(format!("{}.{}.c2ln", part(header), part(claims)))
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": CLIENT, "tid": TENANT, "oid": OID, "nonce": "n", "exp": NOW.0 + 3600,
        "nbf": NOW.0, "iat": NOW.0, "preferred_username": "alice@contoso.com", "ver": "2.0"})
}

fn read_as(header: &Value, claims: &Value, nonce: Option<&str>) -> Result<PersonId, IdTokenError> {
    let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let expected = Expected { issuer: ISSUER, tenant, client, nonce };
    id_token::read(&jwt(header, claims), &expected, NOW).map(|said| said.person)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn a_sign_in_counts_only_when_every_claim_fits() {
    let plain = json!({"alg": "RS256", "typ": "JWT"});
    let person = read_as(&plain, &claims(), Some("n")).unwrap();
    assert_eq!((person.username.as_str(), person.object_id.to_string().as_str()), ("alice@contoso.com", OID));
    let other = "99999999-2222-3333-4444-555555555555";
    for (name, value, error) in [
        ("iss", json!("https://login.example/common/v2.0"), IdTokenError::Issuer),
        ("iss", json!(format!("{ISSUER}/")), IdTokenError::Issuer),
        ("tid", json!(other), IdTokenError::OtherTenant),
        ("tid", Value::Null, IdTokenError::Issuer),
        ("aud", json!(other), IdTokenError::Audience),
        ("aud", json!([CLIENT]), IdTokenError::Form),
        ("nonce", json!("N"), IdTokenError::Nonce),
        ("nonce", Value::Null, IdTokenError::Nonce),
        ("exp", json!(NOW.0 - 300), IdTokenError::Time),
        ("exp", json!("x"), IdTokenError::Form),
        ("nbf", json!(NOW.0 + 301), IdTokenError::Time),
        ("iat", json!(NOW.0 + 301), IdTokenError::Time),
        ("oid", Value::Null, IdTokenError::NoPerson),
        ("oid", json!("alice"), IdTokenError::Form),
    ] {
        assert_eq!(read_as(&plain, &with(name, value), Some("n")), Err(error), "{name}");
    }
    // A refresh has no nonce of its own; a strange name is not shown.
    assert!(read_as(&plain, &with("nonce", Value::Null), None).is_ok());
    for name in [json!("a\u{202e}b"), json!("a b"), json!(""), json!("a".repeat(MAX_USERNAME_BYTES + 1))] {
        assert_eq!(read_as(&plain, &with("preferred_username", name), None).unwrap().username, OID);
    }
    for text in ["", "a.b", "a.b.c", "e30.e30.c2ln", "..", "a.b.c.d"] {
        let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
        let expected = Expected { issuer: ISSUER, tenant, client, nonce: None };
        let read = id_token::read(&Secret::new(text.into()), &expected, NOW);
        assert_eq!(read.err(), Some(IdTokenError::Form));
    }
}

#[test]
fn past_bug_17_no_other_kind_of_token_is_a_sign_in() {
    let plain = json!({"alg": "RS256", "typ": "JWT"});
    for header in [
        json!({"alg": "RS256", "typ": "at+jwt"}),
        json!({"alg": "none", "typ": "JWT"}),
        json!({"alg": "None"}),
        json!({"alg": "PS256", "typ": "pop"}),
    ] {
        assert_eq!(read_as(&header, &claims(), None), Err(IdTokenError::Kind), "{header}");
    }
    // An access token for the application's own API, v2 and v1.
    for name in ["scp", "azp", "appid"] {
        assert_eq!(read_as(&plain, &with(name, json!("x")), None), Err(IdTokenError::Kind));
    }
}

#[test]
fn a_context_is_asked_for_and_read_from_the_id_token() {
    let context = |text: &str| text.parse::<AuthContext>();
    for good in ["c1", "c9", "c10", "c99"] {
        assert_eq!(context(good).unwrap().to_string(), good);
    }
    for bad in
        ["", "c", "c0", "c01", "c100", "c256", "C1", "1", "c+1", "c-1", "c1 ", " c1", "cc1", "c1x", "p1"]
    {
        assert_eq!(context(bad), Err(nightlatch_model::NoContext), "{bad}");
    }
    let claims = context_claims(context("c7").unwrap()).unwrap();
    assert_eq!(claims.as_str(), r#"{"id_token":{"acrs":{"essential":true,"value":"c7"}}}"#);

    let header = json!({"alg": "RS256", "typ": "JWT"});
    for (acrs, contexts) in [
        (json!(["c1"]), vec!["c1"]),
        (json!(["p1", "c2", "c1", "c2", 3, "C4"]), vec!["c2", "c1"]),
        (json!([]), vec![]),
        (Value::Null, vec![]),
        // Not the form that Entra writes: never taken for a context, and no other sign-in is refused for it.
        (json!("c1"), vec![]),
        (json!({"c1": "c1"}), vec![]),
        (json!([["c1"]]), vec![]),
    ] {
        let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
        let expected = Expected { issuer: ISSUER, tenant, client, nonce: None };
        let said = id_token::read(&jwt(&header, &with("acrs", acrs.clone())), &expected, NOW).unwrap();
        let said: Vec<String> = said.contexts.iter().map(ToString::to_string).collect();
        assert_eq!(said, contexts, "{acrs}");
    }
}

#[test]
fn a_redirect_is_read_one_way_or_not_at_all() {
    let good = Redirect::read("?code=1.AX%2Bb&state=s-_1&session_state=x").unwrap();
    assert_eq!(good.state.expose(), "s-_1");
    assert!(matches!(good.outcome, Outcome::Code(code) if code.expose() == "1.AX+b"));
    let denied = "error=access_denied&error_description=No%1B%5Bm+way+Trace+ID%3A+x&state=s";
    let Outcome::Refused { error, description } = Redirect::read(denied).unwrap().outcome else { panic!() };
    assert_eq!((error.as_str(), description.as_str()), ("access_denied", "No[m way"));
    for bad in [
        "",
        "code=1",
        "state=s",
        "code=&state=s",
        "code=1&state=",
        "code=1&code=2&state=s",
        "code=1&state=s&state=s",
        "code=1&error=x&state=s",
        "code=1&state=s#x",
        "code=1&state=s&x=\u{e4}",
        "code=1 &state=s",
        "code=1&state=s&id_token=x",
        "access_token=1&state=s",
        &format!("code={}&state=s", "x".repeat(MAX_REDIRECT_BYTES)),
    ] {
        assert!(Redirect::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_page_to_open_carries_pkce_and_nothing_secret() {
    let http = Http::internet(crate::entra::http::ProxyRule::Direct).unwrap();
    let sign_in =
        SignIn::new(http, "https://login.example", TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    assert_eq!(sign_in.issuer, ISSUER);
    let mut random = [0; RANDOM_BYTES];
    for (at, byte) in random.iter_mut().enumerate() {
        *byte = u8::try_from(at).unwrap();
    }
    let wish = Wish {
        scopes: vec!["https://management.azure.com/.default".into()],
        claims: Some(Claims::new(r#"{"id_token":{}}"#).unwrap()),
        login_hint: Some("alice@contoso.com".into()),
        ..Wish::default()
    };
    let browser = sign_in.browser(&wish, 49_152, &random);
    let url = reqwest::Url::parse(browser.url()).unwrap();
    let get = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
    assert!(browser.url().starts_with(&format!("https://login.example/{TENANT}/oauth2/v2.0/authorize?")));
    let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, browser.verifier().as_bytes());
    assert_eq!(get("code_challenge").unwrap(), URL_SAFE_NO_PAD.encode(challenge));
    assert_eq!(get("code_challenge_method").unwrap(), "S256");
    assert_eq!(get("redirect_uri").unwrap(), "http://localhost:49152");
    assert_eq!(get("scope").unwrap(), "openid profile offline_access https://management.azure.com/.default");
    let claims = Some(r#"{"id_token":{}}"#.into());
    assert_eq!((get("login_hint"), get("claims")), (wish.login_hint.clone(), claims));
    assert_eq!(get("prompt").unwrap(), "select_account");
    let anew = sign_in.browser(&Wish { fresh: true, ..wish.clone() }, 49_152, &random);
    assert_eq!(anew.url(), browser.url().replace("prompt=select_account", "prompt=login"));
    let again = sign_in.browser(&Wish { again: true, ..wish.clone() }, 49_152, &random);
    assert_eq!(again.url(), browser.url().replace("&prompt=select_account", ""));
    let nobody = Wish { again: true, login_hint: None, ..wish.clone() };
    assert!(sign_in.browser(&nobody, 49_152, &random).url().contains("prompt=select_account"));
    let once = sign_in.browser(&Wish { once: true, ..wish }, 49_152, &random);
    assert_eq!(once.url(), browser.url().replace("%20offline_access", ""));
    assert!(browser.verifier().len() == 43 && !browser.url().contains(browser.verifier()));
    let state = get("state").unwrap();
    assert!(browser.is_answered_by(&state) && get("nonce").unwrap() != state);
    for wrong in ["", "x", &state[1..], &format!("{state}A")] {
        assert!(!browser.is_answered_by(wrong));
    }
}

#[test]
fn a_device_code_is_asked_about_at_its_pace_and_not_for_ever() {
    let body = |interval: Value, expires: u64| {
        json!({"device_code": "D", "user_code": "ABC", "verification_uri": "https://login.example/device",
            "expires_in": expires, "interval": interval, "message": "open it"})
        .to_string()
    };
    let device = |text: &str| Device::read(text.as_bytes(), None);
    let mut pace = device(&body(json!(5), 20)).unwrap().pace();
    assert_eq!(pace.wait(), Some(Duration::from_secs(5)));
    pace.slow_down();
    assert_eq!(pace.wait(), Some(Duration::from_secs(10)));
    assert_eq!(pace.wait(), None, "the code has ended");
    let first = |interval: Value| device(&body(interval, 900)).unwrap().pace().wait().unwrap().as_secs();
    assert_eq!((first(json!(0)), first(Value::Null), first(json!(1_000_000))), (1, 5, 60));
    let long = device(&body(json!(60), 1_000_000)).unwrap();
    let mut pace = long.pace();
    assert_eq!((long.expires_in, std::iter::from_fn(|| pace.wait()).count()), (DEVICE_LIMIT, 15));
    for bad in ["{}", "", &body(json!(5), 9).replace("https", "http"), &body(json!(5), 9).replace("ABC", "")]
    {
        assert!(device(bad).is_none(), "{bad}");
    }
    assert!(device(&body(json!(5), 9).replace("open it", "\\u001b[31m")).unwrap().message.is_empty());
}
