//! `nightlatch kubelogin …`: the exec plugin of kubectl with the flags and the environment variables of
//! Azure kubelogin, on the node's one cache.
//!
//! One thing differs on purpose: a flag that was given beats the environment, and when both are there
//! and differ, a line on stderr says which counts. No secret is taken from flags or environment: the
//! broker holds those, and what it refuses it says.

mod convert;
mod effective;
pub(super) mod files;
mod get_token;
pub(super) mod legacy;
mod options;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output::{YES, say};

/// Where Azure kubelogin keeps its record of the sign-in, below the home.
const THEIR_CACHE: &str = ".kube/cache/kubelogin";

/// What `nightlatch kubelogin` takes.
#[derive(Debug, Subcommand)]
pub(super) enum KubeloginCommand {
    /// Print an ExecCredential for kubectl.
    GetToken(Box<options::Options>),
    /// Rewrite the users of a kubeconfig that sign in with Azure, so that they ask Nightlatch.
    ConvertKubeconfig(Box<convert::ConvertOptions>),
    /// Taken for compatibility: the cache is the broker's, there is no folder to remove.
    RemoveCacheDir {
        /// Taken for compatibility; the folder is left alone.
        #[arg(long, alias = "token-cache-dir")]
        cache_dir: Option<PathBuf>,
    },
}

/// Runs it.
pub(super) fn run(command: &KubeloginCommand) -> u8 {
    match command {
        KubeloginCommand::GetToken(options) => get_token::run(options),
        KubeloginCommand::ConvertKubeconfig(options) => convert::run(options),
        KubeloginCommand::RemoveCacheDir { cache_dir } => {
            let home = std::env::home_dir().map(|home| home.join(THEIR_CACHE));
            say(&nothing_to_remove(cache_dir.clone().or(home).filter(|folder| folder.is_dir()).as_deref()));
            YES
        }
    }
}

/// What there is instead of removing.
fn nothing_to_remove(theirs: Option<&Path>) -> String {
    let ours = "nothing to remove: the tokens are in the broker's memory; `nightlatch logout` makes it forget \
                your sign-in";
    theirs.map_or_else(
        || ours.to_owned(),
        |folder| format!("{ours}. {} is Azure kubelogin's and was left alone", folder.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_the_cache_names_what_is_there_instead() {
        assert!(nothing_to_remove(None).contains("`nightlatch logout`"));
        assert!(!nothing_to_remove(None).contains("left alone"));
        assert!(nothing_to_remove(Some(Path::new("/c"))).contains("/c is Azure kubelogin's"));
    }
}
