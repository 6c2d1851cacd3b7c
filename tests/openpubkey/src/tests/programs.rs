//! What other programs say of what the crate writes.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{NOW, issuer};
use crate::{Broken, Case, CertificateSpec, Client, KeyType, case};

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

fn says(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn write_private(directory: &Path, name: &str, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(directory.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The directory with `id` and `id-cert.pub` of a case.
fn written(case: &Case) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_private(directory.path(), "id", &case.client.private_key_openssh().unwrap());
    std::fs::write(directory.path().join("id-cert.pub"), format!("{}\n", case.certificate)).unwrap();
    directory
}

/// ssh-keygen verifies a certificate's signature when it reads it, so what it shows was signed rightly.
#[test]
fn ssh_keygen_shows_the_fields() {
    for (key_type, name) in [(KeyType::EcdsaP256, "ecdsa-sha2-nistp256"), (KeyType::Ed25519, "ssh-ed25519")] {
        let case = case(Broken::Nothing, key_type, &issuer(), NOW).unwrap();
        let directory = written(&case);
        let output = run(directory.path(), "ssh-keygen", &["-L", "-f", "id-cert.pub"]);
        let text = says(&output);
        assert!(output.status.success(), "{text}");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(
            lines.contains(&format!("Type: {name}-cert-v01@openssh.com user certificate").as_str()),
            "{text}"
        );
        assert!(lines.contains(&"Key ID: \"ada@example.com\""), "{text}");
        assert!(lines.contains(&"Serial: 0"), "{text}");
        assert!(lines.contains(&"Valid: forever"), "{text}");
        assert!(lines.contains(&"Critical Options: (none)"), "{text}");
        assert!(lines.contains(&"opkssh-wildcard"), "{text}");
        let extensions: Vec<&str> = lines
            .iter()
            .skip_while(|line| **line != "Extensions:")
            .skip(1)
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(
            extensions,
            [
                "openpubkey-pkt",
                "permit-X11-forwarding",
                "permit-agent-forwarding",
                "permit-port-forwarding",
                "permit-pty",
                "permit-user-rc"
            ]
        );
        let fingerprint = |label: &str| {
            let line = lines.iter().find(|line| line.starts_with(label)).unwrap();
            line.split(' ').find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
        };
        assert_eq!(fingerprint("Public key:"), fingerprint("Signing CA:"));
    }
}

#[test]
fn ssh_keygen_shows_what_is_asked_for() {
    let client = Client::new(KeyType::EcdsaP256).unwrap();
    let issuer = issuer();
    let token = client.pk_token(&issuer.id_token(&issuer.claims(&client.nonce(), NOW)).unwrap()).unwrap();
    let mut spec = CertificateSpec::new(token);
    spec.principals = vec!["one".to_owned(), "two".to_owned()];
    spec.access_token = Some("secret".to_owned());
    spec.critical_options.insert("source-address".to_owned(), "127.0.0.1".to_owned());
    spec.serial = 7;
    spec.valid_after = 1_700_000_000;
    spec.valid_before = 1_900_000_000;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("id-cert.pub"), client.certificate(&spec).unwrap()).unwrap();
    let text = says(&run(directory.path(), "ssh-keygen", &["-L", "-f", "id-cert.pub"]));
    for part in ["Serial: 7", "one", "two", "openpubkey-act", "source-address 127.0.0.1", "from 2023-11-1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// It refuses the certificates whose own signature is wrong.
#[test]
fn ssh_keygen_refuses_a_wrong_signature() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let case = case(Broken::CertificateSignature, key_type, &issuer(), NOW).unwrap();
        let directory = written(&case);
        let output = run(directory.path(), "ssh-keygen", &["-L", "-f", "id-cert.pub"]);
        assert!(!output.status.success(), "{}", says(&output));
    }
}

/// The private key file can be read, is of the certificate's key, and signs.
#[test]
fn ssh_keygen_reads_the_private_key() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let case = case(Broken::Nothing, key_type, &issuer(), NOW).unwrap();
        let directory = written(&case);
        let output = run(directory.path(), "ssh-keygen", &["-y", "-f", "id"]);
        assert!(output.status.success(), "{}", says(&output));
        let public = says(&output);
        let words: Vec<&str> = public.split_whitespace().collect();
        assert_eq!(words[0], key_type.ssh_name());
        assert_eq!(words[1], crate::b64(case.client.key().ssh_blob()));
        std::fs::write(directory.path().join("message"), "a message").unwrap();
        let output =
            run(directory.path(), "ssh-keygen", &["-Y", "sign", "-f", "id", "-n", "test", "message"]);
        assert!(output.status.success(), "{}", says(&output));
        let output = Command::new("ssh-keygen")
            .args(["-Y", "check-novalidate", "-n", "test", "-s", "message.sig"])
            .current_dir(directory.path())
            .stdin(std::fs::File::open(directory.path().join("message")).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", says(&output));
    }
}

