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

use nightlatch_wire::Message;
use nightlatch_wire::session::{Origin, State, Target};
use stage::{PROGRAM, Stage, close, open, pending, process, wait_for};

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
    assert!(began.elapsed() < Duration::from_secs(1));
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
