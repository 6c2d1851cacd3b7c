//! One sealed file for what must outlive a restart and stay secret: refresh tokens and keys.
//!
//! AES-256-GCM under a key that systemd hands over at start (`LoadCredentialEncrypted=`, systemd.exec(5));
//! the file alone is worth nothing, also on another machine. A second file remembers the newest
//! generation, so that an older file put back is refused. Who can put back *both* files of the same
//! moment is not noticed: that takes a counter in hardware. Never holds an access token, and never
//! writes anything when there is no key.

mod format;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use zeroize::Zeroizing;

use self::format::{Entries, Epoch, Key, Kind, Unreadable};
use super::disk::Disk;
use super::replace::{StoreError, beside, folder_of, remove_on, replace_on};

/// The largest sealed file, in bytes.
pub const MAX_STORE_BYTES: u64 = 1024 * 1024;
/// The largest entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 16 * 1024;
/// The most entries.
pub const MAX_ENTRIES: usize = 256;
/// The longest name of an entry, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The shortest key that systemd may hand over, in bytes.
pub const MIN_KEY_BYTES: usize = 32;
/// The longest key that systemd may hand over, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The largest high-water file, in bytes; it has one size.
const MAX_HIGH_WATER_BYTES: u64 = 256;
const MODE: u32 = 0o600;

/// What protects the key at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealKind {
    /// The machine's TPM.
    Tpm,
    /// The TPM and the host key together.
    TpmAndHost,
    /// `/var/lib/systemd/credential.secret`, which only root reads.
    Host,
    /// No key: nothing is written, and sign-ins end with the daemon.
    Unsealed,
}

impl SealKind {
    /// The kind by the name that `systemd-creds encrypt --with-key=` has for it.
    #[must_use]
    pub fn of_key(name: &str) -> Option<Self> {
        [Self::Tpm, Self::TpmAndHost, Self::Host].into_iter().find(|kind| kind.to_string() == name)
    }
}

impl fmt::Display for SealKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tpm => "tpm2",
            Self::TpmAndHost => "host+tpm2",
            Self::Host => "host",
            Self::Unsealed => "memory",
        })
    }
}

/// Where the two files are. They may stand in two folders, so that one backup does not hold both.
#[derive(Clone, Debug)]
pub struct Places {
    /// The sealed file.
    pub store: PathBuf,
    /// The newest generation.
    pub high_water: PathBuf,
}

/// Why the sealed file could not be used or written.
#[derive(Debug, Error)]
pub enum SealedError {
    /// A file operation failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The credential is no key.
    #[error(
        "the sealing key has {0} bytes instead of {MIN_KEY_BYTES} to {MAX_KEY_BYTES}; make it again with `systemd-creds encrypt`"
    )]
    Key(usize),
    /// Too large or too many.
    #[error("no room for more in the sealed store; sign somebody out with `nightlatch logout`")]
    Full,
    /// The crypto library failed.
    #[error("nothing can be sealed: the system gives no randomness")]
    Crypto,
}

/// What was found at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing was ever stored.
    Nothing,
    /// Everything that was stored last.
    Whole,
    /// What was there is not used.
    Discarded(Discarded),
}

/// Why what was there is not used. In each case the people have to sign in again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Discarded {
    /// An older file was put back.
    #[error(
        "the sealed file is of generation {found}, the newest was {newest}: an older file was put back and is discarded; sign in again with `nightlatch login`"
    )]
    RolledBack {
        /// The generation in the file.
        found: u64,
        /// The newest one that was ever written.
        newest: u64,
    },
    /// The file is gone, although something was stored.
    #[error("the sealed file is gone; sign in again with `nightlatch login`")]
    Gone,
    /// The high-water file is gone or does not fit, so that the age of the sealed file is not known.
    #[error(
        "the age of the sealed file cannot be told, so it is discarded; sign in again with `nightlatch login`"
    )]
    AgeUnknown,
    /// Sealed with another key: a new TPM, or the credential was made again.
    #[error("the sealed file belongs to another key; sign in again with `nightlatch login`")]
    OtherKey,
    /// Damaged, or of another machine.
    #[error("the sealed file is damaged or of another machine; sign in again with `nightlatch login`")]
    Damaged,
}

