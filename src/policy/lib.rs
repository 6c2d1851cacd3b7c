//! The decision: facts and rules in, verdict out.
//!
//! Everything here is a pure and total function: the same inputs give the same answer, so that an
//! auditor can replay any login. Nothing here may read a clock, a file, the network or chance, and
//! nothing outside this room can build a [`Permit`].

mod access;
mod answer;
mod combine;
mod decide;
mod decisions;
mod denial;
mod facts;
mod grace;
mod judge;
mod rbac;
mod scope;

pub use access::{
    AccessPolicy, AccessRule, AccessRules, Circumstances, DoorKind, Forwarding, Limits, Missing, Network,
    NodeFacts, ProofKind, Require, ResourcePattern, RuleEffect, Ruled, SignIn, Truth, When, Where, Who,
    shown_by_a_sign_in,
};
pub use answer::{Evidence, Grant, Refused, RoleAnswer, ScopeKind, UnknownCause};
pub use combine::combine;
pub use decide::{Effect, Ruling, decide};
pub use decisions::{Access, ActionKind, Decision, Requested, fold, shortest_ttl_ms};
pub use denial::Denial;
pub use facts::{Facts, LoginRequest, Rules, Service, UidFact};
pub use grace::{BootId, FreshYes, Grace, GraceRule, MAX_GRACE, Moment, NoGrace, grace};
pub use judge::{Judgement, Outcome, Permit, Step, Verdict, judge};
pub use rbac::{
    ActionSet, DenyAssignment, DenyPrincipals, Permissions, RbacFacts, RoleAssignment, RoleDefinition,
    builtin_definitions, evaluate, matches,
};
pub use scope::{Scope, ScopeError};
