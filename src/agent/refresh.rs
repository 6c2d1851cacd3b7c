//! Keys that a metadata service listed: merged with those that are known, and kept over a restart.

use std::path::Path;

use nightlatch_sshcert::PublicKey;
use tracing::{info, warn};

use super::gate::{Gate, Time};
use crate::login::{KeptKey, KeySource, MAX_TRUST_FILE_BYTES, TrustStore};
use crate::store::{read_capped, replace_file};

/// Merges a list that a metadata service gave, and keeps it over a restart.
pub(super) fn merge_keys(gate: &Gate, source: KeySource, listed: Vec<PublicKey>, kept: &Path) {
    if listed.is_empty() {
        return;
    }
    let now = gate.moment().wall;
    let (changed, keys) =
        gate.with_facts(|facts| (facts.trust.merge(source, listed, now), facts.trust.kept()));
    if changed {
        info!("the keys of {source:?} changed; {} CA keys are believed", keys.len());
    }
    let Ok(bytes) = serde_json::to_vec(&keys) else { return };
    if let Err(cause) = replace_file(kept, &bytes, 0o600, changed) {
        warn!("the CA keys will not survive a restart: {cause}: {:?}", std::error::Error::source(&cause));
    }
}

/// The store as the last run left it.
#[must_use]
pub(super) fn restore_keys(kept: &Path, grace: i64, time: &Time) -> TrustStore {
    // By the mark where the clock is behind it, as logins are judged.
    let (now, _) = time.mark.judge_by(time.clock.now(), time.clock.boot());
    let mut trust = TrustStore::new(grace);
    match read_capped(kept, MAX_TRUST_FILE_BYTES) {
        Ok(Some(bytes)) => match serde_json::from_slice::<Vec<KeptKey>>(&bytes) {
            Ok(keys) => trust.restore(keys, now),
            Err(cause) => warn!("`{}` is damaged and ignored: {cause}", kept.display()),
        },
        Ok(None) => {}
        Err(cause) => warn!("{cause}: {:?}", std::error::Error::source(&cause)),
    }
    trust
}
