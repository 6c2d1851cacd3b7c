use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use super::super::super::State;
use super::super::account::find;
use super::super::keys::made;
use super::*;

const FILE: &str = "/home/bg/.ssh/authorized_keys";

struct Stage {
    _folder: tempfile::TempDir,
    root: Root,
    account: Account,
}

/// The uid of the account: another than root's where the test may give files away.
fn uid() -> u32 {
    let own = nix::unistd::geteuid().as_raw();
    if own == 0 { 1001 } else { own }
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let root = Root::at(folder.path().to_path_buf());
    std::fs::create_dir_all(root.path("/home/bg/.ssh")).unwrap();
    std::fs::create_dir_all(root.path("/etc/ssh/keys")).unwrap();
    let account = find(&format!("bg:x:{0}:{0}::/home/bg:/bin/sh\n", uid()), "", "bg").unwrap();
    let stage = Stage { _folder: folder, root, account };
    stage.put(FILE, &format!("# safe 3\n{} bg\n", made("sk-ssh-ed25519@openssh.com")), 0o600);
    stage.own("/home/bg/.ssh", 0o700);
    stage.own("/home/bg", 0o755);
    stage
}

impl Stage {
    fn own(&self, path: &str, mode: u32) {
        let place = self.root.path(path);
        set_permissions(&place, Permissions::from_mode(mode)).unwrap();
        chown(&place, Some(uid()), Some(uid())).unwrap();
    }

    fn put(&self, path: &str, text: &str, mode: u32) {
        std::fs::write(self.root.path(path), text).unwrap();
        self.own(path, mode);
    }

    fn look(&self, sshd: &str) -> (Vec<Finding>, bool) {
        let now = Timestamp::from_civil(2026, 11, 20, 12, 0, 0).unwrap();
        examine(&self.root, &Effective::parse(sshd), &self.account, now)
    }

    /// The first finding, and whether a key lets the account in.
    fn first(&self, sshd: &str) -> (State, String, bool) {
        let (findings, open) = self.look(sshd);
        let finding = &findings[0];
        assert_eq!(finding.remedy.is_empty(), finding.state == State::Ok, "{finding:?}");
        (finding.state, finding.seen.clone(), open)
    }
}

const USUAL: &str = "strictmodes yes\nauthorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\n";

#[test]
fn a_key_in_a_sound_file_lets_it_in() {
    let stage = stage();
    let (state, seen, open) = stage.first(USUAL);
    assert!(state == State::Ok && open && seen.contains("sk-ssh-ed25519@openssh.com"), "{seen}");
    for file in ["%h/.ssh/authorized_keys", "/home/%u/.ssh/authorized_keys"] {
        assert!(stage.first(&format!("authorizedkeysfile {file}\n")).2, "{file}");
    }
    let text = format!("{}\n", made("ssh-ed25519"));
    std::fs::write(stage.root.path(&format!("/etc/ssh/keys/{}", uid())), text).unwrap();
    assert!(stage.first("authorizedkeysfile /etc/ssh/keys/%U\n").2);
}

#[test]
fn tokens_are_those_of_sshd() {
    let account = stage().account;
    assert_eq!(expand("/k/%%%u", &account).as_deref(), Some("/k/%bg"));
    assert_eq!(expand("none", &account), None);
    assert_eq!(expand("/k/%x", &account), None);
    assert_eq!(expand("/k/%", &account), None);
}

