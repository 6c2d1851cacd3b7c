//! The name responder: answers `io.systemd.UserDatabase` for the people whom Entra lets in.
//!
//! nss-systemd asks it on every look-up of a name or an id on the node, so it must never wait for
//! anything: it answers from a snapshot file and from `/etc/passwd`, both re-read when they
//! change. It computes a locked record for a name never seen and remembers nothing about it. It
//! must never believe a snapshot that it has not checked itself, never answer for a local
//! account, and never speak of a uid, a gid or a group outside Nightlatch's own range.

mod directory;
mod files;
mod local;
mod parameters;
mod server;
mod source;
mod varlink;
mod watchdog;

use std::sync::Arc;

use nightlatch_model::Timestamp;

pub use server::{BindError, Server, Stopper};
pub use source::Source;
pub use varlink::{Answerer, INTERFACE};
pub use watchdog::{Notifier, ProbeError, probe, watch, watchdog_interval};

/// Where a line for the journal goes.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What time it is. Only `main` reads the clock.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;
