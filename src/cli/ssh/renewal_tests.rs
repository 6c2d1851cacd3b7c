//! Certificates that are renewed without a page: what Entra is asked, what its answers mean, and what stays as it was.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_jwt::{ClientHeader, Expiration, PROOF_EXTENSION};
use nightlatch_model::{Secret, Timestamp};
use serde_json::{Value, json};

use super::asked::{Asked, How};
use super::files::{self, Note, kept, last, still_good};
use super::held::Held;
use super::key::Key;
use super::person_tests::{CHALLENGE, pairs, refused};
use super::renewal::{Renewed, renewed};
use super::rsa::RsaKey;
use super::rsa::tests::{certificate, key};
use super::sign_in::write;
use super::tests::{CLIENT, NAME, NOW, OID, TENANT, asking};
use crate::entra::http::{Http, ProxyRule};
use crate::entra::oauth::Certified;
use crate::entra::sign_in::{Identified, PersonId, SignIn};
use crate::entra::tiny_server::{Answer, Server};

const LOGIN: &str = "https://login.example";
/// When the certificate is renewed.
const LATER: Timestamp = Timestamp(NOW.0 + 3_300);

fn token(text: &str) -> Option<Secret> {
    Some(Secret::new(text.to_owned()))
}

/// A server of Entra's with these answers, and an application there.
async fn entra(answers: Vec<Answer>) -> (Server, SignIn) {
    let server = Server::start(answers).await;
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let entra = SignIn::new(http, &server.url(""), TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    (server, entra.issued_by(LOGIN))
}

fn forms(server: &Server) -> Vec<HashMap<String, String>> {
    server.seen().into_iter().map(|seen| pairs(&seen.body)).collect()
}

/// What the kernel holds for the sign-in whose note lies there.
fn held(asked: &Asked) -> Option<String> {
    Held::by_this_process()
        .of(&asked.folder, asked.way(), &last(asked)?)
        .map(|token| token.expose().to_owned())
}

/// Alice signed in to Entra's authority, and the kernel holds `first`.
fn certified(folder: &Path) -> (Asked, RsaKey, Note) {
    let asked = Asked { hold: true, ..asking(folder, How::Browser) };
    let key = key();
    let given = Certified { certificate: certificate(&key, |one| one), refresh_token: token("first") };
    key.keep(&asked, &given, Some(&Held::by_this_process()), None, NOW).unwrap();
    let note = last(&asked).unwrap();
    assert!(note.held.is_some() && note.signed_in == NOW.0);
    (asked, key, note)
}

/// What Entra answers where it certifies this key for two more hours.
fn issued(key: &RsaKey, next: Option<&str>) -> Answer {
    let now = u64::try_from(NOW.0).unwrap();
    let text = certificate(key, |one| one.valid(now, now + 7_200));
    let mut body = json!({"token_type": "ssh-cert", "expires_in": 3_600, "access_token": text});
    if let Some(next) = next {
        body["refresh_token"] = json!(next);
    }
    Answer::new(200, &body.to_string())
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

#[tokio::test]
async fn entra_certifies_the_same_key_again_and_what_it_gave_is_held_next() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, key, note) = certified(folder.path());
    let private = read(folder.path(), "id_rsa");
    let (server, entra) = entra(vec![issued(&key, Some("second")), issued(&key, None)]).await;
    let holder = Held::by_this_process();
    let done = renewed(&entra, &asked, &note, &holder, LATER).await;
    assert_eq!(done, Ok(Renewed::Done(NAME.into())));
    assert_eq!(held(&asked).as_deref(), Some("second"));
    let note = last(&asked).unwrap();
    assert!(note.signed_in == NOW.0 && note.held.is_some(), "a renewal is no sign-in: {note:?}");
    assert!(kept(&asked, LATER).is_some() && read(folder.path(), "id_rsa") == private);
    // Where no other one comes, the last stays good.
    assert_eq!(renewed(&entra, &asked, &note, &holder, LATER).await, Ok(Renewed::Done(NAME.into())));
    assert_eq!(held(&asked).as_deref(), Some("second"));
    let forms = forms(&server);
    let sent: Vec<&str> = forms.iter().map(|form| form["refresh_token"].as_str()).collect();
    assert_eq!(sent, ["first", "second"]);
    let form = &forms[0];
    assert_eq!((form["grant_type"].as_str(), form["client_id"].as_str()), ("refresh_token", CLIENT));
    assert_eq!(form["token_type"], "ssh-cert");
    let scope = "openid profile offline_access https://pas.windows.net/CheckMyAccess/Linux/.default";
    assert_eq!(form["scope"], scope);
    let cnf: Value = serde_json::from_str(&form["req_cnf"]).unwrap();
    assert_eq!(cnf["kid"].as_str(), Some(form["key_id"].as_str()));
    assert_eq!(form.len(), 7, "{form:?}");
}

