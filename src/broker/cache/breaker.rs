//! What fails together is left alone together: one circuit breaker for each host and client.
//!
//! A lease has its own patience for its own failures; this is for a thousand of them behind one host that
//! is down or throttles. Only a source that gave no usable answer counts; a refusal is an answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightlatch_tokens::lease::RETRY_AFTER_MOST;
use nightlatch_tokens::{Failure, FailureClass};

/// Failures in a row after which a circuit is opened.
pub(super) const OPENS_AFTER: u32 = 5;
/// The longest first time that an open circuit stays open; doubled each time a probe fails.
pub(super) const OPEN_FIRST: Duration = Duration::from_secs(5);
/// The longest time that it is doubled up to.
pub(super) const OPEN_MOST: Duration = Duration::from_secs(300);
/// A probe that has not come back after this time is taken for lost and another one is let through.
const PROBE_LOST: Duration = Duration::from_secs(120);
/// What those who come while a probe is under way are told to wait.
const PROBE_WAIT: Duration = Duration::from_secs(1);

enum State {
    /// Questions pass; this many in a row failed.
    Closed(u32),
    /// None passes until then (since boot). `asked_for`: the source said so itself.
    Open { until: Duration, asked_for: bool },
    /// One passed at that time (since boot), and decides.
    Probing(Duration),
}

struct Breaker {
    state: State,
    /// How often in a row it was opened.
    opened: u32,
    last: Failure,
}

/// All circuits with a failure; one without is not listed. Their number is that of configured sources.
#[derive(Default)]
pub(super) struct Breakers(Mutex<HashMap<String, Breaker>>);

