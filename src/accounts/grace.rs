//! Who got a fresh yes on this node, and when: what the bounded grace rests on while Azure is silent.
//!
//! Forgetting a yes is harmless, so a yes is written without waiting for the disk. Forgetting a no is not:
//! an entry that a no erases is gone from the disk before the no is answered, and so is one that a lesser
//! yes replaces: a lesser role, or an end that comes sooner.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use nightlatch_model::{LoginName, MAX_ACCOUNTS, ObjectId, Role, TenantId, Timestamp};
use nightlatch_policy::{BootId, FreshYes, MAX_GRACE, Moment};
use serde::{Deserialize, Serialize};

use crate::store::{StoreError, read_capped, replace_file};

/// The largest ledger file, in bytes.
const MAX_LEDGER_BYTES: u64 = 8 * 1024 * 1024;
/// How old the written copy of a yes may be before a newer one is written, in seconds since boot: a session
/// that is judged each minute must not write each minute's yes of each person.
const WRITE_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tid: TenantId,
    oid: ObjectId,
    name: LoginName,
    role: Role,
    at: Timestamp,
    boot: String,
    since_boot_s: u64,
    #[serde(default)]
    ends: Option<Timestamp>,
    #[serde(default)]
    admin_ends: Option<Timestamp>,
}

/// The ledger, with the file behind it.
pub struct GraceLedger {
    path: PathBuf,
    people: HashMap<ObjectId, FreshYes>,
    /// When each person's yes was last written, by the time since boot.
    written: HashMap<ObjectId, Duration>,
    /// The disk did not take the last write.
    unwritten: bool,
}

impl GraceLedger {
    /// Opens the ledger. A damaged one is empty: that takes grace away and gives none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let bytes = read_capped(&path, MAX_LEDGER_BYTES)?.unwrap_or_default();
        let entries: Vec<Entry> = serde_json::from_slice(&bytes).unwrap_or_default();
        let people = entries.into_iter().filter_map(read).map(|yes| (yes.oid, yes)).collect();
        Ok(Self { path, people, written: HashMap::new(), unwritten: false })
    }

    /// The last fresh yes of a person.
    #[must_use]
    pub fn last(&self, oid: ObjectId) -> Option<&FreshYes> {
        self.people.get(&oid)
    }

    /// Everybody's last fresh yes.
    pub fn iter(&self) -> impl Iterator<Item = &FreshYes> {
        self.people.values()
    }

    /// Remembers a fresh yes.
    ///
    /// # Errors
    /// When it cannot be written; it counts until the next start.
    pub fn remember(&mut self, yes: FreshYes) -> Result<(), StoreError> {
        let (oid, now) = (yes.oid, yes.at.since_boot);
        let before = self.people.get(&oid);
        let same = before.is_some_and(|before| says_the_same(before, &yes));
        let less = before.is_some_and(|before| yes.gives_less_than(before));
        self.people.insert(oid, yes);
        let recent = self.written.get(&oid).is_some_and(|at| now.saturating_sub(*at) < WRITE_EVERY);
        if same && recent {
            return Ok(());
        }
        if self.people.len() > MAX_ACCOUNTS {
            self.people.retain(|_, yes| now.saturating_sub(yes.at.since_boot) < MAX_GRACE);
        }
        // Whatever is not written now is not taken for written the next time.
        self.written.remove(&oid);
        self.write(less)?;
        self.written.insert(oid, now);
        Ok(())
    }

    /// Erases a person's yes, on the disk as well before this returns. True when there was one.
    ///
    /// # Errors
    /// When the disk does not take it; in memory it is gone all the same.
    pub fn erase(&mut self, oid: ObjectId) -> Result<bool, StoreError> {
        if self.people.remove(&oid).is_none() {
            return Ok(false);
        }
        self.written.remove(&oid);
        self.write(true).map(|()| true)
    }

    /// Writes what the disk did not take. True when there was something.
    ///
    /// # Errors
    /// When it still does not.
    pub fn write_again(&mut self) -> Result<bool, StoreError> {
        if !self.unwritten {
            return Ok(false);
        }
        self.write(true).map(|()| true)
    }

    fn write(&mut self, durable: bool) -> Result<(), StoreError> {
        let mut entries: Vec<Entry> = self.people.values().map(entry).collect();
        entries.sort_by_key(|entry| entry.oid);
        let bytes = serde_json::to_vec(&entries).unwrap_or_default();
        let written = replace_file(&self.path, &bytes, 0o600, durable);
        self.unwritten = written.is_err();
        written
    }
}

/// True when only the time may differ.
fn says_the_same(a: &FreshYes, b: &FreshYes) -> bool {
    (a.role, &a.name, a.ends, a.admin_ends) == (b.role, &b.name, b.ends, b.admin_ends)
}

fn entry(yes: &FreshYes) -> Entry {
    Entry {
        tid: yes.tid,
        oid: yes.oid,
        name: yes.name.clone(),
        role: yes.role,
        at: yes.at.wall,
        boot: yes.at.boot.0.iter().map(|byte| format!("{byte:02x}")).collect(),
        since_boot_s: yes.at.since_boot.as_secs(),
        ends: yes.ends,
        admin_ends: yes.admin_ends,
    }
}

