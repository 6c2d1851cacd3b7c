//! Doing what was planned: tried on a copy, written in one go, put back when it does not hold,
//! and only then given to the running sshd.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

use super::interactive::Interactive;
use super::place::Root;
use super::plan::{self, Change, FOLDER, Memory, Mode, Plan, Wish};
use super::refusal::Refusal;
use super::sshd_config::{self, Effective};
use super::tools::{Tools, connection_of};
use super::{reload, sshd_edit};

const SSHD: &str = "/usr/sbin/sshd";
const VISUDO: &str = "/usr/sbin/visudo";

/// What was done, or would be.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The files that changed.
    pub changes: Vec<Change>,
    /// What the person should know.
    pub notes: Vec<String>,
    /// Whether something remains to be done by hand.
    pub unfinished: bool,
}

/// Attaches Nightlatch: in mode enforce to sshd, PAM, NSS and sudo, in mode observe to PAM alone. What the
/// other mode had put in goes in the same run.
///
/// # Errors
/// Whatever keeps it from being done safely; then everything is as it was.
pub fn attach(root: &Root, tools: &dyn Tools, wish: Wish, dry_run: bool) -> Result<Report, Refusal> {
    check_sshd(tools).map_err(Refusal::AlreadyBroken)?;
    let plan = plan::attach(root, wish)?;
    if tools
        .run(SSHD, &["-T", "-C", &connection_of(PROBE)])
        .is_some_and(|said| said.ok && Effective::parse(&said.out).get("usepam") != "yes")
    {
        let fault =
            "sshd runs without PAM, and PAM is where logins are decided: set `UsePAM yes` in sshd_config";
        return Err(Refusal::NotReady(vec![fault.to_owned()]));
    }
    if dry_run || plan.changes.is_empty() {
        return Ok(Report { changes: plan.changes, notes: plan.notes, unfinished: false });
    }
    root.private_folder(FOLDER)?;
    let _only_one = lock(root)?;
    match wish.mode {
        Mode::Enforce => try_on_a_copy(root, tools, wish.interactive)?,
        Mode::Observe if touches_sshd(&plan.changes) => try_without_us(root, tools)?,
        Mode::Observe => {}
    }
    let known = Memory::read(root)?;
    if wish.mode == Mode::Enforce {
        plan.memory.write(root)?;
    }
    if let Err(first) = write_and_check(root, tools, wish.mode, &plan.changes) {
        let told = put_back(root, &plan.changes, first);
        known.write(root)?;
        return Err(told);
    }
    if wish.mode == Mode::Observe {
        // What was known of the lines of mode enforce was needed until they were out.
        plan.memory.write(root)?;
    }
    Ok(finish(root, plan, tools))
}

fn write_and_check(root: &Root, tools: &dyn Tools, mode: Mode, changes: &[Change]) -> Result<(), Refusal> {
    write_all(root, changes)?;
    if mode == Mode::Enforce || touches_sshd(changes) {
        check_sshd(tools).map_err(Refusal::SshdRefuses)?;
    }
    if mode == Mode::Enforce {
        in_force(root, tools)?;
    }
    Ok(())
}

/// Whether sshd has something to read anew; PAM is read at each login.
fn touches_sshd(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.path.starts_with("/etc/ssh/"))
}

/// Takes Nightlatch out again.
///
/// # Errors
/// When a file cannot be written, or is not as attach left it.
pub fn detach(root: &Root, tools: &dyn Tools, dry_run: bool) -> Result<Report, Refusal> {
    let plan = plan::detach(root)?;
    if dry_run || plan.changes.is_empty() {
        return Ok(Report { changes: plan.changes, notes: plan.notes, unfinished: false });
    }
    root.private_folder(FOLDER)?;
    let locked = lock(root)?;
    if let Err(first) = write_all(root, &plan.changes) {
        return Err(put_back(root, &plan.changes, first));
    }
    Memory::default().write(root)?;
    drop(locked);
    root.remove(&format!("{FOLDER}/lock"))?;
    // What else somebody keeps there is theirs.
    let _ = std::fs::remove_dir(root.path(FOLDER));
    if !touches_sshd(&plan.changes) {
        return Ok(finish(root, plan, tools));
    }
    match check_sshd(tools) {
        Ok(()) => Ok(finish(root, plan, tools)),
        Err(said) => {
            let mut report = Report { changes: plan.changes, notes: plan.notes, unfinished: true };
            report.notes.push(format!(
                "sshd's configuration is broken, and not by nightlatch, so sshd was not reloaded: mend it, then `systemctl reload ssh`: {said}"
            ));
            Ok(report)
        }
    }
}

/// A name that nobody has and that our Match covers.
const PROBE: &str = "nightlatch-probe@example.com";

fn check_sshd(tools: &dyn Tools) -> Result<(), String> {
    match tools.run(SSHD, &["-t"]) {
        Some(said) if said.ok => Ok(()),
        Some(said) => Err(said.complaint()),
        None => Err(format!("`{SSHD}` cannot be run: install openssh-server")),
    }
}

