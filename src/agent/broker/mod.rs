//! The token broker put together: identities, sign-ins, policy, cache and the doors.
//!
//! Nothing of it may keep the daemon from deciding logins: what cannot be set up is said in the journal
//! and in `status`, its doors answer a clear refusal, and everything else runs.

mod policy_files;
mod seal;
mod sign_ins;

use std::net::SocketAddr;
use std::os::unix::net::UnixListener as BoundListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nightlatch_model::ObjectId;
use nightlatch_tokens::policy::Policy;
use nightlatch_tokens::{IdentityTable, PERSON, TokenKey};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use self::policy_files::PolicyFiles;
use self::seal::open_store;
use self::sign_ins::SignIns;
use super::admin::v1::StatusRow;
use super::settings::Settings;
use crate::broker::cache::{self, Cache};
use crate::broker::people::{self, People};
use crate::broker::sources::{IdentitySettings, Reach, Sources, Way};
use crate::broker::{Audit, Broker, Parts, Slots, Source, grpc, http, identity_header};
use crate::clock::Clock;
use crate::config::Kind;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::sign_in::SignIn;
use crate::imds::{Himds, Imds, ManagedId};

/// The identity that a machine has without any configuration.
const NODE_IDENTITY: &str = "node";
/// The threads that answer callers of the broker. Everybody may call; the threads that answer logins are others.
const WORKERS: usize = 2;
/// The threads that wait for the broker's files and name look-ups.
const WAITING_THREADS: usize = 8;
/// The events of hand-outs, in the state folder.
const EVENTS: &str = "handouts.jsonl";

/// Why there is no broker.
#[derive(Debug, Error)]
pub(super) enum BrokerError {
    /// A part cannot be made.
    #[error("{0}")]
    Part(String),
    /// The operating system refused.
    #[error("the broker cannot {0}: {1}")]
    Os(&'static str, std::io::Error),
}

/// The sockets that systemd bound.
pub(super) struct Doors {
    pub(super) grpc: Option<BoundListener>,
    pub(super) http: Option<BoundListener>,
}

/// How long the end of the daemon waits for the last counts of the record.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);

/// What `status` says of the broker.
#[derive(Clone, Default)]
pub(super) struct Health(Arc<Mutex<Vec<StatusRow>>>);

/// The broker as the daemon holds it.
pub(super) struct Running {
    pub(super) health: Health,
    audit: Option<Audit>,
}

impl Running {
    /// Writes what the record has only counted so far; for the end of the daemon.
    pub(super) async fn last_words(self) {
        let Some(audit) = self.audit else { return };
        let written = tokio::task::spawn_blocking(move || audit.close_all(LAST_WORDS_WITHIN)).await;
        if !matches!(written, Ok(true)) {
            error!("the last counts of hand-outs could not be written before the end");
        }
    }
}

impl Health {
    /// The rows as they are now.
    pub(super) fn rows(&self) -> Vec<StatusRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, part: &str, state: &str, detail: String) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = StatusRow { part: part.to_owned(), state: state.to_owned(), detail };
        match rows.iter_mut().find(|known| known.part == part) {
            Some(known) => *known = row,
            None => rows.push(row),
        }
    }
}

/// Starts the broker where it is wanted. Whatever goes wrong is in the health and in the journal.
///
/// `withdrawn` hears of each person whose sign-in Entra took back.
pub(super) fn start(
    settings: &Settings,
    state: &Path,
    clock: &Clock,
    doors: Doors,
    withdrawn: impl Fn(ObjectId) + Send + Sync + 'static,
) -> Running {
    let health = Health::default();
    if !is_wanted(settings) {
        health.set("broker", "ok", "off: no identity is configured (`broker.enabled`)".to_owned());
        return Running { health, audit: None };
    }
    // Before the first token: what is locked later may have been written to swap by then.
    let locked = cache::memory::lock_all();
    health.set("memory", "ok", locked.to_string());
    let own = own_runtime().map_err(|cause| BrokerError::Os("start its runtime", cause));
    let done = own.and_then(|own| {
        // What is spawned from here on runs over there.
        let _inside = own.enter();
        run(settings, state, clock, doors, &health, withdrawn)
    });
    let audit = match done {
        Ok((identities, audit)) => {
            health.set("broker", "ok", identities);
            Some(audit)
        }
        Err(cause) => {
            error!("the broker does not run, logins are decided all the same: {cause}");
            health.set("broker", "down", cause.to_string());
            None
        }
    };
    Running { health, audit }
}

