//! Tells systemd that we are ready and alive. Sources: sd_notify(3), sd_watchdog_enabled(3).
//!
//! A sign of life is sent by the thread that carries out ends, after a round that went through the table: a
//! program that cannot end sessions any more is killed and started anew.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How often a sign of life is due within systemd's deadline.
const KICKS_PER_DEADLINE: u64 = 4;
/// How long systemd's own socket may take a message.
const SEND_LIMIT: Duration = Duration::from_millis(100);

/// systemd's notification socket.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Takes the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The value is neither, or no socket can be had.
    pub fn new(value: &OsStr) -> io::Result<Self> {
        let address = match value.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(value)?,
            _ => return Err(io::Error::other("NOTIFY_SOCKET must begin with `/` or `@`")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self { socket, address })
    }

    /// Sends one state, such as `READY=1`.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(|_| ())
    }
}

/// How often to send a sign of life, in milliseconds, from the value of `WATCHDOG_USEC`; `None` when systemd
/// expects none.
#[must_use]
pub fn kick_every_ms(usec: Option<&str>) -> Option<u64> {
    let deadline: u64 = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some((deadline / 1_000 / KICKS_PER_DEADLINE).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_are_reached_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("nightlatch-sessiond-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (socket, value) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            Notifier::new(&value).unwrap().send("READY=1").unwrap();
            let mut buffer = [0_u8; 32];
            let read = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..read], b"READY=1");
        }
        for wrong in ["", "relative", "vsock:2:1234"] {
            assert!(Notifier::new(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_pace_is_a_quarter_of_the_deadline() {
        assert_eq!(kick_every_ms(Some("5000000")), Some(1_250));
        for none in [None, Some(""), Some("0"), Some("-1"), Some("soon")] {
            assert_eq!(kick_every_ms(none), None, "{none:?}");
        }
    }
}
