//! The OAuth 2.0 client for Entra's v2 token endpoint: which form is posted, what an answer means, and
//! what a refusal means.
//!
//! Nothing here keeps a token, tries again or reads a clock; time and randomness are arguments. A secret
//! of a form never comes back in an error text, and no answer moves the client to another host
//! (Microsoft Learn, "Microsoft identity platform and OAuth 2.0 client credentials flow"; RFC 6749).

mod answer;
pub mod assertion;
mod certificate;
mod endpoint;
mod failure;
mod grants;
pub mod pop;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub(crate) use answer::whole;
pub use certificate::{CertificateAsk, Certified};
pub use endpoint::TokenEndpoint;
pub(super) use failure::is_by_policy;
pub use failure::{Said, classify};
pub use grants::{
    CLIENT_ASSERTION_TYPE, Client, DEVICE_CODE_GRANT, Form, Grant, ON_BEHALF_OF_GRANT, merged_claims,
    scope_of,
};
