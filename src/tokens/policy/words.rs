//! The forms of single values in a policy file: lists of names, units, pods, rates, lengths of time.

use std::time::Duration;

use nightlatch_model::Span;
use nightlatch_page::{Page, PolicyError};
use toml::Spanned;

use super::Rate;

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

/// `15m`, `90s`, `1h 30min`; not a bare number.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let span = Span::parse(text).filter(|_| text.trim().ends_with(|c: char| c.is_ascii_alphabetic()))?;
    u64::try_from(span.0).ok().map(Duration::from_secs)
}
