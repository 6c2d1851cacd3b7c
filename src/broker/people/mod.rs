//! The people who signed in on this node: at most one for each uid, with a sealed refresh token.
//!
//! A token is fetched for the uid that signed in and for nobody else: no name, id or spelling reaches
//! somebody else's. A new refresh token is on the disk before the access token that came with it leaves.
//! A refresh token never leaves this room, and one that was taken back is never sent again.

mod login;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nightlatch_model::{ObjectId, TenantId};
use nightlatch_tokens::{Claims, Failure, FailureClass, PERSON, Resource, Token, TokenKey};

use self::login::Logins;
use self::record::Record;
use super::{Fetching, Source};
use crate::clock::Clock;
use crate::entra::sign_in::{PersonId, RefreshError, Refreshed, SignIn};
use crate::store::sealed::{Sealed, SealedError};

pub use login::{
    BEGIN_WINDOW, LOGIN_LIMIT, LoginError, LoginWish, MAX_BEGINS, MAX_BEGINS_OF_UID, MAX_LOGINS,
    MAX_LOGINS_OF_UID, MAX_SCOPES, Progress, WAITING_EVERY,
};

/// What a person types to sign in.
pub const LOGIN_COMMAND: &str = "nightlatch login";
/// The most people signed in at a time.
pub const MAX_PEOPLE: usize = 128;

/// How people sign in here.
#[derive(Clone)]
pub struct Settings {
    /// Scopes that every sign-in asks consent for.
    pub scopes: Vec<String>,
    /// Whether a code on another device is allowed.
    pub device_code: bool,
    /// How long a sign-in may take; [`LOGIN_LIMIT`] unless a test cannot wait.
    pub login_limit: Duration,
}

/// Who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The name to show; never compared.
    pub username: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub object_id: ObjectId,
}

impl From<PersonId> for SignedIn {
    fn from(person: PersonId) -> Self {
        Self { username: person.username, tenant: person.tenant, object_id: person.object_id }
    }
}

/// One sign-in of one uid. Another sign-in is another value, also of the same person.
struct Account {
    who: SignedIn,
    /// Set when it has ended; nothing that is still under way may be served or stored for it.
    ended: AtomicBool,
    /// Held while the refresh token is used or written: each refresh uses the newest one.
    turn: tokio::sync::Mutex<()>,
}

impl Account {
    fn new(who: SignedIn) -> Arc<Self> {
        Arc::new(Self { who, ended: AtomicBool::new(false), turn: tokio::sync::Mutex::new(()) })
    }
}

type OnChange = Box<dyn Fn(u32) + Send + Sync>;
type OnWithdrawn = Box<dyn Fn(ObjectId) + Send + Sync>;

struct Inner {
    sign_in: SignIn,
    settings: Settings,
    sealed: Arc<Sealed>,
    clock: Clock,
    people: Mutex<HashMap<u32, Arc<Account>>>,
    logins: Mutex<Logins>,
    /// Held while somebody signs in or out.
    changing: tokio::sync::Mutex<()>,
    on_change: OnceLock<OnChange>,
    on_withdrawn: OnceLock<OnWithdrawn>,
}

/// The people. Cloning shares them.
#[derive(Clone)]
pub struct People(Arc<Inner>);

impl People {
    /// Takes up who was signed in when the sealed store was written last. A record that is bound to
    /// another tenant or application than `sign_in` is left alone and not used.
    #[must_use]
    pub fn open(sign_in: SignIn, settings: Settings, sealed: Arc<Sealed>, clock: Clock) -> Self {
        let mut people = HashMap::new();
        for name in sealed.names(record::PREFIX) {
            let read = sealed.get(&name).and_then(|bytes| Record::read(&name, &bytes));
            if let Some(record) = read.filter(|record| record.is_bound_to(&sign_in)) {
                people.insert(record.uid, Account::new(record.who));
            }
        }
        Self(Arc::new(Inner {
            sign_in,
            settings,
            sealed,
            clock,
            people: Mutex::new(people),
            logins: Mutex::new(Logins::default()),
            changing: tokio::sync::Mutex::new(()),
            on_change: OnceLock::new(),
            on_withdrawn: OnceLock::new(),
        }))
    }

    /// What is called with the uid after somebody signed in or out: whatever is kept for it, tokens and
    /// failures, must go. Only the first one counts.
    pub fn on_change(&self, forget: impl Fn(u32) + Send + Sync + 'static) {
        // A second one would have to be a mistake of the composition, and the first is the cache's.
        let _ = self.0.on_change.set(Box::new(forget));
    }

    /// What is called with the person when Entra took their sign-in back (`invalid_grant` to a refresh). Only
    /// the first one counts.
    pub fn on_withdrawn(&self, hear: impl Fn(ObjectId) + Send + Sync + 'static) {
        let _ = self.0.on_withdrawn.set(Box::new(hear));
    }

