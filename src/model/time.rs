//! Points in time, as whole seconds. The clock itself lives in the root's `clock` room.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z. Time is always an argument; nothing here reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Year, month, day, hour, minute, second.
pub type Civil = (i64, u8, u8, u8, u8, u8);

impl Timestamp {
    /// This point moved by `seconds`, without wrapping.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this point; negative when this point is the earlier one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Year, month, day, hour, minute, second in UTC (proleptic Gregorian).
    #[must_use]
    pub const fn civil(self) -> Civil {
        let days = self.0.div_euclid(86_400);
        let second = self.0.rem_euclid(86_400);
        // Days to civil date, counted in 400-year eras that begin on 0000-03-01.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
        let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (year, month as u8, day as u8, (second / 3_600) as u8, (second / 60 % 60) as u8, (second % 60) as u8)
    }

    /// The point at this date and time in UTC; `None` when a field is out of its range.
    #[must_use]
    pub fn from_civil(year: i64, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> Option<Self> {
        if !(0..=9999).contains(&year)
            || !(1..=12).contains(&month)
            || !(1..=31).contains(&day)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let month_shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
        let day_of_year = (153 * month_shifted + 2) / 5 + i64::from(day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let stamp =
            Self(days * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second));
        // A day that its month does not have comes back as another date.
        (stamp.civil() == (year, month, day, hour, minute, second)).then_some(stamp)
    }

    /// Reads RFC 3339 as Azure writes it (`2026-11-21T22:30:00Z`, optional fraction, `Z` or
    /// `+00:00`); the fraction is dropped.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        if !text.is_ascii() || text.len() < 20 || text.len() > 40 {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i64> {
            let part = text.get(from..to)?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        };
        let byte = |at: usize| text.as_bytes().get(at).copied();
        if byte(4) != Some(b'-')
            || byte(7) != Some(b'-')
            || !matches!(byte(10), Some(b'T' | b't'))
            || byte(13) != Some(b':')
            || byte(16) != Some(b':')
        {
            return None;
        }
        let zone = text.get(19..)?;
        let zone =
            zone.strip_prefix('.').map_or(zone, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        if !matches!(zone, "Z" | "z" | "+00:00") {
            return None;
        }
        let small = |value: i64| u8::try_from(value).ok();
        Self::from_civil(
            number(0, 4)?,
            small(number(5, 7)?)?,
            small(number(8, 10)?)?,
            small(number(11, 13)?)?,
            small(number(14, 16)?)?,
            small(number(17, 19)?)?,
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(951_782_400).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Timestamp::from_rfc3339("2026-11-21T22:30:05.1234567Z"), Some(Timestamp(1_795_300_205)));
        assert_eq!(Timestamp::from_rfc3339("2026-02-30T00:00:00Z"), None);
        assert_eq!(Timestamp::from_rfc3339("2026-11-21T22:30:05+02:00"), None);
    }

    proptest! {
        #[test]
        fn civil_round_trips(seconds in -62_135_596_800_i64..253_402_300_799) {
            let (y, mo, d, h, mi, s) = Timestamp(seconds).civil();
            prop_assert_eq!(Timestamp::from_civil(y, mo, d, h, mi, s), Some(Timestamp(seconds)));
        }
    }
}
