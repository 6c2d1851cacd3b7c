//! Discovery, keys, token shapes and refusals.

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::{Stage, claims, code};

const GRAPH: &str = "https://graph.microsoft.com/.default";

#[tokio::test]
async fn discovery_names_each_cloud() {
    let stage = Stage::new().await;
    for (host, issuer, sts) in [
        ("login.microsoftonline.com", "https://login.microsoftonline.com", "https://sts.windows.net"),
        ("login.microsoftonline.us", "https://login.microsoftonline.us", "https://sts.windows.net"),
        (
            "login.partner.microsoftonline.cn",
            "https://login.partner.microsoftonline.cn",
            "https://sts.chinacloudapi.cn",
        ),
        (
            "login.chinacloudapi.cn",
            "https://login.partner.microsoftonline.cn",
            "https://sts.chinacloudapi.cn",
        ),
    ] {
        let v2 = format!("/{}/v2.0/.well-known/openid-configuration", world::TENANT);
        let v2 = stage.web(host, Ask::get(v2)).await.json();
        assert_eq!(v2["issuer"], format!("{issuer}/{}/v2.0", world::TENANT), "{host}");
        let v1 = format!("/{}/.well-known/openid-configuration", world::TENANT);
        let v1 = stage.web(host, Ask::get(v1)).await.json();
        assert_eq!(v1["issuer"], format!("{sts}/{}/", world::TENANT), "{host}");
    }
    let common =
        stage.web("login.microsoftonline.com", Ask::get("/common/discovery/instance?api-version=1.1")).await;
    assert!(common.json()["metadata"].as_array().unwrap().len() >= 3);
    let other = "/99999999-0000-0000-0000-000000000000/v2.0/.well-known/openid-configuration";
    assert_eq!(code(&stage.web("login.microsoftonline.com", Ask::get(other)).await), 90002);
}

#[tokio::test]
async fn keys_rotate_and_flap() {
    let stage = Stage::new().await;
    let kids = async || -> Vec<String> {
        let path = format!("/{}/discovery/v2.0/keys", world::TENANT);
        let reply = stage.web("login.microsoftonline.com", Ask::get(path)).await.json();
        reply["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let first = kids().await;
    let made = stage.control("POST", "/control/token-keys/rotate", json!({})).await;
    let second = made["kid"].as_str().unwrap().to_owned();
    assert_eq!(kids().await, [first[0].clone(), second.clone()]);
    stage.control("PUT", "/control/jwks", json!({"hidden": [[second], []]})).await;
    assert_eq!((kids().await.len(), kids().await.len(), kids().await.len()), (1, 2, 1));
    stage.control("PUT", "/control/jwks", json!({"hidden": []})).await;
    stage.control("DELETE", &format!("/control/token-keys/{}", first[0]), Value::Null).await;
    assert_eq!(kids().await, [second]);
}

#[tokio::test]
async fn v1_and_v2_tokens_have_their_shapes() {
    let stage = Stage::new().await;
    let path = format!("/control/users/{}/claims", world::ALICE.upn);
    let set = json!({"amr": ["pwd", "fido"], "acrs": ["c1"], "deviceid": "d1", "auth_time": 7, "extra": {"ipaddr": null, "x": 1}});
    stage.control("PUT", &path, set).await;
    let reply = stage.refresh(world::ALICE.oid, GRAPH, &[]).await.json();
    let v1 = claims(reply["access_token"].as_str().unwrap());
    assert_eq!(v1["iss"], format!("https://sts.windows.net/{}/", world::TENANT));
    assert_eq!(
        (&v1["ver"], &v1["appid"], &v1["upn"]),
        (&json!("1.0"), &json!(world::AZURE_CLI), &json!(world::ALICE.upn))
    );
    assert_eq!(
        (&v1["amr"], &v1["acrs"], &v1["deviceid"]),
        (&json!(["pwd", "fido"]), &json!(["c1"]), &json!("d1"))
    );
    assert_eq!(
        (&v1["auth_time"], &v1["x"], v1.get("ipaddr"), v1.get("xms_cc")),
        (&json!(7), &json!(1), None, None)
    );
    let cp1 = r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#;
    let scope = format!("api://{}/login openid offline_access", world::OWN_APP);
    let reply =
        stage.refresh(world::ALICE.oid, &scope, &[("claims", cp1), ("client_info", "1")]).await.json();
    let v2 = claims(reply["access_token"].as_str().unwrap());
    assert_eq!(v2["iss"], format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT));
    assert_eq!((&v2["ver"], &v2["azp"], v2.get("upn")), (&json!("2.0"), &json!(world::AZURE_CLI), None));
    assert_eq!((&v2["aud"], &v2["xms_cc"]), (&json!(world::OWN_APP), &json!(["cp1"])));
    assert_eq!(v2["preferred_username"], world::ALICE.upn);
    assert_eq!(reply["foci"], "1");
    assert!(
        reply["refresh_token"].is_string()
            && reply["id_token"].is_string()
            && reply["client_info"].is_string()
    );
    assert_eq!(reply["expires_in"], 86_400);
}

#[tokio::test]
async fn the_v1_endpoint_quotes_its_numbers() {
    let stage = Stage::new().await;
    let seed = format!("seed-refresh-token-{}", world::ALICE.oid);
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", world::AZURE_CLI),
        ("refresh_token", seed.as_str()),
        ("resource", "https://management.azure.com/"),
    ];
    let path = format!("/{}/oauth2/token", world::TENANT);
    let reply = stage.web("login.microsoftonline.com", Ask::form(path, &fields)).await.json();
    assert_eq!(reply["expires_in"], "4271");
    assert!(reply["expires_on"].is_string());
    assert_eq!(claims(reply["access_token"].as_str().unwrap())["aud"], "https://management.azure.com/");
}

