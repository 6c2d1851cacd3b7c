//! Certificates made by ssh-keygen itself: what a real authority writes, and what it may write
//! that we do not take. Keys are made in a temporary directory and thrown away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nightlatch_sshcert::*;

struct Forge(tempfile::TempDir);

impl Forge {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn keygen(&self, args: &[&str]) -> String {
        let output = Command::new("ssh-keygen")
            .args(args)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .output()
            .expect("ssh-keygen (package openssh-client) is needed");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn key(&self, name: &str, kind: &str, bits: &str) -> PublicKeyLine {
        self.keygen(&["-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f", name]);
        PublicKeyLine(fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap())
    }

    /// Signs `holder` and returns the two words, as `az ssh cert` writes them.
    fn sign(&self, ca: &str, holder: &str, more: &[&str]) -> (String, String) {
        let file = format!("{holder}.pub");
        self.keygen(&[&["-q", "-s", ca, "-I", "key id"], more, &[&file]].concat());
        let text = fs::read_to_string(self.path(&format!("{holder}-cert.pub"))).unwrap();
        let mut words = text.split(' ').map(|word| word.trim().to_owned());
        (words.next().unwrap(), words.next().unwrap())
    }
}

struct PublicKeyLine(String);

impl PublicKeyLine {
    fn parse(&self) -> Result<PublicKey, CertError> {
        PublicKey::from_openssh_line(&self.0)
    }
}

const PERSON: &[&str] = &["-n", "Alice@contoso.com", "-V", "20261121090000:20261121100000", "-z", "42"];

#[test]
fn every_field_of_a_certificate_is_read() {
    let forge = Forge::new();
    let ca = forge.key("ca", "rsa", "2048").parse().unwrap();
    let holder = forge.key("holder", "rsa", "3072").parse().unwrap();
    let more = ["-O", "force-command=id", "-O", "no-x11-forwarding", "-O", "extension:tid@example.com=a-b"];
    let (name, text) = forge.sign("ca", "holder", &[PERSON, &more].concat());
    assert_eq!(name, "ssh-rsa-cert-v01@openssh.com");
    let cert = Certificate::from_openssh(&name, &text).unwrap();
    assert_eq!(cert.verify_signature(&ca), Ok(()));
    assert_eq!(cert.require_user(), Ok(()));
    assert_eq!(cert.ca_key(), &ca);
    assert_eq!(cert.subject_key(), &holder);
    assert_eq!((ca.bits(), holder.bits(), cert.serial()), (2048, 3072, 42));
    assert_eq!((cert.key_id().as_str(), cert.key_id_bytes()), ("key id", &b"key id"[..]));
    assert_eq!(cert.principals(), ["Alice@contoso.com"]);
    assert_eq!((cert.valid_after(), cert.valid_before()), (1_795_251_600, 1_795_255_200));
    assert_eq!(cert.signature_algorithm(), SignatureAlgorithm::RsaSha512);
    assert_eq!(cert.unknown_critical_options(&[]).collect::<Vec<_>>(), ["force-command"]);
    assert_eq!(cert.extension_text("tid@example.com"), Ok(Some("a-b")));
    assert!(cert.has_extension("permit-pty") && !cert.has_extension("permit-X11-forwarding"));
    let printed = forge.keygen(&["-l", "-f", "ca.pub"]);
    assert_eq!(printed.split(' ').nth(1), Some(ca.fingerprint().as_str()));
    assert_eq!(Certificate::parse(cert.raw()).as_ref(), Ok(&cert));
}

#[test]
fn each_kind_of_authority_signs_each_kind_of_holder() {
    let forge = Forge::new();
    let kinds = [("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ed25519", "256")];
    let name = |role: &str, at: usize| format!("{role}{at}");
    for (at, (kind, bits)) in kinds.into_iter().enumerate() {
        forge.key(&name("ca", at), kind, bits);
        forge.key(&name("holder", at), kind, bits);
    }
    for ca in 0..kinds.len() {
        let line = fs::read_to_string(forge.path(&format!("ca{ca}.pub"))).unwrap();
        let key = PublicKey::from_openssh_line(&line).unwrap();
        for holder in 0..kinds.len() {
            let (kind, text) = forge.sign(&name("ca", ca), &name("holder", holder), PERSON);
            let cert = Certificate::from_openssh(&kind, &text).unwrap();
            assert_eq!(cert.verify_signature(&key), Ok(()), "{ca} {holder}");
            assert_eq!(cert.signature_algorithm().key_type(), key.key_type());
        }
    }
}

#[test]
fn rsa_authorities_may_use_sha_256_but_not_sha_1() {
    let forge = Forge::new();
    let ca = forge.key("ca", "rsa", "2048").parse().unwrap();
    forge.key("holder", "ed25519", "256");
    let (name, text) = forge.sign("ca", "holder", &[PERSON, &["-t", "rsa-sha2-256"]].concat());
    let cert = Certificate::from_openssh(&name, &text).unwrap();
    assert_eq!(cert.signature_algorithm(), SignatureAlgorithm::RsaSha256);
    assert_eq!(cert.verify_signature(&ca), Ok(()));
    let (name, text) = forge.sign("ca", "holder", &[PERSON, &["-t", "ssh-rsa"]].concat());
    assert_eq!(Certificate::from_openssh(&name, &text), Err(CertError::SignatureAlgorithm));
}

#[test]
fn weak_and_unsupported_keys_are_refused() {
    let forge = Forge::new();
    forge.key("holder", "ed25519", "256");
    forge.key("weak", "rsa", "1024");
    forge.key("large", "ecdsa", "521");
    forge.key("good", "ed25519", "256");
    for (bad, error) in [("weak", CertError::RsaSize(1024)), ("large", CertError::KeyUnsupported)] {
        let (name, text) = forge.sign(bad, "holder", PERSON);
        assert_eq!(Certificate::from_openssh(&name, &text), Err(error));
        let (name, text) = forge.sign("good", bad, PERSON);
        assert_eq!(Certificate::from_openssh(&name, &text), Err(error));
        let line = fs::read_to_string(forge.path(&format!("{bad}.pub"))).unwrap();
        assert_eq!(PublicKey::from_openssh_line(&line), Err(error));
    }
}

#[test]
fn a_host_certificate_is_told_apart() {
    let forge = Forge::new();
    let ca = forge.key("ca", "ed25519", "256").parse().unwrap();
    forge.key("holder", "ed25519", "256");
    let (name, text) = forge.sign("ca", "holder", &["-h", "-n", "node.contoso.com"]);
    let cert = Certificate::from_openssh(&name, &text).unwrap();
    assert_eq!(cert.verify_signature(&ca), Ok(()));
    assert_eq!(cert.require_user(), Err(CertError::HostCertificate));
}
