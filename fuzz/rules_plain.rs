//! One access rule, read from plain TOML: nothing of the parser under test is asked.

use std::net::IpAddr;

use nightlatch_model::{Guid, Role, Span, Timestamp};
use nightlatch_policy::{Circumstances, ProofKind, Service};
use nightlatch_rules::Zones as _;
use toml::Value;

use super::rules::{Fixed, RESOURCE};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The words of a list.
fn words<'v>(table: &'v Value, key: &str) -> Option<Vec<&'v str>> {
    Some(table.get(key)?.as_array()?.iter().filter_map(Value::as_str).collect())
}

/// Whether a rule refuses everybody, whatever is known of them.
pub(super) fn denies_everybody(rule: &Value) -> bool {
    let conditions = ["where", "when", "network", "proof", "service"];
    let anyone = rule.get("who").and_then(|who| who.get("anyone")).and_then(Value::as_bool);
    rule.get("effect").and_then(Value::as_str) == Some("deny")
        && anyone == Some(true)
        && conditions.iter().all(|key| rule.get(key).is_none())
}

/// Whether one rule of the file lets this person in, read without the parser under test.
pub(super) fn lets_in(rule: &Value, about: &Circumstances<'_>) -> bool {
    let parts = ["who", "where", "when", "require"].map(|key| rule.get(key));
    // A derived reader takes a list in the order of the fields, and a word as a table, as well.
    if !rule.is_table() || parts.iter().flatten().any(|part| !part.is_table()) {
        return true;
    }
    let listed = |key: &str, word: Option<&str>| {
        let Some(all) = rule.get(key).and_then(Value::as_array) else { return true };
        let found = || word.is_some_and(|word| all.iter().any(|one| one.as_str() == Some(word)));
        !all.iter().all(Value::is_str) || found()
    };
    let door = if about.service == Service::Sudo { "sudo" } else { "login" };
    rule.get("effect").and_then(Value::as_str) != Some("deny")
        && listed("service", Some(door))
        && listed("proof", about.sign_in.map(|sign_in| sign_in.proof.word()))
        && words(rule, "network").is_none_or(|all| all.iter().any(|one| lies_in(about.from, one)))
        && parts[0].is_some_and(|who| is_about(who, about))
        && parts[1].is_none_or(is_here)
        && parts[2].is_none_or(|when| is_now(when, about.now))
        && parts[3].is_none_or(|require| shows(require, about))
}

fn is_about(who: &Value, about: &Circumstances<'_>) -> bool {
    let role = who.get("role").and_then(Value::as_str).map(|role| match role {
        "admin" => Role::Admin,
        _ => Role::User,
    });
    let ids = |key: &str| -> Option<Vec<Guid>> {
        Some(words(who, key)?.iter().map(|id| id.parse().expect("an object id")).collect())
    };
    let groups = about.sign_in.and_then(|sign_in| sign_in.groups.clone()).unwrap_or_default();
    role.is_none_or(|role| about.role == Some(role))
        && ids("users").is_none_or(|all| about.oid.is_some_and(|oid| all.contains(&oid.0)))
        && ids("groups").is_none_or(|all| groups.iter().any(|own| all.contains(own)))
        && who.get("guests").and_then(Value::as_bool).is_none_or(|guests| about.guest == Some(guests))
}

fn is_here(place: &Value) -> bool {
    let labels = place.get("labels").and_then(Value::as_table);
    let own = |(key, value): (&String, &Value)| key == "env" && value.as_str() == Some("prod");
    let begins = |pattern: &&str| {
        let (plain, _) = pattern.split_once('*').unwrap_or((pattern, ""));
        RESOURCE.to_ascii_lowercase().starts_with(&plain.to_ascii_lowercase())
    };
    labels.is_none_or(|labels| labels.iter().all(own))
        && words(place, "resource").is_none_or(|all| all.iter().any(begins))
}

/// Whether an address lies in a network, with IPv4 written as IPv6.
fn lies_in(from: Option<IpAddr>, network: &str) -> bool {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    };
    let (address, prefix) = network.split_once('/').unwrap_or((network, ""));
    let address: IpAddr = address.parse().expect("an address");
    let width = if address.is_ipv4() { 32 } else { 128 };
    let behind = width - prefix.parse::<u32>().unwrap_or(width);
    from.is_some_and(|from| {
        let differ = wide(from) ^ wide(address);
        behind == 128 && from.is_ipv6() || behind < 128 && differ >> behind == 0
    })
}

/// Whether a time lies in a window, counted in minutes of the week.
fn is_now(when: &Value, now: Timestamp) -> bool {
    let zone = when.get("zone").and_then(Value::as_str).unwrap_or("UTC");
    let Some(offset) = Fixed.offset(zone, now) else { return false };
    // The first of January 1970 was a Thursday.
    let local = (now.0 + i64::from(offset)).div_euclid(60) + 3 * 1_440;
    let minute = |key: &str| {
        let (hour, minute) = when.get(key)?.as_str()?.split_once(':')?;
        Some(hour.parse::<i64>().ok()? * 60 + minute.parse::<i64>().ok()?)
    };
    let (from, to) = (minute("from").unwrap_or(0), minute("to").unwrap_or(1_440));
    let length = if to > from { to - from } else { to + 1_440 - from };
    let number = |day: &str| DAYS.iter().position(|one| *one == day).expect("a day");
    let listed = |day: usize| {
        words(when, "days").is_none_or(|all| {
            all.iter().any(|one| {
                let (first, last) = one.split_once('-').unwrap_or((one, one));
                let (first, last) = (number(first), number(last));
                (day + 7 - first) % 7 <= (last + 7 - first) % 7
            })
        })
    };
    (0..7_usize).any(|day| {
        let begins = i64::try_from(day).expect("a day") * 1_440 + from;
        listed(day) && (local - begins).rem_euclid(7 * 1_440) < length
    })
}

/// Whether the sign-in shows what is required.
fn shows(require: &Value, about: &Circumstances<'_>) -> bool {
    let Some(sign_in) = about.sign_in else { return false };
    let all = |key: &str, shown: &Option<Vec<String>>| {
        let shown = shown.clone().unwrap_or_default();
        words(require, key).is_none_or(|all| all.iter().all(|one| shown.iter().any(|own| own == one)))
    };
    let young = |key: &str, since: Option<Timestamp>| {
        let limit = require.get(key).and_then(Value::as_str).map(|text| Span::parse(text).expect("a span"));
        let at = about.began.unwrap_or(about.now);
        limit.is_none_or(|limit| since.is_some_and(|since| at.since(since) <= limit.0))
    };
    let claims = ["amr", "acrs", "device", "max_auth_age"].iter().any(|key| require.get(key).is_some());
    (!claims || sign_in.proof == ProofKind::OpenPubkey)
        && all("amr", &sign_in.amr)
        && all("acrs", &sign_in.acrs)
        && (require.get("device").is_none() || sign_in.device.is_some())
        && young("max_auth_age", sign_in.auth_time)
        && young("max_age", Some(sign_in.issued))
}
