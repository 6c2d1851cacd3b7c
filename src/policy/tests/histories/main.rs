//! The decision beside an independent model of it, over a million random histories.
//!
//! A history is some logins, sudo calls and re-judged sessions of a few people on one node, while Azure
//! answers or does not and the clocks do what clocks do. After each step both must have said the same, and
//! the same old yes must be left. A second test puts mistakes into the model, and each must be noticed.
//!
//! Another seed: `NIGHTLATCH_SEED=7 cargo test -p nightlatch-policy --test histories`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

mod model;
mod node;
mod world;

use std::fmt::Write as _;
use std::thread;

use model::{MISTAKES, Mistake, Node, Said};
use nightlatch_policy::{Effect, Service};
use node::Real;
use world::{Ask, History, Right, Step};

const SEED: u64 = 0x6e69_6768_746c_6174;
const HISTORIES: u64 = 1_000_000;
/// Within how many histories a mistake must be noticed.
const NOTICED_WITHIN: u64 = 20_000;
const THREADS: u64 = 2;

/// How often each kind of step was seen.
#[derive(Default, Clone, Copy)]
struct Counts {
    steps: u64,
    permits: u64,
    degraded: u64,
    degraded_admin: u64,
    degraded_live: u64,
    degraded_after_restart: u64,
    denials: u64,
    unknowns: u64,
    clock_suspect: u64,
    erasures: u64,
    remembered: u64,
    /// Degraded permits that end with the role, and unknowns because it had ended.
    cut_by_role: u64,
    role_ended: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.permits += other.permits;
        self.degraded += other.degraded;
        self.degraded_admin += other.degraded_admin;
        self.degraded_live += other.degraded_live;
        self.degraded_after_restart += other.degraded_after_restart;
        self.denials += other.denials;
        self.unknowns += other.unknowns;
        self.clock_suspect += other.clock_suspect;
        self.erasures += other.erasures;
        self.remembered += other.remembered;
        self.cut_by_role += other.cut_by_role;
        self.role_ended += other.role_ended;
    }

    fn count(&mut self, ask: &Ask, said: Said, effect: &Effect, restarted: bool, real: &Real) {
        self.steps += 1;
        match said {
            Said::In { admin, degraded, until, .. } => {
                self.permits += 1;
                self.degraded += u64::from(degraded);
                self.degraded_admin += u64::from(degraded && admin);
                self.degraded_live += u64::from(degraded && ask.service == Service::Live);
                self.degraded_after_restart += u64::from(degraded && restarted);
                let ends_with_role =
                    real.role_end(ask).is_some_and(|end| real.now().wall.plus(end).0 == until);
                self.cut_by_role += u64::from(degraded && ends_with_role);
            }
            Said::No => self.denials += 1,
            Said::Unknown(reason) => {
                self.unknowns += 1;
                self.clock_suspect += u64::from(reason == nightlatch_model::Reason::ClockSuspect);
                let ended =
                    matches!(ask.right, Right::Unknown(_)) && real.role_end(ask).is_some_and(|end| end <= 0);
                self.role_ended += u64::from(ended);
            }
        }
        match effect {
            Effect::Nothing => {}
            Effect::Remember(_) => self.remembered += 1,
            Effect::Erase => self.erasures += 1,
        }
    }

    /// Each kind must make up so many thousandths of the steps, or the test shows little.
    fn assert_fair(&self) {
        for (what, seen, least) in [
            ("permits", self.permits, 200),
            ("degraded permits", self.degraded, 20),
            ("degraded administrators", self.degraded_admin, 5),
            ("degraded live sessions", self.degraded_live, 5),
            ("degraded after a restart", self.degraded_after_restart, 2),
            ("denials", self.denials, 100),
            ("unknowns", self.unknowns, 100),
            ("of them for the clock", self.clock_suspect, 5),
            ("erasures", self.erasures, 20),
            ("remembered", self.remembered, 100),
            ("degraded until the role ends", self.cut_by_role, 2),
            ("unknown after the role ended", self.role_ended, 5),
        ] {
            println!("  {what}: {seen} ({:.1} %)", 100.0 * seen as f64 / self.steps as f64);
            assert!(seen * 1000 >= self.steps * least, "{what}: {seen} of {} are too few", self.steps);
        }
    }
}

