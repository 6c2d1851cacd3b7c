//! Secrets of a user's in the kernel's memory (keyrings(7)): in no file and never swapped out, though in the image of a machine
//! that hibernates; gone at the next boot, or when none of the user's programs asked for any key of the user's for some days
//! (`/proc/sys/kernel/keys/persistent_keyring_expiry`).
//!
//! Every program of the same user can read them, whatever root folder and namespaces it has, but for a user namespace of its
//! own; nobody else but root can. Where the kernel or a container closes its keyrings, nothing is kept at all: there is no
//! file to fall back to.

use std::time::Duration;

use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest name, in bytes: the kernel's own limit is a page.
const MAX_NAME_BYTES: usize = 2_048;
/// The largest secret, in bytes: a user may have 20,000 bytes in all (`/proc/sys/kernel/keys/maxbytes`).
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// Why the kernel holds nothing for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// It, or what runs this program in a container, does not let us.
    #[error("the kernel's keyrings are closed to this program, as in most containers ({0})")]
    Closed(KeyError),
    /// The user's share is used up.
    #[error(
        "this user's share of the kernel's keyrings is used up: look at `keyctl show @u` and /proc/key-users"
    )]
    Full,
    /// Name or secret are longer than we take.
    #[error("it is too large for the kernel's keyring")]
    TooLarge,
}

impl From<KeyError> for KeyringError {
    fn from(why: KeyError) -> Self {
        if why == KeyError::QuotaExceeded { Self::Full } else { Self::Closed(why) }
    }
}

/// The keys that the kernel holds for a user.
#[derive(Debug)]
pub struct Keyring {
    ring: KeyRing,
}

impl Keyring {
    /// Those of whoever runs this program: they outlive its sessions (persistent-keyring(7)). A kernel that has none such
    /// holds keys for as long as the user has a process (user-keyring(7)).
    ///
    /// # Errors
    /// [`KeyringError::Closed`].
    pub fn of_user() -> Result<Self, KeyringError> {
        // Linked to this process alone, which is what lets it read them. The session's keyring may be a dead one, and where
        // no login made one, as for cron, all users share one of root's.
        let process = KeyRing::from_special_id(KeyRingIdentifier::Process, true)?;
        match KeyRing::get_persistent(KeyRingIdentifier::Process) {
            Ok(ring) => Ok(Self { ring }),
            Err(_) => Self::of_user_with_a_process(process),
        }
    }

    fn of_user_with_a_process(process: KeyRing) -> Result<Self, KeyringError> {
        process.link_keyring_id(KeyRingIdentifier::User)?;
        Ok(Self { ring: KeyRing::from_special_id(KeyRingIdentifier::User, false)? })
    }

    /// Those of this process, which end with it.
    #[cfg(test)]
    pub(crate) fn of_process() -> Result<Self, KeyringError> {
        Ok(Self { ring: KeyRing::from_special_id(KeyRingIdentifier::Process, true)? })
    }

    /// Has the secret held under this name, in place of an earlier one, for at most so long.
    ///
    /// # Errors
    /// [`KeyringError`]; nothing is held under this name then.
    pub fn put(&self, name: &str, secret: &[u8], lasts: Duration) -> Result<(), KeyringError> {
        if name.len() > MAX_NAME_BYTES || secret.len() > MAX_SECRET_BYTES {
            return Err(KeyringError::TooLarge);
        }
        // Another payload under the same key would take its time away until it is set again.
        self.remove(name)?;
        let key = self.ring.add_key(name, secret)?;
        let timed = key.set_timeout(usize::try_from(lasts.as_secs().max(1)).unwrap_or(usize::MAX));
        timed.map_err(|why| {
            // Nothing is held for longer than was asked for.
            let _ = key.invalidate();
            why.into()
        })
    }

