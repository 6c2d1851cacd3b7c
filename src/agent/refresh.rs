//! Keeps what the node knows by itself fresh: pinned keys, revocations, the table of people, the
//! local accounts. A file that turns bad keeps its last good content, and says so once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_sshcert::PublicKey;
use tracing::{info, warn};

use super::gate::{Gate, LocalFacts};
use super::settings::Settings;
use crate::clock::Clock;
use crate::config::CaSource;
use crate::login::{
    IdentityMap, KeptKey, KeySource, LocalNames, MAX_MAP_BYTES, MAX_TRUST_FILE_BYTES, Revocations,
    TrustStore, parse_ca_file,
};
use crate::store::{read_capped, replace_file};

/// How often the local files are looked at.
pub(super) const FILE_INTERVAL: Duration = Duration::from_secs(2);
/// The largest /etc/passwd that is read, in bytes.
const MAX_PASSWD_BYTES: u64 = 16 * 1024 * 1024;

/// The local files, with what was last seen of them.
pub(super) struct LocalFiles {
    paths: [PathBuf; 4],
    seen: [Option<Stamp>; 4],
    pinned: bool,
}

/// What tells one content of a file from another without reading it.
pub(super) type Stamp = (u64, u64, i64, i64, u64);

/// The stamp of a file; `None` when there is none.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

impl LocalFiles {
    /// The files that these settings name.
    #[must_use]
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            paths: [
                settings.ca_file.clone(),
                settings.revoked_file.clone(),
                settings.map_file.clone(),
                PathBuf::from("/etc/passwd"),
            ],
            seen: [None; 4],
            pinned: settings.ca_sources.contains(&CaSource::File),
        }
    }

    /// Reads what changed since the last time. All the reading and parsing is done here, so that whoever
    /// holds the facts only has to [`Change::apply`] it.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let limits = [MAX_TRUST_FILE_BYTES, MAX_TRUST_FILE_BYTES, MAX_MAP_BYTES, MAX_PASSWD_BYTES];
        let mut changes = Vec::new();
        for (at, (path, limit)) in self.paths.iter().zip(limits).enumerate() {
            let fresh = stamp(path);
            let Some(seen) = self.seen.get_mut(at) else { continue };
            if *seen == fresh && fresh.is_some() {
                continue;
            }
            let first = seen.is_none();
            *seen = fresh;
            if fresh.is_none() && first && at != 3 {
                continue;
            }
            let text = match read_capped(path, limit) {
                // A stray byte in one line must not take the others out of force.
                Ok(bytes) => String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
                Err(cause) => {
                    warn!("{cause}; what was read before stays: {:?}", std::error::Error::source(&cause));
                    continue;
                }
            };
            let shown = path.display();
            let bad =
                |line: usize| warn!("`{shown}` line {line} is not understood; what was read before stays");
            let change = match at {
                0 if !self.pinned => None,
                0 => parse_ca_file(&text).map(Change::Pinned).map_err(bad).ok(),
                1 => Some(Revocations::parse(&text).map_or_else(
                    |line| {
                        warn!(
                            "`{shown}` line {line} is not understood; the other lines are in force, and so is \
                             what was read before"
                        );
                        Change::AlsoRevoked(Revocations::readable(&text))
                    },
                    Change::Revoked,
                )),
                2 => IdentityMap::parse(&text)
                    .map(Change::People)
                    .map_err(|cause| warn!("`{shown}`: {cause}; what was read before stays"))
                    .ok(),
                _ => Some(Change::Local(LocalNames::from_passwd(&text))),
            };
            if let Some(Change::Pinned(keys)) = &change {
                info!("{} pinned CA keys from `{shown}`", keys.len());
            }
            changes.extend(change);
        }
        changes
    }
}

/// The new content of one local file.
pub(super) enum Change {
    Pinned(Vec<PublicKey>),
    Revoked(Revocations),
    /// Of a file that is partly bad: nothing that was taken back before is believed again.
    AlsoRevoked(Revocations),
    People(IdentityMap),
    Local(LocalNames),
}

impl Change {
    /// Puts it in force.
    pub(super) fn apply(self, facts: &mut LocalFacts, now: Timestamp) {
        match self {
            Self::Pinned(keys) => {
                facts.trust.merge(KeySource::File, keys, now);
            }
            Self::Revoked(revoked) => facts.revoked = revoked,
            Self::AlsoRevoked(more) => facts.revoked.also(more),
            Self::People(map) => facts.map = map,
            Self::Local(local) => facts.local = local,
        }
    }
}

