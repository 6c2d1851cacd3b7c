//! The account book: one record per person, one file for all, replaced whole.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use nightlatch_model::{
    Account, LoginName, MAX_ACCOUNTS, ObjectId, Snapshot, SnapshotError, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::uids::UidOverrides;
use crate::store::{StoreError, read_capped, replace_file};

/// The largest account book, in bytes.
const MAX_BOOK_BYTES: u64 = 8 * 1024 * 1024;

/// Why the book could not be opened or written.
#[derive(Debug, Error)]
pub enum AccountError {
    /// The file itself.
    #[error("the account book cannot be kept")]
    Store(#[source] StoreError),
    /// Not what we wrote.
    #[error(
        "the account book `{path}` is damaged; restore it from a backup, or move it away and every uid is bound anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        cause: serde_json::Error,
    },
    /// What the name responder would refuse as a whole, so that nobody would be answered for.
    #[error("the accounts cannot be shown to the node: {0}; see `login.shell` and `login.uid_overrides`")]
    NotShown(#[from] SnapshotError),
    /// No room left.
    #[error(
        "the account book holds {MAX_ACCOUNTS} people; remove some with care: a uid must never be reused"
    )]
    Full,
}

/// One person in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The tenant.
    pub tid: TenantId,
    /// The person.
    pub oid: ObjectId,
    /// The uid, for good.
    pub uid: u32,
    /// The name at the last yes, or the new one after a rename.
    pub name: LoginName,
    /// Administrator at the last yes.
    pub admin: bool,
    /// Until when the last yes holds.
    pub unlocked_until: Option<Timestamp>,
    /// A definite no came after it: locked whatever the end.
    #[serde(default)]
    pub locked: bool,
    /// When the credential of the last yes began; a book of an older release does not say it.
    #[serde(default)]
    pub credential_begins: Option<Timestamp>,
    /// Whether a guest of the tenant, where the credential of the last yes said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<bool>,
}

/// What a yes gives, and what the credential behind it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Administrator.
    pub admin: bool,
    /// Until when the account is open.
    pub until: Timestamp,
    /// When the credential began.
    pub begins: Timestamp,
    /// Whether a guest of the tenant, where it says so.
    pub guest: Option<bool>,
}

impl Bound {
    /// Until when the account is unlocked, unless a no came after the yes.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        self.unlocked_until.filter(|_| !self.locked)
    }
}

/// The book, with the file behind it and the snapshot in front of it.
pub struct Accounts {
    tenant: TenantId,
    domains: Vec<String>,
    shell: String,
    overrides: UidOverrides,
    book: PathBuf,
    snapshot: PathBuf,
    people: HashMap<ObjectId, Bound>,
    silent: bool,
    /// Names that are local accounts by now: the name responder would refuse a snapshot that has them.
    hidden: HashSet<LoginName>,
    /// Something was taken away that the disk did not take.
    unwritten: bool,
}

