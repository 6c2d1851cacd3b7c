//! The caller's own programs, run as the caller: `az`, `azd`, `kubectl`, `kubelogin`.
//!
//! The daemon runs none. Each run has a limit in time and in bytes, reads nothing from the terminal, and is
//! behind a trait, so that what is done with the answers can be tested without the programs.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use crate::clock::Clock;

/// The largest answer of a program, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How often a running program is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the pipe of a program that has ended is still read: what it started may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a program gave no answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ProgramError {
    /// There is none.
    #[error("{0} is not installed, or its folder is not in PATH")]
    Missing(String),
    /// It is there and cannot be started.
    #[error("{0} cannot be run: {1}")]
    Broken(String, String),
    /// It took too long and was ended.
    #[error("{0} gave no answer within {1} s and was ended")]
    Slow(String, u64),
    /// It said too much to be an answer.
    #[error("{0} answered more than {MAX_ANSWER_BYTES} bytes")]
    Long(String),
    /// It ended with another status than 0.
    #[error("{0} failed ({1})")]
    Failed(String, String),
}

/// What becomes of standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaints {
    /// The person sees it.
    Shown,
    /// Nobody does.
    Dropped,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    /// Looked up in PATH.
    pub(super) program: &'a str,
    pub(super) arguments: &'a [&'a str],
    pub(super) limit: Duration,
    pub(super) complaints: Complaints,
}

/// Whoever runs programs.
pub(super) trait Programs {
    /// Runs one and answers its standard output.
    fn run(&self, run: Run<'_>) -> Result<Vec<u8>, ProgramError>;
}

/// The programs in the caller's PATH, with the caller's environment.
#[derive(Debug, Clone, Copy)]
pub(super) struct System;

impl Programs for System {
    fn run(&self, run: Run<'_>) -> Result<Vec<u8>, ProgramError> {
        let name = || run.program.to_owned();
        let broken = |cause: std::io::Error| ProgramError::Broken(name(), cause.to_string());
        // A group of its own: `az` is a script that starts Python, and a limit must end both.
        let started = Command::new(run.program)
            .args(run.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if run.complaints == Complaints::Shown { Stdio::inherit() } else { Stdio::null() })
            .process_group(0)
            .spawn();
        let mut child = started.map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => ProgramError::Missing(name()),
            _ => broken(cause),
        })?;
        let answer = Arc::new(Mutex::new(Vec::new()));
        let (reading, read) = channel::<()>();
        if let Some(pipe) = child.stdout.take() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || collect(pipe, &answer, reading));
        }
        let clock = Clock::System;
        let end = clock.boot() + run.limit;
        let status = loop {
            match child.try_wait().map_err(broken)? {
                Some(status) => break status,
                None if clock.boot() > end => {
                    if let Ok(group) = i32::try_from(child.id()) {
                        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                    }
                    let _ = child.wait();
                    return Err(ProgramError::Slow(name(), run.limit.as_secs()));
                }
                None => std::thread::park_timeout(LOOK_INTERVAL),
            }
        };
        // The reader sends nothing: its end is the news.
        let _ = read.recv_timeout(LAST_WORDS);
        let answer = std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(ProgramError::Long(name()));
        }
        if !status.success() {
            return Err(ProgramError::Failed(name(), status.to_string()));
        }
        Ok(answer)
    }
}

/// Reads until the end, or until it is too much; the closed pipe then ends the program.
fn collect(mut pipe: ChildStdout, answer: &Mutex<Vec<u8>>, _reading: Sender<()>) {
    let mut chunk = [0_u8; 4096];
    loop {
        match pipe.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
                answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
                if answer.len() > MAX_ANSWER_BYTES {
                    return;
                }
            }
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Programs that say what they are told to: the command line and its answer.
    pub(in crate::cli) struct Told(
        pub(in crate::cli) Vec<(&'static str, Result<&'static str, ProgramError>)>,
    );

    impl Programs for Told {
        fn run(&self, run: Run<'_>) -> Result<Vec<u8>, ProgramError> {
            let line = [&[run.program], run.arguments].concat().join(" ");
            match self.0.iter().find(|(known, _)| *known == line) {
                Some((_, Ok(answer))) => Ok(answer.as_bytes().to_vec()),
                Some((_, Err(ProgramError::Failed(name, status)))) => {
                    Err(ProgramError::Failed(name.clone(), status.clone()))
                }
                Some((_, Err(ProgramError::Slow(name, limit)))) => {
                    Err(ProgramError::Slow(name.clone(), *limit))
                }
                _ => Err(ProgramError::Missing(run.program.to_owned())),
            }
        }
    }

    fn shell(script: &str, limit: Duration) -> Result<Vec<u8>, ProgramError> {
        System.run(Run { program: "sh", arguments: &["-c", script], limit, complaints: Complaints::Dropped })
    }

    const AMPLE: Duration = Duration::from_secs(20);

    #[test]
    fn a_program_is_read_and_its_failure_is_said() {
        assert_eq!(shell("echo yes; echo no >&2", AMPLE), Ok(b"yes\n".to_vec()));
        let failed = shell("echo half; exit 3", AMPLE).unwrap_err();
        assert_eq!(failed.to_string(), "sh failed (exit status: 3)");
        let run = Run {
            program: "nightlatch-no-such",
            arguments: &[],
            limit: AMPLE,
            complaints: Complaints::Shown,
        };
        assert_eq!(System.run(run), Err(ProgramError::Missing("nightlatch-no-such".into())));
    }

    #[test]
    fn a_program_that_never_ends_is_ended_with_what_it_started() {
        // The inner shell writes its number, so that its end can be seen.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script =
            format!("sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600'; true", file.display());
        // A busy machine may need longer than the limit to start two shells; then there is nothing to see.
        for seconds in [1, 4, 16] {
            let slow = shell(&script, Duration::from_secs(seconds)).unwrap_err();
            assert_eq!(slow, ProgramError::Slow("sh".into(), seconds));
            if file.exists() {
                break;
            }
        }
        let inner: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let stat = format!("/proc/{inner}/stat");
        let gone = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        for _ in 0..500 {
            if gone() {
                return;
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        panic!("{inner} still runs");
    }

    #[test]
    fn endless_words_are_no_answer_and_an_open_pipe_holds_nobody_up() {
        assert_eq!(shell("exec yes", AMPLE), Err(ProgramError::Long("sh".into())));
        assert_eq!(shell("sleep 5 & echo now", AMPLE), Ok(b"now\n".to_vec()));
    }
}
