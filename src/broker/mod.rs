//! The token broker: refreshed Entra tokens for local programs, to exactly those that the policy allows.
//!
//! `nightlatch-tokens` decides; here are the edges: the cache with its refresher, the sources, the
//! people who signed in, and the two surfaces, which share one code path. A token leaves only
//! through that path, after the policy said yes to a caller that the kernel named, and each
//! hand-out is recorded. No part of this room prints, logs or stores an access token.

pub mod audit;
#[cfg(test)]
mod audit_tests;
mod audit_writer;
#[cfg(test)]
mod behalf_tests;
pub mod cache;
pub mod door;
pub mod grpc;
#[cfg(test)]
mod grpc_tests;
mod grpc_words;
pub mod http;
mod http_answer;
mod http_question;
#[cfg(test)]
mod http_tests;
pub mod identity_header;
pub mod inventory;
mod kernel;
#[cfg(test)]
mod limits_tests;
pub mod pace;
pub mod people;
mod rate;
pub mod refusal;
pub mod service;
pub mod sign_in;
pub mod sources;
#[cfg(test)]
mod surface_tests;
pub mod watching;

use std::future::Future;
use std::pin::Pin;

pub use audit::Audit;
pub use door::Slots;
pub use refusal::{Refusal, RefusalKind};
pub use service::{Broker, Parts, PopSigner};
pub use sign_in::{LoginWish, Progress, SignIn, SignInStep, SignInSteps, SignedIn};

use nightlatch_tokens::{Claims, Failure, Token, TokenKey};

/// What a source's question resolves to.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Token, Failure>> + Send + 'a>>;

/// Where tokens come from.
pub trait Source: Send + Sync {
    /// Asks for the token of `key`, with a claims challenge where there is one. One question to the
    /// outside, or the few that the protocol needs; whoever calls decides about trying again.
    fn fetch<'a>(&'a self, key: &'a TokenKey, claims: Option<&'a Claims>) -> Fetching<'a>;

    /// Names what fails together: the host and client behind `key`. One circuit breaker guards each.
    fn circuit(&self, key: &TokenKey) -> String;
}

/// The generated protocol of broker.sock.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("nightlatch.broker.v1");
}
