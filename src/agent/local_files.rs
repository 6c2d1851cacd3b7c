//! The node's own files about people and keys: pinned keys, what was taken back, the table of people, the local accounts.
//!
//! A file that turns bad keeps its last good content, and says so once. What is being written is read when it has been still
//! from one look to the next; only what is taken back counts at once. What was taken back is never believed again because a
//! file cannot be read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_sshcert::PublicKey;
use tracing::{info, warn};

use super::gate::{Gate, LocalFacts, lock};
use super::settings::Settings;
use crate::config::CaSource;
use crate::login::{
    IdentityMap, KeySource, LocalNames, MAX_MAP_BYTES, MAX_TRUST_FILE_BYTES, Revocations, parse_ca_file,
};
use crate::store::{Stamp, read_capped, read_through_links, stamp};

/// How often the local files are looked at.
pub(super) const FILE_INTERVAL: Duration = Duration::from_secs(2);
/// The largest /etc/passwd that is read, in bytes.
const MAX_PASSWD_BYTES: u64 = 16 * 1024 * 1024;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pinned,
    Revoked,
    People,
    Local,
}

impl Kind {
    const fn limit(self) -> u64 {
        match self {
            Self::Pinned | Self::Revoked => MAX_TRUST_FILE_BYTES,
            Self::People => MAX_MAP_BYTES,
            Self::Local => MAX_PASSWD_BYTES,
        }
    }

    /// Whether a login must not be decided before this file was read: it only takes away.
    const fn must_be_read(self) -> bool {
        matches!(self, Self::Revoked | Self::Local)
    }
}

/// One file.
struct Watched {
    kind: Kind,
    path: PathBuf,
    /// What it was when it was read.
    read: Option<Stamp>,
    /// What it was at the last look.
    last: Option<Stamp>,
    /// Why it could not be read; said already.
    failed: Option<String>,
    /// What is wrong with what was read; said already.
    doubt: Option<String>,
}

/// Why a local file is not in force as it stands there, for `status`; none where all are.
pub(super) type FilesHealth = Arc<Mutex<Option<String>>>;

/// The local files, with what was last seen of them.
pub(super) struct LocalFiles {
    files: Vec<Watched>,
    health: FilesHealth,
}

impl LocalFiles {
    /// The files that these settings name.
    #[must_use]
    pub(super) fn new(settings: &Settings) -> Self {
        let pinned = settings.ca_sources.contains(&CaSource::File);
        let passwd = PathBuf::from("/etc/passwd");
        Self::at([
            (Kind::Pinned, pinned.then(|| settings.ca_file.clone())),
            (Kind::Revoked, Some(settings.revoked_file.clone())),
            (Kind::People, Some(settings.map_file.clone())),
            (Kind::Local, Some(passwd)),
        ])
    }

    fn at(files: [(Kind, Option<PathBuf>); 4]) -> Self {
        let watched = |(kind, path): (Kind, Option<PathBuf>)| {
            path.map(|path| Watched { kind, path, read: None, last: None, failed: None, doubt: None })
        };
        Self { files: files.into_iter().filter_map(watched).collect(), health: FilesHealth::default() }
    }

    /// Reads all of them for the first time.
    ///
    /// # Errors
    /// In words: what takes away is there and cannot be read, so nobody can be let in.
    pub(super) fn first(&mut self) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for file in &mut self.files {
            changes.extend(file.first());
            if let Some(why) = file.failed.as_ref().filter(|_| file.kind.must_be_read()) {
                return Err(why.clone());
            }
        }
        self.tell();
        Ok(changes)
    }

    /// What `status` is to show.
    pub(super) fn health(&self) -> FilesHealth {
        Arc::clone(&self.health)
    }

    fn tell(&self) {
        *lock(&self.health) =
            self.files.iter().find_map(|file| file.failed.clone().or_else(|| file.doubt.clone()));
    }

    /// Reads what changed since the last time. All the reading and parsing is done here, so that whoever
    /// holds the facts only has to [`Change::apply`] it.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let changes = self.files.iter_mut().filter_map(Watched::look).collect();
        self.tell();
        changes
    }
}

impl Watched {
    /// The first look: what stands there is read, and what cannot be found out is not taken for missing.
    fn first(&mut self) -> Option<Change> {
        let fresh = stamp(&self.path);
        self.last = fresh;
        match self.text() {
            Ok(text) => {
                (self.read, self.failed) = (fresh, None);
                text.and_then(|text| self.change(&text, true))
            }
            Err(why) => {
                self.complain(why);
                None
            }
        }
    }

