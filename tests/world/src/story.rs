//! A story told in steps: each either holds, with a figure, or fails, with a reason.
//!
//! The exit status says whether the whole story held; a failed step ends it, since the next ones would
//! tell of a world that is not there.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// A story being told to a terminal or a file.
#[derive(Debug)]
pub struct Story<W: Write> {
    title: &'static str,
    planned: usize,
    held: usize,
    failed: bool,
    out: W,
}

impl Story<io::Stdout> {
    /// A story of `planned` steps on standard output.
    #[must_use]
    pub fn new(title: &'static str, planned: usize) -> Self {
        Self::on(io::stdout(), title, planned)
    }
}

impl<W: Write> Story<W> {
    /// A story of `planned` steps on `out`.
    #[must_use]
    pub const fn on(out: W, title: &'static str, planned: usize) -> Self {
        Self { title, planned, held: 0, failed: false, out }
    }

    /// Tells one step. `tell` returns the value that later steps need and the figure to print. After a
    /// failure, further steps are not told and answer `None`.
    pub fn step<T, E: Display>(
        &mut self,
        name: &str,
        tell: impl FnOnce() -> Result<(T, String), E>,
    ) -> Option<T> {
        if self.failed {
            return None;
        }
        match tell() {
            Ok((value, figure)) => {
                self.held += 1;
                self.say(&format!("ok {name} {figure}"));
                Some(value)
            }
            Err(why) => {
                self.failed = true;
                self.say(&format!("FAILED {name} {why}"));
                None
            }
        }
    }

    /// The last line, and the exit status: success only when every planned step held.
    pub fn end(mut self) -> ExitCode {
        let line = format!("{}: {} of {} steps held", self.title, self.held, self.planned);
        self.say(&line);
        if self.held == self.planned && !self.failed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn say(&mut self, line: &str) {
        // A reader that has gone away does not change whether the story holds.
        drop(writeln!(self.out, "{line}"));
        drop(self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(answers: &[Result<u8, &str>], planned: usize) -> (String, ExitCode) {
        let mut out = Vec::new();
        let mut story = Story::on(&mut out, "demo", planned);
        for (number, answer) in answers.iter().enumerate() {
            story.step(&format!("s{number}"), || answer.map(|value| (value, format!("{value} ms"))));
        }
        let code = story.end();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn a_story_that_holds_says_so() {
        let (text, code) = tell(&[Ok(1), Ok(2)], 2);
        assert_eq!(text, "ok s0 1 ms\nok s1 2 ms\ndemo: 2 of 2 steps held\n");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn a_failed_step_ends_the_story() {
        let (text, code) = tell(&[Ok(1), Err("no door"), Ok(3)], 3);
        assert_eq!(text, "ok s0 1 ms\nFAILED s1 no door\ndemo: 1 of 3 steps held\n");
        assert_eq!(code, ExitCode::FAILURE);
    }

    #[test]
    fn a_step_that_was_never_told_is_not_held() {
        assert_eq!(tell(&[Ok(1)], 2).1, ExitCode::FAILURE);
    }
}
