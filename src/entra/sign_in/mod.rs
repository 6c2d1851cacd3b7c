//! How a person signs in: authorization code with PKCE in a browser, a code on another device, and the
//! refresh of what came of it (Microsoft Learn, "OAuth 2.0 authorization code flow", "device
//! authorization grant", "Refresh tokens"; RFC 7636, RFC 8252, RFC 8628).
//!
//! Everything is bound to one tenant and one application. Nothing here keeps a token, waits or reads a
//! clock; nobody is taken for a person except by the claims of an ID token that came over our own
//! connection to Entra and fits in every point.

mod browser;
mod certificate;
mod context;
mod device;
mod id_token;
mod redirect;
#[cfg(test)]
mod tests;
mod wish;

pub use browser::{Browser, RANDOM_BYTES};
pub use certificate::{NoCertificate, challenge};
pub use context::context_claims;
pub use device::{DEVICE_LIMIT, Device, Pace};
pub use id_token::{IdTokenError, MAX_USERNAME_BYTES, PersonId};
pub use redirect::{MAX_REDIRECT_BYTES, Outcome, Redirect, RedirectError};
pub use wish::Wish;

use nightlatch_model::{AuthContext, Guid, Secret, TenantId, Timestamp};
use nightlatch_tokens::{Claims, Failure, FailureClass, Resource, Token, TokenType};

use self::id_token::{Expected, Said};
use self::wish::SIGN_IN_SCOPES;
use super::http::Http;
use super::oauth::{Answer, DEVICE_CODE_GRANT, Form, TokenEndpoint, merged_claims, scope_of};

/// What a sign-in gave.
pub struct Signed {
    /// Who it is.
    pub person: PersonId,
    /// What stands for the sign-in from now on.
    pub refresh_token: Secret,
}

/// A sign-in that proves itself to somebody else.
pub struct Identified {
    /// Who it is.
    pub person: PersonId,
    /// The contexts that it satisfied, as far as the application has the claim.
    pub contexts: Vec<AuthContext>,
    /// The ID token, as it came.
    pub id_token: Secret,
    /// When the ID token was issued: Entra dates it back by some minutes.
    pub issued: Timestamp,
    /// When the ID token ends.
    pub ends: Timestamp,
    /// What the next ID token can be had with, for a sign-in that asked for it.
    pub refresh_token: Option<Secret>,
}

/// What a refresh gave.
pub struct Refreshed {
    /// Whose it is, which the caller must compare with whose it has to be.
    pub person: PersonId,
    /// The access token.
    pub token: Token,
    /// The next refresh token; without one the last stays good.
    pub refresh_token: Option<Secret>,
}

/// Why a refresh gave nothing.
#[derive(Debug)]
pub enum RefreshError {
    /// Entra, or the way to it.
    Failed(Failure),
    /// The answer is about somebody else, another application or another tenant, or does not say.
    NotOurs(IdTokenError),
}

/// One state of a device sign-in.
pub enum Polled<T = Signed> {
    /// The person is not done.
    Pending,
    /// Not done, and asked too often.
    SlowDown,
    /// Done.
    Signed(T),
}

impl<T> Polled<T> {
    /// What a refusal says of a sign-in that is under way.
    fn unless_over(failure: Failure) -> Result<Self, Failure> {
        match failure.error.as_deref() {
            Some("authorization_pending") => Ok(Self::Pending),
            Some("slow_down") => Ok(Self::SlowDown),
            _ => Err(failure),
        }
    }
}

/// The application that people of one tenant sign in to.
#[derive(Clone, Debug)]
pub struct SignIn {
    endpoint: TokenEndpoint,
    issuer: String,
    tenant: TenantId,
    client: Guid,
    client_id: String,
}

impl SignIn {
    /// `login` is Entra's host as in [`super::clouds::Endpoints::login`].
    #[must_use]
    pub fn new(http: Http, login: &str, tenant: TenantId, client: Guid) -> Self {
        let endpoint = TokenEndpoint::new(http, login, &tenant.to_string());
        let issuer = format!("{}/{tenant}/v2.0", login.trim_end_matches('/'));
        Self { endpoint, issuer, tenant, client, client_id: client.to_string() }
    }

