//! Carrying orders out, and noticing what ends by itself: the work of the watching thread.
//!
//! It must never write a second end record, and never sweep under the table's lock.

use std::fs::OpenOptions;

use nightlatch_wire::Parent;
use nightlatch_wire::session::MAX_NOTE_BYTES;

use crate::clock::Now;
use crate::journal::{Entry, Priority, clean};
use crate::keeper::{Inner, Keeper};
use crate::key::{Forbidden, SweepKey};
use crate::order::{LEAVE_MS, LOOK_MS, Order, Phase, STUCK_MS, Verdict};
use crate::process::Owner;
use crate::record::{Aim, Event, Finish, Kind};
use crate::signal::{Held, Strike};
use crate::sweep::{Found, late_units};

/// How long nothing may happen before the watching thread looks again all the same, in milliseconds.
const MAX_WAIT_MS: u64 = 1_000;

/// A sweep that is due.
struct Due {
    aim: Aim,
    key: Option<SweepKey>,
    own_only: bool,
}

impl Keeper {
    /// Does all that is due, and says after how many milliseconds to come again at the latest.
    pub fn tick(&self, now: Now) -> u64 {
        self.reap(now);
        self.expire(now);
        self.tell_people();
        self.dismiss(now);
        self.sweep(now);
        self.scan(now);
        self.tidy();
        self.wait_ms(now)
    }

    /// Notices monitors that have ended.
    fn reap(&self, now: Now) {
        let mut inner = self.inner();
        let gone = inner.holds.iter().filter(|(_, hold)| hold.is_gone()).map(|(monitor, _)| *monitor);
        for monitor in gone.collect::<Vec<Parent>>() {
            inner.holds.remove(&monitor);
            inner.table.waiting.remove(&monitor);
            let Some(live) = inner.table.of_monitor(monitor) else { continue };
            let (id, closed, uid) = (live.session.id, live.closed, live.session.uid);
            if inner.table.reason(&live.session).is_some() {
                for aim in [Aim::Session(id), Aim::Person(uid)] {
                    if let Some(order) = inner.table.orders.get_mut(&aim) {
                        order.exited(now);
                    }
                }
                // Whoever leaves needs no grace; what they leave behind gets none.
                if let Some(order) = inner.table.orders.get_mut(&Aim::Session(id)) {
                    order.hurry(now);
                }
                continue;
            }
            let reason = if closed { "closed" } else { "connection_lost" };
            self.finish(&mut inner, Finish::by_itself(id, reason, now), None, now);
            inner.scan_at_ms = now.up_ms;
        }
    }

    /// Ends connections whose session did not open in time.
    fn expire(&self, now: Now) {
        let mut inner = self.inner();
        let late = inner.table.waiting.values().filter(|waiting| waiting.open_by_ms <= now.up_ms);
        for waiting in late.cloned().collect::<Vec<_>>() {
            let monitor = waiting.monitor();
            inner.table.waiting.remove(&monitor);
            if let Some(hold) = inner.holds.remove(&monitor) {
                let _ = hold.send(Strike::Term);
            }
            let event = Event::NeverOpened { pid: monitor.pid, start: monitor.start };
            self.note(&mut inner, event, now);
            self.world.journal.tell(&Entry::never_opened(&waiting));
        }
    }

    /// Says on the terminals what is about to happen.
    fn tell_people(&self) {
        let mut untold = Vec::new();
        let mut inner = self.inner();
        for order in inner.table.orders.values_mut() {
            if let Some(text) = order.text.take() {
                order.next_ms = order.line.act_at_ms;
                untold.push((order.line.aim, order.line.uid, text));
            }
        }
        let audit = |aim| match aim {
            Aim::Session(id) => inner.table.live.get(&id).map(|live| live.session.audit_session),
            Aim::Person(_) => None,
        };
        let untold: Vec<_> = untold.into_iter().map(|(aim, uid, text)| (audit(aim), uid, text)).collect();
        drop(inner);
        if untold.is_empty() {
            return;
        }
        let owners = self.ground().owners();
        for (audit, uid, text) in untold {
            let person = if audit.is_none() { Some(uid) } else { None };
            let found = self.terminals_of(&owners, audit.unwrap_or_default(), person);
            self.speak(found, uid, &text);
        }
    }

    /// Sends TERM to the monitors of orders whose grace is over.
    fn dismiss(&self, now: Now) {
        let mut inner = self.inner();
        let due = inner.table.orders.iter().filter(|(_, order)| {
            order.phase == Phase::Grace && order.text.is_none() && order.line.act_at_ms <= now.up_ms
        });
        for aim in due.map(|(aim, _)| *aim).collect::<Vec<_>>() {
            for hold in monitors(&inner, aim) {
                let _ = hold.send(Strike::Term);
            }
            if let Some(order) = inner.table.orders.get_mut(&aim) {
                order.phase = Phase::Leaving(now.up_ms + LEAVE_MS);
                order.next_ms = now.up_ms;
            }
        }
    }

    /// One look at all processes for all orders that are due.
    fn sweep(&self, now: Now) {
        let due = self.due(now);
        if due.is_empty() {
            return;
        }
        let owners = self.ground().owners();
        for Due { aim, key, own_only } in due {
            let found = key.map(|key| self.ground().sweep(&owners, key, own_only)).unwrap_or_default();
            self.saw(aim, found, now);
        }
    }

