//! A sign-in from its beginning to its end, with its limits.
//!
//! Only the uid that began a sign-in can finish it, once; whoever else brings an answer is told the same
//! as somebody who brings nonsense. A sign-in whose client went away, or that takes too long, ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_tokens::{Failure, FailureClass};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio::time::{sleep, timeout_at};

pub use super::super::sign_in::LoginWish;
use super::{Inner, LOGIN_COMMAND, People, SignedIn, detached};
use crate::entra::sign_in::{Browser, Outcome, Polled, RANDOM_BYTES, Redirect, RedirectError, Wish};

/// How long a sign-in may take.
pub const LOGIN_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How often somebody who waits hears that nothing has happened yet.
pub const WAITING_EVERY: Duration = Duration::from_secs(5);
/// The most sign-ins under way.
pub const MAX_LOGINS: usize = 64;
/// The most sign-ins of one uid under way.
pub const MAX_LOGINS_OF_UID: usize = 2;
/// The time over which beginnings are counted.
pub const BEGIN_WINDOW: Duration = Duration::from_secs(10 * 60);
/// The most sign-ins that may begin in [`BEGIN_WINDOW`].
pub const MAX_BEGINS: usize = 300;
/// The most sign-ins of one uid that may begin in [`BEGIN_WINDOW`].
pub const MAX_BEGINS_OF_UID: usize = 10;
/// The most scopes that a sign-in may ask consent for.
pub const MAX_SCOPES: usize = 20;
/// The longest scope and the longest proposed name, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Steps that may wait for a client that reads slowly.
const PROGRESS_QUEUE: usize = 8;

/// A step of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Open this in a browser.
    Browser {
        /// The address.
        url: String,
    },
    /// Type this on another device.
    Device {
        /// What to type.
        user_code: String,
        /// Where.
        verification_uri: String,
        /// How long it is good.
        expires_in: Duration,
        /// Entra's own sentence; may be empty.
        message: String,
    },
    /// Still waiting, for this long by now.
    Waiting(Duration),
    /// Signed in; the last step.
    Done(SignedIn),
}

/// Why nobody was signed in or out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The configuration does not allow it.
    #[error(
        "a code on another device is not allowed here: run `{LOGIN_COMMAND}`, or have `broker.device_code` set"
    )]
    DeviceCodeOff,
    /// Something in the wish is none.
    #[error("{0} cannot be used for a sign-in; check how it is written")]
    Wish(&'static str),
    /// Too many under way.
    #[error("too many sign-ins are under way: finish or end one, or try again in a few minutes")]
    TooMany,
    /// Too many in a short time.
    #[error("too many sign-ins were begun: try again in {} minutes", BEGIN_WINDOW.as_secs() / 60)]
    TooOften,
    /// Too many people.
    #[error(
        "{} people are signed in on this node, which is the most: sign somebody out with `nightlatch logout`",
        super::MAX_PEOPLE
    )]
    TooManyPeople,
    /// What came back belongs to no sign-in of this uid.
    #[error("no sign-in of yours is waiting for this answer: begin again with `{LOGIN_COMMAND}`")]
    NotWaiting,
    /// What came back is no answer.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// Entra, or the person there, said no in the browser.
    #[error("the sign-in was refused ({error}): {description}")]
    Refused {
        /// The OAuth error.
        error: String,
        /// Entra's words.
        description: String,
    },
    /// The token endpoint said no, or nothing.
    #[error("{}", .0.sentence)]
    Failed(Failure),
    /// The disk refused.
    #[error("it cannot be written down ({0}): free some space below /var/lib/nightlatch, then try again")]
    NotStored(String),
    /// Nobody finished it.
    #[error("the sign-in took too long: begin again with `{LOGIN_COMMAND}`")]
    TimedOut,
    /// It was ended from outside.
    #[error("the sign-in was ended: begin again with `{LOGIN_COMMAND}`")]
    Ended,
}

type Said = Result<SignedIn, LoginError>;

struct Pending {
    uid: u32,
    /// What a browser's answer is compared with, until it came; a device sign-in has none.
    browser: Option<(Browser, oneshot::Sender<Said>)>,
    /// Dropped to end the sign-in from outside.
    _alive: oneshot::Sender<()>,
}