struct State {
    entries: Entries,
    epoch: Epoch,
    /// The newest generation that a write was begun with; never used twice.
    generation: u64,
    /// Whether the high-water file of this epoch is on the disk. Only then may a store be written.
    anchored: bool,
    /// Whether the disk lacks something of `entries`.
    unwritten: bool,
}

/// The sealed store. Reads come from memory; each change is durable before it is said to be done.
pub struct Sealed {
    disk: Arc<dyn Disk>,
    places: Option<(Places, Key)>,
    kind: SealKind,
    state: Mutex<State>,
}

impl Sealed {
    /// A store without a key: everything is kept in memory, nothing is written.
    #[must_use]
    pub fn in_memory() -> Self {
        let state = State::empty([0; 16], 0, false);
        Self {
            disk: Arc::new(super::RealDisk),
            places: None,
            kind: SealKind::Unsealed,
            state: Mutex::new(state),
        }
    }

    /// Opens the store of this machine with the key that systemd handed over.
    ///
    /// # Errors
    /// [`SealedError`] when a file cannot be read or is unsafe, or the key is none. A file that can be
    /// read and must not be used is no error: it is discarded, as [`Found`] tells.
    pub fn open(
        disk: Arc<dyn Disk>,
        places: Places,
        key: &[u8],
        kind: SealKind,
        machine_id: &str,
    ) -> Result<(Self, Found), SealedError> {
        if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len()) {
            return Err(SealedError::Key(key.len()));
        }
        let key = Key::derive(key, machine_id).ok_or(SealedError::Crypto)?;
        for path in [&places.store, &places.high_water] {
            disk.check_folder(folder_of(path))?;
            // Left behind by a crash; the next write would take it away as well.
            let _ = disk.remove(&beside(path));
        }
        let newest = disk.read(&places.high_water, MAX_HIGH_WATER_BYTES)?;
        let newest = newest.map(|bytes| key.open(Kind::HighWater, bytes));
        let store = disk.read(&places.store, MAX_STORE_BYTES)?;
        let there = store.is_some();
        let store = store.map(|bytes| {
            let opened = key.open(Kind::Store, bytes)?;
            let entries = format::decode(&opened.plain).ok_or(Unreadable::Form)?;
            Ok((opened.epoch, opened.generation, entries))
        });
        let (state, found) = match newest {
            Some(Ok(newest)) => settle(newest.epoch, newest.generation, store),
            missing => {
                let found = match (missing, store) {
                    (None, None) => Found::Nothing,
                    (Some(Err(Unreadable::OtherKey)), None) => Found::Discarded(Discarded::OtherKey),
                    (_, Some(Err(Unreadable::OtherKey))) => Found::Discarded(Discarded::OtherKey),
                    (_, Some(Err(_))) => Found::Discarded(Discarded::Damaged),
                    _ => Found::Discarded(Discarded::AgeUnknown),
                };
                let mut epoch = [0; 16];
                aws_lc_rs::rand::fill(&mut epoch).map_err(|_| SealedError::Crypto)?;
                (State::empty(epoch, 0, false), found)
            }
        };
        let unusable = matches!(
            found,
            Found::Discarded(Discarded::RolledBack { .. } | Discarded::AgeUnknown | Discarded::Damaged)
        );
        if there && unusable {
            // It would be refused again; its tokens must not lie about.
            remove_on(&*disk, &places.store)?;
        }
        let sealed = Self { disk, places: Some((places, key)), kind, state: Mutex::new(state) };
        {
            let mut state = sealed.lock();
            // Ends the moment in which the file before this one would still have been taken. A full disk
            // must not cost anybody the sign-in, so the next change tries again.
            if state.unwritten && sealed.write_high_water(&state.epoch, state.generation).is_ok() {
                state.unwritten = false;
            }
        }
        Ok((sealed, found))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Between two statements the state is whole; `unwritten` is set before the disk is touched.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What protects the key.
    #[must_use]
    pub const fn kind(&self) -> SealKind {
        self.kind
    }

