//! A key of the person's or pipeline's own for Entra's SSH authority, and the certificate that the authority made for it.
//!
//! A certificate is written down only when it is for this key, names one login and has not ended. Whether the authority is
//! the right one is the node's to say.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::KeyPair as _;
use nightlatch_model::{Secret, Timestamp};
use nightlatch_sshcert::{Certificate, PublicKey};

use super::asked::Asked;
use super::files::{Note, has_ended, keep, login_name, private_key};
use super::held::Held;
use super::key::{armour, unarmour};
use crate::entra::oauth::{CertificateAsk, Certified};

const CERTIFICATE_TYPE: &str = "ssh-rsa-cert-v01@openssh.com";

/// A key pair, and what a certificate for it is asked for with.
pub(super) struct RsaKey {
    pair: KeyPair,
    public: PublicKey,
    ask: CertificateAsk,
    /// It lies in its file already.
    stored: bool,
}

const ARMOUR: &str = "PRIVATE KEY";

impl RsaKey {
    /// A new one, for the authority with this scope.
    pub(super) fn generate(scope: &'static str) -> Result<Self, String> {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok();
        let key = pair.and_then(|pair| Self::of(pair, scope, false));
        key.ok_or_else(|| "no key can be made on this machine".to_owned())
    }

    /// The one of the last certificate, for the next: ssh then never meets the one with the other's.
    pub(super) fn of_last(asked: &Asked) -> Option<Self> {
        Self::of_file(asked, &private_key(asked)?)
    }

    /// The one that this text is the file of.
    pub(super) fn of_file(asked: &Asked, file: &Secret) -> Option<Self> {
        let der = unarmour(ARMOUR, file)?;
        Self::of(KeyPair::from_pkcs8(&der).ok()?, asked.cloud.ssh_scope(), true)
    }

    /// The public half as an SSH public key (RFC 4253 §6.6).
    pub(super) fn ssh_public(&self) -> Vec<u8> {
        self.public.blob().to_vec()
    }

    fn of(pair: KeyPair, scope: &'static str, stored: bool) -> Option<Self> {
        let numbers = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let public = PublicKey::rsa_from_n_e(&numbers.n, &numbers.e).ok()?;
        Some(Self { pair, public, ask: CertificateAsk::new(scope, &numbers.n, &numbers.e), stored })
    }

    /// What to ask for.
    pub(super) const fn ask(&self) -> &CertificateAsk {
        &self.ask
    }

    /// Writes the files for what Entra answered to a sign-in, or to the renewal of an `earlier` one, and has the kernel hold
    /// what the next certificate can be had with. The name to log in with.
    pub(super) fn keep(
        &self,
        asked: &Asked,
        given: &Certified,
        held: Option<&Held>,
        earlier: Option<&Note>,
        now: Timestamp,
    ) -> Result<String, String> {
        let text = &given.certificate;
        let name = self.certified(text, now)?;
        let note = Note {
            signed_in: earlier.map_or(now.0, |note| note.signed_in),
            // Without another one the last stays good.
            held: earlier.and_then(|note| note.held.clone()),
            ..Note::new(asked, &name, now)
        };
        let note = match held {
            Some(held) => held.hold_or_say(asked, note, given.refresh_token.as_ref(), now),
            None => note,
        };
        let pem = if self.stored { None } else { Some(self.pem()?) };
        keep(asked, pem.as_ref(), &format!("{CERTIFICATE_TYPE} {text} {name}\n"), &note)?;
        Ok(name)
    }

