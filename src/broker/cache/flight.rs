//! One question to the source, for everybody who waits for it.
//!
//! It runs in a task of its own, so a caller that goes away neither ends it for the others nor wastes it.
//! It always lands: an answer, a failure, a source that says nothing, and one that panics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nightlatch_tokens::{Claims, Failure, FailureClass, Token, TokenKey};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Room;

/// What came of a question.
#[derive(Clone)]
pub(super) enum Outcome {
    /// A token, which is in the cache now.
    Token,
    /// No token.
    Failed(Failure),
    /// The key was purged meanwhile: whatever came was thrown away.
    Purged,
}

/// The question under way, as the slot of its key knows it.
pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) landed: watch::Receiver<Option<Outcome>>,
}

/// Starts the question. The lease has counted it as under way already.
pub(super) fn launch(room: &Arc<Room>, key: &TokenKey, claims: Option<Claims>) -> Flight {
    let id = room.flights.fetch_add(1, Ordering::Relaxed);
    let (say, landed) = watch::channel(None);
    room.flying.fetch_add(1, Ordering::Relaxed);
    let mut leader = Leader { room: Arc::clone(room), key: key.clone(), id, say, over: false };
    tokio::spawn(async move {
        let limit = leader.room.settings.flight_limit;
        let fetched = timeout(limit, leader.room.source.fetch(&leader.key, claims.as_ref())).await;
        leader.land(fetched.unwrap_or_else(|_| {
            let sentence = format!("the source did not answer within {} s", limit.as_secs());
            Err(Failure::new(FailureClass::Transient, sentence))
        }));
    });
    Flight { id, landed }
}

struct Leader {
    room: Arc<Room>,
    key: TokenKey,
    id: u64,
    say: watch::Sender<Option<Outcome>>,
    over: bool,
}

impl Leader {
    fn land(&mut self, fetched: Result<Token, Failure>) {
        self.over = true;
        // The state first: who comes after the word is out finds it in the cache.
        let outcome = self.room.settle(&self.key, self.id, fetched);
        self.say.send_replace(Some(outcome));
        self.room.flying.fetch_sub(1, Ordering::Relaxed);
        self.room.wake.notify_one();
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.over {
            let sentence =
                "the question to the source broke off; this is a fault of the agent, see its journal";
            self.land(Err(Failure::new(FailureClass::Transient, sentence)));
        }
    }
}
