//! CheckAccess, asked in either dialect: one body in, one decision per action out. The v1 (ARM) and v2 (PDP)
//! front ends differ in who may call, in spelling and in paging; the evaluation is this one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ids;
use crate::rbac::{Question, Verdict};
use crate::state::World;

/// The action a caller of CheckAccess needs.
pub(crate) const CHECK_ACCESS: &str = "Microsoft.Authorization/checkAccess/read";

/// A parsed request body.
#[derive(Debug, Clone)]
pub(crate) struct Inquiry {
    pub(crate) subject: String,
    /// Groups the caller listed.
    groups: Vec<String>,
    /// Did the caller ask the service to expand groups (`_claim_names`)?
    expand: bool,
    actions: Vec<(String, bool)>,
    pub(crate) resource: String,
}

/// Read `{"Subject":…,"Actions":…,"Resource":…}`; member names without case.
pub(crate) fn parse(body: &Value) -> Option<Inquiry> {
    let attributes = member(member(body, "Subject")?, "Attributes")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let actions = member(body, "Actions")?.as_array()?;
    let actions: Vec<(String, bool)> = actions
        .iter()
        .map(|action| {
            let data = member(action, "IsDataAction").and_then(Value::as_bool).unwrap_or(false);
            (text(member(action, "Id")), data)
        })
        .collect();
    let groups = member(attributes, "Groups").and_then(Value::as_array).cloned().unwrap_or_default();
    let inquiry = Inquiry {
        subject: text(member(attributes, "ObjectId")).to_ascii_lowercase(),
        groups: groups.iter().filter_map(|id| id.as_str().map(str::to_ascii_lowercase)).collect(),
        expand: text(member(attributes, "_claim_names")).contains("groups")
            || member(attributes, "_claim_names").is_some_and(|names| member(names, "groups").is_some()),
        actions,
        resource: text(member(member(body, "Resource")?, "Id")),
    };
    (ids::is_guid(&inquiry.subject) && !inquiry.actions.is_empty() && inquiry.resource.starts_with('/'))
        .then_some(inquiry)
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// May this caller ask at this scope?
pub(crate) fn may_call(world: &World, oid: &str, action: &str, scope: &str) -> bool {
    let groups = world.directory.groups_of(oid);
    let question = Question {
        principal: oid,
        groups: &groups,
        action,
        is_data_action: false,
        resource: scope,
        now: world.now(),
    };
    matches!(world.roles.judge(&question), Verdict::Allowed(_))
}

/// Which dialect a decision is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// ARM `checkaccess` 2018-09-01-preview.
    Arm,
    /// PDP 2021-06-01-preview: GUIDs without dashes, a numeric reason.
    Pdp,
}

/// One decision per action, in the order asked.
pub(crate) fn decide(world: &World, inquiry: &Inquiry, dialect: Dialect) -> Vec<Value> {
    let mut groups: BTreeSet<String> = inquiry.groups.iter().cloned().collect();
    if inquiry.expand || world.pdp.always_expand_groups {
        groups.extend(world.directory.groups_of(&inquiry.subject));
    }
    let kept = inquiry.actions.iter().filter(|(action, _)| {
        !world.pdp.drop_actions.iter().any(|dropped| dropped.eq_ignore_ascii_case(action))
    });
    kept.map(|(action, is_data_action)| {
        let question = Question {
            principal: &inquiry.subject,
            groups: &groups,
            action,
            is_data_action: *is_data_action,
            resource: &inquiry.resource,
            now: world.now(),
        };
        write(&question, &world.roles.judge(&question), dialect, world.pdp.ttl_ms)
    })
    .collect()
}

