//! Keeps the snapshot and the local accounts as fresh as their files.
//!
//! Each request looks at the two files' stamps and re-reads what changed; the work is bounded by
//! the size caps. A snapshot that is missing, unreadable or refused leaves the last good one in
//! place and is reported once per change, never once per request.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nightlatch_model::{MAX_SNAPSHOT_BYTES, Snapshot, SnapshotError, Timestamp};
use thiserror::Error;

use crate::Say;
use crate::directory::{Directory, View};
use crate::files::{self, ReadError, Stamp, Trust};
use crate::local::{Local, MAX_PASSWD_BYTES};

/// The longest reason that is written to the journal, in characters.
const MAX_REASON_CHARS: usize = 300;

/// Why a file did not replace what is in force.
#[derive(Debug, Error)]
enum Refusal {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("it is not a snapshot: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Check(#[from] SnapshotError),
    #[error("the local accounts are not known yet")]
    NoLocal,
}

/// What stood at a path when it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    File(Stamp),
    Nothing(io::ErrorKind),
}

impl Seen {
    fn at(path: &Path, trust: Trust) -> Self {
        files::stamp(path, trust).map_or_else(|error| Self::Nothing(error.kind()), Self::File)
    }
}

#[derive(Default)]
struct State {
    passwd: Option<Seen>,
    passwd_kept: Option<File>,
    passwd_said: Option<String>,
    local: Option<Arc<Local>>,
    /// Counts the versions of `/etc/passwd`: a snapshot is checked against each anew.
    local_version: u64,
    snapshot: Option<(Seen, u64)>,
    snapshot_kept: Option<File>,
    snapshot_said: Option<String>,
    directory: Option<Arc<Directory>>,
    /// The last snapshot was refused, or none has been read yet.
    refused: bool,
}

/// The two files, and what was last read from them.
pub struct Source {
    snapshot: PathBuf,
    passwd: PathBuf,
    say: Say,
    state: Mutex<State>,
}

impl Source {
    /// Answers will come from these two files.
    #[must_use]
    pub fn new(snapshot: PathBuf, passwd: PathBuf, say: Say) -> Self {
        let state = State { refused: true, ..State::default() };
        Self { snapshot, passwd, say, state: Mutex::new(state) }
    }

    /// What may be answered now. Whoever comes while another request re-reads a file waits for
    /// it: an answer from before the daemon's last rename would refuse a login just granted.
    pub(crate) fn view(&self, now: Timestamp) -> View {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh_local(&mut state);
        self.refresh_directory(&mut state);
        View::new(state.directory.clone(), state.local.clone(), now)
    }

    fn refresh_local(&self, state: &mut State) {
        let seen = Seen::at(&self.passwd, Trust::System);
        if state.passwd == Some(seen) {
            return;
        }
        state.passwd = Some(seen);
        match files::read(&self.passwd, MAX_PASSWD_BYTES, Trust::System) {
            Ok(whole) => {
                state.passwd = Some(Seen::File(whole.stamp));
                state.local = Some(Arc::new(Local::parse(&whole.bytes)));
                state.passwd_kept = Some(whole.kept);
                state.passwd_said = None;
                state.local_version += 1;
            }
            Err(error) => {
                let again = may_pass(&error);
                let line = report(&self.passwd, "cannot read the local accounts", &error.to_string());
                self.complain(&mut state.passwd_said, line, again);
                if again {
                    state.passwd = None;
                }
            }
        }
    }

    fn refresh_directory(&self, state: &mut State) {
        let seen = Seen::at(&self.snapshot, Trust::FolderOwner);
        if state.snapshot == Some((seen, state.local_version)) {
            return;
        }
        state.snapshot = Some((seen, state.local_version));
        match self.load(state) {
            Ok(directory) => {
                if state.refused {
                    let count = directory.len();
                    (self.say)(&format!("snapshot {} accepted, {count} accounts", self.snapshot.display()));
                }
                state.refused = false;
                state.snapshot_said = None;
                state.directory = Some(Arc::new(directory));
            }
            Err(refusal) => {
                state.refused = true;
                let kept = if state.directory.is_some() {
                    "snapshot refused, the last good one stays in force"
                } else {
                    "snapshot refused, nobody is answered for"
                };
                let again = matches!(&refusal, Refusal::Read(error) if may_pass(error));
                let line = report(&self.snapshot, kept, &refusal.to_string());
                self.complain(&mut state.snapshot_said, line, again);
                if again {
                    state.snapshot = None;
                }
            }
        }
    }

    fn load(&self, state: &mut State) -> Result<Directory, Refusal> {
        let local = state.local.as_deref().ok_or(Refusal::NoLocal)?;
        let whole = files::read(&self.snapshot, MAX_SNAPSHOT_BYTES, Trust::FolderOwner)?;
        // Refused or not, this version has been judged.
        state.snapshot = Some((Seen::File(whole.stamp), state.local_version));
        state.snapshot_kept = Some(whole.kept);
        let snapshot: Snapshot = serde_json::from_slice(&whole.bytes)?;
        Ok(Directory::new(snapshot, local)?)
    }

    /// Says a line; one that comes with each try is said once.
    fn complain(&self, said: &mut Option<String>, line: String, again: bool) {
        if !again || said.as_ref() != Some(&line) {
            (self.say)(&line);
        }
        *said = Some(line);
    }
}

/// True for what may pass without the file changing, such as having no descriptor left: the next
/// request tries again.
fn may_pass(error: &ReadError) -> bool {
    match error {
        ReadError::Changed => true,
        ReadError::Io(error) => error.kind() != io::ErrorKind::NotFound,
        _ => false,
    }
}

/// A reason may quote the file, so nothing but printable ASCII passes.
fn report(path: &Path, what: &str, why: &str) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let why: String = why.chars().take(MAX_REASON_CHARS).map(printable).collect();
    format!("{what}: {}: {why}", path.display())
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
