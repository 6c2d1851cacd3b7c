//! Brings the keys of certificate authorities from the metadata services, for as long as the
//! daemon runs. A service that is down or answers nonsense changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_sshcert::PublicKey;
use tracing::warn;

use super::gate::Gate;
use super::refresh::merge_keys;
use super::settings::Settings;
use crate::config::CaSource;
use crate::imds::{CaKeys, Himds, Imds, ImdsError};
use crate::login::KeySource;

/// How often a metadata service is asked. It is on the machine itself, and a new key is believed
/// at most this long after its publication.
const INTERVAL: Duration = Duration::from_secs(60);
/// The first pause after a failure; it doubles up to [`INTERVAL`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

enum Service {
    Imds(Imds),
    Himds(Himds),
}

impl Service {
    async fn keys(&self) -> Result<CaKeys, ImdsError> {
        match self {
            Self::Imds(imds) => imds.ca_keys().await,
            Self::Himds(himds) => himds.ca_keys().await,
        }
    }
}

/// Asks every metadata service that the settings name.
pub(super) async fn keep_fresh(settings: Settings, gate: Arc<Gate>, kept: PathBuf) {
    let mut tasks = tokio::task::JoinSet::new();
    for source in settings.ca_sources {
        let (service, source) = match source {
            CaSource::Imds => (Imds::new().map(Service::Imds), KeySource::Imds),
            CaSource::Himds => (Himds::new().map(Service::Himds), KeySource::Himds),
            CaSource::File => continue,
        };
        match service {
            Ok(service) => drop(tasks.spawn(keep_one(service, source, Arc::clone(&gate), kept.clone()))),
            Err(cause) => warn!("{source:?} cannot be asked for keys: {cause}"),
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn keep_one(service: Service, source: KeySource, gate: Arc<Gate>, kept: PathBuf) {
    let mut pause = FIRST_PAUSE;
    let mut complained = false;
    let mut left_out = Vec::new();
    loop {
        match service.keys().await {
            Ok(published) => {
                let (keys, odd) = usable(published);
                if left_out != odd {
                    odd.iter().for_each(|why| warn!("a CA key of {source:?} is left out: {why}"));
                    left_out = odd;
                }
                merge_keys(&gate, source, keys, &kept);
                (pause, complained) = (FIRST_PAUSE, false);
                tokio::time::sleep(INTERVAL).await;
            }
            Err(cause) => {
                if !complained {
                    warn!("{source:?} gives no CA keys; what is known stays believed for the grace: {cause}");
                    complained = true;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(INTERVAL);
            }
        }
    }
}

/// The keys of accepted kinds, and why others are left out: one odd key does not spoil the others.
fn usable(published: CaKeys) -> (Vec<PublicKey>, Vec<String>) {
    let (mut keys, mut odd) = (Vec::new(), published.left_out);
    for key in published.keys {
        match PublicKey::from_openssh_line(&format!("{} {}", key.key_type, key.base64)) {
            Ok(usable) => keys.push(usable),
            Err(cause) => odd.push(cause.to_string()),
        }
    }
    (keys, odd)
}
