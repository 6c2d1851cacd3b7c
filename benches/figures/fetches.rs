//! What runs inside the node as a service with a unit of its own: fetches the same token from the broker and
//! from its floors, on kept connections, on new ones, with many at once, and through the credential plugin.
//!
//! The HTTP client is a blocking socket and nothing more, so that the server is most of what is timed; the
//! gRPC client is tonic, which the broker's own command line uses.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nightlatch::broker::v1::token_broker_client::TokenBrokerClient;
use nightlatch::broker::v1::{AccessToken, GetTokenRequest};
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::echo;
use crate::pairs::{FLOOR, Paired, Plan, measure, median, micros, of_runs, p99};

/// The broker's sockets.
pub(crate) const IMDS: &str = "/run/nightlatch/imds.sock";
pub(crate) const BROKER: &str = "/run/nightlatch/broker.sock";
pub(crate) const PATH: &str = "/metadata/identity/oauth2/token";
pub(crate) const VAULT: &str = "https://vault.azure.net";
/// The server application of AKS, which the credential plugin asks for.
pub(crate) const AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
/// The credential plugin, its floor, and what kubectl tells it.
const PLUGIN: &str = "/usr/bin/nightlatch";
pub(crate) const PLUGIN_FLOOR: &str = "/usr/libexec/nightlatch/token-floor";
const EXEC_INFO: &str = "{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\
                         \"spec\":{\"interactive\":false}}";
/// A head that is longer than this is no answer of ours.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Fetches on a new connection before the first that counts.
const WARM_UP: usize = 20;
/// After so many rounds all connections are made anew: on which of a server's threads a connection ends up
/// decides how fast it is, and one draw of that lot would stand for a whole run.
const ROUNDS_OF_A_CONNECTION: usize = 50;

/// An HTTP/1.1 connection that is kept, with its question.
pub(crate) struct Kept {
    stream: UnixStream,
    question: Vec<u8>,
    read: Vec<u8>,
}

impl Kept {
    pub(crate) fn open(socket: &str, resource: &str) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|why| format!("{socket}: {why}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(|why| why.to_string())?;
        let mut kept = Self { stream, question: Vec::new(), read: vec![0; 64 * 1024] };
        kept.ask_for(resource);
        Ok(kept)
    }

    fn ask_for(&mut self, resource: &str) {
        self.question = format!(
            "GET {PATH}?api-version=2018-02-01&resource={resource} HTTP/1.1\r\nHost: localhost\r\n\
             Metadata: true\r\n\r\n"
        )
        .into_bytes();
    }

    /// One fetch: where in what was read the body is.
    fn once(&mut self) -> Result<std::ops::Range<usize>, String> {
        self.stream.write_all(&self.question).map_err(|why| why.to_string())?;
        let (mut have, mut whole) = (0, None);
        loop {
            let got = self.stream.read(&mut self.read[have..]).map_err(|why| why.to_string())?;
            if got == 0 {
                return Err("the connection was closed before the answer was whole".to_owned());
            }
            have += got;
            if whole.is_none() {
                whole = body_of(&self.read[..have])?;
            }
            match &whole {
                Some(body) if have >= body.end => return Ok(body.clone()),
                None if have > MAX_HEAD_BYTES => return Err("the answer's head does not end".to_owned()),
                _ => {}
            }
        }
    }

    /// One fetch with its time in microseconds.
    pub(crate) fn body(&mut self) -> Result<(f64, Vec<u8>), String> {
        let (took, body) = micros(|| self.once());
        Ok((took, self.read[body?].to_vec()))
    }

    fn timed(&mut self) -> Result<f64, String> {
        let (took, body) = micros(|| self.once());
        body.map(|_| took)
    }
}

/// Where the body is, once the head is whole. Only 200 with a length is taken.
fn body_of(answer: &[u8]) -> Result<Option<std::ops::Range<usize>>, String> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end]).map_err(|why| why.to_string())?;
    let mut lines = head.split("\r\n");
    if lines.next() != Some("HTTP/1.1 200 OK") {
        return Err(format!("no token: {}", String::from_utf8_lossy(answer)));
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let length = length.ok_or("the answer has no length")?;
    Ok(Some(end + 4..end + 4 + length))
}

