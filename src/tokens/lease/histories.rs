//! Random histories against rules that were written down a second time, without looking at the machine.

use super::*;
use nightlatch_model::Secret;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

const EPOCH: i64 = 1_800_000_000;
/// Histories, and events in each: 120,000 events.
const HISTORIES: u32 = 600;
const EVENTS: usize = 200;

#[derive(Clone, Debug)]
enum Event {
    Ask {
        min: Option<u64>,
        claims: Option<u8>,
        force: bool,
    },
    Look {
        wanted: bool,
    },
    /// What the question under way brings, if there is one.
    Lands {
        life: i64,
        refresh_in: Option<u64>,
    },
    Fails {
        class: u8,
        retry_after: Option<u64>,
        dice: u64,
    },
    /// Time goes on; a long one is a suspend.
    Passes {
        millis: u64,
    },
    /// Somebody sets the wall clock.
    Jumps {
        seconds: i64,
    },
    Gate {
        open: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let min = proptest::option::weighted(0.2, 0_u64..8000);
    let claims = proptest::option::weighted(0.1, 0_u8..2);
    let short = prop_oneof![5 => 0_u64..3_000, 5 => 0_u64..400_000, 1 => 0_u64..20_000_000];
    prop_oneof![
        8 => (min, claims, proptest::bool::weighted(0.1)).prop_map(|(min, claims, force)| Event::Ask { min, claims, force }),
        4 => any::<bool>().prop_map(|wanted| Event::Look { wanted }),
        12 => (prop_oneof![4 => 600_i64..100_000, 1 => -50_i64..600], proptest::option::of(0_u64..50_000))
            .prop_map(|(life, refresh_in)| Event::Lands { life, refresh_in }),
        2 => (0_u8..40, proptest::option::weighted(0.3, 0_u64..200), any::<u64>())
            .prop_map(|(class, retry_after, dice)| Event::Fails { class, retry_after, dice }),
        8 => short.prop_map(|millis| Event::Passes { millis }),
        1 => (-5_000_i64..5_000).prop_map(|seconds| Event::Jumps { seconds }),
        1 => proptest::bool::weighted(0.8).prop_map(|open| Event::Gate { open }),
    ]
}

/// What the rules need to know, kept apart from the machine under test. Times in milliseconds since boot.
struct Rules {
    boot: u64,
    wall_offset: i64,
    gate_open: bool,
    under_way: Option<Option<u8>>,
    silent_until: u64,
    /// Text, arrival, end by the wall clock, life at arrival in milliseconds.
    newest: Option<(String, u64, i64, u64)>,
    failed: bool,
    taken_back: bool,
    user_needed: bool,
    last_forced: Option<u64>,
    count: u64,
}

impl Rules {
    fn now(&self) -> Now {
        Now { boot: Duration::from_millis(self.boot), wall: Timestamp(EPOCH + self.wall()) }
    }

    fn wall(&self) -> i64 {
        i64::try_from(self.boot / 1000).unwrap() + self.wall_offset
    }

    /// Milliseconds that the newest token has left by the stricter clock, rounded against it.
    fn left(&self) -> i64 {
        let Some((_, arrived, end, life)) = &self.newest else { return 0 };
        let by_wall = (end - EPOCH - self.wall()) * 1000;
        let by_boot = i64::try_from(*life).unwrap() - i64::try_from(self.boot - arrived).unwrap();
        by_wall.min(by_boot)
    }