#[tokio::test]
async fn a_sign_in_that_ended_is_forgotten_and_one_that_cannot_be_asked_about_is_not() {
    let claims = nightlatch_tokens::Claims::new(CHALLENGE).unwrap();
    let challenge = refused(50_076, "interaction_required", "basic_action", Some(CHALLENGE));
    for (answer, end, stays) in [
        (refused(50_173, "invalid_grant", "", None), Renewed::Page(None), false),
        (refused(70_043, "invalid_grant", "bad_token", None), Renewed::Page(None), false),
        (refused(50_057, "invalid_grant", "", None), Renewed::Page(None), false),
        (
            refused(53_003, "interaction_required", "message_only", Some(CHALLENGE)),
            Renewed::Page(None),
            false,
        ),
        // Not Entra's word about the sign-in.
        (Answer::new(200, r#"{"token_type":"Bearer","access_token":"x"}"#), Renewed::Page(None), true),
        (challenge, Renewed::Page(Some(claims)), true),
        (Answer::new(503, "{}"), Renewed::Away(String::new()), true),
        (Answer::new(429, "{}"), Renewed::Away(String::new()), true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (asked, _, note) = certified(folder.path());
        let (server, entra) = entra(vec![answer]).await;
        let files = ["id_rsa", "id_rsa-cert.pub", "entra.json"];
        let before = files.map(|name| read(folder.path(), name));
        let done = renewed(&entra, &asked, &note, &Held::by_this_process(), LATER).await.unwrap();
        let done = if let Renewed::Away(_) = done { Renewed::Away(String::new()) } else { done };
        assert_eq!(done, end, "{:?}", forms(&server));
        assert_eq!(held(&asked).is_some(), stays, "{end:?}");
        assert!(files.map(|name| read(folder.path(), name)) == before, "{end:?}");
    }
}

#[tokio::test]
async fn another_keys_certificate_is_no_renewal() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, _, note) = certified(folder.path());
    let (_server, entra) = entra(vec![issued(&key(), Some("second"))]).await;
    let before = read(folder.path(), "id_rsa-cert.pub");
    let done = renewed(&entra, &asked, &note, &Held::by_this_process(), LATER).await;
    assert!(done.unwrap_err().contains("another key"));
    assert!(read(folder.path(), "id_rsa-cert.pub") == before);
    assert_eq!(held(&asked).as_deref(), Some("first"));
}

#[tokio::test]
async fn nothing_is_asked_where_nothing_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, _, note) = certified(folder.path());
    let (server, entra) = entra(vec![]).await;
    let holder = Held::by_this_process();
    let context = Some("c1".parse().unwrap());
    let wants_more = Asked { context, ..asking(folder.path(), How::Browser) };
    assert_eq!(renewed(&entra, &wants_more, &note, &holder, LATER).await, Ok(Renewed::Page(None)));
    holder.forget(&asked.folder, asked.way()).unwrap();
    assert_eq!(renewed(&entra, &asked, &note, &holder, LATER).await, Ok(Renewed::Page(None)));
    assert!(server.seen().is_empty());
}

/// An ID token of that time, good for an hour.
fn id_token(oid: &str, then: Timestamp, nonce: Option<&str>) -> String {
    let mut claims = json!({"iss": format!("{LOGIN}/{TENANT}/v2.0"), "aud": CLIENT, "tid": TENANT,
        "oid": oid, "iat": then.0, "nbf": then.0, "exp": then.0 + 3_600, "preferred_username": NAME});
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(json!({"alg": "RS256", "typ": "JWT", "kid": "k"})), part(claims))
}

/// Alice signed in with a key of her own, and the kernel holds `first`.
fn signed_in(folder: &Path, first: &str) -> (Asked, Note) {
    let expiration = Expiration::Refreshed;
    let asked = Asked { hold: true, expiration, ..asking(folder, How::OpenPubkey) };
    let key = Key::generate().unwrap();
    let header = ClientHeader::ed25519(key.public(), &[7; 32]);
    let person =
        PersonId { tenant: TENANT.parse().unwrap(), object_id: OID.parse().unwrap(), username: NAME.into() };
    let signed = Identified {
        person,
        contexts: vec!["c1".parse().unwrap()],
        id_token: Secret::new(first.to_owned()),
        issued: NOW,
        ends: NOW.plus(3_600),
        refresh_token: token("first"),
    };
    write(&asked, &key, &header, &signed, Some(&Held::by_this_process()), NOW).unwrap();
    let note = last(&asked).unwrap();
    assert!(note.held.is_some() && note.oid.as_deref() == Some(OID));
    (asked, note)
}

