//! The cache before a source that does as it is told, on a clock that is moved by hand.

mod outages;
mod storms;

use super::*;
use crate::broker::Fetching;
use crate::clock::ManualClock;
use nightlatch_model::Secret;
use nightlatch_tokens::lease::FORCE_GAP;
use nightlatch_tokens::{Claims, Purpose};
use tokio::sync::Semaphore;

const EPOCH: Timestamp = Timestamp(1_800_000_000);
const HOUR: i64 = 3600;

type Script = Box<dyn FnMut(&TokenKey) -> Result<i64, Failure> + Send>;

/// A source whose script says how long the next token lives, or that there is none.
struct Scripted {
    clock: Clock,
    script: Mutex<Script>,
    calls: Mutex<Vec<(TokenKey, Option<Claims>)>>,
    /// Each answer takes one permit.
    gate: Semaphore,
    under_way: AtomicUsize,
}

impl Source for Scripted {
    fn fetch<'a>(&'a self, key: &'a TokenKey, claims: Option<&'a Claims>) -> Fetching<'a> {
        Box::pin(async move {
            let number = {
                let mut calls = self.calls.lock().unwrap();
                calls.push((key.clone(), claims.cloned()));
                calls.len()
            };
            self.under_way.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let life = (self.script.lock().unwrap())(key)?;
            let text = format!("{key:?} number {number} at {}", self.clock.now());
            Ok(Token::bearer(Secret::new(text), self.clock.now().plus(life), None))
        })
    }

    fn circuit(&self, key: &TokenKey) -> String {
        format!("host of {}", key.identity)
    }
}

impl Scripted {
    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn answers(&self, script: impl FnMut(&TokenKey) -> Result<i64, Failure> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn fails(&self, failure: Failure) {
        self.answers(move |_| Err(failure.clone()));
    }

    fn works(&self, life: i64) {
        self.answers(move |_| Ok(life));
    }

    /// From now on each answer waits for a permit.
    fn holds_back(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }
}

struct Stage {
    hands: Arc<ManualClock>,
    source: Arc<Scripted>,
    cache: Cache,
}

fn stage_with(change: impl FnOnce(&mut Settings)) -> Stage {
    let hands = ManualClock::at(EPOCH);
    let clock = Clock::Manual(Arc::clone(&hands));
    let source = Arc::new(Scripted {
        clock: clock.clone(),
        script: Mutex::new(Box::new(|_| Ok(HOUR))),
        calls: Mutex::default(),
        gate: Semaphore::new(Semaphore::MAX_PERMITS),
        under_way: AtomicUsize::new(0),
    });
    let mut settings = Settings::new(7);
    change(&mut settings);
    let cache = Cache::new(Arc::clone(&source) as Arc<dyn Source>, clock, settings);
    Stage { hands, source, cache }
}

fn stage() -> Stage {
    stage_with(|_| {})
}

impl Stage {
    async fn get(&self, key: &TokenKey) -> Result<Served, Failure> {
        self.cache.get(key, &Need::default()).await
    }

    /// Lets everything that is under way land.
    async fn quiet(&self) {
        until(|| self.cache.0.flying.load(Ordering::SeqCst) == 0).await;
    }

    /// What the refresher does once, until it is over.
    async fn turn(&self) {
        refresher::turn(&self.cache.0);
        self.quiet().await;
    }
}

/// Lets the other tasks run until this holds.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came about");
}

fn key(identity: &str) -> TokenKey {
    TokenKey {
        identity: identity.into(),
        owner: None,
        resource: "https://vault.azure.net".parse().unwrap(),
        scopes: Vec::new(),
        cae: false,
        pop_key: None,
        purpose: Purpose::Program,
        on_behalf_of: None,
    }
}

fn down() -> Failure {
    Failure::new(FailureClass::Transient, "the host does not answer")
}

fn challenge(value: u32) -> Need {
    let claims = Claims::new(&format!("{{\"access_token\":{{\"nbf\":{{\"value\":\"{value}\"}}}}}}")).unwrap();
    Need { claims: Some(claims), ..Need::default() }
}

