//! The two sockets: whom they serve, what they answer, and what no peer can do to them.
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

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nightlatch_wire::session::{Close, End, List, NO_DIGEST, Observed, Open, Pending, Say, Target};
use nightlatch_wire::{Account, Auth, Message, Offer, Parent, read_frame, write_frame};
use stage::{PATIENCE, Stage, ask};

const SOCKETS: [&str; 2] = ["session.sock", "control.sock"];
const INSIDE: &str = "NIGHTLATCH_ASK_FROM_INSIDE";
const LIST: Message = Message::List(List { after: 0, ended: false });

/// One of every verb.
fn verbs() -> Vec<(Message, Option<&'static str>)> {
    let text = || "x".to_owned();
    let monitor = Parent { pid: 4_000_000, start: 1 };
    let offer =
        Offer { user: text(), uid: 1, key_type: text(), key: text(), key_len: 1, parents: vec![monitor] };
    let account = Account {
        user: text(),
        service: text(),
        rhost: text(),
        tty: text(),
        loginuid: 1,
        audit_session: 1,
        parents: vec![monitor],
    };
    let auth = Auth { user: text(), service: text(), rhost: text(), parents: vec![monitor] };
    let observed = Observed { user: text(), service: text(), rhost: text(), auth: text() };
    let open = Open {
        user: text(),
        rhost: text(),
        auth: text(),
        audit_session: 1,
        loginuid: 1,
        parents: vec![monitor],
    };
    let close = Close { user: text(), audit_session: 1, parents: vec![monitor] };
    let pending = Pending {
        monitor,
        user: text(),
        uid: 1_900_000_000,
        oid: text(),
        correlation: text(),
        certificate: text(),
        digest: NO_DIGEST,
        rhost: text(),
        until: 1,
        admin: false,
        degraded: false,
        open_within_s: 1,
    };
    let end = End { target: Target::Session(0), grace_s: 0, reason: text(), text: text() };
    let page = nightlatch_wire::session::Sessions { rows: Vec::new(), more: false };
    let (pam, daemon) = (Some("session.sock"), Some("control.sock"));
    vec![
        (Message::Offer(offer), None),
        (Message::Line(text()), None),
        (Message::None, None),
        (Message::Account(account), None),
        (Message::Permit { until: 1, admin: false }, None),
        (Message::Deny { code: text(), text: text() }, None),
        (Message::Auth(auth), None),
        (Message::Text(text()), None),
        (Message::Err(text()), None),
        (Message::Open(open), pam),
        (Message::Opened(1), None),
        (Message::Close(close), pam),
        (Message::Done, None),
        (Message::Observed(observed), None),
        (Message::Pending(pending), daemon),
        (LIST, daemon),
        (Message::Sessions(page), None),
        (Message::Say(Say { id: 0, text: text() }), daemon),
        (Message::End(end), daemon),
    ]
}

#[test]
fn each_socket_answers_its_own_verbs_only() {
    let stage = Stage::new();
    for (verb, home) in verbs() {
        for socket in SOCKETS {
            let answer = stage.ask(socket, &verb);
            let unsupported = answer == Message::Err("unsupported".into());
            assert_eq!(unsupported, home != Some(socket), "{socket}: {verb:?} -> {answer:?}");
        }
    }
    for socket in SOCKETS {
        for (frame, word) in [([0, 0, 0, 2, 9, 1], "unsupported"), ([0, 0, 0, 2, 1, 99], "unsupported")] {
            let mut stream = UnixStream::connect(stage.path(socket)).unwrap();
            stream.write_all(&frame).unwrap();
            assert_eq!(read_frame(&mut stream).unwrap(), Message::Err(word.into()));
        }
    }
}

/// Whether a connection is closed without a byte.
fn is_turned_away(path: &Path) -> bool {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = write_frame(&mut stream, &LIST);
    loop {
        match stream.read(&mut [0_u8]) {
            // A wait with a limit is broken off when the machine was stopped for a moment (signal(7)).
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            read => return !matches!(read, Ok(1..)),
        }
    }
}

#[test]
fn another_uid_is_turned_away() {
    let mut stage = Stage::unstarted();
    stage.args = ["--root-uid", "4711", "--daemon-uid", "4712"].map(str::to_owned).to_vec();
    stage.start();
    for socket in SOCKETS {
        assert!(is_turned_away(&stage.path(socket)), "{socket}");
    }
    let journal = stage.journal().join("\n");
    assert!(journal.contains("session.sock: uid 0 may not use this socket; it serves uid 4711"));
    assert!(journal.contains("control.sock: uid 0 may not use this socket; it serves uid 4712"));
}

