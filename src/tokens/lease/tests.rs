//! One rule a test; the histories at random are next door.

use super::*;
use nightlatch_model::Secret;
use proptest::prelude::*;

/// Wall time at boot in these tests.
const EPOCH: i64 = 1_800_000_000;
const HOUR: u64 = 3600;

fn at(seconds: u64) -> Now {
    Now { boot: Duration::from_secs(seconds), wall: Timestamp(EPOCH).plus(i64::try_from(seconds).unwrap()) }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn token(now: Now, life: u64, refresh_in: Option<u64>) -> Token {
    Token::bearer(
        Secret::new(format!("token of {}", now.wall)),
        now.wall.plus(i64::try_from(life).unwrap()),
        refresh_in.map(secs),
    )
}

fn ask(lease: &mut Lease, now: Now, need: &Need) -> Step {
    lease.asked(now, need, &mut || Ok(()))
}

fn plain() -> Need {
    Need::default()
}

/// A lease that got a token at this second.
fn holding(second: u64, life: u64) -> Lease {
    // With this seed the planned time is kept as it is: 900 + 100 parts of a thousand.
    let mut lease = Lease::new(100, at(second));
    assert!(ask(&mut lease, at(second), &plain()).start);
    lease.fetched(at(second), token(at(second), life, None), 0).unwrap();
    lease
}

fn served(step: Step) -> Serving {
    match step.answer {
        Answer::Serve(serving) => serving,
        Answer::Wait => panic!("waits"),
        Answer::Refuse(failure) => panic!("refused: {}", failure.sentence),
    }
}

fn refused(step: Step) -> Failure {
    assert!(!step.start);
    match step.answer {
        Answer::Refuse(failure) => failure,
        Answer::Wait => panic!("waits"),
        Answer::Serve(_) => panic!("serves"),
    }
}

fn waits(step: &Step) -> bool {
    matches!(step.answer, Answer::Wait)
}

fn down() -> Failure {
    Failure::new(FailureClass::Transient, "the host does not answer")
}

fn look(lease: &mut Lease, now: Now) -> Look {
    lease.tick(now, true, &mut || Ok(()))
}

#[test]
fn renewal_is_planned_by_advice_then_half_life_then_the_end() {
    let plan = |life, advice: Option<u64>| renew_after(secs(life), advice.map(secs), 100).as_secs();
    assert_eq!(plan(24 * HOUR, Some(12_000)), 12_000);
    assert_eq!(plan(24 * HOUR, None), 12 * HOUR);
    assert_eq!(plan(2 * HOUR, None), HOUR);
    assert_eq!(plan(7199, None), 7199 - 719 - 1, "the end less a tenth");
    assert_eq!(plan(40 * 60, None), 2400 - 330 - 30, "never so late that a caller would have to wait");
    assert_eq!(plan(HOUR, Some(0)), 3600 - 360, "advice that cannot be meant is no advice");
    assert_eq!(plan(HOUR, Some(9 * HOUR)), 3600 - 360);
    assert_eq!(plan(200, None), 30, "the rest of a token is not renewed without a pause");
    assert_eq!(
        (renew_after(secs(10_000), None, 0), renew_after(secs(10_000), None, 200)),
        (secs(4500), secs(5500))
    );
}

proptest! {
    #[test]
    fn renewal_keeps_to_its_bounds(life in 61_u64..100_800, advice in proptest::option::of(0_u64..200_000), seed: u64) {
        let after = renew_after(secs(life), advice.map(secs), seed);
        prop_assert!(after >= secs(30) && after < secs(life));
        if life > 390 {
            prop_assert!(after <= secs(life - 360));
        }
        if life >= 2 * HOUR && advice.is_none() {
            prop_assert!(after >= secs(life / 2) * 9 / 10 - secs(1) && after <= secs(life / 2 + 1) * 11 / 10);
        }
    }
}

#[test]
fn a_good_token_is_served_and_renewed_behind_the_callers_back() {
    let mut lease = holding(0, HOUR);
    let serving = served(ask(&mut lease, at(600), &plain()));
    assert_eq!((serving.age, serving.stale), (secs(600), None));
    assert_eq!(serving.refresh_on, at(3240).wall);
    assert_eq!(look(&mut lease, at(3239)), Look { start: false, dropped: false, again: Some(secs(3240)) });
    let step = ask(&mut lease, at(3240), &plain());
    assert!(step.start);
    assert!(served(step).stale.is_none());
    let step = ask(&mut lease, at(3241), &plain());
    assert!(!step.start, "one question at a time");
    served(step);
    lease.fetched(at(3242), token(at(3242), HOUR, None), 0).unwrap();
    assert_eq!(served(ask(&mut lease, at(3243), &plain())).age, secs(1));
}

#[test]
fn less_than_five_and_a_half_minutes_is_not_served_while_the_source_works() {
    let mut lease = holding(0, HOUR);
    served(ask(&mut lease, at(3270), &plain()));
    let mut lease = holding(0, HOUR);
    let step = ask(&mut lease, at(3271), &plain());
    assert!(step.start && waits(&step));
    // A caller may need more than that, but not less.
    let mut lease = holding(0, HOUR);
    let need = |seconds| Need { min_validity: Some(secs(seconds)), ..plain() };
    served(ask(&mut lease, at(3270), &need(10)));
    assert!(waits(&ask(&mut lease, at(2000), &need(1800))));
}

#[test]
fn a_source_without_long_lives_is_neither_hammered_nor_useless() {
    let mut lease = holding(0, 300);
    for second in 0..30 {
        let step = ask(&mut lease, at(second), &plain());
        assert!(!step.start);
        assert!(served(step).stale.unwrap().contains("none that lives longer"));
    }
    let step = ask(&mut lease, at(30), &plain());
    assert!(step.start && waits(&step));
}

#[test]
fn a_source_that_is_down_does_not_take_a_valid_token_away() {
    let mut lease = holding(0, HOUR);
    let mut asked = 0;
    for second in 3240..3540 {
        if look(&mut lease, at(second)).start {
            asked += 1;
            lease.failed(at(second), &down(), u64::MAX);
        }
        let serving = served(ask(&mut lease, at(second), &plain()));
        let stale = serving.stale.unwrap();
        assert!(stale.starts_with("got 5") && stale.ends_with("the host does not answer"), "{stale}");
    }
    assert!((5..40).contains(&asked), "{asked}");
    // Its last minute is nobody's.
    let failure = refused(ask(&mut lease, at(3540), &plain()));
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.retry_after.is_some());
}

