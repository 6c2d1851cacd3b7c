//! From the lines of the ledger back to what was under way: pure, one line at a time.
//!
//! It must never count a session twice, and never end one that has its end record.

use std::collections::{BTreeMap, VecDeque};

use nightlatch_wire::Parent;

use crate::record::{Aim, Event, Finish, Line, Ordered, Session, Waiting};

/// How many sessions that are over are remembered.
pub const MAX_PAST: usize = 1_000;
/// How many names of uids are remembered.
pub const MAX_NAMES: usize = 10_000;

/// A session without an end record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its facts.
    pub session: Session,
    /// Whether PAM closed it.
    pub closed: bool,
    /// Whether it began in this boot.
    pub this_boot: bool,
}

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its facts.
    pub session: Session,
    /// Its end.
    pub finish: Finish,
}

/// What the lines so far come to.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    boot: String,
    /// Every id so far is smaller.
    pub next_id: u64,
    /// Announced in this boot, not opened yet.
    pub waiting: BTreeMap<Parent, Waiting>,
    /// Without an end record.
    pub unfinished: BTreeMap<u64, Unfinished>,
    /// The newest that are over, oldest first.
    pub past: VecDeque<Past>,
    /// Orders of this boot that are not carried out.
    pub orders: BTreeMap<Aim, Ordered>,
    /// The last login name of each uid.
    pub names: BTreeMap<u32, String>,
}

impl Replay {
    /// Before the first line, in this boot.
    #[must_use]
    pub fn new(boot: &str) -> Self {
        Self { boot: boot.to_owned(), next_id: 1, ..Self::default() }
    }

    /// Takes the next line.
    pub fn take(&mut self, line: Line) {
        let this_boot = line.boot == self.boot;
        match line.event {
            Event::Pending(waiting) => {
                if this_boot {
                    self.waiting.insert(waiting.monitor(), waiting);
                }
            }
            Event::Start(session) => self.start(session, this_boot),
            Event::Close { id } => {
                if let Some(open) = self.unfinished.get_mut(&id) {
                    open.closed = true;
                }
            }
            Event::Ending(order) => {
                if this_boot {
                    self.orders.insert(order.aim, order);
                }
            }
            Event::End(finish) => {
                self.next_id = self.next_id.max(finish.id.saturating_add(1));
                self.orders.remove(&Aim::Session(finish.id));
                if let Some(open) = self.unfinished.remove(&finish.id) {
                    remember(&mut self.past, Past { session: open.session, finish });
                }
            }
            Event::NeverOpened { pid, start } => {
                self.waiting.remove(&Parent { pid, start });
            }
            Event::Swept { uid } => {
                self.orders.remove(&Aim::Person(uid));
            }
        }
    }

    fn start(&mut self, session: Session, this_boot: bool) {
        // A number that was used before is a line written twice.
        if session.id < self.next_id {
            return;
        }
        self.next_id = session.id.saturating_add(1);
        self.waiting.remove(&session.monitor());
        name(&mut self.names, &session);
        self.unfinished.insert(session.id, Unfinished { session, closed: false, this_boot });
    }
}

/// Puts a session that is over behind the others; the oldest is forgotten.
pub(crate) fn remember(past: &mut VecDeque<Past>, over: Past) {
    if past.len() >= MAX_PAST {
        past.pop_front();
    }
    past.push_back(over);
}

/// Remembers whose a uid is.
pub(crate) fn name(names: &mut BTreeMap<u32, String>, session: &Session) {
    let room = names.len() < MAX_NAMES || names.contains_key(&session.uid);
    if room && !session.user.is_empty() {
        names.insert(session.uid, session.user.clone());
    }
}
