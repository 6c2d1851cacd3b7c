//! Modes and owners of what sshd, PAM and the daemon trust by path, and sudo's line.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::unistd::{Gid, Group, Uid, User};

use super::{Finding, State};
use crate::attach::place::Root;
use crate::attach::tools::Tools;
use crate::attach::{plan, ready};

const VISUDO: &str = "/usr/sbin/visudo";
const TMPFILES: &str = "run `systemd-tmpfiles --create`";
const SOCKETS: &str =
    "run `systemctl restart nightlatchd-hook.socket nightlatchd-account.socket nightlatchd-admin.socket`";
const SESSION_SOCKETS: &str =
    "run `systemctl restart nightlatch-sessiond-session.socket nightlatch-sessiond-control.socket`";

/// A socket or folder, and what it must be.
struct Rule {
    path: &'static str,
    socket: bool,
    owner: &'static str,
    group: &'static str,
    mode: u32,
    mend: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        path: "/run/nightlatch",
        socket: false,
        owner: "root",
        group: "root",
        mode: 0o755,
        mend: TMPFILES,
    },
    Rule {
        path: "/run/nightlatch/accounts",
        socket: false,
        owner: "nightlatch",
        group: "nightlatch",
        mode: 0o755,
        mend: TMPFILES,
    },
    Rule {
        path: "/run/nightlatch/hook.sock",
        socket: true,
        owner: "root",
        group: "nightlatch-hook",
        mode: 0o660,
        mend: SOCKETS,
    },
    Rule {
        path: "/run/nightlatch/account.sock",
        socket: true,
        owner: "root",
        group: "root",
        mode: 0o600,
        mend: SOCKETS,
    },
    Rule {
        path: "/run/nightlatch/admin.sock",
        socket: true,
        owner: "root",
        group: "root",
        mode: 0o600,
        mend: SOCKETS,
    },
    Rule {
        path: "/run/nightlatch/session.sock",
        socket: true,
        owner: "root",
        group: "root",
        mode: 0o600,
        mend: SESSION_SOCKETS,
    },
    Rule {
        path: "/run/nightlatch/control.sock",
        socket: true,
        owner: "root",
        group: "nightlatch",
        mode: 0o660,
        mend: SESSION_SOCKETS,
    },
];

pub(super) fn examine(root: &Root, tools: &dyn Tools, observing: bool) -> Vec<Finding> {
    let mut findings = programs(root, observing);
    findings.extend(RULES.iter().map(|rule| judge(root, rule, observing)));
    findings.push(sudo(root, tools));
    findings
}

fn programs(root: &Root, observing: bool) -> Vec<Finding> {
    const CHECK: &str = "files.programs";
    let mut seen = std::collections::BTreeSet::new();
    let mut findings = Vec::new();
    for path in ready::PROGRAMS {
        let absent = !root.path(path).exists();
        let state = if observing && absent && path == ready::SESSIOND { State::Warn } else { State::Fail };
        for fault in ready::program_faults(root, path) {
            if !seen.insert(fault.clone()) {
                continue;
            }
            // The words come as "what: what to do".
            let (what, remedy) = fault.rsplit_once(": ").map_or((fault.as_str(), ""), |halves| halves);
            findings.push(Finding::bad(CHECK, state, what, remedy));
        }
    }
    if findings.is_empty() {
        let seen = "hook, helper, responder and keeper of sessions can be changed by root only";
        findings.push(Finding::ok(CHECK, seen));
    }
    findings
}

