//! The sockets: one frame each way per connection, a thread each, and limits that no peer can lean on.
//!
//! Must never let a peer end an accept loop, hold a place for longer than its time, or speak on a socket that
//! is not its own.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
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

/// How many connections are served, and the sign that one ended.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Places {
    fn take(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= MAX_CONNECTIONS {
            taken = self.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
    }

    fn give_back(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
        drop(taken);
        self.freed.notify_one();
    }

    /// Waits until a connection ends, but not for long.
    fn breathe(&self) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let _waited = self.freed.wait_timeout(taken, ACCEPT_PAUSE);
    }
}

/// A connection's place; given back when its thread ends, panics or never starts.
struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// Accepts for ever.
pub fn serve(listener: &UnixListener, door: &Arc<Door>) -> ! {
    let places = Arc::new(Places::default());
    let mut in_trouble = false;
    loop {
        places.take();
        let place = Place(Arc::clone(&places));
        match listener.accept() {
            Ok((stream, _)) => {
                in_trouble = false;
                let door = Arc::clone(door);
                let thread = thread::Builder::new().name(door.name.to_owned()).stack_size(STACK_BYTES);
                let _ = thread.spawn(move || {
                    let _place = place;
                    if let Err(error) = converse(&stream, &door) {
                        (door.complain)(format!("{}: a question that did not end well: {error}", door.name));
                    }
                });
            }
            Err(error) => {
                if !in_trouble {
                    (door.complain)(format!("{}: cannot accept, trying again: {error}", door.name));
                }
                in_trouble = true;
                places.breathe();
            }
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
