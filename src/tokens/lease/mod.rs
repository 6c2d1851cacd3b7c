//! One kept token: when it is served, when the next one is asked for, and what a failure means for both.
//!
//! A pure state machine. It is told what happened (asked, fetched, failed, a look now and then) with the
//! time, and says what to do. It never serves a token that has a minute or less to live, by whichever of
//! two clocks is stricter: the wall clock against the token's own end, or the time since boot (suspend
//! included) against the life that it had when it came. It never has two questions under way.

mod trouble;

use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::Timestamp;

use crate::{Claims, Failure, FailureClass, Token};
use trouble::Trouble;
pub use trouble::{
    BACKOFF_FIRST, BACKOFF_LEAST, BACKOFF_MOST, CONFIG_FIRST, CONFIG_MOST, LAG_TRIES, LAG_WINDOW,
    RETRY_AFTER_MOST,
};

/// The least life of a served token while the source works. The Microsoft client libraries take a token
/// with less than five minutes for expired and would ask again at once.
pub const SERVED_LIFE_LEAST: Duration = Duration::from_secs(330);
/// A token with this much life or less is served to nobody: clocks differ, and requests take time.
pub const SKEW: Duration = Duration::from_secs(60);
/// From this life on a token without advice is renewed at half of it, as the client libraries do.
pub const HALF_LIFE_FROM: Duration = Duration::from_secs(2 * 3600);
/// Shorter ones are renewed this long before their end, or a tenth of their life if that is more.
pub const RENEW_BEFORE_END: Duration = Duration::from_secs(300);
/// Renewal begins at least this long before the least served life, so that nobody has to wait for it.
pub const RENEW_LEAD: Duration = Duration::from_secs(30);
/// Between two forced renewals of one token, and the time for which a token counts as the newest there
/// is, however short its life.
pub const FORCE_GAP: Duration = Duration::from_secs(30);
/// The longest life that is believed; tokens for continuous access evaluation live up to 28 hours.
pub const LIFE_MOST: Duration = Duration::from_secs(28 * 3600);
/// How long the refusal of a claims challenge is remembered for the same claims.
pub const CHALLENGE_MEMORY: Duration = Duration::from_secs(30);
/// How much earlier or later than planned a token is renewed, in parts of a thousand.
const JITTER_PER_MILLE: u64 = 100;

/// What is said while `Retry-After` lasts and nothing else is wrong.
const LEFT_ALONE: &str = "the source wants to be left alone for a while";

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since boot, suspend included; never goes back.
    pub boot: Duration,
    /// By the wall clock; may jump.
    pub wall: Timestamp,
}

/// What one caller needs of the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The least life that is of use; raised to [`SERVED_LIFE_LEAST`].
    pub min_validity: Option<Duration>,
    /// A claims challenge: answered by the source, never from the cache.
    pub claims: Option<Claims>,
    /// A new token although a good one is kept; at most once per [`FORCE_GAP`].
    pub force_refresh: bool,
}

impl Need {
    fn least(&self) -> Duration {
        self.min_validity.map_or(SERVED_LIFE_LEAST, |least| least.max(SERVED_LIFE_LEAST))
    }
}

/// A token on its way to a caller.
pub struct Serving {
    /// The token.
    pub token: Arc<Token>,
    /// How long ago it came from the source.
    pub age: Duration,
    /// Why it is not a newer or longer-lived one, where that should be said.
    pub stale: Option<String>,
    /// When the next one is to be asked for, by the wall clock.
    pub refresh_on: Timestamp,
}

/// What a caller is told.
pub enum Answer {
    /// Here it is.
    Serve(Serving),
    /// The question that is under way (or begins now) brings it.
    Wait,
    /// Not now, and why.
    Refuse(Failure),
}

/// What is to be done after a question.
pub struct Step {
    /// For the caller.
    pub answer: Answer,
    /// Ask the source now, with the claims of this need; the lease counts it as under way.
    pub start: bool,
}

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Ask the source now, without claims.
    pub start: bool,
    /// A token came to its end and was let go.
    pub dropped: bool,
    /// When to look again (since boot); `None` when only an event can change something.
    pub again: Option<Duration>,
}

/// Says whether the source may be asked now; the failure names what stands in the way.
pub type Gate<'a> = &'a mut dyn FnMut() -> Result<(), Failure>;

