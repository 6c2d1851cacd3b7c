//! The daemon: see `nightlatch::agent`.

use std::process::ExitCode;

use nightlatch::agent::{Paths, run};

fn main() -> ExitCode {
    if let Some(word) = std::env::args().nth(1) {
        #[expect(clippy::print_stderr, reason = "the only way to answer whoever typed it")]
        {
            eprintln!(
                "nightlatchd: `{word}` is not understood; it takes no arguments and is started by systemd"
            );
        }
        return ExitCode::from(2);
    }
    nightlatch::telemetry::start_logging();
    match run(&Paths::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            nightlatch::telemetry::log_chain("nightlatchd does not run", &cause);
            ExitCode::FAILURE
        }
    }
}
