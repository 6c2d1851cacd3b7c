//! The policy of the broker: the files of one folder, compiled as a whole and exchanged as a whole.
//!
//! A folder that turns bad, or vanishes, changes nothing: what was in force stays, and it is said once in the journal
//! and for as long as it lasts in `status`. At the start that is a policy without rules, which gives
//! nobody anything but a person's own sign-in. Files that somebody else than root can write are refused, and what is
//! being written is read when it has been still from one look to the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightlatch_tokens::IdentityTable;
use nightlatch_tokens::policy::{NameLookup, Policy};
use nix::unistd::{Group, User};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::super::local_files::FILE_INTERVAL;
use super::Health;
use crate::access::toml_files;
use crate::broker::Broker;
use crate::store::FileStamp;

/// The folder.
pub(super) struct PolicyFiles {
    folder: PathBuf,
    identities: IdentityTable,
}

/// The node's own users and groups.
pub(super) struct Accounts;

impl NameLookup for Accounts {
    fn uid(&self, user: &str) -> Option<u32> {
        User::from_name(user).ok().flatten().map(|user| user.uid.as_raw())
    }

    fn gid(&self, group: &str) -> Option<u32> {
        Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw())
    }
}

impl PolicyFiles {
    pub(super) const fn new(folder: PathBuf, identities: IdentityTable) -> Self {
        Self { folder, identities }
    }

    /// Looks at the folder every few seconds and on SIGHUP, for ever.
    pub(super) async fn keep_fresh(self, broker: Arc<Broker>, health: Health) {
        let mut seen: Option<Result<Vec<FileStamp>, String>> = None;
        let mut tick = tokio::time::interval(FILE_INTERVAL);
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut last_look = None;
        let mut had_rules = false;
        loop {
            let mut asked = false;
            tokio::select! {
                _ = tick.tick() => {}
                Some(()) = async { match &mut hangup { Some(signal) => signal.recv().await, None => None } } => {
                    asked = true;
                }
            }
            let stamps = Some(toml_files(&self.folder).stamps());
            let still = std::mem::replace(&mut last_look, stamps.clone()) == stamps || seen.is_none();
            if !asked && (!still || seen == stamps) {
                continue;
            }
            // Names are looked up and files are read: not on a thread that answers callers.
            let (folder, identities) = (self.folder.clone(), self.identities.clone());
            let compiled =
                tokio::task::spawn_blocking(move || compile(&folder, &identities, had_rules)).await;
            if Some(toml_files(&self.folder).stamps()) != stamps {
                // It changed while it was read; the next look sees it.
                continue;
            }
            seen = stamps;
            match compiled.unwrap_or_else(|_| Err("the policy could not be compiled".to_owned())) {
                Ok(policy) => {
                    for warning in policy.warnings() {
                        warn!("policy: {warning}");
                    }
                    let detail = format!("{} rules from {}", policy.len(), self.folder.display());
                    info!("the broker's policy is in force: {detail}");
                    health.set("policy", "ok", detail);
                    had_rules = !policy.is_empty();
                    broker.set_policy(Arc::new(policy));
                }
                Err(why) => {
                    warn!("the broker's policy stays as it was: {why}");
                    health.set("policy", "degraded", format!("what was read before stays: {why}"));
                }
            }
        }
    }
}

fn compile(folder: &Path, identities: &IdentityTable, had_rules: bool) -> Result<Policy, String> {
    let files = toml_files(folder);
    files.not_gone(had_rules)?;
    let texts = files.trusted_texts()?;
    Policy::compile(&texts, &Accounts, identities).map_err(|cause| cause.to_string())
}
