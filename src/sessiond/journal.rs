//! What the journal is told of sessions, in systemd's native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! It must never wait for the journal, and never let a name or an address make a second field: values lose
//! their control characters.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::record::{Finish, Session, Waiting};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest value that is passed on, in bytes.
const MAX_VALUE_BYTES: usize = 1_024;

/// syslog(3) priorities that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Something does not work.
    Error = 3,
    /// Somebody should look.
    Warning = 4,
    /// The ordinary course.
    Info = 6,
    /// For whoever looks closely.
    Debug = 7,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How important it is.
    pub priority: Priority,
    /// The sentence.
    pub message: String,
    /// Further fields.
    pub fields: Vec<(&'static str, String)>,
}

impl Entry {
    /// A sentence without fields.
    #[must_use]
    pub fn new(priority: Priority, message: impl Into<String>) -> Self {
        Self { priority, message: message.into(), fields: Vec::new() }
    }

    /// Adds a field; an empty value adds nothing.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.fields.push((name, value));
        }
        self
    }

    fn of(self, session: &Session) -> Self {
        let entry = self.with("NIGHTLATCH_SESSION", session.id).with("NIGHTLATCH_USER", &session.user);
        let entry =
            entry.with("NIGHTLATCH_UID", session.uid).with("NIGHTLATCH_CORRELATION", &session.correlation);
        let audit =
            if session.has_audit_session() { session.audit_session.to_string() } else { String::new() };
        let entry = entry.with("NIGHTLATCH_AUDIT_SESSION", audit).with("NIGHTLATCH_RHOST", &session.rhost);
        entry.with("NIGHTLATCH_DEGRADED", if session.degraded { "1" } else { "0" })
    }

    /// A session began.
    #[must_use]
    pub fn began(session: &Session, ttys: &str) -> Self {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let mut facts = Vec::new();
        match (ttys.is_empty(), session.rhost.is_empty()) {
            (true, true) => {}
            (false, true) => facts.push(ttys.to_owned()),
            (_, false) => facts.push(format!("{ttys} from {}", session.rhost).trim_start().to_owned()),
        }
        if !session.correlation.is_empty() {
            facts.push(format!("ref {}", session.correlation));
        }
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        let who = or(&session.user, &format!("uid {}", session.uid));
        Self::new(Priority::Info, format!("session {} of {who} began{facts}", session.id)).of(session)
    }

    /// Processes were found that no login explains.
    #[must_use]
    pub fn adopted(session: &Session) -> Self {
        let who = if session.user.is_empty() { format!("uid {}", session.uid) } else { session.user.clone() };
        let message = format!("session {}: {who} has processes that no login explains", session.id);
        Self::new(Priority::Info, message).of(session)
    }

    /// A session is over; `took_ms` is the time from the order to the last exit, when there was an order.
    #[must_use]
    pub fn ended(session: &Session, finish: &Finish, took_ms: Option<u64>) -> Self {
        let who = if session.user.is_empty() { format!("uid {}", session.uid) } else { session.user.clone() };
        let mut message = format!("session {} of {who} ended: {}", session.id, finish.reason);
        if let Some(took) = took_ms {
            let plural = if finish.swept == 1 { "process" } else { "processes" };
            let swept = finish.swept;
            message += &format!(" ({swept} {plural} ended, {}.{} s)", took / 1_000, took % 1_000 / 100);
        }
        let priority = if finish.escaped.is_empty() { Priority::Info } else { Priority::Warning };
        if !finish.escaped.is_empty() {
            message += &format!("; not ended: {}", finish.escaped);
        }
        Self::new(priority, message).of(session).with("NIGHTLATCH_REASON", &finish.reason)
    }

    /// A yes was announced, and no session opened.
    #[must_use]
    pub fn never_opened(waiting: &Waiting) -> Self {
        let message = format!("session never opened: {} was allowed in and did not come", waiting.user);
        let entry = Self::new(Priority::Warning, message).with("NIGHTLATCH_USER", &waiting.user);
        let entry = entry.with("NIGHTLATCH_UID", waiting.uid).with("NIGHTLATCH_RHOST", &waiting.rhost);
        entry.with("NIGHTLATCH_CORRELATION", &waiting.correlation)
    }

    /// The local account for emergencies is in use.
    #[must_use]
    pub fn break_glass(session: &Session) -> Self {
        let message = format!("the break-glass account `{}` is in use", session.user);
        Self::new(Priority::Warning, message).of(session)
    }

    /// The datagram.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("PRIORITY={}\nSYSLOG_IDENTIFIER=nightlatch-sessiond\n", self.priority as u8);
        let message = [("MESSAGE", &self.message)];
        let fields = self.fields.iter().map(|(name, value)| (*name, value));
        for (name, value) in message.into_iter().chain(fields) {
            out += &format!("{name}={}\n", clean(value, MAX_VALUE_BYTES));
        }
        out.into_bytes()
    }
}

