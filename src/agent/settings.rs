//! From the configuration and the machine to what the daemon works with. Each value says where
//! it came from, so that `config show --effective` and `status` can.

use std::path::PathBuf;
use std::time::Duration;

use nightlatch_model::TenantId;
use nightlatch_policy::{ActionSet, GraceRule, NodeFacts, Rules, Scope, ScopeKind};
use nightlatch_wire::line::LineOptions;
use nightlatch_wire::session::MAX_END_GRACE_S;
use thiserror::Error;

use super::gate::{GateSettings, MAX_UPSTREAM_WAIT};
use super::openpubkey;
use crate::accounts::{KEEP_WITHDRAWN_S, UidOverrides};
use crate::config::{self, CaSource, Cloud, Config, ExpiryTime, Kind, Mode, RoleBackEnd, RoleScope, Span};
use crate::entra::clouds::{self, Endpoints};
use crate::login::{AdmitRules, ExpirationError, Extensions, ProofRules};

/// The longest life of a certificate when nothing is configured.
const DEFAULT_MAX_LIFETIME: Span = Span(4 * 3_600);
/// How long an unlisted CA key stays believed when nothing is configured.
const DEFAULT_CA_GRACE: Span = Span(72 * 3_600);
/// LoginGraceTime when nothing is configured: what AKS sets.
pub(super) const DEFAULT_LOGIN_GRACE: Span = Span(60);

/// How often a session that lives is judged again when nothing is configured, and at least, in seconds.
const DEFAULT_REJUDGE: Span = Span(60);
const MIN_REJUDGE_S: i64 = 5;
/// The shortest `trust.max_lifetime`, in seconds. The longest is how long a withdrawal is remembered: a certificate that lives
/// longer would open again.
const MIN_LIFETIME_S: i64 = 60;
/// How long a user is let in after Azure's last yes when nothing is configured.
const DEFAULT_USER_GRACE: Span = Span(3_600);

/// Why the daemon cannot start with this configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// No tenant anywhere.
    #[error(
        "no tenant: set `tenant = \"…\"` in /etc/nightlatch/nightlatch.toml; neither azure.json nor IMDS names one"
    )]
    NoTenant,
    /// An ARM id that is none.
    #[error("`{key}` is not an ARM resource id: {value}")]
    BadScope {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// An override outside our uids.
    #[error(
        "`login.uid_overrides`: the uid of `{0}` is outside Nightlatch's range, or another name has it as well"
    )]
    BadOverride(String),
    /// Nowhere to ask about.
    #[error(
        "`login.roles_from` needs `node.resource_id` or `node.cluster_id`: neither IMDS nor the configuration names one"
    )]
    NoScope,
    /// The machine has an id, and it is not known.
    #[error(
        "what machine this is is not known: IMDS or himds did not say it, and `node.resource_id` is not set; roles at the \
         machine would be missed (`login.role_scopes = [\"cluster\"]` if none are given there)"
    )]
    NoNodeId,
    /// A length of time outside its limits.
    #[error("`{key}` must lie between {least} and {most}: it is {value}")]
    BadSpan {
        /// The key.
        key: &'static str,
        /// The smallest.
        least: Span,
        /// The largest.
        most: Span,
        /// What was given.
        value: Span,
    },
    /// One method of sshd for two things.
    #[error(
        "`login.interactive_reason` and `login.step_up_prompt` exclude each other: sshd takes keyboard-interactive in place of \
         a certificate or behind it; leave one of them on"
    )]
    TwoInteractive,
    /// Nothing to sign in to.
    #[error(
        "`login.step_up_prompt` needs `openpubkey.client_ids`: the first is the application that people sign in to"
    )]
    NoClientToSignIn,
    /// A client id that is none.
    #[error("`openpubkey.client_ids`: `{0}` is not the id of an application")]
    BadClient(String),
    /// Not a way to say how long a sign-in is good for.
    #[error("`openpubkey.expiration`: {0}")]
    BadExpiration(#[from] ExpirationError),
    /// A domain that no login name can have.
    #[error("`login.domains`: `{0}` is not a lower-case DNS domain")]
    BadDomain(String),
}

/// What the machine says about itself: azure.json and IMDS. All of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The cloud, as `az` spells it.
    pub cloud: Option<Cloud>,
    /// The machine's ARM id.
    pub resource_id: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The client id of the identity that may ask.
    pub client_id: Option<String>,
    /// Nothing told what kind it is, and no metadata service answered.
    pub is_guessed: bool,
    /// The kind, when the machine gives it away.
    pub kind: Option<Kind>,
}

