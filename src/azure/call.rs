//! One authenticated call of the node to Azure: token, budget, retries, deadline.
//!
//! What it gives back is an answer that somebody must read, or the reason why there is none. It never
//! waits beyond the deadline that came with the question.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nightlatch_policy::UnknownCause;
use tokio::time::Instant;

use super::Ask;
use super::budget::{Budget, Purpose, Turn};
use crate::entra::http::{Http, HttpError, REQUEST_TIMEOUT, Reply, Request};
use crate::entra::node_identity::{FORGET_TRANSIENT, NodeIdentity};

/// How often one call is sent at most, apart from waits for throttling.
const MAX_TRIES: u32 = 3;
/// The wait before the second try; doubled for the third.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// The wait before the node's own token is asked for again: as long as a failure is remembered.
const IDENTITY_WAIT: Duration = Duration::from_millis(FORGET_TRANSIENT.unsigned_abs() * 1000 + 100);

/// The node's way to one Azure service. Cloning shares the budget.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    http: Http,
    identity: NodeIdentity,
    audience: String,
    budget: Mutex<Budget>,
    made: Instant,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("audience", &self.0.audience).finish_non_exhaustive()
    }
}

impl Caller {
    /// A way to the service that takes tokens for `audience`.
    #[must_use]
    pub fn new(http: Http, identity: NodeIdentity, audience: &str) -> Self {
        let budget = Mutex::new(Budget::new());
        Self(Arc::new(Inner { http, identity, audience: audience.to_owned(), budget, made: Instant::now() }))
    }

    fn with_budget<T>(&self, work: impl FnOnce(&mut Budget, Duration) -> T) -> T {
        let mut budget = self.0.budget.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut budget, self.0.made.elapsed())
    }

    /// Sends what `make` makes, with the node's token, until there is an answer that is neither 401 (once),
    /// 408, 429 nor 5xx, or the time is up.
    pub(super) async fn send(&self, ask: &Ask, make: impl Fn() -> Request) -> Result<Reply, UnknownCause> {
        let mut tries = 0;
        let mut renewed = false;
        loop {
            self.wait_for_turn(ask).await?;
            let audience = &self.0.audience;
            tries += 1;
            let token = tokio::time::timeout_at(ask.deadline, self.0.identity.token(audience, ask.time()))
                .await
                .map_err(|_| upstream("the node's own token did not come in time"))?;
            let token = match token {
                Ok(token) => token,
                Err(error) => {
                    if !error.is_transient() || tries >= MAX_TRIES || IDENTITY_WAIT >= ask.left() {
                        return Err(upstream(error.to_string()));
                    }
                    tokio::time::sleep(IDENTITY_WAIT).await;
                    continue;
                }
            };
            let request =
                make().authorization("Bearer", token.secret()).within(ask.left().min(REQUEST_TIMEOUT));
            let trouble = match self.0.http.send(request).await {
                Ok(reply) if reply.status() == 429 => {
                    let hint = reply.retry_after(ask.time());
                    let wait = self.with_budget(|budget, now| budget.refused(hint, now));
                    // A session that lives is judged again soon anyway; it does not stand in line.
                    if ask.purpose == Purpose::Refresh || !ask.patient || wait >= ask.left() {
                        return Err(throttled(wait));
                    }
                    tries -= 1;
                    continue;
                }
                Ok(reply) => {
                    self.with_budget(|budget, now| budget.answered(reply.remaining_calls(), now));
                    if reply.status() == 401 && !renewed {
                        renewed = true;
                        self.0.identity.forget(audience, &token);
                        continue;
                    }
                    if reply.status() == 401 {
                        return Err(upstream(format!(
                            "Azure does not accept the node's token: {}",
                            reply.head()
                        )));
                    }
                    if !reply.is_transient() {
                        return Ok(reply);
                    }
                    upstream(format!("Azure answered {}: {}", reply.status(), reply.head()))
                }
                Err(error) if error.is_transient() => upstream(error.to_string()),
                Err(error) => return Err(upstream(error.to_string())),
            };
            let wait = RETRY_WAIT * 2_u32.pow(tries - 1);
            if tries >= MAX_TRIES || wait >= ask.left() {
                return Err(trouble);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn wait_for_turn(&self, ask: &Ask) -> Result<(), UnknownCause> {
        loop {
            let left = ask.left();
            if left.is_zero() {
                return Err(upstream("no time was left to ask Azure"));
            }
            let (turn, blocked) = self.with_budget(|budget, now| {
                (budget.turn(ask.purpose, now, left, chance()), budget.is_blocked(now))
            });
            match turn {
                Turn::Go => return Ok(()),
                // This node's own pace is short and waited for; Azure's word is not.
                Turn::Wait(wait) if wait >= left || (blocked && !ask.patient) => return Err(throttled(wait)),
                Turn::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

fn throttled(wait: Duration) -> UnknownCause {
    UnknownCause::Throttled { retry_after: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
}

pub(super) fn upstream(text: impl Into<String>) -> UnknownCause {
    UnknownCause::Upstream(text.into())
}

/// A page that cannot be read.
pub(super) fn garbage(error: &HttpError) -> UnknownCause {
    upstream(error.to_string())
}

/// Good enough to keep nodes apart; nothing secret hangs on it.
pub(super) fn chance() -> u32 {
    u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0)
}
