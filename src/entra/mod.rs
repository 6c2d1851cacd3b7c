//! Talking to Entra: the HTTP client with its limits, the clouds, the grants of the token endpoint, and the
//! node's own tokens.
//!
//! Nothing here decides about a person, and no token leaves as plain text except through
//! [`nightlatch_model::Secret::expose`].

pub mod clouds;
#[cfg(test)]
pub(crate) mod emulated;
pub(crate) mod flight;
pub mod graph;
pub mod http;
pub mod node_identity;
pub mod oauth;
pub mod sign_in;
#[cfg(test)]
pub(crate) mod tiny_server;
