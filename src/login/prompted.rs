//! What a sign-in at the prompt shows: an ID token that answered the daemon's own question to Entra, read as strictly as one
//! that a stranger brings.

use nightlatch_jwt::{Expected, KeySet, Refusal, validate};
use nightlatch_model::{Guid, ObjectId, TenantId, Timestamp};
use nightlatch_policy::SignIn;

use super::openpubkey::{ProofRules, sign_in};

/// Who signed in at the prompt, and what that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompted {
    /// The tenant.
    pub tid: TenantId,
    /// The person.
    pub oid: ObjectId,
    /// Whether a guest of the tenant, where the token says so.
    pub guest: Option<bool>,
    /// The claims.
    pub sign_in: SignIn,
    /// When it was read.
    pub at: Timestamp,
}

/// Reads the ID token that a sign-in to `client` gave.
///
/// # Errors
/// [`Refusal`]: the first thing that is wrong with it. What certificates with an ID token must show, this one must as well.
pub fn read_prompted(
    token: &str,
    rules: &ProofRules,
    client: Guid,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Prompted, Refusal> {
    let expected = Expected { audiences: vec![client.to_string()], ..rules.expected.clone() };
    let claims = validate(token, &expected, keys, now)?;
    Ok(Prompted {
        tid: claims.tenant,
        oid: claims.oid,
        guest: claims.guest,
        sign_in: sign_in(&claims),
        at: now,
    })
}
