//! `nightlatch cert` and `nightlatch ssh`: a person's own way onto a node that knows no SSH authority of Entra's.
//!
//! The person signs in in a browser to the organisation's application; the ID token that comes back commits to a key that
//! was made for it here, and both stand in a certificate that the key signs. No refresh token is kept, and no token but
//! the ID token in the certificate leaves this program.

mod key;
mod sign_in;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use nightlatch_model::{Guid, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::output::{Format, NO, USAGE, YES, complain, say};
use crate::clock::Clock;
use crate::config;
use crate::store::{read_capped, replace_file};

/// How long a certificate is used again without a new sign-in, in seconds: what a node takes unless configured
/// otherwise (`openpubkey.expiration`), less some minutes.
const REUSE_S: i64 = 4 * 3_600 - 600;
/// The largest note about a sign-in, in bytes.
const MAX_NOTE_BYTES: u64 = 4_096;
const KEY: &str = "id_ed25519";
const CERTIFICATE: &str = "id_ed25519-cert.pub";
const NOTE: &str = "sign-in.json";

/// To what to sign in, and where the files are.
#[derive(Debug, Clone, Args)]
pub(super) struct CertArguments {
    /// The tenant. Default: this machine's configuration.
    #[arg(long, env = "AZURE_TENANT_ID")]
    tenant: Option<TenantId>,
    /// The organisation's application for node logins, by client id. Default: the first of `openpubkey.client_ids`.
    #[arg(long, env = "NIGHTLATCH_CLIENT_ID")]
    client_id: Option<Guid>,
    /// The cloud, as `az cloud list` spells it.
    #[arg(long, default_value = "AzureCloud")]
    cloud: String,
    /// The name to propose on the sign-in page.
    #[arg(long)]
    login_hint: Option<String>,
    /// The folder for key and certificate. Default: ~/.ssh/nightlatch.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Sign in again although the last certificate is still good.
    #[arg(long)]
    renew: bool,
}

/// Where to go.
#[derive(Debug, Clone, Args)]
pub(super) struct SshArguments {
    #[command(flatten)]
    cert: CertArguments,
    /// The port of sshd.
    #[arg(short, long)]
    port: Option<u16>,
    /// An option of ssh, as after its `-o`; may be repeated.
    #[arg(short = 'O', long = "ssh-option")]
    options: Vec<String>,
    /// `[user@]node`; without a user the name that signed in.
    destination: String,
    /// A command to run there instead of a shell.
    #[arg(last = true)]
    command: Vec<String>,
}

/// A sign-in whose certificate lies beside this note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    tenant: String,
    client: String,
    name: String,
    signed_in: i64,
}

/// What a sign-in is made from.
struct Asked {
    tenant: TenantId,
    client: Guid,
    login: String,
    folder: PathBuf,
}

/// Writes a certificate, or says that the last one is still good.
pub(super) fn cert(arguments: &CertArguments, format: Format) -> u8 {
    match ready(arguments) {
        Ok((asked, note)) => {
            let (key, certificate) = (asked.folder.join(KEY), asked.folder.join(CERTIFICATE));
            if format == Format::Json {
                say(&json!({"name": note.name, "key": key, "certificate": certificate}).to_string());
            } else {
                say(&format!("{}: {}", note.name, certificate.display()));
            }
            YES
        }
        Err(status) => status,
    }
}

/// Becomes ssh, with a certificate.
pub(super) fn ssh(arguments: &SshArguments) -> u8 {
    let (asked, note) = match ready(&arguments.cert) {
        Ok(ready) => ready,
        Err(status) => return status,
    };
    let destination = match arguments.destination.rsplit_once('@') {
        Some(_) => arguments.destination.clone(),
        None => format!("{}@{}", note.name, arguments.destination),
    };
    let mut ssh = Command::new("ssh");
    ssh.arg("-o").arg("IdentitiesOnly=yes").arg("-i").arg(asked.folder.join(KEY));
    ssh.arg("-o").arg(format!("CertificateFile={}", asked.folder.join(CERTIFICATE).display()));
    for option in &arguments.options {
        ssh.arg("-o").arg(option);
    }
    if let Some(port) = arguments.port {
        ssh.arg("-p").arg(port.to_string());
    }
    // A destination that begins with a dash is no option of ssh.
    ssh.arg("--").arg(destination).args(&arguments.command);
    let why = ssh.exec();
    complain(&format!("ssh cannot be run: {why}; install the OpenSSH client"));
    NO
}

/// A certificate that is good for a while, with what is known of it; else the exit status, and the person knows why.
fn ready(arguments: &CertArguments) -> Result<(Asked, Note), u8> {
    let said = |status: u8| {
        move |why: String| {
            complain(&why);
            status
        }
    };
    let asked = asked(arguments).map_err(said(USAGE))?;
    let now = Clock::System.now();
    if let Some(note) = kept(&asked, now).filter(|_| !arguments.renew) {
        return Ok((asked, note));
    }
    let note = sign_in::sign_in(&asked, arguments.login_hint.clone(), now).map_err(said(NO))?;
    Ok((asked, note))
}

fn asked(arguments: &CertArguments) -> Result<Asked, String> {
    let here = config::load_installed().ok().map(|loaded| loaded.config);
    let tenant = arguments.tenant.or_else(|| here.as_ref()?.tenant);
    let tenant = tenant.ok_or("which tenant? give --tenant, or set AZURE_TENANT_ID")?;
    let configured = || here.as_ref()?.openpubkey.client_ids.as_ref()?.first()?.parse().ok();
    let client = arguments.client_id.or_else(configured);
    let client = client.ok_or("which application? give --client-id, or set NIGHTLATCH_CLIENT_ID")?;
    let login = sign_in::host_of(&arguments.cloud)?;
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => std::env::home_dir().ok_or("no home folder: give --folder")?.join(".ssh/nightlatch"),
    };
    Ok(Asked { tenant, client, login, folder })
}

/// The last sign-in, if it was to the same and is not too long ago.
fn kept(asked: &Asked, now: Timestamp) -> Option<Note> {
    let bytes = read_capped(&asked.folder.join(NOTE), MAX_NOTE_BYTES).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok()?;
    let same = note.tenant == asked.tenant.to_string() && note.client == asked.client.to_string();
    let age = now.0.saturating_sub(note.signed_in);
    let whole = [KEY, CERTIFICATE].iter().all(|name| asked.folder.join(name).is_file());
    (same && whole && (0..REUSE_S).contains(&age)).then_some(note)
}

/// Writes the three files: the note last, so that what it speaks of is there.
fn keep(folder: &Path, key: &str, certificate: &str, note: &Note) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|why| format!("{}: {why}", folder.display()))?;
    let note = serde_json::to_vec(note).map_err(|why| why.to_string())?;
    let old = folder.join(NOTE);
    if old.exists() {
        std::fs::remove_file(&old).map_err(|why| format!("{}: {why}", old.display()))?;
    }
    for (name, bytes) in [(KEY, key.as_bytes()), (CERTIFICATE, certificate.as_bytes()), (NOTE, &note)] {
        replace_file(&folder.join(name), bytes, 0o600, false).map_err(|why| why.to_string())?;
    }
    Ok(())
}
