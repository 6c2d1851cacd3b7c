//! Who is calling a resource: the bearer token must be ours, rightly signed, in time and for this resource.
//! The failure is a value; each service words it in its own shape.

use serde_json::{Value, json};

use crate::call::Call;
use crate::entra::client::own_keys;
use crate::jwt::{self, Parts};
use crate::state::World;

/// A caller whose token was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) oid: String,
    /// Application id, from either token version.
    pub(crate) app_id: String,
    pub(crate) is_app: bool,
    pub(crate) parts: Parts,
}

/// Why a token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unaccepted {
    Missing,
    Malformed,
    Signature,
    Expired,
    Audience,
}

impl Unaccepted {
    /// ARM's error code and text.
    pub(crate) fn arm(self) -> (&'static str, &'static str) {
        match self {
            Self::Missing => {
                ("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
            }
            Self::Malformed => ("InvalidAuthenticationToken", "The access token is invalid."),
            Self::Signature => {
                ("InvalidAuthenticationToken", "The access token validation failure: signature is invalid.")
            }
            Self::Expired => (
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than current UTC time.",
            ),
            Self::Audience => (
                "InvalidAuthenticationTokenAudience",
                "The access token has been obtained for wrong audience or resource.",
            ),
        }
    }
}

/// Check the bearer token of a call for one of these audiences (compared without a trailing slash).
pub(crate) fn caller(world: &World, call: &Call, audiences: &[&str]) -> Result<Caller, Unaccepted> {
    let header = call.header("authorization");
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(Unaccepted::Missing),
    };
    let parts = jwt::parse(token).ok_or(Unaccepted::Malformed)?;
    if !own_keys(world, parts.head("kid")).iter().any(|key| parts.verifies(key)) {
        return Err(Unaccepted::Signature);
    }
    if parts.number("exp").is_none_or(|exp| exp <= world.now()) {
        return Err(Unaccepted::Expired);
    }
    let audience = parts.claim("aud").trim_end_matches('/');
    if !audiences.iter().any(|ours| ours.eq_ignore_ascii_case(audience)) {
        return Err(Unaccepted::Audience);
    }
    let app_id = [parts.claim("appid"), parts.claim("azp")].into_iter().find(|id| !id.is_empty());
    Ok(Caller {
        oid: parts.claim("oid").to_owned(),
        app_id: app_id.unwrap_or("").to_owned(),
        is_app: parts.claim("idtyp") == "app",
        parts,
    })
}

/// The claims challenge this caller must answer at `service`, as a `WWW-Authenticate` value.
pub(crate) fn challenge(world: &World, service: &str, caller: &Caller) -> Option<String> {
    let upn = world.directory.find(&caller.oid).map(|one| one.upn.clone()).unwrap_or_default();
    let holds = |acr: &str| match caller.parts.claims.get("acrs") {
        Some(Value::Array(list)) => list.iter().any(|one| one == acr),
        _ => false,
    };
    let open = world.challenges.iter().find(|one| {
        one.service == service
            && !holds(&one.acrs)
            && one
                .who
                .as_deref()
                .is_none_or(|who| who.eq_ignore_ascii_case(&caller.oid) || who.eq_ignore_ascii_case(&upn))
    })?;
    let claims = json!({"access_token": {"acrs": {"essential": true, "value": open.acrs}}}).to_string();
    Some(format!(
        "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
         error=\"insufficient_claims\", claims=\"{}\"",
        crate::ids::base64(claims.as_bytes())
    ))
}
