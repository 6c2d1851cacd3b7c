//! The quirks of the request's key, one by one.

use super::*;
use crate::form::encode;
use crate::rsakey::RsaKey;
use serde_json::json;

struct Sent<'a> {
    kty: &'a str,
    n: String,
    e: String,
    kid: Option<&'a str>,
    key_id: Option<&'a str>,
}

fn form(sent: &Sent<'_>) -> Fields {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{}{}", sent.n, sent.e).as_bytes());
    let id = ids::hex(digest.as_ref());
    let cnf = json!({"kty": sent.kty, "n": sent.n, "e": sent.e, "kid": sent.kid.unwrap_or(&id)});
    let key_id = sent.key_id.unwrap_or(&id);
    Fields::parse(&format!("token_type=ssh-cert&key_id={key_id}&req_cnf={}", encode(&cnf.to_string())))
}

fn padded(bytes: &[u8]) -> String {
    let text = ids::base64url(bytes);
    let missing = (4 - text.len() % 4) % 4;
    text + &"=".repeat(missing)
}

#[test]
fn leading_zero_and_padding_are_both_optional() {
    let key = RsaKey::generate().unwrap();
    let want = SubjectKey::from_line(&sshcert::public_line(&key, "")).unwrap();
    let with_zero = [&[0], key.n()].concat();
    for n in [padded(&with_zero), ids::base64url(&with_zero), padded(key.n()), ids::base64url(key.n())] {
        let sent = Sent { kty: "RSA", n, e: "AQAB".into(), kid: None, key_id: None };
        let got = subject(&form(&sent)).unwrap();
        assert_eq!(format!("{got:?}"), format!("{want:?}"));
    }
    assert_eq!(padded(&with_zero).len(), 344);
    assert!(padded(&with_zero).ends_with('='));
}

#[test]
fn wrong_ids_types_and_sizes_are_refused() {
    let key = RsaKey::generate().unwrap();
    let n = || ids::base64url(key.n());
    let e = || "AQAB".to_owned();
    let zeroes = ids::base64url(&[0; 256]);
    let small = ids::base64url(&[0xff; 128]);
    let large = ids::base64url(&[0xff; 2049]);
    let cases = [
        Sent { kty: "RSA", n: n(), e: e(), kid: Some("x"), key_id: None },
        Sent { kty: "RSA", n: n(), e: e(), kid: None, key_id: Some("x") },
        Sent { kty: "EC", n: n(), e: e(), kid: None, key_id: None },
        Sent { kty: "RSA", n: small, e: e(), kid: None, key_id: None },
        Sent { kty: "RSA", n: large, e: e(), kid: None, key_id: None },
        Sent { kty: "RSA", n: zeroes, e: e(), kid: None, key_id: None },
        Sent { kty: "RSA", n: "not base64!".into(), e: e(), kid: None, key_id: None },
        Sent { kty: "RSA", n: n(), e: String::new(), kid: None, key_id: None },
    ];
    for (at, sent) in cases.iter().enumerate() {
        assert_eq!(subject(&form(sent)).unwrap_err().code, 9_002_313, "case {at}");
    }
    assert_eq!(subject(&Fields::parse("token_type=ssh-cert&key_id=x")).unwrap_err().code, 90014);
    assert_eq!(subject(&Fields::parse("req_cnf=eyJrdHkiOiJSU0EifQ&key_id=x")).unwrap_err().code, 9_002_313);
}

#[test]
fn principals_follow_the_kind_of_account() {
    use crate::world::{BOB, BOB_MAIL, CI_PIPELINE, CI_PIPELINE_APP, MIXED_CASE};
    let mut world = crate::seed::world("t", Vec::new(), Vec::new());
    let of = |world: &World, oid: &str| principals(world, world.directory.find(oid).unwrap());
    assert_eq!(of(&world, MIXED_CASE.oid), ["Mixed.Case@contoso.com"]);
    assert_eq!(of(&world, BOB.oid), [BOB_MAIL]);
    assert_eq!(of(&world, CI_PIPELINE.oid), [CI_PIPELINE.oid]);
    world.entra.sp_principal = "app_id".into();
    assert_eq!(of(&world, CI_PIPELINE.oid), [CI_PIPELINE_APP]);
    world.directory.find_mut(BOB.oid).unwrap().principals = Some(vec!["a".into(), "b".into()]);
    assert_eq!(of(&world, BOB.oid), ["a", "b"]);
}

#[test]
fn the_window_is_an_hour_and_moves_with_the_offset() {
    let mut world = crate::seed::world("t", Vec::new(), Vec::new());
    world.time.certificate_offset = -7200;
    let who = world.directory.find("alice@contoso.com").unwrap();
    let made = contents(&world, who);
    assert_eq!(made.valid_before - made.valid_after, 3600);
    assert!(i64::try_from(made.valid_before).unwrap() < world.now());
    assert!(ids::is_guid(&made.key_id));
    assert_eq!(made.extensions.len(), 7);
}
