//! Token buckets as ARM throttles (Microsoft Learn, "Understand how Azure Resource Manager throttles
//! requests"): per subscription and caller principal, plus one per subscription fifteen times as large.
//! Time comes in as an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How many callers' worth a whole subscription may spend.
pub(crate) const GLOBAL_FACTOR: f64 = 15.0;

/// Size and refill of one kind of bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Calls a full bucket holds.
    pub(crate) capacity: f64,
    /// Calls that flow back per second.
    pub(crate) refill_per_second: f64,
}

/// ARM reads.
pub(crate) const READS: Limit = Limit { capacity: 250.0, refill_per_second: 25.0 };
/// IMDS identity endpoint: 20 requests per second.
pub(crate) const IMDS_IDENTITY: Limit = Limit { capacity: 20.0, refill_per_second: 20.0 };
/// IMDS identity endpoint: 5 requests at once.
const IMDS_CONCURRENT: u64 = 5;

/// Which limits are in force.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    /// ARM and PDP buckets on or off.
    pub(crate) enabled: bool,
    /// IMDS limit on or off; off by default, as tests boot many daemons on one emulator.
    pub(crate) imds_enabled: bool,
    pub(crate) reads: Limit,
    /// The PDP's limit is unpublished; the reads limit stands in for it.
    pub(crate) pdp: Limit,
    pub(crate) imds: Limit,
    /// Token requests that IMDS works on at once; part of the IMDS limit.
    pub(crate) imds_concurrent: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            imds_enabled: false,
            reads: READS,
            pdp: READS,
            imds: IMDS_IDENTITY,
            imds_concurrent: IMDS_CONCURRENT,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Level {
    left: f64,
    at: Instant,
}

/// The levels of all buckets met so far.
#[derive(Debug, Default)]
pub(crate) struct Buckets(HashMap<String, Level>);

impl Buckets {
    /// Take one call out of bucket `name`: what is left afterwards, or how long until one call is back.
    pub(crate) fn take(&mut self, name: &str, limit: Limit, now: Instant) -> Result<u32, Duration> {
        let level =
            self.0.entry(name.to_ascii_lowercase()).or_insert(Level { left: limit.capacity, at: now });
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        level.left = (level.left + passed * limit.refill_per_second).min(limit.capacity);
        level.at = now;
        if level.left >= 1.0 {
            level.left -= 1.0;
            return Ok(whole(level.left));
        }
        let wait = (1.0 - level.left) / limit.refill_per_second.max(f64::EPSILON);
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(3600)))
    }

    /// Forget all levels: every bucket is full again.
    pub(crate) fn refill(&mut self) {
        self.0.clear();
    }

    /// Calls left in each bucket when it was last used.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, level)| (name.as_str(), whole(level.left)))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
fn whole(left: f64) -> u32 {
    left.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// `Retry-After` for a wait: whole seconds, at least one.
pub(crate) fn retry_after(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    #[test]
    fn two_hundred_and_fifty_then_twenty_five_a_second() {
        let (mut buckets, start) = (Buckets::default(), monotonic());
        for left in (0..250).rev() {
            assert_eq!(buckets.take("s/p", READS, start), Ok(left));
        }
        let wait = buckets.take("S/P", READS, start).unwrap_err();
        assert_eq!((wait, retry_after(wait)), (Duration::from_millis(40), 1));
        assert_eq!(buckets.take("s/other", READS, start), Ok(249));
        let later = start + Duration::from_secs(2);
        for left in (0..50).rev() {
            assert_eq!(buckets.take("s/p", READS, later), Ok(left));
        }
        assert!(buckets.take("s/p", READS, later).is_err());
        assert_eq!(buckets.take("s/p", READS, later + Duration::from_secs(999)), Ok(249));
        buckets.refill();
        assert_eq!(buckets.take("s/p", READS, later), Ok(249));
    }
}
