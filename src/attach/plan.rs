//! What attach and detach would write, as texts, before anything is written.

use serde::{Deserialize, Serialize};

use super::interactive::Interactive;
use super::nsswitch::{self, Swap};
use super::pam_edit::{self, Wanted};
use super::pam_stack;
use super::place::Root;
use super::refusal::Refusal;
use super::sshd_config::{self, Line};
use super::{blocks, ready, sshd_edit};

/// Our line for sudo.
pub const SUDOERS: &str = "/etc/sudoers.d/nightlatch";
/// Who may use sudo without a password: the administrators by role, a group without local members.
pub const SUDOERS_LINE: &str = "%nightlatch-admins ALL=(ALL:ALL) NOPASSWD: ALL";
/// What attach keeps for detach.
pub const FOLDER: &str = "/var/lib/nightlatch-attach";
const MEMORY: &str = "/var/lib/nightlatch-attach/state.json";
/// The PAM services of a login and of an administrator's command.
pub const SERVICES: [&str; 3] = ["sshd", "sudo", "sudo-i"];

const SSHD_SERVICE: &str = "/etc/pam.d/sshd";

/// What nightlatch is attached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It looks at each login through sshd and decides none.
    Observe,
    /// It decides the logins of Entra users.
    Enforce,
}

impl Mode {
    /// The word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What is wanted of attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// `mode`.
    pub mode: Mode,
    /// `login.interactive_reason` or `login.step_up_prompt`.
    pub interactive: Interactive,
}

/// What detach needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Lines of nsswitch.conf.
    pub nsswitch: Vec<Swap>,
}

impl Memory {
    /// Reads it; nothing remembered is an empty one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(root: &Root) -> Result<Self, Refusal> {
        let Some(text) = root.text(MEMORY)? else { return Ok(Self::default()) };
        serde_json::from_str(&text).map_err(|_| Refusal::NotText(MEMORY.to_owned()))
    }

    /// Writes it, or removes it when there is nothing to remember.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, root: &Root) -> Result<(), Refusal> {
        if self.nsswitch.is_empty() {
            return root.remove(MEMORY);
        }
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        root.write(MEMORY, &text, 0o600)
    }
}

/// One file before and after; `None` is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: String,
    /// Its text now.
    pub before: Option<String>,
    /// Its text afterwards.
    pub after: Option<String>,
    /// The mode of a new file.
    pub mode: u32,
}

impl Change {
    /// The lines that go (`-`) and come (`+`).
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let old: Vec<&str> = self.before.as_deref().unwrap_or("").lines().collect();
        let new: Vec<&str> = self.after.as_deref().unwrap_or("").lines().collect();
        let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
        let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
        gone.chain(come).collect()
    }
}

/// What would be done, in this order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The files that change.
    pub changes: Vec<Change>,
    /// What the person should know beside them.
    pub notes: Vec<String>,
    /// What must be remembered before the first write.
    pub memory: Memory,
}

impl Plan {
    fn add(&mut self, path: &str, before: Option<String>, after: Option<String>, mode: u32) {
        if before != after {
            self.changes.push(Change { path: path.to_owned(), before, after, mode });
        }
    }
}

/// All lines of sshd's configuration.
///
/// # Errors
/// When there is none.
pub fn sshd_lines(root: &Root) -> Result<(String, Vec<Line>), Refusal> {
    let main = root.text(sshd_config::MAIN)?;
    let main = main.ok_or_else(|| Refusal::Missing(sshd_config::MAIN.into(), "install openssh-server"))?;
    let lines = sshd_config::walk(&main, &|pattern| root.fitting(pattern));
    Ok((main, lines))
}

fn own_text(root: &Root, path: &str) -> Result<Option<String>, Refusal> {
    let text = root.text(path)?;
    match text {
        Some(text) if !text.starts_with(sshd_edit::HEADER) => Err(Refusal::NotOurs(path.to_owned())),
        text => Ok(text),
    }
}

/// What attach would do.
///
/// # Errors
/// Whatever keeps it from being done safely.
pub fn attach(root: &Root, wish: Wish) -> Result<Plan, Refusal> {
    match wish.mode {
        Mode::Observe => observe(root),
        Mode::Enforce => enforce(root, wish.interactive),
    }
}

/// Whether a session of sshd gets a login uid and a number.
fn sets_login_uid(root: &Root) -> bool {
    let rules = pam_stack::phase("sshd", "session", &|name| pam_stack::service_text(root, name));
    rules.iter().any(|rule| rule.module_name() == pam_edit::LOGIN_UID)
}

