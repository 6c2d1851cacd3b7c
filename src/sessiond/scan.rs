//! The look at all processes: what nobody announced is adopted, break-glass sessions are noted, rows that
//! nothing stands behind any more end. And the ledger's upkeep.
//!
//! Nothing here is ended or judged: an adopted row is there so that the daemon can judge it.

use std::collections::{BTreeMap, BTreeSet};

use nightlatch_model::is_our_uid;
use nightlatch_wire::Parent;

use crate::clock::Now;
use crate::journal::{Entry, Priority};
use crate::keeper::{Inner, Keeper};
use crate::key::{Forbidden, SweepKey};
use crate::ledger::Keep;
use crate::order::{Order, REST_LOOK_MS};
use crate::process::Owner;
use crate::record::{Aim, Event, Finish, Kind, Session};
use crate::replay::Replay;

/// How often all processes are looked at, in milliseconds.
const SCAN_EVERY_MS: u64 = 10_000;
/// How long processes must be there unexplained before they are adopted, in milliseconds: a person's own service
/// manager outlives the last session by ten seconds (logind.conf(5), `UserStopDelaySec=`).
const ADOPT_AFTER_MS: u64 = 15_000;

/// The people and the audit sessions that processes run for.
#[derive(Debug, Default)]
struct Census {
    /// Uids of our range, each with its first process and that one's audit session.
    people: BTreeMap<u32, (u32, u32)>,
    /// Audit sessions, each with its login uid.
    sessions: BTreeMap<u32, u32>,
}

impl Keeper {
    /// Looks at all processes when it is time to.
    pub(crate) fn scan(&self, now: Now) {
        if self.inner().scan_at_ms > now.up_ms {
            return;
        }
        self.load(now);
        let world = &self.world;
        let was_legible = world.processes.is_legible();
        let forbidden = Forbidden::gather(&*world.processes, world.own_pid, world.own_uid);
        let census = self.census(&self.owners());
        if !was_legible || !world.processes.is_legible() {
            self.inner().scan_at_ms = now.up_ms + REST_LOOK_MS;
            return;
        }
        let accounts = world.accounts.break_glass();
        let mut inner = self.inner();
        inner.scan_at_ms = now.up_ms + SCAN_EVERY_MS;
        inner.forbidden = forbidden;
        self.hold_again(&mut inner, now);
        if !inner.ledger.is_open() {
            return;
        }
        self.adopt(&mut inner, &census, now);
        match accounts {
            Ok(accounts) => {
                inner.told_of_accounts = false;
                self.watch_break_glass(&mut inner, &census, &accounts, now);
            }
            Err(_) if inner.told_of_accounts => {}
            Err(error) => {
                inner.told_of_accounts = true;
                let path = world.accounts.break_glass.display();
                let message =
                    format!("break-glass accounts are not watched: {path} or the passwd file: {error}");
                world.journal.tell(&Entry::new(Priority::Warning, message));
            }
        }
    }

    fn census(&self, owners: &[(u32, Owner)]) -> Census {
        let mut census = Census::default();
        for (pid, owner) in owners {
            let [real, ..] = owner.uids;
            let people = [owner.loginuid, real].into_iter().filter(|uid| is_our_uid(*uid));
            let people: Vec<u32> = people.filter(|uid| !census.people.contains_key(uid)).collect();
            let news = !people.is_empty() || !census.sessions.contains_key(&owner.session);
            if !news || self.world.processes.stat(*pid).is_none_or(|stat| stat.dead) {
                continue;
            }
            census.people.extend(people.into_iter().map(|uid| (uid, (*pid, owner.session))));
            census.sessions.entry(owner.session).or_insert(owner.loginuid);
        }
        census
    }

    fn adopt(&self, inner: &mut Inner, census: &Census, now: Now) {
        let mut explained = BTreeSet::new();
        let mut adopted = BTreeMap::new();
        for live in inner.table.live.values() {
            match live.session.kind {
                Kind::Login => drop(explained.insert(live.session.uid)),
                Kind::Adopted => drop(adopted.insert(live.session.uid, live.session.id)),
                Kind::BreakGlass => {}
            }
        }
        for (uid, id) in &adopted {
            // What is being ended gets its record from the order.
            if inner.table.orders.contains_key(&Aim::Person(*uid)) {
                continue;
            }
            let reason = match (explained.contains(uid), census.people.contains_key(uid)) {
                (true, _) => "explained",
                (false, false) => "closed",
                (false, true) => continue,
            };
            self.finish(inner, Finish::by_itself(*id, reason, now), None, now);
        }
        // While a login opens, PAM has processes of the person already.
        let opening: BTreeSet<u32> = inner.table.waiting.values().map(|waiting| waiting.uid).collect();
        let before = std::mem::take(&mut inner.unexplained);
        for (uid, (pid, audit_session)) in &census.people {
            let known = explained.contains(uid) || adopted.contains_key(uid) || opening.contains(uid);
            if known || inner.table.orders.contains_key(&Aim::Person(*uid)) {
                continue;
            }
            let since = before.get(uid).copied().unwrap_or(now.up_ms);
            if now.up_ms.saturating_sub(since) < ADOPT_AFTER_MS {
                inner.unexplained.insert(*uid, since);
                continue;
            }
            // It may have ended with a session that ended since all processes were looked at.
            if self.world.processes.stat(*pid).is_none_or(|stat| stat.dead) {
                continue;
            }
            let user = inner.table.names.get(uid).cloned().unwrap_or_default();
            let session = Session::found(inner.table.next_id, Kind::Adopted, user, *uid, *audit_session, now);
            self.found(inner, session, now);
        }
    }

