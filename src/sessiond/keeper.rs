//! The verbs: what PAM and the daemon say is done to the table, the ledger and the processes.
//!
//! One lock over table and ledger, so that a record is written before anybody is told of it. It must never
//! hold that lock over a look at all processes or a wait for a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nightlatch_model::is_our_uid;
use nightlatch_wire::session::{Close, End, List, MAX_ID_BYTES, Open, Pending, Row, Say, Sessions};
use nightlatch_wire::{Message, NO_LOGINUID, Parent};

use crate::accounts::Accounts;
use crate::clock::Now;
use crate::journal::{Entry, Journal, Priority};
use crate::key::{Forbidden, SweepKey, is_untouchable};
use crate::ledger::{Ledger, LedgerError};
use crate::process::{Owner, Processes};
use crate::record::{Aim, Event, Finish, Kind, Session, Waiting};
use crate::signal::{Held, Signals};
use crate::sweep::{Ground, terminals};
use crate::table::{Admitted, Denied, Table};
use crate::tty::{Speech, Terminals};

/// How a monitor's name begins: `sshd` before OpenSSH 9.8, `sshd-session` since.
const MONITOR: &str = "sshd";
/// How long the ledger must not have failed before that is worth a word, in milliseconds.
const LEDGER_CALM_MS: u64 = 60_000;

/// Everything outside the table that the keeper touches.
pub struct World {
    /// The process table.
    pub processes: Arc<dyn Processes>,
    /// Holds on processes.
    pub signals: Arc<dyn Signals>,
    /// People's terminals.
    pub terminals: Arc<dyn Terminals>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Local accounts.
    pub accounts: Accounts,
    /// Where requests to end lingering are left: one empty file per uid.
    pub linger: PathBuf,
    /// Our own process id.
    pub own_pid: u32,
    /// Our own uid.
    pub own_uid: u32,
}

/// Keeps the table and does what the verbs say.
pub struct Keeper {
    pub(crate) world: World,
    inner: Mutex<Inner>,
}

/// What the lock is over.
pub(crate) struct Inner {
    pub(crate) table: Table,
    pub(crate) ledger: Ledger,
    /// The monitors that are watched.
    pub(crate) holds: BTreeMap<Parent, Held>,
    /// As of the last look at all processes.
    pub(crate) forbidden: Forbidden,
    /// When to look at all processes again, in milliseconds since boot.
    pub(crate) scan_at_ms: u64,
    /// When the ledger last failed to take a line, in milliseconds since boot; the journal knows.
    pub(crate) ledger_failed_ms: Option<u64>,
    /// Whether the ledger was read once: what stands in it is in the table.
    pub(crate) loaded: bool,
    /// Whether the journal knows that the break-glass accounts cannot be read.
    pub(crate) told_of_accounts: bool,
    /// Uids with processes that no login explains, and since when (milliseconds since boot).
    pub(crate) unexplained: BTreeMap<u32, u64>,
}

impl Keeper {
    /// A keeper with an empty table. Nothing opens before [`Keeper::load`] has read the ledger.
    #[must_use]
    pub fn new(world: World, ledger: Ledger) -> Self {
        let forbidden = Forbidden::gather(&*world.processes, world.own_pid, world.own_uid);
        let inner = Inner {
            table: Table { next_id: 1, ..Table::default() },
            ledger,
            holds: BTreeMap::new(),
            forbidden,
            scan_at_ms: 0,
            ledger_failed_ms: None,
            loaded: false,
            told_of_accounts: false,
            unexplained: BTreeMap::new(),
        };
        Self { world, inner: Mutex::new(inner) }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ground(&self) -> Ground<'_> {
        let world = &self.world;
        Ground { processes: &*world.processes, signals: &*world.signals, own_pid: world.own_pid }
    }

    /// Takes a hold on a process, if it is the one that began at `start`.
    pub(crate) fn hold(&self, process: Parent) -> Option<Held> {
        let hold = self.world.signals.hold(process.pid).ok()?;
        self.is_there(process).then_some(hold)
    }

    /// Whether the process that began at `start` lives.
    pub(crate) fn is_there(&self, process: Parent) -> bool {
        let stat = self.world.processes.stat(process.pid);
        stat.is_some_and(|stat| stat.start == process.start && !stat.dead)
    }

    /// Takes a hold on the monitor of a connection that may become a session of `uid`: a root process of sshd,
    /// never its listener, and never one that already runs for somebody else. What is held may be ended.
    fn hold_monitor(&self, monitor: Parent, uid: u32) -> Option<Held> {
        let hold = self.world.signals.hold(monitor.pid).ok()?;
        let stat = self.world.processes.stat(monitor.pid)?;
        let owner = self.world.processes.owner(monitor.pid)?;
        let [real, ..] = owner.uids;
        let is_monitor =
            stat.start == monitor.start && !stat.dead && stat.comm.starts_with(MONITOR) && real == 0;
        // PAM sets the login uid when the session opens: until then there is none.
        let is_free = owner.loginuid == NO_LOGINUID || owner.loginuid == uid;
        let untouchable = is_untouchable(&*self.world.processes, self.world.own_pid, monitor.pid, &stat);
        (is_monitor && is_free && !untouchable).then_some(hold)
    }

