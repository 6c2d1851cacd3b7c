//! A source that fails: how long each kind of failure is remembered before the source is asked again.
//!
//! A credential that was taken back, and a person who has to sign in, are never asked about again by
//! themselves: only a purge forgets them.

use std::time::Duration;

use super::{Now, said};
use crate::{Failure, FailureClass};

/// The bound of the first wait after a failure that passes by itself; doubled each time.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The bound that it is doubled up to.
pub const BACKOFF_MOST: Duration = Duration::from_secs(300);
/// The wait is anywhere between this and the bound ("full jitter").
pub const BACKOFF_LEAST: Duration = Duration::from_millis(250);
/// The first wait after a refusal that somebody has to mend; doubled each time.
pub const CONFIG_FIRST: Duration = Duration::from_secs(60);
/// The wait that it is doubled up to.
pub const CONFIG_MOST: Duration = Duration::from_secs(900);
/// Tries while something may only not be replicated yet; then it is a setting that somebody has to mend.
pub const LAG_TRIES: u32 = 5;
/// The time within which those tries are made.
pub const LAG_WINDOW: Duration = Duration::from_secs(120);
/// The waits between them: the first is short, as most of these failures are.
const LAG_WAITS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30), Duration::from_secs(80)];
/// The longest `Retry-After` that is believed.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(3600);

/// What went wrong since the last token came.
pub(super) struct Trouble {
    failure: Failure,
    /// The first and the last failure in a row, since boot.
    since: Duration,
    last: Duration,
    /// All in a row, and those that somebody has to mend.
    tries: u32,
    config_tries: u32,
    /// How many could be replication lag, and when the first was (since boot).
    lag: Option<(u32, Duration)>,
    /// When the source may be asked again, since boot; `None`: not by itself.
    retry: Option<Duration>,
}

impl Trouble {
    /// One more failure.
    pub(super) fn after(earlier: Option<Self>, failure: &Failure, now: Now, dice: u64) -> Self {
        let mut failure = failure.clone();
        let mut lag = earlier.as_ref().and_then(|earlier| earlier.lag);
        if failure.class == FailureClass::Lag {
            let (tries, first) = lag.map_or((1, now.boot), |(tries, first)| (tries.saturating_add(1), first));
            lag = Some((tries, first));
            if tries >= LAG_TRIES || now.boot.saturating_sub(first) >= LAG_WINDOW {
                failure.class = FailureClass::Config;
            }
        }
        let tries = earlier.as_ref().map_or(0, |earlier| earlier.tries).saturating_add(1);
        let config_tries = earlier.as_ref().map_or(0, |earlier| earlier.config_tries)
            + u32::from(failure.class == FailureClass::Config && tries < u32::MAX);
        let wait = match failure.class {
            FailureClass::Transient => Some(backoff(tries, dice)),
            FailureClass::Lag => {
                let at = usize::try_from(lag.map_or(0, |(tries, _)| tries.saturating_sub(1)))
                    .unwrap_or(usize::MAX);
                Some(LAG_WAITS.get(at).copied().unwrap_or(CONFIG_FIRST))
            }
            FailureClass::Config => Some(doubled(CONFIG_FIRST, config_tries, CONFIG_MOST)),
            FailureClass::NeedsUser | FailureClass::Revoked => None,
        };
        // On top of what the source asked for, so that not everybody comes back in the same instant.
        let floor = failure.retry_after.map_or(Duration::ZERO, |wanted| wanted.min(RETRY_AFTER_MOST));
        let retry = wait.map(|wait| now.boot.saturating_add(floor).saturating_add(wait));
        let since = earlier.map_or(now.boot, |earlier| earlier.since);
        Self { failure, since, last: now.boot, tries, config_tries, lag, retry }
    }

    /// The last failure.
    pub(super) const fn failure(&self) -> &Failure {
        &self.failure
    }

    /// When the source may be asked again, since boot; `None`: not by itself.
    pub(super) const fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Whether the last failure is recent enough to say something about the source now.
    pub(super) fn is_recent(&self, now: Now) -> bool {
        now.boot.saturating_sub(self.last) <= BACKOFF_MOST
    }

