//! What sshd does for one of our names, by its own words (`sshd -T -C`), and who else asks for its hook.

use super::{Expected, Finding, State};
use crate::attach::interactive::Interactive;
use crate::attach::place::Root;
use crate::attach::sshd_config::{Effective, Line, version};
use crate::attach::tools::{Tools, connection_of};
use crate::attach::{glob, plan, ready, sshd_edit};

const SSHD: &str = "/usr/sbin/sshd";
/// The check that names another agent.
pub(super) const OTHER_AGENT: &str = "other_agent";
/// A local user that every machine has.
const LOCAL_USER: &str = "root";
/// `az ssh` offers the certificate first and the bare key next; agents offer more.
const MIN_AUTH_TRIES: u32 = 4;
/// The first sshd that knows `%C` and `%D`, and that runs both commands right (bz3574).
const KNOWS_CONNECTION_TOKENS: (u32, u32) = (9, 4);
/// The first sshd that reads the `Z` of expiry-time.
const READS_UTC: (u32, u32) = (9, 1);

pub(super) fn examine(root: &Root, tools: &dyn Tools, expected: &Expected) -> Vec<Finding> {
    let lines = plan::sshd_lines(root).map(|(_, lines)| lines).unwrap_or_default();
    let mut findings = other_hooks(root, &lines);
    let said = tools.run(SSHD, &["-V"]).map(|said| format!("{}{}", said.err, said.out)).unwrap_or_default();
    let version = version(&said);
    findings.extend(age(version));
    let ask = |user: &str| tools.run(SSHD, &["-T", "-C", &connection_of(user)]);
    match ask(&expected.user) {
        None => findings.push(Finding::bad(
            "sshd.config",
            State::Unknown,
            format!("`{SSHD}` cannot be run"),
            "run doctor as root on a machine with openssh-server",
        )),
        Some(said) if !said.ok => findings.push(Finding::fail(
            "sshd.config",
            said.complaint(),
            "mend this line; until then sshd must not be restarted",
        )),
        Some(said) => {
            findings.push(Finding::ok("sshd.config", "sshd accepts its configuration"));
            let effective = Effective::parse(&said.out);
            findings.extend(for_our_user(&effective, &lines, expected, version));
        }
    }
    if let Some(said) = ask(LOCAL_USER).filter(|said| said.ok) {
        findings.extend(for_local_users(&Effective::parse(&said.out), &lines));
    }
    findings
}

/// The line that gives a keyword a value for our names, or for everybody when `matching` is false.
fn set_by(lines: &[Line], keyword: &str, value: &str) -> String {
    let first = value.split_whitespace().next().unwrap_or(value);
    let fits = |line: &&Line| line.keyword == keyword && line.value.contains(first);
    let found = lines.iter().filter(fits).find(|line| line.matching.is_some());
    let found = found.or_else(|| lines.iter().find(fits));
    found.map_or_else(String::new, |line| format!(" ({})", line.place()))
}

fn age(version: Option<(u32, u32)>) -> Option<Finding> {
    let Some((major, minor)) = version else {
        return Some(Finding::bad("sshd.version", State::Unknown, "sshd does not say its version", ""));
    };
    if (major, minor) < READS_UTC {
        return Some(Finding::warn(
            "sshd.version",
            format!("OpenSSH {major}.{minor} cannot read the `Z` of expiry-time, which came with 9.1"),
            "set `expiry_time = \"local\"` under [login] in nightlatch.toml and restart nightlatchd",
        ));
    }
    Some(Finding::ok("sshd.version", format!("OpenSSH {major}.{minor}")))
}

/// What a person needs at least to sign in with a code on another device, in seconds.
const LEAST_GRACE_FOR_PROMPT_S: i64 = 120;

