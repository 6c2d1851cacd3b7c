//! ARM's listings and Graph.

use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::world;
use serde_json::{Value, json};

use crate::stage::Stage;

const ARM_HOST: &str = "management.azure.com";

async fn minted(stage: &Stage, user: &str, audience: &str) -> String {
    let made = stage.control("POST", "/control/tokens", json!({"user": user, "audience": audience})).await;
    made["access_token"].as_str().unwrap().to_owned()
}

async fn list(stage: &Stage, token: &str, scope: &str, what: &str) -> Reply {
    let joint = if what.contains('?') { '&' } else { '?' };
    let target = format!("{scope}/providers/Microsoft.Authorization/{what}{joint}api-version=2022-04-01");
    stage.web(ARM_HOST, Ask::get(target).bearer(token)).await
}

fn principals(reply: &Reply) -> Vec<String> {
    let items = reply.json()["value"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["properties"]["principalId"].as_str().unwrap_or("").to_owned()).collect()
}

#[tokio::test]
async fn filters_follow_groups_and_scopes() {
    let stage = Stage::new().await;
    let token = stage.node_token("https://management.azure.com/").await;
    let assigned = |oid: &str| format!("roleAssignments?$filter=assignedTo('{oid}')");
    let grace = list(&stage, &token, world::NODE, &assigned(world::GRACE.oid)).await;
    assert_eq!(principals(&grace), [world::GROUP_OUTER]);
    assert_eq!(grace.json()["value"][0]["properties"]["principalType"], "Group");
    let subscription = format!("/subscriptions/{}", world::SUBSCRIPTION);
    let alice = assigned(world::ALICE.oid);
    assert_eq!(principals(&list(&stage, &token, &subscription, &alice).await), [world::ALICE.oid]);
    let at_scope = format!("{alice}%20and%20atScope()");
    assert!(principals(&list(&stage, &token, &subscription, &at_scope).await).is_empty());
    assert!(principals(&list(&stage, &token, world::NODE, &assigned(world::PETRA.oid)).await).is_empty());
    let deny = format!("denyAssignments?$filter=assignedTo('{}')", world::DORA.oid);
    let deny = list(&stage, &token, world::NODE, &deny).await.json();
    assert_eq!(deny["value"][0]["properties"]["principals"][0]["id"], world::DORA.oid);
    let role = list(&stage, &token, "", &format!("roleDefinitions/{}", world::ROLE_ADMIN_LOGIN)).await.json();
    assert_eq!(role["properties"]["permissions"][0]["dataActions"].as_array().unwrap().len(), 4);
    assert_eq!(list(&stage, &token, "", "roleDefinitions/none").await.status, 404);
    assert_eq!(list(&stage, &token, world::NODE, "roleAssignments?$filter=x").await.status, 400);
}

#[tokio::test]
async fn an_open_window_is_a_schedule_instance() {
    let stage = Stage::new().await;
    let token = stage.node_token("https://management.azure.com/").await;
    let now = stage.control("GET", "/control/time", Value::Null).await["now"].as_i64().unwrap();
    let grant = json!({"principal_id": world::PETRA.upn, "role_definition_id": world::ROLE_ADMIN_LOGIN,
        "scope": world::NODE, "starts": now - 10, "ends": now + 600});
    let made = stage.control("POST", "/control/role-assignments", grant).await;
    let what = format!("roleAssignmentScheduleInstances?$filter=assignedTo('{}')", world::PETRA.oid);
    let shown = list(&stage, &token, world::NODE, &what).await.json();
    assert_eq!(shown["value"][0]["properties"]["assignmentType"], "Activated");
    assert!(shown["value"][0]["properties"]["endDateTime"].as_str().unwrap().ends_with('Z'));
    let route = format!("/control/role-assignments/{}", made["id"].as_str().unwrap());
    stage.control("PUT", &route, json!({"ends": now})).await;
    assert_eq!(list(&stage, &token, world::NODE, &what).await.json()["value"], json!([]));
}

