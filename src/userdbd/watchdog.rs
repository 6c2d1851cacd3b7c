//! Tells systemd that we are ready and alive, and only what is true.
//!
//! A sign of life is sent only after the real socket has answered a real question in time, so a
//! server that hangs is killed and restarted instead of stalling every look-up on the node.
//! Sources: sd_notify(3), sd_watchdog_enabled(3).

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use crate::{INTERFACE, Say};

/// How often a sign of life is sent within systemd's deadline.
const KICKS_PER_DEADLINE: u32 = 3;
/// How long systemd's own socket may take a message.
const NOTIFY_TIMEOUT: Duration = Duration::from_millis(100);
/// The most bytes of an answer to our own question.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Why our own question was not answered as it must be.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No connection, or no answer in time.
    #[error("no answer from our own socket: {0}")]
    Io(#[from] io::Error),
    /// An answer, but not the one that must come.
    #[error("our own socket gave a wrong answer")]
    Wrong,
}

/// systemd's notification socket.
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Takes the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The value is neither, or no socket can be had.
    pub fn new(value: &OsStr) -> io::Result<Self> {
        let address = match value.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(value)?,
            _ => return Err(io::Error::other("NOTIFY_SOCKET must begin with `/` or `@`")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
        Ok(Self { socket, address })
    }

    /// Sends one state, such as `READY=1`.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(|_| ())
    }
}

/// How often to send a sign of life, from the values of `WATCHDOG_USEC` and `WATCHDOG_PID`;
/// `None` when systemd expects none from this process.
#[must_use]
pub fn watchdog_interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let deadline = Duration::from_micros(usec?.parse().ok().filter(|usec| *usec > 0)?);
    Some(deadline / KICKS_PER_DEADLINE)
}

/// Asks the socket at `path` for `root`, which must be answered with "no such record".
///
/// # Errors
/// [`ProbeError`] when the answer is late, missing or another.
pub fn probe(path: &Path, service: &str, timeout: Duration) -> Result<(), ProbeError> {
    let parameters = json!({ "userName": "root", "service": service });
    let question = json!({ "method": format!("{INTERFACE}.GetUserRecord"), "parameters": parameters });
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("{question}\0").as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 1024];
    let mut capped = stream.take(MAX_ANSWER_BYTES);
    while !answer.contains(&0) {
        let read = capped.read(&mut chunk)?;
        if read == 0 {
            return Err(ProbeError::Wrong);
        }
        answer.extend(chunk.iter().take(read));
    }
    answer.pop();
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| ProbeError::Wrong)?;
    let expected = format!("{INTERFACE}.NoRecordFound");
    if answer.get("error").and_then(Value::as_str) == Some(&expected) {
        Ok(())
    } else {
        Err(ProbeError::Wrong)
    }
}

/// Says `READY=1` after the first good `check`, then `WATCHDOG=1` after each good one, `interval`
/// apart, until `stop` says so or its sender is gone.
pub fn watch(
    check: impl Fn() -> Result<(), ProbeError>,
    notifier: &Notifier,
    interval: Duration,
    stop: &Receiver<()>,
    say: &Say,
) {
    let mut ready = false;
    let mut in_trouble = false;
    loop {
        let state = if ready { "WATCHDOG=1" } else { "READY=1\nWATCHDOG=1" };
        match check().and_then(|()| Ok(notifier.send(state)?)) {
            Ok(()) => {
                ready = true;
                in_trouble = false;
            }
            Err(error) => {
                if !in_trouble {
                    say(&format!("no sign of life sent: {error}"));
                }
                in_trouble = true;
            }
        }
        if stop.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
