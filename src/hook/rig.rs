//! For tests only, never installed: the two programs with the socket, its owner and the times as arguments,
//! and a listener that another user can run.
//!
//! ```text
//! hook-rig offer   PATH OWNER-UID DEADLINE-MS USER UID TYPE KEY
//! hook-rig account PATH OWNER-UID DEADLINE-MS WAIT-MS            (PAM_* from the environment)
//! hook-rig pam     PATH OWNER-UID [observe]                      (PAM_* and SSH_AUTH_INFO_0 likewise)
//! hook-rig listen  PATH            says "ready"; answers PERMIT to ACCOUNT, a good line to the rest
//! hook-rig mute    PATH            says "ready"; never accepts
//! ```
#![allow(clippy::print_stdout)] // "ready" is what its caller waits for

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nightlatch_hook::phase::{self, Sockets};
use nightlatch_hook::{Server, account, arm, offer};
use nightlatch_wire::{Message, read_frame, write_frame};

const LINE: &str = "restrict,pty,cert-authority,principals=\"ann@contoso.com\",expiry-time=\"20261121223000Z\" \
                    ssh-rsa AAAA";

fn main() -> ExitCode {
    run().unwrap_or_else(|| ExitCode::from(99))
}

fn run() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let (verb, path) = (args.next()?, args.next()?);
    let path = Path::new(&path);
    let mut number = || args.next()?.to_str()?.parse::<u32>().ok();
    match verb.to_str()? {
        "offer" => {
            let (owner, deadline) = (number()?, number()?);
            let armed = arm(Duration::from_millis(deadline.into()))?;
            Some(offer::run(&armed, Server { path, owner }, args))
        }
        "account" => {
            let (owner, deadline, wait) = (number()?, number()?, number()?);
            let armed = arm(Duration::from_millis(deadline.into()))?;
            Some(account::run(&armed, Server { path, owner }, Duration::from_millis(wait.into())))
        }
        "pam" => {
            let server = Server { path, owner: number()? };
            Some(phase::run(Sockets { account: server, session: server }, args))
        }
        "listen" => {
            let listener = open(path)?;
            loop {
                let (mut stream, _) = listener.accept().ok()?;
                let reply = match read_frame(&mut stream) {
                    Ok(Message::Account(_)) => Message::Permit { until: 1, admin: true },
                    _ => Message::Line(LINE.to_owned()),
                };
                // A caller who saw the wrong owner has hung up already.
                let _ = write_frame(&mut stream, &reply);
            }
        }
        "mute" => {
            let _listener = open(path)?;
            // Until whoever started us closes our input.
            std::io::stdin().read_to_end(&mut Vec::new()).ok()?;
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}

fn open(path: &Path) -> Option<UnixListener> {
    let listener = UnixListener::bind(path).ok()?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).ok()?;
    println!("ready");
    std::io::stdout().flush().ok()?;
    Some(listener)
}
