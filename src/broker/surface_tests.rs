//! A broker for tests of its doors: a real policy and a real cache before a source that counts, and callers
//! whose uid stands in the name of the socket that they bind.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::policy::{NameLookup, Policy};
use nightlatch_tokens::{
    Caller, Claims, Door, Failure, IdentityInfo, IdentityKind, IdentityTable, Place, Process, Token, TokenKey,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::audit::Audit;
use super::cache::{Cache, Settings};
use super::door::{Present, Recognise, Slots, Who};
use super::identity_header::BootKey;
use super::refusal::Refusal;
use super::service::{Broker, Parts};
use super::sign_in::{LoginWish, Progress, SignIn, SignInStep, SignInSteps, SignedIn};
use super::{Fetching, Source};
use crate::clock::{Clock, ManualClock};

/// What stands in every token and must stand nowhere else.
pub(super) const CANARY: &str = "CaNaRyOfTheToken";
/// When the tests begin.
pub(super) const START: Timestamp = Timestamp(1_795_300_000);
/// How long tokens of the source live, in seconds.
pub(super) const LIFE: i64 = 24 * 3_600;
/// The client id of the node's identity.
pub(super) const CLIENT_ID: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
/// Its object id.
pub(super) const OBJECT_ID: &str = "00000000-0000-4000-8000-0000000000aa";
/// Its ARM id.
pub(super) const RESOURCE_ID: &str =
    "/subscriptions/S/resourceGroups/R/providers/M/userAssignedIdentities/node";

/// The rules of the tests.
pub(super) const RULES: &str = r#"
    [[rule]]
    name = "web"
    who = { uid = [1000, 1001] }
    may = { identity = ["node"], resource = ["https://vault.azure.net"], cae = true }
    [[rule]]
    name = "slow"
    who = { uid = [2000] }
    may = { identity = ["node"], resource = ["https://vault.azure.net"], rate = "2/min" }
    [[rule]]
    name = "short"
    who = { uid = [3000] }
    may = { identity = ["node"], resource = ["https://vault.azure.net"], max_life = "15m" }
    [[rule]]
    name = "backup"
    who = { unit = ["backup.service"] }
    may = { identity = ["node"], resource = ["https://storage.azure.com"] }
"#;

struct NoNames;

impl NameLookup for NoNames {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }

    fn gid(&self, _: &str) -> Option<u32> {
        None
    }
}

/// Makes tokens, each with a number of its own.
pub(super) struct Tokens {
    pub(super) made: AtomicU32,
    pub(super) failure: Mutex<Option<Failure>>,
    clock: Clock,
}

impl Source for Tokens {
    fn fetch<'a>(&'a self, key: &'a TokenKey, _: Option<&'a Claims>) -> Fetching<'a> {
        Box::pin(async move {
            if let Some(failure) = self.failure.lock().unwrap().clone() {
                return Err(failure);
            }
            let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
            let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"uti":"uti-{number}","oid":"oid-1"}}"#));
            let cae = if key.cae { "cae" } else { "plain" };
            let text = format!("h.{payload}.{CANARY}-{cae}-{number}");
            Ok(Token::bearer(Secret::new(text), self.clock.now().plus(LIFE), None))
        })
    }

    fn circuit(&self, _: &TokenKey) -> String {
        "one".into()
    }
}

/// Anna, under uid 1000, until she is forgotten.
#[derive(Default)]
pub(super) struct Anna {
    gone: AtomicBool,
}

impl SignIn for Anna {
    fn begin(&self, uid: u32, wish: LoginWish) -> SignInSteps {
        let page = format!("https://login/?uid={uid}&port={}", wish.redirect_port.unwrap_or(0));
        let steps = [Ok(Progress::Browser { url: page }), Ok(Progress::Done(anna()))];
        Box::pin(tokio_stream::iter(steps))
    }

    fn finish<'a>(&'a self, uid: u32, redirect: &'a str) -> SignInStep<'a, ()> {
        let right = uid == 1_000 && redirect == "code=1";
        Box::pin(async move {
            if right { Ok(()) } else { Err(Refusal::bad_request("no sign-in waits for this")) }
        })
    }

    fn logout(&self, uid: u32) -> SignInStep<'_, Option<String>> {
        let was = uid == 1_000 && !self.gone.swap(true, Ordering::SeqCst);
        Box::pin(async move { Ok(was.then(|| anna().username)) })
    }

    fn person(&self, uid: u32) -> Option<SignedIn> {
        (uid == 1_000 && !self.gone.load(Ordering::SeqCst)).then(anna)
    }
}

fn anna() -> SignedIn {
    SignedIn { username: "anna@contoso.com".into(), tenant: "t".into(), object_id: "o".into() }
}

