//! Where the broker's tokens come from: each configured identity with the one way to its tokens.
//!
//! Nothing here keeps a token or runs a program; a question goes out, an answer comes back, and who
//! called decides about the next one. The person's identity belongs to another source and is handed on.

mod application;
mod files;
mod gate;
mod machine;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::{
    Claims, Failure, FailureClass, IdentityTable, PERSON, PopAsk, Purpose, Resource, Token, TokenKey,
};

pub use gate::{APART, AT_ONCE, Gate};
pub use settings::{Application, IdentitySettings, Proof, SettingsError, TokenProxy, Way};

use self::application::{KnownApplication, random_guid};
use self::machine::{Machine, Pace};
use super::{Fetching, PopSigner, Source};
use crate::clock::Clock;
use crate::entra::http::Http;
use crate::entra::oauth::pop::{LazyPopKey, PopError, SignedRequest};
use crate::imds::{Himds, Imds, ManagedId};

/// The ways out of the node.
pub struct Reach {
    /// To Entra.
    pub http: Http,
    /// To the instance metadata service.
    pub imds: Imds,
    /// To the Arc agent.
    pub himds: Himds,
}

enum Known {
    Managed(ManagedId),
    Arc(Option<String>),
    Application(KnownApplication),
    OnBehalfOf(KnownApplication),
}

/// All identities but the people's.
pub struct Sources {
    table: IdentityTable,
    known: HashMap<Arc<str>, Known>,
    http: Http,
    machine: Machine,
    person: Option<Arc<dyn Source>>,
    pop: LazyPopKey,
    clock: Clock,
}

impl Sources {
    /// The sources of these identities. `person` answers for whoever signed in.
    #[must_use]
    pub fn new(
        settings: Vec<IdentitySettings>,
        reach: Reach,
        person: Option<Arc<dyn Source>>,
        clock: Clock,
    ) -> Self {
        let Reach { http, imds, himds } = reach;
        let table = IdentityTable::new(settings.iter().map(IdentitySettings::info).collect());
        let known = settings.into_iter().map(|one| {
            let known = match one.way {
                Way::Managed(which) => Known::Managed(which),
                Way::Arc(resource_id) => Known::Arc(resource_id),
                Way::Application(application) => Known::Application(KnownApplication::new(application)),
                Way::OnBehalfOf(application) => Known::OnBehalfOf(KnownApplication::new(application)),
            };
            (one.name, known)
        });
        let machine = Machine { imds, himds, gate: Gate::new(), pace: Pace::DOCUMENTED };
        Self { table, known: known.collect(), http, machine, person, pop: LazyPopKey::default(), clock }
    }

    /// The identities in the order of the configuration, and the person.
    #[must_use]
    pub const fn identities(&self) -> &IdentityTable {
        &self.table
    }

    /// The thumbprint of the key that tokens are bound to, which belongs into their key; empty when the
    /// key cannot be made, which the question then says. The first call makes the key, a tenth of a second
    /// of work: make it when the daemon starts, off the threads that answer.
    #[must_use]
    pub fn pop_thumbprint(&self) -> String {
        self.pop.get().map_or_else(|_| String::new(), |key| key.kid().to_owned())
    }

    /// The signed request that `ask` describes, around `token`, which is bound to our key.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be signed.
    pub fn signed_request(&self, token: &Token, ask: &PopAsk, now: Timestamp) -> Result<Secret, Failure> {
        let random = random_guid()?.to_string().replace('-', "");
        let nonce = ask.nonce().unwrap_or(&random);
        let request = SignedRequest { token: &token.secret, u: ask.u(), nonce, now };
        self.pop.get().and_then(|key| key.sign(&request)).map_err(|error| unbound(&error))
    }

    /// The `req_cnf` for the key that `key` names.
    fn bound(&self, application: &KnownApplication, key: &TokenKey) -> Result<Option<String>, Failure> {
        let Some(kid) = &key.pop_key else { return Ok(None) };
        if !application.can_be_bound() {
            return Err(Failure::new(
                FailureClass::Config,
                "tokens with proof of possession are for identities with a secret or a certificate only",
            ));
        }
        let ours = self.pop.get().map_err(|error| unbound(&error))?;
        if ours.kid() == kid {
            return Ok(Some(ours.req_cnf()));
        }
        let sentence = "the key that this token was to be bound to is gone: ask again";
        Err(Failure::new(FailureClass::Transient, sentence))
    }

