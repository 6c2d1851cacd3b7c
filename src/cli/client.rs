//! The way to the daemon: gRPC over admin.sock.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::agent::admin::v1::admin_client::AdminClient;

/// Where the daemon listens for root.
const ADMIN_SOCKET: &str = "/run/nightlatch/admin.sock";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why the daemon could not be asked.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    /// No right to the socket.
    #[error("only root may ask: run it with sudo")]
    NotRoot,
    /// No daemon.
    #[error("nightlatchd does not answer on {ADMIN_SOCKET}; see `systemctl status nightlatchd`")]
    Unreachable(#[source] tonic::transport::Error),
    /// The runtime did not start.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// The daemon's own words.
    #[error("{0}")]
    Refused(String),
}

/// Asks one question.
pub(super) fn ask<T, F>(question: impl FnOnce(AdminClient<Channel>) -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let socket = Path::new(ADMIN_SOCKET);
    if let Err(cause) = std::os::unix::net::UnixStream::connect(socket)
        && cause.kind() == std::io::ErrorKind::PermissionDenied
    {
        return Err(ClientError::NotRoot);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)?;
    runtime.block_on(async {
        let connect = service_fn(move |_: tonic::transport::Uri| async move {
            UnixStream::connect(socket).await.map(TokioIo::new)
        });
        let channel = Endpoint::from_static("http://nightlatchd")
            .timeout(TIMEOUT)
            .connect_with_connector(connect)
            .await
            .map_err(ClientError::Unreachable)?;
        let answer = question(AdminClient::new(channel)).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| ClientError::Refused(status.message().to_owned()))
    })
}
