//! A person's sign-in for a certificate of Entra's: what is asked for, how often, and when it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use nightlatch_model::Secret;
use reqwest::Url;
use serde_json::{Value, json};

use super::asked::How;
use super::person::{Person, wish};
use super::rsa::RsaKey;
use super::rsa::tests::{certificate, keep as kept_by, key};
use super::sign_in::code_in;
use super::tests::{CLIENT, NAME, NOW, TENANT, asking};
use crate::clock::{Clock, ManualClock};
use crate::entra::clouds::Cloud;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::sign_in::{RANDOM_BYTES, SignIn, Wish};
use crate::entra::tiny_server::{Answer, Server};

const SCOPE: &str = "openid profile https://pas.windows.net/CheckMyAccess/Linux/.default";
pub(super) const CHALLENGE: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

fn issued(key: &RsaKey) -> Answer {
    let body =
        json!({"token_type": "ssh-cert", "expires_in": 3_600, "access_token": certificate(key, |one| one)});
    Answer::new(200, &body.to_string())
}

pub(super) fn refused(number: u32, error: &str, suberror: &str, claims: Option<&str>) -> Answer {
    let words = format!("AADSTS{number}: Not\u{1b}[31m so. Trace ID: x");
    let mut body = json!({"error": error, "error_description": words, "error_codes": [number]});
    let more = [("suberror", Some(suberror).filter(|text| !text.is_empty())), ("claims", claims)];
    for (name, text) in more.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        body[name] = json!(text);
    }
    Answer::new(400, &body.to_string())
}

fn challenge() -> Answer {
    refused(50_076, "interaction_required", "basic_action", Some(CHALLENGE))
}

fn code(expires_in: u64) -> Answer {
    let body = json!({"device_code": "d3v1ce", "user_code": "AB12CD34", "interval": 5, "expires_in": expires_in,
                      "verification_uri": "https://login.microsoft.com/device"});
    Answer::new(200, &body.to_string())
}

fn pending() -> Answer {
    refused(70_016, "authorization_pending", "", None)
}

/// What a server with these answers was asked, and what came of it.
struct Story {
    /// The certificate, or the words for the person.
    end: Result<String, String>,
    /// The forms, with the last part of the address as `leaf`.
    forms: Vec<HashMap<String, String>>,
    /// The queries of the pages that were opened.
    pages: Vec<HashMap<String, String>>,
    /// What was shown.
    shown: Vec<String>,
    /// The waits, in seconds.
    waits: Vec<u64>,
}

pub(super) fn pairs(query: &str) -> HashMap<String, String> {
    let url = Url::parse(&format!("http://x/?{query}")).unwrap();
    url.query_pairs().into_owned().collect()
}

/// `late`: by how much longer each wait takes, in seconds.
async fn story(how: How, key: &RsaKey, answers: Vec<Answer>, late: i64) -> Story {
    let server = Server::start(answers).await;
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let entra = SignIn::new(http, &server.url(""), TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let asked = asking(std::path::Path::new("/nowhere"), how);
    let wish = wish(&asked, key.ask(), Some(NAME.into()));
    let hands = ManualClock::at(NOW);
    let clock = Clock::Manual(hands.clone());
    let person = Person { entra: &entra, wish: &wish, ask: key.ask(), clock: &clock };
    let (mut pages, shown, waits) = (Vec::new(), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let end = if asked.how == How::Device {
        let sleep = async |wait: Duration| {
            waits.borrow_mut().push(wait.as_secs());
            hands.advance(i64::try_from(wait.as_secs()).unwrap() + late);
        };
        person.on_device(|text| shown.borrow_mut().push(text.to_owned()), sleep).await
    } else {
        let page = async |entra: &SignIn, wish: &Wish| {
            let browser = entra.browser(wish, 49_152, &[7; RANDOM_BYTES]);
            pages.push(pairs(browser.url().split_once('?').unwrap().1));
            Ok((browser, Secret::new("c0de".into())))
        };
        person.in_browser(page).await
    };
    let form = |seen: crate::entra::tiny_server::Seen| {
        let mut form = pairs(&seen.body);
        let path = seen.line.split(' ').nth(1).unwrap();
        form.insert("leaf".into(), path.rsplit('/').next().unwrap().to_owned());
        form
    };
    let forms = server.seen().into_iter().map(form).collect();
    let end = end.map(|given| given.certificate);
    Story { end, forms, pages, shown: shown.into_inner(), waits: waits.into_inner() }
}

fn assert_form(form: &HashMap<String, String>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        assert_eq!(form.get(*name).map(String::as_str), Some(*value), "{name} of {form:?}");
    }
}

#[tokio::test]
async fn the_browser_is_asked_for_the_authoritys_scope_and_the_endpoint_for_a_certificate() {
    let key = key();
    let told = story(How::Browser, &key, vec![issued(&key)], 0).await;
    let folder = tempfile::tempdir().unwrap();
    assert!(kept_by(&key, &asking(folder.path(), How::Browser), &told.end.unwrap()).is_ok());
    let ([page], [form]) = (&told.pages[..], &told.forms[..]) else { panic!("{:?}", told.forms) };
    let page_says = [
        ("scope", SCOPE),
        ("client_id", CLIENT),
        ("login_hint", NAME),
        ("response_type", "code"),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "http://localhost:49152"),
    ];
    assert_form(page, &page_says);
    assert_form(
        form,
        &[
            ("leaf", "token"),
            ("grant_type", "authorization_code"),
            ("code", "c0de"),
            ("scope", SCOPE),
            ("client_id", CLIENT),
            ("token_type", "ssh-cert"),
            ("redirect_uri", "http://localhost:49152"),
        ],
    );
    let cnf: Value = serde_json::from_str(&form["req_cnf"]).unwrap();
    assert_eq!((cnf["kty"].as_str(), cnf["kid"].as_str()), (Some("RSA"), Some(form["key_id"].as_str())));
    assert!(form.contains_key("code_verifier") && !page.contains_key("code_verifier"));
    assert!(!page.contains_key("claims") && !form.contains_key("claims"));
}

