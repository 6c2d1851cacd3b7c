//! One kubeconfig per rule, and those that break none.

use super::*;
use crate::attach::doctor::State;

const KUBECTL: Versions = Versions { kubectl: Some(Version(1, 32)), foreign_kubelogin: false };

fn nothing(_: &str) -> Option<String> {
    None
}

fn looked(whole: &Value, versions: Versions, variables: Variables<'_>) -> Vec<Finding> {
    let can_run =
        |file: &Path| file == Path::new("/bin/kubelogin") || file == Path::new("/k/tools/kubelogin");
    let plugins = Plugins { path: Some(OsStr::new("/usr/bin:/bin")), can_run: &can_run };
    examine(Path::new("/k/config"), whole, versions, variables, plugins)
}

fn user(exec: &str) -> Value {
    serde_yaml_ng::from_str(&format!("users:\n- name: u\n  user:\n    exec: {exec}\n")).unwrap()
}

fn plugin(arguments: &str) -> Value {
    user(&format!(
        "{{apiVersion: client.authentication.k8s.io/v1beta1, command: kubelogin, args: [get-token, {arguments}]}}"
    ))
}

fn fixture(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/kubeconfigs");
    crate::cli::kubelogin::files::read(Path::new(&format!("{folder}/{name}.yaml"))).unwrap()
}

/// The state and a part of what was seen, of the only finding.
#[track_caller]
fn only(findings: &[Finding], state: State, part: &str) {
    assert!(
        findings.len() == 1 && findings[0].state == state && findings[0].seen.contains(part),
        "{findings:?}"
    );
    assert_eq!(findings[0].remedy.is_empty(), state == State::Ok, "{findings:?}");
}

const GOOD: &str = "--login, azurecli, --server-id, s";

#[test]
fn kubeconfigs_of_all_years_are_judged() {
    let of = |name: &str| looked(&fixture(name), KUBECTL, &nothing);
    only(&of("auth-provider-mode-0"), State::Fail, "auth-provider azure, which kubectl 1.32 does not have");
    only(&of("exec-devicecode"), State::Warn, "Conditional Access");
    only(&of("exec-azurecli"), State::Ok, "signs in by azurecli");
    only(&of("exec-spn"), State::Warn, "--client-secret puts a secret");
    only(&of("aksarc"), State::Ok, "signs in by interactive");
    only(&of("admin"), State::Ok, "no user of /k/config signs in with Azure");
    assert_eq!(of("many").len(), 2, "{:?}", of("many"));
    assert!(!format!("{:?}", of("exec-spn")).contains("on-the-command-line"));
}

#[test]
fn an_auth_provider_is_a_fault_where_kubectl_has_lost_it() {
    let of = |kubectl| looked(&fixture("auth-provider-mode-1"), Versions { kubectl, ..KUBECTL }, &nothing);
    only(&of(Some(Version(1, 26))), State::Fail, "1.26");
    only(&of(Some(Version(1, 25))), State::Warn, "1.26");
    only(&of(None), State::Warn, "1.26");
}

#[test]
fn a_plugin_must_be_there_and_be_azures() {
    let command = |command: &str| {
        let exec = format!("{{command: {command}, args: [get-token, {GOOD}]}}");
        looked(&user(&exec), KUBECTL, &nothing)
    };
    only(&command("kubelogin"), State::Ok, "azurecli");
    only(&command("tools/kubelogin"), State::Ok, "azurecli");
    only(&command("/opt/kubelogin"), State::Fail, "`/opt/kubelogin` is not there");
    only(&command("nightlatch"), State::Fail, "`nightlatch` is not there");
    let foreign = Versions { foreign_kubelogin: true, ..KUBECTL };
    only(&looked(&plugin(GOOD), foreign, &nothing), State::Fail, "another program of that name");
}

#[test]
fn versions_of_the_protocol_come_and_go() {
    let of = |version: &str, kubectl| {
        let exec = format!(
            "{{apiVersion: client.authentication.k8s.io/{version}, command: kubelogin, args: [get-token, {GOOD}]}}"
        );
        looked(&user(&exec), Versions { kubectl, ..KUBECTL }, &nothing)
    };
    only(&of("v1alpha1", Some(Version(1, 24))), State::Fail, "v1alpha1");
    only(&of("v1alpha1", Some(Version(1, 23))), State::Warn, "v1alpha1");
    only(&of("v1", Some(Version(1, 21))), State::Fail, "apiVersion v1, which kubectl 1.21");
    only(&of("v1", Some(Version(1, 22))), State::Ok, "azurecli");
    only(&of("v1beta1", None), State::Ok, "azurecli");
}

#[test]
fn arguments_that_cannot_work_are_named() {
    let of = |arguments: &str| looked(&plugin(arguments), KUBECTL, &nothing);
    only(&of("--login, azurecli"), State::Fail, "no --server-id");
    only(&of(&format!("{GOOD}, --environment, AzureMoonCloud")), State::Warn, "AzureMoonCloud is not known");
    only(&of(&format!("{GOOD}, --environment, azureusgovernment")), State::Ok, "azurecli");
    let ours = "{command: nightlatch, args: [kubelogin, get-token, -l, ropc, --server-id, s]}";
    let findings = looked(&user(ours), KUBECTL, &nothing);
    assert!(
        findings.iter().any(|f| f.state == State::Fail && f.seen.contains("--login ropc")),
        "{findings:?}"
    );
}

#[test]
fn an_environment_that_rewires_kubelogin_is_named() {
    let stray = |name: &str| (name == "AZURE_CLIENT_ID").then(|| "stray".to_owned());
    let own = format!("{GOOD}, --client-id, mine");
    only(
        &looked(&plugin(&own), KUBECTL, &stray),
        State::Warn,
        "AZURE_CLIENT_ID in the environment beats its --client-id",
    );
    only(&looked(&plugin(&format!("{GOOD}, --client-id, stray")), KUBECTL, &stray), State::Ok, "azurecli");
    let deaf = format!("{own}, --disable-environment-override");
    only(&looked(&plugin(&deaf), KUBECTL, &stray), State::Ok, "azurecli");
    let arm = format!("{own}, --use-azurerm-env-vars");
    only(&looked(&plugin(&arm), KUBECTL, &stray), State::Ok, "azurecli");
    let login = |name: &str| (name == "AAD_LOGIN_METHOD").then(|| "devicecode".to_owned());
    only(&looked(&plugin(GOOD), KUBECTL, &login), State::Warn, "beats its --login");
    // The plugin's own variables are its environment, too.
    let exec = format!(
        "{{command: kubelogin, args: [get-token, {GOOD}], env: [{{name: AZURE_TENANT_ID, value: t}}]}}"
    );
    only(&looked(&user(&exec), KUBECTL, &nothing), State::Warn, "AZURE_TENANT_ID");
}
