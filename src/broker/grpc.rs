//! broker.sock: the protocol of `proto/nightlatch/broker/v1` over HTTP/2. Types of tonic stay in here and
//! in the files whose names begin like this one's.
//!
//! Everybody may connect, so everything is bounded: connections, streams, messages, heads, and how long a
//! peer may be silent. What a caller says about itself counts for nothing; it is the one the kernel named
//! when the connection was made, and is looked for again at each question.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_tokens::{Ask, Caller, Door};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use tracing::error;

use super::door::{Listen, Present, Recognise, Slot, Slots, Who, admit};
use super::grpc_words as words;
use super::kernel::Socket;
use super::pace::Paced;
use super::refusal::Refusal;
use super::service::Broker;
use super::v1;
use super::v1::token_broker_server::{TokenBroker, TokenBrokerServer};
use super::watching::Watching;

/// The largest question, in bytes: claims, scopes and names at their longest, or what a browser brought back.
pub const MAX_QUESTION_BYTES: usize = 16 * 1024;
/// The largest answer, in bytes: the list of all tokens for root is the longest.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The most questions and watches at once on one connection.
pub const MAX_STREAMS: u32 = 64;
/// The most questions of one connection that are read and answered at once; the others wait in its windows.
const AT_ONCE: usize = 16;
/// From the head of a question to its answer, or to the first answer of a watch: longer than the longest wait
/// for a source. Without it a question that never becomes whole would be kept as long as its connection.
const WORK: Duration = super::pace::WORK;
/// The largest head of a question, in bytes.
const MAX_HEAD_BYTES: u32 = 4 * 1024;
/// How much of a question may be under way, in bytes: one stream, and a whole connection. What is read of a
/// question that is not whole yet is kept beside that, [`AT_ONCE`] times. Everybody may connect, and the memory
/// is that of the daemon that decides logins.
const WINDOWS: (u32, u32) = (16 * 1024, 64 * 1024);
/// How long a peer may be silent before it is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Connections that wait for the server to take them.
const MAX_WAITING: usize = 16;
/// Tokens of a watch that wait for the client; more are not fetched.
const MAX_WAITING_TOKENS: usize = 1;

/// Serves broker.sock until the task is dropped.
pub async fn serve(listener: UnixListener, broker: Arc<Broker>, slots: Arc<Slots>) {
    serve_with(listener, Socket(Door::Broker), broker, slots).await;
}

