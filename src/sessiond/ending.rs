//! Carrying orders out, and noticing what ends by itself: the work of the watching thread.
//!
//! It must never write a second end record, and never sweep under the table's lock.

use std::fs::OpenOptions;

use nightlatch_wire::Parent;
use nightlatch_wire::session::{End, MAX_NOTE_BYTES, Target};

use crate::clock::Now;
use crate::journal::{Entry, Priority, clean};
use crate::keeper::{Inner, Keeper};
use crate::key::{Forbidden, SweepKey};
use crate::order::{LEAVE_MS, LOOK_MS, Order, Phase, READ_MS, STUCK_MS, Verdict};
use crate::process::Owner;
use crate::record::{Aim, Event, Finish, Kind, Session};
use crate::signal::{Held, Strike};
use crate::sweep::{Found, Reach, late_units};

/// How long nothing may happen before the watching thread looks again all the same, in milliseconds.
const MAX_WAIT_MS: u64 = 1_000;
/// How long after the end that its yes stated a session is ended without an order, in seconds: the daemon has had
/// its turn by then, and knows more to say.
const OVERDUE_S: i64 = 60;
/// What is said then.
const OVERDUE_TEXT: &str = "your session ends: the certificate has expired\nreason cert_expired";
/// The word of it.
const OVERDUE_REASON: &str = "cert_expired";