struct Kept {
    token: Arc<Token>,
    /// Since boot.
    got: Duration,
    /// The life that it had then.
    life: Duration,
    /// How long after `got` the next one is due.
    renew_after: Duration,
}

impl Kept {
    /// The life that is left, by the stricter clock.
    fn left(&self, now: Now) -> Duration {
        let by_wall = u64::try_from(self.token.expires.since(now.wall)).unwrap_or(0);
        self.life.saturating_sub(self.age(now)).min(Duration::from_secs(by_wall))
    }

    fn age(&self, now: Now) -> Duration {
        now.boot.saturating_sub(self.got)
    }

    fn due_in(&self, now: Now) -> Duration {
        self.left(now).saturating_sub(self.life.saturating_sub(self.renew_after))
    }
}

struct Refused {
    claims: Claims,
    failure: Failure,
    /// Since boot.
    until: Duration,
}

/// The state of one key of the cache.
pub struct Lease {
    seed: u64,
    kept: Option<Kept>,
    trouble: Option<Trouble>,
    /// The question under way, with its claims.
    flight: Option<Option<Claims>>,
    /// The source wants to be left alone until then (since boot).
    silent_until: Duration,
    forced: Option<Duration>,
    refused: Option<Refused>,
    used: Duration,
}

impl Lease {
    /// Nothing kept yet. `seed` spreads renewals: the same for one key on one machine, different elsewhere.
    #[must_use]
    pub const fn new(seed: u64, now: Now) -> Self {
        Self {
            seed,
            kept: None,
            trouble: None,
            flight: None,
            silent_until: Duration::ZERO,
            forced: None,
            refused: None,
            used: now.boot,
        }
    }

    /// A caller asks.
    pub fn asked(&mut self, now: Now, need: &Need, gate: Gate<'_>) -> Step {
        self.used = now.boot;
        if let Some(claims) = &need.claims {
            return self.challenged(now, claims, gate);
        }
        let forced =
            need.force_refresh && self.forced.is_none_or(|at| now.boot.saturating_sub(at) >= FORCE_GAP);
        match self.usable(now).map(|kept| (kept.left(now), kept.age(now), kept.due_in(now))) {
            Some((left, _, due_in)) if left >= need.least() && !forced => {
                let start = due_in.is_zero() && self.may_start(now) && gate().is_ok();
                if start {
                    self.flight = Some(None);
                }
                Step { answer: self.serve(now, need, None), start }
            }
            Some((_, age, _)) => {
                let newest = !forced && age < FORCE_GAP && self.trouble.is_none();
                // A source that failed a moment ago is not waited for while a good token is at hand.
                let down = !forced && self.trouble.as_ref().is_some_and(|trouble| trouble.is_recent(now));
                if newest || (self.flight.is_none() && !self.may_start(now)) {
                    let why = (!newest && self.trouble.is_none()).then_some(LEFT_ALONE);
                    return Step { answer: self.serve(now, need, why), start: false };
                }
                let start = self.flight.is_none();
                if start {
                    if let Err(shut) = gate() {
                        return Step { answer: self.serve(now, need, Some(&shut.sentence)), start: false };
                    }
                    self.flight = Some(None);
                }
                if forced {
                    self.forced = Some(now.boot);
                }
                Step { answer: if down { self.serve(now, need, None) } else { Answer::Wait }, start }
            }
            None => {
                let step = self.start_or_join(now, None, gate);
                if forced && matches!(step.answer, Answer::Wait) {
                    self.forced = Some(now.boot);
                }
                step
            }
        }
    }

    fn challenged(&mut self, now: Now, claims: &Claims, gate: Gate<'_>) -> Step {
        if let Some(refused) = &self.refused {
            if now.boot >= refused.until {
                self.refused = None;
            } else if refused.claims == *claims {
                return Step { answer: Answer::Refuse(refused.failure.clone()), start: false };
            }
        }
        self.start_or_join(now, Some(claims), gate)
    }

