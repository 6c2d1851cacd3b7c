//! What a person who is refused gets to read: one sentence why, and what would help.
//!
//! Printable ASCII only, whatever the facts hold. Nothing here may name another person, a deny
//! assignment or anything else that only an administrator may know: `explain` has that.

use std::sync::Arc;

use nightlatch_model::{Answer, ObjectId, Reason, Role};

use crate::access::{Missing, Ruled, command, sentence};
use crate::answer::{Refused, RoleAnswer, UnknownCause};
use crate::facts::{Facts, LoginRequest, Service};
use crate::grace::{Grace, NoGrace};
use crate::judge::silence;
use crate::scope::Scope;

/// A no, or a "cannot tell" that is refused all the same: [`Denial::answer`] tells them apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    reason: Reason,
    text: String,
    hint: String,
    missing: Vec<Missing>,
    rule: Option<Arc<str>>,
}

impl Denial {
    pub(crate) fn new(reason: Reason, request: &LoginRequest, facts: &Facts) -> Self {
        let mut text = reason.text().to_owned();
        let no_grace = no_grace(reason, request, facts).map(str::to_owned);
        let of_rules = of_rules(reason, &facts.access);
        for detail in [detail(reason, &facts.roles), no_grace, of_rules].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(&detail);
        }
        let (rule, missing) = match &facts.access {
            Ruled::Refuses { reason: own, missing, rule, .. } if *own == reason => {
                (rule.clone(), missing.clone())
            }
            _ => (None, Vec::new()),
        };
        Self { reason, text, hint: hint(reason, request, facts), missing, rule }
    }

    /// The access rule that is the reason, or whose evidence would have helped.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// The evidence that an access rule did not find, where that is the reason.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The one reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether this is a definite no or "could not be found out".
    #[must_use]
    pub const fn answer(&self) -> Answer {
        self.reason.answer()
    }

    /// One sentence for the terminal: printable ASCII.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to do about it, as a command with the object id and the scope filled in where they are known;
    /// `OID` and `SCOPE` stand where they are not. Printable ASCII.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// A time that helps the person, taken from the answer that the reason came from.
fn detail(reason: Reason, roles: &RoleAnswer) -> Option<String> {
    let (refused, unknown) = match roles {
        RoleAnswer::NotGranted(refused) => (Some(refused), None),
        RoleAnswer::Granted(grant) => (grant.admin_refused.as_ref(), grant.unknown.as_ref()),
        RoleAnswer::Unknown(cause) => (None, Some(cause)),
    };
    match (reason, refused, unknown) {
        (Reason::PimNotActive, Some(Refused::PimNotActive { opens: Some(opens), .. }), _) => {
            Some(format!("it becomes active at {opens}"))
        }
        (Reason::PimNotActive, Some(Refused::PimNotActive { ended: Some(ended), .. }), _) => {
            Some(format!("it ended at {ended}"))
        }
        (Reason::Throttled, _, Some(UnknownCause::Throttled { retry_after })) => {
            Some(format!("Azure asks to wait {retry_after} seconds"))
        }
        _ => None,
    }
}

/// Which access rule refuses, and what it misses.
fn of_rules(reason: Reason, ruled: &Ruled) -> Option<String> {
    if let (Ruled::Permits { rule, .. }, Reason::SessionOver | Reason::PolicyChanged) = (ruled, reason) {
        return Some(format!("rule `{rule}`"));
    }
    let Ruled::Refuses { rule, reason: own, missing, .. } = ruled else { return None };
    let by = rule.as_ref().map(|rule| format!("rule `{rule}`"));
    match (*own == reason, missing.is_empty()) {
        (false, _) => None,
        (true, true) => by,
        (true, false) => {
            Some(format!("{} asks for {}", by.as_deref().unwrap_or("the policy"), sentence(missing)))
        }
    }
}

/// Why grace did not stand in for an answer, where that helps the person.
fn no_grace(reason: Reason, request: &LoginRequest, facts: &Facts) -> Option<&'static str> {
    // A refusal for anything but the silence of Azure has nothing to do with grace.
    if silence(request.service, &facts.roles).map(UnknownCause::reason) != Some(reason) {
        return None;
    }
    let was_admin = facts.last.as_ref().is_some_and(|last| last.role == Role::Admin);
    match facts.grace {
        // A living session has the grace of a user.
        Grace::Fails(NoGrace::NotAllowed) if was_admin && request.service != Service::Live => {
            Some("administrators get no grace on this node")
        }
        Grace::Fails(NoGrace::TooOld { .. }) => {
            Some("the last answer of Azure is older than this node allows")
        }
        Grace::Fails(NoGrace::RoleEnded) => Some("your role ended while Azure was silent"),
        Grace::Fails(_) | Grace::Holds { .. } => None,
    }
}

fn hint(reason: Reason, request: &LoginRequest, facts: &Facts) -> String {
    if let Ruled::Refuses { reason: own, missing, .. } = &facts.access
        && *own == reason
    {
        match (missing.is_empty(), reason) {
            (false, _) => return command(missing),
            // A deny rule on the address, the node or the time, which the person cannot show.
            (true, Reason::EvidenceMissing) => {
                return "ask the administrator: whether the rule is meant cannot be told on this node; `nightlatch explain` \
                        says what is not known"
                    .to_owned();
            }
            (true, _) => {}
        }
    }
    let (first, role) = match reason {
        // CheckAccess does not tell a role that is only eligible from one that is not there.
        Reason::NoVmRole => (
            "if it is yours in Privileged Identity Management, activate it; else: ",
            "Virtual Machine User Login",
        ),
        Reason::NoAdminRole => ("", "Virtual Machine Administrator Login"),
        _ => return reason.cure().to_owned(),
    };
    let oid = facts.identity.map_or_else(|| "OID".to_owned(), |(_, oid): (_, ObjectId)| oid.to_string());
    let kind = if request.name.as_object_id().is_some() { "ServicePrincipal" } else { "User" };
    let scope = facts.scope.as_ref().and_then(shell_word).unwrap_or_else(|| "SCOPE".to_owned());
    format!(
        "{first}az role assignment create --assignee-object-id {oid} --assignee-principal-type {kind} --role \"{role}\" --scope {scope}"
    )
}

/// The scope as one word of a shell; `None` when it is not ASCII. A scope holds no quote.
fn shell_word(scope: &Scope) -> Option<String> {
    let text = scope.as_str();
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'));
    Some(if plain { text.to_owned() } else { format!("'{text}'") })
}
