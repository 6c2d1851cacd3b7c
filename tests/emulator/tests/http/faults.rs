//! Scripted misbehaviour as a client meets it.

use std::time::Duration;

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::Stage;

const CA_KEYS: &str = "/metadata/login/ca_keys?api-version=2019-03-11";

async fn fault(stage: &Stage, service: &str, plan: Value) {
    stage.control("PUT", &format!("/control/faults/{service}"), plan).await;
}

#[tokio::test]
async fn status_garbage_and_huge() {
    let stage = Stage::new().await;
    fault(&stage, "imds", json!({"kind": "status", "status": 429, "retry_after": 7, "times": 1})).await;
    let struck = stage.imds(CA_KEYS).await;
    assert_eq!((struck.status, struck.header("retry-after")), (429, "7"));
    assert_eq!(stage.imds(CA_KEYS).await.status, 200);
    fault(&stage, "imds", json!({"kind": "garbage"})).await;
    let garbage = stage.imds(CA_KEYS).await;
    assert_eq!((garbage.status, garbage.json()), (200, Value::Null));
    fault(&stage, "imds", json!({"kind": "huge", "mib": 2})).await;
    let huge = stage.imds(CA_KEYS).await;
    assert!(huge.body.len() > 2 * 1024 * 1024, "{}", huge.body.len());
    stage.control("DELETE", "/control/faults", Value::Null).await;
    assert!(stage.imds(CA_KEYS).await.json()["keys"].is_array());
}

#[tokio::test]
async fn close_blackhole_and_slow() {
    let stage = Stage::new().await;
    let keys = || Ask::get(format!("/{}/discovery/v2.0/keys", world::TENANT));
    let host = "login.microsoftonline.com";
    fault(&stage, "entra", json!({"kind": "close"})).await;
    assert!(stage.try_web(host, keys()).await.is_err());
    fault(&stage, "entra", json!({"kind": "blackhole"})).await;
    let waited = tokio::time::timeout(Duration::from_secs(1), stage.try_web(host, keys())).await;
    assert!(waited.is_err(), "no answer ever comes");
    fault(&stage, "entra", json!({"kind": "slow", "ms": 2_000})).await;
    let early = tokio::time::timeout(Duration::from_millis(700), stage.try_web(host, keys())).await;
    assert!(early.is_err(), "the answer is late");
    assert_eq!(stage.web(host, keys()).await.status, 200);
    let seen = stage.control("GET", "/control/requests?service=entra", Value::Null).await;
    let statuses: Vec<u64> =
        seen.as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [0, 0, 0, 200]);
}
