//! The tokens in memory: one lease for each key, one question at a time for each, renewal ahead of time.
//!
//! The rules stand in `nightlatch_tokens::lease`; here are the lock, the clock and the tasks. What is
//! kept is never written anywhere, and a question for one key never gets the token of another.

mod breaker;
mod flight;
pub mod memory;
mod places;
mod refresher;

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_tokens::lease::{Answer, Lease, Now, Serving};
use nightlatch_tokens::{Failure, FailureClass, Stamp, Token, TokenKey};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::broker::Source;
use crate::clock::Clock;
use breaker::Breakers;
use flight::{Flight, Outcome, launch};
pub use nightlatch_tokens::lease::Need;
use places::Places;

/// Locks, each over a part of the keys.
const SHARDS: usize = 16;
/// Keys that are kept at most: a thousand services with a few resources each.
pub const MAX_KEYS: usize = 4096;
/// A key that nobody asked for during this time is not renewed any more.
pub const IN_USE: Duration = Duration::from_secs(4 * 3600);
/// How long a caller waits for a newer token while a good one is at hand.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long one question to a source may take in all (IMDS may ask for 70 s of patience).
pub const FLIGHT_LIMIT: Duration = Duration::from_secs(90);
/// How often one caller joins a question that was not its own before it is sent away.
const MAX_ROUNDS: usize = 8;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Spreads renewals over machines: a hash of the machine's id.
    pub seed: u64,
    /// Keys that are kept at most.
    pub max_keys: usize,
    /// A key that nobody asked for during this time is not renewed any more.
    pub in_use: Duration,
    /// How long a caller waits for a newer token while a good one is at hand.
    pub patience: Duration,
    /// How long one question to a source may take in all.
    pub flight_limit: Duration,
}

impl Settings {
    /// The limits of this room, with the machine's seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, max_keys: MAX_KEYS, in_use: IN_USE, patience: PATIENCE, flight_limit: FLIGHT_LIMIT }
    }
}

/// A token handed to a caller that the policy permitted.
pub struct Served {
    /// The token.
    pub token: Arc<Token>,
    /// It came from the source for this very question.
    pub fresh: bool,
    /// How long ago it came.
    pub age: Duration,
    /// Why it is not a newer or longer-lived one, where that should be said.
    pub stale: Option<String>,
    /// When the next one is to be asked for, by the wall clock.
    pub refresh_on: Option<Timestamp>,
}

impl Served {
    fn from(serving: Serving, fresh: bool) -> Self {
        let Serving { token, age, stale, refresh_on } = serving;
        Self { token, fresh, age, stale, refresh_on: Some(refresh_on) }
    }
}

/// What a watcher sees: the kept token, and what went wrong since.
#[derive(Clone, Default)]
pub struct Watched {
    /// The newest token; `None` before the first and after the last came to its end.
    pub token: Option<Arc<Token>>,
    /// The last failure since that token.
    pub failure: Option<Failure>,
}

/// One key as it may be listed: nothing here opens anything.
#[derive(Clone, Debug)]
pub struct KeptToken {
    /// The key.
    pub key: TokenKey,
    /// When the kept token ends, by the wall clock; `None` when none is kept.
    pub expires: Option<Timestamp>,
    /// When the next one is due, by the wall clock.
    pub refresh_on: Option<Timestamp>,
    /// How long nobody asked.
    pub idle: Duration,
    /// What is wrong at the moment.
    pub failure: Option<Failure>,
    /// The ids in the token.
    pub stamp: Option<Stamp>,
}

/// The cache. A clone is another handle of the same one.
#[derive(Clone)]
pub struct Cache(Arc<Room>);

type Shard = HashMap<TokenKey, Slot>;

struct Slot {
    lease: Lease,
    flight: Option<Flight>,
    watchers: Option<watch::Sender<Watched>>,
}

impl Slot {
    fn is_watched(&self) -> bool {
        self.watchers.as_ref().is_some_and(|watchers| watchers.receiver_count() > 0)
    }

    fn show(&self, seen: Watched) {
        if let Some(watchers) = &self.watchers {
            watchers.send_replace(seen);
        }
    }
}

struct Room {
    source: Arc<dyn Source>,
    clock: Clock,
    settings: Settings,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    places: Places,
    breakers: Breakers,
    /// Questions ever started, and those under way.
    flights: AtomicU64,
    flying: AtomicUsize,
    dice: AtomicU64,
    wake: Arc<Notify>,
}

enum Asked {
    Serve(Serving),
    Refuse(Failure),
    Wait { landed: watch::Receiver<Option<Outcome>>, ours: bool, plain: bool, at_hand: bool },
    Full,
}

impl Room {
    fn now(&self) -> Now {
        Now { boot: self.clock.boot(), wall: self.clock.now() }
    }

