//! Making JWTs: v1 and v2 access tokens, ID tokens, `client_info` (Microsoft Learn, "Access token claims
//! reference", "ID token claims reference").

use serde_json::{Map, Value, json};

use super::client::Proof;
use super::{Cloud, issuer};
use crate::apps::App;
use crate::directory::{Kind, Principal};
use crate::ids;
use crate::jwt;
use crate::sessions::Session;
use crate::state::World;

/// The most groups that a JWT names.
const MAX_GROUPS: usize = 200;

/// Everything an access token is made from.
pub(crate) struct Order<'a> {
    pub(crate) cloud: &'a Cloud,
    pub(crate) principal: &'a Principal,
    pub(crate) audience: &'a str,
    pub(crate) v2: bool,
    pub(crate) client_id: &'a str,
    pub(crate) proof: Proof,
    /// A person's sign-in; none for an application acting alone.
    pub(crate) session: Option<&'a Session>,
    pub(crate) permissions: &'a str,
    /// Did the client declare `cp1`?
    pub(crate) capable: bool,
    /// ARM id of a managed identity's resource.
    pub(crate) mirid: Option<&'a str>,
    /// The key that a proof-of-possession token is bound to: its `cnf`.
    pub(crate) confirmation: Option<Value>,
    /// Life in seconds.
    pub(crate) seconds: i64,
}

/// A signed access token.
pub(crate) fn access_token(world: &World, order: &Order<'_>) -> String {
    let claims = Value::Object(access_claims(world, order));
    world.token_key().map(|key| jwt::sign(&key, &claims)).unwrap_or_default()
}

fn access_claims(world: &World, order: &Order<'_>) -> Map<String, Value> {
    let (now, principal) = (world.now(), order.principal);
    let mut claims = object(json!({
        "aud": order.audience,
        "iss": issuer(order.cloud, &world.tenant, order.v2),
        "iat": now,
        "nbf": now,
        "exp": now + order.seconds,
        "aio": ids::base64url(&ids::random::<24>()),
        "oid": principal.oid,
        "sub": principal.oid,
        "tid": world.tenant,
        "uti": ids::base64url(&ids::random::<16>()),
        "rh": format!("1.{}", ids::base64url(&ids::random::<24>())),
        "ver": if order.v2 { "2.0" } else { "1.0" },
    }));
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    let (client, acr) = if order.v2 { ("azp", "azpacr") } else { ("appid", "appidacr") };
    set(client, order.client_id.into());
    set(acr, order.proof.acr().into());
    if let Some(session) = order.session {
        person_claims(order, session, &mut set);
    } else {
        set("idtyp", "app".into());
        if !order.v2 {
            set("idp", issuer(order.cloud, &world.tenant, false).into());
        }
        let roles = world.apps.get(order.client_id).map(|app| &app.graph_roles);
        if let Some(roles) = roles.filter(|roles| !roles.is_empty() && order.audience.contains("graph")) {
            set("roles", json!(roles));
        }
    }
    if let Some(mirid) = order.mirid {
        set("xms_mirid", mirid.into());
    }
    if order.capable {
        set("xms_cc", json!(["cp1"]));
    }
    if let Some(confirmation) = &order.confirmation {
        set("cnf", confirmation.clone());
    }
    overlay(&mut claims, principal);
    claims
}

fn person_claims(order: &Order<'_>, session: &Session, set: &mut impl FnMut(&str, Value) -> Option<Value>) {
    let principal = order.principal;
    set("name", principal.name().into());
    set("scp", order.permissions.into());
    set("sid", ids::guid().into());
    if order.v2 {
        set("preferred_username", principal.upn.as_str().into());
    } else {
        set("acr", "1".into());
        set("amr", json!(principal.claims.amr));
        set("ipaddr", "203.0.113.7".into());
        set("puid", "1003200000000001".into());
        set("unique_name", principal.upn.as_str().into());
        set("upn", principal.upn.as_str().into());
    }
    if let Some(mail) = principal.mail.as_deref().filter(|_| principal.kind == Kind::Guest) {
        set("email", mail.into());
        set("idp", "https://sts.windows.net/fab00000-0000-4000-8000-000000000000/".into());
        set("acct", 1.into());
    } else {
        set("acct", 0.into());
    }
    let contexts = contexts(principal, session);
    if !contexts.is_empty() {
        set("acrs", json!(contexts));
    }
    set("auth_time", auth_time(principal, session).into());
    if let Some(device) = &principal.claims.deviceid {
        set("deviceid", device.as_str().into());
    }
}

