//! Every value of the configuration with its source, for `config show`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use super::azure_facts;
use super::daemon::{DaemonError, Paths};
use super::settings::{DEFAULT_LOGIN_GRACE, Machine, Settings};
use crate::config::{Entry, Loaded, Origin, RoleScope, Span, load};
use crate::login::DEFAULT_EXPIRATION;

/// The values that files set, or, when `effective`, all that are in force.
///
/// # Errors
/// A file that is refused; with `effective` also a configuration with which the daemon would not start.
pub fn entries(paths: &Paths, effective: bool) -> Result<Vec<Entry>, DaemonError> {
    let loaded = load(&paths.config, &paths.drop_ins)?;
    let set = written(&loaded);
    if !effective {
        return Ok(set);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| DaemonError::Os("start the runtime", cause))?;
    let machine = runtime.block_on(azure_facts::find_out(&loaded.config));
    let settings = Settings::resolve(loaded.config, &machine)?;
    Ok(overlay(in_force(&settings, &machine), set))
}

/// What the files say, in the order of the keys. A file that changed a moment ago gives an empty value.
fn written(loaded: &Loaded) -> Vec<Entry> {
    let mut tables: BTreeMap<&Path, toml::Table> = BTreeMap::new();
    let mut entries = Vec::new();
    for (key, path) in &loaded.origins {
        let table = tables.entry(path).or_insert_with(|| {
            std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
        });
        let value = look_up(table, key).map_or_else(String::new, ToString::to_string);
        entries.push(Entry { key: key.clone(), value, origin: Origin::File(path.clone()) });
    }
    entries
}

fn look_up<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    // A quoted key may hold dots itself (`login.uid_overrides."a@b.c"`), so the whole rest is tried first.
    if let Some(value) = table.get(key) {
        return Some(value);
    }
    let (first, rest) = key.split_once('.')?;
    look_up(table.get(first)?.as_table()?, rest)
}

