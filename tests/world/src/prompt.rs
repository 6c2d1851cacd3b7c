//! A client of ssh that answers prompts by itself, as a person does who reads the code in one, signs in with it on another
//! device, and presses Enter.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::{Node, Person, SshOutcome, WorldError, wait_until};

/// How long a prompt, or the end without one, may take.
const PROMPT_LIMIT: Duration = Duration::from_secs(30);

/// The person in front of it.
#[derive(Debug)]
pub struct AtThePrompt {
    folder: tempfile::TempDir,
}

impl AtThePrompt {
    /// Somebody who answers with an empty line, once they are told to.
    ///
    /// # Errors
    /// When the program that ssh asks cannot be written.
    pub fn new() -> Result<Self, WorldError> {
        let wrong = |why: std::io::Error| WorldError::new(format!("a program that answers prompts: {why}"));
        let folder = crate::desk::folder("prompt-")?;
        let at = folder.path().display();
        let script = format!(
            "#!/bin/sh\necho >>{at}/count\nprintf '%s' \"$1\" >{at}/part && mv {at}/part {at}/said\n\
             i=0; until [ -e {at}/answer ] || [ $i -ge 600 ]; do sleep 0.1; i=$((i+1)); done\ncat {at}/answer; echo\n"
        );
        let path = folder.path().join("askpass");
        std::fs::write(&path, script).map_err(wrong)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(wrong)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the last prompt said, with what was shown before it: sshd since 10 sends the text of PAM apart, which ssh shows
    /// on the terminal, and before in the prompt itself.
    #[must_use]
    pub fn said(&self) -> Option<String> {
        let prompt = std::fs::read_to_string(self.path("said")).ok()?;
        Some(format!("{}{prompt}", self.shown()))
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// The code in it.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let said = self.said()?;
        let (_, rest) = said.split_once("enter the code ")?;
        rest.split(' ').next().map(str::to_owned)
    }

    /// How often they were asked.
    #[must_use]
    pub fn prompts(&self) -> usize {
        std::fs::read_to_string(self.path("count")).map_or(0, |lines| lines.lines().count())
    }

    /// From now on prompts are answered with this line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn answer(&self, line: &str) -> Result<(), WorldError> {
        std::fs::write(self.path("answer"), line).map_err(|why| WorldError::new(format!("an answer: {why}")))
    }

    /// Whether prompts are answered by now.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.path("answer").exists()
    }

    /// Logs in. `at_the_prompt` is run with the code once there is one, and then the line is answered. `options` are ssh's own.
    ///
    /// # Errors
    /// When ssh cannot be started, or neither asks nor ends; a refused login is an outcome.
    pub fn login(
        &self,
        node: &Node,
        person: &Person,
        user: &str,
        words: &[&str],
        options: &[&str],
        at_the_prompt: impl FnOnce(Option<&str>),
    ) -> Result<SshOutcome, WorldError> {
        let wrong = |why: std::io::Error| WorldError::new(format!("ssh: {why}"));
        let all: Vec<&str> = ["-o", "BatchMode=no"].iter().chain(options).copied().collect();
        let mut command = node.ssh_command(person, user, &all, words)?;
        command.env("SSH_ASKPASS", self.path("askpass")).env("SSH_ASKPASS_REQUIRE", "force");
        let shown = std::fs::File::create(self.path("stderr")).map_err(wrong)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(shown);
        let start = Instant::now();
        let mut child = command.spawn().map_err(wrong)?;
        wait_until("a prompt or an end", PROMPT_LIMIT, || {
            self.said().is_some() || child.try_wait().is_ok_and(|end| end.is_some())
        })?;
        if self.said().is_some() && !self.answers() {
            at_the_prompt(self.code().as_deref());
            self.answer("")?;
        }
        let done = child.wait_with_output().map_err(wrong)?;
        Ok(SshOutcome {
            status: done.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: self.shown(),
            elapsed: start.elapsed(),
        })
    }
}
