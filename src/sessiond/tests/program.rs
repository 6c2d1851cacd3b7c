//! The installed program with real processes: the life of a session from its announcement to its end record.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test harness: it fails by panicking and measures time"
)]

mod stage;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nightlatch_sessiond::process::{ProcFs, Processes};
use nightlatch_wire::Message;
use nightlatch_wire::session::{Origin, Say, State, Target};
use rustix::pty::OpenptFlags;
use stage::{Own, PROGRAM, Stage, close, open, pending, process, wait_for};

/// Each test has people of its own: they share one process table.
const UIDS: u32 = 1_900_100_000;

#[test]
fn wrong_arguments_are_named() {
    for (args, word) in [
        (vec!["--frob"], "--frob"),
        (vec!["--session"], "`--session` needs a value"),
        (vec!["--session", "/x"], "go together"),
        (vec!["--root-uid", "root"], "no user id"),
        (vec!["--help"], "usage"),
    ] {
        let output = Command::new(PROGRAM).args(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{args:?}");
    }
    let output = Command::new(PROGRAM).args(["--daemon-uid", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no session.sock"));
}

#[test]
fn a_login_is_announced_opened_listed_and_closed() {
    let (stage, uid) = (Stage::new(), UIDS + 1);
    let mut monitor = stage.monitor(Some(uid));
    let refused = stage.session(&Message::Open(open(&monitor, uid)));
    assert!(matches!(refused, Message::Deny { code, .. } if code == "no_pending"));
    let id = stage.log_in(&monitor, uid);
    assert_eq!(stage.session(&Message::Open(open(&monitor, uid))), Message::Opened(id), "the same again");
    let rows = stage.rows_of(uid, false);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].id, rows[0].uid, rows[0].state), (id, uid, State::Open));
    assert_eq!((rows[0].origin, rows[0].monitor), (Origin::Login, monitor.parent()));
    assert_eq!(stage.session(&Message::Close(close(&monitor, uid))), Message::Done);
    monitor.0.kill().unwrap();
    monitor.0.wait().unwrap();
    wait_for("the end record", || stage.rows_of(uid, true).len() == 1);
    let row = &stage.rows_of(uid, true)[0];
    assert_eq!((row.id, row.state, row.reason.as_str()), (id, State::Ended, "closed"));
    let journal = stage.journal().join("\n");
    assert!(journal.contains(&format!("session {id} of u{uid}@contoso.com began (from 10.0.0.9, ref abc)")));
    assert!(journal.contains(&format!("session {id} of u{uid}@contoso.com ended: closed")));
}

#[test]
fn a_session_ends_with_everything_of_it_and_nothing_else() {
    let (stage, uid) = (Stage::new(), UIDS + 2);
    let mut monitor = stage.monitor(Some(uid));
    let mut other = process(uid, Some(uid));
    let id = stage.log_in(&monitor, uid);
    assert_eq!(stage.end(Target::Session(id + 1), 0, "revoked"), Message::Err("unknown".into()));
    let began = Instant::now();
    assert_eq!(stage.end(Target::Session(id), 0, "revoked"), Message::Done);
    wait_for("the monitor's end", || monitor.ended());
    assert!(began.elapsed() < Duration::from_secs(5));
    wait_for("the end record", || stage.rows_of(uid, true).iter().any(|row| row.id == id));
    assert_eq!(stage.rows_of(uid, true)[0].reason, "revoked");
    assert!(!other.ended(), "a process of another session of the same person lives");
    assert_eq!(stage.end(Target::Person(uid), 0, "disabled"), Message::Done);
    wait_for("the other's end", || other.ended());
    wait_for("the request", || stage.path(&format!("run/linger/{uid}")).exists());
    wait_for("all rows to end", || stage.rows_of(uid, false).is_empty());
}

#[test]
fn what_was_under_way_survives_a_crash() {
    let (mut stage, uid) = (Stage::new(), UIDS + 3);
    let (mut stays, mut goes, mut ending) =
        (stage.monitor(Some(uid)), stage.monitor(Some(uid + 1)), stage.monitor(Some(uid + 2)));
    let ids = [stage.log_in(&stays, uid), stage.log_in(&goes, uid + 1), stage.log_in(&ending, uid + 2)];
    let announced = stage.monitor(Some(uid + 3));
    assert_eq!(stage.control(&Message::Pending(pending(announced.parent(), uid + 3))), Message::Done);
    assert_eq!(stage.end(Target::Session(ids[2]), 2, "revoked"), Message::Done);
    stage.crash();
    goes.0.kill().unwrap();
    goes.0.wait().unwrap();
    let ledger = stage.path("state/sessions.jsonl");
    let whole = fs::read(&ledger).unwrap();
    fs::write(&ledger, [&whole[..], b"{\"boot\":\"torn"].concat()).unwrap();
    stage.start();
    let opened = stage.session(&Message::Open(open(&announced, uid + 3)));
    assert!(matches!(opened, Message::Opened(id) if id > ids[2]), "the yes and the numbers are remembered");
    wait_for("the order to be carried out", || ending.ended());
    for (at, reason) in [(1, "connection_lost"), (2, "revoked")] {
        wait_for("the end record", || stage.rows(true).iter().any(|row| row.id == ids[at]));
        let ended: Vec<_> = stage.rows(true).into_iter().filter(|row| row.id == ids[at]).collect();
        assert_eq!((ended.len(), ended[0].reason.as_str()), (1, reason));
    }
    assert!(!stays.ended());
    assert!(stage.rows(false).iter().any(|row| row.id == ids[0] && row.state == State::Open));
}

