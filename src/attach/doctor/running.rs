//! Whether what must run does, whether the clock is right, and whether the person is found.

use nix::unistd::User;

use super::{Expected, Finding, State};
use crate::attach::place::Root;
use crate::attach::tools::Tools;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const TIMEDATECTL: &str = "/usr/bin/timedatectl";
/// What records and ends sessions; mode observe can do without.
const SESSION_UNITS: [&str; 3] = [
    "nightlatch-sessiond.service",
    "nightlatch-sessiond-session.socket",
    "nightlatch-sessiond-control.socket",
];
const UNITS: [&str; 8] = [
    "nightlatchd.service",
    "nightlatch-userdbd.service",
    "nightlatchd-hook.socket",
    "nightlatchd-account.socket",
    "nightlatchd-admin.socket",
    SESSION_UNITS[0],
    SESSION_UNITS[1],
    SESSION_UNITS[2],
];

/// `answers`: the responder does, so that a look-up through it ends.
pub(super) fn examine(root: &Root, tools: &dyn Tools, expected: &Expected, answers: bool) -> Vec<Finding> {
    let mut findings = units(tools, expected.observing);
    findings.push(sshd_runs(tools));
    // While we observe, nobody looks our users up through us.
    if answers && !expected.observing {
        findings.push(person(&expected.user));
    }
    findings.extend(clock(tools));
    if expected.observing {
        let seen = "mode is `observe`: nightlatch decides no login";
        findings.push(Finding::warn(
            "mode",
            seen,
            "when you are ready, set `mode = \"enforce\"` in /etc/nightlatch/nightlatch.toml, restart nightlatchd and attach again",
        ));
    }
    let selinux = root.text("/sys/fs/selinux/enforce").ok().flatten();
    if selinux.is_some_and(|text| text.trim() == "1") {
        let seen = "SELinux enforces: sshd may be kept from running or connecting the hook";
        findings.push(Finding::warn(
            "selinux",
            seen,
            "look for `ausearch -m avc -c authorized-keys` after a refused login",
        ));
    }
    findings
}

fn units(tools: &dyn Tools, observing: bool) -> Vec<Finding> {
    let words = [&["is-active"], UNITS.as_slice()].concat();
    let Some(said) = tools.run(SYSTEMCTL, &words) else {
        return vec![Finding::bad(
            "units",
            State::Unknown,
            format!("`{SYSTEMCTL}` cannot be run"),
            "run doctor on a machine with systemd",
        )];
    };
    let states: Vec<&str> = said.out.lines().map(str::trim).collect();
    if states.len() != UNITS.len() {
        return vec![Finding::bad(
            "units",
            State::Unknown,
            said.complaint(),
            "run `systemctl is-system-running`",
        )];
    }
    let pairs = UNITS.into_iter().zip(states);
    let findings: Vec<Finding> = pairs
        .filter(|(_, state)| *state != "active")
        .map(|(unit, state)| {
            let dispensable = observing && SESSION_UNITS.contains(&unit);
            Finding::bad(
                "units",
                if dispensable { State::Warn } else { State::Fail },
                format!("{unit} is {state}"),
                format!("run `systemctl enable --now {unit}`, see `journalctl -u {unit}`"),
            )
        })
        .collect();
    if findings.is_empty() {
        vec![Finding::ok("units", "daemon, responder, keeper of sessions and sockets are active")]
    } else {
        findings
    }
}

fn sshd_runs(tools: &dyn Tools) -> Finding {
    const CHECK: &str = "sshd.running";
    let names = ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];
    match tools.run(SYSTEMCTL, &[&["is-active"], names.as_slice()].concat()) {
        Some(said) if said.out.lines().any(|line| line.trim() == "active") => {
            Finding::ok(CHECK, "sshd is active")
        }
        Some(_) => Finding::fail(CHECK, "no sshd unit is active", "run `systemctl start ssh` (or `sshd`)"),
        None => Finding::bad(
            CHECK,
            State::Unknown,
            format!("`{SYSTEMCTL}` cannot be run"),
            "run doctor on a machine with systemd",
        ),
    }
}

