//! The program under test with a folder of its own, monitors that are named like sshd's, and a client.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nightlatch_sessiond::process::{ProcFs, Processes, Stat};
use nightlatch_wire::session::{Close, End, List, NO_DIGEST, Open, Pending, Row, Target};
use nightlatch_wire::{Message, Parent, read_frame, write_frame};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sessiond");
/// Longer than anything may take, so that a wait that never ends fails instead.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A child that ends with its test.
pub struct Own(pub Child);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Own {
    pub fn parent(&self) -> Parent {
        Parent { pid: self.0.id(), start: ProcFs::default().stat(self.0.id()).unwrap().start }
    }

    /// Whether it has ended; a child that did is buried, so that nobody sees its zombie.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

pub struct Stage {
    pub folder: tempfile::TempDir,
    pub program: Option<Own>,
    journal: UnixDatagram,
    pub args: Vec<String>,
    /// What the program is started by.
    pub by: Vec<String>,
}

impl Stage {
    pub fn new() -> Self {
        let mut stage = Self::unstarted();
        stage.start();
        stage
    }

    pub fn unstarted() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["state", "run"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::copy("/usr/bin/sleep", folder.path().join("sshd-session")).unwrap();
        let journal = UnixDatagram::bind(folder.path().join("journal")).unwrap();
        journal.set_nonblocking(true).unwrap();
        fs::write(folder.path().join("passwd"), "root:x:0:0::/:\nrescue:x:1001:1001::/:\n").unwrap();
        let args = ["--root-uid", "0", "--daemon-uid", "0"].map(str::to_owned).to_vec();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, program: None, journal, args, by: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn start(&mut self) {
        for name in ["session.sock", "control.sock", "notify"] {
            let _ = fs::remove_file(self.path(name));
        }
        let systemd = UnixDatagram::bind(self.path("notify")).unwrap();
        fs::set_permissions(self.path("notify"), fs::Permissions::from_mode(0o666)).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut words = self.by.clone();
        words.push(PROGRAM.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.args).stderr(Stdio::inherit());
        for (flag, name) in [
            ("--session", "session.sock"),
            ("--control", "control.sock"),
            ("--state", "state"),
            ("--run", "run"),
            ("--break-glass", "break-glass"),
            ("--passwd", "passwd"),
            ("--journal", "journal"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.env("NOTIFY_SOCKET", self.path("notify")).env("WATCHDOG_USEC", "5000000");
        self.program = Some(Own(command.spawn().unwrap()));
        let mut buffer = [0_u8; 64];
        let read = loop {
            match systemd.recv(&mut buffer) {
                // A wait with a limit is broken off when the machine was stopped for a moment (signal(7)).
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read.unwrap(),
            }
        };
        assert_eq!(&buffer[..read], b"READY=1\nWATCHDOG=1");
    }

    /// Kills the program as a crash would.
    pub fn crash(&mut self) {
        self.program = None;
    }

    pub fn ask(&self, socket: &str, message: &Message) -> Message {
        ask(&self.path(socket), message)
    }

    pub fn control(&self, message: &Message) -> Message {
        self.ask("control.sock", message)
    }

    pub fn session(&self, message: &Message) -> Message {
        self.ask("session.sock", message)
    }

    /// A process that is named like a monitor of sshd, with login uid and audit session of a login.
    pub fn monitor(&self, loginuid: Option<u32>) -> Own {
        let set = loginuid.map(|uid| format!("echo {uid} > /proc/self/loginuid; ")).unwrap_or_default();
        let line = format!("{set}exec {} 1000", self.path("sshd-session").display());
        let child = Own(Command::new("sh").arg("-c").arg(line).process_group(0).spawn().unwrap());
        let table = ProcFs::default();
        wait_for("the monitor", || table.stat(child.0.id()).is_some_and(|stat| stat.comm == "sshd-session"));
        child
    }

    /// A monitor whose terminal this is.
    pub fn monitor_on(&self, uid: u32, terminal: &fs::File) -> Own {
        let program = self.path("sshd-session");
        let line = format!("echo {uid} > /proc/self/loginuid; exec setsid --ctty {} 1000", program.display());
        let input = terminal.try_clone().unwrap();
        let child = Own(Command::new("sh").arg("-c").arg(line).stdin(input).spawn().unwrap());
        let table = ProcFs::default();
        let is_there = |stat: Stat| stat.comm == "sshd-session" && stat.pts.is_some();
        wait_for("the monitor", || table.stat(child.0.id()).is_some_and(is_there));
        child
    }

    pub fn rows(&self, ended: bool) -> Vec<Row> {
        match self.control(&Message::List(List { after: 0, ended })) {
            Message::Sessions(page) => page.rows,
            other => panic!("{other:?}"),
        }
    }

    /// The rows of one uid: other tests have people too, and their processes are seen.
    pub fn rows_of(&self, uid: u32, ended: bool) -> Vec<Row> {
        self.rows(ended).into_iter().filter(|row| row.uid == uid).collect()
    }

    /// All that the journal was told so far.
    pub fn journal(&self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0_u8; 16 * 1024];
        while let Ok(read) = self.journal.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
        }
        heard
    }

    /// Announces and opens a session of this monitor.
    pub fn log_in(&self, monitor: &Own, uid: u32) -> u64 {
        assert_eq!(self.control(&Message::Pending(pending(monitor.parent(), uid))), Message::Done);
        match self.session(&Message::Open(open(monitor, uid))) {
            Message::Opened(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(&self, target: Target, grace_s: u16, reason: &str) -> Message {
        let text = "your access has ended".to_owned();
        self.control(&Message::End(End { target, grace_s, reason: reason.into(), text }))
    }
}

pub fn ask(path: &Path, message: &Message) -> Message {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write_frame(&mut stream, message).unwrap();
    let answer = read_frame(&mut stream).unwrap();
    assert_eq!(stream.read(&mut [0_u8]).unwrap(), 0, "one frame each way");
    answer
}

pub fn user(uid: u32) -> String {
    format!("u{uid}@contoso.com")
}

pub fn pending(monitor: Parent, uid: u32) -> Pending {
    Pending {
        monitor,
        user: user(uid),
        uid,
        oid: "0".repeat(36),
        correlation: "abc".into(),
        certificate: "serial 1".into(),
        digest: NO_DIGEST,
        rhost: "10.0.0.9".into(),
        until: 4_000_000_000,
        admin: true,
        degraded: false,
        open_within_s: 65,
    }
}

pub fn open(monitor: &Own, uid: u32) -> Open {
    let owner = ProcFs::default().owner(monitor.0.id()).unwrap();
    Open {
        user: user(uid),
        rhost: "10.0.0.9".into(),
        auth: String::new(),
        audit_session: owner.session,
        loginuid: owner.loginuid,
        parents: vec![monitor.parent()],
    }
}

pub fn close(monitor: &Own, uid: u32) -> Close {
    let open = open(monitor, uid);
    Close { user: open.user, audit_session: open.audit_session, parents: open.parents }
}

/// A process with a login uid, and with `uid` as its own when asked.
pub fn process(loginuid: u32, own: Option<u32>) -> Own {
    let change = own.map(|uid| format!("setpriv --reuid {uid} --clear-groups ")).unwrap_or_default();
    let line = format!("echo {loginuid} > /proc/self/loginuid; exec {change}sleep 1000");
    let child = Own(Command::new("sh").arg("-c").arg(line).process_group(0).spawn().unwrap());
    let table = ProcFs::default();
    wait_for("the process", || table.stat(child.0.id()).is_some_and(|stat| stat.comm == "sleep"));
    child
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