    /// For people: since when, and what.
    pub(super) fn told(&self, now: Now) -> String {
        let since = said(now.boot.saturating_sub(self.since));
        format!("the source has failed for {since}: {}", self.failure.sentence)
    }
}

/// A wait between [`BACKOFF_LEAST`] and the bound after this many failures.
fn backoff(tries: u32, dice: u64) -> Duration {
    let bound = doubled(BACKOFF_FIRST, tries, BACKOFF_MOST);
    let span = u64::try_from(bound.saturating_sub(BACKOFF_LEAST).as_millis()).unwrap_or(0);
    BACKOFF_LEAST + Duration::from_millis(dice % (span + 1))
}

/// `first` after one failure, doubled with each more, up to `most`.
fn doubled(first: Duration, tries: u32, most: Duration) -> Duration {
    let factor = 1_u32 << tries.saturating_sub(1).min(16);
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_model::Timestamp;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Now {
        Now { boot: Duration::from_secs(seconds), wall: Timestamp(0) }
    }

    fn wait_of(trouble: &Trouble, now: Now) -> Duration {
        trouble.retry.unwrap() - now.boot
    }

    proptest! {
        #[test]
        fn a_wait_stays_between_its_bounds(tries in 1_u32..1_000_000, dice: u64) {
            let bound = BACKOFF_FIRST.as_secs().saturating_mul(1 << (tries - 1).min(20)).min(300);
            let wait = backoff(tries, dice);
            prop_assert!(wait >= BACKOFF_LEAST && wait <= Duration::from_secs(bound));
        }

        #[test]
        fn what_the_source_asks_for_is_a_floor(seconds in 0_u64..1_000_000, dice: u64, tries in 1_usize..40) {
            let mut failure = Failure::new(FailureClass::Transient, "down");
            failure.retry_after = Some(Duration::from_secs(seconds));
            let mut trouble = None;
            for _ in 0..tries {
                trouble = Some(Trouble::after(trouble, &failure, at(9), dice));
            }
            let wait = wait_of(&trouble.unwrap(), at(9));
            let floor = Duration::from_secs(seconds.min(3600));
            prop_assert!(wait >= floor && wait <= floor + BACKOFF_MOST);
        }
    }

    #[test]
    fn waits_reach_both_ends_of_their_bounds() {
        assert_eq!(backoff(1, 0), BACKOFF_LEAST);
        assert_eq!(backoff(1, 750), BACKOFF_FIRST);
        assert_eq!(backoff(60, 299_750), BACKOFF_MOST);
    }

    #[test]
    fn lag_is_tried_five_times_in_two_minutes_and_is_then_a_setting() {
        let failure = Failure::new(FailureClass::Lag, "not there yet");
        let (mut trouble, mut now, mut asked) = (None, at(1000), 0);
        loop {
            asked += 1;
            let next = Trouble::after(trouble.take(), &failure, now, 7);
            let over = next.failure.class == FailureClass::Config;
            if over {
                assert_eq!(wait_of(&next, now), CONFIG_FIRST);
                break;
            }
            now.boot += wait_of(&next, now);
            trouble = Some(next);
        }
        assert_eq!((asked, now.boot), (LAG_TRIES, Duration::from_secs(1000) + LAG_WINDOW));
        // A second lag long after the first is over, too.
        let first = Trouble::after(None, &failure, at(0), 7);
        assert_eq!(first.failure.class, FailureClass::Lag);
        assert_eq!(Trouble::after(Some(first), &failure, at(500), 7).failure.class, FailureClass::Config);
    }

    #[test]
    fn settings_wait_a_minute_to_a_quarter_of_an_hour_and_people_wait_for_people() {
        let failure = Failure::new(FailureClass::Config, "wrong secret");
        let mut trouble = None;
        for wait in [60, 120, 240, 480, 900, 900] {
            let next = Trouble::after(trouble.take(), &failure, at(5), 3);
            assert_eq!(wait_of(&next, at(5)), Duration::from_secs(wait));
            trouble = Some(next);
        }
        for class in [FailureClass::NeedsUser, FailureClass::Revoked] {
            assert_eq!(Trouble::after(None, &Failure::new(class, "sign in"), at(5), 3).retry, None);
        }
    }
}
