//! The one way from a question to a token, whatever door it came in by: policy, rate, cache, record.
//!
//! A caller that the kernel did not name cannot ask: there is no [`Caller`] without a uid. The policy is
//! asked before anything else and once more when it changed while the source was waited for. Nothing leaves
//! without its event, and no refusal holds a token.

use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::lease::Need;
use nightlatch_tokens::policy::{Decision, Denied, Grant, Policy};
use nightlatch_tokens::{
    Ask, Caller, Failure, FailureClass, IdentityInfo, IdentityKind, IdentityTable, PopAsk, Token, TokenKey,
    TokenType,
};
use tokio::sync::watch;

use super::audit::{Audit, Happened, Outcome};
use super::cache::{Cache, Served};
use super::rate::Buckets;
use super::refusal::{Refusal, RefusalKind, SIGN_IN_COMMAND};
use super::sign_in::SignIn;
use crate::clock::Clock;

/// The longest that an answer waits for the source; the question goes on without whoever asked. Shorter than
/// what clients wait: they are to read why, and when to come back.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// When to ask again after the source was waited for in vain.
const RETRY: Duration = Duration::from_secs(5);

/// The key that proof-of-possession tokens are bound to; it never leaves.
pub trait PopSigner: Send + Sync {
    /// The RFC 7638 thumbprint.
    fn thumbprint(&self) -> String;
    /// A signed HTTP request around `token`.
    ///
    /// # Errors
    /// When it cannot be signed.
    fn sign(&self, token: &Token, pop: &PopAsk, now: Timestamp) -> Result<Secret, Failure>;
}

/// A token on its way out. No `Debug`: it holds the token.
pub struct HandOut {
    /// The token.
    pub token: Arc<Token>,
    /// The signed request around it, for a proof of possession.
    pub signed: Option<Secret>,
    /// The end that the caller is told: that of the token, or what the rule's `max_life` allows from now.
    pub expires: Timestamp,
    /// When the broker means to have a newer one.
    pub refresh_on: Option<Timestamp>,
    /// Straight from the source.
    pub fresh: bool,
    /// Since it came from the source.
    pub age: Duration,
    /// Why an old token was served although a new one was due.
    pub stale: Option<String>,
    /// The rule that allowed it.
    pub rule: Arc<str>,
    /// What it is kept under: identity, resource and the rest.
    pub key: TokenKey,
    /// The correlation id of its event.
    pub correlation: Arc<str>,
}

impl HandOut {
    /// The text for the caller.
    #[must_use]
    pub fn text(&self) -> &str {
        self.signed.as_ref().unwrap_or(&self.token.secret).expose()
    }

    /// `Bearer` or `pop`.
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        match self.token.kind {
            TokenType::Bearer if self.signed.is_none() => "Bearer",
            _ => "pop",
        }
    }
}

/// What a broker is made of.
pub struct Parts {
    /// The clock.
    pub clock: Clock,
    /// The kept tokens.
    pub cache: Cache,
    /// The policy to begin with.
    pub policy: Arc<Policy>,
    /// The configured identities.
    pub identities: IdentityTable,
    /// The record.
    pub audit: Audit,
    /// The people, where signing in is configured.
    pub people: Option<Arc<dyn SignIn>>,
    /// The key for proofs of possession, where there is one.
    pub pop: Option<Arc<dyn PopSigner>>,
}

/// The broker.
pub struct Broker {
    pub(super) clock: Clock,
    pub(super) cache: Cache,
    pub(super) policy: watch::Sender<Arc<Policy>>,
    pub(super) identities: IdentityTable,
    pub(super) audit: Audit,
    pub(super) people: Option<Arc<dyn SignIn>>,
    pop: Option<Arc<dyn PopSigner>>,
    rates: Buckets,
}

/// A token with what allowed it, before its event.
pub(super) struct Obtained {
    grant: Grant,
    pub(super) key: TokenKey,
    pub(super) served: Served,
    signed: Option<Secret>,
    pub(super) expires: Timestamp,
}

/// A refusal with what it was about, before its event.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    key: Option<TokenKey>,
}

