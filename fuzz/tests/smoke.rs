//! The fuzz targets over seeded input: valid samples, the samples with bytes changed, and noise.
//! It keeps them compiled and true where libFuzzer is not at hand; it does not replace a fuzzer.
//! Each test also asserts that enough samples got past the first check.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use nightlatch_fuzz::{admit_line, name_parse, sshcert_parse, wire_decode};
use nightlatch_model::LoginName;
use nightlatch_sshcert::Certificate;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_wire::line::is_admit_line;
use nightlatch_wire::{Account, Auth, Message, Offer, Parent};

/// SplitMix64: the same seed, the same input.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Runs `target` over `rounds` inputs made from the samples; returns how often `valid` held for a
/// changed one.
fn run(samples: &[Vec<u8>], rounds: usize, target: fn(&[u8]), valid: fn(&[u8]) -> bool) -> usize {
    let mut random = Random(1);
    for sample in samples {
        assert!(valid(sample), "{}", sample.escape_ascii());
        target(sample);
    }
    let mut hits = 0;
    for round in 0..rounds {
        let mut data = samples[round % samples.len()].clone();
        if round % 10 == 9 {
            let length = random.below(300);
            data = (0..length).map(|_| random.next() as u8).collect();
        }
        for _ in 0..1 + random.below(3) {
            let at = random.below(data.len());
            match random.below(5) {
                0 => data.insert(at, random.next() as u8),
                1 if !data.is_empty() => drop(data.remove(at)),
                2 => data.truncate(random.below(data.len() + 1).max(data.len() / 2)),
                _ if !data.is_empty() => data[at] = data[at].wrapping_add(random.next() as u8 % 3),
                _ => {}
            }
        }
        target(&data);
        hits += usize::from(valid(&data));
    }
    hits
}

#[test]
fn certificates() {
    let (ca, holder) = (TestKey::ed25519([1; 32]), TestKey::p256());
    let builder = CertificateBuilder::new(&holder)
        .principals(["alice@contoso.com"])
        .critical("force-command", b"\0\0\0\x01a")
        .text_extension("tid@example.com", "1c0163c0-47e6-4577-8991-ea5c82e286e4")
        .permit_all();
    let rsa = CertificateBuilder::new(&TestKey::rsa2048()).sign(&TestKey::p256());
    let samples = [builder.sign(&ca), rsa];
    assert!(run(&samples, 20_000, sshcert_parse, |data| Certificate::parse(data).is_ok()) > 500);
    sshcert_parse(builder.line(&ca).as_bytes());
    sshcert_parse(holder.line().as_bytes());
    sshcert_parse(&holder.blob());
}

#[test]
fn frames() {
    let parents = vec![Parent { pid: 7, start: 9 }, Parent { pid: 1, start: 2 }];
    let (user, service) = ("alice@contoso.com".to_owned(), "sshd".to_owned());
    let key = "QUJD".to_owned();
    let offer = Offer {
        user: user.clone(),
        uid: 1_879_048_192,
        key_type: "ssh-rsa-cert-v01@openssh.com".to_owned(),
        key_len: 4,
        key,
        parents: parents.clone(),
    };
    let account = Account {
        user: user.clone(),
        service: service.clone(),
        rhost: "::1".to_owned(),
        tty: "ssh".to_owned(),
        loginuid: u32::MAX,
        parents: parents.clone(),
    };
    let messages = [
        Message::Offer(offer),
        Message::Line("restrict".to_owned()),
        Message::None,
        Message::Account(account),
        Message::Permit { until: 1, admin: true },
        Message::Deny { code: "no_vm_role".to_owned(), text: "you have no role".to_owned() },
        Message::Auth(Auth { user, service, rhost: String::new(), parents }),
        Message::Text("a\nb".to_owned()),
        Message::Err("unsupported".to_owned()),
    ];
    let frames: Vec<_> = messages.iter().map(|message| message.encode().unwrap()).collect();
    frames.iter().for_each(|frame| wire_decode(frame));
    let bodies: Vec<_> = frames.iter().map(|frame| frame[4..].to_vec()).collect();
    assert!(run(&bodies, 50_000, wire_decode, |data| Message::decode(data).is_ok()) > 1000);
}

#[test]
fn lines_for_sshd() {
    let parts = b"\x07alice@contoso.com\x0120261121100000Z\x01ssh-rsa\x01AAAAB3NzaC1yc2E=".to_vec();
    run(&[parts], 50_000, admit_line, |_| true);
    let line = "restrict,pty,port-forwarding,cert-authority,principals=\"alice@contoso.com\",\
                expiry-time=\"20261121100000Z\" ssh-rsa AAAAB3NzaC1yc2E=";
    assert!(run(&[line.as_bytes().to_vec()], 50_000, admit_line, is_admit_line) > 1000);
}

#[test]
fn login_names() {
    let names = ["alice@contoso.com", "1c0163c0-47e6-4577-8991-ea5c82e286e4", "a.b_c+d-e@sub.contoso.com"];
    let names: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    let valid = |data: &[u8]| str::from_utf8(data).is_ok_and(|text| LoginName::parse(text).is_ok());
    assert!(run(&names, 50_000, name_parse, valid) > 1000);
}

/// The parser knows nothing of the list of reasons, yet its words must all be on it.
#[test]
fn every_refusal_has_a_reason() {
    use nightlatch_model::Reason;
    use nightlatch_sshcert::{CertError as E, Field::Whole};
    for error in [
        E::TooLarge,
        E::Base64,
        E::KeyLine,
        E::NotACertificate,
        E::TypeMismatch,
        E::KeyUnsupported,
        E::RsaSize(1),
        E::RsaNumbers,
        E::PointInvalid,
        E::CurveMismatch,
        E::Truncated(Whole),
        E::Trailing(Whole),
        E::FieldTooLong(Whole),
        E::NotCanonical(Whole),
        E::TextInvalid(Whole),
        E::PrincipalAlphabet,
        E::TooManyPrincipals,
        E::TooManyOptions(Whole),
        E::DuplicateOption(Whole),
        E::OptionOrder(Whole),
        E::ExtensionValue,
        E::ReservedInUse,
        E::KindUnknown(3),
        E::HostCertificate,
        E::NestedCertificate,
        E::SignatureAlgorithm,
        E::SignatureForm,
        E::CaMismatch,
        E::BadSignature,
    ] {
        assert!(error.reason_word().parse::<Reason>().is_ok(), "{error:?}: {}", error.reason_word());
    }
}
