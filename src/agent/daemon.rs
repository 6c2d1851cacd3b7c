//! Start and stop. The order matters: logging, listeners, configuration, facts, then ready.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::Reason;
use nix::unistd::User;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tracing::{error, info, warn};

use super::access_rules::{AccessFiles, keep_written, write_down};
use super::admin::v1::admin_server::AdminServer;
use super::admin::{AdminService, MAX_ADMIN_MESSAGE_BYTES};
use super::gate::{Books, Gate, LocalFacts, Outside};
use super::local_files::{LocalFiles, watch_files};
use super::refresh::restore_keys;
use super::rejudge::{Pulse, Rejudger};
use super::roles;
use super::servers::{Door, Served, serve};
use super::sessions_admin::SessionsDesk;
use super::settings::{Settings, SettingsError};
use super::step_up::{DeviceCode, SignInElsewhere};
use super::{azure_facts, broker, ca_keys, high_water, status, token_keys};
use crate::accounts::{AccountError, Accounts, GraceLedger, SignIns, Withdrawn};
use crate::clock::Clock;
use crate::config::{ConfigError, Mode, load};
use crate::sessions::Control;
use crate::store::{StoreError, check_folder};
use crate::sys::{ListenerError, Peer};
use crate::telemetry::{Observations, Recorder};

/// The user that runs the hook.
const HOOK_USER: &str = "nightlatch-hook";
/// The most streams and connections on the admin socket.
const MAX_ADMIN_STREAMS: u32 = 16;
/// How long an admin call may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the daemon's files are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The configuration file.
    pub config: PathBuf,
    /// Its drop-ins.
    pub drop_ins: PathBuf,
    /// What survives a restart.
    pub state: PathBuf,
    /// The snapshot for userdbd.
    pub snapshot: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            config: crate::config::FILE.into(),
            drop_ins: crate::config::DROP_INS.into(),
            state: "/var/lib/nightlatch".into(),
            snapshot: "/run/nightlatch/accounts/snapshot.json".into(),
        }
    }
}

