//! What a decision is made from: the question, what was found out, and what the configuration demands.
//!
//! Data only: nothing here decides.

use std::num::NonZeroU32;

use core::net::IpAddr;

use nightlatch_model::{LoginName, ObjectId, TenantId, Timestamp};

use crate::access::{Forwarding, Ruled, SignIn};
use crate::answer::RoleAnswer;
use crate::grace::{FreshYes, Grace};
use crate::scope::Scope;

/// Which door is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// A login through sshd.
    Ssh,
    /// `sudo`: needs the administrator's right.
    Sudo,
    /// Any other PAM service: judged as a login.
    Other,
    /// A session that lives is judged again: as a login, but with the grace of a user.
    Live,
}

impl Service {
    /// From `PAM_SERVICE`; never [`Service::Live`]. `sudo -i` has a service of its own.
    #[must_use]
    pub fn from_pam(service: &str) -> Self {
        match service {
            "sshd" => Self::Ssh,
            "sudo" | "sudo-i" => Self::Sudo,
            _ => Self::Other,
        }
    }
}

/// The question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginRequest {
    /// The door.
    pub service: Service,
    /// The login name; for `sudo` the name of who runs it.
    pub name: LoginName,
}

/// What is known about uids and their owners when the question is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UidFact {
    /// The uid that sshd (`%U`) or PAM holds for this login; without one there is no login.
    pub held: Option<u32>,
    /// The uid that the name has by itself: its override, else its hash.
    pub expected: u32,
    /// To whom the held uid is bound.
    pub owner: Option<ObjectId>,
    /// The uid to which this person is bound.
    pub bound_uid: Option<u32>,
    /// To whom the login name is bound.
    pub name_owner: Option<ObjectId>,
}

/// What was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// True when a certificate was admitted for this name on this connection; for `sudo`, when a session
    /// record says so.
    pub admitted: bool,
    /// The tenant that the certificate or its authority states.
    pub tenant: Option<TenantId>,
    /// Who holds the credential.
    pub identity: Option<(TenantId, ObjectId)>,
    /// Whether the person is a guest of the tenant, where a source says so.
    pub guest: Option<bool>,
    /// The first second in which the credential is no longer valid.
    pub credential_end: Option<Timestamp>,
    /// Names and uids.
    pub uid: UidFact,
    /// The right, at all configured scopes ([`crate::combine`]).
    pub roles: RoleAnswer,
    /// Whether an old yes may stand in for an answer; [`crate::decide`] finds it out. [`Grace::default`]
    /// is none.
    pub grace: Grace,
    /// The yes that [`Facts::grace`] was found from; for the trace and the refusal's words.
    pub last: Option<FreshYes>,
    /// Where a missing role is best assigned (the cluster where there is one); only for the hint.
    pub scope: Option<Scope>,
    /// The sign-in behind the credential, as far as it is known.
    pub sign_in: Option<SignIn>,
    /// Where the connection comes from.
    pub from: Option<IpAddr>,
    /// When the session began that is judged again; `None` for one that is to begin.
    pub began: Option<Timestamp>,
    /// The ways through the session that sshd was told to open; `None` where nothing was told.
    pub told: Option<Forwarding>,
    /// What the access rules say; [`crate::decide`] finds it out.
    pub access: Ruled,
}

/// What the node's configuration demands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The node's tenant.
    pub tenant: TenantId,
    /// Domains whose names are accepted; none listed means any.
    pub domains: Vec<String>,
    /// Whether guests of the tenant may log in.
    pub guests: bool,
    /// The longest permit, in seconds from the moment of the decision.
    pub max_session: Option<NonZeroU32>,
}
