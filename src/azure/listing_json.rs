//! Role assignments, deny assignments, role definitions and schedule instances as ARM lists them, turned
//! into the facts of `nightlatch_policy`.

use nightlatch_model::{Guid, ObjectId, Timestamp};
use nightlatch_policy::{DenyAssignment, DenyPrincipals, Permissions, RoleAssignment, RoleDefinition, Scope};
use serde::Deserialize;

/// One page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// What stands on it.
    pub value: Vec<T>,
    /// Where the list goes on; empty or absent on the last page.
    pub next_link: Option<String>,
}

/// An object of ARM: its id and what it says.
#[derive(Deserialize)]
pub struct Item<P> {
    id: String,
    properties: P,
}

/// What a role assignment says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    principal_id: ObjectId,
    role_definition_id: String,
    scope: String,
    condition: Option<String>,
}

/// What a deny assignment says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deny {
    scope: String,
    #[serde(default)]
    do_not_apply_to_child_scopes: bool,
    principals: Vec<Principal>,
    #[serde(default)]
    exclude_principals: Vec<Principal>,
    permissions: Vec<RawPermissions>,
    condition: Option<String>,
}

#[derive(Deserialize)]
struct Principal {
    id: ObjectId,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Principal {
    /// Whether the person may be behind this id without having it.
    fn may_be_group(&self) -> bool {
        !matches!(self.kind.as_deref(), Some("User" | "ServicePrincipal"))
    }
}

/// What a role definition says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    #[serde(default)]
    role_name: String,
    permissions: Vec<RawPermissions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RawPermissions {
    actions: Vec<String>,
    not_actions: Vec<String>,
    data_actions: Vec<String>,
    not_data_actions: Vec<String>,
}

/// What a schedule instance says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    origin_role_assignment_id: Option<String>,
    start_date_time: Option<String>,
    end_date_time: Option<String>,
}

impl From<RawPermissions> for Permissions {
    fn from(raw: RawPermissions) -> Self {
        Self {
            actions: raw.actions,
            not_actions: raw.not_actions,
            data_actions: raw.data_actions,
            not_data_actions: raw.not_data_actions,
        }
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).map_err(|e| format!("a scope of the answer cannot be read: {e}"))
}

/// A role assignment, with no window yet.
///
/// # Errors
/// When its scope is none.
pub fn assignment(item: Item<Assignment>) -> Result<RoleAssignment, String> {
    let raw = item.properties;
    Ok(RoleAssignment {
        id: item.id,
        principal: raw.principal_id,
        definition: raw.role_definition_id,
        scope: scope(&raw.scope)?,
        condition: raw.condition.filter(|text| !text.is_empty()),
        starts: None,
        ends: None,
    })
}

/// A deny assignment, and whether it may spare the person through a group that is not known here.
pub struct KnownDeny {
    /// The deny assignment.
    pub deny: DenyAssignment,
    /// Whether it may spare the person.
    pub may_spare: bool,
}

/// `known` is the person and those of their groups that the role assignments showed. The list was filtered
/// by `assignedTo`, so a deny of a group that is not in `known` is taken to be about the person.
///
/// # Errors
/// When its scope is none.
pub fn deny(item: Item<Deny>, known: &[ObjectId]) -> Result<KnownDeny, String> {
    let raw = item.properties;
    let named: Vec<ObjectId> = raw.principals.iter().map(|p| p.id).collect();
    let through_group =
        !named.iter().any(|id| known.contains(id)) && raw.principals.iter().any(Principal::may_be_group);
    let spared: Vec<ObjectId> = raw.exclude_principals.iter().map(|p| p.id).collect();
    let may_spare = raw.exclude_principals.iter().any(|p| !known.contains(&p.id) && p.may_be_group());
    let deny = DenyAssignment {
        id: item.id,
        principals: if through_group { DenyPrincipals::Everyone } else { DenyPrincipals::Listed(named) },
        exclude_principals: spared,
        scope: scope(&raw.scope)?,
        do_not_apply_to_child_scopes: raw.do_not_apply_to_child_scopes,
        permissions: raw.permissions.into_iter().map(Permissions::from).collect(),
        condition: raw.condition.filter(|text| !text.is_empty()),
    };
    Ok(KnownDeny { deny, may_spare })
}

/// A role definition.
#[must_use]
pub fn definition(item: Item<Definition>) -> RoleDefinition {
    RoleDefinition {
        id: item.id,
        name: item.properties.role_name,
        permissions: item.properties.permissions.into_iter().map(Permissions::from).collect(),
    }
}

/// When a role assignment holds, as Privileged Identity Management says.
pub struct Window {
    /// The id of the role assignment.
    pub assignment: String,
    /// The first second in which it holds.
    pub starts: Option<Timestamp>,
    /// The first second in which it no longer holds.
    pub ends: Option<Timestamp>,
}

/// The window of an instance; `None` for one that is not about a role assignment.
///
/// # Errors
/// When a time of it cannot be read.
pub fn window(item: Item<Schedule>) -> Result<Option<Window>, String> {
    let raw = item.properties;
    let time = |text: Option<String>| {
        text.map(|t| {
            Timestamp::from_rfc3339(&t).ok_or_else(|| "a time of the answer cannot be read".to_owned())
        })
        .transpose()
    };
    let (starts, ends) = (time(raw.start_date_time)?, time(raw.end_date_time)?);
    Ok(raw.origin_role_assignment_id.map(|assignment| Window { assignment, starts, ends }))
}

/// The GUID at the end of a definition's id.
#[must_use]
pub fn trailing_guid(id: &str) -> Option<Guid> {
    id.rsplit('/').next()?.parse().ok()
}
