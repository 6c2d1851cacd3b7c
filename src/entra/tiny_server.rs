//! A server for unit tests: gives prepared answers in order, one per request, and remembers what it
//! was asked. Compiled for tests only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
enum Shape {
    Whole,
    Chunked,
    Cut,
    Never,
}

/// One prepared answer.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    shape: Shape,
    delay: Duration,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            shape: Shape::Whole,
            delay: Duration::ZERO,
        }
    }
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    pub(crate) fn chunked(mut self) -> Self {
        self.shape = Shape::Chunked;
        self
    }
    /// Says it will send a hundred bytes, sends two, closes.
    pub(crate) fn cut() -> Self {
        Self { shape: Shape::Cut, ..Self::new(200, "[]") }
    }
    /// Takes the request and says nothing.
    pub(crate) fn never() -> Self {
        Self { shape: Shape::Never, ..Self::new(200, "") }
    }
    /// Waits before it answers.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Which answer a request gets.
enum Plan {
    InOrder(Vec<Answer>),
    ByPath(Vec<(&'static str, Answer)>),
}

impl Plan {
    fn pick(&self, at: usize, line: &str) -> Answer {
        match self {
            Self::InOrder(answers) => answers[at.min(answers.len() - 1)].clone(),
            Self::ByPath(routes) => {
                let fits = routes.iter().find(|(part, _)| line.contains(part));
                fits.map_or_else(|| Answer::new(404, r#"{"error":{"code":"NotFound"}}"#), |(_, a)| a.clone())
            }
        }
    }
}

/// The running server; it ends with the test's runtime.
pub(crate) struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts with `answers`; the last one is given again and again. `{base}` in a header or body
    /// becomes the server's own address.
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        Self::run(Plan::InOrder(answers)).await
    }

    /// Starts with one answer for each kind of request: the first whose text the request line holds.
    pub(crate) async fn by_path(routes: Vec<(&'static str, Answer)>) -> Self {
        Self::run(Plan::ByPath(routes)).await
    }

    async fn run(plan: Plan) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let state = (Arc::clone(&seen), Arc::new(plan));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move { serve(stream, state.0, state.1, port).await });
            }
        });
        Self { port, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, plan: Arc<Plan>, port: u16) {
    let Some(request) = read(&mut stream).await else { return };
    let answer = {
        let mut seen = seen.lock().unwrap();
        let answer = plan.pick(seen.len(), &request.line);
        seen.push(request);
        answer
    };
    tokio::time::sleep(answer.delay).await;
    let base = format!("http://127.0.0.1:{port}");
    let body = answer.body.replace("{base}", &base);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {}\r\n", value.replace("{base}", &base)));
    }
    let text = match answer.shape {
        Shape::Whole => format!("{head}content-length: {}\r\n\r\n{body}", body.len()),
        Shape::Chunked => {
            format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
        }
        Shape::Cut => format!("{head}content-length: 100\r\n\r\n{body}"),
        Shape::Never => {
            // Held open until the client goes away.
            let _ = stream.read(&mut [0_u8; 1]).await;
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut part = [0_u8; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let n = stream.read(&mut part).await.ok()?;
        if n == 0 {
            return None;
        }
        bytes.extend_from_slice(&part[..n]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let line = String::from_utf8_lossy(&bytes[..end]).lines().next()?.to_owned();
    let length: usize =
        head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let n = stream.read(&mut part).await.ok()?;
        if n == 0 {
            return None;
        }
        body.extend_from_slice(&part[..n]);
    }
    Some(Seen { line, head, body: String::from_utf8(body).unwrap() })
}
