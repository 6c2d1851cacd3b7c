//! A small HTTP/1.1 client for tests: one request per connection over TCP, TLS or a unix socket, with full
//! control of headers. It follows nothing, retries nothing and has no timeout of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// A request to send.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body, unframed.
    pub body: Vec<u8>,
}

impl Ask {
    /// A `GET`.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: "GET".into(), target: target.into(), ..Self::default() }
    }

    /// Any method without a body.
    pub fn bare(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.into(), ..Self::get(target) }
    }

    /// Any method with a JSON body.
    pub fn json(method: &str, target: impl Into<String>, body: &Value) -> Self {
        let ask = Self { method: method.into(), body: body.to_string().into_bytes(), ..Self::get(target) };
        ask.header("content-type", "application/json")
    }

    /// A form `POST`.
    pub fn form(target: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", crate::form::encode(name), crate::form::encode(value)))
            .collect();
        let ask = Self { method: "POST".into(), body: pairs.join("&").into_bytes(), ..Self::get(target) };
        ask.header("content-type", "application/x-www-form-urlencoded")
    }

    /// Add a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Add a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Send over plain TCP.
    pub async fn over_tcp(self, address: SocketAddr) -> io::Result<Reply> {
        self.over(TcpStream::connect(address).await?, &address.to_string()).await
    }

    /// Send over a unix socket.
    pub async fn over_unix(self, path: &Path) -> io::Result<Reply> {
        self.over(UnixStream::connect(path).await?, "localhost").await
    }

    /// Send over TLS to `address`, asking for `host` and trusting only the emulator's `tls-ca.pem`.
    pub async fn over_tls(self, address: SocketAddr, host: &str, ca: &Path) -> io::Result<Reply> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
        roots.add(authority).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        self.over(stream, host).await
    }

    async fn over<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S, host: &str) -> io::Result<Reply> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", self.body.len()));
        // In one piece: a route that takes no body may answer and hang up as soon as it has the head.
        let mut whole = head.into_bytes();
        whole.extend_from_slice(&self.body);
        let sent = stream.write_all(&whole).await;
        let sent = if sent.is_ok() { stream.flush().await } else { sent };
        // Who hung up may have answered before: what was said counts more than what could not be sent.
        if let Err(error) = sent
            && !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        {
            return Err(error);
        }
        let mut bytes = Vec::new();
        // A server that ends TLS without close_notify still gave its whole answer.
        match stream.read_to_end(&mut bytes).await {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof && bytes.is_empty() => {
                return Err(error);
            }
            _ => {}
        }
        parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no HTTP answer"))
    }
}

impl Reply {
    /// The body as JSON; null if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = bytes.get(end + 4..)?;
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value.contains("chunked"));
    Some(Reply { status, headers, body: if chunked { unchunk(rest) } else { rest.to_vec() } })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = rest.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let size = size.and_then(|line| usize::from_str_radix(line.trim(), 16).ok()).unwrap_or(0);
        let Some(chunk) = rest.get(end + 2..end + 2 + size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or(&[]);
    }
    body
}
