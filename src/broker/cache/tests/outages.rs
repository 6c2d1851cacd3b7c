//! A source that is down, throttles, lies about time, or refuses.

use super::*;
use crate::broker::cache::breaker::OPENS_AFTER;

#[tokio::test]
async fn ten_minutes_of_503_fail_nobody_while_the_token_is_valid() {
    let stage = stage();
    stage.source.works(1600);
    stage.get(&key("a")).await.ok().unwrap();
    stage.hands.advance(935);
    stage.source.fails(Failure::new(FailureClass::Transient, "the host answered 503"));
    let mut told = 0;
    for second in 935..1535 {
        stage.turn().await;
        let served = stage.get(&key("a")).await.ok().unwrap();
        assert_eq!(served.age, Duration::from_secs(second));
        if let Some(stale) = served.stale {
            assert!(stale.starts_with("got ") && stale.ends_with("the host answered 503"), "{stale}");
            told += 1;
        }
        stage.hands.advance(1);
    }
    assert!(told > 200, "said {told} times");
    let asked = stage.source.calls();
    assert!((3..30).contains(&asked), "{asked} questions in ten minutes");
    // It is back: within the longest wait there is a new token, without anybody asking.
    stage.source.works(1600);
    for _ in 0..300 {
        stage.hands.advance(1);
        stage.turn().await;
    }
    assert!(stage.get(&key("a")).await.ok().unwrap().stale.is_none());
    assert!(stage.source.calls() > asked);
}

#[tokio::test]
async fn retry_after_sixty_is_sixty_seconds_of_silence() {
    let stage = stage();
    let mut throttled = Failure::new(FailureClass::Transient, "too many requests");
    throttled.retry_after = Some(Duration::from_secs(60));
    stage.source.fails(throttled);
    let watcher = stage.cache.watch(&key("a")).unwrap();
    stage.get(&key("a")).await.err().unwrap();
    let other_resource = TokenKey { cae: true, ..key("a") };
    for second in 0..60 {
        stage.turn().await;
        for key in [&key("a"), &other_resource] {
            let force = Need { force_refresh: true, ..Need::default() };
            for need in [Need::default(), force, challenge(second)] {
                let failure = stage.cache.get(key, &need).await.err().unwrap();
                let wait = failure.retry_after.unwrap().as_secs();
                assert!((60 - u64::from(second)..=62 - u64::from(second)).contains(&wait), "{wait}");
            }
        }
        assert_eq!(stage.source.calls(), 1, "second {second}");
        stage.hands.advance(1);
    }
    stage.source.works(HOUR);
    stage.hands.advance(1);
    stage.turn().await;
    assert_eq!(stage.source.calls(), 2);
    assert!(stage.get(&key("a")).await.is_ok() && stage.get(&other_resource).await.is_ok());
    drop(watcher);
}

