//! How the node itself gets a token: federated token file, managed identity, Arc agent, in the order
//! that the configuration gives.
//!
//! Tokens live in memory only, one per audience, each asked for once however many wait for it. A token
//! is renewed when less than [`RENEW_BEFORE`] of its life is left; when that fails it is served until
//! [`SERVE_UNTIL`]. These tokens are for Nightlatch's own questions and are never handed to a program.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightlatch_model::{Guid, Secret, TenantId, Timestamp};
use serde::Deserialize;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::flight::Flights;
use super::http::{Http, HttpError, Reply, Request};
use crate::imds::{AccessToken, Himds, Imds, ImdsError, TokenAnswer};

/// A token with less life than this is renewed, in seconds.
pub const RENEW_BEFORE: i64 = 300;
/// A token that cannot be renewed is served while it has more life than this, in seconds.
pub const SERVE_UNTIL: i64 = 30;
/// How long a failure that may pass is remembered, in seconds.
pub const FORGET_TRANSIENT: i64 = 2;
/// How long any other failure is remembered, in seconds; a new federated credential takes about as long
/// to be believed by Entra.
pub const FORGET_TERMINAL: i64 = 60;
/// How long a source may be silent before the next one is asked as well.
pub const HELP_AFTER: Duration = Duration::from_secs(1);
/// How long Entra may take for one token. Everybody waits for the same question, so a silent one must
/// end while there is still somebody to ask again.
const ENTRA_TIMEOUT: Duration = Duration::from_secs(4);
/// The largest federated token file, in bytes.
pub const MAX_ASSERTION_BYTES: u64 = 16 * 1024;
/// How many audiences are kept; the daemon has three.
const MAX_AUDIENCES: usize = 16;
/// How much of Entra's description goes into a message, in characters.
const DESCRIPTION_CHARS: usize = 200;

/// One way to a token.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// A file with a token that Entra takes as proof (workload identity), read again at each use.
    Federated {
        /// The internet client.
        http: Http,
        /// Entra's host, as in [`super::clouds::Endpoints::login`].
        login: String,
        /// The tenant of the identity.
        tenant: TenantId,
        /// The identity's client id.
        client_id: Guid,
        /// The file.
        file: PathBuf,
    },
    /// A managed identity of an Azure VM; `None` where the machine has exactly one.
    Imds {
        /// The metadata service.
        imds: Imds,
        /// Which identity.
        client_id: Option<Guid>,
    },
    /// The identity of an Arc-enabled machine.
    Himds(Himds),
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Federated { file, .. } => write!(f, "federated token {}", file.display()),
            Self::Imds { .. } => f.write_str("managed identity"),
            Self::Himds(_) => f.write_str("Arc machine identity"),
        }
    }
}

/// Why the node has no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Nothing is configured.
    #[error(
        "this node has no identity to ask Azure with: give it a managed identity or a federated token file"
    )]
    NoSource,
    /// Every source failed.
    #[error("no token for {audience}: {reasons}")]
    Failed {
        /// For whom the token was to be.
        audience: String,
        /// What each source said.
        reasons: String,
        /// Whether it may work in a moment.
        transient: bool,
    },
}

impl IdentityError {
    /// Whether it may work in a moment, after [`FORGET_TRANSIENT`].
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Failed { transient: true, .. })
    }
}

/// Why one source failed.
#[derive(Debug, Error)]
enum SourceError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Imds(#[from] ImdsError),
    #[error("the federated token file cannot be used ({0}): check that the installer keeps it fresh")]
    Assertion(String),
    #[error("Entra refused ({error}): {description}")]
    Entra { error: String, description: String, transient: bool },
    #[error("Entra answered something that cannot be used: {0}")]
    Unusable(String),
}

impl SourceError {
    /// What is not the service's own word (no answer, a page of somebody in between, garbage) says nothing
    /// about the next answer, so it must not keep people out for as long as a refusal does.
    const fn is_transient(&self) -> bool {
        match self {
            Self::Http(_) | Self::Unusable(_) => true,
            Self::Imds(ImdsError::Http(_) | ImdsError::Unusable { .. }) => true,
            Self::Imds(error) => error.is_transient(),
            Self::Entra { transient, .. } => *transient,
            Self::Assertion(_) => false,
        }
    }
}

type Shared = Result<Arc<AccessToken>, IdentityError>;

#[derive(Default)]
struct Kept {
    token: Option<Arc<AccessToken>>,
    failure: Option<(Timestamp, IdentityError)>,
}

struct Inner {
    sources: Vec<TokenSource>,
    kept: Mutex<HashMap<String, Kept>>,
    flights: Arc<Flights<Shared>>,
}

/// The node's own identity. Cloning shares the tokens.
#[derive(Clone)]
pub struct NodeIdentity(Arc<Inner>);

