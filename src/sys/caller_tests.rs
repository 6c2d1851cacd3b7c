//! Callers that are gone, replaced, handed over, or not where they seem to be.
//!
//! Some tests start this very binary again, in other namespaces or without privileges; the variable
//! [`ROLE`] tells it which part to play.

use std::io::{Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nightlatch_tokens::{Caller, Door, Place};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork, setresuid};

use super::Peer;
use super::caller::{CallerError, caller_of_loopback, caller_of_unix, hold_by_number, read_caller};

/// Which part a second run of this binary plays.
const ROLE: &str = "NIGHTLATCH_TEST_ROLE";
/// The socket to connect to, for a part that connects.
const SOCKET: &str = "NIGHTLATCH_TEST_SOCKET";
/// How many numbers are used a second time; 10,000 for a soak.
const ROUNDS: &str = "NIGHTLATCH_PID_ROUNDS";
/// Somebody who is not us.
const NOBODY: u32 = 65_534;

/// A process that this test has forked; killed and reaped at its end.
struct Forked(Pid);

impl Forked {
    fn end(self) {}
}

impl Drop for Forked {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Waits until the process has ended, and leaves it unreaped. Its sockets are closed a little earlier.
fn dead(pid: Pid) {
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
}

/// What a forked process does after it has connected.
#[derive(Clone, Copy)]
enum Then {
    End,
    Stay,
    /// Sends its connection over this socket, and stays.
    HandOver(RawFd),
}

/// Forks a process that becomes `uid`, connects to `socket` and goes on as `then` says.
fn client(path: Option<&Path>, uid: Option<u32>, then: Then) -> Forked {
    let address = path.map(|path| UnixAddr::new(path).unwrap());
    // SAFETY: the child only makes system calls and ends; it takes no lock and runs no destructor.
    #[expect(unsafe_code)]
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => Forked(child),
        ForkResult::Child => {
            let played = (|| {
                if let Some(uid) = uid {
                    let uid = Uid::from_raw(uid);
                    setresuid(uid, uid, uid)?;
                }
                if let Some(address) = &address {
                    let flags = SockFlag::empty();
                    let ours = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
                    connect(ours.as_raw_fd(), address)?;
                    if let Then::HandOver(to) = then {
                        nix::errno::Errno::result(hand_over(to, Some(ours.as_raw_fd())))?;
                    }
                    // The number of the descriptor stays open until this process ends.
                    std::mem::forget(ours);
                }
                if !matches!(then, Then::End) {
                    nix::unistd::pause();
                }
                Ok::<(), nix::Error>(())
            })();
            // SAFETY: ends this process without running what belongs to the parent.
            #[expect(unsafe_code)]
            unsafe {
                libc::_exit(i32::from(played.is_err()))
            }
        }
    }
}

/// Sends `fd` over `socket` (unix(7), `SCM_RIGHTS`), or receives one where there is none to send. The answer is
/// the descriptor; below 0 for a failure.
fn hand_over(socket: RawFd, fd: Option<RawFd>) -> RawFd {
    let (mut byte, mut space) = ([0_u8; 1], [0_u64; 4]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let size = libc::c_uint::try_from(size_of::<RawFd>()).unwrap_or_default();
    // SAFETY: every pointer in `message` is to a live local of the length that stands beside it; `space` has room
    // for one header with one descriptor, is aligned for it, and the header is looked at only where there is one.
    #[expect(unsafe_code)]
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        if let Some(fd) = fd {
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size) as usize;
            libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(fd);
            return if libc::sendmsg(socket, &raw const message, 0) == 1 { fd } else { -1 };
        }
        if libc::recvmsg(socket, &raw mut message, 0) != 1
            || libc::CMSG_FIRSTHDR(&raw const message).is_null()
        {
            return -1;
        }
        libc::CMSG_DATA(head).cast::<RawFd>().read_unaligned()
    }
}

/// A listener in a new folder that everybody can reach.
fn listener() -> (UnixListener, tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    for open in [folder.path(), &path] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    (listener, folder)
}