    fn pem(&self) -> Result<Secret, String> {
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&self.pair).map_err(|_| "the key cannot be written")?;
        Ok(armour(ARMOUR, der.as_ref()))
    }

    fn certified(&self, text: &str, now: Timestamp) -> Result<String, String> {
        let certificate = Certificate::from_openssh(CERTIFICATE_TYPE, text)
            .map_err(|why| format!("Entra's certificate cannot be read: {why}"))?;
        certificate.require_user().map_err(|why| format!("Entra's certificate is not for a user: {why}"))?;
        if certificate.subject_key() != &self.public {
            return Err("Entra's certificate is for another key than ours; sign in again".into());
        }
        if has_ended(&certificate, now) {
            return Err("Entra's certificate has already ended; compare this machine's clock".into());
        }
        login_name(&certificate)
            .ok_or_else(|| "Entra's certificate does not name exactly one principal".to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};

    use super::super::asked::How;
    use super::super::files::kept;
    use super::super::tests::{NAME, NOW, asking};
    use super::*;
    use crate::entra::clouds::Cloud;

    /// What the authority answers for this key: an hour for Alice, in other letters, with this change.
    pub(in crate::cli::ssh) fn certificate(
        key: &RsaKey,
        change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
    ) -> String {
        let now = u64::try_from(NOW.0).unwrap();
        let plain = CertificateBuilder::for_blob(key.public.blob()).principals(["Alice@Contoso.com"]);
        STANDARD.encode(change(plain.valid(now - 300, now + 3_600)).sign(&TestKey::ed25519([7; 32])))
    }

    pub(in crate::cli::ssh) fn key() -> RsaKey {
        RsaKey::generate(Cloud::Public.ssh_scope()).unwrap()
    }

    /// Writes what Entra answered to a sign-in of which nothing is held.
    pub(in crate::cli::ssh) fn keep(key: &RsaKey, asked: &Asked, text: &str) -> Result<String, String> {
        let given = Certified { certificate: text.to_owned(), refresh_token: None };
        key.keep(asked, &given, None, None, NOW)
    }

    #[test]
    fn ssh_reads_both_files_and_the_name_is_in_lower_case() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::Browser);
        let key = key();
        let text = certificate(&key, CertificateBuilder::permit_all);
        assert_eq!(keep(&key, &asked, &text).as_deref(), Ok(NAME));
        for file in ["id_rsa", "id_rsa-cert.pub", "entra.json"] {
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let keygen = |words: &[&str], file: &str| {
            let file = folder.path().join(file);
            let done = std::process::Command::new("ssh-keygen").args(words).arg(file).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        assert_eq!(keygen(&["-y", "-f"], "id_rsa").split(' ').nth(1).unwrap().trim(), key.public.to_base64());
        let shown = keygen(&["-L", "-f"], "id_rsa-cert.pub");
        assert!(shown.contains("user certificate") && shown.contains("Alice@Contoso.com"), "{shown}");
    }

    #[test]
    fn what_is_no_certificate_for_one_login_with_our_key_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("nl");
        let asked = asking(&inner, How::Browser);
        let (ours, other) = (key(), key());
        let now = u64::try_from(NOW.0).unwrap();
        for (text, word) in [
            (certificate(&ours, |one| one.principals(["a@b", "c@d"])), "exactly one principal"),
            (certificate(&ours, |one| one.principals([""; 0])), "exactly one principal"),
            (certificate(&ours, |one| one.principals(["a b"])), "cannot be read"),
            (certificate(&ours, |one| CertificateBuilder { kind: 2, ..one }), "not for a user"),
            (certificate(&other, |one| one), "another key"),
            (certificate(&ours, |one| one.valid(0, now - 1)), "already ended"),
            (certificate(&ours, |one| one.valid(0, now)), "already ended"),
            ("AAAA".to_owned(), "cannot be read"),
            ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned(), "cannot be read"),
        ] {
            let why = keep(&ours, &asked, &text).unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
            assert!(!inner.exists(), "{word}");
        }
        let last = certificate(&ours, |one| one.valid(0, now + 1));
        assert!(keep(&ours, &asked, &last).is_ok());
        assert!(keep(&ours, &asked, &certificate(&ours, |one| one.valid(0, u64::MAX))).is_ok());
    }

    #[test]
    fn a_certificate_is_used_again_until_ten_minutes_before_its_own_end() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::Browser);
        let key = key();
        let now = u64::try_from(NOW.0).unwrap();
        for life in [3_600_i64, 8 * 3_600] {
            let end = now + u64::try_from(life).unwrap();
            keep(&key, &asked, &certificate(&key, |one| one.valid(now, end))).unwrap();
            for (age, used) in
                [(0, true), (life - 601, true), (life - 600, false), (life, false), (-1, false)]
            {
                let note = kept(&asked, NOW.plus(age));
                assert_eq!(note.map(|note| note.name).as_deref(), used.then_some(NAME), "{age} of {life}");
            }
        }
        assert!(kept(&Asked { fresh: true, ..asking(folder.path(), How::Browser) }, NOW).is_none());
        let client = "0a990000-0000-4000-8000-000000000002".parse().unwrap();
        assert!(kept(&Asked { client, ..asking(folder.path(), How::Browser) }, NOW).is_none());
        // On another device it is the same certificate.
        assert!(kept(&asking(folder.path(), How::Device), NOW).is_some());
        // Somebody else's certificate in the same place, or something else.
        for line in [
            format!("{CERTIFICATE_TYPE} {}", certificate(&key, |one| one.principals(["adele@contoso.com"]))),
            "ssh-rsa AAAA".to_owned(),
            String::new(),
        ] {
            std::fs::write(folder.path().join("id_rsa-cert.pub"), line).unwrap();
            assert!(kept(&asked, NOW).is_none());
        }
    }

    #[test]
    fn in_one_folder_the_last_of_person_and_pipeline_counts() {
        let folder = tempfile::tempdir().unwrap();
        let person = asking(folder.path(), How::Browser);
        let pipeline = asking(folder.path(), How::Pipeline("/run/token".into()));
        let key = key();
        for (last, before) in [(&person, &pipeline), (&pipeline, &person)] {
            keep(&key, last, &certificate(&key, |one| one)).unwrap();
            assert!(kept(last, NOW).is_some() && kept(before, NOW).is_none());
        }
    }
}