/// A runtime that lives as long as the process, with threads of its own: whatever strangers make the broker
/// do, the kernel still gives the threads that answer logins their share.
fn own_runtime() -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(WAITING_THREADS)
        .thread_name("broker")
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("broker-runtime".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// Whether programs may ask for tokens, by configuration or because the machine has an identity.
pub(super) fn is_wanted(settings: &Settings) -> bool {
    let config = settings.broker();
    let by_itself =
        !config.identity.is_empty() || config.sign_in.client_id.is_some() || has_own(settings.kind);
    config.enabled.unwrap_or(by_itself)
}

const fn has_own(kind: Kind) -> bool {
    matches!(kind, Kind::Aks | Kind::Vm | Kind::ArcVm)
}

/// The configured identities; on Azure and on Arc-enabled machines the machine's own where none is.
fn identities(settings: &Settings) -> Result<Vec<IdentitySettings>, BrokerError> {
    let written = &settings.broker().identity;
    if written.is_empty() && has_own(settings.kind) {
        return Ok(vec![IdentitySettings { name: NODE_IDENTITY.into(), way: own_way(settings) }]);
    }
    IdentitySettings::resolve(written, Some(settings.tenant), &settings.endpoints())
        .map_err(|cause| BrokerError::Part(cause.to_string()))
}

/// The machine's own identity; on AKS the one that azure.json names.
fn own_way(settings: &Settings) -> Way {
    if settings.kind == Kind::ArcVm {
        return Way::Arc(None);
    }
    let named = settings.client_id.as_deref().and_then(|id| id.parse().ok());
    Way::Managed(named.map_or(ManagedId::Only, ManagedId::Client))
}

fn run(
    settings: &Settings,
    state: &Path,
    clock: &Clock,
    doors: Doors,
    health: &Health,
    withdrawn: impl Fn(ObjectId) + Send + Sync + 'static,
) -> Result<(String, Audit), BrokerError> {
    let part = |cause: &dyn std::fmt::Display| BrokerError::Part(cause.to_string());
    let rule = if settings.proxy_from_env { ProxyRule::Environment } else { ProxyRule::Direct };
    let internet = Http::internet(rule).map_err(|cause| part(&cause))?;
    let people = sign_ins(settings, state, clock, &internet, health)?;
    let reach = Reach {
        http: internet,
        imds: Imds::new().map_err(|cause| part(&cause))?,
        himds: Himds::new().map_err(|cause| part(&cause))?,
    };
    let person = people.clone().map(|people| Arc::new(people) as Arc<dyn Source>);
    let sources = Arc::new(Sources::new(identities(settings)?, reach, person, clock.clone()));
    let warm = Arc::clone(&sources);
    let table = sources.identities().clone();
    let names: Vec<String> = table.iter().map(|identity| identity.name.to_string()).collect();
    let cache =
        Cache::new(Arc::clone(&sources) as Arc<dyn Source>, clock.clone(), cache::Settings::new(seed()));
    if let Some(people) = &people {
        let forgetful = cache.clone();
        people.on_change(move |uid| {
            forgetful.purge(|key: &TokenKey| key.owner == Some(uid));
        });
        people.on_withdrawn(withdrawn);
    }
    tokio::spawn(cache.refresher());
    let audit = Audit::start(state.join(EVENTS), clock.clone())
        .map_err(|cause| BrokerError::Os("start its recorder", cause))?;
    let broker = Arc::new(Broker::new(Parts {
        clock: clock.clone(),
        cache,
        policy: Arc::new(no_rules(&table)?),
        identities: table.clone(),
        audit: audit.clone(),
        people: people.map(|people| Arc::new(SignIns::new(people)) as _),
        pop: Some(sources as _),
    }));
    // The first use makes the key, which takes a tenth of a second: not on a thread that answers.
    tokio::task::spawn_blocking(move || drop(warm.pop_thumbprint()));
    let files = PolicyFiles::new(settings.policy_dir(), table);
    tokio::spawn(files.keep_fresh(Arc::clone(&broker), health.clone()));
    serve(settings.broker().loopback, doors, &broker, health)?;
    info!("the broker serves {}", names.join(", "));
    Ok((format!("serves {}", names.join(", ")), audit))
}

/// What is in force until the files were read.
fn no_rules(identities: &IdentityTable) -> Result<Policy, BrokerError> {
    Policy::compile(&[], &policy_files::Accounts, identities)
        .map_err(|cause| BrokerError::Part(cause.to_string()))
}

fn sign_ins(
    settings: &Settings,
    state: &Path,
    clock: &Clock,
    internet: &Http,
    health: &Health,
) -> Result<Option<People>, BrokerError> {
    let config = settings.broker();
    let Some(client_id) = config.sign_in.client_id else {
        health.set("sign-ins", "ok", format!("off: `{PERSON}` needs `broker.sign_in.client_id`"));
        return Ok(None);
    };
    let (sealed, words) = open_store(state);
    health.set("sign-ins", words.state, words.detail);
    let sign_in = SignIn::new(internet.clone(), &settings.endpoints().login, settings.tenant, client_id);
    let how = people::Settings {
        scopes: config.sign_in.scopes.clone().unwrap_or_default(),
        device_code: config.device_code.unwrap_or(false),
        login_limit: people::LOGIN_LIMIT,
    };
    Ok(Some(People::open(sign_in, how, Arc::new(sealed), clock.clone())))
}

fn serve(
    loopback: Option<SocketAddr>,
    doors: Doors,
    broker: &Arc<Broker>,
    health: &Health,
) -> Result<(), BrokerError> {
    let slots = Arc::new(Slots::default());
    if let Some(listener) = doors.grpc {
        tokio::spawn(grpc::serve(adopt(listener)?, Arc::clone(broker), Arc::clone(&slots)));
    }
    if let Some(listener) = doors.http {
        tokio::spawn(http::serve(adopt(listener)?, Arc::clone(broker), Arc::clone(&slots)));
    }
    let Some(address) = loopback else { return Ok(()) };
    let key = identity_header::boot_key(Path::new(identity_header::KEY_FOLDER))
        .map_err(|cause| BrokerError::Part(cause.to_string()))?;
    let (broker, health) = (Arc::clone(broker), health.clone());
    tokio::spawn(async move {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                health.set("loopback", "ok", format!("listens on {address}"));
                http::serve_loopback(listener, broker, slots, Arc::new(key)).await;
            }
            Err(cause) => {
                warn!("the broker cannot listen on {address}: {cause}");
                health.set("loopback", "down", format!("cannot listen on {address}: {cause}"));
            }
        }
    });
    Ok(())
}

