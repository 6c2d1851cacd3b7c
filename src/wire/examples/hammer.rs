//! Sends hostile inputs through the line printer: `cargo run --release -p nightlatch-wire --example hammer
//! -- [COUNT] [SEED]` (default 10,000,000 and 1). Exit 1 and the line when one breaks the grammar.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program to be read by a person

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().ok());
    let (count, seed) = (args.next().unwrap_or(Some(10_000_000)), args.next().unwrap_or(Some(1)));
    let (Some(count), Some(seed)) = (count, seed) else {
        eprintln!("hammer: COUNT and SEED are numbers");
        return ExitCode::from(2);
    };
    match nightlatch_wire::hammer::hammer(seed, count) {
        Ok(tally) => {
            println!("{count} inputs, seed {seed}: {} printed, {} refused", tally.printed, tally.refused);
            ExitCode::SUCCESS
        }
        Err(line) => {
            eprintln!("hammer: seed {seed}: this line broke the grammar: {line:?}");
            ExitCode::FAILURE
        }
    }
}
