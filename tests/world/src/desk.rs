//! Where this process keeps keys and certificates: one folder that goes when the process does.
//!
//! A `static` is never dropped, and a killed process drops nothing; so a shell waits at a pipe for our
//! end and removes the folder then. No private key of a test may stay in `/tmp`.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::run::WorldError;

const WATCHER_SCRIPT: &str = "trap '' INT TERM HUP QUIT; while read -r _; do :; done; rm -rf -- \"$1\"";

#[derive(Debug)]
struct Desk {
    folder: std::path::PathBuf,
    /// Closed by the kernel when this process ends.
    _lifeline: Option<ChildStdin>,
    _watcher: Child,
}

/// A fresh folder on this process's desk, mode 0700; removed when dropped, or with the process.
///
/// # Errors
/// When `/tmp` is full or closed to us.
pub(crate) fn folder(prefix: &str) -> Result<TempDir, WorldError> {
    static DESK: OnceLock<Result<Desk, String>> = OnceLock::new();
    let desk = DESK.get_or_init(|| set_up().map_err(|why| format!("a folder in /tmp: {why}")));
    let desk = desk.as_ref().map_err(WorldError::new)?;
    tempfile::Builder::new().prefix(prefix).tempdir_in(&desk.folder).map_err(|why| at(&desk.folder, &why))
}

fn set_up() -> std::io::Result<Desk> {
    let folder = tempfile::Builder::new().prefix("nlw-desk-").tempdir()?.keep();
    let mut command = Command::new("sh");
    command.args(["-c", WATCHER_SCRIPT, "watcher"]).arg(&folder);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watcher = command.spawn()?;
    Ok(Desk { folder, _lifeline: watcher.stdin.take(), _watcher: watcher })
}

fn at(path: &Path, why: &std::io::Error) -> WorldError {
    WorldError::io(path.display(), why)
}
