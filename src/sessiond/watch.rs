//! The watching thread: waits for monitors to end, for new orders and for time to pass, and lets the keeper do
//! what is due. Its rounds are the program's signs of life.
//!
//! Nothing that goes wrong in a wait may stop it: it then looks again after a moment.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};

use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::notify::Notifier;

/// How long to wait where the kernel refuses to, in milliseconds.
const STUMBLE_MS: u64 = 50;

/// Wakes the watching thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Ends the wait that goes on now, or the next one.
    pub fn wake(&self) {
        // Full means that it is awake already.
        let _ = write(&*self.0, &1_u64.to_ne_bytes());
    }

    fn settle(&self) {
        let _ = read(&*self.0, &mut [0_u8; 8]);
    }
}

/// Signs of life for systemd.
#[derive(Debug)]
pub struct Life {
    /// Where they go.
    pub notifier: Notifier,
    /// How often, in milliseconds.
    pub every_ms: u64,
}

/// Watches for ever.
pub fn watch(keeper: &Keeper, waker: &Waker, clock: &Clock, life: Option<&Life>) -> ! {
    let mut ready = false;
    let mut kick_at = 0;
    loop {
        let now = clock();
        let wait = keeper.tick(now);
        if let Some(life) = life.filter(|_| now.up_ms >= kick_at) {
            let state = if ready { "WATCHDOG=1" } else { "READY=1\nWATCHDOG=1" };
            if life.notifier.send(state).is_ok() {
                ready = true;
                kick_at = now.up_ms + life.every_ms;
            }
        }
        let until_kick = if life.is_some() { kick_at.saturating_sub(now.up_ms).max(1) } else { u64::MAX };
        pause(keeper, waker, wait.min(until_kick));
    }
}

/// Waits until a monitor ends, somebody wakes us or `wait_ms` are over.
fn pause(keeper: &Keeper, waker: &Waker, wait_ms: u64) {
    let holds = keeper.watched();
    let mut fds = vec![PollFd::from_borrowed_fd(waker.0.as_fd(), PollFlags::IN)];
    fds.extend(holds.iter().filter_map(|hold| Some(PollFd::from_borrowed_fd(hold.fd()?, PollFlags::IN))));
    if poll(&mut fds, Some(&millis(wait_ms))).is_err_and(|error| error != Errno::INTR) {
        let mut only = [PollFd::from_borrowed_fd(waker.0.as_fd(), PollFlags::IN)];
        let _ = poll(&mut only, Some(&millis(STUMBLE_MS)));
    }
    waker.settle();
}

fn millis(ms: u64) -> Timespec {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Timespec { tv_sec: ms / 1_000, tv_nsec: ms % 1_000 * 1_000_000 }
}