/// Why the daemon does not run.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// It would own the node.
    #[error("nightlatchd must not run as root; start it through systemd (nightlatchd.service)")]
    Root,
    /// Not started by systemd.
    #[error(transparent)]
    Listeners(#[from] ListenerError),
    /// A configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration as a whole.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The account book.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// The access rules.
    #[error(
        "the access rules cannot be used, and without them nobody is let in: {0}; `nightlatch policy check` tries them"
    )]
    AccessRules(String),
    /// A file that takes away is there and cannot be read.
    #[error(
        "{0}; what is revoked or local must be known before anybody is let in: make it a plain file that everybody can read, and \
         its folders such that everybody can go through them"
    )]
    LocalFile(String),
    /// Asking Azure cannot be set up.
    #[error("roles cannot be asked: {0}")]
    Roles(String),
    /// A system user is missing.
    #[error("the user `{0}` does not exist; run `systemd-sysusers`")]
    NoUser(&'static str),
    /// The operating system refused.
    #[error("cannot {0}")]
    Os(&'static str, #[source] std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Why it does not run; the words say what to do.
pub fn run(paths: &Paths) -> Result<(), DaemonError> {
    if nix::unistd::geteuid().is_root() {
        return Err(DaemonError::Root);
    }
    // Tokens live in this memory: nobody of the same uid may look into it, and no core is written.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|cause| DaemonError::Os("protect its memory", cause.into()))?;
    let listeners = crate::sys::named_listeners()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|cause| DaemonError::Os("start the runtime", cause))?;
    runtime.block_on(start(paths, listeners))
}

async fn start(
    paths: &Paths,
    mut listeners: std::collections::HashMap<String, std::os::unix::net::UnixListener>,
) -> Result<(), DaemonError> {
    // From here on a reload is never the end, whoever listens for it.
    let _reload = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
        .map_err(|cause| DaemonError::Os("watch for signals", cause))?;
    let clock = Clock::System;
    let time = high_water::restore(&paths.state, clock.clone());
    check_folder(&paths.state)?;
    let loaded = load(&paths.config, &paths.drop_ins)?;
    let machine = azure_facts::find_out(&loaded.config).await;
    let settings = Settings::resolve(loaded.config, &machine)?;
    let (access_files, access) = AccessFiles::open(settings.access_dir(), settings.node(), &paths.state)
        .map_err(DaemonError::AccessRules)?;
    if access.wants_claims() && settings.openpubkey.is_none() {
        warn!(
            "access rules ask for what only a sign-in shows, and `openpubkey.client_ids` is not set: nobody can show it"
        );
    }
    let hook_uid = uid_of(HOOK_USER)?;
    let kept_keys = paths.state.join("ca-keys.json");
    let token_keys = token_keys::restore(&paths.state, time.mark.judge_by(clock.now(), clock.boot()).0);
    let mut facts = LocalFacts {
        token_keys,
        access,
        trust: restore_keys(&kept_keys, settings.ca_grace, &time),
        ..LocalFacts::default()
    };
    let mut files = LocalFiles::new(&settings);
    let read = files.first().map_err(DaemonError::LocalFile)?;
    let now = time.mark.judge_by(clock.now(), clock.boot()).0;
    read.into_iter().for_each(|change| change.apply(&mut facts, now));
    let mut accounts = Accounts::open(
        settings.tenant,
        settings.domains.clone(),
        settings.shell.clone(),
        settings.overrides.clone(),
        paths.state.join("accounts.json"),
        paths.snapshot.clone(),
    )?;
    accounts.hide(|name| facts.local.has(name))?;
    let accounts = if settings.mode == Mode::Observe { accounts.silenced()? } else { accounts };
    let books = Books {
        accounts,
        grace: GraceLedger::open(paths.state.join("grace.json"))?,
        withdrawn: Withdrawn::open(paths.state.join("withdrawn.json"))?,
        sign_ins: SignIns::open(paths.state.join("sign-ins.json"))?,
    };
    let control = Control::default();
    let device_code = DeviceCode::configured(&settings, &time).map_err(DaemonError::Roles)?;
    let outside = Outside {
        prompt: device_code.map(|prompt| Arc::new(prompt) as Arc<dyn SignInElsewhere>),
        roles: roles::shared(roles::connect(&settings, &time, &paths.state).map_err(DaemonError::Roles)?),
        people: roles::people(&settings, &time).map_err(DaemonError::Roles)?,
        sessions: Arc::new(control.clone()),
    };
    let recorder = Recorder::start(paths.state.join("decisions.jsonl"), clock.clone())
        .map_err(|cause| DaemonError::Os("start the recorder", cause))?;
    let observations = Observations::at(paths.state.join("observed.jsonl"));
    let gate = Gate::new(settings.gate(), time.clone(), facts, books, outside, recorder, observations);
    let gate = Arc::new(gate.in_background(tokio::runtime::Handle::current()));

    let pulse = Arc::new(Pulse::default());
    let rejudger = Rejudger::new(Arc::clone(&gate), control.clone(), &settings, Arc::clone(&pulse));
    // A node that only observes decides nothing, about sessions of another time neither.
    if settings.mode == Mode::Enforce {
        tokio::spawn(rejudger.run());
    }
    tokio::spawn(high_water::keep(time, paths.state.clone()));
    let local = files.health();
    tokio::spawn(watch_files(files, Arc::clone(&gate)));
    let access = access_files.health();
    tokio::spawn(access_files.keep_fresh(Arc::clone(&gate)));
    tokio::spawn(keep_written(Arc::clone(&gate)));
    let last = Arc::clone(&gate);
    tokio::spawn(ca_keys::keep_fresh(settings.clone(), Arc::clone(&gate), kept_keys));
    tokio::spawn(token_keys::keep_fresh(settings.clone(), Arc::clone(&gate), paths.state.clone()));
    let hook = listeners.remove("hook").ok_or(ListenerError::None)?;
    let times = status::DoorTimes::default();
    let account = listeners.remove("account").ok_or(ListenerError::None)?;
    serve_apart(Door::Hook, hook, hook_uid, Arc::clone(&gate), Arc::clone(&times.hook))?;
    serve_apart(Door::Account, account, 0, Arc::clone(&gate), Arc::clone(&times.account))?;
    let doors = broker::Doors { grpc: listeners.remove("broker"), http: listeners.remove("imds") };
    let heard = Arc::clone(&gate);
    // Said in the journal where the disk does not take it.
    let withdrawn = move |oid| drop(heard.withdraw(oid, Reason::SignInWithdrawn));
    let broker = broker::start(&settings, &paths.state, gate.clock(), doors, withdrawn);
    if let Some(listener) = listeners.remove("admin") {
        let parts = status::Parts { times, local, access, broker: broker.health.clone(), pulse };
        let status = status::source(&settings, Arc::clone(&gate), parts);
        let desk = SessionsDesk { gate: Arc::clone(&gate), control };
        tokio::spawn(serve_admin(adopt(listener)?, AdminService::new(desk, status)));
    }
    info!(
        "ready: tenant {}, {:?}, roles from {:?}, scopes {:?}",
        settings.tenant, settings.mode, settings.roles_from, settings.scopes
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::spawn(kick_watchdog());
    wait_for_the_end().await?;
    write_down(&last);
    broker.last_words().await;
    info!("stopped");
    Ok(())
}

/// hook.sock and account.sock have a thread and a runtime of their own each. The hook is answered within
/// milliseconds also while a decision waits for a slow disk, and PAM while everything else that the daemon does
/// wants to go on: a question that changes threads waits at each change for a processor.
fn serve_apart(
    door: Door,
    listener: std::os::unix::net::UnixListener,
    uid: u32,
    gate: Arc<Gate>,
    times: Arc<Served>,
) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| DaemonError::Os("start a socket's runtime", cause))?;
    let adopted = {
        let _inside = runtime.enter();
        adopt(listener)?
    };
    std::thread::Builder::new()
        .name(door.name().into())
        .spawn(move || {
            runtime.block_on(serve(door, adopted, uid, gate, times));
            error!("{}.sock is no longer served; restarting", door.name());
            std::process::exit(1);
        })
        .map_err(|cause| DaemonError::Os("start a socket's thread", cause))?;
    Ok(())
}

