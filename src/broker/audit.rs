//! One event for each hand-out and each refusal: who got what under which rule, never the token.
//!
//! A program that fetches its token a thousand times a second does one thing, so what repeats within a
//! minute (same caller, rule, key and token) is one event and, at the end of the minute, one count. The
//! sum of the counts is the number of answers. Noting a repeat is one lookup in a sharded map; nothing here
//! waits for a disk, and what does not fit is counted and said.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_tokens::{Caller, Token, TokenKey};
use serde::Serialize;

use super::audit_writer::Writer;
use crate::clock::Clock;

/// How long repeats fall into one event.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most events that wait for the writer.
const MAX_WAITING: usize = 1_024;
/// The most different events of one uid within a window; beyond them its processes are told apart no longer,
/// and beyond twice as many what it does is only counted. So one uid cannot hide another's events.
const MAX_OPEN_PER_UID: usize = 64;
/// The most different events within a window in one shard.
const MAX_OPEN_PER_SHARD: usize = 1_024;
/// The number of shards; callers meet in one only when their uids do.
const SHARDS: usize = 16;
/// The longest sentence that is kept, in bytes.
const MAX_SENTENCE_BYTES: usize = 400;

/// What happened.
#[derive(Clone, Copy)]
pub enum Outcome<'a> {
    /// A token left.
    HandedOut {
        /// Which one; only the ids in it are kept.
        token: &'a Arc<Token>,
        /// Straight from the source, not from the cache.
        fresh: bool,
        /// Since it came from the source.
        age: Duration,
        /// The end that was told.
        expires: Timestamp,
    },
    /// None left.
    Refused {
        /// The stable word.
        word: &'static str,
        /// What the person read.
        sentence: &'a str,
    },
}

/// One answer, as the ledger takes it.
pub struct Happened<'a> {
    /// Who asked.
    pub caller: &'a Caller,
    /// The rule that decided, or `default`.
    pub rule: &'a str,
    /// What the answer was about; none where it was refused before a key was known.
    pub key: Option<&'a TokenKey>,
    /// The resource, canonical.
    pub resource: &'a str,
    /// How it ended.
    pub outcome: Outcome<'a>,
}

/// One event, as it is kept: a line of JSON and a journal record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Joins this event with what the caller was shown.
    pub correlation: String,
    /// When the first of them was answered, seconds since 1970.
    pub at: i64,
    /// `handed_out`, `refused`, or `repeated` for the count at the end of the window.
    pub outcome: &'static str,
    /// How many answers this event stands for.
    pub count: u64,
    /// The caller's uid.
    pub uid: u32,
    /// Its pid, where the door tells it and its processes are still told apart.
    pub pid: Option<i32>,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Its pod's uid.
    pub pod: Option<String>,
    /// Which door.
    pub door: String,
    /// The rule that decided.
    pub rule: String,
    /// The configured name of the identity.
    pub identity: Option<String>,
    /// The resource.
    pub resource: String,
    /// Delegated scopes.
    pub scopes: Vec<String>,
    /// What the token is for.
    pub purpose: Option<String>,
    /// The object id of the person that it acts for.
    pub on_behalf_of: Option<String>,
    /// Whether it handles continuous access evaluation.
    pub cae: bool,
    /// `cache` or `source`.
    pub source: Option<&'static str>,
    /// Seconds since it came from the source.
    pub age: Option<u64>,
    /// The end that was told, seconds since 1970.
    pub expires: Option<i64>,
    /// Entra's id of this very token, the key into the sign-in logs.
    pub uti: Option<String>,
    /// Whose token it is.
    pub oid: Option<String>,
    /// The word of a refusal.
    pub word: Option<&'static str>,
    /// The sentence of a refusal.
    pub text: Option<String>,
}

