//! Listings of Microsoft.Authorization: role and deny assignments, role definitions, PIM schedule instances,
//! with the filters the REST reference names and `nextLink` paging.

use std::collections::BTreeSet;

use axum::response::Response;
use serde_json::{Value, json};

use super::{error, forbidden};
use crate::access;
use crate::bearer::Caller;
use crate::call::{self, Call};
use crate::clock;
use crate::form;
use crate::rbac::{Assignment, Deny, EVERYONE, RoleDefinition};
use crate::state::World;

/// A `$filter` taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    at_scope: bool,
    /// Object id, with groups followed.
    assigned_to: Option<String>,
    /// Object id, taken alone.
    principal: Option<String>,
}

fn filter(text: &str) -> Option<Filter> {
    let mut filter = Filter::default();
    let lower = text.to_ascii_lowercase();
    for term in lower.split(" and ").map(str::trim).filter(|term| !term.is_empty()) {
        let quoted = term.split('\'').nth(1).map(str::to_owned);
        if term == "atscope()" {
            filter.at_scope = true;
        } else if term.starts_with("assignedto(") {
            filter.assigned_to = Some(quoted?);
        } else if term.starts_with("principalid eq ") {
            filter.principal = Some(quoted?);
        } else {
            return None;
        }
    }
    Some(filter)
}

/// Answer a listing, or one item by id.
pub(super) fn list(
    world: &World,
    call: &Call,
    caller: &Caller,
    scope: &str,
    kind: &str,
    id: Option<&str>,
) -> Response {
    let right = match kind {
        "roleassignments" => "Microsoft.Authorization/roleAssignments/read",
        "denyassignments" => "Microsoft.Authorization/denyAssignments/read",
        "roledefinitions" => "Microsoft.Authorization/roleDefinitions/read",
        _ => "Microsoft.Authorization/roleAssignmentScheduleInstances/read",
    };
    // Role definitions at tenant level are readable by everybody in the tenant.
    let free = kind == "roledefinitions" && scope.is_empty();
    if !free && !access::may_call(world, &caller.oid, right, scope) {
        return forbidden(caller, right, scope);
    }
    let Some(filter) = filter(call.query.text("$filter")) else {
        return error(
            400,
            "InvalidFilter",
            "The filter is not supported. Supported: atScope(), assignedTo('{id}'), principalId eq '{id}'.",
        );
    };
    let items: Vec<Value> = match kind {
        "roledefinitions" => world.roles.definitions.values().map(definition).collect(),
        "denyassignments" => world
            .roles
            .denies
            .iter()
            .filter(|one| deny_listed(world, one, scope, &filter))
            .map(deny)
            .collect(),
        "roleassignments" => listed(world, scope, &filter).map(|one| assignment(world, one)).collect(),
        "roleassignmentscheduleinstances" => {
            listed(world, scope, &filter).map(|one| schedule(world, one)).collect()
        }
        _ => Vec::new(),
    };
    match id {
        None => page(world, call, items),
        Some(id) => match items.iter().find(|item| item.get("name").and_then(Value::as_str) == Some(id)) {
            Some(item) => call::json(200, item),
            None if kind == "roledefinitions" => error(
                404,
                "RoleDefinitionDoesNotExist",
                &format!("The specified role definition with ID '{id}' does not exist."),
            ),
            None => error(404, "RoleAssignmentNotFound", &format!("The assignment '{id}' is not found.")),
        },
    }
}

// Without atScope() a listing also shows what is below the scope.
fn related(world: &World, have: &str, asked: &str, at_scope: bool) -> bool {
    world.roles.at_or_above(have, asked) || (!at_scope && world.roles.at_or_above(asked, have))
}

fn whom(world: &World, filter: &Filter) -> Option<BTreeSet<String>> {
    if let Some(oid) = &filter.assigned_to {
        let mut all = world.directory.groups_of(oid);
        all.insert(oid.clone());
        return Some(all);
    }
    filter.principal.as_ref().map(|oid| [oid.clone()].into())
}

fn listed<'a>(world: &'a World, scope: &str, filter: &Filter) -> impl Iterator<Item = &'a Assignment> {
    let (whom, at_scope, scope, now) = (whom(world, filter), filter.at_scope, scope.to_owned(), world.now());
    world.roles.assignments.iter().filter(move |one| {
        one.active(now)
            && related(world, &one.scope, &scope, at_scope)
            && whom.as_ref().is_none_or(|ids| ids.contains(&one.principal_id.to_ascii_lowercase()))
    })
}

fn deny_listed(world: &World, one: &Deny, scope: &str, filter: &Filter) -> bool {
    related(world, &one.scope, scope, filter.at_scope)
        && whom(world, filter).is_none_or(|ids| {
            one.principals.iter().any(|id| id == EVERYONE || ids.contains(&id.to_ascii_lowercase()))
        })
}

