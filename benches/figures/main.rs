//! `make bench`: what the product costs, each figure beside its floor and its limit.
//!
//! Prints a table and writes `target/bench.json`. Runs as root on a host that boots test nodes. Exit status
//! 0 when every limit is met, 1 when one is not, 2 when the machine was too noisy to say.
//! `NIGHTLATCH_BENCH_QUICK=1` does little of everything, to see that it works; words after `--` choose the
//! groups (`hook`, `node`, `token`, `grammar`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench reads the clock, prints, and has nobody to answer to when it breaks"
)]

mod decision;
mod echo;
mod fetches;
mod grammar;
mod hook;
mod node;
mod pairs;
mod programs;
mod questions;
mod row;
mod token;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use programs::Programs;
use row::Verdict;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match *words {
        ["hook-server", hook, floor] => hook::server(Path::new(hook), Path::new(floor)).map(|()| 0),
        ["hook-driver"] => hook::driver().map(|()| 0),
        ["ask-admission"] => questions::admission().map(|()| 0),
        ["ask-service"] => questions::service().map(|()| 0),
        ["ask-offers"] => questions::offers().map(|()| 0),
        ["ask-account"] => questions::account().map(|()| 0),
        ["echo"] => echo::serve().map(|()| 0),
        ["ready"] => echo::ready().map(|()| 0),
        ["fetch-latency"] => fetches::latency().map(|()| 0),
        ["fetch-rate"] => fetches::rate().map(|()| 0),
        ["fetch-many"] => fetches::many().map(|()| 0),
        ["fetch-process"] => fetches::process().map(|()| 0),
        _ => figures(&words),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("figures: {why}");
            ExitCode::FAILURE
        }
    }
}

fn figures(groups: &[&str]) -> Result<u8, String> {
    let quick = std::env::var_os("NIGHTLATCH_BENCH_QUICK").is_some_and(|word| word == "1");
    let chosen = |group: &str| groups.is_empty() || groups.contains(&group);
    let programs = Programs::find()?;
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load before: {}", load().trim());
    let mut rows = Vec::new();
    if chosen("hook") {
        rows.extend(hook::rows(&programs, quick)?);
    }
    if chosen("node") {
        rows.extend(node::rows(&programs, quick)?);
    }
    if chosen("token") {
        rows.extend(token::rows(&programs, quick)?);
    }
    if chosen("decision") {
        rows.extend(decision::rows(quick)?);
    }
    if chosen("grammar") {
        rows.push(grammar::row(quick));
    }
    println!("load after:  {}", load().trim());
    if !programs.daemon.parent().is_some_and(|folder| folder.ends_with("release")) {
        println!("the daemon is not a release build: its figures say nothing");
    }
    if quick {
        println!("a quick run: too few rounds for a claim");
    }
    row::print(&rows);
    let file = programs.target.join("bench.json");
    row::write(&rows, &file)?;
    let any = |verdict: Verdict| rows.iter().any(|row| row.verdict == verdict);
    Ok(if any(Verdict::NotMet) {
        1
    } else if any(Verdict::TooNoisy) {
        2
    } else {
        0
    })
}

/// Starts another part of this program, tells it its task as JSON and returns what it says.
fn talk(command: &mut Command, task: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| format!("{}: {why}", command.get_program().to_string_lossy()))?;
    let text = serde_json::to_vec(task).map_err(|why| why.to_string())?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(&text).map_err(|why| why.to_string())?;
    }
    let done = child.wait_with_output().map_err(|why| why.to_string())?;
    if done.status.success() { Ok(done.stdout) } else { Err(format!("a part of the bench: {}", done.status)) }
}

/// The task that [`talk`] handed over.
fn told<T: serde::de::DeserializeOwned>() -> Result<T, String> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).map_err(|why| why.to_string())?;
    serde_json::from_slice(&text).map_err(|why| why.to_string())
}

/// The answer to [`talk`].
fn say(answer: &impl serde::Serialize) -> Result<(), String> {
    let text = serde_json::to_vec(answer).map_err(|why| why.to_string())?;
    std::io::stdout().write_all(&text).map_err(|why| why.to_string())
}

/// A size in `/proc/PID/status`, in MiB.
fn status_mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1_024.0)
}
