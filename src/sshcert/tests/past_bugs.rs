//! Certificates that got somebody in where they should not have, in this or another program, and
//! the fields an issuer or an attacker may get wrong. Each is signed with the right key.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use nightlatch_sshcert::testing::{CertificateBuilder, TestKey, line, mpint, string, strings};
use nightlatch_sshcert::*;

const NAME: &str = "alice@contoso.com";

fn ca() -> TestKey {
    TestKey::ed25519([1; 32])
}

fn user() -> CertificateBuilder {
    CertificateBuilder::new(&TestKey::ed25519([2; 32])).principals([NAME]).permit_all()
}

/// Parse, then check the signature with the key named inside.
fn check(blob: &[u8]) -> Result<Certificate, CertError> {
    let cert = Certificate::parse(blob)?;
    cert.verify_signature(cert.ca_key())?;
    Ok(cert)
}

fn refused(builder: &CertificateBuilder) -> CertError {
    check(&builder.sign(&ca())).expect_err("refused")
}

#[test]
fn the_plain_case_is_accepted() {
    let cert = check(&user().sign(&ca())).unwrap();
    assert_eq!(cert.principals(), [NAME]);
    assert_eq!(cert.kind(), CertKind::User);
    assert!(!cert.is_self_signed());
    assert_eq!(cert.extensions().len(), 5);
    assert!(cert.has_extension("permit-pty"));
    assert_eq!(cert.ca_key().to_base64(), ca().line().split_once(' ').unwrap().1);
}

/// CVE-2026-35414: a principal with a comma is two names to a list written later.
#[test]
fn a_principal_cannot_be_two_names_or_half_a_name() {
    for principal in [
        "deploy,root",
        "root,",
        ",root",
        ",",
        "root\0x",
        "root\0",
        "\0",
        "",
        "a b",
        "a\n",
        "a\r",
        "a\tb",
        "a\"b",
        "a\\b",
        "a\u{1b}[2J",
        "a\u{7f}",
        "\u{e4}@contoso.com",
        "a\u{2028}",
    ] {
        assert_eq!(refused(&user().principals([principal])), CertError::PrincipalAlphabet, "{principal:?}");
        assert_eq!(refused(&user().principals([NAME, principal])), CertError::PrincipalAlphabet);
    }
    assert_eq!(CertError::PrincipalAlphabet.reason_word(), "principal_alphabet");
}

#[test]
fn the_list_of_principals_is_nested_exactly() {
    let mut builder = user();
    for (list, error) in [
        (vec![0, 0, 0], CertError::Truncated(Field::Principals)),
        (vec![0, 0, 0, 9, b'a'], CertError::Truncated(Field::Principals)),
        ([string(b"a"), vec![0]].concat(), CertError::Truncated(Field::Principals)),
        (vec![0xff; 8], CertError::Truncated(Field::Principals)),
        (NAME.as_bytes().to_vec(), CertError::Truncated(Field::Principals)),
        (string(&[b'a'; MAX_PRINCIPAL_BYTES + 1]), CertError::FieldTooLong(Field::Principals)),
    ] {
        builder.principals = list;
        assert_eq!(refused(&builder), error);
    }
}

#[test]
fn up_to_256_principals_are_shown_and_no_more() {
    let names = |count: usize| (0..count).map(|at| format!("n{at}")).collect::<Vec<_>>();
    let cert = check(&user().principals(names(256)).sign(&ca())).unwrap();
    assert_eq!(cert.principals().len(), 256);
    assert_eq!(refused(&user().principals(names(257))), CertError::TooManyPrincipals);
    assert_eq!(CertError::TooManyPrincipals.reason_word(), "many_principals");
}

/// OpenSSH takes a certificate that names nobody for anybody: the caller sees an empty list, never
/// a list with an empty name in it (golang/go#81539).
#[test]
fn a_certificate_without_principals_shows_none() {
    let cert = check(&user().principals::<&str>([]).sign(&ca())).unwrap();
    assert!(cert.principals().is_empty());
}

