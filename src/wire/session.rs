//! What is said about sessions: by PAM's session phase to sessiond, by the daemon to sessiond, and by PAM's
//! session phase to a daemon that only observes. The bytes follow the rules of [`crate::Message`].

use std::fmt;

use crate::field::{Alphabet, Field, FieldReader, FieldWriter};
use crate::frame::MAX_FRAME;
use crate::message::{
    CODE, MAX_KEY_BYTES, MAX_WORD_BYTES, RHOST, SERVICE, TEXT, USER, field, parent, parents, put_parent,
    put_parents,
};
use crate::{FrameError, Parent};

/// Longest `SSH_AUTH_INFO_0` that is passed on, in bytes: a method, a key type and a key.
pub const MAX_AUTH_BYTES: usize = MAX_KEY_BYTES;
/// Longest object id, correlation id or terminal list in a row, in bytes.
pub const MAX_ID_BYTES: usize = 64;
/// Longest note in a row (certificate, what escaped), in bytes.
pub const MAX_NOTE_BYTES: usize = 512;
/// Longest time that a person may be given to finish before the end, in seconds.
pub const MAX_END_GRACE_S: u16 = 3_600;
/// Most rows in one [`Sessions`] frame.
pub const MAX_ROWS: usize = 255;
/// The digest of nothing: the certificate is not compared.
pub const NO_DIGEST: [u8; 32] = [0; 32];

/// Most bytes of rows in one frame; the rest waits for the next question.
const MAX_ROWS_BYTES: usize = MAX_FRAME - 64;

pub(crate) const AUTH: Field = field("auth info", 0, MAX_AUTH_BYTES, Alphabet::Word);
const ID: Field = field("id", 0, MAX_ID_BYTES, Alphabet::Visible);
const NOTE: Field = field("note", 0, MAX_NOTE_BYTES, Alphabet::Word);
const REASON: Field = field("reason", 0, MAX_WORD_BYTES, Alphabet::Visible);

/// PAM's session phase opens: the login is about to get its shell.
#[derive(Clone, PartialEq, Eq)]
pub struct Open {
    /// `PAM_USER`.
    pub user: String,
    /// `PAM_RHOST`; empty when there is none.
    pub rhost: String,
    /// `SSH_AUTH_INFO_0`: how the person proved themselves. Empty when it is not set or too long.
    pub auth: String,
    /// `/proc/self/sessionid`; [`crate::NO_LOGINUID`] when unset.
    pub audit_session: u32,
    /// `/proc/self/loginuid`; [`crate::NO_LOGINUID`] when unset.
    pub loginuid: u32,
    /// Who called, nearest first: the first is the monitor of the connection.
    pub parents: Vec<Parent>,
}

impl fmt::Debug for Open {
    /// Without the key: some clients put an access token into a certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("user", &self.user)
            .field("rhost", &self.rhost)
            .field("audit_session", &self.audit_session)
            .field("loginuid", &self.loginuid)
            .field("parents", &self.parents)
            .finish_non_exhaustive()
    }
}

/// PAM's session phase closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// `PAM_USER`.
    pub user: String,
    /// `/proc/self/sessionid`.
    pub audit_session: u32,
    /// Who called, nearest first.
    pub parents: Vec<Parent>,
}

/// A session opened that somebody else decided; for a daemon that observes.
#[derive(Clone, PartialEq, Eq)]
pub struct Observed {
    /// `PAM_USER`.
    pub user: String,
    /// `PAM_SERVICE`.
    pub service: String,
    /// `PAM_RHOST`.
    pub rhost: String,
    /// `SSH_AUTH_INFO_0`. Empty when it is not set or too long.
    pub auth: String,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("user", &self.user)
            .field("rhost", &self.rhost)
            .finish_non_exhaustive()
    }
}

