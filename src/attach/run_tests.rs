//! attach and detach on a folder that plays `/`, with an sshd that says what the test wants.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::pam_edit::HELPER;
use super::plan::{FOLDER, SUDOERS};
use super::sshd_config::MAIN;
use super::sshd_edit::{DROP_IN, HOOK};
use super::{Interactive, Mode, Refusal, Root, Said, Tools, Wish, attach, detach};

const AKS: &str = "Include /etc/ssh/sshd_config.d/99-aks-cis.conf\nPubkeyAuthentication no\nUsePAM yes\n";
const PAM: &str = "@include common-auth\n@include common-account\n@include common-session";
const LOGIN_UID: &str = "session required pam_loginuid.so\nsession optional pam_systemd.so\n";
const OBSERVE_LINE: &str = "session optional pam_exec.so seteuid quiet /usr/libexec/nightlatch/pam observe\n";

/// sshd, visudo and systemctl.
#[derive(Default)]
struct Fake {
    calls: RefCell<Vec<String>>,
    /// `sshd -t` on the real configuration.
    broken: Cell<bool>,
    /// `sshd -t -f`, the trial.
    trial_refused: Cell<bool>,
    visudo_refuses: Cell<bool>,
    /// Whose hook `sshd -T` shows.
    hook: RefCell<String>,
}

impl Tools for Fake {
    fn run(&self, program: &str, arguments: &[&str]) -> Option<Said> {
        let name = program.rsplit('/').next().unwrap_or_default();
        self.calls.borrow_mut().push(format!("{name} {}", arguments.join(" ")));
        let (ok, out) = match (name, arguments) {
            ("sshd", ["-t"]) => (!self.broken.get(), String::new()),
            ("sshd", ["-t", "-f", _]) => (!self.trial_refused.get(), String::new()),
            ("sshd", _) => (
                true,
                format!(
                    "usepam yes\npubkeyauthentication yes\nauthorizedkeysfile none\nauthorizedkeyscommand {}\n\
                     authorizedkeyscommanduser nightlatch-hook\n",
                    self.hook.borrow()
                ),
            ),
            ("visudo", _) => (!self.visudo_refuses.get(), String::new()),
            ("systemctl", ["show", ..]) => (true, "loaded\n".to_owned()),
            _ => (true, String::new()),
        };
        Some(Said {
            ok,
            out,
            err: if ok { String::new() } else { "line 3: Bad configuration option".into() },
        })
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    root: Root,
    fake: Fake,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().to_path_buf());
    for path in [
        "/etc/ssh/sshd_config.d",
        "/etc/pam.d",
        "/etc/sudoers.d",
        "/usr/libexec/nightlatch",
        "/usr/lib/security",
        "/var/lib",
    ] {
        std::fs::create_dir_all(root.path(path)).unwrap();
    }
    for (path, text, mode) in [
        (MAIN, AKS, 0o600),
        ("/etc/pam.d/sshd", PAM, 0o644),
        ("/etc/pam.d/sudo", PAM, 0o644),
        ("/etc/pam.d/common-session", LOGIN_UID, 0o644),
        ("/etc/sudoers", "@includedir /etc/sudoers.d\n", 0o440),
        ("/etc/nsswitch.conf", "passwd: files systemd\ngroup: files\n", 0o644),
        ("/etc/passwd", "root:x:0:0::/:/bin/sh\nnightlatch-hook:x:990:990::/:/usr/sbin/nologin\n", 0o644),
        ("/usr/libexec/nightlatch/authorized-keys", "elf", 0o755),
        ("/usr/libexec/nightlatch/pam", "elf", 0o755),
        ("/usr/libexec/nightlatch/userdbd", "elf", 0o755),
        ("/usr/libexec/nightlatch/sessiond", "elf", 0o755),
        ("/usr/lib/security/pam_succeed_if.so", "elf", 0o644),
        ("/usr/lib/security/pam_exec.so", "elf", 0o644),
        ("/usr/lib/security/pam_mkhomedir.so", "elf", 0o644),
        ("/usr/lib/libnss_systemd.so.2", "elf", 0o644),
    ] {
        root.write(path, text, mode).unwrap();
    }
    let fake = Fake::default();
    *fake.hook.borrow_mut() = HOOK.to_owned();
    Stage { _folder: folder, root, fake }
}

