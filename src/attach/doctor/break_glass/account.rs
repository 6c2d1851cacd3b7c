//! The account itself: passwd(5), group(5) and shadow(5) as texts, and whether it may still be used.
//! Only the local files count: in an emergency nothing else may be asked.

use super::super::{Finding, State};
use crate::attach::place::Root;

/// Programs that end at once where a shell should be.
const NO_SHELLS: [&str; 7] = ["nologin", "false", "true", "sync", "halt", "shutdown", "git-shell"];
/// What an empty field means (passwd(5)).
const DEFAULT_SHELL: &str = "/bin/sh";

/// One line of /etc/passwd, with the account's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    /// The first one is the primary group.
    pub(super) gids: Vec<u32>,
    /// Names of the groups in /etc/group.
    pub(super) groups: Vec<String>,
    pub(super) home: String,
    pub(super) shell: String,
    /// The second field: `x` says that shadow(5) has it.
    hash: String,
}

/// Finds an account in the local files.
pub(super) fn find(passwd: &str, group: &str, name: &str) -> Option<Account> {
    let fields = line_of(passwd, name)?;
    let field = |at: usize| fields.get(at).copied().unwrap_or("");
    let gid: u32 = field(3).parse().ok()?;
    let mut account = Account {
        name: name.to_owned(),
        uid: field(2).parse().ok()?,
        gids: vec![gid],
        groups: Vec::new(),
        home: field(5).to_owned(),
        shell: if field(6).is_empty() { DEFAULT_SHELL } else { field(6) }.to_owned(),
        hash: field(1).to_owned(),
    };
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let &[group, _, number, members] = fields.as_slice() else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        let member = members.split(',').any(|member| member.trim() == name);
        if member || number == gid {
            account.groups.push(group.to_owned());
        }
        if member && number != gid {
            account.gids.push(number);
        }
    }
    Some(account)
}

fn line_of<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<&str>>());
    lines.find(|fields| fields.first() == Some(&name))
}

/// What shadow(5) says that a login meets; days count from 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shadow {
    hash: String,
    changed: Option<i64>,
    max: Option<i64>,
    inactive: Option<i64>,
    expires: Option<i64>,
}

/// Reads the account's line. Where /etc/passwd has the password itself, shadow is not asked for it.
pub(super) fn shadow(text: &str, account: &Account) -> Option<Shadow> {
    let own = (account.hash != "x").then(|| account.hash.clone());
    let Some(fields) = line_of(text, &account.name) else {
        return own.map(|hash| Shadow { hash, ..Shadow::default() });
    };
    let days = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).filter(|days| *days >= 0);
    Some(Shadow {
        hash: own.unwrap_or_else(|| fields.get(1).copied().unwrap_or("").to_owned()),
        changed: days(2),
        max: days(4),
        inactive: days(6),
        expires: days(7),
    })
}

impl Shadow {
    /// Whether some password fits.
    pub(super) fn has_password(&self) -> bool {
        !self.hash.starts_with(['!', '*'])
    }
}

/// A uid of our range would be asked about, and swept.
pub(super) fn uid(account: &Account) -> Finding {
    const CHECK: &str = "break_glass.uid";
    let Account { name, uid, .. } = account;
    if nightlatch_model::is_our_uid(*uid) {
        let seen = format!("{name}: uid {uid} is in the range of Entra users");
        return Finding::fail(CHECK, seen, format!("give it another: `usermod -u NUMBER {name}`"));
    }
    Finding::ok(CHECK, format!("{name}: uid {uid} is none of ours"))
}

/// sshd refuses an account whose shell is missing or cannot be run.
pub(super) fn shell(root: &Root, account: &Account) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    const CHECK: &str = "break_glass.shell";
    let Account { name, shell, .. } = account;
    let remedy = format!("set one: `usermod -s /bin/bash {name}`");
    let program = shell.rsplit('/').next().unwrap_or(shell);
    if NO_SHELLS.contains(&program) {
        return Finding::fail(CHECK, format!("{name}: `{shell}` is no shell"), remedy);
    }
    match std::fs::metadata(root.path(shell)) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {}
        Ok(_) => return Finding::fail(CHECK, format!("{name}: `{shell}` cannot be run"), remedy),
        Err(cause) => return Finding::fail(CHECK, format!("{name}: `{shell}`: {cause}"), remedy),
    }
    Finding::ok(CHECK, format!("{name}: {shell}"))
}

/// Whether the account has expired, by the rules of pam_unix (Linux-PAM, check_shadow_expiry).
pub(super) fn expiry(name: &str, shadow: &Shadow, today: i64) -> Finding {
    const CHECK: &str = "break_glass.expiry";
    if let Some(day) = shadow.expires.filter(|day| today >= *day) {
        let seen = format!("{name}: the account expired {} days ago", today.saturating_sub(day));
        return Finding::fail(CHECK, seen, format!("run `chage -E -1 {name}`"));
    }
    let remedy = format!("run `chage -M -1 -I -1 -d $(date +%F) {name}`");
    let too_old = match (shadow.changed, shadow.max) {
        (Some(0), _) => true,
        (Some(changed), Some(max)) => today.saturating_sub(changed) >= max,
        _ => false,
    };
    if too_old {
        let seen =
            format!("{name}: its password is too old: PAM wants a new one before it lets it in by key");
        return Finding::fail(CHECK, seen, remedy);
    }
    match (shadow.changed, shadow.max, shadow.expires) {
        (_, _, Some(day)) => Finding::warn(
            CHECK,
            format!("{name}: the account expires in {} days", day.saturating_sub(today)),
            format!("an emergency has no date: run `chage -E -1 {name}`"),
        ),
        (Some(changed), Some(max), None) if max < NEVER_DAYS => Finding::warn(
            CHECK,
            format!(
                "{name}: in {} days PAM wants a new password",
                changed.saturating_add(max).saturating_sub(today)
            ),
            remedy,
        ),
        _ => Finding::ok(CHECK, format!("{name}: the account does not expire")),
    }
}

