//! Control of keys, and tokens no real service would issue: any claims, any key.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Wrong, done};
use crate::entra::PUBLIC;
use crate::entra::client::Proof;
use crate::entra::issue::{self, Order};
use crate::entra::pop;
use crate::jwt;
use crate::rsakey::RsaKey;
use crate::sessions::Session;
use crate::sshcert;
use crate::start::write_private;
use crate::state::{Emulated, SshCa, TokenKey};

pub(super) fn generate() -> Result<Arc<RsaKey>, Wrong> {
    RsaKey::generate().map(Arc::new).map_err(Wrong::bad)
}

pub(super) async fn cas(State(app): State<Emulated>) -> Answer {
    let world = app.world();
    let newest = world.ssh_cas.len();
    let list = world.ssh_cas.iter().enumerate().map(|(at, ca)| {
        json!({"kid": ca.key.kid(), "published": ca.published, "signs": at + 1 == newest,
               "public_key": sshcert::public_line(&ca.key, &ca.key.kid())})
    });
    Ok(Json(list.collect()))
}

/// How to change over to a new key.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Rotation {
    /// Does the old key stay in the published document?
    keep_old: bool,
    /// Is the new key in the published document?
    publish_new: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { keep_old: true, publish_new: true }
    }
}

pub(super) async fn rotate_ca(State(app): State<Emulated>, Json(how): Json<Rotation>) -> Answer {
    let key = generate()?;
    let kid = key.kid();
    write_private(&app.state_dir.join("ssh-ca"), &key.pem()).map_err(Wrong::bad)?;
    std::fs::write(
        app.state_dir.join("ssh-ca.pub"),
        sshcert::public_line(&key, "nightlatch-emulator-ca") + "\n",
    )
    .map_err(Wrong::bad)?;
    let mut world = app.world();
    world.ssh_cas.iter_mut().for_each(|ca| ca.published &= how.keep_old);
    let line = sshcert::public_line(&key, &kid);
    world.ssh_cas.push(SshCa { key, published: how.publish_new });
    Ok(Json(json!({"kid": kid, "public_key": line})))
}

/// In the published document or not.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    published: bool,
}

pub(super) async fn publish_ca(
    State(app): State<Emulated>,
    Path(kid): Path<String>,
    Json(shown): Json<Shown>,
) -> Answer {
    let mut world = app.world();
    let ca = world.ssh_cas.iter_mut().find(|ca| ca.key.kid() == kid);
    ca.ok_or_else(|| Wrong::missing(&format!("SSH CA {kid}")))?.published = shown.published;
    done()
}

pub(super) async fn drop_ca(State(app): State<Emulated>, Path(kid): Path<String>) -> Answer {
    let mut world = app.world();
    let before = world.ssh_cas.len();
    world.ssh_cas.retain(|ca| ca.key.kid() != kid);
    if world.ssh_cas.len() == before {
        return Err(Wrong::missing(&format!("SSH CA {kid}")));
    }
    done()
}

pub(super) async fn token_keys(State(app): State<Emulated>) -> Answer {
    let world = app.world();
    let newest = world.token_keys.len();
    let list = world.token_keys.iter().enumerate().map(
        |(at, key)| json!({"kid": key.key.kid(), "published": key.published, "signs": at + 1 == newest}),
    );
    Ok(Json(list.collect()))
}

pub(super) async fn rotate_token_key(State(app): State<Emulated>, Json(how): Json<Rotation>) -> Answer {
    let key = generate()?;
    let kid = key.kid();
    write_private(&app.state_dir.join("token-signing.pem"), &key.pem()).map_err(Wrong::bad)?;
    let mut world = app.world();
    world.token_keys.iter_mut().for_each(|key| key.published &= how.keep_old);
    world.token_keys.push(TokenKey { key, published: how.publish_new });
    Ok(Json(json!({"kid": kid})))
}

