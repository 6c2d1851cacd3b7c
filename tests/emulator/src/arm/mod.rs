//! management.azure.com: checkaccess v1 and the authorization listings, throttled as the real one is.

mod listing;

use axum::response::Response;
use serde_json::{Value, json};

use crate::access::{self, CHECK_ACCESS, Dialect};
use crate::bearer::{self, Caller};
use crate::call::{self, Call};
use crate::form;
use crate::ids;
use crate::state::{Emulated, World};
use crate::throttle;

const AUDIENCES: [&str; 4] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
];
const PROVIDER: &str = "/providers/microsoft.authorization/";
/// Actions one v1 call may ask about.
const MAX_ACTIONS: usize = 200;

/// Answer one call.
pub(crate) fn answer(app: &Emulated, call: &Call) -> Response {
    let mut world = app.world();
    let caller = match bearer::caller(&world, call, &AUDIENCES) {
        Ok(caller) => caller,
        Err(why) => {
            let (code, text) = why.arm();
            let refused = error(401, code, text);
            return call::with_header(
                refused,
                "www-authenticate",
                "Bearer authorization_uri=\"https://login.microsoftonline.com/common\", error=\"invalid_token\"",
            );
        }
    };
    if let Some(challenge) = bearer::challenge(&world, "arm", &caller) {
        let refused = error(401, "InvalidAuthenticationToken", "The request requires further claims.");
        return call::with_header(refused, "www-authenticate", &challenge);
    }
    let path = form::decode(&call.path);
    // The last provider segment is the operation's; everything before it is the scope.
    let Some(at) = path.to_ascii_lowercase().rfind(PROVIDER) else {
        return plain_resource(&mut world, call, &caller, &path);
    };
    let (scope, rest) = path.split_at(at);
    let what = rest.get(PROVIDER.len()..).unwrap_or("").trim_matches('/').to_ascii_lowercase();
    let limit = world.limits.reads;
    let left = match throttle::spend(&mut world, "arm", limit, scope, &caller.oid) {
        Ok(left) => left,
        Err(wait) => return throttled(scope, wait),
    };
    if call.query.text("api-version").is_empty() {
        return error(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        );
    }
    let response = operation(&world, call, &caller, scope, &what);
    let response = call::with_header(response, "x-ms-correlation-request-id", &ids::guid());
    throttle::label(response, left)
}

fn operation(world: &World, call: &Call, caller: &Caller, scope: &str, what: &str) -> Response {
    let tenant_level = scope.is_empty();
    if !tenant_level && !world.exists(scope) {
        return missing(scope);
    }
    let mut names = what.split('/');
    match (call.method.as_str(), names.next().unwrap_or(""), names.next()) {
        ("POST", "checkaccess", None) => check_access(world, call, caller, scope),
        ("GET", kind @ ("roleassignments" | "denyassignments" | "roledefinitions"), id) => {
            listing::list(world, call, caller, scope, kind, id)
        }
        ("GET", kind @ ("roleassignmentscheduleinstances" | "roleeligibilityscheduleinstances"), None) => {
            listing::list(world, call, caller, scope, kind, None)
        }
        _ => error(
            404,
            "InvalidResourceType",
            "The resource type could not be found in the namespace 'Microsoft.Authorization'.",
        ),
    }
}

fn check_access(world: &World, call: &Call, caller: &Caller, scope: &str) -> Response {
    let Some(inquiry) = call.json().as_ref().and_then(access::parse) else {
        return error(
            400,
            "InvalidRequestContent",
            "The request content was invalid and could not be deserialized.",
        );
    };
    if !access::may_call(world, &caller.oid, CHECK_ACCESS, scope) {
        return forbidden(caller, CHECK_ACCESS, scope);
    }
    if !world.exists(&inquiry.resource) {
        return missing(&inquiry.resource);
    }
    let decisions = access::decide(world, &inquiry, Dialect::Arm);
    if decisions.len() > MAX_ACTIONS {
        return error(400, "InvalidRequestContent", "Too many actions in one request.");
    }
    call::json(200, &Value::Array(decisions))
}

// `GET` of a resource itself: enough of it to see that it is there.
fn plain_resource(world: &mut World, call: &Call, caller: &Caller, path: &str) -> Response {
    if path.eq_ignore_ascii_case("/metadata/endpoints") || call.method != "GET" {
        return error(404, "NotFound", "Not found.");
    }
    let limit = world.limits.reads;
    let left = match throttle::spend(world, "arm", limit, path, &caller.oid) {
        Ok(left) => left,
        Err(wait) => return throttled(path, wait),
    };
    let response = if path.trim_matches('/').eq_ignore_ascii_case("subscriptions") {
        subscriptions(world, caller)
    } else if !world.exists(path) {
        missing(path)
    } else if !access::may_call(world, &caller.oid, "Microsoft.Resources/subscriptions/resources/read", path)
    {
        forbidden(caller, "Microsoft.Resources/subscriptions/resources/read", path)
    } else {
        let name = path.rsplit('/').next().unwrap_or("");
        call::json(200, &json!({"id": path, "name": name, "location": world.node.location, "properties": {}}))
    };
    throttle::label(response, left)
}

// The subscriptions in which the caller holds anything (Microsoft Learn, "Subscriptions - List").
fn subscriptions(world: &World, caller: &Caller) -> Response {
    let id = crate::world::SUBSCRIPTION;
    let scope = format!("/subscriptions/{id}");
    let holds = world.roles.assignments.iter().any(|one| {
        one.principal_id.eq_ignore_ascii_case(&caller.oid)
            && one.scope.to_ascii_lowercase().starts_with(&scope)
    });
    let entry = json!({"id": scope, "subscriptionId": id, "tenantId": world.tenant, "displayName": "Contoso",
        "state": "Enabled", "authorizationSource": "RoleBased", "managedByTenants": [],
        "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "quotaId": "Test", "spendingLimit": "Off"}});
    let list: Vec<Value> = holds.then_some(entry).into_iter().collect();
    call::json(200, &json!({"value": list, "count": {"type": "Total", "value": list.len()}}))
}

/// ARM's error body.
pub(super) fn error(status: u16, code: &str, message: &str) -> Response {
    call::json(status, &json!({"error": {"code": code, "message": message}}))
}

/// The caller's own lack of a right, in ARM's words.
pub(super) fn forbidden(caller: &Caller, action: &str, scope: &str) -> Response {
    let scope = if scope.is_empty() { "/" } else { scope };
    let message = format!(
        "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
        caller.app_id, caller.oid
    );
    error(403, "AuthorizationFailed", &message)
}

fn missing(scope: &str) -> Response {
    let parts: Vec<&str> = scope.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["subscriptions", id] => {
            error(404, "SubscriptionNotFound", &format!("The subscription '{id}' could not be found."))
        }
        ["subscriptions", _, _, group] => {
            error(404, "ResourceGroupNotFound", &format!("Resource group '{group}' could not be found."))
        }
        _ => {
            let message = format!(
                "The Resource '{scope}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
            );
            error(404, "ResourceNotFound", &message)
        }
    }
}

fn throttled(scope: &str, wait: u64) -> Response {
    let subscription = throttle::subscription_of(scope);
    let message = format!(
        "Number of requests for subscription '{subscription}' and operation 'GET' exceeded the backend storage limit. Please try again after '{wait}' seconds."
    );
    let response = error(429, "SubscriptionRequestsThrottled", &message);
    let response = call::with_header(response, "x-ms-ratelimit-remaining-subscription-reads", "0");
    call::with_header(response, "retry-after", &wait.to_string())
}
