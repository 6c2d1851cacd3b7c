//! What a token says, typed. Names and addresses of people are for display and never say who somebody is.

use nightlatch_model::{Guid, ObjectId, TenantId, Timestamp};

/// What a token says about groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Nothing: which groups there are is unknown.
    Unsaid,
    /// These, by id.
    Listed(Vec<Guid>),
    /// Too many to list (`hasgroups`, `_claim_names`): which they are is unknown. Where the token says one could ask is
    /// never followed.
    TooMany,
}

/// The claims of a token whose signature, issuer, audience and times were found right.
///
/// Sources: access-token-claims-reference and optional-claims-reference of Microsoft's identity platform, as reference/04
/// §2.2 sums them up. What is `None` was not in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// `tid`.
    pub tenant: TenantId,
    /// `oid`.
    pub oid: ObjectId,
    /// `sub`.
    pub subject: String,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `nbf`.
    pub not_before: Timestamp,
    /// `exp`: the first second in which it is no longer valid.
    pub expires: Timestamp,
    /// `azp` or `appid`: the application that it was issued to.
    pub client: Option<String>,
    /// `upn`: the name by which the directory knows the person. In a token of version 2.0 only where the application asks
    /// for it (optional claim).
    pub upn: Option<String>,
    /// `upn`, `unique_name` or `preferred_username`, in this order; for display. The last two can be what the person
    /// typed at sign-in.
    pub user_name: Option<String>,
    /// `preferred_username` alone.
    pub preferred_username: Option<String>,
    /// `scp`, split at blanks.
    pub scopes: Vec<String>,
    /// `roles`.
    pub roles: Vec<String>,
    /// `groups`.
    pub groups: Groups,
    /// `wids`: directory roles by template id.
    pub directory_roles: Option<Vec<Guid>>,
    /// `amr`: how the person signed in.
    pub amr: Option<Vec<String>>,
    /// `acr`.
    pub acr: Option<String>,
    /// `acrs`: authentication contexts that were satisfied.
    pub acrs: Option<Vec<String>>,
    /// `auth_time`.
    pub auth_time: Option<Timestamp>,
    /// `deviceid`.
    pub device: Option<Guid>,
    /// `ipaddr`: where the person signed in from.
    pub address: Option<String>,
    /// Whether a guest: `acct` says so, or `idp` is not the tenant's own.
    pub guest: Option<bool>,
    /// `xms_cc`: what the client can do; `cp1` when it takes claims challenges.
    pub client_capabilities: Option<Vec<String>>,
    /// `uti`: the token's id, which joins it with Entra's sign-in log.
    pub token_id: Option<String>,
    /// `nonce`.
    pub nonce: Option<String>,
}
