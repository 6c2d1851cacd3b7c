//! Old kubeconfigs and what becomes of them.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: ConvertOptions,
}

fn converted(yaml: &str, words: &[&str]) -> (usize, Value) {
    let line = Line::parse_from(std::iter::once("convert").chain(words.iter().copied()));
    let mut whole: Value = serde_yaml_ng::from_str(yaml).unwrap();
    let only = line.options.context.as_deref().map(|context| user_of(std::slice::from_ref(&whole), context));
    let done = convert(&mut whole, only.transpose().unwrap().as_deref(), &line.options).unwrap();
    (done.count, whole)
}

fn args(whole: &Value, at: usize) -> String {
    let args = whole["users"][at]["user"]["exec"]["args"].as_sequence().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

const SERVER: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

fn old(mode: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n\
         clusters: [{{name: k, cluster: {{server: 'https://k'}}}}]\nusers:\n- name: u\n  user:\n    auth-provider:\n      \
         name: azure\n      config:\n        apiserver-id: {SERVER}\n        client-id: app\n        \
         environment: AzurePublicCloud\n        tenant-id: t\n{mode}- name: other\n  user: {{token: x}}\n"
    )
}

#[test]
fn auth_providers_of_both_modes_become_the_plugin() {
    let (count, whole) = converted(&old("        config-mode: '1'\n"), &[]);
    assert_eq!(count, 1);
    assert_eq!(
        args(&whole, 0),
        format!(
            "kubelogin get-token --login devicecode --server-id {SERVER} --client-id app --tenant-id t \
             --environment AzurePublicCloud"
        )
    );
    assert!(whole["users"][0]["user"].get("auth-provider").is_none());
    assert_eq!(whole["users"][1]["user"]["token"], "x");
    assert_eq!(whole["clusters"][0]["cluster"]["server"], "https://k");
    for mode in ["        config-mode: '0'\n", ""] {
        let (_, whole) = converted(&old(mode), &[]);
        assert!(args(&whole, 0).ends_with("--legacy"), "{}", args(&whole, 0));
    }
}

#[test]
fn a_managed_identity_does_not_inherit_the_public_client() {
    let (_, whole) = converted(&old(""), &["--login", "msi"]);
    assert_eq!(args(&whole, 0), format!("kubelogin get-token --login msi --server-id {SERVER}"));
    let (_, whole) = converted(&old(""), &["--login", "msi", "--client-id", "mi"]);
    assert!(args(&whole, 0).contains("--client-id mi"));
}

#[test]
fn an_exec_of_kubelogin_keeps_what_it_said() {
    let yaml = "users:\n- name: u\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      \
        command: /usr/local/bin/kubelogin\n      args: [get-token, --login, devicecode, --server-id=s, \
        --client-id, app, --tenant-id, t, --environment, AzurePublicCloud, --pop-enabled, --pop-claims, u=/a]\n";
    let (count, whole) = converted(yaml, &["--login", "interactive"]);
    assert_eq!(count, 1);
    let line = args(&whole, 0);
    assert!(
        line.starts_with("kubelogin get-token --login interactive --server-id s --client-id app"),
        "{line}"
    );
    assert!(line.contains("--pop-claims u=/a --pop-enabled"), "{line}");
    assert_eq!(whole["users"][0]["user"]["exec"]["apiVersion"], "client.authentication.k8s.io/v1");
    let again = serde_yaml_ng::to_string(&whole).unwrap();
    let (count, twice) = converted(&again, &[]);
    assert_eq!((count, args(&twice, 0)), (1, line));
}

#[test]
fn only_the_named_context_is_touched_and_a_wrong_one_is_said() {
    let (count, _) = converted(&old(""), &["--context", "c"]);
    assert_eq!(count, 1);
    let line = Line::parse_from(["convert", "--context", "nope"]);
    let whole: Value = serde_yaml_ng::from_str(&old("")).unwrap();
    let context = line.options.context.as_deref().unwrap();
    assert!(user_of(&[whole], context).unwrap_err().contains("no context `nope`"));
    assert_eq!(converted("users:\n- name: u\n  user: {token: x}\n", &[]).0, 0);
}

/// A kubeconfig of `tests/interop/kubeconfigs`, converted: how many users, what was said, what came of it.
fn fixture(name: &str, words: &[&str]) -> (usize, Vec<String>, Value) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/kubeconfigs");
    let mut whole = read(Path::new(&format!("{folder}/{name}.yaml"))).unwrap();
    let line = Line::parse_from(std::iter::once("convert").chain(words.iter().copied()));
    let only = line.options.context.as_deref().map(|context| user_of(std::slice::from_ref(&whole), context));
    let done = convert(&mut whole, only.transpose().unwrap().as_deref(), &line.options).unwrap();
    (done.count, done.notes, whole)
}

