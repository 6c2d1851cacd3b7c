//! PAM's auth question where a sign-in at the prompt is asked for: whoever lacks only what a sign-in would show is given a
//! code to sign in with on another device, and what that shows is put beside their certificate for this one login.
//!
//! Nothing here lets anybody in. It asks for nothing before sshd has said which certificate was proven, and that must be the
//! one which the hook was last asked about; what was shown counts for the same certificate of the same connection, and for
//! the same person. The account question decides with it.

mod device;
mod table;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_jwt::Refusal;
use nightlatch_model::{AuthContext, Guid, LoginName, ObjectId, Reason, Secret, TenantId};
use nightlatch_policy::{Denial, Missing, Outcome, Service, Step, Verdict, shown_by_a_sign_in};
use nightlatch_wire::{Message, Parent, Prompt, PromptStage};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::info;

pub(super) use self::device::DeviceCode;
pub(super) use self::table::{Ended, Prompts, State};
use super::credential::{Credential, address};
use super::gate::{Gate, lock};
use super::observed::proof_of;
use super::offer::digest_of;
use crate::login::{LastCall, Prompted, clean, read_prompted};

/// How long one question about the end of a sign-in is held before the answer "not yet". The program behind PAM counts on it.
const HOLD: Duration = Duration::from_secs(5);
/// How long the first question may take, with all that is asked of Azure and of Entra: less than the program behind PAM waits.
const BEGIN_LIMIT: Duration = Duration::from_secs(7);
/// The longest that a person is waited for, whatever LoginGraceTime is: the program behind PAM ends itself at 10 min.
const MAX_WAIT: Duration = Duration::from_secs(540);
/// How much before LoginGraceTime the wait ends, so that the person still reads why.
const BEFORE_GRACE_ENDS: Duration = Duration::from_secs(5);
/// Less time than this is not worth a code.
const LEAST_WAIT: Duration = Duration::from_secs(15);
/// The clock tick in which the kernel tells when a process began (USER_HZ is 100 on x86 and ARM, proc_pid_stat(5)).
const TICK: Duration = Duration::from_millis(10);
/// How often, and how many times, a token whose key is not known yet is looked at again.
const KEY_PAUSE: Duration = Duration::from_secs(1);
const KEY_TRIES: u32 = 4;

/// What is asked of Entra for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// An authentication context that the sign-in must satisfy.
    pub context: Option<AuthContext>,
}

/// A sign-in that was begun.
pub struct Begun {
    /// What the person types.
    pub code: String,
    /// Where: an `https` address.
    pub page: String,
    /// How long the code is good.
    pub good_for: Duration,
    /// The ID token, once the person signed in; not read yet.
    pub over: Pin<Box<dyn Future<Output = Result<Secret, String>> + Send>>,
}

/// Whoever lets people sign in on another device.
pub trait SignInElsewhere: Send + Sync {
    /// Begins a sign-in.
    fn begin<'a>(
        &'a self,
        wanted: Wanted,
    ) -> Pin<Box<dyn Future<Output = Result<Begun, String>> + Send + 'a>>;

    /// The application that people sign in to.
    fn client(&self) -> Guid;
}

/// A code that a person can be shown.
struct Code {
    begun: Begun,
    denial: Denial,
    identity: (TenantId, ObjectId),
    client: Guid,
    runtime: Handle,
}

/// A connection that has proven a certificate.
struct Proven {
    monitor: Parent,
    row: LastCall,
    digest: [u8; 32],
}

impl Gate {
    /// The auth question where a sign-in at the prompt may be asked for.
    pub async fn step_up(self: &Arc<Self>, prompt: &Prompt) -> Message {
        let Some(proven) = self.proven(prompt) else {
            let text = Reason::NoAdmit.text().to_owned();
            return Message::Deny { code: Reason::NoAdmit.word().to_owned(), text };
        };
        match prompt.stage {
            PromptStage::Begin => self.begin_prompt(prompt, proven).await,
            PromptStage::Shown => match lock(&self.prompts).of(proven.monitor, &proven.digest) {
                Some(_) => Message::Done,
                None => Message::None,
            },
            PromptStage::Over => self.prompt_over(&proven).await,
        }
    }

