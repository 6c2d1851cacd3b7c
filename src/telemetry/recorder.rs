//! The queue between deciding and recording.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use core::net::IpAddr;
use nightlatch_model::{Reason, Role, Timestamp};
use nightlatch_policy::SignIn;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::store::Ring;

/// The most records that wait for the writer.
const MAX_WAITING: usize = 1_024;
/// The most records that are written in one second; the rest is counted.
const MAX_PER_SECOND: u32 = 100;
/// The size of the ring of decisions, in bytes.
const RING_BYTES: u64 = 8 * 1024 * 1024;

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The hook printed its line; not a login yet.
    Admit,
    /// Let in.
    Permit,
    /// A definite no.
    Denial,
    /// Could not be found out; refused.
    Unknown,
}

/// One rule of a decision, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The rule's name.
    pub rule: String,
    /// What it looked at; no secret.
    pub input: String,
    /// `pass`, `fail` or `skip`.
    pub outcome: String,
    /// The reason's word when it failed.
    pub reason: Option<String>,
}

/// What the access rules were asked with, and what everything else said: enough to try other rules on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessInput {
    /// Whether it was `sudo`.
    pub sudo: bool,
    /// The right that the person had, where it was known.
    pub role: Option<Role>,
    /// Whether a guest, where it was known.
    pub guest: Option<bool>,
    /// Where the connection came from, where it was an address.
    pub from: Option<IpAddr>,
    /// What the certificate said of the sign-in.
    pub sign_in: Option<SignIn>,
    /// The age of the old yes that stood in while Azure was silent, in seconds.
    pub grace_age_s: Option<u64>,
    /// The reason's word of what else refused it.
    pub others: Option<String>,
}

/// One decision with its inputs: enough to say why, and to judge it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Joins the hook's calls, the decision, the journal and what the person read.
    pub correlation: String,
    /// When it was decided.
    pub at: Timestamp,
    /// `hook`, or PAM's service.
    pub service: String,
    /// The login name as it was asked, cut and cleaned.
    pub user: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The reason's word; none for a yes.
    pub reason: Option<String>,
    /// The sentence for the person.
    pub text: String,
    /// The command that would fix it.
    pub hint: String,
    /// Every rule in order.
    pub steps: Vec<StepRecord>,
    /// The object id, when known.
    pub oid: Option<String>,
    /// The serial number and key id of the certificate, when there was one.
    pub certificate: Option<String>,
    /// Where the connection came from, when PAM said so.
    pub rhost: Option<String>,
    /// The end of a permit.
    pub until: Option<Timestamp>,
    /// Whether the permit is an administrator's.
    pub admin: bool,
    /// Whether it rests on an old yes because Azure did not answer.
    #[serde(default)]
    pub degraded: bool,
    /// What the access rules were asked with; none where it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessInput>,
}

impl Record {
    /// The reason as a typed value.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.reason.as_deref().and_then(|word| word.parse().ok())
    }
}

/// What goes through the queue.
enum Entry {
    Decision(Box<Record>),
    Complaint(String),
}

/// Takes records from any thread without ever waiting.
#[derive(Clone)]
pub struct Recorder {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    ring: Arc<Mutex<Ring>>,
}

impl Recorder {
    /// Starts the writing thread; it ends when the last recorder is gone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(ring: PathBuf, clock: Clock) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(MAX_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let ring = Arc::new(Mutex::new(Ring::new(ring, RING_BYTES)));
        let recorder = Self { queue, dropped: Arc::clone(&dropped), ring: Arc::clone(&ring) };
        std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || Writer { ring, dropped, clock, ring_broken: false }.run(&waiting))?;
        Ok(recorder)
    }

    /// Hands a record over; when the queue is full it is counted instead.
    pub fn record(&self, record: Record) {
        self.send(Entry::Decision(Box::new(record)));
    }

    /// Says that something was refused before it became a question: a stranger on a socket, a frame that
    /// cannot be read. Bounded like decisions, since strangers cause it.
    pub fn complain(&self, text: String) {
        self.send(Entry::Complaint(text));
    }

    /// Counts a decision that is not worth a record of its own.
    pub fn skip(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn send(&self, entry: Entry) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(entry) {
            self.skip();
        }
    }

    /// Every kept record that matches, oldest first; reads the ring, so not for the decision path.
    #[must_use]
    pub fn all(&self, matches: impl Fn(&Record) -> bool) -> Vec<Record> {
        let lines = self.ring.lock().unwrap_or_else(PoisonError::into_inner).lines().unwrap_or_default();
        let records = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        records.filter(|record| matches(record)).collect()
    }

    /// The newest kept record that matches; reads the ring, so not for the decision path.
    #[must_use]
    pub fn find(&self, matches: impl Fn(&Record) -> bool) -> Option<Record> {
        let lines = self.ring.lock().unwrap_or_else(PoisonError::into_inner).lines().ok()?;
        lines.iter().rev().filter_map(|line| serde_json::from_str(line).ok()).find(|record| matches(record))
    }
}