/// What distributions write for no limit, in days.
const NEVER_DAYS: i64 = 10_000;

/// A lock keeps passwords out, and under some settings keys as well.
pub(super) fn lock(name: &str, shadow: &Shadow, use_pam: bool, has_key: bool) -> Finding {
    const CHECK: &str = "break_glass.lock";
    if shadow.hash.is_empty() {
        let seen = format!("{name}: it has an empty password");
        return Finding::warn(CHECK, seen, format!("keys are enough: run `usermod -p '*' {name}`"));
    }
    if shadow.has_password() {
        return Finding::ok(CHECK, format!("{name}: it has a password"));
    }
    if !use_pam && shadow.hash.starts_with('!') {
        let seen = format!("{name}: it is locked, and without PAM sshd refuses locked accounts");
        return Finding::fail(CHECK, seen, format!("run `usermod -p '*' {name}`, or set `UsePAM yes`"));
    }
    if !has_key {
        let seen = format!("{name}: it has no password, and no key that sshd would take");
        return Finding::fail(CHECK, seen, "put a public key into its key file (docs/break-glass.md)");
    }
    Finding::ok(CHECK, format!("{name}: it has no password, and needs none with its key"))
}

/// What is said when shadow(5) cannot be read or does not know the account.
pub(super) fn no_shadow(name: &str, readable: bool) -> Finding {
    const CHECK: &str = "break_glass.expiry";
    if readable {
        let seen = format!("{name}: /etc/shadow has no line for it, so PAM refuses it");
        return Finding::fail(CHECK, seen, "run `pwconv`");
    }
    Finding::bad(CHECK, State::Unknown, "/etc/shadow cannot be read", "run doctor as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbg:x:1001:1001::/home/bg:\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:bob,bg\nbg:x:1001:\nbroken\nbgs:x:50:bgx\n";

    fn bg() -> Account {
        find(PASSWD, GROUP, "bg").unwrap()
    }

    fn days(line: &str) -> Shadow {
        shadow(line, &bg()).unwrap()
    }

    #[test]
    fn an_account_comes_with_its_local_groups() {
        let bg = bg();
        assert_eq!((bg.uid, bg.gids.as_slice(), bg.shell.as_str()), (1001, [1001, 27].as_slice(), "/bin/sh"));
        assert_eq!(bg.groups, ["sudo", "bg"]);
        assert_eq!(find(PASSWD, GROUP, "b"), None);
        assert_eq!(find("bg:x:many:1::/:/bin/sh\n", GROUP, "bg"), None);
    }

    #[test]
    fn expiry_goes_by_pam_unix() {
        for (line, state, word) in [
            ("bg:*:20000:0:99999:7:::", State::Ok, "does not expire"),
            ("bg:*:20000::::::", State::Ok, "does not expire"),
            ("bg:*:20000:0:99999:7::20100:", State::Fail, "expired 0 days ago"),
            ("bg:*:20000:0:99999:7::20101:", State::Warn, "expires in 1 days"),
            ("bg:*:0:0:99999:7:::", State::Fail, "too old"),
            ("bg:*:20000:0:100:7:::", State::Fail, "too old"),
            ("bg:*:20000:0:101:7:::", State::Warn, "in 1 days"),
            ("bg:*:20000:0:99999:7::-1:", State::Ok, "does not expire"),
        ] {
            let finding = expiry("bg", &days(line), 20100);
            assert_eq!(finding.state, state, "{line}: {finding:?}");
            assert!(finding.seen.contains(word), "{word} in {}", finding.seen);
            assert_eq!(finding.remedy.is_empty(), state == State::Ok);
        }
    }

    #[test]
    fn a_lock_counts_where_nothing_else_opens() {
        for (hash, use_pam, has_key, state) in [
            ("$y$x", true, false, State::Ok),
            ("*", true, true, State::Ok),
            ("!", true, true, State::Ok),
            ("!$y$x", true, true, State::Ok),
            ("!", true, false, State::Fail),
            ("*", true, false, State::Fail),
            ("!", false, true, State::Fail),
            ("*", false, true, State::Ok),
            ("", true, true, State::Warn),
        ] {
            let shadow = days(&format!("bg:{hash}:1::::::"));
            assert_eq!(lock("bg", &shadow, use_pam, has_key).state, state, "{hash} {use_pam} {has_key}");
        }
    }

    #[test]
    fn a_password_in_passwd_needs_no_shadow() {
        let open = find("bg:$y$x:1001:1001::/home/bg:/bin/sh\n", "", "bg").unwrap();
        assert!(shadow("", &open).unwrap().has_password());
        assert_eq!(shadow("", &bg()), None);
        assert_eq!(no_shadow("bg", true).state, State::Fail);
        assert_eq!(no_shadow("bg", false).state, State::Unknown);
    }
}
