//! What the node reads: answers of Azure and of the metadata services, the administrator's files, and
//! what local users send to the name responder. The samples lie in `seeds/`.

use std::fs;
use std::path::Path;

use nightlatch::azure::decision_json::RawDecision;
use nightlatch::azure::listing_json::Page;
use nightlatch::imds::{AzureJson, Instance, TokenAnswer, challenge_file, parse_ca_keys};
use nightlatch::login::{IdentityMap, KeptKey, Revocations, parse_ca_file};
use nightlatch_fuzz as fuzz;
use nightlatch_model::Snapshot;
use serde_json::Value;

use super::run;

pub(super) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn azure_json() {
    let valid = |data: &[u8]| AzureJson::parse(data, "x").is_ok();
    assert!(run(&seeds("azure_json"), 20_000, fuzz::azure_json, valid) > 1000);
}

#[test]
fn ca_keys() {
    let valid = |data: &[u8]| parse_ca_keys(data).is_ok();
    assert!(run(&seeds("ca_keys"), 10_000, fuzz::ca_keys, valid) > 300);
}

#[test]
fn imds_answers() {
    let valid = |data: &[u8]| {
        serde_json::from_slice::<Instance>(data).is_ok()
            || serde_json::from_slice::<TokenAnswer>(data).is_ok()
            || str::from_utf8(data)
                .is_ok_and(|text| challenge_file(Some(text), Path::new("/var/opt/azcmagent/tokens")).is_ok())
    };
    assert!(run(&seeds("imds_answers"), 20_000, fuzz::imds_answers, valid) > 1000);
}

#[test]
fn decisions() {
    let valid = |data: &[u8]| {
        serde_json::from_slice::<Vec<RawDecision>>(data).is_ok()
            || serde_json::from_slice::<Page<RawDecision>>(data).is_ok()
    };
    assert!(run(&seeds("decisions"), 20_000, fuzz::decisions, valid) > 1000);
}

#[test]
fn listing() {
    let valid = |data: &[u8]| {
        serde_json::from_slice::<Value>(data).is_ok_and(|whole| whole["assignments"]["value"].is_array())
    };
    assert!(run(&seeds("listing"), 10_000, fuzz::listing, valid) > 500);
}

#[test]
fn roles_file() {
    let valid = |data: &[u8]| {
        str::from_utf8(data).is_ok_and(|text| text.parse::<toml::Table>().is_ok_and(|t| !t.is_empty()))
    };
    assert!(run(&seeds("roles_file"), 5_000, fuzz::roles_file, valid) > 300);
}

#[test]
fn access_rules() {
    let valid = |data: &[u8]| {
        let holds = |part: &str| part.parse::<toml::Table>().is_ok_and(|table| !table.is_empty());
        str::from_utf8(data).is_ok_and(|text| text.split('\x01').any(holds))
    };
    assert!(run(&seeds("access_rules"), 5_000, fuzz::access_rules, valid) > 300);
}

#[test]
fn identity_map() {
    let valid = |data: &[u8]| str::from_utf8(data).is_ok_and(|text| IdentityMap::parse(text).is_ok());
    assert!(run(&seeds("identity_map"), 10_000, fuzz::identity_map, valid) > 300);
}

#[test]
fn revocations() {
    let valid = |data: &[u8]| {
        let text = |data| str::from_utf8(data).ok();
        text(data).is_some_and(|text| Revocations::parse(text).is_ok() || parse_ca_file(text).is_ok())
            || serde_json::from_slice::<Vec<KeptKey>>(data).is_ok()
    };
    assert!(run(&seeds("revocations"), 20_000, fuzz::revocations, valid) > 1000);
}

#[test]
fn userdb_requests() {
    let valid =
        |data: &[u8]| serde_json::from_slice::<Value>(data).is_ok_and(|call| call["method"].is_string());
    assert!(run(&seeds("userdb_request"), 10_000, fuzz::userdb_request, valid) > 1000);
}

#[test]
fn snapshots() {
    let valid = |data: &[u8]| {
        serde_json::from_slice::<Snapshot>(data).is_ok_and(|snapshot| snapshot.check(|_| false).is_ok())
    };
    assert!(run(&seeds("snapshot"), 5_000, fuzz::snapshot, valid) > 200);
}

#[test]
fn config() {
    let valid = |data: &[u8]| {
        let holds = |part: &[u8]| toml::from_slice::<toml::Table>(part).is_ok_and(|table| !table.is_empty());
        data.split(|byte| *byte == 1).any(holds)
    };
    assert!(run(&seeds("config"), 3_000, fuzz::config, valid) > 300);
}

#[test]
fn ledgers() {
    let valid = |data: &[u8]| {
        data.split(|byte| *byte == b'\n')
            .any(|line| serde_json::from_slice::<Value>(line).is_ok_and(|one| one["event"].is_object()))
    };
    assert!(run(&seeds("ledger"), 2_000, fuzz::ledger, valid) > 1000);
}

#[test]
fn break_glass() {
    let valid = |data: &[u8]| {
        data.split(|byte| *byte == b'\n').any(|line| line == b"rescue:x:1001:1001::/home/rescue:/bin/sh")
    };
    assert!(run(&seeds("break_glass"), 3_000, fuzz::break_glass, valid) > 300);
}