    fn watch_break_glass(
        &self,
        inner: &mut Inner,
        census: &Census,
        accounts: &BTreeMap<u32, String>,
        now: Now,
    ) {
        let watched = inner.table.live.values().filter(|live| live.session.kind == Kind::BreakGlass);
        // One row for each account: its service manager has an audit session beside the login's.
        let watched: BTreeMap<u32, u64> = watched.map(|live| (live.session.uid, live.session.id)).collect();
        let real = |audit: &u32| SweepKey::session(*audit, &inner.forbidden).is_some();
        let sessions = census.sessions.iter().filter(|(audit, _)| real(audit));
        let mut in_use: BTreeMap<u32, u32> = BTreeMap::new();
        for (audit, uid) in sessions {
            in_use.entry(*uid).or_insert(*audit);
        }
        for (uid, id) in &watched {
            if !in_use.contains_key(uid) {
                self.finish(inner, Finish::by_itself(*id, "closed", now), None, now);
            }
        }
        for (uid, audit_session) in &in_use {
            let Some(user) = accounts.get(uid) else { continue };
            if watched.contains_key(uid) {
                continue;
            }
            let id = inner.table.next_id;
            let session = Session::found(id, Kind::BreakGlass, user.clone(), *uid, *audit_session, now);
            self.found(inner, session, now);
        }
    }

    /// Takes the holds that could not be had before; without one, the process table says who is gone.
    fn hold_again(&self, inner: &mut Inner, now: Now) {
        let logins = inner.table.live.values().filter(|live| live.session.kind == Kind::Login);
        let logins = logins.filter(|live| inner.table.reason(&live.session).is_none());
        let monitors: Vec<Parent> = logins.map(|live| live.session.monitor()).collect();
        for monitor in monitors {
            if inner.holds.contains_key(&monitor) {
                continue;
            }
            if let Some(hold) = self.hold(monitor) {
                inner.holds.insert(monitor, hold);
            } else if !self.is_there(monitor) {
                self.departed(inner, monitor, now);
            }
        }
    }

    /// Reads the ledger, if that has not been done, and takes up what was under way.
    pub fn load(&self, now: Now) {
        let mut inner = self.inner();
        if inner.ledger.is_open() {
            return;
        }
        let mut replay = Replay::new(inner.ledger.boot());
        match inner.ledger.load(&mut |line| replay.take(line)) {
            // Only the file was lost and found again: the table knows better than it.
            Ok(_) if inner.loaded => {}
            Ok(bad) => {
                if bad > 0 {
                    let message =
                        format!("{bad} lines of the ledger of sessions cannot be read and are passed over");
                    self.world.journal.tell(&Entry::new(Priority::Warning, message));
                }
                inner.loaded = true;
                self.take_up(&mut inner, replay, now);
            }
            failed => self.tell_of_ledger(&mut inner, failed.map(|_| ()), now),
        }
    }

    fn take_up(&self, inner: &mut Inner, replay: Replay, now: Now) {
        inner.table.next_id = inner.table.next_id.max(replay.next_id);
        inner.table.past = replay.past;
        inner.table.names = replay.names;
        for (aim, line) in replay.orders {
            inner.table.orders.entry(aim).or_insert_with(|| Order::new(line, None));
        }
        for (monitor, waiting) in replay.waiting {
            // One that cannot be held cannot be ended: its login starts over.
            if let Some(hold) = self.hold(monitor) {
                inner.holds.insert(monitor, hold);
                inner.table.waiting.entry(monitor).or_insert(waiting);
            }
        }
        let mut over = Vec::new();
        for (id, open) in replay.unfinished {
            let monitor = open.session.monitor();
            let login = open.session.kind == Kind::Login;
            let alive = !login || self.is_there(monitor) || inner.table.reason(&open.session).is_some();
            if !open.this_boot {
                over.push(Finish::by_itself(id, "node_restarted", now));
            } else if !alive {
                let reason = if open.closed { "closed" } else { "connection_lost" };
                over.push(Finish::by_itself(id, reason, now));
            } else if let Some(hold) = self.hold(monitor) {
                inner.holds.insert(monitor, hold);
            }
            inner.table.take_up(open);
        }
        // Orders for sessions that are over have nobody left to write about.
        let table = &mut inner.table;
        table.orders.retain(|aim, _| !matches!(aim, Aim::Session(id) if !table.live.contains_key(id)));
        for finish in over {
            self.finish(inner, finish, None, now);
        }
        inner.scan_at_ms = now.up_ms;
    }

    /// Keeps the ledger from growing without end.
    pub(crate) fn tidy(&self) {
        let mut inner = self.inner();
        if !inner.ledger.is_large() {
            return;
        }
        let Inner { table, ledger, .. } = &mut *inner;
        let of_session = |id: u64| if table.live.contains_key(&id) { Keep::Live } else { Keep::Past(id) };
        let written = ledger.rewrite(&|event| match event {
            Event::Start(session) => of_session(session.id),
            Event::Close { id } => of_session(*id),
            Event::End(finish) => of_session(finish.id),
            Event::Pending(waiting) if table.waiting.contains_key(&waiting.monitor()) => Keep::Live,
            Event::Ending(order) if table.orders.contains_key(&order.aim) => Keep::Live,
            Event::Pending(_) | Event::Ending(_) | Event::NeverOpened { .. } | Event::Swept { .. } => {
                Keep::Drop
            }
        });
        if let Err(error) = written {
            let message = format!("the ledger of sessions grows on: {error}");
            self.world.journal.tell(&Entry::new(Priority::Error, message));
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
