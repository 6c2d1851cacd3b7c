//! The forms of single values in access rules: lengths of time, days, times of day, authentication contexts.

use std::num::NonZeroU32;
use std::time::Duration;

use nightlatch_model::{AuthContext, Span};
use nightlatch_page::{Page, PolicyError};
use nightlatch_policy::{MAX_GRACE, When};
use toml::Spanned;

use super::file::WhenText;

/// The shortest length of time that a rule can demand or allow, in seconds: a session must get its prompt.
const LEAST_S: i64 = 60;
/// The longest, in seconds: 365 days.
const MOST_S: i64 = 365 * 86_400;
/// The days as they are written.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// The minutes of a day.
const DAY_MIN: u16 = 1_440;

/// `8h`, `1h 30min`.
pub(super) fn span(page: &Page<'_>, text: &Spanned<String>) -> Result<NonZeroU32, PolicyError> {
    let at = text.span().start;
    let span = Span::parse(text.get_ref())
        .ok_or_else(|| page.error(at, "not a length of time", "write `15min`, `8h` or `1h 30min`"))?;
    if !(LEAST_S..=MOST_S).contains(&span.0) {
        let hint = format!("write a time between {} and {}", Span(LEAST_S), Span(MOST_S));
        return Err(page.error(at, format!("{span} is out of range"), hint));
    }
    let seconds = u32::try_from(span.0).ok().and_then(NonZeroU32::new);
    seconds.ok_or_else(|| page.error(at, "not a length of time", "write `15min`"))
}

/// As [`span`], but it can be nothing, and never more than a day.
pub(super) fn grace(page: &Page<'_>, text: &Spanned<String>) -> Result<Duration, PolicyError> {
    let span = Span::parse(text.get_ref()).and_then(|span| u64::try_from(span.0).ok());
    let grace = span.map(Duration::from_secs).filter(|grace| *grace <= MAX_GRACE);
    grace.ok_or_else(|| {
        page.error(text.span().start, "not a length of grace", "write `0` or a time up to `24h`")
    })
}

/// An authentication context of Conditional Access.
pub(super) fn context(text: &str) -> Result<String, &'static str> {
    let known = text.parse::<AuthContext>();
    known.map(|context| context.to_string()).map_err(|_| "write an authentication context, `c1` to `c99`")
}

/// Days and times of day; `number` gives the number of a time zone in the policy, where there is such a zone.
pub(super) fn when(
    page: &Page<'_>,
    text: &Spanned<WhenText>,
    number: impl FnOnce(&str) -> Option<usize>,
) -> Result<When, PolicyError> {
    let (at, when) = (text.span().start, text.get_ref());
    if when.days.is_none() && when.from.is_none() && when.to.is_none() {
        let hint = "name `days`, or `from` and `to`, or leave it out";
        return Err(page.error(at, "`when` names no time", hint));
    }
    let days = match &when.days {
        None => [true; 7],
        Some(list) => {
            let mut days = [false; 7];
            for listed in page.words(list, days_of)? {
                days.iter_mut().zip(listed).for_each(|(day, more)| *day |= more);
            }
            days
        }
    };
    let (from, to) = match (&when.from, &when.to) {
        (None, None) => (0, DAY_MIN),
        (Some(from), Some(to)) => (minute(page, from)?, minute(page, to)?),
        _ => {
            return Err(page.error(
                at,
                "`from` and `to` belong together",
                "write both, as `from = \"08:00\", to = \"18:00\"`",
            ));
        }
    };
    if from == to || from >= DAY_MIN {
        let hint = "leave both out for the whole day; `to` may lie on the next day";
        return Err(page.error(at, "`from` and `to` hold no time", hint));
    }
    let zone = when.zone.as_ref().map_or("UTC", |zone| zone.get_ref().as_str());
    let number = number(zone).ok_or_else(|| {
        let at = when.zone.as_ref().map_or(at, |zone| zone.span().start);
        let hint =
            "write a zone of the IANA database such as `Europe/Berlin`, or `UTC`, or `local` for the node's";
        page.error(at, format!("the time zone `{zone}` is not known"), hint)
    })?;
    Ok(When { days, from_min: from, to_min: to, zone: number })
}

/// `mon`, or `mon-fri`.
fn days_of(text: &str) -> Result<[bool; 7], &'static str> {
    const FORM: &str = "write days as `mon`, `tue`, or from one to another as `mon-fri`";
    let number = |word: &str| DAYS.iter().position(|day| *day == word).ok_or(FORM);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    let mut days = [false; 7];
    for step in 0..7 {
        let day = (first + step) % 7;
        if let Some(slot) = days.get_mut(day) {
            *slot = true;
        }
        if day == last {
            break;
        }
    }
    Ok(days)
}

/// `08:00`; `24:00` is the end of the day.
fn minute(page: &Page<'_>, text: &Spanned<String>) -> Result<u16, PolicyError> {
    let read = || {
        let (hour, minute) = text.get_ref().split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok());
        let (hour, minute) = (digits(hour)??, digits(minute)??);
        let whole = hour * 60 + minute;
        (minute < 60 && whole <= DAY_MIN).then_some(whole)
    };
    read().ok_or_else(|| page.error(text.span().start, "not a time of day", "write it as `08:00`"))
}
