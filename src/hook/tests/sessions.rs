//! PAM's session phase and `pam observe` as whole processes: each phase with each answer, with none, and
//! with a server that is not ours. `hook-rig pam` is the real program with the socket as an argument.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may stop at the first surprise
#![allow(clippy::disallowed_methods)] // the subject is how long a login is held up: real time is measured

mod place;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio, id};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nightlatch_hook::audit;
use nightlatch_wire::session::{MAX_AUTH_BYTES, NO_DIGEST, Pending};
use nightlatch_wire::{Message, Parent, read_frame};

use place::{NOBODY, Place, own_uid, text, with_full_backlog};

const NOT_RECORDED: &str = "nightlatch: the session cannot be recorded now (the agent does not answer), and \
                            without a record it does not open; try again, or use the local account, which works\n";
const NOT_PASSED_ON: &str =
    "nightlatch: refused: the login name or the address has a form that is not passed on\n";
const UNKNOWN_ARGUMENT: &str = "nightlatch: pam does not know this argument: correct the pam_exec line that runs it, \
                                as `nightlatch attach` writes it\n";
const UNDECIDED: &str = "nightlatch: login cannot be decided now (the agent does not answer); try again, or \
                         use the local account\n";
const AUTH_INFO: &str = "password\npublickey ssh-rsa-cert-v01@openssh.com AAAA\npublickey ssh-ed25519 BBBB\n";
const KEY_LINE: &str = "publickey ssh-rsa-cert-v01@openssh.com AAAA";
/// An answer that came at once is passed on at once; the rest is what a busy machine needs for a process.
const AT_ONCE: Duration = Duration::from_secs(1);
/// What starting and reaping a process may add to its wait.
const STARTING: Duration = Duration::from_millis(50);
/// How long a server of the test is away; sessiond needs 100 ms.
const RESTART: Duration = Duration::from_millis(300);
/// Other programs share the machine: the best of so many runs is what the program itself takes.
const TRIES: usize = 8;

/// One way in which PAM runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Account,
    Auth,
    Open,
    Close,
    Observe,
}

const SESSION_PHASES: [Phase; 3] = [Phase::Open, Phase::Close, Phase::Observe];

impl Phase {
    fn pam_type(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Auth => "auth",
            Self::Open | Self::Observe => "open_session",
            Self::Close => "close_session",
        }
    }

    /// Status and output when there is no answer, or none that this phase takes.
    fn without_answer(self) -> (i32, &'static str) {
        match self {
            Self::Account | Self::Auth => (1, UNDECIDED),
            Self::Open => (1, NOT_RECORDED),
            Self::Close | Self::Observe => (0, ""),
        }
    }

    /// The shortest and longest life without an answer.
    fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Account | Self::Auth => (Duration::from_secs(9), Duration::from_secs(10)),
            Self::Open => (Duration::from_secs(5), Duration::from_secs(6)),
            Self::Close => (Duration::from_secs(1), Duration::from_secs(2)),
            Self::Observe => (Duration::from_millis(200), Duration::from_millis(300) + STARTING),
        }
    }
}

fn rig(place: &Place, phase: Phase, owner: u32) -> Command {
    let mut command = place.program("rig");
    command.arg("pam").arg(place.socket()).arg(owner.to_string());
    if phase == Phase::Observe {
        command.arg("observe");
    }
    command.env("PAM_TYPE", phase.pam_type()).env("SSH_AUTH_INFO_0", AUTH_INFO);
    command.envs([("PAM_USER", "ann@contoso.com"), ("PAM_SERVICE", "sshd"), ("PAM_RHOST", "192.0.2.7")]);
    command
}

fn outcome(output: &Output) -> (i32, &str, &str) {
    let code = output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"));
    (code, text(&output.stdout), text(&output.stderr))
}

/// What a server does once it has read the question.
#[derive(Clone, Debug)]
enum Reply {
    Bytes(Vec<u8>),
    HangUp,
}

