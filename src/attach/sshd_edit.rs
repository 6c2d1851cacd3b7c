//! Our part of sshd's configuration: one file with one Match block, and, where sshd_config names no
//! folder that holds it, one marked Include at the top. Local users never match.

use super::interactive::Interactive;
use super::refusal::Refusal;
use super::{blocks, sshd_config};

/// Our own file.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-nightlatch.conf";
/// What sshd must run for our users, with its arguments.
pub const HOOK: &str = "/usr/libexec/nightlatch/authorized-keys %u %U %t %k";
/// As whom.
pub const HOOK_USER: &str = "nightlatch-hook";
/// The login names that are ours: a user principal name or the GUID of a service principal.
pub const MATCH: &str = "User *@*,????????-????-????-????-????????????";
/// The first words of our file, by which it is known as ours.
pub(super) const HEADER: &str = "# Written by `nightlatch attach`";

/// Our file.
#[must_use]
pub fn drop_in(interactive: Interactive) -> String {
    let methods = interactive.methods();
    let keyboard = if interactive.is_used() { "    KbdInteractiveAuthentication yes\n" } else { "" };
    format!(
        "{HEADER}; `nightlatch detach` removes it. Changes here are lost.\n\
         Match {MATCH}\n    \
             PubkeyAuthentication yes\n    \
             AuthenticationMethods {methods}\n{keyboard}    \
             AuthorizedKeysFile none\n    \
             TrustedUserCAKeys none\n    \
             AuthorizedKeysCommand {HOOK}\n    \
             AuthorizedKeysCommandUser {HOOK_USER}\n"
    )
}

/// The main file with our Include where it needs one, and as it was where its own Include finds us.
///
/// # Errors
/// When a mark of an earlier attach lost its partner.
pub fn attach(main: &str) -> Result<String, Refusal> {
    let bare = detach(main)?;
    if sshd_config::includes(&bare, DROP_IN) {
        return Ok(bare);
    }
    Ok(blocks::insert(&bare, 0, &format!("Include {DROP_IN}\n")))
}

/// The main file as it would be without us.
///
/// # Errors
/// As [`attach`].
pub fn detach(main: &str) -> Result<String, Refusal> {
    blocks::remove(main).ok_or_else(|| Refusal::Marks(sshd_config::MAIN.into()))
}

/// A main file for a trial run of sshd, with our part read from `staged`.
///
/// # Errors
/// As [`attach`].
pub fn trial(main: &str, staged: &str) -> Result<String, Refusal> {
    Ok(format!("Include {staged}\n{}", detach(main)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AKS: &str = "# comment\nInclude /etc/ssh/sshd_config.d/99-aks-cis.conf\nPubkeyAuthentication no\n";
    const DEBIAN: &str = "\nInclude /etc/ssh/sshd_config.d/*.conf\n\nUsePAM yes\n";

    #[test]
    fn without_a_glob_one_include_is_put_on_top() {
        let text = attach(AKS).unwrap();
        assert_eq!(text.matches(&format!("Include {DROP_IN}\n")).count(), 1);
        assert!(sshd_config::includes(&text, DROP_IN));
        assert!(text.find(DROP_IN) < text.find("99-aks-cis"));
        assert_eq!(attach(&text).unwrap(), text, "twice is once");
        assert_eq!(detach(&text).unwrap(), AKS);
    }

    #[test]
    fn with_a_glob_the_main_file_stays() {
        assert_eq!(attach(DEBIAN).unwrap(), DEBIAN);
    }

    #[test]
    fn an_include_that_is_no_longer_needed_goes() {
        let before = attach(AKS).unwrap();
        let now = before.replace("99-aks-cis.conf", "*.conf");
        assert_eq!(attach(&now).unwrap(), AKS.replace("99-aks-cis.conf", "*.conf"));
    }

    #[test]
    fn the_block_asks_us_and_nobody_else() {
        let text = drop_in(Interactive::Nothing);
        assert!(text.contains("AuthorizedKeysFile none") && !text.contains("%C"));
        assert!(!text.contains("Kbd") && text.contains("    AuthenticationMethods publickey\n"));
        for (interactive, methods) in [
            (Interactive::Reason, "publickey keyboard-interactive:pam"),
            // Never keyboard-interactive alone: it would let in without a certificate.
            (Interactive::StepUp, "publickey,keyboard-interactive:pam"),
        ] {
            let text = drop_in(interactive);
            assert!(text.contains(&format!("    AuthenticationMethods {methods}\n")), "{text}");
            assert!(text.contains("    KbdInteractiveAuthentication yes\n"), "{text}");
        }
        // One Match, and nothing before it: a global keyword of ours would be every user's.
        let statements: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(statements.iter().position(|line| line.starts_with("Match ")), Some(0));
    }
}