    fn open(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
        // A lease is whole between any two calls, so a panic elsewhere spoils nothing.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, key: &TokenKey) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        // `at` is below SHARDS; the first shard is named so that nothing here can panic.
        let [first, ..] = &self.shards;
        Self::open(self.shards.get(at).unwrap_or(first))
    }

    /// SplitMix64 over a counter: spread, not secret.
    fn roll(&self) -> u64 {
        let mut dice = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        dice = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        dice = (dice ^ (dice >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        dice ^ (dice >> 31)
    }

    fn allow(&self, key: &TokenKey, now: Now) -> Result<(), Failure> {
        self.breakers.allow(&self.source.circuit(key), now.boot)
    }

    fn slot<'a>(&self, shard: &'a mut Shard, key: &TokenKey, now: Now) -> Option<&'a mut Slot> {
        if !shard.contains_key(key) {
            self.places.take(key, self.settings.max_keys)?;
            // The same on each start of one machine, so that renewals do not wander.
            let mut seed = DefaultHasher::new();
            (self.settings.seed, key).hash(&mut seed);
            let lease = Lease::new(seed.finish(), now);
            shard.insert(key.clone(), Slot { lease, flight: None, watchers: None });
        }
        shard.get_mut(key)
    }

    /// One look under the lock.
    fn ask(self: &Arc<Self>, key: &TokenKey, need: &Need) -> Asked {
        let now = self.now();
        let mut shard = self.shard(key);
        let slot = match shard.get_mut(key) {
            Some(slot) => slot,
            None => match self.slot(&mut shard, key, now) {
                Some(slot) => slot,
                None => return Asked::Full,
            },
        };
        let step = slot.lease.asked(now, need, &mut || self.allow(key, now));
        if step.start {
            slot.flight = Some(launch(self, key, need.claims.clone()));
        }
        match (step.answer, &slot.flight) {
            (Answer::Serve(serving), _) => Asked::Serve(serving),
            (Answer::Refuse(failure), _) => Asked::Refuse(failure),
            (Answer::Wait, Some(flight)) => {
                let claims = slot.lease.flight().flatten();
                Asked::Wait {
                    landed: flight.landed.clone(),
                    ours: claims == need.claims.as_ref(),
                    plain: need.claims.is_none(),
                    at_hand: need.claims.is_none() && slot.lease.at_hand(now, need, None).is_some(),
                }
            }
            (Answer::Wait, None) => Asked::Refuse(Failure::new(
                FailureClass::Transient,
                "the question to the source was lost; ask again",
            )),
        }
    }

    fn at_hand(&self, key: &TokenKey, need: &Need, why: Option<&str>) -> Option<Serving> {
        let now = self.now();
        self.shard(key).get(key).and_then(|slot| slot.lease.at_hand(now, need, why))
    }

    /// What a question brought goes where it belongs, unless its key was purged meanwhile.
    fn settle(&self, key: &TokenKey, id: u64, fetched: Result<Token, Failure>) -> Outcome {
        let now = self.now();
        self.breakers.report(&self.source.circuit(key), fetched.as_ref().err(), now.boot, self.roll());
        let mut shard = self.shard(key);
        let slot = shard.get_mut(key);
        let Some(slot) = slot.filter(|slot| slot.flight.as_ref().is_some_and(|flight| flight.id == id))
        else {
            return Outcome::Purged;
        };
        slot.flight = None;
        let outcome = match fetched {
            Ok(token) => slot.lease.fetched(now, token, self.roll()),
            Err(failure) => {
                slot.lease.failed(now, &failure, self.roll());
                Err(failure)
            }
        };
        slot.show(Watched { token: slot.lease.token().cloned(), failure: slot.lease.failure().cloned() });
        outcome.map_or_else(Outcome::Failed, |()| Outcome::Token)
    }

    /// Makes room for `wanted`: of those that have to give way to it, lets go of the one that nobody asked
    /// for the longest. Never of one that is watched or under way; of one whose credential was taken back
    /// only when there is no other.
    fn evict(&self, wanted: &TokenKey) -> bool {
        let now = self.now();
        let victim = self.places.victim_for(wanted);
        let mut oldest: Option<((bool, Duration), TokenKey)> = None;
        for shard in &self.shards {
            for (key, slot) in Self::open(shard).iter() {
                let rank = (!slot.lease.must_be_remembered(), slot.lease.idle(now));
                let free = victim.is(key) && slot.flight.is_none() && !slot.is_watched();
                if free && oldest.as_ref().is_none_or(|(best, _)| rank > *best) {
                    oldest = Some((rank, key.clone()));
                }
            }
        }
        let Some((_, key)) = oldest else { return false };
        let mut shard = self.shard(&key);
        let free = shard.get(&key).is_some_and(|slot| slot.flight.is_none() && !slot.is_watched());
        if free && shard.remove(&key).is_some() {
            self.places.give_back(&key);
        }
        // Somebody else was faster otherwise: there is room, or the next try finds another one.
        true
    }
}

