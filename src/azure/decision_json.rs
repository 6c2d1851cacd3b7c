//! The decisions of CheckAccess as v1 and v2 write them. Strict where a yes could come from, indifferent
//! to keys that nobody here knows.

use nightlatch_model::ObjectId;
use nightlatch_policy::{Access, ActionSet, Decision, RoleAnswer, Scope, fold, shortest_ttl_ms};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

use super::{Answered, DEFAULT_TTL};

/// Asks the policy decision point to look up the person's groups itself, so that the node needs no right
/// in Graph. The value is a JSON text inside the JSON.
const EXPAND_GROUPS: &str = r#"{"groups":"src1"}"#;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Body {
    subject: Subject,
    actions: Vec<Action>,
    resource: Resource,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Subject {
    attributes: Attributes,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    object_id: String,
    #[serde(rename = "_claim_names")]
    claim_names: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Action {
    id: String,
    is_data_action: bool,
    attributes: Empty,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Resource {
    id: String,
}

/// The question, the same for both versions.
pub(super) fn body(oid: ObjectId, scope: &Scope, actions: &ActionSet) -> Body {
    let actions = actions.requested().into_iter();
    Body {
        subject: Subject {
            attributes: Attributes { object_id: oid.to_string(), claim_names: EXPAND_GROUPS },
        },
        actions: actions.map(|a| Action { id: a.id, is_data_action: true, attributes: Empty {} }).collect(),
        resource: Resource { id: scope.as_str().to_owned() },
    }
}

/// One decision as it comes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawDecision {
    access_decision: String,
    action_id: String,
    is_data_action: Option<bool>,
    role_assignment: Option<RawRole>,
    deny_assignment: Option<RawDeny>,
    time_to_live_in_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRole {
    id: Option<String>,
    role_definition_id: Option<String>,
    scope: Option<String>,
    condition: Option<Value>,
}

#[derive(Deserialize)]
struct RawDeny {
    id: Option<String>,
}

impl From<RawDecision> for Decision {
    fn from(raw: RawDecision) -> Self {
        let role = raw.role_assignment;
        // Any condition that says anything counts, in whatever type it comes.
        let conditional = |value: &Value| !(value.is_null() || value.as_str() == Some(""));
        Self {
            action_id: raw.action_id,
            is_data_action: raw.is_data_action,
            access: Access::from_word(&raw.access_decision),
            has_condition: role.as_ref().and_then(|r| r.condition.as_ref()).is_some_and(conditional),
            scope: role.as_ref().and_then(|r| r.scope.clone()),
            role_assignment: role.and_then(|r| r.id.or(r.role_definition_id)),
            deny_assignment: raw.deny_assignment.and_then(|d| d.id),
            ttl_ms: raw.time_to_live_in_ms,
        }
    }
}

/// All decisions of an answer, put together, and for how long that may be kept.
pub fn fold_all(actions: &ActionSet, raw: Vec<RawDecision>) -> Answered {
    let decisions: Vec<Decision> = raw.into_iter().map(Decision::from).collect();
    let requested = actions.requested();
    let answer: RoleAnswer = fold(&requested, &decisions);
    let ttl = shortest_ttl_ms(&requested, &decisions).map_or(DEFAULT_TTL, Duration::from_millis);
    (answer, ttl)
}
