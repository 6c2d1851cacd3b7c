//! The line printer under ten million hostile inputs: a figure that must be nought.

use nightlatch_wire::hammer::hammer;

use crate::row::Row;

/// Each seed gives another sequence of inputs.
const SEEDS: u64 = 10;

/// The row.
pub(crate) fn row(quick: bool) -> Row {
    let each = if quick { 10_000 } else { 1_000_000 };
    let mut violations = 0_u32;
    let mut printed = 0;
    for seed in 1..=SEEDS {
        match hammer(seed, each) {
            Ok(tally) => printed += tally.printed,
            Err(line) => {
                violations += 1;
                println!("hook.grammar: seed {seed} broke the grammar: {line:?}");
            }
        }
    }
    println!("hook.grammar: {} inputs, {printed} lines printed", SEEDS * each);
    Row::plain("hook.grammar", f64::from(violations), "violations", 0.0)
}
