//! Who may hold a connection, and how many: the part that both surfaces share before a byte is read.
//!
//! The uid is asked of the kernel right after accept, so that one uid can take its own slots and nobody
//! else's. Nothing that a peer does ends the accept loop.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nightlatch_tokens::Caller;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::warn;

use super::audit::Audit;

/// The most connections of one uid, over all doors that share the slots.
pub const MAX_CONNECTIONS_PER_UID: u32 = 32;
/// The most connections of everybody together.
pub const MAX_CONNECTIONS: u32 = 1_024;
/// The most connections of all people together. One person can have 65,536 uids (subuid(5)) and so take any
/// number of times [`MAX_CONNECTIONS_PER_UID`]; root and the services of the node keep the rest.
pub const MAX_CONNECTIONS_OF_PEOPLE: u32 = MAX_CONNECTIONS / 2;
/// The pause after a failed accept, when descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is on the other end, for as long as the connection lasts.
pub trait Present: Send + Sync {
    /// What the kernel said when the connection was made.
    fn caller(&self) -> &Caller;
    /// Whether that very process is still there; asked for each question.
    fn still_there(&self) -> bool;
}

/// A caller, or the sentence that says why there is none.
pub type Who = Result<Arc<dyn Present>, String>;

/// Asks the kernel about a connection.
pub trait Recognise<S>: Send + Sync + 'static {
    /// The uid alone: cheap, for the limits.
    ///
    /// # Errors
    /// When the kernel does not say; the connection is closed.
    fn uid(&self, stream: &S) -> io::Result<u32>;
    /// The whole caller.
    fn who(&self, stream: &S) -> Who;
}

/// The counted connections.
#[derive(Default)]
pub struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: u32,
    people: u32,
    per_uid: HashMap<u32, u32>,
}

/// Whether a uid is root's, a system user's or one of `DynamicUser=` (systemd's "Users, Groups, UIDs and GIDs
/// on systemd Systems"): nobody can be given those in /etc/subuid by default.
const fn is_of_the_system(uid: u32) -> bool {
    matches!(uid, 0..=999 | 61_184..=65_519)
}

/// One connection's place; given back when it goes.
pub struct Slot {
    slots: Arc<Slots>,
    uid: u32,
}

impl Slots {
    /// A place for one more connection of `uid`, where there is one.
    #[must_use]
    pub fn take(self: &Arc<Self>, uid: u32) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.per_uid.get(&uid).copied().unwrap_or(0);
        let person = !is_of_the_system(uid);
        let full = taken.total >= MAX_CONNECTIONS || person && taken.people >= MAX_CONNECTIONS_OF_PEOPLE;
        if full || mine >= MAX_CONNECTIONS_PER_UID {
            return None;
        }
        taken.total += 1;
        taken.people += u32::from(person);
        taken.per_uid.insert(uid, mine + 1);
        Some(Slot { slots: Arc::clone(self), uid })
    }

    /// How many connections there are.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        taken.people = taken.people.saturating_sub(u32::from(!is_of_the_system(self.uid)));
        match taken.per_uid.get(&self.uid).copied() {
            Some(mine) if mine > 1 => taken.per_uid.insert(self.uid, mine - 1),
            _ => taken.per_uid.remove(&self.uid),
        };
    }
}

/// A listening socket of either kind.
pub trait Listen: Send + Sync + 'static {
    /// What it accepts.
    type Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static;
    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let stream = self.accept().await?.0;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The next connection that has a place. Failed accepts are waited out; connections without a place are
/// closed and counted.
pub(super) async fn admit<L: Listen>(
    listener: &L,
    recognise: &impl Recognise<L::Stream>,
    slots: &Arc<Slots>,
    audit: &Audit,
) -> (L::Stream, Slot) {
    loop {
        match listener.next().await {
            Ok(stream) => match recognise.uid(&stream).ok().and_then(|uid| slots.take(uid)) {
                Some(slot) => return (stream, slot),
                None => audit.skip(),
            },
            Err(cause) => {
                warn!("accepting a question for a token failed, trying again: {cause}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // A flood is turned away without a pause; whoever has a place still gets a turn.
        tokio::task::consume_budget().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_takes_its_own_places_and_all_together_no_more_than_there_are() {
        let slots = Arc::new(Slots::default());
        let mut held: Vec<Slot> = (0..MAX_CONNECTIONS_PER_UID).filter_map(|_| slots.take(1)).collect();
        assert!(slots.take(1).is_none());
        held.extend((2..).map_while(|uid| slots.take(uid)));
        assert_eq!((held.len(), slots.in_use()), (MAX_CONNECTIONS as usize, MAX_CONNECTIONS));
        held.pop();
        assert!(slots.take(1).is_none() && slots.take(u32::MAX).is_some());
        held.clear();
        assert_eq!(slots.in_use(), 0);
        assert!(slots.taken.lock().unwrap().per_uid.is_empty());
        assert_eq!(slots.taken.lock().unwrap().people, 0);
    }

    #[test]
    fn past_bug_68_one_person_with_many_uids_leaves_places_to_services() {
        let slots = Arc::new(Slots::default());
        let mut held = Vec::new();
        for uid in 100_000..165_536 {
            held.extend((0..2).map_while(|_| slots.take(uid)));
        }
        assert_eq!(held.len(), MAX_CONNECTIONS_OF_PEOPLE as usize);
        for uid in [0, 33, 999, 61_184, 65_519] {
            let of_service: Vec<Slot> = (0..MAX_CONNECTIONS_PER_UID).map_while(|_| slots.take(uid)).collect();
            assert_eq!(of_service.len(), MAX_CONNECTIONS_PER_UID as usize, "uid {uid}");
        }
        held.clear();
        assert!(slots.take(1_000).is_some());
    }
}