// `decisionReason`: 1 and 10 are published observations (allowed by role, nothing granted); the number for a
// deny assignment is not, so none is claimed: it stays 0.
fn write(question: &Question<'_>, verdict: &Verdict<'_>, dialect: Dialect, ttl_ms: u64) -> Value {
    let spell = |guid: &str| match dialect {
        Dialect::Arm => guid.to_owned(),
        Dialect::Pdp => ids::undashed(guid.rsplit('/').next().unwrap_or(guid)),
    };
    let (word, reason, role, deny) = match verdict {
        Verdict::Allowed(grant) => {
            let mut role = json!({
                "id": spell(&grant.id),
                "roleDefinitionId": spell(&grant.role_definition_id),
                "principalId": spell(&grant.principal_id),
                "principalType": "",
                "scope": grant.scope,
                "condition": grant.condition,
                "conditionVersion": grant.condition.as_ref().map(|_| "2.0"),
                "canDelegate": false,
            });
            if let (Dialect::Pdp, Some(members)) = (dialect, role.as_object_mut()) {
                members.retain(|name, _| {
                    ["principalId", "roleDefinitionId", "scope", "id"].contains(&name.as_str())
                });
            }
            ("Allowed", 1, role, Value::Null)
        }
        Verdict::NotAllowed => ("NotAllowed", 10, Value::Null, Value::Null),
        Verdict::Denied(deny) => {
            let body = json!({"id": spell(&deny.id), "scope": deny.scope, "denyAssignmentName": deny.name});
            ("Denied", 0, Value::Null, body)
        }
    };
    let mut decision = json!({
        "accessDecision": word,
        "actionId": question.action,
        "roleAssignment": role,
        "timeToLiveInMs": ttl_ms,
    });
    if let Some(members) = decision.as_object_mut() {
        match dialect {
            Dialect::Arm => {
                members.insert("isDataAction".into(), question.is_data_action.into());
                members.insert("denyAssignment".into(), deny);
            }
            Dialect::Pdp => {
                members.insert("decisionReason".into(), reason.into());
                if !deny.is_null() {
                    members.insert("denyAssignment".into(), deny);
                }
            }
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world;

    const LOGIN: &str = "Microsoft.Compute/virtualMachines/login/action";

    fn inquiry(oid: &str, data: bool, attributes: &Value) -> Inquiry {
        let mut subject = json!({"ObjectId": oid});
        subject.as_object_mut().unwrap().extend(attributes.as_object().cloned().unwrap_or_default());
        let body = json!({
            "Subject": {"Attributes": subject},
            "Actions": [{"Id": LOGIN, "IsDataAction": data}],
            "Resource": {"Id": world::NODE},
        });
        parse(&body).unwrap()
    }

    fn word(oid: &str, data: bool, attributes: &Value) -> String {
        let world = crate::seed::world("t", Vec::new(), Vec::new());
        let decisions = decide(&world, &inquiry(oid, data, attributes), Dialect::Pdp);
        decisions[0]["accessDecision"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_default_world_decides_as_documented() {
        let none = json!({});
        for (who, want) in [
            (world::ALICE, "Allowed"),
            (world::ADELE, "Allowed"),
            (world::NORMAN, "NotAllowed"),
            (world::DORA, "Denied"),
            (world::PETRA, "NotAllowed"),
            (world::MIXED_CASE, "Allowed"),
            (world::BOB, "Allowed"),
            (world::CI_PIPELINE, "Allowed"),
            (world::OLGA, "NotAllowed"),
            (world::CLARA, "NotAllowed"),
            (world::CONRAD, "NotAllowed"),
            (world::GRACE, "NotAllowed"),
        ] {
            assert_eq!(word(who.oid, true, &none), want, "{}", who.upn);
        }
        assert_eq!(word(world::ALICE.oid, false, &none), "NotAllowed");
    }

    #[test]
    fn groups_count_when_listed_or_expanded() {
        let listed = json!({"Groups": [world::GROUP_OUTER]});
        let expanded = json!({"_claim_names": "{\"groups\":\"src1\"}"});
        assert_eq!(word(world::GRACE.oid, true, &listed), "Allowed");
        assert_eq!(word(world::GRACE.oid, true, &expanded), "Allowed");
    }

    #[test]
    fn the_pdp_spells_guids_without_dashes() {
        let world = crate::seed::world("t", Vec::new(), Vec::new());
        let asked = inquiry(world::ALICE.oid, true, &json!({}));
        let pdp = &decide(&world, &asked, Dialect::Pdp)[0];
        assert_eq!(pdp["roleAssignment"]["principalId"], ids::undashed(world::ALICE.oid));
        assert_eq!(pdp["roleAssignment"]["roleDefinitionId"], ids::undashed(world::ROLE_USER_LOGIN));
        assert_eq!((&pdp["decisionReason"], &pdp["timeToLiveInMs"]), (&json!(1), &json!(60_000)));
        let arm = &decide(&world, &asked, Dialect::Arm)[0];
        assert_eq!(arm["roleAssignment"]["principalId"], world::ALICE.oid);
        assert_eq!(arm["isDataAction"], true);
        assert!(
            parse(
                &json!({"Subject": {"Attributes": {"ObjectId": "x"}}, "Actions": [], "Resource": {"Id": "/"}})
            )
            .is_none()
        );
    }
}
