//! A capped file of lines: when it is full, the older half goes. Two files, `name` and
//! `name.old`, so that trimming is one rename and never a copy.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::replace::{StoreError, read_capped};

/// An append-only file of lines with a bounded size.
pub struct Ring {
    path: PathBuf,
    half: u64,
    file: Option<File>,
    written: u64,
}

impl Ring {
    /// A ring at `path` that keeps between half of `cap` bytes and `cap` bytes.
    #[must_use]
    pub const fn new(path: PathBuf, cap: u64) -> Self {
        Self { path, half: cap / 2, file: None, written: 0 }
    }

    fn old(&self) -> PathBuf {
        let mut old = self.path.as_os_str().to_owned();
        old.push(".old");
        PathBuf::from(old)
    }

    /// Appends one line; a newline inside it would forge a record and is replaced.
    ///
    /// # Errors
    /// When the file cannot be opened, renamed or written; the ring stays usable.
    pub fn append(&mut self, line: &str) -> Result<(), StoreError> {
        let fail = |what: &'static str, path: &PathBuf| {
            let path = path.clone();
            move |cause| StoreError::Io { what, path, cause }
        };
        if self.written >= self.half {
            self.file = None;
            std::fs::rename(&self.path, self.old()).map_err(fail("rename", &self.path))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
                .open(&self.path)
                .map_err(fail("open", &self.path))?;
            self.written = file.metadata().map_err(fail("look at", &self.path))?.len();
            self.file = Some(file);
        }
        let mut bytes = line.replace(['\n', '\r'], " ").into_bytes();
        bytes.push(b'\n');
        if let Some(file) = &mut self.file {
            file.write_all(&bytes).map_err(fail("write", &self.path))?;
            self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        }
        Ok(())
    }

    /// Every line that is kept, oldest first; a last line torn by a crash comes as it is.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn lines(&self) -> Result<Vec<String>, StoreError> {
        let mut lines = Vec::new();
        for path in [self.old(), self.path.clone()] {
            // One line may stick out over the half.
            let bytes = read_capped(&path, self.half.saturating_mul(2).saturating_add(65_536))?;
            let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_survive_and_the_size_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let mut ring = Ring::new(path.clone(), 1_000);
        for i in 0..500 {
            ring.append(&format!("line {i:04}")).unwrap();
        }
        let lines = ring.lines().unwrap();
        assert_eq!(lines.last().unwrap(), "line 0499");
        assert!(lines.len() >= 50 && lines.len() <= 101, "{}", lines.len());
        ring.append("one\nMESSAGE=forged").unwrap();
        assert_eq!(ring.lines().unwrap().last().unwrap(), "one MESSAGE=forged");
        let again = Ring::new(path, 1_000);
        assert_eq!(again.lines().unwrap().len(), ring.lines().unwrap().len());
    }
}
