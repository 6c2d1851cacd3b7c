//! Who asks for a token: the uid as the kernel recorded it at connect(2), and where the process lives.
//!
//! Everything about the process is read between getting hold of it (a pidfd) and seeing that it still
//! runs; so it is about that process, and no other that got its number. Nothing here has a default: what
//! cannot be read is an error or [`Place::Unknown`], never the node's root.
//!
//! Written for a daemon without privileges. Of another uid's process it can read `stat`, `cgroup` and
//! `uid_map`; the links below `ns/` and `exe` it cannot. So namespaces are compared by what `NSpid` of
//! the pidfd and `uid_map` show.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use nightlatch_tokens::{Caller, Door, Place, Process};
use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use thiserror::Error;

use super::cgroup::{self, Home, MAX_CGROUP_BYTES};
use super::sock_diag::{self, DiagError};

/// The largest `stat`, `uid_map` and `fdinfo` that is read, in bytes: they have a few hundred, and a map at
/// most 340 lines of 33 bytes (user_namespaces(7)).
const MAX_SMALL_BYTES: usize = 16 * 1024;
/// The most supplementary groups (`NGROUPS_MAX`, credentials(7)).
const MAX_GROUPS: usize = 65_536;
/// The groups that are asked for at first; most processes have fewer.
const FEW_GROUPS: usize = 64;

/// Why a caller is not known. Such a caller is refused.
#[derive(Debug, Error)]
pub enum CallerError {
    /// getsockopt or pidfd_open failed; there is no default identity.
    #[error("the kernel does not say who is connected; the node needs Linux 5.3 or newer")]
    Unreadable(#[source] io::Error),
    /// The process that connected has ended, or let go of its socket.
    #[error("the process that connected has ended; ask again from one that waits for the answer")]
    Gone,
    /// Both ends must be on the loopback interface.
    #[error("{0} is not on this node's loopback interface; only local programs are served")]
    NotLocal(SocketAddr),
    /// The kernel's table of sockets cannot be asked.
    #[error(
        "the kernel's table of sockets cannot be read; the unit of nightlatchd must allow AF_NETLINK, or use the \
         socket in /run/nightlatch"
    )]
    NoTable(#[source] io::Error),
}

/// A caller on a unix socket, with a hold of its process.
#[derive(Debug)]
pub struct CallerHandle {
    /// Who it is.
    pub caller: Caller,
    pidfd: OwnedFd,
}

impl CallerHandle {
    /// Whether the process that connected still runs. To be asked for every request: whoever was handed
    /// the connection by a process that has ended has nobody's identity. About a microsecond.
    #[must_use]
    pub fn still_there(&self) -> bool {
        runs(self.pidfd.as_fd())
    }
}

/// Who is on the other end of `stream`.
///
/// # Errors
/// [`CallerError::Unreadable`] and [`CallerError::Gone`]; such a connection is closed.
pub fn caller_of_unix(stream: &impl AsFd, door: Door) -> Result<CallerHandle, CallerError> {
    read_caller(stream.as_fd(), door, peer_pidfd)
}

/// Whose socket is connected from `peer` to our socket at `local`. Only the uid is known that way, so the
/// place is [`Place::Unknown`].
///
/// # Errors
/// [`CallerError::NotLocal`], [`CallerError::NoTable`], and [`CallerError::Gone`] when the client has
/// closed: the kernel shows such a socket with uid 0.
pub fn caller_of_loopback(local: SocketAddr, peer: SocketAddr) -> Result<Caller, CallerError> {
    if let Some(outside) = [local, peer].into_iter().find(|end| !end.ip().to_canonical().is_loopback()) {
        return Err(CallerError::NotLocal(outside));
    }
    let uid = sock_diag::uid_of(peer, local).map_err(|cause| match cause {
        DiagError::Unasked(cause) => CallerError::NoTable(cause),
        DiagError::Gone | DiagError::Strange => CallerError::Gone,
    })?;
    Ok(Caller {
        uid,
        gid: None,
        groups: Vec::new(),
        door: Door::Loopback,
        place: Place::Unknown,
        process: None,
        header_unit: None,
    })
}

