//! Real terminals: read, stopped, full, somebody else's.

use std::io::Read;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, tcflow};

use super::*;
use crate::clock::system_now;

struct Terminal {
    ours: File,
    theirs: File,
    pts: u32,
}

fn terminal() -> Terminal {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = OpenOptions::new().read(true).write(true).open(&name).unwrap();
    let pts = name.rsplit('/').next().unwrap().parse().unwrap();
    Terminal { ours: File::from(ours), theirs, pts }
}

fn speech(terminals: &[&Terminal], uid: u32, text: &str) -> Speech {
    Speech { terminals: terminals.iter().map(|one| one.pts).collect(), uid, text: text.into() }
}

/// What arrives within `ms`.
fn heard(terminal: &mut Terminal, ms: i64) -> String {
    let mut fds = [PollFd::new(&terminal.ours, PollFlags::IN)];
    let patience = Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
    if poll(&mut fds, Some(&patience)).unwrap() == 0 {
        return String::new();
    }
    let mut text = [0_u8; 4_096];
    let read = terminal.ours.read(&mut text).unwrap();
    String::from_utf8(text[..read].to_vec()).unwrap()
}

fn own_uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

#[test]
fn a_text_arrives_in_lines_of_printable_ascii() {
    let mut terminal = terminal();
    Pts::default().say(&speech(&[&terminal], own_uid(), "five minutes\nthen \u{1b}[2Jgone \u{e4}\u{7}"));
    let expected = "\r\nnightlatch: five minutes\r\nnightlatch: then ?[2Jgone ??\r\n";
    let heard = heard(&mut terminal, 900).replace("\r\r\n", "\r\n");
    assert_eq!(heard, expected);
}

#[test]
fn a_terminal_of_somebody_else_hears_nothing() {
    let mut terminal = terminal();
    Pts::default().say(&speech(&[&terminal], own_uid() + 1, "not for you"));
    assert_eq!(heard(&mut terminal, 100), "");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1"), "").unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.path().join("2")).unwrap();
    assert!(open(&folder.path().join("1"), own_uid()).is_none(), "a file");
    assert!(open(&folder.path().join("2"), own_uid()).is_none(), "a link");
    assert!(open(&folder.path().join("3"), own_uid()).is_none(), "nothing");
}

/// Twenty stopped terminals: saying something to them takes no time, and the one that works hears it.
#[test]
fn stopped_terminals_delay_nothing() {
    let stopped: Vec<Terminal> = (0..20).map(|_| terminal()).collect();
    for one in &stopped {
        tcflow(&one.theirs, Action::OOff).unwrap();
    }
    let mut works = terminal();
    let pts = Pts::default();
    let mut all: Vec<&Terminal> = stopped.iter().collect();
    all.push(&works);
    for _ in 0..40 {
        let began = system_now().up_ms;
        pts.say(&speech(&all, own_uid(), "still here"));
        let took = system_now().up_ms - began;
        assert!(took < 200, "{took} ms");
    }
    drop(all);
    assert!(heard(&mut works, 900).contains("nightlatch: still here"));
    let began = system_now().up_ms;
    while pts.waiters.load(Ordering::SeqCst) > 0 {
        assert!(system_now().up_ms - began < 10_000, "a thread waits for a stopped terminal");
        thread::yield_now();
    }
}

/// A terminal whose buffer is full takes nothing either, and gets the text when it is read in time.
#[test]
fn a_full_terminal_hears_what_it_has_room_for_in_time() {
    let mut full = terminal();
    let flags = rustix::fs::fcntl_getfl(&full.theirs).unwrap();
    rustix::fs::fcntl_setfl(&full.theirs, flags | OFlags::NONBLOCK).unwrap();
    while full.theirs.write(&[b'x'; 1_024]).is_ok() {}
    Pts::default().say(&speech(&[&full], own_uid(), "room"));
    let mut text = String::new();
    loop {
        let more = heard(&mut full, 200);
        if more.is_empty() {
            break;
        }
        text += &more;
    }
    assert!(text.contains("nightlatch: room"), "{} bytes without it", text.len());
}
