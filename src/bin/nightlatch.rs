//! The command line: see `nightlatch::cli`.

use std::process::ExitCode;

use nightlatch::agent::{Paths, entries};

fn main() -> ExitCode {
    nightlatch::cli::main(|effective| {
        entries(&Paths::default(), effective).map_err(|cause| cause.to_string())
    })
}
