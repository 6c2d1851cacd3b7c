//! How often this node may ask Azure, and who waits when it may not.
//!
//! All nodes of a cluster may share one identity and so one bucket in Azure (ARM: 250 reads, refilled by
//! 25 a second, per region, subscription and service principal; "Understand how Azure Resource Manager
//! throttles requests"). A node sees that bucket only through the `x-ms-ratelimit-remaining-*` headers
//! and through 429, so it holds itself to a bucket of its own, believes what it was told, and keeps half
//! of both for new logins: re-judging a session can wait a minute, a person at a prompt cannot.
//!
//! Pure: time, randomness and what Azure said come in as arguments, so thousands of nodes can be played
//! in virtual time.

use std::time::Duration;

/// What an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// A person waits at a prompt.
    NewLogin,
    /// A session that lives is judged again, or a fact is refreshed.
    Refresh,
}

/// How many questions this node may ask at once.
pub const LOCAL_BURST: u32 = 40;
/// How many questions a second this node may ask in the long run.
pub const LOCAL_PER_SECOND: u32 = 10;
/// The size of Azure's shared bucket, until a header names a larger one.
pub const SHARED_CAPACITY: u64 = 250;
/// How long what a header said about the shared bucket is believed: at 25 a second it is full again.
pub const SHARED_LIFE: Duration = Duration::from_secs(10);
/// The longest time for which a 429 stops this node.
pub const MAX_BLOCK: Duration = Duration::from_secs(300);
/// The first wait after a 429 that names none; doubled with each further one.
const FIRST_BLOCK: Duration = Duration::from_secs(1);
/// How often the first wait is doubled at most.
const MAX_DOUBLINGS: u32 = 5;
/// The narrowest and the widest window in which a wait ends at random, so that a thousand nodes that
/// were refused together do not come back together.
const SPREAD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The share of the time left that the window takes: who has waited longer asks more often.
const SPREAD_SHARE: u32 = 8;

/// Tokens are counted in thousandths, so that no float rounds anything away.
const TOKEN: u64 = 1000;
const FULL: u64 = LOCAL_BURST as u64 * TOKEN;

/// Whether it is one's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Ask now; the token is taken.
    Go,
    /// Come back after this time.
    Wait(Duration),
}

/// What this node knows about how often it may ask one service.
#[derive(Clone, Debug)]
pub struct Budget {
    tokens: u64,
    filled: Duration,
    blocked_until: Duration,
    refusals: u32,
    shared: Option<(u64, Duration)>,
    capacity: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    /// A full one. All times are counted from the moment when it was made.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tokens: FULL,
            filled: Duration::ZERO,
            blocked_until: Duration::ZERO,
            refusals: 0,
            shared: None,
            capacity: SHARED_CAPACITY,
        }
    }

    /// Whether a question may be asked at `now` by somebody who can wait for `left`. `chance` is any
    /// random number.
    pub fn turn(&mut self, purpose: Purpose, now: Duration, left: Duration, chance: u32) -> Turn {
        let gained = now.saturating_sub(self.filled).as_millis().saturating_mul(u128::from(LOCAL_PER_SECOND));
        self.tokens = self.tokens.saturating_add(u64::try_from(gained).unwrap_or(FULL)).min(FULL);
        self.filled = self.filled.max(now);

        if now < self.blocked_until {
            return Turn::Wait(self.blocked_until.saturating_sub(now) + spread(left, chance));
        }
        let floor = match purpose {
            Purpose::NewLogin => 0,
            Purpose::Refresh => FULL / 2,
        };
        if purpose == Purpose::Refresh
            && let Some((remaining, seen)) = self.shared
            && now.saturating_sub(seen) < SHARED_LIFE
            && remaining < self.capacity / 2
        {
            return Turn::Wait(SHARED_LIFE.saturating_sub(now.saturating_sub(seen)) + spread(left, chance));
        }
        if let Some(missing) = (floor + TOKEN).checked_sub(self.tokens).filter(|m| *m > 0) {
            let wait = Duration::from_millis(missing.div_ceil(u64::from(LOCAL_PER_SECOND)));
            return Turn::Wait(wait + spread(left, chance));
        }
        self.tokens -= TOKEN;
        Turn::Go
    }

    /// Whether it is Azure that makes this node wait, and not the pace it sets itself.
    #[must_use]
    pub fn is_blocked(&self, now: Duration) -> bool {
        now < self.blocked_until
    }

    /// Azure answered 429 at `now`, with its `Retry-After` if it named one. Gives the wait that follows.
    pub fn refused(&mut self, retry_after: Option<Duration>, now: Duration) -> Duration {
        let wait = retry_after.unwrap_or_else(|| FIRST_BLOCK * 2_u32.pow(self.refusals.min(MAX_DOUBLINGS)));
        self.refusals = self.refusals.saturating_add(1);
        let wait = wait.min(MAX_BLOCK);
        self.blocked_until = self.blocked_until.max(now + wait);
        wait
    }

    /// Azure answered something else at `now`; `remaining` is what its headers said.
    pub fn answered(&mut self, remaining: Option<u64>, now: Duration) {
        self.refusals = 0;
        if let Some(remaining) = remaining {
            self.capacity = self.capacity.max(remaining);
            self.shared = Some((remaining, now));
        }
    }
}

