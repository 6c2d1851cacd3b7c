//! The people who signed in, as the doors see them.

use nightlatch_tokens::FailureClass;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, once};

use crate::broker::people::{self, LoginError, People};
use crate::broker::{LoginWish, Progress, Refusal, RefusalKind, SignIn, SignInStep, SignInSteps, SignedIn};

/// People behind the doors.
pub(super) struct SignIns(People);

impl SignIns {
    pub(super) const fn new(people: People) -> Self {
        Self(people)
    }
}

fn person(who: people::SignedIn) -> SignedIn {
    SignedIn { username: who.username, tenant: who.tenant.to_string(), object_id: who.object_id.to_string() }
}

fn seconds(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn progress(step: people::Progress) -> Progress {
    match step {
        people::Progress::Browser { url } => Progress::Browser { url },
        people::Progress::Device { user_code, verification_uri, expires_in, message } => {
            Progress::Device { user_code, verification_uri, expires_in: seconds(expires_in), message }
        }
        people::Progress::Waiting(time) => Progress::Waiting(seconds(time)),
        people::Progress::Done(who) => Progress::Done(person(who)),
    }
}

fn refusal(cause: LoginError) -> Refusal {
    let (kind, word) = match &cause {
        LoginError::Failed(failure) => return Refusal::of_source(failure.clone()),
        LoginError::DeviceCodeOff | LoginError::Refused { .. } => (RefusalKind::Denied, "sign_in_refused"),
        LoginError::Wish(_) | LoginError::NotWaiting | LoginError::Redirect(_) => {
            (RefusalKind::BadRequest, "bad_request")
        }
        LoginError::TooMany | LoginError::TooOften | LoginError::TooManyPeople => {
            (RefusalKind::Limited, "rate_limited")
        }
        LoginError::NotStored(_) => (RefusalKind::Misconfigured, FailureClass::Config.word()),
        LoginError::TimedOut | LoginError::Ended => (RefusalKind::SignIn, FailureClass::NeedsUser.word()),
    };
    Refusal::new(kind, word, cause.to_string())
}

impl SignIn for SignIns {
    fn begin(&self, uid: u32, wish: LoginWish) -> SignInSteps {
        match self.0.begin(uid, wish) {
            Ok(steps) => Box::pin(ReceiverStream::new(steps).map(|step| step.map(progress).map_err(refusal))),
            Err(cause) => Box::pin(once(Err(refusal(cause)))),
        }
    }

    fn finish<'a>(&'a self, uid: u32, redirect: &'a str) -> SignInStep<'a, ()> {
        Box::pin(async move { self.0.finish(uid, redirect).await.map(drop).map_err(refusal) })
    }

    fn logout(&self, uid: u32) -> SignInStep<'_, Option<String>> {
        Box::pin(
            async move { self.0.logout(uid).await.map(|who| who.map(|who| who.username)).map_err(refusal) },
        )
    }

    fn person(&self, uid: u32) -> Option<SignedIn> {
        self.0.person(uid).map(person)
    }
}
