//! `{region}.authorization.azure.net`: CheckAccess v2. The caller's right is looked for at subscription
//! scope, and its refusal is a 403 that says nothing about the subject.

use axum::response::Response;
use serde_json::{Value, json};

use crate::access::{self, CHECK_ACCESS, Dialect};
use crate::assumed;
use crate::bearer;
use crate::call::{self, Call};
use crate::ids;
use crate::state::{Emulated, World};
use crate::throttle;

/// Audiences of PDP tokens in all clouds.
const AUDIENCES: [&str; 3] =
    ["https://authorization.azure.net", "https://authorization.azure.us", "https://authorization.azure.cn"];
const PATH: &str = "/providers/microsoft.authorization/checkaccess";
const VERSION: &str = "2021-06-01-preview";

/// Answer one call.
pub(crate) fn answer(app: &Emulated, call: &Call) -> Response {
    if !call.path.eq_ignore_ascii_case(PATH) {
        return call::text(404, "Not Found");
    }
    let mut world = app.world();
    let caller = match bearer::caller(&world, call, &AUDIENCES) {
        Ok(caller) => caller,
        Err(why) => {
            let refused = call::json(401, &assumed::pdp_unauthorized(why.arm().1));
            return call::with_header(refused, "www-authenticate", "Bearer");
        }
    };
    if call.query.text("api-version") != VERSION {
        return call::json(400, &json!({"statusCode": 400, "message": "The api-version is not supported."}));
    }
    if let Some(marker) = call.query.get("$skiptoken") {
        return continued(&mut world, call, marker);
    }
    if call.method != "POST" {
        return call::json(405, &json!({"statusCode": 405, "message": "Method not allowed."}));
    }
    let Some(inquiry) = call.json().as_ref().and_then(access::parse) else {
        return call::json(400, &json!({"statusCode": 400, "message": "The request body is not valid."}));
    };
    let limit = world.limits.pdp;
    if let Err(wait) = throttle::spend(&mut world, "pdp", limit, &inquiry.resource, &caller.oid) {
        return call::with_header(
            call::json(429, &assumed::pdp_throttled()),
            "retry-after",
            &wait.to_string(),
        );
    }
    let subscription = format!("/subscriptions/{}", throttle::subscription_of(&inquiry.resource));
    let known = world.exists(&inquiry.resource);
    if !known || !access::may_call(&world, &caller.oid, CHECK_ACCESS, &subscription) {
        let message = "Caller does not have RBAC permission provisioned to call CheckAccess on this scope.";
        return call::json(403, &json!({"statusCode": 403, "message": message}));
    }
    let decisions = access::decide(&world, &inquiry, Dialect::Pdp);
    call::json(200, &page(&mut world, call, decisions))
}

fn page(world: &mut World, call: &Call, mut decisions: Vec<Value>) -> Value {
    let rest = decisions.split_off(decisions.len().min(world.pdp.page_size.max(1)));
    let link = (!rest.is_empty()).then(|| {
        let marker = ids::guid();
        world.pages.insert(marker.clone(), rest);
        let base = format!("https://{}{}?api-version={VERSION}", call.authority, call.path);
        assumed::next_link(&base, &marker)
    });
    json!({"value": decisions, "nextLink": link})
}

fn continued(world: &mut World, call: &Call, marker: &str) -> Response {
    match world.pages.remove(marker) {
        Some(rest) => {
            let body = page(world, call, rest);
            call::json(200, &body)
        }
        None => call::json(400, &json!({"statusCode": 400, "message": "The skip token is not valid."})),
    }
}