#[test]
fn each_cloud_has_its_own_authority() {
    let hosts = Cloud::ALL.map(|cloud| cloud.ssh_scope().split('/').nth(2).unwrap());
    assert_eq!(hosts, ["pas.windows.net", "pasff.usgovcloudapi.net", "pas.chinacloudapi.cn"]);
    assert!(Cloud::ALL.iter().all(|cloud| cloud.ssh_scope().ends_with("/CheckMyAccess/Linux/.default")));
}

#[test]
fn an_answer_of_the_browser_counts_for_its_own_sign_in_alone() {
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let entra = SignIn::new(http, "https://login.example", TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let browser = entra.browser(&Default::default(), 49_152, &[7; RANDOM_BYTES]);
    let state = pairs(browser.url().split_once('?').unwrap().1)["state"].clone();
    assert_eq!(code_in(&browser, &format!("code=x&state={state}")).unwrap().expose(), "x");
    let why = code_in(&browser, "code=x&state=y").err().unwrap();
    assert!(why.contains("another sign-in"), "{why}");
    let no = format!("error=access_denied&error_description=AADSTS65004%3A+No&state={state}");
    assert!(code_in(&browser, &no).err().unwrap().contains("AADSTS65004: No (access_denied)"));
}

#[tokio::test]
async fn a_challenge_opens_the_browser_once_more_with_exactly_its_claims() {
    let key = key();
    for error in ["interaction_required", "insufficient_claims", "invalid_grant"] {
        let first = refused(50_076, error, "basic_action", Some(CHALLENGE));
        let told = story(How::Browser, &key, vec![first, issued(&key)], 0).await;
        assert_eq!(told.end, Ok(certificate(&key, |one| one)), "{error}");
        let ([before, after], [_, form]) = (&told.pages[..], &told.forms[..]) else { panic!("{error}") };
        assert!(!before.contains_key("claims"));
        assert_form(after, &[("claims", CHALLENGE), ("scope", SCOPE), ("login_hint", NAME)]);
        assert_form(form, &[("claims", CHALLENGE), ("token_type", "ssh-cert")]);
    }
}

#[tokio::test]
async fn a_challenge_is_answered_once_and_only_where_a_person_can() {
    let key = key();
    let told = story(How::Browser, &key, vec![challenge()], 0).await;
    let why = told.end.unwrap_err();
    assert!(why.contains("did not satisfy it") && why.contains("AADSTS50076: Not[31m so."), "{why:?}");
    assert_eq!((told.pages.len(), told.forms.len()), (2, 2));
    // The second sign-in may fail in another way, which is said as it is.
    let told =
        story(How::Browser, &key, vec![challenge(), refused(50_057, "invalid_grant", "", None)], 0).await;
    let why = told.end.unwrap_err();
    assert!(why.contains("AADSTS50057") && !why.contains("satisfy") && told.pages.len() == 2, "{why}");
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(64 * 1024));
    for (answer, word) in [
        (refused(53_003, "interaction_required", "message_only", Some(CHALLENGE)), "Conditional Access"),
        (refused(50_076, "interaction_required", "basic_action", Some("[1]")), "AADSTS50076"),
        (refused(50_076, "interaction_required", "basic_action", Some("{")), "AADSTS50076"),
        (refused(50_076, "interaction_required", "basic_action", Some(&long)), "AADSTS50076"),
        (refused(50_076, "interaction_required", "basic_action", None), "AADSTS50076"),
        (
            Answer::new(200, r#"{"token_type":"Bearer","access_token":"SECRET"}"#),
            "something else than an SSH",
        ),
    ] {
        let told = story(How::Browser, &key, vec![answer], 0).await;
        let why = told.end.unwrap_err();
        assert!(why.contains(word) && !why.contains("SECRET") && told.pages.len() == 1, "{word}: {why}");
    }
}

#[tokio::test]
async fn a_device_code_is_shown_and_asked_about_at_entras_pace() {
    let key = key();
    let slow = refused(70_016, "slow_down", "", None);
    let answers = vec![code(900), pending(), slow, Answer::new(503, "{}"), issued(&key)];
    let told = story(How::Device, &key, answers, 0).await;
    assert_eq!(told.end, Ok(certificate(&key, |one| one)));
    assert_eq!(told.waits, [5, 5, 10, 15]);
    let shown = "to sign in, open https://login.microsoft.com/device and enter the code AB12CD34 (it ends in 15 minutes)";
    assert_eq!(told.shown, [shown]);
    let [begin, polls @ ..] = &told.forms[..] else { panic!() };
    assert_form(begin, &[("leaf", "devicecode"), ("scope", SCOPE), ("client_id", CLIENT)]);
    assert_eq!(polls.len(), 4);
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    for poll in polls {
        assert_form(
            poll,
            &[
                ("leaf", "token"),
                ("grant_type", grant),
                ("device_code", "d3v1ce"),
                ("token_type", "ssh-cert"),
            ],
        );
        assert!(poll.contains_key("req_cnf") && poll.contains_key("key_id") && !poll.contains_key("claims"));
    }
}

#[tokio::test]
async fn a_device_code_ends_when_it_is_declined_used_up_or_blocked() {
    let key = key();
    let told = story(How::Device, &key, vec![code(12), pending()], 0).await;
    let why = told.end.unwrap_err();
    assert!(why.contains("before it ended") && told.waits == [5, 5] && told.forms.len() == 3, "{why}");
    // Slow answers lengthen nothing.
    let told = story(How::Device, &key, vec![code(60), pending()], 20).await;
    assert!(told.end.unwrap_err().contains("before it ended") && told.waits == [5; 3], "{:?}", told.waits);
    for (answer, polls, word) in [
        (refused(70_020, "authorization_declined", "", None), 1, "declined"),
        (refused(70_019, "expired_token", "", None), 1, "took too long"),
        (
            refused(53_003, "interaction_required", "message_only", Some(CHALLENGE)),
            1,
            "blocked here: use the browser",
        ),
        (refused(53_003, "access_denied", "", None), 1, "AADSTS53003"),
        (Answer::new(200, r#"{"token_type":"Bearer","access_token":"x"}"#), 1, "something else than an SSH"),
    ] {
        let told = story(How::Device, &key, vec![code(900), answer], 0).await;
        let why = told.end.unwrap_err();
        assert!(why.contains(word) && told.waits.len() == polls, "{word}: {why}");
    }
    // Blocked before there is a code.
    let told = story(How::Device, &key, vec![refused(53_003, "access_denied", "", None)], 0).await;
    assert!(told.end.unwrap_err().contains("device code is blocked here") && told.shown.is_empty());
}

#[tokio::test]
async fn a_challenge_on_a_device_code_is_a_second_code_with_its_claims() {
    let key = key();
    let told = story(How::Device, &key, vec![code(900), challenge(), code(900), issued(&key)], 0).await;
    assert_eq!((told.end, told.shown.len()), (Ok(certificate(&key, |one| one)), 2));
    assert!(told.forms[..2].iter().all(|form| !form.contains_key("claims")));
    assert!(told.forms[2..].iter().all(|form| form["claims"] == CHALLENGE));
    let told = story(How::Device, &key, vec![code(900), challenge(), code(900), challenge()], 0).await;
    let why = told.end.unwrap_err();
    assert!(
        why.contains("did not satisfy it") && why.contains("AADSTS50076") && told.forms.len() == 4,
        "{why}"
    );
}
