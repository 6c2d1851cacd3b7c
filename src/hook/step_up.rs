//! `pam step-up STAGE` in PAM's auth phase of sshd: a person whose certificate is proven, and who lacks what a sign-in would
//! show, is told where to sign in, and the login goes on once they did. Three calls, because pam_exec(8) can show a text and
//! can ask for a line, but not both in one.
//!
//! It must never end with 0 without the daemon's word that this connection proved a certificate, and never read what
//! the person typed. What it ends with lets nobody in: sshd demands the certificate beside it, and the account phase decides.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::parent_id;
use std::time::Duration;

use nightlatch_wire::{Message, Prompt, PromptStage};

use crate::account::{Verdict, ask_within};
use crate::session::{AUTH_INFO, NOT_PASSED_ON, key_line};
use crate::{Server, parents};

const NO_ANSWER: &str =
    "no sign-in can be asked for now (the agent does not answer); try again, or use the local account";
const TOO_LONG: &str = "nobody signed in in time: log in again";

/// The stage that an argument of `pam step-up` names, as attach writes it.
#[must_use]
pub fn stage(word: &OsStr) -> Option<PromptStage> {
    match word.to_str()? {
        "begin" => Some(PromptStage::Begin),
        "shown" => Some(PromptStage::Shown),
        "over" => Some(PromptStage::Over),
        _ => None,
    }
}

/// How long one call may take.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For one answer of the daemon.
    pub answer: Duration,
    /// How often the daemon is asked whether the person signed in; it lets each question wait for some seconds.
    pub questions: u32,
}

/// One stage, by PAM's variables (`PAM_USER`, `PAM_SERVICE`, `PAM_RHOST`, `SSH_AUTH_INFO_0`).
///
/// A yes is: nothing is to be asked for (`begin`), a sign-in waits (`shown`), it is over (`over`).
pub fn advance(
    stage: PromptStage,
    server: Server<'_>,
    waits: Waits,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Verdict {
    let text = |name: &str| variable(name).unwrap_or_default().into_string();
    let (Ok(user), Ok(service), Ok(rhost)) = (text("PAM_USER"), text("PAM_SERVICE"), text("PAM_RHOST"))
    else {
        return Verdict::no(NOT_PASSED_ON);
    };
    let auth = key_line(variable(AUTH_INFO).unwrap_or_default());
    let question = Message::Prompt(Prompt { stage, user, service, rhost, auth, parents: parents::parents() });
    if question.encode().is_err() {
        return Verdict::no(NOT_PASSED_ON);
    }
    let pam = parent_id();
    for _ in 0..waits.questions {
        match (stage, ask_within(server, question.clone(), waits.answer)) {
            (_, Ok(Message::Done)) => return Verdict::yes(),
            // Nothing to wait for; why, the line before has said.
            (PromptStage::Shown, _) => return Verdict::no(""),
            (_, Ok(Message::Deny { code, text })) => return Verdict::denied(&code, &text),
            (PromptStage::Begin, Ok(Message::Text(text))) => return Verdict::no(&text),
            (PromptStage::Over, Ok(Message::None)) => {}
            _ => return Verdict::no(NO_ANSWER),
        }
        // Whoever hung up took PAM along.
        if parent_id() != pam {
            return Verdict::no("");
        }
    }
    Verdict::no(TOO_LONG)
}