    /// The file's text; `None` where there is none.
    fn text(&self) -> Result<Option<String>, String> {
        let (path, limit) = (&self.path, self.kind.limit());
        // Other programs' file, which root may have put behind a link; the responder reads it so as well.
        let bytes =
            if self.kind == Kind::Local { read_through_links(path, limit) } else { read_capped(path, limit) };
        let bytes = bytes.map_err(|cause| {
            let inside = std::error::Error::source(&cause).map_or_else(String::new, |why| format!(": {why}"));
            format!("{cause}{inside}")
        })?;
        if bytes.is_none() && std::fs::symlink_metadata(path).is_ok() {
            return Err(format!("`{}` is a link to nothing", path.display()));
        }
        // A stray byte in one line must not take the others out of force.
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn look(&mut self) -> Option<Change> {
        let fresh = stamp(&self.path);
        let still = std::mem::replace(&mut self.last, fresh) == fresh;
        // What could not be read is tried again: it may not have been the file's fault.
        if self.read == fresh && self.failed.is_none() {
            return None;
        }
        if !still && self.kind != Kind::Revoked {
            return None;
        }
        let read = match self.text() {
            Ok(read) => read,
            Err(why) => {
                self.complain(why);
                return None;
            }
        };
        // Emptied by a full disk, or on the way to being written.
        if read.as_deref() == Some("") && self.read.is_some_and(|([.., length], ..)| length > 0) {
            self.complain(format!(
                "`{}` is empty: remove it if nothing is to stand there",
                self.path.display()
            ));
            return None;
        }
        if still {
            self.failed = None;
            self.read = fresh;
        }
        self.change(&read.unwrap_or_default(), still)
    }

    /// Says once why a file is of no use now.
    fn complain(&mut self, why: String) {
        if self.failed.as_ref() != Some(&why) {
            warn!("{why}; what was read before stays");
        }
        self.failed = Some(why);
    }

    /// What the text means; what is wrong with it is said once, and in `status` for as long as it stands there.
    fn change(&mut self, text: &str, still: bool) -> Option<Change> {
        let (change, doubt) = self.meaning(text, still);
        if let (Some(why), true) = (&doubt, still) {
            warn!("{why}");
        }
        self.doubt = doubt;
        change
    }

    /// Of a text that may not be whole only what it takes away counts.
    fn meaning(&self, text: &str, still: bool) -> (Option<Change>, Option<String>) {
        let shown = self.path.display();
        let bad = |why: String| (None, Some(format!("`{shown}`{why}; what was read before stays")));
        match self.kind {
            Kind::Pinned => match parse_ca_file(text) {
                Ok(keys) => {
                    info!("{} pinned CA keys from `{shown}`", keys.len());
                    (Some(Change::Pinned(keys)), None)
                }
                Err(line) => bad(format!(" line {line} is not understood")),
            },
            Kind::Revoked if !still => (Some(Change::AlsoRevoked(Revocations::readable(text))), None),
            Kind::Revoked => match Revocations::parse(text) {
                Ok(revoked) => (Some(Change::Revoked(revoked)), None),
                Err(line) => {
                    let (_, why) =
                        bad(format!(" line {line} is not understood; the other lines are in force"));
                    (Some(Change::AlsoRevoked(Revocations::readable(text))), why)
                }
            },
            Kind::People => match IdentityMap::parse(text) {
                Ok(map) => (Some(Change::People(map)), None),
                Err(cause) => bad(format!(": {cause}")),
            },
            Kind::Local => (Some(Change::Local(LocalNames::from_passwd(text))), None),
        }
    }
}

/// The new content of one local file.
pub(super) enum Change {
    Pinned(Vec<PublicKey>),
    Revoked(Revocations),
    /// Of a file that is partly bad, or not whole yet: nothing that was taken back before is believed again.
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
            let now = gate.moment().wall;
            let taken_back =
                changes.iter().any(|change| matches!(change, Change::Revoked(_) | Change::AlsoRevoked(_)));
            let accounts_changed = changes.iter().any(|change| matches!(change, Change::Local(_)));
            gate.with_facts(|facts| changes.into_iter().for_each(|change| change.apply(facts, now)));
            if accounts_changed {
                let local = gate.facts().local.clone();
                if let Err(cause) = lock(&gate.accounts).hide(|name| local.has(name)) {
                    warn!("whose name is a local account's now is not left out yet: {cause}");
                }
            }
            if taken_back {
                gate.wake.everybody();
            }
        }
    }
}

#[cfg(test)]
#[path = "local_files_tests.rs"]
mod tests;
