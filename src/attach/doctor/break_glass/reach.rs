//! What lies behind the login: PAM must not reach our helper for the account, and sudo should lead to root.

use super::super::{Finding, pam};
use super::account::Account;
use crate::attach::pam_edit::{HELPER, OBSERVE};
use crate::attach::pam_stack::{Rule, phase, service_text};
use crate::attach::place::Root;
use crate::attach::tools::{Said, Tools};

const SUDO: &str = "/usr/bin/sudo";
/// The phases that a login goes through.
const PHASES: [&str; 3] = ["auth", "account", "session"];

/// Each of our lines must stand right behind its gate; the line of mode observe is for everybody, but
/// must not be able to refuse.
pub(super) fn pam(root: &Root, name: &str) -> Finding {
    const CHECK: &str = "break_glass.pam";
    for service in ["sshd", "sudo"] {
        for kind in PHASES {
            let rules = phase(service, kind, &|file| service_text(root, file));
            if let Some(seen) = reached(&rules) {
                let seen = format!("{name}: in the {kind} phase of {service} {seen}");
                return Finding::fail(CHECK, seen, "run `nightlatch attach`, or `nightlatch detach`");
            }
        }
    }
    Finding::ok(CHECK, format!("{name}: PAM does not depend on nightlatch for it"))
}

fn reached(rules: &[Rule]) -> Option<&'static str> {
    let has = |rule: &Rule, word: &str| rule.arguments.iter().any(|given| given == word);
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| has(rule, HELPER)) {
        if has(rule, OBSERVE) {
            if rule.control != "optional" {
                return Some("the line that only looks is not `optional`");
            }
        } else if !at.checked_sub(1).and_then(|before| rules.get(before)).is_some_and(pam::is_gate) {
            return Some("our line has no gate before it: a broken nightlatch refuses everybody");
        }
    }
    None
}

