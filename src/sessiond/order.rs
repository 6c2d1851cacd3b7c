//! One order to end, and how far it is carried out: grace, the monitors' leave, sweep, rest. Pure.
//!
//! It must never lengthen a grace, and never call a sweep clean before nothing was found for a while.

use std::collections::BTreeMap;

use crate::clock::Now;
use crate::record::Ordered;
use crate::sweep::Found;

/// How long the words on a terminal get to reach the client before the end, in milliseconds.
pub const READ_MS: u64 = 300;
/// How long a monitor may take to close its session after TERM, in milliseconds.
pub const LEAVE_MS: u64 = 1_000;
/// How long nothing must be found before a sweep is over, in milliseconds.
pub const QUIET_MS: u64 = 1_000;
/// How long a sweep that finds nothing new waits for the next look, in milliseconds.
pub const LOOK_MS: u64 = 50;
/// After how long the record says what is left, in milliseconds.
pub const STUCK_MS: u64 = 10_000;
/// For how long what is left is swept on, in milliseconds.
pub const REST_MS: u64 = 60_000;
/// How often it is, in milliseconds.
pub const REST_LOOK_MS: u64 = 1_000;

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The person was told and may go on.
    Grace,
    /// The monitors were told to end, and have until then (milliseconds since boot).
    Leaving(u64),
    /// Everything that matches is killed; since then (milliseconds since boot).
    Sweeping(u64),
    /// The records are written; what was left is swept until then (milliseconds since boot).
    Rest(u64),
}

/// What a look at the processes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Going,
    /// Nothing is left.
    Clean,
    /// Something does not go.
    Stuck,
}

/// An order and its progress.
#[derive(Clone, Debug)]
pub struct Order {
    /// As it was taken.
    pub line: Ordered,
    /// What is said on the terminals; taken out when it was said.
    pub text: Option<String>,
    /// How far it is.
    pub phase: Phase,
    /// When to look again, in milliseconds since boot.
    pub next_ms: u64,
    /// How many processes were killed.
    pub swept: u64,
    /// When the last exit was seen.
    pub last_exit: Option<Now>,
    seen: BTreeMap<(u32, u64), Found>,
    quiet_since: Option<u64>,
}

impl Order {
    /// An order that was taken now, or taken up again.
    #[must_use]
    pub const fn new(line: Ordered, text: Option<String>) -> Self {
        let next_ms = if text.is_some() { 0 } else { line.act_at_ms };
        Self {
            line,
            text,
            phase: Phase::Grace,
            next_ms,
            swept: 0,
            last_exit: None,
            seen: BTreeMap::new(),
            quiet_since: None,
        }
    }

    /// Takes a second order for the same aim: an earlier end counts, a later one does not. Says whether it did.
    pub fn hasten(&mut self, newer: Ordered, text: &str) -> bool {
        let sooner = self.phase == Phase::Grace && newer.act_at_ms < self.line.act_at_ms;
        if sooner {
            self.text = Some(text.to_owned());
            self.line = newer;
            self.next_ms = 0;
        }
        sooner
    }

    /// Lets a moment pass before the end, no more than that.
    pub const fn wait_until(&mut self, at_ms: u64) {
        if matches!(self.phase, Phase::Grace) && self.line.act_at_ms < at_ms {
            self.line.act_at_ms = at_ms;
            self.next_ms = at_ms;
        }
    }

    /// Ends the grace.
    pub const fn hurry(&mut self, now: Now) {
        if matches!(self.phase, Phase::Grace) && self.line.act_at_ms > now.up_ms {
            self.line.act_at_ms = now.up_ms;
            self.next_ms = now.up_ms;
        }
    }

    /// Whether its records are written and only what was left is swept on.
    #[must_use]
    pub const fn rests(&self) -> bool {
        matches!(self.phase, Phase::Rest(_))
    }

    /// Whether the sweep may now take the person's own processes only.
    #[must_use]
    pub const fn own_only(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// Goes on to the sweep.
    pub fn sweep(&mut self, now: Now) {
        self.phase = Phase::Sweeping(now.up_ms);
        self.quiet_since = None;
        self.next_ms = now.up_ms;
    }

    /// Notes that something ended.
    pub const fn exited(&mut self, now: Now) {
        self.last_exit = Some(now);
    }

    /// Takes what one look found, killed or not, and says how it stands.
    pub fn saw(&mut self, found: Vec<Found>, now: Now) -> Verdict {
        let mut seen = BTreeMap::new();
        let mut news = false;
        for mut one in found {
            let before = self.seen.remove(&(one.pid, one.start));
            news |= before.is_none();
            let struck = before.is_some_and(|before| before.struck);
            if one.struck && !struck {
                self.swept += 1;
            }
            one.struck |= struck;
            seen.insert((one.pid, one.start), one);
        }
        if !self.seen.is_empty() {
            self.last_exit = Some(now);
        }
        self.seen = seen;
        self.next_ms = if news { now.up_ms } else { now.up_ms + LOOK_MS };
        if !self.seen.is_empty() {
            self.quiet_since = None;
        }
        match self.phase {
            Phase::Grace | Phase::Leaving(_) => Verdict::Going,
            Phase::Sweeping(since) => {
                if self.quiet(now) {
                    Verdict::Clean
                } else if !self.seen.is_empty() && now.up_ms.saturating_sub(since) >= STUCK_MS {
                    self.phase = Phase::Rest(now.up_ms + REST_MS);
                    self.next_ms = now.up_ms + REST_LOOK_MS;
                    Verdict::Stuck
                } else {
                    Verdict::Going
                }
            }
            Phase::Rest(until) => {
                // What multiplies still is not given a second's start.
                self.next_ms = if news { now.up_ms } else { now.up_ms + REST_LOOK_MS };
                if self.quiet(now) || now.up_ms >= until { Verdict::Clean } else { Verdict::Going }
            }
        }
    }

    fn quiet(&mut self, now: Now) -> bool {
        if !self.seen.is_empty() {
            return false;
        }
        let since = *self.quiet_since.get_or_insert(now.up_ms);
        now.up_ms.saturating_sub(since) >= QUIET_MS
    }

    /// What was there at the last look, by name.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        self.seen.values().map(|one| format!("{} (pid {})", one.comm, one.pid)).collect()
    }
}
