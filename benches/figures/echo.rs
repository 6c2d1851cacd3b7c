//! The floors of the token rows: axum and tonic with nothing behind them, as many runtime threads as the
//! daemon has, on sockets in the same node. They give what the broker itself gave once, byte for byte, to
//! anybody and without a look at who asks.

use std::os::unix::net::UnixListener as BoundListener;
use std::pin::Pin;

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use nightlatch::broker::v1;
use nightlatch::broker::v1::token_broker_server::{TokenBroker, TokenBrokerServer};
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::fetches::{BROKER, Grpc, IMDS, Kept, PATH, VAULT};

/// The floor's sockets, in the runtime folder of its service.
pub(crate) const HTTP: &str = "/run/bench-echo/http.sock";
pub(crate) const GRPC: &str = "/run/bench-echo/grpc.sock";
/// As many as nightlatchd has.
const THREADS: usize = 2;

/// Serves until it is ended.
///
/// # Errors
/// When the broker gives no token, or a socket cannot be bound.
pub(crate) fn serve() -> Result<(), String> {
    let (_, body) = Kept::open(IMDS, VAULT)?.body()?;
    let body = Bytes::from(body);
    let token = Grpc::open(BROKER)?.token(VAULT)?;
    let bind = |path: &str| {
        let listener = BoundListener::bind(path).map_err(|why| format!("{path}: {why}"))?;
        listener.set_nonblocking(true).map_err(|why| why.to_string())?;
        Ok::<_, String>(listener)
    };
    // The last socket that appears says that both are served.
    let (http, grpc) = (bind(HTTP)?, bind(GRPC)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    runtime.map_err(|why| why.to_string())?.block_on(async {
        let adopt = |listener| UnixListener::from_std(listener).map_err(|why| why.to_string());
        let json = [("content-type", "application/json; charset=utf-8"), ("cache-control", "no-store")];
        let echo = move || async move { (json, body.clone()) };
        let router = Router::new().route(PATH, get(echo));
        let http = tokio::spawn(axum::serve(adopt(http)?, router).into_future());
        let incoming = UnixListenerStream::new(adopt(grpc)?);
        let service = TokenBrokerServer::new(Echo { token });
        let grpc = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        let grpc = tokio::spawn(grpc);
        let _ = tokio::join!(http, grpc);
        Err("the floor ended".to_owned())
    })
}

/// The floor of a start: says that it is ready and waits for its end.
///
/// # Errors
/// When systemd does not listen.
pub(crate) fn ready() -> Result<(), String> {
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).map_err(|why| why.to_string())?;
    loop {
        std::thread::park();
    }
}

struct Echo {
    token: v1::AccessToken,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this is a floor"))
}

#[tonic::async_trait]
impl TokenBroker for Echo {
    type WatchTokenStream = Streamed<v1::AccessToken>;
    type BeginLoginStream = Streamed<v1::LoginProgress>;

    async fn get_token(&self, _: Request<v1::GetTokenRequest>) -> Result<Response<v1::AccessToken>, Status> {
        Ok(Response::new(self.token.clone()))
    }

    async fn watch_token(
        &self,
        _: Request<v1::GetTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        no()
    }

    async fn get_pop_token(
        &self,
        _: Request<v1::GetPopTokenRequest>,
    ) -> Result<Response<v1::AccessToken>, Status> {
        no()
    }

    async fn list_identities(
        &self,
        _: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesReply>, Status> {
        no()
    }

    async fn begin_login(
        &self,
        _: Request<v1::BeginLoginRequest>,
    ) -> Result<Response<Self::BeginLoginStream>, Status> {
        no()
    }

    async fn finish_login(
        &self,
        _: Request<v1::FinishLoginRequest>,
    ) -> Result<Response<v1::FinishLoginReply>, Status> {
        no()
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutReply>, Status> {
        no()
    }

    async fn who_am_i(&self, _: Request<v1::WhoAmIRequest>) -> Result<Response<v1::WhoAmIReply>, Status> {
        no()
    }

    async fn explain(
        &self,
        _: Request<v1::GetTokenRequest>,
    ) -> Result<Response<v1::ExplainTokenReply>, Status> {
        no()
    }

    async fn list_tokens(
        &self,
        _: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensReply>, Status> {
        no()
    }
}