impl Event {
    fn of(what: &Happened<'_>, told_apart: bool, at: Timestamp, correlation: &str) -> Self {
        let process = what.caller.process.as_ref().filter(|_| told_apart);
        let mut event = Self {
            correlation: correlation.to_owned(),
            at: at.0,
            count: 1,
            uid: what.caller.uid,
            pid: process.map(|process| process.pid),
            unit: process
                .and_then(|process| process.unit.clone())
                .or_else(|| what.caller.header_unit.clone()),
            pod: process.and_then(|process| process.pod.as_ref()).map(|pod| pod.uid.clone()),
            door: what.caller.door.to_string(),
            rule: what.rule.to_owned(),
            resource: what.resource.to_owned(),
            ..Self::default()
        };
        if let Some(key) = what.key {
            event.identity = Some(key.identity.to_string());
            event.scopes.clone_from(&key.scopes);
            event.purpose = Some(key.purpose.to_string());
            event.on_behalf_of.clone_from(&key.on_behalf_of);
            event.cae = key.cae;
        }
        match what.outcome {
            Outcome::HandedOut { token, fresh, age, expires } => {
                event.outcome = "handed_out";
                event.source = Some(if fresh { "source" } else { "cache" });
                event.age = Some(age.as_secs());
                event.expires = Some(expires.0);
                event.uti.clone_from(&token.stamp.uti);
                event.oid.clone_from(&token.stamp.oid);
            }
            Outcome::Refused { word, sentence } => {
                event.outcome = "refused";
                event.word = Some(word);
                event.text = Some(sentence.chars().take(MAX_SENTENCE_BYTES).collect());
            }
        }
        event
    }
}

/// What is open in this window.
struct Open {
    correlation: Arc<str>,
    since: Duration,
    repeats: u64,
    event: Event,
}

#[derive(Default)]
struct Shard {
    open: HashMap<u64, Open>,
    per_uid: HashMap<u32, usize>,
}

/// Folds what repeats; knows no clock and no thread.
pub struct Ledger {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    uncounted: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default(), uncounted: AtomicU64::new(0) }
    }
}

impl Ledger {
    /// Notes one answer: its correlation id, and the event when it is the first of its kind.
    /// `new_id` is called for a first one only.
    pub fn note(
        &self,
        what: &Happened<'_>,
        boot: Duration,
        now: Timestamp,
        new_id: impl FnOnce() -> String,
    ) -> (Arc<str>, Option<Event>) {
        let uid = what.caller.uid;
        let mut shard = self.shard(uid);
        let exact = self.fingerprint(what, true);
        if let Some(open) = shard.open.get_mut(&exact) {
            open.repeats = open.repeats.saturating_add(1);
            return (Arc::clone(&open.correlation), None);
        }
        let mine = shard.per_uid.get(&uid).copied().unwrap_or(0);
        let told_apart = mine < MAX_OPEN_PER_UID;
        let full = mine >= 2 * MAX_OPEN_PER_UID || shard.open.len() >= MAX_OPEN_PER_SHARD;
        let slot = if told_apart { exact } else { self.fingerprint(what, false) };
        match shard.open.entry(slot) {
            Entry::Occupied(mut open) => {
                open.get_mut().repeats = open.get().repeats.saturating_add(1);
                (Arc::clone(&open.get().correlation), None)
            }
            Entry::Vacant(_) if full => {
                self.uncounted.fetch_add(1, Ordering::Relaxed);
                (new_id().into(), None)
            }
            Entry::Vacant(place) => {
                let correlation: Arc<str> = new_id().into();
                let event = Event::of(what, told_apart, now, &correlation);
                place.insert(Open {
                    correlation: Arc::clone(&correlation),
                    since: boot,
                    repeats: 0,
                    event: event.clone(),
                });
                *shard.per_uid.entry(uid).or_default() += 1;
                (correlation, Some(event))
            }
        }
    }

