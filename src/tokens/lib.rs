//! The deciding half of the token broker: what is asked, by whom, who may have it, how long a token
//! is served, and what a failure means.
//!
//! Nothing here reads a clock, a file, a socket or the network: time comes in as an argument, and
//! names come in already looked up. Nothing here ever holds more of a secret than [`Token`].

mod ask;
mod caller;
mod failure;
mod identity;
mod key;
pub mod lease;
pub mod policy;
mod resource;
mod token;

pub use ask::{Ask, AskError, Claims, IdentityRef, MAX_CLAIMS_BYTES, PopAsk, Purpose};
pub use caller::{Caller, Door, Place, Pod, Process};
pub use failure::{Failure, FailureClass};
pub use identity::{IdentityInfo, IdentityKind, IdentityTable, PERSON};
pub use key::TokenKey;
pub use resource::{MAX_RESOURCE_BYTES, Resource, ResourceError};
pub use token::{Stamp, Token, TokenType};
