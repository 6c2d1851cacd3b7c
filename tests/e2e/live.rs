//! A session ends when its reason ends, whatever it started; and nothing else does.
#![allow(clippy::print_stdout, reason = "the figures are for the reader of the test's output")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use nightlatch_emulator::world;
use nightlatch_world::{Node, Person, local_user, wait_until};
use serde_json::{Value, json};

use crate::site::{SOON, Site, text};
use crate::tenant::Cluster;

/// How long the last process of a person may live after the refused judgement (grace 0).
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How often the stories' nodes judge a session again.
const REJUDGE: &str = "5s";

/// A node on which sessions are judged often and may forward ports.
pub(crate) fn lively(more: &str) -> Site {
    Site::start_with(&format!("port_forwarding = true\nrejudge = \"{REJUDGE}\"\n{more}"))
}

/// An ssh of the host that stays open. Dropping it ends it.
pub(crate) struct Open {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
}

impl Open {
    pub(crate) fn start(node: &Node, person: &Person, user: &str, options: &[&str], words: &[&str]) -> Self {
        let mut command = node.ssh_command(person, user, options, words).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    /// The exit status once it has ended, and what it printed.
    pub(crate) fn end(mut self, within: Duration) -> (i32, String) {
        let ended = wait_until("ssh to end", within, || self.child.try_wait().is_ok_and(|end| end.is_some()));
        let mut said = String::new();
        if ended.is_ok() {
            for pipe in [
                self.child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
                self.child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
            ]
            .into_iter()
            .flatten()
            {
                let mut pipe = pipe;
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        let status = self.child.try_wait().unwrap().and_then(|end| end.code()).unwrap_or(-1);
        (status, said)
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // nsenter forks into the pid namespace: the ssh behind it sees its standard input end; what does
        // not read it is ended.
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id()));
        for pid in children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a story sees of the sessions of a node.
pub(crate) trait Watched {
    /// `nightlatch sessions list`, or `--ended`.
    fn sessions(&self, ended: bool) -> Vec<Value>;
    fn sessions_of(&self, user: &str, ended: bool) -> Vec<Value>;
    /// The processes of the node with this loginuid or uid, as `pid name`.
    fn processes_of(&self, uid: u32) -> Vec<String>;
    /// The main process of every service of the node, and of sshd's listener.
    fn services(&self) -> BTreeMap<String, String>;
    /// The journal's time, in microseconds, of the last record that matches.
    fn journal_time(&self, matches: &[&str]) -> u64;
    fn wait_for_sessions(&self, user: &str, count: usize) -> Vec<Value>;
}

impl Watched for Node {
    fn sessions(&self, ended: bool) -> Vec<Value> {
        let mut words = vec!["nightlatch", "-o", "json", "sessions", "list"];
        if ended {
            words.push("--ended");
        }
        let done = self.exec(&words).unwrap();
        let list: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done)));
        list.as_array().unwrap().clone()
    }

    fn sessions_of(&self, user: &str, ended: bool) -> Vec<Value> {
        self.sessions(ended).into_iter().filter(|row| row["user"] == user).collect()
    }

    fn processes_of(&self, uid: u32) -> Vec<String> {
        let script = r#"for d in /proc/[0-9]*; do
            l=$(cat $d/loginuid 2>/dev/null); u=$(awk '/^Uid:/{print $2,$3,$4,$5}' $d/status 2>/dev/null)
            case " $l $u " in *" $1 "*) echo "${d#/proc/} $(cat $d/comm 2>/dev/null)";; esac; done"#;
        let done = self.exec(&["sh", "-c", script, "find", &uid.to_string()]).unwrap();
        String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
    }

    fn services(&self) -> BTreeMap<String, String> {
        let list = "systemctl list-units --type=service --state=running --plain --no-legend | awk '{print $1}' \
                    | grep -v -e '^user@' -e '^systemd-hostnamed' -e '^run-' -e 'timedated' -e 'localed' -e polkit";
        let script = format!("for u in $({list}); do echo $u $(systemctl show -P MainPID $u); done");
        let lines = self.shell(&script).unwrap();
        lines.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.into(), b.into())).collect()
    }

    fn journal_time(&self, matches: &[&str]) -> u64 {
        self.exec(&["journalctl", "--sync"]).unwrap();
        let mut words = vec!["journalctl", "-q", "--no-pager", "-o", "json", "-n", "1"];
        words.extend(matches);
        let done = self.exec(&words).unwrap();
        let record: Value =
            serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done)));
        record["__REALTIME_TIMESTAMP"].as_str().unwrap().parse().unwrap()
    }

    fn wait_for_sessions(&self, user: &str, count: usize) -> Vec<Value> {
        let mut rows = vec![];
        let found = wait_until("the sessions", SOON, || {
            rows = self.sessions_of(user, false);
            rows.len() == count
        });
        assert!(
            found.is_ok(),
            "{user}: expected {count} sessions: {rows:#?}\n{}",
            self.journal(&["-n", "60"]).unwrap()
        );
        rows
    }
}

