//! The chain of processes above this one, from `/proc/PID/stat` (proc_pid_stat(5)). The daemon joins the
//! hook's call and PAM's question of one connection by it. What cannot be read shortens the chain; it is
//! never guessed.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::parent_id;

use nightlatch_wire::{MAX_PARENTS, Parent};

/// Longest `stat` that is read, in bytes; real ones have a few hundred.
const MAX_STAT_BYTES: u64 = 4_096;

/// Parent pid and start time of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 4.
    pub parent: u32,
    /// Field 22, in clock ticks since boot.
    pub start: u64,
}

/// Reads fields 4 and 22. The name in field 2 is any bytes in parentheses, blanks and `)` included, so
/// the fields are counted from the last `)`.
#[must_use]
pub fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let close = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, start })
}

/// The parents of this process, nearest first, at most [`MAX_PARENTS`].
#[must_use]
pub fn parents() -> Vec<Parent> {
    let read = |pid: u32| -> Option<Stat> {
        let mut stat = Vec::with_capacity(512);
        File::open(format!("/proc/{pid}/stat")).ok()?.take(MAX_STAT_BYTES).read_to_end(&mut stat).ok()?;
        parse_stat(&stat)
    };
    chain(parent_id, read)
}

/// The same over any process table. A process that ended meanwhile may have left its pid to another, so
/// each step counts only if the child still names the same parent after the parent was read.
pub fn chain(own_parent: impl Fn() -> u32, read: impl Fn(u32) -> Option<Stat>) -> Vec<Parent> {
    let mut found: Vec<Parent> = Vec::with_capacity(MAX_PARENTS);
    let mut pid = own_parent();
    while found.len() < MAX_PARENTS && pid != 0 {
        let Some(stat) = read(pid) else { break };
        let unchanged = match found.last() {
            None => own_parent() == pid,
            Some(child) => read(child.pid) == Some(Stat { parent: pid, start: child.start }),
        };
        if !unchanged {
            break;
        }
        found.push(Parent { pid, start: stat.start });
        pid = stat.parent;
    }
    found
}
