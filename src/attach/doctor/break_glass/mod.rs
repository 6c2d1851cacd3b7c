//! Whether the local account kept for emergencies would get in and reach root while every part of
//! Nightlatch is down. A dry run: sshd says what it would do, the files say the rest, and nothing changes.

mod access;
mod account;
mod key_files;
mod keys;
mod list;
mod reach;

use nightlatch_model::Timestamp;

use super::{Finding, State};
use crate::attach::place::Root;
use crate::attach::sshd_config::Effective;
use crate::attach::tools::{Tools, connection_of};

pub use list::{FILE, is_name};

const SSHD: &str = "/usr/sbin/sshd";
const LIST: &str = "break_glass.list";
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
/// What to do where nothing is set up.
const SET_UP: &str = "make a local account with a key and name it in /etc/nightlatch/break-glass: docs/break-glass.md has the recipe";

/// Looks at each account of the list, or at the one that is asked about.
#[must_use]
pub fn examine(root: &Root, tools: &dyn Tools, asked: Option<&str>, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let listed = match read_list(root) {
        Ok(names) => names,
        Err(finding) => {
            findings.push(finding);
            None
        }
    };
    let names = match asked {
        Some(name) if !is_name(name) => {
            let seen = format!("`{}` is not the name of a local account", name.escape_default());
            return vec![Finding::fail(LIST, seen, "give the name as it stands in /etc/passwd")];
        }
        Some(name) => vec![name.to_owned()],
        None => listed.clone().unwrap_or_default(),
    };
    if names.is_empty() && findings.is_empty() {
        let seen = format!("no account for emergencies is named in {FILE}");
        return vec![Finding::fail(LIST, seen, SET_UP)];
    }
    for name in &names {
        if let Some(listed) = &listed {
            findings.push(watched(name, listed));
        }
        findings.extend(account_of(root, tools, name, now));
    }
    findings
}

/// The names in the list; `None` when it cannot be told which.
fn read_list(root: &Root) -> Result<Option<Vec<String>>, Finding> {
    use std::os::unix::fs::MetadataExt;
    let text = root
        .text(FILE)
        .map_err(|cause| Finding::fail(LIST, cause.to_string(), "write one local account a line"))?;
    let Some(text) = text else { return Ok(Some(Vec::new())) };
    let safe = std::fs::metadata(root.path(FILE))
        .is_ok_and(|meta| meta.uid() == root.owner() && meta.mode() & 0o022 == 0);
    if !safe {
        let seen = format!("{FILE} can be changed by others than root: they could silence its alarm");
        return Err(Finding::fail(LIST, seen, format!("run `chown root {FILE} && chmod 0644 {FILE}`")));
    }
    let names = list::parse(&text);
    names
        .map(Some)
        .map_err(|why| Finding::fail(LIST, format!("{FILE} {why}"), "write one local account a line"))
}

fn watched(name: &str, listed: &[String]) -> Finding {
    if listed.iter().any(|known| known == name) {
        return Finding::ok(LIST, format!("{name}: its use raises an event"));
    }
    let seen = format!("{name}: it is not named in {FILE}, so its use raises no event");
    Finding::warn(LIST, seen, format!("run `echo {name} >>{FILE}`"))
}

fn account_of(root: &Root, tools: &dyn Tools, name: &str, now: Timestamp) -> Vec<Finding> {
    const CHECK: &str = "break_glass.account";
    let text = |path: &str| root.text(path).ok().flatten();
    let group = text("/etc/group").unwrap_or_default();
    let Some(account) = text("/etc/passwd").and_then(|passwd| account::find(&passwd, &group, name)) else {
        let seen = format!("{name}: /etc/passwd does not have it");
        return vec![Finding::fail(CHECK, seen, format!("run `useradd -m -s /bin/bash {name}`"))];
    };
    let mut findings = vec![
        Finding::ok(CHECK, format!("{name}: a local account")),
        account::uid(&account),
        account::shell(root, &account),
    ];
    let effective = match effective(tools, name) {
        Ok(effective) => effective,
        Err(finding) => {
            findings.push(finding);
            return findings;
        }
    };
    findings.extend(access::examine(&effective, &account));
    let (files, has_key) = key_files::examine(root, &effective, &account, now);
    findings.extend(files);
    let today = now.0.div_euclid(SECONDS_PER_DAY);
    let shadow_text = text("/etc/shadow");
    let shadow = account::shadow(shadow_text.as_deref().unwrap_or(""), &account);
    let has_password = shadow.as_ref().is_some_and(account::Shadow::has_password);
    match &shadow {
        Some(shadow) => {
            findings.push(account::expiry(name, shadow, today));
            findings.push(account::lock(name, shadow, effective.get("usepam") == "yes", has_key));
        }
        None => findings.push(account::no_shadow(name, shadow_text.is_some())),
    }
    findings.push(reach::pam(root, name));
    findings.push(reach::sudo(tools, &account, has_password));
    findings
}

/// What sshd says that it would do.
fn effective(tools: &dyn Tools, name: &str) -> Result<Effective, Finding> {
    const CHECK: &str = "break_glass.sshd";
    match tools.run(SSHD, &["-T", "-C", &connection_of(name)]) {
        Some(said) if said.ok => Ok(Effective::parse(&said.out)),
        Some(said) => {
            let remedy = "mend this line; until then sshd must not be restarted";
            Err(Finding::fail(CHECK, said.complaint(), remedy))
        }
        None => {
            let seen = format!("`{SSHD}` cannot be run");
            let remedy = "run doctor as root on a machine with openssh-server";
            Err(Finding::bad(CHECK, State::Unknown, seen, remedy))
        }
    }
}

#[cfg(test)]
mod tests;
