//! Talking to Entra: the HTTP client with its limits, the clouds, and the node's own tokens.
//!
//! Nothing here decides about a person, and no token leaves as plain text except through
//! [`nightlatch_model::Secret::expose`].

pub mod clouds;
pub(crate) mod flight;
pub mod graph;
pub mod http;
pub mod node_identity;
pub mod oauth;
#[cfg(test)]
pub(crate) mod tiny_server;