/// The sign-ins under way.
#[derive(Default)]
pub(super) struct Logins {
    next: u64,
    pending: HashMap<u64, Pending>,
    begun: Vec<(Duration, u32)>,
}

impl Logins {
    /// Admits one more of `uid`; `now` is time since boot.
    fn admit(&mut self, uid: u32, now: Duration) -> Result<u64, LoginError> {
        let of_uid = self.pending.values().filter(|one| one.uid == uid).count();
        if of_uid >= MAX_LOGINS_OF_UID || self.pending.len() >= MAX_LOGINS {
            return Err(LoginError::TooMany);
        }
        self.begun.retain(|(at, _)| now.saturating_sub(*at) < BEGIN_WINDOW);
        let by_uid = self.begun.iter().filter(|(_, by)| *by == uid).count();
        if by_uid >= MAX_BEGINS_OF_UID || self.begun.len() >= MAX_BEGINS {
            return Err(LoginError::TooOften);
        }
        self.begun.push((now, uid));
        self.next = self.next.wrapping_add(1);
        Ok(self.next)
    }

    /// Takes out the sign-in of `uid` that `state` belongs to. All of the uid's are compared, and nobody
    /// else's.
    fn take(&mut self, uid: u32, state: &str) -> Option<(Browser, oneshot::Sender<Said>)> {
        let mut fits = self
            .pending
            .values_mut()
            .filter(|one| one.uid == uid)
            .filter(|one| one.browser.as_ref().is_some_and(|(browser, _)| browser.is_answered_by(state)));
        fits.next()?.browser.take()
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// Ends all sign-ins of `uid`.
    pub(super) fn forget(&mut self, uid: u32) {
        self.pending.retain(|_, one| one.uid != uid);
    }
}

impl People {
    /// Begins to sign in `uid`'s person. The steps come until the receiver is dropped, which ends the
    /// sign-in; the last one is [`Progress::Done`] or an error.
    ///
    /// # Errors
    /// [`LoginError`] when it cannot even begin.
    pub fn begin(
        &self,
        uid: u32,
        wish: LoginWish,
    ) -> Result<mpsc::Receiver<Result<Progress, LoginError>>, LoginError> {
        let inner = &self.0;
        if wish.device_code && !inner.settings.device_code {
            return Err(LoginError::DeviceCodeOff);
        }
        let port = wish.redirect_port.filter(|port| *port >= 1024);
        let wish_here = checked(&wish, &inner.settings.scopes)?;
        let browser = if wish.device_code {
            None
        } else {
            let mut random = [0; RANDOM_BYTES];
            aws_lc_rs::rand::fill(&mut random).map_err(|_| LoginError::Ended)?;
            let port = port.ok_or(LoginError::Wish("the port for the browser's answer"))?;
            Some(inner.sign_in.browser(&wish_here, port, &random))
        };
        let (say, hear) = mpsc::channel(PROGRESS_QUEUE);
        let (alive, ended) = oneshot::channel();
        let (done, outcome) = oneshot::channel();
        let url = browser.as_ref().map(|browser| browser.url().to_owned());
        let pending = Pending { uid, browser: browser.map(|browser| (browser, done)), _alive: alive };
        let id = {
            let mut logins = inner.logins();
            let id = logins.admit(uid, inner.clock.boot())?;
            logins.pending.insert(id, pending);
            id
        };
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let limit = Instant::now() + inner.settings.login_limit;
            let work = async {
                match url {
                    Some(url) => {
                        say.send(Ok(Progress::Browser { url })).await.map_err(|_| LoginError::Ended)?;
                        let heard = told_to_wait(&say, outcome).await;
                        heard.unwrap_or(Err(LoginError::Ended))
                    }
                    None => inner.by_device(uid, &wish_here, &say).await,
                }
            };
            let said = tokio::select! {
                said = timeout_at(limit, work) => said.unwrap_or(Err(LoginError::TimedOut)),
                _ = ended => Err(LoginError::Ended),
                () = say.closed() => Err(LoginError::Ended),
            };
            inner.logins().pending.remove(&id);
            // Nobody to tell is no trouble: the sign-in is stored, or it is not.
            let _ = say.send(said.map(Progress::Done)).await;
        });
        Ok(hear)
    }

    /// Takes what the browser brought back to the loopback redirect of a sign-in that `uid` began.
    ///
    /// # Errors
    /// [`LoginError`]; the stream of the sign-in ends with the same.
    pub async fn finish(&self, uid: u32, redirect: &str) -> Result<SignedIn, LoginError> {
        let redirect = Redirect::read(redirect)?;
        // Taken out before anything is asked: an answer counts once.
        let taken = self.0.logins().take(uid, redirect.state.expose());
        let (browser, done) = taken.ok_or(LoginError::NotWaiting)?;
        let inner = Arc::clone(&self.0);
        detached(async move {
            let said = match redirect.outcome {
                Outcome::Refused { error, description } => Err(LoginError::Refused { error, description }),
                Outcome::Code(code) => match inner.sign_in.redeem(&browser, &code, inner.clock.now()).await {
                    Ok(signed) => inner.take_up(uid, signed.person, signed.refresh_token).await,
                    Err(failure) => Err(LoginError::Failed(failure)),
                },
            };
            // The stream may have ended meanwhile; whoever finishes hears it in any case.
            let _ = done.send(said.clone());
            said
        })
        .await
        .unwrap_or(Err(LoginError::Ended))
    }
}