/// A value may hold anything, for it is the caller who knows the option; a name may not.
#[test]
fn option_names_cannot_carry_a_second_line() {
    for name in ["", "a b", "a\n", "a\0", "force-command\0", "a\u{1b}"] {
        assert_eq!(refused(&user().extension(name, "")), CertError::TextInvalid(Field::Extensions));
        assert_eq!(refused(&user().critical(name, "")), CertError::TextInvalid(Field::CriticalOptions));
    }
    let long = "a".repeat(MAX_OPTION_NAME_BYTES + 1);
    assert_eq!(refused(&user().extension(long, "")), CertError::FieldTooLong(Field::Extensions));
}

/// CVE-2026-39828, CVE-2026-46595: a restriction that nobody looked at.
#[test]
fn critical_options_are_all_shown_and_none_is_known() {
    let builder = user()
        .critical("force-command", string(b"/bin/true"))
        .critical("source-address", string(b"10.0.0.0/8"))
        .critical("verify-required", "")
        .critical("zebra@example.com", "x");
    let cert = check(&builder.sign(&ca())).unwrap();
    let all = ["force-command", "source-address", "verify-required", "zebra@example.com"];
    assert_eq!(cert.unknown_critical_options(&[]).collect::<Vec<_>>(), all);
    assert_eq!(cert.unknown_critical_options(&["source-address"]).count(), 3);
    assert_eq!(cert.critical_options().first().unwrap().text(), Ok("/bin/true"));
}

#[test]
fn an_option_stands_once_and_critical_ones_in_order() {
    let twice = user().critical("a", "1").critical("a", "2");
    assert_eq!(refused(&twice), CertError::DuplicateOption(Field::CriticalOptions));
    let apart = user().extension("a", "").extension("permit-pty", "");
    assert_eq!(refused(&apart), CertError::DuplicateOption(Field::Extensions));
    let turned = user().critical("b", "").critical("a", "");
    assert_eq!(refused(&turned), CertError::OptionOrder(Field::CriticalOptions));
    let order = user().extension("a@example.com", "");
    assert_eq!(check(&order.sign(&ca())).unwrap().extensions().last().unwrap().name(), "a@example.com");
    let many = (0..=MAX_OPTIONS).fold(user(), |b, at| b.critical(format!("o{at:03}"), ""));
    assert_eq!(refused(&many), CertError::TooManyOptions(Field::CriticalOptions));
}

/// CVE-2025-49825: a certificate in the place of the authority's key.
#[test]
fn a_certificate_is_not_an_authority() {
    let middle = user().sign(&ca());
    let signer = TestKey::ed25519([2; 32]);
    let mut builder = user();
    builder.signature_key = Some(middle.clone());
    assert_eq!(check(&builder.sign(&signer)), Err(CertError::NestedCertificate));
    assert_eq!(PublicKey::parse(&middle), Err(CertError::NestedCertificate));
    assert_eq!(PublicKey::from_openssh_line(&line(&middle)), Err(CertError::NestedCertificate));
}

#[test]
fn a_holder_who_signs_for_himself_is_seen() {
    let own = TestKey::ed25519([2; 32]);
    let cert = check(&user().sign(&own)).unwrap();
    assert!(cert.is_self_signed());
    let trusted = PublicKey::parse(&ca().blob()).unwrap();
    assert_eq!(cert.verify_signature(&trusted), Err(CertError::CaMismatch));
}

#[test]
fn a_host_certificate_is_not_a_persons() {
    let mut builder = user();
    builder.kind = 2;
    let cert = check(&builder.sign(&ca())).unwrap();
    assert_eq!(cert.kind(), CertKind::Host);
    assert_eq!(cert.require_user(), Err(CertError::HostCertificate));
    assert_eq!(CertError::HostCertificate.reason_word(), "cert_type_host");
    for kind in [0, 3, 0x0100_0000, u32::MAX] {
        builder.kind = kind;
        assert_eq!(refused(&builder), CertError::KindUnknown(kind));
    }
}

