//! The policy of the broker: the files of one folder, compiled as a whole and exchanged as a whole.
//!
//! A folder that turns bad changes nothing: what was in force stays, and it is said once in the journal
//! and for as long as it lasts in `status`. At the start that is a policy without rules, which gives
//! nobody anything but a person's own sign-in. Files that somebody else than root can write are refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightlatch_tokens::IdentityTable;
use nightlatch_tokens::policy::{MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, NameLookup, Policy};
use nix::unistd::{Group, User};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::super::refresh::FILE_INTERVAL;
use super::Health;
use crate::broker::Broker;
use crate::store::read_capped;

/// What a file was when it was looked at.
type Stamp = (PathBuf, u64, u64, i64, i64, u64, u32, u32);

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
        let mut seen: Option<Result<Vec<Stamp>, String>> = None;
        let mut tick = tokio::time::interval(FILE_INTERVAL);
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                Some(()) = async { match &mut hangup { Some(signal) => signal.recv().await, None => None } } => {
                    seen = None;
                }
            }
            let stamps = stamps(&self.folder);
            if seen.as_ref() == Some(&stamps) {
                continue;
            }
            // Names are looked up and files are read: not on a thread that answers callers.
            let (folder, identities) = (self.folder.clone(), self.identities.clone());
            let compiled = tokio::task::spawn_blocking(move || compile(&folder, &identities)).await;
            seen = Some(stamps);
            match compiled.unwrap_or_else(|_| Err("the policy could not be compiled".to_owned())) {
                Ok(policy) => {
                    for warning in policy.warnings() {
                        warn!("policy: {warning}");
                    }
                    let detail = format!("{} rules from {}", policy.len(), self.folder.display());
                    info!("the broker's policy is in force: {detail}");
                    health.set("policy", "ok", detail);
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

/// The policy files in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(cause) => return Err(format!("{}: {cause}", folder.display())),
    };
    // An entry that cannot be read may be the rule that denies: better the policy before.
    let unreadable = |cause: std::io::Error| format!("{}: {cause}", folder.display());
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|end| end == "toml") {
            files.push(path);
        }
        if files.len() > MAX_POLICY_FILES {
            return Err(format!("{}: more than {MAX_POLICY_FILES} policy files", folder.display()));
        }
    }
    files.sort();
    Ok(files)
}

fn stamps(folder: &Path) -> Result<Vec<Stamp>, String> {
    use std::os::unix::fs::MetadataExt;
    let paths = files(folder)?.into_iter().chain([folder.to_owned()]);
    Ok(paths
        .filter_map(|path| {
            let meta = std::fs::metadata(&path).ok()?;
            let (mode, uid) = (meta.mode(), meta.uid());
            Some((path, meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len(), mode, uid))
        })
        .collect())
}

fn compile(folder: &Path, identities: &IdentityTable) -> Result<Policy, String> {
    use std::os::unix::fs::MetadataExt;
    let mut texts = Vec::new();
    for path in files(folder)? {
        let shown = path.display();
        for place in [path.as_path(), folder] {
            let meta = std::fs::metadata(place).map_err(|cause| format!("{}: {cause}", place.display()))?;
            if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
                let place = place.display();
                return Err(format!(
                    "{place} can be changed by others: `chown root {place}; chmod go-w {place}`"
                ));
            }
        }
        let bytes = read_capped(&path, MAX_POLICY_FILE_BYTES as u64).map_err(|cause| cause.to_string())?;
        let text = String::from_utf8(bytes.unwrap_or_default()).map_err(|_| format!("{shown}: not UTF-8"))?;
        let name =
            path.file_name().map_or_else(|| shown.to_string(), |name| name.to_string_lossy().into_owned());
        texts.push((name, text));
    }
    Policy::compile(&texts, &Accounts, identities).map_err(|cause| cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_write_is_refused_and_a_missing_folder_is_no_rule() {
        let folder = tempfile::tempdir().unwrap();
        let identities = IdentityTable::new(vec![]);
        assert_eq!(compile(&folder.path().join("none"), &identities).unwrap().len(), 0);
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "[[rule]]\nname = \"x\"\neffect = \"deny\"\nwho = { anyone = true }\n")
            .unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = compile(folder.path(), &identities).unwrap_err();
        assert!(refused.contains("chmod go-w"), "{refused}");
        let before = stamps(folder.path()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_ne!(before, stamps(folder.path()).unwrap());
    }
}
