//! What may stand in the configuration file. Each field's doc is its manual.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nightlatch_model::{LoginName, TenantId};
use serde::Deserialize;

use super::broker::Broker;
use nightlatch_model::Span;

/// Whether Nightlatch decides logins or only watches them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decide nothing; report what would have been decided.
    Observe,
    /// Decide.
    Enforce,
}

/// A cloud, as `az cloud list` spells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum Cloud {
    /// Taken from azure.json or IMDS; AzureCloud where neither is there.
    #[serde(rename = "auto")]
    Auto,
    /// The public cloud.
    AzureCloud,
    /// The United States government's.
    AzureUSGovernment,
    /// China's, run by 21Vianet.
    AzureChinaCloud,
}

/// What kind of machine this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Found out at start.
    Auto,
    /// A node of managed AKS.
    Aks,
    /// A node of AKS enabled by Azure Arc.
    AksArc,
    /// An Azure virtual machine.
    Vm,
    /// An Arc-enabled server.
    ArcVm,
    /// A machine that Azure does not know.
    Plain,
}

/// Where keys of certificate authorities come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaSource {
    /// The instance metadata service.
    Imds,
    /// The Arc agent's metadata service.
    Himds,
    /// `trust.ca_file`.
    File,
}

/// Who answers which roles a person has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleBackEnd {
    /// CheckAccess v2.
    Pdp,
    /// ARM's checkaccess v1.
    Checkaccess,
    /// Listing assignments in ARM, evaluated here.
    List,
    /// `login.roles_file`.
    File,
}

/// At which Azure resources a role counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleScope {
    /// The machine itself.
    Node,
    /// The cluster that the machine belongs to.
    Cluster,
}

/// How sshd reads an expiry-time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExpiryTime {
    /// With a `Z`: sshd from 9.1 on.
    Utc,
    /// In the node's own time zone: every sshd.
    Local,
}

/// The whole file. Every key is optional on Azure; elsewhere `tenant` is needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The one tenant whose people may log in. Default: from azure.json.
    pub tenant: Option<TenantId>,
    /// The cloud. Default `auto`.
    pub cloud: Option<Cloud>,
    /// `observe` or `enforce`. Default `observe`.
    pub mode: Option<Mode>,
    /// The machine.
    pub node: Node,
    /// Which certificates are believed.
    pub trust: Trust,
    /// Who the holder of a certificate is.
    pub identity: Identity,
    /// Sign-ins that a certificate proves by itself.
    pub openpubkey: OpenPubkey,
    /// Who may log in.
    pub login: Login,
    /// How Azure is reached.
    pub network: Network,
    /// Tokens for local programs.
    pub broker: Broker,
}

/// `[node]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Default `auto`.
    pub kind: Option<Kind>,
    /// The machine's ARM id. Default: IMDS `compute/resourceId`.
    pub resource_id: Option<String>,
    /// The cluster's ARM id. Default: none.
    pub cluster_id: Option<String>,
    /// The Azure region, for the PDP's host. Default: IMDS `compute/location`.
    pub region: Option<String>,
    /// The client id of the managed identity that asks. Default: azure.json, else the only one.
    pub client_id: Option<String>,
    /// A federated service-account token that Entra takes as proof, handed over by the installer.
    /// With `client_id` it is the preferred identity. Default: none.
    pub token_file: Option<PathBuf>,
    /// Labels by which access rules can tell nodes apart. Free text.
    pub labels: BTreeMap<String, String>,
}

/// `[trust]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// Default: file, and imds on Azure or himds on Arc.
    pub ca: Option<Vec<CaSource>>,
    /// OpenSSH public keys, one a line. Default `/etc/nightlatch/ca.pub`.
    pub ca_file: Option<PathBuf>,
    /// The longest life of a certificate, end minus begin. Default 4h.
    pub max_lifetime: Option<Span>,
    /// How long a key that its source no longer lists is still believed. Default 72h.
    pub ca_grace: Option<Span>,
    /// What is no longer believed: lines `ca SHA256:…`, `serial N`, `key-id TEXT`, `key SHA256:…`.
    /// Default `/etc/nightlatch/revoked`.
    pub revoked_file: Option<PathBuf>,
}

/// The claim of an ID token with the login name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameClaim {
    /// The name by which the directory knows the person.
    Upn,
    /// Where nobody can sign in by another address.
    PreferredUsername,
}

