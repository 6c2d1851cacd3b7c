//! A person at a client machine: an RSA key, the certificate that `az ssh cert` would have written
//! beside it, and the unmodified `ssh` that offers them.
//!
//! Private keys stay in the person's own temporary folder and go with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::image::Image;
use crate::node::Node;
use crate::run::{WorldError, output, succeed};

/// How sshd names the end of a hook that its own timer (SIGALRM) ended.
const OUT_OF_TIME: &str = "exited on signal 14";
/// The longest that one ssh may take, in seconds, before it is ended with status 124.
const SSH_LIMIT_S: &str = "120";

/// Somebody with a key, and perhaps a certificate.
#[derive(Debug)]
pub struct Person {
    folder: TempDir,
}

/// What an ssh run came to.
#[derive(Debug)]
pub struct SshOutcome {
    /// The exit status: the remote command's, 255 when ssh itself failed, 124 when it took too long.
    pub status: i32,
    /// What the remote side printed.
    pub stdout: String,
    /// What ssh and the remote side complained about, refusals' texts included.
    pub stderr: String,
    /// From start to end of the client.
    pub elapsed: Duration,
}

impl SshOutcome {
    /// True when the login and the remote command both succeeded.
    #[must_use]
    pub const fn is_in(&self) -> bool {
        self.status == 0
    }

    /// True when sshd refused the key: the client's own words for it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.status == 255 && self.stderr.contains("Permission denied (publickey")
    }
}

impl Person {
    /// A person with a fresh 2048-bit RSA key: the only kind that Entra signs.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn new(image: &Image) -> Result<Self, WorldError> {
        Self::with_key(image, "rsa")
    }

    /// A person with a fresh key of a type that ssh-keygen knows (`rsa`, `ed25519`, `ecdsa`).
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn with_key(image: &Image, key_type: &str) -> Result<Self, WorldError> {
        Self::made(image, key_type, (key_type == "rsa").then_some("2048"))
    }

    /// A person with an RSA key of another size than Entra takes.
    ///
    /// # Errors
    /// When ssh-keygen refuses the size.
    pub fn with_rsa_bits(image: &Image, bits: &str) -> Result<Self, WorldError> {
        Self::made(image, "rsa", Some(bits))
    }

    fn made(image: &Image, key_type: &str, bits: Option<&str>) -> Result<Self, WorldError> {
        let person = Self { folder: crate::desk::folder("person-")? };
        let mut command = image.command("ssh-keygen")?;
        command.args(["-q", "-t", key_type, "-N", "", "-C", "", "-f"]).arg(person.key_path());
        if let Some(bits) = bits {
            command.args(["-b", bits]);
        }
        succeed(&mut command)?;
        Ok(person)
    }

    /// A person whose key and certificate another program wrote as `id_rsa`, `id_rsa.pub` and
    /// `id_rsa.pub-aadcert.pub`; the files are copied as they are.
    ///
    /// # Errors
    /// When one is missing.
    pub fn from_folder(from: &Path) -> Result<Self, WorldError> {
        let person = Self { folder: crate::desk::folder("person-")? };
        for to in [person.key_path(), person.public_key_path(), person.certificate_path()] {
            let from = from.join(to.file_name().unwrap_or_default());
            fs::copy(&from, &to).map_err(|why| WorldError::io(from.display(), &why))?;
        }
        Ok(person)
    }

    /// The private key's file.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.folder.path().join("id_rsa")
    }

    /// The public key's file.
    #[must_use]
    pub fn public_key_path(&self) -> PathBuf {
        self.folder.path().join("id_rsa.pub")
    }

    /// Where `az ssh cert` writes the certificate: beside the public key.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.path().join("id_rsa.pub-aadcert.pub")
    }

    /// The public key as `type base64`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn public_key(&self) -> Result<String, WorldError> {
        let path = self.public_key_path();
        let line = fs::read_to_string(&path).map_err(|why| WorldError::io(path.display(), &why))?;
        Ok(type_and_base64(&line))
    }

    /// Takes a certificate, written as `az ssh cert` writes it: `type base64`, no newline, no comment.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take_certificate(&self, line: &str) -> Result<(), WorldError> {
        let path = self.certificate_path();
        fs::write(&path, type_and_base64(line)).map_err(|why| WorldError::io(path.display(), &why))
    }

    /// Forgets the certificate.
    pub fn drop_certificate(&self) {
        drop(fs::remove_file(self.certificate_path()));
    }

    fn ssh_arguments(&self, user: &str, options: &[&str], words: &[&str]) -> Vec<String> {
        // ssh takes the first value it meets, so the caller's options come before ours.
        let mut all: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        let known = self.folder.path().join("known_hosts");
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "KexAlgorithms=curve25519-sha256",
            "ConnectTimeout=30",
            // sshd listens anew for a moment while it is reloaded.
            "ConnectionAttempts=5",
            "SendEnv=-*",
        ] {
            all.extend(["-o".to_owned(), option.to_owned()]);
        }
        all.extend(["-o".to_owned(), format!("UserKnownHostsFile={}", known.display())]);
        all.extend(["-F".to_owned(), "none".to_owned()]);
        all.extend(["-i".to_owned(), self.key_path().display().to_string()]);
        if self.certificate_path().exists() {
            all.extend(["-o".to_owned(), format!("CertificateFile={}", self.certificate_path().display())]);
        }
        all.extend(["-l".to_owned(), user.to_owned(), "127.0.0.1".to_owned()]);
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    }
}

