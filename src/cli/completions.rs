//! `nightlatch completions SHELL` and `nightlatch man`: made from the command line's own description, so
//! that they cannot differ from it.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;
use super::output::{UNKNOWN, YES, complain};

/// Prints the completion script of a shell.
pub(super) fn completions(shell: Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "nightlatch", &mut script);
    written(std::io::stdout().write_all(&script))
}

/// Writes one page a command into a folder.
pub(super) fn man(folder: &Path) -> u8 {
    written(clap_mangen::generate_to(Arguments::command(), folder))
}

fn written(done: std::io::Result<()>) -> u8 {
    match done {
        Ok(()) => YES,
        Err(cause) => {
            complain(&format!("cannot write: {cause}"));
            UNKNOWN
        }
    }
}