/// This test again, in another run of this binary.
fn again(test: &str, role: &str, before: &[&str]) -> Command {
    let ours = std::env::current_exe().unwrap();
    let mut words = before.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
    words.push(ours.into());
    let mut command = Command::new(words.remove(0));
    let test = format!("sys::caller_tests::{test}");
    command.args(words).args(["--exact", &test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_caller_is_what_the_kernel_says() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let handle = caller_of_unix(&ours, Door::Broker).unwrap();
    let caller = &handle.caller;
    assert_eq!(
        (caller.uid, caller.gid),
        (nix::unistd::geteuid().as_raw(), Some(nix::unistd::getegid().as_raw()))
    );
    let groups: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
    assert_eq!(caller.groups, groups);
    assert_ne!(caller.place, Place::Unknown);
    let process = caller.process.as_ref().unwrap();
    assert_eq!(process.pid, i32::try_from(std::process::id()).unwrap());
    assert!(process.start > 0 && handle.still_there());
    assert!(caller.header_unit.is_none() && caller.door == Door::Broker);
}

#[test]
fn past_bug_43_a_caller_that_is_gone_is_nobody() {
    let (listener, folder) = listener();
    let path = folder.path().join("s");
    for hold in [super::caller::peer_pidfd, hold_by_number] {
        // Connected and ended before anybody looked.
        let gone = client(Some(&path), None, Then::End);
        let (stream, _) = listener.accept().unwrap();
        waitpid(gone.0, None).unwrap();
        assert!(matches!(read_caller(stream.as_fd(), Door::Broker, hold), Err(CallerError::Gone)));
        // Killed, and nobody has reaped it yet.
        let killed = client(Some(&path), None, Then::Stay);
        let (mut stream, _) = listener.accept().unwrap();
        kill(killed.0, Signal::SIGKILL).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "its end has come");
        dead(killed.0);
        assert!(matches!(read_caller(stream.as_fd(), Door::Broker, hold), Err(CallerError::Gone)));
        // Killed after it was known: for each request it is looked at again.
        let later = client(Some(&path), None, Then::Stay);
        let (stream, _) = listener.accept().unwrap();
        let handle = read_caller(stream.as_fd(), Door::Broker, hold).unwrap();
        assert!(handle.still_there());
        kill(later.0, Signal::SIGKILL).unwrap();
        dead(later.0);
        assert!(!handle.still_there());
    }
}

#[test]
fn past_bug_43_what_the_kernel_does_not_say_is_an_error() {
    let (pipe, _end) = std::io::pipe().unwrap();
    assert!(matches!(caller_of_unix(&pipe, Door::Broker), Err(CallerError::Unreadable(_))));
    let unconnected = UnixDatagram::unbound().unwrap();
    assert!(matches!(caller_of_unix(&unconnected, Door::Broker), Err(CallerError::Gone)));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    assert!(caller_of_unix(&client, Door::Broker).is_err());
    let away = "192.0.2.1:80".parse().unwrap();
    let here = "127.0.0.1:80".parse().unwrap();
    for (local, peer) in [(away, here), (here, away)] {
        assert!(matches!(caller_of_loopback(local, peer), Err(CallerError::NotLocal(_))));
    }
}

#[test]
fn past_bug_43_there_is_no_default_caller() {
    struct Probe<T>(PhantomData<T>);
    impl<T: Default> Probe<T> {
        fn has_default() -> bool {
            true
        }
    }
    trait Otherwise {
        fn has_default() -> bool {
            false
        }
    }
    impl<T> Otherwise for Probe<T> {}
    let _ = Probe(PhantomData::<u8>).0;
    assert!(Probe::<u32>::has_default());
    assert!(!Probe::<Caller>::has_default());
}

#[test]
fn a_loopback_caller_has_a_uid_and_no_place() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, from) = listener.accept().unwrap();
    let caller = caller_of_loopback(server.local_addr().unwrap(), from).unwrap();
    assert_eq!((caller.uid, caller.place), (nix::unistd::geteuid().as_raw(), Place::Unknown));
    assert!(caller.process.is_none() && !caller.is_root());
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    assert!(matches!(caller_of_loopback(server.local_addr().unwrap(), from), Err(CallerError::Gone)));
}

