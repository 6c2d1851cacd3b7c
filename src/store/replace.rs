//! Replacing a file whole: write beside it, fsync, rename, fsync the folder.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk::{Disk, RealDisk};

/// Why a file of ours could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// An operation on a path failed.
    #[error("cannot {what} `{path}`")]
    Io {
        /// The operation: open, write, rename.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// Not a plain file or folder of ours with closed permissions.
    #[error("`{path}` must be {rule}; remove it or mend it with `systemd-tmpfiles --create`")]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What it must be.
        rule: &'static str,
    },
    /// Larger than it may be.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |cause| StoreError::Io { what, path: path.to_path_buf(), cause }
}

/// Refuses a folder that somebody else could have prepared: it must be a real folder, owned by
/// us or root, closed for writing to everybody else.
///
/// # Errors
/// [`StoreError::Unsafe`], or the failed look at it.
pub fn check_folder(path: &Path) -> Result<(), StoreError> {
    let meta = std::fs::symlink_metadata(path).map_err(io("look at", path))?;
    let ours = nix::unistd::geteuid().as_raw();
    if !meta.is_dir() || !(meta.uid() == ours || meta.uid() == 0) || meta.mode() & 0o022 != 0 {
        let rule = "a folder owned by this service and writable by nobody else";
        return Err(StoreError::Unsafe { path: path.to_path_buf(), rule });
    }
    Ok(())
}

/// Reads a whole file of at most `limit` bytes; `None` when there is none. Symlinks, FIFOs and
/// hard-linked files are refused.
///
/// # Errors
/// As [`StoreError`] says.
pub fn read_capped(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    read_with(path, limit, nix::libc::O_NOFOLLOW, true)
}

/// The same of a file that is another program's to keep: behind whatever links its owner made.
///
/// # Errors
/// As [`StoreError`] says.
pub fn read_through_links(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    read_with(path, limit, 0, false)
}

fn read_with(path: &Path, limit: u64, more: i32, one_name: bool) -> Result<Option<Vec<u8>>, StoreError> {
    let flags = more | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(io("open", path)(cause)),
    };
    let meta = file.metadata().map_err(io("look at", path))?;
    if !meta.is_file() || (one_name && meta.nlink() > 1) {
        return Err(StoreError::Unsafe { path: path.to_path_buf(), rule: "a plain file with one name" });
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(StoreError::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(Some(bytes))
}

/// Replaces `path` whole, with this mode. After a crash the file is the old one or the new one;
/// when `durable` is set the new one has reached the disk before this returns.
///
/// # Errors
/// As [`StoreError`] says; the old file stays.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), StoreError> {
    replace_on(&RealDisk, path, bytes, mode, durable)
}

/// [`replace_file`] on any disk.
pub(super) fn replace_on(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durable: bool,
) -> Result<(), StoreError> {
    let beside = beside(path);
    match disk.remove(&beside) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("remove", &beside)(cause));
        }
        _ => {}
    }
    let mut file = disk.create(&beside, mode).map_err(io("create", &beside))?;
    file.write(bytes).map_err(io("write", &beside))?;
    if durable {
        file.sync().map_err(io("sync", &beside))?;
    }
    disk.rename(&beside, path).map_err(io("rename", path))?;
    if durable {
        let folder = folder_of(path);
        disk.sync_folder(folder).map_err(io("sync", folder))?;
    }
    Ok(())
}

/// Removes a file so that it does not come back after a crash.
pub(super) fn remove_on(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.remove(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", path)(cause)),
        _ => {}
    }
    let folder = folder_of(path);
    disk.sync_folder(folder).map_err(io("sync", folder))
}

/// Where a file is written before it takes its name; a crash may leave it behind.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    PathBuf::from(beside)
}

/// The folder that a file stands in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(read_capped(&path, 10).unwrap(), None);
        for text in [b"one".as_slice(), b"two"] {
            replace_file(&path, text, 0o600, true).unwrap();
            assert_eq!(read_capped(&path, 10).unwrap().unwrap(), text);
        }
        assert!(matches!(read_capped(&path, 2), Err(StoreError::TooLarge { .. })));
    }

    /// below CVE-2025-27591 and its kin: nothing that was planted is followed.
    #[test]
    fn planted_files_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::write(&real, "x").unwrap();
        let link = folder.path().join("link");
        symlink(&real, &link).unwrap();
        assert!(read_capped(&link, 10).is_err());
        let hard = folder.path().join("hard");
        std::fs::hard_link(&real, &hard).unwrap();
        assert!(matches!(read_capped(&hard, 10), Err(StoreError::Unsafe { .. })));
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_capped(&fifo, 10), Err(StoreError::Unsafe { .. })));
        symlink("/etc/passwd", folder.path().join("state.new")).unwrap();
        replace_file(&folder.path().join("state"), b"x", 0o600, false).unwrap();
        assert!(check_folder(&link).is_err());
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(check_folder(&open), Err(StoreError::Unsafe { .. })));
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(check_folder(&open).is_ok());
    }
}
