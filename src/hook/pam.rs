//! The program behind pam_exec. All of it is in [`nightlatch_hook::phase`]; here stand the real sockets.

use std::process::ExitCode;

use nightlatch_hook::phase::{self, Sockets};

fn main() -> ExitCode {
    phase::run(Sockets::installed(), std::env::args_os().skip(1))
}