fn judge(root: &Root, rule: &Rule, observing: bool) -> Finding {
    let check = if rule.socket { "files.sockets" } else { "files.folders" };
    let meta = match std::fs::symlink_metadata(root.path(rule.path)) {
        Ok(meta) => meta,
        Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            return Finding::bad(
                check,
                State::Unknown,
                format!("not allowed to look at `{}`", rule.path),
                "run doctor as root",
            );
        }
        Err(_) => {
            let dispensable = observing && rule.mend == SESSION_SOCKETS;
            let state = if dispensable { State::Warn } else { State::Fail };
            return Finding::bad(check, state, format!("`{}` is missing", rule.path), rule.mend);
        }
    };
    let kind = if rule.socket { meta.file_type().is_socket() } else { meta.is_dir() };
    let owner = User::from_uid(Uid::from_raw(meta.uid()))
        .ok()
        .flatten()
        .map_or_else(|| meta.uid().to_string(), |user| user.name);
    let group = Group::from_gid(Gid::from_raw(meta.gid()))
        .ok()
        .flatten()
        .map_or_else(|| meta.gid().to_string(), |group| group.name);
    let mode = meta.mode() & 0o7777;
    let seen = format!("`{}` {owner}:{group} {mode:04o}", rule.path);
    if kind && owner == rule.owner && group == rule.group && mode == rule.mode {
        return Finding::ok(check, seen);
    }
    let wanted = format!("must be {}:{} {:04o}", rule.owner, rule.group, rule.mode);
    Finding::fail(check, format!("{seen}, {wanted}"), rule.mend)
}

fn sudo(root: &Root, tools: &dyn Tools) -> Finding {
    const CHECK: &str = "sudo.line";
    const ATTACH: &str = "run `nightlatch attach`";
    let Ok(main) = std::fs::read_to_string(root.path("/etc/sudoers")) else {
        return Finding::warn(
            CHECK,
            "/etc/sudoers cannot be read: is sudo installed?",
            "administrators get no sudo without it",
        );
    };
    let text = root.text(plan::SUDOERS).ok().flatten().unwrap_or_default();
    if !text.lines().any(|line| line.trim() == plan::SUDOERS_LINE) {
        return Finding::fail(CHECK, format!("{} does not name the administrators", plan::SUDOERS), ATTACH);
    }
    if !includes_folder(&main) {
        let remedy = "add `@includedir /etc/sudoers.d` to /etc/sudoers with visudo";
        return Finding::fail(CHECK, "/etc/sudoers does not read /etc/sudoers.d", remedy);
    }
    match tools.run(VISUDO, &["-c", "-f", &root.path("/etc/sudoers").display().to_string()]) {
        Some(said) if !said.ok => Finding::fail(CHECK, said.complaint(), "mend it with visudo"),
        _ => Finding::ok(CHECK, format!("{} is read by sudo", plan::SUDOERS)),
    }
}

/// Whether sudoers(5) reads the folder: `@includedir`, or `#includedir`, which is no comment.
fn includes_folder(main: &str) -> bool {
    main.lines().any(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("@includedir" | "#includedir"))
            && words.next().is_some_and(|folder| folder.trim_end_matches('/') == "/etc/sudoers.d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudoers_folders() {
        assert!(includes_folder("Defaults x\n@includedir /etc/sudoers.d\n"));
        assert!(includes_folder("#includedir /etc/sudoers.d/\n"));
        assert!(!includes_folder("# includedir /etc/sudoers.d\n@includedir /etc/other\n"));
    }

    #[test]
    fn what_is_missing_or_open_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        for rule in &RULES {
            let (deciding, observing) = (judge(&root, rule, false), judge(&root, rule, true));
            assert!(deciding.state == State::Fail && deciding.seen.contains("missing"), "{deciding:?}");
            let of_sessions = rule.path.ends_with("session.sock") || rule.path.ends_with("control.sock");
            assert_eq!(observing.state == State::Warn, of_sessions, "{observing:?}");
        }
        let programs = programs(&root, true);
        let warned: Vec<&str> = programs
            .iter()
            .filter(|finding| finding.state == State::Warn)
            .map(|finding| finding.seen.as_str())
            .collect();
        assert!(warned.len() == 1 && warned[0].contains("sessiond"), "{programs:?}");
        std::fs::create_dir_all(root.path("/run/nightlatch")).unwrap();
        std::fs::set_permissions(
            root.path("/run/nightlatch"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let finding = judge(&root, &RULES[0], false);
        assert_eq!(finding.state, State::Fail);
        assert!(
            finding.seen.contains("0777") && finding.seen.contains("must be root:root 0755"),
            "{}",
            finding.seen
        );
    }
}
