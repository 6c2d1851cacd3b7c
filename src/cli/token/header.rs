//! `nightlatch token header`: what a program without a socket file shows on loopback, for root to put into
//! the environment of a unit.

use std::path::Path;

use clap::Args;

use crate::broker::identity_header::{KEY_FOLDER, identity_header, kept_boot_key};
use crate::cli::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say};
use crate::config::load_installed;

/// The path of the App Service dialect.
const PATH: &str = "/msi/token";

/// For whom.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct For {
    /// A systemd unit, such as `backup.service`.
    #[arg(long)]
    unit: Option<String>,
    /// A uid.
    #[arg(long)]
    uid: Option<u32>,
}

/// Prints the header; with `-o env` the variables that Azure SDKs read.
pub(super) fn run(whom: &For, format: Option<Format>) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        complain("only root may make identity headers: run it with sudo");
        return USAGE;
    }
    let name = match (&whom.unit, whom.uid) {
        (Some(unit), _) if unit.contains('.') && !unit.contains(['/', ' ', ':']) => unit.clone(),
        (Some(unit), _) => {
            complain(&format!("`{unit}` is no unit; write it with its end, such as `backup.service`"));
            return USAGE;
        }
        (None, uid) => format!("uid:{}", uid.unwrap_or_default()),
    };
    let loopback = match load_installed() {
        Ok(loaded) => loaded.config.broker.loopback,
        Err(cause) => {
            complain(&cause.to_string());
            return UNKNOWN;
        }
    };
    let Some(address) = loopback else {
        complain(
            "the broker does not listen on loopback: set `broker.loopback`, such as \"127.0.0.1:40399\"",
        );
        return NO;
    };
    match kept_boot_key(Path::new(KEY_FOLDER)) {
        Ok(Some(key)) => {
            let header = identity_header(&key, &name);
            if format == Some(Format::Env) {
                say(&format!("IDENTITY_ENDPOINT=http://{address}{PATH}"));
                say(&format!("IDENTITY_HEADER={header}"));
            } else {
                say(&header);
            }
            YES
        }
        Ok(None) => {
            complain("nightlatchd has made no key since this boot; see `systemctl status nightlatchd`");
            UNKNOWN
        }
        Err(cause) => {
            complain(&cause.to_string());
            UNKNOWN
        }
    }
}
