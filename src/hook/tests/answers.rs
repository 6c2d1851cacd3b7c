//! What the two programs make of every answer, of every caller and of `/proc`, in this process: the server
//! is a thread, the variables are a table.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may stop at the first surprise

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nightlatch_hook::account::{self, Verdict};
use nightlatch_hook::offer::{self, Outcome, is_for_us};
use nightlatch_hook::parents::{Stat, chain, parents, parse_stat};
use nightlatch_hook::person::{MAX_BYTES, MAX_LINES, for_terminal};
use nightlatch_hook::{AskError, Server, ask};
use nightlatch_wire::{Message, Parent, read_frame};

const LINE: &str = "restrict,pty,cert-authority,principals=\"ann@contoso.com\",expiry-time=\"20261121223000Z\" \
                    ssh-rsa AAAA";
const WAIT: Duration = Duration::from_secs(30);

/// A server for one connection: what it read, once the client is through.
struct Once {
    path: PathBuf,
    thread: JoinHandle<Option<Message>>,
}

fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("nightlatch-answers-{}-{n}.sock", process::id()))
}

fn server(reply: Vec<u8>) -> Once {
    let path = fresh_path();
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let read = read_frame(&mut stream).ok();
        stream.write_all(&reply).unwrap();
        read
    });
    Once { path, thread }
}

impl Once {
    fn as_server(&self) -> Server<'_> {
        Server { path: &self.path, owner: own_uid() }
    }

    fn question(self) -> Option<Message> {
        let read = self.thread.join().unwrap();
        std::fs::remove_file(self.path).unwrap();
        read
    }
}

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn frame(message: &Message) -> Vec<u8> {
    message.encode().unwrap()
}

fn args(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

fn nowhere() -> Server<'static> {
    Server { path: Path::new("/nonexistent/nightlatch.sock"), owner: 0 }
}

/// An encoded LINE frame whose text is not held to anything.
fn raw_line(text: &[u8]) -> Vec<u8> {
    let size = u16::try_from(text.len()).unwrap();
    let mut body = vec![1, 2];
    body.extend(size.to_be_bytes());
    body.extend(text);
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

#[test]
fn the_hook_prints_a_good_line_and_nothing_else() {
    let good = LINE.as_bytes();
    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("line", raw_line(good), Outcome::Print(LINE.to_owned())),
        ("none", frame(&Message::None), Outcome::Silent),
        ("error", frame(&Message::Err("unsupported".to_owned())), Outcome::Fail),
        ("yes of another socket", frame(&Message::Permit { until: 1, admin: true }), Outcome::Fail),
        ("text", frame(&Message::Text(LINE.to_owned())), Outcome::Fail),
        ("plain key", raw_line(b"ssh-rsa AAAA"), Outcome::Fail),
        ("bare cert-authority", raw_line(b"cert-authority ssh-rsa AAAA"), Outcome::Fail),
        ("comma principal", raw_line(LINE.replace("ann@", "root,ann@").as_bytes()), Outcome::Fail),
        ("two lines", raw_line(&[good, b"\n", good].concat()), Outcome::Fail),
        ("newline at the end", raw_line(&[good, b"\n"].concat()), Outcome::Fail),
        ("command", raw_line(LINE.replace("pty,", "pty,command=\"id\",").as_bytes()), Outcome::Fail),
        ("cut off", raw_line(good)[..40].to_vec(), Outcome::Fail),
        ("silence", vec![], Outcome::Fail),
        ("too long", vec![0xff; 64], Outcome::Fail),
        ("next version", vec![0, 0, 0, 2, 2, 3], Outcome::Fail),
    ];
    for (name, reply, expected) in cases {
        let once = server(reply);
        let got =
            offer::decide(once.as_server(), args(&["ann@contoso.com", "1900000000", "ssh-rsa", "AAAA"]));
        assert_eq!(got, expected, "{name}");
        let Some(Message::Offer(asked)) = once.question() else { panic!("{name}: no OFFER came") };
        assert_eq!((asked.user.as_str(), asked.uid), ("ann@contoso.com", 1_900_000_000));
        assert_eq!((asked.key.as_str(), asked.key_len, asked.key_type.as_str()), ("AAAA", 4, "ssh-rsa"));
        assert_eq!(asked.parents, parents());
    }
}

