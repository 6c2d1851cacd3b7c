//! The machine's own programs that are asked: sshd, visudo, systemctl. A trait, so that what is
//! done with their answers can be tested without them.

use std::process::Command;
use std::time::Duration;

/// How long a program may take, in seconds, before `timeout` ends it.
const LIMIT_S: &str = "20";

/// The moment between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The first line that complains, for a message.
    #[must_use]
    pub fn complaint(&self) -> String {
        let line = self.err.lines().chain(self.out.lines()).map(str::trim).find(|line| !line.is_empty());
        line.unwrap_or("it said nothing").to_owned()
    }
}

/// Whoever runs programs.
pub trait Tools {
    /// Runs one and collects what it says; `None` when it cannot be started.
    fn run(&self, program: &str, arguments: &[&str]) -> Option<Said>;

    /// Lets a moment pass between two looks at something that is to come about.
    fn pause(&self) {
        std::thread::park_timeout(PAUSE);
    }
}

/// The machine's programs, with a clean environment and a time limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Tools for System {
    fn run(&self, program: &str, arguments: &[&str]) -> Option<Said> {
        let done = Command::new("/usr/bin/timeout")
            .args(["-k1", LIMIT_S, program])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::null())
            .output()
            .ok()?;
        // timeout's own words for "cannot run it" and "no such program".
        if matches!(done.status.code(), Some(126 | 127)) {
            return None;
        }
        Some(Said {
            ok: done.status.success(),
            out: String::from_utf8_lossy(&done.stdout).into_owned(),
            err: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }
}

/// Whom `sshd -T -C` is asked about: the arguments that name one connection.
#[must_use]
pub(super) fn connection_of(user: &str) -> String {
    format!("user={user},host=nightlatch.invalid,addr=127.0.0.1,laddr=127.0.0.1,lport=22")
}