const CLIENT: &str = "80faf920-1908-4b52-b5ef-a8e7bedfc67a";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn kubeconfigs_of_all_years_become_the_plugin() {
    let person = |login: &str, environment: &str| {
        format!(
            "kubelogin get-token --login {login} --server-id {SERVER} --client-id {CLIENT} --tenant-id {TENANT} \
             --environment {environment}"
        )
    };
    let public = person("devicecode", "AzurePublicCloud");
    let edge = "6256c85f-0aad-4d50-b960-e6e9b21efe35";
    let cluster = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/rg-arc/providers/\
                   Microsoft.Kubernetes/connectedClusters/edge";
    let rows = [
        ("auth-provider-mode-absent", format!("{public} --legacy")),
        ("auth-provider-mode-0", format!("{public} --legacy")),
        ("auth-provider-mode-1", public.clone()),
        ("auth-provider-mode-1-us-government", person("devicecode", "AzureUSGovernmentCloud")),
        ("exec-devicecode", public.clone()),
        ("exec-devicecode-v1", public.clone()),
        ("exec-legacy", format!("{public} --legacy")),
        ("exec-azurecli", format!("kubelogin get-token --login azurecli --server-id {SERVER}")),
        (
            "exec-msi",
            format!(
                "kubelogin get-token --login msi --server-id {SERVER} \
                 --client-id 1de40000-0000-4000-8000-000000000001"
            ),
        ),
        (
            "exec-spn",
            format!(
                "kubelogin get-token --login spn --server-id {SERVER} \
                 --client-id c1a00000-0000-4000-8000-00000000000c --tenant-id {TENANT} \
                 --environment AzurePublicCloud"
            ),
        ),
        (
            "aksarc",
            format!(
                "kubelogin get-token --login interactive --server-id {edge} \
                 --client-id 3f4439ff-e698-4d6d-84fe-09c9d574f06b --tenant-id {TENANT} \
                 --environment AzurePublicCloud --pop-claims u={cluster} --pop-enabled"
            ),
        ),
    ];
    for (name, expected) in rows {
        let (count, _, whole) = fixture(name, &[]);
        assert_eq!((count, args(&whole, 0)), (1, expected), "{name}");
        let user = &whole["users"][0]["user"];
        assert!(user.get("auth-provider").is_none(), "{name}");
        assert_eq!((&user["exec"]["command"], user["exec"].get("installHint")), (&"nightlatch".into(), None));
        let text = serde_yaml_ng::to_string(&whole).unwrap();
        assert!(!text.contains("stale.access.token") && !text.contains("on-the-command-line"), "{name}");
        // Everything that is no user is as it was.
        let before: Value = {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/kubeconfigs");
            read(Path::new(&format!("{folder}/{name}.yaml"))).unwrap()
        };
        for part in ["clusters", "contexts", "current-context", "kind", "apiVersion", "preferences"] {
            assert_eq!(whole[part], before[part], "{name}: {part}");
        }
    }
}

