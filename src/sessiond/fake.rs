//! A machine for tests: processes with a temper, a clock that is turned by hand, and ears for all that is said.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use nightlatch_wire::session::{Close, End, List, NO_DIGEST, Open, Pending, Row, Target};
use nightlatch_wire::{Message, NO_LOGINUID, Parent};

use crate::accounts::Accounts;
use crate::clock::Now;
use crate::journal::{Entry, Journal};
use crate::keeper::{Keeper, World};
use crate::ledger::Ledger;
use crate::process::{Owner, Processes, Stat, TICKS_PER_SECOND};
use crate::signal::{Held, Hold, Signals, Strike};
use crate::tty::{Speech, Terminals};

pub(crate) const UID: u32 = 1_900_000_000;
pub(crate) const BOOT: &str = "boot-1";
pub(crate) const OWN_PID: u32 = 50;

/// What a process does with signals, and by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Ends by TERM.
    Mild,
    /// Ends by KILL only.
    Stubborn,
    /// Does not even end by KILL.
    Immortal,
    /// Has two children at each look at the process table, as long as this many are left to be born.
    Storm(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) stat: Stat,
    pub(crate) owner: Owner,
    pub(crate) cgroup: String,
    pub(crate) temper: Temper,
    serial: u64,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) now_ms: u64,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) units: Vec<String>,
    pub(crate) speeches: Vec<Speech>,
    pub(crate) entries: Vec<Entry>,
    /// Every signal that was taken: pid, start, signal.
    pub(crate) signals: Vec<(u32, u64, Strike)>,
    serial: u64,
    next_pid: u32,
    births_left: u32,
    /// The table cannot be read: nothing is found in it.
    pub(crate) blind: bool,
}

/// The machine.
#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

struct FakeHold {
    machine: Machine,
    pid: u32,
    serial: u64,
}

impl Machine {
    /// With pid 1, an sshd listener and ourselves, 1,000 s after boot.
    pub(crate) fn new() -> Self {
        let machine = Self::default();
        machine.state().now_ms = 1_000_000;
        machine.state().next_pid = 100;
        let service = |name: &str| format!("0::/system.slice/{name}.service\n");
        for (pid, parent, comm, cgroup) in [
            (1, 0, "systemd", "0::/init.scope\n".to_owned()),
            (40, 1, "sshd", service("ssh")),
            (OWN_PID, 1, "sessiond", service("nightlatch-sessiond")),
        ] {
            machine.put(pid, comm, [0; 4], NO_LOGINUID, NO_LOGINUID, Temper::Stubborn);
            let mut state = machine.state();
            let process = state.processes.get_mut(&pid).unwrap();
            (process.stat.parent, process.cgroup) = (parent, cgroup);
        }
        machine
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Now {
        let up_ms = self.state().now_ms;
        Now { wall_ms: 1_700_000_000_000 + i64::try_from(up_ms).unwrap(), up_ms }
    }

    pub(crate) fn put(
        &self,
        pid: u32,
        comm: &str,
        uids: [u32; 4],
        loginuid: u32,
        session: u32,
        temper: Temper,
    ) -> Parent {
        let mut state = self.state();
        state.serial += 1;
        let start = state.now_ms * TICKS_PER_SECOND / 1_000;
        let stat = Stat { comm: comm.to_owned(), dead: false, parent: 1, pts: None, start };
        let owner = Owner { uids, loginuid, session };
        let process = Process { stat, owner, cgroup: String::new(), temper, serial: state.serial };
        if let Temper::Storm(births) = temper {
            state.births_left = state.births_left.max(births);
        }
        state.processes.insert(pid, process);
        Parent { pid, start }
    }

    pub(crate) fn spawn(&self, comm: &str, uid: u32, loginuid: u32, session: u32, temper: Temper) -> Parent {
        let pid = {
            let mut state = self.state();
            state.next_pid += 1;
            state.next_pid
        };
        self.put(pid, comm, [uid; 4], loginuid, session, temper)
    }

    /// A monitor of sshd as it is while the session opens.
    pub(crate) fn monitor(&self, uid: u32, session: u32, temper: Temper) -> Parent {
        self.spawn("sshd-session", 0, uid, session, temper)
    }

    pub(crate) fn end(&self, pid: u32) {
        self.state().processes.remove(&pid);
    }

    pub(crate) fn lives(&self, process: Parent) -> bool {
        self.state().processes.get(&process.pid).is_some_and(|found| found.stat.start == process.start)
    }

    pub(crate) fn keeper(&self, folder: &Path) -> Keeper {
        self.keeper_in(folder, BOOT)
    }

    /// A keeper over the ledger in this folder, as after a start of the program.
    pub(crate) fn keeper_in(&self, folder: &Path, boot: &str) -> Keeper {
        let world = World {
            processes: Arc::new(self.clone()),
            signals: Arc::new(self.clone()),
            terminals: Arc::new(self.clone()),
            journal: Arc::new(self.clone()),
            accounts: Accounts { passwd: folder.join("passwd"), break_glass: folder.join("break-glass") },
            linger: folder.to_owned(),
            own_pid: OWN_PID,
            own_uid: 995,
        };
        let keeper = Keeper::new(world, Ledger::new(folder.join("sessions.jsonl"), boot.to_owned()));
        keeper.load(self.now());
        keeper
    }

    /// Lets this much time pass for a keeper that does what is due.
    pub(crate) fn run(&self, keeper: &Keeper, ms: u64) {
        let until = self.state().now_ms + ms;
        loop {
            let wait = keeper.tick(self.now());
            let mut state = self.state();
            if state.now_ms >= until {
                return;
            }
            state.now_ms = until.min(state.now_ms + wait.max(1));
        }
    }

    pub(crate) fn said(&self, part: &str) -> usize {
        self.state().entries.iter().filter(|entry| entry.message.contains(part)).count()
    }
}

impl Processes for Machine {
    fn pids(&self) -> Vec<u32> {
        let storms: Vec<Process> = {
            let state = self.state();
            let storms = state.processes.values().filter(|one| matches!(one.temper, Temper::Storm(_)));
            storms.cloned().collect()
        };
        for parent in storms {
            for _ in 0..2 {
                if self.state().births_left == 0 {
                    break;
                }
                self.state().births_left -= 1;
                let (owner, [uid, ..]) = (parent.owner, parent.owner.uids);
                self.spawn("storm", uid, owner.loginuid, owner.session, Temper::Storm(0));
            }
        }
        let state = self.state();
        if state.blind { Vec::new() } else { state.processes.keys().copied().collect() }
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        Some(self.state().processes.get(&pid)?.stat.clone())
    }

