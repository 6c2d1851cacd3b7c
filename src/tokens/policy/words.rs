//! The forms of single values in a policy file: lists of names, units, pods, rates, lengths of time.

use std::time::Duration;

use toml::Spanned;

use super::Rate;
use super::file::{MAX_LIST, Page, PolicyError, Words};

/// The longest name of a user, group, unit, slice, pod or scope, in bytes.
const MAX_WORD_BYTES: usize = 256;

pub(super) fn check_length(page: &Page<'_>, at: usize, len: usize) -> Result<(), PolicyError> {
    if len == 0 {
        return Err(page.error(at, "an empty list matches nothing", "leave the key out, or name something"));
    }
    if len > MAX_LIST {
        let problem = format!("a list of more than {MAX_LIST}");
        return Err(page.error(at, problem, "spread it over several rules"));
    }
    Ok(())
}

pub(super) fn check_word<'a>(page: &Page<'_>, word: &'a Spanned<String>) -> Result<&'a str, PolicyError> {
    let text = word.get_ref();
    if text.is_empty() || text.len() > MAX_WORD_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let hint = format!("write 1 to {MAX_WORD_BYTES} printable characters without a space");
        return Err(page.error(word.span().start, "not a plain name", hint));
    }
    Ok(text)
}

/// A checked list; `form` gives the kept form, or what is expected instead.
pub(super) fn words(
    page: &Page<'_>,
    list: &Words,
    form: fn(&str) -> Result<Box<str>, &'static str>,
) -> Result<Box<[Box<str>]>, PolicyError> {
    check_length(page, list.span().start, list.get_ref().len())?;
    let one = |word: &Spanned<String>| {
        let text = check_word(page, word)?;
        form(text)
            .map_err(|hint| page.error(word.span().start, format!("`{text}` is not accepted here"), hint))
    };
    list.get_ref().iter().map(one).collect()
}

pub(super) fn unit_name(text: &str) -> Result<Box<str>, &'static str> {
    let whole = text.ends_with(".service") || text.ends_with(".scope");
    let kept = text.replacen("@*.", "@.", 1);
    if !whole || kept.contains('*') || kept.contains('/') {
        return Err("write a unit such as `backup.service`, or `backup@*.service` for all of a template");
    }
    // `backup@.service` is the template itself and never runs; it stands for all of its instances.
    Ok(kept.into())
}

/// A slice without `.slice`.
pub(super) fn slice_stem(text: &str) -> Result<Box<str>, &'static str> {
    let stem = text.strip_suffix(".slice").filter(|stem| !stem.is_empty() && !stem.contains(['*', '/']));
    stem.map(Into::into).ok_or("write a slice such as `system.slice`; the slices in it are meant too")
}

pub(super) fn pod_uid(text: &str) -> Result<Box<str>, &'static str> {
    let plain = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    if text == "*" || (matches!(text.len(), 32 | 36) && text.bytes().all(plain)) {
        return Ok(text.to_ascii_lowercase().into());
    }
    Err("write the uid of a pod (kubectl get pod -o jsonpath={.metadata.uid}), or `*` for every pod")
}

pub(super) fn scope_name(text: &str) -> Result<Box<str>, &'static str> {
    if text.contains('*') {
        return Err("write a scope such as `User.Read`, or `.default`");
    }
    Ok(text.to_ascii_lowercase().into())
}

/// `60/min`.
pub(super) fn rate(page: &Page<'_>, text: &Spanned<String>) -> Result<Rate, PolicyError> {
    let read = || {
        let (count, per) = text.get_ref().split_once('/')?;
        let per = match per.trim() {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hour" => 3_600,
            _ => return None,
        };
        let count: u32 = count.trim().parse().ok()?;
        (count > 0).then_some(Rate { count, per: Duration::from_secs(per) })
    };
    read()
        .ok_or_else(|| page.error(text.span().start, "`rate` is no rate", "write `60/min`, `1/s` or `10/h`"))
}

/// `15m`, `90s`, `1h 30min`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0_u64, text.trim());
    if rest.is_empty() || rest.len() > MAX_WORD_BYTES {
        return None;
    }
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit())?)?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let scale = match unit {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = tail.trim_start();
    }
    Some(Duration::from_secs(total))
}
