//! What makes two tokens two: the key of the cache.
//!
//! A field that is missing here lets one caller have another's token. The owner stands in it for a
//! person's tokens, so that no spelling of a name can reach somebody else's.

use std::sync::Arc;

use crate::{Purpose, Resource};

/// The key of one kept token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey {
    /// The configured name of the identity.
    pub identity: Arc<str>,
    /// The uid that signed in, for a person's token.
    pub owner: Option<u32>,
    /// The audience, in its exact spelling.
    pub resource: Resource,
    /// Delegated scopes, sorted; empty for `.default`.
    pub scopes: Vec<String>,
    /// Whether it was asked for with `cp1`. Such a token may only go to who handles it.
    pub cae: bool,
    /// The thumbprint of the key that it is bound to.
    pub pop_key: Option<String>,
    /// What it is for: an agent's token is never a program's.
    pub purpose: Purpose,
    /// The object id of the person that an application acts for (on behalf of): a new sign-in under the same
    /// uid never gets what was made for the one before.
    pub on_behalf_of: Option<String>,
}
