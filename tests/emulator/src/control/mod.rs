//! The control API: plain HTTP and JSON, for tests only. It changes the world, breaks services, issues what
//! the real services would not, and tells what was asked. README.md documents each route.

mod certificate;
mod people;
mod roles;
mod scripts;
mod secrets;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde_json::{Value, json};

use crate::seed;
use crate::state::{Emulated, SshCa, TokenKey};

pub(crate) use people::write_users;

/// A refused control request.
#[derive(Debug)]
struct Wrong(StatusCode, String);

impl Wrong {
    fn missing(what: &str) -> Self {
        Self(StatusCode::NOT_FOUND, format!("there is no {what}"))
    }

    fn bad(why: impl std::fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, why.to_string())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

type Answer = Result<Json<Value>, Wrong>;

fn done() -> Answer {
    Ok(Json(json!({"ok": true})))
}

// Lay the members of `patch` over `value` and read the result back as its own type.
fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T, patch: &Value) -> Result<T, Wrong> {
    let mut whole = serde_json::to_value(value).map_err(Wrong::bad)?;
    let (Some(members), Some(patch)) = (whole.as_object_mut(), patch.as_object()) else {
        return Err(Wrong::bad("the body must be a JSON object"));
    };
    members.extend(patch.iter().map(|(name, value)| (name.clone(), value.clone())));
    serde_json::from_value(whole).map_err(Wrong::bad)
}

/// All routes.
pub(crate) fn router(app: Emulated) -> Router {
    Router::new()
        .route("/control/health", get(|| async { Json(json!({"ok": true})) }))
        .route("/control/reset", post(reset))
        .route("/control/users", get(people::list).post(people::create))
        .route("/control/users/{key}", get(people::show).put(people::change).delete(people::remove))
        .route("/control/users/{key}/claims", get(people::claims).put(people::set_claims))
        .route("/control/users/{key}/revoke", post(people::revoke))
        .route("/control/users/{key}/refresh-token", post(people::refresh_token))
        .route("/control/groups", get(people::groups))
        .route("/control/groups/{id}", put(people::set_group).delete(people::remove_group))
        .route("/control/groups/{id}/members/{oid}", put(people::join).delete(people::leave))
        .route("/control/apps", get(people::apps))
        .route("/control/apps/{client_id}", put(people::set_app).delete(people::remove_app))
        .route("/control/issuers", get(people::issuers).put(people::set_issuers))
        .route("/control/role-definitions", get(roles::definitions))
        .route("/control/role-definitions/{id}", put(roles::define))
        .route("/control/role-assignments", get(roles::assignments).post(roles::assign).delete(roles::clear))
        .route("/control/role-assignments/{id}", put(roles::change).delete(roles::unassign))
        .route("/control/deny-assignments", get(roles::denies).post(roles::deny))
        .route("/control/deny-assignments/{id}", delete(roles::undeny))
        .route(
            "/control/resources",
            get(roles::resources).post(roles::add_resource).delete(roles::drop_resource),
        )
        .route("/control/pdp", get(roles::pdp).put(roles::set_pdp))
        .route("/control/node", get(scripts::node).put(scripts::set_node))
        .route("/control/arc", get(scripts::arc).put(scripts::set_arc))
        .route("/control/entra", get(scripts::entra).put(scripts::set_entra))
        .route(
            "/control/entra/scripts",
            get(scripts::scripts).post(scripts::add_script).delete(scripts::drop_scripts),
        )
        .route("/control/challenges", get(scripts::challenges).put(scripts::set_challenges))
        .route("/control/device/{user_code}", post(scripts::device))
        .route("/control/faults", get(scripts::faults).delete(scripts::clear_faults))
        .route("/control/faults/{service}", put(scripts::set_fault).delete(scripts::clear_fault))
        .route("/control/counters", get(scripts::counters).delete(scripts::clear_counters))
        .route("/control/requests", get(scripts::requests))
        .route("/control/buckets", get(scripts::buckets).put(scripts::set_buckets))
        .route("/control/buckets/reset", post(scripts::refill))
        .route("/control/time", get(scripts::time).put(scripts::set_time))
        .route("/control/ssh-ca", get(secrets::cas))
        .route("/control/ssh-ca/rotate", post(secrets::rotate_ca))
        .route("/control/ssh-ca/{kid}", put(secrets::publish_ca).delete(secrets::drop_ca))
        .route("/control/ssh-cert", post(certificate::issue))
        .route("/control/token-keys", get(secrets::token_keys))
        .route("/control/token-keys/rotate", post(secrets::rotate_token_key))
        .route("/control/token-keys/{kid}", put(secrets::publish_token_key).delete(secrets::drop_token_key))
        .route("/control/jwks", put(secrets::flap))
        .route("/control/tokens", post(secrets::token))
        .route("/control/pop", post(secrets::signed_request))
        .fallback(|| async { Wrong::missing("such control route") })
        .with_state(app)
}

// Back to the default world. Keys stay, so that nodes which trust them go on doing so.
async fn reset(State(app): State<Emulated>) -> Answer {
    {
        let mut world = app.world();
        let cas = world.ssh_cas.iter().map(|ca| SshCa { key: ca.key.clone(), published: true }).collect();
        let keys =
            world.token_keys.iter().map(|key| TokenKey { key: key.key.clone(), published: true }).collect();
        let tenant = world.tenant.clone();
        *world = seed::world(&tenant, cas, keys);
    }
    write_users(&app).map_err(Wrong::bad)?;
    done()
}
