//! Our lines in PAM services. Each pair is gated on our uid range with `user_unknown=ignore`, so that
//! a local user never reaches our helper, whatever state it is in.

use nightlatch_model::{UID_HIGH, UID_LOW};

use super::blocks;
use super::pam_stack::{Rule, statements};
use super::refusal::Refusal;

/// The helper that asks the daemon.
pub const HELPER: &str = "/usr/libexec/nightlatch/pam";
/// What the gate says of a uid in our range, of an unknown user, and of everybody else.
pub const GATE_CONTROL: &str = "[success=ignore user_unknown=ignore default=1]";
/// The words that pam_exec(8) needs: root as real user as well, and the helper's text for the person.
pub const EXEC_WORDS: [&str; 3] = ["seteuid", "quiet", "stdout"];
/// Files that bring no account rules, by the names that Debian gives them.
const OTHER_PHASES: [&str; 4] =
    ["common-auth", "common-password", "common-session", "common-session-noninteractive"];

/// The gate's arguments.
#[must_use]
pub fn gate_arguments() -> String {
    format!("quiet uid >= {UID_LOW} uid <= {UID_HIGH}")
}

fn gate(kind: &str) -> String {
    format!("{kind} {GATE_CONTROL} pam_succeed_if.so {}\n", gate_arguments())
}

fn ask(kind: &str) -> String {
    format!("{}{kind} requisite pam_exec.so {} {HELPER}\n", gate(kind), EXEC_WORDS.join(" "))
}

/// What a service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The reason text through keyboard-interactive.
    pub auth: bool,
    /// A home at the first login.
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
    if wanted.auth {
        let place = statements(&new).into_iter().find(|(_, rule)| {
            rule.kind == "auth" || (rule.kind == "@include" && rule.module == "common-auth")
        });
        new = blocks::insert(&new, place.map_or(0, |(at, _)| at), &ask("auth"));
    }
    if wanted.session {
        let lines = format!("{}session optional pam_mkhomedir.so umask=0077\n", gate("session"));
        new = blocks::append(&new, &lines);
    }
    Ok(new)
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

    const BOTH: Wanted = Wanted { auth: false, session: true };
    const DEBIAN_SSHD: &str = "\
# Standard Un*x authentication.
@include common-auth
account    required     pam_nologin.so
# account  required     pam_access.so
@include common-account
session    required     pam_loginuid.so
@include common-session
@include common-password
";
    const DEBIAN_SUDO: &str = "\
#%PAM-1.0

session    required   pam_limits.so

@include common-auth
@include common-account
@include common-session-noninteractive
";
    const AZURE_LINUX: &str = "\
# Begin /etc/pam.d/sshd
auth            include     system-auth
account         include     system-account
password        include     system-password
session         include     system-session
# End";

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
        let sudo = attach("sudo", DEBIAN_SUDO, Wanted { auth: false, session: false }).unwrap();
        assert!(sudo.find("pam_exec.so") < sudo.find("@include common-account"));
        assert!(!sudo.contains("pam_mkhomedir"));
        let azure = attach("sshd", AZURE_LINUX, BOTH).unwrap();
        assert!(azure.find("pam_exec.so") < azure.find("system-account"));
        assert!(azure.find("system-session") < azure.find("pam_mkhomedir"));
    }

    #[test]
    fn twice_is_once_and_out_is_as_before() {
        for text in [DEBIAN_SSHD, DEBIAN_SUDO, AZURE_LINUX] {
            for wanted in [BOTH, Wanted { auth: true, session: true }, Wanted { auth: true, session: false }]
            {
                let once = attach("x", text, wanted).unwrap();
                assert_eq!(attach("x", &once, wanted).unwrap(), once);
                assert_eq!(detach("x", &once).unwrap(), text);
            }
        }
    }

    /// A jump counts lines: ours must not come between it and where it lands.
    #[test]
    fn no_jump_of_others_is_lengthened() {
        let text = "account [success=1 default=ignore] pam_a.so\naccount requisite pam_deny.so\n\
                    account required pam_unix.so\n";
        let new = attach("x", text, Wanted { auth: false, session: false }).unwrap();
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
