//! `pam` in PAM's account and auth phases, run as root by pam_exec(8): the account phase asks whether this
//! person may enter, the auth phase (where configured) only shows why a key was refused and always fails. It
//! must never end with 0 unless it holds a yes, and never show a byte that a terminal would obey.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nightlatch_wire::{Account, Auth, Message};

use crate::{Armed, AskError, Server, ask, audit, parents, person};

const NO_ANSWER: &str =
    "login cannot be decided now (the agent does not answer); try again, or use the local account";
const NOT_PASSED_ON: &str =
    "refused: the login name, the address or the terminal has a form that is not passed on";

/// What the person sees and what PAM gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the process ends with 0.
    pub yes: bool,
    /// Printable ASCII, whole lines.
    pub shown: String,
}

impl Verdict {
    pub(crate) const fn yes() -> Self {
        Self { yes: true, shown: String::new() }
    }

    pub(crate) fn no(text: &str) -> Self {
        Self { yes: false, shown: person::for_terminal(text) }
    }

    /// A server's no; its code stands in for a text that says nothing.
    pub(crate) fn denied(code: &str, text: &str) -> Self {
        if text.trim().is_empty() { Self::no(&format!("refused ({code})")) } else { Self::no(text) }
    }

    /// Shows the text and gives the status to end with.
    pub(crate) fn deliver(self) -> ExitCode {
        let mut out = io::stdout().lock();
        // A person who hung up is no reason to change the answer.
        let _ = out.write_all(self.shown.as_bytes()).and_then(|()| out.flush());
        if self.yes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// [`ask`], but gives up after `wait`, also while `connect` hangs on a full backlog. The question then
/// stays behind on its own thread and ends with the process.
///
/// # Errors
/// [`AskError`].
pub fn ask_within(server: Server<'_>, question: Message, wait: Duration) -> Result<Message, AskError> {
    let (path, owner): (PathBuf, u32) = (server.path.to_owned(), server.owner);
    let (send, receive) = mpsc::sync_channel(1);
    let asking = thread::Builder::new().spawn(move || {
        // Nobody receives any more once the wait is over.
        let _ = send.send(ask(Server { path: &path, owner }, &question));
    });
    asking.map_err(AskError::Connect)?;
    receive.recv_timeout(wait).unwrap_or(Err(AskError::Late))
}

/// Judges by PAM's variables (`PAM_TYPE`, `PAM_USER`, `PAM_SERVICE`, `PAM_RHOST`, `PAM_TTY`).
pub fn decide(server: Server<'_>, wait: Duration, variable: impl Fn(&str) -> Option<OsString>) -> Verdict {
    let text = |name: &str| variable(name).unwrap_or_default().into_string();
    let (Ok(kind), Ok(user), Ok(service), Ok(rhost), Ok(tty)) =
        (text("PAM_TYPE"), text("PAM_USER"), text("PAM_SERVICE"), text("PAM_RHOST"), text("PAM_TTY"))
    else {
        return Verdict::no(NOT_PASSED_ON);
    };
    let parents = parents::parents();
    let question = match kind.as_str() {
        "account" => {
            let (loginuid, audit_session) = (audit::loginuid(), audit::session());
            Message::Account(Account { user, service, rhost, tty, loginuid, audit_session, parents })
        }
        "auth" => Message::Auth(Auth { user, service, rhost, parents }),
        _ => return Verdict::no("only for the account, auth and session phases of PAM"),
    };
    // The limits of wire are ours as well: what does not fit is not cut but refused.
    if question.encode().is_err() {
        return Verdict::no(NOT_PASSED_ON);
    }
    let is_account = matches!(question, Message::Account(_));
    match ask_within(server, question, wait) {
        Ok(Message::Permit { .. }) if is_account => Verdict::yes(),
        Ok(Message::Deny { code, text }) if is_account => Verdict::denied(&code, &text),
        Ok(Message::Text(text)) if !is_account => Verdict::no(&text),
        _ => Verdict::no(NO_ANSWER),
    }
}

/// The program, once its timer runs.
pub fn run(_armed: &Armed, server: Server<'_>, wait: Duration) -> ExitCode {
    decide(server, wait, |name| std::env::var_os(name)).deliver()
}
