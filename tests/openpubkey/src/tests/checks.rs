//! A second reader of the certificates: it names each check that a certificate fails.

use aws_lc_rs::digest::{SHA3_256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::Engine as _;
use serde_json::Value;

use crate::{Broken, Case, Issuer, b64url, from_b64url};

/// The checks that a broken thing is meant to fail.
pub(super) fn expected(broken: Broken) -> Vec<&'static str> {
    match broken {
        Broken::Nothing => vec![],
        Broken::CertificateSignature => vec!["certificate signature"],
        Broken::NotSelfSigned => vec!["self-signed"],
        Broken::HostCertificate => vec!["user certificate"],
        Broken::CertificateExpired | Broken::CertificateNotYetValid => vec!["validity"],
        Broken::CriticalOption => vec!["no critical option"],
        Broken::PrincipalsEmpty | Broken::PrincipalsOther | Broken::PrincipalUnsafe => vec!["principals"],
        Broken::AccessToken => vec!["no access token"],
        Broken::PktAbsent | Broken::PktBare => vec!["one token"],
        Broken::PktTwice => vec!["extensions sorted", "one token"],
        Broken::TrailingBytes => vec!["no rest"],
        Broken::PartMissing | Broken::CicMissing | Broken::OpMissing | Broken::SignatureExtra => {
            vec!["five parts"]
        }
        Broken::SignaturesSwapped => vec!["provider first"],
        Broken::MalformedBase64 | Broken::PaddedBase64 => vec!["base64"],
        Broken::Oversized => vec!["size"],
        Broken::CicTyp | Broken::CicTypAbsent => vec!["typ"],
        Broken::CicAlg | Broken::UpkAlg => vec!["alg"],
        Broken::CicAlgNone => vec!["alg", "cic signature"],
        Broken::CicRzAbsent => vec!["rz"],
        Broken::CicUpkAbsent => vec!["upk"],
        Broken::CicDuplicateMember => vec!["canonical"],
        Broken::CicSignature | Broken::CicOtherSigner | Broken::CicOtherPayload | Broken::SignatureEmpty => {
            vec!["cic signature"]
        }
        Broken::UpkOther => vec!["upk is the certificate's"],
        Broken::CicWhiteSpace => vec!["canonical", "commitment"],
        Broken::RzChanged
        | Broken::NonceOther
        | Broken::NonceAbsent
        | Broken::NonceOverBase64
        | Broken::NonceSha256 => vec!["commitment"],
        Broken::IdTokenSignature | Broken::IdTokenPayload | Broken::IdTokenForged => vec!["id signature"],
        Broken::IdTokenAlgNone => vec!["id alg", "id signature"],
        Broken::IdTokenOtherAudience => vec!["id aud"],
        Broken::IdTokenOtherIssuer => vec!["id iss"],
        Broken::IdTokenOld => vec!["id age"],
        Broken::FreshMalformed => vec!["fresh parts"],
        Broken::FreshSignature | Broken::FreshForged => vec!["fresh signature"],
        Broken::FreshAlgNone => vec!["fresh alg", "fresh signature"],
        Broken::FreshOtherSubject => vec!["fresh sub"],
        Broken::FreshOtherObject => vec!["fresh oid"],
        Broken::FreshOtherAudience => vec!["fresh aud"],
        Broken::FreshOtherIssuer => vec!["fresh iss"],
        Broken::FreshOtherNonce => vec!["fresh nonce"],
        Broken::FreshExpired => vec!["fresh exp"],
        Broken::FreshNotNewer => vec!["fresh iat"],
    }
}

/// What fails of a list of named conditions.
#[derive(Default)]
struct Failures(Vec<&'static str>);

impl Failures {
    fn unless(&mut self, holds: bool, name: &'static str) {
        if !holds {
            self.0.push(name);
        }
    }
}

/// The next string of an SSH blob.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(text)
}

fn strings(mut list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while !list.is_empty() {
        all.push(string(&mut list)?);
    }
    Some(all)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*bytes))
}

