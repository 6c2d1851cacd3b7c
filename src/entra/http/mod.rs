//! The one way out: every HTTP request that Nightlatch makes goes through [`Http`].
//!
//! Two reaches exist. The internet reach speaks https only, with the system's roots, through a proxy
//! only where the root-owned configuration says so. The node reach speaks plain http, to the two
//! literal addresses of IMDS and of the Arc agent only, and never through a proxy. Neither follows a
//! redirect, waits without an end, or reads more than [`MAX_BODY_BYTES`]. A body that nests deeper
//! than serde_json's recursion limit of 128 is refused by serde_json itself; no compression is
//! offered, so a small answer cannot grow. This room never decides what an answer means.

use std::time::Duration;

use nightlatch_model::Timestamp;
use reqwest::Url;
use thiserror::Error;

mod pinned;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use reply::Reply;
pub use request::{Request, same_origin, with_query};

/// The largest answer that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long making a connection (name, TCP, TLS) may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take from beginning to end, unless it says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept for the next request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many idle connections are kept for each host.
const POOL_IDLE_PER_HOST: usize = 4;
/// The longest wait that a `Retry-After` is believed for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How much of an answer that is not understood is kept for the message, in bytes.
const HEAD_BYTES: usize = 120;

/// The addresses that the node reach may talk to (Azure VM instance metadata service; Azure
/// Connected Machine agent, which listens on loopback).
const NODE_HOSTS: [&str; 2] = ["169.254.169.254", "127.0.0.1"];

/// Why no answer came, or none that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made ({0}): check the system's certificate store (ca-certificates)")]
    Build(String),
    /// The address is outside the reach of this client.
    #[error(
        "{0} is not an address that may be asked here: https is required, plain http only for IMDS and himds"
    )]
    OutOfReach(String),
    /// No connection, or it broke.
    #[error("{host} cannot be reached ({detail}): check the network, the proxy and the firewall")]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// What the stack said.
        detail: String,
    },
    /// No answer in time.
    #[error("{host} did not answer in time: check the network, or try again")]
    TimedOut {
        /// The host that was asked.
        host: String,
    },
    /// The answer was a redirect, which is never followed.
    #[error(
        "{host} answered with a redirect ({status}), which is never followed: check the cloud and the proxy"
    )]
    Redirected {
        /// The host that was asked.
        host: String,
        /// The status code.
        status: u16,
    },
    /// The answer is larger than [`MAX_BODY_BYTES`].
    #[error("{host} sent more than {MAX_BODY_BYTES} bytes: this is not the service that was asked for")]
    TooLarge {
        /// The host that was asked.
        host: String,
    },
    /// The answer is not the JSON that was expected.
    #[error("{host} sent an answer that cannot be read (status {status}, begins with {head:?}): {detail}")]
    NotUnderstood {
        /// The host that was asked.
        host: String,
        /// The status code.
        status: u16,
        /// How the body begins, printable ASCII only.
        head: String,
        /// What the parser said.
        detail: String,
    },
    /// The request itself could not be written.
    #[error("the request cannot be written: {0}")]
    Request(String),
}

impl HttpError {
    /// Whether the same request may work in a moment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }
}

/// Whether a proxy may stand between the node and the internet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyRule {
    /// None, whatever the environment says.
    Direct,
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` of the daemon's own environment (`network.proxy =
    /// "env"`); systemd sets it from root-owned files.
    Environment,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Internet,
    Node,
}

/// An HTTP client with limits. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    reach: Reach,
    /// Who is told what time the other side has.
    witness: Option<Witness>,
}

type Hear = dyn Fn(&str, Timestamp) + Send + Sync;

/// Hears the `Date` of answers whose TLS certificate was verified.
#[derive(Clone)]
pub struct Witness(std::sync::Arc<Hear>);

impl Witness {
    /// Tells `hear` the host and the time of each answer.
    pub fn new(hear: impl Fn(&str, Timestamp) + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(hear))
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness")
    }
}

