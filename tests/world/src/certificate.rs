//! A certificate authority made of ssh-keygen alone: for facts about sshd, and for tests that must not
//! depend on the Entra emulator.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::image::Image;
use crate::person::{Person, read_key};
use crate::run::{WorldError, succeed};

/// A signing key in a temporary folder.
#[derive(Debug)]
pub struct LocalCa {
    folder: TempDir,
    image: Image,
}

/// What a certificate is to say, in ssh-keygen's words.
#[derive(Clone, Debug)]
pub struct CertificateSpec {
    /// The principals; none means a certificate without any.
    pub principals: Vec<String>,
    /// `-V`: a start and an end, such as `-5m:+1h`.
    pub validity: String,
    /// `-O`, each; such as `no-pty`, `critical:name=value`, `extension:name=value`.
    pub options: Vec<String>,
    /// `-I`.
    pub key_id: String,
    /// `-z`.
    pub serial: u64,
    /// `-h`: a host's certificate.
    pub host: bool,
    /// The signature's algorithm, for an RSA authority.
    pub signature: &'static str,
}

impl CertificateSpec {
    /// A user certificate for one principal, good for an hour from five minutes ago, signed with
    /// rsa-sha2-256: the shape that Entra issues.
    #[must_use]
    pub fn for_principal(principal: &str) -> Self {
        Self {
            principals: vec![principal.to_owned()],
            validity: "-5m:+1h".to_owned(),
            options: Vec::new(),
            key_id: "11111111-2222-3333-4444-555555555555".to_owned(),
            serial: 1,
            host: false,
            signature: "rsa-sha2-256",
        }
    }
}

impl LocalCa {
    /// An authority with a fresh 2048-bit RSA key.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn new(image: &Image) -> Result<Self, WorldError> {
        let folder = crate::desk::folder("ca-")?;
        let ca = Self { folder, image: image.clone() };
        let mut command = image.command("ssh-keygen")?;
        succeed(
            command.args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "", "-f"]).arg(ca.key_path()),
        )?;
        Ok(ca)
    }

    fn key_path(&self) -> PathBuf {
        self.folder.path().join("ca")
    }

    /// The authority's public key as `type base64`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn public_key(&self) -> Result<String, WorldError> {
        read_key(&self.folder.path().join("ca.pub"))
    }

    /// Signs the person's public key; the result is the certificate as `type base64`.
    ///
    /// # Errors
    /// When ssh-keygen refuses the specification.
    pub fn sign(&self, person: &Person, spec: &CertificateSpec) -> Result<String, WorldError> {
        // A folder per signature: two may be signed at a time, and ssh-keygen chooses the file's name.
        let folder =
            tempfile::tempdir_in(self.folder.path()).map_err(|why| WorldError::io("a folder", &why))?;
        let public = folder.path().join("key.pub");
        fs::copy(person.public_key_path(), &public).map_err(|why| WorldError::io(public.display(), &why))?;
        let mut command = self.image.command("ssh-keygen")?;
        command.args(["-q", "-t", spec.signature, "-I", &spec.key_id, "-V", &spec.validity]);
        command.args(["-z", &spec.serial.to_string(), "-s"]).arg(self.key_path());
        if spec.host {
            command.arg("-h");
        }
        if !spec.principals.is_empty() {
            command.args(["-n", &spec.principals.join(",")]);
        }
        for option in &spec.options {
            command.args(["-O", option]);
        }
        succeed(command.arg(&public))?;
        read_key(&folder.path().join("key-cert.pub"))
    }

    /// Signs for one principal with [`CertificateSpec::for_principal`] and hands it to the person.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn issue(&self, person: &Person, principal: &str) -> Result<(), WorldError> {
        person.take_certificate(&self.sign(person, &CertificateSpec::for_principal(principal))?)
    }
}
