//! What is written down of sessions: the lines of the ledger, and the facts they hold.
//!
//! A line says what happened and never what to make of it; [`crate::replay`] does that. Fields may be added,
//! never renamed: lines of an older release are read for the whole life of a node.

use nightlatch_wire::session::{Origin, Pending, Row, State, Target};
use nightlatch_wire::{NO_LOGINUID, Parent};
use serde::{Deserialize, Serialize};

use crate::clock::Now;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The boot in which it was written (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// When, in milliseconds since 1970.
    pub wall_ms: i64,
    /// When, in milliseconds since that boot.
    pub up_ms: u64,
    /// What happened.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A yes was announced.
    Pending(Waiting),
    /// A session began.
    Start(Session),
    /// PAM closed a session in order.
    Close {
        /// The session.
        id: u64,
    },
    /// An order to end was taken.
    Ending(Ordered),
    /// A session is over.
    End(Finish),
    /// A yes was announced and no session opened in time.
    NeverOpened {
        /// The monitor's process id.
        pid: u32,
        /// Its start time in clock ticks.
        start: u64,
    },
    /// The order to end a person is carried out.
    Swept {
        /// The uid.
        uid: u32,
    },
}

/// How a session came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A login through PAM.
    Login,
    /// Processes of one of our people that no login explains.
    Adopted,
    /// The local account that is kept for emergencies.
    BreakGlass,
}

/// A yes that waits for its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The monitor's process id.
    pub pid: u32,
    /// The monitor's start time in clock ticks.
    pub start: u64,
    /// The login name.
    pub user: String,
    /// The uid that sshd holds.
    pub uid: u32,
    /// The object id.
    pub oid: String,
    /// The id of the decision.
    pub correlation: String,
    /// Serial number and key id of the certificate.
    pub certificate: String,
    /// SHA-256 of the certificate's base64; all zero compares nothing.
    pub digest: [u8; 32],
    /// The client's address.
    pub rhost: String,
    /// When the access ends by itself, in seconds since 1970.
    pub until: i64,
    /// Whether the yes is an administrator's.
    pub admin: bool,
    /// Whether the yes rests on grace.
    pub degraded: bool,
    /// Until when the session must have opened, in milliseconds since boot.
    pub open_by_ms: u64,
}

impl Waiting {
    /// What was announced at `now`.
    #[must_use]
    pub fn new(pending: Pending, now: Now) -> Self {
        Self {
            pid: pending.monitor.pid,
            start: pending.monitor.start,
            user: pending.user,
            uid: pending.uid,
            oid: pending.oid,
            correlation: pending.correlation,
            certificate: pending.certificate,
            digest: pending.digest,
            rhost: pending.rhost,
            until: pending.until,
            admin: pending.admin,
            degraded: pending.degraded,
            open_by_ms: now.up_ms.saturating_add(u64::from(pending.open_within_s) * 1_000),
        }
    }

    /// The monitor of the connection.
    #[must_use]
    pub const fn monitor(&self) -> Parent {
        Parent { pid: self.pid, start: self.start }
    }
}

/// The facts of a session, as its start record holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The number of the session, never used twice on a node.
    pub id: u64,
    /// How it came to be known.
    pub kind: Kind,
    /// The login name; empty when nobody told.
    pub user: String,
    /// The uid.
    pub uid: u32,
    /// The object id; empty when nobody told.
    pub oid: String,
    /// The id of the decision; empty when there was none.
    pub correlation: String,
    /// Serial number and key id of the certificate.
    pub certificate: String,
    /// The client's address.
    pub rhost: String,
    /// The monitor's process id; 0 when there is none.
    pub pid: u32,
    /// The monitor's start time in clock ticks; 0 when there is none.
    pub start: u64,
    /// The audit session id; [`NO_LOGINUID`] when there is none.
    pub audit_session: u32,
    /// When it began, in seconds since 1970.
    pub started: i64,
    /// When its access ends by itself, in seconds since 1970; 0 when nobody told.
    pub until: i64,
    /// Whether the yes was an administrator's.
    pub admin: bool,
    /// Whether the yes rested on grace.
    pub degraded: bool,
}

