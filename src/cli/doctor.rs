//! `nightlatch doctor`: what is in force, what is not, and what to do about it.

use nightlatch_model::LoginName;
use serde_json::json;

use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say};
use crate::attach::doctor::{Expected, Finding, State, examine, worst};
use crate::attach::{Root, System};
use crate::config::{Config, ConfigError, Mode, load_installed};

/// LoginGraceTime when nothing is configured, in seconds: the daemon's own default.
const DEFAULT_LOGIN_GRACE_S: i64 = 60;

/// Makes all checks and prints them.
pub(super) fn run(user: Option<&str>, format: Format) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        complain("cannot tell: only root may read sshd's configuration; run it with sudo");
        return UNKNOWN;
    }
    let (config, configuration) = configuration(load_installed().map(|loaded| loaded.config));
    let user = match user.map(LoginName::parse) {
        Some(Ok(name)) => name.to_string(),
        Some(Err(cause)) => {
            complain(&format!("--user takes a login name such as `alice@contoso.com`: {cause}"));
            return USAGE;
        }
        None => {
            let domain = config.login.domains.as_ref().and_then(|domains| domains.first());
            format!("nightlatch-probe@{}", domain.map_or("example.com", String::as_str))
        }
    };
    let expected = Expected {
        user,
        interactive_reason: config.login.interactive_reason.unwrap_or(false),
        login_grace_s: config.login.login_grace_time.map_or(DEFAULT_LOGIN_GRACE_S, |span| span.0),
        observing: config.mode.unwrap_or(Mode::Observe) == Mode::Observe,
    };
    let mut findings = vec![configuration];
    findings.extend(examine(&Root::default(), &System, &expected));
    print(&findings, format);
    match worst(&findings) {
        State::Ok | State::Warn => YES,
        State::Unknown => UNKNOWN,
        State::Fail => NO,
    }
}

fn configuration(loaded: Result<Config, ConfigError>) -> (Config, Finding) {
    let finding = |state, seen: String, remedy: &str| Finding {
        check: "config",
        state,
        seen,
        remedy: remedy.to_owned(),
    };
    match loaded {
        Ok(config) => (config, finding(State::Ok, "the configuration is understood".into(), "")),
        Err(cause) => {
            let words = "mend it, then `systemctl restart nightlatchd`; the checks below use the defaults";
            (Config::default(), finding(State::Fail, cause.to_string(), words))
        }
    }
}

fn print(findings: &[Finding], format: Format) {
    match format {
        Format::Json => {
            let rows: Vec<_> = findings
                .iter()
                .map(|f| json!({"check": f.check, "state": f.state.word(), "seen": f.seen, "remedy": f.remedy}))
                .collect();
            say(&json!(rows).to_string());
        }
        _ => {
            for finding in findings {
                say(&format!("{:<7}  {:<21}  {}", finding.state.word(), finding.check, finding.seen));
                if !finding.remedy.is_empty() {
                    say(&format!("{:<7}  {:<21}  -> {}", "", "", finding.remedy));
                }
            }
            let count = |state| findings.iter().filter(|finding| finding.state == state).count();
            say(&format!(
                "{} fail, {} warn, {} ok",
                count(State::Fail),
                count(State::Warn),
                count(State::Ok)
            ));
        }
    }
}
