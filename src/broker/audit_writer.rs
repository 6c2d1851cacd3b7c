//! The one thread that writes the broker's events: to the journal, and to a capped file of lines.
//!
//! More than a person can read in a second are counted instead, and the count is said.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::audit::{Event, Ledger, Word};
use crate::clock::Clock;
use crate::store::Ring;

/// The most events that are written in one second.
const MAX_PER_SECOND: u32 = 100;
/// The size of the file of lines, in bytes.
const RING_BYTES: u64 = 8 * 1024 * 1024;
/// How often the ends of windows are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Writes what comes out of the queue.
pub(super) struct Writer {
    ring: Ring,
    ledger: Arc<Ledger>,
    clock: Clock,
    ring_broken: bool,
    second: u64,
    written: u32,
    skipped: u64,
}

impl Writer {
    pub(super) fn new(ring: PathBuf, ledger: Arc<Ledger>, clock: Clock) -> Self {
        let ring = Ring::new(ring, RING_BYTES);
        Self { ring, ledger, clock, ring_broken: false, second: 0, written: 0, skipped: 0 }
    }

    pub(super) fn run(mut self, waiting: &Receiver<Word>) {
        loop {
            match waiting.recv_timeout(LOOK) {
                Ok(Word::Event(event)) => self.take(&event),
                Ok(Word::CloseAll(done)) => {
                    self.close_all();
                    // Who waits for it may have gone.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => self.turn(),
                Err(RecvTimeoutError::Disconnected) => return self.close_all(),
            }
        }
    }

    fn close_all(&mut self) {
        for event in self.ledger.close(self.clock.boot(), true) {
            self.write(&event);
        }
        self.say_skipped();
    }

    fn take(&mut self, event: &Event) {
        self.turn();
        if self.written < MAX_PER_SECOND {
            self.written += 1;
            self.write(event);
        } else {
            self.skipped = self.skipped.saturating_add(event.count);
        }
    }

    /// What a new second brings: the ends of windows, and the word about what was left out.
    fn turn(&mut self) {
        let boot = self.clock.boot();
        if boot.as_secs() == self.second {
            return;
        }
        (self.second, self.written) = (boot.as_secs(), 0);
        self.say_skipped();
        for event in self.ledger.close(boot, false) {
            self.take(&event);
        }
    }

    fn say_skipped(&mut self) {
        let skipped = self.skipped.saturating_add(self.ledger.take_uncounted());
        self.skipped = 0;
        if skipped > 0 {
            warn!(
                NIGHTLATCH_SKIPPED = skipped,
                "{skipped} hand-outs, refusals or connections came too fast to record each"
            );
        }
    }

    fn write(&mut self, event: &Event) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (id, rule, resource) = (event.correlation.as_str(), event.rule.as_str(), event.resource.as_str());
        let (identity, unit, pod) = (text(&event.identity), text(&event.unit), text(&event.pod));
        let (uti, oid, count) = (text(&event.uti), text(&event.oid), event.count);
        let (uid, pid) = (event.uid, event.pid.unwrap_or(0));
        if event.outcome == "refused" || event.word.is_some() {
            let word = event.word.unwrap_or_default();
            warn!(
                NIGHTLATCH_CORRELATION = id,
                NIGHTLATCH_EVENT = event.outcome,
                NIGHTLATCH_COUNT = count,
                NIGHTLATCH_REASON = word,
                NIGHTLATCH_UID = uid,
                NIGHTLATCH_PID = pid,
                NIGHTLATCH_UNIT = unit,
                NIGHTLATCH_POD = pod,
                NIGHTLATCH_DOOR = event.door,
                NIGHTLATCH_RULE = rule,
                NIGHTLATCH_IDENTITY = identity,
                NIGHTLATCH_RESOURCE = resource,
                "refused uid {uid} a token for {resource}: {word}: {} ({count} times, rule {rule}, ref {id})",
                text(&event.text)
            );
        } else {
            info!(
                NIGHTLATCH_CORRELATION = id,
                NIGHTLATCH_EVENT = event.outcome,
                NIGHTLATCH_COUNT = count,
                NIGHTLATCH_UID = uid,
                NIGHTLATCH_PID = pid,
                NIGHTLATCH_UNIT = unit,
                NIGHTLATCH_POD = pod,
                NIGHTLATCH_DOOR = event.door,
                NIGHTLATCH_RULE = rule,
                NIGHTLATCH_IDENTITY = identity,
                NIGHTLATCH_RESOURCE = resource,
                NIGHTLATCH_PURPOSE = text(&event.purpose),
                NIGHTLATCH_ON_BEHALF_OF = text(&event.on_behalf_of),
                NIGHTLATCH_SOURCE = event.source.unwrap_or_default(),
                NIGHTLATCH_AGE = event.age.unwrap_or_default(),
                NIGHTLATCH_EXPIRES = event.expires.unwrap_or_default(),
                NIGHTLATCH_UTI = uti,
                NIGHTLATCH_OID = oid,
                "uid {uid} got a token of {identity} for {resource} ({count} times, rule {rule}, ref {id})"
            );
        }
        let Ok(line) = serde_json::to_string(event) else { return };
        match self.ring.append(&line) {
            Ok(()) => self.ring_broken = false,
            Err(cause) if !self.ring_broken => {
                self.ring_broken = true;
                error!(
                    "hand-outs are not kept in their file: {cause}: {:?}",
                    std::error::Error::source(&cause)
                );
            }
            Err(_) => {}
        }
    }
}
