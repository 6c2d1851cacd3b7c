//! The programs as whole processes: the timer, rights, exit status and output that sshd and PAM see. The
//! real programs know one socket only; `hook-rig` is the same code with the socket as an argument.
//! Run as root, the tests step down to another user; run as a user, they use that user's own rights.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may stop at the first surprise
#![allow(clippy::disallowed_methods)] // the subject is how long a process lives: real time is measured

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio, id};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nightlatch_wire::{Message, read_frame, write_frame};

const RIG: &str = env!("CARGO_BIN_EXE_hook-rig");
const AUTHORIZED_KEYS: &str = env!("CARGO_BIN_EXE_authorized-keys");
const PAM: &str = env!("CARGO_BIN_EXE_pam");
const NOBODY: u32 = 65_534;
const SIGALRM: i32 = 14;
const USER: [&str; 4] = ["ann@contoso.com", "1900000000", "ssh-rsa", "AAAA"];
const LINE: &str = "restrict,pty,cert-authority,principals=\"ann@contoso.com\",expiry-time=\"20261121223000Z\" \
                    ssh-rsa AAAA\n";
/// The deadline of the product and what starting and reaping a process may add.
const DEADLINE: &str = "300";
const LIVES_AT_LEAST: Duration = Duration::from_millis(295);
const LIVES_AT_MOST: Duration = Duration::from_millis(350);
/// Other programs share the machine: the best of so many runs is what the program itself takes.
const TRIES: usize = 8;

fn own_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// A folder that every user can look into, with the programs in it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
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

    fn socket(&self) -> PathBuf {
        self.0.join("sock")
    }

    /// A listener that any user may connect to and that never accepts.
    fn mute(&self) -> UnixListener {
        let listener = UnixListener::bind(self.socket()).unwrap();
        fs::set_permissions(self.socket(), fs::Permissions::from_mode(0o666)).unwrap();
        listener
    }

    /// Answers every connection with this message until the process of the test ends.
    fn serve(&self, reply: Message) {
        let listener = self.mute();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = read_frame(&mut stream);
                let _ = write_frame(&mut stream, &reply);
            }
        });
    }

    /// A program of this place without root's rights and without an environment.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.env_clear().current_dir("/").stdin(Stdio::null());
        if own_uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn offer(&self, owner: u32) -> Command {
        let mut command = self.program("rig");
        command.arg("offer").arg(self.socket()).args([&owner.to_string(), DEADLINE]).args(USER);
        command
    }

    fn account(&self, owner: u32, deadline: &str, wait: &str) -> Command {
        let mut command = self.program("rig");
        command.arg("account").arg(self.socket()).args([&owner.to_string(), deadline, wait]);
        command.envs([("PAM_TYPE", "account"), ("PAM_USER", "ann@contoso.com"), ("PAM_SERVICE", "sshd")]);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs until one run was as short as the product promises; each run must end by the timer, silent.
fn ends_by_its_timer(mut make: impl FnMut() -> Command) {
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        let output = make().output().unwrap();
        let lived = begun.elapsed();
        assert_eq!(output.status.signal(), Some(SIGALRM), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(lived >= LIVES_AT_LEAST, "ended before its timer, after {lived:?}");
        shortest = shortest.min(lived);
        if shortest <= LIVES_AT_MOST {
            return;
        }
    }
    panic!("no run of {TRIES} ended within {LIVES_AT_MOST:?}; the shortest took {shortest:?}");
}

/// Connects and hangs up until a connect blocks, and stays blocked in it while `during` runs.
fn with_full_backlog(listener: UnixListener, path: &Path, during: impl FnOnce()) {
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

#[test]
fn the_hook_prints_the_line_and_a_newline() {
    let place = Place::new();
    place.serve(Message::Line(LINE.trim_end().to_owned()));
    let output = place.offer(own_uid()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), LINE, ""));
}

#[test]
fn the_hook_is_silent_and_well_when_nobody_is_admitted() {
    let place = Place::new();
    place.serve(Message::None);
    let output = place.offer(own_uid()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
}

#[test]
fn the_hook_ends_by_its_timer_when_the_daemon_is_mute() {
    let place = Place::new();
    let _listener = place.mute();
    ends_by_its_timer(|| place.offer(own_uid()));
}

/// A stopped daemon whose backlog strangers have filled: connect itself blocks, without any timeout.
#[test]
fn the_hook_ends_by_its_timer_when_connect_blocks_on_a_full_backlog() {
    let place = Place::new();
    let listener = place.mute();
    with_full_backlog(listener, &place.socket(), || ends_by_its_timer(|| place.offer(own_uid())));
}

#[test]
fn the_timer_works_although_the_caller_ignored_its_signal() {
    let place = Place::new();
    let _listener = place.mute();
    ends_by_its_timer(|| {
        let inner = place.offer(own_uid());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "trap '' ALRM; exec \"$0\" \"$@\""]);
        shell.arg(inner.get_program()).args(inner.get_args());
        if own_uid() == 0 {
            shell.uid(NOBODY).gid(NOBODY);
        }
        shell
    });
}