/// Serves the place's socket and tells what was asked.
fn serve(place: &Place, reply: Reply) -> Receiver<Option<Message>> {
    let (send, receive) = channel();
    place.accept_each(move |mut stream| {
        let question = read_frame(&mut stream).ok();
        if let Reply::Bytes(bytes) = &reply {
            let _ = stream.write_all(bytes);
        }
        let _ = stream.shutdown(Shutdown::Both);
        let _ = send.send(question);
    });
    receive
}

fn frame(message: &Message) -> Reply {
    Reply::Bytes(message.encode().unwrap())
}

fn deny(text: &str) -> Message {
    Message::Deny { code: "no_pending".to_owned(), text: text.to_owned() }
}

fn pending() -> Message {
    Message::Pending(Pending {
        monitor: Parent { pid: 1, start: 1 },
        user: "ann@contoso.com".to_owned(),
        uid: 1_900_000_000,
        oid: String::new(),
        correlation: String::new(),
        certificate: String::new(),
        digest: NO_DIGEST,
        rhost: String::new(),
        until: 1,
        admin: true,
        degraded: false,
        open_within_s: 1,
    })
}

/// Answers that no phase takes for a yes.
fn useless_replies() -> Vec<(&'static str, Reply)> {
    let opened = Message::Opened(7).encode().unwrap();
    vec![
        ("error", frame(&Message::Err("full".to_owned()))),
        ("done", frame(&Message::Done)),
        ("none", frame(&Message::None)),
        ("line", frame(&Message::Line("restrict".to_owned()))),
        ("a question", frame(&pending())),
        ("garbage", Reply::Bytes(vec![0xff; 64])),
        ("text without a frame", Reply::Bytes(b"OK\r\n\r\n".to_vec())),
        ("empty body", Reply::Bytes(vec![0; 4])),
        ("opened, cut off", Reply::Bytes(opened[..opened.len() - 1].to_vec())),
        ("opened, a byte too long", Reply::Bytes([&[0, 0, 0, 11, 1, 11][..], &[0; 9]].concat())),
        ("opened of the next version", Reply::Bytes([&[0, 0, 0, 10, 2, 11][..], &[0; 8]].concat())),
        ("closed without a word", Reply::HangUp),
    ]
}

/// Runs one phase against one reply; gives status and output, and what the server was asked.
fn run_with(phase: Phase, name: &str, reply: Reply) -> ((i32, String), Message) {
    let place = Place::new();
    let asked = serve(&place, reply);
    let begun = Instant::now();
    let output = rig(&place, phase, own_uid()).output().unwrap();
    let lived = begun.elapsed();
    assert!(lived < AT_ONCE, "{phase:?}, {name}: took {lived:?}");
    let (code, shown, noise) = outcome(&output);
    assert_eq!(noise, "", "{phase:?}, {name}");
    (
        (code, shown.to_owned()),
        asked.recv().unwrap().unwrap_or_else(|| panic!("{phase:?}, {name}: not asked")),
    )
}

#[test]
fn a_session_opens_with_its_number_in_hand_and_with_nothing_else() {
    let opened = frame(&Message::Opened(7));
    let says = |text: &str| (1, text.to_owned());
    let mut cases = vec![
        ("opened", opened, (0, String::new())),
        ("opened 0", frame(&Message::Opened(0)), (0, String::new())),
        ("deny", frame(&deny("log in\nagain")), says("nightlatch: log in\nnightlatch: again\n")),
        ("deny without text", frame(&deny(" \n")), says("nightlatch: refused (no_pending)\n")),
        // In this phase pam_exec passes ESC on as it is.
        ("deny with escapes", frame(&deny("\u{1b}[2J\u{9b}é\r")), says("nightlatch: ?[2J?????\n")),
        ("permit", frame(&Message::Permit { until: i64::MAX, admin: true }), says(NOT_RECORDED)),
        ("text", frame(&Message::Text("yes".to_owned())), says(NOT_RECORDED)),
    ];
    cases.extend(useless_replies().into_iter().map(|(name, reply)| (name, reply, says(NOT_RECORDED))));
    for (name, reply, expected) in cases {
        let (got, asked) = run_with(Phase::Open, name, reply);
        assert_eq!(got, expected, "{name}");
        let Message::Open(open) = asked else { panic!("{name}: {asked:?}") };
        assert_eq!((open.user.as_str(), open.rhost.as_str()), ("ann@contoso.com", "192.0.2.7"));
        assert_eq!(open.auth, KEY_LINE, "{name}");
        assert_eq!((open.audit_session, open.loginuid), (audit::session(), audit::loginuid()), "inherited");
        assert_eq!(open.parents.first().map(|parent| parent.pid), Some(id()));
    }
}