    fn due(&self, now: Now) -> Vec<Due> {
        let world = &self.world;
        let asked = |inner: &Inner| inner.table.orders.values().any(|order| is_due(order, now));
        if !asked(&self.inner()) {
            return Vec::new();
        }
        // As it is now: sshd may have been started anew from within a session that is to be ended.
        let forbidden = Forbidden::gather(&*world.processes, world.own_pid, world.own_uid);
        let inner = self.inner();
        let due = inner.table.orders.iter().filter(|(_, order)| is_due(order, now)).map(|(aim, order)| {
            let key = match *aim {
                Aim::Person(uid) => SweepKey::person(uid, &forbidden),
                Aim::Session(_) => SweepKey::session(order.line.audit_session, &forbidden),
            };
            Due { aim: *aim, key, own_only: order.own_only() }
        });
        due.collect()
    }

    fn saw(&self, aim: Aim, found: Vec<Found>, now: Now) {
        let mut inner = self.inner();
        let staying = monitors(&inner, aim);
        let Some(order) = inner.table.orders.get_mut(&aim) else { return };
        let mut verdict = order.saw(found, now);
        match order.phase {
            Phase::Leaving(until) => {
                if staying.is_empty() || now.up_ms >= until {
                    staying.iter().for_each(|hold| drop(hold.send(Strike::Kill)));
                    order.sweep(now);
                } else {
                    order.next_ms = until.min(now.up_ms + LOOK_MS);
                }
                return;
            }
            // A monitor that does not even go by SIGKILL is something left as well.
            Phase::Sweeping(since)
                if verdict == Verdict::Clean
                    && !staying.is_empty()
                    && now.up_ms.saturating_sub(since) < STUCK_MS =>
            {
                staying.iter().for_each(|hold| drop(hold.send(Strike::Kill)));
                verdict = Verdict::Going;
            }
            _ => {}
        }
        let resting = order.rests();
        let order = order.clone();
        match verdict {
            Verdict::Going => {}
            Verdict::Stuck => self.record(&mut inner, &order, now),
            Verdict::Clean => {
                // After a rest the records are there already.
                if !resting {
                    self.record(&mut inner, &order, now);
                }
                inner.table.orders.remove(&aim);
                if let Aim::Person(uid) = aim {
                    self.note(&mut inner, Event::Swept { uid }, now);
                }
                inner.scan_at_ms = now.up_ms;
            }
        }
    }

    /// Writes the end records of an order that is carried out.
    fn record(&self, inner: &mut Inner, order: &Order, now: Now) {
        let aim = order.line.aim;
        let last = order.last_exit.unwrap_or(now);
        let took_ms = last.up_ms.saturating_sub(order.line.act_at_ms);
        let covered = inner.table.covered(aim).into_iter().map(|live| live.session.clone());
        let covered: Vec<_> = covered.collect();
        let left = order.left();
        for session in &covered {
            let mut escaped = left.clone();
            if session.admin && session.kind == Kind::Login {
                escaped.extend(late_units(&*self.world.processes, session.start));
            }
            let finish = Finish {
                id: session.id,
                reason: order.line.reason.clone(),
                ended: now.wall(),
                exits_by_ms: last.wall_ms,
                swept: order.swept,
                escaped: clean(&escaped.join(", "), MAX_NOTE_BYTES),
            };
            self.finish(inner, finish, Some(took_ms), now);
        }
        if covered.is_empty() {
            let (uid, reason) = (order.line.uid, &order.line.reason);
            let mut message = format!("everything of uid {uid} ended: {reason} ({} killed)", order.swept);
            if !left.is_empty() {
                message += &format!("; not ended: {}", left.join(", "));
            }
            let entry = Entry::new(Priority::Info, message).with("NIGHTLATCH_UID", uid);
            self.world.journal.tell(&entry.with("NIGHTLATCH_REASON", reason));
        }
        if let Aim::Person(uid) = aim {
            self.stop_lingering(uid);
        }
    }

    /// Leaves a request for root: this uid's services must not start again without a login.
    fn stop_lingering(&self, uid: u32) {
        let path = self.world.linger.join(uid.to_string());
        if let Err(error) = OpenOptions::new().write(true).create(true).truncate(true).open(&path) {
            let message = format!("cannot ask for the end of lingering: {}: {error}", path.display());
            self.world.journal.tell(&Entry::new(Priority::Error, message));
        }
    }

    /// How long nothing is due, in milliseconds.
    fn wait_ms(&self, now: Now) -> u64 {
        let inner = self.inner();
        let table = &inner.table;
        let waiting = table.waiting.values().map(|waiting| waiting.open_by_ms);
        let orders = table.orders.values().map(|order| order.next_ms);
        let next = waiting.chain(orders).chain([inner.scan_at_ms]).min().unwrap_or(u64::MAX);
        next.saturating_sub(now.up_ms).min(MAX_WAIT_MS)
    }

    /// The processes of a uid or a session, for whoever only looks.
    pub(crate) fn owners(&self) -> Vec<(u32, Owner)> {
        self.ground().owners()
    }
}

fn is_due(order: &Order, now: Now) -> bool {
    order.phase != Phase::Grace && order.next_ms <= now.up_ms
}

/// The monitors of what an aim covers that are still there.
fn monitors(inner: &Inner, aim: Aim) -> Vec<Held> {
    let covered = inner.table.covered(aim).into_iter().map(|live| live.session.monitor());
    covered.filter_map(|monitor| inner.holds.get(&monitor).cloned()).filter(|hold| !hold.is_gone()).collect()
}
