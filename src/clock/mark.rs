//! The high-water mark: the latest time that somebody authenticated has told this node, carried forward by
//! the time since boot. A clock that was set back behind it cannot be trusted (reference: the grace rule).
//!
//! Only a `Date` of an answer whose TLS certificate was verified may be told here, never the node's own
//! clock: so a clock that was set forward cannot poison the mark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightlatch_model::Timestamp;

/// How far the clock may be behind the mark before it is suspect, in seconds: answers travel, servers differ.
pub const CLOCK_SLACK_S: i64 = 120;
/// How far two hosts may differ and still agree, in seconds.
const AGREE_S: i64 = 60;

/// The mark. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Mark(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// The mark and the time since boot at which it was set.
    mark: Option<(Timestamp, Duration)>,
    /// A leap ahead of the node's clock that one host told and nobody else has confirmed.
    leap: Option<(String, Timestamp, Duration)>,
}

impl Told {
    fn at(&self, boot: Duration) -> Option<Timestamp> {
        self.mark.map(|(told, since)| carried(told, since, boot))
    }
}

fn carried(told: Timestamp, since: Duration, boot: Duration) -> Timestamp {
    told.plus(i64::try_from(boot.saturating_sub(since).as_secs()).unwrap_or(i64::MAX))
}

impl Mark {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier run knew. Time has passed since, nobody knows how much: it is a lower bound.
    pub fn restore(&self, mark: Timestamp, boot: Duration) {
        self.told().mark = Some((mark, boot));
    }

    /// `host` says that it is `told` now; `wall` is the node's clock and `boot` the time since boot.
    ///
    /// A time that is far ahead of the node's own clock moves the mark only when a second host says the
    /// same: one server with a wrong clock must not make every certificate look expired.
    pub fn witness(&self, host: &str, told: Timestamp, wall: Timestamp, boot: Duration) {
        let mut known = self.told();
        if known.at(boot).is_some_and(|mark| told <= mark) {
            return;
        }
        if told.since(wall) > CLOCK_SLACK_S {
            let confirmed = known.leap.as_ref().is_some_and(|(other, leap, since)| {
                other != host && carried(*leap, *since, boot).since(told).abs() <= AGREE_S
            });
            if !confirmed {
                known.leap = Some((host.to_owned(), told, boot));
                return;
            }
        }
        *known = Told { mark: Some((told, boot)), leap: None };
    }

    /// The mark at this time since boot; `None` while nobody has told a time.
    #[must_use]
    pub fn at(&self, boot: Duration) -> Option<Timestamp> {
        self.told().at(boot)
    }

    /// The time to judge by, and whether the node's clock is suspect: then the later of clock and mark.
    #[must_use]
    pub fn judge_by(&self, wall: Timestamp, boot: Duration) -> (Timestamp, bool) {
        match self.at(boot) {
            Some(mark) if mark.since(wall) > CLOCK_SLACK_S => (mark, true),
            _ => (wall, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_goes_back_is_suspect_and_judged_by_the_mark() {
        let mark = Mark::default();
        assert_eq!(mark.judge_by(NOW, at(10)), (NOW, false), "nobody told a time: the clock stands");
        mark.witness("a", NOW, NOW, at(10));
        assert_eq!(mark.judge_by(NOW.plus(-120 + 5), at(15)), (NOW.plus(-115), false));
        assert_eq!(mark.judge_by(NOW.plus(-3_600), at(15)), (NOW.plus(5), true));
        // The mark goes on by the time since boot, not by the clock.
        assert_eq!(mark.judge_by(NOW, at(10 + 7_200)), (NOW.plus(7_200), true));
        assert_eq!(mark.judge_by(NOW.plus(7_200), at(10 + 7_200)), (NOW.plus(7_200), false));
    }

    #[test]
    fn a_clock_that_goes_forward_does_not_move_the_mark() {
        let mark = Mark::default();
        mark.witness("a", NOW, NOW, at(0));
        assert_eq!(mark.judge_by(NOW.plus(86_400), at(1)), (NOW.plus(86_400), false));
        mark.witness("a", NOW.plus(2), NOW.plus(86_400), at(2));
        assert_eq!(mark.judge_by(NOW.plus(3), at(3)), (NOW.plus(3), false), "back again, and trusted");
    }

    #[test]
    fn one_host_with_a_wrong_clock_moves_nothing() {
        let mark = Mark::default();
        mark.witness("a", NOW, NOW, at(0));
        for second in 1..100 {
            mark.witness("b", NOW.plus(1_000_000), NOW, at(second));
        }
        assert_eq!(mark.at(at(100)), Some(NOW.plus(100)));
        // A second host agrees: then it is the node's own clock that is behind.
        mark.witness("a", NOW.plus(1_000_010), NOW, at(100));
        assert_eq!(mark.at(at(100)), Some(NOW.plus(1_000_010)));
        // And time told never goes back.
        mark.witness("a", NOW, NOW, at(101));
        assert_eq!(mark.at(at(101)), Some(NOW.plus(1_000_011)));
    }

    #[test]
    fn an_earlier_run_is_a_lower_bound() {
        let mark = Mark::default();
        mark.restore(NOW, at(5));
        assert_eq!(mark.judge_by(Timestamp(0), at(6)), (NOW.plus(1), true));
    }
}
