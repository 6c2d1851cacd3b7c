//! The identities as they are used: the configuration with its gaps filled and its cloud looked up.

use std::path::PathBuf;
use std::sync::Arc;

use nightlatch_model::{Guid, TenantId};
use nightlatch_tokens::{IdentityInfo, IdentityKind};
use thiserror::Error;

use crate::config::{self, BrokerIdentity, BrokerIdentityKind};
use crate::entra::clouds::{Cloud, Endpoints};
use crate::imds::ManagedId;

/// Why an identity cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Nobody says in which tenant the application is.
    #[error("broker identity `{0}` has no tenant: set its `tenant`, or `tenant` for the whole node")]
    NoTenant(String),
    /// Two of one name.
    #[error("broker identity `{0}` stands there twice: give each its own name")]
    Twice(String),
    /// A key without which the kind means nothing; the file's own check says it with its line.
    #[error("broker identity `{0}` is not complete: `{1}` is missing")]
    Missing(String, &'static str),
    /// The Azure CLI is a program of its caller.
    #[error(
        "broker identity `{0}`: nightlatchd runs no programs; use `nightlatch token get --identity azure-cli`"
    )]
    ClientSide(String),
}

/// One identity.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Its name.
    pub name: Arc<str>,
    /// Where its tokens come from.
    pub way: Way,
}

/// Where tokens come from.
#[derive(Clone, Debug)]
pub enum Way {
    /// The instance metadata service.
    Managed(ManagedId),
    /// The Arc agent; the machine's own identity or a user-assigned one by its ARM id.
    Arc(Option<String>),
    /// Entra, for an application by itself.
    Application(Application),
    /// Entra, for an application that exchanges a person's token.
    OnBehalfOf(Application),
}

/// An application.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its client id.
    pub client_id: Guid,
    /// Entra's host.
    pub login: String,
    /// What it proves itself with.
    pub proof: Proof,
}

/// What an application proves itself with. Files are read at each use, so that a new one needs no restart.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A client secret.
    Secret(PathBuf),
    /// A certificate with its key.
    Certificate {
        /// The PEM file.
        file: PathBuf,
        /// Whether the chain is shown.
        send_chain: bool,
    },
    /// A token of an outside issuer.
    Federated {
        /// The file with the token.
        file: PathBuf,
        /// The cluster's proxy.
        proxy: Option<TokenProxy>,
    },
}

/// A proxy that exchanges federated tokens (Microsoft Learn, "Identity bindings" of AKS).
#[derive(Clone, Debug)]
pub struct TokenProxy {
    /// Its https address.
    pub url: String,
    /// The authority of its certificate.
    pub ca_file: Option<PathBuf>,
    /// The name in its certificate.
    pub sni: Option<String>,
}

impl IdentitySettings {
    /// What policies and questions may know of it.
    #[must_use]
    pub fn info(&self) -> IdentityInfo {
        let mut info = IdentityInfo::new(&self.name, self.kind());
        match &self.way {
            Way::Managed(ManagedId::Only) => {}
            Way::Managed(ManagedId::Client(id)) => info.client_id = Some(*id),
            Way::Managed(ManagedId::Object(id)) => info.object_id = Some(*id),
            Way::Managed(ManagedId::Resource(id)) => info.resource_id = Some(id.clone()),
            Way::Arc(id) => info.resource_id.clone_from(id),
            Way::Application(it) | Way::OnBehalfOf(it) => {
                info.tenant = Some(it.tenant);
                info.client_id = Some(it.client_id);
            }
        }
        info
    }

    const fn kind(&self) -> IdentityKind {
        match &self.way {
            Way::Managed(_) => IdentityKind::Managed,
            Way::Arc(_) => IdentityKind::Arc,
            Way::OnBehalfOf(_) => IdentityKind::OnBehalfOf,
            Way::Application(it) => match it.proof {
                Proof::Secret(_) => IdentityKind::Secret,
                Proof::Certificate { .. } => IdentityKind::Certificate,
                Proof::Federated { .. } => IdentityKind::Federated,
            },
        }
    }

    /// All identities of the configuration. `tenant` and `endpoints` are the node's own, for identities
    /// that name none.
    ///
    /// # Errors
    /// The first identity that is not whole.
    pub fn resolve(
        identities: &[BrokerIdentity],
        tenant: Option<TenantId>,
        endpoints: &Endpoints,
    ) -> Result<Vec<Self>, SettingsError> {
        let mut all: Vec<Self> = Vec::with_capacity(identities.len());
        for one in identities {
            if all.iter().any(|known| *known.name == *one.name) {
                return Err(SettingsError::Twice(one.name.clone()));
            }
            all.push(Self { name: one.name.as_str().into(), way: way(one, tenant, endpoints)? });
        }
        Ok(all)
    }
}

