//! The emulated Entra tenant beside a node: Azure's hosts, IMDS on its real address and himds, all in
//! the node's own network, so that the product under test is not told that anything is emulated.
//!
//! Certificates are asked for as `az ssh cert` asks: the same form, the same odd JWK, the same file.

use std::future::Future;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::world;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::node::{InNetwork, Node};
use crate::person::Person;
use crate::run::{WorldError, target_folder, wait_until};

/// How long the emulator may take to make its keys and listen.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Lets a program of the host write the node's challenge files under the name that they have in the node:
/// in a mount namespace of its own, so that the host's folder stays as it is.
const IN_ARC_FOLDER: &str = "mount -t tmpfs tmpfs /var/opt && ln -s \"$1/var/opt/azcmagent\" /var/opt/azcmagent && \
                             shift && exec \"$@\"";
/// How long one question to the emulator may take.
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// A running emulator in one node's network. Dropping it ends it.
#[derive(Debug)]
pub struct Tenant {
    _emulator: InNetwork,
    state: TempDir,
    leader: u32,
}

/// Which metadata service the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// An Azure machine: IMDS.
    Imds,
    /// An Arc-enabled machine: himds.
    Himds,
    /// Neither.
    None,
}

impl Tenant {
    /// Starts the emulator in the node's network and makes the node trust its TLS.
    ///
    /// # Errors
    /// When it is not built or does not come up.
    pub fn start(node: &Node, metadata: Metadata) -> Result<Self, WorldError> {
        let program = target_folder().join("debug/nightlatch-emulator");
        if !program.exists() {
            return Err(WorldError::new(format!("{} is missing: run `make build`", program.display())));
        }
        let state = crate::desk::folder("tenant-")?;
        let path = |name: &str| state.path().join(name).display().to_string();
        let tokens = "/var/opt/azcmagent/tokens";
        let program = program.display().to_string();
        let (folder, socket) = (state.path().display().to_string(), path("control.sock"));
        let root = node.root().display().to_string();
        let mut words = match metadata {
            Metadata::Himds => {
                vec![
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    IN_ARC_FOLDER,
                    "arc",
                    &root,
                ]
            }
            Metadata::Imds | Metadata::None => vec![],
        };
        words.extend([
            &*program,
            "--state",
            &folder,
            "--https",
            "127.0.0.1:443",
            "--control-socket",
            &socket,
        ]);
        match metadata {
            Metadata::Imds => words.extend(["--imds", "169.254.169.254:80"]),
            Metadata::Himds => {
                node.shell(&format!("install -d -m 0755 {tokens}"))?;
                words.extend(["--himds", "127.0.0.1:40342", "--himds-token-dir", tokens]);
            }
            Metadata::None => {}
        }
        let emulator = node.spawn_in_netns(&words)?;
        let ready = state.path().join("endpoints.json");
        wait_until("the emulator's endpoints.json", START_LIMIT, || ready.exists())?;
        let tenant = Self { _emulator: emulator, state, leader: node.leader_pid() };
        let ca = std::fs::read_to_string(tenant.file("tls-ca.pem"))
            .map_err(|why| WorldError::io("the emulator's tls-ca.pem", &why))?;
        node.trust_ca(&ca)?;
        Ok(tenant)
    }

    /// A file that the emulator wrote: `ssh-ca`, `token-signing.pem`, `users.json`, `control.sock`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Asks the control API (documented in the emulator's README).
    ///
    /// # Errors
    /// The emulator's own words when it refuses.
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Result<Value, WorldError> {
        let target = format!("/control/{path}");
        let ask = match method {
            // A route without a body may have hung up before an empty one was heard.
            "GET" | "DELETE" if body.as_object().is_none_or(serde_json::Map::is_empty) => {
                Ask::bare(method, target)
            }
            "GET" => Ask::get(target),
            _ => Ask::json(method, target, body),
        };
        let socket = self.file("control.sock");
        let reply = block_on(async { ask.over_unix(&socket).await })?;
        if reply.status >= 300 {
            return Err(WorldError::new(format!(
                "{method} /control/{path}: {} {}",
                reply.status,
                reply.text()
            )));
        }
        Ok(reply.json())
    }

    /// Gives the person a certificate the way `az ssh cert` does for a signed-in user: the refresh token
    /// of `upn`, `token_type=ssh-cert`, and the public key as the odd JWK of azure-cli's
    /// extension.
    ///
    /// # Errors
    /// Entra's own words when it refuses.
    pub fn sign_in(&self, person: &Person, upn: &str) -> Result<(), WorldError> {
        let users =
            std::fs::read(self.file("users.json")).map_err(|why| WorldError::io("users.json", &why))?;
        let users: Value = serde_json::from_slice(&users).map_err(|why| WorldError::new(why.to_string()))?;
        let user = users.as_array().into_iter().flatten().find(|user| {
            user.get("upn").is_some_and(|have| have == upn)
                || user.get("mail").is_some_and(|have| have == upn)
        });
        let refresh = user.and_then(|user| user.get("refresh_token")?.as_str());
        let refresh = refresh.ok_or_else(|| WorldError::new(format!("nobody called {upn} in users.json")))?;
        let scope = "https://pas.windows.net/CheckMyAccess/Linux/.default offline_access openid profile";
        let form = [
            ("client_id", world::AZURE_CLI),
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("scope", scope),
        ];
        self.certificate(person, &form)
    }

