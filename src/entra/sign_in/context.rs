//! Asking for an authentication context of Conditional Access.

use nightlatch_model::AuthContext;
use nightlatch_tokens::{AskError, Claims};
use serde_json::json;

/// The claims request that makes a sign-in satisfy a context, and say so in the ID token (OpenID Connect Core 1.0
/// section 5.5).
///
/// # Errors
/// [`AskError::Claims`], never in fact: it is a short object.
pub fn context_claims(context: AuthContext) -> Result<Claims, AskError> {
    let acrs = json!({"essential": true, "value": context.to_string()});
    Claims::new(&json!({"id_token": {"acrs": acrs}}).to_string())
}
