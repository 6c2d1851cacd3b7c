//! What the kernel alone can tell: who is on the other end of a socket, and which listeners
//! systemd handed over. The only room of the root library that may hold `unsafe`.

mod caller;
#[cfg(test)]
mod caller_tests;
mod cgroup;
mod listeners;
mod peer;
mod sock_diag;
mod zone;

pub use caller::{CallerError, CallerHandle, caller_of_loopback, caller_of_unix};
pub use listeners::{ListenerError, named_listeners};
pub use peer::{Peer, PeerError};
pub use zone::local_civil;
