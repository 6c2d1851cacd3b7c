//! Whether everything that a login rests on is in force. Reads and asks; changes nothing.
//!
//! Each finding says what was seen and, where something is wrong, what to do. What cannot be found
//! out is said as such and never taken for good.

pub mod break_glass;
mod files;
mod names;
mod pam;
mod running;
mod session;
mod sshd;

use super::interactive::Interactive;
use super::place::Root;
use super::tools::Tools;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it must be.
    Ok,
    /// Logins work, but not as they should.
    Warn,
    /// It could not be found out.
    Unknown,
    /// Logins fail, or somebody else decides them.
    Fail,
}

impl State {
    /// The word in tables and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable name: part and subject.
    pub check: &'static str,
    /// How it came out.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when nothing is.
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, state: State::Ok, seen: seen.into(), remedy: String::new() }
    }

    fn bad(check: &'static str, state: State, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state, seen: seen.into(), remedy: remedy.into() }
    }

    fn fail(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(check, State::Fail, seen, remedy)
    }

    fn warn(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(check, State::Warn, seen, remedy)
    }
}

/// What the configuration says that the checks need.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Whose login is looked at: a login name that our Match covers.
    pub user: String,
    /// `login.interactive_reason` or `login.step_up_prompt`.
    pub interactive: Interactive,
    /// `login.login_grace_time` in seconds.
    pub login_grace_s: i64,
    /// `mode = "observe"`.
    pub observing: bool,
}

/// Makes all checks.
#[must_use]
pub fn examine(root: &Root, tools: &dyn Tools, expected: &Expected) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(sshd::examine(root, tools, expected));
    findings.extend(pam::examine(root, expected.interactive, expected.observing));
    findings.extend(names::examine(root));
    findings.extend(files::examine(root, tools, expected.observing));
    let answers = findings.iter().any(|finding| finding.check == names::ANSWER && finding.state == State::Ok);
    findings.extend(running::examine(root, tools, expected, answers));
    if expected.observing {
        findings.iter_mut().for_each(soften);
        findings.push(session::left_of_enforce(root));
    }
    findings
}

/// While nightlatch only observes, it decides nothing: what attach puts in for deciding is not there, and
/// another agent may well decide.
fn soften(finding: &mut Finding) {
    if finding.state != State::Fail || finding.check == session::CHECK {
        return;
    }
    if finding.remedy.contains("run `nightlatch attach`") {
        finding.state = State::Ok;
        finding.seen.push_str(" (of no account in mode observe)");
        finding.remedy.clear();
    } else if finding.remedy.contains("`nightlatch attach`") || finding.check == sshd::OTHER_AGENT {
        finding.state = State::Warn;
    }
}

/// The worst of all; [`State::Fail`] outweighs what could not be found out.
#[must_use]
pub fn worst(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observing_needs_nothing_of_enforce_but_everything_else() {
        let softened = |mut finding: Finding| {
            soften(&mut finding);
            (finding.state, finding.remedy.is_empty())
        };
        let attach = "run `nightlatch attach`";
        assert_eq!(softened(Finding::fail("sshd.hook", "nobody", attach)), (State::Ok, true));
        assert_eq!(
            softened(Finding::fail("sshd.hook", "x", "move it, then `nightlatch attach`")),
            (State::Warn, false)
        );
        assert_eq!(softened(Finding::fail(sshd::OTHER_AGENT, "theirs", "remove it")), (State::Warn, false));
        assert_eq!(softened(Finding::fail(session::CHECK, "wrong mode", attach)), (State::Fail, false));
        assert_eq!(softened(Finding::warn(session::CHECK, "not attached", attach)), (State::Warn, false));
        assert_eq!(softened(Finding::fail("units", "down", "start it")), (State::Fail, false));
        assert_eq!(softened(Finding::ok("units", "up")), (State::Ok, true));
    }

    #[test]
    fn the_worst_counts() {
        let unknown = Finding::bad("x", State::Unknown, "", "");
        assert_eq!(worst(&[Finding::ok("a", ""), Finding::warn("b", "", "c")]), State::Warn);
        assert_eq!(worst(&[unknown.clone(), Finding::fail("b", "", "c")]), State::Fail);
        assert_eq!(worst(&[unknown, Finding::ok("a", "")]), State::Unknown);
        assert_eq!(worst(&[]), State::Unknown);
    }
}
