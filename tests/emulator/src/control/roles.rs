//! Control of roles, assignments, denies, resources and the PDP's habits.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Wrong, done, merged};
use crate::rbac::{Assignment, Deny, RoleDefinition};
use crate::state::Emulated;

fn to_json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map(Json).map_err(Wrong::bad)
}

pub(super) async fn definitions(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().roles.definitions.values().collect::<Vec<_>>())
}

pub(super) async fn define(
    State(app): State<Emulated>,
    Path(id): Path<String>,
    Json(mut body): Json<Value>,
) -> Answer {
    let id = id.to_ascii_lowercase();
    if let Some(members) = body.as_object_mut() {
        members.insert("id".into(), id.clone().into());
        members.entry("custom").or_insert(true.into());
    }
    let role: RoleDefinition = serde_json::from_value(body).map_err(Wrong::bad)?;
    app.world().roles.definitions.insert(id, role.clone());
    to_json(&role)
}

pub(super) async fn assignments(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().roles.assignments)
}

pub(super) async fn assign(State(app): State<Emulated>, Json(mut made): Json<Assignment>) -> Answer {
    let mut world = app.world();
    // People are named by UPN as easily as by id.
    if let Some(principal) = world.directory.find(&made.principal_id) {
        made.principal_id = principal.oid.clone();
    }
    if world.roles.definition(&made.role_definition_id).is_none() {
        return Err(Wrong::missing(&format!("role {}", made.role_definition_id)));
    }
    world.roles.assignments.push(made.clone());
    to_json(&made)
}

/// Which assignments to clear.
#[derive(Debug, Deserialize)]
pub(super) struct Of {
    principal: Option<String>,
}

pub(super) async fn clear(State(app): State<Emulated>, Query(of): Query<Of>) -> Answer {
    let mut world = app.world();
    let oid = of.principal.map(|key| world.directory.find(&key).map_or(key, |one| one.oid.clone()));
    world.roles.assignments.retain(|one| oid.as_ref().is_some_and(|oid| *oid != one.principal_id));
    done()
}

pub(super) async fn change(
    State(app): State<Emulated>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let mut world = app.world();
    let one = world.roles.assignments.iter_mut().find(|one| one.id == id);
    let one = one.ok_or_else(|| Wrong::missing(&format!("role assignment {id}")))?;
    *one = merged(one, &body)?;
    to_json(one)
}

pub(super) async fn unassign(State(app): State<Emulated>, Path(id): Path<String>) -> Answer {
    let mut world = app.world();
    let before = world.roles.assignments.len();
    world.roles.assignments.retain(|one| one.id != id);
    if world.roles.assignments.len() == before {
        return Err(Wrong::missing(&format!("role assignment {id}")));
    }
    done()
}

pub(super) async fn denies(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().roles.denies)
}

pub(super) async fn deny(State(app): State<Emulated>, Json(made): Json<Deny>) -> Answer {
    app.world().roles.denies.push(made.clone());
    to_json(&made)
}

pub(super) async fn undeny(State(app): State<Emulated>, Path(id): Path<String>) -> Answer {
    let mut world = app.world();
    let before = world.roles.denies.len();
    world.roles.denies.retain(|one| one.id != id);
    if world.roles.denies.len() == before {
        return Err(Wrong::missing(&format!("deny assignment {id}")));
    }
    done()
}

/// An ARM id.
#[derive(Debug, Deserialize)]
pub(super) struct Resource {
    id: String,
}

pub(super) async fn resources(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().resources)
}

pub(super) async fn add_resource(State(app): State<Emulated>, Json(resource): Json<Resource>) -> Answer {
    app.world().resources.insert(resource.id);
    done()
}

pub(super) async fn drop_resource(State(app): State<Emulated>, Json(resource): Json<Resource>) -> Answer {
    let mut world = app.world();
    let before = world.resources.len();
    world.resources.retain(|have| !have.eq_ignore_ascii_case(&resource.id));
    if world.resources.len() == before {
        return Err(Wrong::missing(&format!("resource {}", resource.id)));
    }
    done()
}

pub(super) async fn pdp(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().pdp)
}

pub(super) async fn set_pdp(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let mut world = app.world();
    world.pdp = merged(&world.pdp, &body)?;
    to_json(&world.pdp)
}
