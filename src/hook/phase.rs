//! `pam` is one program for all phases: which one this call is, and how long it may live. It must never turn
//! a phase that it does not know into a yes, and never ask anybody before its timer runs.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Duration;

use nightlatch_wire::PromptStage;

use crate::account::{self, Verdict};
use crate::step_up::{self, Waits};
use crate::{
    CLOSE_ANSWER_WAIT, CLOSE_DEADLINE, OBSERVE_ANSWER_WAIT, OBSERVE_DEADLINE, OPEN_ANSWER_WAIT,
    OPEN_DEADLINE, PAM_ANSWER_WAIT, PAM_DEADLINE, STEP_UP_DEADLINE, STEP_UP_QUESTIONS, Server, arm, session,
};

const UNKNOWN_ARGUMENT: &str = "pam does not know this argument: correct the pam_exec line that runs it, as `nightlatch attach` writes it";

/// The sockets that `pam` asks on.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<'a> {
    /// The daemon's: account, auth, step-up, observe.
    pub account: Server<'a>,
    /// Sessiond's: open, close.
    pub session: Server<'a>,
}

impl Sockets<'static> {
    /// Those of an installed agent.
    #[must_use]
    pub fn installed() -> Self {
        Self { account: Server::account(), session: Server::session() }
    }
}

/// What one call of `pam` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Decide in the account and auth phases; a phase that nobody knows is refused there.
    Decide,
    /// Have the session recorded.
    Open,
    /// Tell that the session is over.
    Close,
    /// Ask for a sign-in at the prompt, in the auth phase.
    StepUp(PromptStage),
    /// Report a login that somebody else decided.
    Observe,
    /// Nothing, and end well: a phase in which there is nothing to observe.
    Pass,
    /// An argument that `pam` does not have.
    Unknown,
}

impl Call {
    /// Reads the arguments after the program's name and `PAM_TYPE`.
    pub fn of(args: impl IntoIterator<Item = OsString>, phase: Option<&OsStr>) -> Self {
        let mut args = args.into_iter();
        let phase = phase.and_then(OsStr::to_str).unwrap_or_default();
        match (args.next(), args.next(), args.next()) {
            (None, ..) if phase == "open_session" => Self::Open,
            (None, ..) if phase == "close_session" => Self::Close,
            (None, ..) => Self::Decide,
            (Some(word), None, _) if word == "observe" && phase == "open_session" => Self::Observe,
            (Some(word), None, _) if word == "observe" => Self::Pass,
            (Some(word), Some(stage), None) if word == "step-up" && phase == "auth" => {
                step_up::stage(&stage).map_or(Self::Unknown, Self::StepUp)
            }
            _ => Self::Unknown,
        }
    }

    /// How long the process may live.
    const fn deadline(self) -> Duration {
        match self {
            Self::StepUp(PromptStage::Over) => STEP_UP_DEADLINE,
            Self::Decide | Self::StepUp(_) | Self::Unknown => PAM_DEADLINE,
            Self::Open => OPEN_DEADLINE,
            Self::Close => CLOSE_DEADLINE,
            Self::Observe | Self::Pass => OBSERVE_DEADLINE,
        }
    }

    /// Whether this call ends with 0 whatever happens: nobody's login hangs on it.
    const fn always_ends_well(self) -> bool {
        matches!(self, Self::Close | Self::Observe | Self::Pass)
    }
}

/// The program.
pub fn run(sockets: Sockets<'_>, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let variable = |name: &str| std::env::var_os(name);
    let call = Call::of(args, variable("PAM_TYPE").as_deref());
    let Some(armed) = arm(call.deadline()) else {
        return if call.always_ends_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    match call {
        Call::Decide => return account::run(&armed, sockets.account, PAM_ANSWER_WAIT),
        Call::StepUp(stage) => {
            let waits = Waits { answer: PAM_ANSWER_WAIT, questions: STEP_UP_QUESTIONS };
            return step_up::advance(stage, sockets.account, waits, variable).deliver();
        }
        Call::Open => return session::open(sockets.session, OPEN_ANSWER_WAIT, variable).deliver(),
        Call::Unknown => return Verdict::no(UNKNOWN_ARGUMENT).deliver(),
        Call::Close => session::close(sockets.session, CLOSE_ANSWER_WAIT, variable),
        Call::Observe => session::observe(sockets.account, OBSERVE_ANSWER_WAIT, variable),
        Call::Pass => {}
    }
    ExitCode::SUCCESS
}
