//! How many keys may be kept: the machine's own in one part, those of people in another.
//!
//! Everybody on the node may ask for a person's token of any resource, and each such question is a key, also
//! when nobody is signed in. So people's keys never take the place of a service's, one uid has a few only,
//! and where the people's part is full the uid with the most gives way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nightlatch_tokens::TokenKey;

/// The most keys of one uid's person.
pub(super) const MAX_KEYS_OF_OWNER: usize = 64;
/// One of so many places is for people's keys.
pub(super) const PEOPLE_SHARE: usize = 4;

/// The counted keys. Its lock is taken last, also under that of a shard.
#[derive(Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    machine: usize,
    people: usize,
    of_owner: HashMap<u32, usize>,
}

/// Whose key has to go, so that there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// One of the machine's own.
    Machine,
    /// One of this uid's person.
    Of(u32),
}

impl Victim {
    /// Whether `key` is one of those.
    pub(super) fn is(self, key: &TokenKey) -> bool {
        match self {
            Self::Machine => key.owner.is_none(),
            Self::Of(uid) => key.owner == Some(uid),
        }
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for `key` out of `most`; `None` when its part is full.
    pub(super) fn take(&self, key: &TokenKey, most: usize) -> Option<()> {
        let people = most / PEOPLE_SHARE;
        let mut taken = self.taken();
        let Some(uid) = key.owner else {
            if taken.machine >= most.saturating_sub(people) {
                return None;
            }
            taken.machine += 1;
            return Some(());
        };
        let mine = taken.of_owner.get(&uid).copied().unwrap_or(0);
        if taken.people >= people || mine >= MAX_KEYS_OF_OWNER {
            return None;
        }
        taken.people += 1;
        taken.of_owner.insert(uid, mine + 1);
        Some(())
    }

    /// Gives the place of `key` back.
    pub(super) fn give_back(&self, key: &TokenKey) {
        let mut taken = self.taken();
        let Some(uid) = key.owner else {
            taken.machine = taken.machine.saturating_sub(1);
            return;
        };
        taken.people = taken.people.saturating_sub(1);
        match taken.of_owner.get(&uid).copied() {
            Some(mine) if mine > 1 => taken.of_owner.insert(uid, mine - 1),
            _ => taken.of_owner.remove(&uid),
        };
    }

    /// How many places are taken.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let taken = self.taken();
        taken.machine + taken.people
    }

    /// Whose key gives way to `key` when there is no place.
    pub(super) fn victim_for(&self, key: &TokenKey) -> Victim {
        let Some(uid) = key.owner else { return Victim::Machine };
        let taken = self.taken();
        if taken.of_owner.get(&uid).is_some_and(|mine| *mine >= MAX_KEYS_OF_OWNER) {
            return Victim::Of(uid);
        }
        let most = taken.of_owner.iter().max_by_key(|(_, count)| **count);
        most.map_or(Victim::Of(uid), |(uid, _)| Victim::Of(*uid))
    }
}
