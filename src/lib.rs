//! The map of Nightlatch's root library: one line a room. See `ARCHITECTURE.md`.
//!
//! Arrows go down only: composition, then services, then the rooms that own one outside thing,
//! then the locked rooms (own crates): model, policy, sshcert, wire.

// -- each owns one outside thing --
pub mod azure;
pub mod clock;
pub mod config;
pub mod entra;
pub mod imds;
pub mod store;
pub mod sys;
pub mod telemetry;
// -- services; they speak in model types --
pub mod access;
pub mod accounts;
pub mod attach;
pub mod broker;
pub mod capture;
pub mod login;
pub mod sessions;
// -- composition --
pub mod agent;
pub mod cli;
