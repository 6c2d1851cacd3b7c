//! One gate before the instance metadata service for the whole node.
//!
//! A VM may ask for tokens 20 times a second and 5 times at once, and everything on it shares that
//! (Microsoft Learn, "Azure Instance Metadata Service", rate limits). The broker takes a part of it, so
//! that nobody who asks the service by himself starves because of us.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How many questions are under way at once.
pub const AT_ONCE: usize = 2;
/// The least time from one question to the next: five a second.
pub const APART: Duration = Duration::from_millis(200);

/// The gate.
pub struct Gate {
    turns: Semaphore,
    next: Mutex<Option<Instant>>,
    apart: Duration,
}

/// Leave to ask; the turn ends with it.
pub struct Turn<'a>(#[expect(dead_code, reason = "held, not read")] Option<SemaphorePermit<'a>>);

impl Gate {
    /// An open gate.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(APART)
    }

    pub(super) const fn with(apart: Duration) -> Self {
        Self { turns: Semaphore::const_new(AT_ONCE), next: Mutex::new(None), apart }
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Turn<'_> {
        // The semaphore is never closed; were it, the spacing alone would remain.
        let permit = self.turns.acquire().await.ok();
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + self.apart);
            at
        };
        tokio::time::sleep_until(at).await;
        Turn(permit)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn starts_are_apart_and_two_are_under_way_at_most() {
        const SHORT: Duration = Duration::from_millis(5);
        let gate = Arc::new(Gate::with(SHORT));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let begun = Instant::now();
        let many: Vec<_> = (0..20)
            .map(|_| {
                let (gate, inside, most) = (Arc::clone(&gate), Arc::clone(&inside), Arc::clone(&most));
                tokio::spawn(async move {
                    let turn = gate.turn().await;
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Long enough that many would be inside at once without the two turns.
                    tokio::time::sleep(4 * SHORT).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                })
            })
            .collect();
        for one in many {
            one.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
        // The last of twenty began after nineteen spaces, and ten pairs stayed inside for four each.
        assert!(begun.elapsed() >= 40 * SHORT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_free_gate_still_keeps_its_spacing() {
        let gate = Gate::with(Duration::from_millis(20));
        let begun = Instant::now();
        for _ in 0..4 {
            drop(gate.turn().await);
        }
        assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
        assert_eq!(APART * 5, Duration::from_secs(1), "five a second");
    }
}
