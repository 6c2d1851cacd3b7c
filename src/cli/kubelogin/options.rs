//! The options of `get-token`, as Azure kubelogin names them (Azure/kubelogin, docs/book, "get-token").
//! What they come to is in `effective`.

use clap::Args;

use super::effective::Login;

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
    /// The tenant, for `az` and `azd`; the broker's identities have theirs in its configuration.
    #[arg(short, long)]
    pub(super) tenant_id: Option<String>,
    /// A user-assigned managed identity by its ARM id (`--login msi`).
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
    /// How long `az` or `azd` may take, such as `60s`, which it is without the flag.
    #[arg(long)]
    pub(super) timeout: Option<String>,
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
    /// Taken for compatibility and not read: the broker reads the file that its configuration names.
    #[arg(long)]
    pub(super) federated_token_file: Option<String>,
    /// Taken for compatibility: the broker knows its cloud's hosts.
    #[arg(long)]
    pub(super) authority_host: Option<String>,
    /// Refused: not supported.
    #[arg(long)]
    pub(super) azure_pipelines_service_connection_id: Option<String>,
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
}