impl Accounts {
    /// Opens the book and writes the snapshot once, so that userdbd can answer.
    ///
    /// # Errors
    /// A damaged book is never replaced by an empty one.
    pub fn open(
        tenant: TenantId,
        domains: Vec<String>,
        shell: String,
        overrides: UidOverrides,
        book: PathBuf,
        snapshot: PathBuf,
    ) -> Result<Self, AccountError> {
        let bytes = read_capped(&book, MAX_BOOK_BYTES).map_err(AccountError::Store)?;
        let people: Vec<Bound> = match bytes {
            None => Vec::new(),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|cause| AccountError::Damaged { path: book.clone(), cause })?,
        };
        let people = people.into_iter().map(|person| (person.oid, person)).collect();
        let (silent, hidden, unwritten) = (false, HashSet::new(), false);
        let accounts =
            Self { tenant, domains, shell, overrides, book, snapshot, people, silent, hidden, unwritten };
        accounts.shown().check(|_| false)?;
        accounts.write_snapshot()?;
        Ok(accounts)
    }

    /// Leaves out of the snapshot whose name is a local account now. Their record stays in the book.
    ///
    /// # Errors
    /// When the snapshot cannot be written.
    pub fn hide(&mut self, is_local: impl Fn(&str) -> bool) -> Result<(), AccountError> {
        let people = self.people.values().map(|person| &person.name);
        let names = people.chain(self.overrides.iter().map(|(name, _)| name));
        let hidden: HashSet<LoginName> = names.filter(|name| is_local(name.as_str())).cloned().collect();
        if std::mem::replace(&mut self.hidden, hidden.clone()) == hidden {
            return Ok(());
        }
        self.write_snapshot().inspect_err(|_| self.unwritten = true)
    }

    /// The same book on a node that only observes: names are another agent's to answer.
    ///
    /// # Errors
    /// When the snapshot cannot be written.
    pub fn silenced(mut self) -> Result<Self, AccountError> {
        self.silent = true;
        self.write_snapshot().map(|()| self)
    }

    /// The tenant whose people these are.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The uid that userdbd answers for this name now: what sshd must be holding.
    #[must_use]
    pub fn uid_for(&self, name: &LoginName) -> u32 {
        self.by_name(name).map_or_else(|| self.overrides.uid(self.tenant, name), |person| person.uid)
    }

    /// The uid that the name has by itself, whoever was let in under it.
    #[must_use]
    pub fn computed_uid(&self, name: &LoginName) -> u32 {
        self.overrides.uid(self.tenant, name)
    }

    /// The person behind an object id.
    #[must_use]
    pub fn by_oid(&self, oid: ObjectId) -> Option<&Bound> {
        self.people.get(&oid)
    }

    /// The person who holds a name.
    #[must_use]
    pub fn by_name(&self, name: &LoginName) -> Option<&Bound> {
        self.people.values().find(|person| person.name == *name)
    }

    /// The person who holds a uid.
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<&Bound> {
        self.people.values().find(|person| person.uid == uid)
    }

    /// Lets a person in: binds the uid durably at the first time, unlocks the account, and renames the snapshot into
    /// place. Only after this may the yes leave the daemon.
    ///
    /// # Errors
    /// Nothing was promised: the caller must refuse.
    pub fn unlock(&mut self, oid: ObjectId, name: &LoginName, opening: Opening) -> Result<(), AccountError> {
        let uid = self.people.get(&oid).map_or_else(|| self.uid_for(name), |person| person.uid);
        let before = self.people.get(&oid).cloned();
        if before.is_none() && self.people.len() >= MAX_ACCOUNTS {
            return Err(AccountError::Full);
        }
        let person = Bound {
            tid: self.tenant,
            oid,
            uid,
            name: name.clone(),
            admin: opening.admin,
            unlocked_until: Some(opening.until),
            locked: false,
            credential_begins: Some(opening.begins),
            guest: opening.guest,
        };
        if before.as_ref() == Some(&person) {
            return Ok(());
        }
        // What must survive a crash is the binding; when the unlocking ends may be lost.
        let durable = before.as_ref().is_none_or(|old| old.uid != person.uid || old.name != person.name);
        self.people.insert(oid, person);
        self.write(durable).inspect_err(|_| {
            match before {
                Some(old) => self.people.insert(oid, old),
                None => self.people.remove(&oid),
            };
            // The book may have it already: nobody was let in, and the next start must not find them so.
            self.unwritten = true;
        })
    }

    /// Locks a person's account at once and takes the admin group away. True when it was open.
    ///
    /// # Errors
    /// When it cannot be written; the account is locked in memory, and [`Accounts::write_again`] tries once more.
    pub fn lock(&mut self, oid: ObjectId) -> Result<bool, AccountError> {
        let Some(person) = self.people.get_mut(&oid) else { return Ok(false) };
        if person.locked {
            return Ok(false);
        }
        person.locked = true;
        person.admin = false;
        self.take_away(false).map(|()| true)
    }

    /// Takes the admin group away and leaves the account open. True when it was an administrator's.
    ///
    /// # Errors
    /// As [`Accounts::lock`].
    pub fn demote(&mut self, oid: ObjectId) -> Result<bool, AccountError> {
        let Some(person) = self.people.get_mut(&oid).filter(|person| person.admin) else { return Ok(false) };
        person.admin = false;
        self.take_away(false).map(|()| true)
    }

    /// Carries a renamed person's uid over to the new name: the next look-up of that name
    /// answers with it. The old name answers like one never seen.
    ///
    /// # Errors
    /// When the book cannot be written.
    pub fn rename(&mut self, oid: ObjectId, name: &LoginName) -> Result<(), AccountError> {
        if let Some(person) = self.people.get_mut(&oid) {
            person.name = name.clone();
            person.locked = true;
            self.take_away(true)?;
        }
        Ok(())
    }

    /// Writes what was taken away and the disk did not take. True when there was something.
    ///
    /// # Errors
    /// When it still does not.
    pub fn write_again(&mut self) -> Result<bool, AccountError> {
        if !self.unwritten {
            return Ok(false);
        }
        self.take_away(true).map(|()| true)
    }

    /// Writes what gives: nothing is in the snapshot that the book does not have.
    fn write(&mut self, durable: bool) -> Result<(), AccountError> {
        self.write_book(durable)?;
        self.write_snapshot()?;
        self.unwritten = false;
        Ok(())
    }

    /// Writes what takes away: the snapshot whatever becomes of the book. It lies on a tmpfs, where there may be room.
    fn take_away(&mut self, durable: bool) -> Result<(), AccountError> {
        let (snapshot, book) = (self.write_snapshot(), self.write_book(durable));
        self.unwritten = snapshot.is_err() || book.is_err();
        snapshot.and(book)
    }

    fn write_book(&self, durable: bool) -> Result<(), AccountError> {
        let mut people: Vec<&Bound> = self.people.values().collect();
        people.sort_by_key(|person| person.uid);
        let bytes = serde_json::to_vec(&people)
            .map_err(|cause| AccountError::Damaged { path: self.book.clone(), cause })?;
        replace_file(&self.book, &bytes, 0o600, durable).map_err(AccountError::Store)
    }

    /// What the name responder is told.
    fn shown(&self) -> Snapshot {
        let mut accounts: Vec<Account> = self
            .people
            .values()
            .map(|person| Account {
                name: person.name.clone(),
                uid: person.uid,
                admin: person.admin,
                unlocked_until: person.open_until(),
            })
            .collect();
        for (name, uid) in self.overrides.iter() {
            if self.by_name(name).is_none() && self.by_uid(uid).is_none() {
                accounts.push(Account { name: name.clone(), uid, admin: false, unlocked_until: None });
            }
        }
        accounts.retain(|account| !self.hidden.contains(&account.name));
        accounts.sort_by_key(|account| account.uid);
        Snapshot {
            version: 1,
            tenant: self.tenant,
            domains: self.domains.clone(),
            shell: self.shell.clone(),
            accounts,
            silent: self.silent,
        }
    }

    fn write_snapshot(&self) -> Result<(), AccountError> {
        let bytes = serde_json::to_vec(&self.shown())
            .map_err(|cause| AccountError::Damaged { path: self.snapshot.clone(), cause })?;
        // It lies on a tmpfs: there is nothing to sync.
        replace_file(&self.snapshot, &bytes, 0o644, false).map_err(AccountError::Store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_model::uid_of;

    fn tenant() -> TenantId {
        "11111111-2222-3333-4444-555555555555".parse().unwrap()
    }

    fn oid(n: u8) -> ObjectId {
        format!("00000000-0000-0000-0000-0000000000{n:02x}").parse().unwrap()
    }

    fn open(folder: &tempfile::TempDir, overrides: UidOverrides) -> Accounts {
        let path = |name| folder.path().join(name);
        Accounts::open(tenant(), vec![], "/bin/sh".into(), overrides, path("book"), path("snapshot")).unwrap()
    }

    fn opening(admin: bool) -> Opening {
        Opening { admin, until: Timestamp(100), begins: Timestamp(1), guest: None }
    }

    fn snapshot(folder: &tempfile::TempDir) -> Snapshot {
        serde_json::from_slice(&std::fs::read(folder.path().join("snapshot")).unwrap()).unwrap()
    }

    #[test]
    fn a_uid_is_bound_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let alice = LoginName::parse("alice@contoso.com").unwrap();
        let mut accounts = open(&folder, UidOverrides::default());
        accounts.unlock(oid(1), &alice, opening(true)).unwrap();
        assert!(snapshot(&folder).accounts[0].admin);
        assert!(accounts.lock(oid(1)).unwrap());
        assert!(!accounts.lock(oid(1)).unwrap());
        let locked = snapshot(&folder);
        assert_eq!(locked.accounts[0].unlocked_until, None);
        assert!(!locked.accounts[0].admin);
        assert_eq!(locked.check(|_| false), Ok(()));
        let again = open(&folder, UidOverrides::default());
        assert_eq!(again.by_oid(oid(1)).unwrap().uid, uid_of(tenant(), &alice));
    }

    /// A user filled the disk. What is taken away is in force at once, and on the disk as soon as there is room.
    #[test]
    fn what_is_taken_away_waits_for_no_disk_and_is_written_when_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let alice = LoginName::parse("alice@contoso.com").unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let open = || {
            let (book, shown) = (state.join("book"), folder.path().join("snapshot"));
            Accounts::open(tenant(), vec![], "/bin/sh".into(), UidOverrides::default(), book, shown).unwrap()
        };
        for demoted in [false, true] {
            let mut accounts = open();
            accounts.unlock(oid(1), &alice, opening(true)).unwrap();
            assert!(!accounts.write_again().unwrap());
            // No room: here, no folder.
            let away = folder.path().join("away");
            std::fs::rename(&state, &away).unwrap();
            assert!(if demoted { accounts.demote(oid(1)) } else { accounts.lock(oid(1)) }.is_err());
            let shown = snapshot(&folder).accounts;
            assert!(!shown[0].admin && shown[0].unlocked_until.is_none() != demoted);
            assert!(accounts.write_again().is_err());
            std::fs::rename(&away, &state).unwrap();
            assert!(accounts.write_again().unwrap() && !accounts.write_again().unwrap());
            let again = open();
            let bound = again.by_oid(oid(1)).unwrap();
            assert!(!bound.admin && bound.locked != demoted);
        }
    }

    /// Root made a local account with the whole name of somebody who was let in before.
    #[test]
    fn one_name_that_became_local_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let name = |text: &str| LoginName::parse(text).unwrap();
        let mut accounts = open(&folder, UidOverrides::default());
        for (n, who) in [(1, "alice@contoso.com"), (2, "bob@contoso.com")] {
            accounts.unlock(oid(n), &name(who), opening(false)).unwrap();
        }
        let local = |name: &str| name == "alice@contoso.com";
        assert!(snapshot(&folder).check(local).is_err());
        accounts.hide(local).unwrap();
        let shown = snapshot(&folder);
        assert_eq!((shown.check(local), shown.accounts.len()), (Ok(()), 1));
        // Whoever loses access meanwhile loses it.
        accounts.lock(oid(2)).unwrap();
        let shown = snapshot(&folder);
        assert!(shown.check(local).is_ok() && shown.accounts[0].unlocked_until.is_none());
        accounts.hide(|_| false).unwrap();
        assert_eq!(snapshot(&folder).accounts.len(), 2);
    }

    #[test]
    fn what_the_name_responder_would_refuse_is_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        for shell in ["zsh", "/bin/my shell", "", "/bin/\u{e4}"] {
            let none = UidOverrides::default();
            let why = Accounts::open(tenant(), vec![], shell.into(), none, path("book"), path("snapshot"));
            assert!(why.err().unwrap().to_string().contains("`login.shell`"), "{shell:?}");
        }
        assert!(!path("snapshot").exists());
    }

    #[test]
    fn a_renamed_person_keeps_the_uid() {
        let folder = tempfile::tempdir().unwrap();
        let old = LoginName::parse("alice@contoso.com").unwrap();
        let new = LoginName::parse("alice.smith@contoso.com").unwrap();
        let mut accounts = open(&folder, UidOverrides::default());
        accounts.unlock(oid(1), &old, opening(false)).unwrap();
        let uid = accounts.uid_for(&old);
        accounts.rename(oid(1), &new).unwrap();
        assert_eq!(accounts.uid_for(&new), uid);
        assert_eq!(snapshot(&folder).accounts[0].name, new);
        // The old name is computed again; its uid is still alice's, so nobody else gets in by it.
        assert_eq!(accounts.by_uid(accounts.uid_for(&old)).unwrap().oid, oid(1));
    }

    #[test]
    fn an_override_settles_a_collision() {
        let folder = tempfile::tempdir().unwrap();
        let bob = LoginName::parse("bob@contoso.com").unwrap();
        let uid = nightlatch_model::UID_LOW + 7;
        let overrides = UidOverrides::new([(bob.clone(), uid)]).unwrap();
        let accounts = open(&folder, overrides);
        assert_eq!(accounts.uid_for(&bob), uid);
        assert_eq!(snapshot(&folder).accounts[0].uid, uid);
        assert!(UidOverrides::new([(bob.clone(), 0)]).is_err());
        let carl = LoginName::parse("carl@contoso.com").unwrap();
        assert!(UidOverrides::new([(bob, uid), (carl, uid)]).is_err(), "one uid for two people");
    }

    #[test]
    fn a_damaged_book_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("book"), "[{").unwrap();
        let path = |name| folder.path().join(name);
        let opened = Accounts::open(
            tenant(),
            vec![],
            "/bin/sh".into(),
            UidOverrides::default(),
            path("book"),
            path("snapshot"),
        );
        assert!(matches!(opened, Err(AccountError::Damaged { .. })));
        assert_eq!(std::fs::read(path("book")).unwrap(), b"[{");
    }
}
