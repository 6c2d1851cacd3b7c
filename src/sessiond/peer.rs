//! Who is at the other end of a connection. The uid is identity; root of another namespace is not root.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use thiserror::Error;

/// The largest `/proc/PID/status` that is read, in bytes: the list of groups stands before what is looked for,
/// and has up to 65,536 of 11 bytes.
const MAX_STATUS_BYTES: u64 = 1024 * 1024;
/// What a `status` without many groups takes at most, in bytes: it is read at once.
const STATUS_BYTES: usize = 4_096;

/// Why a peer is not answered.
#[derive(Debug, Error)]
pub enum PeerError {
    /// getsockopt failed; there is no default identity.
    #[error("the kernel does not say who is connected: {0}")]
    Unreadable(io::Error),
    /// The peer runs as somebody else than this socket serves.
    #[error("uid {found} may not use this socket; it serves uid {expected}")]
    WrongUid {
        /// The peer's uid.
        found: u32,
        /// Whom the socket serves.
        expected: u32,
    },
    /// Root of a container is not the root of the node.
    #[error("pid {0} lives in another pid namespace or has ended; only the node itself is served")]
    Nested(i32),
}

/// Accepts only a peer with this uid from our own pid namespace.
///
/// # Errors
/// [`PeerError`].
pub fn require(stream: &UnixStream, expected: u32) -> Result<(), PeerError> {
    let credentials =
        getsockopt(stream, PeerCredentials).map_err(|error| PeerError::Unreadable(error.into()))?;
    judge(credentials.uid(), credentials.pid(), expected)
}

fn judge(found: u32, pid: i32, expected: u32) -> Result<(), PeerError> {
    if found != expected {
        return Err(PeerError::WrongUid { found, expected });
    }
    // A peer from an unrelated namespace has pid 0; one from a child namespace has a second number in NSpid.
    // One that is gone may have handed its connection to whom it wanted.
    if pid <= 0 || !status(pid).is_some_and(|status| is_ours(&status)) {
        return Err(PeerError::Nested(pid));
    }
    Ok(())
}

fn status(pid: i32) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(STATUS_BYTES);
    File::open(format!("/proc/{pid}/status")).ok()?.take(MAX_STATUS_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Whether the process has one number only, ours.
fn is_ours(status: &[u8]) -> bool {
    let mut lines = status.split(|byte| *byte == b'\n');
    lines
        .find_map(|line| line.strip_prefix(b"NSpid:"))
        .is_some_and(|pids| pids.split(u8::is_ascii_whitespace).filter(|pid| !pid.is_empty()).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let own = nix::unistd::getuid().as_raw();
        require(&ours, own).unwrap();
        let wrong = require(&ours, own.wrapping_add(1));
        assert!(matches!(wrong, Err(PeerError::WrongUid { found, .. }) if found == own));
    }

    #[test]
    fn another_namespace_is_nobody() {
        assert!(!is_ours(b"Name:\tx\nNSpid:\t4711\t1\n"));
        assert!(is_ours(b"Name:\tx\nNSpid:\t4711\n"));
        assert!(!is_ours(b"Name:\tx\n"), "what is not told is not ours");
        for pid in [0, -1, i32::MAX] {
            assert!(matches!(judge(0, pid, 0), Err(PeerError::Nested(found)) if found == pid));
        }
        for uid in [1 << 31, u32::MAX - 1, u32::MAX] {
            assert!(matches!(judge(uid, 1, 0), Err(PeerError::WrongUid { found, .. }) if found == uid));
        }
    }
}