    /// The same for a service principal with a client secret.
    ///
    /// # Errors
    /// Entra's own words when it refuses.
    pub fn sign_in_app(&self, person: &Person, app: &str, secret: &str) -> Result<(), WorldError> {
        let scope = "https://pas.windows.net/CheckMyAccess/Linux/.default";
        let form = [
            ("client_id", app),
            ("grant_type", "client_credentials"),
            ("client_secret", secret),
            ("scope", scope),
        ];
        self.certificate(person, &form)
    }

    fn certificate(&self, person: &Person, form: &[(&str, &str)]) -> Result<(), WorldError> {
        let (n, e, key_id) = jwk_of(&person.public_key()?)?;
        let cnf = format!("{{\"kty\": \"RSA\", \"n\": \"{n}\", \"e\": \"{e}\", \"kid\": \"{key_id}\"}}");
        let mut fields = form.to_vec();
        fields.extend([
            ("token_type", "ssh-cert"),
            ("req_cnf", &*cnf),
            ("key_id", &*key_id),
            ("client_info", "1"),
        ]);
        let reply = self.entra(&format!("/{}/oauth2/v2.0/token", world::TENANT), &fields)?;
        let answer = reply.json();
        let token = answer.get("access_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| WorldError::new(format!("Entra refused: {}", reply.text())))?;
        person.take_certificate(&format!("ssh-rsa-cert-v01@openssh.com {token}"))
    }

    /// A certificate of any content, which no real tenant would issue (control API).
    ///
    /// # Errors
    /// The emulator's own words when it refuses.
    pub fn forge(&self, person: &Person, mut order: Value) -> Result<(), WorldError> {
        let key = json!(person.public_key()?);
        order
            .as_object_mut()
            .ok_or_else(|| WorldError::new("an order is an object"))?
            .insert("public_key".into(), key);
        let answer = self.control("POST", "ssh-cert", &order)?;
        let line = answer.get("certificate").and_then(Value::as_str);
        person.take_certificate(line.ok_or_else(|| WorldError::new(format!("no certificate in {answer}")))?)
    }

    fn entra(&self, path: &str, form: &[(&str, &str)]) -> Result<Reply, WorldError> {
        let ask = Ask::form(path, form);
        let ca = self.file("tls-ca.pem");
        let network = PathBuf::from(format!("/proc/{}/ns/net", self.leader));
        in_network(&network, move || {
            block_on(async {
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], 443));
                ask.over_tls(address, "login.microsoftonline.com", &ca).await
            })
        })
    }
}

/// The numbers of an RSA public key as azure-cli's ssh extension writes them: base64url of the raw SSH
/// mpints, leading zero byte and padding included, and the hash over both texts.
fn jwk_of(line: &str) -> Result<(String, String, String), WorldError> {
    let bad = || WorldError::new("not an RSA public key");
    let blob = line.split(' ').nth(1).and_then(|text| STANDARD.decode(text).ok()).ok_or_else(bad)?;
    let mut fields = Vec::new();
    let mut rest = &*blob;
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| bad())?;
        fields.push(tail.get(..len).ok_or_else(bad)?);
        rest = tail.get(len..).ok_or_else(bad)?;
    }
    let [_, e, n] = fields[..] else { return Err(bad()) };
    let (n, e) = (URL_SAFE.encode(n), URL_SAFE.encode(e));
    let key_id = hex(&Sha256::digest(format!("{n}{e}")));
    Ok((n, e, key_id))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn block_on<T>(question: impl Future<Output = std::io::Result<T>>) -> Result<T, WorldError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| WorldError::io("a runtime", &why))?;
    runtime.block_on(async {
        match tokio::time::timeout(ASK_LIMIT, question).await {
            Ok(answer) => answer.map_err(|why| WorldError::io("asking the emulator", &why)),
            Err(_) => Err(WorldError::new("the emulator does not answer")),
        }
    })
}

/// Runs `work` on a thread of its own inside another network namespace.
fn in_network<T: Send>(
    network: &Path,
    work: impl FnOnce() -> Result<T, WorldError> + Send,
) -> Result<T, WorldError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = std::fs::File::open(network).map_err(|why| WorldError::io(network.display(), &why))?;
            nix::sched::setns(file.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(|why| WorldError::new(format!("entering {}: {why}", network.display())))?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(WorldError::new("the question panicked")))
    })
}