    /// An entry.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.lock().entries.get(name).cloned()
    }

    /// The names that begin with `prefix`.
    #[must_use]
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.lock().entries.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Keeps `value` under `name` in place of what was there. When this returns without an error it is on
    /// the disk. Blocks for the disk: call it from a thread that may wait.
    ///
    /// # Errors
    /// [`SealedError::Full`] changes nothing. After any other one the entry stands in memory, the disk has
    /// this or the one before, and [`Self::flush`] or the next change writes it.
    pub fn put(&self, name: &str, value: Zeroizing<Vec<u8>>) -> Result<(), SealedError> {
        if name.len() > MAX_NAME_BYTES || value.len() > MAX_ENTRY_BYTES {
            return Err(SealedError::Full);
        }
        let mut state = self.lock();
        let before = state.entries.insert(name.to_owned(), value);
        let fits = state.entries.len() <= MAX_ENTRIES
            && u64::try_from(format::size_of(&state.entries)).is_ok_and(|size| size + 256 <= MAX_STORE_BYTES);
        if !fits {
            match before {
                Some(before) => state.entries.insert(name.to_owned(), before),
                None => state.entries.remove(name),
            };
            return Err(SealedError::Full);
        }
        self.commit(&mut state)
    }

    /// Forgets an entry, durably; says whether it was there.
    ///
    /// # Errors
    /// As [`Self::put`]: it is gone from memory, the disk may still have it until the next write.
    pub fn remove(&self, name: &str) -> Result<bool, SealedError> {
        let mut state = self.lock();
        let there = state.entries.remove(name).is_some();
        if there || state.unwritten {
            self.commit(&mut state)?;
        }
        Ok(there)
    }

    /// Writes what an earlier failure left in memory only.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn flush(&self) -> Result<(), SealedError> {
        let mut state = self.lock();
        if state.unwritten { self.commit(&mut state) } else { Ok(()) }
    }

    /// Order matters: the store first, the high water after it. A crash in between leaves a store that is
    /// newer than the high water, which is taken; the other order would leave one that looks put back.
    fn commit(&self, state: &mut State) -> Result<(), SealedError> {
        let Some((places, key)) = &self.places else { return Ok(()) };
        state.unwritten = true;
        if !state.anchored {
            self.write_high_water(&state.epoch, state.generation)?;
            state.anchored = true;
        }
        state.generation = state.generation.saturating_add(1);
        let plain = format::encode(&state.entries).ok_or(SealedError::Full)?;
        let bytes =
            key.seal(Kind::Store, &state.epoch, state.generation, plain).ok_or(SealedError::Crypto)?;
        replace_on(&*self.disk, &places.store, &bytes, MODE, true)?;
        self.write_high_water(&state.epoch, state.generation)?;
        state.unwritten = false;
        Ok(())
    }

    fn write_high_water(&self, epoch: &Epoch, generation: u64) -> Result<(), SealedError> {
        let Some((places, key)) = &self.places else { return Ok(()) };
        let empty = Zeroizing::new(Vec::new());
        let bytes = key.seal(Kind::HighWater, epoch, generation, empty).ok_or(SealedError::Crypto)?;
        Ok(replace_on(&*self.disk, &places.high_water, &bytes, MODE, true)?)
    }
}

impl State {
    const fn empty(epoch: Epoch, generation: u64, anchored: bool) -> Self {
        Self { entries: Entries::new(), epoch, generation, anchored, unwritten: false }
    }
}

/// What a store is worth beside a high water that can be trusted.
fn settle(
    epoch: Epoch,
    newest: u64,
    store: Option<Result<(Epoch, u64, Entries), Unreadable>>,
) -> (State, Found) {
    let discard = |why| (State::empty(epoch, newest, true), Found::Discarded(why));
    match store {
        None if newest == 0 => (State::empty(epoch, 0, true), Found::Nothing),
        None => discard(Discarded::Gone),
        Some(Ok((of, generation, entries))) if of == epoch && generation >= newest => {
            // Newer than the high water: the power went between the two writes.
            let unwritten = generation > newest;
            (State { entries, unwritten, ..State::empty(epoch, generation, true) }, Found::Whole)
        }
        Some(Ok((_, found, _))) => discard(Discarded::RolledBack { found, newest }),
        Some(Err(Unreadable::OtherKey)) => discard(Discarded::OtherKey),
        Some(Err(_)) => discard(Discarded::Damaged),
    }
}
