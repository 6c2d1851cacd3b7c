//! The table: who was announced, who is in, who is being ended, who was here. Pure: processes, signals, files
//! and clocks are elsewhere.
//!
//! It must never let a session open that nobody announced, and never end one twice.

use std::collections::{BTreeMap, VecDeque};

use nightlatch_model::is_our_uid;
use nightlatch_wire::session::{Close, List, NO_DIGEST, Open, Row, State};
use nightlatch_wire::{NO_LOGINUID, Parent};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::clock::Now;
use crate::key::{Forbidden, SweepKey};
use crate::order::Order;
use crate::record::{Aim, Finish, Kind, Ordered, Session, Waiting};
use crate::replay::{Past, Unfinished, name, remember};

/// The most logins that may be announced at once.
pub const MAX_WAITING: usize = 1_024;

/// Why a session does not open: the words are for the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// Nobody announced this connection, or too long ago.
    #[error("this connection has no allowed login that waits for it, or it waited too long; log in again")]
    NoPending,
    /// The name is another than the one that was allowed.
    #[error("this connection was allowed for another user; log in again")]
    User,
    /// pam_loginuid did not record the login.
    #[error(
        "the node did not record this login under your user id; log in again, and if it stays so tell the administrator that pam_loginuid fails"
    )]
    Loginuid,
    /// There is no audit session to end later.
    #[error(
        "the node gave this login no session number; log in again, and if it stays so tell the administrator that pam_loginuid fails"
    )]
    AuditSession,
    /// Proven with another certificate than the one that was judged.
    #[error("this login was proven with another certificate than the one that was allowed; log in again")]
    Certificate,
    /// The ledger does not take the record.
    #[error(
        "this node cannot record your session now; log in again later, or ask the administrator to free space"
    )]
    NotRecorded,
}

impl Denied {
    /// The word of the reason.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoPending => "no_pending",
            Self::NotRecorded => "session_not_recorded",
            Self::User | Self::Loginuid | Self::AuditSession | Self::Certificate => "session_mismatch",
        }
    }
}

/// Why an order or an announcement is not taken; the words go into an ERR frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Too many logins are announced.
    #[error("full")]
    Full,
    /// The person is being ended; a login that opened now would be swept.
    #[error("ending")]
    Ending,
    /// There is no such live session.
    #[error("unknown")]
    Unknown,
    /// A break-glass session, or a uid that is not one of our people's.
    #[error("refused")]
    Refused,
}

/// What an OPEN comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The session is there already.
    Same(u64),
    /// The start record to write; then [`Table::begin`].
    New(Session),
}

/// A session that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its facts.
    pub session: Session,
    /// Whether PAM closed it.
    pub closed: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Table {
    /// The next session's number.
    pub next_id: u64,
    /// Announced, not opened yet.
    pub waiting: BTreeMap<Parent, Waiting>,
    /// Not over.
    pub live: BTreeMap<u64, Live>,
    /// The newest that are over, oldest first.
    pub past: VecDeque<Past>,
    /// Orders that are not carried out.
    pub orders: BTreeMap<Aim, Order>,
    /// The last login name of each uid.
    pub names: BTreeMap<u32, String>,
}