/// A yes that PAM is about to be given: whose session the next OPEN of this monitor will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The monitor of the connection.
    pub monitor: Parent,
    /// The login name.
    pub user: String,
    /// The uid that sshd holds.
    pub uid: u32,
    /// The object id of the person.
    pub oid: String,
    /// The id that the hook's calls, the decision and the session share.
    pub correlation: String,
    /// Serial number and key id of the certificate, for the record.
    pub certificate: String,
    /// SHA-256 of the certificate in base64 as sshd passed it to the hook; [`NO_DIGEST`] compares nothing.
    pub digest: [u8; 32],
    /// The client's address as PAM said it.
    pub rhost: String,
    /// When the access ends by itself, in seconds since 1970.
    pub until: i64,
    /// Whether the person has the administrator's role.
    pub admin: bool,
    /// Whether the yes rests on grace.
    pub degraded: bool,
    /// For how long the session may take to open, in seconds: LoginGraceTime and a little more.
    pub open_within_s: u16,
}

/// Which sessions are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Only rows with a larger id.
    pub after: u64,
    /// The ended ones that are still remembered, instead of the live ones.
    pub ended: bool,
}

/// How a session came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A login through PAM.
    Login,
    /// Processes of one of our people that no login explains.
    Adopted,
    /// The local account that is kept for emergencies: watched, never ended.
    BreakGlass,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It lives.
    Open,
    /// It is being ended.
    Ending,
    /// It is over.
    Ended,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number of the session, never used twice on a node.
    pub id: u64,
    /// How it came to be known.
    pub origin: Origin,
    /// Where it is in its life.
    pub state: State,
    /// The login name; empty for adopted processes whose name nobody told.
    pub user: String,
    /// The uid.
    pub uid: u32,
    /// The object id; empty when nobody told.
    pub oid: String,
    /// The id of the decision that let it in; empty when there was none.
    pub correlation: String,
    /// Serial number and key id of the certificate.
    pub certificate: String,
    /// The client's address.
    pub rhost: String,
    /// Its terminals, as `pts/0,pts/3`; empty when it has none.
    pub ttys: String,
    /// The monitor of the connection; all zero when there is none.
    pub monitor: Parent,
    /// The audit session id; [`crate::NO_LOGINUID`] when there is none.
    pub audit_session: u32,
    /// When it began, in seconds since 1970.
    pub started: i64,
    /// When its access ends by itself, in seconds since 1970; 0 when nobody told.
    pub until: i64,
    /// Whether the yes was an administrator's.
    pub admin: bool,
    /// Whether the yes rested on grace.
    pub degraded: bool,
    /// When it was over, in seconds since 1970; 0 while it lives.
    pub ended: i64,
    /// Why it ends or ended, one word; empty while it lives.
    pub reason: String,
    /// What of it could not be ended, by name.
    pub escaped: String,
}

/// Rows, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl Sessions {
    /// As many of `rows` as fit into one frame; says whether some did not.
    ///
    /// # Errors
    /// [`FrameError`] when a row breaks its limits.
    pub fn fitting(rows: impl IntoIterator<Item = Row>) -> Result<Self, FrameError> {
        let mut page = Self { rows: Vec::new(), more: false };
        let mut size = 0;
        for row in rows {
            let mut out = FieldWriter::new(Vec::new());
            put_row(&mut out, &row)?;
            size += out.into_bytes().len();
            if size > MAX_ROWS_BYTES || page.rows.len() >= MAX_ROWS {
                page.more = true;
                break;
            }
            page.rows.push(row);
        }
        Ok(page)
    }
}

/// A line for the terminals of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// The session.
    pub id: u64,
    /// What to say; the server prints its printable ASCII only.
    pub text: String,
}

/// What is to be ended. Never a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One session of the server's own table.
    Session(u64),
    /// Everything of a person: every session and every process of this uid.
    Person(u32),
}

/// The order to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What.
    pub target: Target,
    /// How long the person may go on after they were told, in seconds.
    pub grace_s: u16,
    /// Why, one word of the closed list of reasons.
    pub reason: String,
    /// The sentence for the terminal.
    pub text: String,
}

pub(crate) fn put_open(out: &mut FieldWriter, open: &Open) -> Result<(), FrameError> {
    out.bytes(USER, open.user.as_bytes())?;
    out.bytes(RHOST, open.rhost.as_bytes())?;
    out.bytes(AUTH, open.auth.as_bytes())?;
    out.raw(&open.audit_session.to_be_bytes());
    out.raw(&open.loginuid.to_be_bytes());
    put_parents(out, &open.parents)
}