impl Site {
    pub(crate) fn sessions(&self, ended: bool) -> Vec<Value> {
        self.node.sessions(ended)
    }

    pub(crate) fn sessions_of(&self, user: &str, ended: bool) -> Vec<Value> {
        self.node.sessions_of(user, ended)
    }
}

#[test]
fn a_session_has_one_start_and_one_end() {
    let site = lively("");
    let alice = "alice@contoso.com";
    site.roles(&[(alice, "user")]);
    let person = site.person(alice);
    let mut shell = Open::start(&site.node, &person, alice, &["-tt"], &[]);
    let rows = site.node.wait_for_sessions(alice, 1);
    let row = &rows[0];
    assert_eq!((row["origin"].as_str(), row["state"].as_str()), (Some("login"), Some("open")), "{row}");
    assert_eq!(row["from"], "127.0.0.1", "{row}");
    assert!(row["certificate"].as_str().unwrap().starts_with("serial "), "{row}");
    let tty = wait_until("the terminal", SOON, || site.sessions_of(alice, false)[0]["ttys"] == "pts/0");
    assert!(tty.is_ok(), "{:?}", site.sessions_of(alice, false));
    shell.type_line("exit 7");
    assert_eq!(shell.end(SOON).0, 7);
    let over = wait_until("the end record", SOON, || site.sessions_of(alice, true).len() == 1);
    assert!(over.is_ok(), "{:?}", site.sessions(true));
    assert_eq!(site.sessions_of(alice, true)[0]["reason"], "closed");
    // Her user manager goes by itself some seconds later, and is nobody's session.
    let last = wait_until("the user manager", SOON, || site.node.processes_of(site.uid(alice)).is_empty());
    assert!(last.is_ok() && site.sessions(false).is_empty(), "{:?}", site.sessions(false));
    assert_eq!(site.sessions(true).len(), 1, "{:?}", site.sessions(true));
}