#[test]
fn closing_and_observing_end_well_and_silent_whatever_is_answered() {
    let mut replies = useless_replies();
    replies.extend([
        ("opened", frame(&Message::Opened(7))),
        ("deny", frame(&deny("no"))),
        ("permit", frame(&Message::Permit { until: 1, admin: true })),
        ("text", frame(&Message::Text("hello".to_owned()))),
    ]);
    for (name, reply) in replies {
        let (got, asked) = run_with(Phase::Close, name, reply.clone());
        assert_eq!(got, (0, String::new()), "close, {name}");
        let Message::Close(close) = asked else { panic!("{name}: {asked:?}") };
        assert_eq!((close.user.as_str(), close.audit_session), ("ann@contoso.com", audit::session()));
        assert_eq!(close.parents.first().map(|parent| parent.pid), Some(id()));

        let (got, asked) = run_with(Phase::Observe, name, reply);
        assert_eq!(got, (0, String::new()), "observe, {name}");
        let Message::Observed(seen) = asked else { panic!("{name}: {asked:?}") };
        assert_eq!((seen.user.as_str(), seen.service.as_str()), ("ann@contoso.com", "sshd"));
        assert_eq!((seen.rhost.as_str(), seen.auth.as_str()), ("192.0.2.7", KEY_LINE));
    }
}

/// The yes of one phase is none in another: each verb counts where it belongs.
#[test]
fn the_account_and_auth_phases_take_no_answer_of_the_session_phase() {
    for phase in [Phase::Account, Phase::Auth] {
        for (name, reply) in [("opened", frame(&Message::Opened(7)))].into_iter().chain(useless_replies()) {
            let (got, asked) = run_with(phase, name, reply);
            assert_eq!(got, (1, UNDECIDED.to_owned()), "{phase:?}, {name}");
            match asked {
                Message::Account(asked) => {
                    assert_eq!((phase, asked.loginuid), (Phase::Account, audit::loginuid()))
                }
                Message::Auth(_) => assert_eq!(phase, Phase::Auth),
                other => panic!("{phase:?}, {name}: {other:?}"),
            }
        }
    }
    let permit = Message::Permit { until: 1, admin: false };
    assert_eq!(run_with(Phase::Account, "permit", frame(&permit)).0, (0, String::new()), "the twin");
    assert_eq!(run_with(Phase::Account, "deny", frame(&deny("no"))).0, (1, "nightlatch: no\n".to_owned()));
    let text = Message::Text("expired".to_owned());
    assert_eq!(run_with(Phase::Auth, "text", frame(&text)).0, (1, "nightlatch: expired\n".to_owned()));
}

/// No socket, nobody behind it, or somebody who did not have the right to bind it.
#[test]
fn without_a_server_of_ours_every_phase_ends_at_once() {
    let missing = Place::new();
    let left_behind = Place::new();
    drop(left_behind.mute());
    let plain_file = Place::new();
    std::fs::write(plain_file.socket(), b"").unwrap();
    let foreign = Place::new();
    let listener = foreign.mute();
    let other = own_uid() + 1;
    for phase in [Phase::Account, Phase::Auth, Phase::Open, Phase::Close, Phase::Observe] {
        for (name, place, owner) in [
            ("missing", &missing, own_uid()),
            ("left behind", &left_behind, own_uid()),
            ("a plain file", &plain_file, own_uid()),
            ("of another uid", &foreign, other),
            ("of nobody", &foreign, NOBODY - 1),
        ] {
            let begun = Instant::now();
            let output = rig(place, phase, owner).output().unwrap();
            let lived = begun.elapsed();
            let (code, shown) = phase.without_answer();
            assert_eq!(outcome(&output), (code, shown, ""), "{phase:?}, {name}");
            assert!(lived < AT_ONCE, "{phase:?}, {name}: took {lived:?}");
        }
    }
    assert_nothing_was_sent(&listener);
}

