//! The only room that reads a clock. Everything else takes time as an argument.
//!
//! Wall time judges certificates and windows; boot time (which counts suspend and never jumps)
//! measures how old a fact is. Never use wall time for an age.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nightlatch_model::Timestamp;
use nix::time::{ClockId, clock_gettime};

mod mark;

pub use mark::{CLOCK_SLACK_S, Mark};

/// Where time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System,
    /// A clock that moves when it is told to, for tests and replay.
    Manual(Arc<ManualClock>),
}

/// The hands of a manual clock.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    boot_millis: AtomicI64,
}

impl ManualClock {
    /// A clock that shows this wall time.
    #[must_use]
    pub fn at(now: Timestamp) -> Arc<Self> {
        let clock = Self::default();
        clock.wall.store(now.0, Ordering::SeqCst);
        Arc::new(clock)
    }

    /// Moves both hands.
    pub fn advance(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
        self.boot_millis.fetch_add(seconds.saturating_mul(1000), Ordering::SeqCst);
    }

    /// Moves the wall clock alone, as somebody who sets it does.
    pub fn jump(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock {
    /// Wall time, whole seconds. A clock that cannot be read shows 1970, at which every
    /// certificate is not yet valid: the safe side.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                clock_gettime(ClockId::CLOCK_REALTIME).map_or(Timestamp(0), |time| Timestamp(time.tv_sec()))
            }
            Self::Manual(clock) => Timestamp(clock.wall.load(Ordering::SeqCst)),
        }
    }

    /// Time since boot, suspend included.
    #[must_use]
    pub fn boot(&self) -> Duration {
        match self {
            Self::System => clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from),
            Self::Manual(clock) => {
                Duration::from_millis(u64::try_from(clock.boot_millis.load(Ordering::SeqCst)).unwrap_or(0))
            }
        }
    }
}
