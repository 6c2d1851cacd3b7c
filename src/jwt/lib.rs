//! Tokens that Entra issued: what one says, and whether it may be believed.
//!
//! A token is text from a stranger until [`validate`] has answered. It never chooses its algorithm, key, issuer,
//! tenant or audience: those are what the caller expects and what the issuer's key set says. The signature is checked
//! by a library; header and claims are read by our own strict parser, because the library's forgives what must not
//! be forgiven (reference/08 §0 fact 7).
//!
//! Nothing here may read a clock, a file or the network, fetch what a token points at, or take an absent claim for a
//! satisfied one.

mod cic;
mod claims;
mod client;
mod compact;
mod expected;
mod header;
mod json;
mod key;
mod key_set;
mod limits;
mod pk_refusal;
mod pk_token;
mod read;
mod refetch;
mod refusal;
mod validate;

pub use claims::{Claims, Groups};
pub use client::{ClientHeader, with_refreshed};
pub use expected::{Evidence, Expected, Issuer, Kind, Version};
pub use header::Algorithm;
pub use key_set::{KeySet, KeySetError, Merged};
pub use limits::{
    KEY_GRACE_S, MAX_CLAIM_ITEMS, MAX_JWKS_BYTES, MAX_KEYS, MAX_KID_BYTES, MAX_LEEWAY_S, MAX_LIFETIME_S,
    MAX_PK_TOKEN_BYTES, MAX_REFRESHED_S, MAX_STALE_S, MAX_TOKEN_BYTES, REFETCH_S,
};
pub use pk_refusal::PkRefusal;
pub use pk_token::{Expiration, PROOF_EXTENSION, Proof, WILDCARD_PRINCIPAL, verify_proof};
pub use refetch::Refetch;
pub use refusal::Refusal;
pub use validate::validate;
