//! Listing and evaluating here, with the shapes of ARM's REST reference.

use super::*;

const SUB: &str = "/subscriptions/11111111-2222-3333-4444-555555555555";
const GROUP: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const ADMIN_ROLE: &str = "1c0163c0-47e6-4577-8991-ea5c82e286e4";

fn list(items: &[String]) -> Answer {
    Answer::new(200, &format!(r#"{{"value":[{}]}}"#, items.join(",")))
}

fn assigned(principal: &str) -> String {
    format!(
        r#"{{"id":"{SUB}/providers/Microsoft.Authorization/roleAssignments/ra1","name":"ra1","type":"Microsoft.Authorization/roleAssignments","properties":{{"roleDefinitionId":"{SUB}/providers/Microsoft.Authorization/roleDefinitions/{ADMIN_ROLE}","principalId":"{principal}","principalType":"Group","scope":"{SUB}","condition":null,"conditionVersion":null,"createdOn":"2026-01-01T00:00:00Z"}}}}"#
    )
}

fn definition() -> Answer {
    Answer::new(
        200,
        &format!(
            r#"{{"id":"{SUB}/providers/Microsoft.Authorization/roleDefinitions/{ADMIN_ROLE}","name":"{ADMIN_ROLE}","type":"Microsoft.Authorization/roleDefinitions","properties":{{"roleName":"Virtual Machine Administrator Login","type":"BuiltInRole","assignableScopes":["/"],"permissions":[{{"actions":["Microsoft.Network/*/read"],"notActions":[],"dataActions":["Microsoft.Compute/virtualMachines/login/action","Microsoft.Compute/virtualMachines/loginAsAdmin/action"],"notDataActions":[]}}]}}}}"#
        ),
    )
}

fn deny(principals: &str, exclude: &str, action: &str) -> String {
    format!(
        r#"{{"id":"{SUB}/providers/Microsoft.Authorization/denyAssignments/da1","properties":{{"denyAssignmentName":"lock","scope":"{SUB}","doNotApplyToChildScopes":false,"isSystemProtected":true,"principals":[{principals}],"excludePrincipals":[{exclude}],"permissions":[{{"actions":[],"notActions":[],"dataActions":["{action}"],"notDataActions":[]}}]}}}}"#
    )
}

async fn ask(denies: Answer, schedule: Answer) -> (RoleAnswer, Server) {
    let server = Server::by_path(vec![
        ("/roleAssignments?", list(&[assigned(GROUP)])),
        ("/denyAssignments?", denies),
        ("/roleAssignmentScheduleInstances?", schedule),
        ("/roleDefinitions/", definition()),
    ])
    .await;
    let answer = listing(&server).await.roles(&question(), &login(5000)).await.answer;
    (answer, server)
}

fn denied(answer: &RoleAnswer) -> bool {
    matches!(answer, RoleAnswer::NotGranted(Refused::DenyAssignment { id }) if id.ends_with("da1"))
}

#[tokio::test]
async fn a_role_through_a_group_is_found() {
    let (answer, server) = ask(list(&[]), list(&[])).await;
    assert_eq!(role(&answer), Some(Role::Admin));
    let lines: Vec<String> = server.seen().into_iter().map(|s| s.line).collect();
    assert_eq!(
        lines[0],
        format!(
            "GET {NODE}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&%24filter=assignedTo%28%27{OID}%27%29 HTTP/1.1"
        )
    );
    assert_eq!(lines.len(), 4);
}

#[tokio::test]
async fn definitions_are_kept() {
    let (_, server) = ask(list(&[]), list(&[])).await;
    let source = listing(&server).await;
    for _ in 0..2 {
        let answer = source.roles(&question(), &login(5000)).await.answer;
        assert_eq!(role(&answer), Some(Role::Admin));
    }
    let asked = server.seen().iter().filter(|s| s.line.contains("roleDefinitions")).count();
    assert_eq!(asked, 2, "once for each source");
}

#[tokio::test]
async fn the_end_of_an_activation_bounds_the_right() {
    let instance = |starts: &str, ends: &str| {
        format!(
            r#"{{"id":"x","properties":{{"originRoleAssignmentId":"{SUB}/PROVIDERS/Microsoft.Authorization/roleAssignments/RA1","assignmentType":"Activated","startDateTime":"{starts}","endDateTime":{ends},"status":"Provisioned"}}}}"#
        )
    };
    let soon = NOW.plus(600);
    let (answer, _) =
        ask(list(&[]), list(&[instance("2020-01-01T00:00:00.1234567Z", &format!("\"{soon}\""))])).await;
    let RoleAnswer::Granted(grant) = answer else { panic!("{answer:?}") };
    assert_eq!((grant.until, grant.admin_until), (Some(soon), Some(soon)));
    let past = NOW.plus(-1);
    let (answer, _) = ask(list(&[]), list(&[instance("2020-01-01T00:00:00Z", &format!("\"{past}\""))])).await;
    assert_eq!(answer, RoleAnswer::NotGranted(Refused::PimNotActive { opens: None, ended: Some(past) }));
    let (answer, _) = ask(list(&[]), list(&[instance("2020-01-01T00:00:00Z", "\"tomorrow\"")])).await;
    assert!(matches!(cause(&answer), UnknownCause::Upstream(_)));
}

#[tokio::test]
async fn schedules_may_be_missing_but_not_broken() {
    for status in [400, 403, 404] {
        let (answer, _) = ask(list(&[]), Answer::new(status, r#"{"error":{"code":"X"}}"#)).await;
        assert_eq!(role(&answer), Some(Role::Admin), "{status}");
    }
    for answer in [Answer::new(500, "{}"), Answer::new(200, "{}"), Answer::cut()] {
        let (answer, _) = ask(list(&[]), answer).await;
        assert!(matches!(cause(&answer), UnknownCause::Upstream(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn denies_win_unless_they_may_spare_the_person() {
    let user = |id: &str| format!(r#"{{"id":"{id}","type":"User"}}"#);
    let group = |id: &str| format!(r#"{{"id":"{id}","type":"Group"}}"#);
    let everyone = r#"{"id":"00000000-0000-0000-0000-000000000000","type":"SystemDefined"}"#;
    let stranger = "bbbbbbbb-0000-4000-8000-000000000002";
    let case = |principals: &str, exclude: &str| deny(principals, exclude, "Microsoft.Compute/*");
    // (deny, denied, granted); neither is an unknown.
    let cases = [
        (case(everyone, ""), true, false),
        (case(&user(OID), ""), true, false),
        (case(&group(GROUP), ""), true, false),
        (case(&group(stranger), ""), true, false), // listed for the person, so a group of theirs
        (case(&user(stranger), ""), false, true),
        (case(everyone, &user(OID)), false, true),
        (case(everyone, &group(GROUP)), false, true),
        (case(everyone, &user(stranger)), true, false),
        (case(everyone, &group(stranger)), false, false),
        (deny(everyone, "", "Microsoft.Storage/*"), false, true),
    ];
    for (text, is_denied, is_granted) in cases {
        let (answer, _) = ask(list(std::slice::from_ref(&text)), list(&[])).await;
        assert_eq!(denied(&answer), is_denied, "{text} {answer:?}");
        assert_eq!(role(&answer).is_some(), is_granted, "{text} {answer:?}");
        if !is_denied && !is_granted {
            assert!(matches!(cause(&answer), UnknownCause::Upstream(_)), "{text}");
        }
    }
}

#[tokio::test]
async fn lists_continue_at_the_same_host_and_every_list_counts() {
    let first = Answer::new(200, r#"{"value":[],"nextLink":"{base}/page2"}"#);
    let server = Server::by_path(vec![
        ("/roleAssignments?", first),
        ("/page2", list(&[assigned(OID)])),
        ("/denyAssignments?", list(&[])),
        ("/roleDefinitions/", definition()),
    ])
    .await;
    let answer = listing(&server).await.roles(&question(), &login(5000)).await.answer;
    assert_eq!(role(&answer), Some(Role::Admin));

    // Without the deny assignments nothing is known, whatever the roles say.
    let server = Server::by_path(vec![
        ("/roleAssignments?", list(&[assigned(OID)])),
        ("/denyAssignments?", Answer::new(403, r#"{"error":{"code":"AuthorizationFailed"}}"#)),
        ("/roleDefinitions/", definition()),
    ])
    .await;
    let answer = listing(&server).await.roles(&question(), &login(5000)).await.answer;
    assert_eq!(cause(&answer), &UnknownCause::NodeNotPermitted);

    let server = Server::by_path(vec![
        ("/roleAssignments?", list(&[assigned(OID)])),
        ("/denyAssignments?", Answer::new(403, r#"{"value":[]}"#)),
        ("/roleDefinitions/", definition()),
    ])
    .await;
    let answer = listing(&server).await.roles(&question(), &login(5000)).await.answer;
    assert_eq!(cause(&answer), &UnknownCause::NodeNotPermitted, "a refusal with the body of a list");

    // A definition that is gone grants nothing and refuses nothing.
    let server = Server::by_path(vec![
        ("/roleAssignments?", list(&[assigned(OID)])),
        ("/denyAssignments?", list(&[])),
    ])
    .await;
    let answer = listing(&server).await.roles(&question(), &login(5000)).await.answer;
    assert!(
        matches!(cause(&answer), UnknownCause::Upstream(text) if text.contains(ADMIN_ROLE)),
        "{answer:?}"
    );

    let empty = Server::by_path(vec![("Assignments?", list(&[]))]).await;
    assert_eq!(listing(&empty).await.roles(&question(), &login(5000)).await.answer, NOBODY);
}
