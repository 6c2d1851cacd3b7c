//! An Entra tenant with everything a Linux node asks of it, for tests: token endpoint with SSH
//! certificates, PDP and ARM role checks, Graph, instance metadata and the Arc agent, with a control API to
//! change the world, break services and read what was asked.
//!
//! It has its own JSON shapes and its own signing and shares no code with what it tests. It binds only what
//! it is told to and must never be given a real secret.

mod access;
mod apps;
mod arm;
pub mod assumed;
mod bearer;
mod bucket;
mod call;
pub mod client;
mod clock;
mod control;
mod directory;
mod entra;
mod faults;
mod form;
mod graph;
mod himds;
mod ids;
mod imds;
mod jwt;
mod pdp;
mod rbac;
mod record;
mod rsakey;
mod seed;
mod serve;
mod sessions;
mod sshcert;
mod start;
mod state;
mod throttle;
mod tls;
pub mod world;

pub use start::{Endpoints, HIMDS_TOKEN_DIR, Options, Running, StartError, start};
