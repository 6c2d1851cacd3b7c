//! A node of an AKS cluster in the emulated cloud, with the product on it: the world of the demo, the
//! playground and the stories.
//!
//! The node is configured like a real one: azure.json, IMDS, and one line that says `enforce`.

use std::time::Duration;

use nightlatch_emulator::world;
use serde_json::json;

use crate::image::{Image, prepare};
use crate::install::{Binaries, attach, install};
use crate::node::{Node, NodeSpec};
use crate::person::Person;
use crate::run::{WorldError, wait_until};
use crate::tenant::{Metadata, Tenant};

/// How long the daemon may take to learn the authorities' keys.
const KEYS_LIMIT: Duration = Duration::from_secs(15);

/// The node, its tenant, and what they were made from. The tenant goes before the node.
#[derive(Debug)]
pub struct Cluster {
    /// The image of every node.
    pub image: Image,
    /// The emulated tenant in the node's network.
    pub tenant: Tenant,
    /// The node.
    pub node: Node,
}

impl Cluster {
    /// Boots a node, starts the tenant beside it, installs the product and attaches it; `more` goes to the
    /// end of the configuration.
    ///
    /// # Errors
    /// What did not work, with the daemon's journal where it helps.
    pub fn start(more: &str) -> Result<Self, WorldError> {
        Self::start_on(&NodeSpec::default(), more)
    }

    /// The same on a node of this kind.
    ///
    /// # Errors
    /// What did not work.
    pub fn start_on(spec: &NodeSpec, more: &str) -> Result<Self, WorldError> {
        let cluster = Self::bare_on(spec, more)?;
        cluster.install()?;
        Ok(cluster)
    }

    /// The same without the product.
    ///
    /// # Errors
    /// What did not work.
    pub fn bare(more: &str) -> Result<Self, WorldError> {
        Self::bare_on(&NodeSpec::default(), more)
    }

    /// The same on a node of this kind.
    ///
    /// # Errors
    /// What did not work.
    pub fn bare_on(spec: &NodeSpec, more: &str) -> Result<Self, WorldError> {
        let image = prepare()?;
        let node = Node::boot(spec)?;
        let tenant = Tenant::start(&node, Metadata::Imds)?;
        node.shell("install -d -m 0755 /etc/nightlatch /etc/kubernetes")?;
        let azure = json!({"cloud": "AzurePublicCloud", "tenantId": world::TENANT,
            "subscriptionId": world::SUBSCRIPTION, "resourceGroup": world::NODE_RESOURCE_GROUP,
            "location": world::REGION, "vmType": "vmss", "userAssignedIdentityID": world::KUBELET_CLIENT});
        node.write_file("/etc/kubernetes/azure.json", azure.to_string().as_bytes(), 0o600, "root:root")?;
        let text = format!("mode = \"enforce\"\n{more}");
        node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root")?;
        Ok(Self { image, tenant, node })
    }

    /// Installs the product on a bare node and waits until it knows the authorities' keys.
    ///
    /// # Errors
    /// What did not work, with the daemon's journal.
    pub fn install(&self) -> Result<(), WorldError> {
        install(&self.node, &Binaries::find()?)?;
        attach(&self.node)?;
        let ready = wait_until("the daemon to know the authorities' keys", KEYS_LIMIT, || {
            self.node.exec(&["nightlatch", "status"]).is_ok_and(|done| done.status.success())
        });
        ready.map(drop).map_err(|why| {
            let journal = self.node.journal(&["-u", "nightlatchd"]).unwrap_or_default();
            WorldError::new(format!("{why}\n{journal}"))
        })
    }

    /// Somebody who signed in as `upn` and got a certificate.
    ///
    /// # Errors
    /// Entra's own words when it refuses.
    pub fn person(&self, upn: &str) -> Result<Person, WorldError> {
        let person = Person::new(&self.image)?;
        self.tenant.sign_in(&person, upn)?;
        Ok(person)
    }
}