#[tokio::test]
async fn a_warm_hit_is_the_kept_token_itself() {
    let stage = stage();
    let first = stage.get(&key("a")).await.ok().unwrap();
    assert!(first.fresh && first.stale.is_none() && first.age.is_zero());
    stage.hands.advance(100);
    let second = stage.get(&key("a")).await.ok().unwrap();
    assert!(!second.fresh && Arc::ptr_eq(&first.token, &second.token));
    assert_eq!((second.age, stage.source.calls()), (Duration::from_secs(100), 1));
    assert!(second.refresh_on.is_some_and(|at| at > EPOCH.plus(2900) && at < EPOCH.plus(HOUR - 330)));
}

#[tokio::test]
async fn no_field_of_the_key_is_ever_mixed_up() {
    let stage = stage_with(|settings| settings.max_keys = 40);
    let mut dice = 1_u64;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    for _ in 0..20_000 {
        let mut asked = key(["a", "A", "b"][usize::try_from(roll(3)).unwrap()]);
        asked.owner = [None, Some(1000), Some(1001)][usize::try_from(roll(3)).unwrap()];
        asked.cae = roll(2) == 1;
        asked.purpose = if roll(2) == 1 { Purpose::Agent } else { Purpose::Program };
        asked.pop_key = (roll(3) == 1).then(|| "thumbprint".to_owned());
        asked.on_behalf_of = (roll(3) == 1).then(|| format!("{}", roll(2)));
        asked.scopes = (0..roll(2)).map(|_| "user_impersonation".to_owned()).collect();
        let served = stage.get(&asked).await.ok().unwrap();
        assert!(served.token.secret.expose().starts_with(&format!("{asked:?} number")));
        assert!(stage.cache.kept().len() <= 40);
    }
    // With fewer places than keys this is many evictions and questions; with a mixed key it would be few.
    assert!(stage.source.calls() > 10_000);
}

#[tokio::test]
async fn a_challenge_goes_to_the_source_and_waits_for_its_turn() {
    let stage = stage();
    stage.get(&key("a")).await.ok().unwrap();
    stage.source.holds_back();
    let ask = |need: Need| {
        let cache = stage.cache.clone();
        tokio::spawn(async move { cache.get(&key("a"), &need).await.map(|served| served.token) })
    };
    let same: Vec<_> = (0..50).map(|_| ask(challenge(1))).collect();
    let other = ask(challenge(2));
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 1).await;
    // Whoever asks without a challenge is served what is kept.
    assert!(!stage.get(&key("a")).await.ok().unwrap().fresh);
    stage.source.gate.add_permits(1);
    let first = same.into_iter().next_back().unwrap().await.unwrap().ok().unwrap();
    until(|| stage.source.calls() == 3).await;
    assert_eq!(stage.source.under_way.load(Ordering::SeqCst), 1);
    stage.source.gate.add_permits(1);
    let second = other.await.unwrap().ok().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    let kept = stage.get(&key("a")).await.ok().unwrap();
    assert!(Arc::ptr_eq(&kept.token, &second), "the newest takes the place of the kept one");
    assert_eq!(stage.source.calls(), 3);
}

#[tokio::test]
async fn a_new_token_can_be_forced_every_thirty_seconds() {
    let stage = stage();
    let force = Need { force_refresh: true, ..Need::default() };
    stage.get(&key("a")).await.ok().unwrap();
    for _ in 0..90 {
        stage.cache.get(&key("a"), &force).await.ok().unwrap();
        stage.hands.advance(1);
    }
    assert_eq!(stage.source.calls(), 1 + 90 / usize::try_from(FORCE_GAP.as_secs()).unwrap());
}

