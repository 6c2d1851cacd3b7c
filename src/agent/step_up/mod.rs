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
use nightlatch_policy::{Denial, Missing, Outcome, Service, Step, Verdict};
use nightlatch_wire::{Message, Parent, Prompt, PromptStage};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub(super) use self::device::DeviceCode;
pub(super) use self::table::{Ended, Prompts, State};
use super::credential::{Credential, address};
use super::gate::{Gate, lock};
use super::offer::digest_of;
use crate::login::{LastCall, Prompted, read_prompted};

/// How long one question about the end of a sign-in is held before the answer "not yet". The program behind PAM counts on it.
const HOLD: Duration = Duration::from_secs(5);
/// The longest that a person is waited for, whatever LoginGraceTime is: the program behind PAM ends itself at 10 min.
const MAX_WAIT: Duration = Duration::from_secs(540);
/// How much before LoginGraceTime the wait ends, so that the person still reads why.
const BEFORE_GRACE_ENDS: Duration = Duration::from_secs(5);
/// Less time than this is not worth a code.
const LEAST_WAIT: Duration = Duration::from_secs(15);
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
        let key = prompt.auth.strip_prefix("publickey ")?.split(' ').nth(1)?;
        let digest = digest_of(key)?;
        let fits = Service::from_pam(&prompt.service) == Service::Ssh
            && row.user == prompt.user
            && row.admitted.is_some()
            && row.digest == Some(digest);
        fits.then(|| Proven { monitor, row: row.clone(), digest })
    }

    async fn begin_prompt(self: &Arc<Self>, prompt: &Prompt, proven: Proven) -> Message {
        // Whatever comes in the way here: the account question says no, and how the evidence is got elsewhere.
        let Some(elsewhere) = self.outside.prompt.clone() else { return Message::Done };
        let Ok(name) = LoginName::parse(&prompt.user) else { return Message::Done };
        let Some((denial, identity)) = self.lacks_a_sign_in(prompt, &proven.row, &name).await else {
            return Message::Done;
        };
        let boot = self.clock().boot();
        let used = proven.row.age(boot).saturating_add(BEFORE_GRACE_ENDS);
        let time_left = self.settings.login_grace.min(MAX_WAIT).saturating_sub(used);
        let Some(wanted) = wanted(&denial).filter(|_| time_left >= LEAST_WAIT) else { return Message::Done };
        if !lock(&self.limits).prompts.take(identity.1, boot)
            || !lock(&self.prompts).has_room(identity.1, proven.monitor)
        {
            warn!("{name} is not asked to sign in at the prompt: too many such sign-ins wait");
            return Message::Done;
        }
        let runtime = self.background.clone().unwrap_or_else(Handle::current);
        let asking = Arc::clone(&elsewhere);
        let begun = runtime.spawn(async move { asking.begin(wanted).await });
        let begun = match timeout(self.settings.wait, begun).await {
            Ok(Ok(Ok(begun))) => begun,
            Ok(Ok(Err(why))) => return self.no_code(&name, &why),
            Ok(Err(_)) | Err(_) => return self.no_code(&name, "Entra did not answer in time"),
        };
        let limit = time_left.min(begun.good_for);
        let text = format!(
            "{}\nopen {} and enter the code {} within {} s\nthen press Enter here: no password is asked for",
            denial.text(),
            begun.page,
            begun.code,
            limit.as_secs()
        );
        let (tell, told) = watch::channel(State::Waits);
        lock(&self.prompts).insert(proven.monitor, proven.digest, identity.1, told);
        info!("{name} is asked to sign in at the prompt, ref {}", proven.row.correlation);
        let gate = Arc::clone(self);
        let client = elsewhere.client();
        runtime.spawn(async move {
            let over = async {
                match timeout(limit, begun.over).await {
                    Ok(Ok(token)) => gate.shown(&token, client, identity).await,
                    Ok(Err(why)) => State::Ended(Ended::Refused(why)),
                    Err(_) => State::Ended(Ended::Late),
                }
            };
            // A connection that is gone, or offers something else by now, has no use for it.
            let state = tokio::select! { state = over => state, () = tell.closed() => return };
            let _ = tell.send(state);
        });
        Message::Text(text)
    }

    fn no_code(&self, name: &LoginName, why: &str) -> Message {
        self.recorder().complain(format!("{name} cannot be asked to sign in at the prompt: {why}"));
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
        let by_signing_in = !denial.missing().is_empty()
            && denial.missing().iter().all(Missing::is_by_sign_in)
            && matches!(denial.reason(), Reason::StepUp | Reason::EvidenceMissing);
        by_signing_in.then_some((denial, identity))
    }

    /// Reads what the sign-in gave.
    async fn shown(&self, token: &Secret, client: Guid, identity: (TenantId, ObjectId)) -> State {
        for _ in 0..KEY_TRIES {
            let now = self.moment().wall;
            let Some(rules) = self.settings.admit.openpubkey.as_ref() else { break };
            let read =
                self.with_facts(|facts| read_prompted(token.expose(), rules, client, &facts.token_keys, now));
            match read {
                Ok(prompted) if (prompted.tid, prompted.oid) != identity => {
                    return State::Ended(Ended::SomebodyElse);
                }
                Ok(prompted) => return State::Shown(Arc::new(prompted)),
                Err(Refusal::UnknownKey) => {
                    self.unknown_key.notify_one();
                    sleep(KEY_PAUSE).await;
                }
                Err(refusal) => return State::Ended(Ended::Refused(refusal.to_string())),
            }
        }
        State::Ended(Ended::Refused(Refusal::UnknownKey.to_string()))
    }

    async fn prompt_over(&self, proven: &Proven) -> Message {
        let Some(mut told) = lock(&self.prompts).of(proven.monitor, &proven.digest) else {
            return Message::Deny { code: Reason::NoAdmit.word().to_owned(), text: String::new() };
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

/// What to ask of Entra; `None` where one sign-in cannot show it all.
fn wanted(denial: &Denial) -> Option<Wanted> {
    let mut contexts = denial.missing().iter().filter_map(|missing| match missing {
        Missing::Acrs(context) => Some(context.parse::<AuthContext>().ok()),
        _ => None,
    });
    match (contexts.next(), contexts.next()) {
        (None, _) => Some(Wanted { context: None }),
        (Some(Some(context)), None) => Some(Wanted { context: Some(context) }),
        _ => None,
    }
}
