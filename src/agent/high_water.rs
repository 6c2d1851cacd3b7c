//! The high-water mark of time over restarts: read at start, written now and then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_policy::BootId;
use tracing::{error, warn};

use super::gate::Time;
use crate::accounts::boot_id;
use crate::clock::{Clock, Mark};
use crate::entra::http::Witness;
use crate::store::{read_capped, replace_file};

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The mark, in the state folder.
const FILE: &str = "clock-mark";
/// How often a mark that moved is written.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How far it must have moved to be worth writing, in seconds.
const WORTH_WRITING_S: i64 = 60;

/// The time of this boot, with what an earlier run knew.
pub(super) fn restore(state: &Path, clock: Clock) -> Time {
    let mark = Mark::default();
    let kept =
        read_capped(&state.join(FILE), 64).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(seconds) = kept.and_then(|text| text.trim().parse().ok()) {
        mark.restore(Timestamp(seconds), clock.boot());
    }
    let boot = std::fs::read_to_string(BOOT_ID).ok().and_then(|text| boot_id(&text));
    if boot.is_none() {
        // Every start is then a boot of its own: ages are told by the wall clock alone.
        warn!("`{BOOT_ID}` cannot be read");
    }
    Time { clock, mark, boot: boot.unwrap_or_else(random_boot) }
}

fn random_boot() -> BootId {
    let mut random = [0_u8; 16];
    let _ = aws_lc_rs::rand::fill(&mut random);
    BootId(random)
}

/// Hears the time that Azure's verified answers carry.
pub(super) fn witness(time: &Time) -> Witness {
    let (clock, mark) = (time.clock.clone(), time.mark.clone());
    Witness::new(move |host, told| mark.witness(host, told, clock.now(), clock.boot()))
}

/// Writes the mark now and then, and says when the clock turns suspect, for as long as the daemon runs.
pub(super) async fn keep(time: Time, state: PathBuf) {
    let mut written: Option<Timestamp> = None;
    let mut suspect = false;
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        let boot = time.clock.boot();
        let (_, now_suspect) = time.mark.judge_by(time.clock.now(), boot);
        if now_suspect && !suspect {
            error!(
                "the clock of this node is behind a time that Azure told: nobody gets grace; set the clock"
            );
        }
        suspect = now_suspect;
        let Some(mark) = time.mark.at(boot) else { continue };
        if written.is_some_and(|written| mark.since(written) < WORTH_WRITING_S) {
            continue;
        }
        match replace_file(&state.join(FILE), format!("{}\n", mark.0).as_bytes(), 0o600, false) {
            Ok(()) => written = Some(mark),
            Err(cause) => warn!("the time that Azure told will not survive a restart: {cause}"),
        }
    }
}
