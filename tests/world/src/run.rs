//! Running programs and waiting for conditions, with errors that say what was tried.
//!
//! Nothing here may wait without a deadline.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

/// Something about the test world that did not work; the text says what and why.
#[derive(Debug)]
pub struct WorldError(String);

impl WorldError {
    /// An error from a sentence that says what the reader can do about it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn io(doing: impl fmt::Display, why: &std::io::Error) -> Self {
        Self(format!("{doing}: {why}"))
    }
}

impl fmt::Display for WorldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for WorldError {}

/// Asks `ready` again and again until it is true.
///
/// # Errors
/// When `limit` has passed; the error names `what`.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<Duration, WorldError> {
    let start = Instant::now();
    loop {
        if ready() {
            return Ok(start.elapsed());
        }
        if start.elapsed() > limit {
            return Err(WorldError::new(format!("waited {} s in vain: {what}", limit.as_secs_f32())));
        }
        thread::sleep(POLL);
    }
}

/// Runs a command to its end with an empty standard input.
pub(crate) fn output(command: &mut Command) -> Result<Output, WorldError> {
    command.stdin(Stdio::null()).output().map_err(|why| WorldError::io(name_of(command), &why))
}

/// Runs a command and insists on exit status 0; the result is its standard output.
pub(crate) fn succeed(command: &mut Command) -> Result<String, WorldError> {
    let done = output(command)?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(WorldError::new(format!(
        "{}: {}\n{}{}",
        name_of(command),
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )))
}

fn name_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| {
        let word = word.to_string_lossy();
        // A whole script as an argument says nothing to the reader of an error.
        if word.len() > 120 { "…".to_owned() } else { word.into_owned() }
    }));
    words.join(" ")
}

/// Where a program lies in this process's search path or in the places a root shell has.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|candidate| candidate.is_file())
}

/// The folder that cargo builds into.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source_folder().join("target"), PathBuf::from)
}

/// The root of the repository.
pub(crate) fn source_folder() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or_else(|| here.clone(), PathBuf::from)
}
