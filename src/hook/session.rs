//! `pam` in PAM's session phase: a login is recorded by sessiond before it opens, told as over when it closes,
//! and on a node that only watches, reported. Opening must never end well without the record's number in
//! hand; closing and reporting must never fail, say anything or hold a login up.

use std::ffi::OsString;
use std::time::Duration;

use nightlatch_wire::Message;
use nightlatch_wire::session::{Close, MAX_AUTH_BYTES, Observed, Open};

use crate::account::{Verdict, ask_within};
use crate::{Server, audit, parents};

const NOT_RECORDED: &str = "the session cannot be recorded now (the agent does not answer), and without a \
                            record it does not open; try again, or use the local account, which works";
pub(crate) const NOT_PASSED_ON: &str =
    "refused: the login name or the address has a form that is not passed on";

/// The variable in which sshd says which methods succeeded so far: in the session phase all of them, in the auth phase of
/// keyboard-interactive those before it, in the account phase of a key alone none.
pub(crate) const AUTH_INFO: &str = "SSH_AUTH_INFO_0";

/// Judges by PAM's variables (`PAM_USER`, `PAM_RHOST`, `SSH_AUTH_INFO_0`) whether the session may open: yes
/// only once sessiond has recorded it.
pub fn open(server: Server<'_>, wait: Duration, variable: impl Fn(&str) -> Option<OsString>) -> Verdict {
    let (Some(user), Some(rhost)) = (text(&variable, "PAM_USER"), text(&variable, "PAM_RHOST")) else {
        return Verdict::no(NOT_PASSED_ON);
    };
    let question = Message::Open(Open {
        user,
        rhost,
        auth: key_line(variable(AUTH_INFO).unwrap_or_default()),
        audit_session: audit::session(),
        loginuid: audit::loginuid(),
        parents: parents::parents(),
    });
    // The limits of wire are ours as well: what does not fit is not cut but refused.
    if question.encode().is_err() {
        return Verdict::no(NOT_PASSED_ON);
    }
    match ask_within(server, question, wait) {
        Ok(Message::Opened(_)) => Verdict::yes(),
        Ok(Message::Deny { code, text }) => Verdict::denied(&code, &text),
        _ => Verdict::no(NOT_RECORDED),
    }
}

/// Tells sessiond that the session ends in order. Without an answer sessiond learns it from the end of the
/// connection's monitor; nothing that happens here concerns the person.
pub fn close(server: Server<'_>, wait: Duration, variable: impl Fn(&str) -> Option<OsString>) {
    let Some(user) = text(&variable, "PAM_USER") else { return };
    let question =
        Message::Close(Close { user, audit_session: audit::session(), parents: parents::parents() });
    // Its answer changes nothing.
    let _ = ask_within(server, question, wait);
}

/// Reports a session that somebody else let in to a daemon that only watches.
pub fn observe(server: Server<'_>, wait: Duration, variable: impl Fn(&str) -> Option<OsString>) {
    let text = |name: &str| text(&variable, name);
    let (Some(user), Some(service), Some(rhost)) = (text("PAM_USER"), text("PAM_SERVICE"), text("PAM_RHOST"))
    else {
        return;
    };
    let auth = key_line(variable(AUTH_INFO).unwrap_or_default());
    // Whatever becomes of it, the login goes on.
    let _ = ask_within(server, Message::Observed(Observed { user, service, rhost, auth }), wait);
}

/// The first line of `SSH_AUTH_INFO_0` that tells a key; empty when there is none, or when it is too long or
/// has a form that is not passed on. sshd writes a line for each method that succeeded, `publickey TYPE
/// BASE64` for a key or certificate (OpenSSH's auth2.c, `auth2_update_session_info`).
#[must_use]
pub fn key_line(auth_info: OsString) -> String {
    let text = auth_info.into_string().unwrap_or_default();
    let line = text.split('\n').find(|line| line.starts_with("publickey ")).unwrap_or_default();
    if line.len() > MAX_AUTH_BYTES || line.chars().any(char::is_control) {
        return String::new();
    }
    line.to_owned()
}

/// A variable of PAM's, empty when it is not set; nothing when it is not UTF-8.
fn text(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<String> {
    variable(name).unwrap_or_default().into_string().ok()
}
