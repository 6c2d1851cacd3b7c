//! Our lines in PAM services. In mode enforce each is gated on our uid range with `user_unknown=ignore`,
//! so that a local user never reaches our helper, whatever state it is in. In mode observe there is one
//! line, optional, for everybody.

use nightlatch_model::{UID_HIGH, UID_LOW};

use super::blocks;
use super::interactive::Interactive;
use super::pam_stack::{Rule, statements};
use super::refusal::Refusal;

/// The helper that asks the daemon.
pub const HELPER: &str = "/usr/libexec/nightlatch/pam";
/// What the gate says of a uid in our range, of an unknown user, and of everybody else.
pub const GATE_CONTROL: &str = "[success=ignore user_unknown=ignore default=1]";
/// The words that pam_exec(8) needs: root as real user as well, and the helper's text for the person.
pub const EXEC_WORDS: [&str; 3] = ["seteuid", "quiet", "stdout"];
/// The module that gives a session its login uid and its number: before it no session can be told
/// from another.
pub const LOGIN_UID: &str = "pam_loginuid.so";
/// The helper's argument in mode observe: it looks, prints nothing and ends with 0.
pub const OBSERVE: &str = "observe";
/// Files that bring no account rules, by the names that Debian gives them.
const OTHER_PHASES: [&str; 4] =
    ["common-auth", "common-password", "common-session", "common-session-noninteractive"];

/// The gate's arguments.
#[must_use]
pub fn gate_arguments() -> String {
    format!("quiet uid >= {UID_LOW} uid <= {UID_HIGH}")
}

/// The gate's control in the auth phase, before so many lines of ours. An unknown user is nobody of ours there: nothing that
/// follows lets them in. `ignore` is what the module says while sshd sets credentials: were it a jump then, PAM as it comes
/// from its authors would end that phase without a success, and sshd the login with it.
#[must_use]
pub fn auth_gate_control(lines: usize) -> String {
    format!("[success=ignore ignore=ignore default={lines}]")
}

fn gate(kind: &str) -> String {
    let control = if kind == "auth" { auth_gate_control(1) } else { GATE_CONTROL.to_owned() };
    format!("{kind} {control} pam_succeed_if.so {}\n", gate_arguments())
}

fn ask(kind: &str) -> String {
    format!("{}{kind} requisite pam_exec.so {} {HELPER}\n", gate(kind), EXEC_WORDS.join(" "))
}

/// The session's record, without which none of our sessions opens, then a home at the first login.
fn session_lines() -> String {
    let gate = gate("session");
    format!(
        "{gate}session required pam_exec.so {} {HELPER}\n{gate}session optional pam_mkhomedir.so umask=0077\n",
        EXEC_WORDS.join(" ")
    )
}

/// The three calls that ask for a sign-in at the prompt, behind one gate. The first ends well when there is nothing to ask
/// for; the second when a sign-in waits; the third asks for a line, which nobody reads, and ends well when it is over.
/// `ignore` is what pam_exec says when sshd sets credentials: it must not end that phase.
#[must_use]
pub fn step_up_lines() -> String {
    let exec = format!("pam_exec.so {}", EXEC_WORDS.join(" "));
    let gate = format!("auth {} pam_succeed_if.so {}", auth_gate_control(3), gate_arguments());
    format!(
        "{gate}\nauth [success=done default=ignore] {exec} {HELPER} step-up begin\n\
         auth [success=ignore ignore=ignore default=die] {exec} {HELPER} step-up shown\n\
         auth [success=done ignore=ignore default=die] {exec} expose_authtok {HELPER} step-up over\n"
    )
}

/// What a service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What keyboard-interactive is used for.
    pub interactive: Interactive,
    /// The session's record and a home, at the end, behind everything that sets the session up.
    pub session: bool,
}

