//! `nightlatch-sessiond`: reads its arguments, takes its sockets, keeps the table until it is stopped.
//!
//! The only place of this program that reads the environment or the command line.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use listenfd::ListenFd;
use nightlatch_sessiond::accounts::{Accounts, uid_of};
use nightlatch_sessiond::clock::{Clock, system_now};
use nightlatch_sessiond::journal::{Entry, Journal, Journald, Priority, SOCKET};
use nightlatch_sessiond::keeper::{Keeper, World};
use nightlatch_sessiond::ledger::Ledger;
use nightlatch_sessiond::notify::{Notifier, kick_every_ms};
use nightlatch_sessiond::process::ProcFs;
use nightlatch_sessiond::server::{Answer, Complain, Door, serve};
use nightlatch_sessiond::signal::Pidfds;
use nightlatch_sessiond::tty::Pts;
use nightlatch_sessiond::watch::{Life, Waker, watch};

const USAGE: &str = "usage: sessiond [--session PATH --control PATH] [--root-uid UID] [--daemon-uid UID] \
                     [--state FOLDER] [--run FOLDER] [--break-glass PATH] [--passwd PATH] [--journal PATH]";
/// The user that the daemon runs as.
const DAEMON: &str = "nightlatch";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How often to send a sign of life when systemd sets no deadline, in milliseconds.
const UNWATCHED_MS: u64 = 10_000;

struct Options {
    session: Option<PathBuf>,
    control: Option<PathBuf>,
    root_uid: u32,
    daemon_uid: Option<u32>,
    state: PathBuf,
    run: PathBuf,
    accounts: Accounts,
    journal: PathBuf,
}

impl Options {
    /// Reads the arguments; `Err` holds the words for the person who called.
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let accounts =
            Accounts { passwd: "/etc/passwd".into(), break_glass: "/etc/nightlatch/break-glass".into() };
        let mut options = Self {
            session: None,
            control: None,
            root_uid: 0,
            daemon_uid: None,
            state: "/var/lib/nightlatch-sessiond".into(),
            run: "/run/nightlatch-sessiond".into(),
            accounts,
            journal: SOCKET.into(),
        };
        while let Some(flag) = args.next() {
            let name = flag.to_str().unwrap_or_default();
            let mut value = || args.next().ok_or_else(|| format!("`{}` needs a value", flag.display()));
            match name {
                "--session" => options.session = Some(value()?.into()),
                "--control" => options.control = Some(value()?.into()),
                "--root-uid" => options.root_uid = number(&value()?)?,
                "--daemon-uid" => options.daemon_uid = Some(number(&value()?)?),
                "--state" => options.state = value()?.into(),
                "--run" => options.run = value()?.into(),
                "--break-glass" => options.accounts.break_glass = value()?.into(),
                "--passwd" => options.accounts.passwd = value()?.into(),
                "--journal" => options.journal = value()?.into(),
                _ => return Err(format!("unknown argument `{}`", flag.display())),
            }
        }
        if options.session.is_some() != options.control.is_some() {
            return Err("`--session` and `--control` go together".to_owned());
        }
        Ok(options)
    }
}

fn number(text: &OsString) -> Result<u32, String> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("`{}` is no user id", text.display()))
}