pub(super) async fn publish_token_key(
    State(app): State<Emulated>,
    Path(kid): Path<String>,
    Json(shown): Json<Shown>,
) -> Answer {
    let mut world = app.world();
    let key = world.token_keys.iter_mut().find(|key| key.key.kid() == kid);
    key.ok_or_else(|| Wrong::missing(&format!("token key {kid}")))?.published = shown.published;
    done()
}

pub(super) async fn drop_token_key(State(app): State<Emulated>, Path(kid): Path<String>) -> Answer {
    let mut world = app.world();
    let before = world.token_keys.len();
    world.token_keys.retain(|key| key.key.kid() != kid);
    if world.token_keys.len() == before {
        return Err(Wrong::missing(&format!("token key {kid}")));
    }
    done()
}

/// Key ids to hide, one set per poll of the key document, over and over.
#[derive(Debug, Deserialize)]
pub(super) struct Flap {
    hidden: Vec<BTreeSet<String>>,
}

pub(super) async fn flap(State(app): State<Emulated>, Json(flap): Json<Flap>) -> Answer {
    let mut world = app.world();
    world.jwks_hidden = flap.hidden;
    world.jwks_polls = 0;
    done()
}

/// A signed HTTP request as a resource would get it.
#[derive(Debug, Deserialize)]
pub(super) struct SignedRequest {
    token: String,
    u: String,
    #[serde(default)]
    nonce: Option<String>,
}

pub(super) async fn signed_request(State(app): State<Emulated>, Json(sent): Json<SignedRequest>) -> Answer {
    let claims = pop::accept(&app.world(), &sent.token, &sent.u, sent.nonce.as_deref());
    claims.map(|claims| Json(json!({"claims": claims}))).map_err(Wrong::bad)
}

/// A token made to measure.
#[derive(Debug, Deserialize)]
pub(super) struct TokenOrder {
    user: String,
    audience: String,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    v2: bool,
    /// Members laid over the usual claims; `null` removes one.
    #[serde(default)]
    claims: Map<String, Value>,
    /// `newest` (default), `foreign`, `none` (alg none), or a kid.
    #[serde(default)]
    key: Option<String>,
}

pub(super) async fn token(State(app): State<Emulated>, Json(order): Json<TokenOrder>) -> Answer {
    let world = app.world();
    let who = world.directory.find(&order.user);
    let mut who = who.ok_or_else(|| Wrong::missing(&format!("principal {}", order.user)))?.clone();
    who.claims.extra.extend(order.claims);
    let client =
        order.client_id.or_else(|| who.app_id.clone()).unwrap_or_else(|| crate::world::AZURE_CLI.into());
    let session = who.is_person().then(|| Session {
        oid: who.oid.clone(),
        client_id: client.clone(),
        auth_time: world.now(),
        fresh: false,
        acrs: Vec::new(),
        scope: String::new(),
        nonce: String::new(),
    });
    let wanted = Order {
        cloud: &PUBLIC,
        principal: &who,
        audience: &order.audience,
        v2: order.v2,
        client_id: &client,
        proof: Proof::Public,
        session: session.as_ref(),
        permissions: "user_impersonation",
        capable: false,
        mirid: None,
        confirmation: None,
        seconds: world.entra.access_token_seconds,
    };
    let usual = issue::access_token(&world, &wanted);
    let claims = || jwt::parse(&usual).map(|parts| Value::Object(parts.claims)).unwrap_or_default();
    let token = match order.key.as_deref() {
        None | Some("newest") => usual,
        Some("none") => jwt::unsigned(&claims()),
        Some("foreign") => jwt::sign(&*generate()?, &claims()),
        Some(kid) => {
            let key = world.token_keys.iter().find(|key| key.key.kid() == kid);
            jwt::sign(&key.ok_or_else(|| Wrong::missing(&format!("token key {kid}")))?.key, &claims())
        }
    };
    Ok(Json(json!({"access_token": token})))
}
