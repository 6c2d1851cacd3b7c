//! The daemon put together: configuration, facts, sockets, start and stop. Here services meet;
//! nothing here decides.

mod access_rules;
mod account;
pub mod admin;
mod azure_facts;
mod broker;
mod ca_keys;
mod case;
mod credential;
mod daemon;
mod explain;
mod gate;
#[cfg(test)]
mod gate_tests;
mod high_water;
mod listing;
mod live;
mod local_files;
mod observed;
mod offer;
mod openpubkey;
mod refresh;
mod rejudge;
mod replay;
mod roles;
mod servers;
mod sessions_admin;
mod settings;
mod status;
mod step_up;
mod token_keys;

pub use case::Decided;
pub use daemon::{DaemonError, Paths, run};
pub use gate::{
    AskRoles, Books, FindPerson, Gate, GateSettings, KeepSessions, Known, LocalFacts, MAX_UPSTREAM_WAIT,
    Outside, RoleAsk, Time,
};
pub use listing::entries;
pub use offer::AfterOffer;
pub use rejudge::Wake;
pub use servers::{Door, Served, serve};
pub use settings::{Machine, Settings, SettingsError};
