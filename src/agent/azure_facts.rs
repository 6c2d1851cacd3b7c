//! What the machine says about itself: azure.json, then IMDS or himds. All of it may be missing,
//! and then the configuration must say it.

use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};

use super::settings::Machine;
use crate::config::{Cloud, Config, Kind, RoleBackEnd};
use crate::entra::clouds;
use crate::imds::{AZURE_JSON, AzureJson, Himds, Imds, Instance};

/// How long a metadata service may take to say who this machine is.
const METADATA_LIMIT: Duration = Duration::from_secs(5);
/// The copy of azure.json that the service's unit makes before it starts.
const HANDED_OVER: &str = "/run/nightlatch/azure.json";
/// The Arc agent's folder: there only on Arc-enabled machines.
const ARC_FOLDER: &str = "/var/opt/azcmagent";

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
    let needed = config.login.roles_from != Some(RoleBackEnd::File)
        && !(told(&config.node.resource_id) && told(&config.node.region));
    let arc = Path::new(ARC_FOLDER).exists();
    let (instance, found) = match kind {
        Some(Kind::Plain) => (None, Kind::Plain),
        Some(kind @ (Kind::ArcVm | Kind::AksArc)) if needed => (himds().await, kind),
        Some(kind) if !needed => (None, kind),
        Some(kind) => (imds().await, kind),
        None if arc => (himds().await, Kind::ArcVm),
        None if needed || config.node.kind.is_none() => match imds().await {
            Some(instance) => (Some(instance), Kind::Vm),
            None => (None, Kind::Plain),
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

async fn imds() -> Option<Instance> {
    let imds = Imds::new().ok()?;
    said("IMDS", tokio::time::timeout(METADATA_LIMIT, imds.instance()).await)
}

async fn himds() -> Option<Instance> {
    let himds = Himds::new().ok()?;
    said("himds", tokio::time::timeout(METADATA_LIMIT, himds.instance()).await)
}

fn said<E: std::fmt::Display, T>(who: &str, answer: Result<Result<Instance, E>, T>) -> Option<Instance> {
    match answer {
        Ok(Ok(instance)) => Some(instance),
        Ok(Err(cause)) => {
            warn!("{who} does not say what machine this is: {cause}");
            None
        }
        Err(_) => {
            warn!("{who} does not answer within {} s", METADATA_LIMIT.as_secs());
            None
        }
    }
}
