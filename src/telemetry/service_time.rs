//! How long answers take, for `status` and for the figures: the last few, from accept to the reply written.
//!
//! Noting one costs two atomic operations and never waits; no question of anybody is kept here.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// How many answers are looked at.
pub const SERVICE_TIMES_KEPT: usize = 256;
/// What stands in a place that was not used yet.
const EMPTY: u32 = u32::MAX;

/// The times of the last [`SERVICE_TIMES_KEPT`] answers.
#[derive(Debug)]
pub struct ServiceTimes {
    nanos: [AtomicU32; SERVICE_TIMES_KEPT],
    next: AtomicUsize,
}

/// What the times came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceTime {
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// How many answers that is.
    pub answers: usize,
}

impl Default for ServiceTimes {
    fn default() -> Self {
        Self { nanos: [const { AtomicU32::new(EMPTY) }; SERVICE_TIMES_KEPT], next: AtomicUsize::new(0) }
    }
}

impl ServiceTimes {
    /// Takes one down; more than four seconds count as four.
    pub fn note(&self, took: Duration) {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % SERVICE_TIMES_KEPT;
        if let Some(kept) = self.nanos.get(place) {
            let nanos = u32::try_from(took.as_nanos()).unwrap_or(EMPTY).min(EMPTY - 1);
            kept.store(nanos, Ordering::Relaxed);
        }
    }

    /// What the last answers took; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<ServiceTime> {
        let all = self.nanos.iter().map(|kept| kept.load(Ordering::Relaxed));
        let mut nanos: Vec<u32> = all.filter(|nanos| *nanos != EMPTY).collect();
        nanos.sort_unstable();
        let answers = nanos.len();
        let at = |percent: usize| {
            let place = (answers * percent).div_ceil(100).saturating_sub(1);
            nanos.get(place).map(|nanos| Duration::from_nanos(u64::from(*nanos)))
        };
        Some(ServiceTime { p50: at(50)?, p99: at(99)?, answers })
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(f, "p50 {:.1} us, p99 {:.1} us", micros(self.p50), micros(self.p99))?;
        write!(f, " over the last {} answers", self.answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_answers_count() {
        let times = ServiceTimes::default();
        assert_eq!(times.last(), None);
        times.note(Duration::from_micros(7));
        let one = times.last().unwrap();
        assert_eq!((one.p50, one.p99, one.answers), (one.p50, one.p50, 1));
        for micros in 0..2 * SERVICE_TIMES_KEPT as u64 {
            times.note(Duration::from_micros(micros));
        }
        times.note(Duration::from_secs(60));
        let last = times.last().unwrap();
        assert_eq!(last.answers, SERVICE_TIMES_KEPT);
        assert!(last.p50 >= Duration::from_micros(SERVICE_TIMES_KEPT as u64), "{last}");
        assert!(last.p99 < Duration::from_millis(1), "{last}");
    }
}
