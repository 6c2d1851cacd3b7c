//! What an HTTP request asks for: the dialects of IMDS, Azure Arc and App Service, read strictly.
//!
//! "Access tokens in VMs" and "Managed identities in App Service" on Microsoft Learn give the parameters.
//! Nothing is guessed: a parameter that comes twice, a second name for the identity or a character that two
//! readers could take for two things is refused.

use std::borrow::Cow;

use hyper::http::HeaderMap;
use hyper::http::header::HOST;
use nightlatch_model::Guid;
use nightlatch_tokens::{Ask, IdentityRef, Resource};

use super::refusal::Refusal;

/// The path of IMDS and of Arc's own agent.
const IMDS_PATH: &str = "/metadata/identity/oauth2/token";
/// The path of App Service, as its `IDENTITY_ENDPOINT` names it.
const APP_SERVICE_PATH: &str = "/msi/token";
/// Where a health check asks.
const HEALTH_PATH: &str = "/healthz";
/// The first `api-version` of IMDS that gives tokens; Arc's are later.
const FIRST_IMDS_VERSION: &str = "2018-02-01";
/// The first `api-version` of App Service with `X-IDENTITY-HEADER`.
const FIRST_APP_SERVICE_VERSION: &str = "2019-08-01";
/// The most parameters.
const MAX_PARAMETERS: usize = 32;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The token endpoint of IMDS.
    Imds,
    /// The token endpoint of App Service.
    AppService,
    /// The health check.
    Health,
}

impl Place {
    /// Reads a path as it was sent. One slash at its end and the case of its letters do not count; nothing
    /// else is forgiven, so there is no second spelling that a proxy could read differently.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        [(IMDS_PATH, Self::Imds), (APP_SERVICE_PATH, Self::AppService), (HEALTH_PATH, Self::Health)]
            .into_iter()
            .find_map(|(known, place)| path.eq_ignore_ascii_case(known).then_some(place))
    }
}

/// A question with what its answer repeats.
#[derive(Debug)]
pub(super) struct Question {
    /// The question.
    pub(super) ask: Ask,
    /// The object id that was asked with: clients check that the answer has it.
    pub(super) object_id: Option<String>,
    /// The ARM id that was asked with, in its own spelling.
    pub(super) resource_id: Option<String>,
}

/// Refuses what a program on this node does not send: a request that was passed on for somebody else, or
/// that a browser was tricked into (DNS rebinding).
pub(super) fn check_local(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Refusal> {
    if headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded") {
        return Err(Refusal::bad_request(
            "a request that was forwarded is not answered; ask from the node itself",
        ));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).filter(|_| hosts.next().is_none());
    let local = host.is_some_and(is_loopback_name) && authority.is_none_or(is_loopback_name);
    if local {
        Ok(())
    } else {
        Err(Refusal::bad_request("the Host header must name this node: localhost, 127.0.0.1 or [::1]"))
    }
}

fn is_loopback_name(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inside, "")) => (inside, None),
            Some((inside, port)) => (inside, port.strip_prefix(':').or(Some("?"))),
            None => return false,
        },
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let port_is_plain =
        port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()));
    let address = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    port_is_plain && (address || name.eq_ignore_ascii_case("localhost"))
}

/// Reads the parameters of the query and, of a POST, of the form.
pub(super) fn read(place: Place, query: &str, form: &str) -> Result<Question, Refusal> {
    let parameters = Parameters::read(query, form)?;
    let version = parameters.one("api-version")?;
    let first = if place == Place::AppService { FIRST_APP_SERVICE_VERSION } else { FIRST_IMDS_VERSION };
    if !version.is_some_and(|version| is_date(version) && version >= first) {
        return Err(Refusal::bad_request(format!("the parameter api-version must be {first} or later")));
    }
    let resource = parameters.one("resource")?;
    let resource = resource.ok_or_else(|| Refusal::bad_request("the parameter resource is missing"))?;
    let resource: Resource =
        resource.parse().map_err(|cause| Refusal::bad_request(format!("resource: {cause}")))?;
    let mut identity = IdentityRef::Default;
    let (mut object_id, mut resource_id) = (None, None);
    for (name, value) in &parameters.0 {
        let next = match name.as_ref() {
            "client_id" | "clientid" => IdentityRef::ClientId(guid(name, value)?),
            "object_id" | "principal_id" => {
                object_id = Some(value.to_string());
                IdentityRef::ObjectId(guid(name, value)?)
            }
            "msi_res_id" | "mi_res_id" | "resource_id" => {
                resource_id = Some(value.to_string());
                let id = IdentityRef::resource_id(value);
                id.map_err(|cause| Refusal::bad_request(format!("{name}: {cause}")))?
            }
            known if OTHER_PARAMETERS.contains(&known) => continue,
            // A misspelt selector must not be answered with the token of another identity.
            _ => {
                return Err(Refusal::bad_request(
                    "the question has a parameter that is not known; name the identity with client_id, \
                     object_id or msi_res_id",
                ));
            }
        };
        if identity != IdentityRef::Default {
            return Err(Refusal::bad_request(
                "the identity is named twice; use one of client_id, object_id, msi_res_id",
            ));
        }
        identity = next;
    }
    Ok(Question { ask: Ask::new(identity, resource), object_id, resource_id })
}

