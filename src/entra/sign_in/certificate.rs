//! A sign-in that gives an SSH certificate of Entra's own authority, and at most what the next one can be had with. No token
//! of it is read.

use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::{Claims, Failure, FailureClass};

use super::wish::SIGN_IN_SCOPES;
use super::{Browser, Device, Polled, SignIn};
use crate::entra::oauth::{CertificateAsk, Certified, is_by_policy};

/// Why there is no certificate, with a sentence for the person.
#[derive(Debug, PartialEq, Eq)]
pub enum NoCertificate {
    /// A new sign-in must satisfy these claims.
    More(Claims, String),
    /// A policy of the tenant's.
    Policy(String),
    /// No answer, or none now: the same question may be asked again.
    Transient(String),
    /// Anything else.
    Refused(String),
}

impl NoCertificate {
    /// The sentence.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::More(_, why) | Self::Policy(why) | Self::Transient(why) | Self::Refused(why) => why,
        }
    }
}

/// The claims that a person can satisfy in a new sign-in: a policy that blocks comes with claims as well.
#[must_use]
pub fn challenge(failure: &Failure) -> Option<Claims> {
    let claims = failure.claims.as_deref().filter(|_| failure.class == FailureClass::NeedsUser)?;
    Claims::new(claims).ok()
}

impl From<Failure> for NoCertificate {
    fn from(failure: Failure) -> Self {
        match challenge(&failure) {
            Some(claims) => Self::More(claims, failure.sentence),
            None if is_by_policy(&failure) => Self::Policy(failure.sentence),
            None if failure.class == FailureClass::Transient => Self::Transient(failure.sentence),
            None => Self::Refused(failure.sentence),
        }
    }
}

impl SignIn {
    /// Redeems the code that the browser brought for a certificate.
    ///
    /// # Errors
    /// [`NoCertificate`].
    pub async fn redeem_certificate(
        &self,
        browser: &Browser,
        code: &Secret,
        ask: &CertificateAsk,
        now: Timestamp,
    ) -> Result<Certified, NoCertificate> {
        let scope = format!("{} {}", browser.begins(), ask.scope());
        let form = ask.on(self.code_form(browser, code, &scope));
        self.endpoint.certificate(&form, now).await.map_err(NoCertificate::from)
    }

    /// Asks whether the person is done on the other device, for a certificate.
    ///
    /// # Errors
    /// [`NoCertificate`]; after [`NoCertificate::Transient`] the sign-in is still under way.
    pub async fn poll_certificate(
        &self,
        device: &Device,
        ask: &CertificateAsk,
        now: Timestamp,
    ) -> Result<Polled<Certified>, NoCertificate> {
        match self.endpoint.certificate(&ask.on(self.device_form(device)), now).await {
            Ok(certified) => Ok(Polled::Signed(certified)),
            Err(failure) => Ok(Polled::unless_over(failure)?),
        }
    }

    /// Has the next certificate made, with what an earlier sign-in or certificate left (azure-cli-extensions, `src/ssh`, through
    /// msal's silent flow).
    ///
    /// # Errors
    /// [`Failure`]; after [`FailureClass::Transient`] the refresh token is as good as before.
    pub async fn renew_certificate(
        &self,
        refresh_token: &Secret,
        ask: &CertificateAsk,
        now: Timestamp,
    ) -> Result<Certified, Failure> {
        let scope = format!("{SIGN_IN_SCOPES} {}", ask.scope());
        self.endpoint.certificate(&ask.on(self.refresh_form(refresh_token, &scope)), now).await
    }
}
