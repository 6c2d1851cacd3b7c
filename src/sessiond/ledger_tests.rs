//! The ledger against crashes, torn lines and its own growth; and histories that must come out even.

use nightlatch_wire::session::Target;
use nightlatch_wire::{Message, Parent};

use super::*;
use crate::fake::{BOOT, Machine, Temper, UID, close, end, log_in, open, pending, rows};
use crate::keeper::Keeper;
use crate::record::{Finish, Kind, Session};

const NOW: Now = Now { wall_ms: 5_000, up_ms: 5_000 };
/// How many random histories are played.
const HISTORIES: u64 = 2_000;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Numbers from a seed, so that a history that failed can be played again (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// How many start and end records each session has.
fn counts(folder: &std::path::Path) -> BTreeMap<u64, (u32, u32)> {
    let mut counts: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    let text = fs::read_to_string(folder.join("sessions.jsonl")).unwrap();
    for line in text.lines() {
        match serde_json::from_str::<Line>(line).unwrap().event {
            Event::Start(session) => counts.entry(session.id).or_default().0 += 1,
            Event::End(finish) => counts.entry(finish.id).or_default().1 += 1,
            _ => {}
        }
    }
    counts
}

/// Ends every process of ours and lets everything run out.
fn run_out(machine: &Machine, keeper: &Keeper) {
    machine.state().processes.retain(|pid, _| *pid < 100);
    machine.run(keeper, 90_000);
    machine.run(keeper, 30_000);
    assert!(rows(keeper, false).is_empty(), "{:?}", rows(keeper, false));
}

struct History {
    machine: Machine,
    folder: tempfile::TempDir,
    keeper: Option<Keeper>,
    boot: u32,
    dice: Dice,
    monitors: Vec<(Parent, u32, u32)>,
    opened: Vec<u64>,
}

impl History {
    fn new(seed: u64) -> Self {
        let (machine, folder) = (Machine::new(), folder());
        let keeper = Some(machine.keeper_in(folder.path(), "boot-0"));
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { machine, folder, keeper, boot: 0, dice, monitors: Vec::new(), opened: Vec::new() }
    }

    fn pick(&mut self) -> Option<(Parent, u32, u32)> {
        let count = self.monitors.len() as u64;
        if count == 0 { None } else { Some(self.monitors[usize::try_from(self.dice.roll(count)).unwrap()]) }
    }

    /// The program stops, perhaps in the middle of a line, and starts anew; the machine perhaps as well.
    fn restart(&mut self) {
        self.keeper = None;
        if self.dice.roll(2) == 0 {
            let mut file =
                OpenOptions::new().append(true).open(self.folder.path().join("sessions.jsonl")).unwrap();
            file.write_all(b"{\"boot\":\"boot-0\",\"wall_ms\":17,\"up_m").unwrap();
        }
        if self.dice.roll(4) == 0 {
            self.boot += 1;
            self.machine.state().processes.retain(|pid, _| *pid < 100);
            self.monitors.clear();
        }
        self.keeper = Some(self.machine.keeper_in(self.folder.path(), &format!("boot-{}", self.boot)));
    }

    fn step(&mut self, audit: u32) {
        let kind = self.dice.roll(11);
        let uid = UID + u32::try_from(self.dice.roll(3)).unwrap();
        let picked = self.pick();
        let now = self.machine.now();
        let keeper = self.keeper.as_ref().unwrap();
        match (kind, picked) {
            (0 | 1, _) => {
                let temper = if self.dice.roll(4) == 0 { Temper::Stubborn } else { Temper::Mild };
                let monitor = self.machine.monitor(uid, audit, temper);
                self.monitors.push((monitor, uid, audit));
                keeper.pending(pending(monitor, uid), now);
            }
            (2 | 3, Some((monitor, uid, audit))) => {
                if let Message::Opened(id) = keeper.open(&open(monitor, uid, audit), now) {
                    self.opened.push(id);
                }
            }
            (4, Some((monitor, uid, audit))) => drop(keeper.close(&close(monitor, uid, audit), now)),
            (5, Some((monitor, ..))) => self.machine.end(monitor.pid),
            (6, _) => {
                let grace = u16::try_from(self.dice.roll(20)).unwrap();
                keeper.end(&end(Target::Person(uid), grace, "disabled"), now);
            }
            (7, _) if !self.opened.is_empty() => {
                let at = self.dice.roll(self.opened.len() as u64);
                let id = self.opened[usize::try_from(at).unwrap()];
                let grace = u16::try_from(self.dice.roll(20)).unwrap();
                keeper.end(&end(Target::Session(id), grace, "revoked"), now);
            }
            (8, _) => drop(self.machine.spawn("nohup", uid, uid, audit, Temper::Mild)),
            (9, _) => self.restart(),
            _ => {
                let ms = self.dice.roll(20_000);
                self.machine.run(keeper, ms);
            }
        }
    }
}

/// Open, close, exit, end, restart, reboot in any order: each session has one start and one end record, and
/// every session that PAM was told of has them.
#[test]
fn two_thousand_histories_come_out_even() {
    let mut sessions = 0;
    for seed in 1..=HISTORIES {
        let mut history = History::new(seed);
        for audit in 10..60 {
            history.step(audit);
        }
        run_out(&history.machine, history.keeper.as_ref().unwrap());
        let counts = counts(history.folder.path());
        assert!(counts.values().all(|count| *count == (1, 1)), "seed {seed}: {counts:?}");
        assert!(
            history.opened.iter().all(|id| counts.contains_key(id)),
            "seed {seed}: an opened one is missing"
        );
        sessions += counts.len();
    }
    assert!(sessions > 5_000, "{sessions} sessions in all");
}

/// A ledger with every kind of line in it, and the machine that belongs to it.
fn rich_history() -> (Machine, Vec<u8>) {
    let (machine, folder) = (Machine::new(), folder());
    let keeper = machine.keeper(folder.path());
    let monitors: Vec<Parent> = (0..5).map(|at| machine.monitor(UID + at, 20 + at, Temper::Mild)).collect();
    let ids: Vec<u64> =
        (0..3).map(|at| log_in(&machine, &keeper, monitors[at as usize], UID + at, 20 + at)).collect();
    for at in 3..5 {
        keeper.pending(pending(monitors[at as usize], UID + at), machine.now());
    }
    keeper.close(&close(monitors[0], UID, 20), machine.now());
    machine.end(monitors[0].pid);
    machine.run(&keeper, 100);
    machine.spawn("nohup", UID + 9, UID + 9, 77, Temper::Mild);
    keeper.end(&end(Target::Session(ids[1]), 0, "revoked"), machine.now());
    machine.run(&keeper, 15_000);
    keeper.end(&end(Target::Person(UID + 2), 5, "disabled"), machine.now());
    machine.run(&keeper, 60_000);
    let text = fs::read(folder.path().join("sessions.jsonl")).unwrap();
    for word in ["pending", "start", "close", "ending", "end", "never_opened", "swept"] {
        assert!(String::from_utf8_lossy(&text).contains(&format!("\"event\":{{\"{word}\"")), "{word}");
    }
    (machine, text)
}

/// The program may die after any line and within any line: what it takes up is whole, and ends once.
#[test]
fn a_crash_after_and_within_every_line_is_survived() {
    let (machine, text) = rich_history();
    let ends: Vec<usize> =
        text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    assert!(ends.len() >= 12);
    let before = machine.state().processes.clone();
    let mut cuts = vec![0];
    for end in &ends {
        cuts.extend([*end, end.saturating_sub(1), end.saturating_sub(9), (end + 7).min(text.len())]);
    }
    for cut in cuts {
        let folder = folder();
        let path = folder.path().join("sessions.jsonl");
        fs::write(&path, &text[..cut]).unwrap();
        machine.state().processes.clone_from(&before);
        let keeper = machine.keeper(folder.path());
        let whole = ends.iter().rev().find(|end| **end <= cut).copied().unwrap_or(0);
        assert!(fs::read(&path).unwrap().starts_with(&text[..whole]), "cut at {cut}: a whole line was lost");
        run_out(&machine, &keeper);
        let counts = counts(folder.path());
        assert!(counts.values().all(|count| *count == (1, 1)), "cut at {cut}: {counts:?}");
        let monitor = machine.monitor(UID, 90, Temper::Mild);
        let next = log_in(&machine, &keeper, monitor, UID, 90);
        assert!(counts.keys().all(|id| *id < next), "cut at {cut}: a number came twice");
        run_out(&machine, &keeper);
    }
}

#[test]
fn lines_that_cannot_be_read_are_passed_over_and_counted() {
    let folder = folder();
    let path = folder.path().join("sessions.jsonl");
    let mut ledger = Ledger::new(path.clone(), BOOT.to_owned());
    assert!(matches!(ledger.require(Event::Close { id: 1 }, NOW), Err(LedgerError::Unread(_))));
    assert_eq!(ledger.load(&mut |_| {}).unwrap(), 0);
    ledger.require(Event::Close { id: 2 }, NOW).unwrap();
    let good = fs::read(&path).unwrap();
    let long = vec![b'x'; 3 * 64 * 1024];
    let broken: Vec<&[u8]> = vec![b"\0\0\n", &good, b"{}\n", &long, b"\n", &good, b"\xff\xfe\n", &long];
    fs::write(&path, broken.concat()).unwrap();
    let mut read = Vec::new();
    let mut ledger = Ledger::new(path.clone(), BOOT.to_owned());
    assert_eq!(ledger.load(&mut |line| read.push(line.event)).unwrap(), 4);
    // The close that was refused above stands first: it waited for the file to be read.
    assert_eq!(read, [Event::Close { id: 2 }, Event::Close { id: 2 }]);
    ledger.require(Event::Close { id: 3 }, NOW).unwrap();
    assert!(fs::read(&path).unwrap().ends_with(b"\n"));
    assert_eq!(Ledger::new(path, BOOT.to_owned()).load(&mut |_| {}).unwrap(), 4, "the torn end is cut off");
}

#[test]
fn what_cannot_be_written_now_is_written_later() {
    let folder = folder();
    let path = folder.path().join("later").join("sessions.jsonl");
    let mut ledger = Ledger::new(path.clone(), BOOT.to_owned());
    assert!(matches!(ledger.load(&mut |_| {}), Err(LedgerError::Io(..))));
    assert!(ledger.note(Event::Close { id: 1 }, NOW).is_err());
    assert!(ledger.require(Event::Close { id: 2 }, NOW).is_err(), "and this one never");
    fs::create_dir(folder.path().join("later")).unwrap();
    ledger.load(&mut |_| {}).unwrap();
    ledger.note(Event::Close { id: 3 }, NOW).unwrap();
    let mut read = Vec::new();
    Ledger::new(path, BOOT.to_owned()).load(&mut |line| read.push(line.event)).unwrap();
    assert_eq!(read, [Event::Close { id: 1 }, Event::Close { id: 3 }]);
}

#[test]
fn a_large_ledger_keeps_the_live_and_the_newest() {
    let folder = folder();
    let path = folder.path().join("sessions.jsonl");
    let machine = Machine::new();
    let keeper = machine.keeper(folder.path());
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let live = log_in(&machine, &keeper, monitor, UID, 7);
    let announced = machine.monitor(UID + 1, 8, Temper::Mild);
    keeper.pending(pending(announced, UID + 1), machine.now());
    drop(keeper);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let mut id = live;
    let mut text = Vec::new();
    while text.len() < 9 * 1024 * 1024 {
        id += 1;
        let mut session = Session::found(id, Kind::Login, "x".repeat(200), UID, 9, NOW);
        session.certificate = "c".repeat(400);
        for event in [Event::Start(session), Event::End(Finish::by_itself(id, "closed", NOW))] {
            let line = Line { boot: BOOT.to_owned(), wall_ms: 1, up_ms: 1, event };
            text.extend(serde_json::to_vec(&line).unwrap());
            text.push(b'\n');
        }
    }
    file.write_all(&text).unwrap();
    let keeper = machine.keeper(folder.path());
    machine.run(&keeper, 1);
    let size = fs::metadata(&path).unwrap().len();
    assert!((KEEP_BYTES - 4_096..KEEP_BYTES + 4_096).contains(&size), "{size} bytes");
    assert!(!path.with_extension("new").exists());
    let counts = counts(folder.path());
    assert_eq!(counts[&live], (1, 0));
    assert!(counts.iter().all(|(at, count)| *at == live || *count == (1, 1)));
    assert_eq!(counts.keys().next_back(), Some(&id), "the newest is kept");
    let Message::Opened(next) = keeper.open(&open(announced, UID + 1, 8), machine.now()) else { panic!() };
    assert_eq!(next, id + 1);
    drop(keeper);
    let keeper = machine.keeper(folder.path());
    assert_eq!(rows(&keeper, false).len(), 2);
    assert_eq!(keeper.inner().table.past.len(), crate::replay::MAX_PAST);
    let (mut after, mut seen) = (0, 0);
    loop {
        let page = keeper.list(nightlatch_wire::session::List { after, ended: true });
        let Message::Sessions(page) = page else { panic!("{page:?}") };
        seen += page.rows.len();
        after = page.rows.last().unwrap().id;
        if !page.more {
            break;
        }
    }
    assert_eq!((seen, after), (crate::replay::MAX_PAST, id), "in pages, each row once");
}
