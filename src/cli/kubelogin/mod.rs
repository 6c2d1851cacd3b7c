//! `nightlatch kubelogin …`: the exec plugin of kubectl with the flags and the environment variables of
//! Azure kubelogin, on the node's one cache.
//!
//! One thing differs on purpose: a flag that was given beats the environment, and when both are there
//! and differ, a line on stderr says which counts. No secret is taken from flags or environment: the
//! broker holds those, and what it refuses it says.

mod convert;
mod get_token;
mod legacy;
mod options;

use clap::Subcommand;

/// What `nightlatch kubelogin` takes.
#[derive(Debug, Subcommand)]
pub(super) enum KubeloginCommand {
    /// Print an ExecCredential for kubectl.
    GetToken(Box<options::Options>),
    /// Rewrite the users of a kubeconfig that sign in with Azure, so that they ask Nightlatch.
    ConvertKubeconfig(Box<convert::ConvertOptions>),
}

/// Runs it.
pub(super) fn run(command: &KubeloginCommand) -> u8 {
    match command {
        KubeloginCommand::GetToken(options) => get_token::run(options),
        KubeloginCommand::ConvertKubeconfig(options) => convert::run(options),
    }
}
