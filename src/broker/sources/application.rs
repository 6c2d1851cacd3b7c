//! Applications at Entra: with a secret, a certificate or an outside issuer's token, by themselves or on
//! behalf of a person.

use nightlatch_model::{Guid, Secret};
use nightlatch_tokens::{Claims, Failure, FailureClass, Token, TokenKey};

use super::files;
use super::settings::{Application, Proof, TokenProxy};
use crate::clock::Clock;
use crate::entra::http::{Http, HttpError};
use crate::entra::oauth::assertion::Certificate;
use crate::entra::oauth::{Client, Form, TokenEndpoint, merged_claims, scope_of};

/// The port of https.
const HTTPS_PORT: &str = "443";

/// An application.
pub(super) struct KnownApplication {
    pub(super) settings: Application,
}

/// What the application shows.
enum Shown {
    Secret(Secret),
    Assertion(Secret),
}

impl KnownApplication {
    pub(super) const fn new(settings: Application) -> Self {
        Self { settings }
    }

    /// Whether its tokens can be bound to a key: Entra does that for clients with a credential of their own.
    pub(super) const fn can_be_bound(&self) -> bool {
        matches!(self.settings.proof, Proof::Secret(_) | Proof::Certificate { .. })
    }

    /// A token of `key`, of the application itself or, with `person`, on behalf of that token's holder;
    /// with `bound`, the `req_cnf` of the key that it is to be bound to.
    pub(super) async fn token(
        &self,
        (http, clock): (&Http, &Clock),
        key: &TokenKey,
        claims: Option<&Claims>,
        bound: Option<&str>,
        person: Option<&Token>,
    ) -> Result<Token, Failure> {
        if person.is_none() && !key.scopes.is_empty() {
            return Err(Failure::new(
                FailureClass::Config,
                "an application has no delegated scopes: ask for the resource alone",
            ));
        }
        let endpoint = self.endpoint(http).await?;
        let client_id = self.settings.client_id.to_string();
        let shown = self.proof(&endpoint, &client_id, clock).await?;
        let client = match &shown {
            Shown::Secret(secret) => Client::secret(&client_id, secret),
            Shown::Assertion(assertion) => Client::assertion(&client_id, assertion),
        };
        let scope = scope_of(&key.resource, &key.scopes);
        let form = match person {
            None => Form::client_credentials(&scope),
            Some(person) => Form::on_behalf_of(&person.secret, &scope),
        };
        let claims = merged_claims(claims, key.cae);
        let form = form
            .client(&client)
            .maybe("claims", claims.as_deref())
            .maybe("token_type", bound.map(|_| "pop"))
            .maybe("req_cnf", bound);
        let answer = endpoint.post(&form, clock.now()).await?;
        let token = answer.into_token();
        Ok(Token { client_id: Some(client_id), ..token })
    }

    async fn endpoint(&self, http: &Http) -> Result<TokenEndpoint, Failure> {
        let tenant = self.settings.tenant.to_string();
        let direct = TokenEndpoint::new(http.clone(), &self.settings.login, &tenant);
        match &self.settings.proof {
            Proof::Federated { proxy: Some(proxy), .. } => through(direct, proxy, &tenant).await,
            _ => Ok(direct),
        }
    }

    async fn proof(&self, endpoint: &TokenEndpoint, id: &str, clock: &Clock) -> Result<Shown, Failure> {
        match &self.settings.proof {
            Proof::Secret(file) => Ok(Shown::Secret(files::secret(file).await?)),
            Proof::Federated { file, .. } => Ok(Shown::Assertion(files::token(file).await?)),
            Proof::Certificate { file, send_chain } => {
                let pem = files::pem(file).await?;
                let unusable = |why: String| files::bad("certificate_file", file, &why);
                let certificate =
                    Certificate::from_pem(&pem, *send_chain).map_err(|e| unusable(e.to_string()))?;
                let jti = random_guid()?;
                let signed = certificate.assertion(id, endpoint.audience(), clock.now(), jti);
                signed.map(Shown::Assertion).map_err(|e| unusable(e.to_string()))
            }
        }
    }
}

/// The endpoint behind the cluster's proxy. The client is made anew, so that a new authority counts at
/// once; tokens are asked for about once an hour.
async fn through(direct: TokenEndpoint, proxy: &TokenProxy, tenant: &str) -> Result<TokenEndpoint, Failure> {
    let (host, port, path) = parts(&proxy.url);
    let authority = match &proxy.ca_file {
        Some(file) => Some(files::authority(file).await?),
        None => None,
    };
    let pem = authority.as_ref().map(|pem| pem.expose().as_bytes());
    let unmade = |error: HttpError| {
        Failure::new(FailureClass::Config, format!("`token_proxy` cannot be used: {error}"))
    };
    let number = port.parse().map_err(|_| unmade(HttpError::OutOfReach(proxy_authority(host, port))))?;
    let http = Http::pinned(host.trim_matches(['[', ']']), number, pem).map_err(unmade)?;
    let name = proxy.sni.as_deref().unwrap_or(host);
    // The name in the URL is the one that TLS asks for; the header keeps the proxy's own.
    let header = proxy.sni.as_ref().map(|_| proxy_authority(host, port));
    Ok(direct.through(http, &format!("https://{name}:{port}{path}"), tenant, header))
}

fn proxy_authority(host: &str, port: &str) -> String {
    if port == HTTPS_PORT { host.to_owned() } else { format!("{host}:{port}") }
}

/// Host (an IPv6 one in brackets), port and path of an https address that the configuration has checked.
fn parts(url: &str) -> (&str, &str, &str) {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(after_bracket..).and_then(|tail| tail.find(':')) {
        Some(at) => {
            let (host, port) = authority.split_at(after_bracket + at);
            (host, port.trim_start_matches(':'), path.trim_end_matches('/'))
        }
        None => (authority, HTTPS_PORT, path.trim_end_matches('/')),
    }
}

/// A random GUID (RFC 9562, version 4).
pub(super) fn random_guid() -> Result<Guid, Failure> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::new(FailureClass::Transient, "the system gives no randomness; ask again"))?;
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    Ok(Guid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_address_comes_apart() {
        for (url, expected) in [
            ("https://proxy", ("proxy", "443", "")),
            ("https://proxy:8443/a/b/", ("proxy", "8443", "/a/b")),
            ("https://10.0.0.1:6443/", ("10.0.0.1", "6443", "")),
            ("https://[fd00::1]:6443/x", ("[fd00::1]", "6443", "/x")),
            ("https://[fd00::1]/x", ("[fd00::1]", "443", "/x")),
        ] {
            assert_eq!(parts(url), expected, "{url}");
        }
    }

    #[test]
    fn random_ids_are_of_version_four() {
        let (one, two) = (random_guid().unwrap().to_string(), random_guid().unwrap().to_string());
        assert_ne!(one, two);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
    }
}