fn adopt(listener: std::os::unix::net::UnixListener) -> Result<UnixListener, DaemonError> {
    listener.set_nonblocking(true).map_err(|cause| DaemonError::Os("use a listening socket", cause))?;
    UnixListener::from_std(listener).map_err(|cause| DaemonError::Os("use a listening socket", cause))
}

fn uid_of(name: &'static str) -> Result<u32, DaemonError> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()).ok_or(DaemonError::NoUser(name))
}

async fn serve_admin(listener: UnixListener, service: AdminService) {
    let service = AdminServer::new(service)
        .max_decoding_message_size(MAX_ADMIN_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ADMIN_MESSAGE_BYTES);
    let only_root = UnixListenerStream::new(listener).filter(|accepted| match accepted {
        // An accept that failed must not end the server (tonic CVE-2024-47609): it is left out.
        Err(cause) => {
            warn!("accepting on admin failed: {cause}");
            false
        }
        Ok(stream) => match Peer::of(stream).and_then(|peer| peer.require(0)) {
            Ok(()) => true,
            Err(refused) => {
                warn!("admin: {refused}");
                false
            }
        },
    });
    let served = Server::builder()
        .max_concurrent_streams(MAX_ADMIN_STREAMS)
        .concurrency_limit_per_connection(4)
        .timeout(ADMIN_TIMEOUT)
        .add_service(service)
        .serve_with_incoming(only_root)
        .await;
    if let Err(cause) = served {
        error!("the admin socket is no longer served: {cause}");
    }
}

async fn kick_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(limit / 3);
    loop {
        tick.tick().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

async fn wait_for_the_end() -> Result<(), DaemonError> {
    use tokio::signal::unix::{SignalKind, signal};
    let os = |cause| DaemonError::Os("watch for signals", cause);
    let mut terminate = signal(SignalKind::terminate()).map_err(os)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(os)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    Ok(())
}
