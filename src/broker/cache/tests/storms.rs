//! Many callers at once, callers that go away, and answers that come too late.

use super::*;

fn callers(stage: &Stage, count: usize) -> Vec<tokio::task::JoinHandle<Result<Served, Failure>>> {
    let ask = |_| {
        let cache = stage.cache.clone();
        tokio::spawn(async move { cache.get(&key("a"), &Need::default()).await })
    };
    (0..count).map(ask).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_cold_callers_are_one_question() {
    let stage = stage();
    stage.source.holds_back();
    let tasks = callers(&stage, 1000);
    while stage.source.under_way.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    stage.source.gate.add_permits(1000);
    for task in tasks {
        let served = task.await.unwrap().ok().unwrap();
        assert!(served.token.secret.expose().contains("number 1 "));
    }
    assert_eq!(stage.source.calls(), 1);
}

#[tokio::test]
async fn who_asked_first_may_go_away() {
    let stage = stage();
    stage.source.holds_back();
    let first = callers(&stage, 1).remove(0);
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 1).await;
    first.abort();
    assert!(first.await.is_err_and(|gone| gone.is_cancelled()));
    let tasks = callers(&stage, 999);
    tokio::task::yield_now().await;
    stage.source.gate.add_permits(1000);
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(stage.source.calls(), 1);
    // All may go away: the answer is kept for the next one.
    stage.cache.purge(|_| true);
    stage.source.holds_back();
    let all = callers(&stage, 10);
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 1).await;
    all.iter().for_each(tokio::task::JoinHandle::abort);
    stage.source.gate.add_permits(1);
    stage.quiet().await;
    assert!(!stage.get(&key("a")).await.ok().unwrap().fresh);
    assert_eq!(stage.source.calls(), 2);
}

#[tokio::test]
async fn a_thousand_callers_hear_one_failure() {
    let stage = stage();
    stage.source.fails(Failure::new(FailureClass::Config, "the secret is wrong"));
    for task in callers(&stage, 1000) {
        let failure = task.await.unwrap().err().unwrap();
        assert_eq!((failure.class, &*failure.sentence), (FailureClass::Config, "the secret is wrong"));
    }
    assert_eq!(stage.source.calls(), 1);
    stage.hands.advance(59);
    assert!(stage.get(&key("a")).await.is_err());
    assert_eq!(stage.source.calls(), 1, "remembered for a minute");
    stage.hands.advance(1);
    assert!(stage.get(&key("a")).await.is_err());
    assert_eq!(stage.source.calls(), 2);
}

#[tokio::test]
async fn a_thousand_keys_are_kept_and_renewed() {
    let stage = stage();
    let keys: Vec<_> = (0..1000).map(|number| key(&format!("identity-{number}"))).collect();
    for key in &keys {
        stage.get(key).await.ok().unwrap();
    }
    assert_eq!((stage.cache.kept().len(), stage.source.calls()), (1000, 1000));
    // The jitter spreads the renewals, a turn starts only a few, and nobody ever has to wait.
    let mut renewed_in = std::collections::BTreeSet::new();
    for second in 0..HOUR - 300 {
        let before = stage.source.calls();
        while refresher::turn(&stage.cache.0) < refresher::LOOK_MOST
            && stage.cache.0.flying.load(Ordering::SeqCst) > 0
        {
            assert!(stage.cache.0.flying.load(Ordering::SeqCst) <= refresher::BACKGROUND_FLIGHTS);
            stage.quiet().await;
        }
        if stage.source.calls() > before {
            renewed_in.insert(second);
        }
        stage.hands.advance(10);
        if stage.source.calls() == 2000 {
            break;
        }
    }
    assert_eq!(stage.source.calls(), 2000);
    assert!(renewed_in.len() > 10, "all at once: {renewed_in:?}");
    for key in &keys {
        assert!(!stage.get(key).await.ok().unwrap().fresh);
    }
}

#[tokio::test]
async fn a_purge_throws_away_what_is_still_to_come() {
    let stage = stage();
    stage.source.holds_back();
    let waiting = callers(&stage, 1).remove(0);
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 1).await;
    assert_eq!(stage.cache.purge(|key| &*key.identity == "a"), 1);
    // Somebody else asks already with what counts after the purge; the old answer comes first.
    let later = callers(&stage, 1).remove(0);
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 2).await;
    stage.source.gate.add_permits(1);
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 1).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished() && stage.cache.kept()[0].expires.is_none());
    stage.source.gate.add_permits(1);
    for task in [waiting, later] {
        let served = task.await.unwrap().ok().unwrap();
        assert!(served.token.secret.expose().contains("number 2 "), "the token of before the purge");
    }
    assert_eq!(stage.source.calls(), 2);
    assert_eq!(stage.cache.purge(|key| &*key.identity == "another"), 0);
    assert_eq!(stage.cache.kept().len(), 1);
}