/// Everything, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tenant.
    pub tenant: TenantId,
    /// The cloud; never `Auto`.
    pub cloud: Cloud,
    /// Observe or enforce.
    pub mode: Mode,
    /// The kind of machine; never `Auto`.
    pub kind: Kind,
    /// Nothing told the kind: the machine may have an id all the same.
    pub is_guessed: bool,
    /// The machine's own id, where it has one and it is known.
    pub resource_id: Option<Scope>,
    /// The cluster's id, where there is one.
    pub cluster_id: Option<Scope>,
    /// Where roles count, in order.
    pub scopes: Vec<(ScopeKind, Scope)>,
    /// What counts as user and as administrator.
    pub actions: ActionSet,
    /// Who is asked.
    pub roles_from: RoleBackEnd,
    /// For `roles_from = "file"`.
    pub roles_file: PathBuf,
    /// The region, for the PDP's host.
    pub region: Option<String>,
    /// The identity that asks.
    pub client_id: Option<String>,
    /// The federated token, when the installer hands one over.
    pub token_file: Option<PathBuf>,
    /// Where CA keys come from.
    pub ca_sources: Vec<CaSource>,
    /// Pinned CA keys.
    pub ca_file: PathBuf,
    /// How long an unlisted key stays believed, in seconds.
    pub ca_grace: i64,
    /// What was taken back.
    pub revoked_file: PathBuf,
    /// The table of people.
    pub map_file: PathBuf,
    /// The domains that are answered.
    pub domains: Vec<String>,
    /// The shell.
    pub shell: String,
    /// Uids that settle collisions.
    pub overrides: UidOverrides,
    /// Whether Graph is asked for object ids.
    pub graph: bool,
    /// Whether the proxy variables are honoured.
    pub proxy_from_env: bool,
    /// The longest life of a certificate that is taken, in seconds.
    pub max_lifetime_s: i64,
    /// How often a session that lives is judged again.
    pub rejudge: Duration,
    /// How long a session goes on after its person was told that it ends, in seconds.
    pub end_grace_s: u16,
    /// How long an old yes may stand in.
    pub grace: GraceRule,
    /// Which sign-ins a certificate may prove by itself.
    pub openpubkey: Option<ProofRules>,
    /// Whether a sign-in at the prompt is asked for.
    pub step_up_prompt: bool,
    config: Config,
}

