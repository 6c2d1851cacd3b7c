//! What sshd would do for the account, by its own words (`sshd -T -C`): nobody may be asked about it,
//! its key must be enough, and no list may shut it out.

use super::super::{Finding, State};
use super::account::Account;
use crate::attach::glob;
use crate::attach::sshd_config::Effective;
use crate::attach::sshd_edit;

/// All findings about the effective configuration.
pub(super) fn examine(effective: &Effective, account: &Account) -> Vec<Finding> {
    let mut findings = vec![
        hook(effective, &account.name),
        pubkey(effective, &account.name),
        methods(effective, &account.name),
        shut_out(effective, account),
    ];
    if account.uid == 0 {
        findings.push(root_login(effective, &account.name));
    }
    findings.extend(no_shell(effective, &account.name));
    findings
}

fn hook(effective: &Effective, name: &str) -> Finding {
    const CHECK: &str = "break_glass.hook";
    let command = effective.get("authorizedkeyscommand");
    if command.contains("/nightlatch/") {
        let seen = format!("{name}: sshd asks nightlatch about it, so it falls with nightlatch");
        let remedy = format!(
            "take it out of every Match that names nightlatch: `{}` in {} is enough",
            sshd_edit::MATCH,
            sshd_edit::DROP_IN
        );
        return Finding::fail(CHECK, seen, remedy);
    }
    if matches!(command, "" | "none") {
        return Finding::ok(CHECK, format!("{name}: sshd asks nobody about it"));
    }
    let seen = format!("{name}: sshd runs `{command}` for keys that its files do not hold, and waits for it");
    Finding::warn(CHECK, seen, format!("set `AuthorizedKeysCommand none` in a `Match User {name}`"))
}

fn pubkey(effective: &Effective, name: &str) -> Finding {
    const CHECK: &str = "break_glass.pubkey";
    match effective.get("pubkeyauthentication") {
        "yes" => Finding::ok(CHECK, format!("{name}: PubkeyAuthentication yes")),
        value => Finding::fail(
            CHECK,
            format!("{name}: PubkeyAuthentication {value}"),
            format!("set `PubkeyAuthentication yes` in a `Match User {name}` (docs/break-glass.md)"),
        ),
    }
}

fn methods(effective: &Effective, name: &str) -> Finding {
    const CHECK: &str = "break_glass.methods";
    let methods = effective.get("authenticationmethods");
    let enough =
        methods.is_empty() || methods.split_whitespace().any(|way| matches!(way, "any" | "publickey"));
    if enough {
        return Finding::ok(CHECK, format!("{name}: its key is enough to log in"));
    }
    Finding::fail(
        CHECK,
        format!("{name}: AuthenticationMethods {methods} wants more than its key"),
        format!("set `AuthenticationMethods publickey` in a `Match User {name}`"),
    )
}

/// What sshd allows root with a key: everything, or only what a key's own command does.
fn root_login(effective: &Effective, name: &str) -> Finding {
    const CHECK: &str = "break_glass.root_login";
    match effective.get("permitrootlogin") {
        value @ ("yes" | "prohibit-password" | "without-password") => {
            Finding::ok(CHECK, format!("{name}: PermitRootLogin {value}"))
        }
        value => Finding::fail(
            CHECK,
            format!("{name}: PermitRootLogin {value}"),
            format!("set `PermitRootLogin prohibit-password`, or keep another account than {name}"),
        ),
    }
}

fn no_shell(effective: &Effective, name: &str) -> Option<Finding> {
    let keywords = ["forcecommand", "chrootdirectory"];
    let set = keywords.into_iter().find(|keyword| !matches!(effective.get(keyword), "" | "none"))?;
    Some(Finding::warn(
        "break_glass.command",
        format!("{name}: {set} {}: it gets no plain shell", effective.get(set)),
        format!("set `{set} none` in a `Match User {name}`"),
    ))
}

/// How a pattern of AllowUsers or DenyUsers meets the account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    No,
    /// From some hosts only.
    Somewhere,
    Everywhere,
}

fn fit(pattern: &str, name: &str) -> Fit {
    match pattern.rsplit_once('@') {
        Some((user, host)) if glob::matches(user, name) => {
            if host.chars().all(|c| c == '*') {
                Fit::Everywhere
            } else {
                Fit::Somewhere
            }
        }
        None if glob::matches(pattern, name) => Fit::Everywhere,
        _ => Fit::No,
    }
}

