//! The instance metadata service on 169.254.169.254 (Microsoft Learn, "Azure Instance Metadata Service",
//! "How to use managed identities … to acquire an access token"). Plain HTTP, `Metadata: true`, no proxies.

use axum::response::Response;
use serde_json::{Value, json};

use crate::assumed;
use crate::bucket;
use crate::call::{self, Call};
use crate::clock;
use crate::entra::client::Proof;
use crate::entra::issue::{self, Order};
use crate::entra::{cloud_of_environment, resource};
use crate::state::{Emulated, Identity, Node, World};

/// Life of a managed identity's token, seconds.
const TOKEN_SECONDS: i64 = 86_400;
const TOKEN_PATH: &str = "/metadata/identity/oauth2/token";
const NEWEST: [&str; 3] = ["2023-07-01", "2021-12-13", "2021-11-15"];

/// Answer one call.
pub(crate) fn answer(app: &Emulated, call: &Call) -> Response {
    let path = call.path.trim_end_matches('/').to_ascii_lowercase();
    let identity = path.starts_with("/metadata/identity");
    if !call.header("x-forwarded-for").is_empty() {
        return bad(identity, "Requests through a proxy (X-Forwarded-For) are not allowed");
    }
    if !call.header("metadata").eq_ignore_ascii_case("true") {
        return bad(identity, "Required metadata header not specified");
    }
    if call.method != "GET" {
        return call::json(405, &json!({"error": "Method not allowed"}));
    }
    let mut world = app.world();
    let version = call.query.text("api-version");
    let dated = version.get(..4).is_some_and(|year| year.bytes().all(|digit| digit.is_ascii_digit()));
    match path.as_str() {
        "/metadata/instance" | "/metadata/instance/compute" if !dated => {
            let error = "Bad request. api-version was not specified or is invalid. For more information refer to aka.ms/azureimds";
            call::json(400, &json!({"error": error, "newest-versions": NEWEST}))
        }
        "/metadata/instance" => call::json(200, &instance(&world.node)),
        "/metadata/instance/compute" => call::json(200, &compute(&world.node)),
        TOKEN_PATH => {
            if world.limits.imds_enabled {
                let limit = world.limits.imds;
                if let Err(wait) = world.buckets.take("imds", limit, clock::monotonic()) {
                    return too_many(bucket::retry_after(wait));
                }
            }
            if !dated {
                return bad(true, "Required query variable 'api-version' is missing");
            }
            let node = world.node.clone();
            token(&world, &node, call)
        }
        assumed::CA_KEYS_PATH => ca_keys(&world, call),
        _ => call::json(404, &json!({"error": "Not found"})),
    }
}

/// Is this a token request too many, with so many open?
pub(crate) fn crowded(world: &World, call: &Call, open: u64) -> bool {
    world.limits.imds_enabled
        && open > world.limits.imds_concurrent
        && call.path.trim_end_matches('/').eq_ignore_ascii_case(TOKEN_PATH)
}

/// The answer beyond a limit.
pub(crate) fn too_many(wait_seconds: u64) -> Response {
    let body = json!({"error": "too_many_requests", "error_description": "Too many requests"});
    call::with_header(call::json(429, &body), "retry-after", &wait_seconds.to_string())
}

fn bad(identity: bool, why: &str) -> Response {
    if identity {
        call::json(400, &json!({"error": "invalid_request", "error_description": why}))
    } else {
        call::json(400, &json!({"error": format!("Bad request. {why}")}))
    }
}

/// The `ca_keys` document, which himds serves as well.
pub(crate) fn ca_keys(world: &World, call: &Call) -> Response {
    if call.query.text("api-version") != assumed::CA_KEYS_VERSION {
        return bad(false, "api-version is not supported");
    }
    let keys: Vec<(String, &crate::rsakey::RsaKey)> =
        world.ssh_cas.iter().filter(|ca| ca.published).map(|ca| (ca.key.kid(), ca.key.as_ref())).collect();
    let body = assumed::ca_keys(keys.iter().map(|(kid, key)| (kid.as_str(), key.n(), key.e())));
    call::json(200, &body)
}