fn read(entry: Entry) -> Option<FreshYes> {
    Some(FreshYes {
        tid: entry.tid,
        oid: entry.oid,
        name: entry.name,
        role: entry.role,
        at: Moment {
            wall: entry.at,
            boot: boot_id(&entry.boot)?,
            since_boot: Duration::from_secs(entry.since_boot_s),
            suspect: false,
        },
        ends: entry.ends,
        admin_ends: entry.admin_ends,
    })
}

/// A boot id from 32 hex digits, dashes ignored, as `/proc/sys/kernel/random/boot_id` shows it.
#[must_use]
pub fn boot_id(text: &str) -> Option<BootId> {
    let digits: Vec<u32> =
        text.trim().chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::try_from(pair.iter().fold(0, |sum, digit| sum * 16 + digit)).ok())
        .collect();
    (digits.len() == 32).then(|| bytes.try_into().ok().map(BootId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes(role: Role, since_boot: u64) -> FreshYes {
        FreshYes {
            tid: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            oid: "00000000-0000-4000-8000-000000000001".parse().unwrap(),
            name: LoginName::parse("alice@contoso.com").unwrap(),
            role,
            at: Moment {
                wall: Timestamp(1_800_000_000),
                boot: BootId([7; 16]),
                since_boot: Duration::from_secs(since_boot),
                suspect: false,
            },
            ends: None,
            admin_ends: None,
        }
    }

    fn ending(since_boot: u64, ends: i64, admin_ends: i64) -> FreshYes {
        let at = |seconds| Some(Timestamp(1_800_000_000 + seconds));
        FreshYes { ends: at(ends), admin_ends: at(admin_ends), ..yes(Role::Admin, since_boot) }
    }

    #[test]
    fn a_yes_outlives_a_restart_and_a_no_erases_it_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grace.json");
        let mut ledger = GraceLedger::open(path.clone()).unwrap();
        ledger.remember(yes(Role::Admin, 100)).unwrap();
        let again = GraceLedger::open(path.clone()).unwrap();
        assert_eq!(again.last(yes(Role::Admin, 0).oid), Some(&yes(Role::Admin, 100)));
        assert!(ledger.erase(yes(Role::Admin, 0).oid).unwrap());
        assert!(!ledger.erase(yes(Role::Admin, 0).oid).unwrap());
        assert_eq!(GraceLedger::open(path).unwrap().iter().count(), 0);
    }

    #[test]
    fn each_minutes_yes_is_not_a_write_each_and_another_role_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grace.json");
        let mut ledger = GraceLedger::open(path.clone()).unwrap();
        let on_disk = || GraceLedger::open(path.clone()).unwrap().iter().next().cloned().unwrap();
        ledger.remember(yes(Role::User, 100)).unwrap();
        ledger.remember(yes(Role::User, 130)).unwrap();
        assert_eq!(on_disk().at.since_boot.as_secs(), 100);
        ledger.remember(yes(Role::Admin, 131)).unwrap();
        assert_eq!((on_disk().at.since_boot.as_secs(), on_disk().role), (131, Role::Admin));
        ledger.remember(yes(Role::Admin, 200)).unwrap();
        assert_eq!(on_disk().at.since_boot.as_secs(), 200);
    }

    #[test]
    fn the_ends_of_a_role_outlive_a_restart_and_another_end_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grace.json");
        let mut ledger = GraceLedger::open(path.clone()).unwrap();
        let on_disk = || GraceLedger::open(path.clone()).unwrap().iter().next().cloned().unwrap();
        for told in
            [ending(100, 900, 600), ending(101, 900, 500), ending(102, 800, 500), yes(Role::Admin, 103)]
        {
            ledger.remember(told.clone()).unwrap();
            assert_eq!(on_disk(), told);
        }
    }

    /// A yes that an earlier version wrote knows no end.
    #[test]
    fn an_entry_without_ends_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grace.json");
        let mut written = serde_json::to_value([entry(&yes(Role::User, 100))]).unwrap();
        let fields = written[0].as_object_mut().unwrap();
        assert!(fields.remove("ends").is_some() && fields.remove("admin_ends").is_some());
        std::fs::write(&path, written.to_string()).unwrap();
        let ledger = GraceLedger::open(path).unwrap();
        assert_eq!(ledger.iter().collect::<Vec<_>>(), [&yes(Role::User, 100)]);
    }

    /// What could not be written is tried again, however soon.
    #[test]
    fn a_yes_that_was_not_written_is_written_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/grace.json");
        let mut ledger = GraceLedger::open(path.clone()).unwrap();
        assert!(ledger.remember(yes(Role::User, 100)).is_err());
        std::fs::create_dir(folder.path().join("later")).unwrap();
        ledger.remember(yes(Role::User, 101)).unwrap();
        assert_eq!(GraceLedger::open(path).unwrap().iter().collect::<Vec<_>>(), [&yes(Role::User, 101)]);
    }

    #[test]
    fn a_damaged_ledger_gives_no_grace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grace.json");
        for text in ["[{", "{}", "[{\"oid\":1}]", ""] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(GraceLedger::open(path.clone()).unwrap().iter().count(), 0, "{text}");
        }
        assert_eq!(boot_id("12345678-9abc-def0-1234-56789abcdef0\n").unwrap().0[1], 0x34);
        assert_eq!(boot_id("12345678"), None);
    }
}
