//! Judges every live session again: on a timer, when its access ends by itself, and at once when something
//! was heard about its person. What turns to no is given to sessiond to end.
//!
//! Azure is asked once for each person, a few people at a time, and stands back for new logins.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightlatch_model::{MAX_ACCOUNTS, ObjectId, Reason, Timestamp};
use nightlatch_wire::session::{Origin, Row, State, Target};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::gate::{Gate, Known, lock};
use super::live::{Leave, Owner, Stay};
use super::settings::Settings;
use crate::config::RoleBackEnd;
use crate::sessions::{Control, Due, Turn};
use crate::store::{Stamp, stamp};

/// How many people Azure is asked about at once.
const MAX_PEOPLE_AT_ONCE: usize = 8;
/// How often the table is looked at while nothing falls due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same while roles come from a file, which is looked at as well.
const LOOK_AT_FILE_EVERY: Duration = Duration::from_secs(2);

/// The pause after sessiond could not be asked.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who is to be judged at once. Cloning shares it.
#[derive(Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: Mutex<Asked>,
    heard: Notify,
}

#[derive(Default)]
struct Asked {
    everybody: bool,
    people: HashSet<ObjectId>,
}

impl Asked {
    fn all() -> Self {
        Self { everybody: true, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        !self.everybody && self.people.is_empty()
    }

    fn add(&mut self, more: Self) {
        self.everybody |= more.everybody;
        self.people.extend(more.people);
    }
}

impl Wake {
    /// Something was heard about a person.
    pub fn person(&self, oid: ObjectId) {
        let mut asked = lock(&self.0.asked);
        if asked.people.len() < MAX_ACCOUNTS {
            asked.people.insert(oid);
        } else {
            asked.everybody = true;
        }
        drop(asked);
        self.0.heard.notify_one();
    }

    /// Something was heard about everybody.
    pub fn everybody(&self) {
        lock(&self.0.asked).everybody = true;
        self.0.heard.notify_one();
    }

    fn take(&self) -> Asked {
        std::mem::take(&mut lock(&self.0.asked))
    }
}

/// What `status` says of it.
#[derive(Default)]
pub(super) struct Pulse {
    pub(super) live: AtomicUsize,
    pub(super) kept_by_grace: AtomicUsize,
    /// Why sessiond could not be asked the last time.
    pub(super) trouble: Mutex<Option<String>>,
}

/// The judge of live sessions.
pub(super) struct Rejudger {
    gate: Arc<Gate>,
    control: Control,
    due: Due,
    end_grace_s: u16,
    roles_file: Option<(PathBuf, Option<Stamp>)>,
    /// What a failed look left to do.
    left: Asked,
    /// The sessions whose last judgement rests on grace: a round judges some, and the others keep theirs.
    by_grace: HashSet<u64>,
    pulse: Arc<Pulse>,
}

/// The sessions of one person, or of a uid that nobody holds.
struct Group {
    owner: Option<Owner>,
    rows: Vec<Row>,
    judge: bool,
}

impl Rejudger {
    /// Judges the sessions that `control` knows, by this gate.
    pub(super) fn new(gate: Arc<Gate>, control: Control, settings: &Settings, pulse: Arc<Pulse>) -> Self {
        let from_file = settings.roles_from == RoleBackEnd::File;
        let roles_file = from_file.then(|| (settings.roles_file.clone(), stamp(&settings.roles_file)));
        let (due, end_grace_s) = (Due::new(settings.rejudge), settings.end_grace_s);
        Self {
            gate,
            control,
            due,
            end_grace_s,
            roles_file,
            left: Asked::all(),
            by_grace: HashSet::new(),
            pulse,
        }
    }