/// The raw public key in an SSH key blob.
fn raw_key(mut blob: &[u8]) -> Option<&[u8]> {
    if string(&mut blob)? == b"ecdsa-sha2-nistp256" {
        assert_eq!(string(&mut blob)?, b"nistp256");
    }
    string(&mut blob)
}

fn verifies(raw_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    if raw_key.len() == 65 {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, raw_key).verify(message, signature).is_ok()
    } else {
        UnparsedPublicKey::new(&ED25519, raw_key).verify(message, signature).is_ok()
    }
}

/// The 64 bytes of an SSH signature blob.
fn fixed(mut blob: &[u8]) -> Option<Vec<u8>> {
    let name = string(&mut blob)?;
    let mut own = string(&mut blob)?;
    if name == b"ssh-ed25519" {
        return Some(own.to_vec());
    }
    let mut out = Vec::new();
    for _ in 0..2 {
        let digits: Vec<u8> = string(&mut own)?.iter().copied().skip_while(|byte| *byte == 0).collect();
        out.extend(vec![0; 32_usize.checked_sub(digits.len())?]);
        out.extend(digits);
    }
    Some(out)
}

/// All that a certificate fails, in the order of the checks.
pub(super) fn failing(case: &Case, issuer: &Issuer, now: i64) -> Vec<&'static str> {
    let mut failures = Failures::default();
    failures.unless(case.certificate.len() < 64 * 1024, "size");
    let blob = case.certificate.split(' ').nth(1).unwrap();
    let blob = base64::engine::general_purpose::STANDARD.decode(blob).unwrap();
    let Some((certificate_key, token)) = certificate(&mut failures, &blob, now) else { return failures.0 };
    tokens(&mut failures, &certificate_key, &token, issuer, now);
    failures.0
}

/// The certificate's own checks; its key and its token.
fn certificate(failures: &mut Failures, blob: &[u8], now: i64) -> Option<(Vec<u8>, String)> {
    let mut rest = blob;
    let name = string(&mut rest)?.to_vec();
    assert_eq!(string(&mut rest)?.len(), 32);
    if name.starts_with(b"ecdsa") {
        assert_eq!(string(&mut rest)?, b"nistp256");
    }
    let key = string(&mut rest)?;
    assert_eq!(number(&mut rest)?, 0);
    let (cert_type, after) = rest.split_first_chunk::<4>()?;
    rest = after;
    failures.unless(u32::from_be_bytes(*cert_type) == 1, "user certificate");
    assert_eq!(string(&mut rest)?, b"ada@example.com");
    failures.unless(strings(string(&mut rest)?)? == [b"opkssh-wildcard"], "principals");
    let now = u64::try_from(now).unwrap();
    let (after, before) = (number(&mut rest)?, number(&mut rest)?);
    failures.unless(after <= now && now < before, "validity");
    failures.unless(string(&mut rest)?.is_empty(), "no critical option");
    let extensions = strings(string(&mut rest)?)?;
    assert!(string(&mut rest)?.is_empty());
    let signature_key = string(&mut rest)?;
    let signed = &blob[..blob.len() - rest.len()];
    let signature = string(&mut rest)?;
    failures.unless(rest.is_empty(), "no rest");
    failures.unless(raw_key(signature_key)? == key, "self-signed");
    let valid =
        fixed(signature).is_some_and(|fixed| verifies(raw_key(signature_key).unwrap(), signed, &fixed));
    failures.unless(valid, "certificate signature");

    let names: Vec<&[u8]> = extensions.iter().step_by(2).copied().collect();
    failures.unless(names.windows(2).all(|pair| pair[0] < pair[1]), "extensions sorted");
    failures.unless(!names.contains(&b"openpubkey-act".as_slice()), "no access token");
    let tokens: Vec<&[u8]> = extensions
        .chunks(2)
        .filter(|pair| pair[0] == b"openpubkey-pkt")
        .filter_map(|pair| match strings(pair[1])?.as_slice() {
            [one] => Some(*one),
            _ => None,
        })
        .collect();
    failures.unless(tokens.len() == 1, "one token");
    let [token] = tokens.as_slice() else { return None };
    Some((key.to_vec(), String::from_utf8(token.to_vec()).unwrap()))
}

