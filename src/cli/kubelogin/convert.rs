//! `nightlatch kubelogin convert-kubeconfig`: the Azure users of a kubeconfig ask Nightlatch from now on.
//!
//! Everything else in the file stays as it is in meaning; comments do not survive, as with kubectl's own
//! edits. The file is replaced whole, or not at all.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Args;
use serde_yaml_ng::{Mapping, Value};

use super::legacy::{Found, read};
use super::options::{Login, Options};
use crate::cli::output::{NO, UNKNOWN, YES, complain, say};
use crate::store::replace_file;

/// The largest kubeconfig, in bytes.
const MAX_KUBECONFIG_BYTES: usize = 4 * 1024 * 1024;
/// The version where the user had none.
const DEFAULT_VERSION: &str = "client.authentication.k8s.io/v1beta1";

/// `nightlatch kubelogin convert-kubeconfig`
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ConvertOptions {
    /// The file; otherwise the first of $KUBECONFIG, else ~/.kube/config.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Only the user of this context.
    #[arg(long)]
    context: Option<String>,
    /// Written into the environment of the plugin, for `--login azurecli`.
    #[arg(long)]
    azure_config_dir: Option<String>,
    #[command(flatten)]
    token: Options,
}

pub(super) fn run(options: &ConvertOptions) -> u8 {
    match convert_file(options) {
        Ok(0) => {
            complain("no user of this kubeconfig signs in with Azure; nothing was changed");
            NO
        }
        Ok(count) => {
            say(&format!("converted {count} user{}", if count == 1 { "" } else { "s" }));
            YES
        }
        Err(why) => {
            complain(&why);
            UNKNOWN
        }
    }
}

fn convert_file(options: &ConvertOptions) -> Result<usize, String> {
    let file =
        options.kubeconfig.clone().or_else(default_file).ok_or("no kubeconfig; name it with --kubeconfig")?;
    let name = file.display();
    let bytes = std::fs::read(&file).map_err(|cause| format!("{name}: {cause}"))?;
    if bytes.len() > MAX_KUBECONFIG_BYTES {
        return Err(format!("{name}: larger than {MAX_KUBECONFIG_BYTES} bytes; is it a kubeconfig?"));
    }
    let mut whole: Value = serde_yaml_ng::from_slice(&bytes).map_err(|cause| format!("{name}: {cause}"))?;
    let count = convert(&mut whole, options).map_err(|why| format!("{name}: {why}"))?;
    if count > 0 {
        let text = serde_yaml_ng::to_string(&whole).map_err(|cause| cause.to_string())?;
        let about = std::fs::metadata(&file).map_err(|cause| format!("{name}: {cause}"))?;
        // A link is followed, so that the file itself is replaced and not the link to it.
        let real = file.canonicalize().map_err(|cause| format!("{name}: {cause}"))?;
        replace_file(&real, text.as_bytes(), about.permissions().mode() & 0o777, true)
            .map_err(|cause| format!("{name}: {cause}"))?;
    }
    Ok(count)
}

fn default_file() -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG");
    let first =
        listed.as_ref().and_then(|list| std::env::split_paths(list).find(|p| !p.as_os_str().is_empty()));
    first.or_else(|| std::env::home_dir().map(|home| home.join(".kube/config")))
}

/// Converts the users; answers how many.
fn convert(whole: &mut Value, options: &ConvertOptions) -> Result<usize, String> {
    let only = options.context.as_deref().map(|context| user_of(whole, context)).transpose()?;
    let users = whole.get_mut("users").and_then(Value::as_sequence_mut).ok_or("it has no list of users")?;
    let mut count = 0;
    for entry in users {
        let wanted =
            only.as_deref().is_none_or(|only| entry.get("name").and_then(Value::as_str) == Some(only));
        let Some(found) = entry.get("user").and_then(read).filter(|_| wanted) else { continue };
        if found.server_id.is_none() && options.token.server_id.is_none() {
            return Err("a user names no server id; give it with --server-id".to_owned());
        }
        let exec = exec(&found, options);
        let Some(user) = entry.get_mut("user").and_then(Value::as_mapping_mut) else { continue };
        user.remove("auth-provider");
        user.insert("exec".into(), exec);
        count += 1;
    }
    Ok(count)
}

