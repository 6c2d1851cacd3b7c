//! Stories on a real node: one file a topic, one test binary. Real sshd, real PAM, real NSS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "stories fail by panicking, and they wait on other programs with a deadline"
)]

mod acceptance;
mod access_rules;
mod arc;
mod breakage;
mod broker;
mod broker_clients;
mod broker_more;
mod broker_more_secrets;
mod broker_oidc;
mod broker_sources;
mod capture;
mod cloud;
mod doctor;
mod doors;
mod edge;
mod faults;
mod fleet;
mod interop;
mod killed;
mod live;
mod logins;
mod matrix;
mod node_state;
mod observe;
mod openpubkey;
mod opkssh;
mod own_client;
mod past_bugs;
mod people;
mod renewal;
mod review;
mod site;
mod step_up;
mod storms;
mod tenant;
mod traced;
