//! CheckAccess v2 and v1: shapes, callers, paging and buckets.

use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::{LOGIN, PDP_HOST, PDP_PATH, Stage};

const PDP: &str = "https://authorization.azure.net";
const ARM: &str = "https://management.azure.com/";

fn body(oid: &str, actions: &[&str], resource: &str) -> Value {
    let actions: Vec<Value> = actions.iter().map(|id| json!({"Id": id, "IsDataAction": true})).collect();
    json!({"Subject": {"Attributes": {"ObjectId": oid}}, "Actions": actions, "Resource": {"Id": resource}})
}

async fn check(stage: &Stage, token: &str, body: &Value) -> Reply {
    stage.web(PDP_HOST, Ask::json("POST", PDP_PATH, body).bearer(token)).await
}

#[tokio::test]
async fn answers_have_the_observed_shapes() {
    let stage = Stage::new().await;
    let token = stage.node_token(PDP).await;
    let allowed = check(&stage, &token, &body(world::ALICE.oid, &[LOGIN], world::NODE)).await.json();
    let decision = &allowed["value"][0];
    assert_eq!((&decision["accessDecision"], &decision["actionId"]), (&json!("Allowed"), &json!(LOGIN)));
    assert_eq!(decision["roleAssignment"]["principalId"], world::ALICE.oid.replace('-', ""));
    assert_eq!(decision["roleAssignment"]["roleDefinitionId"], world::ROLE_USER_LOGIN.replace('-', ""));
    assert!(decision["roleAssignment"]["scope"].as_str().unwrap().contains(world::SUBSCRIPTION));
    assert_eq!((&decision["timeToLiveInMs"], &decision["decisionReason"]), (&json!(60_000), &json!(1)));
    assert_eq!(allowed["nextLink"], Value::Null);
    let refused = check(&stage, &token, &body(world::NORMAN.oid, &[LOGIN], world::NODE)).await.json();
    let decision = &refused["value"][0];
    assert_eq!(
        (&decision["accessDecision"], &decision["decisionReason"]),
        (&json!("NotAllowed"), &json!(10))
    );
    assert_eq!(decision["roleAssignment"], Value::Null);
    let bare = stage.web(PDP_HOST, Ask::json("POST", "/", &json!({})).bearer(&token)).await;
    assert_eq!((bare.status, bare.text().chars().next()), (404, Some('N')));
}

#[tokio::test]
async fn the_caller_s_failures_are_not_the_person_s() {
    let stage = Stage::new().await;
    let asked = body(world::ALICE.oid, &[LOGIN], world::NODE);
    let token = stage.node_token(PDP).await;
    let nowhere = body(
        world::ALICE.oid,
        &[LOGIN],
        "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/none",
    );
    let message = json!({"statusCode": 403, "message": "Caller does not have RBAC permission provisioned to call CheckAccess on this scope."});
    let missing = check(&stage, &token, &nowhere).await;
    assert_eq!((missing.status, missing.json()), (403, message.clone()));
    // A grant on the cluster is enough for v1 and not for v2.
    stage
        .control("DELETE", &format!("/control/role-assignments?principal={}", world::KUBELET_OID), json!({}))
        .await;
    let grant = json!({"principal_id": world::KUBELET_OID, "role_definition_id": world::ROLE_CHECK_ACCESS_READER, "scope": world::NODE});
    stage.control("POST", "/control/role-assignments", grant).await;
    let forbidden = check(&stage, &token, &asked).await;
    assert_eq!((forbidden.status, forbidden.json()), (403, message));
    let arm = stage.node_token(ARM).await;
    let path = |scope: &str| {
        format!("{scope}/providers/Microsoft.Authorization/checkaccess?api-version=2018-09-01-preview")
    };
    let v1 =
        stage.web("management.azure.com", Ask::json("POST", path(world::NODE), &asked).bearer(&arm)).await;
    assert_eq!((v1.status, &v1.json()[0]["accessDecision"]), (200, &json!("Allowed")));
    assert_eq!(v1.json()[0]["roleAssignment"]["principalId"], world::ALICE.oid);
    let v1 =
        stage.web("management.azure.com", Ask::json("POST", path(world::CLUSTER), &asked).bearer(&arm)).await;
    assert_eq!((v1.status, &v1.json()["error"]["code"]), (403, &json!("AuthorizationFailed")));
    assert!(
        v1.text().contains(world::KUBELET_CLIENT)
            && v1.text().contains("Microsoft.Authorization/checkAccess/read")
    );
    let v1 = stage
        .web(
            "management.azure.com",
            Ask::json("POST", path(&format!("{}x", world::NODE)), &asked).bearer(&arm),
        )
        .await;
    assert_eq!((v1.status, &v1.json()["error"]["code"]), (404, &json!("ResourceNotFound")));
}

