//! When an unknown key is a reason to fetch the issuer's key set anew.

use std::time::Duration;

use crate::limits::REFETCH_S;

/// Bounds the fetches that tokens with unknown keys cause. Anybody can write such a token, so it is one fetch in
/// [`REFETCH_S`], whichever and however many keys are unknown (reference/08 rows 4 and 70).
#[derive(Clone, Copy, Debug, Default)]
pub struct Refetch {
    last_s: Option<i64>,
}

impl Refetch {
    /// How long such a fetch has to wait, at this many seconds since the node started.
    #[must_use]
    pub fn wait(&self, up_s: i64) -> Duration {
        let since = self.last_s.map_or(REFETCH_S, |last| up_s.saturating_sub(last));
        Duration::from_secs(u64::try_from(REFETCH_S.saturating_sub(since)).unwrap_or(0))
    }

    /// Such a fetch is made now.
    pub const fn took(&mut self, up_s: i64) {
        self.last_s = Some(up_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_unknown_keys_are_one_fetch_in_five_minutes() {
        let mut refetch = Refetch::default();
        let take = |refetch: &mut Refetch, at: i64| {
            let due = refetch.wait(at).is_zero();
            if due {
                refetch.took(at);
            }
            due
        };
        let fetches = |refetch: &mut Refetch, at: i64| (0..100_000).filter(|_| take(refetch, at)).count();
        assert_eq!(fetches(&mut refetch, 1_000), 1);
        assert_eq!(refetch.wait(1_100), Duration::from_secs(200));
        assert_eq!(fetches(&mut refetch, 1_000 + REFETCH_S - 1), 0);
        assert_eq!(fetches(&mut refetch, 1_000 + REFETCH_S), 1);
    }
}
