//! How answers are printed.

use clap::ValueEnum;

/// Exit status: yes.
pub const YES: u8 = 0;
/// Exit status: no.
pub const NO: u8 = 1;
/// Exit status: the command line was wrong.
pub const USAGE: u8 = 2;
/// Exit status: cannot tell.
pub const UNKNOWN: u8 = 3;

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
    /// The token alone (`token get`).
    Token,
    /// A header line (`token get`).
    Header,
    /// Shell variables (`token get`).
    Env,
}

/// Prints a line for the person who typed.
#[expect(clippy::print_stdout, reason = "the command line talks to its caller")]
pub(super) fn say(line: &str) {
    println!("{line}");
}

/// Prints a complaint.
#[expect(clippy::print_stderr, reason = "the command line talks to its caller")]
pub(super) fn complain(line: &str) {
    eprintln!("nightlatch: {line}");
}

/// Prints rows with aligned columns; the last column is not padded.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let last = row.len().saturating_sub(1);
        let cells = row.iter().enumerate().map(|(at, cell)| {
            if at == last {
                cell.clone()
            } else {
                format!("{cell:<w$}", w = widths.get(at).copied().unwrap_or(0))
            }
        });
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