/// Serves a listener whose callers `recognise` names.
pub(super) async fn serve_with<L: Listen>(
    listener: L,
    recognise: impl Recognise<L::Stream>,
    broker: Arc<Broker>,
    slots: Arc<Slots>,
) {
    let (accepted, incoming) = mpsc::channel(MAX_WAITING);
    let door = Arc::clone(&broker);
    let accepting = async move {
        let recognise = Arc::new(recognise);
        loop {
            let (stream, slot) = admit(&listener, &*recognise, &slots, door.audit()).await;
            let (recognise, accepted) = (Arc::clone(&recognise), accepted.clone());
            // Asking the kernel takes a moment, and must not hold up the next in line.
            tokio::spawn(async move {
                let who = Arc::new(recognise.who(&stream));
                let _ = accepted
                    .send(Ok::<_, std::io::Error>(Guarded {
                        stream: Paced::greeting(stream),
                        who,
                        _slot: slot,
                    }))
                    .await;
            });
        }
    };
    let service = TokenBrokerServer::new(Surface { broker })
        .max_decoding_message_size(MAX_QUESTION_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<TokenBrokerServer<Surface>>().await;
    let serving = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .concurrency_limit_per_connection(AT_ONCE)
        .timeout(WORK)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .http2_max_header_list_size(MAX_HEAD_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .add_service(health_service)
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::select! {
        () = accepting => {}
        served = serving => {
            if let Err(cause) = served {
                error!("broker.sock is no longer served: {cause}");
            }
        }
    }
}

/// A connection with its caller and its place.
struct Guarded<S> {
    stream: Paced<S>,
    who: Arc<Who>,
    _slot: Slot,
}

impl<S> Connected for Guarded<S> {
    type ConnectInfo = Arc<Who>;

    fn connect_info(&self) -> Arc<Who> {
        Arc::clone(&self.who)
    }
}

impl<S: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The verbs.
struct Surface {
    broker: Arc<Broker>,
}

/// The caller of a question, when the very process that connected is still there.
fn caller_of<T>(request: &Request<T>) -> Result<Arc<dyn Present>, Status> {
    match request.extensions().get::<Arc<Who>>().map(Arc::as_ref) {
        None => Err(words::status(&Refusal::unknown_caller("the connection has no caller"), None)),
        Some(Err(sentence)) => Err(words::status(&Refusal::unknown_caller(sentence.as_str()), None)),
        Some(Ok(present)) if !present.still_there() => {
            let gone =
                Refusal::unknown_caller("the process that made this connection is gone; connect again");
            Err(words::status(&gone, Some(present.caller())))
        }
        Some(Ok(present)) => Ok(Arc::clone(present)),
    }
}

fn bad(caller: &Caller) -> impl Fn(Refusal) -> Status + '_ {
    move |refusal| words::status(&refusal, Some(caller))
}

impl Surface {
    async fn hand_out(&self, caller: &Caller, ask: &Ask) -> Result<Response<v1::AccessToken>, Status> {
        let given = self.broker.get(caller, ask).await.map_err(bad(caller))?;
        Ok(Response::new(words::access_token(&given, &self.broker)))
    }
}

#[tonic::async_trait]
impl TokenBroker for Surface {
    type WatchTokenStream = Pin<Box<dyn Stream<Item = Result<v1::AccessToken, Status>> + Send>>;
    type BeginLoginStream = Pin<Box<dyn Stream<Item = Result<v1::LoginProgress, Status>> + Send>>;

    async fn get_token(
        &self,
        request: Request<v1::GetTokenRequest>,
    ) -> Result<Response<v1::AccessToken>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let ask = words::ask(request.get_ref()).map_err(bad(caller))?;
        self.hand_out(caller, &ask).await
    }

    async fn watch_token(
        &self,
        request: Request<v1::GetTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let ask = words::ask(request.get_ref()).map_err(bad(caller))?;
        let mut watching = Watching::new(Arc::clone(&self.broker), caller.clone(), ask);
        // The first one decides whether there is a watch at all.
        let first = match watching.next().await {
            Some(first) => first.map_err(bad(caller))?,
            None => return Err(Status::internal("a watch ended before it began")),
        };
        let (tokens, stream) = mpsc::channel(MAX_WAITING_TOKENS);
        let (present, broker) = (Arc::clone(&present), Arc::clone(&self.broker));
        tokio::spawn(async move {
            let mut next = Some(Ok(first));
            while let Some(given) = next {
                let given = match given {
                    Ok(_) if !present.still_there() => {
                        Err(Refusal::unknown_caller("the process that began this watch is gone"))
                    }
                    given => given,
                };
                let last = given.is_err();
                let given = given.map(|given| words::access_token(&given, &broker));
                let sent = tokens.send(given.map_err(bad(present.caller()))).await;
                if last || sent.is_err() {
                    return;
                }
                next = tokio::select! {
                    next = watching.next() => next,
                    () = tokens.closed() => None,
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream)) as Self::WatchTokenStream))
    }

    async fn get_pop_token(
        &self,
        request: Request<v1::GetPopTokenRequest>,
    ) -> Result<Response<v1::AccessToken>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let ask = words::pop_ask(request.get_ref()).map_err(bad(caller))?;
        self.hand_out(caller, &ask).await
    }

    async fn list_identities(
        &self,
        request: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesReply>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let identities = self.broker.granted(caller).into_iter().map(words::identity).collect();
        Ok(Response::new(v1::ListIdentitiesReply { identities }))
    }

    async fn begin_login(
        &self,
        request: Request<v1::BeginLoginRequest>,
    ) -> Result<Response<Self::BeginLoginStream>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let wish = words::login_wish(request.get_ref()).map_err(bad(caller))?;
        let steps = self.broker.begin_login(caller, wish).map_err(bad(caller))?;
        let steps = steps.map(|step| match step {
            Ok(step) => Ok(words::progress(step)),
            Err(refusal) => Err(words::status(&refusal, None)),
        });
        Ok(Response::new(Box::pin(steps) as Self::BeginLoginStream))
    }

    async fn finish_login(
        &self,
        request: Request<v1::FinishLoginRequest>,
    ) -> Result<Response<v1::FinishLoginReply>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        self.broker.finish_login(caller, &request.get_ref().redirect).await.map_err(bad(caller))?;
        Ok(Response::new(v1::FinishLoginReply {}))
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutReply>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let username = self.broker.logout(caller).await.map_err(bad(caller))?;
        Ok(Response::new(v1::LogoutReply { username: username.unwrap_or_default() }))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIReply>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        Ok(Response::new(words::who_am_i(caller, self.broker.who_am_i(caller))))
    }

    async fn explain(
        &self,
        request: Request<v1::GetTokenRequest>,
    ) -> Result<Response<v1::ExplainTokenReply>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let ask = words::ask(request.get_ref()).map_err(bad(caller))?;
        let seen = words::who_am_i(caller, self.broker.who_am_i(caller));
        Ok(Response::new(words::explanation(self.broker.explain(caller, &ask), seen)))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensReply>, Status> {
        let present = caller_of(&request)?;
        let caller = present.caller();
        let tokens = self.broker.tokens(caller).into_iter().map(words::kept_token).collect();
        Ok(Response::new(v1::ListTokensReply { tokens }))
    }
}
