//! The four things that std does not offer, and the only unsafe code of this room: the process timer, the
//! peer of a socket, and the rights of this process. Nothing is kept.
#![allow(unsafe_code)] // the reason this file exists

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("the numbers and layouts below are those of 64-bit Linux on x86 and ARM");

const ITIMER_REAL: c_int = 0;
const SIGALRM: c_int = 14;
const SIG_UNBLOCK: c_int = 1;
const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;
/// More supplementary groups than this and we do not run.
const MAX_GROUPS: usize = 64;

unsafe extern "C" {
    safe fn signal(signum: c_int, default: usize) -> usize;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut c_void) -> c_int;
    fn setitimer(which: c_int, new: *const [i64; 4], old: *mut c_void) -> c_int;
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut [u32; 3], size: *mut u32) -> c_int;
    fn getgroups(size: c_int, list: *mut [u32; MAX_GROUPS]) -> c_int;
    safe fn geteuid() -> u32;
    safe fn getegid() -> u32;
}

/// Lets SIGALRM end this process `after` from now, also when the caller had it ignored or blocked.
pub(crate) fn arm_timer(after: Duration) -> bool {
    let alarm_only = std::array::from_fn(|word| if word == 0 { 1 << (SIGALRM - 1) } else { 0 });
    let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let once = [0, 0, seconds, i64::from(after.subsec_micros())];
    let old = std::ptr::null_mut();
    signal(SIGALRM, 0);
    // SAFETY: a sigset_t has 128 bytes, an itimerval two timevals of two i64. Both outlive the calls, which
    // only read them; null as the old value is allowed.
    let armed = unsafe { sigprocmask(SIG_UNBLOCK, &alarm_only, old) | setitimer(ITIMER_REAL, &once, old) };
    armed == 0 && after.as_micros() > 0
}

/// The effective uid that the process at the other end had when it called `listen`.
pub(crate) fn peer_uid(stream: &UnixStream) -> Option<u32> {
    let (mut pid_uid_gid, mut size) = ([u32::MAX; 3], 12);
    let fd = stream.as_raw_fd();
    // SAFETY: a ucred is three 32-bit numbers, `size` says 12 bytes, and `stream` keeps `fd` open.
    let done = unsafe { getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &raw mut pid_uid_gid, &raw mut size) };
    (done == 0 && size == 12).then_some(pid_uid_gid[1])
}

/// Whether this process has root's uid, root's group, or groups that cannot be told.
pub(crate) fn has_root_rights() -> bool {
    let mut groups = [0; MAX_GROUPS];
    // SAFETY: the list has room for as many groups as the call is told.
    let count = unsafe { getgroups(c_int::try_from(MAX_GROUPS).unwrap_or(0), &raw mut groups) };
    let known = usize::try_from(count).ok().and_then(|count| groups.get(..count));
    geteuid() == 0 || getegid() == 0 || known.is_none_or(|groups| groups.contains(&0))
}