    /// Who is signed in under `uid`.
    #[must_use]
    pub fn person(&self, uid: u32) -> Option<SignedIn> {
        self.0.account(uid).map(|account| account.who.clone())
    }

    /// Signs `uid`'s person out: the refresh token is off the disk when this returns. Says who it was.
    ///
    /// # Errors
    /// [`LoginError::NotStored`] when the disk refuses; the person is signed out in memory all the same.
    pub async fn logout(&self, uid: u32) -> Result<Option<SignedIn>, LoginError> {
        let inner = Arc::clone(&self.0);
        // In a task of its own: a client that goes away must not leave it half done.
        detached(async move {
            let _changing = inner.changing.lock().await;
            inner.logins().forget(uid);
            let account = inner.account(uid);
            let done = match &account {
                Some(account) => inner.end(uid, account).await,
                // There may be a record of another tenant or application, which is not used.
                None => inner.on_disk(move |sealed| sealed.remove(&record::name_of(uid))).await.map(drop),
            };
            done.map_err(|error| LoginError::NotStored(error.to_string()))?;
            Ok(account.map(|account| account.who.clone()))
        })
        .await
        .unwrap_or(Err(LoginError::Ended))
    }
}

impl Source for People {
    fn fetch<'a>(&'a self, key: &'a TokenKey, claims: Option<&'a Claims>) -> Fetching<'a> {
        Box::pin(async move {
            let plain = &*key.identity == PERSON && key.pop_key.is_none() && key.on_behalf_of.is_none();
            let Some(uid) = key.owner.filter(|_| plain) else {
                let sentence =
                    "a person's token is for the uid that signed in, and of no other kind than bearer";
                return Err(Failure::new(FailureClass::Config, sentence));
            };
            let account = self.0.account(uid).ok_or_else(|| nobody(uid))?;
            let inner = Arc::clone(&self.0);
            let (resource, scopes, cae) = (key.resource.clone(), key.scopes.clone(), key.cae);
            let claims = claims.cloned();
            // In a task of its own: an answer holds the next refresh token, and must be stored although
            // whoever asked went away.
            detached(
                async move { inner.rotate(uid, &account, &resource, &scopes, claims.as_ref(), cae).await },
            )
            .await
            .unwrap_or_else(|| Err(Failure::new(FailureClass::Transient, "the question ended: ask again")))
        })
    }

    fn circuit(&self, _: &TokenKey) -> String {
        self.0.sign_in.circuit()
    }
}