fn proof(asked: &Asked) -> String {
    let certificate = files::certificate(asked).unwrap();
    assert_eq!(certificate.verify_signature(certificate.ca_key()), Ok(()));
    certificate.extension_text(PROOF_EXTENSION).unwrap().unwrap().to_owned()
}

/// The certificate's line as it is.
fn line(asked: &Asked) -> String {
    String::from_utf8(read(&asked.folder, "id_ed25519-cert.pub")).unwrap()
}

fn answer(id_token: &str, next: &str) -> Answer {
    let body = json!({"token_type": "Bearer", "expires_in": 3_600, "access_token": "x.y.z",
                      "id_token": id_token, "refresh_token": next});
    Answer::new(200, &body.to_string())
}

#[tokio::test]
async fn a_newer_id_token_stands_beside_the_first_which_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, note) = signed_in(folder.path(), &id_token(OID, NOW, Some("n")));
    let (first, private) = (proof(&asked), read(folder.path(), "id_ed25519"));
    assert!(!first.contains('.'));
    let second = id_token(OID, LATER, None);
    let third = id_token(OID, LATER.plus(3_000), Some("n"));
    let (server, entra) = entra(vec![answer(&second, "second"), answer(&third, "third")]).await;
    let holder = Held::by_this_process();
    assert_eq!(renewed(&entra, &asked, &note, &holder, LATER).await, Ok(Renewed::Done(NAME.into())));
    assert_eq!(proof(&asked), format!("{first}.{second}"));
    let note = last(&asked).unwrap();
    assert_eq!((note.token_ends, note.signed_in), (Some(LATER.0 + 3_600), NOW.0));
    assert_eq!((note.acrs.as_slice(), held(&asked).as_deref()), (&["c1".to_owned()][..], Some("second")));
    // The one after takes its place: the certificate does not grow.
    let then = LATER.plus(3_000);
    assert_eq!(renewed(&entra, &asked, &note, &holder, then).await, Ok(Renewed::Done(NAME.into())));
    assert_eq!(proof(&asked), format!("{first}.{third}"));
    assert!(read(folder.path(), "id_ed25519") == private);
    let sent: Vec<String> = forms(&server).iter().map(|form| form["scope"].clone()).collect();
    assert_eq!(sent, ["openid profile offline_access"; 2]);
}

#[tokio::test]
async fn somebody_elses_sign_in_and_files_that_are_not_ours_renew_nothing() {
    let stranger = "a11ce000-0000-4000-8000-000000000002";
    let folder = tempfile::tempdir().unwrap();
    let (server, entra) = entra(vec![answer(&id_token(stranger, LATER, None), "second")]).await;
    let first = id_token(OID, NOW, Some("n"));
    let other = Key::generate().unwrap().private_file(7, "").unwrap();
    for (name, text) in [
        ("", ""),
        ("id_ed25519", "no key"),
        ("id_ed25519", other.expose()),
        ("id_ed25519-cert.pub", "ssh-rsa AAAA"),
    ] {
        let (asked, note) = signed_in(folder.path(), &first);
        assert!(kept(&asked, NOW).is_some());
        if !name.is_empty() {
            std::fs::write(folder.path().join(name), text).unwrap();
            assert!(kept(&asked, NOW).is_none(), "{name}: a pair that is none is not used");
        }
        let before = read(folder.path(), "id_ed25519-cert.pub");
        let done = renewed(&entra, &asked, &note, &Held::by_this_process(), LATER).await;
        assert_eq!(done, Ok(Renewed::Page(None)), "{name}");
        assert!(held(&asked).is_none() && read(folder.path(), "id_ed25519-cert.pub") == before, "{name}");
    }
    assert_eq!(server.seen().len(), 1, "nobody is asked for what cannot be written");
}

