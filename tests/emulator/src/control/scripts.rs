//! Control of machines, scripted refusals, faults, counters, buckets and time.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Wrong, done, merged};
use crate::faults::{Plan, Service};
use crate::state::{Challenge, Emulated, Script};

fn to_json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map(Json).map_err(Wrong::bad)
}

fn service(name: &str) -> Result<Service, Wrong> {
    Service::named(name).ok_or_else(|| {
        Wrong::missing(&format!("service {name}; there are entra, pdp, arm, graph, imds, himds"))
    })
}

pub(super) async fn node(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().node)
}

pub(super) async fn set_node(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let mut world = app.world();
    world.node = merged(&world.node, &body)?;
    let id = world.node.resource_id.clone();
    world.resources.insert(id);
    to_json(&world.node)
}

pub(super) async fn arc(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().arc)
}

pub(super) async fn set_arc(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let mut world = app.world();
    world.arc = merged(&world.arc, &body)?;
    let id = world.arc.resource_id.clone();
    world.resources.insert(id);
    to_json(&world.arc)
}

pub(super) async fn entra(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().entra)
}

pub(super) async fn set_entra(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let mut world = app.world();
    world.entra = merged(&world.entra, &body)?;
    to_json(&world.entra)
}

pub(super) async fn scripts(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().scripts)
}

pub(super) async fn add_script(State(app): State<Emulated>, Json(script): Json<Script>) -> Answer {
    app.world().scripts.push(script);
    done()
}

pub(super) async fn drop_scripts(State(app): State<Emulated>) -> Answer {
    app.world().scripts.clear();
    done()
}

pub(super) async fn challenges(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().challenges)
}

pub(super) async fn set_challenges(State(app): State<Emulated>, Json(list): Json<Vec<Challenge>>) -> Answer {
    app.world().challenges = list;
    done()
}

/// How a device code ends.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    /// Who approves it; absent: it is declined.
    user: Option<String>,
}

pub(super) async fn device(
    State(app): State<Emulated>,
    Path(user_code): Path<String>,
    Json(outcome): Json<Outcome>,
) -> Answer {
    let mut world = app.world();
    let device = world.sessions.device_by_user_code(&user_code);
    let device = device.ok_or_else(|| Wrong::missing(&format!("device code {user_code}")))?;
    device.outcome = Some(outcome.user);
    done()
}

pub(super) async fn faults(State(app): State<Emulated>) -> Answer {
    to_json(&app.world().faults)
}

pub(super) async fn clear_faults(State(app): State<Emulated>) -> Answer {
    app.world().faults.0.clear();
    done()
}

pub(super) async fn set_fault(
    State(app): State<Emulated>,
    Path(name): Path<String>,
    Json(plan): Json<Plan>,
) -> Answer {
    let service = service(&name)?;
    app.world().faults.0.insert(service, plan);
    done()
}

pub(super) async fn clear_fault(State(app): State<Emulated>, Path(name): Path<String>) -> Answer {
    let service = service(&name)?;
    app.world().faults.0.remove(&service);
    done()
}

pub(super) async fn counters(State(app): State<Emulated>) -> Answer {
    let world = app.world();
    let mut all = Map::new();
    for service in Service::ALL {
        let paths = world.record.of(service);
        // A path follows its method; grants and proofs are counted next to them, not in the total.
        let is_path = |key: &str| key.starts_with(|first: char| first.is_ascii_uppercase());
        let total: u64 = paths.iter().filter(|(key, _)| is_path(key)).map(|(_, count)| count).sum();
        let peak = world.record.peak(service);
        all.insert(service.name().into(), json!({"total": total, "paths": paths, "peak": peak}));
    }
    Ok(Json(Value::Object(all)))
}

pub(super) async fn clear_counters(State(app): State<Emulated>) -> Answer {
    app.world().record.clear();
    done()
}

/// Which requests to show.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    service: Option<String>,
}

pub(super) async fn requests(State(app): State<Emulated>, Query(which): Query<Which>) -> Answer {
    let wanted = which.service.as_deref().map(service).transpose()?;
    let world = app.world();
    let list: Vec<_> =
        world.record.requests().filter(|seen| wanted.is_none_or(|wanted| wanted == seen.service)).collect();
    to_json(&list)
}

pub(super) async fn buckets(State(app): State<Emulated>) -> Answer {
    let world = app.world();
    let levels: Map<String, Value> =
        world.buckets.levels().map(|(name, left)| (name.to_owned(), left.into())).collect();
    Ok(Json(json!({"limits": world.limits, "levels": levels})))
}

pub(super) async fn set_buckets(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let mut world = app.world();
    world.limits = merged(&world.limits, &body)?;
    world.buckets.refill();
    to_json(&world.limits)
}

pub(super) async fn refill(State(app): State<Emulated>) -> Answer {
    app.world().buckets.refill();
    done()
}

pub(super) async fn time(State(app): State<Emulated>) -> Answer {
    let world = app.world();
    let mut shown = serde_json::to_value(world.time).map_err(Wrong::bad)?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("now".into(), world.now().into());
    }
    Ok(Json(shown))
}

pub(super) async fn set_time(State(app): State<Emulated>, Json(body): Json<Value>) -> Answer {
    let mut world = app.world();
    world.time = merged(&world.time, &body)?;
    to_json(&world.time)
}
