//! The real server on a real socket, with clients that behave and clients that do not.
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
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nightlatch_model::Timestamp;
use nightlatch_userdbd::{Answerer, BindError, Server, Source, Stopper, probe};
use serde_json::json;
use stage::{Files, PATIENCE, SERVICE, ask, connect, files, is_no_record, question, receive};

struct Running {
    files: Files,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    said: Arc<Mutex<Vec<String>>>,
}

fn answerer(files: &Files, said: &Arc<Mutex<Vec<String>>>) -> Answerer {
    let sink = Arc::clone(said);
    let say = Arc::new(move |line: &str| sink.lock().unwrap().push(line.to_owned()));
    let source = Source::new(files.snapshot.clone(), files.passwd.clone(), say);
    Answerer::new(source, SERVICE, Arc::new(|| Timestamp(1_000_000)))
}

fn run(files: Files) -> Running {
    let said = Arc::default();
    let server = Server::bind(&files.socket, answerer(&files, &said), Arc::new(|_: &str| {})).unwrap();
    let stopper = server.stopper();
    let thread = Some(thread::spawn(move || server.run()));
    Running { files, stopper, thread, said }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

#[test]
fn a_connection_serves_many_calls_also_pipelined() {
    let server = run(files(3, "root:x:0:0::/:\n"));
    let mut stream = connect(&server.files.socket);
    for _ in 0..100 {
        assert_eq!(ask(&mut stream, "known1@contoso.com")["parameters"]["record"]["locked"], json!(false));
        assert!(is_no_record(&ask(&mut stream, "root")));
    }
    let both = question("known1@contoso.com") + &question("stranger@contoso.com") + &question("root");
    stream.write_all(both.as_bytes()).unwrap();
    assert_eq!(receive(&mut stream).unwrap()["parameters"]["record"]["locked"], json!(false));
    assert_eq!(receive(&mut stream).unwrap()["parameters"]["record"]["locked"], json!(true));
    assert!(is_no_record(&receive(&mut stream).unwrap()));
    for byte in question("known2@contoso.com").as_bytes().chunks(3) {
        stream.write_all(byte).unwrap();
    }
    assert!(receive(&mut stream).unwrap()["parameters"]["record"]["uid"].is_u64());
    probe(&server.files.socket, SERVICE, PATIENCE).unwrap();
}

/// Clients that connect and say nothing, or half a request, as a stopped process would.
#[test]
fn mute_clients_do_not_delay_others_and_are_cut() {
    let server = run(files(3, ""));
    let mut mute: Vec<UnixStream> = Vec::new();
    for at in 0..600 {
        let mut stream = connect(&server.files.socket);
        if at % 2 == 0 {
            stream.write_all(b"{\"method\":\"io.systemd.Us").unwrap();
        }
        mute.push(stream);
        if at % 50 == 0 {
            let start = Instant::now();
            ask(&mut connect(&server.files.socket), "known1@contoso.com");
            assert!(start.elapsed() < Duration::from_secs(1), "{at}: {:?}", start.elapsed());
        }
    }
    for (at, stream) in mute.iter_mut().enumerate() {
        assert_eq!(receive(stream), None, "{at}");
    }
    ask(&mut connect(&server.files.socket), "known1@contoso.com");
}

#[test]
fn requests_that_never_end_are_refused() {
    let server = run(files(1, ""));
    let mut long = connect(&server.files.socket);
    let _ = long.write_all(&vec![b' '; 200_000]);
    assert_eq!(receive(&mut long), None);
    let mut padded = connect(&server.files.socket);
    let _ = padded.write_all((" ".repeat(64 * 1024) + &question("root")).as_bytes());
    assert_eq!(receive(&mut padded), None, "valid JSON, but too large");
    let mut wordy = connect(&server.files.socket);
    wordy.write_all((" ".repeat(60 * 1024) + &question("root")).as_bytes()).unwrap();
    assert!(is_no_record(&receive(&mut wordy).unwrap()), "large, but within the limit");
    let mut garbage = connect(&server.files.socket);
    garbage.write_all(b"\xff\xfe\0").unwrap();
    assert_eq!(receive(&mut garbage), None);
}

/// One byte at a time keeps each pause short; the number of pieces ends it.
#[test]
fn a_trickle_is_ended() {
    let server = run(files(1, ""));
    let mut stream = connect(&server.files.socket);
    let start = Instant::now();
    while stream.write_all(b" ").is_ok() {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(is_no_record(&ask(&mut connect(&server.files.socket), "root")));
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let server = run(files(10_000, ""));
    let all = json!({ "method": "io.systemd.UserDatabase.GetUserRecord", "parameters": { "service": SERVICE }, "more": true });
    let mut lazy = connect(&server.files.socket);
    lazy.write_all(format!("{all}\0").as_bytes()).unwrap();
    let mut eager = connect(&server.files.socket);
    eager.write_all(format!("{all}\0").as_bytes()).unwrap();
    let mut whole = Vec::new();
    let mut chunk = [0_u8; 65_536];
    while whole.iter().rev().take(200_000).filter(|byte| **byte == 0).count() == 0 || !ends(&whole) {
        let read = match eager.read(&mut chunk) {
            // A wait with a limit is broken off when the machine was stopped for a moment (signal(7)).
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert_ne!(read, 0, "an enumeration that is read is not cut");
        whole.extend_from_slice(&chunk[..read]);
    }
    assert_eq!(whole.iter().filter(|byte| **byte == 0).count(), 10_000);
    // What was written before the limit can still be read; then comes the end, not the rest.
    thread::sleep(Duration::from_millis(500));
    let mut got = 0;
    loop {
        match lazy.read(&mut chunk) {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(read) => got += read,
        }
    }
    assert!(got < whole.len(), "{got}");
}

/// The last message of a stream does not say `continues`.
fn ends(bytes: &[u8]) -> bool {
    let Some(body) = bytes.strip_suffix(b"\0") else { return false };
    let start = body.iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
    !String::from_utf8_lossy(&body[start..]).contains("\"continues\":true")
}

/// The accounts of this very machine, then random names: none may hang, none may be answered
/// that must not.
#[test]
fn local_and_random_names_are_answered_in_50_ms() {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let server = run(files(10_000, &passwd));
    ask(&mut connect(&server.files.socket), "root");
    let names: Vec<&str> = passwd.lines().filter_map(|line| line.split(':').next()).collect();
    assert!(names.contains(&"root"));
    // A name that is slow stays slow; a machine that was busy for a moment is not.
    let timed = |name: &str| {
        for _ in 0..3 {
            let start = Instant::now();
            let answer = ask(&mut connect(&server.files.socket), name);
            if start.elapsed() < Duration::from_millis(50) {
                return answer;
            }
        }
        panic!("{name:?} took longer than 50 ms three times");
    };
    for name in names {
        for asked in [name.to_owned(), name.to_uppercase(), format!("{name}@contoso.com")] {
            assert!(is_no_record(&timed(&asked)), "{asked}");
        }
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..10_000 {
        let mut name = String::new();
        for _ in 0..=(round % 40) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            name.push(char::from_u32(u32::try_from(state % 0x180).unwrap()).unwrap());
        }
        assert!(is_no_record(&timed(&name)), "{name:?}");
    }
}

#[test]
fn sixty_at_once_are_all_answered() {
    let server = run(files(100, ""));
    thread::scope(|scope| {
        for at in 0..60 {
            let socket = &server.files.socket;
            scope.spawn(move || {
                for _ in 0..30 {
                    let answer = ask(&mut connect(socket), &format!("known{at}@contoso.com"));
                    let uid = nightlatch_model::UID_LOW + at;
                    assert_eq!(answer["parameters"]["record"]["uid"], json!(uid));
                }
            });
        }
    });
}

#[test]
fn the_socket_is_open_to_all_and_replaces_a_stale_one() {
    let files = files(1, "");
    drop(UnixListener::bind(&files.socket).unwrap());
    let server = run(files);
    let kind = fs::symlink_metadata(&server.files.socket).unwrap();
    assert!(kind.file_type().is_socket());
    assert_eq!(kind.permissions().mode() & 0o777, 0o666);
    assert!(is_no_record(&ask(&mut connect(&server.files.socket), "root")));
    assert_eq!(server.said.lock().unwrap().len(), 1, "the snapshot was accepted, once");
}

#[test]
fn nothing_but_a_socket_is_ever_replaced() {
    let files = files(1, "");
    fs::write(&files.socket, "precious").unwrap();
    let bound = Server::bind(&files.socket, answerer(&files, &Arc::default()), Arc::new(|_: &str| {}));
    assert!(matches!(bound, Err(BindError::InTheWay(_))));
    assert_eq!(fs::read_to_string(&files.socket).unwrap(), "precious");
}