/// One line in sshd's PAM service; what mode enforce had put in goes. Others may decide meanwhile.
fn observe(root: &Root) -> Result<Plan, Refusal> {
    let (_, lines) = sshd_lines(root)?;
    let faults = ready::faults(root, Mode::Observe);
    if !faults.is_empty() {
        return Err(Refusal::NotReady(faults));
    }
    let mut plan = detach(root)?;
    plan.changes.retain(|change| change.path != SSHD_SERVICE);
    let text = sshd_service(root)?;
    let new = pam_edit::observe(SSHD_SERVICE, &text)?;
    plan.add(SSHD_SERVICE, Some(text), Some(new), 0o644);
    let decides = "it goes on deciding, nightlatch looks on";
    plan.notes.extend(ready::other_agent(root, &lines).iter().map(|other| format!("{other}: {decides}")));
    plan.notes.extend(ready::shortcomings(root));
    if !sets_login_uid(root) {
        plan.notes.push(format!("before `mode = \"enforce\"`: {}", Refusal::NoLoginUid));
    }
    Ok(plan)
}

fn sshd_service(root: &Root) -> Result<String, Refusal> {
    let text = root.text(SSHD_SERVICE)?;
    text.ok_or_else(|| Refusal::Missing(SSHD_SERVICE.into(), "install openssh-server with PAM"))
}

/// sshd comes last: by then everything that a login needs is in place.
fn enforce(root: &Root, interactive: Interactive) -> Result<Plan, Refusal> {
    let (main, lines) = sshd_lines(root)?;
    let others = ready::other_agent(root, &lines);
    if !others.is_empty() {
        return Err(Refusal::OtherAgent(others));
    }
    let faults = ready::faults(root, Mode::Enforce);
    if !faults.is_empty() {
        return Err(Refusal::NotReady(faults));
    }
    sshd_service(root)?;
    if !sets_login_uid(root) {
        return Err(Refusal::NoLoginUid);
    }
    let mut plan = Plan::default();

    let names = root.text(nsswitch::PATH)?;
    let names =
        names.ok_or_else(|| Refusal::Missing(nsswitch::PATH.into(), "restore it from the distribution"))?;
    let (new, swaps) = nsswitch::attach(&names)?;
    plan.memory.nsswitch = nsswitch::remember(&new, &Memory::read(root)?.nsswitch, swaps);
    plan.add(nsswitch::PATH, Some(names), Some(new), 0o644);

    for service in SERVICES {
        let path = format!("/etc/pam.d/{service}");
        let Some(text) = root.text(&path)? else { continue };
        if pam_edit::borrows_from(&text, "sudo") {
            continue;
        }
        let login = service == "sshd";
        let wanted =
            Wanted { interactive: if login { interactive } else { Interactive::Nothing }, session: login };
        let new = pam_edit::attach(&path, &text, wanted)?;
        plan.add(&path, Some(text), Some(new), 0o644);
    }

    if root.text("/etc/sudoers")?.is_some() {
        let before = own_text(root, SUDOERS)?;
        plan.add(SUDOERS, before, Some(sudoers()), 0o440);
    } else {
        plan.notes.push("sudo is not installed: administrators get no sudo".to_owned());
    }

    if interactive == Interactive::StepUp {
        plan.notes.push(
            "login.step_up_prompt is on: Entra users need a client that can answer prompts, so not `BatchMode=yes`, Ansible and \
             most editors"
                .to_owned(),
        );
    }
    let before = own_text(root, sshd_edit::DROP_IN)?;
    plan.add(sshd_edit::DROP_IN, before, Some(sshd_edit::drop_in(interactive)), 0o644);
    let new = sshd_edit::attach(&main)?;
    plan.add(sshd_config::MAIN, Some(main), Some(new), 0o600);
    Ok(plan)
}

/// sudo's file.
#[must_use]
pub fn sudoers() -> String {
    format!("{}; `nightlatch detach` removes it.\n{SUDOERS_LINE}\n", sshd_edit::HEADER)
}

/// What detach would do. sshd comes first: from then on nobody is asked.
///
/// # Errors
/// When a file is not as attach left it in a way that cannot be undone.
pub fn detach(root: &Root) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    if let Some(main) = root.text(sshd_config::MAIN)? {
        let new = sshd_edit::detach(&main)?;
        plan.add(sshd_config::MAIN, Some(main), Some(new), 0o600);
    }
    for path in [sshd_edit::DROP_IN, SUDOERS] {
        match own_text(root, path) {
            Ok(before) => plan.add(path, before, None, 0o644),
            Err(Refusal::NotOurs(_)) => {
                plan.notes.push(format!("`{path}` was not written by `nightlatch attach`: it stays"));
            }
            Err(other) => return Err(other),
        }
    }
    for (path, text) in root.fitting("/etc/pam.d/*") {
        if blocks::has(&text) {
            let new = pam_edit::detach(&path, &text)?;
            plan.add(&path, Some(text), Some(new), 0o644);
        }
    }
    let swaps = Memory::read(root)?.nsswitch;
    if let Some(names) = root.text(nsswitch::PATH)? {
        let new = nsswitch::detach(&names, &swaps);
        plan.add(nsswitch::PATH, Some(names), Some(new), 0o644);
    }
    Ok(plan)
}
