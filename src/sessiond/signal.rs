//! Holds on processes: pidfds (pidfd_open(2)), which stay with one process whatever becomes of its number.
//!
//! The only file of this program that sends a signal, and it knows two.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// SIGTERM: end in order.
    Term,
    /// SIGKILL.
    Kill,
}

/// A hold on one process.
pub trait Hold: Send + Sync {
    /// Sends a signal to this process and to no other.
    ///
    /// # Errors
    /// What the kernel says; the process may be gone.
    fn send(&self, strike: Strike) -> io::Result<()>;
    /// Whether the process has ended.
    fn is_gone(&self) -> bool;
    /// What becomes readable when the process ends.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// A hold that several may keep.
pub type Held = Arc<dyn Hold>;

/// Gives holds.
pub trait Signals: Send + Sync {
    /// Takes a hold on the process that has this number now.
    ///
    /// # Errors
    /// There is none, or no descriptor is left.
    fn hold(&self, pid: u32) -> io::Result<Held>;
}

/// The kernel's.
#[derive(Debug)]
pub struct Pidfds;

struct Pidfd(OwnedFd);

impl Signals for Pidfds {
    fn hold(&self, pid: u32) -> io::Result<Held> {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Arc::new(Pidfd(pidfd_open(pid, PidfdFlags::empty())?)))
    }
}

impl Hold for Pidfd {
    fn send(&self, strike: Strike) -> io::Result<()> {
        let signal = match strike {
            Strike::Term => Signal::TERM,
            Strike::Kill => Signal::KILL,
        };
        Ok(pidfd_send_signal(&self.0, signal)?)
    }

    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_hold_outlives_its_process_and_says_so() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let hold = Pidfds.hold(child.id()).unwrap();
        assert!(!hold.is_gone());
        hold.send(Strike::Term).unwrap();
        child.wait().unwrap();
        assert!(hold.is_gone());
        assert!(hold.send(Strike::Kill).is_err());
    }

    #[test]
    fn numbers_that_name_no_process_give_no_hold() {
        for pid in [0, u32::MAX, 1 << 31, i32::MAX.unsigned_abs()] {
            assert!(Pidfds.hold(pid).is_err(), "{pid}");
        }
    }
}