/// As it runs on a node: not root, and with the right to signal and no other.
#[test]
fn the_right_to_signal_is_enough() {
    let (mut stage, uid) = (Stage::unstarted(), UIDS + 20);
    let own = 64_321;
    for name in ["", "state", "run"] {
        std::os::unix::fs::chown(stage.path(name), Some(own), Some(own)).unwrap();
    }
    let id = own.to_string();
    let drop_all = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"];
    let keep_kill = ["--inh-caps=-all,+kill", "--ambient-caps=-all,+kill", "--bounding-set=-all,+kill"];
    stage.by = drop_all.iter().chain(&keep_kill).map(|word| (*word).to_owned()).collect();
    std::os::unix::fs::chown(stage.path("journal"), Some(own), Some(own)).unwrap();
    stage.start();
    let status =
        fs::read_to_string(format!("/proc/{}/status", stage.program.as_ref().unwrap().0.id())).unwrap();
    assert!(status.contains("CapEff:\t0000000000000020"), "{status}");
    let mut monitor = stage.monitor(Some(uid));
    let (mut user, mut root) = (process(uid, Some(uid)), process(uid, None));
    stage.log_in(&monitor, uid);
    assert_eq!(stage.end(Target::Person(uid), 0, "disabled"), Message::Done);
    wait_for("the end", || monitor.ended() && user.ended() && root.ended());
    wait_for("the end record", || stage.rows_of(uid, true).len() == 1);
    assert_eq!(stage.rows_of(uid, true)[0].escaped, "");
}

#[test]
fn a_login_that_never_opens_is_ended() {
    let (stage, uid) = (Stage::new(), UIDS + 30);
    let mut monitor = stage.monitor(None);
    let mut announced = pending(monitor.parent(), uid);
    announced.open_within_s = 1;
    let began = Instant::now();
    assert_eq!(stage.control(&Message::Pending(announced)), Message::Done);
    wait_for("the end of the connection", || monitor.ended());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(950) && took < Duration::from_secs(10), "{took:?}");
    assert!(stage.journal().join("\n").contains(&format!("session never opened: u{uid}@contoso.com")));
}

/// Processes with a login uid of ours that nobody announced, and a break-glass account's.
#[test]
fn what_nobody_announced_is_seen() {
    let (stage, uid) = (Stage::new(), UIDS + 40);
    fs::write(stage.path("break-glass"), "rescue\n").unwrap();
    let mut left = process(uid, Some(uid));
    let mut rescue = process(1_001, Some(1_001));
    let audit = open(&rescue, 1_001).audit_session;
    wait_for("the adopted row", || stage.rows_of(uid, false).len() == 1);
    assert_eq!(stage.rows_of(uid, false)[0].origin, Origin::Adopted);
    let glass = || stage.rows_of(1_001, false).into_iter().find(|row| row.audit_session == audit);
    wait_for("the break-glass row", || glass().is_some());
    let glass = glass().unwrap();
    assert_eq!((glass.origin, glass.user.as_str()), (Origin::BreakGlass, "rescue"));
    let warning = "PRIORITY=4\nSYSLOG_IDENTIFIER=nightlatch-sessiond\n\
                   MESSAGE=the break-glass account `rescue` is in use";
    assert!(stage.journal().iter().any(|entry| entry.starts_with(warning)));
    assert_eq!(stage.end(Target::Session(glass.id), 0, "x"), Message::Err("refused".into()));
    for child in [&mut left, &mut rescue] {
        assert!(!child.ended());
        child.0.kill().unwrap();
        child.0.wait().unwrap();
    }
    wait_for("both ends", || {
        stage.rows_of(uid, true).len() == 1 && stage.rows(true).iter().any(|row| row.id == glass.id)
    });
    assert_eq!(stage.rows_of(uid, true)[0].reason, "closed");
}

