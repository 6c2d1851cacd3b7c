//! The program behind pam_exec. All of it is in [`nightlatch_hook::account`]; here stand the timer and the
//! real socket.

use std::process::ExitCode;

use nightlatch_hook::{PAM_ANSWER_WAIT, PAM_DEADLINE, Server, account, arm};

fn main() -> ExitCode {
    let Some(armed) = arm(PAM_DEADLINE) else {
        return ExitCode::FAILURE;
    };
    account::run(&armed, Server::account(), PAM_ANSWER_WAIT)
}
