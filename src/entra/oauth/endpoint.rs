//! One tenant's endpoints: where forms are posted and how the reply is told apart.
//!
//! The host comes from the table of clouds or from root's configuration, never from an answer; a
//! redirect is an error.

use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_tokens::{Failure, FailureClass, TokenType};

use super::answer::{self, Answer, Expected};
use super::certificate::{self, Certified};
use super::failure::{self, Said};
use super::grants::{Form, Grant};
use crate::entra::http::{Http, Reply, Request};

/// How long Entra may take for one token.
const LIMIT: Duration = Duration::from_secs(10);

/// The v2 endpoints of one tenant.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    http: Http,
    base: String,
    audience: String,
    host: Option<String>,
}

impl TokenEndpoint {
    /// The endpoints of `tenant` (its id, or `organizations`) at `login`, such as
    /// `https://login.microsoftonline.com`.
    #[must_use]
    pub fn new(http: Http, login: &str, tenant: &str) -> Self {
        let base = format!("{}/{tenant}/oauth2/v2.0", login.trim_end_matches('/'));
        Self { http, audience: format!("{base}/token"), base, host: None }
    }

    /// The same tenant behind a proxy for federated tokens: forms go to `at`, with `host` in the `Host`
    /// header, and what the tokens say of their audience stays.
    #[must_use]
    pub fn through(self, http: Http, at: &str, tenant: &str, host: Option<String>) -> Self {
        let base = format!("{}/{tenant}/oauth2/v2.0", at.trim_end_matches('/'));
        Self { http, base, audience: self.audience, host }
    }

    /// The address of the token endpoint, which is also the audience of a client's own assertion.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Another endpoint of the same tenant: `authorize`, `devicecode`, `logout`.
    #[must_use]
    pub fn url(&self, leaf: &str) -> String {
        format!("{}/{leaf}", self.base)
    }

    /// Posts `form` to the token endpoint and reads the answer, whose token must be of the type that the
    /// form asks for.
    ///
    /// # Errors
    /// [`Failure`] with its class: what Entra said, that nobody answered, or that somebody else did.
    pub async fn post(&self, form: &Form<'_>, now: Timestamp) -> Result<Answer, Failure> {
        let reply = self.post_to("token", form, now).await?;
        let kind = if form.get("token_type") == Some("pop") { TokenType::Pop } else { TokenType::Bearer };
        let expected = Expected { kind, client_id: form.get("client_id") };
        answer::read(reply.body(), expected, now)
            .map_err(|detail| unusable(&reply, FailureClass::Transient, &detail))
    }

    /// Posts a form that asks for an SSH certificate ([`super::CertificateAsk`]).
    ///
    /// # Errors
    /// As [`Self::post`]. An answer without a certificate is [`FailureClass::Config`]: what stood for the sign-in is used up,
    /// and the next one would be answered in the same way.
    pub async fn certificate(&self, form: &Form<'_>, now: Timestamp) -> Result<Certified, Failure> {
        let reply = self.post_to("token", form, now).await?;
        certificate::read(reply.body()).map_err(|detail| unusable(&reply, FailureClass::Config, &detail))
    }

    /// Posts `form` to another endpoint of the tenant, such as `devicecode`, and gives back a 2xx answer.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn post_to(&self, leaf: &str, form: &Form<'_>, now: Timestamp) -> Result<Reply, Failure> {
        let mut request = Request::post_form(self.url(leaf), form.fields()).within(LIMIT);
        if let Some(host) = &self.host {
            request = request.header("host", host);
        }
        let reply = self.http.send(request.header("accept", "application/json")).await;
        let reply = reply.map_err(|error| failure::unheard(&error))?;
        if reply.is_success() {
            return Ok(reply);
        }
        let said = Said::of(&reply, form);
        Err(failure::refused(&said, Grant::of(form), &reply, now))
    }
}

/// A 2xx answer that is none.
fn unusable(reply: &Reply, class: FailureClass, detail: &str) -> Failure {
    let host = reply.host();
    if reply.is_page() {
        return Failure::new(FailureClass::Transient, failure::page(host, reply.status()));
    }
    Failure::new(class, format!("{host} answered something that cannot be used: {detail}"))
}