/// Looks at the local files for as long as the daemon runs.
pub(super) async fn watch_files(mut files: LocalFiles, gate: Arc<Gate>) {
    loop {
        tokio::time::sleep(FILE_INTERVAL).await;
        // The hook reads the facts: no file is read while they are held.
        let changes = files.changes();
        if !changes.is_empty() {
            let now = gate.clock().now();
            let taken_back =
                changes.iter().any(|change| matches!(change, Change::Revoked(_) | Change::AlsoRevoked(_)));
            gate.with_facts(|facts| changes.into_iter().for_each(|change| change.apply(facts, now)));
            if taken_back {
                gate.wake.everybody();
            }
        }
    }
}

/// Merges a list that a metadata service gave, and keeps it over a restart.
pub(super) fn merge_keys(gate: &Gate, source: KeySource, listed: Vec<PublicKey>, kept: &Path) {
    if listed.is_empty() {
        return;
    }
    let now = gate.clock().now();
    let (changed, keys) =
        gate.with_facts(|facts| (facts.trust.merge(source, listed, now), facts.trust.kept()));
    if changed {
        info!("the keys of {source:?} changed; {} CA keys are believed", keys.len());
    }
    let Ok(bytes) = serde_json::to_vec(&keys) else { return };
    if let Err(cause) = replace_file(kept, &bytes, 0o600, changed) {
        warn!("the CA keys will not survive a restart: {cause}: {:?}", std::error::Error::source(&cause));
    }
}

/// The store as the last run left it.
#[must_use]
pub(super) fn restore_keys(kept: &Path, grace: i64, clock: &Clock) -> TrustStore {
    let mut trust = TrustStore::new(grace);
    match read_capped(kept, MAX_TRUST_FILE_BYTES) {
        Ok(Some(bytes)) => match serde_json::from_slice::<Vec<KeptKey>>(&bytes) {
            Ok(keys) => trust.restore(keys, clock.now()),
            Err(cause) => warn!("`{}` is damaged and ignored: {cause}", kept.display()),
        },
        Ok(None) => {}
        Err(cause) => warn!("{cause}: {:?}", std::error::Error::source(&cause)),
    }
    trust
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_model::LoginName;

    #[test]
    fn one_bad_line_takes_no_revocation_out_of_force() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["ca.pub", "revoked", "identities.toml", "passwd"].map(|name| folder.path().join(name));
        std::fs::write(&paths[1], "serial 7\nsrial 8\nkey-id lost\n").unwrap();
        let mut files = LocalFiles { paths: paths.clone(), seen: [None; 4], pinned: false };
        let mut facts = LocalFacts::default();
        files.changes().into_iter().for_each(|change| change.apply(&mut facts, Timestamp(0)));
        assert_eq!(facts.revoked, Revocations::parse("serial 7\nkey-id lost").unwrap());
        // A file that turns worse forgets nothing; one that is whole again counts alone.
        std::fs::write(&paths[1], "srial 7\nserial 9\n").unwrap();
        files.changes().into_iter().for_each(|change| change.apply(&mut facts, Timestamp(0)));
        assert_eq!(facts.revoked, Revocations::parse("serial 7\nkey-id lost\nserial 9").unwrap());
        std::fs::write(&paths[1], "serial 10\n").unwrap();
        files.changes().into_iter().for_each(|change| change.apply(&mut facts, Timestamp(0)));
        assert_eq!(facts.revoked, Revocations::parse("serial 10").unwrap());
    }

    #[test]
    fn a_stray_byte_takes_nothing_out_of_force() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["ca.pub", "revoked", "identities.toml", "passwd"].map(|name| folder.path().join(name));
        std::fs::write(&paths[1], b"# left in the K\xfcche\nserial 7\n").unwrap();
        std::fs::write(&paths[3], b"azureuser:x:1000:1000:J\xfcrgen:/:/bin/sh\n").unwrap();
        let changes = LocalFiles { paths, seen: [None; 4], pinned: false }.changes();
        let [Change::Revoked(revoked), Change::Local(local)] = changes.as_slice() else { panic!() };
        assert_eq!(Ok(revoked.clone()), Revocations::parse("serial 7"));
        assert!(local.shadows(&LoginName::parse("azureuser@contoso.com").unwrap()));
    }
}
