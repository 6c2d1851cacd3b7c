//! What a caller asks for: a token of which identity, for which resource, with which extras.
//!
//! An [`Ask`] is checked and normalised once, at the surface that took it in; it says nothing about
//! who asks.

use std::fmt;
use std::time::Duration;

use nightlatch_model::Guid;
use thiserror::Error;

use crate::Resource;

/// The largest claims document, in bytes.
pub const MAX_CLAIMS_BYTES: usize = 4 * 1024;
/// The longest name of an identity and the longest ARM id, in bytes.
const MAX_IDENTITY_BYTES: usize = 512;
/// The longest `u` and nonce of a signed HTTP request, in bytes.
const MAX_POP_BYTES: usize = 1024;

/// Why something is no part of a question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AskError {
    /// Not JSON, not an object, or too large.
    #[error(
        "the claims are not a JSON object of at most {MAX_CLAIMS_BYTES} bytes; pass on what the service sent"
    )]
    Claims,
    /// An empty or strange name of an identity.
    #[error("the identity is neither a name, a client id, an object id nor an ARM resource id")]
    Identity,
    /// An empty or strange `u` or nonce.
    #[error("a signed request needs the ARM id of the cluster as `u`, of printable characters")]
    Pop,
}

/// Whose token it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdentityRef {
    /// None named: the first identity that the policy grants this caller for this resource.
    Default,
    /// The name that the configuration gives it.
    Name(String),
    /// A managed identity or application by its client id.
    ClientId(Guid),
    /// A managed identity by its object id.
    ObjectId(Guid),
    /// A user-assigned managed identity by its ARM id; compared without case.
    ResourceId(String),
    /// The person who signed in under the caller's uid.
    Person,
}

impl IdentityRef {
    /// A name from the configuration: letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// [`AskError::Identity`].
    pub fn name(text: &str) -> Result<Self, AskError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > MAX_IDENTITY_BYTES || !text.bytes().all(plain) {
            return Err(AskError::Identity);
        }
        Ok(Self::Name(text.to_owned()))
    }

    /// An ARM id; kept in lower case.
    ///
    /// # Errors
    /// [`AskError::Identity`].
    pub fn resource_id(text: &str) -> Result<Self, AskError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./()".contains(&b);
        let whole = text.starts_with('/') && text.len() <= MAX_IDENTITY_BYTES && text.bytes().all(plain);
        if !whole || text.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(AskError::Identity);
        }
        Ok(Self::ResourceId(text.to_ascii_lowercase()))
    }
}

/// A claims challenge, passed on as the service sent it (Microsoft Learn, "Claims challenges,
/// claims requests and client capabilities"): checked to be one JSON object, otherwise not read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claims(String);

impl Claims {
    /// Takes the JSON text.
    ///
    /// # Errors
    /// [`AskError::Claims`].
    pub fn new(json: &str) -> Result<Self, AskError> {
        if json.len() > MAX_CLAIMS_BYTES {
            return Err(AskError::Claims);
        }
        match serde_json::from_str(json) {
            Ok(serde_json::Value::Object(whole)) => Ok(Self(serde_json::Value::Object(whole).to_string())),
            _ => Err(AskError::Claims),
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a proof-of-possession token is to be bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PopAsk {
    u: String,
    nonce: Option<String>,
}

impl PopAsk {
    /// A signed request for `u` (on Arc-enabled clusters the ARM id of the cluster).
    ///
    /// # Errors
    /// [`AskError::Pop`].
    pub fn new(u: &str, nonce: Option<&str>) -> Result<Self, AskError> {
        let plain = |text: &str| {
            !text.is_empty() && text.len() <= MAX_POP_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if plain(u) && nonce.is_none_or(plain) {
            Ok(Self { u: u.to_owned(), nonce: nonce.map(str::to_owned) })
        } else {
            Err(AskError::Pop)
        }
    }

    /// The `u` claim.
    #[must_use]
    pub fn u(&self) -> &str {
        &self.u
    }

    /// The `nonce` claim.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

/// What the token is for, beyond the plain case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Purpose {
    /// A program.
    #[default]
    Program,
    /// A software agent that acts by itself or for a person: shorter life, its own rules.
    Agent,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Program => "program",
            Self::Agent => "agent",
        })
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whose token.
    pub identity: IdentityRef,
    /// For which resource.
    pub resource: Resource,
    /// Delegated scopes of the resource, sorted, without the resource's own prefix; empty for `.default`.
    pub scopes: Vec<String>,
    /// A claims challenge; such a question is answered by the source, never from the cache.
    pub claims: Option<Claims>,
    /// Whether the caller can handle continuous access evaluation (`cp1`).
    pub cae: bool,
    /// Asks for a proof-of-possession token.
    pub pop: Option<PopAsk>,
    /// The least life that the caller can use; raised to the broker's own least.
    pub min_validity: Option<Duration>,
    /// A new token, although a good one is kept; allowed once in a while.
    pub force_refresh: bool,
    /// What it is for.
    pub purpose: Purpose,
}

impl Ask {
    /// The plain question for a resource.
    #[must_use]
    pub const fn new(identity: IdentityRef, resource: Resource) -> Self {
        Self {
            identity,
            resource,
            scopes: Vec::new(),
            claims: None,
            cae: false,
            pop: None,
            min_validity: None,
            force_refresh: false,
            purpose: Purpose::Program,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_question_are_checked_where_they_come_in() {
        assert!(IdentityRef::name("node-2.x_y").is_ok());
        for bad in ["", "a b", "a/b", "ä", &"a".repeat(MAX_IDENTITY_BYTES + 1)] {
            assert_eq!(IdentityRef::name(bad), Err(AskError::Identity));
        }
        let id = IdentityRef::resource_id("/subscriptions/S/resourceGroups/R(1)").unwrap();
        assert_eq!(id, IdentityRef::ResourceId("/subscriptions/s/resourcegroups/r(1)".into()));
        for bad in ["", "subscriptions/S", "/a/../b", "/a b", "/a%2fb"] {
            assert!(IdentityRef::resource_id(bad).is_err(), "{bad}");
        }
        assert!(Claims::new(r#"{"access_token":{"nbf":{"essential":true}}}"#).is_ok());
        for bad in ["", "[]", "1", "{", &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CLAIMS_BYTES))] {
            assert_eq!(Claims::new(bad), Err(AskError::Claims));
        }
        assert!(PopAsk::new("/subscriptions/s", Some("n1")).is_ok());
        assert!(PopAsk::new("", None).is_err() && PopAsk::new("/s", Some("a b")).is_err());
    }
}
