//! Whose turn it is: when each live session is judged again, warned, or at its end. Pure; times come in.
//!
//! Sessions of one person fall due together, because one answer of Azure serves them all.

use std::collections::HashMap;
use std::time::Duration;

use nightlatch_model::Timestamp;

/// Before which ends a person is warned, in seconds left, the earlier warning first.
pub const WARNINGS_S: [i64; 2] = [300, 60];

/// The share of the interval by which a turn is early at random, as one in so many: the nodes of a fleet
/// that were restarted together must not ask together for ever.
const JITTER: u32 = 5;

/// The shortest pause between two looks.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// What is to be done about one session now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Judge it.
    Judge,
    /// Tell it that so many seconds are left.
    Warn(i64),
    /// Nothing yet.
    Wait,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    next: Duration,
    until: Option<Timestamp>,
    warned: usize,
}

/// The plan for all live sessions.
#[derive(Debug)]
pub struct Due {
    interval: Duration,
    known: HashMap<u64, Known>,
}

impl Due {
    /// A plan that judges each session once in `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, known: HashMap::new() }
    }

    /// Forgets every session that is not among these.
    pub fn keep(&mut self, live: &[u64]) {
        self.known.retain(|id, _| live.contains(id));
    }

    /// Whether it is the turn of a session at `boot` (time since boot) and `now`. `until` is the end that
    /// its record states. One that was not seen before is judged at its first turn: an interval after it
    /// was found, or at once when `at_once`.
    pub fn turn(
        &mut self,
        id: u64,
        until: Option<Timestamp>,
        at_once: bool,
        now: Timestamp,
        boot: Duration,
        chance: u32,
    ) -> Turn {
        let first = if at_once { boot } else { boot + self.early(chance) };
        let known = self.known.entry(id).or_insert(Known { next: first, until, warned: 0 });
        let end = known.until;
        if boot >= known.next || end.is_some_and(|end| end <= now) {
            return Turn::Judge;
        }
        let Some(left) = end.map(|end| end.since(now)) else { return Turn::Wait };
        match WARNINGS_S.get(known.warned) {
            Some(limit) if left <= *limit => {
                // A session that has less left than several warnings is told once.
                known.warned = WARNINGS_S.iter().filter(|limit| left <= **limit).count();
                Turn::Warn(left)
            }
            _ => Turn::Wait,
        }
    }

    /// A session was judged: it may stay until `until`, and is judged again an interval later.
    pub fn judged(&mut self, id: u64, until: Option<Timestamp>, boot: Duration, chance: u32) {
        let next = boot + self.early(chance);
        let known = self.known.entry(id).or_insert(Known { next, until, warned: 0 });
        let longer = match (known.until, until) {
            (Some(before), Some(after)) => after > before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        // Who was given more time is warned anew before the new end.
        *known = Known { next, until, warned: if longer { 0 } else { known.warned } };
    }

    /// The time to the nearest turn, end or warning of a session, at least a tenth of a second.
    #[must_use]
    pub fn next(&self, now: Timestamp, boot: Duration) -> Option<Duration> {
        let nearest = |known: &Known| {
            let turn = known.next.saturating_sub(boot);
            let Some(end) = known.until else { return turn };
            let warning = WARNINGS_S.get(known.warned).copied().unwrap_or(0);
            let left = end.since(now).saturating_sub(warning).max(0);
            turn.min(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
        };
        self.known.values().map(nearest).min().map(|time| time.max(LEAST_WAIT))
    }

    fn early(&self, chance: u32) -> Duration {
        let share = self.interval / JITTER;
        self.interval.saturating_sub(share.mul_f64(f64::from(chance) / f64::from(u32::MAX)))
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
    fn each_session_is_judged_once_in_an_interval_and_early_by_chance() {
        let mut due = Due::new(at(60));
        assert_eq!(due.turn(1, None, false, NOW, at(0), 0), Turn::Wait);
        assert_eq!(due.turn(1, None, false, NOW, at(59), 0), Turn::Wait);
        assert_eq!(due.turn(1, None, false, NOW, at(60), 0), Turn::Judge);
        due.judged(1, None, at(60), u32::MAX);
        assert_eq!(due.turn(1, None, false, NOW, at(60 + 47), 0), Turn::Wait);
        assert_eq!(due.turn(1, None, false, NOW, at(60 + 48), 0), Turn::Judge);
        // What nobody has judged yet can be wanted at once.
        assert_eq!(due.turn(2, None, true, NOW, at(0), 0), Turn::Judge);
    }

    #[test]
    fn an_end_is_its_own_turn_with_two_warnings_before_it() {
        let mut due = Due::new(at(3_600));
        let end = Some(NOW.plus(400));
        let mut turn = |passed: i64| due.turn(1, end, false, NOW.plus(passed), at(1), 0);
        assert_eq!(turn(0), Turn::Wait);
        assert_eq!(turn(100), Turn::Warn(300));
        assert_eq!(turn(101), Turn::Wait);
        assert_eq!(turn(340), Turn::Warn(60));
        assert_eq!(turn(341), Turn::Wait);
        assert_eq!(turn(400), Turn::Judge);
        let mut due = Due::new(at(3_600));
        assert_eq!(due.next(NOW, at(1)), None);
        due.turn(1, end, false, NOW, at(1), 0);
        assert_eq!(due.next(NOW, at(1)), Some(at(100)), "the warning");
        assert_eq!(due.next(NOW.plus(500), at(1)), Some(LEAST_WAIT), "the end");
        assert_eq!(due.next(NOW, at(3_600)), Some(at(1)), "the turn");
    }

    #[test]
    fn little_time_is_one_warning_and_more_time_is_warned_about_anew() {
        let mut due = Due::new(at(3_600));
        assert_eq!(due.turn(1, Some(NOW.plus(30)), false, NOW, at(1), 0), Turn::Warn(30));
        assert_eq!(due.turn(1, None, false, NOW.plus(1), at(2), 0), Turn::Wait);
        due.judged(1, Some(NOW.plus(1_000)), at(3), 0);
        assert_eq!(due.turn(1, None, false, NOW.plus(701), at(4), 0), Turn::Warn(299));
        due.keep(&[]);
        assert!(due.known.is_empty());
    }
}