fn user_of(whole: &Value, context: &str) -> Result<String, String> {
    let contexts = whole.get("contexts").and_then(Value::as_sequence);
    let named =
        contexts.into_iter().flatten().find(|c| c.get("name").and_then(Value::as_str) == Some(context));
    let user = named.and_then(|c| c.get("context")?.get("user")?.as_str());
    user.map(str::to_owned).ok_or_else(|| format!("it has no context `{context}` with a user"))
}

/// The plugin's entry. What was given now beats what stood there; the old client id is the public client
/// application of AKS, so only a person's sign-in keeps it.
fn exec(found: &Found, options: &ConvertOptions) -> Value {
    let given = &options.token;
    let login =
        given.login.map_or_else(|| found.login.clone().unwrap_or_else(|| "devicecode".into()), Login::word);
    let person = matches!(login.as_str(), "devicecode" | "interactive");
    let same = found.login.as_deref().unwrap_or("devicecode") == login;
    let mut args: Vec<String> = ["kubelogin", "get-token", "--login", &login].map(str::to_owned).to_vec();
    let mut put = |flag: &str, given: &Option<String>, found: Option<&String>| {
        if let Some(value) = given.as_ref().or(found) {
            args.extend([flag.to_owned(), value.clone()]);
        }
    };
    put("--server-id", &given.server_id, found.server_id.as_ref());
    put("--client-id", &given.client_id, found.client_id.as_ref().filter(|_| person || same));
    put("--tenant-id", &given.tenant_id, found.tenant_id.as_ref().filter(|_| login != "msi"));
    put("--environment", &given.environment, found.environment.as_ref().filter(|_| person || login == "spn"));
    put(
        "--identity-resource-id",
        &given.identity_resource_id,
        found.identity_resource_id.as_ref().filter(|_| same),
    );
    put("--subscription", &given.subscription, found.subscription.as_ref().filter(|_| same));
    put("--login-hint", &given.login_hint, found.login_hint.as_ref().filter(|_| person));
    let pop = given.pop_enabled || found.pop_enabled;
    if pop {
        put("--pop-claims", &given.pop_claims, found.pop_claims.as_ref());
        args.push("--pop-enabled".to_owned());
    }
    if given.legacy || (found.legacy && (person || login == "spn")) {
        args.push("--legacy".to_owned());
    }
    let env = options.azure_config_dir.as_ref().map_or(Value::Null, |folder| {
        let mut pair = Mapping::new();
        pair.insert("name".into(), "AZURE_CONFIG_DIR".into());
        pair.insert("value".into(), folder.clone().into());
        Value::Sequence(vec![pair.into()])
    });
    let version = found.api_version.as_deref().unwrap_or(DEFAULT_VERSION);
    let mut exec = Mapping::new();
    exec.insert("apiVersion".into(), version.into());
    exec.insert("command".into(), "nightlatch".into());
    exec.insert("args".into(), Value::Sequence(args.into_iter().map(Value::from).collect()));
    exec.insert("env".into(), env);
    exec.insert("interactiveMode".into(), "IfAvailable".into());
    exec.insert("provideClusterInfo".into(), false.into());
    Value::Mapping(exec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ConvertOptions,
    }

    fn converted(yaml: &str, words: &[&str]) -> (usize, Value) {
        let line = Line::parse_from(std::iter::once("convert").chain(words.iter().copied()));
        let mut whole = serde_yaml_ng::from_str(yaml).unwrap();
        let count = convert(&mut whole, &line.options).unwrap();
        (count, whole)
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
        let mut whole = serde_yaml_ng::from_str(&old("")).unwrap();
        assert!(convert(&mut whole, &line.options).unwrap_err().contains("no context `nope`"));
        assert_eq!(converted("users:\n- name: u\n  user: {token: x}\n", &[]).0, 0);
    }
}
