//! What the client signs: assertions and requests, taken apart and verified with plain RSA.

use aws_lc_rs::rsa::KeyPair as RsaPair;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nightlatch_model::Secret;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{CLIENT, NOW};
use crate::entra::oauth::assertion::{Certificate, CertificateError};
use crate::entra::oauth::pop::{PopKey, SignedRequest};

fn key() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn certificate(key: &KeyPair, name: &str) -> rcgen::Certificate {
    CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(key).unwrap()
}

fn parts(token: &str) -> (Value, Value, String, Vec<u8>) {
    let pieces: Vec<&str> = token.split('.').collect();
    assert_eq!(pieces.len(), 3);
    let json = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(pieces[2]).unwrap();
    (json(pieces[0]), json(pieces[1]), format!("{}.{}", pieces[0], pieces[1]), signature)
}

fn verifies(how: &'static RsaParameters, n: &[u8], e: &[u8], text: &str, signature: &[u8]) -> bool {
    RsaPublicKeyComponents { n, e }.verify(how, text.as_bytes(), signature).is_ok()
}

const AUDIENCE: &str = "https://login.microsoftonline.com/t/oauth2/v2.0/token";

#[test]
fn an_assertion_says_what_entra_wants_and_is_signed_with_ps256() {
    let own = key();
    let (leaf, issuer) = (certificate(&own, "leaf"), certificate(&key(), "issuer"));
    let jti = "6f1c9f0e-0000-4000-8000-000000000001".parse().unwrap();
    let public = RsaPair::from_pkcs8(&own.serialize_der()).unwrap();
    let numbers = public.public_key();
    let (n, e) = (numbers.modulus(), numbers.exponent());
    let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
    // In any order; the key's own certificate is found.
    for pem in [
        format!("{}{}{}", own.serialize_pem(), leaf.pem(), issuer.pem()),
        format!("a comment\n{}{}{}", issuer.pem(), leaf.pem(), own.serialize_pem()).replace('\n', "\r\n"),
    ] {
        for send_chain in [false, true] {
            let certificate = Certificate::from_pem(&Secret::new(pem.clone()), send_chain).unwrap();
            let token = certificate.assertion(CLIENT, AUDIENCE, NOW, jti).unwrap();
            let (header, claims, text, signature) = parts(token.expose());
            let mut expected = json!({"typ": "JWT", "alg": "PS256",
                "x5t#S256": URL_SAFE_NO_PAD.encode(Sha256::digest(leaf.der()))});
            if send_chain {
                expected["x5c"] = json!([STANDARD.encode(leaf.der()), STANDARD.encode(issuer.der())]);
            }
            assert_eq!(header, expected);
            assert_eq!(
                claims,
                json!({"aud": AUDIENCE, "iss": CLIENT, "sub": CLIENT, "nbf": NOW.0, "iat": NOW.0,
                    "exp": NOW.0 + 600, "jti": "6f1c9f0e-0000-4000-8000-000000000001"})
            );
            assert!(verifies(&RSA_PSS_2048_8192_SHA256, n, e, &text, &signature));
            assert!(!verifies(&RSA_PSS_2048_8192_SHA256, n, e, &format!("{text}x"), &signature));
        }
    }
}

#[test]
fn files_that_are_no_certificate_with_its_key_say_so() {
    let (own, other) = (key(), key());
    let leaf = certificate(&own, "leaf").pem();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let private = own.serialize_pem();
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (pem, expected) in [
        (String::new(), CertificateError::NoKey),
        (leaf.clone(), CertificateError::NoKey),
        (format!("{locked}{leaf}"), CertificateError::NoKey),
        (private.clone(), CertificateError::NoCertificate),
        (format!("{private}{}", leaf.repeat(11)), CertificateError::NoCertificate),
        (format!("{}{}", ec.serialize_pem(), certificate(&ec, "ec").pem()), CertificateError::NotRsa),
        (format!("{private}{}", certificate(&other, "other").pem()), CertificateError::Mismatch),
    ] {
        let said = Certificate::from_pem(&Secret::new(pem), false).map(|_| ()).unwrap_err();
        assert_eq!(said, expected);
    }
}

#[test]
fn a_signed_request_carries_token_and_key_and_verifies_by_its_own_jwk() {
    let key = PopKey::generate().unwrap();
    let token = Secret::new("access.tok.en".to_owned());
    let u = "/subscriptions/s/resourceGroups/r/providers/Microsoft.Kubernetes/connectedClusters/c";
    let signed = key.sign(&SignedRequest { token: &token, u, nonce: "n-1", now: NOW }).unwrap();
    let (header, payload, text, signature) = parts(signed.expose());
    assert_eq!(header, json!({"typ": "pop", "alg": "RS256", "kid": key.kid()}));
    let jwk = payload["cnf"]["jwk"].clone();
    assert_eq!(
        payload,
        json!({"at": "access.tok.en", "ts": NOW.0, "u": u, "nonce": "n-1", "cnf": {"jwk": {
            "kty": "RSA", "alg": "RS256", "kid": key.kid(), "n": jwk["n"], "e": "AQAB"}}})
    );
    let (n, e) = (jwk["n"].as_str().unwrap(), jwk["e"].as_str().unwrap());
    let thumbprint = Sha256::digest(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#));
    assert_eq!(key.kid(), URL_SAFE_NO_PAD.encode(thumbprint), "RFC 7638");
    let number = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    assert!(verifies(&RSA_PKCS1_2048_8192_SHA256, &number(n), &number(e), &text, &signature));
    let confirmation: Value = serde_json::from_slice(&number(&key.req_cnf())).unwrap();
    assert_eq!(confirmation, json!({"kid": key.kid(), "xms_ksl": "sw"}));
    assert_ne!(PopKey::generate().unwrap().kid(), key.kid());
}