pub(crate) fn open(from: &mut FieldReader<'_>) -> Result<Open, FrameError> {
    Ok(Open {
        user: from.text(USER)?,
        rhost: from.text(RHOST)?,
        auth: from.text(AUTH)?,
        audit_session: from.u32("audit session")?,
        loginuid: from.u32("loginuid")?,
        parents: parents(from)?,
    })
}

pub(crate) fn put_close(out: &mut FieldWriter, close: &Close) -> Result<(), FrameError> {
    out.bytes(USER, close.user.as_bytes())?;
    out.raw(&close.audit_session.to_be_bytes());
    put_parents(out, &close.parents)
}

pub(crate) fn close(from: &mut FieldReader<'_>) -> Result<Close, FrameError> {
    Ok(Close { user: from.text(USER)?, audit_session: from.u32("audit session")?, parents: parents(from)? })
}

pub(crate) fn put_observed(out: &mut FieldWriter, seen: &Observed) -> Result<(), FrameError> {
    out.bytes(USER, seen.user.as_bytes())?;
    out.bytes(SERVICE, seen.service.as_bytes())?;
    out.bytes(RHOST, seen.rhost.as_bytes())?;
    out.bytes(AUTH, seen.auth.as_bytes())
}

pub(crate) fn observed(from: &mut FieldReader<'_>) -> Result<Observed, FrameError> {
    Ok(Observed {
        user: from.text(USER)?,
        service: from.text(SERVICE)?,
        rhost: from.text(RHOST)?,
        auth: from.text(AUTH)?,
    })
}

pub(crate) fn put_pending(out: &mut FieldWriter, pending: &Pending) -> Result<(), FrameError> {
    put_parent(out, pending.monitor);
    out.bytes(USER, pending.user.as_bytes())?;
    out.raw(&pending.uid.to_be_bytes());
    out.bytes(ID, pending.oid.as_bytes())?;
    out.bytes(ID, pending.correlation.as_bytes())?;
    out.bytes(NOTE, pending.certificate.as_bytes())?;
    out.raw(&pending.digest);
    out.bytes(RHOST, pending.rhost.as_bytes())?;
    out.raw(&pending.until.to_be_bytes());
    out.raw(&[u8::from(pending.admin), u8::from(pending.degraded)]);
    out.raw(&pending.open_within_s.to_be_bytes());
    Ok(())
}

pub(crate) fn pending(from: &mut FieldReader<'_>) -> Result<Pending, FrameError> {
    Ok(Pending {
        monitor: parent(from)?,
        user: from.text(USER)?,
        uid: from.u32("uid")?,
        oid: from.text(ID)?,
        correlation: from.text(ID)?,
        certificate: from.text(NOTE)?,
        digest: from.array("digest")?,
        rhost: from.text(RHOST)?,
        until: from.i64("until")?,
        admin: from.flag("admin")?,
        degraded: from.flag("degraded")?,
        open_within_s: from.u16("open within")?,
    })
}

pub(crate) fn put_list(out: &mut FieldWriter, list: List) {
    out.raw(&list.after.to_be_bytes());
    out.raw(&[u8::from(list.ended)]);
}

pub(crate) fn list(from: &mut FieldReader<'_>) -> Result<List, FrameError> {
    Ok(List { after: from.u64("after")?, ended: from.flag("ended")? })
}

pub(crate) fn put_sessions(out: &mut FieldWriter, page: &Sessions) -> Result<(), FrameError> {
    let count = u8::try_from(page.rows.len()).map_err(|_| FrameError::Value("rows"))?;
    out.raw(&[count, u8::from(page.more)]);
    page.rows.iter().try_for_each(|row| put_row(out, row))
}

pub(crate) fn sessions(from: &mut FieldReader<'_>) -> Result<Sessions, FrameError> {
    let count = from.u8("rows")?;
    let more = from.flag("more")?;
    let rows = (0..count).map(|_| row(from)).collect::<Result<_, _>>()?;
    Ok(Sessions { rows, more })
}