/// The contexts that the session was asked for, and the person's standing ones.
fn contexts(principal: &Principal, session: &Session) -> Vec<String> {
    let mut contexts = session.acrs.clone();
    contexts.extend(principal.claims.acrs.iter().filter(|acr| !session.acrs.contains(acr)).cloned());
    contexts
}

/// A pinned time stands for a browser that has long been signed in: not for credentials given just now.
fn auth_time(principal: &Principal, session: &Session) -> i64 {
    principal.claims.auth_time.filter(|_| !session.fresh).unwrap_or(session.auth_time)
}

fn overlay(claims: &mut Map<String, Value>, principal: &Principal) {
    for (name, value) in &principal.claims.extra {
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.clone(), value.clone());
        }
    }
}

/// A signed ID token for the client.
pub(crate) fn id_token(
    world: &World,
    cloud: &Cloud,
    principal: &Principal,
    app: &App,
    session: &Session,
) -> String {
    let now = world.now();
    let mut claims = json!({
        "aud": app.client_id,
        "iss": issuer(cloud, &world.tenant, true),
        "iat": now, "nbf": now, "exp": now + 3600,
        "name": principal.name(),
        "oid": principal.oid,
        "preferred_username": principal.upn,
        "rh": format!("1.{}", ids::base64url(&ids::random::<24>())),
        "sub": ids::base64url(principal.oid.as_bytes()),
        "tid": world.tenant,
        "uti": ids::base64url(&ids::random::<16>()),
        "ver": "2.0",
    });
    if let (false, Some(members)) = (session.nonce.is_empty(), claims.as_object_mut()) {
        members.insert("nonce".into(), session.nonce.as_str().into());
    }
    if let Some(members) = claims.as_object_mut() {
        members.extend(optional(world, app, principal, session));
    }
    world.token_key().map(|key| jwt::sign(&key, &claims)).unwrap_or_default()
}

/// What the application asks for in its ID tokens, as far as there is something to say.
fn optional(world: &World, app: &App, principal: &Principal, session: &Session) -> Vec<(String, Value)> {
    let contexts = contexts(principal, session);
    let said = |name: &str| match name {
        "upn" => Some(principal.upn.as_str().into()),
        "acct" => Some(u8::from(principal.kind == Kind::Guest).into()),
        "amr" => Some(json!(principal.claims.amr)),
        "acrs" if contexts.is_empty() => None,
        "acrs" => Some(json!(contexts)),
        "auth_time" => Some(auth_time(principal, session).into()),
        "deviceid" => principal.claims.deviceid.as_deref().map(Value::from),
        _ => None,
    };
    let asked = app.optional_id_claims.iter();
    let mut all: Vec<_> = asked.clone().filter_map(|name| Some((name.clone(), said(name)?))).collect();
    if asked.clone().any(|name| name == "groups") {
        all.extend(groups(world, principal));
    }
    all
}

/// Groups by object id, those within groups too; of too many only where they could be asked for, at an address that no
/// longer answers (Microsoft Learn, "Configure group claims for applications").
fn groups(world: &World, principal: &Principal) -> Vec<(String, Value)> {
    let groups = world.directory.groups_of(&principal.oid);
    if groups.is_empty() {
        return Vec::new();
    }
    if groups.len() <= MAX_GROUPS {
        return vec![("groups".into(), json!(groups))];
    }
    let (tenant, oid) = (&world.tenant, &principal.oid);
    let endpoint = format!("https://graph.windows.net/{tenant}/users/{oid}/getMemberObjects");
    vec![
        ("_claim_names".into(), json!({"groups": "src1"})),
        ("_claim_sources".into(), json!({"src1": {"endpoint": endpoint}})),
    ]
}

/// Who the tokens are about, in MSAL's terms.
pub(crate) fn client_info(world: &World, principal: &Principal) -> String {
    ids::base64url(json!({"uid": principal.oid, "utid": world.tenant}).to_string().as_bytes())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
