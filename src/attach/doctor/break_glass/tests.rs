//! The whole dry run on a folder that plays `/`, with an sshd and a sudo that say what the test wants.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use super::keys::made;
use super::*;
use crate::attach::doctor::worst;
use crate::attach::tools::Said;

const SSHD_SAYS: &str = "usepam yes\npubkeyauthentication yes\nauthorizedkeysfile .ssh/authorized_keys\n\
    authorizedkeyscommand none\nauthenticationmethods any\npermitrootlogin prohibit-password\nstrictmodes yes\n";
const SUDO_SAYS: &str = "User bg may run the following commands on node:\n    (ALL : ALL) NOPASSWD: ALL\n";

/// sshd and sudo.
struct Fake {
    sshd: Option<Said>,
    sudo: &'static str,
}

impl Tools for Fake {
    fn run(&self, program: &str, arguments: &[&str]) -> Option<Said> {
        if program == SSHD {
            let connection = arguments.last().unwrap();
            assert!(connection.starts_with("user=") && connection.contains(",addr="), "{connection}");
            return self.sshd.clone();
        }
        Some(Said { ok: true, out: self.sudo.to_owned(), err: String::new() })
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    root: Root,
    fake: Fake,
}

fn uid() -> u32 {
    let own = nix::unistd::geteuid().as_raw();
    if own == 0 { 1001 } else { own }
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().to_path_buf());
    for path in ["/etc/nightlatch", "/etc/pam.d", "/home/bg/.ssh", "/bin"] {
        std::fs::create_dir_all(root.path(path)).unwrap();
    }
    let passwd = format!("root:x:0:0::/root:/bin/bash\nbg:x:{0}:{0}::/home/bg:/bin/bash\n", uid());
    for (path, text, mode) in [
        (FILE, "# the safe in the office\nbg\n", 0o644),
        ("/etc/passwd", passwd.as_str(), 0o644),
        ("/etc/shadow", "root:*:20000:0:99999:7:::\nbg:!:20000:0:99999:7:::\n", 0o640),
        ("/etc/pam.d/sshd", "account required pam_unix.so\nsession required pam_loginuid.so\n", 0o644),
        ("/bin/bash", "elf", 0o755),
        ("/home/bg/.ssh/authorized_keys", &made("ssh-ed25519"), 0o600),
    ] {
        std::fs::write(root.path(path), text).unwrap();
        set_permissions(root.path(path), Permissions::from_mode(mode)).unwrap();
    }
    for (path, mode) in [("/home/bg", 0o755), ("/home/bg/.ssh", 0o700)] {
        set_permissions(root.path(path), Permissions::from_mode(mode)).unwrap();
    }
    set_permissions(root.path("/"), Permissions::from_mode(0o755)).unwrap();
    for path in ["/home/bg", "/home/bg/.ssh", "/home/bg/.ssh/authorized_keys"] {
        chown(root.path(path), Some(uid()), Some(uid())).unwrap();
    }
    let sshd = Some(Said { ok: true, out: SSHD_SAYS.to_owned(), err: String::new() });
    Stage { _folder: folder, root, fake: Fake { sshd, sudo: SUDO_SAYS } }
}

impl Stage {
    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.root.path(path), text).unwrap();
    }

    fn look(&self, asked: Option<&str>) -> Vec<Finding> {
        let now = Timestamp::from_civil(2026, 11, 20, 12, 0, 0).unwrap();
        examine(&self.root, &self.fake, asked, now)
    }

    /// The checks that are not ok.
    fn wrong(&self, asked: Option<&str>) -> Vec<(&'static str, State)> {
        let bad = self.look(asked).into_iter().filter(|finding| finding.state != State::Ok);
        bad.map(|finding| {
            assert!(!finding.remedy.is_empty(), "{finding:?}");
            (finding.check, finding.state)
        })
        .collect()
    }
}

#[test]
fn a_sound_account_has_no_finding() {
    let stage = stage();
    let findings = stage.look(None);
    assert_eq!(worst(&findings), State::Ok, "{findings:#?}");
    assert!(findings.len() > 10 && findings.iter().all(|finding| finding.seen.starts_with("bg: ")));
    assert_eq!(stage.look(Some("bg")), findings);
}

#[test]
fn without_any_account_there_is_one_finding_that_says_how() {
    let stage = stage();
    for list in [None, Some(""), Some("# nobody yet\n")] {
        std::fs::remove_file(stage.root.path(FILE)).unwrap_or_default();
        if let Some(list) = list {
            stage.write(FILE, list);
        }
        let findings = stage.look(None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].check, findings[0].state), (LIST, State::Fail));
        assert!(findings[0].remedy.contains("docs/break-glass.md"));
    }
    assert_eq!(stage.wrong(Some("bg")), [(LIST, State::Warn)], "its use would raise no event");
}

