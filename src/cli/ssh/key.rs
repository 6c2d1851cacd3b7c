//! A key of the person's own, and the two files that ssh reads: the private key (PROTOCOL.key) and a certificate that the
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
/// How the file of a private key begins (PROTOCOL.key), and how it is armoured.
const MAGIC: &[u8] = b"openssh-key-v1\0";
const OPENSSH: &str = "OPENSSH PRIVATE KEY";
/// The private half of a key, in bytes (RFC 8032 §5.1.5).
const SEED_BYTES: usize = 32;
/// The line length of an armoured key file, in characters (RFC 7468 §2).
const LINE: usize = 64;

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
        let bytes = unarmour(OPENSSH, file)?;
        let mut rest = bytes.strip_prefix(MAGIC)?;
        for expected in [&b"none"[..], b"none", b""] {
            (take(&mut rest)? == expected).then_some(())?;
        }
        rest = rest.strip_prefix(&1_u32.to_be_bytes())?;
        let _public = take(&mut rest)?;
        // Two equal numbers, the public half once more, and then both in one.
        let mut rest = take(&mut rest)?.get(8..)?;
        (take(&mut rest)? == KEY_TYPE.as_bytes()).then_some(())?;
        let public = take(&mut rest)?;
        let (seed, again) = take(&mut rest)?.split_at_checked(SEED_BYTES)?;
        (public == again).then_some(())?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
        Some(Self { pair, public: public.try_into().ok()? })
    }

    /// The public half.
    pub(super) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The public half as an SSH public key (RFC 8709 §4).
    pub(super) fn ssh_public(&self) -> Vec<u8> {
        [string(KEY_TYPE.as_bytes()), string(&self.public)].concat()
    }

    /// A signature.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The private key as a file that `ssh` reads, without a passphrase; `check` is any number.
    pub(super) fn private_file(&self, check: u32, comment: &str) -> Option<Secret> {
        let seed = self.pair.seed().ok()?;
        let seed = AsBigEndian::<aws_lc_rs::encoding::Curve25519SeedBin<'_>>::as_be_bytes(&seed).ok()?;
        let public = self.ssh_public();
        let mut private = [check.to_be_bytes(), check.to_be_bytes()].concat();
        private.extend_from_slice(&public);
        private.extend(string(&[seed.as_ref(), &self.public[..]].concat()));
        private.extend(string(comment.as_bytes()));
        let padding = (1_u8..).take((8 - private.len() % 8) % 8);
        private.extend(padding);
        let mut file = MAGIC.to_vec();
        for part in [&b"none"[..], b"none", b""] {
            file.extend(string(part));
        }
        file.extend(1_u32.to_be_bytes());
        file.extend(string(&public));
        file.extend(string(&private));
        Some(armour(OPENSSH, &file))
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

/// A private key as the text of a file.
pub(super) fn armour(name: &str, bytes: &[u8]) -> Secret {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> =
        text.as_bytes().chunks(LINE).filter_map(|line| str::from_utf8(line).ok()).collect();
    Secret::new(format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", lines.join("\n")))
}

/// The bytes that [`armour`] made the text of.
pub(super) fn unarmour(name: &str, text: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let begin = format!("-----BEGIN {name}-----\n");
    let (body, _) = text.expose().strip_prefix(&begin)?.split_once("-----END ")?;
    let body = Zeroizing::new(body.replace('\n', ""));
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// The next string of RFC 4251 §5.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(string)
}

/// A string of RFC 4251 §5. What is written here is some kilobytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
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
            let bytes = unarmour(OPENSSH, &file).unwrap();
            for at in 0..bytes.len() {
                let cut = armour(OPENSSH, &bytes[..at]);
                // What is missing at the very end is comment and padding.
                assert!(Key::read(&cut).is_none() || at >= bytes.len() - comment.len() - 4 - 7, "{at}");
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