/// Finds the person as sshd would.
fn person(name: &str) -> Finding {
    const CHECK: &str = "nss.person";
    match User::from_name(name) {
        Ok(Some(user)) if nightlatch_model::is_our_uid(user.uid.as_raw()) => {
            Finding::ok(CHECK, format!("{name} is found with uid {}", user.uid))
        }
        Ok(Some(user)) => Finding::fail(
            CHECK,
            format!(
                "{name} is found with uid {}, which is not one of ours: another service answers for it",
                user.uid
            ),
            "see which of the services in /etc/nsswitch.conf knows the name: `getent -s SERVICE passwd NAME`",
        ),
        Ok(None) => Finding::fail(
            CHECK,
            format!("{name} is not found, so sshd refuses before it asks anybody"),
            "check `login.domains`, and the nss and userdb lines above",
        ),
        Err(cause) => Finding::bad(
            CHECK,
            State::Unknown,
            format!("looking up {name} failed: {cause}"),
            "check the nss and userdb lines above",
        ),
    }
}

fn clock(tools: &dyn Tools) -> Option<Finding> {
    const CHECK: &str = "clock";
    let said = tools.run(TIMEDATECTL, &["show", "-p", "NTPSynchronized", "--value"])?;
    match said.out.trim() {
        "yes" => Some(Finding::ok(CHECK, "the clock is synchronised")),
        "no" => Some(Finding::warn(
            CHECK,
            "the clock is not synchronised: certificates that live an hour fail early or late",
            "start chrony or systemd-timesyncd",
        )),
        _ => Some(Finding::bad(
            CHECK,
            State::Warn,
            "systemd does not say whether the clock is synchronised",
            "run `timedatectl`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::tools::Said;

    struct Answers(&'static str);

    impl Tools for Answers {
        fn run(&self, _: &str, _: &[&str]) -> Option<Said> {
            Some(Said { ok: true, out: self.0.to_owned(), err: String::new() })
        }
    }

    const ALL_UP: &str = "active\nactive\nactive\nactive\nactive\nactive\nactive\nactive\n";

    struct Nothing;

    impl Tools for Nothing {
        fn run(&self, _: &str, _: &[&str]) -> Option<Said> {
            None
        }
    }

    #[test]
    fn a_unit_that_is_down_is_named() {
        assert_eq!(units(&Answers(ALL_UP), false)[0].state, State::Ok);
        let down =
            units(&Answers("active\nfailed\nactive\ninactive\nactive\nactive\nactive\nactive\n"), false);
        let seen: Vec<&str> = down.iter().map(|finding| finding.seen.as_str()).collect();
        assert_eq!(seen, ["nightlatch-userdbd.service is failed", "nightlatchd-account.socket is inactive"]);
    }

    #[test]
    fn without_the_keeper_of_sessions_only_observing_goes_on() {
        let down = "active\nactive\nactive\nactive\nactive\nfailed\nactive\ninactive\n";
        for (observing, state) in [(false, State::Fail), (true, State::Warn)] {
            let found = units(&Answers(down), observing);
            let seen: Vec<(State, &str)> =
                found.iter().map(|finding| (finding.state, finding.seen.as_str())).collect();
            let words =
                ["nightlatch-sessiond.service is failed", "nightlatch-sessiond-control.socket is inactive"];
            assert_eq!(seen, words.map(|word| (state, word)));
        }
        let daemon = "failed\nactive\nactive\nactive\nactive\nactive\nactive\nactive\n";
        assert_eq!(units(&Answers(daemon), true)[0].state, State::Fail);
    }

    #[test]
    fn what_cannot_be_asked_is_not_taken_for_good() {
        assert_eq!(units(&Nothing, false)[0].state, State::Unknown);
        assert_eq!(sshd_runs(&Nothing).state, State::Unknown);
        assert_eq!(units(&Answers(""), false)[0].state, State::Unknown);
    }

    #[test]
    fn the_clock_and_the_person() {
        assert_eq!(clock(&Answers("yes\n")).unwrap().state, State::Ok);
        assert_eq!(clock(&Answers("no\n")).unwrap().state, State::Warn);
        assert_eq!(person("root").state, State::Fail);
    }
}
