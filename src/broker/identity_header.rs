//! The `X-IDENTITY-HEADER` of the loopback door: who was given it may use that door.
//!
//! It is a name and its HMAC-SHA256 under a key that is new at each boot of the daemon's making:
//! `backup.service.<64 hex digits>` or `uid:1000.<64 hex digits>`. It goes into a unit's environment and
//! proves that the program was given it, nothing more: the uid still comes from the kernel.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::store::{StoreError, read_capped, replace_file};

/// The longest name in a header, in bytes: the longest name of a systemd unit.
const MAX_NAME_BYTES: usize = 256;
/// The hex digits of the HMAC.
const MAC_DIGITS: usize = 64;

/// The folder of the key: on the file system that ends with the boot, kept over restarts of the daemon
/// (`RuntimeDirectory=` of its unit).
pub const KEY_FOLDER: &str = "/run/nightlatchd";
/// The key of this boot, in base64.
const KEY_FILE: &str = "identity-header.key";
/// The largest key file, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 256;

/// What a right header was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderName {
    /// A systemd unit.
    Unit(String),
    /// A uid.
    Uid(u32),
}

/// The header is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the X-IDENTITY-HEADER is missing or was not made by this daemon since the node booted; set IDENTITY_HEADER \
     anew and start the program again"
)]
pub struct HeaderError;

/// The key for headers; it lives as long as the boot.
pub struct BootKey(hmac::Key);

impl BootKey {
    /// Takes the key's bytes; 32 random ones.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Reads a header and checks it, in a time that does not depend on where it is wrong.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn check(&self, header: &str) -> Result<HeaderName, HeaderError> {
        let (name, digits) = header.rsplit_once('.').ok_or(HeaderError)?;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || digits.len() != MAC_DIGITS {
            return Err(HeaderError);
        }
        let mac: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte_of).collect();
        hmac::verify(&self.0, name.as_bytes(), &mac.ok_or(HeaderError)?).map_err(|_| HeaderError)?;
        match name.strip_prefix("uid:") {
            Some(uid) => uid.parse().map(HeaderName::Uid).map_err(|_| HeaderError),
            None => Ok(HeaderName::Unit(name.to_owned())),
        }
    }
}

/// The key of this boot from `folder`, when the daemon made one.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
pub fn kept_boot_key(folder: &Path) -> Result<Option<BootKey>, StoreError> {
    let Some(bytes) = read_capped(&key_file(folder), MAX_KEY_FILE_BYTES)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let key = STANDARD.decode(bytes.trim_ascii()).ok().map(Zeroizing::new);
    Ok(key.and_then(|key| key.as_slice().try_into().ok().map(|key: &[u8; 32]| BootKey::new(key))))
}

/// The key of this boot, made and kept where there is none yet: a restart of the daemon must not take
/// the headers of running programs away.
///
/// # Errors
/// [`StoreError`] when it cannot be read or kept.
pub fn boot_key(folder: &Path) -> Result<BootKey, StoreError> {
    if let Some(key) = kept_boot_key(folder)? {
        return Ok(key);
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    // Without randomness there is no key that nobody can guess: an all-zero one must never be used. It is no
    // reason to end the daemon, which decides logins.
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| no_randomness(folder))?;
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(bytes.as_slice())));
    replace_file(&key_file(folder), text.as_bytes(), 0o600, false)?;
    Ok(BootKey::new(&bytes))
}

fn no_randomness(folder: &Path) -> StoreError {
    let cause = std::io::Error::other("the system gives no randomness");
    StoreError::Io { what: "make a key for", path: key_file(folder), cause }
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join(KEY_FILE)
}

/// The header for `name`: a unit such as `backup.service`, or `uid:1000`. It is a secret of that unit.
#[must_use]
pub fn identity_header(key: &BootKey, name: &str) -> String {
    let mac = hmac::sign(&key.0, name.as_bytes());
    let mut header = format!("{name}.");
    for byte in mac.as_ref() {
        header.push_str(&format!("{byte:02x}"));
    }
    header
}

fn byte_of(digits: &[u8]) -> Option<u8> {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    match digits {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_outlives_the_daemon_and_not_its_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(kept_boot_key(folder.path()).unwrap().is_none());
        let header = identity_header(&boot_key(folder.path()).unwrap(), "a.service");
        assert!(boot_key(folder.path()).unwrap().check(&header).is_ok());
        for damaged in ["", "AAEC", "no key"] {
            std::fs::write(folder.path().join(KEY_FILE), damaged).unwrap();
            assert!(kept_boot_key(folder.path()).unwrap().is_none(), "{damaged}");
        }
        assert!(boot_key(folder.path()).unwrap().check(&header).is_err());
    }

    #[test]
    fn a_header_proves_its_own_name_under_its_own_key_only() {
        let key = BootKey::new(&[7; 32]);
        let header = identity_header(&key, "backup.service");
        assert_eq!(key.check(&header), Ok(HeaderName::Unit("backup.service".into())));
        assert_eq!(key.check(&identity_header(&key, "uid:1000")), Ok(HeaderName::Uid(1_000)));
        assert_eq!(BootKey::new(&[8; 32]).check(&header), Err(HeaderError));
        let other = header.replace("backup", "webapp");
        let (name, digits) = header.rsplit_once('.').unwrap();
        for wrong in [
            "",
            ".",
            "backup.service",
            &other,
            &header.to_uppercase(),
            &format!("{name}.{}", &digits[1..]),
            &format!("{name}.{}0", &digits[..63]),
            &identity_header(&key, "uid:-1"),
            &identity_header(&key, &"a".repeat(300)),
        ] {
            assert!(key.check(wrong).is_err() || wrong == header, "{wrong}");
        }
    }
}
