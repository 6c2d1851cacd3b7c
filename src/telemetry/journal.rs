//! Where log lines go: the journal when systemd listens, standard error otherwise.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging once for the process, at `info` unless `NIGHTLATCH_LOG` says otherwise.
pub fn start_logging() {
    let filter = EnvFilter::try_from_env("NIGHTLATCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    // A second call (in tests) keeps the first subscriber.
    let _ = match tracing_journald::layer() {
        Ok(journal) => {
            let journal = journal.with_syslog_identifier("nightlatchd".to_owned()).with_field_prefix(None);
            registry.with(journal).try_init()
        }
        Err(_) => registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init(),
    };
}

/// Says an error and everything below it once, at the edge that gives up.
pub fn log_chain(what: &str, cause: &dyn std::error::Error) {
    let mut chain = cause.to_string();
    let mut below = cause.source();
    while let Some(next) = below {
        chain.push_str(": ");
        chain.push_str(&next.to_string());
        below = next.source();
    }
    tracing::error!("{what}: {chain}");
}
