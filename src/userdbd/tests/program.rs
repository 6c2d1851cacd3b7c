//! The installed program: its arguments, its signs of life and its memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test harness: it fails by panicking and measures time"
)]

mod stage;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stage::{Files, PATIENCE, ask, connect, files, is_no_record};

const PROGRAM: &str = env!("CARGO_BIN_EXE_userdbd");

/// A child that ends with its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program under a `systemd` of our own and waits until it says that it is ready.
fn start(files: &Files, watchdog: Duration) -> (Program, UnixDatagram) {
    start_as(Command::new(PROGRAM), files, watchdog)
}

fn start_as(mut command: Command, files: &Files, watchdog: Duration) -> (Program, UnixDatagram) {
    let notify = files.folder.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    command.arg("--socket").arg(&files.socket).arg("--snapshot").arg(&files.snapshot);
    command.arg("--passwd").arg(&files.passwd).env("NOTIFY_SOCKET", &notify);
    command.env("WATCHDOG_USEC", watchdog.as_micros().to_string()).stderr(Stdio::null());
    let program = Program(command.spawn().unwrap());
    assert_eq!(message(&systemd).unwrap(), "READY=1\nWATCHDOG=1");
    (program, systemd)
}

fn message(systemd: &UnixDatagram) -> Option<String> {
    let mut buffer = [0_u8; 64];
    let read = loop {
        match systemd.recv(&mut buffer) {
            // A wait with a limit is broken off when the machine was stopped for a moment (signal(7)).
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            read => break read.ok()?,
        }
    };
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

fn resident_kib(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn wrong_arguments_are_named() {
    for (args, word) in [
        (vec!["--frob"], "--frob"),
        (vec!["--socket"], "`--socket` needs a path"),
        (vec!["--snapshot", "/x", "extra"], "extra"),
        (vec!["--help"], "usage"),
    ] {
        let output = Command::new(PROGRAM).args(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{args:?}");
        assert!(output.stdout.is_empty());
    }
    let output = Command::new(PROGRAM).args(["--socket", "/nonexistent/folder/x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen on /nonexistent/folder/x"));
}

/// A process that is stopped sends no sign of life, so that systemd replaces it.
#[test]
fn signs_of_life_end_when_the_program_is_stopped() {
    let files = files(1, "");
    let (program, systemd) = start(&files, Duration::from_millis(300));
    for _ in 0..3 {
        assert_eq!(message(&systemd).unwrap(), "WATCHDOG=1");
    }
    let signal = |name: &str| {
        let pid = program.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    // What was under way when the signal came.
    systemd.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while message(&systemd).is_some() {}
    assert_eq!(message(&systemd), None);
    signal("-CONT");
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(message(&systemd).unwrap(), "WATCHDOG=1");
}

/// The socket gone from under a healthy process is no life either.
#[test]
fn a_socket_that_cannot_be_reached_is_no_sign_of_life() {
    let files = files(1, "");
    let (_program, systemd) = start(&files, Duration::from_millis(150));
    fs::remove_file(&files.socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while message(&systemd).is_some() {}
    assert_eq!(message(&systemd), None);
}

/// With no descriptor left the program neither ends nor spins nor stops answering: the oldest
/// connections make room.
#[test]
fn running_out_of_descriptors_is_survived() {
    let files = files(1, "");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 24 && exec \"$0\" \"$@\"", PROGRAM]);
    let (_program, systemd) = start_as(limited, &files, Duration::from_secs(3));
    let mute: Vec<_> = (0..100).map(|_| connect(&files.socket)).collect();
    for _ in 0..5 {
        assert!(is_no_record(&ask(&mut connect(&files.socket), "root")));
    }
    drop(mute);
    for _ in 0..3 {
        assert_eq!(message(&systemd).unwrap(), "WATCHDOG=1");
    }
    assert!(is_no_record(&ask(&mut connect(&files.socket), "root")));
}

/// Spraying names leaves nothing behind: the same answers, and no more memory.
#[test]
fn ten_thousand_sprayed_names_leave_no_trace() {
    let files = files(10, "root:x:0:0::/:\n");
    let (program, _systemd) = start(&files, Duration::from_secs(20));
    let mut stream = connect(&files.socket);
    let mut spray = |prefix: &str| -> Vec<Value> {
        (0..10_000).map(|at| ask(&mut stream, &format!("{prefix}{at}@contoso.com"))).collect()
    };
    spray("warm");
    let before = resident_kib(&program);
    let first = spray("user");
    let second = spray("user");
    let after = resident_kib(&program);
    assert!(first.iter().all(|answer| answer["parameters"]["record"]["locked"] == Value::Bool(true)));
    assert!(first == second, "an answer changed");
    assert!(after <= before + 512, "{before} KiB before, {after} KiB after");
    assert!(is_no_record(&ask(&mut connect(&files.socket), "root@contoso.com")));
}