    fn starts(&mut self, claims: Option<u8>) {
        assert!(self.under_way.is_none(), "two questions at a time");
        assert!(self.boot >= self.silent_until, "a question during Retry-After");
        assert!(!self.taken_back && !self.user_needed, "asked again although only a person can help");
        assert!(self.gate_open, "asked past the gate");
        self.under_way = Some(claims);
    }
}

fn challenge(which: u8) -> Claims {
    Claims::new(&format!("{{\"access_token\":{{\"n\":\"{which}\"}}}}")).unwrap()
}

fn class_of(number: u8) -> FailureClass {
    match number {
        0 => FailureClass::Revoked,
        1 => FailureClass::NeedsUser,
        2..6 => FailureClass::Lag,
        6..10 => FailureClass::Config,
        _ => FailureClass::Transient,
    }
}

fn asked(lease: &mut Lease, rules: &mut Rules, min: Option<u64>, claims: Option<u8>, force: bool) {
    let need = Need {
        min_validity: min.map(Duration::from_secs),
        claims: claims.map(challenge),
        force_refresh: force,
    };
    let open = rules.gate_open;
    let shut = || Failure::new(FailureClass::Transient, "shut");
    let step = lease.asked(rules.now(), &need, &mut || if open { Ok(()) } else { Err(shut()) });
    if step.start {
        rules.starts(claims);
    }
    let least = i64::try_from(min.unwrap_or(0).max(330)).unwrap() * 1000;
    let left = rules.left();
    let may_force = force && rules.last_forced.is_none_or(|at| rules.boot - at >= 30_000);
    if may_force && claims.is_none() && matches!(step.answer, Answer::Wait) {
        rules.last_forced = Some(rules.boot);
    }
    match step.answer {
        Answer::Serve(serving) => {
            assert!(claims.is_none(), "a challenge answered from the cache");
            assert!(left > 60_000, "served with {left} ms to live");
            let (text, arrived, ..) = rules.newest.as_ref().unwrap();
            assert_eq!(serving.token.secret.expose(), text, "not the newest");
            assert_eq!(serving.age, Duration::from_millis(rules.boot - arrived));
            let healthy = !rules.failed && rules.gate_open && rules.boot >= rules.silent_until;
            let newest_there_is = rules.boot - arrived < 30_000;
            assert!(left >= least || !healthy || newest_there_is, "{left} ms served by a healthy source");
            assert!(left >= least || serving.stale.is_some(), "a short life was not said");
        }
        Answer::Wait => {
            assert!(rules.under_way.is_some(), "waits for nothing");
            let good = left >= least && claims.is_none();
            assert!(!good || (force && may_force), "made to wait although a good token is at hand");
        }
        Answer::Refuse(failure) => {
            assert!(left <= 60_000 || claims.is_some(), "refused although a token is valid");
            assert!(rules.under_way.is_none() || claims.is_some(), "refused although the answer is coming");
            assert!(!failure.sentence.is_empty());
            let reason =
                rules.failed || !rules.gate_open || claims.is_some() || rules.boot < rules.silent_until;
            assert!(reason, "refused without a reason");
        }
    }
}

fn happens(lease: &mut Lease, rules: &mut Rules, event: Event) {
    match event {
        Event::Ask { min, claims, force } => asked(lease, rules, min, claims, force),
        Event::Look { wanted } => {
            let open = rules.gate_open;
            let shut = || Failure::new(FailureClass::Transient, "shut");
            let look = lease.tick(rules.now(), wanted, &mut || if open { Ok(()) } else { Err(shut()) });
            if look.start {
                assert!(wanted, "renewed for nobody");
                rules.starts(None);
            }
            assert!(!look.dropped || rules.left() <= 60_000, "a token that is good was let go");
            assert!(look.again.is_none_or(|again| look.start || again > rules.now().boot), "would spin");
        }
        Event::Lands { life, refresh_in } => {
            if rules.under_way.take().is_none() {
                return;
            }
            rules.count += 1;
            let (text, end) = (format!("token {}", rules.count), EPOCH + rules.wall() + life);
            let token =
                Token::bearer(Secret::new(text.clone()), Timestamp(end), refresh_in.map(Duration::from_secs));
            let good = lease.fetched(rules.now(), token, rules.count).is_ok();
            assert_eq!(good, life > 60, "a token that is over was kept, or a good one was not");
            if good {
                let life = u64::try_from(life).unwrap().min(28 * 3600) * 1000;
                rules.newest = Some((text, rules.boot, end, life));
                rules.failed = false;
            } else {
                rules.failed = true;
            }
        }
        Event::Fails { class, retry_after, dice } => {
            let Some(claims) = rules.under_way.take() else { return };
            let mut failure = Failure::new(class_of(class), "failed on purpose");
            failure.retry_after = retry_after.map(Duration::from_secs);
            lease.failed(rules.now(), &failure, dice);
            if let Some(seconds) = retry_after {
                rules.silent_until = rules.silent_until.max(rules.boot + seconds * 1000);
            }
            let challenged = claims.is_some();
            match failure.class {
                FailureClass::Revoked => {
                    (rules.taken_back, rules.newest, rules.failed) = (true, None, true);
                }
                FailureClass::NeedsUser | FailureClass::Config if challenged => {}
                FailureClass::NeedsUser => (rules.user_needed, rules.failed) = (true, true),
                _ => rules.failed = true,
            }
        }
        Event::Passes { millis } => rules.boot += millis,
        Event::Jumps { seconds } => rules.wall_offset += seconds,
        Event::Gate { open } => rules.gate_open = open,
    }
}

#[test]
fn random_histories_keep_every_rule() {
    let limits = ProptestConfig { cases: HISTORIES, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(limits, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let histories = (any::<u64>(), proptest::collection::vec(event(), EVENTS));
    let seen = std::cell::RefCell::new((0_u64, 0_u64));
    runner
        .run(&histories, |(seed, events)| {
            let mut rules = Rules {
                boot: 1_000_000,
                wall_offset: 0,
                gate_open: true,
                under_way: None,
                silent_until: 0,
                newest: None,
                failed: false,
                taken_back: false,
                user_needed: false,
                last_forced: None,
                count: 0,
            };
            let mut lease = Lease::new(seed, rules.now());
            for event in events {
                // What only a person can mend ends the lease, as a purge does.
                let waits_for_people = rules.taken_back || rules.user_needed;
                if waits_for_people && rules.under_way.is_none() && rules.boot.is_multiple_of(3) {
                    lease = Lease::new(seed, rules.now());
                    (rules.taken_back, rules.user_needed, rules.failed) = (false, false, false);
                    (rules.newest, rules.silent_until, rules.last_forced) = (None, 0, None);
                }
                happens(&mut lease, &mut rules, event);
                seen.borrow_mut().0 += 1;
            }
            seen.borrow_mut().1 += rules.count;
            Ok(())
        })
        .unwrap();
    let (events, landed) = *seen.borrow();
    assert!(events >= 100_000 && landed > 4_000, "{events} events, {landed} tokens: the histories are empty");
}
