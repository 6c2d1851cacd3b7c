//! The accept loops of hook.sock and account.sock: one frame in, one frame out, then closed.
//!
//! Nothing that a peer does ends a loop or holds another peer up: connections are bounded in
//! number and in time, and a failed accept is waited out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_wire::{MAX_FRAME, Message, UNSUPPORTED, frame_len};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use super::gate::Gate;
use crate::clock::Clock;
use crate::sys::Peer;
use crate::telemetry::ServiceTimes;

/// How long answers take on one socket.
#[derive(Debug, Default)]
pub struct Served {
    /// From accept to reply: what the caller waits for, its own waits included.
    pub whole: ServiceTimes,
    /// From the whole question to the reply: what the daemon alone takes.
    pub own: ServiceTimes,
}

/// The most connections that are answered at once on one socket.
const MAX_CONNECTIONS: usize = 512;
/// How long a peer may take to send its frame. Our hook sends it in one write.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// How long the answer may take to leave.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// The pause after a failed accept, when descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Which questions a socket takes. One socket, one caller, one verb set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Only offers, only from the hook's user.
    Hook,
    /// Only account and auth, and while observing what others let in; only from root.
    Account,
}

impl Door {
    /// What the socket is called, without its ending.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Account => "account",
        }
    }
}

/// Serves a socket until the task is dropped. How long each answer took goes to `times`.
pub async fn serve(door: Door, listener: UnixListener, uid: u32, gate: Arc<Gate>, times: Arc<Served>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let accepted = gate.clock().boot();
                let (gate, times) = (Arc::clone(&gate), Arc::clone(&times));
                tokio::spawn(async move {
                    let replied = |clock: &Clock, asked: Duration| {
                        let now = clock.boot();
                        times.whole.note(now.saturating_sub(accepted));
                        times.own.note(now.saturating_sub(asked));
                    };
                    if let Err(cause) = answer(door, stream, uid, &gate, replied).await {
                        gate.recorder()
                            .complain(format!("{door:?}: a question that did not end well: {cause}"));
                    }
                    drop(slot);
                });
            }
            Err(cause) => {
                warn!("accepting on {door:?} failed, trying again: {cause}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(
    door: Door,
    mut stream: UnixStream,
    uid: u32,
    gate: &Arc<Gate>,
    replied: impl FnOnce(&Clock, Duration),
) -> io::Result<()> {
    let peer = Peer::of(&stream).map_err(io::Error::other)?;
    if let Err(refused) = peer.require(uid) {
        gate.recorder().complain(format!("{door:?}: {refused}"));
        return Ok(());
    }
    let body = timeout(READ_LIMIT, read_body(&mut stream)).await??;
    let asked = gate.clock().boot();
    let decoded = Message::decode(&body);
    let waits_for_a_person = matches!(decoded, Ok(Message::Prompt(_)));
    let reply = match decoded {
        Ok(Message::Offer(offer)) if door == Door::Hook => {
            let (answer, after) = gate.offer(&offer);
            let written = write(&mut stream, &answer).await;
            replied(gate.clock(), asked);
            // Nobody waits any more; and what was judged is recorded also when nobody took the answer.
            gate.after_offer(&offer, after);
            return written;
        }
        Ok(question) => reply(door, &question, gate).await,
        Err(cause) if cause.is_unsupported() => {
            gate.recorder().complain(format!("{door:?}: {cause}"));
            Message::Err(UNSUPPORTED.into())
        }
        Err(cause) => {
            gate.recorder().complain(format!("{door:?}: a frame that cannot be read: {cause}"));
            Message::Err("malformed".into())
        }
    };
    let written = write(&mut stream, &reply).await;
    // Whoever waits for a person says nothing about the daemon's pace.
    if !waits_for_a_person {
        replied(gate.clock(), asked);
    }
    written
}

async fn write(stream: &mut UnixStream, reply: &Message) -> io::Result<()> {
    let bytes = reply.encode().map_err(|cause| io::Error::other(cause.to_string()))?;
    timeout(WRITE_LIMIT, stream.write_all(&bytes)).await?
}

async fn read_body(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut prefix = [0_u8; 4];
    stream.read_exact(&mut prefix).await?;
    let len = frame_len(prefix).map_err(|cause| io::Error::other(cause.to_string()))?;
    debug_assert!(len <= MAX_FRAME);
    let mut body = vec![0_u8; len];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn reply(door: Door, question: &Message, gate: &Arc<Gate>) -> Message {
    match (door, question) {
        (Door::Account, Message::Account(account)) => {
            // In a task of its own: a helper that goes away does not cancel a decision half-way.
            let gate = Arc::clone(gate);
            let account = account.clone();
            let decided = tokio::spawn(async move { gate.account(&account).await }).await;
            decided.unwrap_or_else(|_| Message::Err("internal".into()))
        }
        (Door::Account, Message::Prompt(prompt)) => gate.step_up(prompt).await,
        (Door::Account, Message::Auth(auth)) => Message::Text(gate.auth_text(auth)),
        (Door::Account, Message::Observed(seen)) if gate.is_observing() => {
            gate.observed(seen.clone());
            Message::Done
        }
        _ => {
            gate.recorder().complain(format!("{door:?}: a verb that this socket does not take"));
            Message::Err(UNSUPPORTED.into())
        }
    }
}
