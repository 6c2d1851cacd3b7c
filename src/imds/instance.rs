//! The Azure VM instance metadata service, 169.254.169.254.
//!
//! Sends `Metadata: true` with every question and takes no retry of its own: who asks decides how
//! long it can wait.

use std::collections::BTreeMap;
use std::time::Duration;

use nightlatch_model::{Guid, Timestamp};
use serde::Deserialize;

use super::ImdsError;
use super::ca_keys::{CaKeys, parse_ca_keys};
use super::token::{AccessToken, TokenAnswer};
use crate::entra::http::{Http, HttpError, Reply, Request, with_query};

/// Where IMDS listens.
pub const IMDS_BASE: &str = "http://169.254.169.254";
/// The version of the instance document.
const INSTANCE_VERSION: &str = "2021-02-01";
/// The version of the token endpoint.
const TOKEN_VERSION: &str = "2018-02-01";
/// The version of the CA keys.
pub(super) const CA_KEYS_VERSION: &str = "2019-03-11";
/// How long IMDS may take: it is one hop away, and on a machine without it nothing answers at all.
const IMDS_TIMEOUT: Duration = Duration::from_secs(4);
/// IMDS is being updated; it may take up to 70 s ("Use managed identities on a virtual machine").
const GONE: u16 = 410;

/// What the machine is, as far as IMDS or himds says. Every field may be missing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    /// The ARM id: the node's scope.
    pub resource_id: Option<String>,
    /// The subscription.
    pub subscription_id: Option<String>,
    /// The resource group; on AKS the node resource group (`MC_…`).
    pub resource_group_name: Option<String>,
    /// The region's short name.
    pub location: Option<String>,
    /// `AzurePublicCloud`, `AzureUSGovernmentCloud`, `AzureChinaCloud`.
    pub az_environment: Option<String>,
    /// The scale set, when the machine is in one.
    pub vm_scale_set_name: Option<String>,
    /// The machine's name in Azure.
    pub name: Option<String>,
    /// The tags, as `tagsList` gives them.
    #[serde(rename = "tagsList")]
    tags: Vec<Tag>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct Tag {
    name: String,
    value: String,
}

impl Instance {
    /// The tags by name.
    #[must_use]
    pub fn tags(&self) -> BTreeMap<&str, &str> {
        self.tags.iter().map(|tag| (tag.name.as_str(), tag.value.as_str())).collect()
    }

    /// An empty text means "not known" in IMDS' answers.
    #[must_use]
    pub fn without_empty(mut self) -> Self {
        for field in [
            &mut self.resource_id,
            &mut self.subscription_id,
            &mut self.resource_group_name,
            &mut self.location,
            &mut self.az_environment,
            &mut self.vm_scale_set_name,
            &mut self.name,
        ] {
            if field.as_deref() == Some("") {
                *field = None;
            }
        }
        self
    }
}

/// Which managed identity of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ManagedId {
    /// The system-assigned one, or the only one.
    Only,
    /// By its client id.
    Client(Guid),
    /// By its object id.
    Object(Guid),
    /// A user-assigned one by its ARM id.
    Resource(String),
}

/// The metadata service of an Azure VM.
#[derive(Clone, Debug)]
pub struct Imds {
    http: Http,
    base: String,
}

impl Imds {
    /// The real one.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new() -> Result<Self, HttpError> {
        Self::at(IMDS_BASE)
    }

    /// One at another address, for tests: loopback only, the HTTP client sees to that.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn at(base: &str) -> Result<Self, HttpError> {
        Ok(Self { http: Http::node()?, base: base.trim_end_matches('/').to_owned() })
    }

    async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> Result<Reply, ImdsError> {
        let url = with_query(&format!("{}{path}", self.base), fields);
        let request = Request::get(url).header("metadata", "true").within(IMDS_TIMEOUT);
        let reply = self.http.send(request).await?;
        if reply.is_success() { Ok(reply) } else { Err(refused(&reply)) }
    }

    /// What this machine is.
    ///
    /// # Errors
    /// When IMDS does not answer or refuses.
    pub async fn instance(&self) -> Result<Instance, ImdsError> {
        let reply = self.ask("/metadata/instance/compute", &[("api-version", INSTANCE_VERSION)]).await?;
        Ok(reply.json::<Instance>()?.without_empty())
    }

    /// A token of the machine's managed identity for exactly `resource` (never with `/.default`).
    /// `client_id` chooses among several identities.
    ///
    /// # Errors
    /// When IMDS does not answer or refuses.
    pub async fn identity_token(
        &self,
        resource: &str,
        client_id: Option<Guid>,
        now: Timestamp,
    ) -> Result<AccessToken, ImdsError> {
        let which = client_id.map_or(ManagedId::Only, ManagedId::Client);
        self.token_of(&which, resource, now).await
    }

    /// A token of the managed identity that `which` names, for exactly `resource`.
    ///
    /// # Errors
    /// When IMDS does not answer or refuses, or gives the token of another identity.
    pub async fn token_of(
        &self,
        which: &ManagedId,
        resource: &str,
        now: Timestamp,
    ) -> Result<AccessToken, ImdsError> {
        let mut fields = vec![("api-version", TOKEN_VERSION), ("resource", resource)];
        let named = match which {
            ManagedId::Only => None,
            ManagedId::Client(id) => Some(("client_id", id.to_string())),
            ManagedId::Object(id) => Some(("object_id", id.to_string())),
            ManagedId::Resource(id) => Some(("msi_res_id", id.clone())),
        };
        if let Some((name, value)) = &named {
            fields.push((name, value));
        }
        let reply = self.ask("/metadata/identity/oauth2/token", &fields).await?;
        let answer: TokenAnswer = reply.secret_json()?;
        let unusable = |detail: String| ImdsError::Unusable { service: "IMDS", detail };
        if let ManagedId::Client(id) = which
            && answer.is_of_another(*id)
        {
            return Err(unusable("its token is of another identity than was asked for".to_owned()));
        }
        answer.into_token(resource, now).map_err(unusable)
    }

    /// The keys that sign Entra's SSH certificates.
    ///
    /// # Errors
    /// When IMDS does not answer, refuses, or names no key that can be used.
    pub async fn ca_keys(&self) -> Result<CaKeys, ImdsError> {
        let reply = self.ask("/metadata/login/ca_keys", &[("api-version", CA_KEYS_VERSION)]).await?;
        parse_ca_keys(reply.body()).map_err(|detail| ImdsError::Unusable { service: "IMDS", detail })
    }
}