/// The numbers come through whole: whoever computes a lifetime from them must not wrap.
#[test]
fn a_validity_of_all_ones_comes_through_unchanged() {
    for (after, before) in [(0, u64::MAX), (u64::MAX, 0), (1 << 63, (1 << 63) + 1), (7, 7)] {
        let cert = check(&user().valid(after, before).sign(&ca())).unwrap();
        assert_eq!((cert.valid_after(), cert.valid_before()), (after, before));
    }
}

#[test]
fn a_plain_key_is_not_a_certificate() {
    let key = ca().line();
    let (name, text) = key.split_once(' ').unwrap();
    assert_eq!(Certificate::from_openssh(name, text), Err(CertError::NotACertificate));
    assert_eq!(Certificate::parse(&ca().blob()), Err(CertError::NotACertificate));
    for (name, error) in [
        ("", CertError::NotACertificate),
        ("ssh-rsa", CertError::NotACertificate),
        ("ssh-dss-cert-v01@openssh.com", CertError::KeyUnsupported),
        ("ssh-rsa-cert-v00@openssh.com", CertError::KeyUnsupported),
        ("rsa-sha2-256-cert-v01@openssh.com", CertError::KeyUnsupported),
        ("ecdsa-sha2-nistp521-cert-v01@openssh.com", CertError::KeyUnsupported),
        ("sk-ssh-ed25519-cert-v01@openssh.com", CertError::KeyUnsupported),
    ] {
        assert_eq!(Certificate::from_openssh(name, text), Err(error), "{name}");
    }
}

#[test]
fn the_type_in_front_must_be_the_type_inside() {
    let file = user().line(&ca());
    let (name, text) = file.split_once(' ').unwrap();
    assert!(Certificate::from_openssh(name, text).is_ok());
    let other = KeyType::Rsa.cert_name();
    assert_eq!(Certificate::from_openssh(other, text), Err(CertError::TypeMismatch));
    for wrong in [format!("{text}\n"), format!(" {text}"), text.replace('=', ""), format!("{text} x")] {
        assert_eq!(Certificate::from_openssh(name, &wrong), Err(CertError::Base64), "{wrong}");
    }
    let huge = "A".repeat(MAX_CERT_BYTES / 3 * 4 + 4);
    assert_eq!(Certificate::from_openssh(name, &huge), Err(CertError::TooLarge));
    assert_eq!(Certificate::parse(&vec![0; MAX_CERT_BYTES + 1]), Err(CertError::TooLarge));
    let mut builder = user();
    builder.cert_type.push(0);
    assert_eq!(refused(&builder), CertError::NotACertificate);
}

#[test]
fn nothing_may_be_left_over_or_missing() {
    let blob = user().sign(&ca());
    assert_eq!(check(&[&blob[..], &[0]].concat()), Err(CertError::Trailing(Field::Whole)));
    for length in 0..blob.len() {
        assert!(Certificate::parse(&blob[..length]).is_err(), "{length}");
    }
    let mut builder = user();
    builder.signature_key = Some([ca().blob(), vec![0]].concat());
    assert_eq!(refused(&builder), CertError::Trailing(Field::Key));
    builder = user();
    builder.reserved = vec![0];
    assert_eq!(refused(&builder), CertError::ReservedInUse);
    builder = user();
    builder.key_id = b"a\0".to_vec();
    assert_eq!(refused(&builder), CertError::TextInvalid(Field::KeyId));
    builder.key_id = vec![b'a'; MAX_KEY_ID_BYTES + 1];
    assert_eq!(refused(&builder), CertError::FieldTooLong(Field::KeyId));
    builder.key_id = b"\x1b[2J\n\xff".to_vec();
    assert_eq!(check(&builder.sign(&ca())).unwrap().key_id(), "\\x1b[2J\\n\\xff");
    builder.nonce = vec![0; MAX_NONCE_BYTES + 1];
    assert_eq!(refused(&builder), CertError::FieldTooLong(Field::Nonce));
}

