//! login.microsoftonline.com and its sovereign sisters: discovery documents, keys and the way to the token
//! endpoint (Microsoft Learn, "OpenID Connect on the Microsoft identity platform").

pub(crate) mod client;
mod codes;
pub(crate) mod interactive;
pub(crate) mod issue;
pub(crate) mod pop;
pub(crate) mod refusal;
pub(crate) mod resource;
pub(crate) mod ssh;
pub(crate) mod token;

use axum::response::Response;
use serde_json::{Value, json};

use crate::call::{self, Call};
use crate::ids;
use crate::state::{Emulated, World};
use refusal::Refusal;

/// The hosts of one national cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cloud {
    pub(crate) login: &'static str,
    pub(crate) sts: &'static str,
    pub(crate) graph: &'static str,
    pub(crate) instance: &'static str,
    /// Host of the SSH sign-in resource.
    pub(crate) pas: &'static str,
    pub(crate) region_scope: &'static str,
}

/// The public cloud.
pub(crate) const PUBLIC: Cloud = Cloud {
    login: "login.microsoftonline.com",
    sts: "sts.windows.net",
    graph: "graph.microsoft.com",
    instance: "microsoftonline.com",
    pas: "pas.windows.net",
    region_scope: "EU",
};
const US_GOV: Cloud = Cloud {
    login: "login.microsoftonline.us",
    graph: "graph.microsoft.us",
    instance: "microsoftonline.us",
    pas: "pasff.usgovcloudapi.net",
    region_scope: "USGov",
    ..PUBLIC
};
const CHINA: Cloud = Cloud {
    login: "login.partner.microsoftonline.cn",
    sts: "sts.chinacloudapi.cn",
    graph: "microsoftgraph.chinacloudapi.cn",
    instance: "partner.microsoftonline.cn",
    pas: "pas.chinacloudapi.cn",
    region_scope: "AS",
};

/// All clouds.
pub(crate) const CLOUDS: [Cloud; 3] = [PUBLIC, US_GOV, CHINA];

/// The cloud a host name belongs to; local names are the public cloud's.
pub(crate) fn cloud_of(host: &str) -> Cloud {
    if host.ends_with(".us") || host.ends_with("usgovcloudapi.net") {
        US_GOV
    } else if host.ends_with(".cn") {
        CHINA
    } else {
        PUBLIC
    }
}

/// The cloud of an IMDS `azEnvironment`.
pub(crate) fn cloud_of_environment(name: &str) -> Cloud {
    if name.contains("USGov") {
        US_GOV
    } else if name.contains("China") {
        CHINA
    } else {
        PUBLIC
    }
}

/// Answer one call to the login host.
pub(crate) fn answer(app: &Emulated, call: &Call) -> Response {
    let mut world = app.world();
    let segments = call.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let cloud = cloud_of(call.host());
    if let [_, "discovery", "instance"] = parts.as_slice() {
        return call::json(200, &instance_discovery(&cloud, &world.tenant, call));
    }
    let Some((tenant, rest)) = parts.split_first() else {
        return call::text(404, "Not Found");
    };
    if !is_tenant(&world, tenant) {
        return Refusal::new(90002).about(tenant).response(&world);
    }
    let answer = match (call.method.as_str(), rest) {
        ("GET", ["v2.0", ".well-known", "openid-configuration"]) => Ok(discovery(&world, call, &cloud, true)),
        ("GET", [".well-known", "openid-configuration"]) => Ok(discovery(&world, call, &cloud, false)),
        ("GET", ["discovery", "v2.0", "keys"]) => Ok(keys(&mut world, &cloud, true)),
        ("GET", ["discovery", "keys"]) => Ok(keys(&mut world, &cloud, false)),
        ("POST", ["oauth2", "v2.0", "token"]) => token::answer(&mut world, call, &cloud, false),
        ("POST", ["oauth2", "token"]) => token::answer(&mut world, call, &cloud, true),
        ("POST", ["oauth2", "v2.0", "devicecode"]) => interactive::device_code(&mut world, call),
        ("GET", ["oauth2", "v2.0", "authorize"]) => return interactive::authorize(&mut world, call),
        _ => return call::text(404, "Not Found"),
    };
    match answer {
        Ok(body) => call::with_header(call::json(200, &body), "cache-control", "no-store, no-cache"),
        Err(refusal) => refusal.response(&world),
    }
}

