//! A key of the person's or pipeline's own for Entra's SSH authority, and the certificate that the authority made for it.
//!
//! A certificate is written down only when it is for this key, names one login and has not ended. Whether the authority is
//! the right one is the node's to say.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::KeyPair as _;
use nightlatch_model::{Secret, Timestamp};
use nightlatch_sshcert::{Certificate, PublicKey};
use zeroize::Zeroizing;

use super::asked::Asked;
use super::files::{Note, has_ended, keep, login_name, private_key};
use super::held::Held;
use super::private_file::{self, string, take};
use super::sign_in::random;
use crate::entra::oauth::{CertificateAsk, Certified};

const CERTIFICATE_TYPE: &str = "ssh-rsa-cert-v01@openssh.com";

const KEY_TYPE: &[u8] = b"ssh-rsa";

/// A key pair, and what a certificate for it is asked for with.
pub(super) struct RsaKey {
    /// `None` for one that lies in its file already: for another certificate its public half is enough.
    pair: Option<KeyPair>,
    public: PublicKey,
    ask: CertificateAsk,
}

impl RsaKey {
    /// A new one, for the authority with this scope.
    pub(super) fn generate(scope: &'static str) -> Result<Self, String> {
        let no_key = "no key can be made on this machine";
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| no_key)?;
        let numbers = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let public = PublicKey::rsa_from_n_e(&numbers.n, &numbers.e).map_err(|_| no_key)?;
        Ok(Self { pair: Some(pair), public, ask: CertificateAsk::new(scope, &numbers.n, &numbers.e) })
    }

    /// The one of the last certificate, for the next: ssh then never meets the one with the other's.
    pub(super) fn of_last(asked: &Asked) -> Option<Self> {
        Self::of_file(asked, &private_key(asked)?)
    }

    fn of_file(asked: &Asked, file: &Secret) -> Option<Self> {
        let (blob, private) = private_file::read(file)?;
        let mut rest = private.as_slice();
        (take(&mut rest)? == KEY_TYPE).then_some(())?;
        let [n, e] = [take(&mut rest)?, take(&mut rest)?].map(unsigned);
        let public = PublicKey::rsa_from_n_e(n, e).ok().filter(|public| public.blob() == blob)?;
        Some(Self { pair: None, public, ask: CertificateAsk::new(asked.cloud.ssh_scope(), n, e) })
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
        // Without another refresh token the last stays good.
        let note = earlier.map_or_else(|| Note::new(asked, &name, now), |earlier| earlier.renewed(&name));
        let note = match held {
            Some(held) => held.hold_or_say(asked, note, given.refresh_token.as_ref(), now),
            None => note,
        };
        let file = self.pair.as_ref().map(|pair| self.file(pair, &name)).transpose()?;
        keep(asked, file.as_ref(), &format!("{CERTIFICATE_TYPE} {text} {name}\n"), &note)?;
        Ok(name)
    }

    fn file(&self, pair: &KeyPair, comment: &str) -> Result<Secret, String> {
        let wrong = || "the key cannot be written".to_owned();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map_err(|_| wrong())?;
        let [n, e, d, p, q, inverse] = numbers(der.as_ref()).ok_or_else(wrong)?;
        let mut private = Zeroizing::new(string(KEY_TYPE));
        for number in [n, e, d, inverse, p, q] {
            private.extend(string(number));
        }
        let check = u32::from_be_bytes(random().ok_or_else(wrong)?);
        Ok(private_file::write(self.public.blob(), &private, check, comment))
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

/// A number of ssh's without the zero byte that makes it none below zero.
fn unsigned(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// The numbers of a private key (RFC 8017 §A.1.2) in the document that the crypto library gives out (PKCS#8, RFC 5958 §2):
/// n, e, d, p, q and the inverse of q. Signed and big-endian, as ssh writes its own.
fn numbers(pkcs8: &[u8]) -> Option<[&[u8]; 6]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const OCTETS: u8 = 0x04;
    let mut outer = element(&mut { pkcs8 }, SEQUENCE)?;
    let _version = element(&mut outer, INTEGER)?;
    let _algorithm = element(&mut outer, SEQUENCE)?;
    let mut inner = element(&mut element(&mut outer, OCTETS)?, SEQUENCE)?;
    let _version = element(&mut inner, INTEGER)?;
    let mut next = || element(&mut inner, INTEGER);
    let [n, e, d, p, q] = [next()?, next()?, next()?, next()?, next()?];
    let (_d_mod_p, _d_mod_q) = (next()?, next()?);
    Some([n, e, d, p, q, next()?])
}

/// What is in the next element of DER, which must have this tag.
fn element<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, tail) = rest.split_first()?;
    let (length, tail) = tail.split_first()?;
    let (length, tail) = match *length {
        short @ 0..=0x7f => (usize::from(short), tail),
        // In so many bytes; no key of ours needs more than two.
        0x81 => (usize::from(*tail.first()?), tail.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes(*tail.first_chunk()?)), tail.get(2..)?),
        _ => return None,
    };
    let (inside, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    (*first == tag).then_some(inside)
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

    /// OpenSSH 10.3 ends in a fault with the other form.
    #[test]
    fn the_key_is_in_opensshs_own_form_and_its_public_half_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (asked, key) = (asking(folder.path(), How::Browser), key());
        keep(&key, &asked, &certificate(&key, |one| one)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("id_rsa")).unwrap();
        assert!(text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"), "{text}");
        let again = RsaKey::of_last(&asked).unwrap();
        assert!(again.pair.is_none() && again.public == key.public);
        let ask = |key: &RsaKey| {
            key.ask().on(crate::entra::oauth::Form::new(&[])).get("req_cnf").map(str::to_owned)
        };
        assert!(ask(&again).is_some() && ask(&again) == ask(&key));
        for at in 0..text.len() - 1 {
            assert!(RsaKey::of_file(&asked, &Secret::new(text[..at].to_owned())).is_none(), "{at}");
        }
        let other = super::super::key::Key::generate().unwrap().private_file(7, "").unwrap();
        assert!(RsaKey::of_file(&asked, &other).is_none());
    }

    #[test]
    fn a_document_that_is_cut_or_of_something_else_has_no_numbers() {
        let key = key();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(key.pair.as_ref().unwrap()).unwrap();
        let whole = der.as_ref();
        assert!(numbers(whole).is_some());
        assert!((0..whole.len()).all(|at| numbers(&whole[..at]).is_none()));
        for at in [0, 4, 7] {
            let mut other = whole.to_vec();
            other[at] ^= 1;
            assert!(numbers(&other).is_none(), "tag at {at}");
        }
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
