//! Control of people, groups and applications.

use std::io;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{Answer, Wrong, done, merged};
use crate::apps::{App, Issuer};
use crate::directory::{Claims, Group, Kind, Principal};
use crate::ids;
use crate::seed;
use crate::sessions::Session;
use crate::start::write_private;
use crate::state::{Emulated, World};

/// Write `users.json`: everybody, with the refresh token each has from the start.
pub(crate) fn write_users(app: &Emulated) -> io::Result<()> {
    let list: Vec<Value> = app
        .world()
        .directory
        .principals
        .values()
        .map(|one| {
            let refresh = one.is_person().then(|| seed::refresh_token(&one.oid));
            json!({"upn": one.upn, "oid": one.oid, "kind": one.kind, "mail": one.mail,
                   "app_id": one.app_id, "enabled": one.enabled, "refresh_token": refresh})
        })
        .collect();
    let text = serde_json::to_string_pretty(&list).unwrap_or_default();
    write_private(&app.state_dir.join("users.json"), &text)
}

fn to_json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map(Json).map_err(Wrong::bad)
}

fn found<'a>(world: &'a World, key: &str) -> Result<&'a Principal, Wrong> {
    world.directory.find(key).ok_or_else(|| Wrong::missing(&format!("principal {key}")))
}

pub(super) async fn list(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().directory.principals.values().collect::<Vec<_>>())
}

pub(super) async fn show(State(app): State<Emulated>, Path(key): Path<String>) -> Answer {
    to_json(found(&app.world(), &key)?)
}

pub(super) async fn create(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let base = Principal::new(&ids::guid(), "", Kind::Member);
    let mut made: Principal = merged(&base, &body)?;
    made.oid = made.oid.to_ascii_lowercase();
    if made.upn.is_empty() || !ids::is_guid(&made.oid) {
        return Err(Wrong::bad("a principal needs `upn`, and `oid` if given must be a GUID"));
    }
    {
        let mut world = app.world();
        let session = fresh_session(&world, &made);
        if made.is_person() {
            world.sessions.refresh.insert(seed::refresh_token(&made.oid), session);
        }
        world.directory.principals.insert(made.oid.clone(), made.clone());
    }
    write_users(&app).map_err(Wrong::bad)?;
    to_json(&made)
}

pub(super) async fn change(
    State(app): State<Emulated>,
    Path(key): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let made: Principal = {
        let mut world = app.world();
        let old = found(&world, &key)?.clone();
        let made: Principal = merged(&old, &body)?;
        if made.oid != old.oid {
            return Err(Wrong::bad("an object id does not change; create another principal"));
        }
        world.directory.principals.insert(made.oid.clone(), made.clone());
        made
    };
    write_users(&app).map_err(Wrong::bad)?;
    to_json(&made)
}

pub(super) async fn remove(State(app): State<Emulated>, Path(key): Path<String>) -> Answer {
    {
        let mut world = app.world();
        let oid = found(&world, &key)?.oid.clone();
        world.directory.principals.remove(&oid);
        world.directory.groups.values_mut().for_each(|group| {
            group.members.remove(&oid);
        });
    }
    write_users(&app).map_err(Wrong::bad)?;
    done()
}

pub(super) async fn claims(State(app): State<Emulated>, Path(key): Path<String>) -> Answer {
    to_json(&found(&app.world(), &key)?.claims)
}

pub(super) async fn set_claims(
    State(app): State<Emulated>,
    Path(key): Path<String>,
    Json(claims): Json<Claims>,
) -> Answer {
    let mut world = app.world();
    let person = world.directory.find_mut(&key).ok_or_else(|| Wrong::missing(&format!("principal {key}")))?;
    person.claims = claims;
    to_json(&person.claims)
}

pub(super) async fn revoke(State(app): State<Emulated>, Path(key): Path<String>) -> Answer {
    let mut world = app.world();
    // One second on: a session begun in this very second is revoked too.
    let from = world.now() + 1;
    let person = world.directory.find_mut(&key).ok_or_else(|| Wrong::missing(&format!("principal {key}")))?;
    person.sessions_valid_from = from;
    Ok(Json(json!({"sessions_valid_from": from})))
}

