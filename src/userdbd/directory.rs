//! Who is who: looks names and ids up in one checked snapshot.
//!
//! Pure: no file, no socket, no clock. A name never seen gets a computed, locked record; nothing
//! about it is kept, so asking for many names exhausts nothing.

use std::collections::HashMap;
use std::sync::Arc;

use nightlatch_model::{
    ADMIN_GID, ADMIN_GROUP, Account, LoginName, Snapshot, SnapshotError, TenantId, Timestamp, uid_of,
};

use crate::local::Local;

/// Why there is no record to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// Nobody of that name or id that we may speak of.
    NoRecord,
    /// The name and the id that were asked for belong to different records.
    Conflict,
}

/// A snapshot that passed its checks, with its indexes.
#[derive(Debug)]
pub(crate) struct Directory {
    tenant: TenantId,
    domains: Vec<String>,
    shell: String,
    accounts: Vec<Account>,
    by_name: HashMap<LoginName, usize>,
    by_uid: HashMap<u32, usize>,
    /// Another agent answers for names.
    silent: bool,
}

impl Directory {
    /// Checks a snapshot against the rules and the local accounts, then indexes it.
    ///
    /// # Errors
    /// The first rule that is broken; one bad record refuses the whole snapshot.
    pub(crate) fn new(snapshot: Snapshot, local: &Local) -> Result<Self, SnapshotError> {
        snapshot.check(|name| local.has(name))?;
        let Snapshot { tenant, domains, shell, accounts, silent, .. } = snapshot;
        let named = accounts.iter().enumerate().filter(|_| !silent);
        let by_name = named.map(|(at, account)| (account.name.clone(), at)).collect();
        let by_uid = accounts.iter().enumerate().map(|(at, account)| (account.uid, at)).collect();
        Ok(Self { tenant, domains, shell, accounts, by_name, by_uid, silent })
    }

    /// How many people have been let in.
    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    fn named(&self, name: &LoginName) -> Option<&Account> {
        self.by_name.get(name).and_then(|at| self.accounts.get(*at))
    }

    fn numbered(&self, uid: u32) -> Option<&Account> {
        self.by_uid.get(&uid).and_then(|at| self.accounts.get(*at))
    }

    fn allows(&self, name: &LoginName) -> bool {
        !self.silent
            && name.domain().is_none_or(|domain| {
                self.domains.is_empty()
                    || self.domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
            })
    }
}

/// One user record. Its gid is its uid and its home follows from the uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The canonical name.
    pub(crate) name: LoginName,
    /// The uid, in our range.
    pub(crate) uid: u32,
    /// The login shell.
    pub(crate) shell: String,
    /// Whether pam_unix must refuse.
    pub(crate) locked: bool,
}

/// One group record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// [`ADMIN_GROUP`], or the name of the one user whose group it is.
    pub(crate) name: String,
    /// [`ADMIN_GID`], or that user's uid.
    pub(crate) gid: u32,
}

/// All that one request may see: the snapshot and the local accounts at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    directory: Option<Arc<Directory>>,
    local: Option<Arc<Local>>,
    now: Timestamp,
}

impl View {
    /// Puts the parts together. Without a snapshot, or without ever having read `/etc/passwd`,
    /// nobody is answered for.
    pub(crate) const fn new(
        directory: Option<Arc<Directory>>,
        local: Option<Arc<Local>>,
        now: Timestamp,
    ) -> Self {
        Self { directory, local, now }
    }

    fn parts(&self) -> Option<(&Directory, &Local)> {
        Some((self.directory.as_deref()?, self.local.as_deref()?))
    }

    fn is_locked(&self, account: &Account) -> bool {
        account.unlocked_until.is_none_or(|until| self.now >= until)
    }

    fn known(&self, directory: &Directory, account: &Account) -> User {
        User {
            name: account.name.clone(),
            uid: account.uid,
            shell: directory.shell.clone(),
            locked: self.is_locked(account),
        }
    }

    /// A local account may have appeared after the snapshot was accepted, so this is asked each
    /// time.
    fn visible(local: &Local, name: &LoginName, uid: u32) -> bool {
        !local.hides(name) && !local.owns(uid)
    }