#[test]
fn a_list_that_cannot_be_trusted_or_read_is_refused() {
    for spoil in ["bg\nalice@contoso.com\n", &"#".repeat(5000)] {
        let stage = stage();
        stage.write(FILE, spoil);
        assert_eq!(stage.wrong(None), [(LIST, State::Fail)]);
        assert_eq!(stage.wrong(Some("bg")), [(LIST, State::Fail)], "the account itself is looked at still");
        assert!(stage.look(Some("bg")).len() > 10);
    }
    let stage = stage();
    set_permissions(stage.root.path(FILE), Permissions::from_mode(0o666)).unwrap();
    assert!(stage.look(None)[0].seen.contains("silence"), "{:?}", stage.look(None));
    std::fs::remove_file(stage.root.path(FILE)).unwrap();
    std::fs::create_dir(stage.root.path(FILE)).unwrap();
    assert_eq!(stage.wrong(None), [(LIST, State::Fail)]);
}

#[test]
fn a_name_that_would_be_more_than_a_name_asks_nobody() {
    let stage = stage();
    for name in ["bg,addr=10.0.0.1", "-l", "", "bg\u{1b}[31m"] {
        let findings = stage.look(Some(name));
        assert_eq!((findings.len(), findings[0].state), (1, State::Fail), "{name}");
        assert!(findings[0].seen.chars().all(|c| !c.is_control()));
    }
}

#[test]
fn what_is_off_in_the_files_is_found_and_nothing_else() {
    for (path, was, is, found) in [
        ("/etc/passwd", "bg:x", "other:x", ("break_glass.account", State::Fail)),
        (
            "/etc/passwd",
            ":/home/bg:/bin/bash",
            ":/home/bg:/usr/sbin/nologin",
            ("break_glass.shell", State::Fail),
        ),
        ("/etc/passwd", ":/home/bg:/bin/bash", ":/home/bg:/bin/zsh", ("break_glass.shell", State::Fail)),
        (
            "/etc/shadow",
            "bg:!:20000:0:99999:7:::",
            "bg:!:20000:0:99999:7::20001:",
            ("break_glass.expiry", State::Fail),
        ),
        ("/etc/shadow", "bg:!:", "other:!:", ("break_glass.expiry", State::Fail)),
        (
            "/etc/pam.d/sshd",
            "account required pam_unix.so",
            "account requisite pam_exec.so /usr/libexec/nightlatch/pam",
            ("break_glass.pam", State::Fail),
        ),
    ] {
        let stage = stage();
        let text = std::fs::read_to_string(stage.root.path(path)).unwrap();
        assert!(text.contains(was), "{path}: {was}");
        stage.write(path, &text.replace(was, is));
        assert_eq!(stage.wrong(None), [found], "{is}");
    }
    let stage = stage();
    stage.write("/home/bg/.ssh/authorized_keys", "");
    assert_eq!(
        stage.wrong(None),
        [("break_glass.key_file", State::Fail), ("break_glass.lock", State::Fail)],
        "locked, and without a key"
    );
    std::fs::remove_file(stage.root.path("/etc/shadow")).unwrap();
    assert!(stage.wrong(None).contains(&("break_glass.expiry", State::Unknown)));
}

#[test]
fn a_uid_of_our_range_is_not_local_enough() {
    let account = account::find("bg:x:1879048200:1::/:/bin/sh\n", "", "bg").unwrap();
    assert_eq!(account::uid(&account).state, State::Fail);
}

#[test]
fn what_sshd_and_sudo_say_counts() {
    let mut stage = stage();
    stage.fake.sudo = "User bg is not allowed to run sudo on node.\n";
    assert_eq!(stage.wrong(None), [("break_glass.sudo", State::Warn)]);
    stage.fake.sudo = SUDO_SAYS;
    let hook = SSHD_SAYS.replace("command none", "command /usr/libexec/nightlatch/authorized-keys %u");
    stage.fake.sshd = Some(Said { ok: true, out: hook, err: String::new() });
    assert_eq!(stage.wrong(None), [("break_glass.hook", State::Fail)]);
    let without_pam = SSHD_SAYS.replace("usepam yes", "usepam no");
    stage.fake.sshd = Some(Said { ok: true, out: without_pam, err: String::new() });
    assert_eq!(stage.wrong(None), [("break_glass.lock", State::Fail)]);
    stage.fake.sshd = Some(Said { ok: false, out: String::new(), err: "line 3: Bad option\n".into() });
    assert_eq!(stage.wrong(None), [("break_glass.sshd", State::Fail)]);
    stage.fake.sshd = None;
    assert_eq!(stage.wrong(None), [("break_glass.sshd", State::Unknown)]);
}

#[test]
fn root_may_be_the_account() {
    let stage = stage();
    stage.write(FILE, "root\n");
    std::fs::create_dir_all(stage.root.path("/root/.ssh")).unwrap();
    stage.write("/root/.ssh/authorized_keys", &made("ssh-ed25519"));
    for (path, mode) in [("/root", 0o700), ("/root/.ssh", 0o700), ("/root/.ssh/authorized_keys", 0o600)] {
        set_permissions(stage.root.path(path), Permissions::from_mode(mode)).unwrap();
    }
    let findings = stage.look(None);
    assert_eq!(worst(&findings), State::Ok, "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.check == "break_glass.root_login"));
}
