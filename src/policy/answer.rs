//! What is known about a person's right on this node, whatever back end found it out.
//!
//! Three answers, never two: granted, not granted, and "could not be found out". Nothing here turns
//! the third into either of the others.

use std::fmt;

use nightlatch_model::{Reason, Role, Timestamp};

/// Which of the configured role scopes an answer is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ScopeKind {
    /// The node's own resource id.
    Node,
    /// The cluster that the node belongs to.
    Cluster,
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
        })
    }
}

/// What a grant rests on: for `explain` and the audit event, never for a decision.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Evidence {
    /// Which configured scope was asked about; filled in by [`crate::combine`].
    pub kind: Option<ScopeKind>,
    /// Where the role is assigned, if the back end said so.
    pub scope: Option<String>,
    /// The role assignment, if the back end named it.
    pub assignment: Option<String>,
    /// The data action that was granted.
    pub action: String,
}

/// A right that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The strongest role.
    pub role: Role,
    /// When the right to log in ends, if it has an end (PIM).
    pub until: Option<Timestamp>,
    /// When the administrator's right ends, if it has an end; `None` for [`Role::User`].
    pub admin_until: Option<Timestamp>,
    /// What the right to log in rests on.
    pub evidence: Evidence,
    /// What the administrator's right rests on; `None` for [`Role::User`].
    pub admin_evidence: Option<Evidence>,
    /// Why a [`Role::User`] is no administrator, when there is more to say than "no such role".
    pub admin_refused: Option<Refused>,
    /// What could not be found out beside this grant; it never adds to the grant.
    pub unknown: Option<UnknownCause>,
}

/// Why there is no right.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refused {
    /// A deny assignment forbids it.
    DenyAssignment {
        /// The deny assignment.
        id: String,
    },
    /// The role is assigned for another time.
    PimNotActive {
        /// When the next window opens, if one is known.
        opens: Option<Timestamp>,
        /// When the last window ended, if one has.
        ended: Option<Timestamp>,
    },
    /// The only grant carries a condition, which nothing here can evaluate.
    Conditional {
        /// The role assignment.
        assignment: String,
    },
    /// No role gives the right.
    NoAssignment,
}

impl Refused {
    /// The word for the person.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::DenyAssignment { .. } => Reason::DenyAssignment,
            Self::PimNotActive { .. } => Reason::PimNotActive,
            Self::Conditional { .. } => Reason::ConditionalRole,
            Self::NoAssignment => Reason::NoVmRole,
        }
    }

    /// The one of several refusals that says most: a deny, then a window (all windows in one), then a
    /// condition. The order of the input does not matter.
    pub(crate) fn merge(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(|a, b| match (a, b) {
            (Self::PimNotActive { opens: o1, ended: e1 }, Self::PimNotActive { opens: o2, ended: e2 }) => {
                Self::PimNotActive { opens: o1.into_iter().chain(o2).min(), ended: e1.max(e2) }
            }
            // The variants stand in this order in the enum.
            (a, b) => a.min(b),
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DenyAssignment { id } => write!(f, "deny assignment {id}"),
            Self::PimNotActive { opens: Some(opens), .. } => write!(f, "role not active before {opens}"),
            Self::PimNotActive { ended: Some(ended), .. } => write!(f, "role not active since {ended}"),
            Self::PimNotActive { .. } => f.write_str("role not active"),
            Self::Conditional { assignment } => write!(f, "role assignment {assignment} has a condition"),
            Self::NoAssignment => f.write_str("no role assignment"),
        }
    }
}

/// Why the right could not be found out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum UnknownCause {
    /// This node may not ask. Never the person's denial.
    NodeNotPermitted,
    /// Azure throttles.
    Throttled {
        /// Seconds after which Azure wants to be asked again.
        retry_after: u64,
    },
    /// Azure does not know this node, yet.
    ScopeUnknown,
    /// No answer, or one that cannot be believed.
    Upstream(
        /// What happened, for the journal.
        String,
    ),
}

impl UnknownCause {
    /// The word for the person.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NodeNotPermitted => Reason::NodeNotPermitted,
            Self::Throttled { .. } => Reason::Throttled,
            Self::ScopeUnknown => Reason::ScopeUnknown,
            Self::Upstream(_) => Reason::UpstreamUnknown,
        }
    }

    /// The one of several causes that an administrator must look at first; of several throttles the
    /// longest. The order of the input does not matter.
    pub(crate) fn merge(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(|a, b| match (a, b) {
            (Self::Throttled { retry_after: x }, Self::Throttled { retry_after: y }) => {
                Self::Throttled { retry_after: x.max(y) }
            }
            (a, b) => a.min(b),
        })
    }
}

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeNotPermitted => f.write_str("this node may not ask"),
            Self::Throttled { retry_after } => write!(f, "throttled for {retry_after} s"),
            Self::ScopeUnknown => f.write_str("scope not known to Azure"),
            Self::Upstream(text) => write!(f, "{}", text.escape_debug()),
        }
    }
}

/// The answer to "what may this person be on this node?".
#[expect(clippy::large_enum_variant, reason = "one or two live at a time; a box would only be in the way")]
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum RoleAnswer {
    /// There is a right.
    Granted(Grant),
    /// There is definitely none.
    NotGranted(Refused),
    /// It could not be found out.
    Unknown(UnknownCause),
}

/// One of the two rights (to log in, to be an administrator) before they are put together.
pub(crate) enum Right {
    Granted { until: Option<Timestamp>, evidence: Evidence },
    Refused(Refused),
    Unknown(UnknownCause),
}

/// The documented design of the login roles: `login` makes a user, `login` and `loginAsAdmin` an
/// administrator. `loginAsAdmin` alone opens nothing: no built-in role has it alone, and a custom role
/// that lacks `login` was not written to let people in.
pub(crate) fn settle(user: Right, admin: Right) -> RoleAnswer {
    let (until, evidence) = match user {
        Right::Granted { until, evidence } => (until, evidence),
        Right::Refused(refused) => return RoleAnswer::NotGranted(refused),
        Right::Unknown(cause) => return RoleAnswer::Unknown(cause),
    };
    let mut grant = Grant {
        role: Role::User,
        until,
        admin_until: None,
        evidence,
        admin_evidence: None,
        admin_refused: None,
        unknown: None,
    };
    match admin {
        Right::Granted { until: admin_until, evidence } => {
            grant.role = Role::Admin;
            grant.admin_until = earlier(admin_until, until);
            grant.admin_evidence = Some(evidence);
        }
        Right::Refused(Refused::NoAssignment) => {}
        Right::Refused(refused) => grant.admin_refused = Some(refused),
        Right::Unknown(cause) => grant.unknown = Some(cause),
    }
    RoleAnswer::Granted(grant)
}

/// The earlier of two ends, where `None` is no end.
pub(crate) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// An order of ends in which "no end" comes last.
pub(crate) fn lasting(end: Option<Timestamp>) -> (bool, Option<Timestamp>) {
    (end.is_none(), end)
}
