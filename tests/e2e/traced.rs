//! What the programs do with files, as the kernel sees it: strace on a real node.
//!
//! A trace that saw nothing proves nothing, so each one must also hold what is known to happen.

use nightlatch_wire::{Account, Message, Parent};
use nightlatch_world::wait_until;

use crate::site::{HELPER, HOOK, SOON, Site, text};

/// The daemon's word for userdbd, renamed into place.
const SNAPSHOT: &str = "/run/nightlatch/accounts/snapshot.json";
/// Where the traces lie in the node.
const TRACES: &str = "/run/traces";
/// An ordinary person, who logs in.
const GOOD: &str = "orla.mark29@contoso.com";
/// In all names but the first, so that a part or another spelling of one is found as well.
const MARK: &str = "mark29";
/// Names that want to be paths; the first is the one of CVE-2023-42456.
const HOSTILE: [&str; 11] = [
    "../../bin/cp@contoso.com",
    "../../../run/mark29@contoso.com",
    "/run/mark29@contoso.com",
    "mark29/../../run/x@contoso.com",
    "./mark29@contoso.com",
    "..mark29@contoso.com",
    "mark29%2f..%2f@contoso.com",
    "mark29@contoso.com/../../../run/x",
    "mark29\u{2215}x@contoso.com",
    "-mark29@contoso.com",
    "mark29@contoso.com",
];

/// Asks the name responder for a record as nss-systemd would, but without nss-systemd's own checks.
const LOOK_UP: &str = r"
import json, socket, sys
for name in sys.argv[1:]:
    for call, key in (('GetUserRecord', 'userName'), ('GetGroupRecord', 'groupName'), ('GetMemberships', 'userName')):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(15)
        s.connect('/run/nightlatch-userdbd/io.nightlatch.UserDatabase')
        ask = {'method': 'io.systemd.UserDatabase.' + call, 'parameters': {key: name, 'service': 'io.nightlatch.UserDatabase'}}
        s.sendall(json.dumps(ask).encode() + b'\0')
        print(len(s.recv(65536)) > 0)
";

/// One system call that was given paths.
#[derive(Debug)]
struct Call {
    line: String,
    paths: Vec<String>,
}

/// Reads a trace written with `-xx`: every string stands as `"\x2f\x72…"`, so that no byte of a path can
/// be mistaken for strace's own words. Of a started program only the path counts, not its arguments.
fn calls(trace: &str) -> Vec<Call> {
    let mut all = Vec::new();
    for line in trace.lines() {
        let strings = line.split('"').skip(1).step_by(2).map(|text| {
            let bytes = text.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap());
            String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
        });
        let wanted = if line.contains("execve") { 1 } else { usize::MAX };
        let paths: Vec<String> = strings.take(wanted).collect();
        if !paths.is_empty() {
            all.push(Call { line: line.to_owned(), paths });
        }
    }
    all
}

/// The calls whose path has something of a person's name in it, or climbs.
fn named_by_a_person(calls: &[Call]) -> Vec<&Call> {
    let local_parts: Vec<&str> =
        HOSTILE.iter().chain([&GOOD]).map(|name| name.split_once('@').unwrap().0).collect();
    let is_named = |path: &String| {
        local_parts.iter().any(|part| path.contains(part))
            || [MARK, "bin/cp", "contoso", "@"].iter().any(|part| path.contains(part))
            || path.split('/').any(|part| part == "..")
    };
    calls.iter().filter(|call| call.paths.iter().any(is_named)).collect()
}

fn trace(site: &Site, name: &str) -> Vec<Call> {
    let text = String::from_utf8(site.node.read_file(&format!("{TRACES}/{name}")).unwrap()).unwrap();
    assert!(!text.is_empty(), "{name} saw nothing");
    calls(&text)
}

/// Runs a program of the node to its end under strace, as that user.
fn traced(site: &Site, name: &str, user: &str, words: &[&str]) -> Vec<Call> {
    let file = format!("{TRACES}/{name}");
    let strace = ["strace", "-f", "-xx", "-u", user, "-e", "trace=%file,bind,connect", "-o", &file, "--"];
    let done = site.node.exec(&[&strace, words].concat()).unwrap();
    assert_ne!(done.status.code(), None, "{}", text(&done));
    trace(site, name)
}

