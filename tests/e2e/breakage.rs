//! A broken, missing, hung or half-removed Nightlatch never breaks a local user, and lets nobody in.

use std::time::{Duration, Instant};

use nightlatch_world::{Person, SshOutcome, wait_until, watchdogs};

use crate::site::{HELPER, HOOK, SOON, Site, text};

/// What a refusal or a local login may take longer than a healthy login.
const SLACK: Duration = Duration::from_secs(2);
/// How long a look-up of a local user's groups may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(1);

/// A node with a person who has been in, a local user, and what a healthy login takes.
struct Rig {
    site: Site,
    alice: Person,
    bob: Person,
    baseline: Duration,
}

const ALICE: &str = "alice@contoso.com";

impl Rig {
    fn start() -> Self {
        let site = Site::start();
        site.roles(&[(ALICE, "user")]);
        let (alice, bob) = (site.person(ALICE), site.local("bob"));
        site.assert_in(&alice, ALICE);
        let mut times: Vec<Duration> = (0..3).map(|_| site.ssh(&bob, "bob", &["true"]).elapsed).collect();
        times.sort();
        Self { site, alice, bob, baseline: times[1] }
    }

    /// The local user is as before, and no slower than the slack allows.
    fn assert_bob(&self, when: &str) {
        let login = self.site.ssh(&self.bob, "bob", &["id", "-un"]);
        assert_eq!((login.status, login.stdout.trim()), (0, "bob"), "{when}: {login:?}");
        assert!(login.elapsed < self.baseline + SLACK, "{when}: {login:?}, before {:?}", self.baseline);
        self.site.assert_local_unaffected(&self.bob, "bob", when);
    }

    /// The Entra user is refused, soon.
    fn assert_alice_out(&self, when: &str) -> SshOutcome {
        let login = self.site.ssh(&self.alice, ALICE, &["id"]);
        assert!(login.status == 255 && login.stdout.is_empty(), "{when}: {login:?}");
        assert!(login.elapsed < self.baseline + SLACK, "{when}: {login:?}, before {:?}", self.baseline);
        login
    }

    fn alice_gets_in(&self, what: &str, limit: Duration) {
        let back = wait_until(what, limit, || self.site.ssh(&self.alice, ALICE, &["true"]).is_in());
        assert!(back.is_ok(), "{what}\n{}", self.site.node.journal(&["-n", "60"]).unwrap());
    }

    /// A look-up of a local user, timed in the node.
    fn time_lookup(&self) -> Duration {
        let start = Instant::now();
        let found = self.site.node.exec(&["id", "bob"]).unwrap();
        assert!(found.status.success(), "{}", text(&found));
        start.elapsed()
    }
}

#[test]
fn acceptance_05_daemon_stopped_local_users_and_their_cron_are_unaffected() {
    let rig = Rig::start();
    let node = &rig.site.node;
    node.shell("systemctl start atd").unwrap();
    node.shell("echo '* * * * * date +\\%s >>/home/bob/cron-ran' | crontab -u bob -").unwrap();
    node.shell("systemctl stop 'nightlatchd*.socket' nightlatchd.service && rm -f /home/bob/cron-ran")
        .unwrap();
    rig.assert_alice_out("the daemon is stopped");
    rig.assert_bob("the daemon is stopped");
    let output = node.exec_as("bob", &["sh", "-c", "echo 'touch /home/bob/at-ran' | at now"]).unwrap();
    assert!(output.status.success(), "{}", text(&output));

    // Everything else of ours goes as well: half-removed is no other than stopped.
    node.shell("systemctl stop nightlatch-userdbd").unwrap();
    rig.assert_bob("the responder is stopped as well");
    rig.assert_alice_out("the responder is stopped as well");
    node.shell("mv /usr/libexec/nightlatch /usr/libexec/gone").unwrap();
    rig.assert_bob("the programs are gone");
    rig.assert_alice_out("the programs are gone");
    wait_until("bob's at job", SOON, || {
        node.exec(&["test", "-e", "/home/bob/at-ran"]).unwrap().status.success()
    })
    .unwrap();
    wait_until("bob's cron job", Duration::from_secs(75), || {
        node.exec(&["test", "-s", "/home/bob/cron-ran"]).unwrap().status.success()
    })
    .unwrap();

    node.shell("mv /usr/libexec/gone /usr/libexec/nightlatch && systemctl start nightlatch-userdbd").unwrap();
    node.shell("systemctl start 'nightlatchd-hook.socket' 'nightlatchd-account.socket' 'nightlatchd-admin.socket' nightlatchd").unwrap();
    rig.alice_gets_in("a login after the repair", SOON);
}

