//! What stands in a user of a kubeconfig that signs in with Azure: `auth-provider: azure` of the time
//! before exec plugins (config-mode 0 and 1), or an exec of kubelogin.

use serde_yaml_ng::Value;

/// What an old user says about the sign-in.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub(super) struct Found {
    pub(super) server_id: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) tenant_id: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) login: Option<String>,
    pub(super) identity_resource_id: Option<String>,
    pub(super) subscription: Option<String>,
    pub(super) pop_claims: Option<String>,
    pub(super) login_hint: Option<String>,
    pub(super) legacy: bool,
    pub(super) pop_enabled: bool,
    /// The exec's own version; v1beta1 where there was none.
    pub(super) api_version: Option<String>,
}

/// Programs whose exec is one of ours to take over.
const PLUGINS: [&str; 2] = ["kubelogin", "nightlatch"];

/// Reads a `user` of a kubeconfig; `None` for one that does not sign in with Azure.
pub(super) fn read(user: &Value) -> Option<Found> {
    provider(user).or_else(|| plugin(user))
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// client-go's azure auth-provider: config-mode 0, also when it is missing, wants `spn:` in the audience.
fn provider(user: &Value) -> Option<Found> {
    let provider = user.get("auth-provider")?;
    if provider.get("name")?.as_str()? != "azure" {
        return None;
    }
    let config = provider.get("config")?;
    Some(Found {
        server_id: text(config, "apiserver-id"),
        client_id: text(config, "client-id"),
        tenant_id: text(config, "tenant-id"),
        environment: text(config, "environment"),
        legacy: text(config, "config-mode").is_none_or(|mode| mode == "0"),
        ..Found::default()
    })
}

fn plugin(user: &Value) -> Option<Found> {
    let exec = user.get("exec")?;
    let command = exec.get("command")?.as_str()?;
    let program = command.rsplit(['/', '\\']).next()?;
    if !PLUGINS.contains(&program.strip_suffix(".exe").unwrap_or(program)) {
        return None;
    }
    let args: Vec<&str> = exec.get("args")?.as_sequence()?.iter().filter_map(Value::as_str).collect();
    if !args.contains(&"get-token") {
        return None;
    }
    let mut found = Found { api_version: text(exec, "apiVersion"), ..Found::default() };
    let mut rest = args.iter().copied();
    while let Some(word) = rest.next() {
        let (flag, inline) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        let place = match flag {
            "--legacy" => {
                found.legacy = inline.is_none_or(|value| value == "true");
                continue;
            }
            "--pop-enabled" => {
                found.pop_enabled = inline.is_none_or(|value| value == "true");
                continue;
            }
            "--server-id" => &mut found.server_id,
            "--client-id" => &mut found.client_id,
            "--tenant-id" | "-t" => &mut found.tenant_id,
            "--environment" | "-e" => &mut found.environment,
            "--login" | "-l" => &mut found.login,
            "--identity-resource-id" => &mut found.identity_resource_id,
            "--subscription" | "-s" => &mut found.subscription,
            "--pop-claims" => &mut found.pop_claims,
            "--login-hint" => &mut found.login_hint,
            _ => continue,
        };
        *place = inline.or_else(|| rest.next()).map(str::to_owned);
    }
    Some(found)
}
