//! What PAM, pam_exec and pam_unix do with our lines in `/etc/pam.d`, pinned with a scripted helper.
//!
//! Two people: `alice`, whose uid lies in the product's range, and `bob`, a local break-glass user. The
//! facts about bob are the ones that must never change: nothing that happens to our helper is his.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption of a test is a failed test"
)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nightlatch_world::{Node, NodeSpec, Person, SshOutcome, local_user};

const GATE: &str = "account [success=ignore user_unknown=ignore default=1] pam_succeed_if.so quiet uid >= 1879048192 uid <= 2147352575\n";
const HELPER_LINE: &str = "account requisite pam_exec.so seteuid quiet stdout /usr/libexec/facts/pam\n";
const HELPER_PATH: &str = "/usr/libexec/facts/pam";

/// A node with alice and bob, and the PAM files as the packages brought them.
struct Rig {
    node: Node,
    alice: Person,
    bob: Person,
    sshd: String,
    sudo: String,
}

impl Rig {
    /// Puts lines before `@include common-account` of a service.
    fn account_lines(&self, service: &str, lines: &str) {
        let text = if service == "sudo" { &self.sudo } else { &self.sshd };
        let marked = text.replace("@include common-account\n", &format!("{lines}@include common-account\n"));
        assert!(lines.is_empty() || marked != *text);
        self.node
            .write_file(&format!("/etc/pam.d/{service}"), marked.as_bytes(), 0o644, "root:root")
            .unwrap();
    }

    /// Appends lines to sshd's own file, after every account line is as packaged.
    fn session_lines(&self, lines: &str) {
        let text = format!("{}{lines}", self.sshd);
        self.node.write_file("/etc/pam.d/sshd", text.as_bytes(), 0o644, "root:root").unwrap();
    }

    /// The helper logs its call and runs `body`. (`-p`: a shell otherwise drops what PAM gave it.)
    fn helper(&self, body: &str) {
        let text =
            format!("#!/bin/sh -p\nprintf '%s\\n' \"$PAM_USER $PAM_TYPE\" >>/run/facts/calls\n{body}\n");
        self.node.write_file(HELPER_PATH, text.as_bytes(), 0o755, "root:root").unwrap();
    }

    fn calls(&self) -> String {
        self.node.shell("cat /run/facts/calls; rm -f /run/facts/calls; : >/run/facts/calls").unwrap()
    }

    fn alice(&self, options: &[&str]) -> SshOutcome {
        self.node.ssh(&self.alice, "alice", &["id", "-un"], options).unwrap()
    }

    fn bob(&self) -> SshOutcome {
        self.node.ssh(&self.bob, "bob", &["id", "-un"], &[]).unwrap()
    }
}

/// The one node, one test at a time (they rewrite the same files), everything as packaged.
fn rig() -> (&'static Rig, MutexGuard<'static, ()>) {
    static RIG: OnceLock<Rig> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = RIG.get_or_init(|| {
        let node = Node::boot(&NodeSpec::default()).unwrap();
        let alice = Person::new(node.image()).unwrap();
        let bob = Person::new(node.image()).unwrap();
        local_user(&node, "alice", &alice).unwrap();
        local_user(&node, "bob", &bob).unwrap();
        node.shell(
            "usermod -u 1879048200 alice && chown -R alice /home/alice
             install -d -m 0755 /usr/libexec/facts /run/facts && : >/run/facts/calls
             printf 'alice,bob ALL=(ALL) NOPASSWD: ALL\\n' >/etc/sudoers.d/facts && chmod 0440 /etc/sudoers.d/facts",
        )
        .unwrap();
        let read = |path| String::from_utf8(node.read_file(path).unwrap()).unwrap();
        let (sshd, sudo) = (read("/etc/pam.d/sshd"), read("/etc/pam.d/sudo"));
        Rig { node, alice, bob, sshd, sudo }
    });
    rig.account_lines("sshd", "");
    rig.account_lines("sudo", "");
    rig.node.shell("chage -E -1 alice; rm -f /run/facts/*; : >/run/facts/calls").unwrap();
    (rig, turn)
}

fn assert_in(outcome: &SshOutcome) {
    assert!(outcome.is_in(), "{outcome:?}");
}