/// Each connection that waits at `listener` was hung up on without a whole question.
fn assert_nothing_was_sent(listener: &UnixListener) {
    listener.set_nonblocking(true).unwrap();
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nonblocking(false).unwrap();
        let read = read_frame(&mut stream);
        assert!(read.is_err(), "{read:?}");
    }
}

/// Runs until one run was as short as promised; each run must end by itself, as without an answer.
fn ends_by_itself(place: &Place, phase: Phase, lives: &Mutex<Vec<String>>) {
    let (least, most) = phase.waits();
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        let output = rig(place, phase, own_uid()).output().unwrap();
        let lived = begun.elapsed();
        let (code, shown) = phase.without_answer();
        assert_eq!(outcome(&output), (code, shown, ""), "{phase:?}");
        assert!(lived >= least, "{phase:?} did not wait: {lived:?}");
        shortest = shortest.min(lived);
        if shortest <= most {
            lives.lock().unwrap().push(format!("{phase:?} {shortest:?}"));
            return;
        }
    }
    panic!("no {phase:?} of {TRIES} ended within {most:?}; the shortest took {shortest:?}");
}

/// Every session phase at the same time, so that the longest wait is all that the test takes.
fn every_session_phase_ends_by_itself(place: &Place) {
    let lives = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for phase in SESSION_PHASES {
            let lives = &lives;
            scope.spawn(move || ends_by_itself(place, phase, lives));
        }
    });
    assert_eq!(lives.lock().unwrap().len(), SESSION_PHASES.len());
}

#[test]
fn nobody_waits_longer_than_promised_for_a_server_that_is_silent() {
    let place = Place::new();
    let (send, held) = channel();
    place.accept_each(move |stream| {
        // Accepted, and neither read nor hung up.
        let _ = send.send(stream);
    });
    every_session_phase_ends_by_itself(&place);
    assert!(held.try_iter().count() >= SESSION_PHASES.len(), "all of them were connected");
}

/// A stopped server whose backlog is full: connect itself blocks, without any timeout.
#[test]
fn nobody_waits_longer_than_promised_when_connect_blocks() {
    let place = Place::new();
    let listener = place.mute();
    with_full_backlog(listener, &place.socket(), || every_session_phase_ends_by_itself(&place));
}

/// sessiond restarts while a session opens: systemd holds the socket, and the question waits in its queue.
#[test]
fn a_session_opens_although_its_server_was_away() {
    let place = Place::new();
    let listener = place.mute();
    let mut child = rig(&place, Phase::Open, own_uid()).stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < RESTART {
        thread::park_timeout(RESTART);
    }
    assert_eq!(child.try_wait().unwrap(), None, "it waits");
    let (mut stream, _) = listener.accept().unwrap();
    assert!(matches!(read_frame(&mut stream), Ok(Message::Open(_))));
    stream.write_all(&Message::Opened(1).encode().unwrap()).unwrap();
    assert_eq!(outcome(&child.wait_with_output().unwrap()).0, 0);
}