impl Inner {
    fn people(&self) -> MutexGuard<'_, HashMap<u32, Arc<Account>>> {
        // The map is whole between any two statements.
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, uid: u32) -> Option<Arc<Account>> {
        self.people().get(&uid).cloned()
    }

    /// One use of the refresh token.
    async fn rotate(
        self: &Arc<Self>,
        uid: u32,
        account: &Arc<Account>,
        resource: &Resource,
        scopes: &[String],
        claims: Option<&Claims>,
        cae: bool,
    ) -> Result<Token, Failure> {
        let turn = account.turn.lock().await;
        let name = record::name_of(uid);
        // What an earlier refresh could not write must be on the disk before there is yet another one.
        let newest = move |sealed: &Sealed| {
            sealed.flush()?;
            Ok(sealed.get(&name).and_then(|bytes| Record::read(&name, &bytes)))
        };
        let record = self.on_disk(newest).await.map_err(|error| not_stored(&error))?;
        let bound = |record: &Record| record.who.object_id == account.who.object_id;
        let record = record.filter(|record| bound(record) && record.is_bound_to(&self.sign_in));
        let Some(record) = record.filter(|_| !account.ended.load(Ordering::SeqCst)) else {
            return Err(nobody(uid));
        };
        let now = self.clock.now();
        let answer = self.sign_in.refresh(&record.refresh_token, resource, scopes, claims, cae, now).await;
        let failure = match answer {
            Ok(answer) if answer.person.object_id == account.who.object_id => {
                return self.keep(uid, account, record, answer).await;
            }
            // Bound at the first sign-in to uid, person, application and tenant: an answer about
            // anybody else ends it, whoever of them is right.
            Ok(_) => Failure::new(
                FailureClass::NeedsUser,
                "Entra's answer was about another person, so the sign-in was ended: sign in again",
            ),
            Err(RefreshError::NotOurs(error)) => {
                let sentence = format!("{error}; the sign-in was ended");
                Failure::new(FailureClass::NeedsUser, sentence)
            }
            Err(RefreshError::Failed(failure)) if failure.class != FailureClass::Revoked => {
                return Err(with_command(failure, claims));
            }
            Err(RefreshError::Failed(failure)) => {
                if let Some(hear) = self.on_withdrawn.get() {
                    hear(account.who.object_id);
                }
                failure
            }
        };
        // Before the next one has its turn: this refresh token is never sent again.
        account.ended.store(true, Ordering::SeqCst);
        drop(turn);
        let _changing = self.changing.lock().await;
        // Ended in memory whatever the disk says; the next write takes it off there as well.
        let _ = self.end(uid, account).await;
        Err(with_command(failure, None))
    }

    /// Stores the next refresh token, and only then lets the access token go.
    async fn keep(
        self: &Arc<Self>,
        uid: u32,
        account: &Arc<Account>,
        record: Record,
        answer: Refreshed,
    ) -> Result<Token, Failure> {
        if let Some(next) = answer.refresh_token
            && next.expose() != record.refresh_token.expose()
        {
            let bytes = Record { refresh_token: next, ..record }.write();
            let name = record::name_of(uid);
            self.on_disk(move |sealed| sealed.put(&name, bytes)).await.map_err(|error| not_stored(&error))?;
        }
        if account.ended.load(Ordering::SeqCst) { Err(nobody(uid)) } else { Ok(answer.token) }
    }

    /// Ends a sign-in: nothing of it is served from now on, and what is written of it is removed. To be
    /// called while [`Self::changing`] is held.
    async fn end(self: &Arc<Self>, uid: u32, account: &Arc<Account>) -> Result<(), SealedError> {
        account.ended.store(true, Ordering::SeqCst);
        // Waits for a refresh that is under way; it may still write its token, which goes right after.
        let _turn = account.turn.lock().await;
        let current = self.account(uid).is_some_and(|have| Arc::ptr_eq(&have, account));
        if !current {
            return Ok(());
        }
        self.people().remove(&uid);
        let name = record::name_of(uid);
        let removed = self.on_disk(move |sealed| sealed.remove(&name)).await;
        self.changed(uid);
        removed.map(drop)
    }

    /// Takes up a person who has just signed in, in place of whoever was signed in under `uid`.
    async fn take_up(
        self: &Arc<Self>,
        uid: u32,
        person: PersonId,
        refresh_token: nightlatch_model::Secret,
    ) -> Result<SignedIn, LoginError> {
        let _changing = self.changing.lock().await;
        let before = self.account(uid);
        if before.is_none() && self.people().len() >= MAX_PEOPLE {
            return Err(LoginError::TooManyPeople);
        }
        let who = SignedIn::from(person);
        let record = Record { uid, who: who.clone(), client: self.sign_in.client(), refresh_token };
        let (name, bytes) = (record::name_of(uid), record.write());
        // A refresh of the person before must not write its token over the new one.
        let turn = match &before {
            Some(before) => Some(before.turn.lock().await),
            None => None,
        };
        let stored = self.on_disk(move |sealed| sealed.put(&name, bytes)).await;
        if !matches!(stored, Err(SealedError::Full)) {
            if let Some(before) = &before {
                before.ended.store(true, Ordering::SeqCst);
            }
            drop(turn);
            let name = record::name_of(uid);
            if stored.is_ok() {
                self.people().insert(uid, Account::new(who.clone()));
            } else {
                // Neither of the two can be told to last.
                self.people().remove(&uid);
                let _ = self.on_disk(move |sealed| sealed.remove(&name)).await;
            }
            self.changed(uid);
        }
        stored.map_err(|error| LoginError::NotStored(error.to_string()))?;
        Ok(who)
    }

    fn changed(&self, uid: u32) {
        if let Some(forget) = self.on_change.get() {
            forget(uid);
        }
    }

    /// Runs `work`, which waits for the disk, where waiting hurts nobody.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sealed) -> Result<T, SealedError> + Send + 'static,
    ) -> Result<T, SealedError> {
        let sealed = Arc::clone(&self.sealed);
        // A panic of the store is none of a result; it cannot have been written.
        tokio::task::spawn_blocking(move || work(&sealed)).await.unwrap_or(Err(SealedError::Crypto))
    }
}

/// Runs `work` to its end, also when whoever waits for it goes away. `None` when it panicked.
async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

fn nobody(uid: u32) -> Failure {
    let sentence = format!("nobody is signed in under uid {uid}: run `{LOGIN_COMMAND}`");
    Failure::new(FailureClass::NeedsUser, sentence)
}

fn not_stored(error: &SealedError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let sentence = format!("the sign-in cannot be kept ({error}{cause}), so no token is handed out");
    Failure::new(FailureClass::Transient, sentence)
}

/// What needs a person says what the person has to type, and with which claims where Entra did not say.
fn with_command(mut failure: Failure, claims: Option<&Claims>) -> Failure {
    if matches!(failure.class, FailureClass::NeedsUser | FailureClass::Revoked) {
        failure.sentence = format!("{}: run `{LOGIN_COMMAND}`", failure.sentence);
        failure.claims = failure.claims.or_else(|| claims.map(|claims| claims.as_str().to_owned()));
    }
    failure
}
