//! A sign-in in a browser: the address to open, and the secrets that tie what comes back to it.
//!
//! The verifier and the nonce never leave the daemon, so a code that somebody else catches at the
//! loopback redirect is worth nothing to them (RFC 8252 section 8.1).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::Secret;

use super::Wish;
use crate::entra::http::with_query;

const PART_BYTES: usize = 32;
/// How much randomness one sign-in takes, in bytes: state, nonce and verifier.
pub const RANDOM_BYTES: usize = 3 * PART_BYTES;

/// A sign-in that a browser has begun.
pub struct Browser {
    state: String,
    nonce: String,
    verifier: Secret,
    redirect_uri: String,
    claims: Option<String>,
    begins: &'static str,
    url: String,
}

impl Browser {
    pub(super) fn new(
        authorize: &str,
        client_id: &str,
        wish: &Wish,
        port: u16,
        random: &[u8; RANDOM_BYTES],
    ) -> Self {
        let mut parts = random.chunks(PART_BYTES).map(|part| URL_SAFE_NO_PAD.encode(part));
        let mut next = || parts.next().unwrap_or_default();
        let (state, nonce, verifier) = (next(), next(), Secret::new(next()));
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()));
        // Entra ignores the port of a registered http://localhost (RFC 8252 section 7.3).
        let redirect_uri = format!("http://localhost:{port}");
        let scope = wish.scope();
        let mut fields = vec![
            ("client_id", client_id),
            ("response_type", "code"),
            ("response_mode", "query"),
            ("redirect_uri", redirect_uri.as_str()),
            ("scope", scope.as_str()),
            ("state", state.as_str()),
            ("nonce", nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        match (wish.fresh, wish.again && wish.login_hint.is_some()) {
            (true, _) => fields.push(("prompt", "login")),
            (false, true) => {}
            // The person sees which account it is, also when only one is signed in.
            (false, false) => fields.push(("prompt", "select_account")),
        }
        fields.extend(wish.login_hint.as_deref().map(|hint| ("login_hint", hint)));
        fields.extend(wish.claims().map(|claims| ("claims", claims)));
        let url = with_query(authorize, &fields);
        let claims = wish.claims().map(str::to_owned);
        Self { state, nonce, verifier, redirect_uri, claims, begins: wish.begins(), url }
    }

    /// The same with a nonce of the caller's, which commits to something (OpenPubkey). Only before the address is shown.
    #[must_use]
    pub fn with_nonce(mut self, nonce: String) -> Self {
        // Both are base64url: none of their characters is written otherwise in an address.
        self.url = self.url.replacen(&format!("nonce={}", self.nonce), &format!("nonce={nonce}"), 1);
        self.nonce = nonce;
        self
    }

    /// The address that the person opens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether what came back belongs to this sign-in; takes the same time for every wrong answer.
    #[must_use]
    pub fn is_answered_by(&self, state: &str) -> bool {
        verify_slices_are_equal(self.state.as_bytes(), state.as_bytes()).is_ok()
    }

    /// The scopes of the sign-in itself.
    pub(super) const fn begins(&self) -> &'static str {
        self.begins
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn verifier(&self) -> &str {
        self.verifier.expose()
    }

    pub(super) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    pub(super) fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }
}
