//! How often somebody may ask. Buckets are per key, never global for a target: nobody can lock
//! another person out by asking in their name from elsewhere.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The most keys that one limiter remembers; beyond it, keys that are full again are dropped.
const MAX_KEYS: usize = 8_192;

/// How often full buckets are looked for when the table is full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A token bucket for each key.
#[derive(Debug)]
pub struct Limiter<K> {
    burst: f64,
    per_second: f64,
    buckets: HashMap<K, (f64, Duration)>,
    swept: Duration,
}

impl<K: Hash + Eq> Limiter<K> {
    /// `burst` at once, then `per_second`.
    #[must_use]
    pub fn new(burst: u32, per_second: f64) -> Self {
        Self { burst: f64::from(burst), per_second, buckets: HashMap::new(), swept: Duration::ZERO }
    }

    /// Takes one; false when the key has none left. `boot` is the time since boot.
    pub fn take(&mut self, key: K, boot: Duration) -> bool {
        if self.buckets.len() >= MAX_KEYS && !self.buckets.contains_key(&key) {
            // Looking through all of them is dear: once a second, however many strangers come.
            if boot.saturating_sub(self.swept) < SWEEP_INTERVAL {
                return true;
            }
            self.swept = boot;
            let (burst, rate) = (self.burst, self.per_second);
            self.buckets.retain(|_, (left, at)| filled(*left, *at, boot, burst, rate) < burst);
            if self.buckets.len() >= MAX_KEYS {
                // Everybody is busy: an unknown key is not remembered, and not refused either.
                return true;
            }
        }
        let (burst, rate) = (self.burst, self.per_second);
        let bucket = self.buckets.entry(key).or_insert((burst, boot));
        let left = filled(bucket.0, bucket.1, boot, burst, rate);
        let granted = left >= 1.0;
        *bucket = (if granted { left - 1.0 } else { left }, boot);
        granted
    }
}

fn filled(left: f64, at: Duration, boot: Duration, burst: f64, rate: f64) -> f64 {
    (boot.saturating_sub(at).as_secs_f64().mul_add(rate, left)).min(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate_for_each_key() {
        let mut limiter = Limiter::new(3, 1.0);
        let at = Duration::from_secs(10);
        assert_eq!([0; 5].map(|_| limiter.take("a", at)), [true, true, true, false, false]);
        assert!(limiter.take("b", at));
        assert!(limiter.take("a", Duration::from_secs(11)));
        assert!(!limiter.take("a", Duration::from_secs(11)));
    }

    #[test]
    fn many_keys_do_not_grow_it() {
        let mut limiter = Limiter::new(3, 1.0);
        for key in 0..100_000 {
            limiter.take(key, Duration::from_secs(1));
        }
        assert!(limiter.buckets.len() <= MAX_KEYS);
    }
}
