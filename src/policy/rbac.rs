//! Azure RBAC, evaluated here: from role definitions, role assignments and deny assignments.
//!
//! Deny comes first. Only data actions count: a role's name or id never does, and neither does `*` in
//! `actions`, so an Owner does not log in. What cannot be evaluated (a condition, a definition that was
//! not found) never grants and is reported. Source: Microsoft Learn, "What is Azure RBAC", "Understand
//! Azure role definitions", "Understand Azure deny assignments".

use std::cmp::Reverse;

use nightlatch_model::{Guid, ObjectId, Timestamp};

use crate::answer::{Evidence, Refused, Right, RoleAnswer, UnknownCause, lasting, settle};
use crate::decisions::{ActionKind, Requested};
use crate::scope::Scope;

/// One permission object of a role or deny assignment. What it subtracts it subtracts from itself only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// Control-plane actions. They never let anybody log in.
    pub actions: Vec<String>,
    /// Subtracted from `actions`.
    pub not_actions: Vec<String>,
    /// Data-plane actions, with wildcards.
    pub data_actions: Vec<String>,
    /// Subtracted from `data_actions` of this object.
    pub not_data_actions: Vec<String>,
}

impl Permissions {
    /// True when this object holds the data action.
    fn holds(&self, action: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        any(&self.data_actions) && !any(&self.not_data_actions)
    }
}

/// A role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleDefinition {
    /// GUID or full ARM id; the GUID at its end counts.
    pub id: String,
    /// For people; never compared.
    pub name: String,
    /// What it permits: the union of the objects.
    pub permissions: Vec<Permissions>,
}

/// A role given to a principal at a scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleAssignment {
    /// The assignment's id.
    pub id: String,
    /// A person, a service principal or a group.
    pub principal: ObjectId,
    /// GUID or full ARM id of the definition; the GUID at its end counts.
    pub definition: String,
    /// Where it is given.
    pub scope: Scope,
    /// An ABAC condition. Any text at all makes the assignment one that cannot be evaluated here.
    pub condition: Option<String>,
    /// The first second in which it holds (PIM).
    pub starts: Option<Timestamp>,
    /// The first second in which it no longer holds (PIM).
    pub ends: Option<Timestamp>,
}

/// Whom a deny assignment is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DenyPrincipals {
    /// Everybody in the tenant. Azure spells it as the all-zero object id, which counts as this in
    /// [`DenyPrincipals::Listed`] too.
    Everyone,
    /// These people, service principals and groups.
    Listed(Vec<ObjectId>),
}

/// A deny assignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DenyAssignment {
    /// The deny assignment's id.
    pub id: String,
    /// Whom it denies.
    pub principals: DenyPrincipals,
    /// Whom it spares.
    pub exclude_principals: Vec<ObjectId>,
    /// Where.
    pub scope: Scope,
    /// True when it holds at exactly `scope`.
    pub do_not_apply_to_child_scopes: bool,
    /// What it denies: the union of the objects.
    pub permissions: Vec<Permissions>,
    /// A condition, which nothing here can evaluate: the deny counts as if it had none.
    pub condition: Option<String>,
}

/// Everything that an evaluation rests on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RbacFacts {
    /// Roles. Of several definitions with one id all must grant.
    pub definitions: Vec<RoleDefinition>,
    /// At or above the target; others are left out by their scope.
    pub assignments: Vec<RoleAssignment>,
    /// At or above the target; others are left out by their scope.
    pub denies: Vec<DenyAssignment>,
}

/// The data actions that count as the two rights. One action of a list is enough to have its right; a
/// deny of one action of a list is enough to lose it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActionSet {
    /// To log in.
    pub user: Vec<String>,
    /// To be an administrator, beside the right to log in.
    pub admin: Vec<String>,
}

impl ActionSet {
    /// For Azure VMs and AKS nodes.
    #[must_use]
    pub fn azure() -> Self {
        Self {
            user: vec!["Microsoft.Compute/virtualMachines/login/action".to_owned()],
            admin: vec!["Microsoft.Compute/virtualMachines/loginAsAdmin/action".to_owned()],
        }
    }