fn adopt(listener: BoundListener) -> Result<UnixListener, BrokerError> {
    let os = |cause| BrokerError::Os("use a listening socket", cause);
    listener.set_nonblocking(true).map_err(os)?;
    UnixListener::from_std(listener).map_err(os)
}

/// Spreads renewals over machines: no two have the same id.
fn seed() -> u64 {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    u64::from_str_radix(id.trim().get(..16).unwrap_or_default(), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::agent::settings::Machine;
    use crate::config::Config;

    /// Not one await in here: the runtime of this test, which stands for that of the logins, never turns.
    #[tokio::test]
    async fn past_bug_68_the_broker_has_threads_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imds.sock");
        let mut config = Config::default();
        config.broker.enabled = Some(true);
        config.broker.policy_dir = Some(folder.path().join("broker.d"));
        let machine = Machine {
            tenant: "11111111-2222-3333-4444-555555555555".parse().ok(),
            resource_id: Some("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/r".into()),
            kind: Some(Kind::Vm),
            ..Machine::default()
        };
        let settings = Settings::resolve(config, &machine).unwrap();
        let doors = Doors { grpc: None, http: Some(BoundListener::bind(&path).unwrap()) };
        let health = start(&settings, folder.path(), &Clock::System, doors, |_| {});
        assert!(health.health.rows().iter().any(|row| row.part == "broker" && row.state == "ok"));
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}