/// Root of a container that has the socket is not the root of the node.
#[test]
fn root_of_another_namespace_is_not_root() {
    if let Some(path) = std::env::var_os(INSIDE) {
        assert!(is_turned_away(Path::new(&path)));
        return;
    }
    let stage = Stage::new();
    let path = stage.path("control.sock");
    assert!(!is_turned_away(&path), "out here root is root");
    let mut nested = Command::new("unshare");
    nested.args(["--pid", "--fork"]).arg(std::env::current_exe().unwrap());
    let done = nested.args(["--exact", "root_of_another_namespace_is_not_root"]).env(INSIDE, &path).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"));
    assert!(stage.journal().join("\n").contains("lives in another pid namespace"));
}

#[test]
fn garbage_is_answered_or_cut_and_ends_nothing() {
    let stage = Stage::new();
    // xorshift64 from a fixed seed: the same bytes each time.
    let mut seed = 88_172_645_463_325_252_u64;
    let mut roll = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut malformed, mut cut) = (0, 0);
    for round in 0..1_500 {
        let mut stream = UnixStream::connect(stage.path(SOCKETS[round % 2])).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let size = usize::try_from(roll() % 300).unwrap();
        let mut body: Vec<u8> = (0..size).map(|_| roll().to_le_bytes()[0]).collect();
        // Two of three have a sound envelope, so that the fields are reached.
        if round % 3 != 0 && size >= 2 {
            body[0] = 1;
            body[1] = 10 + u8::try_from(roll() % 10).unwrap();
            let prefix = u32::try_from(size).unwrap().to_be_bytes();
            body.splice(0..0, prefix);
        }
        let _ = stream.write_all(&body);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        match read_frame(&mut stream) {
            Ok(Message::Err(word)) if word == "malformed" => malformed += 1,
            Ok(_) => {}
            Err(_) => cut += 1,
        }
    }
    assert!(malformed > 1_000 && cut > 0, "{malformed} malformed, {cut} cut");
    assert!(matches!(stage.control(&LIST), Message::Sessions(_)));
}

/// Peers that send half a frame, or drip it, hold their place for two seconds in all.
#[test]
fn half_sent_frames_hold_a_place_for_two_seconds() {
    let stage = Stage::new();
    let began = Instant::now();
    let mut slow: Vec<UnixStream> = (0..64)
        .map(|_| {
            let mut stream = UnixStream::connect(stage.path("control.sock")).unwrap();
            stream.write_all(&[0, 0, 1, 0, 1, 16]).unwrap();
            stream
        })
        .collect();
    assert!(
        matches!(stage.session(&Message::Close(stage_close())), Message::Done),
        "the other socket is free"
    );
    assert!(began.elapsed() < Duration::from_millis(1_900));
    let path = stage.path("control.sock");
    let waits = thread::spawn(move || ask(&path, &LIST));
    while !waits.is_finished() && began.elapsed() < PATIENCE {
        for stream in &mut slow {
            let _ = stream.write_all(&[0]);
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(matches!(waits.join().unwrap(), Message::Sessions(_)));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(10), "{took:?}");
}

fn stage_close() -> Close {
    Close { user: "x".into(), audit_session: 1, parents: vec![] }
}

/// 2,000 connections from 8 threads, a third of them gone before their answer: all others are answered, no
/// descriptor stays, and no more threads than may wait for a next question.
#[test]
fn two_thousand_connections_leave_nothing_behind() {
    let stage = Stage::new();
    let pid = stage.program.as_ref().unwrap().0.id();
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    stage.rows(false);
    let before = (count("fd"), count("task"));
    let askers: Vec<_> = (0..8)
        .map(|asker| {
            let path = stage.path("control.sock");
            thread::spawn(move || {
                for round in 0..250 {
                    if (asker + round) % 3 == 0 {
                        let mut stream = UnixStream::connect(&path).unwrap();
                        let _ = write_frame(&mut stream, &LIST);
                    } else {
                        assert!(matches!(ask(&path, &LIST), Message::Sessions(_)));
                    }
                }
            })
        })
        .collect();
    for asker in askers {
        asker.join().unwrap();
    }
    let threads = before.1 + nightlatch_sessiond::server::SPARE_THREADS;
    stage::wait_for("the threads to end", || count("task") <= threads && count("fd") <= before.0);
}

/// Out of descriptors, the loops wait and go on.
#[test]
fn running_out_of_descriptors_is_survived() {
    let mut stage = Stage::unstarted();
    stage.by = ["sh", "-c", "ulimit -n 24 && exec \"$0\" \"$@\""].map(str::to_owned).to_vec();
    stage.start();
    let mute: Vec<_> = (0..60).map(|_| UnixStream::connect(stage.path("control.sock")).unwrap()).collect();
    thread::sleep(Duration::from_millis(300));
    drop(mute);
    // Who comes while those that hung up are still being noticed may be turned away: no descriptor is left to
    // look at them with.
    let path = stage.path("control.sock");
    stage::wait_for("an answer", || {
        UnixStream::connect(&path).is_ok_and(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let asked = write_frame(&mut stream, &LIST).is_ok();
            asked && matches!(read_frame(&mut stream), Ok(Message::Sessions(_)))
        })
    });
    assert!(stage.journal().join("\n").contains("control.sock: cannot accept, trying again"));
}