impl Session {
    /// The session that a yes announced.
    #[must_use]
    pub fn login(id: u64, waiting: &Waiting, audit_session: u32, now: Now) -> Self {
        Self {
            id,
            kind: Kind::Login,
            user: waiting.user.clone(),
            uid: waiting.uid,
            oid: waiting.oid.clone(),
            correlation: waiting.correlation.clone(),
            certificate: waiting.certificate.clone(),
            rhost: waiting.rhost.clone(),
            pid: waiting.pid,
            start: waiting.start,
            audit_session,
            started: now.wall(),
            until: waiting.until,
            admin: waiting.admin,
            degraded: waiting.degraded,
        }
    }

    /// A session that was found and that nobody announced.
    #[must_use]
    pub fn found(id: u64, kind: Kind, user: String, uid: u32, audit_session: u32, now: Now) -> Self {
        let nothing = String::new;
        Self {
            id,
            kind,
            user,
            uid,
            oid: nothing(),
            correlation: nothing(),
            certificate: nothing(),
            rhost: nothing(),
            pid: 0,
            start: 0,
            audit_session,
            started: now.wall(),
            until: 0,
            admin: false,
            degraded: false,
        }
    }

    /// The monitor of the connection; all zero when there is none.
    #[must_use]
    pub const fn monitor(&self) -> Parent {
        Parent { pid: self.pid, start: self.start }
    }

    /// Whether there is an audit session id to go by.
    #[must_use]
    pub const fn has_audit_session(&self) -> bool {
        self.audit_session != NO_LOGINUID
    }

    /// As a row of the list: open, without terminals and without an end.
    #[must_use]
    pub fn row(&self) -> Row {
        let origin = match self.kind {
            Kind::Login => Origin::Login,
            Kind::Adopted => Origin::Adopted,
            Kind::BreakGlass => Origin::BreakGlass,
        };
        Row {
            id: self.id,
            origin,
            state: State::Open,
            user: self.user.clone(),
            uid: self.uid,
            oid: self.oid.clone(),
            correlation: self.correlation.clone(),
            certificate: self.certificate.clone(),
            rhost: self.rhost.clone(),
            ttys: String::new(),
            monitor: self.monitor(),
            audit_session: self.audit_session,
            started: self.started,
            until: self.until,
            admin: self.admin,
            degraded: self.degraded,
            ended: 0,
            reason: String::new(),
            escaped: String::new(),
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// The session.
    pub id: u64,
    /// Why, one word.
    pub reason: String,
    /// When the record was made, in seconds since 1970.
    pub ended: i64,
    /// When the last of its processes was seen to be gone, in milliseconds since 1970.
    pub exits_by_ms: i64,
    /// How many of its processes were killed.
    pub swept: u64,
    /// What of it could not be ended, by name.
    pub escaped: String,
}

impl Finish {
    /// An end that came by itself.
    #[must_use]
    pub fn by_itself(id: u64, reason: &str, now: Now) -> Self {
        Self {
            id,
            reason: reason.to_owned(),
            ended: now.wall(),
            exits_by_ms: now.wall_ms,
            swept: 0,
            escaped: String::new(),
        }
    }
}

/// What is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// One session.
    Session(u64),
    /// Everything of a uid.
    Person(u32),
}

impl From<Target> for Aim {
    fn from(target: Target) -> Self {
        match target {
            Target::Session(id) => Self::Session(id),
            Target::Person(uid) => Self::Person(uid),
        }
    }
}

/// An order to end, as it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// What.
    pub aim: Aim,
    /// Whose.
    pub uid: u32,
    /// The audit session that is swept when the aim is one session.
    pub audit_session: u32,
    /// Why, one word.
    pub reason: String,
    /// When the grace is over, in milliseconds since boot.
    pub act_at_ms: u64,
}