#[test]
fn a_key_too_long_is_sent_as_its_length() {
    for (size, sent) in [(65_535, 65_535), (65_536, 0), (120_000, 0)] {
        let once = server(frame(&Message::None));
        let got = offer::decide(once.as_server(), args(&["a@b", "1", "ssh-rsa", &"A".repeat(size)]));
        assert_eq!(got, Outcome::Silent);
        let Some(Message::Offer(asked)) = once.question() else { panic!("no OFFER came") };
        assert_eq!((asked.key.len(), asked.key_len), (sent, u32::try_from(size).unwrap()));
    }
}

#[test]
fn names_outside_sshd_s_match_pattern_are_passed_over_without_a_connection() {
    for (name, ours) in [
        ("ann@contoso.com", true),
        ("@", true),
        ("11111111-2222-3333-4444-555555555555", true),
        ("????????-????-????-????-????????????", true),
        ("root", false),
        ("", false),
        ("azureuser", false),
        ("11111111-2222-3333-4444-55555555555", false),
        ("11111111-2222-3333-4444-5555555555555", false),
        ("1111111--2222-3333-4444-55555555555x", true),
        ("11111111a2222-3333-4444-555555555555", false),
    ] {
        assert_eq!(is_for_us(name), ours, "{name}");
        // Nobody listens there: only a name that is not ours ends well.
        let expected = if ours { Outcome::Fail } else { Outcome::Silent };
        assert_eq!(offer::decide(nowhere(), args(&[name, "1", "ssh-rsa", "AAAA"])), expected, "{name}");
    }
}

#[test]
fn calls_that_sshd_does_not_make_are_refused() {
    for list in [&[][..], &["a@b"], &["a@b", "1", "ssh-rsa"], &["a@b", "1", "ssh-rsa", "AAAA", "x"]] {
        assert_eq!(offer::decide(nowhere(), args(list)), Outcome::Usage);
    }
    let refused = |list: Vec<OsString>| {
        // A server that would say yes: the refusal must come before it is asked.
        let path = fresh_path();
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let got = offer::decide(Server { path: &path, owner: own_uid() }, list.clone());
        let asked = listener.accept().is_ok_and(|(mut stream, _)| {
            stream.set_nonblocking(false).unwrap();
            read_frame(&mut stream).is_ok()
        });
        std::fs::remove_file(&path).unwrap();
        assert!(!asked, "{list:?}");
        got
    };
    for uid in ["", "+1", "-1", "1 ", "0x1", "4294967296", "one"] {
        assert_eq!(refused(args(&["a@b", uid, "ssh-rsa", "AAAA"])), Outcome::Fail, "uid {uid:?}");
    }
    for (name, key_type, key) in [
        ("a@b\nMESSAGE=x", "ssh-rsa", "AAAA"),
        ("a@\u{1b}[2J", "ssh-rsa", "AAAA"),
        ("a@b", "", "AAAA"),
        ("a@b", "ssh rsa", "AAAA"),
        ("a@b", "ssh-rsa", "AA AA"),
        ("a@b", "ssh-rsa", "AAAA\n"),
        (&format!("a@{}", "b".repeat(300)), "ssh-rsa", "AAAA"),
    ] {
        assert_eq!(
            refused(args(&[name, "1", key_type, key])),
            Outcome::Fail,
            "{name:?} {key_type:?} {key:?}"
        );
    }
    let mut not_text = args(&["a@b", "1", "ssh-rsa", "AAAA"]);
    not_text[0] = OsString::from_vec(b"a@\xff".to_vec());
    assert_eq!(refused(not_text), Outcome::Fail);
}