    /// Closes every window that is over at `boot`, or all of them: an event for each that had repeats.
    pub fn close(&self, boot: Duration, all: bool) -> Vec<Event> {
        let mut counts = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let shard = &mut *shard;
            let per_uid = &mut shard.per_uid;
            shard.open.retain(|_, open| {
                if !all && boot.saturating_sub(open.since) < WINDOW {
                    return true;
                }
                if let Entry::Occupied(mut mine) = per_uid.entry(open.event.uid) {
                    *mine.get_mut() = mine.get().saturating_sub(1);
                    if *mine.get() == 0 {
                        mine.remove();
                    }
                }
                if open.repeats > 0 {
                    let event = std::mem::take(&mut open.event);
                    counts.push(Event { outcome: "repeated", count: open.repeats, ..event });
                }
                false
            });
        }
        counts
    }

    /// How many answers got no event since the last look, for want of room.
    pub fn take_uncounted(&self) -> u64 {
        self.uncounted.swap(0, Ordering::Relaxed)
    }

    fn shard(&self, uid: u32) -> std::sync::MutexGuard<'_, Shard> {
        let at = usize::try_from(uid).unwrap_or(0) % SHARDS;
        // The remainder is always inside; the first shard stands for the case that cannot be.
        let [first, ..] = &self.shards;
        self.shards.get(at).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 64 bits under a key of this process: that two different answers fall together is not to be had on
    /// purpose, and would put one of them into the other's count.
    fn fingerprint(&self, what: &Happened<'_>, told_apart: bool) -> u64 {
        let mut hash = self.hasher.build_hasher();
        told_apart.hash(&mut hash);
        (what.caller.uid, what.caller.door, what.rule, what.resource, what.key).hash(&mut hash);
        if told_apart {
            let process = what.caller.process.as_ref();
            (process.map(|process| (process.pid, process.start)), &what.caller.header_unit).hash(&mut hash);
        }
        match what.outcome {
            Outcome::HandedOut { token, .. } => (Arc::as_ptr(token).addr(), token.expires.0).hash(&mut hash),
            Outcome::Refused { word, .. } => word.hash(&mut hash),
        }
        hash.finish()
    }
}

/// What goes to the writer.
pub(super) enum Word {
    /// To be written.
    Event(Box<Event>),
    /// Every open window is to be closed and written; then this is let go.
    CloseAll(SyncSender<()>),
}

/// Takes answers from any task without ever waiting.
#[derive(Clone)]
pub struct Audit {
    ledger: Arc<Ledger>,
    queue: SyncSender<Word>,
    clock: Clock,
}

impl Audit {
    /// Starts the writing thread; it ends, with the last counts, when the last handle is gone. `ring` is the
    /// capped file of lines.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(ring: PathBuf, clock: Clock) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(MAX_WAITING);
        let ledger = Arc::new(Ledger::default());
        let writer = Writer::new(ring, Arc::clone(&ledger), clock.clone());
        std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&waiting))?;
        Ok(Self { ledger, queue, clock })
    }

    /// Records one answer; its correlation id.
    #[must_use]
    pub fn note(&self, what: &Happened<'_>) -> Arc<str> {
        let (correlation, event) =
            self.ledger.note(what, self.clock.boot(), self.clock.now(), new_correlation);
        if let Some(event) = event
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                self.queue.try_send(Word::Event(Box::new(event)))
        {
            self.ledger.uncounted.fetch_add(1, Ordering::Relaxed);
        }
        correlation
    }

    /// Writes the counts of all windows that are open, for the end of the daemon; waits for the disk, and
    /// `within` at most. Whether all is written.
    #[must_use]
    pub fn close_all(&self, within: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        // The queue may be full; the writer empties it within its limit.
        self.queue.send(Word::CloseAll(done)).is_ok() && wait.recv_timeout(within).is_ok()
    }

    /// Counts something that was turned away before it became a question, such as a connection over a limit.
    pub fn skip(&self) {
        self.ledger.uncounted.fetch_add(1, Ordering::Relaxed);
    }
}

fn new_correlation() -> String {
    let mut random = [0_u8; 8];
    // Without randomness the id says nothing, and the event is still written.
    let _ = aws_lc_rs::rand::fill(&mut random);
    nightlatch_model::correlation_id(random)
}