#[test]
fn nobody_waits_for_a_source_that_failed_a_moment_ago() {
    let mut lease = holding(0, HOUR);
    assert!(look(&mut lease, at(3240)).start);
    lease.failed(at(3240), &down(), 0);
    // Less than the least life is left, and it is time to ask again: both happen.
    let step = ask(&mut lease, at(3300), &plain());
    assert!(step.start && served(step).stale.is_some());
    assert!(served(ask(&mut lease, at(3301), &plain())).stale.is_some(), "nor while it is being asked");
    // A failure of long ago says nothing about the source now.
    let mut lease = holding(0, 2 * HOUR);
    assert!(look(&mut lease, at(3600)).start);
    lease.failed(at(3600), &down(), 0);
    let step = ask(&mut lease, at(2 * HOUR - 200), &plain());
    assert!(step.start && waits(&step));
}

#[test]
fn past_bug_55_a_token_never_outlives_its_end() {
    // A suspend of two hours: the clock since boot counts it, whatever the wall clock says.
    let mut lease = holding(0, HOUR);
    let woken = Now { boot: secs(2 * HOUR), wall: at(10).wall };
    assert!(waits(&ask(&mut lease, woken, &plain())));
    assert!(lease.at_hand(woken, &plain(), None).is_none());
    // A wall clock that jumps past the end.
    let mut lease = holding(0, HOUR);
    let jumped = Now { boot: secs(10), wall: at(HOUR - 60).wall };
    assert!(waits(&ask(&mut lease, jumped, &plain())));
    assert!(lease.at_hand(jumped, &plain(), None).is_none());
    // Put right again, the token is good again; set back, it is not good for longer.
    assert!(lease.at_hand(at(11), &plain(), None).is_some());
    let back = Now { boot: secs(HOUR - 60), wall: at(0).wall };
    assert!(lease.at_hand(back, &plain(), None).is_none());
    assert!(look(&mut lease, back).dropped);
    // A life that no token has is not believed.
    let mut lease = holding(0, 400 * HOUR);
    assert!(waits(&ask(&mut lease, Now { boot: secs(28 * HOUR - 60), wall: at(5).wall }, &plain())));
    // One that is over on arrival is a failure and is not served.
    for life in [0, 1, 60] {
        let mut lease = Lease::new(1, at(0));
        ask(&mut lease, at(0), &plain());
        let failure = lease.fetched(at(0), token(at(0), life, None), 0).unwrap_err();
        assert!(failure.sentence.contains("clock"));
        assert_eq!(refused(ask(&mut lease, at(0), &plain())).class, FailureClass::Transient);
    }
}