/// The four lists, in sshd's order (openssh auth.c, allowed_user): each of them can only refuse.
fn shut_out(effective: &Effective, account: &Account) -> Finding {
    const CHECK: &str = "break_glass.allow_deny";
    let name = &account.name;
    // sshd -T prints one pattern a line; sshd_config may hold several.
    let patterns = |keyword: &'static str| -> Vec<&str> {
        effective.all(keyword).flat_map(str::split_whitespace).collect()
    };
    let mut partly = None;
    for pattern in patterns("denyusers") {
        match fit(pattern, name) {
            Fit::No => {}
            Fit::Somewhere => partly = Some(format!("DenyUsers {pattern} shuts it out from some places")),
            Fit::Everywhere => {
                let remedy = format!("take `{pattern}` out of DenyUsers, or narrow it (docs/break-glass.md)");
                return Finding::fail(CHECK, format!("{name}: DenyUsers {pattern} shuts it out"), remedy);
            }
        }
    }
    let allowed = patterns("allowusers");
    match allowed.iter().map(|pattern| (fit(pattern, name), *pattern)).max_by_key(|(fit, _)| *fit as u8) {
        Some((Fit::No, _)) => {
            let seen = format!("{name}: AllowUsers {} does not name it", allowed.join(" "));
            return Finding::fail(CHECK, seen, format!("add `{name}` to AllowUsers"));
        }
        Some((Fit::Somewhere, pattern)) => {
            partly = Some(format!("AllowUsers {pattern}: from some places only"))
        }
        Some((Fit::Everywhere, _)) | None => {}
    }
    let in_group = |pattern: &&str| account.groups.iter().any(|group| glob::matches(pattern, group));
    if let Some(pattern) = patterns("denygroups").into_iter().find(|pattern| in_group(pattern)) {
        let remedy = format!("take `{pattern}` out of DenyGroups, or {name} out of that group");
        return Finding::fail(CHECK, format!("{name}: DenyGroups {pattern} shuts it out"), remedy);
    }
    let groups = patterns("allowgroups");
    if !groups.is_empty() && !groups.iter().any(in_group) {
        let seen = format!("{name}: it is in none of AllowGroups {}", groups.join(" "));
        return Finding::fail(CHECK, seen, format!("add one of its groups to AllowGroups, such as `{name}`"));
    }
    match partly {
        Some(seen) => {
            let remedy =
                "make sure that you can reach the machine from such a place, or name it without a host";
            Finding::bad(CHECK, State::Warn, format!("{name}: {seen}"), remedy)
        }
        None => Finding::ok(CHECK, format!("{name}: no AllowUsers, DenyUsers or group rule shuts it out")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::find;
    use super::*;

    const GOOD: &str = "pubkeyauthentication yes\nauthenticationmethods any\npermitrootlogin no\n\
        authorizedkeyscommand none\nforcecommand none\nchrootdirectory none\n";

    /// What is not as it should be about the account `bg`, or about root.
    fn wrong(name: &str, text: &str) -> Vec<(&'static str, State)> {
        let passwd = "root:x:0:0::/root:/bin/sh\nbg:x:1001:1001::/home/bg:/bin/sh\n";
        let account = find(passwd, "bg:x:1001:\nsudo:x:27:bg\n", name).unwrap();
        let findings = examine(&Effective::parse(text), &account);
        let bad = findings.into_iter().filter(|finding| finding.state != State::Ok);
        bad.map(|finding| {
            assert!(finding.seen.contains(name) && !finding.remedy.is_empty(), "{finding:?}");
            (finding.check, finding.state)
        })
        .collect()
    }

    #[test]
    fn a_sound_configuration_has_no_finding() {
        assert_eq!(wrong("bg", GOOD), []);
        for sound in [
            "authenticationmethods publickey keyboard-interactive:pam\n",
            "denyusers root\ndenyusers omsagent\n",
            "allowusers azureuser bg\n",
            "allowusers bg@*\n",
            "allowgroups sudo\n",
            "denygroups nobody\n",
        ] {
            let (keyword, _) = sound.split_once(' ').unwrap();
            let kept: String = GOOD
                .lines()
                .filter(|line| !line.starts_with(keyword))
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(wrong("bg", &format!("{kept}{sound}")), [], "{sound}");
        }
    }

    #[test]
    fn each_thing_that_is_off_is_found_and_nothing_else() {
        const LISTS: &str = "break_glass.allow_deny";
        for (was, is, check, state) in [
            (
                "keyscommand none",
                "keyscommand /usr/libexec/nightlatch/authorized-keys %u",
                "break_glass.hook",
                State::Fail,
            ),
            (
                "keyscommand none",
                "keyscommand /usr/bin/userdbctl ssh-authorized-keys %u",
                "break_glass.hook",
                State::Warn,
            ),
            ("pubkeyauthentication yes", "pubkeyauthentication no", "break_glass.pubkey", State::Fail),
            ("methods any", "methods publickey,password", "break_glass.methods", State::Fail),
            ("forcecommand none", "forcecommand internal-sftp", "break_glass.command", State::Warn),
            ("chrootdirectory none", "chrootdirectory /srv", "break_glass.command", State::Warn),
            ("methods any", "methods any\ndenyusers b*", LISTS, State::Fail),
            ("methods any", "methods any\ndenyusers bg@10.0.0.*", LISTS, State::Warn),
            ("methods any", "methods any\nallowusers azureuser", LISTS, State::Fail),
            ("methods any", "methods any\nallowusers azureuser bg@10.0.0.*", LISTS, State::Warn),
            ("methods any", "methods any\ndenygroups s*", LISTS, State::Fail),
            ("methods any", "methods any\nallowgroups admins", LISTS, State::Fail),
        ] {
            let text = GOOD.replace(was, is);
            assert_ne!(text, GOOD);
            assert_eq!(wrong("bg", &text), [(check, state)], "{is}");
        }
    }

    #[test]
    fn root_needs_a_word_of_its_own() {
        for (value, found) in [
            ("yes", None),
            ("prohibit-password", None),
            ("without-password", None),
            ("no", Some(("break_glass.root_login", State::Fail))),
            ("forced-commands-only", Some(("break_glass.root_login", State::Fail))),
        ] {
            let text = GOOD.replace("permitrootlogin no", &format!("permitrootlogin {value}"));
            assert_eq!(wrong("root", &text), found.into_iter().collect::<Vec<_>>(), "{value}");
        }
    }
}
