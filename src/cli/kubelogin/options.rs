//! The options of `get-token`, as Azure kubelogin names them (Azure/kubelogin, docs/book, "get-token").
//!
//! kubelogin lets the environment beat a flag that was given, so that a stray AZURE_CLIENT_ID rewires a
//! cluster's access; here the flag counts.

use clap::{Args, ValueEnum};

/// How kubelogin would sign in; what the broker makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(super) enum Login {
    /// The person, signing in with a code where nobody is signed in.
    Devicecode,
    /// The person, signing in with the browser where nobody is signed in.
    Interactive,
    /// An application that the broker holds the credential of.
    Spn,
    /// Not supported: Entra's password grant.
    Ropc,
    /// A managed identity.
    Msi,
    /// The caller's own `az` sign-in.
    Azurecli,
    /// The caller's own `azd` sign-in.
    Azd,
    /// The identity that the broker federates.
    Workloadidentity,
    /// Not supported: a pipeline's service connection.
    Azurepipelines,
}

impl Login {
    /// kubelogin's word.
    pub(super) fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// `nightlatch kubelogin get-token`
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Options {
    /// How to sign in.
    #[arg(short, long, value_enum)]
    pub(super) login: Option<Login>,
    /// The application id of the API server (for AKS 6dae42f8-4368-4678-94ff-3960e28e3630).
    #[arg(long)]
    pub(super) server_id: Option<String>,
    /// The application or managed identity.
    #[arg(long)]
    pub(super) client_id: Option<String>,
    /// The tenant; the broker checks that it is its own.
    #[arg(short, long)]
    pub(super) tenant_id: Option<String>,
    /// A user-assigned managed identity by its ARM id.
    #[arg(long)]
    pub(super) identity_resource_id: Option<String>,
    /// The cloud. The broker knows the node's; the flag is taken for compatibility.
    #[arg(short, long)]
    pub(super) environment: Option<String>,
    /// The audience with `spn:` before it, as old clusters want it.
    #[arg(long)]
    pub(super) legacy: bool,
    /// A proof-of-possession token, for Arc-enabled clusters.
    #[arg(long)]
    pub(super) pop_enabled: bool,
    /// `u=ARM-ID`: the cluster.
    #[arg(long)]
    pub(super) pop_claims: Option<String>,
    /// The name to propose on the sign-in page.
    #[arg(long)]
    pub(super) login_hint: Option<String>,
    /// How long `az` or `azd` may take, such as `60s`.
    #[arg(long, default_value = "60s")]
    pub(super) timeout: String,
    /// The subscription for `az`.
    #[arg(short, long)]
    pub(super) subscription: Option<String>,
    /// Take nothing from the environment.
    #[arg(long)]
    pub(super) disable_environment_override: bool,
    /// Taken for compatibility: the broker does not ask Entra which clouds there are.
    #[arg(long)]
    pub(super) disable_instance_discovery: bool,
    /// Take client and tenant from the ARM_ variables of Terraform.
    #[arg(long)]
    pub(super) use_azurerm_env_vars: bool,
    /// Taken for compatibility: the cache is the broker's.
    #[arg(long, alias = "token-cache-dir")]
    pub(super) cache_dir: Option<String>,
    /// Taken for compatibility.
    #[arg(long)]
    pub(super) redirect_url: Option<String>,
    /// Refused: the broker holds secrets.
    #[arg(long)]
    pub(super) client_secret: Option<String>,
    /// Refused: the broker holds certificates.
    #[arg(long)]
    pub(super) client_certificate: Option<String>,
    /// Refused: the broker holds certificates.
    #[arg(long)]
    pub(super) client_certificate_password: Option<String>,
    /// Refused: Entra's password grant.
    #[arg(long)]
    pub(super) username: Option<String>,
    /// Refused: Entra's password grant.
    #[arg(long)]
    pub(super) password: Option<String>,
    /// Refused: the broker reads federated tokens by itself.
    #[arg(long)]
    pub(super) federated_token_file: Option<String>,
    /// Taken for compatibility: the broker knows its cloud's hosts.
    #[arg(long)]
    pub(super) authority_host: Option<String>,
    /// Refused: not supported.
    #[arg(long)]
    pub(super) azure_pipelines_service_connection_id: Option<String>,
}

/// What counts after flags and environment were put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) login: Login,
    pub(super) client_id: Option<String>,
    pub(super) tenant_id: Option<String>,
    /// Sentences about variables that were passed over.
    pub(super) notes: Vec<String>,
}

