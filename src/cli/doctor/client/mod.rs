//! `nightlatch doctor client`: why this user's programs get no token, or another one than they should.
//!
//! It looks at what only the caller sees: the programs in PATH, the kubeconfigs, the environment, the way to
//! the broker. It asks for no token, changes nothing, and prints the names of variables, never a secret's value.

mod broker;
mod environment;
mod kubeconfig;
mod versions;

use std::path::Path;

use crate::attach::doctor::{Finding, State};
use crate::cli::kubelogin::files::{kubeconfigs, read};
use crate::cli::program::System;

/// Looks a variable up; an empty one counts as none.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where Azure Arc's agent sits; its presence is how the Azure SDKs tell an Arc machine.
const HIMDS: &str = "/opt/azcmagent/bin/himds";

/// Makes all checks for the caller.
pub(super) fn examine_own(named: Option<&Path>) -> Vec<Finding> {
    let variables = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = std::env::home_dir();
    let listed = std::env::var_os("KUBECONFIG");
    let path = std::env::var_os("PATH");
    let mut findings = Vec::new();
    if nix::unistd::geteuid().is_root()
        && let Some(user) = variables("SUDO_USER")
    {
        findings.push(warn(
            "client.user",
            "this is root's environment, not that of the user who called sudo",
            format!("run it without sudo, as {user}"),
        ));
    }
    let (versions, told) = versions::examine(&System);
    findings.extend(told);
    let files = kubeconfigs(named, listed.as_deref(), home.as_deref());
    let plugins = kubeconfig::Plugins { path: path.as_deref(), can_run: &can_run };
    findings.extend(kubeconfig::none(&files));
    for file in &files {
        findings.extend(match read(file) {
            Ok(whole) => kubeconfig::examine(file, &whole, versions, &variables, plugins),
            Err(why) => vec![fail("kubeconfig", why, "mend the file; kubectl cannot read it either")],
        });
    }
    findings.extend(environment::examine(&variables, Path::new(HIMDS).exists()));
    findings.push(broker::finding(broker::ask()));
    findings
}

/// Whether the caller may run this file.
fn can_run(file: &Path) -> bool {
    file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
}

fn ok(check: &'static str, seen: impl Into<String>) -> Finding {
    Finding { check, state: State::Ok, seen: seen.into(), remedy: String::new() }
}

fn warn(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, state: State::Warn, seen: seen.into(), remedy: remedy.into() }
}

fn unknown(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, state: State::Unknown, seen: seen.into(), remedy: remedy.into() }
}

fn fail(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, state: State::Fail, seen: seen.into(), remedy: remedy.into() }
}
