//! What the node can be told about itself without any configuration: the Azure VM instance metadata
//! service (IMDS), the Azure Connected Machine agent (himds) and `/etc/kubernetes/azure.json`.
//!
//! Their addresses are literals; no environment variable, proxy or redirect moves them, and nothing
//! that comes from here is served on to another program. Only constructors with `at` in their name,
//! which tests use, take another address, and [`crate::entra::http::Http::node`] lets them be a
//! loopback one only.

mod azure_json;
mod ca_keys;
mod himds;
mod instance;
mod token;

pub use azure_json::{AZURE_JSON, AzureJson, AzureJsonError, MAX_AZURE_JSON_BYTES};
pub use ca_keys::{CaKey, CaKeys, MAX_CA_KEYS, parse_ca_keys};
pub use himds::{HIMDS_BASE, HIMDS_TOKENS, Himds, MAX_CHALLENGE_BYTES, challenge_file};
pub use instance::{IMDS_BASE, Imds, Instance, ManagedId};
pub use token::{AccessToken, MAX_TOKEN_LIFE, TokenAnswer};

use std::time::Duration;

use thiserror::Error;

use crate::entra::http::HttpError;

/// Why the node was not told what it asked about itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImdsError {
    /// No answer, or none that can be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that says no.
    #[error("{service} refused ({status}): {detail}")]
    Refused {
        /// `IMDS` or `himds`.
        service: &'static str,
        /// The status code.
        status: u16,
        /// How the answer begins.
        detail: String,
        /// Whether the same question may work in a moment.
        transient: bool,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The VM has no such identity, or none at all; a new one takes a moment to be known.
    #[error(
        "this machine has no such managed identity ({0}): assign it to the machine, or check which one is named"
    )]
    NoIdentity(String),
    /// The VM has several managed identities and the question named none.
    #[error(
        "this machine has several managed identities: name one (on AKS, userAssignedIdentityID of azure.json)"
    )]
    ManyIdentities,
    /// himds pointed at a file that it may not point at.
    #[error("himds asked for a secret outside its own folder or of the wrong kind ({0}): it was not read")]
    Challenge(&'static str),
    /// The challenge file is where it should be and cannot be read.
    #[error("the himds secret cannot be read ({0}): the user nightlatch must be in the group himds")]
    ChallengeUnreadable(String),
    /// The answer came, and what it says cannot be true.
    #[error("{service} answered something that cannot be used: {detail}")]
    Unusable {
        /// `IMDS` or `himds`.
        service: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl ImdsError {
    /// Whether the same question may work in a moment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Http(error) => error.is_transient(),
            Self::Refused { transient, .. } => *transient,
            Self::ManyIdentities
            | Self::NoIdentity(_)
            | Self::Challenge(_)
            | Self::ChallengeUnreadable(_)
            | Self::Unusable { .. } => false,
        }
    }
}
