//! What a `scope` or `resource` parameter asks for, and whether such a resource exists in the tenant.

use super::refusal::Refusal;
use crate::apps::EXCHANGE_AUDIENCE;
use crate::state::World;

/// Words of a scope that are about sign-in, not about a resource.
const OIDC_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Resources of Microsoft every tenant has (compared without case and trailing slash).
const KNOWN: &[&str] = &[
    "https://authorization.azure.net",
    "https://authorization.azure.us",
    "https://authorization.azure.cn",
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
    "https://vault.azure.net",
    "https://storage.azure.com",
    "https://pas.windows.net/CheckMyAccess/Linux",
    "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux",
    "https://pas.chinacloudapi.cn/CheckMyAccess/Linux",
    // Azure Arc-enabled Kubernetes, the server application that takes proof-of-possession tokens.
    "6256c85f-0aad-4d50-b960-e6e9b21efe35",
    "https://database.windows.net",
    "https://servicebus.azure.net",
    "6dae42f8-4368-4678-94ff-3960e28e3630",
    "ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0",
    EXCHANGE_AUDIENCE,
];

/// A resource a token is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `aud` of the token.
    pub(crate) audience: String,
    /// Is it a v2 token?
    pub(crate) v2: bool,
    /// `scp` of a user's token.
    pub(crate) permissions: String,
    /// The resource's part of the scope, echoed in the answer.
    pub(crate) scope: String,
    pub(crate) openid: bool,
    pub(crate) offline: bool,
}

impl Wanted {
    /// Is this the SSH sign-in resource?
    pub(crate) fn is_ssh(&self) -> bool {
        self.audience.to_ascii_lowercase().ends_with("/checkmyaccess/linux")
    }
}

/// Read a v2 `scope`.
pub(crate) fn from_scope(world: &World, scope: &str) -> Result<Wanted, Refusal> {
    let words: Vec<&str> = scope.split_whitespace().collect();
    let has = |word: &str| words.iter().any(|have| have.eq_ignore_ascii_case(word));
    let own: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !OIDC_SCOPES.iter().any(|oidc| oidc.eq_ignore_ascii_case(word)))
        .collect();
    let mut wanted = match own.first() {
        None => Wanted {
            audience: "https://graph.microsoft.com".into(),
            v2: false,
            permissions: "openid profile User.Read".into(),
            scope: String::new(),
            openid: false,
            offline: false,
        },
        Some(first) => {
            let (resource, permission) = split(first);
            let same = own.iter().all(|other| split(other).0.eq_ignore_ascii_case(resource));
            if !same {
                return Err(Refusal::new(70011).about(scope));
            }
            let mut wanted = from_resource(world, resource)?;
            wanted.scope = own.join(" ");
            if permission != ".default" {
                wanted.permissions = own.iter().map(|one| split(one).1).collect::<Vec<_>>().join(" ");
            }
            wanted
        }
    };
    wanted.openid = has("openid");
    wanted.offline = has("offline_access");
    Ok(wanted)
}

/// Read a v1 `resource`, as the v1 endpoint and IMDS take it: nothing is cut off.
pub(crate) fn from_resource(world: &World, resource: &str) -> Result<Wanted, Refusal> {
    let plain = resource.trim_end_matches('/');
    let found = |audience: &str, v2: bool| Wanted {
        audience: audience.into(),
        v2,
        permissions: "user_impersonation".into(),
        scope: resource.into(),
        openid: false,
        offline: false,
    };
    if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(plain)) {
        return Ok(found(resource, resource == EXCHANGE_AUDIENCE));
    }
    let app = world.apps.values().find(|app| {
        app.client_id.eq_ignore_ascii_case(plain)
            || app.identifier_uris.iter().any(|uri| uri.trim_end_matches('/').eq_ignore_ascii_case(plain))
    });
    match app {
        Some(app) if app.v2_tokens => Ok(found(&app.client_id, true)),
        Some(_) => Ok(found(resource, false)),
        None if plain.is_empty() => Err(Refusal::new(90014).about("scope")),
        None => Err(Refusal::new(500_011).about(resource)),
    }
}

// `https://host/path/permission` → resource and permission. A doubled slash before `.default` leaves the
// resource with its trailing slash. A bare word is a permission of Graph.
fn split(scope: &str) -> (&str, &str) {
    if let Some(resource) = scope.strip_suffix("/.default") {
        return (resource, ".default");
    }
    match scope.rsplit_once('/') {
        Some((resource, permission)) if !resource.ends_with(':') && !resource.ends_with('/') => {
            (resource, permission)
        }
        _ => ("https://graph.microsoft.com", scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world;

    #[test]
    fn scopes_lead_to_resources() {
        let tenant = crate::seed::world("t", Vec::new(), Vec::new());
        let audience = |scope: &str| from_scope(&tenant, scope).map(|wanted| wanted.audience);
        let ssh =
            from_scope(&tenant, "https://pas.windows.net/CheckMyAccess/Linux/.default openid offline_access")
                .unwrap();
        assert!(ssh.is_ssh() && ssh.openid && ssh.offline);
        assert_eq!(
            audience("https://management.azure.com//.default").unwrap(),
            "https://management.azure.com/"
        );
        assert_eq!(
            audience("https://authorization.azure.net/.default").unwrap(),
            "https://authorization.azure.net"
        );
        assert_eq!(audience("User.Read").unwrap(), "https://graph.microsoft.com");
        let own = from_scope(&tenant, &format!("api://{}/login", world::OWN_APP)).unwrap();
        assert_eq!(
            (own.audience.as_str(), own.v2, own.permissions.as_str()),
            (world::OWN_APP, true, "login")
        );
        assert_eq!(audience("https://nowhere.example/.default").unwrap_err().code, 500_011);
        assert_eq!(
            audience("https://vault.azure.net/x https://graph.microsoft.com/y").unwrap_err().code,
            70011
        );
    }

    #[test]
    fn a_resource_is_taken_literally() {
        let tenant = crate::seed::world("t", Vec::new(), Vec::new());
        assert!(from_resource(&tenant, "https://authorization.azure.net").is_ok());
        let refused = from_resource(&tenant, "https://authorization.azure.net/.default").unwrap_err();
        assert_eq!(refused.code, 500_011);
    }
}