    async fn ask(&self, key: &TokenKey, claims: Option<&Claims>) -> Result<Token, Failure> {
        if *key.identity == *PERSON {
            return self.person()?.fetch(key, claims).await;
        }
        let known = self.known.get(&key.identity).ok_or_else(|| {
            Failure::new(
                FailureClass::Config,
                "this identity is not configured (any more): see `[[broker.identity]]`",
            )
        })?;
        let plain = key.scopes.is_empty() && key.pop_key.is_none();
        match known {
            Known::Managed(_) | Known::Arc(_) if !plain => Err(Failure::new(
                FailureClass::Config,
                "a managed identity has neither delegated scopes nor proof of possession: ask for the resource alone",
            )),
            Known::Managed(which) => self.machine.managed(which, &key.resource, &self.clock).await,
            Known::Arc(id) => self.machine.arc(id.as_deref(), &key.resource, &self.clock).await,
            Known::Application(application) => {
                let bound = self.bound(application, key)?;
                application.token((&self.http, &self.clock), key, claims, bound.as_deref(), None).await
            }
            Known::OnBehalfOf(application) => {
                let bound = self.bound(application, key)?;
                let person = self.assertion_for(application, key).await?;
                let out = (&self.http, &self.clock);
                application.token(out, key, claims, bound.as_deref(), Some(&person)).await
            }
        }
    }

    fn person(&self) -> Result<&Arc<dyn Source>, Failure> {
        self.person.as_ref().ok_or_else(|| {
            Failure::new(
                FailureClass::Config,
                "nobody can sign in on this node: set `broker.sign_in.client_id`",
            )
        })
    }

    /// The signed-in person's token for the application that acts for them. It never leaves this room.
    async fn assertion_for(&self, application: &KnownApplication, key: &TokenKey) -> Result<Token, Failure> {
        let Some(owner) = key.owner else {
            let sentence = "an identity that acts on behalf of a person needs one: run `nightlatch login`";
            return Err(Failure::new(FailureClass::NeedsUser, sentence));
        };
        let resource: Resource = application.settings.client_id.to_string().parse().map_err(|_| {
            Failure::new(FailureClass::Config, "the client id of this identity is no resource")
        })?;
        let theirs = TokenKey {
            identity: PERSON.into(),
            owner: Some(owner),
            resource,
            scopes: Vec::new(),
            cae: false,
            pop_key: None,
            purpose: Purpose::Program,
            on_behalf_of: None,
        };
        let token = self.person()?.fetch(&theirs, None).await?;
        // Somebody else may have signed in under this uid since the question was asked.
        match (&key.on_behalf_of, &token.stamp.oid) {
            (Some(meant), Some(oid)) if !oid.eq_ignore_ascii_case(meant) => Err(Failure::new(
                FailureClass::Transient,
                "another person has signed in under this uid meanwhile: ask again",
            )),
            _ => Ok(token),
        }
    }
}

fn unbound(error: &PopError) -> Failure {
    Failure::new(FailureClass::Transient, error.to_string())
}

impl PopSigner for Sources {
    fn thumbprint(&self) -> String {
        self.pop_thumbprint()
    }

    fn sign(&self, token: &Token, pop: &PopAsk, now: Timestamp) -> Result<Secret, Failure> {
        self.signed_request(token, pop, now)
    }
}

impl Source for Sources {
    fn fetch<'a>(&'a self, key: &'a TokenKey, claims: Option<&'a Claims>) -> Fetching<'a> {
        Box::pin(self.ask(key, claims))
    }

    fn circuit(&self, key: &TokenKey) -> String {
        match (self.known.get(&key.identity), &self.person) {
            (Some(Known::Managed(_)), _) => "imds".to_owned(),
            (Some(Known::Arc(_)), _) => "himds".to_owned(),
            (Some(Known::Application(it) | Known::OnBehalfOf(it)), _) => {
                format!("{} {}", it.settings.login, it.settings.client_id)
            }
            (None, Some(person)) if *key.identity == *PERSON => person.circuit(key),
            (None, _) => format!("unknown {}", key.identity),
        }
    }
}
