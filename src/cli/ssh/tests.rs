//! What a sign-in for a certificate asks for, which certificate is used again, and what is never written.

use std::path::Path;

use clap::Parser;
use nightlatch_jwt::{ClientHeader, Expiration};
use nightlatch_model::{Secret, Timestamp};

use super::asked::{Asked, How};
use super::files::{BROWSER, kept, last};
use super::key::Key;
use super::sign_in::{wish, write};
use super::*;
use crate::entra::clouds::Cloud;
use crate::entra::sign_in::{Identified, PersonId};

pub(super) const NOW: Timestamp = Timestamp(1_795_300_000);
pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const CLIENT: &str = "0a990000-0000-4000-8000-000000000001";
pub(super) const OID: &str = "a11ce000-0000-4000-8000-000000000001";
pub(super) const NAME: &str = "alice@contoso.com";

#[derive(Parser)]
pub(super) enum Line {
    Cert(CertArguments),
    SshConfig(ConfigArguments),
}

pub(super) fn line(words: &str) -> Result<Line, clap::Error> {
    let fixed = ["--tenant", TENANT, "--client-id", CLIENT, "--folder", "/home/alice/nl"];
    Line::try_parse_from(["nightlatch"].into_iter().chain(words.split(' ')).chain(fixed))
}

/// A certificate into this folder.
pub(super) fn asking(folder: &Path, how: How) -> Asked {
    Asked {
        tenant: TENANT.parse().unwrap(),
        client: CLIENT.parse().unwrap(),
        cloud: Cloud::Public,
        folder: folder.to_owned(),
        how,
        context: None,
        fresh: false,
        hint: None,
        again: false,
        expiration: Expiration::AfterIssue(14_400),
        hold: false,
        claims: None,
    }
}

/// A sign-in into this folder.
fn signing_in(folder: &Path, context: Option<&str>, fresh: bool) -> Asked {
    let context = context.map(|context| context.parse().unwrap());
    Asked { context, fresh, ..asking(folder, How::OpenPubkey) }
}

/// Writes what this sign-in gave.
fn written(asked: &Asked, contexts: &[&str]) -> Result<(), String> {
    let key = Key::generate().unwrap();
    let header = ClientHeader::ed25519(key.public(), &[7; 32]);
    let (tenant, object_id) = (TENANT.parse().unwrap(), OID.parse().unwrap());
    let signed = Identified {
        person: PersonId { tenant, object_id, username: NAME.into() },
        contexts: contexts.iter().map(|context| context.parse().unwrap()).collect(),
        id_token: Secret::new("aGVhZA.Y2xhaW1z.c2ln".into()),
        issued: NOW,
        ends: NOW.plus(3_600),
        refresh_token: None,
    };
    write(asked, &key, &header, &signed, None, NOW)
}

#[test]
fn the_flags_fit_the_browser_and_nothing_else() {
    let asked_by = |words: &str| match line(words) {
        Ok(Line::Cert(arguments)) => asked(&arguments).unwrap(),
        _ => panic!("{words}"),
    };
    let plain = asked_by("cert");
    assert_eq!((plain.context, plain.fresh), (None, false));
    let both = asked_by("cert --acrs c12 --fresh --login-hint a@b");
    assert_eq!((both.context, both.fresh), (Some("c12".parse().unwrap()), true));
    for words in ["cert --acrs c0", "cert --acrs c100", "cert --acrs mfa", "cert --acrs"] {
        assert!(line(words).is_err(), "{words}");
    }
    assert!(line("cert --federated-token-file F").is_ok());
    for other in ["--acrs c1", "--fresh", "--login-hint a@b"] {
        assert!(line(&format!("cert --federated-token-file F {other}")).is_err(), "{other}");
    }
}

