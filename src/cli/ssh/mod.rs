//! `nightlatch cert` and `nightlatch ssh`: a person's own way onto a node that knows no SSH authority of Entra's.
//!
//! The person signs in in a browser to the organisation's application; the ID token that comes back commits to a key that
//! was made for it here, and both stand in a certificate that the key signs. No refresh token is kept, and no token but
//! the ID token in the certificate leaves this program.

mod key;
mod pipeline;
mod sign_in;
#[cfg(test)]
mod tests;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use nightlatch_model::{Guid, Secret, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::output::{Format, NO, USAGE, YES, complain, say};
use crate::clock::Clock;
use crate::config;
use crate::entra::sign_in::AuthContext;
use crate::store::{read_capped, replace_file};

/// The files of one way to a certificate.
struct Way {
    key: &'static str,
    certificate: &'static str,
    note: &'static str,
    /// How long a certificate is used again without a new sign-in, in seconds.
    reuse_s: i64,
}

/// By a browser: what a node takes unless configured otherwise (`openpubkey.expiration`), less some minutes.
const BROWSER: Way = Way {
    key: "id_ed25519",
    certificate: "id_ed25519-cert.pub",
    note: "sign-in.json",
    reuse_s: 4 * 3_600 - 600,
};
/// By a federated token: Entra's certificates live an hour.
const PIPELINE: Way =
    Way { key: "id_rsa", certificate: "id_rsa-cert.pub", note: "pipeline.json", reuse_s: 3_600 - 600 };
/// The largest note about a sign-in, in bytes.
const MAX_NOTE_BYTES: u64 = 4_096;

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
    /// An authentication context of Conditional Access, `c1` to `c99`, that the sign-in must satisfy. A certificate whose
    /// sign-in did not is not used again.
    #[arg(long, value_name = "ID")]
    acrs: Option<AuthContext>,
    /// Sign in again, and give credentials anew although the browser is signed in.
    #[arg(long)]
    fresh: bool,
    /// The folder for key and certificate. Default: ~/.ssh/nightlatch.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// For pipelines: no browser; the application proves itself with the federated token in this file, and Entra's own SSH
    /// authority signs the certificate.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["login_hint", "acrs", "fresh"])]
    federated_token_file: Option<PathBuf>,
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

/// For which hosts to print a block of ssh's configuration.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigArguments {
    #[command(flatten)]
    cert: CertArguments,
    /// The hosts, as after `Host` in ssh_config(5); may be repeated.
    #[arg(long, required = true)]
    host: Vec<String>,
}

/// What ssh is given.
struct Files {
    key: PathBuf,
    certificate: PathBuf,
    name: String,
}

/// A sign-in whose certificate lies beside this note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    tenant: String,
    client: String,
    name: String,
    signed_in: i64,
    /// The contexts that it satisfied.
    #[serde(default)]
    acrs: Vec<String>,
}

/// What a sign-in is made from.
struct Asked {
    tenant: TenantId,
    client: Guid,
    login: String,
    folder: PathBuf,
    token_file: Option<PathBuf>,
    context: Option<AuthContext>,
    fresh: bool,
}

impl Asked {
    const fn way(&self) -> &'static Way {
        if self.token_file.is_some() { &PIPELINE } else { &BROWSER }
    }

    fn files(&self, name: String) -> Files {
        let file = |file: &str| self.folder.join(file);
        Files { key: file(self.way().key), certificate: file(self.way().certificate), name }
    }
}

/// Writes a certificate, or says that the last one is still good.
pub(super) fn cert(arguments: &CertArguments, format: Format) -> u8 {
    match ready(arguments) {
        Ok(files) => {
            if format == Format::Json {
                let document =
                    json!({"name": files.name, "key": files.key, "certificate": files.certificate});
                say(&document.to_string());
            } else {
                say(&format!("{}: {}", files.name, files.certificate.display()));
            }
            YES
        }
        Err(status) => status,
    }
}