fn seed() -> u64 {
    std::env::var("NIGHTLATCH_SEED").ok().map_or(SEED, |text| text.parse().unwrap())
}

/// The seed of history `number`; those of two seeds lie far apart.
fn nth(seed: u64, number: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number)
}

/// Tells one history to both; the first step at which they differ ends it.
fn tell(seed: u64, real: &mut Real, mistake: Mistake, counts: &mut Counts) -> Result<(), String> {
    let history = History::new(seed);
    real.begin(&history);
    let mut model = Node::new(history.settings, history.found, real.wall(), real.up(), mistake);
    let mut restarted = false;
    for (number, step) in history.enumerate() {
        for event in step.events.into_iter().flatten() {
            real.pass(event);
            model.pass(event);
            restarted |= matches!(event, world::Event::Restart(..));
        }
        let (theirs, effect) = real.decide(&step.ask);
        let ours = model.answer(&step.ask);
        if theirs != ours {
            return Err(difference(seed, number, &format!("decide says {theirs:?}, the model {ours:?}")));
        }
        if let Some(what) = real.left_otherwise(&model, &step.ask, &effect) {
            return Err(difference(seed, number, &format!("{what}; both said {ours:?}")));
        }
        counts.count(&step.ask, theirs, &effect, restarted, real);
    }
    Ok(())
}

/// The whole history up to the difference, in words.
fn difference(seed: u64, last: usize, what: &str) -> String {
    let history = History::new(seed);
    let mut text = format!("history {seed}: {what}\n{:?}\n{:?}\n", history.settings, history.found);
    let mut real = Real::new();
    real.begin(&history);
    for (number, Step { events, ask }) in history.take(last + 1).enumerate() {
        for event in events.into_iter().flatten() {
            real.pass(event);
            writeln!(text, "{number}. {event:?}").unwrap();
        }
        let now = real.now();
        let handed = real.kept(ask.handed).cloned();
        let (said, effect) = real.decide(&ask);
        writeln!(text, "{number}. at {now:?}\n   handed {handed:?}\n   {ask:?}\n   -> {said:?}, {effect:?}")
            .unwrap();
    }
    text
}

/// Every `THREADS`th history on a thread of its own.
fn tell_all(count: u64) -> Counts {
    let seed = seed();
    println!("seed {seed}, {count} histories");
    let mut counts = Counts::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn(move || {
                    let (mut real, mut counts) = (Real::new(), Counts::default());
                    let mut number = first;
                    while number < count {
                        tell(nth(seed, number), &mut real, Mistake::None, &mut counts)?;
                        number += THREADS;
                    }
                    Ok::<_, String>(counts)
                })
            })
            .collect();
        for thread in threads {
            match thread.join().unwrap() {
                Ok(part) => counts.add(&part),
                Err(text) => panic!("{text}"),
            }
        }
    });
    println!("  steps: {}", counts.steps);
    counts
}

#[test]
fn a_million_histories_have_the_models_answers() {
    tell_all(HISTORIES).assert_fair();
}

#[test]
fn each_mistake_in_the_model_is_noticed() {
    let (seed, mut real) = (seed(), Real::new());
    for mistake in MISTAKES {
        let mut differs = |n, mistake| tell(nth(seed, n), &mut real, mistake, &mut Counts::default());
        let noticed = (0..NOTICED_WITHIN).find(|&n| differs(n, mistake).is_err());
        if let Some(Err(text)) = noticed.map(|n| differs(n, Mistake::None)) {
            panic!("the model differs without any mistake: {text}");
        }
        let Some(number) = noticed else {
            panic!("{mistake:?} was not noticed in {NOTICED_WITHIN} histories")
        };
        println!("{mistake:?}: noticed in history {number}");
    }
}

/// The share of each answer of Azure, so that no kind of right is left out by the dice.
#[test]
fn every_kind_of_right_is_asked() {
    let mut seen = [0_u32; 7];
    for step in (0..NOTICED_WITHIN).flat_map(|n| History::new(nth(seed(), n))) {
        let kind = match step.ask.right {
            Right::User(..) => 0,
            Right::Admin(..) => 1,
            Right::DenyAssignment => 2,
            Right::PimNotActive => 3,
            Right::Conditional => 4,
            Right::NoAssignment => 5,
            Right::Unknown(_) => 6,
        };
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|&n| n > 500), "{seen:?}");
}
