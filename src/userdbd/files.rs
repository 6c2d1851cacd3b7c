//! Reads a whole file that another user writes, with the care that deserves.
//!
//! Never follows a link, opens a device or a pipe (which could block), reads more than a cap, or
//! believes a file that somebody else than the owner of its folder put there.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use thiserror::Error;

/// `O_NONBLOCK` of Linux on the architectures below: opening a pipe must not wait for its writer.
const O_NONBLOCK: i32 = 0o4000;

/// `O_NOFOLLOW` of Linux, from `asm-generic/fcntl.h`.
#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "riscv64", target_arch = "s390x"))]
const O_NOFOLLOW: i32 = 0o400_000;

/// `O_NOFOLLOW` of Linux where the architecture has its own, from `asm/fcntl.h`.
#[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "powerpc64"))]
const O_NOFOLLOW: i32 = 0o100_000;

/// The write bits of group and others.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Why a file was not read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// A link, a folder, a pipe, a socket or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// Larger than the cap.
    #[error("it has {0} bytes, more than {1}")]
    TooLarge(u64, u64),
    /// The file's owner is not its folder's.
    #[error("it belongs to uid {file}, its folder to uid {folder}; both must be the daemon's")]
    Owner {
        /// The uid that owns the file.
        file: u32,
        /// The uid that owns the folder.
        folder: u32,
    },
    /// The group or others may write the file or its folder.
    #[error("others than the owner may write it or its folder; remove those permissions")]
    Writable,
    /// It changed each time while it was read; the next request tries again.
    #[error("it changed while it was read")]
    Changed,
    /// The system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How often a file that changes while it is read is read anew, before an older version is used.
const MAX_TRIES: u32 = 16;

/// Whose files are believed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// No links; the owner of the folder must own the file, and nobody else may write to either.
    FolderOwner,
    /// A file of the system, perhaps behind a link that root made.
    System,
}

/// What tells one version of a file from the next, without opening it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
    /// A change of owner or permissions shows here only.
    changed: (i64, i64),
    /// Uid and mode of the folder, where they count.
    folder: Option<(u32, u32)>,
}

impl Stamp {
    fn new(file: &Metadata, folder: Option<(u32, u32)>) -> Self {
        Self {
            dev: file.dev(),
            ino: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            folder,
        }
    }
}

/// The version that stands at `path` now.
///
/// # Errors
/// What the system says, usually that nothing is there.
pub(crate) fn stamp(path: &Path, trust: Trust) -> io::Result<Stamp> {
    match trust {
        Trust::System => Ok(Stamp::new(&fs::metadata(path)?, None)),
        Trust::FolderOwner => Ok(Stamp::new(&fs::symlink_metadata(path)?, Some(folder_of(path)?))),
    }
}

fn folder_of(path: &Path) -> io::Result<(u32, u32)> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = fs::metadata(folder.unwrap_or_else(|| Path::new(".")))?;
    Ok((folder.uid(), folder.mode()))
}

/// A file that was read.
pub(crate) struct Whole {
    /// Which version it is.
    pub(crate) stamp: Stamp,
    /// All of its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The open file. While it is kept, no later version can come with the same inode number,
    /// so that two versions of one size written within a clock tick are told apart.
    pub(crate) kept: File,
}

/// Reads the file at `path`, at most `cap` bytes, in the version that stands there now.
///
/// # Errors
/// Any rule of `trust` that is broken, a size above `cap`, or what the system says.
pub(crate) fn read(path: &Path, cap: u64, trust: Trust) -> Result<Whole, ReadError> {
    let mut outcome = Err(ReadError::Changed);
    for _ in 0..MAX_TRIES {
        outcome = read_once(path, cap, trust);
        if !matches!(outcome, Err(ReadError::Changed)) {
            break;
        }
    }
    outcome
}

fn read_once(path: &Path, cap: u64, trust: Trust) -> Result<Whole, ReadError> {
    let flags = if trust == Trust::FolderOwner { O_NONBLOCK | O_NOFOLLOW } else { O_NONBLOCK };
    if trust == Trust::FolderOwner && !fs::symlink_metadata(path)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(ReadError::NotAFile);
    }
    let folder = if trust == Trust::FolderOwner { Some(folder_of(path)?) } else { None };
    if let Some((uid, mode)) = folder {
        if before.uid() != uid {
            return Err(ReadError::Owner { file: before.uid(), folder: uid });
        }
        if (before.mode() | mode) & OTHERS_MAY_WRITE != 0 {
            return Err(ReadError::Writable);
        }
    }
    let bytes = read_capped(&mut file, before.size(), cap)?;
    let stamp = Stamp::new(&before, folder);
    // A newer file renamed over this one shows here as well: its links went from one to none.
    if Stamp::new(&file.metadata()?, folder) != stamp {
        return Err(ReadError::Changed);
    }
    Ok(Whole { stamp, bytes, kept: file })
}

fn read_capped(file: &mut File, size: u64, cap: u64) -> Result<Vec<u8>, ReadError> {
    if size > cap {
        return Err(ReadError::TooLarge(size, cap));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if read > cap { Err(ReadError::TooLarge(read, cap)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn only_a_plain_file_is_read() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(read(&file, 4, Trust::FolderOwner).unwrap().bytes, b"text");
        assert!(matches!(read(&file, 3, Trust::FolderOwner), Err(ReadError::TooLarge(4, 3))));
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(matches!(read(&link, 9, Trust::FolderOwner), Err(ReadError::NotAFile)));
        assert_eq!(read(&link, 9, Trust::System).unwrap().bytes, b"text");
        assert!(matches!(read(folder.path(), 9, Trust::FolderOwner), Err(ReadError::NotAFile)));
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(read(&socket, 9, Trust::FolderOwner).is_err());
    }

    /// A pipe without a writer would block an ordinary open for ever.
    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = folder();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(read(&pipe, 9, Trust::FolderOwner), Err(ReadError::NotAFile)));
        assert!(matches!(read(&pipe, 9, Trust::System), Err(ReadError::NotAFile)));
    }

    /// The flag itself, not only the check before it: what `open` says about a link.
    #[test]
    fn nofollow_is_the_right_bit() {
        let folder = folder();
        let link = folder.path().join("link");
        symlink("/etc/passwd", &link).unwrap();
        let open = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(&link);
        assert_eq!(open.unwrap_err().raw_os_error(), Some(40), "ELOOP");
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        let before = stamp(&file, Trust::FolderOwner).unwrap();
        for (path, mode) in [(file.as_path(), 0o664), (file.as_path(), 0o646), (folder.path(), 0o777)] {
            let good = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&file, 9, Trust::FolderOwner), Err(ReadError::Writable)), "{mode:o}");
            assert_ne!(stamp(&file, Trust::FolderOwner).unwrap(), before, "a change that must be seen");
            fs::set_permissions(path, good).unwrap();
        }
        assert!(read(&file, 9, Trust::FolderOwner).is_ok());
    }
}
