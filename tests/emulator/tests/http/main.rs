//! The emulator from outside: every quirk and branch over real sockets, on free loopback ports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test harness"
)]

mod broker;
mod control;
mod entra;
mod faults;
mod grants;
mod id_token;
mod interop;
mod listing;
mod metadata;
mod pdp;
mod stage;
