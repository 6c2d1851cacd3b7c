//! Renewal ahead of time: one future with one timer looks after all keys.
//!
//! Only what is in use is renewed: asked for within the last hours, or watched. The rest is let go when
//! its token is over. The timer is short enough that a machine back from suspend is looked after at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Room, Watched};

/// The longest time between two looks. The timer does not count suspend; the clock of the leases does.
pub(super) const LOOK_MOST: Duration = Duration::from_secs(30);
/// The shortest, so that a storm of events costs little.
const LOOK_LEAST: Duration = Duration::from_millis(50);
/// Questions under way at once beyond which no renewal is started, so that it never crowds out callers.
pub(super) const BACKGROUND_FLIGHTS: usize = 8;

/// Looks after the keys until the last handle of the cache is gone.
pub(super) fn run(room: &Arc<Room>) -> impl Future<Output = ()> + Send + 'static {
    let wake = Arc::clone(&room.wake);
    let room = Arc::downgrade(room);
    async move {
        loop {
            let Some(pause) = room.upgrade().map(|room| turn(&room)) else { return };
            tokio::time::sleep(LOOK_LEAST).await;
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(LOOK_LEAST)) => {}
                () = wake.notified() => {}
            }
        }
    }
}

/// One look at every key; says how long nothing more is due.
pub(super) fn turn(room: &Arc<Room>) -> Duration {
    let now = room.now();
    let mut pause = LOOK_MOST;
    for shard in &room.shards {
        let mut shard = Room::open(shard);
        shard.retain(|key, slot| {
            let watched = slot.is_watched();
            let wanted = watched || slot.lease.idle(now) <= room.settings.in_use;
            let over = slot.lease.token().is_none() && slot.flight.is_none();
            if !wanted && over && !slot.lease.must_be_remembered() {
                room.places.give_back(key);
                return false;
            }
            let crowded = room.flying.load(Ordering::Relaxed) >= BACKGROUND_FLIGHTS;
            // When it is crowded, the next landing wakes this up again.
            let look = slot.lease.tick(now, wanted && !crowded, &mut || room.allow(key, now));
            if look.start {
                slot.flight = Some(super::flight::launch(room, key, None));
            }
            if look.dropped {
                slot.show(Watched { token: None, failure: slot.lease.failure().cloned() });
            }
            if let Some(again) = look.again {
                pause = pause.min(again.saturating_sub(now.boot));
            }
            true
        });
    }
    pause.max(LOOK_LEAST)
}
