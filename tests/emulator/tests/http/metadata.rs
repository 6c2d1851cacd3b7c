//! IMDS and himds.

use nightlatch_emulator::client::Ask;
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::{Stage, claims};

const TOKEN: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01";

#[tokio::test]
async fn headers_and_versions_are_demanded() {
    let stage = Stage::new().await;
    let imds = stage.running().endpoints().imds.unwrap();
    let target = "/metadata/instance?api-version=2021-02-01";
    assert_eq!(Ask::get(target).over_tcp(imds).await.unwrap().status, 400);
    let proxied = Ask::get(target).header("Metadata", "true").header("X-Forwarded-For", "1.2.3.4");
    assert_eq!(proxied.over_tcp(imds).await.unwrap().status, 400);
    let unversioned = stage.imds("/metadata/instance").await;
    assert_eq!(unversioned.status, 400);
    assert!(unversioned.json()["newest-versions"].is_array());
    assert_eq!(stage.imds("/metadata/nothing?api-version=2021-02-01").await.status, 404);
    let compute = stage.imds("/metadata/instance/compute?api-version=2021-02-01").await.json();
    assert_eq!(compute["resourceId"], world::NODE);
    assert_eq!(compute["vmScaleSetName"], world::NODE_SCALE_SET);
    assert_eq!(
        (&compute["azEnvironment"], &compute["location"]),
        (&json!("AzurePublicCloud"), &json!(world::REGION))
    );
    assert_eq!(stage.imds(target).await.json()["compute"], compute);
}

#[tokio::test]
async fn tokens_are_minted_for_exact_resources() {
    let stage = Stage::new().await;
    let good = stage.imds(&format!("{TOKEN}&resource=https://authorization.azure.net")).await.json();
    assert!(good["expires_on"].as_str().unwrap().parse::<i64>().unwrap() > 0);
    assert!(good["expires_in"].is_string() && good["not_before"].is_string());
    assert_eq!((&good["client_id"], &good["token_type"]), (&json!(world::KUBELET_CLIENT), &json!("Bearer")));
    let wrong =
        stage.imds(&format!("{TOKEN}&resource=https%3A%2F%2Fauthorization.azure.net%2F.default")).await;
    assert_eq!((wrong.status, wrong.json()["error"].as_str()), (400, Some("invalid_resource")));
    assert!(wrong.json()["error_description"].as_str().unwrap().starts_with("AADSTS500011"));
    assert_eq!(stage.imds(TOKEN).await.status, 400);
    for (environment, issuer) in
        [("AzureChinaCloud", "sts.chinacloudapi.cn"), ("AzureUSGovernmentCloud", "sts.windows.net")]
    {
        stage.control("PUT", "/control/node", json!({"environment": environment})).await;
        let token = stage.node_token("https://authorization.azure.cn").await;
        assert_eq!(claims(&token)["iss"], format!("https://{issuer}/{}/", world::TENANT));
    }
}

#[tokio::test]
async fn several_identities_need_a_selector() {
    let stage = Stage::new().await;
    let mut node = stage.control("GET", "/control/node", Value::Null).await;
    let addon =
        json!({"client_id": world::ADDON_CLIENT, "object_id": world::ADDON_OID, "resource_id": "/x/addon"});
    node["identities"].as_array_mut().unwrap().push(addon);
    stage.control("PUT", "/control/node", node).await;
    let target = format!("{TOKEN}&resource=https://authorization.azure.net");
    let unclear = stage.imds(&target).await;
    assert_eq!(unclear.status, 400);
    assert!(unclear.text().contains("Multiple user assigned identities exist, please specify the clientId"));
    for selector in [
        format!("client_id={}", world::ADDON_CLIENT),
        format!("object_id={}", world::ADDON_OID),
        "msi_res_id=/X/addon".to_owned(),
    ] {
        let one = stage.imds(&format!("{target}&{selector}")).await.json();
        assert_eq!(one["client_id"], world::ADDON_CLIENT, "{selector}");
    }
    assert!(stage.imds(&format!("{target}&client_id=none")).await.text().contains("Identity not found"));
    stage.control("PUT", "/control/node", json!({"identities": []})).await;
    assert!(stage.imds(&target).await.text().contains("Identity not found"));
}

#[tokio::test]
async fn ca_keys_follow_rotation() {
    let stage = Stage::new().await;
    let path = "/metadata/login/ca_keys?api-version=2019-03-11";
    let first = stage.imds(path).await.json();
    let key = &first["keys"][0];
    assert_eq!((&key["kty"], &key["e"]), (&json!("RSA"), &json!("AQAB")));
    assert_eq!(key["n"].as_str().unwrap().len(), 342);
    assert_eq!(stage.imds("/metadata/login/ca_keys?api-version=2020-01-01").await.status, 400);
    let made = stage.control("POST", "/control/ssh-ca/rotate", json!({"keep_old": true})).await;
    assert_eq!(stage.imds(path).await.json()["keys"].as_array().unwrap().len(), 2);
    let public = std::fs::read_to_string(stage.state().join("ssh-ca.pub")).unwrap();
    assert!(made["public_key"].as_str().unwrap().split(' ').nth(1) == public.split(' ').nth(1));
    stage.control("POST", "/control/ssh-ca/rotate", json!({"keep_old": false})).await;
    assert_eq!(stage.imds(path).await.json()["keys"].as_array().unwrap().len(), 1);
    let himds = stage.running().endpoints().himds.unwrap();
    let arc = Ask::get(path).header("Metadata", "true").over_tcp(himds).await.unwrap();
    assert_eq!(arc.json(), stage.imds(path).await.json());
}

#[tokio::test]
async fn himds_gives_a_token_for_the_challenge_file() {
    let stage = Stage::new().await;
    let himds = stage.running().endpoints().himds.unwrap();
    let ask = || {
        Ask::get(
            "/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https://authorization.azure.net",
        )
        .header("Metadata", "true")
    };
    let challenge = ask().over_tcp(himds).await.unwrap();
    assert_eq!(challenge.status, 401);
    let file = challenge.header("www-authenticate").strip_prefix("Basic realm=").unwrap().to_owned();
    assert!(file.starts_with(stage.state().join("himds-tokens").to_str().unwrap()) && file.ends_with(".key"));
    let secret = std::fs::read_to_string(&file).unwrap();
    let wrong = ask().header("Authorization", "Basic wrong").over_tcp(himds).await.unwrap();
    assert_eq!(wrong.status, 401);
    let answer = || ask().header("Authorization", &format!("Basic {secret}")).over_tcp(himds);
    let good = answer().await.unwrap();
    assert_eq!((good.status, &good.json()["client_id"]), (200, &json!(world::ARC_CLIENT)));
    assert_eq!(answer().await.unwrap().status, 401, "a challenge is good once");
    let compute = Ask::get("/metadata/instance/compute?api-version=2020-06-01").header("Metadata", "true");
    assert_eq!(compute.over_tcp(himds).await.unwrap().json()["resourceId"], world::ARC_MACHINE);
}