impl Broker {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { clock, cache, policy, identities, audit, people, pop } = parts;
        let (policy, _) = watch::channel(policy);
        Self { clock, cache, policy, identities, audit, people, pop, rates: Buckets::default() }
    }

    /// Exchanges the policy as a whole; questions that wait for the source are judged by the new one, and
    /// watches that it no longer allows end.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.policy.send_replace(policy);
    }

    /// The policy of this moment.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// The configured identities.
    #[must_use]
    pub const fn identities(&self) -> &IdentityTable {
        &self.identities
    }

    /// The record, for doors that turn somebody away before there is a question.
    #[must_use]
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A token, or why not; recorded either way.
    ///
    /// # Errors
    /// The refusal, with the correlation id of its event.
    pub async fn get(&self, caller: &Caller, ask: &Ask) -> Result<HandOut, Refusal> {
        match self.obtain(caller, ask).await {
            Ok(obtained) => Ok(self.hand_out(caller, obtained)),
            Err(refused) => Err(self.refuse(caller, ask, refused)),
        }
    }

    /// Everything but the event.
    pub(super) async fn obtain(&self, caller: &Caller, ask: &Ask) -> Result<Obtained, Box<Refused>> {
        let policy = self.policy();
        let grant = self.judge(&policy, caller, ask)?;
        if let Some(rate) = &grant.rate {
            let taken = self.rates.take(&grant.rule, caller.uid, (rate.count, rate.per), self.clock.boot());
            taken.map_err(|wait| limited(&grant.rule, wait))?;
        }
        let key = self.key_of(caller, ask, &grant)?;
        let about = |refusal: Refusal| {
            let rule = Arc::clone(&grant.rule);
            Box::new(Refused { refusal: Refusal { rule, ..refusal }, key: Some(key.clone()) })
        };
        let mut need = Need {
            min_validity: ask.min_validity,
            claims: ask.claims.clone(),
            force_refresh: ask.force_refresh,
        };
        let mut served = self.fetch(&key, &need).await.map_err(about)?;
        if let Some(limit) = grant.max_life.filter(|limit| served.age >= *limit) {
            need.force_refresh = true;
            served = self.fetch(&key, &need).await.map_err(about)?;
            if served.age >= limit {
                return Err(about(too_old(limit)));
            }
        }
        // The policy may be another one by now; a yes of the old one does not count.
        let newest = self.policy();
        if !Arc::ptr_eq(&policy, &newest) {
            let again = self.judge(&newest, caller, ask)?;
            if again != grant {
                return Err(about(Refusal::new(
                    RefusalKind::Unavailable,
                    "source_unavailable",
                    "the policy was changed while the token was asked for; ask again",
                )));
            }
        }
        let now = self.clock.now();
        let signed = match (&ask.pop, &self.pop) {
            (Some(pop), Some(signer)) => {
                let signed = signer.sign(&served.token, pop, now);
                Some(signed.map_err(|failure| about(Refusal::of_source(failure)))?)
            }
            _ => None,
        };
        let expires = told_end(served.token.expires, grant.max_life, now);
        Ok(Obtained { grant, key, served, signed, expires })
    }

    /// Writes the event of a token and lets it go.
    pub(super) fn hand_out(&self, caller: &Caller, obtained: Obtained) -> HandOut {
        let Obtained { grant, key, served, signed, expires } = obtained;
        let outcome =
            Outcome::HandedOut { token: &served.token, fresh: served.fresh, age: served.age, expires };
        let correlation = self.audit.note(&Happened {
            caller,
            rule: &grant.rule,
            key: Some(&key),
            resource: key.resource.canonical(),
            outcome,
        });
        HandOut {
            token: served.token,
            signed,
            expires,
            refresh_on: served.refresh_on,
            fresh: served.fresh,
            age: served.age,
            stale: served.stale,
            rule: grant.rule,
            key,
            correlation,
        }
    }

    /// Writes the event of a refusal.
    pub(super) fn refuse(&self, caller: &Caller, ask: &Ask, refused: Box<Refused>) -> Refusal {
        let Refused { mut refusal, key } = *refused;
        refusal.correlation = self.audit.note(&Happened {
            caller,
            rule: &refusal.rule,
            key: key.as_ref(),
            resource: ask.resource.canonical(),
            outcome: Outcome::Refused { word: refusal.word, sentence: &refusal.sentence },
        });
        refusal
    }

    fn judge(&self, policy: &Policy, caller: &Caller, ask: &Ask) -> Result<Grant, Box<Refused>> {
        match policy.decide(caller, ask, &self.identities) {
            Decision::Permit(grant) => Ok(grant),
            Decision::Deny(Denied { rule, word, sentence }) => {
                let refusal = Refusal { rule, ..Refusal::new(RefusalKind::Denied, word, sentence) };
                Err(Box::new(Refused { refusal, key: None }))
            }
        }
    }

    /// What the token is kept under. Whether it handles continuous access evaluation is what this caller
    /// said of itself, so that no other ever gets such a token.
    pub(super) fn key_of(&self, caller: &Caller, ask: &Ask, grant: &Grant) -> Result<TokenKey, Box<Refused>> {
        let pop_key = match (&ask.pop, &self.pop) {
            (None, _) => None,
            (Some(_), Some(signer)) => Some(signer.thumbprint()),
            (Some(_), None) => {
                let sentence =
                    "this daemon keeps no key for proof-of-possession tokens; ask for a bearer token";
                let refusal = Refusal::new(RefusalKind::Misconfigured, "source_refused", sentence);
                let refusal = Refusal { rule: Arc::clone(&grant.rule), ..refusal };
                return Err(Box::new(Refused { refusal, key: None }));
            }
        };
        let kind = self.identity(&grant.identity).map(|info| info.kind);
        let on_behalf_of = match kind {
            Some(IdentityKind::OnBehalfOf) => Some(self.whom_to_act_for(caller.uid, &grant.rule)?),
            _ => None,
        };
        Ok(TokenKey {
            identity: Arc::clone(&grant.identity),
            owner: kind.is_some_and(IdentityKind::is_personal).then_some(caller.uid),
            resource: ask.resource.clone(),
            scopes: ask.scopes.clone(),
            cae: ask.cae,
            pop_key,
            purpose: ask.purpose.max(grant.purpose),
            on_behalf_of,
        })
    }

    /// The object id of the person that an application acts for under this uid.
    fn whom_to_act_for(&self, uid: u32, rule: &Arc<str>) -> Result<String, Box<Refused>> {
        let person = self.people.as_ref().and_then(|people| people.person(uid));
        person.map(|person| person.object_id).ok_or_else(|| {
            let sentence = format!(
                "an identity that acts on behalf of a person needs one, and nobody is signed in under uid {uid}: \
                 run `{SIGN_IN_COMMAND}`"
            );
            let refusal = Refusal::of_source(Failure::new(FailureClass::NeedsUser, sentence));
            Box::new(Refused { refusal: Refusal { rule: Arc::clone(rule), ..refusal }, key: None })
        })
    }

    /// The configured identity of this name.
    #[must_use]
    pub fn identity(&self, name: &str) -> Option<&IdentityInfo> {
        self.identities.by_name(name)
    }

    async fn fetch(&self, key: &TokenKey, need: &Need) -> Result<Served, Refusal> {
        match tokio::time::timeout(MAX_WAIT, self.cache.get(key, need)).await {
            Ok(served) => served.map_err(Refusal::of_source),
            Err(_) => Err(Refusal {
                retry_after: Some(RETRY),
                ..Refusal::new(
                    RefusalKind::Unavailable,
                    "source_unavailable",
                    format!(
                        "the source of the token did not answer within {} s; ask again",
                        MAX_WAIT.as_secs()
                    ),
                )
            }),
        }
    }
}