fn put_row(out: &mut FieldWriter, row: &Row) -> Result<(), FrameError> {
    out.raw(&row.id.to_be_bytes());
    out.raw(&[origin_byte(row.origin), state_byte(row.state)]);
    out.bytes(Field { min: 0, ..USER }, row.user.as_bytes())?;
    out.raw(&row.uid.to_be_bytes());
    out.bytes(ID, row.oid.as_bytes())?;
    out.bytes(ID, row.correlation.as_bytes())?;
    out.bytes(NOTE, row.certificate.as_bytes())?;
    out.bytes(RHOST, row.rhost.as_bytes())?;
    out.bytes(ID, row.ttys.as_bytes())?;
    put_parent(out, row.monitor);
    out.raw(&row.audit_session.to_be_bytes());
    out.raw(&row.started.to_be_bytes());
    out.raw(&row.until.to_be_bytes());
    out.raw(&[u8::from(row.admin), u8::from(row.degraded)]);
    out.raw(&row.ended.to_be_bytes());
    out.bytes(REASON, row.reason.as_bytes())?;
    out.bytes(NOTE, row.escaped.as_bytes())
}

fn row(from: &mut FieldReader<'_>) -> Result<Row, FrameError> {
    Ok(Row {
        id: from.u64("session")?,
        origin: origin_of(from.u8("origin")?)?,
        state: state_of(from.u8("state")?)?,
        user: from.text(Field { min: 0, ..USER })?,
        uid: from.u32("uid")?,
        oid: from.text(ID)?,
        correlation: from.text(ID)?,
        certificate: from.text(NOTE)?,
        rhost: from.text(RHOST)?,
        ttys: from.text(ID)?,
        monitor: parent(from)?,
        audit_session: from.u32("audit session")?,
        started: from.i64("started")?,
        until: from.i64("until")?,
        admin: from.flag("admin")?,
        degraded: from.flag("degraded")?,
        ended: from.i64("ended")?,
        reason: from.text(REASON)?,
        escaped: from.text(NOTE)?,
    })
}

const fn origin_byte(origin: Origin) -> u8 {
    match origin {
        Origin::Login => 1,
        Origin::Adopted => 2,
        Origin::BreakGlass => 3,
    }
}

const fn origin_of(byte: u8) -> Result<Origin, FrameError> {
    match byte {
        1 => Ok(Origin::Login),
        2 => Ok(Origin::Adopted),
        3 => Ok(Origin::BreakGlass),
        _ => Err(FrameError::Value("origin")),
    }
}

const fn state_byte(state: State) -> u8 {
    match state {
        State::Open => 1,
        State::Ending => 2,
        State::Ended => 3,
    }
}

const fn state_of(byte: u8) -> Result<State, FrameError> {
    match byte {
        1 => Ok(State::Open),
        2 => Ok(State::Ending),
        3 => Ok(State::Ended),
        _ => Err(FrameError::Value("state")),
    }
}

pub(crate) fn put_say(out: &mut FieldWriter, say: &Say) -> Result<(), FrameError> {
    out.raw(&say.id.to_be_bytes());
    out.bytes(TEXT, say.text.as_bytes())
}

pub(crate) fn say(from: &mut FieldReader<'_>) -> Result<Say, FrameError> {
    Ok(Say { id: from.u64("session")?, text: from.text(TEXT)? })
}

pub(crate) fn put_end(out: &mut FieldWriter, end: &End) -> Result<(), FrameError> {
    if end.grace_s > MAX_END_GRACE_S {
        return Err(FrameError::Value("grace"));
    }
    match end.target {
        Target::Session(id) => {
            out.raw(&[1]);
            out.raw(&id.to_be_bytes());
        }
        Target::Person(uid) => {
            out.raw(&[2]);
            out.raw(&u64::from(uid).to_be_bytes());
        }
    }
    out.raw(&end.grace_s.to_be_bytes());
    out.bytes(CODE, end.reason.as_bytes())?;
    out.bytes(TEXT, end.text.as_bytes())
}

pub(crate) fn end(from: &mut FieldReader<'_>) -> Result<End, FrameError> {
    let kind = from.u8("target")?;
    let number = from.u64("target")?;
    let target = match kind {
        1 => Target::Session(number),
        2 => Target::Person(u32::try_from(number).map_err(|_| FrameError::Value("target"))?),
        _ => return Err(FrameError::Value("target")),
    };
    let grace_s = from.u16("grace")?;
    if grace_s > MAX_END_GRACE_S {
        return Err(FrameError::Value("grace"));
    }
    Ok(End { target, grace_s, reason: from.text(CODE)?, text: from.text(TEXT)? })
}