fn way(one: &BrokerIdentity, tenant: Option<TenantId>, ends: &Endpoints) -> Result<Way, SettingsError> {
    use BrokerIdentityKind as Kind;
    let application = |proof: Proof| application(one, tenant, ends, proof);
    let missing = |key| SettingsError::Missing(one.name.clone(), key);
    Ok(match one.kind {
        Kind::Managed => Way::Managed(match (one.client_id, one.object_id, &one.resource_id) {
            (Some(id), _, _) => ManagedId::Client(id),
            (None, Some(id), _) => ManagedId::Object(id),
            (None, None, Some(id)) => ManagedId::Resource(id.clone()),
            (None, None, None) => ManagedId::Only,
        }),
        Kind::Arc => Way::Arc(one.resource_id.clone()),
        Kind::Secret => Way::Application(application(secret(one).ok_or_else(|| missing("secret_file"))?)?),
        Kind::Certificate => {
            Way::Application(application(certificate(one).ok_or_else(|| missing("certificate_file"))?)?)
        }
        Kind::Federated => {
            Way::Application(application(federated(one).ok_or_else(|| missing("token_file"))?)?)
        }
        Kind::OnBehalfOf => {
            let proof = secret(one).or_else(|| certificate(one)).or_else(|| federated(one));
            Way::OnBehalfOf(application(proof.ok_or_else(|| missing("secret_file"))?)?)
        }
        Kind::AzureCli => return Err(SettingsError::ClientSide(one.name.clone())),
    })
}

fn secret(one: &BrokerIdentity) -> Option<Proof> {
    one.secret_file.clone().map(Proof::Secret)
}

fn certificate(one: &BrokerIdentity) -> Option<Proof> {
    let send_chain = one.send_chain.unwrap_or(false);
    one.certificate_file.clone().map(|file| Proof::Certificate { file, send_chain })
}

fn federated(one: &BrokerIdentity) -> Option<Proof> {
    let proxy = one.token_proxy.clone().map(|url| TokenProxy {
        url,
        ca_file: one.token_proxy_ca_file.clone(),
        sni: one.token_proxy_sni.clone(),
    });
    one.token_file.clone().map(|file| Proof::Federated { file, proxy })
}

fn application(
    one: &BrokerIdentity,
    tenant: Option<TenantId>,
    ends: &Endpoints,
    proof: Proof,
) -> Result<Application, SettingsError> {
    let login = match one.cloud {
        None | Some(config::Cloud::Auto) => ends.login.clone(),
        Some(config::Cloud::AzureCloud) => Cloud::Public.endpoints().login,
        Some(config::Cloud::AzureUSGovernment) => Cloud::UsGovernment.endpoints().login,
        Some(config::Cloud::AzureChinaCloud) => Cloud::China.endpoints().login,
    };
    Ok(Application {
        tenant: one.tenant.or(tenant).ok_or_else(|| SettingsError::NoTenant(one.name.clone()))?,
        client_id: one.client_id.ok_or_else(|| SettingsError::Missing(one.name.clone(), "client_id"))?,
        login,
        proof,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    const ID: &str = "8d6e7a10-0000-4000-8000-000000000001";

    fn resolve(text: &str, tenant: Option<&str>) -> Result<Vec<IdentitySettings>, SettingsError> {
        let config: config::Config = toml::from_str(text).unwrap();
        let tenant = tenant.map(|id| id.parse().unwrap());
        IdentitySettings::resolve(&config.broker.identity, tenant, &Cloud::UsGovernment.endpoints())
    }

    #[test]
    fn gaps_are_filled_from_the_node_and_nothing_else() {
        let text = format!(
            "[[broker.identity]]\nname = \"a\"\nkind = \"secret\"\nclient_id = \"{ID}\"\nsecret_file = \"/s\"\n\
             [[broker.identity]]\nname = \"b\"\nkind = \"certificate\"\nclient_id = \"{ID}\"\n\
             certificate_file = \"/c\"\ntenant = \"{ID}\"\ncloud = \"AzureChinaCloud\"\n\
             [[broker.identity]]\nname = \"c\"\nkind = \"managed\"\nobject_id = \"{ID}\"\n"
        );
        let all = resolve(&text, Some(TENANT)).unwrap();
        let application = |at: usize| match &all[at].way {
            Way::Application(it) => (it.tenant.to_string(), it.login.clone()),
            other => panic!("{other:?}"),
        };
        assert_eq!(application(0), (TENANT.into(), "https://login.microsoftonline.us".into()));
        assert_eq!(application(1), (ID.into(), "https://login.partner.microsoftonline.cn".into()));
        let infos: Vec<IdentityInfo> = all.iter().map(IdentitySettings::info).collect();
        let kinds: Vec<_> = infos.iter().map(|info| info.kind).collect();
        assert_eq!(kinds, [IdentityKind::Secret, IdentityKind::Certificate, IdentityKind::Managed]);
        assert_eq!((infos[0].client_id, infos[0].tenant), (ID.parse().ok(), TENANT.parse().ok()));
        assert_eq!((infos[2].object_id, infos[2].client_id), (ID.parse().ok(), None));
        assert_eq!(resolve(&text, None).unwrap_err(), SettingsError::NoTenant("a".into()));
    }

    #[test]
    fn one_name_is_one_identity() {
        let one = "[[broker.identity]]\nname = \"a\"\nkind = \"managed\"\n";
        let said = resolve(&one.repeat(2), None).unwrap_err();
        assert_eq!(said, SettingsError::Twice("a".into()));
    }
}
