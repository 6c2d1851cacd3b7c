//! The configuration: one file and its drop-ins, every key optional, unknown keys refused with
//! their line. Where each value came from is kept, so that `config show --effective` can say it.
//!
//! Only root-owned files are read; the environment never changes what is decided.

mod broker;
mod file;
mod load;

pub use broker::{Broker, BrokerIdentity, BrokerIdentityKind, SignIn};
pub use file::{
    CaSource, Cloud, Config, ExpiryTime, Identity, Kind, Login, Mode, NameClaim, Network, Node, OpenPubkey,
    RoleBackEnd, RoleScope, Trust,
};
pub use load::{ConfigError, DROP_INS, Entry, FILE, Loaded, Origin, load, load_installed};
pub use nightlatch_model::Span;
