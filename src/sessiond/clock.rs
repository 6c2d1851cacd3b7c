//! What time it is, twice: on the wall for records, since boot for every limit.
//!
//! The only file of this program that reads a clock. All else gets a [`Now`] handed in.

use std::sync::Arc;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Milliseconds since boot, time asleep included: the clock that process start times are counted on.
    pub up_ms: u64,
}

impl Now {
    /// Whole seconds since 1970.
    #[must_use]
    pub const fn wall(self) -> i64 {
        self.wall_ms.div_euclid(1_000)
    }
}

/// Where a [`Now`] comes from.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Reads both clocks of the machine.
#[must_use]
pub fn system_now() -> Now {
    let up = millis(clock_gettime(ClockId::Boottime));
    Now { wall_ms: millis(clock_gettime(ClockId::Realtime)), up_ms: u64::try_from(up).unwrap_or(0) }
}

const fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000)
}