impl Stage {
    /// Every file below /etc and /var with mode and text.
    fn everything(&self) -> BTreeMap<String, (u32, String)> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.root.path("/etc"), self.root.path("/var")];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    todo.push(entry.path());
                } else {
                    let mode = entry.metadata().unwrap().permissions().mode();
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    found.insert(entry.path().display().to_string(), (mode, text));
                }
            }
        }
        found
    }

    fn attach(&self) -> Result<super::Report, Refusal> {
        self.attach_in(Mode::Enforce)
    }

    fn attach_in(&self, mode: Mode) -> Result<super::Report, Refusal> {
        attach(&self.root, &self.fake, Wish { mode, interactive: Interactive::Nothing }, false)
    }

    fn reloads(&self) -> usize {
        self.fake.calls.borrow().iter().filter(|call| call.contains("try-reload-or-restart")).count()
    }
}

#[test]
fn in_and_out_leaves_every_byte_and_mode() {
    let stage = stage();
    let before = stage.everything();
    let report = stage.attach().unwrap();
    assert_eq!(report.changes.len(), 6, "{:?}", report.changes);
    assert!(!report.unfinished);
    assert!(stage.root.text(MAIN).unwrap().unwrap().contains(&format!("Include {DROP_IN}")));
    let calls = stage.fake.calls.borrow().clone();
    let last = calls.iter().rfind(|call| !call.contains(" show ")).unwrap();
    assert!(last.ends_with("try-reload-or-restart ssh.service"), "{calls:?}");
    let attached = stage.everything();
    assert!(stage.attach().unwrap().changes.is_empty(), "twice is once");
    assert_eq!(stage.everything(), attached);
    detach(&stage.root, &stage.fake, false).unwrap();
    assert_eq!(stage.everything(), before);
    assert!(!stage.root.path(FOLDER).exists());
    assert!(detach(&stage.root, &stage.fake, false).unwrap().changes.is_empty());
}

#[test]
fn a_dry_run_writes_nothing_and_shows_lines() {
    let stage = stage();
    let before = stage.everything();
    let wish = Wish { mode: Mode::Enforce, interactive: Interactive::Reason };
    let report = attach(&stage.root, &stage.fake, wish, true).unwrap();
    assert_eq!(stage.everything(), before);
    let sudoers = report.changes.iter().find(|change| change.path == SUDOERS).unwrap();
    assert!(sudoers.lines().contains(&"+ %nightlatch-admins ALL=(ALL:ALL) NOPASSWD: ALL".to_owned()));
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.lines().iter().any(|line| line.starts_with("+ auth requisite")))
    );
    let sshd = report.changes.iter().find(|change| change.path == "/etc/pam.d/sshd").unwrap().lines();
    assert!(
        sshd.contains(&format!("+ session required pam_exec.so seteuid quiet stdout {HELPER}")),
        "{sshd:?}"
    );

    let wish = Wish { mode: Mode::Enforce, interactive: Interactive::StepUp };
    let report = attach(&stage.root, &stage.fake, wish, true).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("BatchMode=yes")), "{:?}", report.notes);
    let lines: Vec<String> = report.changes.iter().flat_map(super::plan::Change::lines).collect();
    for line in [
        "+     AuthenticationMethods publickey,keyboard-interactive:pam",
        "+     KbdInteractiveAuthentication yes",
    ] {
        assert!(lines.iter().any(|one| one == line), "{line} in {lines:?}");
    }

    let wish = Wish { mode: Mode::Observe, interactive: Interactive::Reason };
    let report = attach(&stage.root, &stage.fake, wish, true).unwrap();
    assert_eq!(stage.everything(), before);
    let lines: Vec<String> = report.changes.iter().flat_map(super::plan::Change::lines).collect();
    assert!(lines.contains(&format!("+ {}", OBSERVE_LINE.trim_end())), "{lines:?}");
    assert_eq!(report.changes.len(), 1);
}

