//! CheckAccess v1: the same question to Azure Resource Manager, at the resource's own address.
//!
//! A fallback: each question is one read of a bucket that all nodes of the identity share. 404 says that
//! ARM does not know the resource (yet), 403 that the node may not ask; neither is about the person.

use nightlatch_model::ObjectId;
use nightlatch_policy::{ActionSet, Scope, UnknownCause};
use serde_json::Value;

use super::call::{garbage, upstream};
use super::decision_json::{RawDecision, body, fold_all};
use super::{Answered, Ask, Caller, because};
use crate::entra::http::{Reply, Request};

/// The version of the question.
const VERSION: &str = "2018-09-01-preview";

/// CheckAccess at Azure Resource Manager.
#[derive(Clone, Debug)]
pub struct CheckAccess {
    caller: Caller,
    arm: String,
}

impl CheckAccess {
    /// The one at `arm`, as in [`crate::entra::clouds::Endpoints::arm`]. `caller` carries tokens for
    /// [`crate::entra::clouds::Endpoints::arm_audience`].
    #[must_use]
    pub fn new(caller: Caller, arm: &str) -> Self {
        Self { caller, arm: arm.trim_end_matches('/').to_owned() }
    }

    pub(super) async fn at_scope(
        &self,
        oid: ObjectId,
        scope: &Scope,
        actions: &ActionSet,
        ask: &Ask,
    ) -> Answered {
        let at = scope.as_str().trim_end_matches('/');
        let url =
            format!("{}{at}/providers/Microsoft.Authorization/checkaccess?api-version={VERSION}", self.arm);
        let body = body(oid, scope, actions);
        let reply = match self.caller.send(ask, || Request::post_json(url.clone(), &body)).await {
            Ok(reply) => reply,
            Err(cause) => return because(cause),
        };
        if !reply.is_success() {
            return because(refused(&reply));
        }
        match reply.json::<Vec<RawDecision>>() {
            Ok(decisions) => fold_all(actions, decisions),
            Err(error) => because(garbage(&error)),
        }
    }
}

/// What a refusal by ARM means.
pub(super) fn refused(reply: &Reply) -> UnknownCause {
    if !reply.json::<Value>().is_ok_and(|body| body.is_object()) {
        return upstream(format!(
            "this is not Azure Resource Manager ({}): {}",
            reply.status(),
            reply.head()
        ));
    }
    match reply.status() {
        403 => UnknownCause::NodeNotPermitted,
        404 => UnknownCause::ScopeUnknown,
        status => upstream(format!("Azure Resource Manager answered {status}: {}", reply.head())),
    }
}
