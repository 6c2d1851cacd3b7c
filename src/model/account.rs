//! The accounts that userdbd answers for, and how a uid comes from a name.
//!
//! The daemon writes a [`Snapshot`], userdbd reads it. The file has no place for a gid, a group
//! or a home: those follow from the uid, so a broken or hostile daemon cannot express uid 0 or a
//! membership in a local group.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::guid::TenantId;
use crate::name::LoginName;
use crate::time::Timestamp;

/// The first uid that is ours: above every range that systemd or Debian hands out.
pub const UID_LOW: u32 = 1_879_048_192;
/// The last uid that is ours: below 2^31, so that no signed reader turns it negative.
pub const UID_HIGH: u32 = 2_147_352_575;
/// The one group that userdbd knows beside each person's own.
pub const ADMIN_GROUP: &str = "nightlatch-admins";
/// The gid of [`ADMIN_GROUP`]: the last of our range, never a person's uid.
pub const ADMIN_GID: u32 = UID_HIGH;
/// The most accounts that one snapshot holds.
pub const MAX_ACCOUNTS: usize = 10_000;
/// The largest snapshot file, in bytes.
pub const MAX_SNAPSHOT_BYTES: u64 = 4 * 1024 * 1024;

/// True for a uid that may belong to a person whom Entra lets in.
#[must_use]
pub const fn is_our_uid(uid: u32) -> bool {
    uid >= UID_LOW && uid < ADMIN_GID
}

/// The uid of a name at first sight: the same on every node of a tenant, and computed, so that
/// asking for many names exhausts nothing.
///
/// SHA-256 over `nightlatch uid 1`, a zero byte, the tenant's 16 bytes and the canonical name;
/// the first eight bytes, big-endian, modulo the size of the range. Two names may meet; the first
/// yes binds the uid to one object id, and the other is refused.
#[must_use]
pub fn uid_of(tenant: TenantId, name: &LoginName) -> u32 {
    let mut hash = Sha256::new();
    hash.update(b"nightlatch uid 1\0");
    hash.update(tenant.0.as_bytes());
    hash.update(name.as_str().as_bytes());
    let digest = hash.finalize();
    let first = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let size = u64::from(ADMIN_GID - UID_LOW);
    UID_LOW + u32::try_from(first % size).unwrap_or(0)
}

/// The home of a uid: never made from a name, so that a name cannot choose a path.
#[must_use]
pub fn home_of(uid: u32) -> String {
    format!("/home/nl-{uid}")
}

/// One person who has been let in at least once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The canonical login name.
    pub name: LoginName,
    /// The uid bound to this person; differs from [`uid_of`] after a rename.
    pub uid: u32,
    /// Member of [`ADMIN_GROUP`].
    pub admin: bool,
    /// Until when the account is unlocked; locked when absent or past.
    pub unlocked_until: Option<Timestamp>,
}

/// What nightlatchd tells userdbd, whole, in one file that is renamed into place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The format; 1.
    pub version: u32,
    /// The tenant, for computing the uid of names never seen.
    pub tenant: TenantId,
    /// The domains whose names are answered; all when empty.
    pub domains: Vec<String>,
    /// The shell of every account.
    pub shell: String,
    /// Everybody who has been let in.
    pub accounts: Vec<Account>,
    /// No name is answered, since another agent answers for the same ones: the node only observes.
    #[serde(default)]
    pub silent: bool,
}

/// Why a snapshot was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Written by a newer or a broken daemon.
    #[error("snapshot version {0} is not known; upgrade nightlatch-userdbd")]
    Version(u32),
    /// More than [`MAX_ACCOUNTS`].
    #[error("the snapshot holds {0} accounts, more than {MAX_ACCOUNTS}")]
    TooMany(usize),
    /// A uid outside our range.
    #[error("uid {uid} of `{name}` is outside the range {UID_LOW}-{UID_HIGH}")]
    ForeignUid {
        /// Whose record it is.
        name: LoginName,
        /// The uid it claims.
        uid: u32,
    },
    /// Two records share a name or a uid.
    #[error("`{0}` shares its name or uid with another record")]
    Duplicate(LoginName),
    /// The name is also in /etc/passwd.
    #[error("`{0}` is also a local account")]
    LocalName(LoginName),
    /// A shell that is not an absolute plain path.
    #[error("the shell is not an absolute path of plain characters")]
    Shell,
}