/// sshd for one of our names.
pub(super) fn for_our_user(
    effective: &Effective,
    lines: &[Line],
    expected: &Expected,
    version: Option<(u32, u32)>,
) -> Vec<Finding> {
    const ATTACH: &str = "run `nightlatch attach`";
    let mut findings = vec![hook(effective, lines, version)];
    let methods = expected.interactive.methods();
    for (check, keyword, wanted, why) in [
        ("sshd.hook_user", "authorizedkeyscommanduser", sshd_edit::HOOK_USER, ATTACH),
        (
            "sshd.key_files",
            "authorizedkeysfile",
            "none",
            "a key file lets people in without Entra: run `nightlatch attach`",
        ),
        (
            "sshd.ca_keys",
            "trustedusercakeys",
            "none",
            "these authorities let people in without Entra: run `nightlatch attach`",
        ),
        ("sshd.methods", "authenticationmethods", methods, ATTACH),
        ("sshd.pubkey", "pubkeyauthentication", "yes", "no key is looked at: run `nightlatch attach`"),
        ("sshd.pam", "usepam", "yes", "PAM is where logins are decided: set `UsePAM yes` in sshd_config"),
        (
            "sshd.user_environment",
            "permituserenvironment",
            "no",
            "set `PermitUserEnvironment no` in sshd_config",
        ),
    ] {
        // Older versions do not print what is not set.
        let value = match effective.get(keyword) {
            "" if wanted == "none" => "none",
            value => value,
        };
        findings.push(if value == wanted {
            Finding::ok(check, format!("{keyword} {value}"))
        } else {
            let state = if keyword == "permituserenvironment" { State::Warn } else { State::Fail };
            Finding::bad(check, state, format!("{keyword} {value}{}", set_by(lines, keyword, value)), why)
        });
    }
    findings.extend(principals(effective, lines, version));
    findings.push(shut_out(effective, &expected.user));
    let tries: u32 = effective.get("maxauthtries").parse().unwrap_or(0);
    findings.push(if tries >= MIN_AUTH_TRIES {
        Finding::ok("sshd.auth_tries", format!("MaxAuthTries {tries}"))
    } else {
        Finding::warn(
            "sshd.auth_tries",
            format!(
                "MaxAuthTries {tries}: people whose ssh agent holds keys are cut off before their certificate"
            ),
            format!("set `MaxAuthTries {MIN_AUTH_TRIES}` or more"),
        )
    });
    let grace: i64 = effective.get("logingracetime").parse().unwrap_or(0);
    findings.push(if grace == 0 || grace >= expected.login_grace_s {
        Finding::ok("sshd.login_grace", format!("LoginGraceTime {grace}"))
    } else {
        Finding::warn(
            "sshd.login_grace",
            format!(
                "LoginGraceTime {grace} is shorter than login.login_grace_time ({} s)",
                expected.login_grace_s
            ),
            format!("set `login_grace_time = \"{grace}s\"` under [login] in /etc/nightlatch/nightlatch.toml"),
        )
    });
    if expected.interactive.is_used() && effective.get("kbdinteractiveauthentication") != "yes" {
        let seen = format!("{} is set but sshd offers no keyboard-interactive", expected.interactive.key());
        findings.push(Finding::fail("sshd.interactive", seen, ATTACH));
    }
    // Of no LoginGraceTime at all, ours remains.
    let least = if grace == 0 { expected.login_grace_s } else { grace.min(expected.login_grace_s) };
    if expected.interactive == Interactive::StepUp && least < LEAST_GRACE_FOR_PROMPT_S {
        findings.push(Finding::warn(
            "sshd.step_up",
            format!(
                "people have less than {least} s to sign in at the prompt: LoginGraceTime {grace}, login.login_grace_time {}",
                expected.login_grace_s
            ),
            format!(
                "set `LoginGraceTime {LEAST_GRACE_FOR_PROMPT_S}` or more in sshd_config, and the same as `login_grace_time`"
            ),
        ));
    }
    findings
}

fn hook(effective: &Effective, lines: &[Line], version: Option<(u32, u32)>) -> Finding {
    let command = effective.get("authorizedkeyscommand");
    let place = set_by(lines, "authorizedkeyscommand", command);
    let tokens = command.contains("%C") || command.contains("%D");
    if tokens && version.is_some_and(|version| version < KNOWS_CONNECTION_TOKENS) {
        let seen = format!("`{command}`{place}: this sshd does not know %C and %D and refuses every key");
        return Finding::fail("sshd.hook", seen, "run `nightlatch attach`");
    }
    match command {
        sshd_edit::HOOK => Finding::ok("sshd.hook", command),
        "" | "none" => Finding::fail(
            "sshd.hook",
            "sshd asks nobody about Entra users",
            "run `nightlatch attach`; if that was done, a line before the Include of 50-nightlatch.conf hides it",
        ),
        other if other.contains("/nightlatch/authorized-keys") => Finding::fail(
            "sshd.hook",
            format!("`{other}`{place}: other arguments than the hook takes"),
            "run `nightlatch attach`",
        ),
        other => Finding::fail(
            "sshd.hook",
            format!("sshd asks `{other}`{place} about Entra users; it takes the first Match that fits"),
            "remove that block or move it behind 50-nightlatch.conf, then `nightlatch attach`",
        ),
    }
}

fn principals(effective: &Effective, lines: &[Line], version: Option<(u32, u32)>) -> Option<Finding> {
    let command = effective.get("authorizedprincipalscommand");
    if matches!(command, "" | "none") {
        return None;
    }
    let place = set_by(lines, "authorizedprincipalscommand", command);
    let seen = format!("AuthorizedPrincipalsCommand `{command}`{place} is set for Entra users as well");
    let broken = version.is_none_or(|version| version < KNOWS_CONNECTION_TOKENS);
    let (state, remedy) = if broken {
        (
            State::Fail,
            "sshd before 9.4 runs it instead of the hook (bz3574): move it into a Match that excludes `*@*`",
        )
    } else {
        (State::Warn, "move it into a Match that excludes `*@*`")
    };
    Some(Finding::bad("sshd.principals", state, seen, remedy))
}

