//! What the machine says about itself: azure.json, then IMDS or himds. All of it may be missing,
//! and then the configuration must say it. What a metadata service said at the last start is kept:
//! a daemon that starts while the service is down must not be the one that closes the node.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::daemon::Paths;
use super::settings::Machine;
use crate::config::{Cloud, Config, Kind, RoleBackEnd};
use crate::entra::clouds;
use crate::imds::{AZURE_JSON, AzureJson, Himds, Imds, Instance};
use crate::store::{read_capped, replace_file};

/// How long a metadata service may take to say who this machine is.
const METADATA_LIMIT: Duration = Duration::from_secs(5);
/// The copy of azure.json that the service's unit makes before it starts.
const HANDED_OVER: &str = "/run/nightlatch/azure.json";
/// The Arc agent's folder: there only on Arc-enabled machines.
const ARC_FOLDER: &str = "/var/opt/azcmagent";
/// What the last start was told, in the state folder.
const KEPT: &str = "machine.json";
/// The largest file of that kind, in bytes.
const MAX_KEPT_BYTES: u64 = 16 * 1024;
/// A disk that was copied to another machine has another id there.
const MACHINE_ID: &str = "/etc/machine-id";

/// What a metadata service said, and to which machine.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    machine_id: String,
    service: String,
    resource_id: Option<String>,
    location: Option<String>,
    az_environment: Option<String>,
}

/// Asks what the configuration leaves open.
pub(super) async fn find_out(config: &Config) -> Machine {
    let mut machine = Machine::default();
    // The original is root's alone; systemd hands a copy over.
    let json = [HANDED_OVER, AZURE_JSON].into_iter().map(Path::new).find(|path| path.exists());
    if let Some(path) = json {
        match AzureJson::read(path) {
            Ok(json) => {
                machine.tenant = Some(json.tenant);
                machine.cloud = Some(cloud(json.cloud));
                machine.region = json.location;
                machine.client_id = json.kubelet_identity.map(|id| id.to_string());
                machine.kind = Some(Kind::Aks);
            }
            Err(cause) => warn!("{cause}"),
        }
    }
    let kind = match config.node.kind {
        None | Some(Kind::Auto) => machine.kind,
        said => said,
    };
    let told = |value: &Option<String>| value.as_deref().is_some_and(|value| value != "auto");
    // A roles file is about this machine too, but asks nobody in its region.
    let regional = config.login.roles_from != Some(RoleBackEnd::File);
    let needed = !(told(&config.node.resource_id) && (told(&config.node.region) || !regional));
    let arc = Path::new(ARC_FOLDER).exists();
    let (instance, found) = match kind {
        Some(Kind::Plain) => (None, Kind::Plain),
        Some(kind @ (Kind::ArcVm | Kind::AksArc)) if needed => (himds().await, kind),
        Some(kind) if !needed => (None, kind),
        Some(kind) => (imds().await, kind),
        None if arc => (himds().await, Kind::ArcVm),
        None if needed || config.node.kind.is_none() => match imds().await {
            Some(instance) => (Some(instance), Kind::Vm),
            None => {
                machine.is_guessed = true;
                (None, Kind::Plain)
            }
        },
        None => (None, Kind::Plain),
    };
    machine.kind = Some(found);
    if let Some(instance) = instance {
        machine.cloud = machine.cloud.or_else(|| {
            let named = instance.az_environment.as_deref()?;
            clouds::Cloud::from_environment_name(named).ok().map(cloud)
        });
        machine.region = instance.location.map(|name| name.to_ascii_lowercase()).or(machine.region);
        machine.resource_id = instance.resource_id;
    }
    info!("this machine is {:?}, {:?}, {:?}", found, machine.cloud, machine.resource_id);
    machine
}

const fn cloud(cloud: clouds::Cloud) -> Cloud {
    match cloud {
        clouds::Cloud::Public => Cloud::AzureCloud,
        clouds::Cloud::UsGovernment => Cloud::AzureUSGovernment,
        clouds::Cloud::China => Cloud::AzureChinaCloud,
    }
}

async fn imds() -> Option<Said> {
    let imds = Imds::new().ok()?;
    said("IMDS", tokio::time::timeout(METADATA_LIMIT, imds.instance()).await)
}

async fn himds() -> Option<Said> {
    let himds = Himds::new().ok()?;
    said("himds", tokio::time::timeout(METADATA_LIMIT, himds.instance()).await)
}

fn said<E: std::fmt::Display, T>(who: &str, answer: Result<Result<Instance, E>, T>) -> Option<Said> {
    let kept = Paths::default().state.join(KEPT);
    let machine_id = std::fs::read_to_string(MACHINE_ID).unwrap_or_default().trim().to_owned();
    match answer {
        Ok(Ok(instance)) => {
            let said = Said {
                machine_id,
                service: who.to_owned(),
                resource_id: instance.resource_id,
                location: instance.location,
                az_environment: instance.az_environment,
            };
            if said.resource_id.is_some() {
                said.keep(&kept);
            }
            return Some(said);
        }
        Ok(Err(cause)) => warn!("{who} does not say what machine this is: {cause}"),
        Err(_) => warn!("{who} does not answer within {} s", METADATA_LIMIT.as_secs()),
    }
    let said = Said::recall(&kept, who, &machine_id)?;
    warn!("what {who} said at an earlier start stands: {:?}", said.resource_id);
    Some(said)
}

impl Said {
    fn keep(&self, path: &Path) {
        let Ok(bytes) = serde_json::to_vec(self) else { return };
        if let Err(cause) = replace_file(path, &bytes, 0o600, false) {
            warn!("what machine this is will not be known while {} is down: {cause}", self.service);
        }
    }

    fn recall(path: &Path, who: &str, machine_id: &str) -> Option<Self> {
        let bytes = read_capped(path, MAX_KEPT_BYTES).ok().flatten()?;
        let said: Self = serde_json::from_slice(&bytes).ok()?;
        (said.service == who && said.machine_id == machine_id && !machine_id.is_empty()).then_some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_to_another_machine_or_by_another_service_is_not_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEPT);
        let said = |machine_id: &str| Said {
            machine_id: machine_id.into(),
            service: "IMDS".into(),
            resource_id: Some("/subscriptions/s".into()),
            location: Some("westeurope".into()),
            az_environment: None,
        };
        assert_eq!(Said::recall(&path, "IMDS", "a"), None);
        said("a").keep(&path);
        assert_eq!(Said::recall(&path, "IMDS", "a"), Some(said("a")));
        assert_eq!(Said::recall(&path, "IMDS", "b"), None);
        assert_eq!(Said::recall(&path, "himds", "a"), None);
        said("").keep(&path);
        assert_eq!(Said::recall(&path, "IMDS", ""), None);
    }
}
