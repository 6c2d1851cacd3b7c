//! A certificate of Entra's own SSH authority for a person, as `az ssh cert` gets it, without `az`: a sign-in in a browser or
//! on another device, and once more where Entra wants more of it.
//!
//! What the next certificate can be had with is asked for only where the kernel can hold it.

use std::time::Duration;

use nightlatch_model::Secret;

use super::asked::{Asked, How};
use super::at_entra;
use super::challenge::satisfied;
use super::held::Held;
use super::rsa::RsaKey;
use super::sign_in::in_browser;
use crate::cli::output::complain;
use crate::cli::sign_in::{INTERRUPTED, code_line, interrupted};
use crate::clock::Clock;
use crate::entra::oauth::{CertificateAsk, Certified};
use crate::entra::sign_in::{Browser, NoCertificate, Polled, SignIn, Wish};

/// Signs the person in, and writes the files. The name to log in with.
pub(super) fn sign_in(
    asked: &Asked,
    login_hint: Option<String>,
    held: Option<&Held>,
    clock: &Clock,
) -> Result<String, String> {
    let key = RsaKey::generate(asked.cloud.ssh_scope())?;
    let entra = at_entra::application(asked)?;
    let wish = wish(asked, key.ask(), login_hint);
    let person = Person { entra: &entra, wish: &wish, ask: key.ask(), clock };
    let given = if asked.how == How::Device {
        at_entra::run(async {
            tokio::select! {
                given = person.on_device(complain, tokio::time::sleep) => given,
                () = interrupted() => Err(INTERRUPTED.to_owned()),
            }
        })
    } else {
        // Until the browser comes back Ctrl-C ends the program as it always did.
        at_entra::run(person.in_browser(async |entra, wish| in_browser(entra, wish, |browser| browser)))
    };
    key.keep(asked, &given??, held, None, clock.now())
}

/// What the sign-in is to ask for.
pub(super) fn wish(asked: &Asked, ask: &CertificateAsk, login_hint: Option<String>) -> Wish {
    let scopes = vec![ask.scope().to_owned()];
    let claims = asked.claims.clone();
    Wish { scopes, claims, login_hint, fresh: asked.fresh, again: asked.again, once: !asked.hold }
}

/// A person's sign-in for a certificate.
pub(super) struct Person<'a> {
    pub(super) entra: &'a SignIn,
    pub(super) wish: &'a Wish,
    pub(super) ask: &'a CertificateAsk,
    pub(super) clock: &'a Clock,
}

impl Person<'_> {
    /// In a browser; `page` opens it and brings the code back.
    pub(super) async fn in_browser(
        &self,
        mut page: impl AsyncFnMut(&SignIn, &Wish) -> Result<(Browser, Secret), String>,
    ) -> Result<Certified, String> {
        let attempt = async |wish: &Wish| {
            let (browser, code) = page(self.entra, wish).await.map_err(NoCertificate::Refused)?;
            self.entra.redeem_certificate(&browser, &code, self.ask, self.clock.now()).await
        };
        satisfied(self.wish, attempt).await
    }

    /// On another device; `show` shows the person where to type which code, `sleep` waits between two questions.
    pub(super) async fn on_device(
        &self,
        show: impl Fn(&str),
        sleep: impl AsyncFn(Duration),
    ) -> Result<Certified, String> {
        let attempt = async |wish: &Wish| {
            self.once_on_device(wish, &show, &sleep).await.map_err(|why| match why {
                NoCertificate::Policy(why) => NoCertificate::Refused(format!(
                    "signing in by device code is blocked here: use the browser, without `--device-code`. {why}"
                )),
                other => other,
            })
        };
        satisfied(self.wish, attempt).await
    }

    async fn once_on_device(
        &self,
        wish: &Wish,
        show: &impl Fn(&str),
        sleep: &impl AsyncFn(Duration),
    ) -> Result<Certified, NoCertificate> {
        let begun = self.clock.boot();
        let device = self.entra.device(wish, self.clock.now()).await?;
        show(&code_line(&device.verification_uri, &device.user_code, device.expires_in.as_secs()));
        let mut pace = device.pace();
        while let Some(wait) = pace.wait() {
            sleep(wait).await;
            // The answers take their time as well.
            if self.clock.boot().saturating_sub(begun) >= device.expires_in {
                break;
            }
            match self.entra.poll_certificate(&device, self.ask, self.clock.now()).await {
                Ok(Polled::Signed(given)) => return Ok(given),
                Ok(Polled::Pending) => {}
                // Unreachable for a moment: RFC 8628 section 3.5 wants us to ask more slowly.
                Ok(Polled::SlowDown) | Err(NoCertificate::Transient(_)) => pace.slow_down(),
                Err(why) => return Err(why),
            }
        }
        let late = "nobody signed in with the code before it ended: begin again; where the page said that it is blocked, use \
                    the browser, without `--device-code`";
        Err(NoCertificate::Refused(late.to_owned()))
    }
}