/// Becomes ssh, with a certificate.
pub(super) fn ssh(arguments: &SshArguments) -> u8 {
    let files = match ready(&arguments.cert) {
        Ok(files) => files,
        Err(status) => return status,
    };
    let destination = match arguments.destination.rsplit_once('@') {
        Some(_) => arguments.destination.clone(),
        None => format!("{}@{}", files.name, arguments.destination),
    };
    let mut ssh = Command::new("ssh");
    ssh.arg("-o").arg("IdentitiesOnly=yes").arg("-i").arg(&files.key);
    ssh.arg("-o").arg(format!("CertificateFile={}", files.certificate.display()));
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

/// Prints a block of ssh's configuration, after which plain `ssh`, `scp`, `sftp`, VS Code and Ansible reach these hosts: the
/// certificate is made anew when it is too old, before ssh connects.
pub(super) fn ssh_config(arguments: &ConfigArguments) -> u8 {
    let program = std::env::current_exe();
    let program = program.map_or_else(|_| "nightlatch".to_owned(), |path| path.display().to_string());
    match asked(&arguments.cert).and_then(|asked| block(arguments, &asked, &program)) {
        Ok(block) => {
            say(&block);
            YES
        }
        Err(why) => {
            complain(&why);
            USAGE
        }
    }
}

fn block(arguments: &ConfigArguments, asked: &Asked, program: &str) -> Result<String, String> {
    if asked.fresh {
        return Err(
            "with `--fresh` every connection would open a browser: give it to `nightlatch cert`".into()
        );
    }
    let hosts = arguments.host.join(",");
    let folder = asked.folder.display().to_string();
    let token = asked.token_file.as_ref().map(|file| file.display().to_string());
    // The block is read by ssh and then by a shell: what either would read otherwise is not written.
    let plain = |text: &str, more: &[u8]| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@:".contains(&b) || more.contains(&b))
    };
    let paths = [folder.as_str(), program].into_iter().chain(token.as_deref());
    if !paths.into_iter().all(|text| plain(text, b"")) || !plain(&hosts, b"*?!,") {
        let why = "a host pattern or a path here has a character that ssh or the shell would read otherwise";
        return Err(why.into());
    }
    let mut more = token.map_or_else(String::new, |file| format!(" --federated-token-file {file}"));
    if let Some(context) = asked.context {
        more = format!("{more} --acrs {context}");
    }
    let way = asked.way();
    let (key, certificate) = (way.key, way.certificate);
    let (tenant, client, cloud) = (asked.tenant, asked.client, &arguments.cert.cloud);
    let ready = format!(
        "{program} cert --tenant {tenant} --client-id {client} --cloud {cloud} --folder {folder}{more} >/dev/null"
    );
    Ok(format!(
        "Match host {hosts} exec \"{ready}\"\n    IdentityFile {folder}/{key}\n    \
         CertificateFile {folder}/{certificate}\n    IdentitiesOnly yes"
    ))
}

/// A certificate that is good for a while, with what is known of it; else the exit status, and the person knows why.
fn ready(arguments: &CertArguments) -> Result<Files, u8> {
    let said = |status: u8| {
        move |why: String| {
            complain(&why);
            status
        }
    };
    let asked = asked(arguments).map_err(said(USAGE))?;
    let now = Clock::System.now();
    if let Some(note) = kept(&asked, now).filter(|_| !arguments.renew) {
        return Ok(asked.files(note.name));
    }
    let name = match &asked.token_file {
        Some(token) => pipeline::sign_in(&asked, token, now),
        None => sign_in::sign_in(&asked, arguments.login_hint.clone(), now),
    };
    name.map(|name| asked.files(name)).map_err(said(NO))
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
    // ssh and the block of its configuration are run from other folders.
    let whole = |path: &Path| std::path::absolute(path).map_err(|why| format!("{}: {why}", path.display()));
    let folder = whole(&folder)?;
    let token_file = arguments.federated_token_file.as_deref().map(whole).transpose()?;
    let (context, fresh) = (arguments.acrs, arguments.fresh);
    Ok(Asked { tenant, client, login, folder, token_file, context, fresh })
}

/// The last sign-in, if it was to the same, is not too long ago and shows what is asked for.
fn kept(asked: &Asked, now: Timestamp) -> Option<Note> {
    if asked.fresh {
        return None;
    }
    let way = asked.way();
    let bytes = read_capped(&asked.folder.join(way.note), MAX_NOTE_BYTES).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok()?;
    let same = note.tenant == asked.tenant.to_string() && note.client == asked.client.to_string();
    let age = now.0.saturating_sub(note.signed_in);
    let whole = [way.key, way.certificate].iter().all(|name| asked.folder.join(name).is_file());
    let shows = asked.context.is_none_or(|context| note.acrs.contains(&context.to_string()));
    (same && whole && shows && (0..way.reuse_s).contains(&age)).then_some(note)
}

/// Writes the three files, which nobody else may read, into a folder of the person's own: the note last, so that what it
/// speaks of is there.
fn keep(
    asked: &Asked,
    key: &Secret,
    certificate: &str,
    name: &str,
    acrs: Vec<String>,
    now: Timestamp,
) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let (folder, way) = (&asked.folder, asked.way());
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|why| format!("{}: {why}", folder.display()))?;
    let old = folder.join(way.note);
    if old.exists() {
        std::fs::remove_file(&old).map_err(|why| format!("{}: {why}", old.display()))?;
    }
    let (tenant, client) = (asked.tenant.to_string(), asked.client.to_string());
    let note = Note { tenant, client, name: name.to_owned(), signed_in: now.0, acrs };
    let note = serde_json::to_vec(&note).map_err(|why| why.to_string())?;
    let files =
        [(way.key, key.expose().as_bytes()), (way.certificate, certificate.as_bytes()), (way.note, &*note)];
    for (file, bytes) in files {
        replace_file(&folder.join(file), bytes, 0o600, false).map_err(|why| why.to_string())?;
    }
    Ok(())
}
