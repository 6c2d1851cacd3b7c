//! The socket: one thread per connection, and limits that no client can lean on.
//!
//! Must never let one client make another wait: every read and write has a time limit, a request
//! has a size limit and a limit of pieces, and when there are too many connections the oldest is
//! cut, so that whoever sits on connections loses them and a new question is still answered.
//! The accept loop outlives every error.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use crate::{Answerer, Say};

/// The largest request, in bytes without its NUL.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// The most reads that one request may take to arrive.
const MAX_PIECES: u32 = 64;
/// How long a connection may be silent before a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request that has begun may pause.
const PIECE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long one write may wait for the client to read.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// The most bytes that one write hands over; answers to an enumeration are gathered up to it.
const WRITE_BYTES: usize = 16 * 1024;
/// The most writes that one such piece may take.
const MAX_WRITES: u32 = 16;
/// The most open connections; one more cuts the oldest.
const MAX_CONNECTIONS: usize = 256;
/// The most threads, cut connections that are still on their way out included.
const MAX_THREADS: usize = 320;
/// The stack of a connection's thread, in bytes.
const STACK_BYTES: usize = 512 * 1024;
/// How long the accept loop stands back when the system has no room, at most.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);

/// Why the socket could not be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// The path cannot name a service.
    #[error("{0}: the socket needs a file name, which is the name of the service")]
    Name(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{0} exists and is not a socket; move it away")]
    InTheWay(PathBuf),
    /// The system said no.
    #[error("cannot listen on {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The open connections, oldest first, and how many threads serve or served them.
#[derive(Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Arc<UnixStream>>,
    threads: usize,
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// Told whenever a connection ends.
    room: Condvar,
    stopping: AtomicBool,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens on the socket and answers.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    answerer: Arc<Answerer>,
    shared: Arc<Shared>,
    say: Say,
}

/// Ends a server's [`Server::run`].
pub struct Stopper {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Stopper {
    /// Cuts all connections and makes the accept loop return.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in self.shared.table().open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = UnixStream::connect(&self.path);
    }
}

impl Server {
    /// The service's name: the file name of its socket.
    ///
    /// # Errors
    /// [`BindError::Name`] when there is none.
    pub fn service_of(path: &Path) -> Result<&str, BindError> {
        path.file_name().and_then(|name| name.to_str()).ok_or_else(|| BindError::Name(path.to_owned()))
    }

    /// Makes the socket at `path`, open to every user; a socket left there before is replaced.
    ///
    /// # Errors
    /// [`BindError`] says what is in the way.
    pub fn bind(path: &Path, answerer: Answerer, say: Say) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.to_owned(), error);
        match fs::symlink_metadata(path) {
            Ok(old) if old.file_type().is_socket() => fs::remove_file(path).map_err(io)?,
            Ok(_) => return Err(BindError::InTheWay(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(io)?;
        let shared = Arc::default();
        Ok(Self { path: path.to_owned(), listener, answerer: Arc::new(answerer), shared, say })
    }

    /// A handle that ends [`Server::run`] from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { path: self.path.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Accepts until a [`Stopper`] says otherwise. No error ends it.
    pub fn run(&self) {
        let mut in_trouble = false;
        while !self.shared.stopping.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    in_trouble = false;
                    self.admit(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if !in_trouble {
                        (self.say)(&format!("cannot accept: {error}; cutting the oldest connection"));
                    }
                    in_trouble = true;
                    self.make_room();
                }
            }
        }
    }

    /// Cuts the oldest connection and waits until one has ended, but not for long.
    fn make_room(&self) {
        let mut table = self.shared.table();
        cut_oldest(&mut table);
        let _waited = self.shared.room.wait_timeout(table, ACCEPT_BACKOFF);
    }

    fn admit(&self, stream: UnixStream) {
        let stream = Arc::new(stream);
        let mut table = self.shared.table();
        if table.threads >= MAX_THREADS {
            return;
        }
        while table.open.len() >= MAX_CONNECTIONS {
            cut_oldest(&mut table);
        }
        let id = table.next;
        table.next += 1;
        table.threads += 1;
        table.open.insert(id, Arc::clone(&stream));
        drop(table);
        // Dropped when the thread ends, when it panics, and when it never starts.
        let place = Place { id, shared: Arc::clone(&self.shared) };
        let answerer = Arc::clone(&self.answerer);
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        let _ = thread.spawn(move || {
            // A client that goes away or breaks the rules ends its own connection only.
            let _ = serve(&stream, &answerer);
            drop(stream);
            drop(place);
        });
    }
}

fn cut_oldest(table: &mut Table) {
    if let Some((_, oldest)) = table.open.pop_first() {
        let _ = oldest.shutdown(Shutdown::Both);
    }
}

/// A connection's place in the table.
struct Place {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        table.open.remove(&self.id);
        table.threads = table.threads.saturating_sub(1);
        drop(table);
        self.shared.room.notify_all();
    }
}

/// Answers one request after the other until the client goes or a limit is met.
fn serve(mut stream: &UnixStream, answerer: &Answerer) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut pending: Vec<u8> = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
        let mut pieces = 0_u32;
        let end = loop {
            if let Some(end) = pending.iter().position(|byte| *byte == 0) {
                break end;
            }
            if pending.len() > MAX_REQUEST_BYTES || pieces >= MAX_PIECES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let read = match stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            pieces += 1;
            if pieces == 1 {
                stream.set_read_timeout(Some(PIECE_TIMEOUT))?;
            }
            pending.extend(chunk.iter().take(read));
        };
        let rest = pending.split_off(end + 1);
        pending.truncate(end);
        if pending.len() > MAX_REQUEST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut gathered = Vec::new();
        answerer.answer(&pending, &mut |bytes| {
            if gathered.len() + bytes.len() > WRITE_BYTES {
                write_pieces(stream, &std::mem::take(&mut gathered))?;
            }
            gathered.extend_from_slice(bytes);
            Ok(())
        })?;
        write_pieces(stream, &gathered)?;
        pending = rest;
    }
}

/// Writes all of it; a client that reads too slowly is given up.
fn write_pieces(mut stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let mut writes = 0;
    while !bytes.is_empty() {
        let piece = bytes.get(..WRITE_BYTES).unwrap_or(bytes);
        match stream.write(piece) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        writes += 1;
        if writes >= MAX_WRITES && !bytes.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}