impl Inner {
    /// A sign-in on another device.
    async fn by_device(
        self: &Arc<Self>,
        uid: u32,
        wish: &Wish,
        say: &mpsc::Sender<Result<Progress, LoginError>>,
    ) -> Said {
        let begun = Instant::now();
        let device = self.sign_in.device(wish, self.clock.now()).await.map_err(LoginError::Failed)?;
        let shown = Progress::Device {
            user_code: device.user_code.clone(),
            verification_uri: device.verification_uri.clone(),
            expires_in: device.expires_in,
            message: device.message.clone(),
        };
        say.send(Ok(shown)).await.map_err(|_| LoginError::Ended)?;
        let mut pace = device.pace();
        while let Some(wait) = pace.wait() {
            sleep(wait).await;
            match self.sign_in.poll(&device, self.clock.now()).await {
                Ok(Polled::Signed(signed)) => {
                    let inner = Arc::clone(self);
                    let taken = async move { inner.take_up(uid, signed.person, signed.refresh_token).await };
                    return detached(taken).await.unwrap_or(Err(LoginError::Ended));
                }
                Ok(Polled::SlowDown) => pace.slow_down(),
                // Unreachable for a moment: RFC 8628 section 3.5 wants us to ask more slowly.
                Err(failure) if failure.class == FailureClass::Transient => pace.slow_down(),
                Err(failure) => return Err(LoginError::Failed(failure)),
                Ok(Polled::Pending) => {}
            }
            // A client that reads slowly misses a step that it can do without.
            let _ = say.try_send(Ok(Progress::Waiting(begun.elapsed())));
        }
        Err(LoginError::TimedOut)
    }
}

/// Waits for the answer, and tells now and then that it is not there. `None` when it cannot come.
async fn told_to_wait(
    say: &mpsc::Sender<Result<Progress, LoginError>>,
    mut outcome: oneshot::Receiver<Said>,
) -> Option<Said> {
    let begun = Instant::now();
    loop {
        tokio::select! {
            said = &mut outcome => return said.ok(),
            () = sleep(WAITING_EVERY) => {
                let _ = say.try_send(Ok(Progress::Waiting(begun.elapsed())));
            }
        }
    }
}

/// What is passed on to Entra, with the configured scopes before the wished ones.
fn checked(wish: &LoginWish, configured: &[String]) -> Result<Wish, LoginError> {
    let plain = |text: &String| {
        !text.is_empty() && text.len() <= MAX_TEXT_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
    };
    let mut scopes = configured.to_vec();
    scopes.extend(wish.scopes.iter().filter(|scope| !configured.contains(scope)).cloned());
    if scopes.len() > MAX_SCOPES || !wish.scopes.iter().all(plain) {
        return Err(LoginError::Wish("a scope, or so many of them,"));
    }
    if !wish.login_hint.iter().all(plain) {
        return Err(LoginError::Wish("the proposed name"));
    }
    let (claims, login_hint) = (wish.claims.clone(), wish.login_hint.clone());
    Ok(Wish { scopes, claims, login_hint, ..Wish::default() })
}