/// Without control characters, and not longer than `max` bytes.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}

/// Takes records.
pub trait Journal: Send + Sync {
    /// Takes one; it may be lost.
    fn tell(&self, entry: &Entry);
}

/// journald.
#[derive(Debug)]
pub struct Journald {
    socket: Option<UnixDatagram>,
    path: PathBuf,
}

impl Journald {
    /// Sends to the socket at `path`; while nobody listens there, records are lost.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        Self { socket: socket.ok(), path }
    }
}

impl Journal for Journald {
    fn tell(&self, entry: &Entry) {
        if let Some(socket) = &self.socket {
            // A full journal must not hold up a session's end.
            let _ = socket.send_to(&entry.bytes(), &self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::record::Kind;

    fn session() -> Session {
        let now = Now { wall_ms: 5_000, up_ms: 5_000 };
        let mut session = Session::found(17, Kind::Login, "alice@contoso.com".into(), 1_900_000_000, 4, now);
        session.rhost = "10.0.0.9".into();
        session.correlation = "abc".into();
        session
    }

    #[test]
    fn sentences_are_as_documented() {
        let session = session();
        let began = "session 17 of alice@contoso.com began (pts/0 from 10.0.0.9, ref abc)";
        assert_eq!(Entry::began(&session, "pts/0").message, began);
        let began = "session 17 of alice@contoso.com began (from 10.0.0.9, ref abc)";
        assert_eq!(Entry::began(&session, "").message, began);
        let now = Now { wall_ms: 0, up_ms: 0 };
        let mut finish = Finish::by_itself(17, "no_vm_role", now);
        assert_eq!(
            Entry::ended(&session, &finish, None).message,
            "session 17 of alice@contoso.com ended: no_vm_role"
        );
        finish.swept = 3;
        let ended = "session 17 of alice@contoso.com ended: no_vm_role (3 processes ended, 0.4 s)";
        assert_eq!(Entry::ended(&session, &finish, Some(449)).message, ended);
        finish.escaped = "run-r1.service (sleep)".into();
        let entry = Entry::ended(&session, &finish, Some(449));
        assert_eq!(entry.priority, Priority::Warning);
        assert!(entry.message.ends_with("; not ended: run-r1.service (sleep)"));
    }

    #[test]
    fn a_value_cannot_make_a_field() {
        let mut session = session();
        session.user = "eve\nPRIORITY=0\u{1b}[31m".into();
        session.rhost = "x".repeat(5_000);
        let text = String::from_utf8(Entry::began(&session, "").bytes()).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("PRIORITY=")).count(), 1);
        assert!(text.contains("NIGHTLATCH_USER=eve?PRIORITY=0?[31m\n"));
        assert!(text.lines().all(|line| line.len() <= MAX_VALUE_BYTES + 32 && line.contains('=')));
    }

    #[test]
    fn the_journal_gets_datagrams_and_a_full_one_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = Journald::new(path.clone());
        journal.tell(&Entry::new(Priority::Info, "lost"));
        let listener = UnixDatagram::bind(&path).unwrap();
        for _ in 0..5_000 {
            journal.tell(&Entry::new(Priority::Info, "kept"));
        }
        let mut buffer = [0_u8; 256];
        let read = listener.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..read]);
        assert_eq!(text, "PRIORITY=6\nSYSLOG_IDENTIFIER=nightlatch-sessiond\nMESSAGE=kept\n");
    }
}
