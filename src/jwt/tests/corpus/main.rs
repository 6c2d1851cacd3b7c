//! Hostile tokens beside their valid twins, over the 23 classes of reference/08 §1a, and valid variants: all of the
//! first must be refused, each for its own reason, and all of the others accepted. The same tokens before bare
//! `jsonwebtoken` show why the parser is our own.
//!
//! The cases know the public interface of the validator and nothing of how it works.
//!
//! The table: `cargo test -p nightlatch-jwt --test corpus -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

mod algorithm;
mod bare;
mod case;
mod draft;
mod evidence;
mod form;
mod groups;
mod header;
mod json;
mod kinds;
mod kit;
mod persons;
mod scope;
mod times;
mod types;
mod valid;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::LazyLock;

use algorithm::Concat as _;
use case::{CLASSES, Case, Given};
use valid::Variant;

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    [
        form::cases(),
        algorithm::cases(),
        header::cases(),
        types::cases(),
        times::cases(),
        scope::cases(),
        persons::cases(),
        groups::cases(),
        kinds::cases(),
        evidence::cases(),
        json::cases(),
    ]
    .concat_cases()
});
static VARIANTS: LazyLock<Vec<Variant>> = LazyLock::new(valid::variants);

/// Every reason that a token can be refused for.
const WORDS: [&str; 39] = [
    "token_too_large",
    "token_not_compact",
    "token_base64",
    "token_json",
    "token_duplicate_member",
    "token_algorithm",
    "token_type",
    "token_critical",
    "token_embedded_key",
    "token_header_nonce",
    "token_header_member",
    "token_key_id",
    "token_unknown_key",
    "token_key_issuer",
    "token_bad_signature",
    "token_claim_missing",
    "token_claim_malformed",
    "token_issuer",
    "token_tenant",
    "token_consumer_tenant",
    "token_version",
    "token_audience",
    "token_client",
    "token_person",
    "token_expired",
    "token_not_yet_valid",
    "token_issued_in_future",
    "token_lifetime",
    "token_not_access",
    "token_not_id",
    "token_application",
    "token_guest",
    "token_nonce",
    "token_groups_conflict",
    "token_reserved_name",
    "token_bound_to_key",
    "token_evidence",
    "token_forbidden_method",
    "token_auth_age",
];

/// Header and claims as text where they are text, and the whole token where it is short.
fn shown(given: &Given) -> String {
    let parts: Vec<String> = given
        .token
        .split('.')
        .take(2)
        .map(|part| {
            let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part);
            bytes.map_or_else(|_| part.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
        })
        .map(|text| text.chars().take(700).collect())
        .collect();
    format!("        {}", parts.join("\n        "))
}

/// Prints at most this many of what went wrong, and fails when there is any.
fn conclude(what: &str, of: usize, wrong: &[String]) {
    for line in wrong.iter().take(40) {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} of {of} {what} went wrong; the first 40 are above", wrong.len());
}

#[test]
fn four_hundred_hostile_tokens_are_refused_each_for_its_reason() {
    assert!(CASES.len() >= 400, "{} cases", CASES.len());
    let mut wrong = Vec::new();
    for case in CASES.iter() {
        let label = format!("class {}: {}", case.class, case.name);
        match case.hostile.validate() {
            Err(refusal) if refusal == case.wanted => {}
            Err(refusal) => {
                wrong.push(format!("{label}\n    refused as {refusal:?}, not as {:?}", case.wanted))
            }
            Ok(_) => {
                wrong.push(format!("{label}\n    ACCEPTED, not {:?}\n{}", case.wanted, shown(&case.hostile)))
            }
        }
        // In the same breath: what it was made from is good.
        if let Err(refusal) = case.twin.validate() {
            wrong.push(format!("{label}\n    its twin is refused as {refusal:?}\n{}", shown(&case.twin)));
        }
    }
    assert!(kit::kit().canary_sings(), "somebody followed an address out of a token");
    conclude("hostile tokens or twins", CASES.len(), &wrong);
}

