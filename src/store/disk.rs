//! The steps that a file takes to the disk, one method each, so that a test can let every one of them
//! fail or be the last before the power goes.
//!
//! [`RealDisk`] is the only one that is compiled into a program. Nothing here decides what is written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::replace::{StoreError, check_folder, read_capped};

/// What can be done with files. The order of calls is the order on the disk only where a sync says so.
pub trait Disk: Send + Sync {
    /// Refuses a folder that somebody else could have prepared.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`], or the failed look at it.
    fn check_folder(&self, folder: &Path) -> Result<(), StoreError>;
    /// Reads a whole file of at most `limit` bytes; `None` when there is none.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Takes the name away.
    ///
    /// # Errors
    /// As the system says; `NotFound` when there is none.
    fn remove(&self, path: &Path) -> std::io::Result<()>;
    /// Makes a new file with exactly this mode; a file that is there already is an error.
    ///
    /// # Errors
    /// As the system says.
    fn create(&self, path: &Path, mode: u32) -> std::io::Result<Box<dyn Created>>;
    /// Gives the file at `from` the name `to`, in place of what has that name.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()>;
    /// Makes the names in the folder durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_folder(&self, folder: &Path) -> std::io::Result<()>;
}

/// A file that was just made.
pub trait Created {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// As the system says; some of it may have been written.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// Makes the contents durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&mut self) -> std::io::Result<()>;
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn check_folder(&self, folder: &Path) -> Result<(), StoreError> {
        check_folder(folder)
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        read_capped(path, limit)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create(&self, path: &Path, mode: u32) -> std::io::Result<Box<dyn Created>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(path)?;
        // The umask of the service is tighter than what other services must be able to read.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl Created for File {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.sync_all()
    }
}