// A session that also outlives a revocation made in this second.
fn fresh_session(world: &World, who: &Principal) -> Session {
    Session {
        oid: who.oid.clone(),
        client_id: String::new(),
        auth_time: world.now().max(who.sessions_valid_from),
        fresh: false,
        acrs: Vec::new(),
        scope: String::new(),
        nonce: String::new(),
    }
}

pub(super) async fn refresh_token(State(app): State<Emulated>, Path(key): Path<String>) -> Answer {
    let mut world = app.world();
    let session = fresh_session(&world, found(&world, &key)?);
    let token = world.sessions.issue_refresh(&session);
    Ok(Json(json!({"refresh_token": token})))
}

pub(super) async fn groups(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().directory.groups.values().collect::<Vec<_>>())
}

pub(super) async fn set_group(
    State(app): State<Emulated>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let mut world = app.world();
    let id = id.to_ascii_lowercase();
    let old = world.directory.groups.get(&id).cloned();
    let base =
        old.unwrap_or_else(|| Group { id: id.clone(), display_name: String::new(), members: [].into() });
    let mut group: Group = merged(&base, &body)?;
    group.id.clone_from(&id);
    world.directory.groups.insert(id, group.clone());
    to_json(&group)
}

pub(super) async fn remove_group(State(app): State<Emulated>, Path(id): Path<String>) -> Answer {
    match app.world().directory.groups.remove(&id.to_ascii_lowercase()) {
        Some(_) => done(),
        None => Err(Wrong::missing(&format!("group {id}"))),
    }
}

fn with_members(app: &Emulated, id: &str, change: impl FnOnce(&mut Group)) -> Answer {
    let mut world = app.world();
    let group = world.directory.groups.get_mut(&id.to_ascii_lowercase());
    let group = group.ok_or_else(|| Wrong::missing(&format!("group {id}")))?;
    change(group);
    to_json(group)
}

pub(super) async fn join(State(app): State<Emulated>, Path((id, oid)): Path<(String, String)>) -> Answer {
    with_members(&app, &id, |group| {
        group.members.insert(oid.to_ascii_lowercase());
    })
}

pub(super) async fn leave(State(app): State<Emulated>, Path((id, oid)): Path<(String, String)>) -> Answer {
    with_members(&app, &id, |group| {
        group.members.remove(&oid.to_ascii_lowercase());
    })
}

pub(super) async fn apps(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().apps.values().collect::<Vec<_>>())
}

pub(super) async fn set_app(
    State(app): State<Emulated>,
    Path(client_id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let mut world = app.world();
    let client_id = client_id.to_ascii_lowercase();
    let base = world.apps.get(&client_id).cloned().unwrap_or_default();
    let mut made: App = merged(&base, &body)?;
    made.client_id.clone_from(&client_id);
    // An application that acts alone needs a service principal; make one unless there is one.
    if world.directory.by_app(&client_id).is_none() {
        let mut principal = Principal::new(&ids::guid(), &made.name, Kind::ServicePrincipal);
        principal.app_id = Some(client_id.clone());
        world.directory.principals.insert(principal.oid.clone(), principal);
    }
    let oid = world.directory.by_app(&client_id).map(|one| one.oid.clone());
    world.apps.insert(client_id, made.clone());
    let mut shown = serde_json::to_value(&made).map_err(Wrong::bad)?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("service_principal_oid".into(), json!(oid));
    }
    Ok(Json(shown))
}

pub(super) async fn remove_app(State(app): State<Emulated>, Path(client_id): Path<String>) -> Answer {
    match app.world().apps.remove(&client_id.to_ascii_lowercase()) {
        Some(_) => done(),
        None => Err(Wrong::missing(&format!("application {client_id}"))),
    }
}

pub(super) async fn issuers(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().issuers)
}

pub(super) async fn set_issuers(State(app): State<Emulated>, Json(issuers): Json<Vec<Issuer>>) -> Answer {
    app.world().issuers = issuers;
    done()
}