#[test]
fn one_changed_bit_breaks_the_signature() {
    for ca in [ca(), TestKey::p256(), TestKey::ecdsa("nistp384")] {
        let blob = user().sign(&ca);
        check(&blob).unwrap();
        for at in 0..blob.len() {
            let mut wrong = blob.clone();
            wrong[at] ^= 1;
            assert!(check(&wrong).is_err(), "byte {at}");
        }
    }
}

#[test]
fn signatures_must_fit_the_authority() {
    let mut builder = user();
    for label in ["ssh-rsa", "rsa-sha2-256", "ssh-dss", "ecdsa-sha2-nistp256", "ssh-ed25519\0", ""] {
        builder.algorithm = Some(label.to_owned());
        assert_eq!(refused(&builder), CertError::SignatureAlgorithm, "{label}");
    }
    assert_eq!(CertError::SignatureAlgorithm.reason_word(), "signature_algorithm");
    // Another key's signature under the trusted key's name.
    let mut builder = user();
    builder.signature_key = Some(ca().blob());
    assert_eq!(check(&builder.sign(&TestKey::ed25519([9; 32]))), Err(CertError::BadSignature));
    // The wrong length, bytes after it, a number that is not in its shortest form.
    let body = user().to_be_signed(&ca());
    let raw = ca().sign_raw("", &body);
    let with = |field: Vec<u8>| check(&[body.clone(), string(&field)].concat());
    assert!(with(strings([&b"ssh-ed25519"[..], &raw])).is_ok());
    assert_eq!(with(strings([&b"ssh-ed25519"[..], &raw[1..]])), Err(CertError::SignatureForm));
    assert_eq!(with(strings([&b"ssh-ed25519"[..], &raw, b""])), Err(CertError::Trailing(Field::Signature)));
    let curve = TestKey::p256();
    let body = user().to_be_signed(&curve);
    let raw = curve.sign_raw("", &body);
    let (r, s) = raw.split_at(4 + usize::from(raw[3]));
    let padded = [string(&[&[0], &r[4..]].concat()), s.to_vec()].concat();
    for (inner, error) in [
        (padded, CertError::NotCanonical(Field::Signature)),
        ([mpint(&[1; 33]), s.to_vec()].concat(), CertError::SignatureForm),
        ([r, s, &[0]].concat(), CertError::Trailing(Field::Signature)),
    ] {
        let field = string(&strings([&b"ecdsa-sha2-nistp256"[..], &inner]));
        assert_eq!(check(&[body.clone(), field].concat()), Err(error));
    }
}