/// Asserts a login that was ended after the key was accepted.
fn assert_closed(outcome: &SshOutcome) {
    assert!(outcome.status == 255 && !outcome.is_refused(), "{outcome:?}");
}

#[test]
fn refusal_text_reaches_the_person() {
    let (rig, _turn) = rig();
    rig.account_lines("sshd", &format!("{GATE}{HELPER_LINE}"));
    rig.helper("echo 'no role on this node'; echo 'ask for one' >&2; exit 1");
    let outcome = rig.alice(&[]);
    assert_closed(&outcome);
    let text = outcome.stderr.find("no role on this node").unwrap();
    let advice = outcome.stderr.find("ask for one").unwrap();
    let closed = outcome.stderr.find("Connection closed").unwrap();
    assert!(text < advice && advice < closed, "{outcome:?}");
    assert!(!outcome.stderr.contains("exit code"), "{outcome:?}");

    let quiet = rig.alice(&["-o", "LogLevel=ERROR"]);
    assert_closed(&quiet);
    assert!(!quiet.stderr.contains("no role"), "a quiet client hides it: {quiet:?}");

    rig.helper("exit 0");
    assert_in(&rig.alice(&[]));
}

#[test]
fn refusal_text_needs_stdout_quiet_and_requisite() {
    let (rig, _turn) = rig();
    rig.helper("echo 'no role on this node'; exit 1");
    let with = |line: &str| {
        rig.account_lines("sshd", &format!("{GATE}{line}\n"));
        let outcome = rig.alice(&[]);
        assert_closed(&outcome);
        outcome.stderr
    };
    let without_stdout = with("account requisite pam_exec.so seteuid quiet /usr/libexec/facts/pam");
    assert!(!without_stdout.contains("no role"), "{without_stdout}");
    let without_quiet = with("account requisite pam_exec.so seteuid stdout /usr/libexec/facts/pam");
    assert!(without_quiet.contains("failed: exit code 1"), "{without_quiet}");

    rig.node.shell("chage -E 1 alice").unwrap();
    let required = with("account required pam_exec.so seteuid quiet stdout /usr/libexec/facts/pam");
    assert!(required.contains("no role") && required.contains("account has expired"), "{required}");
    let requisite = with(HELPER_LINE.trim());
    assert!(requisite.contains("no role") && !requisite.contains("account has expired"), "{requisite}");
}

#[test]
fn control_characters_are_escaped_in_the_account_phase() {
    let (rig, _turn) = rig();
    rig.account_lines("sshd", &format!("{GATE}{HELPER_LINE}"));
    rig.helper("printf 'red \\033[31m text\\n'; exit 1");
    let outcome = rig.alice(&[]);
    assert!(outcome.stderr.contains("red \\033[31m text"), "{outcome:?}");
}

#[test]
fn broken_helper_refuses_ours_and_never_the_local_user() {
    let (rig, _turn) = rig();
    rig.account_lines("sshd", &format!("{GATE}{HELPER_LINE}"));
    rig.account_lines("sudo", &format!("{GATE}{HELPER_LINE}"));
    rig.helper("exit 0");
    assert_in(&rig.alice(&[]));
    assert_eq!(rig.calls(), "alice account\n");

    for breakage in ["rm -f", "chmod 0", "truncate -s 0", "ln -sf /nowhere"] {
        rig.helper("exit 0");
        rig.node.shell(&format!("{breakage} {HELPER_PATH}")).unwrap();
        let alice = rig.alice(&[]);
        assert_closed(&alice);
        let bob = rig.bob();
        assert!(bob.is_in(), "after `{breakage}`: {bob:?}");
        let sudo = rig.node.exec_as("bob", &["sudo", "-n", "id", "-u"]).unwrap();
        assert_eq!(sudo.stdout, b"0\n", "after `{breakage}`");
        let sudo = rig.node.exec_as("alice", &["sudo", "-n", "id", "-u"]).unwrap();
        assert!(!sudo.status.success(), "after `{breakage}`");
        rig.node.shell(&format!("rm -f {HELPER_PATH}; su - bob -c true")).unwrap();
    }
    assert_eq!(rig.calls(), "", "the helper ran for a broken file or for bob");
}

