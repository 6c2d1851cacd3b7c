//! CheckAccess v2: the policy decision point of the node's region, the default back end.
//!
//! It expands the person's groups itself, so the node needs one right and nothing in Graph. A 403 is
//! about the node's own call, or about a resource that ARM does not know yet; it never is about the person.
//! The API is not in Microsoft's reference; shape and codes are those of Azure/checkaccess-v2-go-sdk and of
//! kubeguard/guard's public test notes.

use std::time::Duration;

use nightlatch_model::ObjectId;
use nightlatch_policy::{ActionSet, Refused, RoleAnswer, Scope, UnknownCause};
use serde_json::Value;

use super::budget::Purpose;
use super::call::{chance, garbage, upstream};
use super::decision_json::{Body, RawDecision, body, fold_all};
use super::listing_json::Page;
use super::{Answered, Ask, Caller, CheckAccess, because};
use crate::entra::http::{Reply, Request, same_origin};

/// The path and version of the question.
const PATH: &str = "/providers/microsoft.authorization/checkAccess?api-version=2021-06-01-preview";
/// How many pages of one answer are read; a page holds 50 decisions, and a login asks about two.
const MAX_PAGES: usize = 8;
/// How the service begins when the caller itself may not ask.
const CALLER_REFUSED: &str = "Caller does not have RBAC permission";

/// The shortest and the longest pause between two rounds of asking while Azure throttles. Most rounds
/// cost no call: the budgets know until when it is of no use.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(800));

/// The policy decision point.
#[derive(Clone, Debug)]
pub struct Pdp {
    caller: Caller,
    url: String,
    relief: Option<CheckAccess>,
}

impl Pdp {
    /// The one at `base`, as [`crate::entra::clouds::Endpoints::pdp_in`] gives it. `caller` carries tokens
    /// for [`crate::entra::clouds::Endpoints::pdp_audience`].
    #[must_use]
    pub fn new(caller: Caller, base: &str) -> Self {
        Self { caller, url: format!("{}{PATH}", base.trim_end_matches('/')), relief: None }
    }

    /// With version 1 of the question as relief: while the decision point throttles, a new login is asked
    /// about at ARM, which counts in a bucket of its own.
    #[must_use]
    pub fn with_relief(mut self, arm: CheckAccess) -> Self {
        self.relief = Some(arm);
        self
    }

    pub(super) async fn at_scope(
        &self,
        oid: ObjectId,
        scope: &Scope,
        actions: &ActionSet,
        ask: &Ask,
    ) -> Answered {
        let mut relief = self.relief.as_ref().filter(|_| ask.purpose == Purpose::NewLogin);
        loop {
            let Some(arm) = relief else { return self.answer(oid, scope, actions, ask).await };
            let at_once = ask.impatient();
            let answered = self.answer(oid, scope, actions, &at_once).await;
            let RoleAnswer::Unknown(UnknownCause::Throttled { retry_after }) = answered.0 else {
                return answered;
            };
            let wait = match arm.at_scope(oid, scope, actions, &at_once).await {
                helped @ (
                    RoleAnswer::Granted(_) | RoleAnswer::NotGranted(Refused::DenyAssignment { .. }),
                    _,
                ) => return helped,
                (RoleAnswer::Unknown(UnknownCause::Throttled { retry_after: arm }), _) => {
                    retry_after.min(arm)
                }
                // Whether version 1 looks up groups is not documented, so its "no role" is no denial; nor is
                // what it cannot tell. From here on the decision point alone is waited for.
                _ => {
                    relief = None;
                    retry_after
                }
            };
            let pause = PAUSE.0 + (PAUSE.1 - PAUSE.0).mul_f64(f64::from(chance()) / f64::from(u32::MAX));
            // The seconds were rounded up.
            if pause.max(Duration::from_secs(wait.saturating_sub(1))) >= ask.left() {
                return answered;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn answer(&self, oid: ObjectId, scope: &Scope, actions: &ActionSet, ask: &Ask) -> Answered {
        match self.decisions(&body(oid, scope, actions), ask).await {
            Ok(decisions) => fold_all(actions, decisions),
            Err(cause) => because(cause),
        }
    }

    async fn decisions(&self, body: &Body, ask: &Ask) -> Result<Vec<RawDecision>, UnknownCause> {
        let mut decisions = Vec::new();
        let mut reply = self.caller.send(ask, || Request::post_json(self.url.clone(), body)).await?;
        for _ in 0..MAX_PAGES {
            if !reply.is_success() {
                return Err(refused(&reply));
            }
            let page: Page<RawDecision> = reply.json().map_err(|e| garbage(&e))?;
            decisions.extend(page.value);
            let Some(next) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(decisions) };
            if !same_origin(&self.url, &next) {
                return Err(upstream("the answer continues at another host, which is not followed"));
            }
            // ASSUMED: a next page is fetched with GET, as everywhere in Azure's REST guidelines.
            reply = self.caller.send(ask, || Request::get(next.clone())).await?;
        }
        Err(upstream("the answer has too many pages"))
    }
}

fn refused(reply: &Reply) -> UnknownCause {
    let body = reply.json::<Value>().ok();
    let Some(body) = body.filter(Value::is_object) else {
        return upstream(format!(
            "wrong PDP endpoint (status {}, begins with {:?}): check cloud and node.region",
            reply.status(),
            reply.head()
        ));
    };
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code =
        body.pointer("/error/code").and_then(Value::as_str).map_or_else(|| text("code"), str::to_owned);
    let message =
        body.pointer("/error/message").and_then(Value::as_str).map_or_else(|| text("message"), str::to_owned);
    match reply.status() {
        403 if message.contains(CALLER_REFUSED) || code == "AuthorizationFailed" => {
            UnknownCause::NodeNotPermitted
        }
        403 | 404 => UnknownCause::ScopeUnknown,
        status => upstream(format!("the PDP answered {status}: {}", reply.head())),
    }
}