#[test]
fn a_sign_in_asks_for_the_context_and_for_credentials() {
    let folder = Path::new("/nowhere");
    let plain = wish(&signing_in(folder, None, false), Some(NAME.into())).unwrap();
    assert_eq!((plain.claims, plain.login_hint.as_deref(), plain.fresh), (None, Some(NAME), false));
    let both = wish(&signing_in(folder, Some("c1"), true), None).unwrap();
    let claims = both.claims.as_ref().map(|claims| claims.as_str());
    assert_eq!(claims, Some(r#"{"id_token":{"acrs":{"essential":true,"value":"c1"}}}"#));
    assert!(both.fresh);
}

/// Entra refused a renewal and said what it wants; the context is wanted as well.
#[test]
fn a_challenge_and_a_context_are_both_asked_for() {
    let challenge =
        r#"{"access_token":{"acrs":{"essential":true,"value":"c5"}},"id_token":{"x":{"value":"1"}}}"#;
    let with = |context: Option<&str>| {
        let claims = Some(nightlatch_tokens::Claims::new(challenge).unwrap());
        let asked = Asked { claims, ..signing_in(Path::new("/nowhere"), context, false) };
        let claims = wish(&asked, None).unwrap().claims.unwrap();
        serde_json::from_str::<serde_json::Value>(claims.as_str()).unwrap()
    };
    let alone: serde_json::Value = serde_json::from_str(challenge).unwrap();
    assert_eq!(with(None), alone);
    let acrs = json!({"essential": true, "value": "c1"});
    assert_eq!(with(Some("c1"))["id_token"], json!({"acrs": acrs, "x": {"value": "1"}}));
    assert_eq!(with(Some("c1"))["access_token"], alone["access_token"]);
}

#[test]
fn what_is_held_is_what_can_be_used() {
    let hold = |words: &str| match line(words) {
        Ok(Line::Cert(arguments)) => asked(&arguments).unwrap().hold,
        _ => panic!("{words}"),
    };
    for (words, held) in [
        ("cert --kind entra", true),
        ("cert --kind entra --device-code", true),
        ("cert --kind entra --once", false),
        ("cert", false),
        ("cert --expiration 4h", false),
        ("cert --expiration oidc", false),
        ("cert --expiration oidc-refreshed", true),
        ("cert --expiration oidc-refreshed --once", false),
        ("cert --federated-token-file F", false),
    ] {
        assert_eq!(hold(words), held, "{words}");
    }
}

/// A certificate that is too old is renewed in the name of who made it, and the page need not ask.
#[test]
fn who_signed_in_the_last_time_is_known_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let asked = signing_in(folder.path(), None, false);
    let last_name = |asked: &Asked| last(asked).and_then(|note| note.proposed());
    assert_eq!(last_name(&asked), None);
    written(&asked, &[]).unwrap();
    assert_eq!(last_name(&asked).as_deref(), Some(NAME));
    assert!(kept(&asked, NOW.plus(30 * 86_400)).is_none());
    let other = Asked { client: OID.parse().unwrap(), ..signing_in(folder.path(), None, false) };
    assert_eq!(last_name(&other), None, "of another application nothing is known");
    assert!(wish(&Asked { again: true, ..asked }, Some(NAME.into())).unwrap().again);
}

#[test]
fn a_kept_certificate_is_used_again_only_for_what_its_sign_in_shows() {
    let folder = tempfile::tempdir().unwrap();
    for (shown, asked_for, fresh, used) in [
        (&[][..], None, false, true),
        (&["c1"], None, false, true),
        (&["c1"], Some("c1"), false, true),
        (&["c2", "c1"], Some("c1"), false, true),
        (&[], Some("c1"), false, false),
        (&["c2"], Some("c1"), false, false),
        (&["c11"], Some("c1"), false, false),
        (&["c1"], Some("c11"), false, false),
        (&["c1"], Some("c1"), true, false),
        (&["c1"], None, true, false),
    ] {
        written(&signing_in(folder.path(), None, false), shown).unwrap();
        let note = kept(&signing_in(folder.path(), asked_for, fresh), NOW);
        assert_eq!(note.is_some(), used, "{shown:?} for {asked_for:?}, fresh {fresh}");
    }
}

#[test]
fn a_note_from_before_contexts_is_read_and_shows_none() {
    let folder = tempfile::tempdir().unwrap();
    let plain = signing_in(folder.path(), None, false);
    written(&plain, &["c1"]).unwrap();
    let old = json!({"tenant": TENANT, "client": CLIENT, "name": NAME, "signed_in": NOW.0});
    let put = |note: &serde_json::Value| std::fs::write(folder.path().join(BROWSER.note), note.to_string());
    put(&old).unwrap();
    let note = kept(&plain, NOW).unwrap();
    assert_eq!((note.name.as_str(), note.acrs.len()), (NAME, 0));
    assert_eq!(kept(&signing_in(folder.path(), Some("c1"), false), NOW), None);
    let mut newer = old;
    newer["acr"] = json!("c1");
    put(&newer).unwrap();
    assert!(kept(&plain, NOW).is_some(), "a newer client's");
    std::fs::write(folder.path().join(BROWSER.note), "{").unwrap();
    assert_eq!(kept(&plain, NOW), None);
}

#[test]
fn nothing_is_written_for_a_sign_in_without_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("nl");
    let asked = signing_in(&inner, Some("c1"), false);
    for contexts in [&[][..], &["c2"], &["c11"]] {
        let why = written(&asked, contexts).unwrap_err();
        assert!(why.contains("does not carry the authentication context `c1`"), "{why}");
        assert!(why.contains("optional claim `acrs`") && why.contains("Conditional Access policy"), "{why}");
        assert!(!inner.exists());
    }
    written(&asked, &["c2", "c1"]).unwrap();
    let read = |file: &str| std::fs::read(inner.join(file)).unwrap();
    let files = || [BROWSER.key, BROWSER.certificate, BROWSER.note].map(read);
    let (first, note) = (files(), kept(&asked, NOW).unwrap());
    assert_eq!((note.name.as_str(), note.acrs), (NAME, vec!["c2".to_owned(), "c1".to_owned()]));
    // The certificate of before stays as it was.
    assert!(written(&signing_in(&inner, Some("c3"), true), &["c1"]).is_err());
    assert!(files() == first);
}

