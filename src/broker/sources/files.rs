//! Files with proofs: read at each use, capped, and refused where others could read or change a secret.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nightlatch_model::Secret;
use nightlatch_tokens::{Failure, FailureClass};
use nix::fcntl::OFlag;

/// The largest client secret, in bytes.
const MAX_SECRET_BYTES: u64 = 4 * 1024;
/// The largest PEM file, in bytes.
const MAX_PEM_BYTES: u64 = 128 * 1024;
/// The largest federated token, in bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// A client secret: the first line, without spaces around it.
pub(super) async fn secret(file: &Path) -> Result<Secret, Failure> {
    let whole = read(file, "secret_file", MAX_SECRET_BYTES, true).await?;
    let text = whole.expose().trim();
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad(
            "secret_file",
            file,
            "it holds more than one line, or characters that no secret has",
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

/// A private key with its certificates.
pub(super) async fn pem(file: &Path) -> Result<Secret, Failure> {
    read(file, "certificate_file", MAX_PEM_BYTES, true).await
}

/// The authority of a proxy.
pub(super) async fn authority(file: &Path) -> Result<Secret, Failure> {
    read(file, "token_proxy_ca_file", MAX_PEM_BYTES, false).await
}

/// A token of an outside issuer.
pub(super) async fn token(file: &Path) -> Result<Secret, Failure> {
    let whole = read(file, "token_file", MAX_TOKEN_BYTES, false).await?;
    let text = whole.expose().trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=');
    if text.split('.').count() != 3 || !text.bytes().all(plain) {
        return Err(bad("token_file", file, "it does not hold a token"));
    }
    Ok(Secret::new(text.to_owned()))
}

pub(super) fn bad(key: &str, file: &Path, why: &str) -> Failure {
    Failure::new(FailureClass::Config, format!("`{key}` {} cannot be used: {why}", shown(file)))
}

fn shown(file: &Path) -> String {
    let name = file.display().to_string();
    name.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

async fn read(file: &Path, key: &'static str, limit: u64, private: bool) -> Result<Secret, Failure> {
    let path: PathBuf = file.to_owned();
    let read = tokio::task::spawn_blocking(move || read_now(&path, limit, private)).await;
    let text = match read {
        Ok(Ok(text)) => text,
        Ok(Err(why)) => return Err(bad(key, file, &why)),
        Err(_) => return Err(bad(key, file, "reading it broke off")),
    };
    if text.expose().trim().is_empty() {
        // Half of a rotation, most likely.
        let sentence = format!("`{key}` {} is empty: see that it is replaced whole", shown(file));
        return Err(Failure::new(FailureClass::Transient, sentence));
    }
    Ok(text)
}

/// Symbolic links are followed: Kubernetes rotates projected files by them, and the configuration that
/// names the file belongs to root.
fn read_now(path: &Path, limit: u64, private: bool) -> Result<Secret, String> {
    // Without O_NONBLOCK opening a FIFO would wait for a writer.
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = file.map_err(|cause| cause.to_string())?;
    let facts = file.metadata().map_err(|cause| cause.to_string())?;
    if !facts.is_file() || facts.len() > limit {
        return Err(format!("it is not a plain file of at most {limit} bytes"));
    }
    if facts.mode() & 0o022 != 0 || (private && facts.mode() & 0o004 != 0) {
        return Err("others could read or change it: `chmod 0640`, group nightlatch".to_owned());
    }
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text).map_err(|_| "it is not text".to_owned())?;
    Ok(Secret::new(text))
}
