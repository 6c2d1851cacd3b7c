//! Tokens, key sets and proofs. The samples lie in `seeds/`; a payload is signed before it is judged.

use nightlatch_fuzz as fuzz;
use nightlatch_jwt::KeySet;
use nightlatch_model::Timestamp;
use serde_json::Value;

use super::documents::seeds;
use super::run;

#[test]
fn token() {
    let valid = |data: &[u8]| serde_json::from_slice::<Value>(data).is_ok();
    assert!(run(&seeds("token"), 10_000, fuzz::token, valid) > 1_000);
}

#[test]
fn key_set() {
    let valid = |data: &[u8]| KeySet::default().merge(data, Timestamp(0)).is_ok();
    assert!(run(&seeds("key_set"), 20_000, fuzz::key_set, valid) > 1_000);
}

#[test]
fn proof() {
    let valid = |data: &[u8]| str::from_utf8(data).is_ok_and(|text| text.split(':').count() == 5);
    assert!(seeds("proof").iter().all(|sample| fuzz::proof_holds(sample)));
    assert!(run(&seeds("proof"), 5_000, fuzz::proof, valid) > 1_000);
}