    fn owner(&self, pid: u32) -> Option<Owner> {
        Some(self.state().processes.get(&pid)?.owner)
    }

    fn cgroup(&self, pid: u32) -> String {
        self.state().processes.get(&pid).map(|one| one.cgroup.clone()).unwrap_or_default()
    }

    fn transient_units(&self) -> Vec<String> {
        self.state().units.clone()
    }

    fn is_legible(&self) -> bool {
        !self.state().blind
    }
}

impl Signals for Machine {
    fn hold(&self, pid: u32) -> io::Result<Held> {
        let state = self.state();
        let found = state.processes.get(&pid).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Arc::new(FakeHold { machine: self.clone(), pid, serial: found.serial }))
    }
}

impl Hold for FakeHold {
    fn send(&self, strike: Strike) -> io::Result<()> {
        let mut state = self.machine.state();
        let found = state.processes.get(&self.pid).filter(|found| found.serial == self.serial);
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.clone();
        state.signals.push((self.pid, found.stat.start, strike));
        let ends = match found.temper {
            Temper::Mild | Temper::Storm(_) => true,
            Temper::Stubborn => strike == Strike::Kill,
            Temper::Immortal => false,
        };
        if ends {
            state.processes.remove(&self.pid);
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        self.machine.state().processes.get(&self.pid).is_none_or(|found| found.serial != self.serial)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Terminals for Machine {
    fn say(&self, speech: &Speech) {
        self.state().speeches.push(speech.clone());
    }
}

impl Journal for Machine {
    fn tell(&self, entry: &Entry) {
        self.state().entries.push(entry.clone());
    }
}

pub(crate) fn pending(monitor: Parent, uid: u32) -> Pending {
    Pending {
        monitor,
        user: format!("u{uid}@contoso.com"),
        uid,
        oid: "oid".into(),
        correlation: "abc".into(),
        certificate: "serial 1".into(),
        digest: NO_DIGEST,
        rhost: "10.0.0.9".into(),
        until: 4_000_000_000,
        admin: false,
        degraded: false,
        open_within_s: 65,
    }
}

pub(crate) fn open(monitor: Parent, uid: u32, audit_session: u32) -> Open {
    Open {
        user: format!("u{uid}@contoso.com"),
        rhost: "10.0.0.9".into(),
        auth: String::new(),
        audit_session,
        loginuid: uid,
        parents: vec![monitor],
    }
}

pub(crate) fn close(monitor: Parent, uid: u32, audit_session: u32) -> Close {
    Close { user: format!("u{uid}@contoso.com"), audit_session, parents: vec![monitor] }
}

pub(crate) fn end(target: Target, grace_s: u16, reason: &str) -> End {
    End { target, grace_s, reason: reason.to_owned(), text: format!("ended: {reason}") }
}

pub(crate) fn rows(keeper: &Keeper, ended: bool) -> Vec<Row> {
    match keeper.list(List { after: 0, ended }) {
        Message::Sessions(page) => page.rows,
        other => panic!("{other:?}"),
    }
}

/// Announces and opens; the number of the session.
pub(crate) fn log_in(machine: &Machine, keeper: &Keeper, monitor: Parent, uid: u32, audit: u32) -> u64 {
    assert_eq!(keeper.pending(pending(monitor, uid), machine.now()), Message::Done);
    match keeper.open(&open(monitor, uid, audit), machine.now()) {
        Message::Opened(id) => id,
        other => panic!("{other:?}"),
    }
}