#[test]
fn what_an_exec_said_beside_its_arguments_is_kept_but_for_secrets() {
    let (_, _, whole) = fixture("exec-devicecode-v1", &[]);
    let exec = &whole["users"][0]["user"]["exec"];
    assert_eq!(exec["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(exec["interactiveMode"], "IfAvailable");
    let (_, _, whole) = fixture("exec-azurecli", &[]);
    let env = &whole["users"][0]["user"]["exec"]["env"];
    assert_eq!(
        (&env[0]["name"], &env[0]["value"]),
        (&"AZURE_CONFIG_DIR".into(), &"/home/dev/.azure-shop".into())
    );
    let (_, _, whole) = fixture("exec-azurecli", &["--azure-config-dir", "/a"]);
    let env = &whole["users"][0]["user"]["exec"]["env"];
    assert_eq!((env.as_sequence().unwrap().len(), &env[0]["value"]), (1, &"/a".into()));
    let (_, notes, _) = fixture("exec-spn", &[]);
    assert!(notes.len() == 1 && notes[0].contains("--client-secret of the user"), "{notes:?}");
    assert!(!notes[0].contains("on-the-command-line"));
    let yaml = "users:\n- name: u\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1alpha1\n      \
        command: kubelogin\n      interactiveMode: Never\n      args: [get-token, --login, spn, --server-id, s]\n      \
        env: [{name: AZURE_CLIENT_SECRET, value: hunter2}, {name: HTTPS_PROXY, value: 'http://p'}]\n";
    let mut whole: Value = serde_yaml_ng::from_str(yaml).unwrap();
    let done = convert(&mut whole, None, &Line::parse_from(["convert"]).options).unwrap();
    assert!(done.notes[0].starts_with("AZURE_CLIENT_SECRET of the user `u`"), "{done:?}");
    let exec = &whole["users"][0]["user"]["exec"];
    assert_eq!(exec["env"].as_sequence().unwrap().len(), 1);
    assert_eq!(exec["interactiveMode"], "Never");
    // kubectl has not known v1alpha1 since 1.24.
    assert_eq!(exec["apiVersion"], VERSIONS[0]);
}

#[test]
fn another_mode_takes_over_no_more_than_it_can_use() {
    let (_, _, whole) = fixture("exec-devicecode", &["--login", "azurecli"]);
    assert_eq!(args(&whole, 0), format!("kubelogin get-token --login azurecli --server-id {SERVER}"));
    let (_, _, whole) = fixture("auth-provider-mode-0", &["--login", "msi"]);
    assert_eq!(args(&whole, 0), format!("kubelogin get-token --login msi --server-id {SERVER}"));
    let (_, _, whole) = fixture("exec-devicecode", &["--login", "azurecli", "--tenant-id", "t"]);
    assert!(args(&whole, 0).ends_with("--tenant-id t"));
}

#[test]
fn users_of_nobody_in_azure_stay() {
    let (count, notes, whole) = fixture("admin", &[]);
    let user = &whole["users"][0]["user"];
    assert_eq!((count, notes.len(), user.get("exec")), (0, 0, None));
    assert_eq!(user["token"], "not-a-token");
    let (count, _, whole) = fixture("many", &[]);
    assert_eq!((count, &whole["users"][2]["user"]["exec"]["command"]), (2, &"another-cloud".into()));
    assert_eq!(whole["contexts"][0]["context"]["namespace"], "team");
    let (count, _, whole) = fixture("many", &["--context", "new"]);
    assert_eq!((count, whole["users"][0]["user"].get("exec")), (1, None));
    assert_eq!(whole["users"][1]["user"]["exec"]["command"], "nightlatch");
    // A program of the same name signs in at any OpenID provider.
    let yaml = "users:\n- name: u\n  user:\n    exec:\n      command: kubelogin\n      \
        args: [get-token, '--oidc-issuer-url=https://i']\n";
    assert_eq!(converted(yaml, &[]).0, 0);
}

#[test]
fn each_listed_file_keeps_its_own_users() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let user = |name: &str, server: &str| {
        format!(
            "contexts:\n- {{name: {name}, context: {{user: {name}, cluster: k}}}}\nusers:\n- name: {name}\n  user:\n    \
             exec: {{command: kubelogin, args: [get-token, --server-id, {server}]}}\n"
        )
    };
    let fill = || {
        std::fs::write(at("a"), user("one", "a")).unwrap();
        std::fs::write(at("b"), user("two", "b")).unwrap();
        std::fs::write(at("c"), user("one", "c")).unwrap();
    };
    let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let files = [at("a"), at("b"), at("c")];
    let go = |words: &[&str]| {
        let line = Line::parse_from(std::iter::once("convert").chain(words.iter().copied()));
        convert_files(&files, &line.options)
    };
    fill();
    std::fs::set_permissions(at("b"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(go(&[]).unwrap().count, 3);
    assert!(text("a").contains("nightlatch") && !text("a").contains("two"));
    assert!(text("b").contains("nightlatch") && !text("b").contains("one"));
    assert_eq!(std::fs::metadata(at("b")).unwrap().permissions().mode() & 0o777, 0o600);
    fill();
    assert_eq!(go(&["--context", "one"]).unwrap().count, 1);
    assert!(
        text("a").contains("nightlatch")
            && !text("b").contains("nightlatch")
            && !text("c").contains("nightlatch")
    );
    // One file that cannot be read, and none is written.
    fill();
    std::fs::write(at("c"), "users: [").unwrap();
    assert!(go(&[]).unwrap_err().contains("/c: "));
    assert!(!text("a").contains("nightlatch"));
    let line = Line::parse_from(["convert"]);
    assert!(convert_files(&[], &line.options).unwrap_err().contains("--kubeconfig"));
}
