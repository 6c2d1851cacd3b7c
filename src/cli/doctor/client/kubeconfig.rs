//! The Azure users of a kubeconfig, and the rule that each breaks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::versions::{Version, Versions};
use super::{Finding, Variables, fail, ok, warn};
use crate::cli::kubelogin::files::named;
use crate::cli::kubelogin::legacy::{self, Found};

/// A name for all findings about one user; the user stands in what was seen.
const CHECK: &str = "kubeconfig.user";
/// The kubectl that lost the azure auth-provider (Azure/kubelogin, docs/book, "Exec Plugin").
const NO_AUTH_PROVIDER: Version = Version(1, 26);
/// The kubectl that lost the first version of the plugins' protocol.
const NO_V1ALPHA1: Version = Version(1, 24);
/// The first kubectl that knows the last version of it.
const HAS_V1: Version = Version(1, 22);
/// What Azure kubelogin knows; another word silently becomes the public cloud.
const ENVIRONMENTS: [&str; 4] =
    ["AzurePublicCloud", "AzureUSGovernment", "AzureUSGovernmentCloud", "AzureChinaCloud"];
const CONVERT: &str = "`nightlatch kubelogin convert-kubeconfig` rewrites it";

/// How a plugin is found.
#[derive(Clone, Copy)]
pub(super) struct Plugins<'a> {
    /// PATH.
    pub(super) path: Option<&'a OsStr>,
    /// Whether the caller may run a file.
    pub(super) can_run: &'a dyn Fn(&Path) -> bool,
}

impl Plugins<'_> {
    /// A name alone is looked up in PATH, a relative path from the kubeconfig's folder, as client-go does.
    fn has(self, command: &str, file: &Path) -> bool {
        if command.contains('/') {
            let folder = file.parent().unwrap_or_else(|| Path::new("/"));
            return (self.can_run)(&folder.join(command));
        }
        self.path
            .map(std::env::split_paths)
            .into_iter()
            .flatten()
            .any(|folder| (self.can_run)(&folder.join(command)))
    }
}

/// Says so where there is no kubeconfig.
pub(super) fn none(files: &[PathBuf]) -> Option<Finding> {
    files.is_empty().then(|| ok("kubeconfig", "there is no kubeconfig"))
}

/// Looks at the users of one file.
pub(super) fn examine(
    file: &Path,
    whole: &Value,
    versions: Versions,
    variables: Variables<'_>,
    plugins: Plugins<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, entry) in named(whole, "users") {
        let Some(found) = entry.get("user").and_then(legacy::read) else { continue };
        let who = format!("user `{name}` of {}", file.display());
        let mut of_user = match &found.command {
            None => vec![auth_provider(&who, versions)],
            Some(command) => exec(&who, &found, command, plugins.has(command, file), versions, variables),
        };
        if of_user.is_empty() {
            of_user.push(ok(CHECK, format!("{who}: signs in by {}", mode(&found))));
        }
        findings.append(&mut of_user);
    }
    if findings.is_empty() {
        findings.push(ok(CHECK, format!("no user of {} signs in with Azure", file.display())));
    }
    findings
}

fn mode(found: &Found) -> &str {
    found.login.as_deref().unwrap_or("devicecode")
}

fn auth_provider(who: &str, versions: Versions) -> Finding {
    match versions.kubectl {
        Some(kubectl) if kubectl >= NO_AUTH_PROVIDER => fail(
            CHECK,
            format!("{who}: auth-provider azure, which kubectl {}.{} does not have", kubectl.0, kubectl.1),
            CONVERT,
        ),
        _ => warn(CHECK, format!("{who}: auth-provider azure, which kubectl lost with 1.26"), CONVERT),
    }
}