/// The agent takes the private key together with the certificate that lies beside it, so they belong together
/// for the ssh client.
#[test]
fn ssh_add_takes_key_and_certificate() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let case = case(Broken::Nothing, key_type, &issuer(), NOW).unwrap();
        let directory = written(&case);
        let output = run(directory.path(), "ssh-agent", &["ssh-add", "id"]);
        assert!(output.status.success(), "{}", says(&output));
        assert!(says(&output).contains("Certificate added: id-cert.pub"), "{}", says(&output));
    }
}

/// The nonce is what python3 makes of the header's bytes.
#[test]
fn python_makes_the_same_commitment() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let client = Client::new(key_type).unwrap();
        let script = "import base64,hashlib,sys\n\
            digest=hashlib.sha3_256(sys.argv[1].encode()).digest()\n\
            print(base64.urlsafe_b64encode(digest).decode().rstrip('='))";
        let output = run(Path::new("/"), "python3", &["-c", script, &client.cic_header()]);
        assert_eq!(says(&output).trim(), client.nonce());
    }
}

/// The header is what python3 makes of it when it sorts the members and leaves white space out.
#[test]
fn python_makes_the_same_header() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let header = Client::new(key_type).unwrap().cic_header();
        let script = "import json,sys\n\
            print(json.dumps(json.loads(sys.argv[1]),sort_keys=True,separators=(',',':')))";
        assert_eq!(says(&run(Path::new("/"), "python3", &["-c", script, &header])).trim(), header);
    }
}

/// The CIC signature verifies with openssl over the header and the payload as they stand in the token.
#[test]
fn openssl_verifies_the_cic_signature() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        for (broken, good) in [(Broken::Nothing, true), (Broken::CicSignature, false)] {
            let case = case(broken, key_type, &issuer(), NOW).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let compact = case.pk_token.compact();
            let parts: Vec<&str> = compact.split(':').collect();
            std::fs::write(directory.path().join("input"), format!("{}.{}", parts[3], parts[0])).unwrap();
            let signature = crate::from_b64url(parts[4]).unwrap();
            assert_eq!(signature.len(), 64);
            // The headers of a public key (SubjectPublicKeyInfo) of either type.
            let (prefix, arguments): (&[u8], &[&str]) = match key_type {
                KeyType::EcdsaP256 => (
                    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
                    &["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "input"],
                ),
                KeyType::Ed25519 => (
                    b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
                    &["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "input", "-sigfile", "signature"],
                ),
            };
            let key = crate::b64([prefix, case.client.key().public()].concat());
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
            std::fs::write(directory.path().join("key.pem"), pem).unwrap();
            let signature = if key_type == KeyType::EcdsaP256 { der(&signature) } else { signature };
            std::fs::write(directory.path().join("signature"), signature).unwrap();
            let output = run(directory.path(), "openssl", arguments);
            assert_eq!(output.status.success(), good, "{key_type:?} {broken:?}: {}", says(&output));
        }
    }
}

/// An ECDSA signature of 64 bytes in the DER that openssl wants.
fn der(signature: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    for half in signature.chunks(32) {
        let mut number: Vec<u8> = half.iter().copied().skip_while(|byte| *byte == 0).collect();
        if number[0] & 0x80 != 0 {
            number.insert(0, 0);
        }
        numbers.extend([2, u8::try_from(number.len()).unwrap()]);
        numbers.extend(number);
    }
    let mut der = vec![0x30, u8::try_from(numbers.len()).unwrap()];
    der.extend(numbers);
    der
}
