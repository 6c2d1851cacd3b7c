//! Many callers, one question: whoever comes while the same question is under way waits for its answer.
//!
//! The work runs in a task of its own, so a caller that goes away (a closed SSH connection) neither
//! ends it for the others nor wastes it. This file keeps no answer: that is for the caches above it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Waiting<V> = watch::Receiver<Option<V>>;

/// The questions that are under way.
pub(crate) struct Flights<V> {
    under_way: Mutex<HashMap<String, Waiting<V>>>,
}

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::new(HashMap::new()) })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Waiting<V>>> {
        // The table is whole between any two statements, so a panic elsewhere spoils nothing.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of the work under way for `key`, or of `work`, which is started when there is none.
    /// `None` when the work panicked.
    pub(crate) async fn join<F>(self: &Arc<Self>, key: &str, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut answer = {
            let mut table = self.table();
            match table.get(key) {
                Some(waiting) => waiting.clone(),
                None => {
                    let (say, hear) = watch::channel(None);
                    table.insert(key.to_owned(), hear.clone());
                    let landing = Landing { flights: Arc::clone(self), key: key.to_owned() };
                    let work = work();
                    tokio::spawn(async move {
                        let value = work.await;
                        // Off the table first: who comes now finds the answer in the cache.
                        drop(landing);
                        say.send_replace(Some(value));
                    });
                    hear
                }
            }
        };
        let heard = answer.wait_for(Option::is_some).await.ok()?;
        heard.clone()
    }
}

/// Takes the question off the table, also when the work panics.
struct Landing<V: Clone + Send + Sync + 'static> {
    flights: Arc<Flights<V>>,
    key: String,
}

impl<V: Clone + Send + Sync + 'static> Drop for Landing<V> {
    fn drop(&mut self) {
        self.flights.table().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn one_piece_of_work_answers_all_and_outlives_who_asked() {
        let flights = Flights::<u32>::new();
        let (gate, calls) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let work = || {
            let (gate, calls) = (Arc::clone(&gate), Arc::clone(&calls));
            move || async move {
                gate.notified().await;
                calls.fetch_add(1, Ordering::SeqCst) + 7
            }
        };
        {
            // The one that started it goes away before there is an answer.
            let first = flights.join("k", work());
            tokio::pin!(first);
            tokio::select! {
                biased;
                _ = &mut first => panic!("no answer yet"),
                () = tokio::task::yield_now() => {}
            }
        }
        let others: Vec<_> = (0..100)
            .map(|_| {
                let (flights, work) = (Arc::clone(&flights), work());
                tokio::spawn(async move { flights.join("k", work).await })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), Some(7));
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(flights.table().is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_no_answer_and_blocks_nothing() {
        let flights = Flights::<u32>::new();
        assert_eq!(flights.join("k", || async { panic!("on purpose") }).await, None);
        assert_eq!(flights.join("k", || async { 1 }).await, Some(1));
    }
}
