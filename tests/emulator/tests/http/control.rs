//! The control API itself, the state directory, and starting and ending.

use std::os::unix::fs::PermissionsExt as _;

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::{Options, start, world};
use serde_json::{Value, json};

use crate::stage::{LOGIN, PDP_HOST, PDP_PATH, Stage};

async fn allowed(stage: &Stage, oid: &str) -> Value {
    let token = stage.node_token("https://authorization.azure.net").await;
    let body = json!({"Subject": {"Attributes": {"ObjectId": oid}},
        "Actions": [{"Id": LOGIN, "IsDataAction": true}], "Resource": {"Id": world::NODE}});
    let reply = stage.web(PDP_HOST, Ask::json("POST", PDP_PATH, &body).bearer(&token)).await;
    reply.json()["value"][0]["accessDecision"].clone()
}

#[tokio::test]
async fn people_and_roles_come_and_go() {
    let stage = Stage::new().await;
    let eve = stage.control("POST", "/control/users", json!({"upn": "Eve@contoso.com"})).await;
    let oid = eve["oid"].as_str().unwrap().to_owned();
    assert_eq!(allowed(&stage, &oid).await, "NotAllowed");
    let grant = json!({"principal_id": "eve@contoso.com", "role_definition_id": world::ROLE_USER_LOGIN, "scope": world::NODE});
    let made = stage.control("POST", "/control/role-assignments", grant).await;
    assert_eq!(allowed(&stage, &oid).await, "Allowed");
    let deny = json!({"scope": "/", "permissions": [{"dataActions": ["*"]}], "principals": [oid]});
    let deny = stage.control("POST", "/control/deny-assignments", deny).await;
    assert_eq!(allowed(&stage, &oid).await, "Denied");
    stage
        .control(
            "DELETE",
            &format!("/control/deny-assignments/{}", deny["id"].as_str().unwrap()),
            Value::Null,
        )
        .await;
    stage
        .control(
            "DELETE",
            &format!("/control/role-assignments/{}", made["id"].as_str().unwrap()),
            Value::Null,
        )
        .await;
    assert_eq!(allowed(&stage, &oid).await, "NotAllowed");
    let renamed =
        stage.control("PUT", "/control/users/eve@contoso.com", json!({"upn": "eva@contoso.com"})).await;
    assert_eq!((&renamed["upn"], &renamed["oid"]), (&json!("eva@contoso.com"), &json!(oid)));
    stage.control("PUT", &format!("/control/groups/{}/members/{oid}", world::GROUP_OUTER), json!({})).await;
    let role = json!({"name": "custom", "permissions": [{"dataActions": ["*"], "notDataActions": ["*/login/action"]}]});
    stage.control("PUT", "/control/role-definitions/abc", role).await;
    let grant = json!({"principal_id": oid, "role_definition_id": "abc", "scope": world::NODE});
    stage.control("POST", "/control/role-assignments", grant).await;
    assert_eq!(allowed(&stage, &oid).await, "NotAllowed", "subtraction, and groups are not expanded unasked");
    stage.control("PUT", "/control/pdp", json!({"always_expand_groups": true})).await;
    assert_eq!(allowed(&stage, &oid).await, "Allowed");
    stage.control("POST", "/control/reset", json!({})).await;
    let users = stage.control("GET", "/control/users", Value::Null).await;
    assert!(users.as_array().unwrap().iter().all(|one| one["oid"] != oid.as_str()));
}

#[tokio::test]
async fn mistakes_are_named() {
    let stage = Stage::new().await;
    let control = stage.running().endpoints().control.unwrap();
    for (method, route, body, status) in [
        ("PUT", "/control/faults/nothing", json!({"kind": "none"}), 404),
        ("PUT", "/control/users/none@contoso.com", json!({}), 404),
        ("POST", "/control/users", json!({"upn": "x@y", "oid": "no guid"}), 400),
        (
            "POST",
            "/control/role-assignments",
            json!({"principal_id": "x", "role_definition_id": "y", "scope": "/"}),
            404,
        ),
        ("POST", "/control/ssh-cert", json!({"public_key": "nonsense"}), 400),
        ("GET", "/control/nowhere", json!({}), 404),
    ] {
        let reply = Ask::json(method, route, &body).over_tcp(control).await.unwrap();
        assert_eq!(reply.status, status, "{method} {route}: {}", reply.text());
        assert!(!reply.json()["error"].as_str().unwrap_or("").is_empty(), "{method} {route}");
    }
}

#[tokio::test]
async fn the_log_shows_what_was_sent_and_zero_is_zero() {
    let stage = Stage::new().await;
    assert_eq!(stage.calls("graph").await, 0);
    stage.refresh(world::ALICE.oid, "https://graph.microsoft.com/.default", &[]).await;
    let seen = stage.control("GET", "/control/requests", Value::Null).await;
    assert!(seen[0]["body"].as_str().unwrap().contains("grant_type=refresh_token"));
    assert_eq!((&seen[0]["host"], &seen[0]["status"]), (&json!("login.microsoftonline.com"), &json!(200)));
    assert_eq!(stage.calls("entra").await, 1);
    stage.control("DELETE", "/control/counters", Value::Null).await;
    assert_eq!(stage.calls("entra").await, 0);
}

#[tokio::test]
async fn the_state_directory_outlives_a_restart() {
    let dir = tempfile::TempDir::new().unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let running = start(Options::loopback(dir.path())).await.unwrap();
    let endpoints: Value = serde_json::from_str(&read("endpoints.json")).unwrap();
    assert_eq!(endpoints["https"][0], json!(running.endpoints().https[0]));
    assert_eq!(endpoints["tenant"], world::TENANT);
    let before: Vec<String> = ["tls-ca.pem", "ssh-ca", "ssh-ca.pub", "token-signing.pem"].map(read).into();
    for name in ["ssh-ca", "token-signing.pem", "tls-leaf-key.pem", "users.json"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let users: Value = serde_json::from_str(&read("users.json")).unwrap();
    assert!(users.as_array().unwrap().iter().any(|one| one["upn"] == "Mixed.Case@contoso.com"));
    let https = running.endpoints().https[0];
    running.stop().await;
    assert!(tokio::net::TcpStream::connect(https).await.is_err(), "stopping closes the listeners");
    let again = start(Options::loopback(dir.path())).await.unwrap();
    let after: Vec<String> = ["tls-ca.pem", "ssh-ca", "ssh-ca.pub", "token-signing.pem"].map(read).into();
    assert_eq!(before, after);
    again.stop().await;
}

#[tokio::test]
async fn a_taken_address_is_said() {
    let stage = Stage::new().await;
    let mut options = Options::new(stage.path().join("other"));
    options.https = vec![stage.running().endpoints().https[0]];
    assert!(start(options).await.unwrap_err().to_string().contains("cannot listen on 127.0.0.1"));
}
