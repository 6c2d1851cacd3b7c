//! What stands in a user of a kubeconfig that signs in with Azure: `auth-provider: azure` of the time
//! before exec plugins (config-mode 0 and 1), or an exec of kubelogin.

use serde_yaml_ng::Value;

/// What an old user says about the sign-in.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub(in crate::cli) struct Found {
    pub(in crate::cli) server_id: Option<String>,
    pub(in crate::cli) client_id: Option<String>,
    pub(in crate::cli) tenant_id: Option<String>,
    pub(in crate::cli) environment: Option<String>,
    pub(in crate::cli) login: Option<String>,
    pub(in crate::cli) identity_resource_id: Option<String>,
    pub(in crate::cli) subscription: Option<String>,
    pub(in crate::cli) pop_claims: Option<String>,
    pub(in crate::cli) login_hint: Option<String>,
    pub(in crate::cli) legacy: bool,
    pub(in crate::cli) pop_enabled: bool,
    /// The exec's own version.
    pub(in crate::cli) api_version: Option<String>,
    /// When the exec may talk to the person.
    pub(in crate::cli) interactive_mode: Option<String>,
    /// The exec's variables; the value of one that carries a secret is not taken.
    pub(in crate::cli) env: Vec<(String, String)>,
    /// The names of flags that carry a secret.
    pub(in crate::cli) secret_flags: Vec<String>,
    /// kubelogin's switch that keeps the environment from beating the flags.
    pub(in crate::cli) ignores_environment: bool,
    /// Client and tenant from the ARM_ variables.
    pub(in crate::cli) arm_variables: bool,
    /// The program's name as it stands there; none for an auth-provider.
    pub(in crate::cli) command: Option<String>,
}

/// Programs whose exec is one of ours to take over.
const PLUGINS: [&str; 2] = ["kubelogin", "nightlatch"];

/// Reads a `user` of a kubeconfig; `None` for one that does not sign in with Azure.
pub(in crate::cli) fn read(user: &Value) -> Option<Found> {
    provider(user).or_else(|| plugin(user))
}

/// Whether a variable carries a secret, or the password of one.
pub(in crate::cli) fn is_secret_variable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let of_azure = ["AZURE_", "AAD_", "ARM_"].iter().any(|prefix| name.starts_with(prefix));
    of_azure && (name.ends_with("_SECRET") || name.ends_with("_PASSWORD"))
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
    // Another program goes by the same name: its users sign in at any OpenID provider.
    if !args.contains(&"get-token") || args.iter().any(|word| word.starts_with("--oidc-")) {
        return None;
    }
    let mut found = Found {
        api_version: text(exec, "apiVersion"),
        interactive_mode: text(exec, "interactiveMode"),
        env: variables(exec),
        command: Some(command.to_owned()),
        ..Found::default()
    };
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
            "--disable-environment-override" => {
                found.ignores_environment = inline.is_none_or(|value| value == "true");
                continue;
            }
            "--use-azurerm-env-vars" => {
                found.arm_variables = inline.is_none_or(|value| value == "true");
                continue;
            }
            "--client-secret" | "--client-certificate-password" | "--password" => {
                found.secret_flags.push(flag.to_owned());
                if inline.is_none() {
                    rest.next();
                }
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

fn variables(exec: &Value) -> Vec<(String, String)> {
    let entries = exec.get("env").and_then(Value::as_sequence).into_iter().flatten();
    let pair = |entry| {
        let name = text(entry, "name")?;
        let value = if is_secret_variable(&name) { String::new() } else { text(entry, "value")? };
        Some((name, value))
    };
    entries.filter_map(pair).collect()
}
