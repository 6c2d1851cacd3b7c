//! The emulator's one door to time. The wall clock is read here and nowhere else; every caller adds the
//! offset the control API set, so that a story can move the whole tenant without touching the machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 by the machine's clock, before any offset.
#[allow(clippy::disallowed_methods, reason = "a test harness: this is its only reading of the wall clock")]
pub(crate) fn wall_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A monotonic mark to measure bucket refills from.
#[allow(
    clippy::disallowed_methods,
    reason = "a test harness: this is its only reading of the monotonic clock"
)]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// `YYYY-MM-DDTHH:MM:SSZ` of a Unix time, the spelling ARM and PIM use.
pub(crate) fn iso(unix: i64) -> String {
    let (days, rest) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `YYYY-MM-DD HH:MM:SSZ`, the spelling Entra puts into error bodies.
pub(crate) fn spaced(unix: i64) -> String {
    iso(unix).replace('T', " ")
}

// Days since 1970-01-01 to the proleptic Gregorian date, by 400-year eras that begin on 1 March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(1_709_164_800), "2024-02-29T00:00:00Z");
        assert_eq!(iso(1_795_305_599), "2026-11-21T23:59:59Z");
        assert_eq!(spaced(951_868_799), "2000-02-29 23:59:59Z");
    }
}
