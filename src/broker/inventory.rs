//! What the broker tells about itself: who the caller is to it, what the policy would say, which
//! identities it grants, which tokens are kept. Nothing here asks a source, and nothing here tells a token.

use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::Timestamp;
use nightlatch_tokens::policy::{Decision, RuleTrace};
use nightlatch_tokens::{Ask, Caller, Failure, FailureClass, IdentityInfo, Place, TokenKey};

use super::cache::KeptToken;
use super::refusal::Refusal;
use super::service::Broker;
use super::sign_in::{LoginWish, SignIn, SignInSteps, SignedIn};

/// What a question would be answered.
pub struct Explanation {
    /// Whether a token would be handed out.
    pub allowed: bool,
    /// The rule that decides, or `default`.
    pub rule: Arc<str>,
    /// The word of a refusal; empty for a yes.
    pub word: &'static str,
    /// What it means, and what to do about a refusal.
    pub sentence: String,
    /// Each rule in order.
    pub trace: Vec<RuleTrace>,
    /// The identity that a yes would use.
    pub identity: Option<Arc<str>>,
    /// The life that is left of the kept token, where one is kept; seconds.
    pub seconds_left: Option<i64>,
}

/// An identity that the policy grants the caller.
pub struct GrantedIdentity<'a> {
    /// The identity.
    pub info: &'a IdentityInfo,
    /// The resources, canonical; `*` for any.
    pub resources: Vec<String>,
}

/// What the broker sees of a caller.
pub struct Seen {
    /// The names of the rules whose `who` matches.
    pub rules: Vec<Arc<str>>,
    /// The person who signed in under the uid.
    pub person: Option<SignedIn>,
}

impl Broker {
    /// What [`Broker::get`] would answer, without asking anybody, without a token and without an event.
    #[must_use]
    pub fn explain(&self, caller: &Caller, ask: &Ask) -> Explanation {
        let policy = self.policy();
        let trace = policy.trace(caller, ask, &self.identities);
        match policy.decide(caller, ask, &self.identities) {
            Decision::Deny(denied) => Explanation {
                allowed: false,
                rule: denied.rule,
                word: denied.word,
                sentence: denied.sentence,
                trace,
                identity: None,
                seconds_left: None,
            },
            Decision::Permit(grant) => match self.key_of(caller, ask, &grant) {
                Ok(key) => Explanation {
                    allowed: true,
                    sentence: format!(
                        "the rule `{}` allows it with the identity `{}`",
                        grant.rule, grant.identity
                    ),
                    word: "",
                    rule: grant.rule,
                    trace,
                    identity: Some(grant.identity),
                    seconds_left: self.seconds_left(&key),
                },
                Err(refused) => Explanation {
                    allowed: false,
                    rule: grant.rule,
                    word: refused.refusal.word,
                    sentence: refused.refusal.sentence,
                    trace,
                    identity: Some(grant.identity),
                    seconds_left: None,
                },
            },
        }
    }

    fn seconds_left(&self, key: &TokenKey) -> Option<i64> {
        let kept = self.cache.kept().into_iter().find(|kept| kept.key == *key)?;
        Some(kept.expires?.since(self.clock.now())).filter(|left| *left > 0)
    }

    /// The identities that the policy grants the caller, with their resources.
    #[must_use]
    pub fn granted(&self, caller: &Caller) -> Vec<GrantedIdentity<'_>> {
        let grants = self.policy().grants_of(caller);
        let known = grants
            .into_iter()
            .filter_map(|(name, resources)| Some(GrantedIdentity { info: self.identity(&name)?, resources }));
        known.collect()
    }

    /// The kept tokens of the caller's uid; for the node's root those of everybody.
    #[must_use]
    pub fn tokens(&self, caller: &Caller) -> Vec<KeptToken> {
        let mut kept = self.cache.kept();
        if !caller.is_root() {
            kept.retain(|kept| caller.place == Place::Host && kept.key.owner == Some(caller.uid));
        }
        kept
    }

    /// What the broker sees of the caller.
    #[must_use]
    pub fn who_am_i(&self, caller: &Caller) -> Seen {
        Seen {
            rules: self.policy().rules_of(caller),
            person: self.people_of(caller).ok().and_then(|people| people.person(caller.uid)),
        }
    }

    /// The people, for a caller on the node itself. The uid of a process in a container is what whoever
    /// started it chose: it must not sign the node's uid in or out, nor learn who that is.
    fn people_of(&self, caller: &Caller) -> Result<&Arc<dyn SignIn>, Refusal> {
        if caller.place == Place::Host {
            return self.people.as_ref().ok_or_else(no_people);
        }
        let sentence = "people sign in and out on the node itself, and this caller is in a container or could \
                        not be placed";
        Err(Refusal::unknown_caller(sentence))
    }

    /// Begins to sign in the caller's person.
    ///
    /// # Errors
    /// When signing in is not configured.
    pub fn begin_login(&self, caller: &Caller, wish: LoginWish) -> Result<SignInSteps, Refusal> {
        let people = self.people_of(caller)?;
        Ok(people.begin(caller.uid, wish))
    }

    /// Takes what the browser brought back for the caller's uid.
    ///
    /// # Errors
    /// What is wrong with it, or why Entra refused.
    pub async fn finish_login(&self, caller: &Caller, redirect: &str) -> Result<(), Refusal> {
        let people = self.people_of(caller)?;
        people.finish(caller.uid, redirect).await
    }

    /// Forgets the caller's person and every token that was kept for it.
    ///
    /// # Errors
    /// When the sealed file cannot be written; the tokens are gone all the same.
    pub async fn logout(&self, caller: &Caller) -> Result<Option<String>, Refusal> {
        let people = self.people_of(caller)?;
        let uid = caller.uid;
        self.cache.purge(|key| key.owner == Some(uid));
        people.logout(uid).await
    }
}

fn no_people() -> Refusal {
    Refusal::of_source(Failure::new(
        FailureClass::Config,
        "signing in is not configured on this node; set [broker.sign_in] client_id",
    ))
}

/// Seconds of a duration, for surfaces that tell whole ones.
#[must_use]
pub fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A point in time, or 0 for none, for surfaces without an empty value.
#[must_use]
pub fn or_zero(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| at.0)
}

#[cfg(test)]
mod tests {
    use super::super::surface_tests::{Rig, caller};
    use super::*;
    use nightlatch_tokens::IdentityRef;

    #[tokio::test]
    async fn past_bug_46_a_container_cannot_sign_the_node_s_uid_in_or_out() {
        let rig = Rig::new();
        let here = caller(1_000);
        let ask = Ask::new(IdentityRef::Person, "https://vault.azure.net".parse().unwrap());
        assert!(rig.broker.get(&here, &ask).await.is_ok());
        for place in [Place::Container, Place::Unknown] {
            let elsewhere = Caller { place, ..caller(1_000) };
            let refused = [
                rig.broker.begin_login(&elsewhere, LoginWish::default()).map(drop),
                rig.broker.finish_login(&elsewhere, "code=1").await,
                rig.broker.logout(&elsewhere).await.map(drop),
            ];
            for refused in refused {
                assert_eq!(refused.unwrap_err().word, "caller_unknown");
            }
            assert_eq!(rig.broker.who_am_i(&elsewhere).person, None);
            assert!(rig.broker.tokens(&elsewhere).is_empty());
        }
        assert_eq!(rig.broker.tokens(&here).len(), 1, "her tokens are still there");
        assert_eq!(rig.broker.logout(&here).await.unwrap().as_deref(), Some("anna@contoso.com"));
    }
}