#[tokio::test]
async fn listings_page_and_refuse() {
    let stage = Stage::new().await;
    stage.control("PUT", "/control/pdp", json!({"arm_page_size": 5})).await;
    let token = stage.node_token("https://management.azure.com/").await;
    let mut reply = list(&stage, &token, world::NODE, "roleAssignments").await.json();
    let mut count = reply["value"].as_array().unwrap().len();
    while let Some(link) = reply["nextLink"].as_str() {
        let target = link.strip_prefix(&format!("https://{ARM_HOST}")).unwrap().to_owned();
        reply = stage.web(ARM_HOST, Ask::get(target).bearer(&token)).await.json();
        count += reply["value"].as_array().unwrap().len();
    }
    let all = stage.control("GET", "/control/role-assignments", Value::Null).await;
    // Everything but Petra's closed window and Clara's role on the cluster.
    assert_eq!(count, all.as_array().unwrap().len() - 2);
    let norman = minted(&stage, world::NORMAN.oid, "https://management.azure.com").await;
    let refused = list(&stage, &norman, world::NODE, "roleAssignments").await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("AuthorizationFailed")));
    let resource = stage
        .web(ARM_HOST, Ask::get(format!("{}?api-version=2024-03-01", world::CLUSTER)).bearer(&norman))
        .await;
    assert_eq!(resource.status, 403);
}

#[tokio::test]
async fn graph_answers_who_may_ask() {
    let stage = Stage::new().await;
    let host = "graph.microsoft.com";
    let token = stage.node_token("https://graph.microsoft.com").await;
    let user = |key: &str| {
        Ask::get(format!("/v1.0/users/{key}?$select=id,accountEnabled,signInSessionsValidFromDateTime"))
    };
    let refused = stage.web(host, user(world::ALICE.oid).bearer(&token)).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (403, &json!("Authorization_RequestDenied"))
    );
    let route = format!("/control/apps/{}", world::KUBELET_CLIENT);
    stage.control("PUT", &route, json!({"graph_roles": ["User.Read.All"]})).await;
    let token = stage.node_token("https://graph.microsoft.com").await;
    let found = stage.web(host, user("Alice@contoso.com").bearer(&token)).await.json();
    assert_eq!((&found["id"], &found["accountEnabled"]), (&json!(world::ALICE.oid), &json!(true)));
    assert!(found.get("displayName").is_none());
    assert_eq!(found["signInSessionsValidFromDateTime"], "1970-01-01T00:00:00Z");
    let guest = stage
        .web(host, user("bob_fabrikam.com%23EXT%23@contoso.onmicrosoft.com").bearer(&token))
        .await
        .json();
    assert_eq!(guest["id"], world::BOB.oid);
    let none = stage.web(host, user("none@contoso.com").bearer(&token)).await;
    assert_eq!((none.status, &none.json()["error"]["code"]), (404, &json!("Request_ResourceNotFound")));
    let groups = Ask::json(
        "POST",
        format!("/v1.0/users/{}/getMemberObjects", world::GRACE.oid),
        &json!({"securityEnabledOnly": false}),
    );
    let groups = stage.web(host, groups.bearer(&token)).await.json();
    assert_eq!(groups["value"], json!([world::GROUP_OUTER, world::GROUP_INNER]));
    let revoke =
        Ask::json("POST", format!("/v1.0/users/{}/revokeSignInSessions", world::ALICE.oid), &json!({}));
    assert_eq!(stage.web(host, revoke.bearer(&token)).await.status, 200);
    assert_eq!(
        stage.refresh(world::ALICE.oid, "https://graph.microsoft.com/.default", &[]).await.json()["error_codes"],
        json!([50173])
    );
    let ci = minted(&stage, world::CI_PIPELINE.oid, "https://graph.microsoft.com").await;
    let own = Ask::get(format!("/v1.0/servicePrincipals(appId='{}')", world::CI_PIPELINE_APP)).bearer(&ci);
    assert_eq!(stage.web(host, own).await.json()["id"], world::CI_PIPELINE.oid);
}