impl NodeIdentity {
    /// An identity from `sources`, the preferred one first.
    #[must_use]
    pub fn new(sources: Vec<TokenSource>) -> Self {
        let kept = Mutex::new(HashMap::new());
        Self(Arc::new(Inner { sources, kept, flights: Flights::new() }))
    }

    /// A token for `audience`, which is an audience as managed identities want it: no `/.default`.
    ///
    /// # Errors
    /// [`IdentityError`] when no source gives one; it is remembered for a moment.
    pub async fn token(&self, audience: &str, now: Timestamp) -> Result<Arc<AccessToken>, IdentityError> {
        if let Some(known) = self.0.known(audience, now) {
            return known;
        }
        let inner = Arc::clone(&self.0);
        let wanted = audience.to_owned();
        let answer = self.0.flights.join(audience, || async move { inner.renew(&wanted, now).await }).await;
        answer.unwrap_or_else(|| {
            Err(IdentityError::Failed {
                audience: audience.to_owned(),
                reasons: "the question ended without an answer".to_owned(),
                transient: true,
            })
        })
    }

    /// Drops `token` after the service that it is for refused it, so that the next question gets another.
    pub fn forget(&self, audience: &str, token: &Arc<AccessToken>) {
        if let Some(kept) = self.0.table().get_mut(audience)
            && kept.token.as_ref().is_some_and(|have| Arc::ptr_eq(have, token))
        {
            kept.token = None;
        }
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, audience: &str, now: Timestamp) -> Option<Shared> {
        let table = self.table();
        let kept = table.get(audience)?;
        let alive = |least| kept.token.as_ref().filter(|t| t.expires().since(now) > least).map(Arc::clone);
        if let Some(token) = alive(RENEW_BEFORE) {
            return Some(Ok(token));
        }
        let (until, error) = kept.failure.as_ref().filter(|(until, _)| now < *until)?;
        // A clock that was set back must not keep a failure for longer than it was meant for.
        if until.since(now) > FORGET_TERMINAL {
            return None;
        }
        Some(alive(SERVE_UNTIL).map_or_else(|| Err(error.clone()), Ok))
    }

    async fn renew(&self, audience: &str, now: Timestamp) -> Shared {
        let fresh = self.ask_all(audience, now).await;
        let mut table = self.table();
        if table.len() >= MAX_AUDIENCES && !table.contains_key(audience) {
            table.clear();
        }
        let kept = table.entry(audience.to_owned()).or_default();
        match fresh {
            Ok(token) => {
                let token = Arc::new(token);
                *kept = Kept { token: Some(Arc::clone(&token)), failure: None };
                Ok(token)
            }
            Err(error) => {
                let hold = if error.is_transient() { FORGET_TRANSIENT } else { FORGET_TERMINAL };
                kept.failure = Some((now.plus(hold), error.clone()));
                match &kept.token {
                    Some(token) if token.expires().since(now) > SERVE_UNTIL => Ok(Arc::clone(token)),
                    _ => Err(error),
                }
            }
        }
    }

    /// The first source that gives a token. The next one is asked when the one before has failed, or keeps
    /// everybody waiting for [`HELP_AFTER`]: a person at a prompt has no time for a service that is silent.
    async fn ask_all(&self, audience: &str, now: Timestamp) -> Result<AccessToken, IdentityError> {
        let mut waiting = self.sources.iter().cloned();
        let mut asked = JoinSet::new();
        let mut reasons = Vec::new();
        let mut transient = false;
        loop {
            if let Some(source) = waiting.next() {
                let audience = audience.to_owned();
                asked.spawn(async move {
                    let said = source.ask(&audience, now).await;
                    said.map_err(|error| (format!("{source}: {error}"), error.is_transient()))
                });
            }
            let done = if waiting.len() == 0 {
                asked.join_next().await
            } else {
                // Nobody answered in time: back to the start for the next source.
                let Ok(done) = tokio::time::timeout(HELP_AFTER, asked.join_next()).await else { continue };
                done
            };
            match done {
                Some(Ok(Ok(token))) => return Ok(token),
                Some(Ok(Err((reason, may_pass)))) => {
                    transient |= may_pass;
                    reasons.push(reason);
                }
                Some(Err(_)) => {
                    transient = true;
                    reasons.push("the question ended without an answer".to_owned());
                }
                None => break,
            }
        }
        if reasons.is_empty() {
            return Err(IdentityError::NoSource);
        }
        let reasons = reasons.join("; ");
        Err(IdentityError::Failed { audience: audience.to_owned(), reasons, transient })
    }
}

