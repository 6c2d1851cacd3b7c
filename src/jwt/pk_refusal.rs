//! Why an OpenPubkey token is not believed.

use thiserror::Error;

use crate::refusal::Refusal;

/// Why an OpenPubkey token is not believed; one for each step of the verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum PkRefusal {
    /// Not five parts between four colons, or longer than it can be.
    #[error("the proof in the certificate is not an OpenPubkey token in compact form")]
    Form,
    /// The client's header is not what a client writes.
    #[error("the client's part of the proof has members missing, unknown, or of a wrong form")]
    ClientHeader,
    /// The client's header says that it is something else.
    #[error("the second part of the proof is not the client's")]
    ClientType,
    /// The client's key is none that is accepted.
    #[error("the client's key in the proof is neither P-256 nor Ed25519")]
    ClientKey,
    /// The client's algorithm is not its key's.
    #[error("the client's algorithm is not the one of its key")]
    ClientAlgorithm,
    /// The client did not sign with its key.
    #[error("the client's signature in the proof is wrong")]
    ClientSignature,
    /// Entra's token is not believed.
    #[error("the ID token in the proof: {0}")]
    Token(#[source] Refusal),
    /// Entra's token does not commit to the client's key.
    #[error("the ID token was not issued for this client's key")]
    Commitment,
    /// The sign-in is older than the node accepts.
    #[error("the sign-in behind the certificate is over; sign in again")]
    Expired,
    /// The refreshed ID token is not believed.
    #[error("the refreshed ID token in the proof: {0}")]
    Refreshed(#[source] Refusal),
    /// The refreshed ID token is not of the same sign-in.
    #[error("the refreshed ID token in the proof differs in `{0}` from the first")]
    OtherSignIn(&'static str),
}

impl PkRefusal {
    /// The stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Form => "proof_form",
            Self::ClientHeader => "proof_client_header",
            Self::ClientType => "proof_client_type",
            Self::ClientKey => "proof_client_key",
            Self::ClientAlgorithm => "proof_client_algorithm",
            Self::ClientSignature => "proof_client_signature",
            Self::Token(refusal) | Self::Refreshed(refusal) => refusal.word(),
            Self::Commitment => "proof_commitment",
            Self::Expired => "proof_expired",
            Self::OtherSignIn(_) => "proof_other_sign_in",
        }
    }
}