    /// Judges for as long as the daemon runs.
    pub(super) async fn run(mut self) {
        let wake = self.gate.wake.clone();
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = wake.0.heard.notified() => {}
            }
            let mut asked = wake.take();
            asked.everybody |= self.roles_file_changed();
            asked.add(std::mem::take(&mut self.left));
            wait = self.round(asked).await;
        }
    }

    fn roles_file_changed(&mut self) -> bool {
        let Some((path, seen)) = &mut self.roles_file else { return false };
        let fresh = stamp(path);
        std::mem::replace(seen, fresh) != fresh
    }

    /// One look at the table. Gives the time to the next.
    async fn round(&mut self, asked: Asked) -> Duration {
        let look = if self.roles_file.is_some() { LOOK_AT_FILE_EVERY } else { LOOK_EVERY };
        let rows = match self.control.list(false).await {
            Ok(rows) => rows,
            Err(cause) => {
                let text = format!("{cause}: {:?}", std::error::Error::source(&cause));
                if lock(&self.pulse.trouble).replace(text.clone()).is_none() {
                    error!("sessions cannot be judged: {text}");
                }
                // Nobody is forgotten over it.
                self.left.add(asked);
                return RETRY_AFTER;
            }
        };
        if lock(&self.pulse.trouble).take().is_some() {
            info!("sessions are judged again");
        }
        let live = living(rows);
        self.pulse.live.store(live.len(), Ordering::Relaxed);
        let ids: Vec<u64> = live.iter().map(|row| row.id).collect();
        self.due.keep(&ids);
        self.by_grace.retain(|id| ids.contains(id));
        let everybody = self.with_owners(&live);
        let groups = self.groups(live, &asked).await;
        self.judge(groups, &everybody).await;
        let (now, boot) = (self.gate.moment().wall, self.gate.clock().boot());
        let look = self.due.next(now, boot).map_or(look, |left| look.min(left));
        if self.left.is_empty() { look } else { look.min(RETRY_AFTER) }
    }

    /// Sorts the sessions by person, says whose turn it is, and warns.
    async fn groups(&mut self, live: Vec<Row>, asked: &Asked) -> Vec<Group> {
        let (now, boot) = (self.gate.moment().wall, self.gate.clock().boot());
        let mut groups: BTreeMap<Result<ObjectId, u32>, Group> = BTreeMap::new();
        for row in live {
            let owner = self.gate.owner(&row);
            let until = (row.until != 0).then_some(Timestamp(row.until));
            // What was adopted has no yes yet.
            let at_once = row.origin == Origin::Adopted;
            let turn = self.due.turn(row.id, until, at_once, now, boot, chance());
            let heard = owner.as_ref().is_some_and(|owner| asked.people.contains(&owner.oid));
            if let Turn::Warn(left) = turn {
                let text = format!(
                    "your access to this node ends in {left} seconds; get a new certificate and log in again"
                );
                if let Err(cause) = self.control.say(row.id, &text).await {
                    warn!("session {} was not warned: {cause}", row.id);
                }
            }
            let key = owner.as_ref().map_or(Err(row.uid), |owner| Ok(owner.oid));
            let group = groups.entry(key).or_insert_with(|| Group { owner, rows: vec![], judge: false });
            group.judge |= turn == Turn::Judge || heard || asked.everybody;
            group.rows.push(row);
        }
        groups.into_values().filter(|group| group.judge).collect()
    }

    /// Asks about each group and settles it. What the node knows by itself waits for no answer of Azure's: it is looked at
    /// first, and whenever something is heard meanwhile.
    async fn judge(&mut self, groups: Vec<Group>, everybody: &[(Option<Owner>, Row)]) {
        let mut gone = HashSet::new();
        self.end_here(everybody, &mut gone).await;
        let places = Arc::new(Semaphore::new(MAX_PEOPLE_AT_ONCE));
        let mut asked = JoinSet::new();
        for group in groups {
            let (gate, places) = (Arc::clone(&self.gate), Arc::clone(&places));
            asked.spawn(async move {
                let _place = places.acquire_owned().await;
                let known = match &group.owner {
                    Some(owner) => gate.live_roles(owner).await,
                    None => Known::nobody(),
                };
                (group, known)
            });
        }
        let wake = self.gate.wake.clone();
        let mut heard = false;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.tick().await;
        loop {
            tokio::select! {
                done = asked.join_next() => match done {
                    None => break,
                    // A question that panicked is asked again at the next look.
                    Some(Err(_)) => {}
                    Some(Ok((mut group, known))) => {
                        group.rows.retain(|row| !gone.contains(&row.id));
                        self.settle(&group, &known).await;
                    }
                },
                () = wake.0.heard.notified() => {
                    heard = true;
                    self.look_here(&mut gone).await;
                }
                _ = look.tick() => self.look_here(&mut gone).await,
            }
        }
        // What was heard is asked about at the next look.
        if heard {
            wake.0.heard.notify_one();
        }
        self.pulse.kept_by_grace.store(self.by_grace.len(), Ordering::Relaxed);
    }

    /// Looks at the table while questions are out, for what needs none.
    async fn look_here(&mut self, gone: &mut HashSet<u64>) {
        // Where sessiond does not answer, the next look says so.
        let Ok(rows) = self.control.list(false).await else { return };
        let everybody = self.with_owners(&living(rows));
        self.end_here(&everybody, gone).await;
    }

    fn with_owners(&self, rows: &[Row]) -> Vec<(Option<Owner>, Row)> {
        rows.iter().map(|row| (self.gate.owner(row), row.clone())).collect()
    }

    /// Ends what ends whatever Azure says; `gone` are those that were.
    async fn end_here(&mut self, everybody: &[(Option<Owner>, Row)], gone: &mut HashSet<u64>) {
        for (owner, row) in everybody {
            if gone.contains(&row.id) {
                continue;
            }
            let Some(leave) = self.gate.lost_here(row, owner.as_ref()) else { continue };
            let (ends, target) = if leave.person {
                let theirs = everybody.iter().filter(|(_, other)| other.uid == row.uid);
                (theirs.map(|(_, other)| other.id).collect(), Target::Person(row.uid))
            } else {
                (vec![row.id], Target::Session(row.id))
            };
            if self.end(target, row, &leave).await {
                gone.extend(ends);
            }
        }
    }

    /// Judges each session of a person, and ends what may not stay.
    async fn settle(&mut self, group: &Group, known: &Known) {
        let boot = self.gate.clock().boot();
        let mut person: Option<Leave> = None;
        for row in &group.rows {
            self.by_grace.remove(&row.id);
            match self.gate.judge_live(row, group.owner.as_ref(), known) {
                Stay::Until { until, degraded } => {
                    if degraded {
                        self.by_grace.insert(row.id);
                    }
                    self.due.judged(row.id, Some(until), boot, chance());
                }
                Stay::End(leave) if leave.person => person = Some(leave),
                Stay::End(leave) => drop(self.end(Target::Session(row.id), row, &leave).await),
            }
        }
        if let (Some(leave), Some(row)) = (person, group.rows.first()) {
            self.end(Target::Person(row.uid), row, &leave).await;
        }
    }

    /// Has sessiond end it; whether the order was taken.
    async fn end(&mut self, target: Target, row: &Row, leave: &Leave) -> bool {
        let word = leave.reason.word();
        let done = self.control.end(target, self.end_grace_s, word, &leave.text).await;
        match &done {
            Ok(()) => info!(
                NIGHTLATCH_REASON = word,
                NIGHTLATCH_USER = row.user,
                NIGHTLATCH_SESSION = row.id,
                NIGHTLATCH_CORRELATION = row.correlation,
                "the session of {} ends: {word}",
                row.user
            ),
            Err(cause) => {
                error!("session {} should end ({word}) and was not ended: {cause}", row.id);
                self.left.everybody = true;
            }
        }
        done.is_ok()
    }
}