fn is_tenant(world: &World, name: &str) -> bool {
    name == world.tenant
        || ["common", "organizations", "contoso.com", "contoso.onmicrosoft.com"].contains(&name)
}

/// Where this endpoint says it lives: its public name, unless it was reached by a local one.
fn base(call: &Call, cloud: &Cloud) -> String {
    if cloud_of(call.host()) == *cloud && call.host().contains("login") {
        format!("https://{}", cloud.login)
    } else {
        format!("https://{}", call.authority)
    }
}

fn instance_discovery(cloud: &Cloud, tenant: &str, call: &Call) -> Value {
    let metadata: Vec<Value> = CLOUDS
        .iter()
        .map(|one| {
            let mut aliases = vec![one.login];
            match one.login {
                "login.microsoftonline.com" => {
                    aliases.extend(["login.windows.net", "login.microsoft.com", "sts.windows.net"])
                }
                "login.partner.microsoftonline.cn" => aliases.push("login.chinacloudapi.cn"),
                _ => aliases.push("login.usgovcloudapi.net"),
            }
            let cache = if one.login == PUBLIC.login { "login.windows.net" } else { one.login };
            json!({"preferred_network": one.login, "preferred_cache": cache, "aliases": aliases})
        })
        .collect();
    json!({
        "tenant_discovery_endpoint":
            format!("{}/{tenant}/v2.0/.well-known/openid-configuration", base(call, cloud)),
        "api-version": "1.1",
        "metadata": metadata,
    })
}

fn discovery(world: &World, call: &Call, cloud: &Cloud, v2: bool) -> Value {
    let tenant = &world.tenant;
    let base = format!("{}/{tenant}", base(call, cloud));
    let dir = if v2 { "oauth2/v2.0" } else { "oauth2" };
    json!({
        "issuer": issuer(cloud, tenant, v2),
        "token_endpoint": format!("{base}/{dir}/token"),
        "authorization_endpoint": format!("{base}/{dir}/authorize"),
        "device_authorization_endpoint": format!("{base}/{dir}/devicecode"),
        "end_session_endpoint": format!("{base}/{dir}/logout"),
        "jwks_uri": format!("{base}/discovery/{}keys", if v2 { "v2.0/" } else { "" }),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver"],
        "request_uri_parameter_supported": false,
        "tenant_region_scope": cloud.region_scope,
        "cloud_instance_name": cloud.instance,
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": cloud.graph,
        "rbac_url": format!("https://{}", cloud.pas),
    })
}

/// The issuer of a token version.
pub(crate) fn issuer(cloud: &Cloud, tenant: &str, v2: bool) -> String {
    if v2 {
        format!("https://{}/{tenant}/v2.0", cloud.login)
    } else {
        format!("https://{}/{tenant}/", cloud.sts)
    }
}

// Front ends disagree about the key set for hours at a time; `jwks_hidden` plays that: one hidden set per
// poll, over and over.
fn keys(world: &mut World, cloud: &Cloud, v2: bool) -> Value {
    let hidden = match world.jwks_hidden.len() {
        0 => None,
        sets => world.jwks_hidden.get(world.jwks_polls % sets).cloned(),
    };
    world.jwks_polls += 1;
    let shown = world
        .token_keys
        .iter()
        .filter(|key| key.published)
        .map(|key| &key.key)
        .filter(|key| !hidden.as_ref().is_some_and(|hidden| hidden.contains(&key.kid())));
    let list: Vec<Value> = shown
        .map(|key| {
            let kid = key.kid();
            let mut jwk = json!({
                "kty": "RSA", "use": "sig", "kid": kid, "x5t": kid,
                "n": ids::base64url(key.n()), "e": ids::base64url(key.e()), "x5c": [],
            });
            if let (true, Some(members)) = (v2, jwk.as_object_mut()) {
                members.insert("issuer".into(), issuer(cloud, &world.tenant, true).into());
                members.insert("cloud_instance_name".into(), cloud.instance.into());
            }
            jwk
        })
        .collect();
    json!({"keys": list})
}