impl Keeper {
    /// Does all that is due, and says after how many milliseconds to come again at the latest.
    pub fn tick(&self, now: Now) -> u64 {
        self.reap(now);
        self.expire(now);
        self.end_overdue(now);
        self.tell_people(now);
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
            self.departed(&mut inner, monitor, now);
        }
    }

    /// A monitor has ended: its session is over, or about to be.
    pub(crate) fn departed(&self, inner: &mut Inner, monitor: Parent, now: Now) {
        inner.holds.remove(&monitor);
        if let Some(waiting) = inner.table.waiting.remove(&monitor) {
            let message = format!("{} was allowed in and left before the session opened", waiting.user);
            self.world.journal.tell(&Entry::new(Priority::Debug, message));
        }
        let Some(live) = inner.table.of_monitor(monitor) else { return };
        let (id, closed, uid) = (live.session.id, live.closed, live.session.uid);
        if inner.table.reason(&live.session).is_none() {
            let reason = if closed { "closed" } else { "connection_lost" };
            self.finish(inner, Finish::by_itself(id, reason, now), None, now);
            // What it left behind is looked for at once.
            inner.scan_at_ms = now.up_ms;
            return;
        }
        for aim in [Aim::Session(id), Aim::Person(uid)] {
            if let Some(order) = inner.table.orders.get_mut(&aim) {
                order.exited(now);
            }
        }
        // Whoever leaves needs no grace; what they leave behind gets none.
        if let Some(order) = inner.table.orders.get_mut(&Aim::Session(id)) {
            order.hurry(now);
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

    /// Ends sessions that are past the end of what they were let in with, when the daemon does not: it may be
    /// down or hang. This decides nothing: the yes itself named that end.
    fn end_overdue(&self, now: Now) {
        let overdue: Vec<u64> = {
            let inner = self.inner();
            let past = inner.table.live.values().filter(|live| {
                let until = live.session.until;
                live.session.kind == Kind::Login && until != 0 && now.wall() - until >= OVERDUE_S
            });
            past.filter(|live| inner.table.reason(&live.session).is_none())
                .map(|live| live.session.id)
                .collect()
        };
        for id in overdue {
            let (reason, text) = (OVERDUE_REASON.to_owned(), OVERDUE_TEXT.to_owned());
            self.end(&End { target: Target::Session(id), grace_s: 0, reason, text }, now);
        }
    }

    /// Says on the terminals what is about to happen.
    ///
    /// sshd carries the words to the client, and the end would overtake them: where there is a terminal, it
    /// waits for [`READ_MS`].
    fn tell_people(&self, now: Now) {
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
        let untold: Vec<_> =
            untold.into_iter().map(|(aim, uid, text)| (aim, audit(aim), uid, text)).collect();
        drop(inner);
        if untold.is_empty() {
            return;
        }
        let owners = self.ground().owners();
        for (aim, audit, uid, text) in untold {
            let person = if audit.is_none() { Some(uid) } else { None };
            let found = self.terminals_of(&owners, audit.unwrap_or_default(), person);
            if found.is_empty() || text.is_empty() {
                continue;
            }
            self.speak(found, uid, &text);
            if let Some(order) = self.inner().table.orders.get_mut(&aim) {
                order.wait_until(now.up_ms + READ_MS);
            }
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
        if !self.inner().table.orders.values().any(|order| is_due(order, now)) {
            return;
        }
        // Before anything is worked out from what is seen, and once more after the look.
        let processes = &self.world.processes;
        if !processes.is_legible() {
            self.look_again(now);
            return;
        }
        let (aims, reaches): (Vec<Aim>, Vec<Reach>) = self.due(now).into_iter().unzip();
        let found = self.ground().sweep(&reaches);
        if !processes.is_legible() {
            self.look_again(now);
            return;
        }
        for (aim, found) in aims.into_iter().zip(found) {
            self.saw(aim, found, now);
        }
    }

    /// What cannot be looked at is not gone: no order is over by it. The monitors that are held need no look.
    fn look_again(&self, now: Now) {
        let mut inner = self.inner();
        let orders = inner.table.orders.values().filter(|order| is_due(order, now));
        let aims: Vec<Aim> = orders.map(|order| order.line.aim).collect();
        for aim in aims {
            let staying = monitors(&inner, aim);
            let Some(order) = inner.table.orders.get_mut(&aim) else { continue };
            if matches!(order.phase, Phase::Leaving(until) if now.up_ms >= until) {
                staying.iter().for_each(|hold| drop(hold.send(Strike::Kill)));
            }
            order.next_ms = now.up_ms + LOOK_MS;
        }
    }

    fn due(&self, now: Now) -> Vec<(Aim, Reach)> {
        let world = &self.world;
        let due = |order: &Order| (order.line.aim, order.line.audit_session, order.own_only());
        let inner = self.inner();
        let orders = inner.table.orders.values().filter(|order| is_due(order, now));
        let due: Vec<_> = orders.map(due).collect();
        drop(inner);
        // As it is now: sshd may have been started anew from within a session that is to be ended.
        let forbidden = if due.iter().any(|(aim, ..)| matches!(aim, Aim::Session(_))) {
            Forbidden::gather(&*world.processes, world.own_pid, world.own_uid)
        } else {
            Forbidden::new([], world.own_uid)
        };
        let reach = |(aim, audit_session, own_only)| {
            let key = match aim {
                Aim::Person(uid) => SweepKey::person(uid, &forbidden),
                Aim::Session(_) => SweepKey::session(audit_session, &forbidden),
            };
            (aim, key.map_or(Reach::Nobody, if own_only { Reach::Own } else { Reach::All }))
        };
        due.into_iter().map(reach).collect()
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
        if verdict == Verdict::Going {
            return;
        }
        // After a rest the records are there already.
        let recorded = order.rests() && verdict == Verdict::Clean;
        let order = order.clone();
        drop(inner);
        if !recorded {
            self.record(&order, now);
        }
        if verdict == Verdict::Clean {
            let mut inner = self.inner();
            inner.table.orders.remove(&aim);
            if let Aim::Person(uid) = aim {
                self.note(&mut inner, Event::Swept { uid }, now);
            }
            inner.scan_at_ms = now.up_ms;
        }
    }

    /// Writes the end records of an order that is carried out.
    fn record(&self, order: &Order, now: Now) {
        let aim = order.line.aim;
        let last = order.last_exit.unwrap_or(now);
        let took_ms = last.up_ms.saturating_sub(order.line.act_at_ms);
        let covered: Vec<Session> =
            self.inner().table.covered(aim).into_iter().map(|live| live.session.clone()).collect();
        for session in &covered {
            let finish = Finish {
                id: session.id,
                reason: order.line.reason.clone(),
                ended: now.wall(),
                exits_by_ms: last.wall_ms,
                swept: order.swept,
                escaped: self.escaped(order, session),
            };
            self.finish(&mut self.inner(), finish, Some(took_ms), now);
        }
        if covered.is_empty() {
            self.tell_of_person(order);
        }
        if let Aim::Person(uid) = aim {
            self.stop_lingering(uid);
        }
    }

    /// What is left of a session, by name: processes that do not go, and what an administrator started outside
    /// every login.
    fn escaped(&self, order: &Order, session: &Session) -> String {
        let mut escaped = order.left();
        if session.admin && session.kind == Kind::Login {
            escaped.extend(late_units(&*self.world.processes, session.start));
        }
        clean(&escaped.join(", "), MAX_NOTE_BYTES)
    }

    /// The journal's line of an order that covered no session.
    fn tell_of_person(&self, order: &Order) {
        let (uid, reason, left) = (order.line.uid, &order.line.reason, order.left());
        let mut message = format!("everything of uid {uid} ended: {reason} ({} killed)", order.swept);
        if !left.is_empty() {
            message += &format!("; not ended: {}", left.join(", "));
        }
        let entry = Entry::new(Priority::Info, message).with("NIGHTLATCH_UID", uid);
        self.world.journal.tell(&entry.with("NIGHTLATCH_REASON", reason));
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

/// Whether an order is to be looked at.
fn is_due(order: &Order, now: Now) -> bool {
    order.phase != Phase::Grace && order.next_ms <= now.up_ms
}

/// The monitors of what an aim covers that are still there.
fn monitors(inner: &Inner, aim: Aim) -> Vec<Held> {
    let covered = inner.table.covered(aim).into_iter().map(|live| live.session.monitor());
    covered.filter_map(|monitor| inner.holds.get(&monitor).cloned()).filter(|hold| !hold.is_gone()).collect()
}
