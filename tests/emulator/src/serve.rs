//! Listeners and connections: accept, speak HTTP/1.1 or HTTP/2, hand each request to its service with the
//! scripted fault in between. Ending the accept task ends every connection it made.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::call::{self, Call};
use crate::faults::{Fault, Service};
use crate::record::Seen;
use crate::state::Emulated;
use crate::{arm, entra, graph, himds, imds, pdp};

/// Which door a request came in by.
#[derive(Clone)]
pub(crate) enum Door {
    /// The TLS listener: the service follows from host and path.
    Web,
    /// A listener of one service.
    One(Service),
    /// The control API.
    Control(Router),
}

/// A connection to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("scripted: connection closed")]
struct HangUp;

/// Serve TLS connections for ever.
pub(crate) async fn tls(listener: TcpListener, config: Arc<ServerConfig>, app: Emulated) {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, app) = (acceptor.clone(), app.clone());
        connections.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                connection(stream, Door::Web, app).await;
            }
        });
    }
}

/// Serve plain TCP connections for ever.
pub(crate) async fn plain(listener: TcpListener, door: Door, app: Emulated) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(connection(stream, door.clone(), app.clone()));
    }
}

/// Serve the control socket for ever.
pub(crate) async fn unix(listener: UnixListener, door: Door, app: Emulated) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(connection(stream, door.clone(), app.clone()));
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    door: Door,
    app: Emulated,
) {
    let service = tower::service_fn(move |request: Request<_>| {
        let (door, app) = (door.clone(), app.clone());
        async move { answer(&app, door, request.map(Body::new)).await }
    });
    // A client that goes away mid-request is its own business.
    let _ = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
}

async fn answer(app: &Emulated, door: Door, request: Request<Body>) -> Result<Response, HangUp> {
    if let Door::Control(router) = door {
        let Ok(response) = router.oneshot(request).await.map_err(|never: Infallible| match never {});
        return Ok(response);
    }
    let call = Call::read(request).await.ok_or(HangUp)?;
    let service = match door {
        Door::One(service) => service,
        _ => service_of(&call),
    };
    let open = Open::enter(app, service);
    let (number, fault) = {
        let mut world = app.world();
        let now = world.now();
        let mut seen = Seen::new(service, &call.method, &call.authority, &call.path, &call.raw_query, now);
        for (name, value) in &call.headers {
            seen.headers.insert(name.as_str().to_owned(), value.to_str().unwrap_or("").to_owned());
        }
        seen.keep_body(&call.body);
        let number = world.record.add(seen);
        (number, world.faults.strike(service, &format!("{}?{}", call.path, call.raw_query)))
    };
    let response = match fault {
        // The gate stands before everything else: a slow answer takes a place for as long as it takes.
        _ if service == Service::Imds && imds::crowded(&app.world(), &call, open.number) => imds::too_many(1),
        fault => struck(app, service, &call, fault).await?,
    };
    app.world().record.answered(number, response.status().as_u16());
    Ok(response)
}

/// A request that is being worked on, until it is answered or its connection goes.
struct Open<'a> {
    app: &'a Emulated,
    service: Service,
    number: u64,
}

impl<'a> Open<'a> {
    fn enter(app: &'a Emulated, service: Service) -> Self {
        Self { app, service, number: app.world().record.enter(service) }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.app.world().record.leave(self.service);
    }
}

async fn struck(app: &Emulated, service: Service, call: &Call, fault: Fault) -> Result<Response, HangUp> {
    match fault {
        Fault::None => {}
        Fault::Slow { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
        Fault::Status { status, retry_after, body } => {
            let response = match body {
                Some(body) => call::with_type(status, "application/json; charset=utf-8", body),
                None => call::json(
                    status,
                    &serde_json::json!({"error": {"code": "Scripted", "message": "scripted fault"}}),
                ),
            };
            return Ok(match retry_after {
                Some(seconds) => call::with_header(response, "retry-after", &seconds.to_string()),
                None => response,
            });
        }
        Fault::Garbage => {
            return Ok(call::with_type(200, "application/json", &b"<html>\xff\xfe{\"keys\": [ not json"[..]));
        }
        Fault::Huge { mib } => return Ok(call::with_type(200, "application/json", endless(mib))),
        Fault::Blackhole => std::future::pending::<()>().await,
        Fault::Close => return Err(HangUp),
    }
    Ok(match service {
        Service::Entra => entra::answer(app, call),
        Service::Pdp => pdp::answer(app, call),
        Service::Arm => arm::answer(app, call),
        Service::Graph => graph::answer(app, call),
        Service::Imds => imds::answer(app, call),
        Service::Himds => himds::answer(app, call),
    })
}

// A JSON text of `mib` MiB, made piece by piece, so that the emulator itself stays small.
fn endless(mib: u64) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(2);
    tokio::spawn(async move {
        let mut pieces = 0;
        let mut piece = Bytes::from_static(b"{\"keys\":[\"");
        while sender.send(piece).await.is_ok() && pieces < mib * 16 {
            pieces += 1;
            piece = Bytes::from(vec![b'x'; 64 * 1024]);
        }
    });
    Body::new(Pieces(receiver))
}

struct Pieces(tokio::sync::mpsc::Receiver<Bytes>);

impl axum::body::HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// The service a request on the TLS listener is for: by host, and for local names by path.
fn service_of(call: &Call) -> Service {
    let host = call.host();
    if host.contains("authorization.azure.") {
        Service::Pdp
    } else if host.starts_with("management.") {
        Service::Arm
    } else if host.starts_with("graph.") || host.starts_with("microsoftgraph.") {
        Service::Graph
    } else if host.starts_with("login.") || host.starts_with("sts.") {
        Service::Entra
    } else {
        let path = call.path.to_ascii_lowercase();
        if path == "/providers/microsoft.authorization/checkaccess" {
            Service::Pdp
        } else if path.starts_with("/subscriptions") || path.starts_with("/providers") {
            Service::Arm
        } else if path.starts_with("/v1.0/") || path.starts_with("/beta/") {
            Service::Graph
        } else {
            Service::Entra
        }
    }
}