/// Files win, but `auto` is an order to look elsewhere.
fn overlay(mut all: Vec<Entry>, set: Vec<Entry>) -> Vec<Entry> {
    for entry in set.into_iter().filter(|entry| entry.value != "\"auto\"") {
        match all.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => *known = entry,
            None => all.push(entry),
        }
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// What is in force where no file says anything.
fn in_force(settings: &Settings, machine: &Machine) -> Vec<Entry> {
    let gate = settings.gate();
    let azure = |known: bool| if known { Origin::Machine("azure.json or IMDS") } else { Origin::Default };
    let text = |value: &str| toml::Value::from(value).to_string();
    let maybe = |value: Option<&String>| value.map_or_else(|| "not set".to_owned(), |value| text(value));
    let path = |path: &Path| text(&path.display().to_string());
    let words =
        |list: &[String]| format!("[{}]", list.iter().map(|word| text(word)).collect::<Vec<_>>().join(", "));
    let span = |seconds: i64| text(&Span(seconds).to_string());
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let scopes = [RoleScope::Node, RoleScope::Cluster].map(|scope| word(&scope));
    let sources: Vec<String> = settings.ca_sources.iter().map(word).collect();
    let rows = [
        ("tenant", text(&settings.tenant.to_string()), azure(machine.tenant.is_some())),
        ("cloud", text(&format!("{:?}", settings.cloud)), azure(machine.cloud.is_some())),
        ("mode", text(&word(&settings.mode)), Origin::Default),
        ("node.kind", text(&word(&settings.kind)), azure(machine.kind.is_some())),
        ("node.resource_id", maybe(machine.resource_id.as_ref()), azure(machine.resource_id.is_some())),
        ("node.cluster_id", maybe(None), Origin::Default),
        ("node.region", maybe(settings.region.as_ref()), azure(machine.region.is_some())),
        ("node.client_id", maybe(settings.client_id.as_ref()), azure(machine.client_id.is_some())),
        (
            "node.token_file",
            settings.token_file.as_deref().map_or_else(|| maybe(None), path),
            Origin::Default,
        ),
        ("trust.ca", words(&sources), Origin::Default),
        ("trust.ca_file", path(&settings.ca_file), Origin::Default),
        ("trust.max_lifetime", span(gate.admit.max_lifetime), Origin::Default),
        ("trust.ca_grace", span(settings.ca_grace), Origin::Default),
        ("trust.revoked_file", path(&settings.revoked_file), Origin::Default),
        ("openpubkey.client_ids", words(&super::openpubkey::clients(settings)), Origin::Default),
        ("openpubkey.require_amr", words(&[]), Origin::Default),
        ("openpubkey.require_acrs", words(&[]), Origin::Default),
        ("openpubkey.require_device", "false".to_owned(), Origin::Default),
        ("openpubkey.max_auth_age", maybe(None), Origin::Default),
        ("openpubkey.name_claim", text("upn"), Origin::Default),
        ("openpubkey.expiration", text(DEFAULT_EXPIRATION), Origin::Default),
        ("identity.oid_extension", text(&gate.admit.extensions.oid), Origin::Default),
        ("identity.tid_extension", text(&gate.admit.extensions.tid), Origin::Default),
        ("identity.map_file", path(&settings.map_file), Origin::Default),
        ("identity.graph", settings.graph.to_string(), Origin::Default),
        ("login.domains", words(&settings.domains), Origin::Default),
        ("login.guests", gate.rules.guests.to_string(), Origin::Default),
        ("login.roles_from", text(&word(&settings.roles_from)), Origin::Default),
        ("login.roles_file", path(&settings.roles_file), Origin::Default),
        ("login.role_scopes", words(&scopes), Origin::Default),
        ("login.user_actions", words(&settings.actions.user), azure(machine.kind.is_some())),
        ("login.admin_actions", words(&settings.actions.admin), azure(machine.kind.is_some())),
        ("login.shell", text(&settings.shell), Origin::Default),
        ("login.login_grace_time", span(DEFAULT_LOGIN_GRACE.0), Origin::Default),
        (
            "login.expiry_time",
            text(if gate.admit.local_time.is_some() { "local" } else { "utc" }),
            Origin::Default,
        ),
        ("login.grace_user", span(seconds(settings.grace.user())), Origin::Default),
        ("login.grace_admin", span(seconds(settings.grace.admin())), Origin::Default),
        ("login.rejudge", span(seconds(settings.rejudge)), Origin::Default),
        ("login.end_grace", span(i64::from(settings.end_grace_s)), Origin::Default),
        ("login.port_forwarding", gate.admit.options.port_forwarding.to_string(), Origin::Default),
        ("login.agent_forwarding", gate.admit.options.agent_forwarding.to_string(), Origin::Default),
        ("login.x11_forwarding", gate.admit.options.x11_forwarding.to_string(), Origin::Default),
        ("login.policy_dir", text(&settings.access_dir().display().to_string()), Origin::Default),
        ("login.interactive_reason", gate.interactive_reason.to_string(), Origin::Default),
        ("login.step_up_prompt", settings.step_up_prompt.to_string(), Origin::Default),
        ("network.proxy", text(if settings.proxy_from_env { "env" } else { "none" }), Origin::Default),
        ("broker.enabled", super::broker::is_wanted(settings).to_string(), azure(machine.kind.is_some())),
        ("broker.policy_dir", path(&settings.policy_dir()), Origin::Default),
        ("broker.loopback", maybe(None), Origin::Default),
        ("broker.device_code", "false".to_owned(), Origin::Default),
        ("broker.sign_in.client_id", maybe(None), Origin::Default),
        ("broker.sign_in.scopes", words(&[]), Origin::Default),
        ("broker.identity", maybe(None), Origin::Default),
    ];
    rows.into_iter().map(|(key, value, origin)| Entry { key: key.to_owned(), value, origin }).collect()
}

/// An enum's name as the file spells it: `AksArc` is `aks-arc`.
fn word(value: &impl Debug) -> String {
    let mut word = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;

    fn paths(text: &str) -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nightlatch.toml");
        std::fs::write(&config, text).unwrap();
        let drop_ins = folder.path().join("conf.d");
        (folder, Paths { config, drop_ins, ..Paths::default() })
    }

    const PLAIN: &str = "tenant = \"11111111-2222-3333-4444-555555555555\"\nmode = \"enforce\"\ncloud = \"auto\"\n\
        [login]\nroles_from = \"file\"\nlogin_grace_time = \"90s\"\n[login.uid_overrides]\n\"a@b.c\" = 1900000000\n";

    #[test]
    fn what_files_set_is_shown_as_written() {
        let (_folder, paths) = paths(PLAIN);
        let set = entries(&paths, false).unwrap();
        let of = |key: &str| set.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        assert_eq!(of("mode"), Some("\"enforce\""));
        assert_eq!(of("login.login_grace_time"), Some("\"90s\""));
        assert_eq!(of("login.uid_overrides.a@b.c"), Some("1900000000"));
        assert!(set.iter().all(|entry| entry.origin == Origin::File(paths.config.clone())));
    }

    #[test]
    fn machine_and_defaults_fill_the_rest() {
        let (_folder, paths) = paths(PLAIN);
        let loaded = load(&paths.config, &paths.drop_ins).unwrap();
        let machine = Machine { kind: Some(Kind::AksArc), ..Machine::default() };
        let settings = Settings::resolve(loaded.config.clone(), &machine).unwrap();
        let all = overlay(in_force(&settings, &machine), written(&loaded));
        let of = |key: &str| all.iter().find(|entry| entry.key == key).unwrap();
        assert_eq!(of("mode").origin, Origin::File(paths.config.clone()));
        assert_eq!((of("cloud").value.as_str(), &of("cloud").origin), ("\"AzureCloud\"", &Origin::Default));
        assert_eq!(of("node.kind").value, "\"aks-arc\"");
        assert!(matches!(of("node.kind").origin, Origin::Machine(_)));
        assert_eq!(
            (of("trust.max_lifetime").value.as_str(), &of("trust.max_lifetime").origin),
            ("\"4h\"", &Origin::Default)
        );
        assert_eq!(of("login.login_grace_time").value, "\"90s\"");
    }

    #[test]
    fn a_refused_file_is_said() {
        let (_folder, paths) = paths("nonsense = 1\n");
        assert!(entries(&paths, false).unwrap_err().to_string().contains("nonsense"));
    }
}
