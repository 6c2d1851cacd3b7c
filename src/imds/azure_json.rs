//! `/etc/kubernetes/azure.json`: what AKS leaves on its nodes for the cloud provider.
//!
//! Read once at start, with no network. It may hold a client secret (`aadClientSecret`); that key is
//! not even parsed here. The file is 0600 root, so the daemon gets it as a systemd credential or as a
//! path that the installer made readable. It does not name the cluster's own ARM id: the node resource
//! group (`MC_…`) can be called anything, so the cluster id comes from the configuration.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nightlatch_model::{Guid, TenantId};
use serde::Deserialize;
use thiserror::Error;

use crate::entra::clouds::{Cloud, CloudError};

/// Where AKS keeps it.
pub const AZURE_JSON: &str = "/etc/kubernetes/azure.json";
/// The largest file that is read, in bytes; a real one has about 3 KiB.
pub const MAX_AZURE_JSON_BYTES: u64 = 64 * 1024;

/// Why the file tells nothing.
#[derive(Debug, Error)]
pub enum AzureJsonError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("{0} is larger than {MAX_AZURE_JSON_BYTES} bytes: it is not the file that AKS writes")]
    TooLarge(String),
    /// It is not what AKS writes.
    #[error("{path} cannot be understood: {detail}")]
    NotUnderstood {
        /// The file.
        path: String,
        /// What the parser said; never a value from the file.
        detail: String,
    },
    /// It names a cloud that is not known.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// What the file says about this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AzureJson {
    /// The tenant of the cluster.
    pub tenant: TenantId,
    /// The cloud; public when the file is silent, as for the cloud provider itself.
    pub cloud: Cloud,
    /// The subscription of the node.
    pub subscription: Option<Guid>,
    /// The node resource group.
    pub resource_group: Option<String>,
    /// The region.
    pub location: Option<String>,
    /// `vmss` or `standard`.
    pub vm_type: Option<String>,
    /// The client id of the kubelet's managed identity.
    pub kubelet_identity: Option<Guid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    tenant_id: TenantId,
    cloud: Option<String>,
    subscription_id: Option<Guid>,
    resource_group: Option<String>,
    location: Option<String>,
    vm_type: Option<String>,
    #[serde(rename = "userAssignedIdentityID")]
    user_assigned_identity_id: Option<String>,
}

impl AzureJson {
    /// Reads the file at `path`, normally [`AZURE_JSON`].
    ///
    /// # Errors
    /// When it is missing, too large or not what AKS writes.
    pub fn read(path: &Path) -> Result<Self, AzureJsonError> {
        let name = path.display().to_string();
        let failed = |source| AzureJsonError::Read { path: name.clone(), source };
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_AZURE_JSON_BYTES + 1).read_to_end(&mut text))
            .map_err(failed)?;
        if text.len() as u64 > MAX_AZURE_JSON_BYTES {
            return Err(AzureJsonError::TooLarge(name));
        }
        Self::parse(&text, &name)
    }

    /// Understands the text of the file; an error calls it `name`.
    ///
    /// # Errors
    /// When it is not what AKS writes.
    pub fn parse(text: &[u8], name: &str) -> Result<Self, AzureJsonError> {
        // Only the place of the fault is told: serde's own words may quote a value.
        let raw: Raw = serde_json::from_slice(text).map_err(|e| AzureJsonError::NotUnderstood {
            path: name.to_owned(),
            detail: format!("line {}, column {}", e.line(), e.column()),
        })?;
        let some = |text: Option<String>| text.filter(|t| !t.is_empty());
        Ok(Self {
            tenant: raw.tenant_id,
            cloud: some(raw.cloud).map_or(Ok(Cloud::Public), |name| Cloud::from_environment_name(&name))?,
            subscription: raw.subscription_id,
            resource_group: some(raw.resource_group),
            location: some(raw.location),
            vm_type: some(raw.vm_type),
            // Empty for a system-assigned identity; an ARM id is not a client id and is left out.
            kubelet_identity: raw.user_assigned_identity_id.and_then(|id| id.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AzureJson, AzureJsonError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("azure.json");
        std::fs::write(&path, text).unwrap();
        AzureJson::read(&path)
    }

    #[test]
    fn a_node_of_aks_is_understood() {
        let json = read(
            r#"{"cloud":"AzurePublicCloud","tenantId":"72f988bf-86f1-41af-91ab-2d7cd011db47",
            "subscriptionId":"11111111-2222-3333-4444-555555555555","aadClientId":"msi","aadClientSecret":"msi",
            "resourceGroup":"MC_rg_c_westeurope","location":"westeurope","vmType":"vmss","useInstanceMetadata":true,
            "userAssignedIdentityID":"8d6e7a10-0000-4000-8000-000000000001","loadBalancerSku":"Standard"}"#,
        )
        .unwrap();
        assert_eq!(json.cloud, Cloud::Public);
        assert_eq!(json.tenant.to_string(), "72f988bf-86f1-41af-91ab-2d7cd011db47");
        assert_eq!(json.kubelet_identity.unwrap().to_string(), "8d6e7a10-0000-4000-8000-000000000001");
        assert_eq!(json.resource_group.as_deref(), Some("MC_rg_c_westeurope"));
    }

    #[test]
    fn other_files_are_refused_and_never_quoted() {
        assert!(matches!(AzureJson::read(Path::new("/nonexistent")), Err(AzureJsonError::Read { .. })));
        let large = " ".repeat(usize::try_from(MAX_AZURE_JSON_BYTES).unwrap() + 1);
        assert!(matches!(read(&large), Err(AzureJsonError::TooLarge(_))));
        let cloud = r#"{"tenantId":"72f988bf-86f1-41af-91ab-2d7cd011db47","cloud":"AzureStackCloud"}"#;
        assert!(matches!(read(cloud), Err(AzureJsonError::Cloud(_))));
        let said = read(r#"{"tenantId":"s3cret"}"#).unwrap_err().to_string();
        assert!(!said.contains("s3cret"), "{said}");
    }
}
