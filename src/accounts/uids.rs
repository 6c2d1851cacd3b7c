//! Which uid a name has before anybody was let in under it: the published hash, or what an
//! administrator wrote down to settle a collision.

use std::collections::{HashMap, HashSet};

use nightlatch_model::{LoginName, TenantId, is_our_uid, uid_of};

/// Names whose uid an administrator chose (`login.uid_overrides`).
#[derive(Debug, Clone, Default)]
pub struct UidOverrides(HashMap<LoginName, u32>);

impl UidOverrides {
    /// Takes the overrides that lie in our range, each for one name.
    ///
    /// # Errors
    /// The first name whose uid does not, or is another name's as well.
    pub fn new(pairs: impl IntoIterator<Item = (LoginName, u32)>) -> Result<Self, LoginName> {
        let mut map = HashMap::new();
        let mut uids = HashSet::new();
        for (name, uid) in pairs {
            if !is_our_uid(uid) || !uids.insert(uid) {
                return Err(name);
            }
            map.insert(name, uid);
        }
        Ok(Self(map))
    }

    /// The uid of a name at first sight.
    #[must_use]
    pub fn uid(&self, tenant: TenantId, name: &LoginName) -> u32 {
        self.0.get(name).copied().unwrap_or_else(|| uid_of(tenant, name))
    }

    /// Every override, for the snapshot: userdbd must give the same answer.
    pub fn iter(&self) -> impl Iterator<Item = (&LoginName, u32)> {
        self.0.iter().map(|(name, uid)| (name, *uid))
    }
}
