//! Whose access was withdrawn by hand, and when: a certificate from before that moment opens nothing any more.
//!
//! It only takes away. What gives access back is a new certificate, and that is Entra's to refuse.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nightlatch_model::{ObjectId, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::store::{StoreError, read_capped, replace_file};

/// The largest file, in bytes.
const MAX_WITHDRAWN_BYTES: u64 = 4 * 1024 * 1024;
/// How long a withdrawal is remembered, in seconds: longer than any certificate that a node may accept.
pub const KEEP_WITHDRAWN_S: i64 = 30 * 86_400;
/// The most withdrawals that are kept.
const MAX_WITHDRAWN: usize = 20_000;

/// One withdrawal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    oid: ObjectId,
    at: Timestamp,
    reason: String,
}

/// The withdrawals, with the file behind them.
pub struct Withdrawn {
    path: PathBuf,
    people: BTreeMap<ObjectId, (Timestamp, Reason)>,
    /// The disk did not take the last write.
    unwritten: bool,
}

impl Withdrawn {
    /// Opens the list.
    ///
    /// # Errors
    /// When it cannot be read, damaged included: an empty list in its place would give access back.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let bytes = read_capped(&path, MAX_WITHDRAWN_BYTES)?;
        let entries: Vec<Entry> = match bytes {
            None => Vec::new(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|cause| StoreError::Io {
                what: "understand",
                path: path.clone(),
                cause: cause.into(),
            })?,
        };
        let why = |word: &str| word.parse().unwrap_or(Reason::Revoked);
        let people = entries.into_iter().map(|entry| (entry.oid, (entry.at, why(&entry.reason)))).collect();
        Ok(Self { path, people, unwritten: false })
    }

    /// Withdraws a person's access at `now`, for a reason of the closed list; on the disk before this returns.
    ///
    /// # Errors
    /// When the disk does not take it; it holds until the next start, and [`Withdrawn::write_again`] tries once more.
    pub fn withdraw(&mut self, oid: ObjectId, now: Timestamp, reason: Reason) -> Result<(), StoreError> {
        // A clock that is ahead must not make the others old: the newest of them is the latest moment that is sure.
        let newest = self.people.values().map(|(at, _)| *at).max().unwrap_or(now).min(now);
        self.people.retain(|_, (at, _)| newest.since(*at) < KEEP_WITHDRAWN_S);
        if self.people.len() >= MAX_WITHDRAWN
            && let Some(oldest) = self.people.iter().min_by_key(|(_, (at, _))| *at).map(|(oid, _)| *oid)
        {
            self.people.remove(&oldest);
        }
        self.people.insert(oid, (now, reason));
        self.write()
    }

    /// Writes what the disk did not take. True when there was something.
    ///
    /// # Errors
    /// When it still does not.
    pub fn write_again(&mut self) -> Result<bool, StoreError> {
        if !self.unwritten {
            return Ok(false);
        }
        self.write().map(|()| true)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let entry = |(oid, (at, reason)): (&ObjectId, &(Timestamp, Reason))| Entry {
            oid: *oid,
            at: *at,
            reason: reason.word().to_owned(),
        };
        let entries: Vec<Entry> = self.people.iter().map(entry).collect();
        let bytes = serde_json::to_vec(&entries).unwrap_or_default();
        let written = replace_file(&self.path, &bytes, 0o600, true);
        self.unwritten = written.is_err();
        written
    }

    /// Why a credential that began at `begins` opens nothing any more, when it is from before the person's
    /// access was withdrawn.
    #[must_use]
    pub fn covers(&self, oid: ObjectId, begins: Timestamp) -> Option<Reason> {
        self.people.get(&oid).filter(|(at, _)| begins <= *at).map(|(_, reason)| *reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(n: u32) -> ObjectId {
        format!("00000000-0000-4000-8000-0000{n:08x}").parse().unwrap()
    }

    #[test]
    fn what_was_issued_before_is_gone_and_what_comes_after_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("withdrawn.json");
        let mut list = Withdrawn::open(path.clone()).unwrap();
        list.withdraw(oid(1), Timestamp(1_000), Reason::SignInWithdrawn).unwrap();
        for list in [&list, &Withdrawn::open(path).unwrap()] {
            for begins in [999, 1_000] {
                assert_eq!(list.covers(oid(1), Timestamp(begins)), Some(Reason::SignInWithdrawn));
            }
            assert_eq!(list.covers(oid(1), Timestamp(1_001)), None);
            assert_eq!(list.covers(oid(2), Timestamp(1)), None);
        }
    }

    #[test]
    fn a_damaged_list_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("withdrawn.json");
        std::fs::write(&path, "[{").unwrap();
        assert!(Withdrawn::open(path).is_err());
    }

    #[test]
    fn it_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut list = Withdrawn::open(folder.path().join("withdrawn.json")).unwrap();
        list.people = (0..20_000).map(|n| (oid(n), (Timestamp(i64::from(n)), Reason::Revoked))).collect();
        list.withdraw(oid(99_999), Timestamp(20_001), Reason::Revoked).unwrap();
        assert_eq!(list.people.len(), 20_000);
        assert!(list.covers(oid(99_999), Timestamp(20_000)).is_some() && !list.people.contains_key(&oid(0)));
        // One that a clock far ahead dates forgets none of them; when time has come there, the next one does.
        list.withdraw(oid(5), Timestamp(20_001 + KEEP_WITHDRAWN_S), Reason::Revoked).unwrap();
        assert_eq!(list.people.len(), 19_999);
        list.withdraw(oid(6), Timestamp(20_002 + KEEP_WITHDRAWN_S), Reason::Revoked).unwrap();
        assert_eq!(list.people.len(), 2);
    }

    #[test]
    fn what_the_disk_did_not_take_is_written_when_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let (state, away) = (folder.path().join("state"), folder.path().join("away"));
        std::fs::create_dir(&state).unwrap();
        let mut list = Withdrawn::open(state.join("withdrawn.json")).unwrap();
        std::fs::rename(&state, &away).unwrap();
        assert!(list.withdraw(oid(1), Timestamp(1_000), Reason::Revoked).is_err());
        assert!(list.covers(oid(1), Timestamp(1_000)).is_some() && list.write_again().is_err());
        std::fs::rename(&away, &state).unwrap();
        assert!(list.write_again().unwrap() && !list.write_again().unwrap());
        let again = Withdrawn::open(state.join("withdrawn.json")).unwrap();
        assert_eq!(again.covers(oid(1), Timestamp(1_000)), Some(Reason::Revoked));
    }
}