    /// For machines that Azure Arc connects.
    #[must_use]
    pub fn arc() -> Self {
        Self {
            user: vec!["Microsoft.HybridCompute/machines/login/action".to_owned()],
            admin: vec!["Microsoft.HybridCompute/machines/loginAsAdmin/action".to_owned()],
        }
    }

    /// The questions for a CheckAccess call, and the first argument of [`crate::fold`].
    #[must_use]
    pub fn requested(&self) -> Vec<Requested> {
        let all = |kind: ActionKind, ids: &[String]| -> Vec<Requested> {
            ids.iter().map(|id| Requested { kind, id: id.clone() }).collect()
        };
        [all(ActionKind::User, &self.user), all(ActionKind::Admin, &self.admin)].concat()
    }
}

/// What `principals` (the person and all groups) may be at `scope` at `now`.
///
/// Why there is no right is told in this order: a deny, a definition that was not found, a window that
/// is closed, a condition, no assignment.
pub fn evaluate(
    facts: &RbacFacts,
    principals: &[ObjectId],
    scope: &Scope,
    actions: &ActionSet,
    now: Timestamp,
) -> RoleAnswer {
    if actions.user.is_empty() {
        return RoleAnswer::Unknown(UnknownCause::Upstream("no login action is configured".to_owned()));
    }
    let right = |wanted: &[String]| right(facts, principals, scope, wanted, now);
    settle(right(&actions.user), right(&actions.admin))
}

fn right(
    facts: &RbacFacts,
    principals: &[ObjectId],
    scope: &Scope,
    wanted: &[String],
    now: Timestamp,
) -> Right {
    if wanted.is_empty() {
        // Where no action is accepted, not even a definition that was not found could matter.
        return Right::Refused(Refused::NoAssignment);
    }
    let denied = facts.denies.iter().filter(|deny| {
        deny.applies(principals, scope)
            && wanted.iter().any(|action| deny.permissions.iter().any(|p| p.holds(action)))
    });
    if let Some(id) = denied.map(|deny| &deny.id).min() {
        return Right::Refused(Refused::DenyAssignment { id: id.clone() });
    }

    let mut granted: Vec<(Option<Timestamp>, Evidence)> = Vec::new();
    let mut unknown = Vec::new();
    let mut refused = Vec::new();
    let ours = |a: &&RoleAssignment| principals.contains(&a.principal) && a.scope.covers(scope);
    for assignment in facts.assignments.iter().filter(ours) {
        let action = match facts.grants(&assignment.definition, wanted) {
            Granting::Action(action) => action,
            Granting::Nothing => continue,
            // Neither a closed window nor a condition could grant, whatever the definition says.
            Granting::NoDefinition => {
                if assignment.condition.is_none() && assignment.is_open(now) {
                    unknown.push(UnknownCause::Upstream(format!(
                        "role definition {} was not found",
                        assignment.definition
                    )));
                }
                continue;
            }
        };
        if assignment.condition.is_some() {
            refused.push(Refused::Conditional { assignment: assignment.id.clone() });
        } else if assignment.is_open(now) {
            let evidence = Evidence {
                kind: None,
                scope: Some(assignment.scope.as_str().to_owned()),
                assignment: Some(assignment.id.clone()),
                action: action.to_owned(),
            };
            granted.push((assignment.ends, evidence));
        } else {
            refused.extend(assignment.closed(now));
        }
    }

    // Of several grants the one that lasts longest; what ties depends on is not the order of the facts.
    let best = granted.into_iter().min_by_key(|(ends, evidence)| (Reverse(lasting(*ends)), evidence.clone()));
    if let Some((until, evidence)) = best {
        return Right::Granted { until, evidence };
    }
    if let Some(cause) = UnknownCause::merge(unknown) {
        return Right::Unknown(cause);
    }
    Right::Refused(Refused::merge(refused).unwrap_or(Refused::NoAssignment))
}

enum Granting<'a> {
    Action(&'a str),
    Nothing,
    NoDefinition,
}