impl Settings {
    /// Lays the configuration over what the machine says.
    ///
    /// # Errors
    /// The first thing that is missing or wrong.
    pub fn resolve(config: Config, machine: &Machine) -> Result<Self, SettingsError> {
        let tenant = config.tenant.or(machine.tenant).ok_or(SettingsError::NoTenant)?;
        let cloud = match config.cloud {
            None | Some(Cloud::Auto) => machine.cloud.unwrap_or(Cloud::AzureCloud),
            Some(cloud) => cloud,
        };
        let kind = match config.node.kind {
            None | Some(Kind::Auto) => machine.kind.unwrap_or(Kind::Plain),
            Some(kind) => kind,
        };
        let actions = actions(&config, kind);
        let roles_from = config.login.roles_from.unwrap_or(RoleBackEnd::Pdp);
        let resource_id =
            resource("node.resource_id", config.node.resource_id.as_deref(), machine.resource_id.as_ref())?;
        let cluster_id = resource("node.cluster_id", config.node.cluster_id.as_deref(), None)?;
        let scopes = scopes(&config, kind, resource_id.as_ref(), cluster_id.as_ref())?;
        let domains = config.login.domains.clone().unwrap_or_default();
        let odd = |domain: &&String| nightlatch_model::LoginName::parse(&format!("a@{domain}")).is_err();
        if let Some(domain) = domains.iter().find(odd) {
            return Err(SettingsError::BadDomain(domain.clone()));
        }
        let overrides = UidOverrides::new(config.login.uid_overrides.clone())
            .map_err(|name| SettingsError::BadOverride(name.to_string()))?;
        let lifetime = span(
            "trust.max_lifetime",
            config.trust.max_lifetime,
            DEFAULT_MAX_LIFETIME,
            MIN_LIFETIME_S,
            KEEP_WITHDRAWN_S,
        )?;
        let rejudge = span("login.rejudge", config.login.rejudge, DEFAULT_REJUDGE, MIN_REJUDGE_S, 86_400)?;
        let longest = i64::from(MAX_END_GRACE_S);
        let end_grace = span("login.end_grace", config.login.end_grace, Span(0), 0, longest)?;
        let day = i64::try_from(nightlatch_policy::MAX_GRACE.as_secs()).unwrap_or(0);
        let user = span("login.grace_user", config.login.grace_user, DEFAULT_USER_GRACE, 0, day)?;
        let admin = span("login.grace_admin", config.login.grace_admin, Span(0), 0, day)?;
        let path =
            |set: &Option<PathBuf>, default: &str| set.clone().unwrap_or_else(|| PathBuf::from(default));
        let openpubkey = openpubkey::rules(&config, tenant, hosts_of(cloud))?;
        let step_up_prompt = config.login.step_up_prompt.unwrap_or(false);
        if step_up_prompt && config.login.interactive_reason.unwrap_or(false) {
            return Err(SettingsError::TwoInteractive);
        }
        if step_up_prompt && openpubkey.is_none() {
            return Err(SettingsError::NoClientToSignIn);
        }
        Ok(Self {
            tenant,
            cloud,
            mode: config.mode.unwrap_or(Mode::Observe),
            kind,
            is_guessed: machine.is_guessed,
            resource_id,
            cluster_id,
            scopes,
            actions,
            roles_from,
            roles_file: path(&config.login.roles_file, "/etc/nightlatch/roles.toml"),
            region: given(config.node.region.as_deref()).or_else(|| machine.region.clone()),
            client_id: given(config.node.client_id.as_deref()).or_else(|| machine.client_id.clone()),
            token_file: config.node.token_file.clone(),
            ca_sources: config.trust.ca.clone().unwrap_or_else(|| default_ca_sources(kind)),
            ca_file: path(&config.trust.ca_file, "/etc/nightlatch/ca.pub"),
            ca_grace: config.trust.ca_grace.unwrap_or(DEFAULT_CA_GRACE).0,
            revoked_file: path(&config.trust.revoked_file, "/etc/nightlatch/revoked"),
            map_file: path(&config.identity.map_file, "/etc/nightlatch/identities.toml"),
            domains,
            shell: config.login.shell.clone().unwrap_or_else(|| "/bin/bash".into()),
            overrides,
            graph: config.identity.graph.unwrap_or(false),
            proxy_from_env: config.network.proxy.as_deref() != Some("none"),
            max_lifetime_s: i64::try_from(lifetime.as_secs()).unwrap_or(DEFAULT_MAX_LIFETIME.0),
            rejudge,
            end_grace_s: u16::try_from(end_grace.as_secs()).unwrap_or(0),
            grace: GraceRule::new(user, admin),
            openpubkey,
            step_up_prompt,
            config,
        })
    }

    /// The hosts of this cloud.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        hosts_of(self.cloud)
    }

    /// What is configured for the token broker.
    #[must_use]
    pub const fn broker(&self) -> &config::Broker {
        &self.config.broker
    }

    /// The folder of the broker's policy.
    #[must_use]
    pub fn policy_dir(&self) -> PathBuf {
        self.config.broker.policy_dir.clone().unwrap_or_else(|| "/etc/nightlatch/broker.d".into())
    }

    /// What the gate works with.
    #[must_use]
    pub fn gate(&self) -> GateSettings {
        let grace = self.config.login.login_grace_time.unwrap_or(DEFAULT_LOGIN_GRACE).0;
        let quarter = Duration::from_secs(u64::try_from(grace / 4).unwrap_or(0).max(1));
        let identity = &self.config.identity;
        let defaults = Extensions::default();
        GateSettings {
            admit: AdmitRules {
                tenant: self.tenant,
                domains: self.domains.clone(),
                max_lifetime: self.max_lifetime_s,
                extensions: Extensions {
                    oid: identity.oid_extension.clone().unwrap_or(defaults.oid),
                    tid: identity.tid_extension.clone().unwrap_or(defaults.tid),
                },
                openpubkey: self.openpubkey.clone(),
                options: LineOptions {
                    port_forwarding: self.config.login.port_forwarding.unwrap_or(false),
                    agent_forwarding: self.config.login.agent_forwarding.unwrap_or(false),
                    x11_forwarding: self.config.login.x11_forwarding.unwrap_or(false),
                },
                step_up_prompt: self.step_up_prompt,
                local_time: (self.config.login.expiry_time == Some(ExpiryTime::Local))
                    .then_some(crate::sys::local_civil as fn(_) -> _),
            },
            rules: Rules {
                tenant: self.tenant,
                domains: self.domains.clone(),
                guests: self.config.login.guests.unwrap_or(true),
                max_session: None,
            },
            grace: self.grace,
            wait: quarter.min(MAX_UPSTREAM_WAIT),
            login_grace: Duration::from_secs(u64::try_from(grace).unwrap_or(0)),
            observing: self.mode == Mode::Observe,
            scope: self.scopes.last().map(|(_, scope)| scope.clone()),
            interactive_reason: self.config.login.interactive_reason.unwrap_or(false),
            node: self.node(),
        }
    }

    /// What the node is, for access rules.
    #[must_use]
    pub fn node(&self) -> NodeFacts {
        let known = [&self.resource_id, &self.cluster_id];
        let resources = known.into_iter().flatten().map(|id| id.as_str().to_owned()).collect();
        let is_half_known = self.resource_id.is_none() && (self.is_guessed || has_resource_id(self.kind));
        NodeFacts { labels: self.config.node.labels.clone(), resources, is_half_known }
    }

    /// The folder of the access rules.
    #[must_use]
    pub fn access_dir(&self) -> PathBuf {
        self.config.login.policy_dir.clone().unwrap_or_else(|| crate::access::POLICY_DIR.into())
    }
}

