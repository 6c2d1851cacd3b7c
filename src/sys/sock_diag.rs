//! Whose socket is on the other end of a loopback connection, from the kernel's table of sockets
//! (sock_diag(7)). Once the client has closed, the table says uid 0 with inode 0: that is nobody, and
//! must never be read as root.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};

/// The length of a `nlmsghdr`, in bytes (linux/netlink.h).
const HEADER: usize = 16;
/// The length of a request: the header and an `inet_diag_req_v2` (linux/inet_diag.h).
const REQUEST: usize = HEADER + 56;
/// The least length of an answer: the header and an `inet_diag_msg`.
const ANSWER: usize = HEADER + 72;
/// The largest answer that is read, in bytes; attributes behind the message are not asked for.
const MAX_ANSWER: usize = 4 * 1024;
/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const IS_REQUEST: u16 = 1;
/// The number of the only request on its socket.
const SEQUENCE: u32 = 1;
/// The states of a connected socket that somebody still holds (net/tcp_states.h): established, both
/// FIN-WAIT states after a shutdown(2) of the sending half, and CLOSE-WAIT. A listener on the same
/// port, which the kernel finds when the connection is gone, is none of them.
const CONNECTED: [u8; 4] = [1, 4, 5, 8];

/// Why the owner of a socket is not known.
#[derive(Debug)]
pub(super) enum DiagError {
    /// The kernel was not asked: no netlink socket, or no answer.
    Unasked(io::Error),
    /// There is no such connection, or its client has let go of it.
    Gone,
    /// The answer is not about what was asked.
    Strange,
}

/// The uid that owns the socket of `client`, which is connected to `server`, in our network namespace.
pub(super) fn uid_of(client: SocketAddr, server: SocketAddr) -> Result<u32, DiagError> {
    let unasked = |errno: nix::Error| DiagError::Unasked(errno.into());
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )
    .map_err(unasked)?;
    let kernel = NetlinkAddr::new(0, 0);
    let sent = sendto(netlink.as_raw_fd(), &request(client, server), &kernel, MsgFlags::empty());
    if sent.map_err(unasked)? != REQUEST {
        return Err(DiagError::Strange);
    }
    // The kernel answers within the send, so there is nothing to wait for.
    let mut buffer = [0_u8; MAX_ANSWER];
    let (len, from) = recvfrom::<NetlinkAddr>(netlink.as_raw_fd(), &mut buffer).map_err(unasked)?;
    // Another process may not speak for the kernel.
    if from.is_none_or(|from| from.pid() != 0) {
        return Err(DiagError::Strange);
    }
    owner(buffer.get(..len).unwrap_or_default(), client, server)
}

