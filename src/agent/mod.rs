//! The daemon put together: configuration, facts, sockets, start and stop. Here services meet;
//! nothing here decides.

pub mod admin;
mod azure_facts;
mod broker;
mod ca_keys;
mod case;
mod credential;
mod daemon;
mod gate;
#[cfg(test)]
mod gate_tests;
mod listing;
mod offer;
mod refresh;
mod roles;
mod servers;
mod settings;

pub use case::Decided;
pub use daemon::{DaemonError, Paths, run};
pub use gate::{AskRoles, FindPerson, Gate, GateSettings, LocalFacts, MAX_UPSTREAM_WAIT};
pub use listing::entries;
pub use offer::AfterOffer;
pub use servers::{Door, serve};
pub use settings::{Machine, Settings, SettingsError};
