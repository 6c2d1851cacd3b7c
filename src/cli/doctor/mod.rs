//! `nightlatch doctor`: what is in force, what is not, and what to do about it. `doctor --break-glass` looks at
//! the local account kept for emergencies, `doctor client` at the caller's own side: programs, kubeconfigs and
//! environment. Changes nothing.

mod client;

use std::path::PathBuf;

use clap::Subcommand;
use nightlatch_model::LoginName;
use serde_json::json;

use super::attach::interactive;
use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say};
use crate::attach::doctor::{Expected, Finding, State, break_glass, examine, worst};
use crate::attach::{Root, System};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Mode, load_installed};

/// LoginGraceTime when nothing is configured, in seconds: the daemon's own default.
const DEFAULT_LOGIN_GRACE_S: i64 = 60;

/// What else can be looked at.
#[derive(Debug, Subcommand)]
pub(super) enum Part {
    /// Look at your own side: az, kubectl, kubelogin, kubeconfigs, environment and the way to the broker.
    ///
    /// Run it as the user whose programs get no token, in the environment where they run; not with sudo.
    Client {
        /// The kubeconfig; otherwise those of $KUBECONFIG, else ~/.kube/config.
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
    },
}

/// What is looked at on the node.
#[derive(Debug)]
pub(super) enum About {
    /// A login of ours; `None` is a name that nobody has.
    Login(Option<String>),
    /// The account kept for emergencies; `None` is each that is listed.
    BreakGlass(Option<String>),
}

/// Makes all checks and prints them.
pub(super) fn run(about: &About, part: Option<&Part>, format: Format) -> u8 {
    match (part, about) {
        (None, About::Login(user)) => node(user.as_deref(), format),
        (None, About::BreakGlass(name)) => emergencies(name.as_deref(), format),
        (Some(Part::Client { kubeconfig }), About::Login(None)) => {
            report(&client::examine_own(kubeconfig.as_deref()), format)
        }
        (Some(Part::Client { .. }), _) => {
            complain(
                "--user and --break-glass belong to `nightlatch doctor`; `doctor client` looks at whoever runs it",
            );
            USAGE
        }
    }
}

fn emergencies(name: Option<&str>, format: Format) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        complain("cannot tell: only root may read key files and sshd's configuration; run it with sudo");
        return UNKNOWN;
    }
    if let Some(name) = name.filter(|name| !break_glass::is_name(name)) {
        let name = plain(name);
        complain(&format!("--break-glass takes the name of a local account such as `breakglass`: `{name}`"));
        return USAGE;
    }
    report(&break_glass::examine(&Root::default(), &System, name, Clock::System.now()), format)
}

fn node(user: Option<&str>, format: Format) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        complain(
            "cannot tell: only root may read sshd's configuration; run it with sudo. For your own side: \
             `nightlatch doctor client`",
        );
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
        // Both at once is no configuration, and the finding above says so where the daemon reads it.
        interactive: interactive(&config).unwrap_or_default(),
        login_grace_s: config.login.login_grace_time.map_or(DEFAULT_LOGIN_GRACE_S, |span| span.0),
        observing: config.mode.unwrap_or(Mode::Observe) == Mode::Observe,
    };
    let mut findings = vec![configuration];
    findings.extend(examine(&Root::default(), &System, &expected));
    report(&findings, format)
}

fn report(findings: &[Finding], format: Format) -> u8 {
    print(findings, format);
    match worst(findings) {
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
                let (seen, remedy) = (plain(&finding.seen), plain(&finding.remedy));
                say(&format!("{:<7}  {:<22}  {seen}", finding.state.word(), finding.check));
                if !remedy.is_empty() {
                    say(&format!("{:<7}  {:<22}  -> {remedy}", "", ""));
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

/// Without bytes that a terminal would obey: a kubeconfig may come from anybody.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