fn definition(role: &RoleDefinition) -> Value {
    let kind = if role.custom { "CustomRole" } else { "BuiltInRole" };
    json!({
        "id": format!("/providers/Microsoft.Authorization/roleDefinitions/{}", role.id),
        "name": role.id,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role.name, "type": kind, "description": role.name,
            "assignableScopes": ["/"], "permissions": role.permissions,
        },
    })
}

// Full ARM id of a role as assignments refer to it.
fn role_id(scope: &str, id: &str) -> String {
    let bare = id.rsplit('/').next().unwrap_or(id);
    let mut parts = scope.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(first), Some(subscription)) if first.eq_ignore_ascii_case("subscriptions") => {
            format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{bare}")
        }
        _ => format!("/providers/Microsoft.Authorization/roleDefinitions/{bare}"),
    }
}

fn principal_type(world: &World, id: &str) -> &'static str {
    match world.directory.principals.get(&id.to_ascii_lowercase()) {
        Some(principal) => principal.arm_type(),
        None if world.directory.groups.contains_key(&id.to_ascii_lowercase()) => "Group",
        None => "Unknown",
    }
}

fn assignment(world: &World, one: &Assignment) -> Value {
    let made = clock::iso(one.starts.unwrap_or(1_700_000_000));
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", one.scope.trim_end_matches('/'), one.id),
        "name": one.id,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "roleDefinitionId": role_id(&one.scope, &one.role_definition_id),
            "principalId": one.principal_id,
            "principalType": principal_type(world, &one.principal_id),
            "scope": one.scope,
            "condition": one.condition,
            "conditionVersion": one.condition.as_ref().map(|_| "2.0"),
            "createdOn": made, "updatedOn": made, "createdBy": "", "updatedBy": "",
            "delegatedManagedIdentityResourceId": null, "description": null,
        },
    })
}

fn schedule(world: &World, one: &Assignment) -> Value {
    let activated = one.starts.is_some() || one.ends.is_some();
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/roleAssignmentScheduleInstances/{}", one.scope.trim_end_matches('/'), one.id),
        "name": one.id,
        "type": "Microsoft.Authorization/RoleAssignmentScheduleInstances",
        "properties": {
            "assignmentType": if activated { "Activated" } else { "Assigned" },
            "startDateTime": clock::iso(one.starts.unwrap_or(1_700_000_000)),
            "endDateTime": one.ends.map(clock::iso),
            "memberType": "Direct",
            "originRoleAssignmentId": format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", one.scope.trim_end_matches('/'), one.id),
            "principalId": one.principal_id,
            "principalType": principal_type(world, &one.principal_id),
            "roleDefinitionId": role_id(&one.scope, &one.role_definition_id),
            "scope": one.scope,
            "status": "Provisioned",
            "condition": one.condition,
            "conditionVersion": one.condition.as_ref().map(|_| "2.0"),
        },
    })
}

fn deny(one: &Deny) -> Value {
    let people = |ids: &BTreeSet<String>| -> Vec<Value> {
        let kind = |id: &str| if id == EVERYONE { "SystemDefined" } else { "Unknown" };
        ids.iter().map(|id| json!({"id": id, "type": kind(id), "displayName": "", "email": ""})).collect()
    };
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/denyAssignments/{}", one.scope.trim_end_matches('/'), one.id),
        "name": one.id,
        "type": "Microsoft.Authorization/denyAssignments",
        "properties": {
            "denyAssignmentName": one.name,
            "description": "",
            "permissions": one.permissions,
            "scope": one.scope,
            "doNotApplyToChildScopes": one.do_not_apply_to_child_scopes,
            "principals": people(&one.principals),
            "excludePrincipals": people(&one.exclude_principals),
            "isSystemProtected": true,
        },
    })
}

fn page(world: &World, call: &Call, items: Vec<Value>) -> Response {
    let skip: usize = call.query.text("$skiptoken").parse().unwrap_or(0);
    let size = world.pdp.arm_page_size.max(1);
    let total = items.len();
    let shown: Vec<Value> = items.into_iter().skip(skip).take(size).collect();
    let mut body = json!({"value": shown});
    if let (true, Some(members)) = (skip + size < total, body.as_object_mut()) {
        let kept: Vec<String> = call
            .query
            .pairs()
            .iter()
            .filter(|(name, _)| name != "$skiptoken")
            .map(|(name, value)| format!("{name}={}", form::encode(value)))
            .collect();
        let link =
            format!("https://{}{}?{}&$skiptoken={}", call.authority, call.path, kept.join("&"), skip + size);
        members.insert("nextLink".into(), link.into());
    }
    call::json(200, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_others_refused() {
        let both = filter("atScope() and assignedTo('AB')").unwrap();
        assert_eq!(both, Filter { at_scope: true, assigned_to: Some("ab".into()), principal: None });
        assert_eq!(filter("principalId eq 'x'").unwrap().principal.as_deref(), Some("x"));
        assert_eq!(filter("").unwrap(), Filter::default());
        assert_eq!(filter("roleDefinitionId eq 'x'"), None);
    }
}