#[test]
fn a_file_that_is_missing_or_read_by_nobody_is_named() {
    let stage = stage();
    let (state, seen, open) = stage.first("authorizedkeysfile none\n");
    assert!(state == State::Fail && !open && seen.contains("AuthorizedKeysFile none"), "{seen}");
    let (state, seen, _) = stage.first("authorizedkeysfile /etc/ssh/keys/%u\n");
    assert!(state == State::Fail && seen.contains("/etc/ssh/keys/bg does not exist"), "{seen}");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let stage = stage();
    std::fs::remove_file(stage.root.path(FILE)).unwrap();
    nix::unistd::mkfifo(&stage.root.path(FILE), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for strict in ["yes", "no"] {
        let (state, seen, _) =
            stage.first(&format!("strictmodes {strict}\nauthorizedkeysfile .ssh/authorized_keys\n"));
        assert!(state == State::Fail && seen.contains("no plain file"), "{seen}");
    }
}

#[test]
fn what_strict_modes_refuse_is_named_with_its_place() {
    for (path, mode, remedy) in [
        (FILE, 0o620, "chmod go-w /home/bg/.ssh/authorized_keys"),
        ("/home/bg/.ssh", 0o770, "chmod go-w /home/bg/.ssh"),
        ("/home/bg", 0o777, "chmod go-w /home/bg"),
    ] {
        let stage = stage();
        stage.own(path, mode);
        let (findings, open) = stage.look(USUAL);
        assert!(!open && findings[0].state == State::Fail, "{findings:?}");
        assert!(findings[0].remedy.contains(&format!("`{remedy}`")), "{findings:?}");
        // What is not strict is not refused.
        assert!(stage.first("strictmodes no\nauthorizedkeysfile .ssh/authorized_keys\n").2, "{path}");
    }
    // Above the home nothing is looked at; outside of it, everything up to `/`.
    let stage = stage();
    set_permissions(stage.root.path("/home"), Permissions::from_mode(0o777)).unwrap();
    assert!(stage.first(USUAL).2);
    std::fs::write(stage.root.path("/etc/ssh/keys/bg"), format!("{}\n", made("ssh-rsa"))).unwrap();
    set_permissions(stage.root.path("/etc/ssh"), Permissions::from_mode(0o775)).unwrap();
    let (state, seen, _) = stage.first("authorizedkeysfile /etc/ssh/keys/bg\n");
    assert!(state == State::Fail && seen.contains("`/etc/ssh` (mode 0775)"), "{seen}");
}

#[test]
fn a_strangers_file_is_not_trusted_nor_one_that_the_account_cannot_read() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can give files away.
        return;
    }
    let stage = stage();
    chown(stage.root.path(FILE), Some(4242), Some(4242)).unwrap();
    let (state, seen, _) = stage.first(USUAL);
    assert!(state == State::Fail && seen.contains("owned by uid 4242"), "{seen}");
    chown(stage.root.path(FILE), Some(0), Some(0)).unwrap();
    let (state, seen, open) = stage.first(USUAL);
    assert!(state == State::Fail && !open && seen.contains("cannot be read by the account"), "{seen}");
    set_permissions(stage.root.path(FILE), Permissions::from_mode(0o644)).unwrap();
    assert!(stage.first(USUAL).2);
    std::fs::write(stage.root.path("/etc/ssh/keys/bg"), format!("{}\n", made("ssh-rsa"))).unwrap();
    set_permissions(stage.root.path("/etc/ssh/keys"), Permissions::from_mode(0o700)).unwrap();
    let (state, seen, _) = stage.first("authorizedkeysfile /etc/ssh/keys/bg\n");
    assert!(state == State::Fail && seen.contains("`/etc/ssh/keys` cannot be read"), "{seen}");
}

#[test]
fn keys_that_let_nobody_in_are_named() {
    let algorithms = "pubkeyacceptedalgorithms ssh-ed25519,rsa-sha2-512\n";
    for (text, state, word) in [
        (String::new(), State::Fail, "holds no public key"),
        ("ssh-ed25519 AAAA\n".to_owned(), State::Fail, "holds no public key"),
        (format!("cert-authority {}\n", made("ssh-ed25519")), State::Fail, "signs certificates"),
        (format!("expiry-time=\"20200101\" {}\n", made("ssh-ed25519")), State::Fail, "has passed"),
        (made("ecdsa-sha2-nistp256"), State::Fail, "PubkeyAcceptedAlgorithms"),
        (format!("from=\"10.0.0.0/8\" {}\n", made("ssh-ed25519")), State::Warn, "limits (from)"),
        (format!("command=\"/bin/id\" {}\n", made("ssh-ed25519")), State::Warn, "limits (command)"),
        (format!("command=\"x\" {0}\n{0}\n", made("ssh-ed25519")), State::Ok, "ssh-ed25519"),
    ] {
        let stage = stage();
        stage.put(FILE, &text, 0o600);
        let (found, seen, open) = stage.first(&format!("{algorithms}{USUAL}"));
        assert_eq!((found, open), (state, state != State::Fail), "{text}: {seen}");
        assert!(seen.contains(word), "{word} in {seen}");
    }
}

#[test]
fn one_sound_file_is_enough() {
    let stage = stage();
    stage.put("/home/bg/.ssh/authorized_keys2", "", 0o666);
    let (findings, open) = stage.look(USUAL);
    let states: Vec<State> = findings.iter().map(|finding| finding.state).collect();
    assert!(open && states == [State::Ok, State::Warn], "{findings:?}");
}
