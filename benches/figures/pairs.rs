//! The scheme of every timed row: the programs take turns in random order, round by round, and what counts
//! is the median of the ratios inside a round. The floor runs twice in each round: the ratio of the floor
//! to itself says whether the machine was quiet enough for a verdict.

use std::time::Instant;

use nightlatch_wire::hammer::Xorshift;
use serde::{Deserialize, Serialize};

/// The floor in every list of programs.
pub(crate) const FLOOR: usize = 0;
/// The floor again.
pub(crate) const AGAIN: usize = 1;

/// How often.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) runs: usize,
    pub(crate) rounds: usize,
}

/// What one program came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Column {
    /// The median of all rounds, in the unit that was measured.
    pub(crate) value: f64,
    /// The median over the runs of the median ratio to the floor inside a run.
    pub(crate) ratio: f64,
    /// The lowest run.
    pub(crate) lo: f64,
    /// The highest run.
    pub(crate) hi: f64,
}

impl Column {
    /// From all values, and from the ratio of each run.
    pub(crate) fn of(values: &[f64], ratios: &[f64]) -> Self {
        Self {
            value: median(&mut values.to_vec()),
            ratio: median(&mut ratios.to_vec()),
            lo: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            hi: ratios.iter().copied().fold(0.0, f64::max),
        }
    }
}

/// The columns of all programs, the floor first.
pub(crate) type Paired = Vec<Column>;

/// Runs `programs` programs by the plan. `one` runs a program once, is told the number of the round, and
/// answers how long it took. A few rounds before the first are not counted.
///
/// # Errors
/// The first error of `one`.
pub(crate) fn measure(
    plan: Plan,
    programs: usize,
    mut one: impl FnMut(usize, usize) -> Result<f64, String>,
) -> Result<Paired, String> {
    let mut random = Xorshift::new(20_261_121);
    let mut values = vec![Vec::new(); programs];
    let mut ratios = vec![Vec::new(); programs];
    for run in 0..plan.runs {
        let mut inside = vec![Vec::new(); programs];
        for round in 0..plan.rounds {
            let mut order: Vec<usize> = (0..programs).collect();
            for at in (1..programs).rev() {
                order.swap(at, random.below(at + 1));
            }
            let mut took = vec![0.0; programs];
            for program in order {
                took[program] = one(program, run * plan.rounds + round)?;
            }
            for program in 0..programs {
                values[program].push(took[program]);
                inside[program].push(took[program] / took[FLOOR]);
            }
        }
        for program in 0..programs {
            ratios[program].push(median(&mut inside[program]));
        }
    }
    Ok((0..programs).map(|program| Column::of(&values[program], &ratios[program])).collect())
}

/// The columns of programs of which there is one value for each run, such as a percentile.
pub(crate) fn of_runs(values: &[Vec<f64>]) -> Paired {
    let column = |of: &Vec<f64>| {
        let ratios: Vec<f64> = of.iter().zip(&values[FLOOR]).map(|(value, floor)| value / floor).collect();
        Column::of(of, &ratios)
    };
    values.iter().map(column).collect()
}

/// The value below which 99 in 100 lie.
pub(crate) fn p99(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * 99 / 100).min(values.len() - 1)]
}

/// The middle of some numbers; the mean of the two in the middle when their count is even.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// Microseconds that `work` takes, with what it answers.
pub(crate) fn micros<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let answer = work();
    (start.elapsed().as_secs_f64() * 1e6, answer)
}
