//! `authorized-keys USER UID TYPE KEY`, run by sshd (AuthorizedKeysCommand, sshd_config(5)) with `%u %U %t
//! %k` before anybody proved anything: passes the key on and prints the one line that comes back, or
//! nothing. It must never print a line that the closed grammar does not have, and never run as root.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use nightlatch_wire::line::is_admit_line;
use nightlatch_wire::{MAX_KEY_BYTES, Message, Offer};

use crate::{Armed, Server, ask, parents, sys};

/// What is to be done with sshd's call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Print this line and end with 0.
    Print(String),
    /// Print nothing and end with 0: not ours, or not admitted.
    Silent,
    /// Print nothing and end with 1: something is wrong.
    Fail,
    /// As [`Outcome::Fail`], after a word on stderr for somebody who tries it by hand.
    Usage,
}

/// Whether sshd's `Match User *@*,????????-????-????-????-????????????` covers this name.
#[must_use]
pub fn is_for_us(name: &str) -> bool {
    let bytes = name.as_bytes();
    let guid_shaped = bytes.len() == 36 && [8, 13, 18, 23].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    guid_shaped || bytes.contains(&b'@')
}

/// Asks the daemon about one key. `args` are those after the program's name; they are taken, because a
/// certificate is large and this process is to stay small.
pub fn decide(server: Server<'_>, args: Vec<OsString>) -> Outcome {
    let Ok([user, uid, key_type, key]) = <[OsString; 4]>::try_from(args) else {
        return Outcome::Usage;
    };
    let (Ok(user), Ok(uid), Ok(key_type), Ok(key)) =
        (user.into_string(), uid.into_string(), key_type.into_string(), key.into_string())
    else {
        return Outcome::Fail;
    };
    if !is_for_us(&user) {
        return Outcome::Silent;
    }
    // `parse` alone would take a leading plus sign.
    let Some(uid) = uid.bytes().all(|b| b.is_ascii_digit()).then(|| uid.parse().ok()).flatten() else {
        return Outcome::Fail;
    };
    let Ok(key_len) = u32::try_from(key.len()) else {
        return Outcome::Fail;
    };
    let question = Message::Offer(Offer {
        user,
        uid,
        key_type,
        key: if key.len() > MAX_KEY_BYTES { String::new() } else { key },
        key_len,
        parents: parents::parents(),
    });
    match ask(server, &question) {
        Ok(Message::Line(line)) if is_admit_line(line.as_bytes()) => Outcome::Print(line),
        Ok(Message::None) => Outcome::Silent,
        _ => Outcome::Fail,
    }
}

/// The program, once its timer runs.
pub fn run(_armed: &Armed, server: Server<'_>, args: impl Iterator<Item = OsString>) -> ExitCode {
    if sys::has_root_rights() {
        return ExitCode::FAILURE;
    }
    match decide(server, args.collect()) {
        Outcome::Silent => ExitCode::SUCCESS,
        Outcome::Fail => ExitCode::FAILURE,
        Outcome::Usage => {
            // sshd sends our stderr to /dev/null; nothing depends on this write.
            let _ = io::stderr().write_all(b"usage: authorized-keys USER UID KEY-TYPE KEY (run by sshd)\n");
            ExitCode::FAILURE
        }
        Outcome::Print(mut line) => {
            line.push('\n');
            let mut out = io::stdout().lock();
            // In one piece: a pipe takes so few bytes whole or not at all.
            match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
    }
}