    /// The connection whose last hook call was about the certificate that sshd says was proven.
    fn proven(&self, prompt: &Prompt) -> Option<Proven> {
        let monitors = lock(&self.monitors);
        let (monitor, row) = monitors.find(&prompt.parents, self.clock().boot())?;
        let (_, key) = proof_of(&prompt.auth).1?;
        let digest = digest_of(key)?;
        let fits = Service::from_pam(&prompt.service) == Service::Ssh
            && row.user == prompt.user
            && row.admitted.is_some()
            && row.digest == Some(digest);
        fits.then(|| Proven { monitor, row: row.clone(), digest })
    }

    async fn begin_prompt(self: &Arc<Self>, prompt: &Prompt, proven: Proven) -> Message {
        let opened = TICK.saturating_mul(u32::try_from(proven.monitor.start).unwrap_or(u32::MAX));
        let wait = self.settings.login_grace.min(MAX_WAIT).saturating_sub(BEFORE_GRACE_ENDS);
        // sshd counts from the beginning of the connection.
        let left = || opened.saturating_add(wait).saturating_sub(self.clock().boot());
        // Whatever comes in the way: the account question says no, and how the evidence is got elsewhere.
        let code = timeout(BEGIN_LIMIT, self.code_for(prompt, &proven.row, left)).await;
        let Some(code) = code.ok().flatten() else { return Message::Done };
        let limit = left().min(code.begun.good_for);
        let text = format!(
            "{}\nopen {} and enter the code {} within {} s{}\nthen press Enter here: no password is asked for",
            code.denial.text(),
            code.begun.page,
            code.begun.code,
            limit.as_secs(),
            anew(&code.denial)
        );
        let (tell, told) = watch::channel(State::Waits);
        if !lock(&self.prompts).insert(proven.monitor, proven.digest, code.identity.1, told) {
            return self.no_code(&prompt.user, "too many such sign-ins wait");
        }
        lock(&self.monitors).pin(proven.monitor);
        info!("{} is asked to sign in at the prompt, ref {}", prompt.user, proven.row.correlation);
        let (gate, identity, over) = (Arc::clone(self), code.identity, code.begun.over);
        code.runtime.spawn(async move {
            let over = async {
                let shown = async {
                    match over.await {
                        Ok(token) => gate.shown(&token, code.client, identity).await,
                        Err(why) => State::Ended(Ended::Failed(why)),
                    }
                };
                timeout(limit, shown).await.unwrap_or(State::Ended(Ended::Late))
            };
            // What nobody asks about any more is not waited for.
            let state = tokio::select! { state = over => state, () = tell.closed() => return };
            let _ = tell.send(state);
        });
        Message::Text(text)
    }

    /// A code for a login that lacks what a sign-in would show.
    async fn code_for(&self, prompt: &Prompt, row: &LastCall, left: impl Fn() -> Duration) -> Option<Code> {
        let elsewhere = self.outside.prompt.clone()?;
        let name = LoginName::parse(&prompt.user).ok()?;
        let (denial, identity) = self.lacks_a_sign_in(prompt, row, &name).await?;
        let contexts = self.access_rules();
        let wanted = wanted(contexts.contexts_of(denial.rule()?))?;
        if left() < LEAST_WAIT {
            return None;
        }
        let boot = self.clock().boot();
        if !lock(&self.limits).prompts.take(identity.1, boot) || !lock(&self.prompts).has_room() {
            self.no_code(&prompt.user, "too many such sign-ins were begun, or wait");
            return None;
        }
        let client = elsewhere.client();
        let runtime = self.background.clone().unwrap_or_else(Handle::current);
        match runtime.spawn(async move { elsewhere.begin(wanted).await }).await {
            Ok(Ok(begun)) => Some(Code { begun, denial, identity, client, runtime }),
            Ok(Err(why)) => {
                self.no_code(&prompt.user, &why);
                None
            }
            Err(_) => None,
        }
    }

    fn no_code(&self, name: &str, why: &str) -> Message {
        let name = clean(name);
        self.recorder().complain(format!("{name} is not asked to sign in at the prompt: {}", clean(why)));
        Message::Done
    }

