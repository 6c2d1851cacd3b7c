//! The hook as a process: how long from spawn to exit, and how much memory while it waits.
//!
//! It asks on a fixed path and believes only a socket that root bound, so all of this happens in a mount
//! namespace of its own with an empty `/run`: a server as root, and a driver that runs the programs as
//! somebody without rights. The host's `/run` is not touched.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_wire::Message;
use nightlatch_wire::line::is_admit_line;
use serde::{Deserialize, Serialize};

use crate::pairs::{Paired, Plan, measure, micros};
use crate::programs::Programs;
use crate::row::{Limit, Row};

const SOCKET: &str = "/run/nightlatch/hook.sock";
const INSTALLED: &str = "/run/programs";
/// Uid and gid of nobody.
const NOBODY: u32 = 65_534;
/// Against the floor.
const RATIO_LIMIT: f64 = 1.05;
/// Highest resident size while waiting, in MiB.
const RSS_LIMIT_MIB: f64 = 1.2;
/// The hook's own timer ends it on a machine that is too busy; such a round is repeated, this often at most
/// in a hundred runs.
const LATE_PER_HUNDRED: usize = 2;

/// What the driver is told and what the server answers.
#[derive(Serialize, Deserialize)]
struct Task {
    plan: Plan,
    key_type: String,
    key: String,
    line: String,
}

#[derive(Serialize, Deserialize)]
struct Timed {
    paired: Paired,
    late: usize,
}

/// Both rows of the hook.
///
/// # Errors
/// When a program does not do what it is measured for.
pub(crate) fn rows(programs: &Programs, quick: bool) -> Result<Vec<Row>, String> {
    let plan = if quick { Plan { runs: 5, rounds: 40 } } else { Plan { runs: 5, rounds: 500 } };
    let (ca, holder) = (TestKey::rsa2048(), TestKey::rsa2048());
    let certificate = CertificateBuilder::new(&holder).principals(["ann@contoso.com"]).permit_all().line(&ca);
    let (key_type, key) = certificate.split_once(' ').ok_or("no certificate")?;
    let ca_line = ca.line();
    let line = format!(
        "restrict,pty,cert-authority,principals=\"ann@contoso.com\",expiry-time=\"20361121223000Z\" {ca_line}"
    );
    let task = Task { plan, key_type: key_type.to_owned(), key: key.to_owned(), line };
    let script =
        "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/nightlatch /run/programs && exec \"$@\"";
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&own);
    command.arg("hook-server").arg(&programs.hook).arg(&programs.floor);
    let said = crate::talk(&mut command, &task)?;
    let (timed, rss): (Timed, f64) = serde_json::from_slice(&said).map_err(|why| why.to_string())?;
    if timed.late > 0 {
        println!("hook: {} runs were ended by the hook's own timer and repeated", timed.late);
    }
    let name = "hook.spawn_to_exit";
    let limit = Limit { ratio: Some(RATIO_LIMIT), ..Limit::default() };
    Ok(vec![
        Row::timed(name, "µs", &timed.paired, 2, limit),
        Row::again(name, "µs", &timed.paired),
        Row::plain("hook.rss", rss, "MiB", RSS_LIMIT_MIB),
    ])
}

/// In the namespace, as root: serves the socket and starts the driver, then stays mute and looks at the
/// hook's memory.
///
/// # Errors
/// As [`rows`].
pub(crate) fn server(hook: &Path, floor: &Path) -> Result<(), String> {
    let task: Task = crate::told()?;
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    // All of them freshly installed in one folder: the same file written by a linker and by a copy differ by
    // several per cent.
    let installed = [(floor, "floor"), (floor, "floor-again"), (hook, "authorized-keys"), (&own, "driver")];
    for (from, name) in installed {
        let to = Path::new(INSTALLED).join(name);
        fs::copy(from, &to).map_err(|why| format!("{}: {why}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(|why| why.to_string())?;
    }
    let reply = Message::Line(task.line.clone()).encode().map_err(|why| why.to_string())?;
    let listener = bind()?;
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // A program that was ended by its timer is no concern of the server.
            drop(answer(stream, &reply));
        }
    });
    let mut driver = Command::new(format!("{INSTALLED}/driver"));
    driver.arg("hook-driver").uid(NOBODY).gid(NOBODY);
    let said = crate::talk(&mut driver, &task)?;
    let timed: Timed = serde_json::from_slice(&said).map_err(|why| why.to_string())?;

    fs::remove_file(SOCKET).map_err(|why| why.to_string())?;
    let _mute = bind()?;
    let mut highest = 0.0_f64;
    for _ in 0..5 {
        let mut command = program("authorized-keys", &task);
        let child = command.uid(NOBODY).gid(NOBODY).spawn().map_err(|why| why.to_string())?;
        highest = highest.max(watch(child)?);
    }
    crate::say(&(timed, highest))
}

fn bind() -> Result<UnixListener, String> {
    let listener = UnixListener::bind(SOCKET).map_err(|why| format!("{SOCKET}: {why}"))?;
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o666)).map_err(|why| why.to_string())?;
    Ok(listener)
}

fn answer(mut stream: UnixStream, reply: &[u8]) -> std::io::Result<()> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut body)?;
    stream.write_all(reply)
}

fn program(name: &str, task: &Task) -> Command {
    let mut command = Command::new(format!("{INSTALLED}/{name}"));
    command.args(["ann@contoso.com", "1900000000", &task.key_type, &task.key]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The highest resident size of a process until it ends, in MiB, as the kernel counts it for the process
/// itself.
fn watch(mut child: Child) -> Result<f64, String> {
    let start = Instant::now();
    let path = format!("/proc/{}/status", child.id());
    let mut highest = 0.0_f64;
    while child.try_wait().map_err(|why| why.to_string())?.is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            drop(child.kill());
            return Err("the hook outlived its timer".to_owned());
        }
        let status = fs::read_to_string(&path).unwrap_or_default();
        highest = highest.max(crate::status_mib(&status, "VmHWM:").unwrap_or(0.0));
    }
    if highest > 0.0 { Ok(highest) } else { Err("the hook did not wait for an answer".to_owned()) }
}

/// In the namespace, as nobody: runs the programs in turn. This process is small and asks for no other user,
/// so that a spawn costs what it must and not what a large parent adds.
///
/// # Errors
/// When a program prints something else than it should.
pub(crate) fn driver() -> Result<(), String> {
    let task: Task = crate::told()?;
    let names = ["floor", "floor-again", "authorized-keys"];
    let mut late = 0;
    let most_late = 3 + task.plan.runs * task.plan.rounds * LATE_PER_HUNDRED / 100;
    let paired = measure(task.plan, names.len(), |which, _| {
        loop {
            let mut command = program(names[which], &task);
            let (took, done) = micros(|| once(&mut command));
            let (printed, good) = done.map_err(|why| format!("{}: {why}", names[which]))?;
            let printed = printed.strip_suffix(b"\n").unwrap_or(&printed);
            // The floor passes on the frame's version and verb as well, and the length of the line.
            let right = printed.ends_with(task.line.as_bytes()) && (which != 2 || is_admit_line(printed));
            if good && right {
                return Ok(took);
            }
            late += 1;
            if late > most_late {
                return Err(format!("{} does not answer: {late} runs failed", names[which]));
            }
        }
    })?;
    crate::say(&Timed { paired, late })
}

fn once(command: &mut Command) -> std::io::Result<(Vec<u8>, bool)> {
    let mut child = command.spawn()?;
    let mut printed = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut printed)?;
    }
    Ok((printed, child.wait()?.success()))
}