/// Whether sudo gives the account everything, by its own words.
pub(super) fn sudo(tools: &dyn Tools, account: &Account, has_password: bool) -> Finding {
    const CHECK: &str = "break_glass.sudo";
    let name = &account.name;
    if account.uid == 0 {
        return Finding::ok(CHECK, format!("{name}: it is root"));
    }
    let Some(said) = tools.run(SUDO, &["-n", "-l", "-U", name]) else {
        let seen = format!("{name}: `{SUDO}` cannot be run, so nothing leads to root");
        return Finding::warn(CHECK, seen, "install sudo, or keep root's own key");
    };
    let remedy =
        format!("add `{name} ALL=(ALL:ALL) NOPASSWD: ALL` with `visudo -f /etc/sudoers.d/break-glass`");
    match way(&said) {
        Way::Open => Finding::ok(CHECK, format!("{name}: sudo leads to root")),
        Way::Password if has_password => {
            Finding::ok(CHECK, format!("{name}: sudo leads to root, by password"))
        }
        Way::Password => {
            Finding::warn(CHECK, format!("{name}: sudo asks for a password, and it has none"), remedy)
        }
        Way::None => {
            Finding::warn(CHECK, format!("{name}: sudo does not let it do everything as root"), remedy)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    None,
    Password,
    Open,
}

/// Reads what `sudo -l -U` prints: rules such as `    (ALL : ALL) NOPASSWD: ALL`.
fn way(said: &Said) -> Way {
    let asks_nobody = said.out.split([',', ' ', '\n']).any(|word| word == "!authenticate");
    let of_rule = |line: &str| {
        let rule = line.trim().strip_prefix('(')?;
        let (users, what) = rule.split_once(')')?;
        let users = users.split_once(':').map_or(users, |(users, _)| users);
        let root = users.split(',').map(str::trim).any(|user| matches!(user, "ALL" | "root" | "#0"));
        let (tags, commands) = tags(what.trim());
        let all = commands.split(',').map(str::trim).any(|command| command == "ALL");
        (root && all).then(|| {
            let last = tags.split_whitespace().rfind(|tag| tag.ends_with("PASSWD:"));
            if last == Some("NOPASSWD:") || (last.is_none() && asks_nobody) {
                Way::Open
            } else {
                Way::Password
            }
        })
    };
    // Of rules that fit, sudo takes the last.
    said.out.lines().filter_map(of_rule).next_back().unwrap_or(Way::None)
}

/// Splits the tags, such as `SETENV: NOPASSWD:`, off the commands.
fn tags(what: &str) -> (&str, &str) {
    let words = what.split_whitespace().take_while(|word| word.ends_with(':'));
    let length: usize = words.map(|word| word.len().saturating_add(1)).sum();
    what.split_at_checked(length).unwrap_or((what, ""))
}

#[cfg(test)]
mod tests {
    use super::super::super::State;
    use super::super::account::find;
    use super::*;
    use crate::attach::interactive::Interactive;
    use crate::attach::pam_edit::{Wanted, attach, observe};

    /// A sudo that says this; `None` is none.
    struct Sudo(Option<&'static str>);

    impl Tools for Sudo {
        fn run(&self, program: &str, arguments: &[&str]) -> Option<Said> {
            assert_eq!((program, arguments), (SUDO, ["-n", "-l", "-U", "bg"].as_slice()));
            self.0.map(|out| Said { ok: true, out: out.to_owned(), err: String::new() })
        }
    }

    #[test]
    fn the_way_to_root_is_read_from_sudos_words() {
        let bg = find("bg:x:1001:1001::/home/bg:/bin/sh\n", "", "bg").unwrap();
        let head = "User bg may run the following commands on node:\n";
        for (out, has_password, state) in [
            (Some("User bg is not allowed to run sudo on node.\n"), true, State::Warn),
            (
                Some("User bg may run the following commands on node:\n    (ALL : ALL) NOPASSWD: ALL\n"),
                false,
                State::Ok,
            ),
            (
                Some("User bg may run the following commands on node:\n    (ALL) SETENV: NOPASSWD: ALL\n"),
                false,
                State::Ok,
            ),
            (Some("User bg may run the following commands on node:\n    (ALL : ALL) ALL\n"), true, State::Ok),
            (
                Some("User bg may run the following commands on node:\n    (ALL : ALL) ALL\n"),
                false,
                State::Warn,
            ),
            (
                Some(
                    "Matching Defaults entries for bg on node:\n    env_reset, !authenticate\n\nUser bg may run:\n    (root) ALL\n",
                ),
                false,
                State::Ok,
            ),
            (
                Some("User bg may run the following commands on node:\n    (root) NOPASSWD: /usr/bin/apt\n"),
                true,
                State::Warn,
            ),
            (
                Some("User bg may run the following commands on node:\n    (www-data) NOPASSWD: ALL\n"),
                true,
                State::Warn,
            ),
            (Some("User bg may run:\n    (ALL) NOPASSWD: ALL\n    (ALL) ALL\n"), false, State::Warn),
            (None, true, State::Warn),
        ] {
            let finding = sudo(&Sudo(out), &bg, has_password);
            assert_eq!(finding.state, state, "{out:?} {has_password}: {finding:?}");
            assert_eq!(finding.remedy.is_empty(), state == State::Ok);
        }
        assert_eq!(way(&Said { ok: true, out: head.to_owned(), err: String::new() }), Way::None);
        let root = find("root:x:0:0::/root:/bin/sh\n", "", "root").unwrap();
        assert_eq!(sudo(&Sudo(None), &root, false).state, State::Ok);
    }

    #[test]
    fn pam_without_gates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        std::fs::create_dir_all(root.path("/etc/pam.d")).unwrap();
        let plain = "account required pam_unix.so\nsession required pam_loginuid.so\n";
        let deciding =
            attach("sshd", plain, Wanted { interactive: Interactive::Reason, session: true }).unwrap();
        let watching = observe("sshd", plain).unwrap();
        for (text, state) in [
            (plain.to_owned(), State::Ok),
            (deciding.clone(), State::Ok),
            (watching.clone(), State::Ok),
            (watching.replace("optional pam_exec", "required pam_exec"), State::Fail),
            (deciding.replace("account [success=ignore", "account [success=ok"), State::Fail),
            (deciding.replace("session [success=ignore", "session [success=ok"), State::Fail),
            (deciding.replace("auth [success=ignore", "auth [success=ok"), State::Fail),
        ] {
            root.write("/etc/pam.d/sshd", &text, 0o644).unwrap();
            assert_eq!(pam(&root, "bg").state, state, "{text}");
        }
        root.write("/etc/pam.d/sshd", &deciding, 0o644).unwrap();
        root.write("/etc/pam.d/sudo", &format!("account required pam_exec.so {HELPER}\n"), 0o644).unwrap();
        let finding = pam(&root, "bg");
        assert!(finding.state == State::Fail && finding.seen.contains("of sudo"), "{finding:?}");
    }
}
