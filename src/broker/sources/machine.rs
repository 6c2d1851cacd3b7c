//! The machine's own identities: the instance metadata service of a VM, the agent of an Arc machine.
//!
//! What may pass is asked again on the schedule that Microsoft gives ("How to use managed identities to
//! acquire an access token", retry guidance); what may not is never asked twice. Nothing of a metadata
//! service but tokens goes further, and those only through the broker's policy.

use std::time::Duration;

use nightlatch_tokens::{Failure, FailureClass, Resource, Token};

use super::gate::Gate;
use crate::clock::Clock;
use crate::imds::{AccessToken, Himds, Imds, ImdsError, ManagedId};

/// The metadata service is being replaced.
const GONE: u16 = 410;

/// How long to wait before each further try.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// For 404, 429 and 5xx: five tries within 30 s.
    pub(super) waits: &'static [Duration],
    /// For 410, which ends within 70 s.
    pub(super) gone: &'static [Duration],
}

impl Pace {
    pub(super) const DOCUMENTED: Self = Self {
        waits: &[
            Duration::from_secs(2),
            Duration::from_secs(4),
            Duration::from_secs(8),
            Duration::from_secs(16),
        ],
        gone: &[
            Duration::from_secs(2),
            Duration::from_secs(4),
            Duration::from_secs(8),
            Duration::from_secs(16),
            Duration::from_secs(20),
            Duration::from_secs(20),
        ],
    };

    /// The wait before the next try; `None` to give up: tries or time are used up, or the service named a
    /// wait itself. That one is for every question on this node, so who keeps the circuit has to hear of it
    /// at once, and whoever asked reads when to come back.
    pub(super) fn next(self, tries: usize, spent: Duration, error: &ImdsError) -> Option<Duration> {
        let ImdsError::Refused { status, transient: true, retry_after: None, .. } = error else {
            return None;
        };
        let waits = if *status == GONE { self.gone } else { self.waits };
        let wait = waits.get(tries)?.to_owned();
        let in_all: Duration = waits.iter().sum();
        (spent + wait <= in_all).then_some(wait)
    }
}

/// The services that a machine asks about itself.
pub(super) struct Machine {
    pub(super) imds: Imds,
    pub(super) himds: Himds,
    pub(super) gate: Gate,
    pub(super) pace: Pace,
}

impl Machine {
    pub(super) async fn managed(
        &self,
        which: &ManagedId,
        resource: &Resource,
        clock: &Clock,
    ) -> Result<Token, Failure> {
        let (mut tries, mut spent) = (0, Duration::ZERO);
        loop {
            let said = {
                let _turn = self.gate.turn().await;
                self.imds.token_of(which, resource.exact(), clock.now()).await
            };
            let error = match said {
                Ok(token) => return Ok(handed_on(token)),
                Err(error) => error,
            };
            let Some(wait) = self.pace.next(tries, spent, &error) else { return Err(failure(&error)) };
            tokio::time::sleep(wait).await;
            tries += 1;
            spent += wait;
        }
    }

    /// The agent gives no schedule of its own, so it is asked once; who asks decides about more.
    pub(super) async fn arc(
        &self,
        resource_id: Option<&str>,
        resource: &Resource,
        clock: &Clock,
    ) -> Result<Token, Failure> {
        let said = self.himds.token_of(resource_id, resource.exact(), clock.now()).await;
        said.map(handed_on).map_err(|error| failure(&error))
    }
}

fn handed_on(token: AccessToken) -> Token {
    let (secret, expires, refresh_in, client_id) = token.into_parts();
    let token = Token::bearer(secret, expires, refresh_in);
    Token { client_id: client_id.or(token.client_id), ..token }
}

fn failure(error: &ImdsError) -> Failure {
    let class = match error {
        // No answer, or not one of the service: it says nothing about the next one.
        ImdsError::Http(_) | ImdsError::Unusable { .. } => FailureClass::Transient,
        // An identity that was assigned a moment ago is not known at once.
        ImdsError::NoIdentity(_) => FailureClass::Lag,
        _ if error.is_transient() => FailureClass::Transient,
        _ => FailureClass::Config,
    };
    let mut failure = Failure::new(class, error.to_string());
    if let ImdsError::Refused { retry_after, .. } = error {
        failure.retry_after = *retry_after;
    }
    failure
}
