//! The sources against prepared answers and against a tenant of another hand.

mod applications;
mod machine;
mod on_behalf;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::{Options, Running, start, world};
use nightlatch_model::Timestamp;
use nightlatch_tokens::{Failure, Purpose, Token, TokenKey};
use serde_json::Value;

use super::machine::Pace;
use super::settings::{Application, IdentitySettings, Proof, Way};
use super::{Gate, Reach, Sources};
use crate::broker::Source;
use crate::clock::{Clock, ManualClock};
use crate::entra::http::Http;
use crate::imds::{Himds, Imds};

const NOW: Timestamp = Timestamp(1_800_000_000);
const VAULT: &str = "https://vault.azure.net";
/// A millisecond in place of each second of the documented waits.
const QUICK: Pace = Pace {
    waits: &[
        Duration::from_millis(2),
        Duration::from_millis(4),
        Duration::from_millis(8),
        Duration::from_millis(16),
    ],
    gone: &[
        Duration::from_millis(2),
        Duration::from_millis(4),
        Duration::from_millis(8),
        Duration::from_millis(16),
        Duration::from_millis(20),
        Duration::from_millis(20),
    ],
};

fn key(identity: &str, resource: &str) -> TokenKey {
    TokenKey {
        identity: identity.into(),
        owner: None,
        resource: resource.parse().unwrap(),
        scopes: Vec::new(),
        cae: false,
        pop_key: None,
        purpose: Purpose::Program,
        on_behalf_of: None,
    }
}

fn one(name: &str, way: Way) -> Vec<IdentitySettings> {
    vec![IdentitySettings { name: name.into(), way }]
}

/// Sources of one identity with all metadata services at `base`.
fn at(base: &str, tokens: &Path, settings: Vec<IdentitySettings>) -> Sources {
    let reach = Reach {
        http: Http::internet(crate::entra::http::ProxyRule::Direct).unwrap(),
        imds: Imds::at(base).unwrap(),
        himds: Himds::at(base, tokens).unwrap(),
    };
    let mut sources = Sources::new(settings, reach, None, Clock::Manual(ManualClock::at(NOW)));
    sources.machine.pace = QUICK;
    sources.machine.gate = Gate::with(Duration::from_millis(1));
    sources
}

async fn refused(sources: &Sources, key: &TokenKey) -> Failure {
    sources.fetch(key, None).await.map(|_| ()).unwrap_err()
}

/// A file with a secret, as an administrator would leave it.
fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    path
}

fn claims(token: &Token) -> Value {
    use base64::Engine;
    let part = token.secret.expose().split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// A tenant with its metadata services, on the real clock: it checks the times of assertions.
struct Tenant {
    folder: tempfile::TempDir,
    running: Running,
}

impl Tenant {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = start(Options::loopback(folder.path().join("state"))).await.unwrap();
        Self { folder, running }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("state/tls-ca.pem")
    }

    fn port(&self) -> u16 {
        self.running.endpoints().https[0].port()
    }

    fn application(&self, host: &str, client_id: &str, proof: Proof) -> Application {
        Application {
            tenant: world::TENANT.parse().unwrap(),
            client_id: client_id.parse().unwrap(),
            login: format!("https://{host}"),
            proof,
        }
    }

    fn sources(&self, settings: Vec<IdentitySettings>, person: Option<Arc<dyn Source>>) -> Sources {
        let ends = self.running.endpoints();
        let authority = std::fs::read(self.authority()).unwrap();
        let reach = Reach {
            http: Http::pinned("127.0.0.1", self.port(), Some(&authority)).unwrap(),
            imds: Imds::at(&format!("http://{}", ends.imds.unwrap())).unwrap(),
            himds: Himds::at(
                &format!("http://{}", ends.himds.unwrap()),
                &self.folder.path().join("state/himds-tokens"),
            )
            .unwrap(),
        };
        let mut sources = Sources::new(settings, reach, person, Clock::System);
        sources.machine.pace = QUICK;
        sources.machine.gate = Gate::with(Duration::from_millis(1));
        sources
    }

    async fn control(&self, method: &str, route: &str, body: Value) -> Value {
        let ask = if method == "GET" { Ask::get(route) } else { Ask::json(method, route, &body) };
        let reply = ask.over_tcp(self.running.endpoints().control.unwrap()).await.unwrap();
        assert_eq!(reply.status, 200, "{method} {route}: {}", reply.text());
        reply.json()
    }
}

/// A person's source that gives what it is told to and remembers who was asked for.
struct Person {
    token: Mutex<Option<Token>>,
    asked: Mutex<Vec<TokenKey>>,
}

impl Person {
    fn with(token: Token) -> Arc<Self> {
        Arc::new(Self { token: Mutex::new(Some(token)), asked: Mutex::new(Vec::new()) })
    }
}

impl Source for Person {
    fn fetch<'a>(
        &'a self,
        key: &'a TokenKey,
        _claims: Option<&'a nightlatch_tokens::Claims>,
    ) -> crate::broker::Fetching<'a> {
        self.asked.lock().unwrap().push(key.clone());
        let token = self.token.lock().unwrap().take();
        Box::pin(async move {
            token.ok_or_else(|| Failure::new(nightlatch_tokens::FailureClass::NeedsUser, "sign in"))
        })
    }

    fn circuit(&self, _key: &TokenKey) -> String {
        "people".to_owned()
    }
}
