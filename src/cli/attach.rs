//! `nightlatch attach` and `nightlatch detach`.

use serde_json::json;

use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say};
use crate::attach::{Refusal, Report, Root, System, attach, detach};
use crate::config::{Mode, load_installed};

/// Attaches, or shows what it would do.
pub(super) fn run(dry_run: bool, format: Format) -> u8 {
    if !is_root() {
        return refused(&Refusal::NotRoot);
    }
    let loaded = match load_installed() {
        Ok(loaded) => loaded,
        Err(cause) => {
            complain(&cause.to_string());
            return NO;
        }
    };
    if loaded.config.mode.unwrap_or(Mode::Observe) == Mode::Observe {
        return refused(&Refusal::Observing);
    }
    let interactive = loaded.config.login.interactive_reason.unwrap_or(false);
    let done = attach(&Root::default(), &System, interactive, dry_run);
    report(done, dry_run, format, "attached: sshd, PAM, NSS and sudo ask nightlatch about Entra users")
}

/// Detaches, or shows what it would do.
pub(super) fn undo(dry_run: bool, format: Format) -> u8 {
    if !is_root() {
        return refused(&Refusal::NotRoot);
    }
    let done = detach(&Root::default(), &System, dry_run);
    report(done, dry_run, format, "detached: everything is as it was before `nightlatch attach`")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn refused(cause: &Refusal) -> u8 {
    complain(&cause.to_string());
    match cause {
        Refusal::NotRoot => USAGE,
        Refusal::Io { .. } | Refusal::NotText(_) => UNKNOWN,
        _ => NO,
    }
}

fn report(done: Result<Report, Refusal>, dry_run: bool, format: Format, success: &str) -> u8 {
    let report = match done {
        Ok(report) => report,
        Err(cause) => return refused(&cause),
    };
    match format {
        Format::Json => {
            let changes: Vec<_> = report
                .changes
                .iter()
                .map(|change| json!({"path": change.path, "lines": change.lines(), "removed": change.after.is_none()}))
                .collect();
            let document = json!({
                "dry_run": dry_run, "changes": changes, "notes": report.notes, "finished": !report.unfinished,
            });
            say(&document.to_string());
        }
        _ => {
            for change in &report.changes {
                let word = match (&change.before, &change.after) {
                    (_, None) => "remove",
                    (None, _) => "create",
                    _ => "change",
                };
                say(&format!("{word} {}", change.path));
                if dry_run {
                    change.lines().iter().for_each(|line| say(&format!("  {line}")));
                }
            }
            match (report.changes.is_empty(), dry_run) {
                (true, _) => say("nothing to do"),
                (false, true) => say("nothing was changed: run it without --dry-run"),
                (false, false) => say(success),
            }
        }
    }
    report.notes.iter().for_each(|note| complain(note));
    if report.unfinished { NO } else { YES }
}