impl TokenSource {
    async fn ask(&self, audience: &str, now: Timestamp) -> Result<AccessToken, SourceError> {
        match self {
            Self::Imds { imds, client_id } => Ok(imds.identity_token(audience, *client_id, now).await?),
            Self::Himds(himds) => Ok(himds.identity_token(audience, now).await?),
            Self::Federated { http, login, tenant, client_id, file } => {
                let assertion = read_assertion(file).await?;
                let scope = format!("{}/.default", audience.trim_end_matches('/'));
                let client_id = client_id.to_string();
                let request = Request::post_form(
                    format!("{login}/{tenant}/oauth2/v2.0/token"),
                    &[
                        ("grant_type", "client_credentials"),
                        ("client_id", &client_id),
                        ("scope", &scope),
                        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                        ("client_assertion", assertion.expose()),
                    ],
                );
                let reply = http.send(request.within(ENTRA_TIMEOUT)).await?;
                if !reply.is_success() {
                    return Err(refused(&reply));
                }
                let answer: TokenAnswer = reply.secret_json()?;
                answer.into_token(audience, now).map_err(SourceError::Unusable)
            }
        }
    }
}

async fn read_assertion(file: &PathBuf) -> Result<Secret, SourceError> {
    let bad = |e: std::io::Error| SourceError::Assertion(e.to_string());
    let mut text = String::new();
    let open = tokio::fs::File::open(file).await.map_err(bad)?;
    open.take(MAX_ASSERTION_BYTES + 1).read_to_string(&mut text).await.map_err(bad)?;
    let whole = Secret::new(text);
    let jwt = whole.expose().trim();
    let plain = jwt.len() as u64 <= MAX_ASSERTION_BYTES
        && jwt.split('.').count() == 3
        && jwt.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'='));
    if !plain {
        return Err(SourceError::Assertion("it does not hold a token".to_owned()));
    }
    Ok(Secret::new(jwt.to_owned()))
}