impl Options {
    /// Puts flags and environment together; `env` looks a variable up.
    pub(super) fn effective(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Effective, String> {
        let mut notes = Vec::new();
        let mut choose = |flag: &Option<String>, name: &str, variables: &[&str]| {
            if self.disable_environment_override {
                return flag.clone();
            }
            // The later variable wins over the earlier, as with kubelogin.
            let found =
                variables.iter().rev().find_map(|v| env(v).filter(|t| !t.is_empty()).map(|t| (*v, t)));
            match (flag, found) {
                (Some(flag), Some((variable, value))) if *flag != value => {
                    notes.push(format!("--{name} counts; {variable} is in the environment and passed over"));
                    Some(flag.clone())
                }
                (Some(flag), _) => Some(flag.clone()),
                (None, found) => found.map(|(_, value)| value),
            }
        };
        let client: &[&str] = if self.use_azurerm_env_vars {
            &["ARM_CLIENT_ID"]
        } else {
            &["AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AZURE_CLIENT_ID"]
        };
        let tenant: &[&str] =
            if self.use_azurerm_env_vars { &["ARM_TENANT_ID"] } else { &["AZURE_TENANT_ID"] };
        let client_id = choose(&self.client_id, "client-id", client);
        let tenant_id = choose(&self.tenant_id, "tenant-id", tenant);
        let word = choose(&self.login.map(Login::word), "login", &["AAD_LOGIN_METHOD"]);
        let login = match word.as_deref() {
            None => Login::Devicecode,
            Some(word) => Login::from_str(word, true).map_err(|_| {
                format!(
                    "`{word}` is no login mode; AAD_LOGIN_METHOD or --login takes devicecode, msi, spn, …"
                )
            })?,
        };
        Ok(Effective { login, client_id, tenant_id, notes })
    }

    /// A flag whose secret belongs to the broker.
    pub(super) const fn secret_flag(&self) -> Option<&'static str> {
        if self.client_secret.is_some() {
            Some("--client-secret")
        } else if self.client_certificate.is_some() || self.client_certificate_password.is_some() {
            Some("--client-certificate")
        } else if self.password.is_some() || self.username.is_some() {
            Some("--username and --password")
        } else {
            None
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    pub(in super::super) fn options(words: &[&str]) -> Options {
        Line::parse_from(std::iter::once("get-token").chain(words.iter().copied())).options
    }

    #[test]
    fn a_flag_beats_the_environment_and_it_is_said() {
        let env = |name: &str| match name {
            "AZURE_CLIENT_ID" => Some("stray".to_owned()),
            "AAD_SERVICE_PRINCIPAL_CLIENT_ID" => Some("older".to_owned()),
            "AAD_LOGIN_METHOD" => Some("msi".to_owned()),
            _ => None,
        };
        let given = options(&["--client-id", "mine", "--login", "spn"]).effective(&env).unwrap();
        assert_eq!((given.login, given.client_id.as_deref()), (Login::Spn, Some("mine")));
        assert_eq!(given.notes.len(), 2, "{:?}", given.notes);
        let none = options(&[]).effective(&env).unwrap();
        assert_eq!((none.login, none.client_id.as_deref()), (Login::Msi, Some("stray")));
        assert!(none.notes.is_empty());
        let alone = options(&["--disable-environment-override"]).effective(&env).unwrap();
        assert_eq!((alone.login, alone.client_id), (Login::Devicecode, None));
        let arm = |name: &str| (name == "ARM_CLIENT_ID").then(|| "arm".to_owned());
        let arm = options(&["--use-azurerm-env-vars"]).effective(&arm).unwrap();
        assert_eq!(arm.client_id.as_deref(), Some("arm"));
        assert!(options(&[]).effective(&|_| Some("magic".to_owned())).is_err());
    }
}