/// A kept gRPC connection on a runtime of one thread.
pub(crate) struct Grpc {
    runtime: tokio::runtime::Runtime,
    client: TokenBrokerClient<Channel>,
}

impl Grpc {
    pub(crate) fn open(socket: &'static str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| why.to_string())?;
        let connector = tower::service_fn(move |_: Uri| async move {
            tokio::net::UnixStream::connect(socket).await.map(TokioIo::new)
        });
        let endpoint = Endpoint::from_static("http://bench");
        let channel = runtime.block_on(endpoint.connect_with_connector(connector));
        let client = TokenBrokerClient::new(channel.map_err(|why| format!("{socket}: {why}"))?);
        Ok(Self { runtime, client })
    }

    pub(crate) fn token(&mut self, resource: &str) -> Result<AccessToken, String> {
        let request = GetTokenRequest { resource: resource.to_owned(), ..GetTokenRequest::default() };
        let answer = self.runtime.block_on(self.client.get_token(request));
        answer.map(tonic::Response::into_inner).map_err(|why| why.to_string())
    }

    fn timed(&mut self) -> Result<f64, String> {
        let (took, token) = micros(|| self.token(VAULT));
        token.map(|_| took)
    }
}

/// How many single fetches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) plan: Plan,
}

/// What single fetches came to, in microseconds; the floor first, and again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) http: Paired,
    pub(crate) grpc: Paired,
    pub(crate) fresh: Paired,
    pub(crate) fresh_p99: Paired,
    pub(crate) body_bytes: usize,
}

/// Single fetches, one at a time: over kept HTTP and gRPC connections, and each over a new connection.
///
/// # Errors
/// When somebody does not give the token.
pub(crate) fn latency() -> Result<(), String> {
    let Latency { plan } = crate::told()?;
    let sockets = [echo::HTTP, echo::HTTP, IMDS];
    let mut kept: [Option<Kept>; 3] = [None, None, None];
    let http = measure(plan, 3, |program, round| {
        let connection = &mut kept[program];
        if round % ROUNDS_OF_A_CONNECTION == 0 || connection.is_none() {
            let mut new = Kept::open(sockets[program], VAULT)?;
            (0..WARM_UP).try_for_each(|_| new.timed().map(drop))?;
            *connection = Some(new);
        }
        connection.as_mut().ok_or("no connection")?.timed()
    })?;
    let mut kept = kept.into_iter().flatten().collect::<Vec<_>>();
    // The floor was told the broker's answer: the numbers of seconds in it may have lost a digit.
    let sizes = [kept[0].once()?.len(), kept[2].once()?.len()];
    if sizes[0].abs_diff(sizes[1]) > 4 {
        return Err(format!("the floor's answer has {} bytes, the broker's {}", sizes[0], sizes[1]));
    }
    drop(kept);

    let mut kept: [Option<Grpc>; 3] = [None, None, None];
    let grpc = measure(plan, 3, |program, round| {
        let connection = &mut kept[program];
        if round % ROUNDS_OF_A_CONNECTION == 0 || connection.is_none() {
            let mut new = Grpc::open([echo::GRPC, echo::GRPC, BROKER][program])?;
            (0..WARM_UP).try_for_each(|_| new.timed().map(drop))?;
            *connection = Some(new);
        }
        connection.as_mut().ok_or("no connection")?.timed()
    })?;
    drop(kept);

    let mut all = vec![Vec::new(); 3];
    let fresh = measure(plan, 3, |program, _| {
        let (took, kept) = micros(|| {
            let mut kept = Kept::open(sockets[program], VAULT)?;
            kept.once().map(|_| kept)
        });
        kept?;
        all[program].push(took);
        Ok(took)
    })?;
    let tails = all.iter_mut().map(|of| of.chunks_mut(plan.rounds).map(p99).collect()).collect::<Vec<_>>();
    crate::say(&Latencies { http, grpc, fresh, fresh_p99: of_runs(&tails), body_bytes: sizes[1] })
}

/// Many at once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Crowd {
    pub(crate) plan: Plan,
    /// Connections, each with a thread of its own.
    pub(crate) clients: usize,
    pub(crate) window_ms: u64,
    /// The floor and the daemon.
    pub(crate) pids: [u32; 2],
}