impl Node {
    /// An ssh of the host, in the node's network, ready to be started: for sessions that stay open.
    ///
    /// # Errors
    /// When no ssh can be had.
    pub fn ssh_command(
        &self,
        person: &Person,
        user: &str,
        options: &[&str],
        words: &[&str],
    ) -> Result<Command, WorldError> {
        let mut all = self.image().tool("ssh")?;
        all.extend(person.ssh_arguments(user, options, words));
        let mut command = self.network_command(&all);
        command.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        Ok(command)
    }

    /// Logs in with the person's key and certificate and runs `words` there. `options` are ssh's own
    /// (`-tt`, `-o`, `…`) and win over the defaults.
    ///
    /// The hook ends itself after 300 ms whatever stands still around it. Where this machine stood still, the login is tried
    /// once more: it says nothing about the product.
    ///
    /// # Errors
    /// Only when ssh could not be started; a refused login is an outcome.
    pub fn ssh(
        &self,
        person: &Person,
        user: &str,
        words: &[&str],
        options: &[&str],
    ) -> Result<SshOutcome, WorldError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let login = self.ssh_once(person, user, words, options)?;
        if !login.is_refused() {
            return Ok(login);
        }
        let said = self.journal(&["-t", "sshd", "-t", "sshd-session", "--since", &format!("@{since}")])?;
        if said.lines().any(|line| line.contains("AuthorizedKeysCommand") && line.contains(OUT_OF_TIME)) {
            return self.ssh_once(person, user, words, options);
        }
        Ok(login)
    }

    fn ssh_once(
        &self,
        person: &Person,
        user: &str,
        words: &[&str],
        options: &[&str],
    ) -> Result<SshOutcome, WorldError> {
        let mut all = vec!["timeout".to_owned(), "-k1".to_owned(), SSH_LIMIT_S.to_owned()];
        all.extend(self.image().tool("ssh")?);
        all.extend(person.ssh_arguments(user, options, words));
        let mut command = self.network_command(&all);
        command.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        let start = Instant::now();
        let done = output(&mut command)?;
        Ok(SshOutcome {
            status: done.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
            elapsed: start.elapsed(),
        })
    }
}

/// Makes a local account in the node with a home and the person's key in its `authorized_keys`.
///
/// # Errors
/// When useradd refuses the name.
pub fn local_user(node: &Node, name: &str, person: &Person) -> Result<(), WorldError> {
    // `-p '*'`: no password fits, yet the account is not locked as `!` would be.
    let script = "useradd --create-home --shell /bin/bash --password '*' \"$1\" && \
                  install -d -m 0700 -o \"$1\" -g \"$1\" \"/home/$1/.ssh\"";
    succeed(&mut node.command(&["sh", "-c", script, "user", name]))?;
    let path = format!("/home/{name}/.ssh/authorized_keys");
    let line = format!("{}\n", person.public_key()?);
    node.write_file(&path, line.as_bytes(), 0o600, &format!("{name}:{name}"))
}

/// The first two words of a key file's line.
pub(crate) fn type_and_base64(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// The content of a public key file as `type base64`.
pub(crate) fn read_key(path: &Path) -> Result<String, WorldError> {
    let line = fs::read_to_string(path).map_err(|why| WorldError::io(path.display(), &why))?;
    Ok(type_and_base64(&line))
}