impl Snapshot {
    /// Checks every record; one bad record refuses the whole snapshot. `is_local` says whether a
    /// name stands in /etc/passwd.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, is_local: impl Fn(&str) -> bool) -> Result<(), SnapshotError> {
        if self.version != 1 {
            return Err(SnapshotError::Version(self.version));
        }
        if self.accounts.len() > MAX_ACCOUNTS {
            return Err(SnapshotError::TooMany(self.accounts.len()));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
        if !self.shell.starts_with('/') || self.shell.len() > 128 || !self.shell.bytes().all(plain) {
            return Err(SnapshotError::Shell);
        }
        let mut names = HashSet::new();
        let mut uids = HashSet::new();
        for account in &self.accounts {
            if !is_our_uid(account.uid) {
                return Err(SnapshotError::ForeignUid { name: account.name.clone(), uid: account.uid });
            }
            if !names.insert(&account.name) || !uids.insert(account.uid) {
                return Err(SnapshotError::Duplicate(account.name.clone()));
            }
            if is_local(account.name.as_str()) {
                return Err(SnapshotError::LocalName(account.name.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        "11111111-2222-3333-4444-555555555555".parse().unwrap()
    }

    fn snapshot() -> Snapshot {
        let name = LoginName::parse("alice@contoso.com").unwrap();
        let uid = uid_of(tenant(), &name);
        let alice = Account { name, uid, admin: false, unlocked_until: None };
        Snapshot {
            version: 1,
            tenant: tenant(),
            domains: vec![],
            shell: "/bin/sh".into(),
            accounts: vec![alice],
            silent: false,
        }
    }

    /// A published function: other nodes and shared homes rely on these very numbers.
    #[test]
    fn uids_never_change() {
        let alice = LoginName::parse("alice@contoso.com").unwrap();
        assert_eq!(uid_of(tenant(), &alice), 2_053_995_215);
        assert_eq!(home_of(uid_of(tenant(), &alice)), "/home/nl-2053995215");
        let other = "99999999-2222-3333-4444-555555555555".parse().unwrap();
        assert_ne!(uid_of(tenant(), &alice), uid_of(other, &alice));
    }

    #[test]
    fn computed_uids_stay_in_range() {
        for i in 0..20_000 {
            let name = LoginName::parse(&format!("user{i}@contoso.com")).unwrap();
            assert!(is_our_uid(uid_of(tenant(), &name)));
        }
    }

    #[test]
    fn a_good_snapshot_passes() {
        assert_eq!(snapshot().check(|_| false), Ok(()));
    }

    #[test]
    fn one_bad_record_refuses_the_whole() {
        for uid in
            [0, 1, 999, 1000, 61_184, 65_519, 65_534, 65_535, UID_LOW - 1, ADMIN_GID, 1 << 31, u32::MAX]
        {
            let mut bad = snapshot();
            bad.accounts[0].uid = uid;
            assert!(matches!(bad.check(|_| false), Err(SnapshotError::ForeignUid { .. })), "{uid}");
        }
        let mut twice = snapshot();
        twice.accounts.push(twice.accounts[0].clone());
        assert!(matches!(twice.check(|_| false), Err(SnapshotError::Duplicate(_))));
        assert!(matches!(snapshot().check(|n| n == "alice@contoso.com"), Err(SnapshotError::LocalName(_))));
        let mut shell = snapshot();
        shell.shell = "/bin/sh\n".into();
        assert_eq!(shell.check(|_| false), Err(SnapshotError::Shell));
    }

    #[test]
    fn a_gid_or_a_group_cannot_be_expressed() {
        let text = serde_json::to_string(&snapshot()).unwrap();
        assert!(serde_json::from_str::<Snapshot>(&text).is_ok());
        for extra in [r#""gid":0,"#, r#""groups":["sudo"],"#, r#""home":"/root","#] {
            let planted = text.replace(r#""admin""#, &format!(r#"{extra}"admin""#));
            assert!(serde_json::from_str::<Snapshot>(&planted).is_err(), "{extra}");
        }
    }
}
