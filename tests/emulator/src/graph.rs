//! Microsoft Graph: users, service principals and group membership, no more than a node could ask.

use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::bearer::{self, Caller};
use crate::call::{self, Call};
use crate::clock;
use crate::directory::Principal;
use crate::ids;
use crate::state::{Emulated, World};

const AUDIENCES: [&str; 4] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
    "00000003-0000-0000-c000-000000000000",
];
/// Members a user has without `$select`.
const DEFAULT_MEMBERS: [&str; 5] = ["id", "displayName", "mail", "userPrincipalName", "businessPhones"];

/// Answer one call.
pub(crate) fn answer(app: &Emulated, call: &Call) -> Response {
    let mut world = app.world();
    let caller = match bearer::caller(&world, call, &AUDIENCES) {
        Ok(caller) => caller,
        Err(why) => {
            let refused = error(401, "InvalidAuthenticationToken", why.arm().1);
            return call::with_header(refused, "www-authenticate", "Bearer realm=\"\"");
        }
    };
    if let Some(challenge) = bearer::challenge(&world, "graph", &caller) {
        let refused = error(
            401,
            "InvalidAuthenticationToken",
            "Continuous access evaluation resulted in challenge with result: InteractionRequired.",
        );
        return call::with_header(refused, "www-authenticate", &challenge);
    }
    let segments = call.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let Some((_, rest)) = parts.split_first() else {
        return error(404, "UnknownError", "Not found");
    };
    let by_app = |text: &str| -> Option<String> {
        Some(text.strip_prefix("serviceprincipals(appid='")?.strip_suffix("')")?.to_owned())
    };
    let (collection, key, tail) = match rest {
        ["me", tail @ ..] => ("users", caller.oid.clone(), tail),
        [collection @ ("users" | "serviceprincipals"), key, tail @ ..] => {
            (*collection, (*key).to_owned(), tail)
        }
        [one, tail @ ..] => match by_app(one) {
            Some(app_id) => ("serviceprincipals", app_id, tail),
            None => return error(400, "BadRequest", "Resource not found for the segment."),
        },
        [] => return error(400, "BadRequest", "Resource not found for the segment."),
    };
    if !permitted(&world, &caller, collection, &key) {
        return error(
            403,
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        );
    }
    let person = world.directory.find(&key).filter(|one| one.is_person() == (collection == "users")).cloned();
    let Some(person) = person else {
        let text = format!(
            "Resource '{key}' does not exist or one of its queried reference-property objects are not present."
        );
        return error(404, "Request_ResourceNotFound", &text);
    };
    match (call.method.as_str(), tail) {
        ("GET", []) => call::json(200, &selected(&person, call)),
        ("POST", ["getmemberobjects" | "getmembergroups"]) => {
            let groups = world.directory.groups_of(&person.oid);
            let context = "https://graph.microsoft.com/v1.0/$metadata#Collection(Edm.String)";
            call::json(200, &json!({"@odata.context": context, "value": groups}))
        }
        ("POST", ["revokesigninsessions"]) => {
            // One second on: a session begun in this very second is revoked too.
            let from = world.now() + 1;
            if let Some(person) = world.directory.find_mut(&key) {
                person.sessions_valid_from = from;
            }
            call::json(200, &json!({"value": true}))
        }
        _ => error(400, "BadRequest", "Resource not found for the segment."),
    }
}

// An application needs the application permission; a person may look at people, and always at itself.
fn permitted(world: &World, caller: &Caller, collection: &str, key: &str) -> bool {
    if !caller.is_app {
        return true;
    }
    let own = world.directory.find(key).is_some_and(|one| one.oid == caller.oid);
    let wants: &[&str] = match collection {
        "users" => &["User.Read.All", "Directory.Read.All"],
        _ => &["Application.Read.All", "Directory.Read.All"],
    };
    let roles = caller.parts.claims.get("roles").and_then(Value::as_array).cloned().unwrap_or_default();
    own || roles.iter().filter_map(Value::as_str).any(|role| wants.contains(&role))
}

fn selected(person: &Principal, call: &Call) -> Value {
    let whole = object(person);
    let wanted: Vec<String> = match call.query.get("$select") {
        Some(list) => list.split(',').map(|name| name.trim().to_owned()).collect(),
        None if person.is_person() => DEFAULT_MEMBERS.iter().map(|name| (*name).to_owned()).collect(),
        None => whole.keys().cloned().collect(),
    };
    let mut shown = Map::new();
    shown.insert("@odata.context".into(), "https://graph.microsoft.com/v1.0/$metadata#users/$entity".into());
    for (name, value) in whole {
        if wanted.iter().any(|one| one.eq_ignore_ascii_case(&name)) {
            shown.insert(name, value);
        }
    }
    Value::Object(shown)
}

fn object(person: &Principal) -> Map<String, Value> {
    let kind = if person.kind == crate::directory::Kind::Guest { "Guest" } else { "Member" };
    let members = if person.is_person() {
        json!({
            "id": person.oid,
            "displayName": person.name(),
            "mail": person.mail,
            "userPrincipalName": person.upn,
            "businessPhones": [],
            "accountEnabled": person.enabled,
            "userType": kind,
            "signInSessionsValidFromDateTime": clock::iso(person.sessions_valid_from),
        })
    } else {
        let kind = if person.kind == crate::directory::Kind::ManagedIdentity {
            "ManagedIdentity"
        } else {
            "Application"
        };
        json!({
            "id": person.oid,
            "appId": person.app_id,
            "displayName": person.name(),
            "accountEnabled": person.enabled,
            "servicePrincipalType": kind,
        })
    };
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let inner = json!({"request-id": ids::guid(), "client-request-id": ids::guid()});
    call::json(status, &json!({"error": {"code": code, "message": message, "innerError": inner}}))
}