    /// The user of this name: known, or computed and locked.
    fn user_named(&self, name: &str) -> Result<User, Miss> {
        let (directory, local) = self.parts().ok_or(Miss::NoRecord)?;
        let name = LoginName::parse(name).map_err(|_| Miss::NoRecord)?;
        let user = match directory.named(&name) {
            Some(account) => self.known(directory, account),
            None if directory.allows(&name) => {
                let uid = uid_of(directory.tenant, &name);
                User { name, uid, shell: directory.shell.clone(), locked: true }
            }
            None => return Err(Miss::NoRecord),
        };
        if Self::visible(local, &user.name, user.uid) { Ok(user) } else { Err(Miss::NoRecord) }
    }

    /// The known user of this uid.
    fn user_numbered(&self, uid: u32) -> Result<User, Miss> {
        let (directory, local) = self.parts().ok_or(Miss::NoRecord)?;
        let account = directory.numbered(uid).ok_or(Miss::NoRecord)?;
        if Self::visible(local, &account.name, uid) {
            Ok(self.known(directory, account))
        } else {
            Err(Miss::NoRecord)
        }
    }

    /// The user of this name, of this uid, or of both.
    ///
    /// A computed uid may already be a known person's. The record is given all the same, locked,
    /// so that the daemon can refuse the login with a reason; asked by uid, only the known owner
    /// is answered.
    pub(crate) fn user(&self, name: Option<&str>, uid: Option<u32>) -> Result<User, Miss> {
        match (name, uid) {
            (Some(name), None) => self.user_named(name),
            (None, Some(uid)) => self.user_numbered(uid),
            (Some(name), Some(uid)) => {
                let user = self.user_named(name)?;
                let other_owner = self.user_numbered(uid).is_ok_and(|owner| owner.name != user.name);
                if user.uid == uid && !other_owner { Ok(user) } else { Err(Miss::Conflict) }
            }
            (None, None) => Err(Miss::NoRecord),
        }
    }

    /// Everybody who has been let in.
    pub(crate) fn users(&self) -> impl Iterator<Item = User> {
        self.parts().into_iter().flat_map(move |(directory, local)| {
            let shown = |account: &&Account| Self::visible(local, &account.name, account.uid);
            directory.accounts.iter().filter(shown).map(move |account| self.known(directory, account))
        })
    }

    /// The group of this name, of this gid, or of both: the admin group, or a known user's own.
    pub(crate) fn group(&self, name: Option<&str>, gid: Option<u32>) -> Result<Group, Miss> {
        let admins = || Group { name: ADMIN_GROUP.to_owned(), gid: ADMIN_GID };
        let group = match (name, gid) {
            (Some(ADMIN_GROUP), _) | (None, Some(ADMIN_GID)) => admins(),
            (Some(name), _) => {
                // A name never seen has no group yet: nobody could find it by its gid.
                let user = self.user_named(name)?;
                let owner = self.user_numbered(user.uid)?;
                if owner.name != user.name {
                    return Err(Miss::NoRecord);
                }
                Group { name: user.name.to_string(), gid: user.uid }
            }
            (None, Some(gid)) => {
                let user = self.user_numbered(gid)?;
                Group { name: user.name.to_string(), gid: user.uid }
            }
            (None, None) => return Err(Miss::NoRecord),
        };
        if gid.is_none_or(|gid| gid == group.gid) { Ok(group) } else { Err(Miss::Conflict) }
    }

    /// The admin group and the own group of everybody who has been let in.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Group> {
        let admins = Group { name: ADMIN_GROUP.to_owned(), gid: ADMIN_GID };
        let own = self.users().map(|user| Group { name: user.name.to_string(), gid: user.uid });
        std::iter::once(admins).chain(own)
    }

    /// The members of the admin group, filtered by user and by group. A locked account is no
    /// member: the right ends with the access, even when the daemon hangs.
    pub(crate) fn admins(&self, user: Option<&str>, group: Option<&str>) -> impl Iterator<Item = &LoginName> {
        let ours = group.is_none_or(|name| name == ADMIN_GROUP);
        self.parts().filter(|_| ours).into_iter().flat_map(move |(directory, local)| {
            let (one, all) = match user {
                Some(name) => {
                    (LoginName::parse(name).ok().and_then(|name| directory.named(&name)), [].as_slice())
                }
                None => (None, directory.accounts.as_slice()),
            };
            let admin = |account: &&Account| {
                account.admin && !self.is_locked(account) && Self::visible(local, &account.name, account.uid)
            };
            one.into_iter().chain(all).filter(admin).map(|account| &account.name)
        })
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
