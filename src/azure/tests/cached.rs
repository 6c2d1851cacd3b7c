//! What is kept, for how long, and who asks when many want to know.

use super::*;
use crate::azure::{KEEP_UNKNOWN, Roles, YOUNG_NODE};

fn at(seconds: i64) -> Ask {
    Ask { now: NOW.plus(seconds), ..login(5000) }
}

fn lives(word: &str, milliseconds: u64) -> Answer {
    let text = page(&[decision(word, LOGIN), decision(word, ADMIN)]);
    Answer::new(200, &text.replace("60000", &milliseconds.to_string()))
}

/// For how many seconds an answer is served without asking again.
async fn kept(answer: Answer) -> i64 {
    let server = Server::start(vec![answer]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    roles.roles(&question(), &at(0)).await;
    for second in 1..1000 {
        roles.roles(&question(), &at(second)).await;
        if server.seen().len() > 1 {
            return second;
        }
    }
    panic!("kept for ever")
}

#[tokio::test]
async fn answers_live_as_long_as_azure_says_within_bounds() {
    assert_eq!(kept(lives("Allowed", 60_000)).await, 60);
    assert_eq!(kept(lives("Allowed", 86_400_000)).await, 300);
    assert_eq!(kept(lives("Allowed", 0)).await, 1);
    assert_eq!(kept(lives("NotAllowed", 60_000)).await, 30);
    assert_eq!(kept(lives("NotAllowed", 10_000)).await, 10);
    let ours = r#"{"statusCode":403,"message":"Caller does not have RBAC permission"}"#;
    assert_eq!(kept(Answer::new(403, ours)).await, i64::try_from(KEEP_UNKNOWN.as_secs()).unwrap());
    assert_eq!(kept(Answer::new(400, "{}")).await, 1, "a fault is not kept");
}

#[tokio::test]
async fn a_clock_that_went_back_trusts_nothing_that_was_kept() {
    let server = Server::start(vec![both("Allowed"), both("NotAllowed")]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    assert_eq!(role(&roles.roles(&question(), &at(0)).await.answer), Some(Role::Admin));
    assert_eq!(roles.roles(&question(), &at(-1)).await.answer, NOBODY);
}

#[tokio::test]
async fn another_question_is_another_entry() {
    let server = Server::start(vec![both("Allowed"), both("NotAllowed")]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    assert_eq!(role(&roles.roles(&question(), &at(0)).await.answer), Some(Role::Admin));
    let mut others = vec![question(), question(), question(), question()];
    others[0].oid = "5f0c2d3e-0000-4000-8000-00000000000b".parse().unwrap();
    others[1].tenant = "72f988bf-86f1-41af-91ab-2d7cd011db48".parse().unwrap();
    others[2].scopes = vec![(ScopeKind::Node, Scope::parse(CLUSTER).unwrap())];
    others[3].actions.admin.clear();
    for other in others {
        assert_eq!(roles.roles(&other, &at(0)).await.answer, NOBODY);
    }
    assert_eq!(role(&roles.roles(&question(), &at(1)).await.answer), Some(Role::Admin));
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn many_ask_once_and_the_first_may_leave() {
    let server = Server::start(vec![both("Allowed").after(Duration::from_millis(200))]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    // The one who starts the question is gone before there is an answer.
    let gone = tokio::time::timeout(Duration::from_millis(20), roles.roles(&question(), &login(5000))).await;
    assert!(gone.is_err());
    let many: Vec<_> = (0..100)
        .map(|_| {
            let roles = roles.clone();
            tokio::spawn(async move { role(&roles.roles(&question(), &login(5000)).await.answer) })
        })
        .collect();
    for one in many {
        assert_eq!(one.await.unwrap(), Some(Role::Admin));
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_deadline_is_kept_and_a_longer_one_gets_its_own_try() {
    let server =
        Server::start(vec![both("Allowed").after(Duration::from_millis(1_200)), both("Allowed")]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    let hasty = {
        let roles = roles.clone();
        tokio::spawn(async move { roles.roles(&question(), &login(400)).await.answer })
    };
    while server.seen().is_empty() {
        assert!(!hasty.is_finished(), "the question was never sent");
        tokio::task::yield_now().await;
    }
    let patient = roles.roles(&question(), &login(5000)).await.answer;
    assert!(matches!(cause(&hasty.await.unwrap()), UnknownCause::Upstream(_)));
    assert_eq!(role(&patient), Some(Role::Admin));
}

#[tokio::test]
async fn what_is_forgotten_does_not_come_back_from_a_question_under_way() {
    let slow = both("Allowed").after(Duration::from_secs(1));
    let server = Server::start(vec![slow, both("NotAllowed")]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    let before = {
        let roles = roles.clone();
        tokio::spawn(async move { roles.roles(&question(), &login(5000)).await.answer })
    };
    while server.seen().is_empty() {
        assert!(!before.is_finished(), "the question was never sent");
        tokio::task::yield_now().await;
    }
    roles.forget(question().tenant, oid());
    assert_eq!(roles.roles(&question(), &login(5000)).await.answer, NOBODY);
    assert_eq!(role(&before.await.unwrap()), Some(Role::Admin));
    assert_eq!(roles.roles(&question(), &at(1)).await.answer, NOBODY, "the old answer was kept");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_young_node_may_be_unknown_and_an_old_one_is_wrong() {
    let unknown = Answer::new(404, r#"{"error":{"code":"ResourceNotFound"}}"#);
    let server = Server::start(vec![unknown]).await;
    let roles = Roles::new(pdp(&server).await, NOW);
    let young = roles.roles(&question(), &at(YOUNG_NODE - 1)).await.answer;
    assert_eq!(cause(&young), &UnknownCause::ScopeUnknown);
    let old = roles.roles(&question(), &at(2 * YOUNG_NODE)).await.answer;
    assert!(matches!(cause(&old), UnknownCause::Upstream(text) if text.contains("resource_id")));
}
