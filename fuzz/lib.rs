//! What the fuzz targets assert, as plain functions: libFuzzer calls them from `fuzz_targets/`, and
//! `tests/seeded` runs them over `seeds/` and changed copies of it in every test run. They panic when
//! a promise is broken, and do nothing else. What should come out is worked out here once more by other
//! means, from the plain JSON, TOML or lines; nothing of the parser under test is asked for it.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken promise must stop the fuzzer"
)]

mod config;
mod files;
mod node;
mod roles;
mod rules;
mod rules_plain;
mod sessions;
mod tokens;
mod userdb;

pub use config::config;
pub use files::{identity_map, revocations};
pub use node::{azure_json, ca_keys, imds_answers};
pub use roles::{decisions, listing, roles_file};
pub use rules::access_rules;
pub use sessions::{break_glass, ledger};
pub use tokens::{key_set, proof, proof_holds, token};
pub use userdb::{snapshot, userdb_request};

use nightlatch_model::LoginName;
use nightlatch_sshcert::{CertError, Certificate, PublicKey};
use nightlatch_wire::line::{AdmitLine, Expiry, LineOptions, is_admit_line};
use nightlatch_wire::{MAX_FRAME, Message, read_frame};

/// Any bytes: parsing never panics; what parses reads the same again, is safe to print, and keeps
/// its word about sizes. Also as the text of a file and as a plain key.
pub fn sshcert_parse(data: &[u8]) {
    if let Ok(cert) = Certificate::parse(data) {
        assert_eq!(cert.raw(), data, "the received bytes are kept");
        assert_eq!(Certificate::parse(cert.raw()).as_ref(), Ok(&cert), "parse is a function");
        for key in [cert.subject_key(), cert.ca_key()] {
            assert_eq!(PublicKey::parse(key.blob()).as_ref(), Ok(key), "a key inside is a key");
            let line = format!("{} {}", key.key_type().name(), key.to_base64());
            assert_eq!(PublicKey::from_openssh_line(&line).as_ref(), Ok(key));
        }
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(
            cert.principals().iter().all(|name| !name.is_empty() && graphic(name) && !name.contains(','))
        );
        assert!(cert.key_id().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        for option in cert.critical_options().iter().chain(cert.extensions()) {
            assert!(!option.name().is_empty() && graphic(option.name()));
            let _ = (option.text(), cert.extension_text(option.name()));
        }
        assert_eq!(cert.unknown_critical_options(&[]).count(), cert.critical_options().len());
        match cert.verify_signature(cert.ca_key()) {
            Ok(()) | Err(CertError::BadSignature) => {}
            Err(other) => panic!("verify answered {other:?}"),
        }
    }
    if let Ok(key) = PublicKey::parse(data) {
        assert_eq!(key.blob(), data);
    }
    if let Ok(text) = str::from_utf8(data) {
        let _ = PublicKey::from_openssh_line(text);
        if let Some((name, base64)) = text.split_once(' ')
            && let Ok(cert) = Certificate::from_openssh(name, base64)
        {
            assert_eq!(cert.subject_key().key_type().cert_name(), name);
        }
    }
}

/// Any bytes: decoding never panics, and what decodes encodes to the very same frame.
pub fn wire_decode(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let frame = message.encode().expect("what was decoded fits a frame");
        assert_eq!(frame.get(4..), Some(data), "one message has one spelling");
    }
    if let Ok(message) = read_frame(&mut &data[..]) {
        let frame = message.encode().expect("what was read fits a frame");
        assert!(frame.len() <= MAX_FRAME + 4 && data.starts_with(&frame));
    }
}

/// Any bytes as the parts of a line for sshd: either no line, or exactly one that the independent
/// checker takes too. Any bytes as a finished line: what the checker takes is one printable line.
pub fn admit_line(data: &[u8]) {
    if is_admit_line(data) {
        assert!(data.iter().all(|byte| (0x20..0x7f).contains(byte)), "one printable line");
        assert!(data.starts_with(b"restrict,"));
    }
    let Some((flags, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let mut parts = text.splitn(4, '\x01');
    let mut part = || parts.next().unwrap_or_default();
    let (principal, expiry, key_type, key) = (part(), part(), part(), part());
    let options = LineOptions {
        port_forwarding: flags & 1 != 0,
        agent_forwarding: flags & 2 != 0,
        x11_forwarding: flags & 4 != 0,
    };
    let Ok(expiry) = Expiry::parse(expiry) else { return };
    if let Ok(line) = AdmitLine::new(options, principal, expiry, key_type, key) {
        let line = line.as_str();
        assert!(is_admit_line(line.as_bytes()), "the checker refuses the printer's line: {line:?}");
        assert_eq!(line.matches('"').count(), 4, "no value opens another");
        assert!(line.contains(&format!("principals=\"{principal}\",")));
    }
}

/// Any text: a login name is canonical, harmless and one of those sshd sends to us.
pub fn name_parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = LoginName::parse(&text) {
        assert_eq!(name.as_str(), text);
        assert!(LoginName::is_for_us(&text));
        assert_eq!(LoginName::fold(&text).as_ref(), Ok(&name));
        assert!(
            text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'-' | b'@'))
        );
        assert_ne!(name.local_part().is_some(), name.as_object_id().is_some());
    }
    if let Ok(name) = LoginName::fold(&text) {
        assert_eq!(LoginName::parse(name.as_str()).as_ref(), Ok(&name));
    }
    let _ = LoginName::is_for_us(&text);
}