/// Sudo-rs took a user name for the name of a file. Here no program makes a path of one: not the daemon
/// and the name responder, whatever comes through their sockets, and not the two programs that sshd and
/// PAM start with the name in their hands.
#[test]
fn past_bug_row_29_no_path_holds_a_name() {
    let site = Site::start();
    site.roles(&[(GOOD, "admin")]);
    let person = site.person(GOOD);
    let line = std::fs::read_to_string(person.certificate_path()).unwrap();
    let (key_type, key) = line.split_once(' ').unwrap();
    let names = || HOSTILE.iter().copied().chain([GOOD]);

    // The finder finds: a program that does open such a path.
    site.node.shell(&format!("install -d -m 0755 {TRACES}")).unwrap();
    let opens = traced(&site, "control", "root", &["cat", "/run/mark29/x"]);
    assert_eq!(named_by_a_person(&opens).len(), 1, "{opens:?}");

    let daemons = [site.main_pid("nightlatchd"), site.main_pid("nightlatch-userdbd")];
    let ids = daemons.map(|pid| format!("-p {pid}")).join(" ");
    site.node
        .shell(&format!(
            "systemd-run --quiet --unit=traces strace -f -xx {ids} -e trace=%file,bind,connect -o {TRACES}/daemons"
        ))
        .unwrap();
    let untraced = format!("cat /proc/{}/task/*/status /proc/{}/task/*/status", daemons[0], daemons[1]);
    wait_until("strace at each thread", SOON, || {
        let all = site.node.shell(&untraced).unwrap();
        all.contains("TracerPid:") && !all.contains("TracerPid:\t0\n")
    })
    .unwrap();

    // Through sshd, as a stranger would, and as somebody who is let in.
    for name in HOSTILE {
        let login = site.ssh(&person, name, &["id"]);
        assert!(login.status == 255 && login.stdout.is_empty(), "{name}: {login:?}");
    }
    site.assert_in(&person, GOOD);
    assert_eq!(site.ssh(&person, GOOD, &["sudo -n id -u"]).stdout, "0\n");
    // Past sshd's own checks of a name, and past nss-systemd's: straight to the four sockets.
    let look_ups: Vec<&str> = ["python3", "-c", LOOK_UP].into_iter().chain(names()).collect();
    let answers = text(&site.node.exec_as("nobody", &look_ups).unwrap());
    assert_eq!(answers, "True\n".repeat(3 * names().count()));
    let script = "t=$1; k=$2; shift 2; for user; do \"$0\" \"$user\" 2000000000 \"$t\" \"$k\"; done";
    let words: Vec<&str> = ["sh", "-c", script, HOOK, key_type, key].into_iter().chain(names()).collect();
    let hook = traced(&site, "hook", "nightlatch-hook", &words);
    let script = "for user; do for type in auth account; do PAM_TYPE=$type PAM_USER=$user PAM_SERVICE=sshd \
                  PAM_RHOST=127.0.0.9 PAM_TTY=ssh \"$0\"; done; done";
    let words: Vec<&str> = ["sh", "-c", script, HELPER].into_iter().chain(names()).collect();
    let helper = traced(&site, "helper", "root", &words);
    for name in names() {
        let account = Message::Account(Account {
            user: name.into(),
            service: "sshd".into(),
            rhost: "127.0.0.9".into(),
            tty: "ssh".into(),
            loginuid: u32::MAX,
            audit_session: u32::MAX,
            parents: vec![Parent { pid: 4_290_001, start: 7 }],
        });
        let answer = site.ask("root", "account", &account);
        assert!(matches!(answer, Message::Deny { .. }), "{name}: {answer:?}");
        assert!(site.explain(name).all.len() > 1);
    }
    site.node.shell("systemctl stop traces").unwrap();
    let both = trace(&site, "daemons");

    // Each trace saw what is known to happen.
    let made = |call: &&Call| call.line.contains("rename") && call.paths.last().unwrap() == SNAPSHOT;
    assert!(both.iter().any(|call| made(&call)), "the daemon's rename is not in {both:?}");
    let read = |call: &&Call| call.line.contains("open") && call.paths[0] == SNAPSHOT;
    assert!(both.iter().any(|call| read(&call)), "userdbd's open is not in {both:?}");
    for (calls, socket) in [(&hook, "/run/nightlatch/hook.sock"), (&helper, "/run/nightlatch/account.sock")] {
        let asked = calls.iter().filter(|call| call.line.contains("connect(") && call.paths[0] == socket);
        assert!(asked.count() >= names().count() - 1, "{socket}: {calls:?}");
    }
    for calls in [&both, &hook, &helper] {
        let named = named_by_a_person(calls);
        assert!(named.is_empty(), "{named:#?}");
    }
    // Nor did anything else on the node make a file of a name that wants to be a path.
    let found = site.node.shell("find /run /tmp /var /home /etc -xdev -name '*mark29*'").unwrap();
    assert_eq!(found, "");
    assert_eq!(daemons, [site.main_pid("nightlatchd"), site.main_pid("nightlatch-userdbd")]);
    site.assert_sound(daemons[0]);
    site.assert_in(&person, GOOD);
}
