//! The key files that sshd would read for the account: where they are, whether sshd may trust them
//! (StrictModes), and whether one of their keys lets the account in.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nightlatch_model::Timestamp;

use super::super::Finding;
use super::account::Account;
use super::keys::{self, Key};
use crate::attach::place::Root;
use crate::attach::sshd_config::Effective;

const CHECK: &str = "break_glass.key_file";

/// What was found, and whether some key lets the account in.
pub(super) fn examine(
    root: &Root,
    effective: &Effective,
    account: &Account,
    now: Timestamp,
) -> (Vec<Finding>, bool) {
    let name = &account.name;
    let mut findings = Vec::new();
    let mut open = false;
    let paths: Vec<String> = effective
        .get("authorizedkeysfile")
        .split_whitespace()
        .filter_map(|word| expand(word, account))
        .collect();
    let there: Vec<&String> = paths.iter().filter(|path| root.path(path).exists()).collect();
    if there.is_empty() {
        let seen = match paths.as_slice() {
            [] => {
                format!("{name}: AuthorizedKeysFile {}: no file is read", effective.get("authorizedkeysfile"))
            }
            paths => format!("{name}: {} does not exist", paths.join(", ")),
        };
        let remedy = format!("put a public key into `{}` (docs/break-glass.md)", default_file(account));
        return (vec![Finding::fail(CHECK, seen, remedy)], false);
    }
    let strict = effective.get("strictmodes") != "no";
    for path in there {
        let fault = kind_fault(root, path)
            .or_else(|| if strict { trust_fault(root, path, account) } else { None })
            .or_else(|| read_fault(root, path, account));
        if let Some((seen, remedy)) = fault {
            findings.push(Finding::fail(CHECK, format!("{name}: {seen}"), remedy));
            continue;
        }
        let finding = match root.text(path) {
            Ok(text) => judge(path, &keys::parse(&text.unwrap_or_default()), effective, account, now),
            Err(cause) => Finding::fail(CHECK, format!("{name}: {cause}"), format!("write `{path}` anew")),
        };
        open |= finding.state < super::super::State::Fail;
        findings.push(finding);
    }
    if open {
        // One sound file is enough: what is wrong with the others keeps nobody out.
        for finding in &mut findings {
            finding.state = finding.state.min(super::super::State::Warn);
        }
    }
    (findings, open)
}

fn default_file(account: &Account) -> String {
    format!("{}/.ssh/authorized_keys", account.home)
}

/// The tokens of sshd_config(5), AuthorizedKeysFile; what does not begin with `/` is below the home.
fn expand(word: &str, account: &Account) -> Option<String> {
    if word == "none" {
        return None;
    }
    let mut path = String::new();
    let mut rest = word.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            path.push(c);
            continue;
        }
        match rest.next()? {
            '%' => path.push('%'),
            'h' => path.push_str(&account.home),
            'u' => path.push_str(&account.name),
            'U' => path.push_str(&account.uid.to_string()),
            // sshd refuses to start with another.
            _ => return None,
        }
    }
    Some(if path.starts_with('/') { path } else { format!("{}/{path}", account.home) })
}

/// A pipe would be waited for, by us as well.
fn kind_fault(root: &Root, path: &str) -> Option<(String, String)> {
    let odd = std::fs::metadata(root.path(path)).is_ok_and(|meta| !meta.is_file());
    odd.then(|| (format!("`{path}` is no plain file"), format!("write `{path}` anew")))
}

/// What StrictModes refuses (openssh misc.c, safe_path): the file or a folder above it, up to the home or
/// to `/`, that somebody else owns or may write. Debian's sshd forgives a group of which the account is the
/// only member, the original does not; the cure harms neither.
fn trust_fault(root: &Root, path: &str, account: &Account) -> Option<(String, String)> {
    let real = |path: &str| std::fs::canonicalize(root.path(path)).ok();
    let (home, top) = (real(&account.home), real("/"));
    let mut place = real(path)?;
    loop {
        let meta = match std::fs::metadata(&place) {
            Ok(meta) => meta,
            Err(cause) => {
                return Some((format!("`{}`: {cause}", place.display()), "look at it by hand".into()));
            }
        };
        if let Some(fault) = place_fault(root, &shown(&place, top.as_deref()), &meta, account) {
            return Some(fault);
        }
        if Some(&place) == home.as_ref() || Some(&place) == top.as_ref() || !place.pop() {
            return None;
        }
    }
}

