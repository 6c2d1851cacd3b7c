//! The ledger: a file of lines that only grows, from which the table is whole again after any crash.
//!
//! It must never leave half a line before a whole one, and never say "written" before the disk has it. What
//! cannot be written waits in memory, within a limit; whoever must not go on without a record asks for
//! [`Ledger::require`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use thiserror::Error;

use crate::clock::Now;
use crate::record::{Event, Line};

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// From this size on the file is rewritten, in bytes.
pub const REWRITE_BYTES: u64 = 8 * 1024 * 1024;
/// How much of sessions that are over a rewritten file holds, in bytes.
const KEEP_BYTES: u64 = 4 * 1024 * 1024;
/// The most lines that wait for a disk that takes them.
const MAX_BACKLOG: usize = 4_096;

/// Why a line is not on the disk.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or written.
    #[error("the ledger {0}: {1}; free space on the disk or repair the folder")]
    Io(PathBuf, io::Error),
    /// It was not read yet, so nobody knows what stands in it.
    #[error("the ledger {0} was not read yet; see the line before this one")]
    Unread(PathBuf),
    /// The line cannot be put into words.
    #[error("a line for the ledger cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a rewrite does with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is needed.
    Live,
    /// It belongs to this session, which is over.
    Past(u64),
    /// It says nothing any more.
    Drop,
}

/// The file, and what waits for it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    boot: String,
    file: Option<File>,
    /// Up to where the file holds whole lines, in bytes.
    len: u64,
    rewrite_at: u64,
    backlog: VecDeque<Vec<u8>>,
}

impl Ledger {
    /// The ledger at this path, not opened yet. `boot` goes into every line.
    #[must_use]
    pub const fn new(path: PathBuf, boot: String) -> Self {
        Self { path, boot, file: None, len: 0, rewrite_at: REWRITE_BYTES, backlog: VecDeque::new() }
    }

    /// The boot that goes into every line.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Opens the file, hands every line to `each` and cuts off a torn last one. Says how many lines could not
    /// be read; they are passed over.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; nothing is lost and it may be tried again.
    pub fn load(&mut self, each: &mut dyn FnMut(Line)) -> Result<u64, LedgerError> {
        let (file, bad, len) = self.read(each).map_err(|error| LedgerError::Io(self.path.clone(), error))?;
        self.file = Some(file);
        self.len = len;
        Ok(bad)
    }

