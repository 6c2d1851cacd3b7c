//! The evaluation rules one by one, on a world of one role and one principal.

use super::*;

const LOGIN: &str = "Microsoft.Compute/virtualMachines/login/action";
const NODE: &str = "/subscriptions/S1/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/v";

fn permission(data: &[&str], not_data: &[&str]) -> Permission {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    Permission { data_actions: list(data), not_data_actions: list(not_data), ..Permission::default() }
}

fn roles(permissions: Vec<Permission>, scope: &str) -> Roles {
    let mut roles = Roles::default();
    let role = RoleDefinition { id: "r".into(), name: "R".into(), custom: true, permissions };
    roles.definitions.insert("r".into(), role);
    roles.assignments.push(Assignment {
        id: "1".into(),
        principal_id: "p".into(),
        role_definition_id: "/providers/Microsoft.Authorization/roleDefinitions/r".into(),
        scope: scope.into(),
        starts: None,
        ends: None,
        condition: None,
        condition_holds: false,
    });
    roles
}

fn ask(roles: &Roles, principal: &str, groups: &[&str], data: bool) -> &'static str {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let question = Question {
        principal,
        groups: &groups,
        action: LOGIN,
        is_data_action: data,
        resource: NODE,
        now: 100,
    };
    match roles.judge(&question) {
        Verdict::Allowed(_) => "allowed",
        Verdict::NotAllowed => "not",
        Verdict::Denied(_) => "denied",
    }
}

#[test]
fn patterns_span_slashes_and_ignore_case() {
    for (pattern, yes) in [
        ("*", true),
        ("microsoft.compute/*", true),
        ("Microsoft.Compute/*/action", true),
        ("Microsoft.Compute/*/LOGIN/*", true),
        (LOGIN, true),
        ("Microsoft.Compute/virtualMachines/login", false),
        ("Microsoft.Compute/*/read", false),
        ("*/login", false),
        ("", false),
    ] {
        assert_eq!(matches(pattern, LOGIN), yes, "{pattern}");
    }
    assert!(!matches("ab*ba", "aba"));
}

#[test]
fn scopes_count_in_whole_segments() {
    let mut roles = roles(vec![permission(&[LOGIN], &[])], "/subscriptions/s1/resourcegroups/RG/");
    assert_eq!(ask(&roles, "P", &[], true), "allowed");
    for scope in ["/subscriptions/s1/resourceGroups/r", "/subscriptions/s2", &format!("{NODE}/extensions/x")]
    {
        roles.assignments[0].scope = scope.to_owned();
        assert_eq!(ask(&roles, "p", &[], true), "not", "{scope}");
    }
    let group = "/providers/Microsoft.Management/managementGroups/m";
    roles.assignments[0].scope = group.into();
    assert_eq!(ask(&roles, "p", &[], true), "not");
    roles.management_groups.insert("s1".into(), vec![group.to_uppercase()]);
    assert_eq!(ask(&roles, "p", &[], true), "allowed");
    roles.assignments[0].scope = "/".into();
    assert_eq!(ask(&roles, "p", &[], true), "allowed");
}

#[test]
fn subtraction_stays_inside_its_permission() {
    assert_eq!(ask(&roles(vec![permission(&["*"], &["*/login/action"])], "/"), "p", &[], true), "not");
    let two = vec![permission(&["*"], &["*/login/action"]), permission(&[LOGIN], &[])];
    assert_eq!(ask(&roles(two, "/"), "p", &[], true), "allowed");
    assert_eq!(ask(&roles(vec![permission(&[LOGIN], &[])], "/"), "p", &[], false), "not");
}

#[test]
fn windows_and_conditions_close_a_grant() {
    let mut roles = roles(vec![permission(&[LOGIN], &[])], "/");
    for (starts, ends, want) in [
        (Some(100), None, "allowed"),
        (Some(101), None, "not"),
        (None, Some(101), "allowed"),
        (None, Some(100), "not"),
    ] {
        (roles.assignments[0].starts, roles.assignments[0].ends) = (starts, ends);
        assert_eq!(ask(&roles, "p", &[], true), want, "{starts:?} {ends:?}");
    }
    roles.assignments[0].ends = None;
    roles.assignments[0].condition = Some("@Request[x] StringEquals 'y'".into());
    assert_eq!(ask(&roles, "p", &[], true), "not");
    roles.assignments[0].condition_holds = true;
    assert_eq!(ask(&roles, "p", &[], true), "allowed");
}

#[test]
fn deny_beats_allow_except_for_the_excluded() {
    let mut roles = roles(vec![permission(&[LOGIN], &[])], "/");
    roles.denies.push(Deny {
        id: "d".into(),
        name: String::new(),
        scope: "/subscriptions/s1".into(),
        permissions: vec![permission(&["*"], &[])],
        principals: [EVERYONE.to_owned()].into(),
        exclude_principals: BTreeSet::new(),
        do_not_apply_to_child_scopes: false,
    });
    assert_eq!(ask(&roles, "p", &[], true), "denied");
    roles.denies[0].exclude_principals = ["g".to_owned()].into();
    assert_eq!(ask(&roles, "p", &["g"], true), "allowed");
    roles.denies[0].exclude_principals.clear();
    roles.denies[0].do_not_apply_to_child_scopes = true;
    assert_eq!(ask(&roles, "p", &[], true), "allowed");
    roles.denies[0].scope = NODE.to_lowercase();
    assert_eq!(ask(&roles, "p", &[], true), "denied");
}

#[test]
fn a_group_holds_for_its_members() {
    let mut roles = roles(vec![permission(&[LOGIN], &[])], "/");
    roles.assignments[0].principal_id = "G".into();
    assert_eq!(ask(&roles, "p", &["g"], true), "allowed");
    assert_eq!(ask(&roles, "p", &[], true), "not");
}
