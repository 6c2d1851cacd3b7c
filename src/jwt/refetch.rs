//! When an unknown key is a reason to fetch the issuer's key set anew.

use crate::limits::REFETCH_S;

/// Bounds the fetches that tokens with unknown keys cause. Anybody can write such a token, so it is one fetch in
/// [`REFETCH_S`], whichever and however many keys are unknown (reference/08 rows 4 and 70).
#[derive(Clone, Copy, Debug, Default)]
pub struct Refetch {
    last_s: Option<i64>,
}

impl Refetch {
    /// Whether to fetch now, at this many seconds since the node started. True counts as a fetch.
    pub fn take(&mut self, up_s: i64) -> bool {
        let due = self.last_s.is_none_or(|last| up_s.saturating_sub(last) >= REFETCH_S);
        if due {
            self.last_s = Some(up_s);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_unknown_keys_are_one_fetch_in_five_minutes() {
        let mut refetch = Refetch::default();
        let fetches = |refetch: &mut Refetch, at: i64| (0..100_000).filter(|_| refetch.take(at)).count();
        assert_eq!(fetches(&mut refetch, 1_000), 1);
        assert_eq!(fetches(&mut refetch, 1_000 + REFETCH_S - 1), 0);
        assert_eq!(fetches(&mut refetch, 1_000 + REFETCH_S), 1);
    }
}