#[test]
fn what_cannot_be_passed_on_refuses_an_opening_and_nothing_else() {
    let long = "x".repeat(300);
    let hostile: [(&str, &[u8]); 7] = [
        ("PAM_USER", b""),
        ("PAM_USER", b"ann\nMESSAGE=x"),
        ("PAM_USER", b"\xff@contoso.com"),
        ("PAM_USER", long.as_bytes()),
        ("PAM_RHOST", b"192.0.2.7\x1b[2J"),
        ("PAM_RHOST", b"\xff"),
        ("PAM_RHOST", long.as_bytes()),
    ];
    let place = Place::new();
    let listener = place.mute();
    for (name, value) in hostile {
        let with = |phase: Phase| {
            rig(&place, phase, own_uid()).env(name, OsStr::from_bytes(value)).output().unwrap()
        };
        assert_eq!(outcome(&with(Phase::Open)), (1, NOT_PASSED_ON, ""), "{name}={value:?}");
        assert_eq!(outcome(&with(Phase::Observe)), (0, "", ""), "{name}={value:?}");
        if name == "PAM_USER" {
            assert_eq!(outcome(&with(Phase::Close)), (0, "", ""), "{name}={value:?}");
        }
    }
    assert_nothing_was_sent(&listener);
}

#[test]
fn auth_info_is_passed_on_at_its_limit_and_left_out_above_it() {
    let prefix = "publickey ssh-rsa ";
    for (size, passes) in [(MAX_AUTH_BYTES, true), (MAX_AUTH_BYTES + 1, false)] {
        let line = format!("{prefix}{}", "A".repeat(size - prefix.len()));
        for phase in [Phase::Open, Phase::Observe] {
            let place = Place::new();
            let asked = serve(&place, frame(&Message::Opened(1)));
            let output =
                rig(&place, phase, own_uid()).env("SSH_AUTH_INFO_0", format!("{line}\n")).output().unwrap();
            assert_eq!(outcome(&output), (0, "", ""), "{phase:?}");
            let auth = match asked.recv().unwrap() {
                Some(Message::Open(open)) => open.auth,
                Some(Message::Observed(seen)) => seen.auth,
                other => panic!("{other:?}"),
            };
            assert_eq!(auth, if passes { line.as_str() } else { "" }, "{phase:?}");
        }
    }
}

#[test]
fn observing_asks_in_one_phase_only_and_an_unknown_argument_never() {
    let place = Place::new();
    let listener = place.mute();
    listener.set_nonblocking(true).unwrap();
    let unconnected = || assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    for kind in ["account", "auth", "password", "close_session", "setcred", ""] {
        let output = rig(&place, Phase::Observe, own_uid()).env("PAM_TYPE", kind).output().unwrap();
        assert_eq!(outcome(&output), (0, "", ""), "{kind:?}");
        unconnected();
    }
    for phase in [Phase::Account, Phase::Open, Phase::Close] {
        for argument in ["observed", "-h", ""] {
            let output = rig(&place, phase, own_uid()).arg(argument).output().unwrap();
            assert_eq!(outcome(&output), (1, UNKNOWN_ARGUMENT, ""), "{phase:?} {argument:?}");
            unconnected();
        }
    }
    let output = rig(&place, Phase::Observe, own_uid()).arg("observe").output().unwrap();
    assert_eq!(outcome(&output), (1, UNKNOWN_ARGUMENT, ""));
    unconnected();
}

/// With the sockets of an installed agent, whether or not there is one: these ends depend on no answer.
#[test]
fn the_real_program_ends_as_pam_needs_it() {
    let place = Place::new();
    let run = |args: &[&str], kind: &str| {
        let mut command = place.program("pam");
        command.args(args).env("PAM_TYPE", kind).env("PAM_USER", "bob").env("PAM_SERVICE", "sshd");
        command.output().unwrap()
    };
    assert_eq!(outcome(&run(&[], "close_session")), (0, "", ""));
    assert_eq!(outcome(&run(&["observe"], "account")), (0, "", ""));
    assert_eq!(outcome(&run(&["observe"], "open_session")), (0, "", ""));
    assert_eq!(outcome(&run(&["watch"], "open_session")), (1, UNKNOWN_ARGUMENT, ""));
    place.serve(Message::Opened(1));
    let opened = rig(&place, Phase::Open, own_uid()).env_remove("PAM_RHOST").output().unwrap();
    assert_eq!(outcome(&opened), (0, "", ""), "an address is not a must");
}
