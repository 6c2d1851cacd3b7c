//! The emulator as a program. It enters no namespace and starts nothing: whoever runs it has set the stage.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program: `ready` and errors are its output"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nightlatch_emulator::{HIMDS_TOKEN_DIR, Options, start, world};
use tokio::signal::unix::{SignalKind, signal};

/// An emulated Entra tenant, its Azure resource APIs and a node's metadata services. Tests only.
#[derive(Debug, Parser)]
#[command(name = "nightlatch-emulator", version)]
struct Flags {
    /// Directory for keys, certificates, users.json and endpoints.json.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// TLS listener for all Microsoft hosts; may be given more than once.
    #[arg(long, value_name = "ADDR:PORT")]
    https: Vec<SocketAddr>,
    /// Instance metadata service.
    #[arg(long, value_name = "ADDR:PORT")]
    imds: Option<SocketAddr>,
    /// Arc agent's metadata service.
    #[arg(long, value_name = "ADDR:PORT")]
    himds: Option<SocketAddr>,
    /// Directory of himds challenge files.
    #[arg(long, value_name = "DIR", default_value = HIMDS_TOKEN_DIR)]
    himds_token_dir: PathBuf,
    /// Control API on a unix socket.
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// Control API on TCP.
    #[arg(long, value_name = "ADDR:PORT")]
    control: Option<SocketAddr>,
    /// Tenant id.
    #[arg(long, value_name = "GUID", default_value = world::TENANT)]
    tenant: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let options = Options {
        state_dir: flags.state,
        https: flags.https,
        imds: flags.imds,
        himds: flags.himds,
        control_socket: flags.control_socket,
        control: flags.control,
        tenant: flags.tenant,
        himds_token_dir: flags.himds_token_dir,
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nightlatch-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = start(options).await?;
    println!("ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(())
}
