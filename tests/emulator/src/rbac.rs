//! Azure role-based access control over the emulated directory: deny assignments first, then the union of
//! role assignments at or above the resource (Microsoft Learn, "What is Azure RBAC", "Understand Azure deny
//! assignments"). It grants nothing on a condition that does not hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The pseudo-principal a deny assignment names to mean everybody.
pub(crate) const EVERYONE: &str = "00000000-0000-0000-0000-000000000000";

/// One permission object; subtraction happens inside it and nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Permission {
    pub(crate) actions: Vec<String>,
    pub(crate) not_actions: Vec<String>,
    pub(crate) data_actions: Vec<String>,
    pub(crate) not_data_actions: Vec<String>,
}

/// A built-in or custom role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoleDefinition {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) custom: bool,
    pub(crate) permissions: Vec<Permission>,
}

/// Somebody holds a role somewhere, for a while or for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    #[serde(default = "crate::ids::guid")]
    pub(crate) id: String,
    pub(crate) principal_id: String,
    pub(crate) role_definition_id: String,
    pub(crate) scope: String,
    /// Unix seconds; a window makes it a PIM activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) starts: Option<i64>,
    /// Unix seconds, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ends: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<String>,
    /// What evaluating `condition` yields; the expression language is not interpreted here.
    #[serde(default)]
    pub(crate) condition_holds: bool,
}

/// Somebody is refused something whatever roles say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deny {
    #[serde(default = "crate::ids::guid")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) scope: String,
    pub(crate) permissions: Vec<Permission>,
    /// Object ids of principals or groups, or [`EVERYONE`].
    pub(crate) principals: BTreeSet<String>,
    #[serde(default)]
    pub(crate) exclude_principals: BTreeSet<String>,
    #[serde(default)]
    pub(crate) do_not_apply_to_child_scopes: bool,
}

/// All roles and assignments of the tenant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Roles {
    pub(crate) definitions: BTreeMap<String, RoleDefinition>,
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) denies: Vec<Deny>,
    /// Management groups above each subscription, nearest first.
    pub(crate) management_groups: BTreeMap<String, Vec<String>>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) principal: &'a str,
    pub(crate) groups: &'a BTreeSet<String>,
    pub(crate) action: &'a str,
    pub(crate) is_data_action: bool,
    pub(crate) resource: &'a str,
    /// Unix seconds.
    pub(crate) now: i64,
}

/// The answer, with what made it so.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict<'a> {
    Allowed(&'a Assignment),
    NotAllowed,
    Denied(&'a Deny),
}

impl Assignment {
    /// Is the window open? Listing and evaluation both leave closed ones out.
    pub(crate) fn active(&self, now: i64) -> bool {
        self.starts.is_none_or(|starts| starts <= now) && self.ends.is_none_or(|ends| now < ends)
    }
}

impl Permission {
    fn covers(&self, action: &str, data: bool) -> bool {
        let (yes, no) = if data {
            (&self.data_actions, &self.not_data_actions)
        } else {
            (&self.actions, &self.not_actions)
        };
        yes.iter().any(|pattern| matches(pattern, action))
            && !no.iter().any(|pattern| matches(pattern, action))
    }
}

impl Roles {
    /// Is `scope` the resource itself or above it? Scopes compare without case, whole segments only.
    pub(crate) fn at_or_above(&self, scope: &str, resource: &str) -> bool {
        let (scope, resource) = (trimmed(scope), trimmed(resource));
        if resource == scope || scope.is_empty() || resource.starts_with(&format!("{scope}/")) {
            return true;
        }
        let subscription = resource.split('/').nth(2).unwrap_or("");
        resource.starts_with("/subscriptions/")
            && self
                .management_groups
                .get(subscription)
                .is_some_and(|groups| groups.iter().any(|group| trimmed(group) == scope))
    }

    /// Judge one question: deny beats allow.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Verdict<'_> {
        let held = |id: &String| {
            id.eq_ignore_ascii_case(question.principal) || question.groups.contains(&id.to_ascii_lowercase())
        };
        let denied = self.denies.iter().find(|deny| {
            let here = if deny.do_not_apply_to_child_scopes {
                trimmed(&deny.scope) == trimmed(question.resource)
            } else {
                self.at_or_above(&deny.scope, question.resource)
            };
            here && deny.principals.iter().any(|id| id == EVERYONE || held(id))
                && !deny.exclude_principals.iter().any(held)
                && deny.permissions.iter().any(|one| one.covers(question.action, question.is_data_action))
        });
        if let Some(deny) = denied {
            return Verdict::Denied(deny);
        }
        let granted = self.assignments.iter().find(|assignment| {
            held(&assignment.principal_id)
                && assignment.active(question.now)
                && (assignment.condition.is_none() || assignment.condition_holds)
                && self.at_or_above(&assignment.scope, question.resource)
                && self.definition(&assignment.role_definition_id).is_some_and(|role| {
                    role.permissions.iter().any(|one| one.covers(question.action, question.is_data_action))
                })
        });
        granted.map_or(Verdict::NotAllowed, Verdict::Allowed)
    }

    /// A role by bare GUID or by full ARM id.
    pub(crate) fn definition(&self, id: &str) -> Option<&RoleDefinition> {
        let bare = id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
        self.definitions.get(&bare)
    }
}

fn trimmed(scope: &str) -> String {
    scope.trim_end_matches('/').to_ascii_lowercase()
}

/// Does an action pattern cover an action? Case is ignored; `*` spans any characters, `/` among them.
pub(crate) fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = action.strip_prefix(first) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or(""),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
#[path = "rbac_tests.rs"]
mod tests;