#[test]
fn the_block_for_ssh_asks_for_the_context_and_never_for_a_browser_each_time() {
    let said = |words: &str| match line(&format!("ssh-config --host node-* {words}")) {
        Ok(Line::SshConfig(arguments)) => {
            block(&arguments, &asked(&arguments.cert).unwrap(), "/usr/bin/nightlatch")
        }
        _ => panic!("{words}"),
    };
    let fixed = format!("--tenant {TENANT} --client-id {CLIENT} --cloud AzureCloud --folder /home/alice/nl");
    let block = |more: &str| {
        format!(
            "Match host node-* exec \"/usr/bin/nightlatch cert {fixed}{more} >/dev/null\"\n    \
             IdentityFile /home/alice/nl/id_ed25519\n    \
             CertificateFile /home/alice/nl/id_ed25519-cert.pub\n    IdentitiesOnly yes"
        )
    };
    assert_eq!(said("--cloud AzureCloud"), Ok(block("")));
    assert_eq!(said("--acrs c7"), Ok(block(" --acrs c7")));
    assert_eq!(said("--expiration oidc-refreshed"), Ok(block(" --expiration oidc-refreshed")));
    assert_eq!(said("--login-hint ada@b.c"), Ok(block(" --login-hint ada@b.c")));
    assert!(said("--login-hint ada;b").is_err());
    // Never as it was written: a shell reads it.
    assert_eq!(said("--once --expiration 90min"), Ok(block(" --expiration 5400s --once")));
    let why = said("--acrs c7 --fresh").unwrap_err();
    assert!(why.contains("`--fresh`") && why.contains("browser"), "{why}");
    assert!(said("--host a;b").is_err());
}