#[test]
fn keys_that_cannot_be_real_are_refused() {
    let rsa = |e: &[u8], n: &[u8]| {
        let mut builder = user();
        builder.cert_type = KeyType::Rsa.cert_name().into();
        builder.numbers = [mpint(e), mpint(n)].concat();
        check(&builder.sign(&ca())).map(|cert| cert.subject_key().bits())
    };
    let odd = |bytes: usize| [vec![0x80; bytes - 1], vec![1]].concat();
    assert_eq!(rsa(&[1, 0, 1], &odd(256)), Ok(2048));
    assert_eq!(rsa(&[3], &odd(1024)), Ok(8192));
    assert_eq!(rsa(&[1, 0, 1], &odd(128)), Err(CertError::RsaSize(1024)));
    assert_eq!(rsa(&[1, 0, 1], &[&[0x7f], &odd(256)[1..]].concat()), Err(CertError::RsaSize(2047)));
    assert_eq!(rsa(&[1, 0, 1], &odd(1025)), Err(CertError::RsaSize(8200)));
    for (e, n) in [(&[1][..], odd(256)), (&[2], odd(256)), (&[1, 0, 1], vec![0x80; 256]), (&[1; 6], odd(256))]
    {
        assert_eq!(rsa(e, &n), Err(CertError::RsaNumbers));
    }
    assert_eq!(rsa(&[], &odd(256)), Err(CertError::NotCanonical(Field::RsaExponent)));
    let mut builder = user();
    builder.cert_type = KeyType::EcdsaP256.cert_name().into();
    let point = |bytes: &[u8]| strings([b"nistp256", bytes]);
    for (numbers, error) in [
        (strings([b"nistp384", &[4; 65][..]]), CertError::CurveMismatch),
        (point(&[4; 65]), CertError::PointInvalid),
        (point(&[0]), CertError::PointInvalid),
        (point(&[2; 33]), CertError::PointInvalid),
        (point(&[]), CertError::PointInvalid),
    ] {
        builder.numbers = numbers;
        assert_eq!(refused(&builder), error);
    }
    builder.cert_type = KeyType::Ed25519.cert_name().into();
    builder.numbers = string(&[1; 31]);
    assert_eq!(refused(&builder), CertError::PointInvalid);
}

#[test]
fn an_extensions_text_is_one_nested_string() {
    let guid = "1c0163c0-47e6-4577-8991-ea5c82e286e4";
    let read = |data: Vec<u8>| {
        let cert = check(&user().extension("tid@example.com", data).sign(&ca())).unwrap();
        cert.extension_text("tid@example.com").map(|text| text.map(str::to_owned))
    };
    assert_eq!(read(string(guid.as_bytes())), Ok(Some(guid.to_owned())));
    for wrong in [
        vec![],
        guid.as_bytes().to_vec(),
        [string(guid.as_bytes()), vec![0]].concat(),
        string(b"a\0"),
        string(b"a\n"),
        string(&[0xff]),
        string("\u{85}".as_bytes()),
    ] {
        assert_eq!(read(wrong.clone()), Err(CertError::ExtensionValue), "{wrong:?}");
    }
    let cert = check(&user().sign(&ca())).unwrap();
    assert_eq!(cert.extension_text("tid@example.com"), Ok(None));
}

#[test]
fn a_web_keys_numbers_make_the_same_key() {
    let ca = TestKey::rsa2048();
    let (n, e) = ca.rsa_n_e().unwrap();
    let key = PublicKey::parse(&ca.blob()).unwrap();
    let padded = |number: &[u8]| [&[0, 0], number].concat();
    assert_eq!(PublicKey::rsa_from_n_e(&n, &e), Ok(key.clone()));
    assert_eq!(PublicKey::rsa_from_n_e(&padded(&n), &padded(&e)), Ok(key.clone()));
    assert_eq!(PublicKey::rsa_from_n_e(&[], &e), Err(CertError::NotCanonical(Field::RsaModulus)));
    assert_eq!(PublicKey::rsa_from_n_e(&n[1..], &e).unwrap_err().reason_word(), "key_unsupported");
    let line = ca.line();
    for text in [line.clone(), format!("{line} a comment\n"), format!("  {line}\t\r\n")] {
        assert_eq!(PublicKey::from_openssh_line(&text), Ok(key.clone()), "{text:?}");
    }
    for text in ["", "ssh-rsa", &format!("{line}\n{line}"), &line.replace(' ', "\n"), &"x ".repeat(5000)] {
        assert_eq!(PublicKey::from_openssh_line(text), Err(CertError::KeyLine), "{text:?}");
    }
    assert_eq!(PublicKey::from_openssh_line(&format!("restrict {line}")), Err(CertError::KeyUnsupported));
    let lie = line.replace("ssh-rsa", "ssh-ed25519");
    assert_eq!(PublicKey::from_openssh_line(&lie), Err(CertError::TypeMismatch));
}
