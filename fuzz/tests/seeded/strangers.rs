//! What strangers send: certificates, frames, the line for sshd, login names.

use nightlatch_fuzz::{admit_line, name_parse, sshcert_parse, wire_decode};
use nightlatch_model::LoginName;
use nightlatch_sshcert::Certificate;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_wire::line::is_admit_line;
use nightlatch_wire::{Account, Auth, Message, Offer, Parent, Prompt, PromptStage, session};

use super::run;

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
        audit_session: u32::MAX,
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
    let prompt = Message::Prompt(Prompt {
        stage: PromptStage::Begin,
        user: "ann@contoso.com".to_owned(),
        service: "sshd".to_owned(),
        rhost: "10.0.0.7".to_owned(),
        auth: "publickey ssh-rsa-cert-v01@openssh.com AAAA".to_owned(),
        parents: vec![Parent { pid: 1, start: 2 }],
    });
    let messages: Vec<_> = messages.into_iter().chain([prompt]).chain(about_sessions()).collect();
    let frames: Vec<_> = messages.iter().map(|message| message.encode().unwrap()).collect();
    frames.iter().for_each(|frame| wire_decode(frame));
    let bodies: Vec<_> = frames.iter().map(|frame| frame[4..].to_vec()).collect();
    assert!(run(&bodies, 50_000, wire_decode, |data| Message::decode(data).is_ok()) > 1000);
}

/// What PAM's session phase and the daemon say to sessiond, and its answers.
fn about_sessions() -> Vec<Message> {
    let monitor = Parent { pid: 7, start: 9 };
    let (user, rhost) = ("alice@contoso.com".to_owned(), "192.0.2.7".to_owned());
    let row = session::Row {
        id: 17,
        origin: session::Origin::Login,
        state: session::State::Ending,
        user: user.clone(),
        uid: 1_900_000_000,
        oid: "1c0163c0-47e6-4577-8991-ea5c82e286e4".into(),
        correlation: "8wq3n7r0ka".into(),
        certificate: "serial 1 key id x".into(),
        rhost: rhost.clone(),
        ttys: "pts/0,pts/3".into(),
        monitor,
        audit_session: 5,
        started: 1_800_000_000,
        until: 1_800_003_600,
        admin: true,
        degraded: false,
        ended: 0,
        reason: "no_vm_role".into(),
        escaped: "run-r1.service (sleep)".into(),
    };
    let pending = session::Pending {
        monitor,
        user: user.clone(),
        uid: row.uid,
        oid: row.oid.clone(),
        correlation: row.correlation.clone(),
        certificate: row.certificate.clone(),
        digest: [7; 32],
        rhost: rhost.clone(),
        until: row.until,
        admin: true,
        degraded: true,
        open_within_s: 65,
    };
    let auth = "publickey ssh-rsa-cert-v01@openssh.com AAAA".to_owned();
    let (service, parents) = ("sshd".to_owned(), vec![monitor]);
    let open = session::Open {
        user: user.clone(),
        rhost: rhost.clone(),
        auth: auth.clone(),
        audit_session: 5,
        loginuid: row.uid,
        parents: parents.clone(),
    };
    let order = |target| session::End {
        target,
        grace_s: 10,
        reason: "revoked".into(),
        text: "your session ends".into(),
    };
    vec![
        Message::Open(open),
        Message::Opened(17),
        Message::Close(session::Close { user: user.clone(), audit_session: 5, parents }),
        Message::Done,
        Message::Observed(session::Observed { user, service, rhost, auth }),
        Message::Pending(pending),
        Message::List(session::List { after: 16, ended: true }),
        Message::Sessions(session::Sessions { rows: vec![row.clone(), row], more: true }),
        Message::Say(session::Say { id: 17, text: "hello".into() }),
        Message::End(order(session::Target::Session(17))),
        Message::End(order(session::Target::Person(1_900_000_000))),
    ]
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
