//! Lengths of time as systemd writes them: `90s`, `5min`, `1h 30min`, `2d`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A length of time in whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub i64);

impl Span {
    /// Reads `1h 30min`; a bare number is seconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut total = 0_i64;
        let mut rest = text.trim();
        if rest.is_empty() || rest.len() > 64 {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at_checked(digits)?;
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at_checked(letters)?;
            let scale = match unit {
                "" | "s" | "sec" | "second" | "seconds" => 1,
                "m" | "min" | "minute" | "minutes" => 60,
                "h" | "hr" | "hour" | "hours" => 3_600,
                "d" | "day" | "days" => 86_400,
                "w" | "week" | "weeks" => 604_800,
                _ => return None,
            };
            total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(scale)?)?;
            rest = tail.trim_start();
        }
        Some(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % 86_400 == 0 => write!(f, "{}d", n / 86_400),
            n if n > 0 && n % 3_600 == 0 => write!(f, "{}h", n / 3_600),
            n if n > 0 && n % 60 == 0 => write!(f, "{}min", n / 60),
            n => write!(f, "{n}s"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom("not a length of time: write `90s`, `5min`, `4h` or `1h 30min`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_spellings() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("5min", 300),
            ("1h 30min", 5_400),
            ("1h30min", 5_400),
            ("2d", 172_800),
        ] {
            assert_eq!(Span::parse(text), Some(Span(seconds)), "{text}");
        }
        for text in ["", "h", "5 parsecs", "-1s", "1.5h", "99999999999999999999s", "9223372036854775807w"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