    /// PENDING: a yes was given; the next OPEN of this monitor is this person's.
    pub fn pending(&self, pending: Pending, now: Now) -> Message {
        if !is_our_uid(pending.uid) {
            return err("refused");
        }
        let Some(hold) = self.hold_monitor(pending.monitor, pending.uid) else { return err("no_monitor") };
        let waiting = Waiting::new(pending, now);
        let mut inner = self.inner();
        // A connection has one session; a yes that comes again is about the one that is open.
        if inner.table.of_monitor(waiting.monitor()).is_some() {
            return Message::Done;
        }
        if let Err(refused) = inner.table.may_wait(&waiting) {
            return err(&refused.to_string());
        }
        self.note(&mut inner, Event::Pending(waiting.clone()), now);
        inner.holds.insert(waiting.monitor(), hold);
        inner.table.waiting.insert(waiting.monitor(), waiting);
        Message::Done
    }

    /// OPEN: PAM is about to give the person their shell.
    pub fn open(&self, open: &Open, now: Now) -> Message {
        let mut inner = self.inner();
        match self.admit(&mut inner, open, now) {
            Ok(id) => Message::Opened(id),
            Err(denied) => {
                drop(inner);
                let message = format!("a session of {} was not opened: {denied}", open.user);
                let entry = Entry::new(Priority::Warning, message).with("NIGHTLATCH_USER", &open.user);
                self.world.journal.tell(&entry.with("NIGHTLATCH_REASON", denied.code()));
                Message::Deny { code: denied.code().to_owned(), text: denied.to_string() }
            }
        }
    }

    fn admit(&self, inner: &mut Inner, open: &Open, now: Now) -> Result<u64, Denied> {
        if !inner.ledger.is_open() {
            return Err(Denied::NotRecorded);
        }
        let session = match inner.table.admit(open, &inner.forbidden, now)? {
            Admitted::Same(id) => return Ok(id),
            Admitted::New(session) => session,
        };
        let written = inner.ledger.require(Event::Start(session.clone()), now);
        let recorded = written.is_ok();
        self.tell_of_ledger(inner, written, now);
        if !recorded {
            return Err(Denied::NotRecorded);
        }
        let id = session.id;
        self.world.journal.tell(&Entry::began(&session, ""));
        inner.table.begin(session);
        Ok(id)
    }

    /// CLOSE: the end that comes now is orderly.
    pub fn close(&self, close: &Close, now: Now) -> Message {
        let mut inner = self.inner();
        if let Some(id) = inner.table.close(close) {
            self.note(&mut inner, Event::Close { id }, now);
        }
        Message::Done
    }

    /// LIST: the rows, with their terminals as they are now.
    pub fn list(&self, list: List) -> Message {
        let mut rows = self.inner().table.rows(list);
        if !list.ended {
            let owners = self.ground().owners();
            for row in &mut rows {
                row.ttys = words(&self.terminals_of(&owners, row.audit_session, None));
            }
        }
        // A row that breaks the limits of a frame must not hide the others.
        let page = Sessions::fitting(rows.iter().cloned())
            .or_else(|_| Sessions::fitting(rows.into_iter().filter(fits)));
        page.map_or_else(|_| err("internal"), Message::Sessions)
    }

    /// SAY: a text on the terminals of a session.
    pub fn say(&self, say: &Say) -> Message {
        let session = self.inner().table.live.get(&say.id).map(|live| live.session.clone());
        let Some(session) = session else { return err("unknown") };
        let owners = self.ground().owners();
        let own = (session.kind == Kind::Adopted).then_some(session.uid);
        let found = self.terminals_of(&owners, session.audit_session, own);
        self.speak(found, session.uid, &say.text);
        Message::Done
    }

    /// END: takes the order; [`Keeper::tick`] carries it out.
    pub fn end(&self, end: &End, now: Now) -> Message {
        let mut inner = self.inner();
        let taken = inner.table.order(Aim::from(end.target), end.grace_s, &end.reason, &end.text, now);
        match taken {
            Err(refused) => return err(&refused.to_string()),
            Ok(None) => {}
            Ok(Some(line)) => {
                if let Aim::Person(uid) = line.aim {
                    self.turn_away(&mut inner, uid);
                }
                self.note(&mut inner, Event::Ending(line), now);
            }
        }
        Message::Done
    }

