//! The command line: `nightlatch <noun> …`. Exit status 0 yes, 1 no, 2 usage, 3 cannot tell.
//!
//! It prints to the person who typed; it prints no secret and decides nothing.

mod capture;
mod client;
mod explain;
mod output;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::{Format, NO, UNKNOWN, USAGE, YES};

/// Entra ID access to this node that ends by itself.
#[derive(Debug, Parser)]
#[command(name = "nightlatch", version, about, arg_required_else_help = true)]
pub struct Arguments {
    /// How to print: for people or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say why a login was decided as it was, or how it would be decided now.
    ///
    /// QUESTION is a login name or a correlation id. A name without --last is judged now.
    Explain {
        /// A login name (`alice@contoso.com`) or the correlation id that a refusal shows.
        question: String,
        /// The last decision about this login name instead of a new one.
        #[arg(long, conflicts_with = "cert")]
        last: bool,
        /// Judge with this certificate, as `az ssh cert` wrote it.
        #[arg(long, value_name = "FILE")]
        cert: Option<PathBuf>,
        /// The PAM service to judge for: sshd or sudo.
        #[arg(long, default_value = "sshd")]
        service: String,
    },
    /// Show how the daemon is doing and how old its knowledge is.
    Status,
    /// Record, read-only and scrubbed, what this node's Azure really answers.
    ///
    /// Certificate extensions and the document of the authorities' keys are not public: this compares
    /// them with what Nightlatch assumes, and says what to configure. Run it as root on a real node.
    Capture(capture::Arguments),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let status = match arguments.command {
        Command::Explain { question, last, cert, service } => {
            explain::run(&question, last, cert.as_deref(), &service, arguments.output)
        }
        Command::Status => explain::status(arguments.output),
        Command::Capture(what) => capture::run(&what),
    };
    ExitCode::from(status)
}