fn refused(reply: &Reply) -> ImdsError {
    if reply.status() == 400 && contains(reply.body(), b"Multiple user assigned identities") {
        return ImdsError::ManyIdentities;
    }
    if reply.status() == 400 && contains(reply.body(), b"Identity not found") {
        return ImdsError::NoIdentity("IMDS: Identity not found".to_owned());
    }
    ImdsError::Refused {
        service: "IMDS",
        status: reply.status(),
        detail: reply.head(),
        // 404 too: the identity endpoint answers it while the machine's identities are being changed.
        transient: reply.is_transient() || matches!(reply.status(), 404 | GONE),
        retry_after: reply.retry_after(Timestamp(i64::MAX)),
    }
}

fn contains(body: &[u8], words: &[u8]) -> bool {
    body.windows(words.len()).any(|part| part == words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::tiny_server::{Answer, Server};

    const NOW: Timestamp = Timestamp(1_800_000_000);

    #[tokio::test]
    async fn the_instance_of_an_aks_node_is_read() {
        let body = r#"{"azEnvironment":"AzurePublicCloud","location":"westeurope","name":"aks-n_0",
            "resourceGroupName":"MC_rg_c_westeurope","vmId":"x","zone":"",
            "resourceId":"/subscriptions/s/resourceGroups/MC_rg_c_westeurope/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0",
            "subscriptionId":"s","vmScaleSetName":"","tagsList":[{"name":"a","value":"b"}],"unknown":[[[]]]}"#;
        let server = Server::start(vec![Answer::new(200, body)]).await;
        let instance = Imds::at(&server.url("")).unwrap().instance().await.unwrap();
        assert_eq!(instance.location.as_deref(), Some("westeurope"));
        assert_eq!(instance.vm_scale_set_name, None, "empty is unknown");
        assert_eq!(instance.tags().get("a"), Some(&"b"));
        let seen = server.seen();
        assert!(seen[0].line.starts_with("GET /metadata/instance/compute?api-version="));
        assert!(seen[0].head.contains("metadata: true"));
    }

    #[tokio::test]
    async fn the_resource_is_asked_for_exactly() {
        let body = r#"{"access_token":"tok","client_id":"c","expires_in":"86399","expires_on":"1800086399",
            "ext_expires_in":"86399","not_before":"1","resource":"https://authorization.azure.net","token_type":"Bearer"}"#;
        let server = Server::start(vec![Answer::new(200, body)]).await;
        let client = "8d6e7a10-0000-4000-8000-000000000001".parse().unwrap();
        let imds = Imds::at(&server.url("")).unwrap();
        let token = imds.identity_token("https://authorization.azure.net", Some(client), NOW).await.unwrap();
        assert_eq!(token.secret().expose(), "tok");
        assert_eq!(token.expires(), NOW.plus(86_399));
        assert_eq!(
            server.seen()[0].line,
            "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fauthorization.azure.net&client_id=8d6e7a10-0000-4000-8000-000000000001 HTTP/1.1"
        );
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_read_is_not_repeated() {
        let body = r#"{"access_token":"s3cret","expires_in":[]}"#;
        let server = Server::start(vec![Answer::new(200, body), Answer::new(200, "\"s3cret\"")]).await;
        let imds = Imds::at(&server.url("")).unwrap();
        for _ in 0..2 {
            let said = imds.identity_token("r", None, NOW).await.map(|_| ()).unwrap_err().to_string();
            assert!(said.contains("line 1") && !said.contains("s3cret"), "{said}");
        }
    }

    #[tokio::test]
    async fn refusals_say_what_they_are() {
        let many = r#"{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}"#;
        let server = Server::start(vec![
            Answer::new(400, many),
            Answer::new(400, r#"{"error":"invalid_resource","error_description":"AADSTS500011"}"#),
            Answer::new(410, ""),
            Answer::new(429, ""),
        ])
        .await;
        let imds = Imds::at(&server.url("")).unwrap();
        let mut said = Vec::new();
        for _ in 0..4 {
            said.push(imds.identity_token("r", None, NOW).await.map(|_| ()).unwrap_err());
        }
        assert_eq!(said[0], ImdsError::ManyIdentities);
        assert_eq!(said.iter().map(ImdsError::is_transient).collect::<Vec<_>>(), [false, false, true, true]);
    }
}
