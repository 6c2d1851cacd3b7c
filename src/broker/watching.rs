//! A watch: the token now, and each newer one, as long as the policy allows it.
//!
//! It wakes when the cache has a newer token, when the policy was exchanged, and before the told end. A
//! source that is down for a while does not end it; a no does.

use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_tokens::policy::Policy;
use nightlatch_tokens::{Ask, Caller, Token};
use tokio::sync::watch;

use super::cache::Watched;
use super::refusal::{Refusal, RefusalKind};
use super::service::{Broker, HandOut};

/// How long before the told end the next token is asked for at the latest: clients take one with less than
/// five minutes for ended.
const LEAD: Duration = Duration::from_secs(330);
/// The shortest pause between two looks that nothing asked for.
const LEAST_PAUSE: Duration = Duration::from_secs(5);

/// One watch.
pub struct Watching {
    broker: Arc<Broker>,
    caller: Caller,
    ask: Ask,
    policy: watch::Receiver<Arc<Policy>>,
    news: Option<watch::Receiver<Watched>>,
    last: Option<(Arc<Token>, Timestamp)>,
    ended: bool,
}

impl Watching {
    /// Begins a watch; nothing is asked yet.
    #[must_use]
    pub fn new(broker: Arc<Broker>, caller: Caller, ask: Ask) -> Self {
        let policy = broker.policy.subscribe();
        Self { broker, caller, ask, policy, news: None, last: None, ended: false }
    }

    /// The next token; a refusal is the last thing that comes.
    pub async fn next(&mut self) -> Option<Result<HandOut, Refusal>> {
        if self.ended {
            return None;
        }
        let mut pause = Duration::ZERO;
        loop {
            if self.last.is_some() {
                self.wait(pause).await;
            }
            self.policy.mark_unchanged();
            match self.broker.obtain(&self.caller, &self.ask).await {
                Ok(obtained) => {
                    let news = self.last.as_ref().is_none_or(|(token, expires)| {
                        !Arc::ptr_eq(token, &obtained.served.token) || obtained.expires > *expires
                    });
                    pause = self.until_next_look(obtained.expires);
                    // Both belong to the first question only.
                    self.ask.claims = None;
                    self.ask.force_refresh = false;
                    // The channel ends when the key is forgotten; the next look began a new one.
                    if self.news.as_ref().is_none_or(|news| news.has_changed().is_err()) {
                        self.news = self.broker.cache.watch(&obtained.key);
                    }
                    if news {
                        self.last = Some((Arc::clone(&obtained.served.token), obtained.expires));
                        return Some(Ok(self.broker.hand_out(&self.caller, obtained)));
                    }
                }
                Err(refused) => {
                    let kind = refused.refusal.kind;
                    let passing = matches!(kind, RefusalKind::Unavailable | RefusalKind::Limited);
                    if passing && self.last.is_some() {
                        pause = refused.refusal.retry_after.unwrap_or(LEAD / 10).max(LEAST_PAUSE);
                        continue;
                    }
                    self.ended = true;
                    return Some(Err(self.broker.refuse(&self.caller, &self.ask, refused)));
                }
            }
        }
    }

    async fn wait(&mut self, pause: Duration) {
        let pause = match (&self.last, pause) {
            (Some((_, expires)), Duration::ZERO) => self.until_next_look(*expires),
            (_, pause) => pause,
        };
        let news = self.news.as_mut();
        let newer = async {
            match news {
                Some(news) => news.changed().await,
                // No channel: the pause is what is left.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            newer = newer => {
                // A key that was forgotten is asked for anew, through the policy, and once: a channel that
                // has ended would wake this up without end for as long as the source gives nothing.
                if newer.is_err() {
                    self.news = None;
                }
            }
            changed = self.policy.changed() => {
                if changed.is_err() {
                    tokio::time::sleep(pause).await;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn until_next_look(&self, expires: Timestamp) -> Duration {
        let left = expires.since(self.broker.clock.now());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
        left.saturating_sub(LEAD.min(left / 2)).max(LEAST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use nightlatch_tokens::{Failure, FailureClass, IdentityRef};

    use super::super::surface_tests::{Rig, caller};
    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn past_bug_68_a_watch_of_a_forgotten_key_sleeps_while_the_source_is_down() {
        let rig = Rig::new();
        let ask = Ask::new(IdentityRef::Default, "https://vault.azure.net".parse().unwrap());
        let mut watching = Watching::new(Arc::clone(&rig.broker), caller(1_000), ask);
        assert!(watching.next().await.unwrap().is_ok());
        *rig.source.failure.lock().unwrap() = Some(Failure::new(FailureClass::Transient, "down"));
        rig.broker.cache.purge(|_| true);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut next = Box::pin(watching.next());
        let mut rests = 0;
        // It may be woken by the channel's end and by the answer of the source, and then has to rest.
        for _ in 0..1_000 {
            let before = woken.0.load(Ordering::SeqCst);
            assert!(matches!(next.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            rests = if woken.0.load(Ordering::SeqCst) == before { rests + 1 } else { 0 };
        }
        assert!(rests > 900, "it was woken until {} looks before the end", rests);
        // And it still brings the next token: the pause is over, or the policy was exchanged.
        *rig.source.failure.lock().unwrap() = None;
        rig.hands.advance(120);
        rig.broker.set_policy(rig.broker.policy());
        assert!(next.await.unwrap().is_ok());
    }
}
