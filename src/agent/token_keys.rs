//! Brings the keys that Entra signs tokens with, for as long as the daemon runs, where OpenPubkey is on.
//!
//! Once a day, and when a certificate shows a token with an unknown key; strangers can show such, so that is bounded. What
//! was fetched is merged and kept over restarts. A fetch that fails changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nightlatch_jwt::{KeySet, MAX_JWKS_BYTES, Merged, Refetch};
use nightlatch_model::Timestamp;
use tokio::time::sleep;
use tracing::{info, warn};

use super::gate::Gate;
use super::settings::Settings;
use crate::entra::http::{Http, Request};
use crate::store::{read_capped, replace_file};

/// Where the keys are kept, in the state folder.
const FILE: &str = "token-keys.json";
/// How often the document is fetched without a reason: what Microsoft's documentation advises.
const INTERVAL: Duration = Duration::from_secs(24 * 3_600);
/// How much earlier at most, so that a fleet does not ask at once.
const JITTER_S: u64 = 4 * 3_600;
/// The first pause after a failure; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// The keys as the last run left them. `now` is not behind what somebody authenticated told: a machine that starts
/// with a clock of long ago must not take its keys for keys of then.
pub(super) fn restore(state: &Path, now: Timestamp) -> KeySet {
    let path = state.join(FILE);
    match read_capped(&path, MAX_JWKS_BYTES as u64) {
        Ok(Some(bytes)) => KeySet::restore(&bytes, now).unwrap_or_else(|cause| {
            warn!("`{}` is damaged and ignored: {cause}", path.display());
            KeySet::default()
        }),
        Ok(None) => KeySet::default(),
        Err(cause) => {
            warn!("{cause}: {:?}", std::error::Error::source(&cause));
            KeySet::default()
        }
    }
}

/// Fetches for ever; at once when there is nothing to do.
pub(super) async fn keep_fresh(settings: Settings, gate: Arc<Gate>, state: PathBuf) {
    if settings.openpubkey.is_none() {
        return;
    }
    let http = match super::roles::internet(&settings, &gate.time) {
        Ok(http) => http,
        Err(cause) => return warn!("the keys of tokens cannot be fetched: {cause}"),
    };
    let url = format!("{}/{}/discovery/v2.0/keys", settings.endpoints().login, settings.tenant);
    let mut refetch = Refetch::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = match fetch(&http, &url, &gate, &state).await {
            Ok(merged) => {
                if merged.added + merged.dropped > 0 {
                    info!("keys of tokens: {} new, {} forgotten", merged.added, merged.dropped);
                }
                pause = FIRST_PAUSE;
                INTERVAL.saturating_sub(jitter())
            }
            Err(why) => {
                warn!("the keys of tokens were not fetched; what is known stays: {why}");
                let waited = pause;
                pause = (pause * 2).min(MAX_PAUSE);
                waited
            }
        };
        let up_s = || i64::try_from(gate.clock().boot().as_secs()).unwrap_or(i64::MAX);
        tokio::select! {
            () = sleep(wait) => {}
            // Whoever shows an unknown key too early is remembered: the fetch comes as soon as it may.
            () = async {
                gate.unknown_key.notified().await;
                sleep(refetch.wait(up_s())).await;
            } => refetch.took(up_s()),
        }
    }
}

fn jitter() -> Duration {
    let mut random = [0_u8; 8];
    // Without randomness the fleet asks at once, which is no worse than no jitter.
    let _ = aws_lc_rs::rand::fill(&mut random);
    Duration::from_secs(u64::from_le_bytes(random) % JITTER_S)
}

async fn fetch(http: &Http, url: &str, gate: &Gate, state: &Path) -> Result<Merged, String> {
    let reply = http.send(Request::get(url)).await.map_err(|cause| cause.to_string())?;
    if reply.status() != 200 {
        return Err(format!("{} answered {}: {}", reply.host(), reply.status(), reply.head()));
    }
    let now = gate.moment().wall;
    // Parsed apart: the hook reads the facts meanwhile.
    let mut keys = gate.with_facts(|facts| facts.token_keys.clone());
    let merged = keys.merge(reply.body(), now).map_err(|cause| format!("{}: {cause}", reply.host()))?;
    let saved = keys.save();
    gate.with_facts(|facts| facts.token_keys = keys);
    let kept = saved.map_err(|cause| cause.to_string()).and_then(|bytes| {
        replace_file(&state.join(FILE), &bytes, 0o600, false).map_err(|cause| cause.to_string())
    });
    if let Err(cause) = kept {
        warn!("the keys of tokens will not survive a restart: {cause}");
    }
    Ok(merged)
}
