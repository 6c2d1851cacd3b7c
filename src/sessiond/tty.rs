//! Lines on people's terminals.
//!
//! A terminal that its owner has stopped, or that somebody else owns by now, must never delay anything or show
//! anything: it is opened without waiting, its owner is checked on the open descriptor, and what it does not
//! take at once is given 100 ms on a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How long a terminal may take, in milliseconds.
const PATIENCE_MS: i64 = 100;
/// The most threads that wait for terminals at once.
const MAX_WAITERS: usize = 16;
/// The most terminals that one text goes to.
const MAX_TERMINALS: usize = 64;
const PREFIX: &str = "nightlatch: ";

/// A text for terminals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speech {
    /// Numbers in `/dev/pts`.
    pub terminals: Vec<u32>,
    /// Whose they must be.
    pub uid: u32,
    /// What to say.
    pub text: String,
}

/// Takes texts for terminals.
pub trait Terminals: Send + Sync {
    /// Says it; returns at once.
    fn say(&self, speech: &Speech);
}

/// The terminals of this machine.
#[derive(Debug)]
pub struct Pts {
    folder: PathBuf,
    waiters: Arc<AtomicUsize>,
}

impl Default for Pts {
    fn default() -> Self {
        Self { folder: "/dev/pts".into(), waiters: Arc::default() }
    }
}

impl Terminals for Pts {
    fn say(&self, speech: &Speech) {
        let bytes = printable(&speech.text);
        let terminals = speech.terminals.iter().take(MAX_TERMINALS);
        let files = terminals.filter_map(|pts| open(&self.folder.join(pts.to_string()), speech.uid));
        let late: Vec<(File, Vec<u8>)> = files.filter_map(|file| hand_over(file, bytes.clone())).collect();
        if late.is_empty() {
            return;
        }
        if self.waiters.fetch_add(1, Ordering::SeqCst) < MAX_WAITERS {
            let waiters = Arc::clone(&self.waiters);
            let spawned = thread::Builder::new().name("terminals".to_owned()).spawn(move || {
                wait(late);
                waiters.fetch_sub(1, Ordering::SeqCst);
            });
            if spawned.is_ok() {
                return;
            }
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Printable ASCII only, each line with our name before it, on lines of its own.
fn printable(text: &str) -> Vec<u8> {
    let mut out = Vec::from(*b"\r\n");
    for line in text.lines() {
        out.extend_from_slice(PREFIX.as_bytes());
        out.extend(line.chars().map(|c| if (' '..='~').contains(&c) { c as u8 } else { b'?' }));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Opens a terminal, if it is one and belongs to `uid`.
fn open(path: &Path, uid: u32) -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
    let facts = file.metadata().ok()?;
    (facts.file_type().is_char_device() && facts.uid() == uid).then_some(file)
}

/// Writes what is taken at once; what is not comes back.
fn hand_over(mut file: File, bytes: Vec<u8>) -> Option<(File, Vec<u8>)> {
    match file.write(&bytes) {
        Ok(written) if written >= bytes.len() => None,
        Ok(written) => Some((file, bytes.get(written..).unwrap_or_default().to_vec())),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some((file, bytes)),
        // Gone with its session.
        Err(_) => None,
    }
}

/// Writes to those that come back to life, until none does for a while.
fn wait(mut late: Vec<(File, Vec<u8>)>) {
    let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE_MS * 1_000_000 };
    while !late.is_empty() {
        let mut fds: Vec<PollFd<'_>> =
            late.iter().map(|(file, _)| PollFd::new(file, PollFlags::OUT)).collect();
        if !poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0) {
            return;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        late.retain(|(file, bytes)| {
            let comes = ready.next().unwrap_or(false);
            if comes {
                let _ = (&*file).write(bytes);
            }
            !comes
        });
    }
}

#[cfg(test)]
#[path = "tty_tests.rs"]
mod tests;