/// The path as the person knows it.
fn shown(place: &Path, top: Option<&Path>) -> String {
    let below = top.and_then(|top| place.strip_prefix(top).ok());
    below.map_or_else(|| place.to_path_buf(), |below| PathBuf::from("/").join(below)).display().to_string()
}

fn place_fault(root: &Root, path: &str, meta: &Metadata, account: &Account) -> Option<(String, String)> {
    if meta.uid() != account.uid && meta.uid() != root.owner() {
        let seen = format!("`{path}` is owned by uid {}, so sshd does not trust it", meta.uid());
        return Some((seen, format!("run `chown {} {path}`", account.name)));
    }
    let mode = meta.mode() & 0o7777;
    (mode & 0o022 != 0).then(|| {
        let seen = format!("`{path}` (mode {mode:04o}) is writable by others, so sshd does not trust it");
        (seen, format!("run `chmod go-w {path}`"))
    })
}

/// sshd reads the file as the account, not as root.
fn read_fault(root: &Root, path: &str, account: &Account) -> Option<(String, String)> {
    let place = std::fs::canonicalize(root.path(path)).ok()?;
    let top = std::fs::canonicalize(root.path("/")).ok();
    let may = |meta: &Metadata, bit: u32| {
        let shift = if meta.uid() == account.uid {
            6
        } else if account.gids.contains(&meta.gid()) {
            3
        } else {
            0
        };
        account.uid == 0 || (meta.mode() >> shift) & bit != 0
    };
    let mut at = place.as_path();
    let mut bit = 0o4;
    loop {
        if std::fs::metadata(at).is_ok_and(|meta| !may(&meta, bit)) {
            let path = shown(at, top.as_deref());
            let seen = format!("`{path}` cannot be read by the account, as whom sshd reads it");
            let right = if bit == 0o4 { "r" } else { "x" };
            return Some((seen, format!("run `chmod a+{right} {path}`, or `chown {} {path}`", account.name)));
        }
        bit = 0o1;
        match at.parent() {
            Some(parent) if Some(at) != top.as_deref() => at = parent,
            _ => return None,
        }
    }
}

fn judge(path: &str, keys: &[Key], effective: &Effective, account: &Account, now: Timestamp) -> Finding {
    let name = &account.name;
    let add = format!("add a public key to `{path}` (docs/break-glass.md)");
    let algorithms = ["pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"]
        .into_iter()
        .map(|keyword| effective.get(keyword))
        .find(|value| !value.is_empty())
        .unwrap_or("");
    let (good, bad): (Vec<&Key>, Vec<&Key>) =
        keys.iter().partition(|key| key.fault(algorithms, now).is_none());
    if good.is_empty() {
        let why = bad.first().and_then(|key| key.fault(algorithms, now));
        let seen = match why {
            Some(why) => format!("{name}: no key in `{path}` lets it in: {why}"),
            None => format!("{name}: `{path}` holds no public key"),
        };
        return Finding::fail(CHECK, seen, add);
    }
    let kinds: Vec<&str> = good.iter().map(|key| key.kind).collect();
    if good.iter().all(|key| !key.limits().is_empty()) {
        let limits = good.iter().flat_map(|key| key.limits()).collect::<std::collections::BTreeSet<_>>();
        let limits = limits.into_iter().collect::<Vec<_>>().join(", ");
        let seen = format!("{name}: each key in `{path}` has limits ({limits})");
        return Finding::warn(CHECK, seen, format!("{add}, one without `{limits}`"));
    }
    Finding::ok(CHECK, format!("{name}: `{path}` holds {}", kinds.join(", ")))
}

#[cfg(test)]
#[path = "key_files_tests.rs"]
mod tests;