/// A disk that takes no more: nothing opens, and what is open is ended all the same.
#[test]
fn a_full_disk_refuses_opens_and_nothing_else() {
    let (mut stage, uid) = (Stage::unstarted(), UIDS + 50);
    // Files of at most 4 KiB; a write beyond that fails as on a full disk.
    let limit = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    stage.by = ["sh", "-c", limit].map(str::to_owned).to_vec();
    stage.start();
    let mut monitors = Vec::new();
    let denied = loop {
        let monitor = stage.monitor(Some(uid));
        assert_eq!(stage.control(&Message::Pending(pending(monitor.parent(), uid))), Message::Done);
        match stage.session(&Message::Open(open(&monitor, uid))) {
            Message::Opened(_) => monitors.push(monitor),
            denied => break denied,
        }
        assert!(monitors.len() < 20);
    };
    assert!(matches!(&denied, Message::Deny { code, .. } if code == "session_not_recorded"), "{denied:?}");
    assert_eq!(stage.end(Target::Person(uid), 0, "disabled"), Message::Done);
    wait_for("every monitor's end", || monitors.iter_mut().all(stage::Own::ended));
    wait_for("every row's end", || stage.rows_of(uid, true).len() == monitors.len());
    let journal = stage.journal().join("\n");
    assert_eq!(journal.matches("sessions cannot be recorded").count(), 1);
    stage.by.clear();
    stage.crash();
    stage.start();
    // One end record each, also of those that were not written.
    wait_for("the records of what ended", || stage.rows_of(uid, true).len() == monitors.len());
}

/// A real terminal: listed by its number, spoken to, and spoken to at no cost while its owner has stopped it.
#[test]
fn a_terminal_is_listed_and_spoken_to() {
    let (stage, uid) = (Stage::new(), UIDS + 60);
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::grantpt(&ours).unwrap();
    rustix::pty::unlockpt(&ours).unwrap();
    let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    std::os::unix::fs::chown(&name, Some(uid), None).unwrap();
    let theirs = fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
    let (monitor, without) = (stage.monitor_on(uid, &theirs), stage.monitor(Some(uid)));
    let (id, other) = (stage.log_in(&monitor, uid), stage.log_in(&without, uid));
    let ttys: Vec<_> = stage.rows_of(uid, false).into_iter().map(|row| (row.id, row.ttys)).collect();
    assert_eq!(ttys, [(id, name.trim_start_matches("/dev/").to_owned()), (other, String::new())]);
    let say = |id| stage.control(&Message::Say(Say { id, text: "five minutes".into() }));
    assert_eq!((say(other), say(id)), (Message::Done, Message::Done));
    let mut text = [0_u8; 256];
    let read = rustix::io::read(&ours, &mut text).unwrap();
    let heard = String::from_utf8_lossy(&text[..read]).into_owned();
    assert_eq!(heard.matches("nightlatch: five minutes").count(), 1, "{heard:?}");
    rustix::termios::tcflow(&theirs, rustix::termios::Action::OOff).unwrap();
    let began = Instant::now();
    assert_eq!(say(id), Message::Done);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(stage.end(Target::Session(id), 0, "revoked"), Message::Done);
    wait_for("the end", || stage.rows_of(uid, true).iter().any(|row| row.id == id));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// Shells that ignore TERM and start processes as fast as they can, each in a session of its own; bounded, so that
/// the machine is left as it was whatever the test finds.
#[test]
fn a_real_fork_storm_is_outrun() {
    let (stage, uid) = (Stage::new(), UIDS + 70);
    let mut monitor = stage.monitor(Some(uid));
    let id = stage.log_in(&monitor, uid);
    let storm = "trap '' TERM HUP; for at in $(seq 400); do (setsid sleep 20 &); done; sleep 20";
    let line =
        format!("echo {uid} > /proc/self/loginuid; exec setpriv --reuid {uid} --clear-groups sh -c \"$0\"");
    let mut storms: Vec<Own> =
        (0..4).map(|_| Own(Command::new("sh").args(["-c", &line, storm]).spawn().unwrap())).collect();
    let table = ProcFs::default();
    let theirs = || {
        let pids =
            table.pids().into_iter().filter(|pid| table.owner(*pid).is_some_and(|one| one.loginuid == uid));
        pids.filter(|pid| table.stat(*pid).is_some_and(|stat| !stat.dead)).count()
    };
    wait_for("a storm", || theirs() > 100);
    let began = Instant::now();
    assert_eq!(stage.end(Target::Person(uid), 0, "revoked"), Message::Done);
    wait_for("calm", || theirs() == 0);
    let took = began.elapsed();
    wait_for("the record", || stage.rows_of(uid, true).iter().any(|row| row.id == id));
    assert_eq!(stage.rows_of(uid, true)[0].escaped, "");
    assert!(took < Duration::from_secs(8), "{took:?}");
    wait_for("their burial", || monitor.ended() && storms.iter_mut().all(Own::ended));
    let journal = stage.journal().join("\n");
    let swept =
        journal.split("revoked (").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(swept.is_some_and(|swept| swept > 100), "{swept:?}");
}