#[tokio::test]
async fn tokens_are_checked() {
    let stage = Stage::new().await;
    let asked = body(world::ALICE.oid, &[LOGIN], world::NODE);
    let mint = async |more: Value| {
        let mut order = json!({"user": world::KUBELET_OID, "audience": PDP});
        order.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        stage.control("POST", "/control/tokens", order).await["access_token"].as_str().unwrap().to_owned()
    };
    for more in [
        json!({"audience": ARM}),
        json!({"key": "foreign"}),
        json!({"key": "none"}),
        json!({"claims": {"exp": 5}}),
    ] {
        assert_eq!(check(&stage, &mint(more.clone()).await, &asked).await.status, 401, "{more}");
    }
    assert_eq!(check(&stage, &mint(json!({})).await, &asked).await.status, 200);
    assert_eq!(stage.web(PDP_HOST, Ask::json("POST", PDP_PATH, &asked)).await.status, 401);
}

#[tokio::test]
async fn more_than_fifty_decisions_come_in_pages() {
    let stage = Stage::new().await;
    let token = stage.node_token(PDP).await;
    let names: Vec<String> = (0..120).map(|number| format!("Microsoft.Compute/x{number}/action")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut reply = check(&stage, &token, &body(world::ALICE.oid, &names, world::NODE)).await.json();
    let mut sizes = vec![reply["value"].as_array().unwrap().len()];
    while let Some(link) = reply["nextLink"].as_str() {
        let target = link.strip_prefix(&format!("https://{PDP_HOST}")).unwrap().to_owned();
        reply = stage.web(PDP_HOST, Ask::get(target).bearer(&token)).await.json();
        sizes.push(reply["value"].as_array().unwrap().len());
    }
    assert_eq!(sizes, [50, 50, 20]);
    stage.control("PUT", "/control/pdp", json!({"page_size": 1, "drop_actions": [names[0]]})).await;
    let short = check(&stage, &token, &body(world::ALICE.oid, &names[..2], world::NODE)).await.json();
    assert_eq!((short["value"].as_array().unwrap().len(), &short["nextLink"]), (1, &Value::Null));
}

#[tokio::test]
async fn buckets_run_dry_per_caller_and_can_be_refilled() {
    let stage = Stage::new().await;
    let limits = json!({"reads": {"capacity": 3.0, "refill_per_second": 0.01}, "pdp": {"capacity": 2.0, "refill_per_second": 0.01}});
    stage.control("PUT", "/control/buckets", limits).await;
    let (pdp, arm) = (stage.node_token(PDP).await, stage.node_token(ARM).await);
    let asked = body(world::ALICE.oid, &[LOGIN], world::NODE);
    assert_eq!(check(&stage, &pdp, &asked).await.status, 200);
    assert_eq!(check(&stage, &pdp, &asked).await.status, 200);
    let dry = check(&stage, &pdp, &asked).await;
    assert_eq!(dry.status, 429);
    assert!((90..=100).contains(&dry.header("retry-after").parse::<u64>().unwrap()));
    let list = || {
        Ask::get(format!(
            "{}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01",
            world::NODE
        ))
    };
    let host = "management.azure.com";
    for left in ["2", "1", "0"] {
        let reply = stage.web(host, list().bearer(&arm)).await;
        assert_eq!((reply.status, reply.header("x-ms-ratelimit-remaining-subscription-reads")), (200, left));
        assert!(!reply.header("x-ms-ratelimit-remaining-subscription-global-reads").is_empty());
    }
    let dry = stage.web(host, list().bearer(&arm)).await;
    assert_eq!((dry.status, &dry.json()["error"]["code"]), (429, &json!("SubscriptionRequestsThrottled")));
    let other =
        stage.control("POST", "/control/tokens", json!({"user": world::OLGA.oid, "audience": ARM})).await;
    assert_eq!(stage.web(host, list().bearer(other["access_token"].as_str().unwrap())).await.status, 200);
    stage.control("POST", "/control/buckets/reset", json!({})).await;
    assert_eq!(check(&stage, &pdp, &asked).await.status, 200);
    stage.control("PUT", "/control/buckets", json!({"enabled": false})).await;
    for _ in 0..5 {
        assert_eq!(check(&stage, &pdp, &asked).await.status, 200);
    }
    assert_eq!(stage.calls("pdp").await, 9);
}