/// polkit CVE-2019-6133: another process with the number of the one that asked.
#[test]
fn past_bug_44_a_second_process_with_the_same_pid_is_not_the_caller() {
    const TEST: &str = "past_bug_44_a_second_process_with_the_same_pid_is_not_the_caller";
    if role().is_some() {
        return reuse_pids(std::env::var(ROUNDS).map_or(300, |rounds| rounds.parse().unwrap()));
    }
    // A pid namespace of its own, where numbers can be given out again at will.
    let mut unshare = vec!["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let done = again(TEST, "init", &unshare).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("numbers used again: "), "{text}\n{errors}");
}

fn reuse_pids(rounds: usize) {
    let (listener, folder) = listener();
    let path = folder.path().join("s");
    let others = is_root() && std::fs::read_to_string("/proc/self/uid_map").unwrap().lines().count() == 1;
    let others = others && nix::unistd::chown(folder.path(), Some(Uid::from_raw(NOBODY)), None).is_ok();
    // Another process under the number `pid`, if that is to be had.
    let take = |pid: Pid, uid: Option<u32>| -> Option<Forked> {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid.as_raw() - 1).to_string()).unwrap();
        let second = client(None, uid, Then::Stay);
        (second.0 == pid).then_some(second)
    };
    let mut used = [0_usize; 3];
    for _ in 0..rounds {
        // The caller has ended, its number is somebody else's before anybody looked.
        let first = client(Some(&path), None, Then::End);
        let (stream, _) = listener.accept().unwrap();
        let pid = first.0;
        waitpid(pid, None).unwrap();
        std::mem::forget(first);
        if let Some(_second) = take(pid, None) {
            let answer = caller_of_unix(&stream, Door::Broker);
            assert!(matches!(answer, Err(CallerError::Gone)), "{answer:?}");
            used[0] += 1;
        }
        // On an older kernel the second one is told by its uid.
        if others && let Some(second) = take(pid, Some(NOBODY)) {
            // It may not have changed its uid yet.
            let status = format!("/proc/{}/status", second.0);
            while !std::fs::read_to_string(&status).unwrap().contains("Uid:\t65534\t65534\t65534\t65534") {}
            let answer = read_caller(stream.as_fd(), Door::Broker, hold_by_number);
            assert!(matches!(answer, Err(CallerError::Gone)), "{answer:?}");
            used[1] += 1;
        }
        // Known first, replaced later: the hold is of the first one.
        let first = client(Some(&path), None, Then::Stay);
        let (stream, _) = listener.accept().unwrap();
        let pid = first.0;
        let by_socket = caller_of_unix(&stream, Door::Broker).unwrap();
        let by_number = read_caller(stream.as_fd(), Door::Broker, hold_by_number).unwrap();
        assert!(by_socket.still_there() && by_number.still_there());
        first.end();
        if let Some(_second) = take(pid, None) {
            assert!(!by_socket.still_there() && !by_number.still_there());
            used[2] += 1;
        }
    }
    let [before, other, after] = used;
    assert!(before * 2 > rounds && after * 2 > rounds && (!others || other * 2 > rounds), "{used:?}");
    println!("numbers used again: {used:?}");
}

/// A connection that was handed to another process speaks for the one that connected, and ends with it.
#[test]
fn past_bug_45_a_connection_that_was_handed_over_keeps_its_identity() {
    let (listener, folder) = listener();
    let (to, from) = UnixStream::pair().unwrap();
    let uid = is_root().then_some(NOBODY);
    let first = client(Some(&folder.path().join("s")), uid, Then::HandOver(to.as_raw_fd()));
    let (mut stream, _) = listener.accept().unwrap();
    let handed = hand_over(from.as_raw_fd(), None);
    assert!(handed >= 0);
    // SAFETY: the kernel has just made this descriptor for us.
    #[expect(unsafe_code)]
    let mut handed = UnixStream::from(unsafe { OwnedFd::from_raw_fd(handed) });
    // We, root where the tests run so, now write on it.
    handed.write_all(b"a question").unwrap();
    let mut question = [0; 10];
    stream.read_exact(&mut question).unwrap();
    let handle = caller_of_unix(&stream, Door::Broker).unwrap();
    let pid = handle.caller.process.as_ref().map(|process| process.pid);
    assert_eq!(pid, Some(first.0.as_raw()), "who connected");
    assert_eq!(handle.caller.uid, uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw()));
    assert!(handle.still_there());
    first.end();
    handed.write_all(b"another").unwrap();
    assert!(!handle.still_there(), "the connection lives on, its caller does not");
    assert!(matches!(caller_of_unix(&stream, Door::Broker), Err(CallerError::Gone)));
}