    /// Ends the logins of a person that were announced and have not opened: no grace, nobody is in yet.
    fn turn_away(&self, inner: &mut Inner, uid: u32) {
        let theirs = inner.table.waiting.values().filter(|waiting| waiting.uid == uid);
        let monitors: Vec<Parent> = theirs.map(Waiting::monitor).collect();
        for monitor in monitors {
            inner.table.waiting.remove(&monitor);
            if let Some(hold) = inner.holds.remove(&monitor) {
                let _ = hold.send(crate::signal::Strike::Term);
            }
        }
    }

    /// The terminals of an audit session, or with `uid` of everything of a person.
    pub(crate) fn terminals_of(
        &self,
        owners: &[(u32, Owner)],
        audit_session: u32,
        uid: Option<u32>,
    ) -> BTreeSet<u32> {
        let none = Forbidden::default();
        let key =
            uid.map_or_else(|| SweepKey::session(audit_session, &none), |uid| SweepKey::person(uid, &none));
        let Some(key) = key else { return BTreeSet::new() };
        terminals(&*self.world.processes, owners, |owner| key.matches(owner))
    }

    pub(crate) fn speak(&self, terminals: BTreeSet<u32>, uid: u32, text: &str) {
        let speech = Speech { terminals: terminals.into_iter().collect(), uid, text: text.to_owned() };
        if !speech.terminals.is_empty() && !text.is_empty() {
            self.world.terminals.say(&speech);
        }
    }

    /// Writes a line that must not hold anything up.
    pub(crate) fn note(&self, inner: &mut Inner, event: Event, now: Now) {
        let written = inner.ledger.note(event, now);
        self.tell_of_ledger(inner, written, now);
    }

    /// The journal hears once that the ledger fails, and once that it has worked again for a while: on a disk
    /// that is all but full, a short line may fit where a long one does not.
    pub(crate) fn tell_of_ledger(&self, inner: &mut Inner, written: Result<(), LedgerError>, now: Now) {
        let before = inner.ledger_failed_ms;
        if let Err(error) = written {
            inner.ledger_failed_ms = Some(now.up_ms);
            if before.is_none() {
                let message = format!("sessions cannot be recorded, so none opens: {error}");
                self.world.journal.tell(&Entry::new(Priority::Error, message));
            }
        } else if before.is_some_and(|failed| now.up_ms.saturating_sub(failed) >= LEDGER_CALM_MS) {
            inner.ledger_failed_ms = None;
            self.world
                .journal
                .tell(&Entry::new(Priority::Info, "the ledger of sessions takes records again"));
        }
    }

    /// Writes the one end record of a session.
    pub(crate) fn finish(&self, inner: &mut Inner, finish: Finish, took_ms: Option<u64>, now: Now) {
        let Some(session) = inner.table.finish(finish.clone()) else { return };
        self.note(inner, Event::End(finish.clone()), now);
        inner.holds.remove(&session.monitor());
        self.world.journal.tell(&Entry::ended(&session, &finish, took_ms));
    }

    /// Begins a session that was found.
    pub(crate) fn found(&self, inner: &mut Inner, session: Session, now: Now) {
        self.note(inner, Event::Start(session.clone()), now);
        let entry = match session.kind {
            Kind::BreakGlass => Entry::break_glass(&session),
            Kind::Adopted => Entry::adopted(&session),
            Kind::Login => Entry::began(&session, ""),
        };
        self.world.journal.tell(&entry);
        inner.table.begin(session);
    }

    /// Answers a frame on the socket of PAM.
    pub fn answer_pam(&self, message: Message, now: Now) -> Message {
        match message {
            Message::Open(open) => self.open(&open, now),
            Message::Close(close) => self.close(&close, now),
            _ => err(nightlatch_wire::UNSUPPORTED),
        }
    }

    /// Answers a frame on the socket of the daemon.
    pub fn answer_daemon(&self, message: Message, now: Now) -> Message {
        match message {
            Message::Pending(pending) => self.pending(pending, now),
            Message::List(list) => self.list(list),
            Message::Say(say) => self.say(&say),
            Message::End(end) => self.end(&end, now),
            _ => err(nightlatch_wire::UNSUPPORTED),
        }
    }

    /// What becomes readable when a watched monitor ends.
    #[must_use]
    pub fn watched(&self) -> Vec<Held> {
        self.inner().holds.values().cloned().collect()
    }
}

fn err(word: &str) -> Message {
    Message::Err(word.to_owned())
}

fn fits(row: &Row) -> bool {
    Sessions::fitting([row.clone()]).is_ok()
}

/// `pts/0,pts/3`, as many as fit.
fn words(terminals: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    for pts in terminals {
        let word = format!("{}pts/{pts}", if text.is_empty() { "" } else { "," });
        if text.len() + word.len() > MAX_ID_BYTES {
            break;
        }
        text += &word;
    }
    text
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