#[test]
fn review_04_broken_programs_refuse_ours_and_never_the_local_user() {
    let rig = Rig::start();
    let node = &rig.site.node;
    node.shell(&format!("cp -a {HELPER} /root/pam && cp -a {HOOK} /root/hook")).unwrap();
    for (program, kept) in [(HELPER, "/root/pam"), (HOOK, "/root/hook")] {
        for breakage in ["rm -f", "chmod 0", "truncate -s 0", "ln -sfn /nowhere", "chmod 0777"] {
            // A hook that others may write is sshd's to refuse; a helper's mode is root's business.
            if breakage == "chmod 0777" && program == HELPER {
                continue;
            }
            let when = format!("{breakage} {program}");
            node.shell(&when).unwrap();
            rig.assert_alice_out(&when);
            rig.assert_bob(&when);
            node.shell(&format!("rm -f {program} && cp -a {kept} {program}")).unwrap();
        }
        rig.alice_gets_in("a login after the repair", SOON);
    }
    // A daemon that was killed is back before the next login.
    let pid = rig.site.main_pid("nightlatchd");
    node.shell(&format!("kill -KILL {pid}")).unwrap();
    rig.assert_bob("the daemon was killed");
    rig.alice_gets_in("a login after the kill", SOON);
    assert_ne!(rig.site.main_pid("nightlatchd"), pid);
}

/// Opens connections as the given user until one would block, and leaves them behind.
const FILL: &str = r"
import os, socket, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3]))
held = []
while True:
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect(sys.argv[1])
    except BlockingIOError:
        break
    held.append(s)
print(len(held))
";

/// The wall time of one hook run, in milliseconds, and that it printed nothing.
const TIME_HOOK: &str = r"
import subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[1:], capture_output=True)
print(int((time.monotonic() - start) * 1000), done.returncode, len(done.stdout))
";