/// The end that is told. A token cannot be shortened; what a rule's `max_life` can do is to have the caller
/// come back, and to serve no token that came from the source longer ago than that.
fn told_end(expires: Timestamp, max_life: Option<Duration>, now: Timestamp) -> Timestamp {
    max_life.map_or(expires, |limit| {
        let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        expires.min(now.plus(limit))
    })
}

fn limited(rule: &Arc<str>, wait: Duration) -> Box<Refused> {
    // Whole seconds, never 0: what a Retry-After can say.
    let wait = Duration::from_secs(wait.as_secs().saturating_add(1));
    let sentence =
        format!("the rule `{rule}` allows no more questions for {} s; keep the token", wait.as_secs());
    let refusal = Refusal::new(RefusalKind::Limited, "rate_limited", sentence);
    let refusal = Refusal { rule: Arc::clone(rule), retry_after: Some(wait), ..refusal };
    Box::new(Refused { refusal, key: None })
}

fn too_old(limit: Duration) -> Refusal {
    let sentence = format!(
        "the rule serves no token older than {} s, and the source gives no newer one now; ask again",
        limit.as_secs()
    );
    let refusal = Refusal::new(RefusalKind::Unavailable, "source_unavailable", sentence);
    Refusal { retry_after: Some(RETRY), ..refusal }
}
