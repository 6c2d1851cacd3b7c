//! What sshd's keyboard-interactive is used for, for our users.

/// What keyboard-interactive is used for. One thing at a time: a text for whoever has no certificate that passes needs sshd
/// to take keyboard-interactive in its place, and a sign-in needs it beside the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interactive {
    /// Nothing.
    #[default]
    Nothing,
    /// Why sshd refused a certificate: `login.interactive_reason`. It lets nobody in.
    Reason,
    /// A sign-in at the prompt, behind the certificate: `login.step_up_prompt`.
    StepUp,
}

impl Interactive {
    /// From the two switches of the configuration; `None` where both are on.
    #[must_use]
    pub const fn of(reason: bool, step_up: bool) -> Option<Self> {
        match (reason, step_up) {
            (false, false) => Some(Self::Nothing),
            (true, false) => Some(Self::Reason),
            (false, true) => Some(Self::StepUp),
            (true, true) => None,
        }
    }

    /// sshd's `AuthenticationMethods`. With a comma both must succeed, in this order; with a blank either.
    #[must_use]
    pub const fn methods(self) -> &'static str {
        match self {
            Self::Nothing => "publickey",
            Self::Reason => "publickey keyboard-interactive:pam",
            Self::StepUp => "publickey,keyboard-interactive:pam",
        }
    }

    /// Whether sshd must offer it.
    #[must_use]
    pub const fn is_used(self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// The key of the configuration that turned it on.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Reason => "login.interactive_reason",
            Self::StepUp => "login.step_up_prompt",
        }
    }
}
