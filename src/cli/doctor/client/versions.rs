//! Which az, kubectl and kubelogin there are, and what each version cannot do. None of them is needed.

use std::time::Duration;

use serde_json::Value;

use super::{Finding, ok, unknown, warn};
use crate::cli::program::{Complaints, ProgramError, Programs, Run};

/// How long a program may take to say its version: `az` starts Python.
const LIMIT: Duration = Duration::from_secs(15);
/// The first `az` that says the end of a token as a number (Microsoft Learn, "az account get-access-token").
const AZ_SAYS_EXPIRES_ON: Version = Version(2, 54);

/// Major and minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

/// The versions that other checks need; none where the program is missing or said nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) kubectl: Option<Version>,
    /// A program named kubelogin that is not Azure's.
    pub(super) foreign_kubelogin: bool,
}

/// Asks all three.
pub(super) fn examine(programs: &dyn Programs) -> (Versions, Vec<Finding>) {
    let mut versions = Versions::default();
    let findings = vec![az(programs), kubectl(programs, &mut versions), kubelogin(programs, &mut versions)];
    (versions, findings)
}

fn run(programs: &dyn Programs, program: &str, arguments: &[&str]) -> Result<Vec<u8>, ProgramError> {
    programs.run(Run { program, arguments, limit: LIMIT, complaints: Complaints::Dropped })
}

/// A program that is missing is not needed; one that does not answer is worth a look.
fn silent(check: &'static str, cause: &ProgramError) -> Finding {
    match cause {
        ProgramError::Missing(name) => ok(check, format!("{name} is not installed")),
        _ => unknown(check, cause.to_string(), "run it by itself to see why"),
    }
}

fn az(programs: &dyn Programs) -> Finding {
    const CHECK: &str = "client.az";
    let answer = match run(programs, "az", &["version", "-o", "json"]) {
        Ok(answer) => answer,
        Err(cause) => return silent(CHECK, &cause),
    };
    let document: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let Some((text, version)) = text_and_version(document.get("azure-cli")) else {
        return unknown(CHECK, "az does not say its version", "run `az version` to see why");
    };
    let ssh = document.get("extensions").and_then(|all| all.get("ssh")).and_then(Value::as_str);
    let ssh =
        ssh.map_or_else(|| "without the ssh extension".to_owned(), |ssh| format!("ssh extension {ssh}"));
    if version < AZ_SAYS_EXPIRES_ON {
        return warn(
            CHECK,
            format!(
                "az {text} does not say when a token ends; `--login azurecli` and `--identity azure-cli` need it"
            ),
            "update az to 2.54.0 or newer",
        );
    }
    ok(CHECK, format!("az {text}, {ssh}"))
}

fn kubectl(programs: &dyn Programs, versions: &mut Versions) -> Finding {
    const CHECK: &str = "client.kubectl";
    let answer = match run(programs, "kubectl", &["version", "--client", "-o", "json"]) {
        Ok(answer) => answer,
        Err(cause) => return silent(CHECK, &cause),
    };
    let document: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let said = document.get("clientVersion").and_then(|client| client.get("gitVersion"));
    let Some((text, version)) = text_and_version(said) else {
        return unknown(
            CHECK,
            "kubectl does not say its version",
            "run `kubectl version --client` to see why",
        );
    };
    versions.kubectl = Some(version);
    ok(CHECK, format!("kubectl {text}"))
}

fn kubelogin(programs: &dyn Programs, versions: &mut Versions) -> Finding {
    const CHECK: &str = "client.kubelogin";
    let answer = match run(programs, "kubelogin", &["--version"]) {
        Ok(answer) => answer,
        Err(cause) => return silent(CHECK, &cause),
    };
    let text = String::from_utf8_lossy(&answer);
    // Azure's prints `git hash: v0.1.4/…`; a plugin for any OpenID provider has the same name and does not.
    let Some(hash) = text.lines().find_map(|line| line.trim().strip_prefix("git hash:")) else {
        versions.foreign_kubelogin = true;
        return ok(CHECK, "a kubelogin that is not Azure's");
    };
    let version = hash.trim().split('/').next().unwrap_or_default();
    ok(
        CHECK,
        format!("Azure kubelogin {}", if version.is_empty() { "of an unknown version" } else { version }),
    )
}

fn text_and_version(said: Option<&Value>) -> Option<(String, Version)> {
    let text = said?.as_str()?;
    let mut numbers = text.trim_start_matches('v').split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((text.to_owned(), Version(next()?, next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::doctor::State;
    use crate::cli::program::tests::Told;

    const AZ: &str = "az version -o json";
    const KUBECTL: &str = "kubectl version --client -o json";
    const KUBELOGIN: &str = "kubelogin --version";

    #[test]
    fn each_program_says_its_version_in_its_own_way() {
        let told = Told(vec![
            (AZ, Ok(r#"{"azure-cli":"2.91.0","azure-cli-core":"2.91.0","extensions":{"ssh":"2.0.6"}}"#)),
            (
                KUBECTL,
                Ok(r#"{"clientVersion":{"major":"1","minor":"32+","gitVersion":"v1.32.4-dispatcher"}}"#),
            ),
            (KUBELOGIN, Ok("kubelogin version \ngit hash: v0.2.19/6678\nGo version: go1.24\n")),
        ]);
        let (versions, findings) = examine(&told);
        assert_eq!(versions, Versions { kubectl: Some(Version(1, 32)), foreign_kubelogin: false });
        let seen: Vec<&str> = findings.iter().map(|finding| finding.seen.as_str()).collect();
        assert_eq!(
            seen,
            ["az 2.91.0, ssh extension 2.0.6", "kubectl v1.32.4-dispatcher", "Azure kubelogin v0.2.19"]
        );
        assert!(findings.iter().all(|finding| finding.state == State::Ok));
    }

    #[test]
    fn what_is_missing_is_fine_and_what_hangs_is_not() {
        let (versions, findings) = examine(&Told(vec![]));
        assert_eq!(versions, Versions::default());
        assert!(
            findings.iter().all(|f| f.state == State::Ok && f.seen.ends_with("is not installed")),
            "{findings:?}"
        );
        let slow = || Err(ProgramError::Slow("az".into(), 15));
        let odd = Ok("not json");
        let (_, findings) = examine(&Told(vec![(AZ, slow()), (KUBECTL, odd)]));
        assert_eq!((findings[0].state, findings[1].state), (State::Unknown, State::Unknown));
        assert!(findings[0].seen.contains("within 15 s"), "{findings:?}");
    }

    #[test]
    fn an_old_az_and_a_kubelogin_of_others_are_told_apart() {
        let told = Told(vec![
            (AZ, Ok(r#"{"azure-cli":"2.53.1","extensions":{}}"#)),
            (KUBELOGIN, Ok("kubelogin version v1.36.0 (go1.26.0 linux_amd64)\n")),
        ]);
        let (versions, findings) = examine(&told);
        assert_eq!(findings[0].state, State::Warn);
        assert!(findings[0].remedy.contains("2.54.0"));
        assert!(versions.foreign_kubelogin && findings[2].seen.contains("not Azure's"));
    }
}
