//! A row of the table, its limit and its verdict, and the file that other tools read.

use std::path::Path;

use serde::Serialize;

use crate::pairs::{AGAIN, FLOOR, Paired};

/// The ratio of the floor to itself outside of which a row gets no verdict.
const QUIET: std::ops::RangeInclusive<f64> = 0.97..=1.03;

/// What a row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Within its limit.
    Met,
    /// Not within its limit.
    NotMet,
    /// The floor against itself was outside 0.97 to 1.03: nothing is claimed.
    TooNoisy,
    /// There is no limit on this row.
    Shown,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) floor: Option<f64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) ratio_lo: Option<f64>,
    pub(crate) ratio_hi: Option<f64>,
    pub(crate) limit: String,
    pub(crate) verdict: Verdict,
}

/// The limits of a timed row; each that is there must hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limit {
    /// Of the ratio to the floor.
    pub(crate) ratio: Option<f64>,
    /// Of the value itself.
    pub(crate) value: Option<f64>,
    /// Of the value minus the floor's.
    pub(crate) above_floor: Option<f64>,
    /// The least ratio to the floor, where more is better.
    pub(crate) least_ratio: Option<f64>,
    /// The least value, where more is better.
    pub(crate) least_value: Option<f64>,
}

/// Nothing is asked of the row.
pub(crate) const NONE: Limit =
    Limit { ratio: None, value: None, above_floor: None, least_ratio: None, least_value: None };

impl Limit {
    fn words(self, unit: &str) -> String {
        let words = [
            self.ratio.map(|limit| format!("{limit} x")),
            self.value.map(|limit| format!("{limit} {unit}")),
            self.above_floor.map(|limit| format!("floor + {limit} {unit}")),
            self.least_ratio.map(|limit| format!("at least {limit} x")),
            self.least_value.map(|limit| format!("at least {limit} {unit}")),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Row {
    /// A figure without a floor, with the most that it may be.
    pub(crate) fn plain(name: &str, value: f64, unit: &'static str, limit: f64) -> Self {
        let verdict = if value <= limit { Verdict::Met } else { Verdict::NotMet };
        Self {
            name: name.to_owned(),
            value,
            unit,
            floor: None,
            ratio: None,
            ratio_lo: None,
            ratio_hi: None,
            limit: format!("{limit} {unit}"),
            verdict,
        }
    }

    /// The row of a program in a paired measurement.
    pub(crate) fn timed(
        name: &str,
        unit: &'static str,
        paired: &Paired,
        program: usize,
        limit: Limit,
    ) -> Self {
        let (column, floor) = (paired[program], paired[FLOOR].value);
        let within = limit.ratio.is_none_or(|most| column.ratio <= most)
            && limit.value.is_none_or(|most| column.value <= most)
            && limit.above_floor.is_none_or(|most| column.value - floor <= most)
            && limit.least_ratio.is_none_or(|least| column.ratio >= least)
            && limit.least_value.is_none_or(|least| column.value >= least);
        let words = limit.words(unit);
        let verdict = if words.is_empty() {
            Verdict::Shown
        } else if !QUIET.contains(&paired[AGAIN].ratio) {
            Verdict::TooNoisy
        } else if within {
            Verdict::Met
        } else {
            Verdict::NotMet
        };
        Self {
            name: name.to_owned(),
            value: column.value,
            unit,
            floor: Some(floor),
            ratio: Some(column.ratio),
            ratio_lo: Some(column.lo),
            ratio_hi: Some(column.hi),
            limit: words,
            verdict,
        }
    }

    /// The floor against itself: the A/A row that stands beside every timed row.
    pub(crate) fn again(name: &str, unit: &'static str, paired: &Paired) -> Self {
        let mut row = Self::timed(&format!("{name}.a_a"), unit, paired, AGAIN, Limit::default());
        row.limit = format!("{} to {} x", QUIET.start(), QUIET.end());
        row.verdict = if QUIET.contains(&paired[AGAIN].ratio) { Verdict::Met } else { Verdict::TooNoisy };
        row
    }
}

fn number(value: f64, unit: &str) -> String {
    let digits = match unit {
        "MiB" => 2,
        "violations" | "/s" => 0,
        _ => 1,
    };
    format!("{value:.digits$} {unit}")
}

/// Prints the rows as a table.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<28} {:>14} {:>14} {:>22}  {:<18} verdict",
        "figure", "value", "floor", "ratio (runs from-to)", "limit"
    );
    for row in rows {
        let floor = row.floor.map_or_else(String::new, |floor| number(floor, row.unit));
        let ratio = match (row.ratio, row.ratio_lo, row.ratio_hi) {
            (Some(ratio), Some(lo), Some(hi)) => format!("{ratio:.3} ({lo:.3}-{hi:.3})"),
            _ => String::new(),
        };
        let verdict = match row.verdict {
            Verdict::Met => "met",
            Verdict::NotMet => "NOT MET",
            Verdict::TooNoisy => "too noisy",
            Verdict::Shown => "",
        };
        let value = number(row.value, row.unit);
        println!("{:<28} {value:>14} {floor:>14} {ratio:>22}  {:<18} {verdict}", row.name, row.limit);
    }
}

/// Writes the rows as a JSON list.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(rows: &[Row], file: &Path) -> Result<(), String> {
    let text = serde_json::to_string_pretty(rows).map_err(|why| why.to_string())?;
    std::fs::write(file, text + "\n").map_err(|why| format!("{}: {why}", file.display()))
}
