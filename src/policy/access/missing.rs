//! Evidence that a sign-in did not show, in words, and the command that gets it.

use std::fmt;

use nightlatch_model::Reason;

/// One thing that was required and not shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// A credential with claims.
    Claims,
    /// The list of the person's groups.
    Groups,
    /// A way of signing in.
    Amr(String),
    /// An authentication context.
    Acrs(String),
    /// A registered device.
    Device,
    /// Credentials given within so many seconds.
    AuthAge(u32),
    /// A credential issued within so many seconds.
    Age(u32),
}

impl Missing {
    /// Whether a sign-in beside the certificate could show it. The certificate's own age it cannot change, and a code typed
    /// on another machine says nothing about a device of the person's.
    #[must_use]
    pub const fn is_by_sign_in(&self) -> bool {
        match self {
            Self::Claims | Self::Groups | Self::Amr(_) | Self::Acrs(_) | Self::AuthAge(_) => true,
            Self::Device | Self::Age(_) => false,
        }
    }
}

/// Whether a sign-in beside the certificate could show all that a refusal lacks, of a rule with these contexts: one sign-in
/// shows one of them at a time.
#[must_use]
pub fn shown_by_a_sign_in(reason: Reason, missing: &[Missing], contexts: &[String]) -> bool {
    matches!(reason, Reason::StepUp | Reason::EvidenceMissing)
        && !missing.is_empty()
        && missing.iter().all(Missing::is_by_sign_in)
        && contexts.len() <= 1
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claims => f.write_str("a certificate with the claims of a sign-in"),
            Self::Groups => f.write_str("a sign-in that lists the groups of the person"),
            Self::Amr(method) => write!(f, "a sign-in with `{method}`"),
            Self::Acrs(context) => write!(f, "the authentication context `{context}`"),
            Self::Device => f.write_str("a registered device"),
            Self::AuthAge(seconds) => write!(f, "credentials given within {}", span(*seconds)),
            Self::Age(seconds) => write!(f, "a certificate of at most {}", span(*seconds)),
        }
    }
}

/// A length of time in its largest whole unit.
fn span(seconds: u32) -> String {
    match seconds {
        whole if whole % 86_400 == 0 => format!("{} d", whole / 86_400),
        whole if whole % 3_600 == 0 => format!("{} h", whole / 3_600),
        whole if whole % 60 == 0 => format!("{} min", whole / 60),
        seconds => format!("{seconds} s"),
    }
}

/// All of it, in one sentence without an end.
pub(crate) fn sentence(missing: &[Missing]) -> String {
    let words: Vec<String> = missing.iter().map(ToString::to_string).collect();
    words.join(" and ")
}

/// The command that gets it: our own client's, which signs in anew. A device cannot be got by a command.
pub(crate) fn command(missing: &[Missing]) -> String {
    if missing == [Missing::Groups] {
        return "ask the administrator: the application's ID tokens must have the claim `groups`, which Entra leaves out \
                above 200 groups; then run `nightlatch cert --renew`"
            .to_owned();
    }
    let find = |wanted: fn(&Missing) -> Option<&String>| missing.iter().find_map(wanted);
    let context = find(|one| if let Missing::Acrs(context) = one { Some(context) } else { None });
    let method = find(|one| if let Missing::Amr(method) = one { Some(method) } else { None });
    let fresh = missing.iter().any(|one| matches!(one, Missing::AuthAge(_) | Missing::Amr(_)));
    let anew = missing.iter().any(|one| *one != Missing::Claims);
    let how = if fresh {
        " --fresh"
    } else if anew {
        " --renew"
    } else {
        ""
    };
    let context = context.map_or_else(String::new, |context| format!(" --acrs {context}"));
    let place = if missing.contains(&Missing::Device) { "on a registered device run" } else { "run" };
    let with = method.map_or_else(String::new, |method| format!(", sign in with {method}"));
    format!("{place} `nightlatch cert{context}{how}`{with}, and log in with `nightlatch ssh`")
}
