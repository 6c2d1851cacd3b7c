//! A folder of small files that only root may write: rules, read as a whole.

use std::path::{Path, PathBuf};

use super::read_capped;

/// What tells one content of a file from another without reading it, and who may read it.
pub type Stamp = ([u64; 3], [i64; 4], [u32; 3]);

/// What a file was when it was looked at.
pub type FileStamp = (PathBuf, Stamp);

/// The stamp of a file; `None` when there is none, or none can be had.
#[must_use]
pub fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    let when = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    Some(([meta.dev(), meta.ino(), meta.len()], when, [meta.mode(), meta.uid(), meta.gid()]))
}

/// A folder, and which of its files count.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The end of the names that count.
    pub suffix: &'static str,
    /// The end of names that do not, although they end so.
    pub except: Option<&'static str>,
    /// The most files.
    pub most: usize,
    /// The largest file, in bytes.
    pub largest: u64,
}

impl Folder {
    /// The files in the order of their names; none where there is no folder.
    ///
    /// # Errors
    /// In words: an entry that cannot be read may be the rule that denies.
    pub fn files(&self) -> Result<Vec<PathBuf>, String> {
        let unreadable = |cause: std::io::Error| format!("{}: {cause}", self.path.display());
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(cause) => return Err(unreadable(cause)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What begins with a dot is somebody's lock or copy (Emacs, Vim), as in every folder of drop-ins.
            let hidden = name.starts_with('.');
            if !hidden && name.ends_with(self.suffix) && !self.except.is_some_and(|end| name.ends_with(end)) {
                files.push(path);
            }
            if files.len() > self.most {
                let (path, most) = (self.path.display(), self.most);
                return Err(format!(
                    "{path}: more than {most} files of rules; put several rules into one file"
                ));
            }
        }
        files.sort();
        Ok(files)
    }

    /// What tells one content of the folder from another without reading it.
    ///
    /// # Errors
    /// As [`Folder::files`].
    pub fn stamps(&self) -> Result<Vec<FileStamp>, String> {
        let paths = self.files()?.into_iter().chain([self.path.clone()]);
        Ok(paths.filter_map(|path| stamp(&path).map(|stamp| (path, stamp))).collect())
    }

    /// Whether it is there still, where it held rules before: whoever wants none any more empties it.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn not_gone(&self, had_rules: bool) -> Result<(), String> {
        if had_rules && !self.path.is_dir() {
            return Err(format!(
                "{}: the folder is gone, and rules from it were in force; bring it back, or make an empty one to have no rules",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// The names and texts of the files, which only root may be able to change.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn trusted_texts(&self) -> Result<Vec<(String, String)>, String> {
        for place in self.files()?.iter().chain([&self.path]) {
            only_roots(place)?;
        }
        self.texts()
    }

    /// Whether the daemon, which is nobody's owner and in nobody's group, can read the files that it is to trust.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn readable_by_others(&self) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt;
        for (place, wanted, word) in
            self.files()?.iter().map(|file| (file, 0o004, "r")).chain([(&self.path, 0o005, "rx")])
        {
            let meta = std::fs::metadata(place).map_err(|cause| format!("{}: {cause}", place.display()))?;
            if meta.permissions().mode() & wanted != wanted {
                let place = place.display();
                return Err(format!("{place} cannot be read by nightlatchd: `chmod go+{word} {place}`"));
            }
        }
        Ok(())
    }

    /// The names and texts of the files, whoever wrote them.
    ///
    /// # Errors
    /// In words.
    pub fn texts(&self) -> Result<Vec<(String, String)>, String> {
        self.files()?.iter().map(|path| text(path, self.largest)).collect()
    }
}

/// The name and the text of one file.
///
/// # Errors
/// In words.
pub fn text(path: &Path, largest: u64) -> Result<(String, String), String> {
    let shown = path.display();
    let bytes = read_capped(path, largest)
        .map_err(|cause| {
            format!(
                "{cause}: {}",
                std::error::Error::source(&cause).map_or_else(String::new, ToString::to_string)
            )
        })?
        .ok_or_else(|| format!("{shown}: there is no such file"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown}: not UTF-8"))?;
    let name = path.file_name().map_or_else(|| shown.to_string(), |name| name.to_string_lossy().into_owned());
    Ok((name, text))
}

fn only_roots(place: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let meta = match std::fs::metadata(place) {
        Ok(meta) => meta,
        // A folder that is not there has no rule in it.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(format!("{}: {cause}", place.display())),
    };
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        let place = place.display();
        return Err(format!("{place} can be changed by others: `chown root {place}; chmod go-w {place}`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_write_is_refused_and_a_missing_folder_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: PathBuf| Folder {
            path,
            suffix: ".toml",
            except: Some(".test.toml"),
            most: 2,
            largest: 100,
        };
        assert_eq!(at(folder.path().join("none")).trusted_texts(), Ok(vec![]));
        let whole = at(folder.path().to_owned());
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "x = 1\n").unwrap();
        std::fs::write(folder.path().join("a.test.toml"), "y = 1\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "z").unwrap();
        std::os::unix::fs::symlink("ann@host.1:2", folder.path().join(".#a.toml")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = whole.trusted_texts().unwrap_err();
        assert!(refused.contains("chmod go-w"), "{refused}");
        let before = whole.stamps().unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_ne!(before, whole.stamps().unwrap());
        assert_eq!(whole.texts().unwrap(), [("a.toml".to_owned(), "x = 1\n".to_owned())]);
        std::fs::write(&file, vec![b'#'; 101]).unwrap();
        assert!(whole.texts().is_err());
        for name in ["b.toml", "c.toml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(whole.files().unwrap_err().contains("more than 2"));
    }
}
