//! The command line: see `nightlatch::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightlatch::cli::main()
}