/// How to get hold of the process behind a socket; `None` where this kernel cannot.
pub(super) type Hold = fn(BorrowedFd<'_>) -> Result<Option<OwnedFd>, CallerError>;

pub(super) fn read_caller(
    socket: BorrowedFd<'_>,
    door: Door,
    hold: Hold,
) -> Result<CallerHandle, CallerError> {
    let peer = getsockopt(&socket, PeerCredentials).map_err(unreadable)?;
    let (uid, pid) = (peer.uid(), peer.pid());
    // A socket that was never connected has uid -1 and pid 0.
    if uid == u32::MAX {
        return Err(CallerError::Gone);
    }
    let groups = peer_groups(socket)?;
    let pidfd = match hold(socket)? {
        Some(pidfd) => pidfd,
        None => pidfd_by_number(pid, uid)?,
    };
    let (place, process) = live(pid, pidfd.as_fd());
    // All of the above is about the process that connected only if that has not ended meanwhile.
    if !runs(pidfd.as_fd()) {
        return Err(CallerError::Gone);
    }
    let caller = Caller { uid, gid: Some(peer.gid()), groups, door, place, process, header_unit: None };
    Ok(CallerHandle { caller, pidfd })
}

/// Where the process lives and what it is.
fn live(pid: i32, pidfd: BorrowedFd<'_>) -> (Place, Option<Process>) {
    // A process of a namespace beside or above ours has no number here.
    if pid <= 0 {
        return (Place::Container, None);
    }
    let nested = read_small(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()), MAX_SMALL_BYTES);
    let nested = nested.ok().and_then(|text| is_nested(&text));
    let foreign = foreign_users(pid);
    let home = read_small(&format!("/proc/{pid}/cgroup"), MAX_CGROUP_BYTES).ok();
    let home = home.and_then(|text| cgroup::parse(&text));
    let place = match (nested, foreign, home.as_ref().map(|home| home.contained)) {
        (Some(true), _, _) | (_, Some(true), _) | (_, _, Some(true)) => Place::Container,
        (Some(false), Some(false), Some(false)) => Place::Host,
        _ => Place::Unknown,
    };
    let start = read_small(&format!("/proc/{pid}/stat"), MAX_SMALL_BYTES).ok();
    let process = start.and_then(|text| start_of(&text)).map(|start| {
        let Home { unit, slice, pod, .. } = home.unwrap_or_default();
        Process { pid, start, unit, slice, pod }
    });
    (place, process)
}

/// Whether the process lives in another user namespace than we do: one that maps other ids. Only root of
/// a namespace can make a child that maps all of its ids onto themselves, and then they are the same.
fn foreign_users(pid: i32) -> Option<bool> {
    static OURS: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let ours = OURS.get_or_init(|| read_small("/proc/self/uid_map", MAX_SMALL_BYTES).ok()).as_ref()?;
    let theirs = read_small(&format!("/proc/{pid}/uid_map"), MAX_SMALL_BYTES).ok()?;
    Some(theirs != *ours)
}

/// Whether `NSpid` of a pidfd's fdinfo has a second number: one for a namespace below ours. 0 is a
/// process outside of ours; -1 one that has ended.
fn is_nested(fdinfo: &[u8]) -> Option<bool> {
    let line = fdinfo.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:"))?;
    let line = std::str::from_utf8(line).ok()?;
    let mut pids = line.split_ascii_whitespace().map(str::parse::<i32>);
    let first = pids.next()?.ok()?;
    if first < 0 {
        return None;
    }
    Some(first == 0 || pids.next().is_some())
}

/// Field 22 of `/proc/PID/stat`: clock ticks since boot (proc_pid_stat(5)). The name before it may hold
/// spaces and brackets.
fn start_of(stat: &[u8]) -> Option<u64> {
    let text = stat.get(stat.iter().rposition(|byte| *byte == b')')?.checked_add(1)?..)?;
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The uids of a `/proc/PID/status`: real, effective, saved, file system.
fn uids_of(status: &[u8]) -> Option<Vec<u32>> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(|uid| uid.parse().ok()).collect()
}

