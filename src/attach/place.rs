//! Reading and replacing the files of others: whole or not at all, mode and owner kept. The only
//! place of this room that writes. Symbolic links are followed and stay: these folders are root's.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::refusal::Refusal;

/// The largest configuration file that is touched, in bytes.
const MAX_TEXT_BYTES: u64 = 1024 * 1024;

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Refusal {
    move |cause| Refusal::Io { what, path: path.to_path_buf(), cause }
}

/// Where the machine's files are: `/`, or a folder that plays it in tests.
#[derive(Clone, Debug)]
pub struct Root {
    folder: PathBuf,
    owner: u32,
}

impl Default for Root {
    fn default() -> Self {
        Self { folder: PathBuf::from("/"), owner: 0 }
    }
}

impl Root {
    /// A folder that plays `/`, with the caller in the part of root.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder, owner: nix::unistd::geteuid().as_raw() }
    }

    /// The uid that must own what is trusted.
    #[must_use]
    pub const fn owner(&self) -> u32 {
        self.owner
    }

    /// Where `path` really is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    /// The text of a file; `None` when there is none.
    ///
    /// # Errors
    /// When it is no text of a decent size, or cannot be read.
    pub fn text(&self, path: &str) -> Result<Option<String>, Refusal> {
        let place = self.path(path);
        let file = match File::open(&place) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(io("open", &place)(cause)),
        };
        let odd = || Refusal::NotText(path.to_owned());
        if !file.metadata().map_err(io("look at", &place))?.is_file() {
            return Err(odd());
        }
        let mut bytes = Vec::new();
        file.take(MAX_TEXT_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read", &place))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_TEXT_BYTES {
            return Err(odd());
        }
        String::from_utf8(bytes).map(Some).map_err(|_| odd())
    }

    /// The files that fit a pattern with `*` in its last part, sorted: what sshd's Include reads.
    #[must_use]
    pub fn fitting(&self, pattern: &str) -> Vec<(String, String)> {
        let Some((folder, name)) = pattern.rsplit_once('/') else { return Vec::new() };
        let names = std::fs::read_dir(self.path(folder)).map(|entries| {
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|found| super::glob::matches(name, found)).collect::<Vec<String>>()
        });
        let mut names = names.unwrap_or_default();
        names.sort();
        let texts = names.into_iter().map(|name| format!("{folder}/{name}"));
        texts.filter_map(|path| self.text(&path).ok().flatten().map(|text| (path, text))).collect()
    }

    /// Replaces a file, keeping its mode and owner; a new one gets `mode` and root.
    ///
    /// # Errors
    /// When the operating system refuses; the old file stays.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<(), Refusal> {
        let named = self.path(path);
        // Through a link, the file behind it is replaced, not the link.
        let place = std::fs::canonicalize(&named).unwrap_or(named);
        let before = std::fs::metadata(&place).ok();
        let mut beside = place.clone().into_os_string();
        // The dot keeps sudo and Include from reading it in the moment that it exists.
        beside.push(".nightlatch-new");
        let beside = PathBuf::from(beside);
        if let Err(cause) = std::fs::remove_file(&beside)
            && cause.kind() != std::io::ErrorKind::NotFound
        {
            return Err(io("remove", &beside)(cause));
        }
        let written = fill(&beside, text, mode, before.as_ref())
            .and_then(|()| std::fs::rename(&beside, &place).map_err(io("replace", &place)));
        if written.is_err() {
            // The first cause is the one worth telling.
            let _ = std::fs::remove_file(&beside);
        }
        written?;
        sync_folder(&place)
    }

    /// Removes a file; one that is gone already is as good.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn remove(&self, path: &str) -> Result<(), Refusal> {
        let place = self.path(path);
        match std::fs::remove_file(&place) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &place)(cause)),
            Err(_) => Ok(()),
            Ok(()) => sync_folder(&place),
        }
    }

    /// Makes a folder of ours that only root may look into.
    ///
    /// # Errors
    /// When the operating system refuses, or it is somebody else's.
    pub fn private_folder(&self, path: &str) -> Result<(), Refusal> {
        let place = self.path(path);
        let mut folder = std::fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&place).map_err(io("create", &place))?;
        crate::store::check_folder(&place).map_err(|_| Refusal::NotOurs(path.to_owned()))
    }
}

fn fill(beside: &Path, text: &str, mode: u32, before: Option<&std::fs::Metadata>) -> Result<(), Refusal> {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(beside).map_err(io("create", beside))?;
    file.write_all(text.as_bytes()).map_err(io("write", beside))?;
    if let Some(before) = before {
        fchown(&file, Some(before.uid()), Some(before.gid())).map_err(io("set the owner of", beside))?;
    }
    let mode = before.map_or(mode, |before| before.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(mode)).map_err(io("set the mode of", beside))?;
    file.sync_all().map_err(io("sync", beside))
}

fn sync_folder(place: &Path) -> Result<(), Refusal> {
    let folder = place.parent().unwrap_or_else(|| Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        (folder, root)
    }

    #[test]
    fn the_mode_is_kept_and_a_link_stays_one() {
        let (_folder, root) = root();
        root.write("/etc/a", "one", 0o600).unwrap();
        root.write("/etc/a", "two", 0o644).unwrap();
        let mode = |path: &str| std::fs::metadata(root.path(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode("/etc/a"), 0o600);
        std::os::unix::fs::symlink(root.path("/etc/a"), root.path("/etc/link")).unwrap();
        root.write("/etc/link", "three", 0o644).unwrap();
        assert!(std::fs::symlink_metadata(root.path("/etc/link")).unwrap().is_symlink());
        assert_eq!(root.text("/etc/a").unwrap().as_deref(), Some("three"));
        assert_eq!(std::fs::read_dir(root.path("/etc")).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let (_folder, root) = root();
        assert!(root.text("/etc/none").unwrap().is_none());
        assert!(root.text("/etc").is_err());
        std::fs::write(root.path("/etc/bytes"), [0xff, 0xfe]).unwrap();
        assert!(matches!(root.text("/etc/bytes"), Err(Refusal::NotText(_))));
    }

    #[test]
    fn a_pattern_finds_files_in_order() {
        let (_folder, root) = root();
        for name in ["20-b.conf", "10-a.conf", "x.txt"] {
            root.write(&format!("/etc/{name}"), name, 0o644).unwrap();
        }
        let names: Vec<String> = root.fitting("/etc/*.conf").into_iter().map(|(path, _)| path).collect();
        assert_eq!(names, ["/etc/10-a.conf", "/etc/20-b.conf"]);
    }
}
