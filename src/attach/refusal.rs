//! Why attach or detach did not do what was asked. The words say what to do.

use std::path::PathBuf;

use thiserror::Error;

/// Why nothing was changed, or why it was put back.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Only root may.
    #[error("only root may change this: run it with sudo")]
    NotRoot,
    /// Another run.
    #[error("another `nightlatch attach` or `detach` is running: wait for it")]
    Busy,
    /// One method of sshd for two things.
    #[error(
        "`login.interactive_reason` and `login.step_up_prompt` exclude each other (nothing was changed): leave one of them on"
    )]
    TwoInteractive,
    /// Something that a login would need is missing or unsafe. Each line says what to do.
    #[error("not attached, because:\n{}", .0.iter().map(|line| format!("  - {line}")).collect::<Vec<_>>().join("\n"))]
    NotReady(Vec<String>),
    /// Another agent owns the same names.
    #[error(
        "another agent already decides these logins (nothing was changed):\n{}\nof two Match blocks sshd takes the first, so ours would win at sshd while theirs stays in PAM and NSS; remove it first: `az vm extension delete --name AADSSHLoginForLinux …`, on AKS `az aks nodepool update --ssh-access localuser …`, then attach",
        .0.iter().map(|line| format!("  - {line}")).collect::<Vec<_>>().join("\n")
    )]
    OtherAgent(Vec<String>),
    /// It was broken before we came.
    #[error(
        "sshd's configuration is broken, and not by nightlatch (nothing was changed): mend this first: {0}"
    )]
    AlreadyBroken(String),
    /// It would be broken by us.
    #[error("sshd does not accept the configuration that nightlatch would leave (nothing was changed): {0}")]
    SshdRefuses(String),
    /// Another part of the configuration wins.
    #[error("sshd would not ask nightlatch (everything was put back): {0}")]
    NotInForce(String),
    /// sudo's own check.
    #[error("visudo does not accept our line (nothing was changed): {0}")]
    SudoRefuses(String),
    /// A file with our name that is not ours.
    #[error("`{0}` is there but was not written by `nightlatch attach`: move it away, then attach again")]
    NotOurs(String),
    /// A BEGIN without its END.
    #[error(
        "`{0}`: a `# BEGIN nightlatch` and its `# END nightlatch` do not match: remove those lines by hand"
    )]
    Marks(String),
    /// PAM would never ask.
    #[error(
        "`{0}` has no account phase in which nightlatch could stand: add one, such as `@include common-account`"
    )]
    NoAccountPhase(String),
    /// No session would have a number of its own.
    #[error(
        "`/etc/pam.d/sshd` and what it includes have no `pam_loginuid.so`, so no session could be told from another: add the line `session required pam_loginuid.so` before its other session lines, then attach again"
    )]
    NoLoginUid,
    /// nsswitch.conf stops before us.
    #[error(
        "/etc/nsswitch.conf: `{0}` stops after the local files: put `systemd` behind `files` yourself, then attach again"
    )]
    NssStops(String),
    /// A file that must be there.
    #[error("`{0}` does not exist: {1}")]
    Missing(String, &'static str),
    /// Not a text.
    #[error("`{0}` is not UTF-8 text or is larger than a configuration file is: look at it by hand")]
    NotText(String),
    /// Somebody else was writing.
    #[error("`{0}` changed while nightlatch was at work (everything was put back): try again")]
    Changed(String),
    /// The operating system refused.
    #[error("cannot {what} `{path}`: {cause}")]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// It could not even be undone.
    #[error("{first}\nputting things back failed as well: {second}; `nightlatch detach` finishes it")]
    Twice {
        /// Why it was undone.
        first: Box<Self>,
        /// Why that failed.
        second: Box<Self>,
    },
}
