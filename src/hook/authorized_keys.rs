//! sshd's AuthorizedKeysCommand. All of it is in [`nightlatch_hook::offer`]; here stand the timer and the
//! real socket.

use std::process::ExitCode;

use nightlatch_hook::{HOOK_DEADLINE, Server, arm, offer};

fn main() -> ExitCode {
    let Some(armed) = arm(HOOK_DEADLINE) else {
        return ExitCode::FAILURE;
    };
    offer::run(&armed, Server::hook(), std::env::args_os().skip(1))
}
