//! The conditions of the model, told as plainly as can be: minutes of a week, strings of bits, back-tracking.

use std::cell::RefCell;
use std::collections::HashMap;

use core::net::IpAddr;

use crate::mistakes::Mistake;
use crate::world::{DAY, MONDAY, Window};

/// Minutes.
const WEEK: i64 = 7 * DAY / 60;
const NEVER: i64 = i64::MAX;

thread_local! {
    /// Each window is gone through once.
    static SEEN: RefCell<HashMap<(Window, Mistake), Vec<i64>>> = RefCell::default();
}

/// Whether a minute of the week, local time, lies in a window.
fn minute_in((days, from, to, _): Window, minute: i64, mistake: Mistake) -> bool {
    let (day, of_day) = (usize::try_from(minute / 1_440).unwrap(), minute % 1_440);
    let (from, mut to) = (i64::from(from), i64::from(to));
    let over_midnight = to <= from;
    if mistake == Mistake::LastMinuteStillIn {
        to += 1;
    }
    let begins_today = days[day] == 1;
    let began_yesterday = days[(day + 6) % 7] == 1;
    if !over_midnight {
        return begins_today && (from..to).contains(&of_day);
    }
    (begins_today && of_day >= from)
        || (of_day < to && if mistake == Mistake::DayOfTheEnd { begins_today } else { began_yesterday })
}

/// `None` outside of the window; else when the first minute begins that is no longer in it, if there is one.
pub(crate) fn walk(window: Window, now: i64, offset: i64, mistake: Mistake) -> Option<Option<i64>> {
    let local = now + offset - MONDAY;
    let minute = local.div_euclid(60);
    let of_week = usize::try_from(minute.rem_euclid(WEEK)).unwrap();
    let weeks = |weeks: &mut HashMap<_, Vec<i64>>| {
        weeks.entry((window, mistake)).or_insert_with(|| week(window, mistake))[of_week]
    };
    match SEEN.with_borrow_mut(weeks) {
        0 => None,
        NEVER => Some(None),
        later => Some(Some((minute + later) * 60 - offset + MONDAY)),
    }
}

/// How many minutes later than each minute of the week the first is that does not lie in the window.
fn week(window: Window, mistake: Mistake) -> Vec<i64> {
    let mut later = NEVER;
    let mut all = vec![NEVER; usize::try_from(WEEK).unwrap()];
    // Twice around: what is inside at the end of the week goes on at its beginning.
    for minute in (0..2 * WEEK).rev().map(|minute| minute % WEEK) {
        later = match minute_in(window, minute, mistake) {
            false => 0,
            true if later == NEVER => NEVER,
            true => later + 1,
        };
        all[usize::try_from(minute).unwrap()] = later;
    }
    all
}

/// An address as its family and bits; IPv4 in IPv6 clothes is IPv4.
pub(crate) fn bits(address: IpAddr, clothes: bool) -> (char, String) {
    match address {
        IpAddr::V4(address) => ('4', address.octets().iter().map(|octet| format!("{octet:08b}")).collect()),
        IpAddr::V6(address) => {
            let all: String = address.octets().iter().map(|octet| format!("{octet:08b}")).collect();
            let mapped = format!("{}{}", "0".repeat(80), "1".repeat(16));
            match all.strip_prefix(&mapped) {
                Some(rest) if clothes => ('4', rest.to_owned()),
                _ => ('6', all),
            }
        }
    }
}

pub(crate) fn lies_in(network: IpAddr, prefix: u8, address: IpAddr, mistake: Mistake) -> bool {
    let clothes = mistake != Mistake::MappedStaysSix;
    let ((family, network), (other, address)) = (bits(network, clothes), bits(address, clothes));
    family == other && network[..usize::from(prefix)] == address[..usize::from(prefix)]
}

/// Whether a resource is, or lies below, what a pattern names: the pattern's segments are compared.
pub(crate) fn below(pattern: &str, resource: &str, mistake: Mistake) -> bool {
    let (pattern, resource) = if mistake == Mistake::CaseMatters {
        (pattern.to_owned(), resource.to_owned())
    } else {
        (pattern.to_ascii_lowercase(), resource.to_ascii_lowercase())
    };
    let wanted: Vec<_> = pattern.split('/').collect();
    let found: Vec<_> = resource.split('/').collect();
    let one = |(wanted, found): (&&str, &&str)| fits(wanted.as_bytes(), found.as_bytes());
    found.len() >= wanted.len() && wanted.iter().zip(&found).all(one)
}

/// Whether `*` can stand for something so that the pattern is the text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => fits(rest, text),
        (Some((b'*', rest)), Some((_, later))) => fits(rest, text) || fits(pattern, later),
        (Some((a, rest)), Some((b, later))) => a == b && fits(rest, later),
        (None, Some(_)) | (Some(_), None) => false,
    }
}
