//! The sockets: one frame each way per connection, a thread for each, and limits that no peer can lean on.
//!
//! Must never let a peer end an accept loop, hold a place for longer than its time, or speak on a socket that
//! is not its own.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nightlatch_wire::{Message, ReadError, UNSUPPORTED, read_frame, write_frame};

use crate::clock::Clock;
use crate::peer;

/// The most connections that are served at once on one socket; others wait in the kernel.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a peer may take to send its frame, in milliseconds, and again to take the answer.
pub const PEER_LIMIT_MS: u64 = 2_000;
/// The most threads that stay to wait for a next question, beside the one that began.
pub const SPARE_THREADS: usize = 4;
/// How long a failed accept is waited out when no connection ends before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// The stack of a connection's thread, in bytes.
const STACK_BYTES: usize = 512 * 1024;

/// What a socket answers.
pub type Answer = Arc<dyn Fn(Message) -> Message + Send + Sync>;
/// Where a sentence about a peer goes.
pub type Complain = Arc<dyn Fn(String) + Send + Sync>;

/// One socket.
pub struct Door {
    /// What it is called in sentences.
    pub name: &'static str,
    /// Whom it serves.
    pub uid: u32,
    /// What it answers.
    pub answer: Answer,
    /// Where sentences about peers go.
    pub complain: Complain,
    /// Time, for the limits.
    pub clock: Clock,
}

/// The threads of one socket. One of them accepts at a time, and answers what it accepted itself while another one
/// accepts: a question waits for a processor once, not a second time for a thread that is only being made.
struct Crew {
    door: Door,
    listener: UnixListener,
    /// Whose turn it is to accept, and whether the last accept failed.
    turn: Mutex<bool>,
    /// A connection ended, and with it a descriptor is free.
    freed: Condvar,
    /// How many threads wait for their turn or accept.
    idle: AtomicUsize,
    /// How many threads there are.
    threads: AtomicUsize,
}

/// Accepts for ever.
pub fn serve(listener: UnixListener, door: Door) -> ! {
    let (idle, threads) = (AtomicUsize::new(0), AtomicUsize::new(1));
    let crew =
        Arc::new(Crew { door, listener, turn: Mutex::new(false), freed: Condvar::new(), idle, threads });
    loop {
        crew.idle.fetch_add(1, Ordering::SeqCst);
        crew.serve_one();
    }
}

impl Crew {
    /// An idle thread takes its turn, accepts a connection, sees to a successor and answers.
    fn serve_one(self: &Arc<Self>) {
        let stream = self.accept();
        if self.idle.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.hire();
        }
        // Whatever an answer does, its thread goes on.
        let done = catch_unwind(AssertUnwindSafe(|| converse(&stream, &self.door)));
        if let Ok(Err(error)) = done {
            (self.door.complain)(format!("{}: a question that did not end well: {error}", self.door.name));
        }
        drop(stream);
        self.freed.notify_one();
    }

    /// The next connection; others wait meanwhile. What keeps one from being accepted is waited out.
    fn accept(&self) -> UnixStream {
        let mut in_trouble = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    *in_trouble = false;
                    return stream;
                }
                Err(error) => {
                    if !*in_trouble {
                        let name = self.door.name;
                        (self.door.complain)(format!("{name}: cannot accept, trying again: {error}"));
                    }
                    *in_trouble = true;
                    let waited = self.freed.wait_timeout(in_trouble, ACCEPT_PAUSE);
                    in_trouble = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// One thread more, if there may be one. Without it the others accept when they have answered.
    fn hire(self: &Arc<Self>) {
        if self.threads.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let crew = Arc::clone(self);
        let thread = thread::Builder::new().name(self.door.name.to_owned()).stack_size(STACK_BYTES);
        let hired = thread.spawn(move || {
            let stay = |idle| (idle < SPARE_THREADS).then_some(idle + 1);
            while crew.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, stay).is_ok() {
                crew.serve_one();
            }
            crew.threads.fetch_sub(1, Ordering::SeqCst);
        });
        if hired.is_err() {
            self.threads.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn converse(stream: &UnixStream, door: &Door) -> io::Result<()> {
    if let Err(refused) = peer::require(stream, door.uid) {
        (door.complain)(format!("{}: {refused}", door.name));
        return Ok(());
    }
    let answer = match read_frame(&mut Timed::new(stream, &door.clock)) {
        Ok(question) => (door.answer)(question),
        Err(ReadError::Frame(error)) => {
            (door.complain)(format!("{}: a frame that cannot be read: {error}", door.name));
            Message::Err(if error.is_unsupported() { UNSUPPORTED } else { "malformed" }.to_owned())
        }
        Err(ReadError::Closed) => return Ok(()),
        Err(ReadError::Io(error)) => return Err(error),
    };
    write_frame(&mut Timed::new(stream, &door.clock), &answer)
}

/// A stream with one limit for all of a frame, not for each piece.
struct Timed<'a> {
    stream: &'a UnixStream,
    clock: &'a Clock,
    until_ms: u64,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a UnixStream, clock: &'a Clock) -> Self {
        Self { stream, clock, until_ms: clock().up_ms.saturating_add(PEER_LIMIT_MS) }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until_ms.saturating_sub((self.clock)().up_ms);
        if left == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(Duration::from_millis(left)))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
