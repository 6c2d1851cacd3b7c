//! The same tokens before bare `jsonwebtoken`: as its documentation shows it, and as strict as it can be set.

use std::collections::HashMap;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use nightlatch_jwt::Algorithm as Ours;

use crate::case::{CLASSES, Case, Given};

/// What was let through in one class.
#[derive(Default)]
pub(crate) struct Row {
    cases: usize,
    pub(crate) usual: usize,
    strict: usize,
    names: Vec<String>,
}

/// How the library is set.
#[derive(Clone, Copy)]
pub(crate) enum Setting {
    /// `Validation::new` with audience and issuer.
    Usual,
    /// With all claims required that it knows, and the start of validity checked.
    Strict,
}

/// Whether the library takes the token, with the key that the key set has under the token's `kid`.
pub(crate) fn accepts(given: &Given, setting: Setting) -> bool {
    let Some(key) = key_of(given) else { return false };
    let mut algorithms = given.expected.algorithms.iter().map(|algorithm| match algorithm {
        Ours::Rs256 => Algorithm::RS256,
        Ours::Ps256 => Algorithm::PS256,
        Ours::Es256 => Algorithm::ES256,
        Ours::EdDsa => Algorithm::EdDSA,
    });
    let mut validation = Validation::new(algorithms.next().unwrap_or(Algorithm::RS256));
    validation.algorithms.extend(algorithms);
    validation.set_audience(&given.expected.audiences);
    let issuers: Vec<&str> = given.expected.issuers.iter().map(|issuer| issuer.text.as_str()).collect();
    validation.set_issuer(&issuers);
    if matches!(setting, Setting::Strict) {
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
    }
    decode::<serde_json::Value>(&given.token, &key, &validation).is_ok()
}

fn key_of(given: &Given) -> Option<DecodingKey> {
    let kid = decode_header(&given.token).ok()?.kid?;
    let document: serde_json::Value = serde_json::from_str(&given.keys.document).ok()?;
    let found =
        document.get("keys")?.as_array()?.iter().find(|key| key.get("kid").is_some_and(|k| *k == *kid))?;
    let key: Jwk = serde_json::from_value(found.clone()).ok()?;
    DecodingKey::from_jwk(&key).ok()
}

pub(crate) fn run(cases: &[Case]) -> HashMap<u8, Row> {
    let mut rows: HashMap<u8, Row> = HashMap::new();
    for case in cases {
        let row = rows.entry(case.class).or_default();
        row.cases += 1;
        row.strict += usize::from(accepts(&case.hostile, Setting::Strict));
        if accepts(&case.hostile, Setting::Usual) {
            row.usual += 1;
            row.names.push(case.name.clone());
        }
    }
    rows
}

/// The table, and three names of each class: the first, one in the middle and the last.
pub(crate) fn print(rows: &HashMap<u8, Row>) {
    println!("{:>5}  {:30} {:>7} {:>12} {:>10}", "class", "", "hostile", "let through", "if strict");
    for (number, title) in (1_u8..).zip(CLASSES) {
        let Some(row) = rows.get(&number) else { continue };
        println!("{number:>5}  {title:30} {:>7} {:>12} {:>10}", row.cases, row.usual, row.strict);
        let mut shown = vec![0, row.names.len() / 2, row.names.len().saturating_sub(1)];
        shown.dedup();
        for name in shown.into_iter().filter_map(|at| row.names.get(at)) {
            println!("         · {}", name.chars().take(90).collect::<String>());
        }
    }
    let sum = |of: fn(&Row) -> usize| rows.values().map(of).sum::<usize>();
    let (cases, usual, strict) = (sum(|row| row.cases), sum(|row| row.usual), sum(|row| row.strict));
    println!("  all  {:30} {cases:>7} {usual:>12} {strict:>10}", "");
}