    fn start_or_join(&mut self, now: Now, claims: Option<&Claims>, gate: Gate<'_>) -> Step {
        if self.flight.is_some() {
            return Step { answer: Answer::Wait, start: false };
        }
        if let Some(failure) = self.remembered(now) {
            return Step { answer: Answer::Refuse(failure), start: false };
        }
        if let Err(shut) = gate() {
            return Step { answer: Answer::Refuse(shut), start: false };
        }
        self.flight = Some(claims.cloned());
        Step { answer: Answer::Wait, start: true }
    }

    /// The question under way brought a token. It takes the place of the kept one, whatever claims it was
    /// asked with.
    ///
    /// # Errors
    /// A token that is as good as over is a failure of the source (or of this machine's clock).
    pub fn fetched(&mut self, now: Now, token: Token, dice: u64) -> Result<(), Failure> {
        let life =
            Duration::from_secs(u64::try_from(token.expires.since(now.wall)).unwrap_or(0)).min(LIFE_MOST);
        if life <= SKEW {
            let failure = Failure::new(
                FailureClass::Transient,
                format!(
                    "the source handed out a token that ends {}; check this machine's clock",
                    token.expires
                ),
            );
            self.failed(now, &failure, dice);
            return Err(failure);
        }
        self.flight = None;
        self.trouble = None;
        self.refused = None;
        let renew_after = renew_after(life, token.refresh_in, self.seed);
        self.kept = Some(Kept { token: Arc::new(token), got: now.boot, life, renew_after });
        Ok(())
    }

    /// The question under way failed. `dice` is a random number for the wait.
    pub fn failed(&mut self, now: Now, failure: &Failure, dice: u64) {
        let claims = self.flight.take().flatten();
        if let Some(wanted) = failure.retry_after {
            self.silent_until = self.silent_until.max(now.boot.saturating_add(wanted.min(RETRY_AFTER_MOST)));
        }
        if failure.class == FailureClass::Revoked {
            // Whoever took the credential back meant what was got with it, too.
            self.kept = None;
        }
        match (claims, failure.class) {
            // What a challenge is refused for says nothing about the plain question.
            (Some(claims), FailureClass::NeedsUser | FailureClass::Config) => {
                let until = now.boot.saturating_add(CHALLENGE_MEMORY);
                self.refused = Some(Refused { claims, failure: failure.clone(), until });
            }
            _ => self.trouble = Some(Trouble::after(self.trouble.take(), failure, now, dice)),
        }
    }

    /// A look without anybody asking: renews in time what is `wanted`, lets go of what is over.
    pub fn tick(&mut self, now: Now, wanted: bool, gate: Gate<'_>) -> Look {
        // By the clock that cannot jump: a wall clock that is put right gives the token back.
        let dropped = self.kept.as_ref().is_some_and(|kept| kept.life.saturating_sub(kept.age(now)) <= SKEW);
        if dropped {
            self.kept = None;
        }
        let end = self.kept.as_ref().map(|kept| kept.got.saturating_add(kept.life.saturating_sub(SKEW)));
        if self.flight.is_some() {
            return Look { start: false, dropped, again: end };
        }
        let due = match self.usable(now) {
            Some(kept) => now.boot.saturating_add(kept.due_in(now)),
            None => now.boot,
        };
        let at = self.next_try().map(|allowed| allowed.max(due)).filter(|_| wanted);
        match at {
            Some(at) if at <= now.boot => match gate() {
                Ok(()) => {
                    self.flight = Some(None);
                    Look { start: true, dropped, again: end }
                }
                Err(shut) => {
                    let wait = shut.retry_after.unwrap_or(BACKOFF_FIRST).max(BACKOFF_LEAST);
                    Look { start: false, dropped, again: Some(now.boot.saturating_add(wait)) }
                }
            },
            Some(at) => Look { start: false, dropped, again: Some(end.map_or(at, |end| end.min(at))) },
            None => Look { start: false, dropped, again: end },
        }
    }

    /// The kept token, if it may be served at all, for a caller who waited; `why` says what came instead
    /// of a newer one.
    #[must_use]
    pub fn at_hand(&self, now: Now, need: &Need, why: Option<&str>) -> Option<Serving> {
        let kept = self.usable(now)?;
        let (left, age, due_in) = (kept.left(now), kept.age(now), kept.due_in(now));
        let stale = match (&self.trouble, why) {
            (_, Some(why)) => Some(format!("got {} ago; {why}", said(age))),
            (Some(trouble), None) if due_in.is_zero() || left < need.least() => {
                Some(format!("got {} ago; {}", said(age), trouble.told(now)))
            }
            (None, None) if left < need.least() => {
                Some(format!("got {} ago; the source gives none that lives longer", said(age)))
            }
            _ => None,
        };
        let refresh_on = now.wall.plus(i64::try_from(due_in.as_secs()).unwrap_or(i64::MAX));
        Some(Serving { token: Arc::clone(&kept.token), age, stale, refresh_on })
    }