fn guid(name: &str, value: &str) -> Result<Guid, Refusal> {
    value.parse().map_err(|_| Refusal::bad_request(format!("{name} is not a GUID")))
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, b)| if matches!(at, 4 | 7) { b == b'-' } else { b.is_ascii_digit() })
}

/// What Azure's libraries send beside the selectors of an identity: it changes nothing here.
const OTHER_PARAMETERS: [&str; 6] =
    ["api-version", "resource", "bypass_cache", "authority", "xms_cc", "token_sha256_to_refresh"];

/// Names and values, decoded.
struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    fn read(query: &'a str, form: &'a str) -> Result<Self, Refusal> {
        let mut all = Vec::new();
        for part in query.split('&').chain(form.split('&')).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(Refusal::bad_request("a parameter is not percent-encoded text"));
            };
            if all.len() >= MAX_PARAMETERS || all.iter().any(|(known, _)| *known == name) {
                return Err(Refusal::bad_request("a parameter comes twice, or there are too many"));
            }
            all.push((name, value));
        }
        Ok(Self(all))
    }

    fn one(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref());
        match value {
            Some("") => Err(Refusal::bad_request(format!("the parameter {name} is empty"))),
            value => Ok(value),
        }
    }
}

/// `application/x-www-form-urlencoded`, once: what is still encoded afterwards is refused by its reader.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMDS: &str = "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";

    #[test]
    fn every_name_of_an_identity_is_known_and_only_one_may_come() {
        let id = "6dae42f8-4368-4678-94ff-3960e28e3630";
        for name in ["client_id", "clientid", "object_id", "principal_id"] {
            let question = read(Place::Imds, &format!("{IMDS}&{name}={id}"), "").unwrap();
            let by_client = name.starts_with("client");
            assert_eq!(matches!(question.ask.identity, IdentityRef::ClientId(_)), by_client, "{name}");
            assert_eq!(question.object_id.is_some(), !by_client, "{name}");
        }
        for name in ["msi_res_id", "mi_res_id", "resource_id"] {
            let question = read(Place::Imds, &format!("{IMDS}&{name}=%2Fsubscriptions%2FS"), "").unwrap();
            assert_eq!(question.ask.identity, IdentityRef::ResourceId("/subscriptions/s".into()));
            assert_eq!(question.resource_id.as_deref(), Some("/subscriptions/S"));
        }
        assert!(read(Place::Imds, &format!("{IMDS}&client_id={id}&object_id={id}"), "").is_err());
        assert!(read(Place::Imds, &format!("{IMDS}&client_id={id}"), &format!("client_id={id}")).is_err());
        for wrong in [
            "clientId=x",
            "cid=x",
            "client_id=",
            "client_id=me",
            "object_id=%00",
            "msi_res_id=x",
            "msi_res_id=%2Fa%2F..%2Fb",
        ] {
            assert!(read(Place::Imds, &format!("{IMDS}&{wrong}"), "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_and_resources_are_demanded() {
        for good in ["2018-02-01", "2019-08-01", "2019-11-01", "2020-06-01", "2021-02-01"] {
            assert!(read(Place::Imds, &format!("api-version={good}&resource=a"), "").is_ok(), "{good}");
        }
        for bad in ["", "2017-09-01", "2018-02-1", "latest", "2018-02-01x"] {
            assert!(read(Place::Imds, &format!("api-version={bad}&resource=a"), "").is_err(), "{bad}");
        }
        assert!(read(Place::AppService, "api-version=2018-02-01&resource=a", "").is_err());
        assert!(read(Place::AppService, "api-version=2019-08-01", "resource=a").is_ok());
        for bad in ["resource=a", "api-version=2018-02-01", "api-version=2018-02-01&resource="] {
            assert!(read(Place::Imds, bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn past_bug_50_no_second_spelling_reaches_a_token() {
        for path in [
            "//metadata/identity/oauth2/token",
            "/metadata//identity/oauth2/token",
            "/metadata/identity/oauth2/token//",
            "/metadata/./identity/oauth2/token",
            "/x/../metadata/identity/oauth2/token",
            "/metadata\\identity/oauth2/token",
            "/metadata%5cidentity/oauth2/token",
            "/metadata%2fidentity/oauth2/token",
            "/%6detadata/identity/oauth2/token",
            "/metadata/identity/oauth2/token%00",
            "/metadata/instance",
            "/metadata/attested/document",
            "/",
            "",
        ] {
            assert_eq!(Place::of(path), None, "{path}");
        }
        for path in ["/metadata/identity/oauth2/token", "/METADATA/identity/oauth2/token/"] {
            assert_eq!(Place::of(path), Some(Place::Imds), "{path}");
        }
        for resource in
            ["https://a%5cb", "https://a\\b", "https://a//b", "https://a/../b", "https://u@a", "a%255cb"]
        {
            assert!(read(Place::Imds, &format!("api-version=2018-02-01&resource={resource}"), "").is_err());
        }
    }

    #[test]
    fn only_names_of_this_node_are_hosts() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:40342", "127.9.9.9", "[::1]", "[::1]:8080"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "169.254.169.254",
            "example.org",
            "localhost.example.org",
            "user@localhost",
            "127.0.0.1.nip.io",
            "127.1",
            "localhost:80:80",
            "localhost:",
            "[::1",
            "[::1]x",
            "::1",
            "[::2]",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