#[test]
fn without_the_gate_a_missing_helper_locks_the_local_user_out() {
    let (rig, _turn) = rig();
    rig.account_lines("sshd", HELPER_LINE);
    rig.node.shell(&format!("rm -f {HELPER_PATH}")).unwrap();
    assert_closed(&rig.bob());
    rig.account_lines("sshd", &format!("{GATE}{HELPER_LINE}"));
    assert_in(&rig.bob());
}

#[test]
fn helper_runs_as_root_altogether_under_sudo() {
    let (rig, _turn) = rig();
    rig.helper("grep ^Uid: /proc/self/status >>/run/facts/uids; exit 0");
    let uids = || rig.node.shell("tr '\\t' ' ' </run/facts/uids; rm /run/facts/uids").unwrap();
    let sudo = || assert!(rig.node.exec_as("alice", &["sudo", "-n", "true"]).unwrap().status.success());
    rig.account_lines("sudo", &format!("{GATE}{HELPER_LINE}"));
    sudo();
    assert_eq!(uids(), "Uid: 0 0 0 0\n");
    rig.account_lines("sudo", &format!("{GATE}{}", HELPER_LINE.replace(" seteuid", "")));
    sudo();
    assert_eq!(uids(), "Uid: 1879048200 0 0 0\n");
}

#[test]
fn sudo_asks_again_even_without_a_password() {
    let (rig, _turn) = rig();
    rig.account_lines("sudo", &format!("{GATE}{HELPER_LINE}"));
    let sudo = || rig.node.exec_as("alice", &["sudo", "-n", "id", "-u"]).unwrap();
    rig.helper("exit 0");
    assert_eq!(sudo().stdout, b"0\n");
    rig.helper("echo 'admin right ended'; exit 1");
    let refused = sudo();
    assert!(!refused.status.success());
    // Without a terminal sudo hands PAM's text to standard output.
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "admin right ended\n");
}

#[test]
fn locked_record_is_refused_and_one_unlocked_by_the_helper_is_in() {
    let (rig, _turn) = rig();
    rig.account_lines("sshd", &format!("{GATE}{HELPER_LINE}"));
    rig.node.shell("chage -E 1 alice").unwrap();
    rig.helper("exit 0");
    let locked = rig.alice(&[]);
    assert_closed(&locked);
    assert!(locked.stderr.contains("account has expired"), "{locked:?}");
    // pam_unix reads the record afresh after the helper, which stands before it.
    rig.helper("chage -E -1 alice; exit 0");
    assert_in(&rig.alice(&[]));

    rig.node.shell("chage -E 1 alice").unwrap();
    let sudo = rig.node.exec_as("alice", &["sudo", "-n", "true"]).unwrap();
    assert!(!sudo.status.success(), "sudo of a locked record");
}

#[test]
fn account_phase_sees_the_address_but_not_the_certificate_and_no_session() {
    let (rig, _turn) = rig();
    rig.account_lines("sshd", &format!("{GATE}{HELPER_LINE}"));
    rig.helper("{ env; echo \"session=$(cat /proc/self/sessionid)\"; echo \"parent=$PPID\"; } >/run/facts/seen; exit 0");
    assert_in(&rig.alice(&[]));
    let seen = rig.node.shell("cat /run/facts/seen").unwrap();
    for expected in
        ["PAM_RHOST=127.0.0.1\n", "PAM_SERVICE=sshd\n", "SSH_CONNECTION=127.0.0.1 ", "session=4294967295\n"]
    {
        assert!(seen.contains(expected), "{expected:?} in {seen}");
    }
    let certificate = seen.lines().find_map(|line| line.strip_prefix("SSH_AUTH_INFO_0=")).unwrap_or_default();
    assert_eq!(certificate, "");
}

#[test]
fn failed_session_helper_opens_no_shell_only_where_it_is_required() {
    let (rig, _turn) = rig();
    rig.helper("exit 1");
    rig.session_lines("session required pam_exec.so seteuid quiet stdout /usr/libexec/facts/pam\n");
    let required = rig.alice(&[]);
    assert!(!required.is_in() && !required.stdout.contains("alice"), "{required:?}");
    rig.session_lines("session optional pam_exec.so seteuid quiet stdout /usr/libexec/facts/pam\n");
    assert_in(&rig.alice(&[]));
}