#[tokio::test]
async fn watchers_see_each_new_token_and_keep_it_renewed() {
    let stage = stage();
    let mut watcher = stage.cache.watch(&key("a")).unwrap();
    assert!(watcher.borrow_and_update().token.is_none());
    let mut seen = Vec::new();
    for _ in 0..10 {
        stage.turn().await;
        if watcher.has_changed().unwrap() {
            seen.push(watcher.borrow_and_update().token.clone().unwrap());
        }
        stage.hands.advance(HOUR / 2);
    }
    assert_eq!(seen.len(), 5, "five hours, an hour each, nobody asks");
    assert!(seen.windows(2).all(|pair| !Arc::ptr_eq(&pair[0], &pair[1])));
    stage.source.fails(down());
    stage.turn().await;
    assert!(watcher.borrow_and_update().failure.is_some());
    stage.cache.purge(|_| true);
    assert!(watcher.changed().await.is_err(), "a purge ends the channel");
}

#[tokio::test]
async fn the_refresher_runs_by_itself_and_ends_with_the_cache() {
    let stage = stage();
    let task = tokio::spawn(stage.cache.refresher());
    let mut watcher = stage.cache.watch(&key("a")).unwrap();
    watcher.wait_for(|seen| seen.token.is_some()).await.ok().unwrap();
    let wake = Arc::clone(&stage.cache.0.wake);
    drop(stage);
    wake.notify_one();
    task.await.unwrap();
}

#[tokio::test]
async fn what_nobody_uses_is_let_go() {
    let stage = stage_with(|settings| settings.in_use = Duration::from_secs(7200));
    stage.get(&key("a")).await.ok().unwrap();
    for _ in 0..24 {
        stage.hands.advance(600);
        stage.turn().await;
    }
    assert!(stage.cache.kept().is_empty());
    assert!((2..=4).contains(&stage.source.calls()), "renewed for two hours: {}", stage.source.calls());
    assert_eq!(stage.cache.0.places.count(), 0);
}

#[tokio::test]
async fn the_longest_idle_key_makes_room_unless_it_is_needed() {
    let stage = stage_with(|settings| settings.max_keys = 5);
    let names = |stage: &Stage| -> Vec<String> {
        stage.cache.kept().iter().map(|kept| kept.key.identity.to_string()).collect()
    };
    let watcher = stage.cache.watch(&key("a")).unwrap();
    for name in ["b", "c", "d"] {
        stage.hands.advance(1);
        stage.get(&key(name)).await.ok().unwrap();
    }
    stage.get(&key("b")).await.ok().unwrap();
    stage.hands.advance(1);
    stage.get(&key("e")).await.ok().unwrap();
    assert_eq!(names(&stage), ["a", "b", "d", "e"], "a is watched, c was idle the longest");
    // Everything under way or watched: a plain refusal, and nothing is thrown out.
    stage.source.holds_back();
    let held: Vec<_> = ["f", "g", "h"]
        .map(|name| {
            let cache = stage.cache.clone();
            tokio::spawn(async move { cache.get(&key(name), &Need::default()).await.is_ok() })
        })
        .into();
    until(|| stage.source.under_way.load(Ordering::SeqCst) == 3).await;
    let failure = stage.get(&key("i")).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.sentence.contains("too many") && stage.cache.watch(&key("i")).is_none());
    stage.source.gate.add_permits(3);
    for task in held {
        assert!(task.await.unwrap());
    }
    assert_eq!(names(&stage), ["a", "f", "g", "h"]);
    drop(watcher);
}

#[tokio::test]
async fn what_is_listed_opens_nothing() {
    let stage = stage();
    stage.get(&key("b")).await.ok().unwrap();
    stage.source.fails(Failure::new(FailureClass::NeedsUser, "sign in"));
    stage.get(&key("a")).await.err().unwrap();
    stage.hands.advance(5);
    let [refused, kept] = &stage.cache.kept()[..] else { panic!("two keys") };
    assert_eq!((kept.expires, kept.idle), (Some(EPOCH.plus(HOUR)), Duration::from_secs(5)));
    assert!(kept.failure.is_none() && kept.refresh_on.is_some() && kept.stamp.is_some());
    assert_eq!(refused.failure.as_ref().map(|failure| failure.class), Some(FailureClass::NeedsUser));
    assert!(refused.expires.is_none());
    assert!(!format!("{kept:?}").contains("number"), "no text of a token");
}