/// The sessions that live and are ours to judge.
fn living(rows: Vec<Row>) -> Vec<Row> {
    let ours = |row: &Row| row.state == State::Open && row.origin != Origin::BreakGlass;
    rows.into_iter().filter(ours).collect()
}

/// The sign-in of a person was taken back by Entra, or their access by hand: what they hold from before is
/// worth nothing any more, and their sessions are judged at once.
impl Gate {
    /// Withdraws a person's access. Nothing in here can give any.
    ///
    /// # Errors
    /// In words, when the disk does not take it: it is in force, and is written as soon as there is room.
    pub(super) fn withdraw(&self, oid: ObjectId, reason: Reason) -> Result<(), String> {
        let now = self.moment().wall;
        let written = lock(&self.withdrawn).withdraw(oid, now, reason).map_err(|cause| {
            error!(
                "that access was withdrawn does not survive a restart, until the disk takes it: {cause}: {:?}",
                std::error::Error::source(&cause)
            );
            format!("{cause}")
        });
        let name = lock(&self.accounts).by_oid(oid).map(|person| person.name.clone());
        if let Some(name) = name {
            self.close_account(oid, &name, reason);
        }
        self.wake.person(oid);
        written
    }

    /// Writes what takes access away and the disk did not take.
    pub(super) fn write_again(&self) {
        // One at a time: a decision waits for each of these locks, and the disk may be slow.
        let accounts = lock(&self.accounts).write_again().unwrap_or(false);
        let grace = lock(&self.grace).write_again().unwrap_or(false);
        let withdrawn = lock(&self.withdrawn).write_again().unwrap_or(false);
        if accounts || grace || withdrawn {
            info!("what was taken away is on the disk now");
        }
    }
}

/// Any number; without randomness everybody comes in time instead of spread.
fn chance() -> u32 {
    let mut random = [0_u8; 4];
    let _ = aws_lc_rs::rand::fill(&mut random);
    u32::from_ne_bytes(random)
}