#[tokio::test]
async fn a_source_that_panics_or_says_nothing_blocks_nobody() {
    let stage = stage_with(|settings| settings.flight_limit = Duration::from_millis(20));
    stage.source.answers(|_| panic!("on purpose"));
    for task in callers(&stage, 3) {
        assert!(task.await.unwrap().err().unwrap().sentence.contains("fault of the agent"));
    }
    let stage = stage_with(|settings| settings.flight_limit = Duration::from_millis(20));
    stage.source.holds_back();
    for task in callers(&stage, 3) {
        assert!(task.await.unwrap().err().unwrap().sentence.contains("did not answer"));
    }
    stage.source.gate.add_permits(9);
    stage.hands.advance(2);
    assert!(stage.get(&key("a")).await.is_ok());
}

#[tokio::test]
async fn a_caller_with_a_good_token_at_hand_does_not_wait_for_long() {
    let stage = stage_with(|settings| settings.patience = Duration::from_millis(20));
    stage.get(&key("a")).await.ok().unwrap();
    stage.source.holds_back();
    stage.hands.advance(HOUR - 300);
    let served = stage.get(&key("a")).await.ok().unwrap();
    assert!(served.stale.unwrap().contains("has not answered yet"));
    assert_eq!(stage.source.calls(), 2);
    // In its last minute it is served to nobody: now the caller waits.
    stage.hands.advance(240);
    let waiting = callers(&stage, 1).remove(0);
    tokio::task::yield_now().await;
    stage.source.gate.add_permits(1);
    assert!(waiting.await.unwrap().ok().unwrap().fresh);
}

#[tokio::test]
async fn past_bug_68_one_uid_s_questions_never_push_out_a_service_s_token() {
    let stage = stage_with(|settings| settings.max_keys = 512);
    let mine = |owner, number| {
        let mut key = key("person");
        (key.owner, key.resource) = (Some(owner), format!("https://r{number}.example.org").parse().unwrap());
        key
    };
    stage.get(&key("node")).await.ok().unwrap();
    stage.get(&mine(1001, 0)).await.ok().unwrap();
    // Nobody has to be signed in: such a key remembers that a person has to, and is kept before all others.
    let nobody = Failure::new(FailureClass::NeedsUser, "nobody is signed in");
    stage.source.fails(nobody.clone());
    for number in 0..1_500 {
        stage.hands.advance(1);
        assert_eq!(stage.get(&mine(1000, number)).await.err().unwrap().class, nobody.class);
    }
    let calls = stage.source.calls();
    assert!(!stage.get(&key("node")).await.ok().unwrap().fresh, "the service's token was pushed out");
    assert!(!stage.get(&mine(1001, 0)).await.ok().unwrap().fresh, "another person's token was pushed out");
    assert_eq!(stage.source.calls(), calls);
    let kept = stage.cache.kept();
    assert_eq!(kept.iter().filter(|kept| kept.key.owner == Some(1000)).count(), places::MAX_KEYS_OF_OWNER);
    // Many uids share the part of the people; the one with the most gives way.
    for uid in 2000..2600 {
        assert!(stage.get(&mine(uid, 0)).await.is_err());
        assert!(stage.cache.kept().len() <= 1 + 512 / places::PEOPLE_SHARE);
    }
    assert!(!stage.get(&key("node")).await.ok().unwrap().fresh);
}

#[tokio::test]
async fn places_come_back_with_every_way_a_key_can_go() {
    let stage = stage_with(|settings| settings.max_keys = 4);
    let mut of_anna = key("person");
    of_anna.owner = Some(1000);
    for _ in 0..10 {
        stage.get(&of_anna).await.ok().unwrap();
        for name in ["a", "b", "c", "d"] {
            stage.get(&key(name)).await.ok().unwrap();
        }
        assert_eq!(stage.cache.kept().len(), 4);
        assert_eq!(stage.cache.purge(|_| true), 4);
    }
}