    fn serve(&self, now: Now, need: &Need, why: Option<&str>) -> Answer {
        match self.at_hand(now, need, why) {
            Some(serving) => Answer::Serve(serving),
            // Only reached with a usable token; a refusal is the safe answer should that ever change.
            None => {
                Answer::Refuse(Failure::new(FailureClass::Transient, "the kept token is over; ask again"))
            }
        }
    }

    fn usable(&self, now: Now) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.left(now) > SKEW)
    }

    /// From when on the source may be asked (since boot); `None`: not until somebody does something.
    fn next_try(&self) -> Option<Duration> {
        match &self.trouble {
            None => Some(self.silent_until),
            Some(trouble) => trouble.retry().map(|at| at.max(self.silent_until)),
        }
    }

    fn may_start(&self, now: Now) -> bool {
        self.flight.is_none() && self.next_try().is_some_and(|at| at <= now.boot)
    }

    /// The failure that stands between a question and the source, with what is left of the wait.
    fn remembered(&self, now: Now) -> Option<Failure> {
        if self.next_try().is_some_and(|at| at <= now.boot) {
            return None;
        }
        let mut failure = self.trouble.as_ref().map_or_else(
            || Failure::new(FailureClass::Transient, LEFT_ALONE),
            |trouble| trouble.failure().clone(),
        );
        let waits = matches!(failure.class, FailureClass::Transient | FailureClass::Lag);
        failure.retry_after =
            self.next_try().filter(|_| waits).map(|at| at.saturating_sub(now.boot).max(BACKOFF_FIRST));
        Some(failure)
    }

    /// The claims of the question under way; the outer `None` when there is none.
    #[must_use]
    pub fn flight(&self) -> Option<Option<&Claims>> {
        self.flight.as_ref().map(Option::as_ref)
    }

    /// The kept token, served or not.
    #[must_use]
    pub fn token(&self) -> Option<&Arc<Token>> {
        self.kept.as_ref().map(|kept| &kept.token)
    }

    /// When the next one is due, by the wall clock; `None` when nothing is kept.
    #[must_use]
    pub fn refresh_on(&self, now: Now) -> Option<Timestamp> {
        let due_in = self.kept.as_ref()?.due_in(now);
        Some(now.wall.plus(i64::try_from(due_in.as_secs()).unwrap_or(i64::MAX)))
    }

    /// What is wrong at the moment.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.trouble.as_ref().map(Trouble::failure)
    }

    /// Whether forgetting this lease could send a credential again that was taken back.
    #[must_use]
    pub fn must_be_remembered(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.retry().is_none())
    }

    /// How long nobody asked.
    #[must_use]
    pub const fn idle(&self, now: Now) -> Duration {
        now.boot.saturating_sub(self.used)
    }
}

/// How long after its arrival a token is to be renewed.
#[must_use]
pub fn renew_after(life: Duration, advice: Option<Duration>, seed: u64) -> Duration {
    let planned = match advice {
        Some(advice) if !advice.is_zero() && advice < life => advice,
        _ if life >= HALF_LIFE_FROM => life / 2,
        _ => life.saturating_sub(RENEW_BEFORE_END.max(life / 10)),
    };
    // 900 to 1100 parts of a thousand.
    let parts = 1000 - JITTER_PER_MILLE + seed % (2 * JITTER_PER_MILLE + 1);
    let millis = u64::try_from(planned.as_millis()).unwrap_or(u64::MAX).saturating_mul(parts) / 1000;
    let latest = life.saturating_sub(SERVED_LIFE_LEAST + RENEW_LEAD);
    // A source that hands out the rests of tokens is not asked all the time.
    Duration::from_millis(millis).min(latest).max(FORCE_GAP.min(life / 2))
}

/// A length of time for people.
fn said(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