/// AllowUsers and its kin, as sshd applies them: deny before allow, users before groups.
fn shut_out(effective: &Effective, user: &str) -> Finding {
    const CHECK: &str = "sshd.allow_deny";
    let domain = user.rsplit_once('@').map_or("contoso.com", |(_, domain)| domain);
    // sshd -T prints one pattern a line; sshd_config may hold several.
    let patterns = |keyword: &str| -> Vec<String> {
        effective.all(keyword).flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    if let Some(pattern) = patterns("denyusers").iter().find(|pattern| glob::user_matches(pattern, user)) {
        let remedy = format!("take `{pattern}` out of DenyUsers, or narrow it");
        return Finding::fail(CHECK, format!("DenyUsers {pattern} shuts Entra users out"), remedy);
    }
    let allowed = patterns("allowusers");
    if !allowed.is_empty() && !allowed.iter().any(|pattern| glob::user_matches(pattern, user)) {
        return Finding::fail(
            CHECK,
            format!("AllowUsers {} does not name Entra users", allowed.join(" ")),
            format!("add `*@{domain}@*` to AllowUsers (what follows the last @ is a host for sshd)"),
        );
    }
    let in_group = |pattern: &String| glob::matches(pattern, user);
    if let Some(pattern) = patterns("denygroups").iter().find(|pattern| in_group(pattern)) {
        let remedy =
            format!("take `{pattern}` out of DenyGroups; each Entra user has a group of the same name");
        return Finding::fail(CHECK, format!("DenyGroups {pattern} shuts Entra users out"), remedy);
    }
    let groups = patterns("allowgroups");
    if !groups.is_empty() && !groups.iter().any(in_group) {
        let admins = groups.iter().any(|pattern| glob::matches(pattern, nightlatch_model::ADMIN_GROUP));
        let remedy = format!("add `*@{domain}` to AllowGroups; each Entra user has a group of the same name");
        let seen = format!("AllowGroups {} does not name Entra users", groups.join(" "));
        return if admins {
            Finding::warn(CHECK, format!("{seen} other than administrators"), remedy)
        } else {
            Finding::fail(CHECK, seen, remedy)
        };
    }
    Finding::ok(CHECK, "no AllowUsers, DenyUsers or group rule shuts Entra users out")
}

/// sshd for a user of the machine itself: none of our business, and must stay so.
pub(super) fn for_local_users(effective: &Effective, lines: &[Line]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let command = effective.get("authorizedkeyscommand");
    let place = set_by(lines, "authorizedkeyscommand", command);
    findings.push(if command.contains("/nightlatch/") {
        let seen = format!("sshd asks nightlatch about local users as well{place}");
        Finding::fail("sshd.local_users", seen, "remove that line: the Match of 50-nightlatch.conf is enough")
    } else if matches!(command, "" | "none") {
        Finding::ok("sshd.local_users", "sshd asks nobody about local users")
    } else {
        let seen = format!("a global hook, `{command}`{place}, is asked about local users");
        Finding::warn("sshd.local_users", seen, "fine if you want it; Entra users are not its business")
    });
    if effective.get("pubkeyauthentication") == "no" {
        findings.push(Finding::warn(
            "sshd.break_glass",
            format!(
                "local users cannot log in by key: PubkeyAuthentication no{}",
                set_by(lines, "pubkeyauthentication", "no")
            ),
            "keep another way in (serial console, run-command) for the day Entra cannot be reached",
        ));
    }
    findings
}

/// Who else wants to decide for our names.
fn other_hooks(root: &Root, lines: &[Line]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = ready::other_agent(root, lines)
        .into_iter()
        .map(|seen| {
            Finding::fail(
                OTHER_AGENT,
                seen,
                "remove aadsshlogin, or `nightlatch detach`: only one may own these names",
            )
        })
        .collect();
    for line in lines.iter().filter(|line| line.keyword == "authorizedkeyscommand") {
        let known = if line.value.contains("userdbctl") {
            "systemd-userdbd's drop-in"
        } else if line.value.contains("eic_run_authorized_keys") {
            "EC2 Instance Connect"
        } else if line.value.contains("google_authorized_keys") {
            "Google OS Login"
        } else {
            continue;
        };
        let seen = format!("{known} sets AuthorizedKeysCommand in {}", line.place());
        findings.push(Finding::warn(
            "other_hook",
            seen,
            "see sshd.hook for who wins; remove it if you do not use it",
        ));
    }
    findings
}

#[cfg(test)]
#[path = "sshd_tests.rs"]
mod tests;