    /// The same, for a stand-in that serves the names of `login` under another address.
    #[cfg(test)]
    pub(crate) fn issued_by(mut self, login: &str) -> Self {
        self.issuer = format!("{login}/{}/v2.0", self.tenant);
        self
    }

    /// The tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The application.
    #[must_use]
    pub const fn client(&self) -> Guid {
        self.client
    }

    /// Host and application: what fails together.
    #[must_use]
    pub fn circuit(&self) -> String {
        format!("{} {}", self.endpoint.audience(), self.client_id)
    }

    /// Begins a sign-in in a browser on this machine, which comes back to `port` of localhost.
    #[must_use]
    pub fn browser(&self, wish: &Wish, port: u16, random: &[u8; RANDOM_BYTES]) -> Browser {
        Browser::new(&self.endpoint.url("authorize"), &self.client_id, wish, port, random)
    }

    /// Redeems the code that the browser brought.
    ///
    /// # Errors
    /// [`Failure`] of Entra, or that the answer is not a sign-in to this application in this tenant.
    pub async fn redeem(&self, browser: &Browser, code: &Secret, now: Timestamp) -> Result<Signed, Failure> {
        let answer = self.answer_to_code(browser, code, now).await?;
        self.signed(answer, Some(browser.nonce()), now)
    }

    async fn answer_to_code(
        &self,
        browser: &Browser,
        code: &Secret,
        now: Timestamp,
    ) -> Result<Answer, Failure> {
        // Of one resource at most, whatever was consented to.
        self.endpoint.post(&self.code_form(browser, code, browser.begins()), now).await
    }

    fn code_form<'a>(&'a self, browser: &'a Browser, code: &'a Secret, scope: &'a str) -> Form<'a> {
        let form = Form::new(&[
            ("grant_type", "authorization_code"),
            ("client_id", &self.client_id),
            ("code", code.expose()),
            ("redirect_uri", browser.redirect_uri()),
            ("code_verifier", browser.verifier()),
            ("scope", scope),
        ]);
        form.maybe("claims", browser.claims())
    }

    /// Redeems the code for the ID token alone: what proves the sign-in to somebody else.
    ///
    /// # Errors
    /// As [`SignIn::redeem`].
    pub async fn redeem_id_token(
        &self,
        browser: &Browser,
        code: &Secret,
        now: Timestamp,
    ) -> Result<Identified, Failure> {
        let answer = self.answer_to_code(browser, code, now).await?;
        self.identified(answer, Some(browser.nonce()), now)
    }

    /// Has a newer ID token of the same sign-in made, for whoever wants to see one.
    ///
    /// # Errors
    /// [`Failure`]; after [`FailureClass::Transient`] the refresh token is as good as before.
    pub async fn renew_id_token(
        &self,
        refresh_token: &Secret,
        now: Timestamp,
    ) -> Result<Identified, Failure> {
        let answer = self.endpoint.post(&self.refresh_form(refresh_token, SIGN_IN_SCOPES), now).await?;
        self.identified(answer, None, now)
    }