/// What Entra said. Decided on `error` and the status; the AADSTS number is for the reader only ("should
/// never be used by the client", Microsoft Learn, "Microsoft Entra authentication and authorization error
/// codes").
fn refused(reply: &Reply) -> SourceError {
    #[derive(Deserialize)]
    struct Body {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let body = reply.json::<Body>().unwrap_or_else(|_| Body {
        error: format!("status {}", reply.status()),
        error_description: reply.head(),
    });
    let first = body.error_description.split(" Trace ID").next().unwrap_or_default();
    let description =
        first.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(DESCRIPTION_CHARS).collect();
    let transient = reply.is_transient() || body.error == "temporarily_unavailable";
    SourceError::Entra { error: body.error, description, transient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::http::ProxyRule;
    use crate::entra::tiny_server::{Answer, Server};
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const PDP: &str = "https://authorization.azure.net";

    fn imds(server: &Server) -> TokenSource {
        TokenSource::Imds { imds: Imds::at(&server.url("")).unwrap(), client_id: None }
    }

    fn token(text: &str, life: i64) -> Answer {
        Answer::new(200, &format!(r#"{{"access_token":"{text}","expires_in":"{life}"}}"#))
    }

    fn federated(server: &Server, file: &Path) -> TokenSource {
        TokenSource::Federated {
            http: Http::internet(ProxyRule::Direct).unwrap(),
            login: server.url(""),
            tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47".parse().unwrap(),
            client_id: "8d6e7a10-0000-4000-8000-000000000001".parse().unwrap(),
            file: file.to_owned(),
        }
    }

    #[tokio::test]
    async fn one_question_for_many_and_a_new_one_before_the_end() {
        let server = Server::start(vec![token("one", 3600), token("two", 3600)]).await;
        let identity = NodeIdentity::new(vec![imds(&server)]);
        let many: Vec<_> = (0..200)
            .map(|_| {
                let identity = identity.clone();
                tokio::spawn(
                    async move { identity.token(PDP, NOW).await.unwrap().secret().expose().to_owned() },
                )
            })
            .collect();
        for one in many {
            assert_eq!(one.await.unwrap(), "one");
        }
        assert_eq!(server.seen().len(), 1);
        let still = identity.token(PDP, NOW.plus(3600 - RENEW_BEFORE - 1)).await.unwrap();
        assert_eq!(still.secret().expose(), "one");
        let next = identity.token(PDP, NOW.plus(3600 - RENEW_BEFORE)).await.unwrap();
        assert_eq!(next.secret().expose(), "two");
        assert_eq!(server.seen().len(), 2);
    }

    #[tokio::test]
    async fn an_outage_serves_what_is_still_valid_and_asks_seldom() {
        let server = Server::start(vec![token("one", 3600), Answer::new(503, "")]).await;
        let identity = NodeIdentity::new(vec![imds(&server)]);
        identity.token(PDP, NOW).await.unwrap();
        for second in 0..FORGET_TRANSIENT {
            let got = identity.token(PDP, NOW.plus(3400 + second)).await.unwrap();
            assert_eq!(got.secret().expose(), "one");
        }
        assert_eq!(server.seen().len(), 2, "the failure is remembered");
        let said = identity.token(PDP, NOW.plus(3600 - SERVE_UNTIL)).await.map(|_| ());
        assert!(matches!(said, Err(IdentityError::Failed { transient: true, .. })));
    }

    #[tokio::test]
    async fn sources_are_tried_in_order_and_the_file_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let entra = Server::start(vec![
            token("fed", 3600),
            Answer::new(
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS700213: No matching federated identity record. Trace ID: x"}"#,
            ),
        ])
        .await;
        let local = Server::start(vec![token("mi", 3600)]).await;
        let identity = NodeIdentity::new(vec![federated(&entra, &file), imds(&local)]);
        assert_eq!(identity.token("a://1", NOW).await.unwrap().secret().expose(), "mi", "no file yet");
        std::fs::write(&file, "aa.bb.cc\n").unwrap();
        assert_eq!(identity.token("a://2/", NOW).await.unwrap().secret().expose(), "fed");
        std::fs::write(&file, "dd.ee.ff").unwrap();
        assert_eq!(identity.token("a://3", NOW).await.unwrap().secret().expose(), "mi");
        let seen = entra.seen();
        assert!(seen[0].line.starts_with("POST /72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token "));
        assert!(seen[0].body.contains("scope=a%3A%2F%2F2%2F.default&"), "{}", seen[0].body);
        assert!(seen[0].body.ends_with("client_assertion=aa.bb.cc"));
        assert!(seen[1].body.ends_with("client_assertion=dd.ee.ff"));
    }

    #[tokio::test]
    async fn a_refusal_names_every_source_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "aa.bb.cc").unwrap();
        let no =
            r#"{"error":"invalid_client","error_description":"AADSTS700211: wrong issuer. Trace ID: x"}"#;
        let entra = Server::start(vec![Answer::new(401, no)]).await;
        let identity = NodeIdentity::new(vec![federated(&entra, &file)]);
        for second in 0..FORGET_TERMINAL {
            let error = identity.token(PDP, NOW.plus(second)).await.map(|_| ()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("AADSTS700211") && !text.contains("Trace"), "{text}");
            assert!(!text.contains("aa.bb.cc"));
        }
        assert_eq!(entra.seen().len(), 1);
        identity.token(PDP, NOW.plus(FORGET_TERMINAL)).await.map(|_| ()).unwrap_err();
        assert_eq!(entra.seen().len(), 2);
        let nobody = NodeIdentity::new(Vec::new());
        assert_eq!(nobody.token(PDP, NOW).await.map(|_| ()), Err(IdentityError::NoSource));
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_not_used_again() {
        let server = Server::start(vec![token("one", 3600), token("two", 3600)]).await;
        let identity = NodeIdentity::new(vec![imds(&server)]);
        let first = identity.token(PDP, NOW).await.unwrap();
        identity.forget(PDP, &first);
        let second = identity.token(PDP, NOW).await.unwrap();
        assert_eq!(second.secret().expose(), "two");
        identity.forget(PDP, &first);
        assert!(Arc::ptr_eq(&identity.token(PDP, NOW).await.unwrap(), &second), "only the refused one goes");
    }

    #[tokio::test]
    async fn a_silent_source_is_helped_out_and_a_slow_one_still_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "aa.bb.cc").unwrap();
        let silent = Server::start(vec![Answer::never()]).await;
        let local = Server::start(vec![token("mi", 3600)]).await;
        let identity = NodeIdentity::new(vec![federated(&silent, &file), imds(&local)]);
        let got = tokio::time::timeout(HELP_AFTER * 3, identity.token(PDP, NOW)).await.unwrap().unwrap();
        assert_eq!(got.secret().expose(), "mi");
        let slow = Server::start(vec![token("fed", 3600).after(HELP_AFTER * 3 / 2)]).await;
        let none = Server::start(vec![Answer::new(400, "{}")]).await;
        let identity = NodeIdentity::new(vec![federated(&slow, &file), imds(&none)]);
        assert_eq!(identity.token(PDP, NOW).await.unwrap().secret().expose(), "fed");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_forgotten_at_once() {
        for answer in [Answer::new(200, "<html>"), Answer::new(302, ""), Answer::new(200, "{}")] {
            let server = Server::start(vec![answer, token("one", 3600)]).await;
            let identity = NodeIdentity::new(vec![imds(&server)]);
            let error = identity.token(PDP, NOW).await.map(|_| ()).unwrap_err();
            assert!(error.is_transient(), "{error}");
            identity.token(PDP, NOW.plus(FORGET_TRANSIENT)).await.unwrap();
        }
    }
}
