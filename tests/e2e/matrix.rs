//! Who gets in with which certificate: the rows that the product itself decides. (Rows that need a
//! line which the product never prints are pinned with a scripted hook in the world's own tests.)
//!
//! Each refused certificate differs from a good one in one respect, and the same person is in with
//! the good one right after. What the hook refuses is explained on the node, with exit status 1.

use nightlatch_world::{CertificateSpec, LocalCa, Person};

use crate::site::{oid_of, site, text};

/// Offers a certificate with one thing changed, then the good one.
fn refused(name: &str, reason: &str, change: impl FnOnce(&mut CertificateSpec)) {
    let site = site();
    site.roles(&[(name, "user")]);
    let mut spec = site.spec(name);
    change(&mut spec);
    let person = site.person_with(&spec);
    site.assert_refused(&person, name, reason);
    site.certify(&person, &site.spec(name));
    site.assert_in(&person, name);
}

#[test]
fn row_01_a_principal_that_is_somebody_else() {
    refused("row01@contoso.com", "wrong_principal", |spec| {
        spec.principals = vec!["other01@contoso.com".into()];
    });
}

#[test]
fn acceptance_04_a_certificate_above_the_cap() {
    refused("large@contoso.com", "cert_too_large", |spec| {
        spec.options.push(format!("extension:blob@example.com={}", "a".repeat(52_000)));
    });
}

#[test]
fn acceptance_04_an_rsa_key_of_less_than_2048_bits() {
    let site = site();
    let name = "small@contoso.com";
    site.roles(&[(name, "user")]);
    let person = Person::with_rsa_bits(&site.image, "1024").unwrap();
    site.certify(&person, &site.spec(name));
    site.assert_refused(&person, name, "key_unsupported");
}

#[test]
fn row_05_an_expired_certificate() {
    refused("row05@contoso.com", "cert_expired", |spec| spec.validity = "-2h:-1h".into());
}

#[test]
fn row_06_a_certificate_of_the_future() {
    refused("row06@contoso.com", "cert_not_yet_valid", |spec| spec.validity = "+1h:+2h".into());
}

#[test]
fn row_07_past_bug_row_25_a_certificate_that_names_nobody() {
    refused("row07@contoso.com", "no_principal", |spec| spec.principals.clear());
}

#[test]
fn row_08_two_principals() {
    refused("row08@contoso.com", "many_principals", |spec| {
        spec.principals.push("other08@contoso.com".into());
    });
}

#[test]
fn row_09_another_authority() {
    let site = site();
    let name = "row09@contoso.com";
    site.roles(&[(name, "user")]);
    let stranger = LocalCa::new(&site.image).unwrap();
    let person = site.person(name);
    person.take_certificate(&stranger.sign(&person, &site.spec(name)).unwrap()).unwrap();
    site.assert_refused(&person, name, "ca_unknown");
    site.certify(&person, &site.spec(name));
    site.assert_in(&person, name);
}

/// What sshd refuses before it asks the hook: the certificate is put to the hook by hand as well.
fn refused_before_the_hook(name: &str, reason: &str, change: impl FnOnce(&mut CertificateSpec)) {
    let site = site();
    site.roles(&[(name, "user")]);
    let mut spec = site.spec(name);
    change(&mut spec);
    let person = site.person_with(&spec);
    // The hook only ever sees the bare key.
    site.assert_refused(&person, name, "not_a_certificate");
    let line = std::fs::read_to_string(person.certificate_path()).unwrap();
    let asked = site.hook(name, &line);
    assert!(asked.status.success() && asked.stdout.is_empty(), "{}", text(&asked));
    site.assert_explained(name, reason);
    site.certify(&person, &site.spec(name));
    site.assert_in(&person, name);
}

#[test]
fn row_10_a_sha1_signature() {
    refused_before_the_hook("row10@contoso.com", "signature_algorithm", |spec| spec.signature = "ssh-rsa");
}

#[test]
fn row_11_an_unknown_critical_option() {
    refused("row11@contoso.com", "critical_option", |spec| {
        spec.options.push("critical:zebra@example.com=x".into());
    });
}

#[test]
fn row_11_an_unknown_extension_is_ignored() {
    let site = site();
    let name = "row11ext@contoso.com";
    site.roles(&[(name, "user")]);
    let mut spec = site.spec(name);
    spec.options.push("extension:zebra@example.com=x".into());
    site.assert_in(&site.person_with(&spec), name);
}

#[test]
fn row_13_a_host_certificate() {
    refused_before_the_hook("row13@contoso.com", "cert_type_host", |spec| {
        spec.host = true;
        spec.options.clear();
    });
}

#[test]
fn row_14_a_principal_that_differs_in_case_logs_in() {
    let site = site();
    let (spelt, name) = ("Mixed.Case@Contoso.com", "mixed.case@contoso.com");
    site.roles(&[(name, "user")]);
    let person = site.person_with(&site.spec_as(spelt, &oid_of(name), crate::site::TENANT));
    site.assert_in(&person, name);
    // The directory's spelling is no login name of the node: sshd finds no such user.
    let login = site.ssh(&person, spelt, &["id"]);
    assert!(login.is_refused(), "{login:?}");
}

#[test]
fn row_16_a_plain_key() {
    let site = site();
    let name = "row16@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    person.drop_certificate();
    site.assert_refused(&person, name, "not_a_certificate");
    site.certify(&person, &site.spec(name));
    site.assert_in(&person, name);
    // Neither does a key that the person left in the home open the door.
    site.ssh(&person, name, &["mkdir -m 700 .ssh && cat >.ssh/authorized_keys <<<'ssh-rsa x'"]);
    let key = person.public_key().unwrap();
    site.ssh(&person, name, &[&format!("echo '{key}' >.ssh/authorized_keys; chmod 600 .ssh/*")]);
    person.drop_certificate();
    site.assert_refused(&person, name, "not_a_certificate");
}

#[test]
fn row_19_a_certificate_without_permit_pty_logs_in_without_a_terminal() {
    let site = site();
    let name = "row19@contoso.com";
    site.roles(&[(name, "user")]);
    let mut spec = site.spec(name);
    spec.options.push("no-pty".into());
    let person = site.person_with(&spec);
    site.assert_in(&person, name);
    // A client that insists gives up by itself; the refusal was of the terminal, not of the login.
    let login = site.node.ssh(&person, name, &["tty"], &["-tt"]).unwrap();
    assert!(login.stderr.contains("PTY allocation request failed") && !login.is_refused(), "{login:?}");
    // With the permission there is one.
    let login = site.node.ssh(&site.person(name), name, &["tty"], &["-tt"]).unwrap();
    assert!(login.is_in() && login.stdout.contains("/dev/pts/"), "{login:?}");
}

/// The line for sshd is `restrict`: what the certificate's holder asked the issuer for counts no more.
#[test]
fn row_18_forwarding_is_refused_unless_configured() {
    let site = site();
    let name = "row18@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    let options = ["-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:4718:127.0.0.1:22"];
    let login = site.node.ssh(&person, name, &["true"], &options).unwrap();
    assert!(!login.is_in() && login.stderr.contains("remote port forwarding failed"), "{login:?}");
}