#[tokio::test]
async fn five_real_seconds_of_silence() {
    let source = stage().source;
    let mut throttled = down();
    throttled.retry_after = Some(Duration::from_secs(5));
    source.fails(throttled);
    let cache = Cache::new(Arc::clone(&source) as Arc<dyn Source>, Clock::System, Settings::new(1));
    let refresher = tokio::spawn(cache.refresher());
    let watcher = cache.watch(&key("a")).unwrap();
    let begin = Clock::System.boot();
    assert!(cache.get(&key("a"), &Need::default()).await.is_err());
    let silent = || Clock::System.boot().saturating_sub(begin) < Duration::from_millis(4_900);
    while silent() {
        assert!(cache.get(&key("a"), &Need::default()).await.is_err());
        // Counted before the time is looked at, so that a slow machine proves nothing wrong.
        let calls = source.calls();
        assert!(calls == 1 || !silent(), "{calls} questions");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // And then the refresher asks again by itself.
    while source.calls() == 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(Clock::System.boot().saturating_sub(begin) >= Duration::from_secs(5));
    refresher.abort();
    drop(watcher);
}

#[tokio::test]
async fn past_bug_55_after_suspend_or_a_jump_nothing_expired_is_served() {
    let stage = stage();
    stage.get(&key("a")).await.ok().unwrap();
    stage.source.fails(down());
    // Suspended for longer than the token lives: no look came in between.
    stage.hands.advance(HOUR - 60);
    assert!(stage.get(&key("a")).await.is_err());
    // The machine falls asleep between the answer and its arrival.
    let hands = Arc::clone(&stage.hands);
    stage.source.answers(move |_| {
        hands.advance(2 * HOUR);
        Ok(HOUR - 2 * HOUR)
    });
    stage.hands.advance(400);
    let failure = stage.get(&key("a")).await.err().unwrap();
    assert!(failure.sentence.contains("clock"), "{}", failure.sentence);
    stage.source.works(HOUR);
    stage.hands.advance(400);
    assert!(stage.get(&key("a")).await.is_ok());
}

#[tokio::test]
async fn a_flapping_clock_costs_questions_but_never_serves_what_is_over() {
    let stage = stage();
    let served_good = |served: &Served, stage: &Stage| {
        let now = stage.cache.0.now();
        assert!(served.token.expires.since(now.wall) > 60, "over by the wall clock");
    };
    for step in 0..2000_i64 {
        stage.hands.jump(if step % 2 == 0 { 1800 } else { -1800 });
        stage.hands.advance(7);
        let served = stage.get(&key("a")).await.ok().unwrap();
        served_good(&served, &stage);
        assert!(served.age < Duration::from_secs(3600 - 60), "over by the time since boot");
        stage.turn().await;
    }
    assert!(stage.source.calls() < 40, "{} questions in four hours", stage.source.calls());
}

#[tokio::test]
async fn a_host_that_is_down_is_not_asked_once_for_each_key() {
    let stage = stage();
    stage.source.fails(down());
    let keys: Vec<_> = (0..1000).map(|owner| TokenKey { owner: Some(owner), ..key("a") }).collect();
    for key in &keys {
        let failure = stage.get(key).await.err().unwrap();
        assert_eq!(failure.sentence, "the host does not answer");
    }
    assert_eq!(stage.source.calls(), usize::try_from(OPENS_AFTER).unwrap());
    // Another host has nothing to do with it.
    stage.get(&key("b")).await.err().unwrap();
    assert_eq!(stage.source.calls(), usize::try_from(OPENS_AFTER).unwrap() + 1);
    // Half open: one question, and while it is under way no other.
    stage.hands.advance(5);
    stage.source.holds_back();
    let before = stage.source.calls();
    let probe = tokio::spawn({
        let (cache, key) = (stage.cache.clone(), keys[0].clone());
        async move { cache.get(&key, &Need::default()).await.is_ok() }
    });
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 1).await;
    for key in &keys[1..] {
        assert!(stage.get(key).await.is_err());
    }
    assert_eq!(stage.source.calls(), before + 1);
    // It answers: all pass again.
    stage.source.works(HOUR);
    stage.source.gate.add_permits(2000);
    assert!(probe.await.unwrap());
    stage.hands.advance(2);
    for key in &keys {
        assert!(stage.get(key).await.is_ok());
    }
}

#[tokio::test]
async fn what_was_taken_back_is_asked_about_again_only_after_a_purge() {
    let stage = stage();
    stage.get(&key("a")).await.ok().unwrap();
    stage.source.fails(Failure::new(FailureClass::Revoked, "sign in again"));
    let force = Need { force_refresh: true, ..Need::default() };
    assert!(stage.cache.get(&key("a"), &force).await.is_err(), "nor is the kept token served");
    for _ in 0..100 {
        stage.hands.advance(HOUR);
        stage.turn().await;
        assert_eq!(stage.get(&key("a")).await.err().unwrap().class, FailureClass::Revoked);
        assert!(stage.cache.get(&key("a"), &challenge(1)).await.is_err());
    }
    assert_eq!(stage.source.calls(), 2);
    stage.source.works(HOUR);
    stage.cache.purge(|_| true);
    assert!(stage.get(&key("a")).await.is_ok());
}