/// The service with our lines.
///
/// # Errors
/// When it has no account phase to stand in, or a mark lost its partner.
pub fn attach(path: &str, text: &str, wanted: Wanted) -> Result<String, Refusal> {
    let mut new = detach(path, text)?;
    let at = account_place(&new).ok_or_else(|| Refusal::NoAccountPhase(path.to_owned()))?;
    new = blocks::insert(&new, at, &ask("account"));
    let auth = match wanted.interactive {
        Interactive::Nothing => None,
        Interactive::Reason => Some(ask("auth")),
        Interactive::StepUp => Some(step_up_lines()),
    };
    if let Some(auth) = auth {
        let place = statements(&new).into_iter().find(|(_, rule)| {
            rule.kind == "auth" || (rule.kind == "@include" && rule.module == "common-auth")
        });
        new = blocks::insert(&new, place.map_or(0, |(at, _)| at), &auth);
    }
    if wanted.session {
        new = blocks::append(&new, &session_lines());
    }
    Ok(new)
}

/// The service with the one line that looks at every login and decides nothing.
///
/// # Errors
/// When a mark lost its partner.
pub fn observe(path: &str, text: &str) -> Result<String, Refusal> {
    let line = format!("session optional pam_exec.so seteuid quiet {HELPER} {OBSERVE}\n");
    Ok(blocks::append(&detach(path, text)?, &line))
}

/// The service as it would be without us.
///
/// # Errors
/// As [`attach`].
pub fn detach(path: &str, text: &str) -> Result<String, Refusal> {
    blocks::remove(text).ok_or_else(|| Refusal::Marks(path.to_owned()))
}

/// Whether a service takes its account phase from another that is attached, so that it needs nothing.
#[must_use]
pub fn borrows_from(text: &str, service: &str) -> bool {
    statements(text).iter().any(|(_, rule)| {
        rule.included() == Some(service) && (rule.kind == "account" || rule.kind == "@include")
    })
}

/// Where our pair goes: before the first account rule that decides (an include, pam_unix, anything
/// that may jump or end the phase); plain gates such as pam_nologin keep their place before us.
/// The number in a jump before us would count our lines, so no jump stays before us.
fn account_place(text: &str) -> Option<usize> {
    let statements = statements(text);
    let mut account = statements.iter().filter(|(_, rule)| brings_account(rule));
    let decides = |rule: &Rule| {
        rule.included().is_some()
            || rule.may_skip()
            || rule.control.starts_with('[')
            || rule.module_name() == "pam_unix.so"
    };
    let deciding = account.clone().find(|(_, rule)| decides(rule));
    deciding.or_else(|| account.next()).map(|(at, _)| *at)
}

