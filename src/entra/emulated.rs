//! The emulated tenant, which shares no code with us, for unit tests of other rooms. Compiled for tests only.

use std::net::SocketAddr;
use std::path::PathBuf;

use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::world;
use reqwest::Url;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http::{Http, ProxyRule};
use super::sign_in::SignIn;

const LOGIN: &str = "login.microsoftonline.com";

/// A tenant, and a plain door to it: a unit test has no certificate store of its own.
pub(crate) struct Tenant {
    _running: nightlatch_emulator::Running,
    folder: tempfile::TempDir,
    https: SocketAddr,
    control: SocketAddr,
    door: String,
}

impl Tenant {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running =
            nightlatch_emulator::start(nightlatch_emulator::Options::loopback(folder.path())).await.unwrap();
        let (https, control) = (running.endpoints().https[0], running.endpoints().control.unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let door = format!("http://{}", listener.local_addr().unwrap());
        let ca = folder.path().join("tls-ca.pem");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, https, ca.clone()));
            }
        });
        Self { _running: running, folder, https, control, door }
    }

    pub(crate) async fn control(&self, method: &str, path: &str, body: Value) {
        let reply = Ask::json(method, path, &body).over_tcp(self.control).await.unwrap();
        assert_eq!(reply.status / 100, 2, "{}", reply.text());
    }

    /// Opens a page as a browser would, and gives what it would bring back.
    pub(crate) async fn browse(&self, url: &str) -> String {
        let url = Url::parse(url).unwrap();
        let target = format!("{}?{}", url.path(), url.query().unwrap());
        let ca = self.folder.path().join("tls-ca.pem");
        let reply = Ask::get(target).over_tls(self.https, LOGIN, &ca).await.unwrap();
        assert_eq!(reply.status, 302, "{}", reply.text());
        Url::parse(reply.header("location")).unwrap().query().unwrap().to_owned()
    }

    /// People's sign-in to this application in this tenant.
    pub(crate) fn sign_in(&self, tenant: &str, client: &str) -> SignIn {
        let http = Http::internet(ProxyRule::Direct).unwrap();
        let sign_in = SignIn::new(http, &self.door, tenant.parse().unwrap(), client.parse().unwrap());
        sign_in.issued_by(&format!("https://{LOGIN}"))
    }

    /// The same to the public client of Azure CLI.
    pub(crate) fn azure_cli(&self) -> SignIn {
        self.sign_in(world::TENANT, world::AZURE_CLI)
    }
}

async fn pass_on(mut stream: TcpStream, https: SocketAddr, ca: PathBuf) -> Option<()> {
    let mut bytes = Vec::new();
    let (line, body) = loop {
        let mut part = [0_u8; 4096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8(bytes.clone()).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0_usize) {
            break (head.lines().next()?.to_owned(), body.to_owned());
        }
    };
    let fields: Vec<(String, String)> =
        Url::parse(&format!("http://x/?{body}")).ok()?.query_pairs().into_owned().collect();
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply: Reply = Ask::form(line.split(' ').nth(1)?, &fields).over_tls(https, LOGIN, &ca).await.unwrap();
    let head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        reply.status,
        reply.body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&reply.body).await.ok()?;
    stream.shutdown().await.ok()
}
