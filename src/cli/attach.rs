//! `nightlatch attach` and `nightlatch detach`.

use serde_json::json;

use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say};
use crate::attach::{Interactive, Mode, Refusal, Report, Root, System, Wish, attach, detach};
use crate::config::{self, Config, load_installed};

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
    let mode = match loaded.config.mode.unwrap_or(config::Mode::Observe) {
        config::Mode::Observe => Mode::Observe,
        config::Mode::Enforce => Mode::Enforce,
    };
    let Some(interactive) = interactive(&loaded.config) else {
        return refused(&Refusal::TwoInteractive);
    };
    let done = attach(&Root::default(), &System, Wish { mode, interactive }, dry_run);
    report(done, dry_run, format, Some(mode))
}

/// What keyboard-interactive is for; `None` where the configuration wants two things of it.
pub(super) fn interactive(config: &Config) -> Option<Interactive> {
    let on = |switch: Option<bool>| switch.unwrap_or(false);
    Interactive::of(on(config.login.interactive_reason), on(config.login.step_up_prompt))
}

const fn success(mode: Option<Mode>) -> &'static str {
    match mode {
        Some(Mode::Enforce) => {
            "attached in mode enforce: sshd, PAM, NSS and sudo ask nightlatch about Entra users"
        }
        Some(Mode::Observe) => {
            "attached in mode observe: nightlatch looks at each login through sshd and decides none"
        }
        None => "detached: everything is as it was before `nightlatch attach`",
    }
}

/// Detaches, or shows what it would do.
pub(super) fn undo(dry_run: bool, format: Format) -> u8 {
    if !is_root() {
        return refused(&Refusal::NotRoot);
    }
    let done = detach(&Root::default(), &System, dry_run);
    report(done, dry_run, format, None)
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

/// `mode`: what was attached; `None` for detach.
fn report(done: Result<Report, Refusal>, dry_run: bool, format: Format, mode: Option<Mode>) -> u8 {
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
                "dry_run": dry_run, "mode": mode.map(Mode::word), "changes": changes, "notes": report.notes,
                "finished": !report.unfinished,
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
                (true, _) => say(&mode.map_or_else(
                    || "nothing to do".to_owned(),
                    |mode| format!("nothing to do: attached in mode {}", mode.word()),
                )),
                (false, true) => say(&mode.map_or_else(
                    || "nothing was changed: run it without --dry-run".to_owned(),
                    |mode| format!("nothing was changed (mode {}): run it without --dry-run", mode.word()),
                )),
                (false, false) => say(success(mode)),
            }
        }
    }
    report.notes.iter().for_each(|note| complain(note));
    if report.unfinished { NO } else { YES }
}