fn spread(left: Duration, chance: u32) -> Duration {
    let window = (left / SPREAD_SHARE).clamp(SPREAD.0, SPREAD.1);
    window.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const ZERO: Duration = Duration::ZERO;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn half_is_kept_for_new_logins() {
        let mut budget = Budget::new();
        let mut granted = 0;
        while budget.turn(Purpose::Refresh, ZERO, LONG, 0) == Turn::Go {
            granted += 1;
        }
        assert_eq!(granted, LOCAL_BURST / 2);
        granted = 0;
        while budget.turn(Purpose::NewLogin, ZERO, LONG, 0) == Turn::Go {
            granted += 1;
        }
        assert_eq!(granted, LOCAL_BURST / 2);
        assert_eq!(budget.turn(Purpose::NewLogin, ZERO, LONG, 0), Turn::Wait(at(100)));
        assert_eq!(budget.turn(Purpose::NewLogin, at(100), LONG, 0), Turn::Go);
        assert_eq!(budget.turn(Purpose::Refresh, at(1000), LONG, 0), Turn::Wait(at(1200)));
    }

    #[test]
    fn a_low_shared_bucket_stops_refreshes_only_and_only_for_a_while() {
        let mut budget = Budget::new();
        budget.answered(Some(124), ZERO);
        assert_eq!(budget.turn(Purpose::Refresh, at(1), LONG, 0), Turn::Wait(SHARED_LIFE - at(1)));
        assert_eq!(budget.turn(Purpose::NewLogin, at(1), LONG, 0), Turn::Go);
        assert_eq!(budget.turn(Purpose::Refresh, SHARED_LIFE, LONG, 0), Turn::Go);
        budget.answered(Some(125), SHARED_LIFE);
        assert_eq!(budget.turn(Purpose::Refresh, SHARED_LIFE, LONG, 0), Turn::Go);
        // A larger bucket keeps a larger half.
        budget.answered(Some(12_000), SHARED_LIFE);
        budget.answered(Some(5_999), SHARED_LIFE);
        assert_ne!(budget.turn(Purpose::Refresh, SHARED_LIFE, LONG, 0), Turn::Go);
    }

    #[test]
    fn a_refusal_stops_everybody_for_as_long_as_azure_says() {
        let mut budget = Budget::new();
        assert_eq!(budget.refused(Some(at(7000)), at(1000)), at(7000));
        for purpose in [Purpose::NewLogin, Purpose::Refresh] {
            assert_eq!(budget.turn(purpose, at(2000), LONG, 0), Turn::Wait(at(6000)));
        }
        // A shorter one does not shorten it.
        budget.refused(Some(ZERO), at(2000));
        assert_eq!(budget.turn(Purpose::NewLogin, at(7999), LONG, 0), Turn::Wait(at(1)));
        assert_eq!(budget.turn(Purpose::NewLogin, at(8000), LONG, 0), Turn::Go);
        assert_eq!(budget.refused(Some(Duration::from_secs(86_400)), ZERO), MAX_BLOCK);
        assert!(budget.is_blocked(MAX_BLOCK - at(1)) && !budget.is_blocked(MAX_BLOCK));
    }

    #[test]
    fn waits_without_a_hint_double_and_are_spread() {
        let mut budget = Budget::new();
        let waits: Vec<u64> = (0..8).map(|_| budget.refused(None, ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32]);
        budget.answered(None, ZERO);
        assert_eq!(budget.refused(None, ZERO).as_secs(), 1);
        assert_eq!(spread(LONG, u32::MAX), at(1000));
        assert_eq!(spread(at(4000), u32::MAX), at(500));
        assert_eq!(spread(ZERO, u32::MAX), at(100));
        assert_eq!(spread(LONG, 0), ZERO);
    }

    /// A small rehearsal of the fleet: nodes with one question each and one shared bucket, in virtual time.
    #[test]
    fn a_fleet_with_one_bucket_is_served_in_time() {
        const NODES: u64 = 300;
        let mut bucket = (100_u64 * TOKEN, 0_u64);
        let mut seed = 7_u32;
        let mut chance = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed
        };
        // (next move, arrival, node), one question for each node, spread over ten seconds.
        let mut queue: std::collections::BTreeMap<(u64, u64), (u64, Budget)> =
            (0..NODES).map(|n| ((n * 10_000 / NODES, n), (n * 10_000 / NODES, Budget::new()))).collect();
        let mut served = 0;
        while let Some(((now, node), (arrived, mut budget))) = queue.pop_first() {
            let left = LONG.saturating_sub(at(now - arrived));
            assert!(!left.is_zero(), "node {node} waited too long");
            match budget.turn(Purpose::NewLogin, at(now), left, chance()) {
                Turn::Wait(wait) => {
                    let next = now + u64::try_from(wait.as_millis()).unwrap().max(1);
                    queue.insert((next, node), (arrived, budget));
                }
                Turn::Go => {
                    bucket.0 = (bucket.0 + (now - bucket.1) * 25).min(100 * TOKEN);
                    bucket.1 = now;
                    if bucket.0 >= TOKEN {
                        bucket.0 -= TOKEN;
                        served += 1;
                    } else {
                        budget.refused(Some(at(200)), at(now));
                        queue.insert((now + 1, node), (arrived, budget));
                    }
                }
            }
        }
        assert_eq!(served, NODES);
    }
}