fn hosts_of(cloud: Cloud) -> Endpoints {
    match cloud {
        Cloud::Auto | Cloud::AzureCloud => clouds::Cloud::Public,
        Cloud::AzureUSGovernment => clouds::Cloud::UsGovernment,
        Cloud::AzureChinaCloud => clouds::Cloud::China,
    }
    .endpoints()
}

pub(super) fn span(
    key: &'static str,
    given: Option<Span>,
    default: Span,
    least: i64,
    most: i64,
) -> Result<Duration, SettingsError> {
    let value = given.unwrap_or(default);
    if !(least..=most).contains(&value.0) {
        return Err(SettingsError::BadSpan { key, least: Span(least), most: Span(most), value });
    }
    Ok(Duration::from_secs(u64::try_from(value.0).unwrap_or(0)))
}

fn default_ca_sources(kind: Kind) -> Vec<CaSource> {
    match kind {
        Kind::Aks | Kind::Vm => vec![CaSource::Imds, CaSource::File],
        Kind::ArcVm => vec![CaSource::Himds, CaSource::File],
        // Such nodes have no metadata service: asking for one is noise.
        Kind::AksArc | Kind::Auto | Kind::Plain => vec![CaSource::File],
    }
}

fn given(value: Option<&str>) -> Option<String> {
    value.filter(|value| *value != "auto").map(str::to_owned)
}

fn actions(config: &Config, kind: Kind) -> ActionSet {
    let built_in = match kind {
        Kind::ArcVm | Kind::AksArc => ActionSet::arc(),
        Kind::Auto | Kind::Aks | Kind::Vm | Kind::Plain => ActionSet::azure(),
    };
    ActionSet {
        user: config.login.user_actions.clone().unwrap_or(built_in.user),
        admin: config.login.admin_actions.clone().unwrap_or(built_in.admin),
    }
}

/// Whether machines of this kind have a resource id of their own. Nodes of AKS Arc have none.
const fn has_resource_id(kind: Kind) -> bool {
    matches!(kind, Kind::Aks | Kind::Vm | Kind::ArcVm)
}

/// The id that is configured under this key, else the one that the machine tells.
fn resource(
    key: &'static str,
    given_id: Option<&str>,
    told: Option<&String>,
) -> Result<Option<Scope>, SettingsError> {
    let value = given(given_id).or_else(|| told.cloned());
    let parse = |value: String| {
        Scope::parse(&value).map_err(|_| SettingsError::BadScope { key, value: value.clone() })
    };
    value.map(parse).transpose()
}

/// Where roles are asked for.
fn scopes(
    config: &Config,
    kind: Kind,
    node: Option<&Scope>,
    cluster: Option<&Scope>,
) -> Result<Vec<(ScopeKind, Scope)>, SettingsError> {
    let wanted =
        config.login.role_scopes.clone().unwrap_or_else(|| vec![RoleScope::Node, RoleScope::Cluster]);
    let scope = |wanted: &RoleScope| match wanted {
        RoleScope::Node => Some((ScopeKind::Node, node?.clone())),
        RoleScope::Cluster => Some((ScopeKind::Cluster, cluster?.clone())),
    };
    let scopes: Vec<_> = wanted.iter().filter_map(scope).collect();
    if config.login.roles_from == Some(RoleBackEnd::File) {
        return Ok(scopes);
    }
    if scopes.is_empty() {
        return Err(SettingsError::NoScope);
    }
    // What somebody has at the machine would be missed without a word: a role, and a deny.
    if wanted.contains(&RoleScope::Node) && node.is_none() && has_resource_id(kind) {
        return Err(SettingsError::NoNodeId);
    }
    Ok(scopes)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
