//! Whether PAM hands each session of sshd to us in the way of the mode, and whether lines of the other
//! mode are left. A line of mode enforce while we observe shuts people out; a line of mode observe
//! while we decide leaves sessions without a record.

use super::{Finding, State};
use crate::attach::pam_edit::{EXEC_WORDS, HELPER, LOGIN_UID, OBSERVE};
use crate::attach::pam_stack::{self, Rule};
use crate::attach::place::Root;
use crate::attach::{blocks, plan, sshd_config, sshd_edit};

/// The check of the session line.
pub(super) const CHECK: &str = "pam.session";
/// The check of what the other mode left.
pub(super) const LEFT: &str = "attached";
const ATTACH: &str = "run `nightlatch attach`";

/// Whether a line runs our helper, and whether to look only.
fn is_ours(rule: &Rule, observing: bool) -> bool {
    let has = |word: &str| rule.arguments.iter().any(|given| given == word);
    has(HELPER) && has(OBSERVE) == observing
}

/// Judges sshd's session phase, includes laid open.
pub(super) fn judge(rules: &[Rule], observing: bool) -> Finding {
    let Some(at) = rules.iter().position(|rule| is_ours(rule, observing)) else {
        return absent(rules, observing);
    };
    let weak = if observing { watching_fault(rules, at) } else { deciding_fault(rules, at) };
    if let Some(seen) = weak {
        return Finding::fail(CHECK, seen, ATTACH);
    }
    let before = rules.get(..at).unwrap_or_default();
    if !before.iter().any(|rule| rule.module_name() == LOGIN_UID) {
        let state = if observing { State::Warn } else { State::Fail };
        let seen = "no pam_loginuid.so stands before our session line: no session can be told from another";
        let remedy =
            "put `session required pam_loginuid.so` before the other session lines of /etc/pam.d/sshd";
        return Finding::bad(CHECK, state, seen, remedy);
    }
    if !observing && rules.iter().any(|rule| is_ours(rule, true)) {
        return Finding::fail(CHECK, "the session line of mode observe is there as well", ATTACH);
    }
    let seen = if observing { "each login of sshd is looked at" } else { "each session of ours is recorded" };
    Finding::ok(CHECK, seen)
}

fn absent(rules: &[Rule], observing: bool) -> Finding {
    if rules.iter().any(|rule| is_ours(rule, !observing)) {
        let (other, mode) = if observing { ("enforce", "observe") } else { ("observe", "enforce") };
        let seen = format!("the session line of sshd is that of mode {other}, but mode is `{mode}`");
        return Finding::fail(CHECK, seen, ATTACH);
    }
    if observing {
        return Finding::warn(CHECK, "no login of sshd is looked at: nightlatch is not attached", ATTACH);
    }
    Finding::fail(CHECK, "the session phase of sshd does not ask nightlatch: no session is recorded", ATTACH)
}

/// What is wrong with the line that records our sessions.
fn deciding_fault(rules: &[Rule], at: usize) -> Option<String> {
    let gate = at.checked_sub(1).filter(|gate| rules.get(*gate).is_some_and(super::pam::is_gate));
    let Some(gate) = gate else {
        return Some("our session line has no gate before it: local users depend on nightlatch".to_owned());
    };
    let ours = rules.get(at)?;
    if let Some(word) = EXEC_WORDS.iter().find(|word| !ours.arguments.iter().any(|given| given == *word)) {
        return Some(format!("our session line lacks `{word}`"));
    }
    if ours.control != "required" {
        let control = &ours.control;
        return Some(format!("our session line is `{control}`, not `required`: sessions open unrecorded"));
    }
    passed_by(rules, gate)
}

/// What is wrong with the line that only looks.
fn watching_fault(rules: &[Rule], at: usize) -> Option<String> {
    let ours = rules.get(at)?;
    if ours.control != "optional" {
        let control = &ours.control;
        return Some(format!(
            "our session line is `{control}`, not `optional`: local users depend on nightlatch"
        ));
    }
    let lacks =
        ["seteuid", "quiet"].into_iter().find(|word| !ours.arguments.iter().any(|given| given == word));
    lacks.map(|word| format!("our session line lacks `{word}`")).or_else(|| passed_by(rules, at))
}

/// A rule that may end the phase or jump over the one at `target`.
fn passed_by(rules: &[Rule], target: usize) -> Option<String> {
    let before = rules.iter().enumerate().take(target);
    let mut over = before.filter(|(at, rule)| at.saturating_add(rule.reach()) >= target);
    over.next().map(|(_, rule)| {
        format!("`session {} {}` before our session line may pass it by", rule.control, rule.module)
    })
}

/// While nightlatch observes, nobody may ask it to decide.
pub(super) fn left_of_enforce(root: &Root) -> Finding {
    let text = |path: &str| root.text(path).ok().flatten();
    let mut left = Vec::new();
    if text(sshd_config::MAIN).is_some_and(|main| blocks::has(&main)) {
        left.push(sshd_config::MAIN.to_owned());
    }
    for path in [sshd_edit::DROP_IN, plan::SUDOERS] {
        if text(path).is_some_and(|text| text.starts_with(sshd_edit::HEADER)) {
            left.push(path.to_owned());
        }
    }
    for (path, text) in root.fitting("/etc/pam.d/*") {
        if pam_stack::statements(&text).iter().any(|(_, rule)| is_ours(rule, false)) {
            left.push(path);
        }
    }
    if left.is_empty() {
        return Finding::ok(LEFT, "nobody asks nightlatch to decide");
    }
    let seen = format!("mode is `observe`, but lines of mode enforce stand in {}", left.join(", "));
    Finding::fail(LEFT, seen, ATTACH)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