impl Http {
    /// The client for Entra, ARM, PDP and Graph: https with the system's roots.
    ///
    /// # Errors
    /// [`HttpError::Build`] when the system's certificate store cannot be used.
    pub fn internet(proxy: ProxyRule) -> Result<Self, HttpError> {
        let mut builder = limits();
        if proxy == ProxyRule::Direct {
            builder = builder.no_proxy();
        }
        Self::build(builder.https_only(!cfg!(test)), Reach::Internet)
    }

    /// The client for IMDS and himds: plain http to their literal addresses, never a proxy.
    ///
    /// # Errors
    /// [`HttpError::Build`] when the client cannot be made.
    pub fn node() -> Result<Self, HttpError> {
        // It never speaks TLS: the system's roots would cost 3 ms and 120 KiB in each of these clients.
        Self::build(limits().no_proxy().tls_certs_only([]), Reach::Node)
    }

    fn build(builder: reqwest::ClientBuilder, reach: Reach) -> Result<Self, HttpError> {
        let client = builder.build().map_err(|e| HttpError::Build(chain(&e)))?;
        Ok(Self { client, reach, witness: None })
    }

    /// The same client, whose answers' dates are heard. Plain http proves nobody's time and is not.
    #[must_use]
    pub fn witnessed(self, witness: Witness) -> Self {
        Self { witness: (self.reach == Reach::Internet).then_some(witness), ..self }
    }

    fn check(&self, text: &str) -> Result<Url, HttpError> {
        let refuse = || HttpError::OutOfReach(printable(text.as_bytes()));
        let url = Url::parse(text).map_err(|_| refuse())?;
        let host = url.host_str().unwrap_or_default();
        let plain_url = url.username().is_empty() && url.password().is_none() && !host.is_empty();
        let in_reach = match self.reach {
            // A unit test serves its answers on loopback without TLS; nothing else may.
            Reach::Internet => url.scheme() == "https" || (cfg!(test) && host == "127.0.0.1"),
            Reach::Node => url.scheme() == "http" && NODE_HOSTS.contains(&host),
        };
        if plain_url && in_reach { Ok(url) } else { Err(refuse()) }
    }

    /// Sends `request` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Every way in which no complete answer came; a 3xx is an error, other statuses are answers.
    pub async fn send(&self, request: Request) -> Result<Reply, HttpError> {
        let url = self.check(&request.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut call = self.client.request(request.method, url).headers(request.headers);
        if let Some(problem) = request.problem {
            return Err(HttpError::Request(problem));
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        let work = async {
            let response = call.send().await.map_err(|e| failure(&host, &e))?;
            read(response, &host).await
        };
        let answer = tokio::time::timeout(request.within, work)
            .await
            .unwrap_or(Err(HttpError::TimedOut { host: host.clone() }));
        if let (Some(Witness(hear)), Ok(reply)) = (&self.witness, &answer)
            && let Some(date) = reply.date()
        {
            hear(&host, date);
        }
        answer
    }
}

fn limits() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_IDLE_PER_HOST)
        .referer(false)
        .user_agent(concat!("nightlatch/", env!("CARGO_PKG_VERSION")))
}

async fn read(mut response: reqwest::Response, host: &str) -> Result<Reply, HttpError> {
    let status = response.status().as_u16();
    if response.status().is_redirection() {
        return Err(HttpError::Redirected { host: host.to_owned(), status });
    }
    let too_large = || HttpError::TooLarge { host: host.to_owned() };
    if response.content_length().is_some_and(|n| n > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let headers = response.headers().clone();
    // Room for all at once, so that no half of a token stays behind where the body grew out of.
    let length = response.content_length().and_then(|n| usize::try_from(n).ok());
    let mut body = Vec::with_capacity(length.unwrap_or_default().min(MAX_BODY_BYTES));
    while let Some(chunk) = response.chunk().await.map_err(|e| failure(host, &e))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { host: host.to_owned(), status, headers, body })
}

fn failure(host: &str, error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        HttpError::TimedOut { host: host.to_owned() }
    } else {
        HttpError::Unreachable { host: host.to_owned(), detail: chain(error) }
    }
}

/// The deepest sentence of an error says most; the URL, which may hold an object id, stays out.
fn chain(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    printable(source.to_string().as_bytes())
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(HEAD_BYTES)
        .map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' })
        .collect()
}