impl Cache {
    /// An empty cache before `source`.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, clock: Clock, settings: Settings) -> Self {
        let dice = AtomicU64::new(settings.seed ^ u64::try_from(clock.boot().as_nanos()).unwrap_or(0));
        Self(Arc::new(Room {
            source,
            clock,
            settings,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            places: Places::default(),
            breakers: Breakers::default(),
            flights: AtomicU64::new(0),
            flying: AtomicUsize::new(0),
            dice,
            wake: Arc::new(Notify::new()),
        }))
    }

    /// The token of `key`. The caller has asked the policy before.
    ///
    /// # Errors
    /// What the source said, now or a moment ago; `retry_after` says when asking again makes sense.
    pub async fn get(&self, key: &TokenKey, need: &Need) -> Result<Served, Failure> {
        for _ in 0..MAX_ROUNDS {
            let (mut landed, ours, plain, at_hand) = match self.0.ask(key, need) {
                Asked::Serve(serving) => return Ok(Served::from(serving, false)),
                Asked::Refuse(failure) => return Err(failure),
                Asked::Wait { landed, ours, plain, at_hand } => (landed, ours, plain, at_hand),
                Asked::Full if self.0.evict(key) => continue,
                Asked::Full => break,
            };
            if at_hand && timeout(self.0.settings.patience, landed.wait_for(Option::is_some)).await.is_err() {
                let why = "the source has not answered yet";
                if let Some(serving) = self.0.at_hand(key, need, Some(why)) {
                    return Ok(Served::from(serving, false));
                }
            }
            let outcome = match landed.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            match outcome {
                // Judged again: the machine may have slept between the landing and now.
                Some(Outcome::Token) if ours || plain => {
                    if let Some(serving) = self.0.at_hand(key, need, None) {
                        return Ok(Served::from(serving, true));
                    }
                }
                Some(Outcome::Failed(failure)) if ours => {
                    let kept = if plain { self.0.at_hand(key, need, None) } else { None };
                    return kept.map(|serving| Served::from(serving, false)).ok_or(failure);
                }
                _ => {}
            }
        }
        let mut failure = Failure::new(
            FailureClass::Transient,
            "too many different tokens are being asked for at once; ask again in a moment",
        );
        failure.retry_after = Some(Duration::from_secs(1));
        Err(failure)
    }

    /// Each new token of `key` (and each failure) from now on; the key is renewed as long as somebody
    /// watches. A purge ends the channel: whoever wants more asks again, through the policy.
    /// `None` when the cache is full of keys that are in use.
    #[must_use]
    pub fn watch(&self, key: &TokenKey) -> Option<watch::Receiver<Watched>> {
        for _ in 0..MAX_ROUNDS {
            let now = self.0.now();
            if let Some(slot) = self.0.slot(&mut self.0.shard(key), key, now) {
                let seen =
                    || Watched { token: slot.lease.token().cloned(), failure: slot.lease.failure().cloned() };
                let seen = seen();
                let watchers = slot.watchers.get_or_insert_with(|| watch::Sender::new(seen));
                let watcher = watchers.subscribe();
                self.0.wake.notify_one();
                return Some(watcher);
            }
            if !self.0.evict(key) {
                break;
            }
        }
        None
    }

    /// Forgets every key that `which` picks: its token, its failures, its watchers; what is under way for
    /// it is thrown away when it lands. Says how many keys those were.
    pub fn purge(&self, which: impl Fn(&TokenKey) -> bool) -> usize {
        let mut purged = 0;
        for shard in &self.0.shards {
            let mut shard = Room::open(shard);
            shard.retain(|key, _| {
                let goes = which(key);
                if goes {
                    self.0.places.give_back(key);
                    purged += 1;
                }
                !goes
            });
        }
        purged
    }

    /// Every key, sorted.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptToken> {
        let now = self.0.now();
        let mut list = Vec::new();
        for shard in &self.0.shards {
            for (key, Slot { lease, .. }) in Room::open(shard).iter() {
                list.push(KeptToken {
                    key: key.clone(),
                    expires: lease.token().map(|token| token.expires),
                    refresh_on: lease.refresh_on(now),
                    idle: lease.idle(now),
                    failure: lease.failure().cloned(),
                    stamp: lease.token().map(|token| token.stamp.clone()),
                });
            }
        }
        list.sort_by(|one, other| one.key.cmp(&other.key));
        list
    }

    /// Renews what is in use, until the last handle of the cache is gone. For one task of the agent.
    pub fn refresher(&self) -> impl Future<Output = ()> + Send + 'static {
        refresher::run(&self.0)
    }
}

#[cfg(test)]
mod tests;