impl Table {
    /// Whether a login may be announced now.
    ///
    /// # Errors
    /// [`Refused::Full`] and [`Refused::Ending`].
    pub fn may_wait(&self, waiting: &Waiting) -> Result<(), Refused> {
        if self.orders.contains_key(&Aim::Person(waiting.uid)) {
            return Err(Refused::Ending);
        }
        let room = self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&waiting.monitor());
        if room { Ok(()) } else { Err(Refused::Full) }
    }

    /// Judges an OPEN.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn admit(&self, open: &Open, forbidden: &Forbidden, now: Now) -> Result<Admitted, Denied> {
        let same = self.live.values().map(|live| &live.session).find(|session| {
            session.kind == Kind::Login
                && session.audit_session == open.audit_session
                && session.user == open.user
                && open.parents.contains(&session.monitor())
        });
        if let Some(session) = same.filter(|session| self.reason(session).is_none()) {
            return Ok(Admitted::Same(session.id));
        }
        let waiting = open.parents.iter().find_map(|parent| self.waiting.get(parent));
        let waiting = waiting.filter(|waiting| waiting.open_by_ms > now.up_ms).ok_or(Denied::NoPending)?;
        if waiting.user != open.user {
            return Err(Denied::User);
        }
        if waiting.uid != open.loginuid || !is_our_uid(waiting.uid) {
            return Err(Denied::Loginuid);
        }
        if SweepKey::session(open.audit_session, forbidden).is_none() {
            return Err(Denied::AuditSession);
        }
        if waiting.digest != NO_DIGEST && digest_of(&open.auth) != Some(waiting.digest) {
            return Err(Denied::Certificate);
        }
        Ok(Admitted::New(Session::login(self.next_id, waiting, open.audit_session, now)))
    }

    /// Puts a session in whose start record is written.
    pub fn begin(&mut self, session: Session) {
        self.next_id = self.next_id.max(session.id.saturating_add(1));
        self.waiting.remove(&session.monitor());
        name(&mut self.names, &session);
        self.live.insert(session.id, Live { session, closed: false });
    }

    /// Puts a session back in that has no end record.
    pub fn take_up(&mut self, open: Unfinished) {
        let Unfinished { session, closed, .. } = open;
        self.live.insert(session.id, Live { session, closed });
    }

    /// Notes that PAM closed a session; `None` when there is none, or it was closed before.
    pub fn close(&mut self, close: &Close) -> Option<u64> {
        let live = self.live.values_mut().find(|live| {
            let session = &live.session;
            session.kind == Kind::Login
                && session.audit_session == close.audit_session
                && session.user == close.user
                && close.parents.contains(&session.monitor())
        })?;
        let first = !live.closed;
        live.closed = true;
        first.then_some(live.session.id)
    }

    /// Takes an order. Returns the line to write, or nothing when an order for the same end stands already.
    ///
    /// # Errors
    /// [`Refused::Unknown`] and [`Refused::Refused`].
    pub fn order(
        &mut self,
        aim: Aim,
        grace_s: u16,
        reason: &str,
        text: &str,
        now: Now,
    ) -> Result<Option<Ordered>, Refused> {
        let (aim, uid, audit_session) = match aim {
            Aim::Session(id) => {
                let session = &self.live.get(&id).ok_or(Refused::Unknown)?.session;
                match session.kind {
                    Kind::BreakGlass => return Err(Refused::Refused),
                    // What nobody announced is one row for all that a uid left behind.
                    Kind::Adopted => (Aim::Person(session.uid), session.uid, NO_LOGINUID),
                    Kind::Login => (aim, session.uid, session.audit_session),
                }
            }
            Aim::Person(uid) if is_our_uid(uid) => (aim, uid, NO_LOGINUID),
            Aim::Person(_) => return Err(Refused::Refused),
        };
        let act_at_ms = now.up_ms.saturating_add(u64::from(grace_s) * 1_000);
        let line = Ordered { aim, uid, audit_session, reason: reason.to_owned(), act_at_ms };
        match self.orders.get_mut(&aim) {
            Some(order) if !order.rests() => Ok(order.hasten(line.clone(), text).then_some(line)),
            _ => {
                self.orders.insert(aim, Order::new(line.clone(), Some(text.to_owned())));
                Ok(Some(line))
            }
        }
    }

    /// The live sessions that an aim covers.
    #[must_use]
    pub fn covered(&self, aim: Aim) -> Vec<&Live> {
        let covers = |session: &Session| match aim {
            Aim::Session(id) => session.id == id,
            Aim::Person(uid) => session.uid == uid && session.kind != Kind::BreakGlass,
        };
        self.live.values().filter(|live| covers(&live.session)).collect()
    }

    /// Why a live session is being ended; `None` while it is not.
    #[must_use]
    pub fn reason(&self, session: &Session) -> Option<&str> {
        let person =
            || self.orders.get(&Aim::Person(session.uid)).filter(|_| session.kind != Kind::BreakGlass);
        let order = self.orders.get(&Aim::Session(session.id)).or_else(person)?;
        Some(&order.line.reason)
    }

    /// The live session of a monitor.
    #[must_use]
    pub fn of_monitor(&self, monitor: Parent) -> Option<&Live> {
        self.live.values().find(|live| live.session.kind == Kind::Login && live.session.monitor() == monitor)
    }

    /// Makes a live session one that is over. `None` when it is not live, so that nothing ends twice.
    pub fn finish(&mut self, finish: Finish) -> Option<Session> {
        let live = self.live.remove(&finish.id)?;
        // What is left of a session that would not end is swept on after its record.
        let aim = Aim::Session(finish.id);
        if !self.orders.get(&aim).is_some_and(Order::rests) {
            self.orders.remove(&aim);
        }
        remember(&mut self.past, Past { session: live.session.clone(), finish });
        Some(live.session)
    }

    /// The rows that are asked for, by number.
    #[must_use]
    pub fn rows(&self, list: List) -> Vec<Row> {
        if list.ended {
            let mut rows: Vec<Row> =
                self.past.iter().map(ended_row).filter(|row| row.id > list.after).collect();
            rows.sort_unstable_by_key(|row| row.id);
            return rows;
        }
        let from = list.after.saturating_add(1);
        let rows = self.live.range(from..).map(|(_, live)| {
            let mut row = live.session.row();
            if let Some(reason) = self.reason(&live.session) {
                row.state = State::Ending;
                row.reason = reason.to_owned();
            }
            row
        });
        rows.collect()
    }
}

fn ended_row(past: &Past) -> Row {
    let mut row = past.session.row();
    row.state = State::Ended;
    row.ended = past.finish.ended;
    row.reason.clone_from(&past.finish.reason);
    row.escaped.clone_from(&past.finish.escaped);
    row
}

/// SHA-256 over the base64 of the key in `SSH_AUTH_INFO_0`: lines of `publickey TYPE BASE64`, the first counts.
fn digest_of(auth: &str) -> Option<[u8; 32]> {
    let mut words = auth.lines().find_map(|line| line.strip_prefix("publickey "))?.split_ascii_whitespace();
    let key = words.nth(1)?;
    Some(Sha256::digest(key.as_bytes()).into())
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
