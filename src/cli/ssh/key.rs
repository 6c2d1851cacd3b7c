//! A key of the person's own, and the two files that ssh reads: the private key and a certificate that the
//! key signed itself (PROTOCOL.certkeys) with the proof of a sign-in in it.
//!
//! The private key is written nowhere but into its file.

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightlatch_jwt::{PROOF_EXTENSION, WILDCARD_PRINCIPAL};
use nightlatch_model::Secret;
use zeroize::Zeroizing;

use super::private_file::{self, string, take};

/// The types of key and certificate.
const KEY_TYPE: &str = "ssh-ed25519";
const CERTIFICATE_TYPE: &str = "ssh-ed25519-cert-v01@openssh.com";
/// A user's certificate, not a host's.
const USER: u32 = 1;
/// What a node may let the session do; a node's own rules are narrower.
const PERMITS: [&str; 5] = [
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];
/// The private half of a key, in bytes (RFC 8032 §5.1.5).
const SEED_BYTES: usize = 32;

/// A key pair.
pub(super) struct Key {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl Key {
    /// A new one; `None` without randomness.
    pub(super) fn generate() -> Option<Self> {
        let pair = Ed25519KeyPair::generate().ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// The one in a file that [`Key::private_file`] wrote; `None` for any other.
    pub(super) fn read(file: &Secret) -> Option<Self> {
        let (blob, private) = private_file::read(file)?;
        let mut rest = private.as_slice();
        (take(&mut rest)? == KEY_TYPE.as_bytes()).then_some(())?;
        let public = take(&mut rest)?;
        let (seed, again) = take(&mut rest)?.split_at_checked(SEED_BYTES)?;
        (public == again && blob == ssh_public(public)).then_some(())?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
        Some(Self { pair, public: public.try_into().ok()? })
    }

    /// The public half.
    pub(super) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The public half as an SSH public key (RFC 8709 §4).
    pub(super) fn ssh_public(&self) -> Vec<u8> {
        ssh_public(&self.public)
    }

    /// A signature.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The private key as a file that `ssh` reads, without a passphrase; `check` is any number.
    pub(super) fn private_file(&self, check: u32, comment: &str) -> Option<Secret> {
        let seed = self.pair.seed().ok()?;
        let seed = AsBigEndian::<aws_lc_rs::encoding::Curve25519SeedBin<'_>>::as_be_bytes(&seed).ok()?;
        let both = Zeroizing::new([seed.as_ref(), &self.public[..]].concat());
        let private = Zeroizing::new([self.ssh_public(), string(&both)].concat());
        Some(private_file::write(&self.ssh_public(), &private, check, comment))
    }

    /// The certificate's line. It has no end of its own: the node ends it with the sign-in.
    pub(super) fn certificate(&self, proof: &str, nonce: &[u8; 32], comment: &str) -> String {
        let own = self.ssh_public();
        let mut extensions = [string(PROOF_EXTENSION.as_bytes()), string(&string(proof.as_bytes()))].concat();
        for name in PERMITS {
            extensions.extend([string(name.as_bytes()), string(b"")].concat());
        }
        let mut blob = [string(CERTIFICATE_TYPE.as_bytes()), string(nonce), string(&self.public)].concat();
        blob.extend(0_u64.to_be_bytes());
        blob.extend(USER.to_be_bytes());
        blob.extend(string(comment.as_bytes()));
        blob.extend(string(&string(WILDCARD_PRINCIPAL.as_bytes())));
        blob.extend(0_u64.to_be_bytes());
        blob.extend(u64::MAX.to_be_bytes());
        for part in [&b""[..], &extensions, b"", &own] {
            blob.extend(string(part));
        }
        let signature = [string(KEY_TYPE.as_bytes()), string(&self.sign(&blob))].concat();
        blob.extend(string(&signature));
        format!("{CERTIFICATE_TYPE} {} {comment}", STANDARD.encode(&blob))
    }
}

fn ssh_public(public: &[u8]) -> Vec<u8> {
    [string(KEY_TYPE.as_bytes()), string(public)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_sshcert::{CertKind, Certificate};

    #[test]
    fn ssh_reads_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = Key::generate().unwrap();
        let line = key.certificate("a:b:c:d:e", &[7; 32], "ada@example.com");
        let (key_type, rest) = line.split_once(' ').unwrap();
        let certificate = Certificate::from_openssh(key_type, rest.split(' ').next().unwrap()).unwrap();
        assert!(certificate.is_self_signed() && certificate.kind() == CertKind::User);
        assert_eq!(certificate.verify_signature(certificate.ca_key()), Ok(()));
        assert_eq!(certificate.extension_text(PROOF_EXTENSION), Ok(Some("a:b:c:d:e")));
        assert_eq!(certificate.principals(), [WILDCARD_PRINCIPAL]);
        std::fs::write(path("id-cert.pub"), format!("{line}\n")).unwrap();
        std::fs::write(path("id"), key.private_file(7, "ada@example.com").unwrap().expose()).unwrap();
        std::process::Command::new("chmod").arg("600").arg(path("id")).status().unwrap();
        let keygen = |words: &[&str], file: &str| {
            let done = std::process::Command::new("ssh-keygen").args(words).arg(path(file)).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        let public = keygen(&["-y", "-f"], "id");
        let own = STANDARD.encode([string(KEY_TYPE.as_bytes()), string(key.public())].concat());
        assert_eq!(public.split(' ').nth(1).unwrap().trim(), own);
        let shown = keygen(&["-L", "-f"], "id-cert.pub");
        for word in ["user certificate", "opkssh-wildcard", "permit-pty", "Valid: forever", "Serial: 0"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }

    #[test]
    fn a_key_is_read_from_the_file_that_it_wrote_and_from_no_other() {
        for comment in ["", "a", "ada@example.com", "four"] {
            let key = Key::generate().unwrap();
            let file = key.private_file(7, comment).unwrap();
            let again = Key::read(&file).unwrap();
            assert_eq!(again.public(), key.public());
            assert_eq!(again.sign(b"x"), key.sign(b"x"), "Ed25519 signs the same in the same way");
            for at in 0..file.expose().len() - 1 {
                let cut = Secret::new(file.expose()[..at].to_owned());
                assert!(Key::read(&cut).is_none(), "{at}");
            }
        }
        for other in
            ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END x"]
        {
            assert!(Key::read(&Secret::new(other.into())).is_none());
        }
        // ssh-keygen's own, with a passphrase and of another type.
        let folder = tempfile::tempdir().unwrap();
        for (name, words) in [("locked", ["ed25519", "secret"]), ("rsa", ["rsa", ""])] {
            let path = folder.path().join(name);
            let [kind, passphrase] = words;
            let mut keygen = std::process::Command::new("ssh-keygen");
            keygen.args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(&path);
            assert!(keygen.status().unwrap().success());
            let text = Secret::new(std::fs::read_to_string(&path).unwrap());
            assert!(Key::read(&text).is_none(), "{name}");
        }
        let plain = folder.path().join("plain");
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&plain);
        assert!(keygen.status().unwrap().success());
        assert!(Key::read(&Secret::new(std::fs::read_to_string(&plain).unwrap())).is_some());
    }
}