/// A whole small file of /proc.
pub(super) fn read_small(path: &str, most: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut text = vec![0; 1_024.min(most)];
    let mut len = 0_usize;
    loop {
        if len == text.len() {
            if len >= most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            text.resize(len.saturating_mul(4).min(most), 0);
        }
        match file.read(text.get_mut(len..).unwrap_or_default())? {
            0 => break,
            read => len = len.saturating_add(read),
        }
    }
    text.truncate(len);
    Ok(text)
}

fn unreadable(errno: nix::Error) -> CallerError {
    CallerError::Unreadable(errno.into())
}

/// A hold of the very process that connected (`SO_PEERPIDFD`, Linux 6.5).
pub(super) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, CallerError> {
    match getsockopt(&socket, PeerPidfd) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(nix::Error::ENOPROTOOPT) => Ok(None),
        // Reaped already; which of the two depends on the kernel.
        Err(nix::Error::EINVAL | nix::Error::ESRCH | nix::Error::ENODATA) => Err(CallerError::Gone),
        Err(errno) => Err(unreadable(errno)),
    }
}

/// As a kernel before 6.5 answers [`peer_pidfd`]: by number only.
#[cfg(test)]
pub(super) fn hold_by_number(_: BorrowedFd<'_>) -> Result<Option<OwnedFd>, CallerError> {
    Ok(None)
}

/// For older kernels: a hold of the process that has the number now. Between connect(2) and here the
/// number may have gone to another process; one of another uid is told by its uids and refused. One of the
/// same uid could show its own unit in place of the first one's, which a program of the same uid can do
/// in other ways as well: the uid stays the border.
fn pidfd_by_number(pid: i32, uid: u32) -> Result<OwnedFd, CallerError> {
    if pid <= 0 {
        return Err(CallerError::Gone);
    }
    let pidfd = pidfd_open(pid)?;
    let mut status = [0_u8; MAX_SMALL_BYTES];
    let read = File::open(format!("/proc/{pid}/status")).and_then(|mut file| file.read(&mut status));
    let len = read.map_err(|_| CallerError::Gone)?;
    let uids = uids_of(status.get(..len).unwrap_or_default()).ok_or(CallerError::Gone)?;
    if uids.contains(&uid) { Ok(pidfd) } else { Err(CallerError::Gone) }
}

fn pidfd_open(pid: i32) -> Result<OwnedFd, CallerError> {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
    #[expect(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Some(fd) = i32::try_from(answer).ok().filter(|fd| *fd >= 0) else {
        let cause = io::Error::last_os_error();
        let gone = matches!(cause.raw_os_error(), Some(libc::ESRCH | libc::EINVAL));
        return Err(if gone { CallerError::Gone } else { CallerError::Unreadable(cause) });
    };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    #[expect(unsafe_code)]
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(pidfd)
}

/// A pidfd becomes readable when its process has ended. What is not plainly "not readable" counts as ended.
fn runs(pidfd: BorrowedFd<'_>) -> bool {
    let mut ask = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one live `pollfd`, as the count says, and poll(2) keeps it no longer than
    // the call; a timeout of 0 returns at once.
    #[expect(unsafe_code)]
    let ready = unsafe { libc::poll(&raw mut ask, 1, 0) };
    ready == 0
}

/// The supplementary groups at connect(2) (`SO_PEERGROUPS`, Linux 4.13).
fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, CallerError> {
    let mut groups = vec![0_u32; FEW_GROUPS];
    loop {
        let bytes = groups.len().saturating_mul(size_of::<u32>());
        let mut len = libc::socklen_t::try_from(bytes).unwrap_or_default();
        // SAFETY: `groups` has room for `len` bytes, the kernel writes at most that much and tells the
        // length in `len`; any bytes are valid `u32`s.
        #[expect(unsafe_code)]
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = usize::try_from(len).unwrap_or_default() / size_of::<u32>();
        if answer == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let cause = io::Error::last_os_error();
        match cause.raw_os_error() {
            // Too little room; `len` says how much is needed, and it can only grow.
            Some(libc::ERANGE) if count > groups.len() && count <= MAX_GROUPS => groups.resize(count, 0),
            Some(libc::ENODATA) => return Err(CallerError::Gone),
            _ => return Err(CallerError::Unreadable(cause)),
        }
    }
}