/// The instance document.
pub(crate) fn instance(node: &Node) -> Value {
    json!({"compute": compute(node), "network": {"interface": [{
        "ipv4": {"ipAddress": [{"privateIpAddress": "10.224.0.4", "publicIpAddress": ""}],
                 "subnet": [{"address": "10.224.0.0", "prefix": "16"}]},
        "ipv6": {"ipAddress": []}, "macAddress": "000D3A000001"}]}})
}

/// Its `compute` part.
pub(crate) fn compute(node: &Node) -> Value {
    let tags: Vec<Value> = node
        .tags
        .split(';')
        .filter_map(|tag| tag.split_once(':'))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({
        "azEnvironment": node.environment,
        "location": node.location,
        "name": node.name,
        "osType": "Linux",
        "offer": "", "publisher": "", "sku": "", "version": "",
        "placementGroupId": "",
        "platformFaultDomain": "0",
        "provider": "Microsoft.Compute",
        "resourceGroupName": node.resource_group,
        "resourceId": node.resource_id,
        "subscriptionId": node.subscription_id,
        "tags": node.tags,
        "tagsList": tags,
        "vmId": node.vm_id,
        "vmScaleSetName": node.scale_set,
        "vmSize": "Standard_D4s_v5",
        "zone": "",
    })
}

/// A token of the machine's identity: which identity, for which resource, numbers as text.
pub(crate) fn token(world: &World, node: &Node, call: &Call) -> Response {
    let identity = match select(node, call) {
        Ok(identity) => identity,
        Err(why) => return bad(true, why),
    };
    let resource = call.query.text("resource");
    if resource.is_empty() {
        return bad(true, "Required query variable 'resource' is missing");
    }
    let wanted = match resource::from_resource(world, resource) {
        Ok(wanted) => wanted,
        Err(refusal) => {
            let body = refusal.body(world);
            let brief =
                json!({"error": body.get("error"), "error_description": body.get("error_description")});
            return call::json(400, &brief);
        }
    };
    let Some(principal) = world.directory.find(&identity.object_id).filter(|one| one.enabled) else {
        return bad(true, "Identity not found");
    };
    let mirid = if identity.resource_id.is_empty() { &node.resource_id } else { &identity.resource_id };
    let order = Order {
        cloud: &cloud_of_environment(&node.environment),
        principal,
        audience: &wanted.audience,
        v2: wanted.v2,
        client_id: &identity.client_id,
        proof: Proof::Assertion,
        session: None,
        permissions: "",
        capable: false,
        mirid: Some(mirid),
        confirmation: None,
        seconds: TOKEN_SECONDS,
    };
    let now = world.now();
    let mut body = json!({
        "access_token": issue::access_token(world, &order),
        "client_id": identity.client_id,
        "expires_in": TOKEN_SECONDS.to_string(),
        "expires_on": (now + TOKEN_SECONDS).to_string(),
        "ext_expires_in": TOKEN_SECONDS.to_string(),
        "not_before": now.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    // The echo of the selector is what clients of user-assigned identities check.
    for name in ["object_id", "msi_res_id", "mi_res_id"] {
        if let (Some(value), Some(members)) = (call.query.get(name), body.as_object_mut()) {
            members.insert(name.into(), value.into());
        }
    }
    call::json(200, &body)
}

fn select<'a>(node: &'a Node, call: &Call) -> Result<&'a Identity, &'static str> {
    type Part = fn(&Identity) -> &str;
    let selectors: [(&str, Part); 6] = [
        ("client_id", |one| &one.client_id),
        ("clientid", |one| &one.client_id),
        ("object_id", |one| &one.object_id),
        ("principal_id", |one| &one.object_id),
        ("msi_res_id", |one| &one.resource_id),
        ("mi_res_id", |one| &one.resource_id),
    ];
    for (name, part) in selectors {
        if let Some(value) = call.query.get(name) {
            let found = node.identities.iter().find(|one| part(one).eq_ignore_ascii_case(value));
            return found.ok_or("Identity not found");
        }
    }
    if let Some(system) = node.identities.iter().find(|one| one.system_assigned) {
        return Ok(system);
    }
    match node.identities.as_slice() {
        [] => Err("Identity not found"),
        [only] => Ok(only),
        _ => Err(
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
        ),
    }
}
