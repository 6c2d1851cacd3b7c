//! Starting and ending an emulator: bind what was asked for, write the state directory, run until stopped.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::faults::Service;
use crate::rsakey::RsaKey;
use crate::serve::{self, Door};
use crate::state::{Emulated, SshCa, TokenKey};
use crate::{control, seed, sshcert, tls, world};

/// What to start. A listener left out is not opened; port 0 takes any free port.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory for keys, certificates and `endpoints.json`; made if it is not there.
    pub state_dir: PathBuf,
    /// TLS listeners for all Microsoft hosts.
    pub https: Vec<SocketAddr>,
    /// Instance metadata listener.
    pub imds: Option<SocketAddr>,
    /// Arc metadata listener.
    pub himds: Option<SocketAddr>,
    /// Control API on a unix socket.
    pub control_socket: Option<PathBuf>,
    /// Control API on TCP.
    pub control: Option<SocketAddr>,
    /// Tenant id of the world.
    pub tenant: String,
    /// Where himds puts its challenge files.
    pub himds_token_dir: PathBuf,
}

/// Where Arc agents keep their challenge files.
pub const HIMDS_TOKEN_DIR: &str = "/var/opt/azcmagent/tokens";

impl Options {
    /// Nothing listening; the default tenant.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            https: Vec::new(),
            imds: None,
            himds: None,
            control_socket: None,
            control: None,
            tenant: world::TENANT.into(),
            himds_token_dir: HIMDS_TOKEN_DIR.into(),
        }
    }

    /// All TCP listeners on free loopback ports, challenge files inside the state directory: for tests.
    pub fn loopback(state_dir: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let base = Self::new(state_dir);
        Self {
            https: vec![any],
            imds: Some(any),
            himds: Some(any),
            control: Some(any),
            himds_token_dir: base.state_dir.join("himds-tokens"),
            ..base
        }
    }
}

/// The emulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or socket could not be bound.
    #[error("cannot listen on {0}: {1}; is it in use, or not of this network namespace?")]
    Listen(String, io::Error),
    /// The state directory could not be written.
    #[error("cannot use the state directory: {0}")]
    State(#[from] io::Error),
    /// A key in the state directory is unusable or none could be made.
    #[error("{0}")]
    Key(String),
    /// The TLS certificate could not be made or read.
    #[error("cannot set up TLS: {0}; delete the tls-* files of the state directory to have new ones made")]
    Tls(String),
}

/// The addresses really bound, as in `endpoints.json`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Endpoints {
    /// TLS listeners.
    pub https: Vec<SocketAddr>,
    /// Instance metadata.
    pub imds: Option<SocketAddr>,
    /// Arc metadata.
    pub himds: Option<SocketAddr>,
    /// Control API on TCP.
    pub control: Option<SocketAddr>,
    /// Control API on a unix socket.
    pub control_socket: Option<PathBuf>,
    /// Tenant id.
    pub tenant: String,
}

/// A running emulator; dropping it closes every listener and connection.
#[derive(Debug)]
pub struct Running {
    endpoints: Endpoints,
    listeners: JoinSet<()>,
}

impl Running {
    /// Where it listens.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Close everything and wait until it is closed.
    pub async fn stop(mut self) {
        self.listeners.shutdown().await;
        if let Some(socket) = &self.endpoints.control_socket {
            // A socket file already gone is what was wanted.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Start an emulator inside the current tokio runtime.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let dir = options.state_dir.clone();
    std::fs::create_dir_all(&dir)?;
    let ssh_ca = key(&dir.join("ssh-ca"))?;
    std::fs::write(dir.join("ssh-ca.pub"), sshcert::public_line(&ssh_ca, "nightlatch-emulator-ca") + "\n")?;
    let token_key = key(&dir.join("token-signing.pem"))?;
    let config = tls::server_config(&dir)?;
    let ssh_cas = vec![SshCa { key: Arc::new(ssh_ca), published: true }];
    let token_keys = vec![TokenKey { key: Arc::new(token_key), published: true }];
    let world = seed::world(&options.tenant, ssh_cas, token_keys);
    let app = Emulated::new(world, dir.clone(), options.himds_token_dir.clone());
    control::write_users(&app)?;

    let mut endpoints = Endpoints { tenant: options.tenant.to_ascii_lowercase(), ..Endpoints::default() };
    let mut listeners = JoinSet::new();
    for address in &options.https {
        let (listener, bound) = bind(*address).await?;
        endpoints.https.push(bound);
        listeners.spawn(serve::tls(listener, config.clone(), app.clone()));
    }
    for (address, service) in [(options.imds, Service::Imds), (options.himds, Service::Himds)] {
        let Some(address) = address else { continue };
        let (listener, bound) = bind(address).await?;
        *(if service == Service::Imds { &mut endpoints.imds } else { &mut endpoints.himds }) = Some(bound);
        listeners.spawn(serve::plain(listener, Door::One(service), app.clone()));
    }
    let door = Door::Control(control::router(app.clone()));
    if let Some(address) = options.control {
        let (listener, bound) = bind(address).await?;
        endpoints.control = Some(bound);
        listeners.spawn(serve::plain(listener, door.clone(), app.clone()));
    }
    if let Some(path) = options.control_socket {
        if path.exists() {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)
            .map_err(|error| StartError::Listen(path.display().to_string(), error))?;
        endpoints.control_socket = Some(path);
        listeners.spawn(serve::unix(listener, door, app.clone()));
    }
    let text = serde_json::to_string_pretty(&json!(endpoints)).unwrap_or_default();
    // Written whole or not at all: who waits for the file reads a complete one.
    let part = dir.join("endpoints.json.part");
    std::fs::write(&part, text)?;
    std::fs::rename(part, dir.join("endpoints.json"))?;
    Ok(Running { endpoints, listeners })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let wrong = |error| StartError::Listen(address.to_string(), error);
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    Ok((listener, bound))
}

// Keys survive a restart, so that what trusts them goes on doing so.
fn key(path: &Path) -> Result<RsaKey, StartError> {
    if path.exists() {
        return RsaKey::from_pem(&std::fs::read_to_string(path)?)
            .map_err(|error| StartError::Key(format!("{}: {error}", path.display())));
    }
    let key = RsaKey::generate().map_err(|error| StartError::Key(error.to_string()))?;
    write_private(path, &key.pem())?;
    Ok(key)
}

/// Write a file only its owner may read, replacing what was there.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