fn say(line: &str) {
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The two sockets: those that systemd handed over, told apart by their paths, or our own.
fn sockets(options: &Options) -> Result<(UnixListener, UnixListener), String> {
    if let (Some(session), Some(control)) = (&options.session, &options.control) {
        return Ok((bind(session)?, bind(control)?));
    }
    let (mut session, mut control) = (None, None);
    let mut given = ListenFd::from_env();
    for at in 0..given.len() {
        let listener = given.take_unix_listener(at).map_err(|error| format!("socket {at}: {error}"))?;
        let Some(listener) = listener else { continue };
        let address = listener.local_addr().map_err(|error| format!("socket {at}: {error}"))?;
        match address.as_pathname().and_then(Path::file_name).and_then(|name| name.to_str()) {
            Some("session.sock") => session = Some(listener),
            Some("control.sock") => control = Some(listener),
            _ => return Err(format!("socket {at} is neither session.sock nor control.sock")),
        }
    }
    let missing =
        |name: &str| format!("no {name}: start nightlatch-sessiond.service, or give --session and --control");
    Ok((session.ok_or_else(|| missing("session.sock"))?, control.ok_or_else(|| missing("control.sock"))?))
}

fn bind(path: &Path) -> Result<UnixListener, String> {
    UnixListener::bind(path).map_err(|error| format!("cannot listen on {}: {error}", path.display()))
}

fn daemon_uid(options: &Options) -> Result<u32, String> {
    if let Some(uid) = options.daemon_uid {
        return Ok(uid);
    }
    let passwd = &options.accounts.passwd;
    let found = uid_of(passwd, DAEMON).map_err(|error| format!("{}: {error}", passwd.display()))?;
    found.ok_or_else(|| format!("no user `{DAEMON}` in {}: run systemd-sysusers", passwd.display()))
}

fn run(options: Options) -> Result<(), String> {
    let daemon_uid = daemon_uid(&options)?;
    let (session, control) = sockets(&options)?;
    let boot = fs::read_to_string(BOOT_ID).map_err(|error| format!("{BOOT_ID}: {error}"))?;
    let linger = options.run.join("linger");
    let journal: Arc<dyn Journal> = Arc::new(Journald::new(options.journal));
    if let Err(error) = fs::create_dir_all(&linger) {
        // Sessions are kept and ended without it.
        journal.tell(&Entry::new(Priority::Error, format!("{}: {error}", linger.display())));
    }
    let complain: Complain = {
        let journal = Arc::clone(&journal);
        Arc::new(move |message| journal.tell(&Entry::new(Priority::Warning, message)))
    };
    let world = World {
        processes: Arc::new(ProcFs::default()),
        signals: Arc::new(Pidfds),
        terminals: Arc::new(Pts::default()),
        journal,
        accounts: options.accounts,
        linger,
        own_pid: std::process::id(),
        own_uid: nix::unistd::getuid().as_raw(),
    };
    let ledger = Ledger::new(options.state.join("sessions.jsonl"), boot.trim().to_owned());
    let keeper = Arc::new(Keeper::new(world, ledger));
    let clock: Clock = Arc::new(system_now);
    let waker = Waker::new().map_err(|error| format!("cannot make an eventfd: {error}"))?;
    keeper.load(clock());
    let (ended, end) = mpsc::channel();
    let pam: Answer = answer(&keeper, &clock, &waker, Keeper::answer_pam);
    let daemon: Answer = answer(&keeper, &clock, &waker, Keeper::answer_daemon);
    for (name, listener, uid, answer) in
        [("session.sock", session, options.root_uid, pam), ("control.sock", control, daemon_uid, daemon)]
    {
        let door = Door { name, uid, answer, complain: Arc::clone(&complain), clock: Arc::clone(&clock) };
        start(name, &ended, move || serve(listener, door))?;
    }
    let life = life()?;
    start("watch", &ended, move || watch(&keeper, &waker, &clock, life.as_ref()))?;
    // None of them ends but by a panic; what systemd starts anew is whole again.
    drop(ended);
    let name = end.recv().unwrap_or("every thread");
    Err(format!("{name} ended; starting anew"))
}

/// A socket's answer: the verb is done, then the watching thread looks.
fn answer(
    keeper: &Arc<Keeper>,
    clock: &Clock,
    waker: &Waker,
    verb: fn(&Keeper, nightlatch_wire::Message, nightlatch_sessiond::clock::Now) -> nightlatch_wire::Message,
) -> Answer {
    let (keeper, clock, waker) = (Arc::clone(keeper), Arc::clone(clock), waker.clone());
    Arc::new(move |message| {
        let looks_only =
            matches!(message, nightlatch_wire::Message::List(_) | nightlatch_wire::Message::Say(_));
        let answer = verb(&keeper, message, clock());
        if !looks_only {
            waker.wake();
        }
        answer
    })
}

/// Starts a thread whose end is told.
fn start(
    name: &'static str,
    ended: &mpsc::Sender<&'static str>,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    struct Told(mpsc::Sender<&'static str>, &'static str);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let told = Told(ended.clone(), name);
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _told = told;
        body();
    });
    spawned.map(|_| ()).map_err(|error| format!("cannot start {name}: {error}"))
}

fn life() -> Result<Option<Life>, String> {
    let Some(value) = env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
    let notifier = Notifier::new(&value).map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
    let every_ms = kick_every_ms(env::var("WATCHDOG_USEC").ok().as_deref()).unwrap_or(UNWATCHED_MS);
    Ok(Some(Life { notifier, every_ms }))
}

fn main() -> ExitCode {
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            say(&format!("sessiond: {wrong}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sessiond: {error}"));
            ExitCode::FAILURE
        }
    }
}