/// Connects to [`SOCKET`] and stays until the other side closes.
fn play_client() {
    let mut stream = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    let _ = stream.read(&mut [0; 1]);
}

/// Ends what `unshare` has started: a child of it may be in another pid namespace.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// Root of a container that has the socket mounted is not the node's root.
#[test]
fn past_bug_46_a_peer_in_other_namespaces_is_in_a_container() {
    const TEST: &str = "past_bug_46_a_peer_in_other_namespaces_is_in_a_container";
    if role().is_some() {
        return play_client();
    }
    let ours = caller_of_unix(&UnixStream::pair().unwrap().0, Door::Broker).unwrap().caller.place;
    // So many groups that what comes behind them in /proc/PID/status is far from its beginning.
    let groups = (100_000..101_000).map(|gid| gid.to_string()).collect::<Vec<_>>().join(",");
    let many: &[&str] = &["setpriv", "--groups", &groups, "unshare", "--pid", "--fork", "--mount"];
    for (before, root_only, place) in [
        (&["env"][..], false, ours),
        (&["unshare", "--mount"], true, ours),
        (&["unshare", "--pid", "--fork", "--mount"], true, Place::Container),
        (&["unshare", "--user", "--map-root-user"], false, Place::Container),
        (&["unshare", "--user", "--map-root-user", "--pid", "--fork"], false, Place::Container),
        (many, true, Place::Container),
    ] {
        if root_only && !is_root() {
            continue;
        }
        let (listener, folder) = listener();
        let mut command = again(TEST, "client", before);
        command.env(SOCKET, folder.path().join("s")).stdout(Stdio::null()).stderr(Stdio::null());
        let _started = Started(command.spawn().unwrap());
        let (stream, _) = listener.accept().unwrap();
        for hold in [super::caller::peer_pidfd, hold_by_number] {
            let caller = read_caller(stream.as_fd(), Door::Broker, hold).unwrap().caller;
            assert_eq!(caller.place, place, "{:?}", &before[..2.min(before.len())]);
            assert_eq!(caller.uid, nix::unistd::geteuid().as_raw());
            assert_eq!(caller.is_root(), is_root() && place == Place::Host);
        }
        // The sockets for root alone see the second number of a pid, too.
        if before.contains(&"--pid") {
            let uid = nix::unistd::geteuid().as_raw();
            assert!(Peer::of(&stream).unwrap().require(uid).is_err(), "{:?}", &before[..1]);
        }
    }
}

/// The daemon is nobody special: what it needs must be readable to any uid.
#[test]
fn a_daemon_without_privileges_places_callers_of_other_uids() {
    const TEST: &str = "a_daemon_without_privileges_places_callers_of_other_uids";
    if let Some(dumpable) = role() {
        let nobody = Uid::from_raw(NOBODY);
        setresuid(nobody, nobody, nobody).unwrap();
        nix::sys::prctl::set_dumpable(dumpable == "dumpable").unwrap();
        assert!(std::fs::read_link("/proc/1/exe").is_err(), "still privileged");
        // SAFETY: the test that started this run has put the connection there.
        #[expect(unsafe_code)]
        let mut stream = UnixStream::from(unsafe { BorrowedFd::borrow_raw(0) }.try_clone_to_owned().unwrap());
        for hold in [super::caller::peer_pidfd, hold_by_number] {
            let handle = read_caller(stream.as_fd(), Door::Broker, hold).unwrap();
            writeln!(stream, "{} {:?} {}", handle.caller.uid, handle.caller.place, handle.still_there())
                .unwrap();
            let process = handle.caller.process.unwrap();
            assert!(process.start > 0 && process.pid > 0);
        }
        return;
    }
    if !is_root() {
        // Then every other test here has run without privileges.
        return;
    }
    let place = caller_of_unix(&UnixStream::pair().unwrap().0, Door::Broker).unwrap().caller.place;
    for dumpable in ["dumpable", "not"] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = again(TEST, dumpable, &["env"]);
        let done = command.stdin(OwnedFd::from(theirs)).output().unwrap();
        drop(command);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        let line = format!("0 {place:?} true\n");
        assert_eq!(text, line.repeat(2), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
