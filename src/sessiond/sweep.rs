//! One sweep over the process table: find what a key matches, and kill it.
//!
//! Every process is held first (pidfd) and looked at again before the signal: a number that was given to
//! somebody else meanwhile is never hit. Sources: pidfd_open(2), proc_pid_loginuid(5).

use std::collections::BTreeSet;

use crate::key::{SweepKey, is_untouchable};
use crate::process::{Owner, Processes};
use crate::signal::{Signals, Strike};

/// A process that a sweep found alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: u32,
    /// Its start in clock ticks.
    pub start: u64,
    /// Its name.
    pub comm: String,
    /// Whether it was sent SIGKILL.
    pub struck: bool,
}

/// Whom a sweep takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that the key matches.
    All(SweepKey),
    /// Of that, what runs with the person's own rights.
    Own(SweepKey),
    /// Nobody: there is no key that would not hit the node itself.
    Nobody,
}

impl Reach {
    fn takes(self, owner: &Owner) -> bool {
        match self {
            Self::All(key) => key.matches(owner),
            Self::Own(key) => key.matches_own(owner),
            Self::Nobody => false,
        }
    }
}

/// Where sweeps look and strike.
pub struct Ground<'a> {
    /// The process table.
    pub processes: &'a dyn Processes,
    /// Gives holds.
    pub signals: &'a dyn Signals,
    /// Our own number.
    pub own_pid: u32,
}

impl Ground<'_> {
    /// Whose every process is.
    #[must_use]
    pub fn owners(&self) -> Vec<(u32, Owner)> {
        let pids = self.processes.pids().into_iter();
        pids.filter_map(|pid| Some((pid, self.processes.owner(pid)?))).collect()
    }

    /// Looks at every process once and kills what one of `reaches` takes, at once: who forks is not to have the
    /// time of a whole look. Returns, for each of them, all that lived when it was looked at.
    #[must_use]
    pub fn sweep(&self, reaches: &[Reach]) -> Vec<Vec<Found>> {
        let mut found = vec![Vec::new(); reaches.len()];
        for pid in self.processes.pids() {
            let Some(owner) = self.processes.owner(pid) else { continue };
            for (reach, found) in reaches.iter().zip(&mut found) {
                if reach.takes(&owner) {
                    found.extend(self.meet(*reach, pid));
                }
            }
        }
        found
    }

    /// Kills one process that seemed to match; `None` when it is dead or must not be touched.
    fn meet(&self, reach: Reach, pid: u32) -> Option<Found> {
        let stat = self.processes.stat(pid)?;
        if stat.dead || is_untouchable(self.processes, self.own_pid, pid, &stat) {
            return None;
        }
        let struck = self.strike(reach, pid, stat.start);
        Some(Found { pid, start: stat.start, comm: stat.comm, struck })
    }

    /// Kills one process if, once it is held, it is still the one that began at `start`, and matches.
    #[must_use]
    pub fn strike(&self, reach: Reach, pid: u32, start: u64) -> bool {
        let Ok(hold) = self.signals.hold(pid) else { return false };
        let Some(owner) = self.processes.owner(pid) else { return false };
        let Some(stat) = self.processes.stat(pid) else { return false };
        let same = stat.start == start && reach.takes(&owner);
        // Asked again after the hold, for the same reason as the rest.
        same && !is_untouchable(self.processes, self.own_pid, pid, &stat) && hold.send(Strike::Kill).is_ok()
    }
}

/// The terminals of every process that `wanted` picks, as numbers in `/dev/pts`.
#[must_use]
pub fn terminals(
    processes: &dyn Processes,
    owners: &[(u32, Owner)],
    wanted: impl Fn(&Owner) -> bool,
) -> BTreeSet<u32> {
    let picked = owners.iter().filter(|(_, owner)| wanted(owner));
    picked.filter_map(|(pid, _)| processes.stat(*pid)?.pts).collect()
}

/// Units that were made at run time and hold a process that began at `since` (clock ticks) or later, each with
/// the name of one: what an administrator may have started outside every login.
#[must_use]
pub fn late_units(processes: &dyn Processes, since: u64) -> Vec<String> {
    let mut units = processes.transient_units();
    units.sort_unstable();
    let mut found = Vec::new();
    if units.is_empty() {
        return found;
    }
    let mut pids = processes.pids();
    pids.sort_unstable();
    for pid in pids {
        let Some(stat) = processes.stat(pid).filter(|stat| !stat.dead && stat.start >= since) else {
            continue;
        };
        let groups = processes.cgroup(pid);
        if let Some(at) = units.iter().position(|unit| groups.split(['/', '\n']).any(|part| part == unit)) {
            found.push(format!("{} ({})", units.remove(at), stat.comm));
        }
    }
    found
}
