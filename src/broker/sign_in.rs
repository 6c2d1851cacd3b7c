//! What the doors need of the people who signed in: begin, finish, forget, and who it is.

use std::future::Future;
use std::pin::Pin;

use nightlatch_tokens::Claims;
use tokio_stream::Stream;

use super::refusal::Refusal;

/// How a person wishes to sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginWish {
    /// A device code instead of the browser.
    pub device_code: bool,
    /// Scopes to consent to at once.
    pub scopes: Vec<String>,
    /// Claims that the sign-in must satisfy.
    pub claims: Option<Claims>,
    /// The name to propose on the sign-in page.
    pub login_hint: Option<String>,
    /// The loopback port where the client waits for the browser; needed without `device_code`.
    pub redirect_port: Option<u16>,
}

/// A person who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The name, to show.
    pub username: String,
    /// The tenant's id.
    pub tenant: String,
    /// The person's object id.
    pub object_id: String,
}

/// One step of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Open this page.
    Browser {
        /// The page.
        url: String,
    },
    /// Type this code on that page.
    Device {
        /// The code.
        user_code: String,
        /// The page.
        verification_uri: String,
        /// Seconds until the code ends.
        expires_in: u32,
        /// The sentence that Entra wants shown.
        message: String,
    },
    /// Still waiting, since so many seconds.
    Waiting(u32),
    /// Signed in.
    Done(SignedIn),
}

/// What a sign-in shows, step by step.
pub type SignInSteps = Pin<Box<dyn Stream<Item = Result<Progress, Refusal>> + Send>>;
/// What a step of a sign-in resolves to.
pub type SignInStep<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// The people who signed in, each under a uid.
pub trait SignIn: Send + Sync {
    /// Begins to sign in the person of `uid`.
    fn begin(&self, uid: u32, wish: LoginWish) -> SignInSteps;
    /// Takes what the browser brought back; only the uid that began may.
    fn finish<'a>(&'a self, uid: u32, redirect: &'a str) -> SignInStep<'a, ()>;
    /// Forgets the person of `uid`: the name, when there was one. Fails when the sealed file cannot be
    /// written.
    fn logout(&self, uid: u32) -> SignInStep<'_, Option<String>>;
    /// The person of `uid`.
    fn person(&self, uid: u32) -> Option<SignedIn>;
}
