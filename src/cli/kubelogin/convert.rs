//! `nightlatch kubelogin convert-kubeconfig`: the Azure users of a kubeconfig ask Nightlatch from now on.
//!
//! Everything else in the file stays as it is in meaning; comments do not survive, as with kubectl's own
//! edits. Where `$KUBECONFIG` lists several files, each keeps its own users, as when kubectl writes; no file
//! is written before all were understood. A secret that stood in the file is left out, and that is said.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_yaml_ng::{Mapping, Value};

use super::effective::Login;
use super::files::{kubeconfigs, named, read};
use super::legacy::{self, Found};
use super::options::Options;
use crate::cli::output::{NO, UNKNOWN, YES, complain, say};
use crate::store::replace_file;

/// The versions of the plugin's protocol; the first is written where the user had another or none.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1beta1", "client.authentication.k8s.io/v1"];
/// When the plugin may talk to the person: only where kubectl has a terminal.
const DEFAULT_INTERACTIVE: &str = "IfAvailable";

/// `nightlatch kubelogin convert-kubeconfig`
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ConvertOptions {
    /// The file; otherwise all of $KUBECONFIG that exist, else ~/.kube/config.
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

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Converted {
    /// How many users.
    count: usize,
    /// Sentences about secrets that were left out.
    notes: Vec<String>,
}

pub(super) fn run(options: &ConvertOptions) -> u8 {
    let listed = std::env::var_os("KUBECONFIG");
    let home = std::env::home_dir();
    let files = kubeconfigs(options.kubeconfig.as_deref(), listed.as_deref(), home.as_deref());
    match convert_files(&files, options) {
        Ok(done) => {
            done.notes.iter().for_each(|note| complain(note));
            if done.count == 0 {
                complain("no user of this kubeconfig signs in with Azure; nothing was changed");
                return NO;
            }
            say(&format!("converted {} user{}", done.count, if done.count == 1 { "" } else { "s" }));
            YES
        }
        Err(why) => {
            complain(&why);
            UNKNOWN
        }
    }
}

fn convert_files(files: &[PathBuf], options: &ConvertOptions) -> Result<Converted, String> {
    if files.is_empty() {
        return Err(
            "no kubeconfig: none of $KUBECONFIG and no ~/.kube/config; name it with --kubeconfig".to_owned()
        );
    }
    let mut wholes = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let only = options.context.as_deref().map(|context| user_of(&wholes, context)).transpose()?;
    let mut all = Converted::default();
    let mut changed = Vec::new();
    for (file, whole) in files.iter().zip(&mut wholes) {
        // Of two users with one name kubectl sees that of the first file; a context means that one.
        if only.is_some() && all.count > 0 {
            break;
        }
        let one =
            convert(whole, only.as_deref(), options).map_err(|why| format!("{}: {why}", file.display()))?;
        if one.count > 0 {
            changed.push((file, serde_yaml_ng::to_string(whole).map_err(|cause| cause.to_string())?));
        }
        all.count += one.count;
        all.notes.extend(one.notes);
    }
    for (file, text) in changed {
        write(file, &text).map_err(|cause| format!("{}: {cause}", file.display()))?;
    }
    Ok(all)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    let about = std::fs::metadata(file).map_err(|cause| cause.to_string())?;
    // A link is followed, so that the file itself is replaced and not the link to it.
    let real = file.canonicalize().map_err(|cause| cause.to_string())?;
    let mode = about.permissions().mode() & 0o777;
    replace_file(&real, text.as_bytes(), mode, true).map_err(|cause| cause.to_string())
}

/// The user of a context; of two contexts with one name that of the first file counts, as with kubectl.
fn user_of(wholes: &[Value], context: &str) -> Result<String, String> {
    let mut contexts = wholes.iter().flat_map(|whole| named(whole, "contexts"));
    let found = contexts.find(|(name, _)| *name == context);
    let user = found.and_then(|(_, entry)| entry.get("context")?.get("user")?.as_str());
    user.map(str::to_owned).ok_or_else(|| format!("there is no context `{context}` with a user"))
}

/// Converts the users of one file.
fn convert(whole: &mut Value, only: Option<&str>, options: &ConvertOptions) -> Result<Converted, String> {
    let mut done = Converted::default();
    let Some(users) = whole.get_mut("users").and_then(Value::as_sequence_mut) else { return Ok(done) };
    for entry in users {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let wanted = only.is_none_or(|only| name == only);
        // Shown on a terminal, which must not obey it.
        let name = name.escape_debug().to_string();
        let Some(found) = entry.get("user").and_then(legacy::read).filter(|_| wanted) else { continue };
        if found.server_id.is_none() && options.token.server_id.is_none() {
            return Err(format!("the user `{name}` names no server id; give it with --server-id"));
        }
        let (exec, left_out) = exec(&found, options);
        for secret in left_out {
            done.notes.push(format!(
                "{secret} of the user `{name}` was left out: the broker holds credentials. It stood in a file; \
                 renew it and configure it under [[broker.identity]]"
            ));
        }
        let Some(user) = entry.get_mut("user").and_then(Value::as_mapping_mut) else { continue };
        user.remove("auth-provider");
        user.insert("exec".into(), exec);
        done.count += 1;
    }
    Ok(done)
}

/// The plugin's entry and the names of what was left out. What was given now beats what stood there; the old
/// client id is the public client application of AKS, so only a person's sign-in keeps it.
fn exec(found: &Found, options: &ConvertOptions) -> (Value, BTreeSet<String>) {
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
    // az refuses a tenant where it is signed in with a managed identity, so only one that was meant stays.
    let tenant = found.tenant_id.as_ref().filter(|_| person || same || login == "spn");
    put("--tenant-id", &given.tenant_id, tenant.filter(|_| login != "msi"));
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
    let (env, mut left_out) = environment(found, options.azure_config_dir.as_deref());
    left_out.extend(found.secret_flags.iter().cloned());
    let version = found.api_version.as_deref().filter(|version| VERSIONS.contains(version));
    let mut exec = Mapping::new();
    exec.insert("apiVersion".into(), version.unwrap_or(VERSIONS[0]).into());
    exec.insert("command".into(), "nightlatch".into());
    exec.insert("args".into(), Value::Sequence(args.into_iter().map(Value::from).collect()));
    exec.insert("env".into(), env);
    let interactive = found.interactive_mode.as_deref().unwrap_or(DEFAULT_INTERACTIVE);
    exec.insert("interactiveMode".into(), interactive.into());
    exec.insert("provideClusterInfo".into(), false.into());
    (Value::Mapping(exec), left_out)
}

/// The variables for the plugin: those that stood there but for secrets, and the folder of `az`.
fn environment(found: &Found, azure_config_dir: Option<&str>) -> (Value, BTreeSet<String>) {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut left_out = BTreeSet::new();
    for (name, value) in &found.env {
        if legacy::is_secret_variable(name) {
            left_out.insert(name.clone());
        } else if azure_config_dir.is_none() || name != "AZURE_CONFIG_DIR" {
            pairs.push((name.clone(), value.clone()));
        }
    }
    pairs.extend(azure_config_dir.map(|folder| ("AZURE_CONFIG_DIR".to_owned(), folder.to_owned())));
    if pairs.is_empty() {
        return (Value::Null, left_out);
    }
    let entry = |(name, value): (String, String)| {
        let mut pair = Mapping::new();
        pair.insert("name".into(), name.into());
        pair.insert("value".into(), value.into());
        pair.into()
    };
    (Value::Sequence(pairs.into_iter().map(entry).collect()), left_out)
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