#[tokio::test]
async fn people_are_refused_for_their_reasons() {
    let stage = Stage::new().await;
    assert_eq!(code(&stage.refresh("nobody", GRAPH, &[]).await), 9_002_313);
    assert_eq!(
        code(&stage.refresh(world::ALICE.oid, "https://nowhere.example/.default", &[]).await),
        500_011
    );
    let unknown =
        [("grant_type", "refresh_token"), ("client_id", "x"), ("refresh_token", "y"), ("scope", GRAPH)];
    assert_eq!(code(&stage.token(&unknown).await), 700_016);
    stage.control("PUT", "/control/users/alice@contoso.com", json!({"enabled": false})).await;
    assert_eq!(code(&stage.refresh(world::ALICE.oid, GRAPH, &[]).await), 50057);
    stage.control("PUT", "/control/users/alice@contoso.com", json!({"enabled": true})).await;
    assert_eq!(stage.refresh(world::ALICE.oid, GRAPH, &[]).await.status, 200);
    stage.control("POST", "/control/users/alice@contoso.com/revoke", json!({})).await;
    assert_eq!(code(&stage.refresh(world::ALICE.oid, GRAPH, &[]).await), 50173);
    let fresh = stage.control("POST", "/control/users/alice@contoso.com/refresh-token", json!({})).await;
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", world::AZURE_CLI),
        ("refresh_token", fresh["refresh_token"].as_str().unwrap()),
        ("scope", GRAPH),
    ];
    assert_eq!(stage.token(&fields).await.status, 200);
    stage.control("PUT", "/control/time", json!({"clock_offset": 91 * 86_400})).await;
    assert_eq!(code(&stage.token(&fields).await), 700_082);
}

#[tokio::test]
async fn scripts_strike_whom_they_name() {
    let stage = Stage::new().await;
    let claims = json!({"access_token": {"capolids": {"essential": true, "values": ["p"]}}});
    let script = json!({"code": 50076, "who": world::ALICE.upn, "grant": "refresh_token", "claims": claims, "times": 1});
    stage.control("POST", "/control/entra/scripts", script).await;
    assert_eq!(stage.refresh(world::ADELE.oid, GRAPH, &[]).await.status, 200);
    let hit = stage.refresh(world::ALICE.oid, GRAPH, &[]).await;
    assert_eq!((hit.status, code(&hit)), (400, 50076));
    assert_eq!(hit.json()["suberror"], "basic_action");
    assert_eq!(hit.json()["claims"], claims.to_string());
    assert_eq!(stage.refresh(world::ALICE.oid, GRAPH, &[]).await.status, 200);
    for (number, word) in
        [(53000, "interaction_required"), (53003, "interaction_required"), (70043, "invalid_grant")]
    {
        stage.control("DELETE", "/control/entra/scripts", Value::Null).await;
        stage.control("POST", "/control/entra/scripts", json!({"code": number})).await;
        let hit = stage.refresh(world::ALICE.oid, GRAPH, &[]).await;
        assert_eq!((code(&hit), hit.json()["error"].as_str().unwrap()), (number, word));
    }
}

#[tokio::test]
async fn a_claims_challenge_is_made_and_met() {
    let stage = Stage::new().await;
    stage.control("PUT", "/control/challenges", json!([{"service": "graph", "acrs": "c1"}])).await;
    let plain = stage.refresh(world::ALICE.oid, GRAPH, &[]).await.json();
    let me = || Ask::get("/v1.0/me");
    let refused =
        stage.web("graph.microsoft.com", me().bearer(plain["access_token"].as_str().unwrap())).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").contains("insufficient_claims"));
    let wants = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let silent = stage.refresh(world::ALICE.oid, GRAPH, &[("claims", wants)]).await;
    assert_eq!(code(&silent), 50076);
    let claims: Value = serde_json::from_str(silent.json()["claims"].as_str().unwrap()).unwrap();
    assert_eq!(claims["access_token"]["acrs"]["value"], "c1");
    stage.control("PUT", "/control/users/alice@contoso.com/claims", json!({"acrs": ["c1"]})).await;
    let stepped = stage.refresh(world::ALICE.oid, GRAPH, &[("claims", wants)]).await.json();
    let met = stage.web("graph.microsoft.com", me().bearer(stepped["access_token"].as_str().unwrap())).await;
    assert_eq!((met.status, met.json()["id"].as_str()), (200, Some(world::ALICE.oid)));
}