/// The question about one connection, seen from its client.
fn request(client: SocketAddr, server: SocketAddr) -> [u8; REQUEST] {
    let (client, server) = (plain(client), plain(server));
    let v4 = client.is_ipv4() && server.is_ipv4();
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    let mut message = Vec::with_capacity(REQUEST);
    message.extend(u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(IS_REQUEST.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend([0; 4]);
    // Family, protocol, no extensions, padding, and every state.
    message.push(u8::try_from(family).unwrap_or_default());
    message.push(u8::try_from(libc::IPPROTO_TCP).unwrap_or_default());
    message.extend([0; 2]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(client.port().to_be_bytes());
    message.extend(server.port().to_be_bytes());
    for address in [client.ip(), server.ip()] {
        match address {
            IpAddr::V4(address) if v4 => {
                message.extend(address.octets());
                message.extend([0; 12]);
            }
            IpAddr::V4(address) => message.extend(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => message.extend(address.octets()),
        }
    }
    // Any interface, and no cookie (`INET_DIAG_NOCOOKIE`).
    message.extend([0; 4]);
    message.extend([0xff; 8]);
    message.try_into().unwrap_or([0; REQUEST])
}

/// Reads the answer: believed only when it is whole and about this very connection.
fn owner(answer: &[u8], client: SocketAddr, server: SocketAddr) -> Result<u32, DiagError> {
    let word = |at: usize| answer.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes);
    let half = |at: usize| answer.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_ne_bytes);
    let port = |at: usize| answer.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes);
    let (Some(len), Some(kind), Some(sequence)) = (word(0), half(4), word(8)) else {
        return Err(DiagError::Strange);
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > answer.len() || sequence != SEQUENCE {
        return Err(DiagError::Strange);
    }
    if kind == ERROR {
        let errno = word(HEADER).filter(|_| len >= HEADER + 4).map(u32::cast_signed);
        return Err(match errno {
            Some(errno) if errno == -libc::ENOENT => DiagError::Gone,
            Some(errno) if errno < 0 => {
                DiagError::Unasked(io::Error::from_raw_os_error(errno.saturating_neg()))
            }
            _ => DiagError::Strange,
        });
    }
    if kind != BY_FAMILY || len < ANSWER {
        return Err(DiagError::Strange);
    }
    let family = answer.get(HEADER).copied().map(i32::from);
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = answer.get(at..at.checked_add(16)?)?.try_into().ok()?;
        match family {
            Some(libc::AF_INET) => {
                let first: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
                Some(IpAddr::from(first))
            }
            // A client may use a socket of the other family to a mapped address.
            Some(libc::AF_INET6) => Some(Ipv6Addr::from(bytes).to_canonical()),
            _ => None,
        }
    };
    let (from, to) = (plain(client), plain(server));
    let same = port(HEADER + 4) == Some(from.port())
        && port(HEADER + 6) == Some(to.port())
        && address(HEADER + 8) == Some(from.ip())
        && address(HEADER + 24) == Some(to.ip());
    if !same {
        return Err(DiagError::Gone);
    }
    let connected = answer.get(HEADER + 1).is_some_and(|state| CONNECTED.contains(state));
    match (word(HEADER + 64), word(HEADER + 68)) {
        (Some(uid), Some(inode)) if inode != 0 && connected => Ok(uid),
        _ => Err(DiagError::Gone),
    }
}

/// The address without the spelling of a mapped one.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};

    fn pair(listen: &str, connect: &str) -> Option<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind(listen).ok()?;
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(format!("{connect}:{port}")).unwrap();
        Some((client, listener.accept().unwrap().0))
    }

    fn ask(server: &TcpStream) -> Result<u32, DiagError> {
        uid_of(server.peer_addr().unwrap(), server.local_addr().unwrap())
    }

    #[test]
    fn the_owner_of_a_loopback_client_is_this_process() {
        let us = nix::unistd::geteuid().as_raw();
        let mut shown = 0;
        for (listen, connect) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "[::1]"),
            ("127.0.0.1:0", "[::ffff:127.0.0.1]"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let Some((client, server)) = pair(listen, connect) else { continue };
            assert_eq!(ask(&server).unwrap(), us, "{listen} {connect}");
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ask(&server).unwrap(), us, "the client still waits for its answer");
            shown += 1;
        }
        assert!(shown >= 2, "neither family of loopback addresses works here");
    }

    /// A client that has closed is nobody: the kernel's row then says uid 0, inode 0.
    #[test]
    fn past_bug_43_a_client_that_closed_is_nobody_and_not_root() {
        let (client, mut server) = pair("127.0.0.1:0", "127.0.0.1").unwrap();
        let (from, to) = (server.peer_addr().unwrap(), server.local_addr().unwrap());
        drop(client);
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "its end has come");
        assert!(matches!(uid_of(from, to), Err(DiagError::Gone)));
        // Now a listener sits on the port that the client had: the kernel's lookup would find it.
        drop(server);
        let _squatter = TcpListener::bind(from);
        assert!(matches!(uid_of(from, to), Err(DiagError::Gone)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        assert!(matches!(uid_of(nobody, to), Err(DiagError::Gone)), "a listener is no client");
    }

    fn answer(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
        let mut answer = vec![0; ANSWER];
        answer[..4].copy_from_slice(&u32::try_from(ANSWER).unwrap().to_ne_bytes());
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
        answer[HEADER..HEADER + 2].copy_from_slice(&[2, 1]);
        // The same 48 bytes that were asked for.
        let asked = request(client, server);
        answer[HEADER + 4..HEADER + 52].copy_from_slice(&asked[HEADER + 8..HEADER + 56]);
        answer[HEADER + 64..HEADER + 68].copy_from_slice(&1_000_u32.to_ne_bytes());
        answer[HEADER + 68..HEADER + 72].copy_from_slice(&77_u32.to_ne_bytes());
        answer
    }

    #[test]
    fn an_answer_is_believed_only_when_it_is_whole_and_about_the_connection() {
        let (client, server) = ("127.0.0.1:4000".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        let good = answer(client, server);
        assert_eq!(owner(&good, client, server).unwrap(), 1_000);
        for len in 0..good.len() {
            assert!(owner(&good[..len], client, server).is_err(), "cut to {len}");
        }
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            owner(&bad, client, server)
        };
        for (at, bytes) in [
            (0, &u32::MAX.to_ne_bytes()[..]),
            (0, &[0; 4]),
            (0, &[HEADER as u8, 0, 0, 0]),
            (4, &9_u16.to_ne_bytes()),
            (8, &2_u32.to_ne_bytes()),
            (HEADER, &[1]),
            (HEADER, &[10]),
            (HEADER + 1, &[10]),
            (HEADER + 1, &[2]),
            (HEADER + 1, &[6]),
            (HEADER + 1, &[7]),
            (HEADER + 4, &[0, 0]),
            (HEADER + 6, &[0, 81]),
            (HEADER + 8, &[127, 0, 0, 2]),
            (HEADER + 24, &[10, 0, 0, 1]),
            (HEADER + 68, &[0; 4]),
        ] {
            assert!(with(at, bytes).is_err(), "{at} {bytes:?}");
        }
        let error = |errno: i32| {
            let mut bad = good.clone();
            bad[4..6].copy_from_slice(&ERROR.to_ne_bytes());
            bad[HEADER..HEADER + 4].copy_from_slice(&errno.to_ne_bytes());
            owner(&bad, client, server).unwrap_err()
        };
        assert!(matches!(error(-libc::ENOENT), DiagError::Gone));
        assert!(matches!(error(-libc::EPERM), DiagError::Unasked(_)));
        assert!(matches!(error(i32::MIN), DiagError::Unasked(_)));
        assert!(matches!(error(0), DiagError::Strange));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % good.len();
            // Only the uid itself may change what is read.
            if let Ok(uid) = with(at, &state.to_le_bytes()[..1]) {
                assert!(uid == 1_000 || (HEADER + 64..HEADER + 68).contains(&at), "{at} {uid}");
            }
        }
    }
}