fn lock(root: &Root) -> Result<Flock<File>, Refusal> {
    let place = root.path(&format!("{FOLDER}/lock"));
    let file = File::options().create(true).truncate(false).write(true).open(&place);
    let file = file.map_err(|cause| Refusal::Io { what: "open", path: place, cause })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Refusal::Busy)
}

/// sshd and visudo judge what they would read, before they read it.
fn try_on_a_copy(root: &Root, tools: &dyn Tools, interactive: Interactive) -> Result<(), Refusal> {
    let place = |name: &str| format!("{FOLDER}/trial-{name}");
    let shown = |name: &str| root.path(&place(name)).display().to_string();
    let (main, _) = plan::sshd_lines(root)?;
    root.write(&place("nightlatch.conf"), &sshd_edit::drop_in(interactive), 0o600)?;
    root.write(&place("sshd_config"), &sshd_edit::trial(&main, &shown("nightlatch.conf"))?, 0o600)?;
    root.write(&place("sudoers"), &plan::sudoers(), 0o440)?;
    let sshd = tools.run(SSHD, &["-t", "-f", &shown("sshd_config")]);
    let sudo = if root.path("/etc/sudoers").exists() {
        tools.run(VISUDO, &["-cf", &shown("sudoers")])
    } else {
        None
    };
    for name in ["nightlatch.conf", "sshd_config", "sudoers"] {
        root.remove(&place(name))?;
    }
    match (sshd, sudo) {
        (Some(said), _) if !said.ok => Err(Refusal::SshdRefuses(said.complaint())),
        (_, Some(said)) if !said.ok => Err(Refusal::SudoRefuses(said.complaint())),
        _ => Ok(()),
    }
}

/// sshd judges the main file as it is going to be without our Include.
fn try_without_us(root: &Root, tools: &dyn Tools) -> Result<(), Refusal> {
    const TRIAL: &str = "/var/lib/nightlatch-attach/trial-sshd_config";
    let (main, _) = plan::sshd_lines(root)?;
    root.write(TRIAL, &sshd_edit::detach(&main)?, 0o600)?;
    let said = tools.run(SSHD, &["-t", "-f", &root.path(TRIAL).display().to_string()]);
    root.remove(TRIAL)?;
    match said {
        Some(said) if !said.ok => Err(Refusal::SshdRefuses(said.complaint())),
        _ => Ok(()),
    }
}

/// Whether sshd would ask us now; if not, who is in the way.
fn in_force(root: &Root, tools: &dyn Tools) -> Result<(), Refusal> {
    let Some(said) = tools.run(SSHD, &["-T", "-C", &connection_of(PROBE)]) else {
        return Err(Refusal::NotInForce(format!("`{SSHD}` cannot be run")));
    };
    if !said.ok {
        return Err(Refusal::NotInForce(said.complaint()));
    }
    let effective = Effective::parse(&said.out);
    let wrong = [
        ("authorizedkeyscommand", sshd_edit::HOOK),
        ("authorizedkeyscommanduser", sshd_edit::HOOK_USER),
        ("authorizedkeysfile", "none"),
        ("pubkeyauthentication", "yes"),
    ]
    .into_iter()
    .find(|(keyword, wanted)| effective.get(keyword) != *wanted);
    let Some((keyword, _)) = wrong else { return Ok(()) };
    let lines = plan::sshd_lines(root).map(|(_, lines)| lines).unwrap_or_default();
    let winner = lines
        .iter()
        .find(|line| line.keyword == keyword && line.matching.is_some() && line.file != sshd_edit::DROP_IN);
    let place = winner.map_or_else(|| "another Match".to_owned(), sshd_config::Line::place);
    Err(Refusal::NotInForce(format!(
        "`{keyword} {}` of {place} stands before ours; sshd takes the first Match that fits: move it behind {}",
        effective.get(keyword),
        sshd_edit::DROP_IN
    )))
}

fn write_all(root: &Root, changes: &[Change]) -> Result<(), Refusal> {
    for change in changes {
        if root.text(&change.path)? != change.before {
            return Err(Refusal::Changed(change.path.clone()));
        }
        match &change.after {
            Some(text) => root.write(&change.path, text, change.mode)?,
            None => root.remove(&change.path)?,
        }
    }
    Ok(())
}

/// Puts back what was written, last first; a file that somebody else has written since stays.
fn put_back(root: &Root, changes: &[Change], first: Refusal) -> Refusal {
    let mut second = None;
    for change in changes.iter().rev() {
        let undone = root.text(&change.path).and_then(|now| match (&change.before, now == change.after) {
            (_, false) => Ok(()),
            (Some(text), true) => root.write(&change.path, text, change.mode),
            (None, true) => root.remove(&change.path),
        });
        second = second.or_else(|| undone.err());
    }
    match second {
        None => first,
        Some(second) => Refusal::Twice { first: Box::new(first), second: Box::new(second) },
    }
}

/// Gives the new configuration to the sshd that runs.
fn finish(root: &Root, plan: Plan, tools: &dyn Tools) -> Report {
    let mut report = Report { changes: plan.changes, notes: plan.notes, unfinished: false };
    if !touches_sshd(&report.changes) {
        return report;
    }
    if let Err(said) = reload::reload(root, tools) {
        report.notes.push(said);
        report.unfinished = true;
    }
    report
}
