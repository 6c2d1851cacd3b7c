//! What the kernel alone can tell: who is on the other end of a socket, and which listeners
//! systemd handed over. The only room of the root library that may hold `unsafe`.

mod listeners;
mod peer;
mod zone;

pub use listeners::{ListenerError, named_listeners};
pub use peer::{Peer, PeerError};
pub use zone::local_civil;
