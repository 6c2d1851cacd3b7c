//! The answers of the real services, in structure as they were observed in public.

use super::*;

#[tokio::test]
async fn the_pdp_is_asked_with_group_expansion_and_data_actions() {
    let server = Server::start(vec![both("Allowed")]).await;
    let found = pdp(&server).await.roles(&question(), &login(5000)).await;
    assert_eq!(role(&found.answer), Some(Role::Admin));
    assert_eq!(found.ttl, Duration::from_secs(60));
    let RoleAnswer::Granted(grant) = &found.answer else { unreachable!() };
    assert_eq!(grant.evidence.scope.as_deref(), Some("/subscriptions/11111111-2222-3333-4444-555555555555"));
    assert_eq!(grant.evidence.kind, Some(ScopeKind::Node));

    let seen = server.seen();
    assert_eq!(
        seen[0].line,
        "POST /providers/microsoft.authorization/checkAccess?api-version=2021-06-01-preview HTTP/1.1"
    );
    assert!(seen[0].head.contains("authorization: bearer tok"));
    let body: serde_json::Value = serde_json::from_str(&seen[0].body).unwrap();
    let expected = serde_json::json!({
        "Subject": {"Attributes": {"ObjectId": OID, "_claim_names": "{\"groups\":\"src1\"}"}},
        "Actions": [
            {"Id": LOGIN, "IsDataAction": true, "Attributes": {}},
            {"Id": ADMIN, "IsDataAction": true, "Attributes": {}},
        ],
        "Resource": {"Id": NODE},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_three_answers_about_a_person() {
    let user = page(&[decision("NotAllowed", ADMIN), decision("Allowed", LOGIN)]);
    let denied = page(&[
        r#"{"accessDecision":"Denied","actionId":"Microsoft.Compute/virtualMachines/login/action","denyAssignment":{"id":"d1"},"roleAssignment":null,"timeToLiveInMs":60000}"#.to_owned(),
        decision("Allowed", ADMIN),
    ]);
    let conditional = page(&[
        r#"{"accessDecision":"Allowed","actionId":"Microsoft.Compute/virtualMachines/login/action","roleAssignment":{"id":"r1","condition":"@Resource[x] == 1"},"timeToLiveInMs":60000}"#.to_owned(),
        decision("NotAllowed", ADMIN),
    ]);
    let server = Server::start(vec![
        Answer::new(200, &user),
        both("NotAllowed"),
        Answer::new(200, &denied),
        Answer::new(200, &conditional),
    ])
    .await;
    let source = pdp(&server).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(source.roles(&question(), &login(5000)).await.answer);
    }
    assert_eq!(role(&answers[0]), Some(Role::User));
    assert_eq!(answers[1], NOBODY);
    assert_eq!(answers[2], RoleAnswer::NotGranted(Refused::DenyAssignment { id: "d1".to_owned() }));
    assert_eq!(answers[3], RoleAnswer::NotGranted(Refused::Conditional { assignment: "r1".to_owned() }));
}

#[tokio::test]
async fn refusals_of_our_own_call_are_ours() {
    let caller_refused = r#"{"statusCode":403,"message":"Caller does not have RBAC permission provisioned to call CheckAccess on this scope."}"#;
    let server = Server::start(vec![
        Answer::new(403, caller_refused),
        Answer::new(403, r#"{"statusCode":403,"message":"The resource was not found."}"#),
        Answer::new(404, r#"{"error":{"code":"ResourceNotFound","message":"x"}}"#),
        Answer::new(404, "Not Found"),
    ])
    .await;
    let source = pdp(&server).await;
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(cause(&source.roles(&question(), &login(5000)).await.answer).clone());
    }
    assert_eq!(
        said[..3],
        [UnknownCause::NodeNotPermitted, UnknownCause::ScopeUnknown, UnknownCause::ScopeUnknown]
    );
    assert!(
        matches!(&said[3], UnknownCause::Upstream(text) if text.contains("wrong PDP endpoint")),
        "{said:?}"
    );
}

#[tokio::test]
async fn arm_answers_the_same_question_at_the_resource() {
    let allowed = format!("[{},{}]", decision("Allowed", LOGIN), decision("NotAllowed", ADMIN));
    let refused = r#"{"error":{"code":"AuthorizationFailed","message":"The client 'a' with object id 'o' does not have authorization to perform action 'Microsoft.Authorization/checkAccess/read' over scope 's'."}}"#;
    let server = Server::start(vec![
        Answer::new(200, &allowed),
        Answer::new(403, refused),
        Answer::new(404, r#"{"error":{"code":"ResourceNotFound"}}"#),
    ])
    .await;
    let source = checkaccess(&server).await;
    let first = source.roles(&question(), &login(5000)).await.answer;
    assert_eq!(role(&first), Some(Role::User));
    let said = source.roles(&question(), &login(5000)).await.answer;
    assert_eq!(cause(&said), &UnknownCause::NodeNotPermitted);
    let said = source.roles(&question(), &login(5000)).await.answer;
    assert_eq!(cause(&said), &UnknownCause::ScopeUnknown);
    let line = format!(
        "POST {NODE}/providers/Microsoft.Authorization/checkaccess?api-version=2018-09-01-preview HTTP/1.1"
    );
    assert_eq!(server.seen()[0].line, line);
}

#[tokio::test]
async fn pages_are_followed_at_the_same_host_only() {
    let first = |link: &str| {
        Answer::new(200, &format!(r#"{{"value":[{}],"nextLink":"{link}"}}"#, decision("Allowed", LOGIN)))
    };
    let second = Answer::new(200, &page(&[decision("Allowed", ADMIN)]));
    let server = Server::start(vec![first("{base}/more?x=1"), second]).await;
    let answer = pdp(&server).await.roles(&question(), &login(5000)).await.answer;
    assert_eq!(role(&answer), Some(Role::Admin));
    assert_eq!(server.seen()[1].line, "GET /more?x=1 HTTP/1.1");

    let other = Server::start(vec![both("Allowed")]).await;
    let server = Server::start(vec![first(&other.url("/more"))]).await;
    let answer = pdp(&server).await.roles(&question(), &login(5000)).await.answer;
    assert!(matches!(cause(&answer), UnknownCause::Upstream(_)));
    assert!(other.seen().is_empty(), "the token went to another host");

    let endless = Server::start(vec![first("{base}/more")]).await;
    let answer = pdp(&endless).await.roles(&question(), &login(5000)).await.answer;
    assert!(matches!(cause(&answer), UnknownCause::Upstream(_)));
}

#[tokio::test]
async fn both_scopes_count_and_a_deny_at_either_wins() {
    let mut question = question();
    question.scopes.push((ScopeKind::Cluster, Scope::parse(CLUSTER).unwrap()));
    let allowed = format!("[{},{}]", decision("Allowed", LOGIN), decision("Allowed", ADMIN));
    let nobody = format!("[{},{}]", decision("NotAllowed", LOGIN), decision("NotAllowed", ADMIN));
    let denied = format!("[{},{}]", decision("Denied", LOGIN), decision("Denied", ADMIN));
    let cases =
        [(&nobody, &allowed, Some(Role::Admin)), (&denied, &allowed, None), (&allowed, &denied, None)];
    for (node, cluster, expected) in cases {
        let server = Server::by_path(vec![
            ("virtualMachineScaleSets", Answer::new(200, node)),
            ("managedClusters", Answer::new(200, cluster)),
        ])
        .await;
        let answer = checkaccess(&server).await.roles(&question, &login(5000)).await.answer;
        assert_eq!(role(&answer), expected);
        assert_eq!(server.seen().len(), 2);
    }
    // One scope that cannot be asked does not take the other's grant away.
    let server = Server::by_path(vec![("managedClusters", Answer::new(200, &allowed))]).await;
    let answer = checkaccess(&server).await.roles(&question, &login(5000)).await.answer;
    let RoleAnswer::Granted(grant) = answer else { panic!("{answer:?}") };
    assert_eq!(grant.unknown, Some(UnknownCause::ScopeUnknown));
    assert_eq!(grant.evidence.kind, Some(ScopeKind::Cluster));
}