/// `[openpubkey]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenPubkey {
    /// The applications whose ID tokens are taken as proof, by client id. Default: none, and no such certificate.
    pub client_ids: Option<Vec<String>>,
    /// How long a sign-in is good for: a length of time since the ID token was issued, `oidc` for as long as that token,
    /// or `oidc-refreshed` for as long as the newest one that the client put in. Default `4h`, at most a week.
    pub expiration: Option<String>,
    /// Ways of signing in that the ID token's `amr` must name, such as `mfa`. Default: none.
    pub require_amr: Option<Vec<String>>,
    /// Authentication contexts that its `acrs` must name, such as `c1`. Default: none.
    pub require_acrs: Option<Vec<String>>,
    /// Whether it must name a device (`deviceid`). Default false.
    pub require_device: Option<bool>,
    /// How long ago the person may have signed in (`auth_time`), at every login. Default: not looked at.
    pub max_auth_age: Option<Span>,
    /// The claim with the login name: `upn`, an optional claim, or `preferred_username`. Default `upn`.
    pub name_claim: Option<NameClaim>,
}

/// `[identity]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The certificate extension with the object id. The default is assumed: it is not public.
    pub oid_extension: Option<String>,
    /// The certificate extension with the tenant. The default is assumed: it is not public.
    pub tid_extension: Option<String>,
    /// A table of names and object ids, for certificates without the extension.
    /// Default `/etc/nightlatch/identities.toml`.
    pub map_file: Option<PathBuf>,
    /// Ask Microsoft Graph for the object id of a name that neither the certificate nor the table says.
    /// Needs User.Read.All for the node's identity. Default false.
    pub graph: Option<bool>,
}

/// `[login]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// The domains whose names are answered. Default: all.
    pub domains: Option<Vec<String>>,
    /// Whether guests of the tenant may log in. Without them only names in `domains` do. Default true.
    pub guests: Option<bool>,
    /// The folder of the access rules. Default `/etc/nightlatch/policy.d`.
    pub policy_dir: Option<PathBuf>,
    /// Default `pdp`.
    pub roles_from: Option<RoleBackEnd>,
    /// For `roles_from = "file"`. Default `/etc/nightlatch/roles.toml`.
    pub roles_file: Option<PathBuf>,
    /// Default node and cluster.
    pub role_scopes: Option<Vec<RoleScope>>,
    /// The data action of a normal login. Default: by the kind of machine.
    pub user_actions: Option<Vec<String>>,
    /// The data action of an administrator. Default: by the kind of machine.
    pub admin_actions: Option<Vec<String>>,
    /// The shell of Entra users. Default `/bin/bash`.
    pub shell: Option<String>,
    /// sshd's LoginGraceTime: a quarter of it bounds the wait for Azure. Default 60s.
    pub login_grace_time: Option<Span>,
    /// How the end of an admission is told to sshd: `utc`, or `local` for sshd before 9.1 (Ubuntu 22.04),
    /// which reads nothing else. `doctor` says which one this node needs. Default `utc`.
    pub expiry_time: Option<ExpiryTime>,
    /// How long after Azure's last yes a user is let in while Azure does not answer; at most 24h. Default 60min.
    pub grace_user: Option<Span>,
    /// The same for administrators. Default 0.
    pub grace_admin: Option<Span>,
    /// How often a session that lives is judged again. Default 60s, at least 5s.
    pub rejudge: Option<Span>,
    /// How long a session goes on after its person was told that it ends; at most 1h. Default 0.
    pub end_grace: Option<Span>,
    /// Allow port forwarding. Default false.
    pub port_forwarding: Option<bool>,
    /// Allow forwarding of the person's SSH agent. Default false.
    pub agent_forwarding: Option<bool>,
    /// Allow forwarding of X11. Default false.
    pub x11_forwarding: Option<bool>,
    /// Show why sshd refused a certificate through keyboard-interactive. Default false.
    pub interactive_reason: Option<bool>,
    /// Ask whoever lacks what an access rule wants for a sign-in at the prompt, behind the certificate. Needs
    /// `openpubkey.client_ids`, and keeps out clients that can answer no prompt. Default false.
    pub step_up_prompt: Option<bool>,
    /// Uids that settle a collision of two names.
    pub uid_overrides: BTreeMap<LoginName, u32>,
}

/// `[network]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// `env` takes the proxy variables of the service's environment; `none` uses no proxy.
    /// IMDS and loopback never go through one. Default `env`.
    pub proxy: Option<String>,
}