/// Package scripts that reloaded sshd with a bad configuration have locked everybody out.
#[test]
fn past_bug_row_79_a_broken_sshd_config_is_never_touched() {
    let stage = stage();
    let before = stage.everything();
    stage.fake.broken.set(true);
    assert!(matches!(stage.attach(), Err(Refusal::AlreadyBroken(_))));
    assert_eq!(stage.everything(), before);
    assert!(!stage.fake.calls.borrow().iter().any(|call| call.contains("reload")));
}

#[test]
fn what_sshd_or_visudo_refuses_is_not_switched() {
    for flaw in ["trial", "visudo"] {
        let stage = stage();
        let before = stage.everything();
        stage.fake.trial_refused.set(flaw == "trial");
        stage.fake.visudo_refuses.set(flaw == "visudo");
        let refused = stage.attach().unwrap_err();
        assert!(matches!(refused, Refusal::SshdRefuses(_) | Refusal::SudoRefuses(_)), "{refused}");
        let mut after = stage.everything();
        after.retain(|path, _| !path.ends_with("/lock"));
        assert_eq!(after, before, "{flaw}");
    }
}

#[test]
fn what_would_not_be_asked_is_put_back() {
    let stage = stage();
    stage
        .root
        .write(
            "/etc/ssh/sshd_config.d/99-aks-cis.conf",
            "Match all\nAuthorizedKeysCommand /opt/other %u\n",
            0o644,
        )
        .unwrap();
    let before = stage.everything();
    *stage.fake.hook.borrow_mut() = "/opt/other %u".to_owned();
    let refused = stage.attach().unwrap_err().to_string();
    assert!(refused.contains("/opt/other") && refused.contains("99-aks-cis.conf:2"), "{refused}");
    let mut after = stage.everything();
    after.retain(|path, _| !path.ends_with("/lock"));
    assert_eq!(after, before);
    assert!(!stage.fake.calls.borrow().iter().any(|call| call.contains("reload")));
}

#[test]
fn it_refuses_what_is_not_ready_or_not_ours() {
    let stage = stage();
    stage.root.remove("/usr/libexec/nightlatch/pam").unwrap();
    assert!(stage.attach().unwrap_err().to_string().contains("nightlatch/pam"));
    stage.root.write("/usr/libexec/nightlatch/pam", "elf", 0o775).unwrap();
    assert!(stage.attach().unwrap_err().to_string().contains("chmod go-w"));
    stage.root.remove("/usr/libexec/nightlatch/pam").unwrap();
    stage.root.write("/usr/libexec/nightlatch/pam", "elf", 0o755).unwrap();
    stage.root.write(DROP_IN, "Match all\n", 0o644).unwrap();
    assert!(matches!(stage.attach(), Err(Refusal::NotOurs(_))));
}

#[test]
fn observing_changes_one_file_and_reloads_nothing() {
    let stage = stage();
    let before = stage.everything();
    let report = stage.attach_in(Mode::Observe).unwrap();
    let paths: Vec<&str> = report.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["/etc/pam.d/sshd"]);
    assert!(!report.unfinished && report.notes.is_empty(), "{:?}", report.notes);
    assert!(stage.root.text("/etc/pam.d/sshd").unwrap().unwrap().contains(OBSERVE_LINE));
    let attached = stage.everything();
    assert!(stage.attach_in(Mode::Observe).unwrap().changes.is_empty(), "twice is once");
    assert_eq!(stage.everything(), attached);
    detach(&stage.root, &stage.fake, false).unwrap();
    assert_eq!(stage.everything(), before);
    assert!(!stage.root.path(FOLDER).exists());
    assert_eq!(stage.reloads(), 0, "PAM is read at each login");
}

