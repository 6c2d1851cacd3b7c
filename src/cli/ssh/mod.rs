//! `nightlatch cert` and `nightlatch ssh`: a person's own way onto a node, without `az`.
//!
//! Of kind `openpubkey` the person signs in in a browser to the organisation's application; the ID token that comes back
//! commits to a key that was made for it here, and both stand in a certificate that the key signs. Of kind `entra` the
//! certificate is one of Entra's own SSH authority. What renews a certificate is held by the kernel and never in a file, and
//! goes to nobody but Entra; of all tokens only the ID tokens in a certificate of the first kind are shown to a node.

mod asked;
mod at_entra;
mod block;
mod challenge;
#[cfg(test)]
mod emulated_tests;
mod files;
mod forget;
mod held;
mod key;
mod person;
#[cfg(test)]
mod person_tests;
mod pipeline;
mod private_file;
mod ready;
mod renewal;
#[cfg(test)]
mod renewal_tests;
mod rsa;
mod sign_in;
#[cfg(test)]
mod tests;
mod turn;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};
use nightlatch_model::{AuthContext, Guid, TenantId};
use serde_json::json;

use self::asked::asked;
use self::block::block;
use self::held::Held;
use self::ready::ready;
use super::output::{Format, NO, USAGE, YES, complain, say};

/// Who signs a person's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Its own key, with the sign-in in it: for nodes that take OpenPubkey certificates.
    Openpubkey,
    /// Entra's own SSH authority, as for `az ssh cert`.
    Entra,
}

/// To what to sign in, and where the files are.
#[derive(Debug, Clone, Args)]
pub(super) struct CertArguments {
    /// The tenant. Default: this machine's configuration.
    #[arg(long, env = "AZURE_TENANT_ID")]
    tenant: Option<TenantId>,
    /// Who signs the certificate: the key itself, for nodes that take OpenPubkey certificates (the default), or Entra's own
    /// SSH authority.
    #[arg(long)]
    kind: Option<Kind>,
    /// The application to sign in to, by client id. Default: the organisation's own in NIGHTLATCH_CLIENT_ID, else the first of
    /// `openpubkey.client_ids`; with `--kind entra` the public one of Azure CLI.
    #[arg(long)]
    client_id: Option<Guid>,
    /// The cloud, as `az cloud list` spells it.
    #[arg(long, default_value = "AzureCloud")]
    cloud: String,
    /// The name to propose on the sign-in page. The certificate of somebody with another name is not used.
    #[arg(long)]
    login_hint: Option<String>,
    /// An authentication context of Conditional Access, `c1` to `c99`, that the sign-in must satisfy. A certificate whose
    /// sign-in did not is not used again.
    #[arg(long, value_name = "ID")]
    acrs: Option<AuthContext>,
    /// Sign in again, and give credentials anew although the browser is signed in.
    #[arg(long)]
    fresh: bool,
    /// Show a code to type on another device, instead of opening the browser here; with `--kind entra` alone. Many tenants
    /// block it.
    #[arg(long, conflicts_with_all = ["login_hint", "fresh"])]
    device_code: bool,
    /// The folder for key and certificate. Default: ~/.ssh/nightlatch.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// For pipelines: no browser; the application proves itself with the federated token in this file, and Entra's own SSH
    /// authority signs the certificate.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["login_hint", "acrs", "fresh", "device_code"])]
    federated_token_file: Option<PathBuf>,
    /// Sign in again although the last certificate is still good, or could be renewed without a page.
    #[arg(long)]
    renew: bool,
    /// How long nodes take a sign-in, as in their `openpubkey.expiration`: a length of time, `oidc` or `oidc-refreshed`. With
    /// the last a certificate is renewed without a page, for a week at most. Default: this machine's configuration, else `4h`.
    #[arg(long, value_name = "TIME")]
    expiration: Option<String>,
    /// Hold nothing of the sign-in: the next certificate needs the page again.
    #[arg(long)]
    once: bool,
}

/// What to do with a certificate and its sign-in.
#[derive(Debug, Clone, Args)]
pub(super) struct CertCommand {
    #[command(flatten)]
    cert: CertArguments,
    /// End the sign-in on this computer: key and certificate are removed, and what renews them.
    #[arg(long, conflicts_with_all = ["renew", "once", "fresh", "acrs", "device_code", "federated_token_file"])]
    forget: bool,
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

/// Writes a certificate, or says that the last one is still good.
pub(super) fn cert(arguments: &CertCommand, format: Format) -> u8 {
    if arguments.forget {
        return forget(&arguments.cert, format);
    }
    match ready(&arguments.cert) {
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

fn forget(arguments: &CertArguments, format: Format) -> u8 {
    let held = Held::by_the_kernel().map_err(|why| why.to_string());
    let folder = asked::folder(arguments);
    let (done, folder) = match folder.and_then(|folder| Ok((forget::forget(&folder, held)?, folder))) {
        Ok(done) => done,
        Err(why) => {
            complain(&why);
            return NO;
        }
    };
    if done.elsewhere {
        complain(
            "what renews the certificate was not held here: it has ended, or it is held where you signed in, in a container or on \
             another computer with the same home folder; run this there as well",
        );
    }
    let folder = folder.display();
    match (&done.names[..], done.stray) {
        _ if format == Format::Json => say(&json!({"forgotten": done.names}).to_string()),
        ([], false) => say(&format!("nobody is signed in in {folder}")),
        ([], true) => say(&format!("forgot what would have renewed a certificate in {folder}")),
        (names, _) => say(&format!("forgot the sign-in of {} in {folder}", names.join(", "))),
    }
    YES
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
