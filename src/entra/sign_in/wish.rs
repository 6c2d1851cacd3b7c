//! What a sign-in is to ask for. Nothing here is sent.

use nightlatch_tokens::Claims;

/// What a sign-in itself needs: an ID token, and a refresh token.
pub(super) const SIGN_IN_SCOPES: &str = "openid profile offline_access";
/// The same for a sign-in of which nothing is kept.
const ONCE_SCOPES: &str = "openid profile";

/// What a sign-in is to ask for beyond the sign-in itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Scopes to consent to at once.
    pub scopes: Vec<String>,
    /// A claims challenge that the sign-in must satisfy.
    pub claims: Option<Claims>,
    /// The name to propose on the page.
    pub login_hint: Option<String>,
    /// The person must give credentials in the browser, also where it is signed in.
    pub fresh: bool,
    /// Whom `login_hint` names is who signed in here the last time: where the browser still is, no page asks anything.
    pub again: bool,
    /// No refresh token: nothing of the sign-in is kept.
    pub once: bool,
}

impl Wish {
    /// The scopes of the sign-in itself.
    pub(super) const fn begins(&self) -> &'static str {
        if self.once { ONCE_SCOPES } else { SIGN_IN_SCOPES }
    }

    pub(super) fn scope(&self) -> String {
        self.scopes.iter().fold(self.begins().to_owned(), |all, scope| format!("{all} {scope}"))
    }

    pub(super) fn claims(&self) -> Option<&str> {
        self.claims.as_ref().map(Claims::as_str)
    }
}