/// Fetches per second, and fetches per second that the server's threads ran.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) rate: Paired,
    pub(crate) per_core: Paired,
}

/// As many fetches as there can be over kept connections.
///
/// # Errors
/// When somebody does not give the token.
pub(crate) fn rate() -> Result<(), String> {
    let task: Crowd = crate::told()?;
    let mut windows = vec![Vec::new(); 3];
    let rate = measure(task.plan, 3, |program, _| {
        let (socket, pid) = match program {
            2 => (IMDS, task.pids[1]),
            _ => (echo::HTTP, task.pids[0]),
        };
        let before = ran(pid)?;
        let (count, took) = crowd(socket, task.clients, Duration::from_millis(task.window_ms))?;
        let ran = ran(pid)?.saturating_sub(before);
        windows[program].push(count / ran.as_secs_f64());
        Ok(count / took)
    })?;
    let runs = |of: &mut Vec<f64>| of.chunks_mut(task.plan.rounds).map(median).collect();
    let per_core = windows.iter_mut().map(runs).collect::<Vec<_>>();
    crate::say(&Rates { rate, per_core: of_runs(&per_core) })
}

/// How many fetches there were in how many seconds.
fn crowd(socket: &str, clients: usize, window: Duration) -> Result<(f64, f64), String> {
    let mut kept = Vec::new();
    for _ in 0..clients {
        let mut one = Kept::open(socket, VAULT)?;
        one.once()?;
        kept.push(one);
    }
    let start = Instant::now();
    let counts: Result<Vec<u32>, String> = std::thread::scope(|scope| {
        let client = |mut kept: Kept| {
            let mut count = 0_u32;
            while start.elapsed() < window {
                kept.once()?;
                count += 1;
            }
            Ok(count)
        };
        let running: Vec<_> = kept.into_iter().map(|kept| scope.spawn(move || client(kept))).collect();
        running.into_iter().map(|one| one.join().map_err(|_| "a client broke".to_owned())?).collect()
    });
    Ok((f64::from(counts?.iter().sum::<u32>()), start.elapsed().as_secs_f64()))
}

/// How long all threads of a process have run (`/proc/PID/task/TID/schedstat`, its first number).
fn ran(pid: u32) -> Result<Duration, String> {
    let folder = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&folder).map_err(|why| format!("{folder}: {why}"))?;
    let mut nanos = 0;
    for thread in threads.flatten() {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    if nanos > 0 { Ok(Duration::from_nanos(nanos)) } else { Err(format!("{folder} counts nothing")) }
}

/// Different resources to fetch once each, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Many {
    pub(crate) resources: Vec<String>,
}

/// Fetches each once; says how many bytes the answers had together.
///
/// # Errors
/// When one is not given.
pub(crate) fn many() -> Result<(), String> {
    let task: Many = crate::told()?;
    let mut kept = Kept::open(IMDS, VAULT)?;
    let mut bytes = 0;
    for resource in &task.resources {
        kept.ask_for(resource);
        bytes += kept.once().map_err(|why| format!("{resource}: {why}"))?.len();
    }
    crate::say(&bytes)
}

/// The credential plugin from spawn to exit, in milliseconds, as kubectl runs it.
///
/// # Errors
/// When a program prints no token.
pub(crate) fn process() -> Result<(), String> {
    let plan: Plan = crate::told()?;
    let one = |program: usize| -> Result<f64, String> {
        let mut command = if program == 2 {
            let mut command = Command::new(PLUGIN);
            command.args(["kubelogin", "get-token", "--login", "msi", "--server-id", AKS]);
            command
        } else {
            let mut command = Command::new(PLUGIN_FLOOR);
            command.arg(AKS);
            command
        };
        command.env("KUBERNETES_EXEC_INFO", EXEC_INFO).stdin(Stdio::null());
        let (took, done) = micros(|| command.output());
        let done = done.map_err(|why| why.to_string())?;
        // All of these tokens are signed JSON: `eyJ` begins each.
        if done.status.success() && done.stdout.windows(4).any(|four| four == b"\"eyJ") {
            return Ok(took / 1_000.0);
        }
        Err(format!("program {program}: {done:?}"))
    };
    for _ in 0..5 {
        one(FLOOR)?;
        one(2)?;
    }
    crate::say(&measure(plan, 3, |program, _| one(program))?)
}