fn brings_account(rule: &Rule) -> bool {
    rule.kind == "account" || (rule.kind == "@include" && !OTHER_PHASES.contains(&rule.module.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Wanted = Wanted { interactive: Interactive::Nothing, session: true };
    /// The statements of Debian 12.
    const DEBIAN_SSHD: &str = "\
# Standard Un*x authentication.
@include common-auth
account    required     pam_nologin.so
# account  required     pam_access.so
@include common-account
session [success=ok ignore=ignore module_unknown=ignore default=bad]        pam_selinux.so close
session    required     pam_loginuid.so
session    optional     pam_keyinit.so force revoke
@include common-session
session    optional     pam_motd.so  motd=/run/motd.dynamic
session    optional     pam_motd.so noupdate
session    optional     pam_mail.so standard noenv # [1]
session    required     pam_limits.so
session    required     pam_env.so # [1]
session    required     pam_env.so user_readenv=1 envfile=/etc/default/locale
session [success=ok ignore=ignore module_unknown=ignore default=bad]        pam_selinux.so open
@include common-password
";
    const DEBIAN_SUDO: &str = "\
#%PAM-1.0

session    required   pam_limits.so

@include common-auth
@include common-account
@include common-session-noninteractive
";
    /// The statements of Azure Linux 3, here without the last newline.
    const AZURE_LINUX: &str = "\
# Begin /etc/pam.d/sshd
auth            include         system-auth
account         include         system-account
password        include         system-password
session         required        pam_selinux.so close
session         optional        pam_loginuid.so
session         include         system-session
session         required        pam_selinux.so open
# End /etc/pam.d/sshd";
    const SESSION: &str = "\
# BEGIN nightlatch: `nightlatch detach` removes these lines
session [success=ignore user_unknown=ignore default=1] pam_succeed_if.so quiet uid >= 1879048192 uid <= 2147352575
session required pam_exec.so seteuid quiet stdout /usr/libexec/nightlatch/pam
session [success=ignore user_unknown=ignore default=1] pam_succeed_if.so quiet uid >= 1879048192 uid <= 2147352575
session optional pam_mkhomedir.so umask=0077
# END nightlatch
";
    const OBSERVING: &str = "\
# BEGIN nightlatch: `nightlatch detach` removes these lines
session optional pam_exec.so seteuid quiet /usr/libexec/nightlatch/pam observe
# END nightlatch
";
    /// Where the text before our block had no last newline.
    fn joined(block: &str) -> String {
        format!("\n{}", block.replacen("lines\n", "lines, after a line without its end\n", 1))
    }

    #[test]
    fn our_pair_stands_before_what_decides() {
        let text = attach("sshd", DEBIAN_SSHD, BOTH).unwrap();
        let order: Vec<usize> = [
            "pam_nologin.so",
            "pam_succeed_if.so",
            "pam_exec.so",
            "@include common-account",
            "pam_mkhomedir",
        ]
        .iter()
        .map(|word| text.find(word).unwrap())
        .collect();
        assert!(order.is_sorted(), "{text}");
        assert!(text.contains(
            "account [success=ignore user_unknown=ignore default=1] pam_succeed_if.so quiet uid >= 1879048192 uid <= 2147352575\n\
             account requisite pam_exec.so seteuid quiet stdout /usr/libexec/nightlatch/pam\n"
        ));
        let sudo = attach("sudo", DEBIAN_SUDO, Wanted { interactive: Interactive::Nothing, session: false })
            .unwrap();
        assert!(sudo.find("pam_exec.so") < sudo.find("@include common-account"));
        assert!(!sudo.contains("pam_mkhomedir"));
        let azure = attach("sshd", AZURE_LINUX, BOTH).unwrap();
        assert!(azure.find("pam_exec.so") < azure.find("system-account"));
        assert!(azure.find("system-session") < azure.find("pam_mkhomedir"));
    }

    #[test]
    fn the_session_lines_stand_at_the_end_each_behind_its_gate() {
        let debian = attach("sshd", DEBIAN_SSHD, BOTH).unwrap();
        assert!(debian.ends_with(&format!("@include common-password\n{SESSION}")), "{debian}");
        let azure = attach("sshd", AZURE_LINUX, BOTH).unwrap();
        assert!(azure.ends_with(&format!("# End /etc/pam.d/sshd{}", joined(SESSION))), "{azure}");
        let sudo = attach("sudo", DEBIAN_SUDO, Wanted { interactive: Interactive::Nothing, session: false })
            .unwrap();
        let ours = sudo.lines().filter(|line| line.starts_with("session") && line.contains("nightlatch"));
        assert_eq!(ours.count(), 0, "{sudo}");
    }

    #[test]
    fn observing_is_one_line_at_the_end_and_nothing_else() {
        let debian = observe("sshd", DEBIAN_SSHD).unwrap();
        assert_eq!(debian, format!("{DEBIAN_SSHD}{OBSERVING}"));
        let azure = observe("sshd", AZURE_LINUX).unwrap();
        assert_eq!(azure, format!("{AZURE_LINUX}{}", joined(OBSERVING)));
        for text in [DEBIAN_SSHD, AZURE_LINUX] {
            let once = observe("sshd", text).unwrap();
            assert_eq!(observe("sshd", &once).unwrap(), once, "twice is once");
            assert_eq!(detach("sshd", &once).unwrap(), text);
        }
    }

    #[test]
    fn one_mode_takes_the_others_lines_out() {
        for text in [DEBIAN_SSHD, AZURE_LINUX] {
            for wanted in [BOTH, Wanted { interactive: Interactive::StepUp, session: true }] {
                let (watching, deciding) =
                    (observe("sshd", text).unwrap(), attach("sshd", text, wanted).unwrap());
                assert_eq!(attach("sshd", &watching, wanted).unwrap(), deciding);
                assert_eq!(observe("sshd", &deciding).unwrap(), watching);
            }
        }
        assert!(matches!(observe("sshd", "# BEGIN nightlatch\n"), Err(Refusal::Marks(_))));
    }

    #[test]
    fn twice_is_once_and_out_is_as_before() {
        for text in [DEBIAN_SSHD, DEBIAN_SUDO, AZURE_LINUX] {
            for wanted in [
                BOTH,
                Wanted { interactive: Interactive::Reason, session: true },
                Wanted { interactive: Interactive::StepUp, session: false },
            ] {
                let once = attach("x", text, wanted).unwrap();
                assert_eq!(attach("x", &once, wanted).unwrap(), once);
                assert_eq!(detach("x", &once).unwrap(), text);
            }
        }
    }

    /// Each ends well only for us: a local user jumps over all of them, and nobody reaches what follows them but by ours.
    #[test]
    fn a_sign_in_at_the_prompt_is_asked_for_first_and_of_our_uids_alone() {
        let exec = "pam_exec.so seteuid quiet stdout";
        let lines = format!(
            "auth [success=ignore ignore=ignore default=3] pam_succeed_if.so quiet uid >= 1879048192 uid <= 2147352575\n\
             auth [success=done default=ignore] {exec} {HELPER} step-up begin\n\
             auth [success=ignore ignore=ignore default=die] {exec} {HELPER} step-up shown\n\
             auth [success=done ignore=ignore default=die] {exec} expose_authtok {HELPER} step-up over\n\
             # END nightlatch\n"
        );
        let wanted = Wanted { interactive: Interactive::StepUp, session: true };
        for (text, first) in [(DEBIAN_SSHD, "@include common-auth"), (AZURE_LINUX, "auth            include")]
        {
            let new = attach("sshd", text, wanted).unwrap();
            assert!(new.contains(&format!("{lines}{first}")), "{new}");
            assert_eq!(new.matches("step-up").count(), 3);
            assert_eq!(attach("sshd", &new, BOTH).unwrap(), attach("sshd", text, BOTH).unwrap());
        }
    }

    /// A jump counts lines: ours must not come between it and where it lands.
    #[test]
    fn no_jump_of_others_is_lengthened() {
        let text = "account [success=1 default=ignore] pam_a.so\naccount requisite pam_deny.so\n\
                    account required pam_unix.so\n";
        let new = attach("x", text, Wanted { interactive: Interactive::Nothing, session: false }).unwrap();
        assert!(new.find("pam_exec.so") < new.find("pam_a.so"), "{new}");
    }

    #[test]
    fn a_plain_stack_is_preceded() {
        let new = attach("x", "account required pam_a.so\naccount required pam_unix.so\n", BOTH).unwrap();
        assert!(
            new.find("pam_a.so") < new.find("pam_exec.so")
                && new.find("pam_exec.so") < new.find("pam_unix.so")
        );
        assert!(attach("x", "auth required pam_deny.so\n", BOTH).is_err());
    }

    #[test]
    fn a_service_that_borrows_needs_nothing() {
        assert!(borrows_from("account include sudo\n", "sudo"));
        assert!(!borrows_from("session include sudo\n@include common-account\n", "sudo"));
    }
}
