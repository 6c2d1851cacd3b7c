//! The decision: facts and rules in, verdict out.
//!
//! Everything here is a pure and total function: the same inputs give the same answer, so that an
//! auditor can replay any login. Nothing here may read a clock, a file, the network or chance, and
//! nothing outside this room can build a [`Permit`].

mod answer;
mod combine;
mod decisions;
mod denial;
mod judge;
mod rbac;
mod scope;

pub use answer::{Evidence, Grant, Refused, RoleAnswer, ScopeKind, UnknownCause};
pub use combine::combine;
pub use decisions::{Access, ActionKind, Decision, Requested, fold, shortest_ttl_ms};
pub use denial::Denial;
pub use judge::{
    Facts, Judgement, LoginRequest, Outcome, Permit, Rules, Service, Step, UidFact, Verdict, judge,
};
pub use rbac::{
    ActionSet, DenyAssignment, DenyPrincipals, Permissions, RbacFacts, RoleAssignment, RoleDefinition,
    builtin_definitions, evaluate, matches,
};
pub use scope::{Scope, ScopeError};
