//! Class 7: each claim that must be there, in each shape that it must not have. (CVE-2026-25537: a wrong type was taken
//! for an absent claim.)

use nightlatch_jwt::Refusal;

use crate::case::{Batch, Case};
use crate::draft::{Draft, quoted};
use crate::kit::{ALICE, APP, OTHER_TENANT, TENANT, now, v2_issuer};

/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

pub(crate) fn cases() -> Vec<Case> {
    let mut batch = Batch::of(7);
    absent(&mut batch);
    numbers(&mut batch);
    texts(&mut batch);
    guids(&mut batch);
    versions(&mut batch);
    lists_of_ours(&mut batch);
    batch.done()
}

/// A number that JSON can write and no type can hold: no reader could say what the payload is.
const BEYOND_ANY_NUMBER: Refusal = Refusal::Json("payload");

fn absent(batch: &mut Batch) {
    for (version, twin) in [("2.0", Draft::v2()), ("1.0", Draft::v1())] {
        for claim in ["iss", "aud", "tid", "oid", "sub", "exp", "nbf", "iat", "ver"] {
            let hostile = twin.clone().without(claim);
            batch.add(format!("no {claim} in version {version}"), &twin, &hostile, Refusal::Missing(claim));
        }
        // A claim of nearly that name is another claim.
        for (claim, other) in [("oid", "OID"), ("exp", "Exp"), ("aud", "aud "), ("tid", "tenant_id")] {
            let hostile = twin.clone().without(claim).with(other, twin.claims.raw(claim));
            let name = format!("{other:?} for {claim} in version {version}");
            batch.add(name, &twin, &hostile, Refusal::Missing(claim));
        }
    }
}

fn numbers(batch: &mut Batch) {
    let twin = Draft::v2();
    for claim in ["exp", "nbf", "iat"] {
        let good = twin.claims.raw(claim);
        let mut shapes = vec![
            format!("\"{good}\""),
            "true".to_owned(),
            "false".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            format!("[{good}]"),
            "{}".to_owned(),
            format!("{{\"0\":{good}}}"),
            "\"\"".to_owned(),
            "\"now\"".to_owned(),
            "\"2099-01-01T00:00:00Z\"".to_owned(),
            "\"0x7fffffff\"".to_owned(),
            "-1".to_owned(),
            format!("-{good}"),
            format!("{good}.0"),
            format!("{good}.5"),
            format!("{good}e0"),
            format!("{good}E+0"),
            "1e10".to_owned(),
            "0.0".to_owned(),
            format!("{good}000"),
            (LAST + 1).to_string(),
        ];
        shapes.extend([i64::MAX.to_string(), i64::MIN.to_string(), u64::MAX.to_string()]);
        // 2^63, 2^64 and 2^128, and 2^64 more than is right.
        shapes.extend(["9223372036854775808", "18446744073709551616"].map(str::to_owned));
        shapes.push("340282366920938463463374607431768211456".to_owned());
        shapes.push((i128::from(now()) + 4_200 + (1 << 64)).to_string());
        for raw in shapes {
            let hostile = twin.clone().with(claim, &raw);
            batch.add(format!("{claim} {raw}"), &twin, &hostile, Refusal::Malformed(claim));
        }
        let hostile = twin.clone().with(claim, "1e400");
        batch.add(format!("{claim} 1e400"), &twin, &hostile, BEYOND_ANY_NUMBER);
    }
    // These are times, and no token of Entra has them.
    for (claim, raw, wanted) in [
        ("exp", 0, Refusal::Expired),
        ("exp", 1, Refusal::Expired),
        ("exp", LAST, Refusal::Lifetime),
        ("nbf", 0, Refusal::Lifetime),
        ("iat", 0, Refusal::Lifetime),
        ("nbf", LAST, Refusal::NotYetValid),
        ("iat", LAST, Refusal::IssuedInFuture),
    ] {
        batch.add(format!("{claim} {raw}"), &twin, &twin.clone().with(claim, raw), wanted);
    }
}

fn texts(batch: &mut Batch) {
    let twin = Draft::v2();
    for claim in ["aud", "iss", "tid", "oid", "sub", "ver"] {
        let good = twin.claims.raw(claim);
        for raw in [
            "5".to_owned(),
            "0".to_owned(),
            "-1".to_owned(),
            "1.5".to_owned(),
            "true".to_owned(),
            "false".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            format!("[{good}]"),
            format!("[[{good}]]"),
            "{}".to_owned(),
            format!("{{\"0\":{good}}}"),
            format!("{{\"value\":{good}}}"),
            "9223372036854775808".to_owned(),
            "18446744073709551616".to_owned(),
        ] {
            let hostile = twin.clone().with(claim, &raw);
            batch.add(format!("{claim} {raw}"), &twin, &hostile, Refusal::Malformed(claim));
        }
        let hostile = twin.clone().with(claim, "1e400");
        batch.add(format!("{claim} 1e400"), &twin, &hostile, BEYOND_ANY_NUMBER);
    }
}

/// Texts that are nearly GUIDs.
fn guids(batch: &mut Batch) {
    let twin = Draft::v2();
    for (claim, good) in [("tid", TENANT), ("oid", ALICE)] {
        for text in [
            String::new(),
            good.replace('-', ""),
            format!("{{{good}}}"),
            format!("({good})"),
            format!("urn:uuid:{good}"),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}\0"),
            format!("{good}0"),
            good[..35].to_owned(),
            format!("{}g", &good[..35]),
            good.replace('-', "_"),
            good.replace('-', "\u{2010}"),
            good.replacen('1', "\u{661}", 1),
            good.replacen('1', "\u{ff11}", 1),
            format!("{good},{good}"),
            "common".to_owned(),
            "example.com".to_owned(),
            "alice@example.com".to_owned(),
            "00".to_owned(),
        ] {
            let hostile = twin.clone().with(claim, quoted(&text));
            batch.add(format!("{claim} {text:?}"), &twin, &hostile, Refusal::Malformed(claim));
        }
    }
}

fn versions(batch: &mut Batch) {
    let twin = Draft::v2();
    for raw in [
        "2",
        "2.0",
        "\"\"",
        "\"2\"",
        "\"2.00\"",
        "\"02.0\"",
        "\"v2.0\"",
        "\"2.0 \"",
        "\" 2.0\"",
        "\"2.0\\n\"",
        "\"2.1\"",
        "\"3.0\"",
        "\"0.0\"",
        "\"2,0\"",
        "\"\\uff12.0\"",
        "\"1.0,2.0\"",
        "[\"1.0\",\"2.0\"]",
    ] {
        let hostile = twin.clone().with("ver", raw);
        batch.add(format!("ver written {raw}"), &twin, &hostile, Refusal::Malformed("ver"));
    }
}

/// Lists in which the right value stands too.
fn lists_of_ours(batch: &mut Batch) {
    let twin = Draft::v2();
    let issuer = v2_issuer(TENANT);
    let other = v2_issuer(OTHER_TENANT);
    for (claim, ours, theirs) in [("aud", APP, "someone-else"), ("iss", &issuer, &other)] {
        let (ours, theirs) = (quoted(ours), quoted(theirs));
        for raw in [
            format!("[{ours},{theirs}]"),
            format!("[{theirs},{ours}]"),
            format!("[{ours},{ours}]"),
            format!("[null,{ours}]"),
            format!("[{ours},5]"),
            format!("[{{}},{ours}]"),
            format!("{{{ours}:true}}"),
        ] {
            let hostile = twin.clone().with(claim, &raw);
            batch.add(format!("{claim} as {raw}"), &twin, &hostile, Refusal::Malformed(claim));
        }
    }
}