/// Socket squatting: a listener bound by somebody else than uid 0 says yes, and is not believed.
#[test]
fn a_fake_server_not_bound_by_uid_0_is_refused() {
    let place = Place::new();
    let mut server =
        Kept(place.program("rig").arg("listen").arg(place.socket()).stdout(Stdio::piped()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let server_uid = if own_uid() == 0 { NOBODY } else { own_uid() };

    let refused = place.offer(0).output().unwrap();
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
    let no = place.account(0, "10000", "9000").output().unwrap();
    assert_eq!(no.status.code(), Some(1));
    assert!(text(&no.stdout).starts_with("nightlatch: login cannot be decided now"), "{no:?}");

    // The twin: the same server, expected to be who it is, is believed.
    let printed = place.offer(server_uid).output().unwrap();
    assert_eq!((printed.status.code(), text(&printed.stdout)), (Some(0), LINE));
    let yes = place.account(server_uid, "10000", "9000").output().unwrap();
    assert_eq!((yes.status.code(), text(&yes.stdout)), (Some(0), ""));
}

/// Guards CVE-2021-41617: a command run with groups it should not have.
#[test]
fn the_hook_does_not_run_with_root_s_rights() {
    let place = Place::new();
    place.serve(Message::Line(LINE.trim_end().to_owned()));
    let inner = place.offer(own_uid());
    let with = |arguments: &[&str]| -> Output {
        let mut command = Command::new("setpriv");
        command.env_clear().env("PATH", "/usr/bin:/bin").args(arguments);
        command.arg(inner.get_program()).args(inner.get_args()).output().unwrap()
    };
    if own_uid() == 0 {
        for rights in [
            &["--reuid=0", "--regid=65534", "--clear-groups"][..],
            &["--reuid=65534", "--regid=0", "--clear-groups"],
            &["--reuid=65534", "--regid=65534", "--groups=0"],
            &["--reuid=65534", "--regid=65534", "--groups=7,0,9"],
        ] {
            let output = with(rights);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{rights:?}");
        }
        let output = with(&["--reuid=65534", "--regid=65534", "--groups=7,9"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), LINE));
    } else {
        let output = with(&["--no-new-privs"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), LINE));
    }
}

#[test]
fn the_real_hook_passes_over_local_names_and_refuses_what_sshd_never_says() {
    let place = Place::new();
    for (args, code) in [
        (&["root", "0", "ssh-rsa", "AAAA"][..], 0),
        (&["azureuser", "1000", "ssh-ed25519", "AAAA"], 0),
        (&["ann@contoso.com", "+1", "ssh-rsa", "AAAA"], 1),
        (&["ann@contoso.com", "1", "ssh-rsa"], 1),
        (&[], 1),
        (&["--help"], 1),
    ] {
        let output = place.program("authorized-keys").args(args).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), ""), "{args:?}");
    }
    let usage = place.program("authorized-keys").output().unwrap();
    assert!(text(&usage.stderr).starts_with("usage: authorized-keys USER UID KEY-TYPE KEY"));
}

#[test]
fn the_real_pam_program_says_no_to_every_other_phase() {
    let place = Place::new();
    for kind in ["open_session", "password", ""] {
        let output = place.program("pam").env("PAM_TYPE", kind).env("PAM_USER", "a@b").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{kind}");
        assert_eq!(text(&output.stdout), "nightlatch: only for the account and auth phases of PAM\n");
    }
}

#[test]
fn pam_ends_with_0_on_a_permit_only() {
    for (reply, code, shown) in [
        (Message::Permit { until: 1, admin: false }, 0, ""),
        (
            Message::Deny { code: "no-role".to_owned(), text: "no role\u{1b}[2J\nref 7".to_owned() },
            1,
            "nightlatch: no role?[2J\nnightlatch: ref 7\n",
        ),
    ] {
        let place = Place::new();
        place.serve(reply);
        let output = place.account(own_uid(), "10000", "9000").output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), shown));
    }
    // The auth phase shows its text and fails, also when the server would say yes.
    for reply in [Message::Text("expired".to_owned()), Message::Permit { until: 1, admin: true }] {
        let place = Place::new();
        place.serve(reply);
        let output = place.account(own_uid(), "10000", "9000").env("PAM_TYPE", "auth").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stdout).starts_with("nightlatch: "), "{output:?}");
    }
}

#[test]
fn pam_says_why_when_connect_blocks_and_no_yes_comes_from_its_timer() {
    let place = Place::new();
    let listener = place.mute();
    with_full_backlog(listener, &place.socket(), || {
        let told = place.account(own_uid(), "60000", "200").output().unwrap();
        assert_eq!(told.status.code(), Some(1));
        assert!(text(&told.stdout).starts_with("nightlatch: login cannot be decided now"), "{told:?}");
        ends_by_its_timer(|| place.account(own_uid(), DEADLINE, "60000"));
    });
}