#[test]
fn one_run_leads_from_either_mode_to_the_other() {
    let stage = stage();
    let before = stage.everything();
    stage.attach_in(Mode::Observe).unwrap();
    let observing = stage.everything();
    stage.attach_in(Mode::Enforce).unwrap();
    let switched = stage.everything();
    let pam = stage.root.text("/etc/pam.d/sshd").unwrap().unwrap();
    assert!(!pam.contains(OBSERVE_LINE) && pam.contains("session required pam_exec.so"), "{pam}");
    assert_eq!(stage.reloads(), 1);
    detach(&stage.root, &stage.fake, false).unwrap();
    assert_eq!(stage.everything(), before);

    stage.attach_in(Mode::Enforce).unwrap();
    assert_eq!(stage.everything(), switched, "as if it had never observed");
    let reloads = stage.reloads();
    stage.attach_in(Mode::Observe).unwrap();
    assert_eq!(stage.everything(), observing, "as if it had never decided");
    assert_eq!(stage.reloads(), reloads + 1, "sshd reads that it asks nobody");
    assert!(stage.fake.calls.borrow().iter().any(|call| call.ends_with("trial-sshd_config")));
    detach(&stage.root, &stage.fake, false).unwrap();
    assert_eq!(stage.everything(), before);
}

#[test]
fn a_switch_to_observing_that_sshd_refuses_changes_nothing() {
    let stage = stage();
    stage.attach_in(Mode::Enforce).unwrap();
    let deciding = stage.everything();
    stage.fake.trial_refused.set(true);
    assert!(matches!(stage.attach_in(Mode::Observe), Err(Refusal::SshdRefuses(_))));
    assert_eq!(stage.everything(), deciding);
}

#[test]
fn without_a_login_uid_no_session_could_be_told_from_another() {
    let stage = stage();
    stage.root.write("/etc/pam.d/common-session", "# session required pam_loginuid.so\n", 0o644).unwrap();
    let before = stage.everything();
    let refused = stage.attach().unwrap_err();
    assert!(matches!(refused, Refusal::NoLoginUid), "{refused}");
    assert!(refused.to_string().contains("`session required pam_loginuid.so`"), "{refused}");
    assert_eq!(stage.everything(), before);
    let notes = stage.attach_in(Mode::Observe).unwrap().notes.join("\n");
    assert!(notes.contains("pam_loginuid.so"), "{notes}");
}

#[test]
fn observing_lives_beside_another_agent_and_without_the_other_programs() {
    let stage = stage();
    let block = "Match User *@*\n    AuthorizedKeysCommand /usr/sbin/aad_certhandler %u %k\n";
    stage.root.write(MAIN, &format!("{AKS}{block}"), 0o600).unwrap();
    stage.root.remove("/usr/libexec/nightlatch/sessiond").unwrap();
    stage.root.remove("/usr/lib/security/pam_mkhomedir.so").unwrap();
    let report = stage.attach_in(Mode::Observe).unwrap();
    let notes = report.notes.join("\n");
    assert!(notes.contains("/etc/ssh/sshd_config:5") && notes.contains("nightlatch looks on"), "{notes}");
    assert!(notes.contains("nightlatch/sessiond"), "{notes}");
    assert_eq!(report.changes.len(), 1);
    stage.root.remove(HELPER).unwrap();
    assert!(stage.attach_in(Mode::Observe).unwrap_err().to_string().contains(HELPER));
}

#[test]
fn another_agent_is_not_pushed_aside() {
    let stage = stage();
    let block = "Match User *@*\n    AuthorizedKeysCommand /usr/sbin/aad_certhandler %u %k\n";
    stage.root.write(MAIN, &format!("{AKS}{block}"), 0o600).unwrap();
    let before = stage.everything();
    let refused = stage.attach().unwrap_err().to_string();
    assert!(refused.contains("/etc/ssh/sshd_config:5") && refused.contains("remove it first"), "{refused}");
    assert_eq!(stage.everything(), before);
}
