//! One at a time: Ansible and editors run many of this program at once, and key and certificate are two files.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::files::make;
use crate::cli::output::complain;

/// Held for as long as this program makes a certificate in a folder.
pub(super) struct Turn {
    _folder: Option<File>,
    /// Somebody else was busy before.
    pub(super) waited: bool,
}

impl Turn {
    /// Makes the folder, if there is none, and waits until nobody else is busy in it.
    ///
    /// # Errors
    /// The folder cannot be made or opened.
    pub(super) fn in_folder(folder: &Path) -> Result<Self, String> {
        make(folder)?;
        let why = |why: std::io::Error| format!("{}: {why}; name another with --folder", folder.display());
        let file = File::open(folder).map_err(why)?;
        let waited = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => {
                complain(&format!("waiting for another sign-in into {}", folder.display()));
                file.lock().map_err(why)?;
                true
            }
            // Some network file systems lock no folders. A certificate that is not the key's is then made again.
            Err(TryLockError::Error(_)) => return Ok(Self { _folder: None, waited: false }),
        };
        Ok(Self { _folder: Some(file), waited })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_second_waits_for_the_first_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a").join("b");
        let first = Turn::in_folder(&inner).unwrap();
        let first_waited = first.waited;
        let (done, is_done) = mpsc::channel();
        let second = std::thread::spawn({
            let inner = inner.clone();
            move || {
                let turn = Turn::in_folder(&inner).unwrap();
                done.send(turn.waited).unwrap();
                drop(turn);
            }
        });
        assert!(is_done.recv_timeout(Duration::from_millis(100)).is_err());
        drop(first);
        assert_eq!((is_done.recv_timeout(Duration::from_secs(20)), first_waited), (Ok(true), false));
        second.join().unwrap();
        // In another folder nobody waits, and what is no folder is said.
        let (_here, _there) = (Turn::in_folder(&inner).unwrap(), Turn::in_folder(folder.path()).unwrap());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(Turn::in_folder(&folder.path().join("file")).err().unwrap().contains("file: "));
    }
}
