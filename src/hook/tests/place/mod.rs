//! What the tests of whole processes share: a folder with the programs in it and a socket in it, and a socket
//! whose backlog is full.
#![allow(clippy::unwrap_used)] // a test may stop at the first surprise
#![allow(unreachable_pub)] // a module of test programs, each a crate of its own

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nightlatch_wire::{Message, read_frame, write_frame};

const RIG: &str = env!("CARGO_BIN_EXE_hook-rig");
const AUTHORIZED_KEYS: &str = env!("CARGO_BIN_EXE_authorized-keys");
const PAM: &str = env!("CARGO_BIN_EXE_pam");
/// A user without rights, to whom root steps down.
pub const NOBODY: u32 = 65_534;

/// The uid that these tests run as.
pub fn own_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// A folder that every user can look into, with the programs in it.
pub struct Place(PathBuf);

impl Place {
    /// A new one with the three programs.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nightlatch-process-{}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Self(std::env::temp_dir().join(name));
        fs::create_dir(&place.0).unwrap();
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o777)).unwrap();
        for (program, name) in [(RIG, "rig"), (AUTHORIZED_KEYS, "authorized-keys"), (PAM, "pam")] {
            // By another process: a file that this one has open for writing, in a thread that forks just
            // then, cannot be executed (ETXTBSY).
            assert!(Command::new("cp").arg(program).arg(place.0.join(name)).status().unwrap().success());
        }
        place
    }

    /// Where its socket is.
    pub fn socket(&self) -> PathBuf {
        self.0.join("sock")
    }

    /// A listener that any user may connect to and that never accepts.
    pub fn mute(&self) -> UnixListener {
        let listener = UnixListener::bind(self.socket()).unwrap();
        fs::set_permissions(self.socket(), fs::Permissions::from_mode(0o666)).unwrap();
        listener
    }

    /// Hands every connection to `act`, until the process of the test ends.
    pub fn accept_each(&self, act: impl Fn(UnixStream) + Send + 'static) {
        let listener = self.mute();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                act(stream);
            }
        });
    }

    /// Answers every connection with this message.
    pub fn serve(&self, reply: Message) {
        self.accept_each(move |mut stream| {
            let _ = read_frame(&mut stream);
            let _ = write_frame(&mut stream, &reply);
        });
    }

    /// A program of this place without root's rights and without an environment.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.env_clear().current_dir("/").stdin(Stdio::null());
        if own_uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Output as text.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Connects and hangs up until a connect blocks, and stays blocked in it while `during` runs.
pub fn with_full_backlog(listener: UnixListener, path: &Path, during: impl FnOnce()) {
    let queue: u32 = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let (counter, socket) = (Arc::clone(&count), path.to_owned());
    let filler = thread::spawn(move || {
        while UnixStream::connect(&socket).is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    // The kernel lets one more in than the backlog says.
    while count.load(Ordering::SeqCst) <= queue {
        assert!(!filler.is_finished(), "connecting failed after {count:?}");
        thread::yield_now();
    }
    let before = count.load(Ordering::SeqCst);
    during();
    assert_eq!(count.load(Ordering::SeqCst), before, "the backlog was not full");
    assert!(!filler.is_finished());
    drop(listener); // ends the filler's connect
    filler.join().unwrap();
}