/// The checks of the PK token.
fn tokens(failures: &mut Failures, certificate_key: &[u8], token: &str, issuer: &Issuer, now: i64) {
    let (body, fresh) = match token.split_once('.') {
        Some((body, fresh)) => (body, Some(fresh)),
        None => (token, None),
    };
    let parts: Vec<&str> = body.split(':').collect();
    let [payload, op_header, op_signature, cic_header, cic_signature] = parts.as_slice() else {
        failures.unless(false, "five parts");
        return;
    };
    let decoded: Option<Vec<Vec<u8>>> = parts.iter().map(|part| from_b64url(part)).collect();
    let Some(decoded) = decoded else {
        failures.unless(false, "base64");
        return;
    };
    let cic_text = String::from_utf8(decoded[3].clone()).unwrap();
    let op: Value = serde_json::from_slice(&decoded[1]).unwrap();
    let cic: Value = serde_json::from_str(&cic_text).unwrap();
    let claims: Value = serde_json::from_slice(&decoded[0]).unwrap();
    if op["typ"] == "CIC" {
        failures.unless(false, "provider first");
        return;
    }
    failures.unless(serde_json::to_string(&cic).unwrap() == cic_text, "canonical");
    failures.unless(cic["typ"] == "CIC", "typ");
    failures.unless(cic["rz"].as_str().is_some_and(|rz| rz.len() == 64), "rz");
    let upk = &cic["upk"];
    let point = |name: &str| upk[name].as_str().and_then(from_b64url).unwrap_or_default();
    let (alg, upk_key) = match upk["kty"].as_str() {
        Some("EC") => ("ES256", [vec![4], point("x"), point("y")].concat()),
        Some("OKP") => ("EdDSA", point("x")),
        _ => {
            failures.unless(false, "upk");
            return;
        }
    };
    failures.unless(cic["alg"] == alg && upk["alg"] == alg, "alg");
    let signed = format!("{cic_header}.{payload}");
    let signature = from_b64url(cic_signature).unwrap();
    failures.unless(verifies(&upk_key, signed.as_bytes(), &signature), "cic signature");
    failures.unless(upk_key == certificate_key, "upk is the certificate's");
    let commitment = b64url(digest(&SHA3_256, cic_text.as_bytes()));
    failures.unless(claims["nonce"] == commitment, "commitment");

    failures.unless(op["alg"] == "RS256", "id alg");
    let signed = format!("{op_header}.{payload}");
    let signature = from_b64url(op_signature).unwrap();
    failures.unless(issuer.verifies(signed.as_bytes(), &signature), "id signature");
    failures.unless(claims["aud"] == issuer.client_id(), "id aud");
    failures.unless(claims["iss"] == issuer.issuer(), "id iss");
    failures.unless(claims["iat"].as_i64().unwrap() > now - 7 * 24 * 3600, "id age");
    if let Some(fresh) = fresh {
        refreshed(failures, &claims, fresh, issuer, now);
    }
}

/// The checks of the refreshed ID token.
fn refreshed(failures: &mut Failures, original: &Value, fresh: &str, issuer: &Issuer, now: i64) {
    let parts: Vec<&str> = fresh.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        failures.unless(false, "fresh parts");
        return;
    };
    let read = |part: &str| serde_json::from_slice::<Value>(&from_b64url(part).unwrap()).unwrap();
    let claims = read(payload);
    failures.unless(read(header)["alg"] == "RS256", "fresh alg");
    let signed = format!("{header}.{payload}");
    let good = issuer.verifies(signed.as_bytes(), &from_b64url(signature).unwrap());
    failures.unless(good, "fresh signature");
    failures.unless(claims["sub"] == original["sub"], "fresh sub");
    failures.unless(claims["oid"] == original["oid"], "fresh oid");
    failures.unless(claims["aud"] == original["aud"], "fresh aud");
    failures.unless(claims["iss"] == original["iss"], "fresh iss");
    failures.unless(claims["nonce"] == original["nonce"], "fresh nonce");
    failures.unless(now <= claims["exp"].as_i64().unwrap(), "fresh exp");
    failures.unless(original["iat"].as_i64() <= claims["iat"].as_i64(), "fresh iat");
}