impl RbacFacts {
    /// The first wanted action that the role grants.
    fn grants<'a>(&self, definition: &str, wanted: &'a [String]) -> Granting<'a> {
        let Some(id) = trailing_guid(definition) else { return Granting::NoDefinition };
        let same: Vec<&RoleDefinition> =
            self.definitions.iter().filter(|d| trailing_guid(&d.id) == Some(id)).collect();
        if same.is_empty() {
            return Granting::NoDefinition;
        }
        let held = |action: &&String| same.iter().all(|d| d.permissions.iter().any(|p| p.holds(action)));
        wanted.iter().find(held).map_or(Granting::Nothing, |action| Granting::Action(action))
    }
}

impl RoleAssignment {
    fn is_open(&self, now: Timestamp) -> bool {
        self.starts.is_none_or(|starts| starts <= now) && self.ends.is_none_or(|ends| now < ends)
    }

    /// What to say of a window that is not open; nothing of one that never opens.
    fn closed(&self, now: Timestamp) -> Option<Refused> {
        if let Some(ended) = self.ends.filter(|ends| *ends <= now) {
            return Some(Refused::PimNotActive { opens: None, ended: Some(ended) });
        }
        let opens = self.starts.filter(|starts| now < *starts && self.ends.is_none_or(|e| *starts < e))?;
        Some(Refused::PimNotActive { opens: Some(opens), ended: None })
    }
}

impl DenyAssignment {
    fn applies(&self, principals: &[ObjectId], target: &Scope) -> bool {
        let here =
            if self.do_not_apply_to_child_scopes { self.scope == *target } else { self.scope.covers(target) };
        let named = match &self.principals {
            DenyPrincipals::Everyone => true,
            DenyPrincipals::Listed(ids) => ids.iter().any(|id| *id == EVERYONE || principals.contains(id)),
        };
        here && named && !self.exclude_principals.iter().any(|id| principals.contains(id))
    }
}

/// How deny assignments spell "all principals" (Microsoft Learn, "Understand Azure deny assignments").
const EVERYONE: ObjectId = ObjectId(Guid::from_bytes([0; 16]));

/// The GUID at the end of an id; `None` when there is none.
fn trailing_guid(id: &str) -> Option<Guid> {
    id.rsplit('/').next()?.parse().ok()
}

/// True when `pattern` covers `action`: ASCII case does not matter, `*` stands for any text, `/` too.
#[must_use]
pub fn matches(pattern: &str, action: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let action = action.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let Some(mut rest) = action.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The built-in roles that have to do with logging in, for a roles file on a machine that cannot ask
/// Azure (Microsoft Learn, "Azure built-in roles for Compute").
#[must_use]
pub fn builtin_definitions() -> Vec<RoleDefinition> {
    let role = |id: &str, name: &str, actions: &[&str], data: &[&str]| RoleDefinition {
        id: id.to_owned(),
        name: name.to_owned(),
        permissions: vec![Permissions {
            actions: actions.iter().map(|&a| a.to_owned()).collect(),
            data_actions: data.iter().map(|&a| a.to_owned()).collect(),
            ..Permissions::default()
        }],
    };
    vec![
        role(
            "1c0163c0-47e6-4577-8991-ea5c82e286e4",
            "Virtual Machine Administrator Login",
            &[],
            &[
                "Microsoft.Compute/virtualMachines/login/action",
                "Microsoft.Compute/virtualMachines/loginAsAdmin/action",
                "Microsoft.HybridCompute/machines/login/action",
                "Microsoft.HybridCompute/machines/loginAsAdmin/action",
            ],
        ),
        role(
            "fb879df8-f326-4884-b1cf-06f3ad86be52",
            "Virtual Machine User Login",
            &[],
            &[
                "Microsoft.Compute/virtualMachines/login/action",
                "Microsoft.HybridCompute/machines/login/action",
            ],
        ),
        role(
            "602da2ba-a5c2-41da-b01d-5360126ab525",
            "Virtual Machine Local User Login",
            &[
                "Microsoft.HybridCompute/*/read",
                "Microsoft.HybridConnectivity/endpoints/listCredentials/action",
            ],
            &[],
        ),
        role(
            "66f75aeb-eabe-4b70-9f1e-c350c4c9ad04",
            "Virtual Machine Data Access Administrator (preview)",
            &[
                "Microsoft.Authorization/roleAssignments/write",
                "Microsoft.Authorization/roleAssignments/delete",
            ],
            &[],
        ),
    ]
}
