//! A sign-in with a code on another device (RFC 8628), for its ID token alone: no refresh token is asked for, and the access
//! token is dropped unread.

use std::future::Future;
use std::pin::Pin;

use nightlatch_model::{Guid, Secret};
use nightlatch_tokens::FailureClass;
use tokio::time::sleep;

use super::{Begun, SignInElsewhere, Wanted};
use crate::agent::gate::Time;
use crate::agent::roles::internet;
use crate::agent::settings::Settings;
use crate::clock::Clock;
use crate::entra::sign_in::{Device, Polled, SignIn, Wish, context_claims};

/// The application that people sign in to.
pub(in crate::agent) struct DeviceCode {
    sign_in: SignIn,
    clock: Clock,
}

impl DeviceCode {
    /// For the first application of `openpubkey.client_ids`; `None` where `login.step_up_prompt` is off.
    ///
    /// # Errors
    /// In words, when no HTTP client can be made.
    pub(in crate::agent) fn configured(settings: &Settings, time: &Time) -> Result<Option<Self>, String> {
        let rules = settings.openpubkey.as_ref().filter(|_| settings.step_up_prompt);
        let client = rules.and_then(|rules| rules.expected.audiences.first()?.parse().ok());
        let Some(client) = client else { return Ok(None) };
        let http = internet(settings, time)?;
        let sign_in = SignIn::new(http, &settings.endpoints().login, settings.tenant, client);
        Ok(Some(Self { sign_in, clock: time.clock.clone() }))
    }
}

impl SignInElsewhere for DeviceCode {
    fn begin<'a>(
        &'a self,
        wanted: Wanted,
    ) -> Pin<Box<dyn Future<Output = Result<Begun, String>> + Send + 'a>> {
        Box::pin(async move {
            let claims = wanted.context.map(context_claims).transpose().map_err(|cause| cause.to_string())?;
            let wish = Wish { claims, once: true, ..Wish::default() };
            let device = self.sign_in.device(&wish, self.clock.now()).await.map_err(|why| why.sentence)?;
            let (sign_in, clock) = (self.sign_in.clone(), self.clock.clone());
            Ok(Begun {
                code: device.user_code.clone(),
                page: device.verification_uri.clone(),
                good_for: device.expires_in,
                over: Box::pin(async move { wait_for(&sign_in, &device, &clock).await }),
            })
        })
    }

    fn client(&self) -> Guid {
        self.sign_in.client()
    }
}

/// Asks at the device code's pace until the person is done. Whoever waits for it sets the end.
async fn wait_for(sign_in: &SignIn, device: &Device, clock: &Clock) -> Result<Secret, String> {
    let mut pace = device.pace();
    while let Some(wait) = pace.wait() {
        sleep(wait).await;
        match sign_in.poll_id_token(device, clock.now()).await {
            Ok(Polled::Signed(token)) => return Ok(token),
            Ok(Polled::Pending) => {}
            Ok(Polled::SlowDown) => pace.slow_down(),
            // Unreachable for a moment: RFC 8628 section 3.5 wants us to ask more slowly.
            Err(failure) if failure.class == FailureClass::Transient => pace.slow_down(),
            Err(failure) => return Err(failure.sentence),
        }
    }
    Err(format!("the code ended after {} s", device.expires_in.as_secs()))
}