    fn identified(
        &self,
        mut answer: Answer,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<Identified, Failure> {
        let unfit = |error: IdTokenError| Failure::new(FailureClass::NeedsUser, error.to_string());
        let Said { person, contexts, issued, ends } = self.said(&answer, nonce, now).map_err(unfit)?;
        let id_token = answer.id_token.take().ok_or_else(|| unfit(IdTokenError::Missing))?;
        let refresh_token = answer.refresh_token.take();
        Ok(Identified { person, contexts, id_token, issued: issued.unwrap_or(now), ends, refresh_token })
    }

    fn refresh_form<'a>(&'a self, refresh_token: &'a Secret, scope: &'a str) -> Form<'a> {
        Form::new(&[
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("refresh_token", refresh_token.expose()),
            ("scope", scope),
        ])
    }

    /// Begins a sign-in on another device.
    ///
    /// # Errors
    /// [`Failure`], also when the answer cannot be shown to a person.
    pub async fn device(&self, wish: &Wish, now: Timestamp) -> Result<Device, Failure> {
        let scope = wish.scope();
        let form = Form::new(&[("client_id", &self.client_id), ("scope", &scope)]);
        let reply = self.endpoint.post_to("devicecode", &form.maybe("claims", wish.claims()), now).await?;
        Device::read(reply.body(), wish.claims()).ok_or_else(|| {
            Failure::new(
                FailureClass::Transient,
                "Entra's answer about a device code cannot be used: try again",
            )
        })
    }

    /// Asks whether the person is done on the other device.
    ///
    /// # Errors
    /// [`Failure`]: declined, expired, or what else ends it; [`FailureClass::Transient`] does not.
    pub async fn poll(&self, device: &Device, now: Timestamp) -> Result<Polled, Failure> {
        match self.endpoint.post(&self.device_form(device), now).await {
            Ok(answer) => self.signed(answer, None, now).map(Polled::Signed),
            Err(failure) => Polled::unless_over(failure),
        }
    }

    /// Asks whether the person is done on the other device, for the ID token alone: as it came, not read yet.
    ///
    /// # Errors
    /// As [`SignIn::poll`].
    pub async fn poll_id_token(&self, device: &Device, now: Timestamp) -> Result<Polled<Secret>, Failure> {
        match self.endpoint.post(&self.device_form(device), now).await {
            Ok(mut answer) => answer.id_token.take().map(Polled::Signed).ok_or_else(|| {
                let why = "Entra's answer holds no ID token: allow openid for the application";
                Failure::new(FailureClass::Config, why)
            }),
            Err(failure) => Polled::unless_over(failure),
        }
    }

    fn device_form<'a>(&'a self, device: &'a Device) -> Form<'a> {
        let form = Form::new(&[
            ("grant_type", DEVICE_CODE_GRANT),
            ("client_id", &self.client_id),
            ("device_code", device.code()),
        ]);
        form.maybe("claims", device.claims())
    }

    /// Exchanges a refresh token for an access token, and most often the next refresh token.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn refresh(
        &self,
        refresh_token: &Secret,
        resource: &Resource,
        scopes: &[String],
        claims: Option<&Claims>,
        cae: bool,
        now: Timestamp,
    ) -> Result<Refreshed, RefreshError> {
        let scope = format!("{} {SIGN_IN_SCOPES}", scope_of(resource, scopes));
        let claims = merged_claims(claims, cae);
        let form = self.refresh_form(refresh_token, &scope).maybe("claims", claims.as_deref());
        let mut answer = self.endpoint.post(&form, now).await.map_err(RefreshError::Failed)?;
        let next = answer.refresh_token.take();
        if answer.access_token.expose() == refresh_token.expose() {
            return Err(RefreshError::NotOurs(IdTokenError::Kind));
        }
        let person = self.said(&answer, None, now).map_err(RefreshError::NotOurs)?.person;
        if answer.kind != TokenType::Bearer {
            return Err(RefreshError::NotOurs(IdTokenError::Kind));
        }
        Ok(Refreshed { person, token: answer.into_token(), refresh_token: next })
    }

    fn said(&self, answer: &Answer, nonce: Option<&str>, now: Timestamp) -> Result<Said, IdTokenError> {
        let token = answer.id_token.as_ref().ok_or(IdTokenError::Missing)?;
        let expected = Expected { issuer: &self.issuer, tenant: self.tenant, client: self.client, nonce };
        id_token::read(token, &expected, now)
    }

    fn signed(&self, mut answer: Answer, nonce: Option<&str>, now: Timestamp) -> Result<Signed, Failure> {
        let person = self
            .said(&answer, nonce, now)
            .map_err(|error| Failure::new(FailureClass::NeedsUser, error.to_string()))?
            .person;
        let refresh_token = answer.refresh_token.take().ok_or_else(|| {
            Failure::new(
                FailureClass::Config,
                "Entra gave no refresh token: allow offline_access for the application of `broker.sign_in`",
            )
        })?;
        Ok(Signed { person, refresh_token })
    }
}
