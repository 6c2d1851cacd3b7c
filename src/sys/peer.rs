//! The identity of a peer on a unix socket. The uid is identity; the pid is only a hint.

use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use thiserror::Error;

use super::caller::read_small;

/// The largest `/proc/PID/status` that is read, in bytes. Most have about 1,500; but the list of groups
/// stands before what is looked for, and has up to 65,536 of 11 bytes.
const MAX_STATUS_BYTES: usize = 1024 * 1024;

/// Who connected, as the kernel recorded it at connect(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The peer's uid, seen from our user namespace.
    pub uid: u32,
    /// The peer's pid; it may be gone or reused by now.
    pub pid: i32,
}

/// Why a peer is not answered.
#[derive(Debug, Error)]
pub enum PeerError {
    /// getsockopt failed; there is no default identity.
    #[error("the kernel does not say who is connected")]
    Unreadable(#[source] nix::Error),
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

impl Peer {
    /// Reads the credentials of a connected socket.
    ///
    /// # Errors
    /// [`PeerError::Unreadable`]; never a default.
    pub fn of(socket: &impl AsFd) -> Result<Self, PeerError> {
        let credentials = getsockopt(&socket.as_fd(), PeerCredentials).map_err(PeerError::Unreadable)?;
        Ok(Self { uid: credentials.uid(), pid: credentials.pid() })
    }

    /// Accepts only `expected`, and only from our own pid namespace.
    ///
    /// # Errors
    /// [`PeerError::WrongUid`] or [`PeerError::Nested`].
    pub fn require(self, expected: u32) -> Result<(), PeerError> {
        if self.uid != expected {
            return Err(PeerError::WrongUid { found: self.uid, expected });
        }
        // A peer from an unrelated namespace has pid 0; one from a child namespace has a second
        // number in NSpid. One that is gone may have handed its connection to whom it wanted.
        if self.pid <= 0 {
            return Err(PeerError::Nested(self.pid));
        }
        let status = read_small(&format!("/proc/{}/status", self.pid), MAX_STATUS_BYTES);
        match status {
            Ok(status) if is_ours(&status) => Ok(()),
            _ => Err(PeerError::Nested(self.pid)),
        }
    }
}

/// Whether the process has one number only, ours.
fn is_ours(status: &[u8]) -> bool {
    status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"NSpid:"))
        .is_some_and(|pids| pids.split(u8::is_ascii_whitespace).filter(|pid| !pid.is_empty()).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours).unwrap();
        assert_eq!(peer.uid, nix::unistd::getuid().as_raw());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert!(peer.require(peer.uid).is_ok());
        assert!(matches!(peer.require(peer.uid.wrapping_add(1)), Err(PeerError::WrongUid { .. })));
    }

    #[test]
    fn a_second_pid_means_another_namespace() {
        assert!(!is_ours(b"Name:\tx\nNSpid:\t4711\t1\n"));
        assert!(is_ours(b"Name:\tx\nNSpid:\t4711\n"));
        assert!(!is_ours(b"Name:\tx\n"), "what is not told is not ours");
        assert!(Peer { uid: 0, pid: 0 }.require(0).is_err());
    }

    /// polkit CVE-2018-19788: a uid above INT_MAX is a uid like any other, never -1 and never root.
    #[test]
    fn uids_above_int_max_stay_themselves() {
        for uid in [2_147_483_648, 4_294_967_294] {
            let pid = i32::try_from(std::process::id()).unwrap();
            assert!(
                matches!(Peer { uid, pid }.require(0), Err(PeerError::WrongUid { found, .. }) if found == uid)
            );
        }
    }
}
