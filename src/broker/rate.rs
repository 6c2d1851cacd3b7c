//! How often one uid may ask under one rule, where the rule says so.
//!
//! One number a bucket (the generic cell rate algorithm): the time at which the next question would be on
//! time if the caller kept to the rate. A bucket that has caught up is the same as none, and is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most buckets. Only callers that a rule permits get one.
const MAX_BUCKETS: usize = 4_096;

/// The buckets of all (rule, uid).
#[derive(Default)]
pub(super) struct Buckets {
    due: Mutex<HashMap<(Arc<str>, u32), Duration>>,
}

impl Buckets {
    /// Takes one question of `uid` under `rule`, at most `count` within `per`, with bursts of `count`.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn take(
        &self,
        rule: &Arc<str>,
        uid: u32,
        (count, per): (u32, Duration),
        boot: Duration,
    ) -> Result<(), Duration> {
        let Some(each) = per.checked_div(count) else { return Err(per) };
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= MAX_BUCKETS {
            due.retain(|_, at| *at > boot);
        }
        let key = (Arc::clone(rule), uid);
        let at = due.get(&key).copied().unwrap_or(boot).max(boot);
        let early = at.saturating_add(each).saturating_sub(per);
        if early > boot {
            return Err(early.saturating_sub(boot));
        }
        if due.len() >= MAX_BUCKETS && !due.contains_key(&key) {
            return Err(each);
        }
        due.insert(key, at.saturating_add(each));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_the_rate_holds_for_each_uid_and_rule_apart() {
        let buckets = Buckets::default();
        let (rule, other): (Arc<str>, Arc<str>) = ("r".into(), "s".into());
        let rate = (3, Duration::from_secs(60));
        let start = Duration::from_secs(1_000);
        for _ in 0..3 {
            assert_eq!(buckets.take(&rule, 1, rate, start), Ok(()));
        }
        assert_eq!(buckets.take(&rule, 1, rate, start), Err(Duration::from_secs(20)));
        assert_eq!(buckets.take(&rule, 2, rate, start), Ok(()));
        assert_eq!(buckets.take(&other, 1, rate, start), Ok(()));
        let later = start + Duration::from_secs(20);
        assert_eq!(buckets.take(&rule, 1, rate, later), Ok(()));
        assert_eq!(buckets.take(&rule, 1, rate, later), Err(Duration::from_secs(20)));
        assert_eq!(buckets.take(&rule, 1, (0, rate.1), later), Err(rate.1));
    }

    #[test]
    fn buckets_are_bounded() {
        let buckets = Buckets::default();
        let rule: Arc<str> = "r".into();
        let rate = (1, Duration::from_secs(60));
        let mut refused = 0;
        for uid in 0..10_000 {
            refused += u32::from(buckets.take(&rule, uid, rate, Duration::ZERO).is_err());
        }
        assert_eq!(refused, 10_000 - u32::try_from(MAX_BUCKETS).unwrap());
        let later = Duration::from_secs(61);
        assert_eq!(buckets.take(&rule, 9_999, rate, later), Ok(()));
        assert_eq!(buckets.due.lock().unwrap().len(), 1);
    }
}
