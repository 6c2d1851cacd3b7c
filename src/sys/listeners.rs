//! Listeners that systemd bound for us, by name. We never bind a socket ourselves: a listener
//! made by pid 1 is what lets a client see that nobody squats on the path.

use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use thiserror::Error;

/// Why the listeners could not be taken over.
#[derive(Debug, Error)]
pub enum ListenerError {
    /// Started by hand, or without its socket units.
    #[error("no listening sockets were handed over; start nightlatchd through systemd (nightlatchd.socket)")]
    None,
    /// The LISTEN_ variables are damaged.
    #[error("the sockets handed over by systemd cannot be read")]
    Broken(#[source] std::io::Error),
}

/// The listeners by their `FileDescriptorName=`. Call once, before any other thread runs.
///
/// # Errors
/// When nothing was handed over, or it cannot be read.
pub fn named_listeners() -> Result<HashMap<String, UnixListener>, ListenerError> {
    let handed_over = sd_notify::listen_fds_with_names().map_err(ListenerError::Broken)?;
    let listeners: HashMap<String, UnixListener> = handed_over
        .map(|(fd, name)| {
            // SAFETY: systemd passed this descriptor to this very process (LISTEN_PID was checked),
            // nobody else owns it, and each number comes up once.
            #[expect(unsafe_code)]
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            (name, UnixListener::from(fd))
        })
        .collect();
    if listeners.is_empty() { Err(ListenerError::None) } else { Ok(listeners) }
}