    /// The refusal that this login comes to, where a sign-in could show all that is missing; and whose login it is.
    async fn lacks_a_sign_in(
        &self,
        prompt: &Prompt,
        row: &LastCall,
        name: &LoginName,
    ) -> Option<(Denial, (TenantId, ObjectId))> {
        let from = address(&prompt.rhost);
        let mut credential = Credential { from, ..Credential::of_login(Some(row), name) };
        self.identify(name, &mut credential).await;
        let identity = credential.identity?;
        if self.withdrawn(&credential).is_some() {
            return None;
        }
        let known = self.roles_of(&credential, Service::Ssh).await;
        let ruling = self.rule(Service::Ssh, name, &credential, known.answer, self.moment());
        let Verdict::Denial(denial) = ruling.judgement.verdict else { return None };
        let access = self.access_rules();
        let contexts = access.contexts_of(denial.rule()?);
        shown_by_a_sign_in(denial.reason(), denial.missing(), contexts).then_some((denial, identity))
    }

    /// Reads what the sign-in gave.
    async fn shown(&self, token: &Secret, client: Guid, identity: (TenantId, ObjectId)) -> State {
        for _ in 0..KEY_TRIES {
            let now = self.moment().wall;
            let Some(rules) = self.settings.admit.openpubkey.as_ref() else { break };
            let read = read_prompted(token.expose(), rules, client, &self.facts().token_keys, now);
            match read {
                Ok(prompted) if (prompted.tid, prompted.oid) != identity => {
                    return State::Ended(Ended::SomebodyElse);
                }
                Ok(prompted) => return State::Shown(Arc::new(prompted)),
                Err(Refusal::UnknownKey) => {
                    self.unknown_key.notify_one();
                    sleep(KEY_PAUSE).await;
                }
                Err(refusal) => return State::Ended(Ended::NotTaken(refusal.to_string())),
            }
        }
        State::Ended(Ended::NotTaken(Refusal::UnknownKey.to_string()))
    }

    async fn prompt_over(&self, proven: &Proven) -> Message {
        // One that had to make way has no end to wait for.
        let Some(mut told) = lock(&self.prompts).of(proven.monitor, &proven.digest) else {
            return Message::Done;
        };
        let over = told.wait_for(|state| !matches!(state, State::Waits));
        match timeout(HOLD, over).await {
            Err(_) => Message::None,
            // Which end it was, the account question tells; also where nobody will ever say.
            Ok(_) => Message::Done,
        }
    }

    /// Puts what was shown at the prompt beside the certificate of a login, or says why nothing was: the words for the person.
    pub(super) fn add_prompted(
        &self,
        monitor: Parent,
        row: &LastCall,
        credential: &mut Credential,
    ) -> Option<String> {
        let digest = row.digest.filter(|_| credential.admitted)?;
        let told = lock(&self.prompts).of(monitor, &digest)?;
        let state = told.borrow().clone();
        let (input, outcome, note) = match state {
            State::Shown(prompted) => match self.add(&prompted, credential) {
                true => (format!("signed in at {}", prompted.at), Outcome::Pass, None),
                false => ended(&Ended::SomebodyElse),
            },
            State::Ended(why) => ended(&why),
            State::Waits => ended(&Ended::Late),
        };
        let step = Step { rule: "sign-in at the prompt", input, outcome };
        credential.steps = credential.steps.iter().cloned().chain([step]).collect();
        note
    }

    fn add(&self, prompted: &Prompted, credential: &mut Credential) -> bool {
        let same = credential.identity == Some((prompted.tid, prompted.oid));
        if let (true, Some(own)) = (same, credential.sign_in.as_ref()) {
            credential.sign_in = Some(own.with_prompted(&prompted.sign_in, prompted.at));
            credential.guest = credential.guest.or(prompted.guest);
        }
        same
    }
}

fn ended(why: &Ended) -> (String, Outcome, Option<String>) {
    (why.for_administrators(), Outcome::Fail(Reason::StepUp), Some(why.sentence().to_owned()))
}

/// What to ask of Entra, for all contexts of a rule: what the certificate showed of them was shown by another sign-in. `None`
/// where one sign-in cannot show it all.
fn wanted(contexts: &[String]) -> Option<Wanted> {
    match contexts {
        [] => Some(Wanted { context: None }),
        [context] => context.parse().ok().map(|context| Wanted { context: Some(context) }),
        [_, _, ..] => None,
    }
}

/// What to do on the page where its kind or its moment counts. Nothing in this flow makes Entra ask for credentials.
fn anew(denial: &Denial) -> &'static str {
    let anew =
        denial.missing().iter().any(|missing| matches!(missing, Missing::AuthAge(_) | Missing::Amr(_)));
    if anew { "; give your credentials anew there, an open sign-in does not count" } else { "" }
}