/// A broker with everything around it.
pub(super) struct Rig {
    pub(super) broker: Arc<Broker>,
    pub(super) source: Arc<Tokens>,
    pub(super) hands: Arc<ManualClock>,
    pub(super) slots: Arc<Slots>,
    pub(super) there: Arc<AtomicBool>,
    folder: tempfile::TempDir,
    sockets: AtomicU32,
    doors: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// Compiles rules.
pub(super) fn policy(rules: &str) -> Arc<Policy> {
    Arc::new(Policy::compile(&[("test.toml".into(), rules.into())], &NoNames, &identities()).unwrap())
}

fn identities() -> IdentityTable {
    let node = IdentityInfo {
        client_id: Some(CLIENT_ID.parse().unwrap()),
        object_id: Some(OBJECT_ID.parse().unwrap()),
        resource_id: Some(RESOURCE_ID.into()),
        ..IdentityInfo::new("node", IdentityKind::Managed)
    };
    IdentityTable::new(vec![node, IdentityInfo::new("acting", IdentityKind::OnBehalfOf)])
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hands = ManualClock::at(START);
        hands.advance(0);
        let clock = Clock::Manual(Arc::clone(&hands));
        let source =
            Arc::new(Tokens { made: AtomicU32::new(0), failure: Mutex::new(None), clock: clock.clone() });
        let broker = Broker::new(Parts {
            cache: Cache::new(Arc::clone(&source) as Arc<dyn Source>, clock.clone(), Settings::new(7)),
            policy: policy(RULES),
            identities: identities(),
            audit: Audit::start(folder.path().join("handouts.jsonl"), clock.clone()).unwrap(),
            people: Some(Arc::new(Anna::default())),
            pop: None,
            clock,
        });
        Self {
            broker: Arc::new(broker),
            source,
            hands,
            slots: Arc::default(),
            there: Arc::new(AtomicBool::new(true)),
            folder,
            sockets: AtomicU32::new(0),
            doors: Mutex::default(),
        }
    }

    pub(super) fn callers(&self) -> Named {
        Named { there: Arc::clone(&self.there) }
    }

    pub(super) fn listen(&self) -> (UnixListener, PathBuf) {
        let number = self.sockets.fetch_add(1, Ordering::SeqCst);
        let path = self.folder.path().join(format!("door-{number}"));
        (UnixListener::bind(&path).unwrap(), path)
    }

    /// An HTTP door; with a key it is one that demands the identity header.
    pub(super) fn http(&self, key: Option<Arc<BootKey>>) -> PathBuf {
        let (listener, path) = self.listen();
        let (broker, slots) = (Arc::clone(&self.broker), Arc::clone(&self.slots));
        let serving = super::http::serve_with(listener, self.callers(), broker, slots, key);
        self.doors.lock().unwrap().push(tokio::spawn(serving));
        path
    }

    /// A gRPC door.
    pub(super) fn grpc(&self) -> PathBuf {
        let (listener, path) = self.listen();
        let (broker, slots) = (Arc::clone(&self.broker), Arc::clone(&self.slots));
        let serving = super::grpc::serve_with(listener, self.callers(), broker, slots);
        self.doors.lock().unwrap().push(tokio::spawn(serving));
        path
    }

    /// A connection whose other end takes it for one of `uid`.
    pub(super) async fn connect(&self, door: &PathBuf, uid: u32) -> UnixStream {
        let number = self.sockets.fetch_add(1, Ordering::SeqCst);
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(self.folder.path().join(format!("c-{number}-{uid}"))).unwrap();
        socket.connect(door).await.unwrap()
    }

    /// Sends bytes as `uid` and reads until the answer is whole or the connection is closed.
    pub(super) async fn raw(&self, door: &PathBuf, uid: u32, bytes: &str) -> Reply {
        let mut stream = self.connect(door, uid).await;
        ask(&mut stream, bytes).await.expect("an answer")
    }

    /// The file of events as it is now.
    pub(super) fn written(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("handouts.jsonl")).unwrap_or_default()
    }

    /// Every line of the file of events, once the writer has written its last.
    pub(super) async fn events(self) -> String {
        let Self { broker, folder, doors, .. } = self;
        let left = Arc::downgrade(&broker);
        doors.into_inner().unwrap().into_iter().for_each(|door| door.abort());
        drop(broker);
        while left.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        // The writer's last words are the counts of what was repeated.
        let path = folder.path().join("handouts.jsonl");
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("\"outcome\":\"repeated\"") {
                return text;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }
}

/// Sends a request and reads one answer with a Content-Length; none when the connection ends first.
pub(super) async fn ask(stream: &mut UnixStream, bytes: &str) -> Option<Reply> {
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut read = Vec::new();
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").expect("Content-Length").parse().unwrap();
    let length = if bytes.starts_with("HEAD") { 0 } else { length };
    while read.len() < head_end + 4 + length {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(read[head_end + 4..].to_vec()).unwrap();
    Some(Reply { status, headers, body })
}

/// Takes the uid from the name of the client's own socket.
pub(super) struct Named {
    there: Arc<AtomicBool>,
}

/// A caller by name.
struct ByName {
    caller: Caller,
    there: Arc<AtomicBool>,
}

impl Present for ByName {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn still_there(&self) -> bool {
        self.there.load(Ordering::SeqCst)
    }
}

impl Recognise<UnixStream> for Named {
    fn uid(&self, stream: &UnixStream) -> io::Result<u32> {
        let address = stream.peer_addr()?;
        let name = address.as_pathname().and_then(|path| path.to_str()).unwrap_or_default();
        name.rsplit('-').next().and_then(|uid| uid.parse().ok()).ok_or_else(|| io::Error::other("no uid"))
    }

    fn who(&self, stream: &UnixStream) -> Who {
        let uid = self.uid(stream).map_err(|cause| cause.to_string())?;
        if uid == 4_040 {
            return Err("the kernel did not say who this is".into());
        }
        Ok(Arc::new(ByName { caller: caller(uid), there: Arc::clone(&self.there) }))
    }
}

/// A caller on the node.
pub(super) fn caller(uid: u32) -> Caller {
    let process = Process { pid: 7, start: 1, unit: Some("web.service".into()), slice: None, pod: None };
    Caller {
        uid,
        gid: None,
        groups: Vec::new(),
        door: Door::Imds,
        place: Place::Host,
        process: Some(process),
        header_unit: None,
    }
}
