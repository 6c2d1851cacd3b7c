//! Signs of life: sent to the right place, at the right pace, and only when true.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::*;

const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(20);

fn silent() -> Say {
    Arc::new(|_: &str| {})
}

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0_u8; 256];
    socket.set_read_timeout(Some(LATE)).unwrap();
    let read = loop {
        match socket.recv(&mut buffer) {
            // A wait with a limit is broken off when the machine was stopped for a moment (signal(7)).
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            read => break read.unwrap(),
        }
    };
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

#[test]
fn both_kinds_of_notify_socket_are_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let by_path = UnixDatagram::bind(&path).unwrap();
    Notifier::new(path.as_os_str()).unwrap().send("READY=1").unwrap();
    assert_eq!(receive(&by_path), "READY=1");
    let name = format!("nightlatch-test-{}", std::process::id());
    let abstract_name =
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
    Notifier::new(OsStr::new(&format!("@{name}"))).unwrap().send("WATCHDOG=1").unwrap();
    assert_eq!(receive(&abstract_name), "WATCHDOG=1");
    for wrong in ["", "relative", "vsock:2:1234"] {
        assert!(Notifier::new(OsStr::new(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn the_pace_is_a_third_of_the_deadline() {
    let third = Some(Duration::from_micros(500_000) / 3);
    assert_eq!(watchdog_interval(Some("500000"), None, 7), third);
    assert_eq!(watchdog_interval(Some("500000"), Some("7"), 7), third);
    assert_eq!(watchdog_interval(Some("500000"), Some("8"), 7), None, "meant for another process");
    for none in [None, Some(""), Some("0"), Some("-1"), Some("soon")] {
        assert_eq!(watchdog_interval(none, None, 7), None, "{none:?}");
    }
}

#[test]
fn readiness_waits_for_the_first_answer_and_life_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let notifier = Notifier::new(path.as_os_str()).unwrap();
    let (stop, stopped) = mpsc::channel();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    // Fails twice, answers twice, then fails for ever.
    let check = move || match count.fetch_add(1, Ordering::SeqCst) {
        2 | 3 => Ok(()),
        _ => Err(ProbeError::Wrong),
    };
    let watcher =
        thread::spawn(move || watch(check, &notifier, Duration::from_millis(1), &stopped, &silent()));
    assert_eq!(receive(&systemd), "READY=1\nWATCHDOG=1");
    assert_eq!(receive(&systemd), "WATCHDOG=1");
    while asked.load(Ordering::SeqCst) < 10 {
        thread::yield_now();
    }
    stop.send(()).unwrap();
    watcher.join().unwrap();
    systemd.set_nonblocking(true).unwrap();
    let error = systemd.recv(&mut [0_u8; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "no sign of life without an answer");
}

#[test]
fn a_mute_a_lying_and_a_missing_server_all_fail_the_probe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("io.nightlatch.UserDatabase");
    let ask = |timeout| probe(&path, "io.nightlatch.UserDatabase", timeout);
    assert!(matches!(ask(SOON), Err(ProbeError::Io(_))), "nothing there");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(matches!(ask(SOON), Err(ProbeError::Io(_))), "a server that accepts nothing");
    drop(listener.accept().unwrap());
    for (answer, good) in [
        ("{\"error\":\"io.systemd.UserDatabase.NoRecordFound\"}\0", true),
        ("{\"error\":\"io.systemd.UserDatabase.BadService\"}\0", false),
        ("{\"parameters\":{\"record\":{\"userName\":\"root\",\"uid\":0}}}\0", false),
        ("nonsense\0", false),
        ("", false),
    ] {
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [1_u8];
                while byte != [0] {
                    stream.read_exact(&mut byte).unwrap();
                }
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(ask(LATE).is_ok(), good, "{answer}");
        });
    }
}
