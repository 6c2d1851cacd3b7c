//! The way to the broker: gRPC over broker.sock, which everybody may open.
//!
//! The client checks the server before it believes it: the socket's other end was bound by root, and
//! the folder is root's alone, so that nobody else can have put a socket there.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::service_fn;

use crate::broker::v1::token_broker_client::TokenBrokerClient;

use super::super::output::{NO, UNKNOWN, USAGE};

/// Where the broker listens.
const BROKER_SOCKET: &str = "/run/nightlatch/broker.sock";
/// How long making the connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum BrokerError {
    /// No daemon, or the broker is off.
    #[error(
        "the broker does not answer on {BROKER_SOCKET} ({0}); see `systemctl status nightlatchd` and \
         `broker.enabled`"
    )]
    Unreachable(String),
    /// Somebody else sits on the socket.
    #[error(
        "{BROKER_SOCKET} does not belong to root ({0}): somebody may pose as the broker; nothing was sent"
    )]
    Impostor(String),
    /// The runtime did not start.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// The broker's own words.
    #[error("{message}")]
    Refused {
        /// The sentence.
        message: String,
        /// The stable word.
        reason: String,
        /// The claims that a new sign-in must carry.
        claims: Option<String>,
        /// The exit status that says the same.
        exit: u8,
    },
}

impl BrokerError {
    /// The exit status: 1 for a no, 2 for a wrong question, 3 when it could not be found out.
    pub(crate) const fn exit(&self) -> u8 {
        match self {
            Self::Refused { exit, .. } => *exit,
            _ => UNKNOWN,
        }
    }

    /// The stable word of a refusal.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Refused { reason, .. } => reason,
            _ => "broker_unreachable",
        }
    }
}

impl From<Status> for BrokerError {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let exit = match status.code() {
            // Somebody has to change a setting: that is a no, and trying again changes nothing.
            Code::Internal if info.as_ref().is_some_and(|info| info.reason == "source_refused") => NO,
            Code::PermissionDenied | Code::FailedPrecondition | Code::NotFound => NO,
            Code::InvalidArgument => USAGE,
            _ => UNKNOWN,
        };
        let (reason, claims) = info.map_or_else(
            || ("internal".to_owned(), None),
            |info| (info.reason, info.metadata.get("claims").cloned()),
        );
        Self::Refused { message: status.message().to_owned(), reason, claims, exit }
    }
}

fn check_server() -> Result<(), BrokerError> {
    let folder = Path::new(BROKER_SOCKET).parent().unwrap_or_else(|| Path::new("/"));
    let about = std::fs::metadata(folder).map_err(|cause| BrokerError::Unreachable(cause.to_string()))?;
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err(BrokerError::Impostor("its folder can be written by others".to_owned()));
    }
    Ok(())
}

async fn connect() -> Result<UnixStream, std::io::Error> {
    let stream = UnixStream::connect(BROKER_SOCKET).await?;
    let server = getsockopt(&stream, PeerCredentials).map_err(std::io::Error::from)?;
    if server.uid() != 0 {
        return Err(std::io::Error::other(format!("it was bound by uid {}", server.uid())));
    }
    Ok(stream)
}

/// Runs `work` with a client of the broker.
///
/// # Errors
/// When the broker cannot be reached, is not the node's own, or refuses.
pub(crate) fn with_broker<T, F>(work: impl FnOnce(TokenBrokerClient<Channel>) -> F) -> Result<T, BrokerError>
where
    F: Future<Output = Result<T, BrokerError>>,
{
    check_server()?;
    on_runtime(async {
        let connector = service_fn(|_: tonic::transport::Uri| async { connect().await.map(TokioIo::new) });
        let channel = Endpoint::from_static("http://nightlatchd")
            .connect_timeout(CONNECT_TIMEOUT)
            .connect_with_connector(connector)
            .await
            .map_err(|cause| unreachable(&cause))?;
        work(TokenBrokerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)).await
    })
}

/// Runs it to its end and no longer: a browser that never came may still be waited for, in a thread whose wait
/// nobody waits for.
fn on_runtime<T>(work: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BrokerError::Runtime)?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// The deepest sentence says most.
fn unreachable(error: &tonic::transport::Error) -> BrokerError {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(inner) = deepest.source() {
        deepest = inner;
    }
    let words = deepest.to_string();
    if words.starts_with("it was bound by") {
        BrokerError::Impostor(words)
    } else {
        BrokerError::Unreachable(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_keeps_its_word_and_its_exit_status() {
        let details = ErrorDetails::with_error_info(
            "sign_in_needed",
            "nightlatch",
            [("claims".to_owned(), "{}".to_owned())],
        );
        let status = Status::with_error_details(Code::FailedPrecondition, "sign in", details);
        let error = BrokerError::from(status);
        assert_eq!(
            (error.reason(), error.exit(), error.to_string().as_str()),
            ("sign_in_needed", NO, "sign in")
        );
        let details = ErrorDetails::with_error_info("source_refused", "nightlatch", []);
        let status = Status::with_error_details(Code::Internal, "set it", details);
        assert_eq!(BrokerError::from(status).exit(), NO);
        assert_eq!(BrokerError::from(Status::internal("x")).exit(), UNKNOWN);
        assert_eq!(BrokerError::from(Status::unavailable("x")).exit(), UNKNOWN);
        assert_eq!(BrokerError::from(Status::invalid_argument("x")).exit(), USAGE);
    }

    #[test]
    fn an_end_does_not_wait_for_a_browser_that_never_came() {
        // The thread ends when this test does; waiting for it before that would be for ever.
        let (_browser, never) = std::sync::mpsc::channel::<()>();
        let refused = on_runtime::<()>(async {
            tokio::task::spawn_blocking(move || never.recv());
            tokio::task::yield_now().await;
            Err(BrokerError::from(Status::internal("refused")))
        });
        assert_eq!(refused.unwrap_err().to_string(), "refused");
    }
}