    /// The secret under this name; `None` where there is none, or it is over.
    ///
    /// # Errors
    /// [`KeyringError::Closed`].
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
        let Some(key) = self.find(name)? else { return Ok(None) };
        let mut bytes = Zeroizing::new(vec![0; MAX_SECRET_BYTES]);
        let length = match key.read(&mut *bytes) {
            Ok(length) => length,
            Err(KeyError::KeyExpired | KeyError::KeyRevoked | KeyError::KeyDoesNotExist) => return Ok(None),
            Err(why) => return Err(why.into()),
        };
        // The kernel says how long it is, also where it is longer than we take.
        Ok(bytes.get(..length).map(|bytes| Zeroizing::new(bytes.to_vec())))
    }

    /// Has the secret under this name forgotten; whether there was one.
    ///
    /// # Errors
    /// [`KeyringError::Closed`].
    pub fn remove(&self, name: &str) -> Result<bool, KeyringError> {
        let Some(key) = self.find(name)? else { return Ok(false) };
        key.invalidate()?;
        Ok(true)
    }

    fn find(&self, name: &str) -> Result<Option<Key>, KeyringError> {
        match self.ring.search(name) {
            Ok(key) => Ok(Some(key)),
            Err(KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_secret_is_held_replaced_and_forgotten() {
        let ring = Keyring::of_process().unwrap();
        let get =
            |name: &str| ring.get(name).unwrap().map(|secret| String::from_utf8(secret.to_vec()).unwrap());
        assert_eq!(get("nightlatch test held"), None);
        for text in ["first", "", "the second, which is longer"] {
            let put = ring.put("nightlatch test held", text.as_bytes(), HOUR);
            assert_eq!(
                (put.is_ok(), get("nightlatch test held").is_some()),
                (!text.is_empty(), !text.is_empty())
            );
        }
        assert_eq!(get("nightlatch test held").as_deref(), Some("the second, which is longer"));
        assert_eq!(get("nightlatch test hel"), None, "names are whole");
        assert_eq!(ring.remove("nightlatch test held"), Ok(true));
        assert_eq!((get("nightlatch test held"), ring.remove("nightlatch test held")), (None, Ok(false)));
    }

    /// Programs without a login session share root's keyring of the session, cron's with everybody's: whoever linked their
    /// keys there would give them to all.
    #[test]
    fn the_sessions_keyring_learns_nothing() {
        let (ring, name) = (Keyring::of_user().unwrap(), format!("nightlatch test {}", std::process::id()));
        ring.put(&name, b"secret", HOUR).unwrap();
        let session = KeyRing::from_special_id(KeyRingIdentifier::Session, true).unwrap();
        assert_eq!(session.search(&name).err(), Some(KeyError::KeyDoesNotExist));
        let again = Keyring::of_user().unwrap();
        assert_eq!(again.get(&name).unwrap().as_deref().map(Vec::as_slice), Some(&b"secret"[..]));
        assert_eq!(again.remove(&name), Ok(true));
    }

    #[test]
    fn a_kernel_without_persistent_keyrings_holds_keys_for_the_user() {
        let name = format!("nightlatch test of a user {}", std::process::id());
        let ring = || {
            let process = KeyRing::from_special_id(KeyRingIdentifier::Process, true).unwrap();
            Keyring::of_user_with_a_process(process).unwrap()
        };
        ring().put(&name, b"secret", HOUR).unwrap();
        assert_eq!(ring().get(&name).unwrap().as_deref().map(Vec::as_slice), Some(&b"secret"[..]));
        assert_eq!((ring().remove(&name), ring().get(&name).unwrap()), (Ok(true), None));
    }

    #[test]
    fn nothing_outlives_its_time() {
        let ring = Keyring::of_process().unwrap();
        let name = "nightlatch test timed";
        for (lasts, least) in [(Duration::ZERO, 0), (Duration::from_secs(30), 20)] {
            ring.put(name, b"short", lasts).unwrap();
            let key = ring.ring.search(name).unwrap().get_id().as_raw_id();
            let keys = std::fs::read_to_string("/proc/keys").unwrap();
            let line = keys.lines().find(|line| line.starts_with(&format!("{key:08x}"))).unwrap();
            // Flags, uses, and what is left of its life in seconds.
            let left = line.split_whitespace().nth(3).unwrap();
            let left: u64 = left.strip_suffix('s').map_or(0, |seconds| seconds.parse().unwrap());
            assert!((least..=lasts.as_secs().max(1)).contains(&left), "{line}");
        }
        ring.remove(name).unwrap();
    }

    #[test]
    fn what_is_too_large_is_not_held() {
        let ring = Keyring::of_process().unwrap();
        let large = |bytes: usize| vec![b'x'; bytes];
        let name = "nightlatch test large";
        assert_eq!(ring.put(name, &large(MAX_SECRET_BYTES + 1), HOUR), Err(KeyringError::TooLarge));
        assert_eq!(ring.put(&"n".repeat(MAX_NAME_BYTES + 1), &large(1), HOUR), Err(KeyringError::TooLarge));
        ring.put(name, &large(MAX_SECRET_BYTES), HOUR).unwrap();
        assert_eq!(ring.get(name).unwrap().unwrap().len(), MAX_SECRET_BYTES);
        ring.remove(name).unwrap();
    }
}