#[test]
fn who_signs_is_asked_for_and_what_does_not_fit_is_refused_in_words() {
    let asked_by = |words: &str| match line(words) {
        Ok(Line::Cert(arguments)) => asked(&arguments),
        _ => panic!("{words}"),
    };
    for (words, how, note) in [
        ("cert", How::OpenPubkey, "sign-in.json"),
        ("cert --kind openpubkey", How::OpenPubkey, "sign-in.json"),
        ("cert --kind entra --fresh --login-hint a@b", How::Browser, "entra.json"),
        ("cert --kind entra --device-code", How::Device, "entra.json"),
        ("cert --federated-token-file /F", How::Pipeline("/F".into()), "pipeline.json"),
        ("cert --kind entra --federated-token-file /F", How::Pipeline("/F".into()), "pipeline.json"),
    ] {
        let asked = asked_by(words).unwrap();
        assert_eq!((&asked.how, asked.way().note), (&how, note), "{words}");
    }
    for (words, word) in [
        ("cert --device-code", "nonce"),
        ("cert --kind openpubkey --device-code", "--kind entra"),
        ("cert --kind openpubkey --federated-token-file /F", "leave `--kind openpubkey` out"),
        ("cert --kind entra --acrs c1", "leave `--acrs` out"),
        ("cert --kind entra --expiration 4h", "leave `--expiration` out"),
        ("cert --federated-token-file /F --expiration 4h", "leave `--expiration` out"),
        ("cert --expiration 5min", "--expiration: `5min` is not between `10min`"),
        ("cert --expiration soon", "`soon` is neither a length of time nor `oidc`"),
        ("cert --kind entra --cloud Azure", "AzureUSGovernment"),
    ] {
        let why = asked_by(words).err().unwrap();
        assert!(why.contains(word), "{words}: {why}");
    }
    for words in [
        "cert --kind az",
        "cert --kind entra --device-code --login-hint a@b",
        "cert --kind entra --device-code --fresh",
        "cert --device-code --federated-token-file /F",
    ] {
        assert!(line(words).is_err(), "{words}");
    }
}

#[test]
fn a_persons_certificate_of_entras_is_asked_for_through_the_client_of_azure_cli() {
    let client = |words: &[&str]| {
        let fixed = ["nightlatch", "cert", "--tenant", TENANT, "--folder", "/home/alice/nl"];
        match Line::try_parse_from(fixed.iter().chain(words)) {
            Ok(Line::Cert(arguments)) => asked(&arguments).unwrap().client.to_string(),
            _ => panic!("{words:?}"),
        }
    };
    assert_eq!(client(&["--kind", "entra"]), nightlatch_emulator::world::AZURE_CLI);
    assert_eq!(client(&["--kind", "entra", "--device-code"]), nightlatch_emulator::world::AZURE_CLI);
    assert_eq!(client(&["--kind", "entra", "--client-id", CLIENT]), CLIENT);
}

#[test]
fn the_block_for_ssh_passes_the_kind_on_and_takes_no_device_code() {
    let said = |words: &str| match line(&format!("ssh-config --host node-* {words}")) {
        Ok(Line::SshConfig(arguments)) => {
            block(&arguments, &asked(&arguments.cert).unwrap(), "/usr/bin/nightlatch")
        }
        _ => panic!("{words}"),
    };
    let block = said("--kind entra").unwrap();
    assert!(block.contains("--folder /home/alice/nl --kind entra >/dev/null\""), "{block}");
    assert!(block.contains("IdentityFile /home/alice/nl/id_rsa\n"), "{block}");
    assert!(block.contains("CertificateFile /home/alice/nl/id_rsa-cert.pub\n"), "{block}");
    let why = said("--kind entra --device-code").unwrap_err();
    assert!(
        why.contains("no terminal") && why.contains("`nightlatch cert --kind entra --device-code`"),
        "{why}"
    );
}