/// A wrong clock makes good tokens look bad: it costs a page, and not the sign-in.
#[tokio::test]
async fn an_answer_that_only_we_do_not_believe_ends_no_sign_in() {
    let folder = tempfile::tempdir().unwrap();
    let late = id_token(OID, LATER.plus(7_200), None);
    let no_refresh = json!({"token_type": "Bearer", "expires_in": 3_600, "access_token": "x.y.z",
                            "id_token": id_token(OID, LATER, None)});
    let answers = vec![answer(&late, "second"), Answer::new(200, &no_refresh.to_string())];
    let (_server, entra) = entra(answers).await;
    let (asked, note) = signed_in(folder.path(), &id_token(OID, NOW, Some("n")));
    let holder = Held::by_this_process();
    assert_eq!(renewed(&entra, &asked, &note, &holder, LATER).await, Ok(Renewed::Page(None)));
    assert_eq!(held(&asked).as_deref(), Some("first"));
    // And where no other refresh token comes, the last stays good.
    assert_eq!(renewed(&entra, &asked, &note, &holder, LATER).await, Ok(Renewed::Done(NAME.into())));
    assert_eq!(held(&asked).as_deref(), Some("first"));
}

#[test]
fn how_long_a_certificate_is_used_is_what_nodes_take() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, _) = signed_in(folder.path(), "aGVhZA.Y2xhaW1z.c2ln");
    for (expiration, last_second) in [
        (Expiration::AfterIssue(14_400), 14_400 - 601),
        (Expiration::AfterIssue(600), 600 - 151),
        (Expiration::IdToken, 3_600 - 601),
        (Expiration::Refreshed, 3_600 - 601),
    ] {
        let asked = Asked { expiration, hold: false, ..asking(folder.path(), How::OpenPubkey) };
        let used = |age: i64| kept(&asked, NOW.plus(age)).is_some();
        assert_eq!(
            [-1, 0, last_second, last_second + 1].map(used),
            [false, true, true, false],
            "{expiration:?}"
        );
    }
    // A week after the first token no node takes a newer one.
    let week = Note { token_ends: Some(i64::MAX), ..last(&asked).unwrap() };
    files::keep(&asked, None, &line(&asked), &week).unwrap();
    let age = super::held::HELD_S - 601;
    assert!(kept(&asked, NOW.plus(age)).is_some() && kept(&asked, NOW.plus(age + 1)).is_none());
    let (asked, _) = signed_in(folder.path(), "aGVhZA.Y2xhaW1z.c2ln");
    // Where no other can be had, almost to the end, and never for what it does not show.
    assert!(still_good(&asked, NOW.plus(3_539)).is_some() && still_good(&asked, NOW.plus(3_540)).is_none());
    let context = Some("c2".parse().unwrap());
    assert!(still_good(&Asked { context, ..asking(folder.path(), How::OpenPubkey) }, NOW).is_none());
}

#[test]
fn another_name_cloud_application_or_tenant_is_another_sign_in() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, _) = signed_in(folder.path(), "aGVhZA.Y2xhaW1z.c2ln");
    assert!(kept(&asked, NOW).is_some());
    let plain = || Asked { expiration: Expiration::Refreshed, ..asking(folder.path(), How::OpenPubkey) };
    let hint = |name: &str| Asked { hint: Some(name.into()), ..plain() };
    assert!(kept(&hint("Alice@Contoso.com"), NOW).is_some());
    // Whom the page knows by another name than the certificate has, is known by both.
    assert!(kept(&hint("a.smith@contoso.com"), NOW).is_none());
    let by_mail = Note { name: NAME.into(), ..Note::new(&hint("a.smith@contoso.com"), NAME, NOW) };
    let note = Note { token_ends: Some(NOW.0 + 3_600), ..by_mail };
    files::keep(&asked, None, &line(&asked), &note).unwrap();
    assert!(kept(&hint("A.Smith@contoso.com"), NOW).is_some() && kept(&hint(NAME), NOW).is_some());
    for other in [
        hint("adele@contoso.com"),
        Asked { cloud: crate::entra::clouds::Cloud::China, ..plain() },
        Asked { client: OID.parse().unwrap(), ..plain() },
        Asked { tenant: "11111111-2222-3333-4444-555555555556".parse().unwrap(), ..plain() },
    ] {
        assert!(kept(&other, NOW).is_none() && last(&other).is_none());
    }
}

/// Whoever puts a passphrase on the key still uses the certificate.
#[test]
fn a_key_with_a_passphrase_is_the_certificates_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, _) = signed_in(folder.path(), "aGVhZA.Y2xhaW1z.c2ln");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-p", "-P", "", "-N", "secret", "-f"]).arg(folder.path().join("id_ed25519"));
    assert!(keygen.output().unwrap().status.success());
    assert!(kept(&asked, NOW).is_some());
}