#[test]
fn their_twins_and_fifty_variants_are_accepted() {
    assert!(VARIANTS.len() >= 50, "{} variants", VARIANTS.len());
    let mut wrong = Vec::new();
    for variant in VARIANTS.iter() {
        match variant.given.validate() {
            Ok(claims) if (variant.says)(&claims) => {}
            Ok(claims) => wrong.push(format!("{}\n    read wrongly: {claims:?}", variant.name)),
            Err(refusal) => {
                wrong.push(format!(
                    "{}\n    refused as {refusal:?}\n{}",
                    variant.name,
                    shown(&variant.given)
                ));
            }
        }
    }
    let twins: BTreeMap<&str, &Case> = CASES.iter().map(|case| (case.twin.token.as_str(), case)).collect();
    for case in twins.values() {
        if let Err(refusal) = case.twin.validate() {
            wrong.push(format!(
                "the twin of {}\n    refused as {refusal:?}\n{}",
                case.name,
                shown(&case.twin)
            ));
        }
    }
    assert!(kit::kit().canary_sings(), "somebody followed an address out of a token");
    println!("{} variants and {} different twins", VARIANTS.len(), twins.len());
    conclude("variants and twins", VARIANTS.len() + twins.len(), &wrong);
}

#[test]
fn bare_jsonwebtoken_lets_these_through() {
    println!("What only the caller can know (person, client, nonce, evidence) is counted too.");
    let rows = bare::run(&CASES);
    bare::print(&rows);
    let let_through: usize = rows.values().map(|row| row.usual).sum();
    assert!(let_through > 100, "it lets {let_through} through: is it asked rightly?");
    // It takes what is good, so what it refuses it refuses for a reason.
    let twins = CASES.iter().filter(|case| bare::accepts(&case.twin, bare::Setting::Usual)).count();
    println!("it accepts {twins} of {} twins", CASES.len());
    assert!(twins * 10 >= CASES.len() * 9, "it accepts {twins} of {} twins", CASES.len());
    let ours = CASES.iter().filter(|case| case.hostile.validate().is_ok()).count();
    assert_eq!(ours, 0, "ours lets that many through");
}

#[test]
fn every_class_is_there() {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    let mut names = HashSet::new();
    for case in CASES.iter() {
        *counts.entry(case.class).or_default() += 1;
        assert!(
            names.insert((case.class, &case.name)),
            "two cases of class {} are called {}",
            case.class,
            case.name
        );
        let differences = case.hostile.differences(&case.twin);
        assert_eq!(
            differences, 1,
            "class {}: {} differs from its twin in one respect",
            case.class, case.name
        );
    }
    for (number, title) in (1_u8..).zip(CLASSES) {
        let count = counts.get(&number).copied().unwrap_or_default();
        println!("{number:>2} {title:30} {count:>4}");
        assert!(count >= 10, "class {number} ({title}) has {count} cases");
    }
    println!("   {:30} {:>4}", "all", CASES.len());
    assert_eq!(counts.len(), CLASSES.len());
    let variants: HashSet<&str> = VARIANTS.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(variants.len(), VARIANTS.len(), "two variants have one name");
    let said: BTreeSet<&str> = CASES.iter().map(|case| case.wanted.word()).collect();
    let never: Vec<&&str> = WORDS.iter().filter(|word| !said.contains(**word)).collect();
    assert!(never.is_empty(), "no case wants {never:?}");
    assert_eq!(said.len(), WORDS.len(), "a reason is not in the list");
}

#[test]
fn the_key_sets_are_taken() {
    let mut wrong = BTreeSet::new();
    for given in
        CASES.iter().flat_map(|case| [&case.hostile, &case.twin]).chain(VARIANTS.iter().map(|v| &v.given))
    {
        if let Err(error) = &given.keys.merged {
            let last = given.keys.document.rsplit("{\"kty\"").next().unwrap_or_default();
            let last: String = last.split(',').map(|member| member.get(..60).unwrap_or(member)).collect();
            wrong.insert(format!("{error:?}: the key set that ends with {last}"));
        }
    }
    conclude("key sets", wrong.len(), &wrong.iter().cloned().collect::<Vec<String>>());
}
