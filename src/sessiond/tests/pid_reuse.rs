//! A pid that was given to somebody else between the look and the signal: 1,000 rounds, in a pid namespace of
//! our own in which the next pid can be chosen. The victim's pid is an innocent's each time, and lives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a test harness: it fails by panicking and waits"
)]

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightlatch_sessiond::key::{Forbidden, SweepKey};
use nightlatch_sessiond::process::{Owner, ProcFs, Processes, Stat};
use nightlatch_sessiond::signal::{Held, Hold, Pidfds, Signals, Strike};
use nightlatch_sessiond::sweep::{Ground, Reach};

const ROUNDS: u32 = 1_000;
const UID: u32 = 1_900_200_000;
const INSIDE: &str = "NIGHTLATCH_PID_REUSE_INSIDE";
const NEXT_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// When the victim ends and the innocent takes its number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// After the look at all processes, before the hold.
    BeforeHold,
    /// After the hold, before the second look.
    BeforeSecondLook,
    /// After the second look, before the signal.
    BeforeSignal,
    /// A monitor held since its announcement, before it is told to end.
    LongHeld,
}

const MOMENTS: [Moment; 4] =
    [Moment::BeforeHold, Moment::BeforeSecondLook, Moment::BeforeSignal, Moment::LongHeld];

fn main() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let program = std::env::current_exe().unwrap();
    let mut outer = Command::new("unshare");
    let status =
        outer.args(["--pid", "--fork", "--mount-proc"]).arg(program).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "inside the namespace: {status}");
}

fn spawn(loginuid: Option<u32>) -> Child {
    let set = loginuid.map(|uid| format!("echo {uid} > /proc/self/loginuid; ")).unwrap_or_default();
    let line = format!("{set}exec sleep 1000");
    let child = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).spawn().unwrap();
    let table = ProcFs::default();
    while table.stat(child.id()).unwrap().comm != "sleep" {
        std::thread::sleep(Duration::from_micros(200));
    }
    child
}

/// One round's victim and innocent, and the swap of the two.
struct Swap {
    moment: Moment,
    victim: Mutex<Option<Child>>,
    innocent: Mutex<Option<Child>>,
}

impl Swap {
    fn at(&self, moment: Moment) {
        if self.moment != moment {
            return;
        }
        let Some(mut victim) = self.victim.lock().unwrap().take() else { return };
        victim.kill().unwrap();
        victim.wait().unwrap();
        fs::write(NEXT_PID, (victim.id() - 1).to_string()).unwrap();
        let innocent = spawn(None);
        assert_eq!(innocent.id(), victim.id(), "the number was not given to the innocent");
        *self.innocent.lock().unwrap() = Some(innocent);
    }
}

/// The real process table and real holds, with the swap in the middle.
struct TrapProcesses(Arc<Swap>);
struct TrapSignals(Arc<Swap>);
struct TrapHold(Arc<Swap>, Held);

impl Processes for TrapProcesses {
    fn pids(&self) -> Vec<u32> {
        ProcFs::default().pids()
    }
    fn stat(&self, pid: u32) -> Option<Stat> {
        ProcFs::default().stat(pid)
    }
    fn owner(&self, pid: u32) -> Option<Owner> {
        self.0.at(Moment::BeforeSecondLook);
        ProcFs::default().owner(pid)
    }
    fn cgroup(&self, pid: u32) -> String {
        ProcFs::default().cgroup(pid)
    }
    fn transient_units(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Signals for TrapSignals {
    fn hold(&self, pid: u32) -> io::Result<Held> {
        self.0.at(Moment::BeforeHold);
        Ok(Arc::new(TrapHold(Arc::clone(&self.0), Pidfds.hold(pid)?)))
    }
}

impl Hold for TrapHold {
    fn send(&self, strike: Strike) -> io::Result<()> {
        self.0.at(Moment::BeforeSignal);
        self.0.at(Moment::LongHeld);
        self.1.send(strike)
    }
    fn is_gone(&self) -> bool {
        self.1.is_gone()
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.1.fd()
    }
}

fn inside() {
    let key = SweepKey::person(UID, &Forbidden::default()).unwrap();
    let (mut hit, mut sent) = (0, 0);
    for round in 0..ROUNDS {
        let moment = MOMENTS[round as usize % MOMENTS.len()];
        let victim = spawn(Some(UID));
        let pid = victim.id();
        let (stat, owner) = (ProcFs::default().stat(pid).unwrap(), ProcFs::default().owner(pid).unwrap());
        assert!(key.matches(&owner), "the victim is one that the sweep looks for");
        let swap = Arc::new(Swap { moment, victim: Mutex::new(Some(victim)), innocent: Mutex::default() });
        let (processes, signals) = (TrapProcesses(Arc::clone(&swap)), TrapSignals(Arc::clone(&swap)));
        let own_pid = std::process::id();
        let struck = if moment == Moment::LongHeld {
            let hold = signals.hold(pid).unwrap();
            hold.send(Strike::Term).is_ok()
        } else {
            let ground = Ground { processes: &processes, signals: &signals, own_pid };
            ground.strike(Reach::All(key), pid, stat.start)
        };
        sent += u32::from(struck);
        let mut innocent = swap.innocent.lock().unwrap().take().expect("the swap took place");
        assert_eq!(innocent.id(), pid);
        // A signal to the number, as kill(2) sends it, would have reached the innocent.
        let reached = Command::new("kill").args(["-0", &pid.to_string()]).status().unwrap();
        assert!(reached.success(), "round {round}: nobody is behind the number");
        if innocent.try_wait().unwrap().is_some() {
            hit += 1;
        }
        // And does: the proof that this round could have failed.
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
        assert!(!innocent.wait().unwrap().success());
    }
    println!("pid reuse: {ROUNDS} rounds, {hit} innocents hit, {sent} signals taken by the dead");
    assert_eq!((hit, sent), (0, 0));
    // The same strike without a swap hits: what is proven above is not that nothing is ever struck.
    let mut victim = spawn(Some(UID));
    let stat = ProcFs::default().stat(victim.id()).unwrap();
    let ground = Ground { processes: &ProcFs::default(), signals: &Pidfds, own_pid: std::process::id() };
    assert!(ground.strike(Reach::All(key), victim.id(), stat.start));
    assert!(!victim.wait().unwrap().success());
}