#[test]
fn acceptance_05_review_11_a_hung_daemon_with_full_backlogs_costs_local_users_nothing() {
    let rig = Rig::start();
    let node = &rig.site.node;
    let pid = rig.site.main_pid("nightlatchd");
    let line = std::fs::read_to_string(rig.alice.certificate_path()).unwrap();
    let (key_type, key) = line.split_once(' ').unwrap();
    let ids = node.shell("id -g nightlatch-hook; id -u nightlatch-hook").unwrap();
    let ids: Vec<&str> = ids.lines().collect();
    node.shell(&format!("kill -STOP {pid}")).unwrap();

    for (socket, gid, uid) in [("hook", ids[0], ids[1]), ("account", "0", "0")] {
        let path = format!("/run/nightlatch/{socket}.sock");
        let filled = node.exec(&["python3", "-c", FILL, &path, gid, uid]).unwrap();
        let count: u32 = String::from_utf8_lossy(&filled.stdout).trim().parse().unwrap_or(0);
        assert!(count > 1000, "the backlog of {socket} was not filled: {}", text(&filled));
    }
    let uid = rig.site.uid(ALICE).to_string();
    let runs: Vec<String> = (0..3)
        .map(|_| {
            let words = ["python3", "-c", TIME_HOOK, HOOK, ALICE, &uid, key_type, key];
            text(&node.exec_as("nightlatch-hook", &words).unwrap()).trim().to_owned()
        })
        .collect();
    let times: Vec<u32> = runs.iter().map(|run| run.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(times.iter().min().unwrap() <= &350, "{runs:?}");
    assert!(runs.iter().all(|run| run.ends_with(" -14 0")), "ended by its timer, nothing printed: {runs:?}");

    rig.assert_alice_out("the daemon hangs");
    let alone = wait_until("no hook is left", SLACK, || {
        !node.exec(&["pgrep", "-u", "nightlatch-hook"]).unwrap().status.success()
    });
    assert!(alone.is_ok());
    assert!(rig.time_lookup() < LOOKUP_LIMIT);
    rig.assert_bob("the daemon hangs");
    assert_eq!(rig.site.main_pid("nightlatchd"), pid, "all this was while it hung");
    node.shell(&format!("kill -CONT {pid}")).unwrap();
    rig.alice_gets_in("a login after the daemon went on", SOON);
}

/// A daemon that hangs for good is replaced by systemd.
#[test]
fn review_12_a_daemon_that_hangs_for_good_is_replaced() {
    let rig = Rig::start();
    watchdogs(&rig.site.node, true).unwrap();
    let pid = rig.site.main_pid("nightlatchd");
    rig.site.node.shell(&format!("kill -STOP {pid}")).unwrap();
    wait_until("another daemon", Duration::from_secs(60), || {
        let now = rig.site.main_pid("nightlatchd");
        now != 0 && now != pid
    })
    .unwrap();
    rig.alice_gets_in("a login at the new daemon", SOON);
}

#[test]
fn acceptance_05_review_12_a_mute_responder_is_replaced_within_a_second() {
    let rig = Rig::start();
    let node = &rig.site.node;
    watchdogs(node, true).unwrap();
    for round in 0..3 {
        let pid = rig.site.main_pid("nightlatch-userdbd");
        assert_ne!(pid, 0);
        node.shell(&format!("kill -STOP {pid}")).unwrap();
        let took = rig.time_lookup();
        assert!(took < LOOKUP_LIMIT, "round {round}: {took:?}");
        wait_until("another responder", SOON, || {
            let now = rig.site.main_pid("nightlatch-userdbd");
            now != 0 && now != pid
        })
        .unwrap();
    }
    let pid = rig.site.main_pid("nightlatch-userdbd");
    node.shell(&format!("kill -STOP {pid}")).unwrap();
    let login = rig.site.ssh(&rig.bob, "bob", &["id", "-un"]);
    assert!(login.is_in() && login.elapsed < rig.baseline + SLACK, "{login:?}, before {:?}", rig.baseline);
    rig.assert_bob("the responder was mute");
    rig.alice_gets_in("a login at the new responder", SOON);
}

/// The responder goes away in the middle of a login: no shell opens, and the next logins are whole.
#[test]
fn review_12_the_responder_dies_between_account_and_session() {
    let rig = Rig::start();
    let node = &rig.site.node;
    let script = "#!/bin/sh\n[ \"$PAM_USER\" = bob ] || systemctl stop nightlatch-userdbd\nexit 0\n";
    node.write_file("/usr/local/sbin/strike", script.as_bytes(), 0o755, "root:root").unwrap();
    let sshd = String::from_utf8(node.read_file("/etc/pam.d/sshd").unwrap()).unwrap();
    let struck = sshd.replace(
        "@include common-account\n",
        "@include common-account\naccount optional pam_exec.so quiet /usr/local/sbin/strike\n",
    );
    assert_ne!(struck, sshd);
    node.write_file("/etc/pam.d/sshd", struck.as_bytes(), 0o644, "root:root").unwrap();
    let login = rig.site.ssh(&rig.alice, ALICE, &["id -u; id -G"]);
    assert!(!rig.site.is_active("nightlatch-userdbd"), "struck in the account phase");
    // Nobody can say whose login it is any more, so it is not recorded, and what is not recorded does not open.
    assert_eq!(login.status, 254, "{login:?}");
    assert!(
        login.stdout.contains("pam_loginuid fails") && !login.stdout.contains("nightlatch-admins"),
        "{login:?}"
    );
    assert!(!login.stdout.lines().any(|line| line.trim().parse::<u32>().is_ok()), "{login:?}");
    rig.assert_bob("the responder died in another login");
    node.write_file("/etc/pam.d/sshd", sshd.as_bytes(), 0o644, "root:root").unwrap();
    node.shell("systemctl start nightlatch-userdbd").unwrap();
    rig.alice_gets_in("a login afterwards", SOON);
}

/// pam_unix refuses a locked record by itself, should our lines in PAM ever be missing and the hook be
/// somebody else's; and our line refuses who was never admitted.
#[test]
fn acceptance_07_a_locked_record_is_refused_whatever_the_hook_prints() {
    let site = Site::start();
    let name = "vera@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    let line = format!("cert-authority,principals=\"{name}\" {}", site.ca.public_key().unwrap());
    let scripted = format!("#!/bin/sh\necho '{line}'\n");
    site.node.shell(&format!("cp -a {HOOK} /root/hook")).unwrap();
    site.node.write_file(HOOK, scripted.as_bytes(), 0o755, "root:root").unwrap();
    site.assert_closed(&person, name, "no_admit");

    let sshd = String::from_utf8(site.node.read_file("/etc/pam.d/sshd").unwrap()).unwrap();
    let bare: String = sshd
        .lines()
        .filter(|line| {
            !(line.starts_with("account") && (line.contains("pam_exec") || line.contains("succeed_if")))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(bare, sshd);
    site.node.write_file("/etc/pam.d/sshd", bare.as_bytes(), 0o644, "root:root").unwrap();
    let login = site.ssh(&person, name, &["id"]);
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    assert!(login.stderr.contains("account has expired"), "{login:?}");
    // `UsePAM no` refuses as well: the record's password is no password.
    site.node
        .shell("sed -i '1i UsePAM no' /etc/ssh/sshd_config && sshd -t && systemctl restart ssh")
        .unwrap();
    let login = site.ssh(&person, name, &["id"]);
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");

    site.node.write_file("/etc/pam.d/sshd", sshd.as_bytes(), 0o644, "root:root").unwrap();
    site.node
        .shell(&format!(
            "rm -f {HOOK} && cp -a /root/hook {HOOK} && sed -i 1d /etc/ssh/sshd_config && systemctl restart ssh"
        ))
        .unwrap();
    site.assert_in(&person, name);
}