#[test]
fn retry_after_silences_every_kind_of_question() {
    let mut lease = holding(0, HOUR);
    let mut throttled = down();
    throttled.retry_after = Some(secs(60));
    assert!(look(&mut lease, at(3240)).start);
    lease.failed(at(3240), &throttled, 0);
    let claims = Claims::new(r#"{"access_token":{}}"#).unwrap();
    for second in 3240..3300 {
        assert!(!look(&mut lease, at(second)).start);
        assert!(!ask(&mut lease, at(second), &plain()).start);
        assert!(!ask(&mut lease, at(second), &Need { force_refresh: true, ..plain() }).start);
        refused(ask(&mut lease, at(second), &Need { claims: Some(claims.clone()), ..plain() }));
    }
    assert!(look(&mut lease, at(3301)).start);
}

#[test]
fn a_forced_renewal_is_granted_every_thirty_seconds() {
    let force = Need { force_refresh: true, ..plain() };
    let mut lease = holding(0, HOUR);
    let step = ask(&mut lease, at(5), &force);
    assert!(step.start && waits(&step));
    assert!(waits(&ask(&mut lease, at(6), &force)) || lease.flight().is_some());
    lease.fetched(at(6), token(at(6), HOUR, None), 0).unwrap();
    for second in 7..35 {
        let step = ask(&mut lease, at(second), &force);
        assert!(!step.start);
        served(step);
    }
    assert!(ask(&mut lease, at(35), &force).start);
}

#[test]
fn a_challenge_is_for_the_source_and_its_token_takes_the_place_of_the_kept_one() {
    let challenge = |text: &str| Need { claims: Some(Claims::new(text).unwrap()), ..plain() };
    let (one, two) =
        (challenge(r#"{"access_token":{"nbf":{"value":"1"}}}"#), challenge(r#"{"id_token":{}}"#));
    let mut lease = holding(0, HOUR);
    let step = ask(&mut lease, at(40), &one);
    assert!(step.start && waits(&step));
    assert_eq!(lease.flight().unwrap(), one.claims.as_ref());
    let step = ask(&mut lease, at(40), &two);
    assert!(!step.start && waits(&step), "the second challenge waits for the first");
    assert!(!ask(&mut lease, at(40), &plain()).start, "the kept token is still good for everybody else");
    lease.fetched(at(41), token(at(41), HOUR, None), 0).unwrap();
    assert_eq!(served(ask(&mut lease, at(42), &plain())).age, secs(1));
    assert!(ask(&mut lease, at(42), &one).start, "a challenge is never answered from the cache");
    // Refused: remembered for these claims, and for nothing else.
    let refusal = Failure::new(FailureClass::NeedsUser, "sign in again");
    lease.failed(at(43), &refusal, 0);
    assert_eq!(refused(ask(&mut lease, at(44), &one)).class, FailureClass::NeedsUser);
    served(ask(&mut lease, at(44), &plain()));
    assert!(ask(&mut lease, at(44), &two).start);
}

#[test]
fn who_must_sign_in_is_not_asked_about_and_what_was_taken_back_is_gone() {
    for (class, keeps) in [(FailureClass::NeedsUser, true), (FailureClass::Revoked, false)] {
        let mut lease = holding(0, 3 * HOUR);
        assert!(look(&mut lease, at(5400)).start);
        lease.failed(at(5400), &Failure::new(class, "sign in"), 0);
        assert_eq!(lease.at_hand(at(5401), &plain(), None).is_some(), keeps);
        assert!(lease.must_be_remembered());
        for second in (5401..40 * HOUR).step_by(600) {
            assert!(!look(&mut lease, at(second)).start);
            assert!(!ask(&mut lease, at(second), &plain()).start);
        }
        assert_eq!(refused(ask(&mut lease, at(40 * HOUR), &plain())).class, class);
    }
}

#[test]
fn a_shut_gate_is_like_a_source_that_is_down() {
    let shut = &mut || Err(down());
    let mut lease = holding(0, HOUR);
    assert!(served(lease.asked(at(3300), &plain(), shut)).stale.unwrap().contains("does not answer"));
    assert!(lease.flight().is_none());
    assert!(!lease.tick(at(3300), true, shut).start);
    refused(lease.asked(at(3540), &plain(), shut));
    assert!(waits(&ask(&mut lease, at(3541), &plain())), "it opens, and the source is asked at once");
}

#[test]
fn what_nobody_uses_is_not_renewed() {
    let mut lease = holding(0, HOUR);
    let look = lease.tick(at(3400), false, &mut || Ok(()));
    assert_eq!(look, Look { start: false, dropped: false, again: Some(secs(3540)) });
    let look = lease.tick(at(3540), false, &mut || Ok(()));
    assert_eq!(look, Look { start: false, dropped: true, again: None });
    assert_eq!(lease.idle(at(3600)), secs(3600));
}