/// The largest uids are numbers like any other (polkit CVE-2018-19788).
#[test]
fn uids_above_int_max_are_passed_on_as_they_are() {
    for uid in ["2147483648", "4294967294", "4294967295"] {
        let once = server(frame(&Message::None));
        offer::decide(once.as_server(), args(&["a@b", uid, "ssh-rsa", "AAAA"]));
        let Some(Message::Offer(asked)) = once.question() else { panic!("no OFFER came") };
        assert_eq!(asked.uid.to_string(), uid);
    }
}

fn environment(kind: &str) -> impl Fn(&str) -> Option<OsString> + use<> {
    let kind = kind.to_owned();
    move |name| {
        Some(OsString::from(match name {
            "PAM_TYPE" => kind.as_str(),
            "PAM_USER" => "ann@contoso.com",
            "PAM_SERVICE" => "sshd",
            "PAM_RHOST" => "192.0.2.7",
            _ => return None,
        }))
    }
}

fn shown(text: &str) -> Verdict {
    Verdict { yes: false, shown: text.to_owned() }
}

const UNDECIDED: &str = "nightlatch: login cannot be decided now (the agent does not answer); try again, or use the local account\n";

#[test]
fn pam_says_yes_to_a_permit_of_the_account_phase_and_to_nothing_else() {
    let permit = frame(&Message::Permit { until: 1, admin: true });
    let deny = |text: &str| frame(&Message::Deny { code: "no-role".to_owned(), text: text.to_owned() });
    let text = |text: &str| frame(&Message::Text(text.to_owned()));
    let yes = Verdict { yes: true, shown: String::new() };
    let cases: Vec<(&str, &str, Vec<u8>, Verdict)> = vec![
        ("permit", "account", permit.clone(), yes),
        ("deny", "account", deny("no role\nref 12"), shown("nightlatch: no role\nnightlatch: ref 12\n")),
        ("deny without text", "account", deny(" \n"), shown("nightlatch: refused (no-role)\n")),
        ("deny with escape", "account", deny("\u{1b}]0;x\u{7}"), shown("nightlatch: ?]0;x?\n")),
        ("text", "account", text("hello"), shown(UNDECIDED)),
        ("line", "account", raw_line(LINE.as_bytes()), shown(UNDECIDED)),
        ("none", "account", frame(&Message::None), shown(UNDECIDED)),
        ("error", "account", frame(&Message::Err("busy".to_owned())), shown(UNDECIDED)),
        ("silence", "account", vec![], shown(UNDECIDED)),
        ("permit cut off", "account", permit[..permit.len() - 1].to_vec(), shown(UNDECIDED)),
        ("permit of 2", "account", vec![0, 0, 0, 11, 1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 2], shown(UNDECIDED)),
        ("auth text", "auth", text("expired"), shown("nightlatch: expired\n")),
        ("auth, nothing to say", "auth", text(""), shown("")),
        ("auth permit", "auth", permit, shown(UNDECIDED)),
        ("auth deny", "auth", deny("x"), shown(UNDECIDED)),
    ];
    for (name, kind, reply, expected) in cases {
        let once = server(reply);
        assert_eq!(account::decide(once.as_server(), WAIT, environment(kind)), expected, "{name}");
        match once.question().unwrap() {
            Message::Account(asked) if kind == "account" => {
                assert_eq!((asked.user.as_str(), asked.service.as_str()), ("ann@contoso.com", "sshd"));
                assert_eq!((asked.rhost.as_str(), asked.tty.as_str()), ("192.0.2.7", ""));
                let kept = std::fs::read_to_string("/proc/self/loginuid")
                    .unwrap_or_else(|_| "4294967295".to_owned());
                assert_eq!(asked.loginuid.to_string(), kept.trim());
                assert_eq!(asked.parents, parents());
            }
            Message::Auth(asked) if kind == "auth" => assert_eq!(asked.rhost, "192.0.2.7"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn pam_refuses_other_phases_and_hostile_variables_without_asking() {
    for kind in ["open_session", "close_session", "password", "setcred", "", "ACCOUNT", "account "] {
        let verdict = account::decide(nowhere(), WAIT, environment(kind));
        assert_eq!(
            verdict,
            shown("nightlatch: only for the account, auth and session phases of PAM\n"),
            "{kind:?}"
        );
    }
    let long = "x".repeat(300);
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("PAM_USER", b"".to_vec()),
        ("PAM_USER", b"ann\n@contoso.com".to_vec()),
        ("PAM_USER", b"\xff@contoso.com".to_vec()),
        ("PAM_USER", long.clone().into_bytes()),
        ("PAM_SERVICE", b"".to_vec()),
        ("PAM_SERVICE", b"sshd\x1b[2J".to_vec()),
        ("PAM_RHOST", b"192.0.2.7\nMESSAGE=".to_vec()),
        ("PAM_RHOST", long.clone().into_bytes()),
        ("PAM_TTY", b"\x7f".to_vec()),
        ("PAM_TTY", long.into_bytes()),
    ];
    for (name, value) in hostile {
        let variable = |asked: &str| {
            if asked == name {
                Some(OsString::from_vec(value.clone()))
            } else {
                environment("account")(asked)
            }
        };
        let verdict = account::decide(nowhere(), WAIT, variable);
        assert!(!verdict.yes);
        assert!(verdict.shown.ends_with("has a form that is not passed on\n"), "{name}: {verdict:?}");
    }
}

#[test]
fn pam_without_an_agent_says_so_in_one_line() {
    for kind in ["account", "auth"] {
        assert_eq!(account::decide(nowhere(), WAIT, environment(kind)), shown(UNDECIDED));
    }
}

#[test]
fn pam_stops_waiting_for_a_mute_agent_and_tells_the_person() {
    let path = fresh_path();
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server { path: &path, owner: own_uid() };
    assert_eq!(account::decide(server, Duration::from_millis(50), environment("account")), shown(UNDECIDED));
    drop(listener);
    std::fs::remove_file(path).unwrap();
}

/// Whoever binds our path first is not our server (socket squatting).
#[test]
fn a_listener_of_another_uid_is_not_asked() {
    let once = server(vec![]);
    let other = own_uid() + 1;
    let wrong = Server { owner: other, ..once.as_server() };
    match ask(wrong, &Message::None) {
        Err(AskError::Owner(Some(uid))) => assert_eq!(uid, own_uid()),
        got => panic!("{got:?}"),
    }
    assert_eq!(once.question(), None, "not a byte was sent");
}

#[test]
fn stat_is_read_from_the_last_parenthesis() {
    let tail = "S 4242 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654321 1 2 18446744073709551615 0";
    let expected = Some(Stat { parent: 4_242, start: 987_654_321 });
    for name in
        ["sshd", "a b", "a) S 1 1", ")", "((", "", "x) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"]
    {
        let stat = format!("99 ({name}) {tail}");
        assert_eq!(parse_stat(stat.as_bytes()), expected, "{name:?}");
    }
    assert_eq!(parse_stat(&[b"99 (\xff\n\x1b) ", tail.as_bytes()].concat()), expected, "a name is any bytes");
    for broken in
        ["", "99", "99 (x", "99 (x)", "99 (x) S", "99 (x) S 1 2 3", "99 (x) S -1 7 7", "99 (x) S y 7"]
    {
        assert_eq!(parse_stat(broken.as_bytes()), None, "{broken:?}");
    }
    let negative = format!("99 (x) {}", tail.replace("987654321", "-5"));
    assert_eq!(parse_stat(negative.as_bytes()), None);
}

#[test]
fn the_chain_is_this_process_s_own() {
    let found = parents();
    assert_eq!(found.first().map(|p| p.pid), Some(std::os::unix::process::parent_id()));
    for parent in &found {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", parent.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(fields[19], parent.start.to_string());
    }
    if let [near, far] = found[..] {
        let stat = std::fs::read(format!("/proc/{}/stat", near.pid)).unwrap();
        assert_eq!(parse_stat(&stat).unwrap().parent, far.pid);
    }
}

#[test]
fn what_proc_does_not_tell_shortens_the_chain() {
    let stat = |parent, start| Some(Stat { parent, start });
    let full = |pid| match pid {
        30 => stat(20, 300),
        20 => stat(10, 200),
        10 => stat(1, 100),
        _ => None,
    };
    let (near, far) = (Parent { pid: 30, start: 300 }, Parent { pid: 20, start: 200 });
    assert_eq!(chain(|| 30, full), [near, far], "two, although there are more");
    assert_eq!(chain(|| 30, |pid| if pid == 30 { full(30) } else { None }), [near]);
    assert_eq!(chain(|| 30, |_| None), []);
    assert_eq!(chain(|| 0, full), [], "the parent is in another pid namespace");
    assert_eq!(
        chain(|| 30, |pid| if pid == 30 { stat(0, 300) } else { None }),
        [Parent { pid: 30, start: 300 }]
    );
}

#[test]
fn a_parent_that_ended_meanwhile_is_not_taken_for_its_successor() {
    let stat = |parent, start| Some(Stat { parent, start });
    // Our own parent changed between the two looks at it.
    let looks = std::cell::Cell::new(0);
    let moving = || {
        looks.set(looks.get() + 1);
        if looks.get() == 1 { 30 } else { 1 }
    };
    assert_eq!(chain(moving, |_| stat(20, 300)), []);
    // The nearest one was reparented after it named the next.
    let reads = std::cell::Cell::new(0);
    let reparented = |pid| {
        reads.set(reads.get() + 1);
        match pid {
            30 => stat(if reads.get() == 1 { 20 } else { 1 }, 300),
            _ => stat(10, 999),
        }
    };
    assert_eq!(chain(|| 30, reparented), [Parent { pid: 30, start: 300 }]);
}

/// Guards terminal escapes in a refusal's text: pam_exec passes ESC raw in some phases.
#[test]
fn only_printable_ascii_reaches_the_terminal() {
    let every_char: String = (0..0x500).filter_map(char::from_u32).filter(|c| *c != '\n').collect();
    for text in [every_char.as_str(), "a\r\nb\tc\u{1b}[31m\u{9b}1m\u{7f}\0é", "\u{202e}\u{2028}"] {
        let out = for_terminal(text);
        assert!(out.bytes().all(|b| b == b'\n' || (0x20..=0x7e).contains(&b)), "{out:?}");
        assert!(out.lines().all(|line| line.starts_with("nightlatch: ")), "{out:?}");
    }
    assert_eq!(for_terminal("é\r\n\n~ !"), "nightlatch: ???\nnightlatch: ~ !\n");
    assert_eq!(for_terminal(""), "");
    assert_eq!(for_terminal("\n\n"), "");
}

#[test]
fn text_for_the_terminal_has_its_limits() {
    let many = for_terminal(&"x\n".repeat(50));
    assert_eq!(many.lines().count(), MAX_LINES);
    for text in
        ["y".repeat(5_000), format!("{}\n", "z".repeat(500)).repeat(8), format!("{}\nb", "a".repeat(2_035))]
    {
        let out = for_terminal(&text);
        assert!(out.len() <= MAX_BYTES && out.ends_with('\n'), "{}", out.len());
        assert!(out.lines().all(|line| line.len() > "nightlatch: ".len()), "no line without text");
    }
    assert_eq!(for_terminal(&"y".repeat(5_000)).len(), MAX_BYTES);
}