impl Breakers {
    fn table(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        // Whole between any two statements, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a question may pass now (`boot`: time since boot). Who is let through must report.
    pub(super) fn allow(&self, circuit: &str, boot: Duration) -> Result<(), Failure> {
        let mut table = self.table();
        let Some(breaker) = table.get_mut(circuit) else { return Ok(()) };
        let wait = match breaker.state {
            State::Closed(_) => return Ok(()),
            State::Open { until, .. } if boot < until => until.saturating_sub(boot),
            State::Probing(since) if boot.saturating_sub(since) < PROBE_LOST => PROBE_WAIT,
            State::Open { .. } | State::Probing(_) => {
                breaker.state = State::Probing(boot);
                return Ok(());
            }
        };
        let mut failure = breaker.last.clone();
        failure.retry_after = Some(wait.max(PROBE_WAIT));
        Err(failure)
    }

    /// What came of a question that was let through. `dice` is a random number for the wait.
    pub(super) fn report(&self, circuit: &str, failure: Option<&Failure>, boot: Duration, dice: u64) {
        let mut table = self.table();
        let wanted = failure.and_then(|failure| failure.retry_after).map(|wait| wait.min(RETRY_AFTER_MOST));
        // What is said of one credential (`invalid_grant`, also of one that is throttled) is an answer for all others.
        let away = |failure: &&Failure| {
            failure.class == FailureClass::Transient && failure.error.as_deref() != Some("invalid_grant")
        };
        let Some(failure) = failure.filter(away) else {
            // An answer closes the circuit, except while the source wants to be left alone: that one was
            // on its way already.
            let silent = |breaker: &Breaker| matches!(breaker.state, State::Open { until, asked_for: true } if boot < until);
            if !table.get(circuit).is_some_and(silent) {
                table.remove(circuit);
            }
            return;
        };
        let breaker = table.entry(circuit.to_owned()).or_insert_with(|| Breaker {
            state: State::Closed(0),
            opened: 0,
            last: failure.clone(),
        });
        breaker.last = failure.clone();
        breaker.last.claims = None;
        breaker.state = match (&breaker.state, wanted) {
            (State::Open { until, .. }, Some(wait)) => {
                State::Open { until: boot.saturating_add(wait).max(*until), asked_for: true }
            }
            (_, Some(wait)) => State::Open { until: boot.saturating_add(wait), asked_for: true },
            (State::Open { until, asked_for }, None) => State::Open { until: *until, asked_for: *asked_for },
            (State::Closed(failures), None) if failures + 1 < OPENS_AFTER => State::Closed(failures + 1),
            (State::Closed(_) | State::Probing(_), None) => {
                breaker.opened = breaker.opened.saturating_add(1);
                State::Open { until: boot.saturating_add(open_for(breaker.opened, dice)), asked_for: false }
            }
        };
    }
}

/// Between the half and the whole of a bound that doubles each time.
fn open_for(opened: u32, dice: u64) -> Duration {
    let bound = OPEN_FIRST.saturating_mul(1 << opened.saturating_sub(1).min(16)).min(OPEN_MOST);
    let half = u64::try_from(bound.as_millis() / 2).unwrap_or(0);
    Duration::from_millis(half + dice % (half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(retry_after: Option<u64>) -> Failure {
        let mut failure = Failure::new(FailureClass::Transient, "the host does not answer");
        failure.retry_after = retry_after.map(Duration::from_secs);
        failure
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// AADSTS50196: one person's program asks in a loop. The others of the same application are served.
    #[test]
    fn one_person_who_is_throttled_silences_nobody_else() {
        let breakers = Breakers::default();
        let mut throttled = down(Some(60));
        throttled.error = Some("invalid_grant".into());
        for second in 0..10 {
            assert!(breakers.allow("host app", at(second)).is_ok());
            breakers.report("host app", Some(&throttled), at(second), 0);
        }
        breakers.report("host app", Some(&down(Some(60))), at(10), 0);
        assert!(breakers.allow("host app", at(11)).is_err(), "the host itself");
    }

    #[test]
    fn it_opens_probes_once_and_closes_again() {
        let breakers = Breakers::default();
        for _ in 0..OPENS_AFTER {
            assert!(breakers.allow("h", at(0)).is_ok());
            breakers.report("h", Some(&down(None)), at(0), u64::MAX);
        }
        let refused = breakers.allow("h", at(0)).unwrap_err();
        assert!(refused.retry_after.is_some_and(|wait| wait >= at(1) && wait <= OPEN_FIRST), "{refused:?}");
        assert!(breakers.allow("another", at(0)).is_ok(), "one circuit says nothing about another");
        // Half open: exactly one passes.
        assert!(breakers.allow("h", at(5)).is_ok());
        assert!(breakers.allow("h", at(5)).is_err() && breakers.allow("h", at(64)).is_err());
        breakers.report("h", Some(&down(None)), at(6), u64::MAX);
        assert!(breakers.allow("h", at(6) + OPEN_FIRST / 2).is_err(), "a failed probe opens it for longer");
        assert!(breakers.allow("h", at(16)).is_ok());
        breakers.report("h", None, at(16), 0);
        assert!((0..9).all(|_| breakers.allow("h", at(16)).is_ok()));
        assert!(breakers.table().is_empty());
    }

    #[test]
    fn a_lost_probe_does_not_shut_it_for_ever() {
        let breakers = Breakers::default();
        (0..OPENS_AFTER).for_each(|_| breakers.report("h", Some(&down(None)), at(0), 0));
        assert!(breakers.allow("h", at(9)).is_ok());
        assert!(breakers.allow("h", at(100)).is_err());
        assert!(breakers.allow("h", at(9) + PROBE_LOST).is_ok());
    }

    #[test]
    fn retry_after_is_silence_for_the_whole_circuit() {
        let breakers = Breakers::default();
        breakers.report("h", Some(&down(Some(60))), at(0), 0);
        // Answers to questions asked before do not end it.
        breakers.report("h", None, at(1), 0);
        breakers.report("h", Some(&Failure::new(FailureClass::Config, "no")), at(1), 0);
        assert_eq!(breakers.allow("h", at(1)).unwrap_err().retry_after, Some(at(59)));
        assert!(breakers.allow("h", at(59)).is_err());
        assert!(breakers.allow("h", at(60)).is_ok());
    }

    #[test]
    fn refusals_are_answers_and_times_have_bounds() {
        let breakers = Breakers::default();
        for class in [FailureClass::Config, FailureClass::Lag, FailureClass::NeedsUser, FailureClass::Revoked]
        {
            (0..20).for_each(|_| breakers.report("h", Some(&Failure::new(class, "no")), at(0), 0));
            assert!(breakers.allow("h", at(0)).is_ok());
        }
        for opened in 1..100 {
            for dice in [0, 1, u64::MAX / 2, u64::MAX] {
                let time = open_for(opened, dice);
                assert!(time >= OPEN_FIRST / 2 && time <= OPEN_MOST);
            }
        }
    }
}