fn exec(
    who: &str,
    found: &Found,
    command: &str,
    there: bool,
    versions: Versions,
    variables: Variables<'_>,
) -> Vec<Finding> {
    let ours = command.rsplit('/').next() == Some("nightlatch");
    let mut findings = Vec::new();
    if !there {
        let remedy = if ours {
            "put nightlatch into PATH".to_owned()
        } else {
            format!("install it, or {CONVERT}, so that it is not needed")
        };
        findings.push(fail(CHECK, format!("{who}: its plugin `{command}` is not there to run"), remedy));
    } else if !ours && versions.foreign_kubelogin && !command.contains('/') {
        let seen = format!("{who}: needs Azure's kubelogin; the one in PATH is another program of that name");
        findings.push(fail(CHECK, seen, CONVERT));
    }
    findings.extend(protocol(who, found, versions));
    if found.server_id.is_none() {
        findings.push(fail(
            CHECK,
            format!("{who}: no --server-id, without which no token can be asked for"),
            "add --server-id with the application id of the API server",
        ));
    }
    match mode(found) {
        "devicecode" => findings.push(warn(
            CHECK,
            format!("{who}: signs in with a device code, which Conditional Access blocks where it asks for a device"),
            "`nightlatch kubelogin convert-kubeconfig --login interactive` signs in with the browser",
        )),
        mode @ ("ropc" | "azurepipelines") if ours => findings.push(fail(
            CHECK,
            format!("{who}: --login {mode} is not supported"),
            "use devicecode, interactive, spn, msi, workloadidentity, azurecli or azd",
        )),
        _ => {}
    }
    if let Some(flag) = found.secret_flags.first() {
        let remedy =
            format!("renew the secret and configure it under [[broker.identity]]; {CONVERT} without it");
        findings.push(warn(CHECK, format!("{who}: {flag} puts a secret on every command line"), remedy));
    }
    let unknown_cloud = |cloud: &&String| !ENVIRONMENTS.iter().any(|known| known.eq_ignore_ascii_case(cloud));
    if let Some(cloud) = found.environment.as_ref().filter(unknown_cloud).filter(|_| !ours) {
        findings.push(warn(
            CHECK,
            format!("{who}: --environment {cloud} is not known; kubelogin takes it for the public cloud"),
            "write AzurePublicCloud, AzureUSGovernment or AzureChinaCloud",
        ));
    }
    if !ours && !found.ignores_environment {
        findings.extend(rewired(who, found, variables));
    }
    findings
}

fn protocol(who: &str, found: &Found, versions: Versions) -> Option<Finding> {
    let version = found.api_version.as_deref().unwrap_or_default();
    let version = version.strip_prefix("client.authentication.k8s.io/").unwrap_or(version);
    match (version, versions.kubectl) {
        ("v1alpha1", Some(kubectl)) if kubectl >= NO_V1ALPHA1 => {
            Some(fail(CHECK, format!("{who}: apiVersion v1alpha1, which kubectl lost with 1.24"), CONVERT))
        }
        ("v1alpha1", _) => {
            Some(warn(CHECK, format!("{who}: apiVersion v1alpha1, which kubectl lost with 1.24"), CONVERT))
        }
        ("v1", Some(kubectl)) if kubectl < HAS_V1 => Some(fail(
            CHECK,
            format!("{who}: apiVersion v1, which kubectl {}.{} does not know", kubectl.0, kubectl.1),
            "update kubectl to 1.22 or newer",
        )),
        _ => None,
    }
}

/// kubelogin lets the environment beat a flag that was given; a later variable beats an earlier one.
fn rewired(who: &str, found: &Found, variables: Variables<'_>) -> Vec<Finding> {
    let client: &[&str] = if found.arm_variables {
        &["ARM_CLIENT_ID"]
    } else {
        &["AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AZURE_CLIENT_ID"]
    };
    let tenant: &[&str] = if found.arm_variables { &["ARM_TENANT_ID"] } else { &["AZURE_TENANT_ID"] };
    let rows = [
        ("--client-id", &found.client_id, client),
        ("--tenant-id", &found.tenant_id, tenant),
        ("--login", &found.login, &["AAD_LOGIN_METHOD"]),
    ];
    let mut findings = Vec::new();
    for (flag, given, names) in rows {
        let own = |name: &str| found.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let set = names.iter().rev().find_map(|name| Some((*name, own(name).or_else(|| variables(name))?)));
        if let Some((name, value)) = set
            && given.as_ref() != Some(&value)
        {
            findings.push(warn(
                CHECK,
                format!("{who}: {name} in the environment beats its {flag}, so kubelogin signs in otherwise"),
                format!(
                    "unset {name}, or add --disable-environment-override; {CONVERT}, and then the flag counts"
                ),
            ));
        }
    }
    findings
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
