//! `nightlatch-userdbd`: reads its arguments, binds its socket, answers until it is stopped.
//!
//! The only place of this program that reads the clock, the environment or the command line.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use nightlatch_model::Timestamp;
use nightlatch_userdbd::{Answerer, Notifier, Say, Server, Source, probe, watch, watchdog_interval};

const USAGE: &str = "usage: userdbd [--socket PATH] [--snapshot PATH] [--passwd PATH]";
const SOCKET: &str = "/run/nightlatch-userdbd/io.nightlatch.UserDatabase";
const SNAPSHOT: &str = "/run/nightlatch/accounts/snapshot.json";
const PASSWD: &str = "/etc/passwd";
/// How often the socket is checked when systemd sets no deadline.
const UNWATCHED_INTERVAL: Duration = Duration::from_secs(10);

struct Options {
    socket: PathBuf,
    snapshot: PathBuf,
    passwd: PathBuf,
}

impl Options {
    /// Reads the arguments; `Err` holds the words for the person who called.
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self { socket: SOCKET.into(), snapshot: SNAPSHOT.into(), passwd: PASSWD.into() };
        while let Some(flag) = args.next() {
            let place = match flag.to_str() {
                Some("--socket") => &mut options.socket,
                Some("--snapshot") => &mut options.snapshot,
                Some("--passwd") => &mut options.passwd,
                _ => return Err(format!("unknown argument `{}`", flag.display())),
            };
            *place = args.next().ok_or_else(|| format!("`{}` needs a path", flag.display()))?.into();
        }
        Ok(options)
    }
}

fn say(line: &str) {
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[expect(clippy::disallowed_methods, reason = "the one clock of this program; all else gets time handed in")]
fn now() -> Timestamp {
    let seconds = std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn serve(options: Options) -> Result<(), String> {
    let say: Say = Arc::new(say);
    let Options { socket, snapshot, passwd } = options;
    let service = Server::service_of(&socket).map_err(|error| error.to_string())?.to_owned();
    let source = Source::new(snapshot, passwd, Arc::clone(&say));
    let answerer = Answerer::new(source, &service, Arc::new(now));
    let server = Server::bind(&socket, answerer, Arc::clone(&say)).map_err(|error| error.to_string())?;
    // Kept to the end: its sender going away is what would stop the watch.
    let (_keep, stop) = mpsc::channel();
    if let Some(value) = env::var_os("NOTIFY_SOCKET") {
        let notifier = Notifier::new(&value).map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
        let (usec, pid) = (env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok());
        let interval = watchdog_interval(usec.as_deref(), pid.as_deref(), std::process::id());
        let interval = interval.unwrap_or(UNWATCHED_INTERVAL);
        let watcher = thread::Builder::new().name("watch".to_owned());
        let path = socket;
        let spawned = watcher.spawn(move || {
            watch(|| probe(&path, &service, interval), &notifier, interval, &stop, &say);
        });
        spawned.map_err(|error| format!("cannot start the watch: {error}"))?;
    }
    server.run();
    Ok(())
}

fn main() -> ExitCode {
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            say(&format!("userdbd: {wrong}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("userdbd: {error}"));
            ExitCode::FAILURE
        }
    }
}