    fn read(&self, each: &mut dyn FnMut(Line)) -> io::Result<(File, u64, u64)> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let mut bad = 0;
        let len = lines(&file, &mut |_, text| match serde_json::from_slice(text) {
            Ok(line) => each(line),
            Err(_) => bad += 1,
        })?;
        file.set_len(len)?;
        Ok((file, bad, len))
    }

    /// Writes a line and waits until the disk has it.
    ///
    /// # Errors
    /// [`LedgerError`]: it is not written and will not be.
    pub fn require(&mut self, event: Event, now: Now) -> Result<(), LedgerError> {
        let text = self.text(event, now)?;
        self.drain()?;
        self.append(&text, true)
    }

    /// Writes a line; what cannot be written now is written later. A session's start or end waits for the disk.
    ///
    /// # Errors
    /// [`LedgerError`]: it waits in memory.
    pub fn note(&mut self, event: Event, now: Now) -> Result<(), LedgerError> {
        let lasting = matches!(event, Event::Start(_) | Event::End(_));
        let text = self.text(event, now)?;
        let written = self.drain().and_then(|()| self.append(&text, lasting));
        if written.is_err() && self.backlog.len() < MAX_BACKLOG {
            self.backlog.push_back(text);
        }
        written
    }

    fn text(&self, event: Event, now: Now) -> Result<Vec<u8>, LedgerError> {
        let line = Line { boot: self.boot.clone(), wall_ms: now.wall_ms, up_ms: now.up_ms, event };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        Ok(text)
    }

    fn drain(&mut self) -> Result<(), LedgerError> {
        while let Some(text) = self.backlog.front().cloned() {
            self.append(&text, false)?;
            self.backlog.pop_front();
        }
        Ok(())
    }

    fn append(&mut self, text: &[u8], lasting: bool) -> Result<(), LedgerError> {
        let Some(file) = &mut self.file else { return Err(LedgerError::Unread(self.path.clone())) };
        let written = file.write_all(text).and_then(|()| if lasting { file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // Half a line must not stand before the next one; nor may one that was refused come back.
            if file.set_len(self.len).is_err() {
                self.file = None;
            }
            return Err(LedgerError::Io(self.path.clone(), error));
        }
        self.len += text.len() as u64;
        Ok(())
    }

    /// Whether the file was read and can be asked to take lines.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it is time for [`Ledger::rewrite`].
    #[must_use]
    pub const fn is_large(&self) -> bool {
        self.file.is_some() && self.len > self.rewrite_at
    }

    /// Writes the file anew with the lines that `keep` wants and the newest of the sessions that are over. The
    /// old file stays whole until the new one is.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; the old file is still in use, and the next try comes when it has doubled.
    pub fn rewrite(&mut self, keep: &dyn Fn(&Event) -> Keep) -> Result<(), LedgerError> {
        self.rewrite_at = self.len.saturating_mul(2);
        let io = |error| LedgerError::Io(self.path.clone(), error);
        let (file, len) = self.write_anew(keep).map_err(io)?;
        self.file = Some(file);
        self.len = len;
        self.rewrite_at = REWRITE_BYTES.max(len.saturating_mul(2));
        let folder = self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
        folder.map_err(|error| LedgerError::Io(self.path.clone(), error))
    }

    fn write_anew(&self, keep: &dyn Fn(&Event) -> Keep) -> io::Result<(File, u64)> {
        let old = File::open(&self.path)?;
        let mut plan: Vec<(u64, usize, Keep)> = Vec::new();
        lines(&old, &mut |at, text| {
            let kept = serde_json::from_slice(text).map_or(Keep::Drop, |line: Line| keep(&line.event));
            plan.push((at, text.len() + 1, kept));
        })?;
        let newest = newest_past(&plan);
        plan.retain(|(_, _, kept)| match kept {
            Keep::Live => true,
            Keep::Past(id) => newest.contains(id),
            Keep::Drop => false,
        });
        let path = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut out = BufWriter::new(file);
        let (mut from, mut len) = (BufReader::new(old), 0);
        for (at, size, _) in plan {
            from.seek(SeekFrom::Start(at))?;
            len += io::copy(&mut from.by_ref().take(size as u64), &mut out)?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        // Opened before it takes the old one's place: from then on lines must go nowhere else.
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        fs::rename(&path, &self.path)?;
        Ok((file, len))
    }
}

/// The sessions with the largest ids whose lines fit into [`KEEP_BYTES`].
fn newest_past(plan: &[(u64, usize, Keep)]) -> BTreeSet<u64> {
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, size, kept) in plan {
        if let Keep::Past(id) = kept {
            *sizes.entry(*id).or_default() += *size as u64;
        }
    }
    let mut total = 0;
    let fits = sizes.into_iter().rev().take_while(|(_, size)| {
        total += size;
        total <= KEEP_BYTES
    });
    fits.map(|(id, _)| id).collect()
}

/// Hands over every whole line with the place where it begins, and says where the last one ends. A line that
/// is too long is handed over empty.
fn lines(file: &File, each: &mut dyn FnMut(u64, &[u8])) -> io::Result<u64> {
    let mut from = BufReader::new(file);
    let (mut at, mut text) = (0, Vec::new());
    loop {
        text.clear();
        let mut size = from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut text)? as u64;
        let too_long = size == MAX_LINE_BYTES && text.last() != Some(&b'\n');
        while too_long && text.last() != Some(&b'\n') {
            text.clear();
            let more = from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut text)? as u64;
            size += more;
            if more == 0 {
                break;
            }
        }
        if text.pop() != Some(b'\n') {
            return Ok(at);
        }
        each(at, if too_long { &[] } else { &text });
        at += size;
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
