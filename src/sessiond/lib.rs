//! The session keeper: the table of live sessions, and the only program of Nightlatch that ends any.
//!
//! It knows monitors (through pidfds), audit session ids and login uids of our own range; it ends what it is
//! told to end and writes one start and one end record for each session. It must never decide who may log in,
//! never see a token, never reach a network, and never signal a process that it has not looked at again after
//! it had a hold on it.

pub mod accounts;
pub mod clock;
pub mod ending;
#[cfg(test)]
mod fake;
pub mod journal;
pub mod keeper;
pub mod key;
pub mod ledger;
pub mod notify;
pub mod order;
pub mod peer;
pub mod process;
pub mod record;
pub mod replay;
pub mod scan;
pub mod server;
pub mod signal;
pub mod sweep;
pub mod table;
pub mod tty;
pub mod watch;