/// The six kinds of session of one person, all of which must end.
#[test]
fn role_removed_ends_sessions_of_six_kinds_and_nothing_else() {
    let site = Cluster::start(&format!("[login]\nport_forwarding = true\nrejudge = \"{REJUDGE}\"\n"));
    let (oid, alice, bob) =
        ("91041a00-0000-4000-8000-0000000000ce", "six.kinds@contoso.com", world::ALICE.upn);
    site.control("POST", "users", &json!({"oid": oid, "upn": alice}));
    let order =
        json!({"principal_id": oid, "role_definition_id": world::ROLE_ADMIN_LOGIN, "scope": world::NODE});
    let made = site.control("POST", "role-assignments", &order);
    let (person, other) = (site.person(alice), site.person(bob));
    let emergency = Person::with_key(&site.image, "ed25519").unwrap();
    local_user(&site.node, "rescue", &emergency).unwrap();
    let uid: u32 = site.node.shell(&format!("id -u {alice}")).unwrap().trim().parse().unwrap();

    let mut bobs = Open::start(&site.node, &other, bob, &["-tt"], &[]);
    let mut rescue = Open::start(&site.node, &emergency, "rescue", &[], &["sleep 1000"]);
    let folder = tempfile::tempdir().unwrap();
    let control = format!("ControlPath={}", folder.path().join("mux").display());
    let start = |options: &[&str], words: &[&str]| Open::start(&site.node, &person, alice, options, words);
    let mut all = vec![
        ("pty", start(&["-tt"], &[])),
        ("setsid", start(&[], &["setsid nohup sleep 1001 >/dev/null 2>&1 & sleep 1002"])),
        ("forward", start(&["-N", "-L", "2201:127.0.0.1:22"], &[])),
        ("master", start(&["-o", "ControlMaster=yes", "-o", &control], &["sleep 1003"])),
        ("sudo", start(&["-tt"], &["sudo -n -s"])),
        ("linger", start(&[], &["loginctl enable-linger && systemd-run --user sleep 1004 && sleep 1005"])),
    ];
    wait_until("the master", SOON, || folder.path().join("mux").exists()).unwrap();
    for words in [["sleep 1006"], ["sleep 1007"]] {
        all.push(("mux", start(&["-o", "ControlMaster=no", "-o", &control], &words)));
    }
    let rows = site.node.wait_for_sessions(alice, 6);
    assert_eq!(rows.len(), 6);
    wait_until("the lingering sleep", SOON, || {
        let names = site.node.shell("pgrep -f 'sleep 100[1-7]' -c || true").unwrap();
        names.trim().parse::<u32>().unwrap_or(0) >= 7
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", site.node.processes_of(uid)));
    wait_until("the root shell", SOON, || {
        site.node
            .shell("ps -eo user,comm,args | grep -c '^root.*bash *\\(-bash\\|/bin/bash\\|bash\\)' || true")
            .unwrap()
            .trim()
            != "0"
    })
    .unwrap();
    let before = site.node.services();

    let removed = Instant::now();
    site.control("DELETE", &format!("role-assignments/{}", made["id"].as_str().unwrap()), &json!({}));
    let gone = wait_until("everything of hers to be gone", GONE_WITHIN + Duration::from_secs(10), || {
        site.node.processes_of(uid).is_empty()
    });
    let took = removed.elapsed();
    assert!(
        gone.is_ok(),
        "left: {:?}\n{}",
        site.node.processes_of(uid),
        site.node.journal(&["-n", "80"]).unwrap()
    );
    println!("from the removal to the last look that found nothing: {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}: the timer is 5 s and the end has 5 s");

    for (kind, open) in all {
        let (status, said) = open.end(SOON);
        assert_eq!(status, 255, "{kind}: {said}");
        if kind == "pty" {
            assert!(said.contains("your session ends: you have no VM login role on this node"), "{said}");
        }
    }
    let over = wait_until("six end records", SOON, || site.node.sessions_of(alice, true).len() == 6);
    assert!(over.is_ok(), "{:#?}", site.node.sessions(true));
    for row in site.node.sessions_of(alice, true) {
        assert_eq!(row["reason"], "no_vm_role", "{row}");
    }
    // From the journal's word of the refused judgement to the last exit that sessiond saw.
    let judged = site.node.journal_time(&[
        "-u",
        "nightlatchd",
        "NIGHTLATCH_REASON=no_vm_role",
        "NIGHTLATCH_SERVICE=session",
    ]);
    let ended =
        site.node.journal_time(&["SYSLOG_IDENTIFIER=nightlatch-sessiond", "NIGHTLATCH_REASON=no_vm_role"]);
    let between = Duration::from_micros(ended.saturating_sub(judged));
    println!("from the refused judgement to the last end record: {between:?}");
    assert!(between < GONE_WITHIN, "{between:?}");

    assert!(bobs.lives() && rescue.lives());
    assert_eq!(site.node.sessions_of(bob, false).len(), 1);
    assert_eq!(site.node.services(), before, "every service and sshd's listener is the process it was");
    assert!(
        !site
            .node
            .exec(&["test", "-e", &format!("/var/lib/systemd/linger/{alice}")])
            .unwrap()
            .status
            .success()
    );
    bobs.type_line("exit 3");
    assert_eq!(bobs.end(SOON).0, 3);
    let login = site.ssh(&emergency, "rescue", &["id -un"]);
    assert_eq!((login.status, login.stdout.trim()), (0, "rescue"), "{login:?}");
    let refused = site.ssh(&person, alice, &["id"]);
    assert!(refused.stderr.contains("reason no_vm_role, ref "), "{refused:?}");
}

#[test]
fn revoke_ends_at_once_and_what_was_issued_before_opens_nothing() {
    let site = lively("");
    let (alice, bob) = ("alice@contoso.com", "bob@contoso.com");
    site.roles(&[(alice, "user"), (bob, "user")]);
    let (person, other) = (site.person(alice), site.person(bob));
    let uid = site.uid(alice);
    let hers = Open::start(&site.node, &person, alice, &["-tt"], &[]);
    let mut his = Open::start(&site.node, &other, bob, &["-tt"], &[]);
    site.node.wait_for_sessions(alice, 1);
    let row = site.node.wait_for_sessions(bob, 1).remove(0);
    // A session opens before its terminal does.
    wait_until("her terminal", SOON, || site.sessions_of(alice, false)[0]["ttys"] != "").unwrap();

    let dry = site.node.exec(&["nightlatch", "revoke", "--user", alice, "--dry-run"]).unwrap();
    assert!(dry.status.success() && text(&dry).contains("1 session would end"), "{}", text(&dry));
    assert_eq!(site.sessions_of(alice, false).len(), 1, "a dry run ends nothing");

    let start = Instant::now();
    let done = site.node.exec(&["nightlatch", "revoke", "--user", alice]).unwrap();
    assert!(done.status.success() && text(&done).contains("1 session ends"), "{}", text(&done));
    wait_until("her processes to be gone", SOON, || site.node.processes_of(uid).is_empty()).unwrap();
    let took = start.elapsed();
    println!("revoked and gone after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (status, said) = hers.end(SOON);
    assert!(status == 255 && said.contains("your access to this node was revoked"), "{status}: {said}");
    site.assert_closed(&person, alice, "revoked");
    assert!(his.lives());

    // One session alone: the person comes back at once.
    let id = row["id"].to_string();
    assert!(site.node.exec(&["nightlatch", "sessions", "end", &id]).unwrap().status.success());
    assert_eq!(his.end(SOON).0, 255);
    site.assert_in(&other, bob);
    let unknown = site.node.exec(&["nightlatch", "sessions", "end", "99999"]).unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    let nobody = site.node.exec(&["nightlatch", "revoke", "--user", "nobody@contoso.com"]).unwrap();
    assert!(
        nobody.status.code() == Some(1) && text(&nobody).contains("was ever let in"),
        "{}",
        text(&nobody)
    );
    let usage = site.node.exec(&["nightlatch", "revoke"]).unwrap();
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
}

#[test]
fn the_administrators_role_ends_in_the_same_session_and_the_shell_lives() {
    let site = lively("");
    let alice = "alice@contoso.com";
    site.roles(&[(alice, "admin")]);
    let person = site.person(alice);
    let script =
        "sudo -n true && echo first-yes; read go; sudo -n true || echo second-no; id -un; read go; exit 5";
    let mut shell = Open::start(&site.node, &person, alice, &[], &[script]);
    site.node.wait_for_sessions(alice, 1);
    wait_until("the first sudo", SOON, || {
        site.decisions(alice).iter().any(|(service, outcome, _)| service == "sudo" && outcome == "permit")
    })
    .unwrap();
    site.roles(&[(alice, "user")]);
    shell.type_line("go");
    wait_until("the second sudo", SOON, || {
        site.decisions(alice)
            .iter()
            .any(|(service, _, reason)| service == "sudo" && reason == "no_admin_role")
    })
    .unwrap();
    // The judge has had its turn as well.
    std::thread::sleep(Duration::from_secs(6));
    assert!(shell.lives());
    shell.type_line("go");
    let (status, said) = shell.end(SOON);
    assert_eq!(status, 5, "{said}");
    assert!(said.contains("first-yes") && said.contains("second-no") && said.contains(alice), "{said}");
    wait_until("the end record", SOON, || site.sessions_of(alice, true).len() == 1).unwrap();
    let row = &site.sessions_of(alice, true)[0];
    assert_eq!(row["reason"], "closed", "{row}");
}

/// The certificate's own end is the session's: the person is told before, and reads why.
#[test]
fn a_session_ends_with_its_certificate_after_a_warning() {
    let site = lively("");
    let alice = "alice@contoso.com";
    site.roles(&[(alice, "user")]);
    let mut spec = site.spec(alice);
    spec.validity = "-5m:+25s".into();
    let person = site.person_with(&spec);
    let shell = Open::start(&site.node, &person, alice, &["-tt"], &[]);
    site.node.wait_for_sessions(alice, 1);
    let start = Instant::now();
    let (status, said) = shell.end(Duration::from_secs(40));
    println!("ended {:?} after a session of a certificate with 25 s left began", start.elapsed());
    assert_eq!(status, 255, "{said}");
    assert!(said.contains("your access to this node ends in"), "the warning: {said}");
    assert!(said.contains("your session ends: the certificate has expired"), "{said}");
    let over = wait_until("the end record", SOON, || site.sessions_of(alice, true).len() == 1);
    assert!(over.is_ok() && site.sessions_of(alice, true)[0]["reason"] == "cert_expired");
}

/// A role that is taken away in Azure, where nobody tells the node: the timer finds out.
#[test]
fn a_role_removed_in_azure_ends_the_shell_within_the_timer() {
    let cluster = Cluster::start(&format!("[login]\nrejudge = \"{REJUDGE}\"\n"));
    let (oid, upn) = ("91041a00-0000-4000-8000-0000000000cc", "leaver@contoso.com");
    cluster.control("POST", "users", &json!({"oid": oid, "upn": upn}));
    let order =
        json!({"principal_id": oid, "role_definition_id": world::ROLE_USER_LOGIN, "scope": world::NODE});
    let made = cluster.control("POST", "role-assignments", &order);
    let id = made["id"].as_str().unwrap();
    let person = cluster.person(upn);
    let mut shell = Open::start(&cluster.node, &person, upn, &["-tt"], &[]);
    let opened = wait_until("the session", SOON, || {
        let done = cluster.node.exec(&["nightlatch", "sessions"]).unwrap();
        String::from_utf8_lossy(&done.stdout).contains(upn)
    });
    assert!(opened.is_ok(), "{}", cluster.journal());
    // Azure down for two turns of the timer ends nothing.
    for service in ["pdp", "arm"] {
        cluster.control("PUT", &format!("faults/{service}"), &json!({"kind": "status", "status": 503}));
    }
    std::thread::sleep(Duration::from_secs(12));
    assert!(shell.lives());
    let status = text(&cluster.node.exec(&["nightlatch", "status"]).unwrap());
    assert!(status.contains("1 sessions live by grace now"), "{status}");
    cluster.control("DELETE", "faults", &json!({}));

    cluster.control("DELETE", &format!("role-assignments/{id}"), &json!({}));
    let removed = Instant::now();
    let (status, said) = shell.end(Duration::from_secs(20));
    let took = removed.elapsed();
    println!("a role removed in Azure ended the shell after {took:?}");
    assert!(status == 255 && said.contains("you have no VM login role on this node"), "{status}: {said}");
    assert!(took < Duration::from_secs(15), "{took:?}: the timer is {REJUDGE} and the end has 5 s");
}

/// The account for emergencies: proven by a dry run, used while all of us is down, and its use is an event.
#[test]
fn the_break_glass_account_works_when_everything_of_ours_is_down_and_its_use_is_seen() {
    let site = Site::start();
    let rescue = site.local("rescue");
    let missing = site.node.exec(&["nightlatch", "doctor", "--break-glass"]).unwrap();
    assert_eq!(missing.status.code(), Some(1), "no account is named yet: {}", text(&missing));
    site.node.write_file("/etc/nightlatch/break-glass", b"rescue # safe\n", 0o644, "root:root").unwrap();
    let good = site.node.exec(&["nightlatch", "doctor", "--break-glass"]).unwrap();
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    // What would shut it out is found by the dry run.
    site.node
        .write_file("/etc/ssh/sshd_config.d/10-x.conf", b"DenyUsers rescue\n", 0o644, "root:root")
        .unwrap();
    let denied = site.node.exec(&["nightlatch", "doctor", "--break-glass"]).unwrap();
    assert!(denied.status.code() == Some(1) && text(&denied).contains("DenyUsers"), "{}", text(&denied));
    site.node.shell("rm /etc/ssh/sshd_config.d/10-x.conf").unwrap();

    let units = "nightlatchd.service nightlatchd-hook.socket nightlatchd-account.socket nightlatch-userdbd.service \
                 nightlatch-sessiond.service nightlatch-sessiond-session.socket nightlatch-sessiond-control.socket";
    site.node.shell(&format!("systemctl stop {units}")).unwrap();
    let login = site.ssh(&rescue, "rescue", &["sudo -n id -u"]);
    assert_eq!((login.status, login.stdout.trim()), (0, "0"), "{login:?}");
    site.node.shell(&format!("systemctl start {units}")).unwrap();

    let mut long = Open::start(&site.node, &rescue, "rescue", &[], &["sleep 1000"]);
    wait_until("the event", SOON * 2, || {
        let words = ["journalctl", "-q", "-t", "nightlatch-sessiond", "-p", "warning"];
        text(&site.node.exec(&words).unwrap()).contains("the break-glass account `rescue` is in use")
    })
    .unwrap();
    let row = site.sessions_of("rescue", false).remove(0);
    assert_eq!(row["origin"], "break-glass", "{row}");
    let refused = site.node.exec(&["nightlatch", "sessions", "end", &row["id"].to_string()]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let all = site.node.exec(&["nightlatch", "revoke", "--all"]).unwrap();
    assert!(all.status.success() && long.lives(), "{}", text(&all));
}