struct Writer {
    ring: Arc<Mutex<Ring>>,
    dropped: Arc<AtomicU64>,
    clock: Clock,
    ring_broken: bool,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Entry>) {
        let mut second = self.clock.boot().as_secs();
        let mut written = 0_u32;
        let mut skipped = 0_u64;
        loop {
            let next = waiting.recv_timeout(Duration::from_secs(1));
            let now = self.clock.boot().as_secs();
            if now != second {
                skipped += self.dropped.swap(0, Ordering::Relaxed);
                if skipped > 0 {
                    warn!(
                        NIGHTLATCH_SKIPPED = skipped,
                        "{skipped} decisions were made too fast to record each"
                    );
                }
                (second, written, skipped) = (now, 0, 0);
            }
            match next {
                Ok(_) if written >= MAX_PER_SECOND => skipped += 1,
                Ok(entry) => {
                    written += 1;
                    match entry {
                        Entry::Decision(record) => self.write(&record),
                        Entry::Complaint(text) => warn!("{text}"),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, record: &Record) {
        let reason = record.reason.as_deref().unwrap_or("");
        let user = record.user.as_str();
        let oid = record.oid.as_deref().unwrap_or("");
        let rhost = record.rhost.as_deref().unwrap_or("");
        let id = record.correlation.as_str();
        let message_id = message_id(record.reason());
        match record.outcome {
            Outcome::Admit | Outcome::Permit => info!(
                MESSAGE_ID = message_id,
                NIGHTLATCH_CORRELATION = id,
                NIGHTLATCH_USER = user,
                NIGHTLATCH_OID = oid,
                NIGHTLATCH_SERVICE = record.service,
                NIGHTLATCH_RHOST = rhost,
                NIGHTLATCH_ADMIN = record.admin,
                NIGHTLATCH_DEGRADED = record.degraded,
                "{:?} {user} for {}{} (ref {id})",
                record.outcome,
                record.service,
                if record.degraded { ", degraded: Azure did not answer" } else { "" }
            ),
            Outcome::Denial | Outcome::Unknown => warn!(
                MESSAGE_ID = message_id,
                NIGHTLATCH_CORRELATION = id,
                NIGHTLATCH_REASON = reason,
                NIGHTLATCH_USER = user,
                NIGHTLATCH_OID = oid,
                NIGHTLATCH_SERVICE = record.service,
                NIGHTLATCH_RHOST = rhost,
                "refused {user} for {}: {reason}: {} (ref {id})",
                record.service,
                record.text
            ),
        }
        let Ok(line) = serde_json::to_string(record) else { return };
        let appended = self.ring.lock().unwrap_or_else(PoisonError::into_inner).append(&line);
        match appended {
            Ok(()) => self.ring_broken = false,
            Err(cause) if !self.ring_broken => {
                self.ring_broken = true;
                error!(
                    "decisions are not kept for `explain`: {cause}: {:?}",
                    std::error::Error::source(&cause)
                );
            }
            Err(_) => {}
        }
    }
}

/// The journal catalog's id of a reason: 128 bits made from the reason's word, so that the
/// catalog and the journal agree without a table. See `systemd/nightlatch.catalog`.
#[must_use]
pub fn message_id(reason: Option<Reason>) -> String {
    // FNV-1a over the word, twice with different starts: an id, not a hash for safety.
    let word = reason.map_or("permit", Reason::word);
    let fold = |start: u64| {
        word.bytes().fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    format!("{:016x}{:016x}", fold(0xcbf2_9ce4_8422_2325), fold(0x6e69_6768_746c_6174))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(user: &str) -> Record {
        Record {
            correlation: "c1".into(),
            at: Timestamp(5),
            service: "sshd".into(),
            user: user.into(),
            outcome: Outcome::Denial,
            reason: Some("no_vm_role".into()),
            text: String::new(),
            hint: String::new(),
            steps: vec![],
            oid: None,
            certificate: None,
            rhost: None,
            until: None,
            admin: false,
            degraded: false,
            access: None,
        }
    }

    #[test]
    fn a_record_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(folder.path().join("ring"), Clock::System).unwrap();
        recorder.record(record("alice@contoso.com"));
        let deadline = Clock::System.boot() + Duration::from_secs(5);
        while recorder.find(|r| r.user == "alice@contoso.com").is_none() {
            assert!(Clock::System.boot() < deadline, "never written");
            std::thread::yield_now();
        }
        assert_eq!(recorder.find(|_| true).unwrap().reason(), Some(Reason::NoVmRole));
    }

    #[test]
    fn a_flood_is_counted_and_never_waits() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::Manual(crate::clock::ManualClock::at(Timestamp(0)));
        let recorder = Recorder::start(folder.path().join("ring"), clock).unwrap();
        for _ in 0..100_000 {
            recorder.record(record("a@b.c"));
        }
        let lines = recorder.ring.lock().unwrap().lines().unwrap().len();
        assert!(lines <= MAX_PER_SECOND as usize, "{lines}");
    }

    #[test]
    fn message_ids_differ() {
        let ids: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| message_id(Some(*r))).collect();
        assert_eq!(ids.len(), Reason::ALL.len());
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
