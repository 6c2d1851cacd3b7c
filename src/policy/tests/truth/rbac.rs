//! Azure RBAC by example.

use nightlatch_model::{ObjectId, Role, Timestamp};
use nightlatch_policy::{
    ActionSet, DenyAssignment, DenyPrincipals, Permissions, RbacFacts, Refused, RoleAnswer, RoleAssignment,
    UnknownCause, builtin_definitions, evaluate, matches,
};

use crate::given::*;

const CUSTOM: &str = "00000000-0000-0000-0000-0000000000c1";

fn custom(permissions: Vec<Permissions>) -> RbacFacts {
    let mut facts = facts(vec![assignment(CUSTOM)]);
    facts.definitions.push(definition(CUSTOM, permissions));
    facts
}

#[test]
fn the_login_roles_let_in() {
    assert_eq!(role_of(&ask(&facts(vec![assignment(USER_LOGIN)]))), Some(Role::User));
    assert_eq!(role_of(&ask(&facts(vec![assignment(ADMIN_LOGIN)]))), Some(Role::Admin));
    let RoleAnswer::Granted(grant) = ask(&facts(vec![assignment(ADMIN_LOGIN)])) else { panic!("granted") };
    assert_eq!(grant.evidence.action, LOGIN);
    assert_eq!(grant.evidence.scope.as_deref(), Some("/subscriptions/S1"));
    assert_eq!(grant.admin_evidence.unwrap().action, LOGIN_AS_ADMIN);
}

#[test]
fn the_login_roles_let_in_on_arc_machines() {
    let arc = scope("/subscriptions/S1/resourceGroups/r/providers/Microsoft.HybridCompute/machines/m");
    for (id, role) in [(USER_LOGIN, Role::User), (ADMIN_LOGIN, Role::Admin)] {
        let answer = evaluate(&facts(vec![assignment(id)]), &[alice()], &arc, &ActionSet::arc(), NOW);
        assert_eq!(role_of(&answer), Some(role));
    }
}

#[test]
fn nobody_without_an_assignment() {
    assert_eq!(ask(&facts(Vec::new())), RoleAnswer::NotGranted(Refused::NoAssignment));
    assert_eq!(ask(&RbacFacts::default()), RoleAnswer::NotGranted(Refused::NoAssignment));
    let bobs = RoleAssignment { principal: bob(), ..assignment(ADMIN_LOGIN) };
    assert_eq!(ask(&facts(vec![bobs])), RoleAnswer::NotGranted(Refused::NoAssignment));
    let answer = evaluate(&facts(vec![assignment(ADMIN_LOGIN)]), &[], &scope(NODE), &ActionSet::azure(), NOW);
    assert_eq!(answer, RoleAnswer::NotGranted(Refused::NoAssignment));
}

#[test]
fn a_group_lets_in() {
    let group = RoleAssignment { principal: oid(9), ..assignment(USER_LOGIN) };
    let answer =
        evaluate(&facts(vec![group]), &[alice(), oid(8), oid(9)], &scope(NODE), &ActionSet::azure(), NOW);
    assert_eq!(role_of(&answer), Some(Role::User));
}

/// Past bug: `*` in `actions` read as every right.
#[test]
fn owner_does_not_log_in() {
    let star = Permissions { actions: texts(&["*"]), ..Permissions::default() };
    assert_eq!(ask(&custom(vec![star])), RoleAnswer::NotGranted(Refused::NoAssignment));
}

#[test]
fn vm_local_user_login_does_not_log_in() {
    for role in ["602da2ba-a5c2-41da-b01d-5360126ab525", "66f75aeb-eabe-4b70-9f1e-c350c4c9ad04"] {
        assert_eq!(ask(&facts(vec![assignment(role)])), RoleAnswer::NotGranted(Refused::NoAssignment));
    }
}

/// The name of a role is for people: whoever may write roles could call any role anything.
#[test]
fn a_roles_name_grants_nothing() {
    let mut facts = custom(vec![data(&["Microsoft.Storage/*"], &[])]);
    facts.definitions.last_mut().unwrap().name = "Virtual Machine Administrator Login".to_owned();
    assert_eq!(ask(&facts), RoleAnswer::NotGranted(Refused::NoAssignment));
}

#[test]
fn login_as_admin_alone_opens_nothing() {
    let only = custom(vec![data(&[LOGIN_AS_ADMIN], &[])]);
    assert_eq!(ask(&only), RoleAnswer::NotGranted(Refused::NoAssignment));
    // With `login` from another role it makes an administrator.
    let mut both = only;
    both.assignments.push(assignment(USER_LOGIN));
    assert_eq!(role_of(&ask(&both)), Some(Role::Admin));
}

/// Past bug: the role's id compared as text with one of its two spellings.
#[test]
fn a_definition_is_known_by_the_guid_at_its_end() {
    for spelling in [
        "/subscriptions/S1/providers/Microsoft.Authorization/roleDefinitions/FB879DF8-F326-4884-B1CF-06F3AD86BE52",
        "/providers/Microsoft.Authorization/roleDefinitions/fb879df8-f326-4884-b1cf-06f3ad86be52",
        "fb879df8f3264884b1cf06f3ad86be52",
    ] {
        assert_eq!(role_of(&ask(&facts(vec![assignment(spelling)]))), Some(Role::User), "{spelling}");
    }
}

#[test]
fn wildcards() {
    for (pattern, login, admin) in [
        ("*", true, true),
        ("**", true, true),
        ("Microsoft.Compute/*", true, true),
        ("microsoft.compute/*", true, true),
        ("Microsoft.Compute/virtualMachines/*", true, true),
        ("Microsoft.Compute/virtualMachines/*/action", true, true),
        ("Microsoft.Compute/*/action", true, true),
        ("*/login/action", true, false),
        ("*/LOGIN/*", true, false),
        ("*/loginAsAdmin/*", false, true),
        ("Microsoft.Compute/virtualMachines/login*", true, true),
        ("Microsoft.Compute/virtualMachines/login", false, false),
        ("Microsoft.Compute/virtualMachines/login/action/*", false, false),
        ("Microsoft.Compute/virtualMachines/login/action*", true, false),
        ("Microsoft.Compute", false, false),
        ("Microsoft.Compute*", true, true),
        ("Microsoft.ComputeX/*", false, false),
        ("icrosoft.Compute/*", false, false),
        ("*action*action", false, false),
        ("", false, false),
    ] {
        assert_eq!((matches(pattern, LOGIN), matches(pattern, LOGIN_AS_ADMIN)), (login, admin), "{pattern}");
    }
}

/// Past bug: a wildcard that stopped at the slash.
#[test]
fn wildcard_microsoft_compute_star() {
    assert_eq!(role_of(&ask(&custom(vec![data(&["Microsoft.Compute/*"], &[])]))), Some(Role::Admin));
}

#[test]
fn a_wildcard_pattern_takes_no_exponential_time() {
    let pattern = "*a".repeat(2_000);
    assert!(!matches(&pattern, &"a".repeat(1_999)));
    assert!(matches(&pattern, &"a".repeat(4_000)));
}

/// Past bug: `notDataActions` taken for a deny across the whole role, or across roles.
#[test]
fn not_data_actions_subtract_within_their_permission_object_only() {
    let minus = data(&["Microsoft.Compute/*"], &["Microsoft.Compute/virtualMachines/loginAsAdmin/action"]);
    assert_eq!(role_of(&ask(&custom(vec![minus.clone()]))), Some(Role::User));
    // Another object of the same role gives it back.
    let back = data(&[LOGIN_AS_ADMIN], &[]);
    assert_eq!(role_of(&ask(&custom(vec![minus.clone(), back]))), Some(Role::Admin));
    // And so does another role.
    let mut other = custom(vec![minus]);
    other.assignments.push(assignment(ADMIN_LOGIN));
    assert_eq!(role_of(&ask(&other)), Some(Role::Admin));
    // `notActions` have nothing to do with data actions.
    let aside = Permissions { not_actions: texts(&["*"]), ..data(&[LOGIN], &[]) };
    assert_eq!(role_of(&ask(&custom(vec![aside]))), Some(Role::User));
}

/// Past bug: ancestry tested as a string prefix.
#[test]
fn scope_prefix_confusion() {
    for (at, role) in [
        ("/", Some(Role::User)),
        ("/providers/Microsoft.Management/managementGroups/corp", Some(Role::User)),
        ("/subscriptions/s1", Some(Role::User)),
        ("/subscriptions/S1/resourceGroups/mc_rg", Some(Role::User)),
        (NODE, Some(Role::User)),
        ("/subscriptions/S", None),
        ("/subscriptions/S10", None),
        ("/subscriptions/S1/resourceGroups/MC_r", None),
        ("/subscriptions/S1/resourceGroups/MC_rg2", None),
    ] {
        let facts = facts(vec![RoleAssignment { scope: scope(at), ..assignment(USER_LOGIN) }]);
        assert_eq!(role_of(&ask(&facts)), role, "{at}");
    }
    // The same the other way round: the longer id is the target.
    let facts = facts(vec![assignment(USER_LOGIN)]);
    let ten = scope(&NODE.replace("/S1/", "/S10/"));
    assert_eq!(role_of(&evaluate(&facts, &[alice()], &ten, &ActionSet::azure(), NOW)), None);
}

/// Past bug: a condition that nothing evaluates, ignored.
#[test]
fn conditional_only_grant() {
    let conditional =
        RoleAssignment { condition: Some("@Resource[x] == 1".to_owned()), ..assignment(ADMIN_LOGIN) };
    let refused = RoleAnswer::NotGranted(Refused::Conditional { assignment: conditional.id.clone() });
    assert_eq!(ask(&facts(vec![conditional.clone()])), refused);
    // An empty condition is one that nobody understands.
    let empty = RoleAssignment { condition: Some(String::new()), ..conditional.clone() };
    assert_eq!(ask(&facts(vec![empty])), refused);
    // Beside an unconditional grant it adds nothing and takes nothing away; why not admin is told.
    let RoleAnswer::Granted(grant) = ask(&facts(vec![conditional, assignment(USER_LOGIN)])) else {
        panic!("the unconditional role counts")
    };
    assert_eq!(grant.role, Role::User);
    assert!(matches!(grant.admin_refused, Some(Refused::Conditional { .. })));
}

#[test]
fn deny_beats_allow() {
    let mut world = facts(vec![
        assignment(ADMIN_LOGIN),
        RoleAssignment { scope: scope(NODE), ..assignment(ADMIN_LOGIN) },
    ]);
    world.denies = vec![deny(vec![data(&["*"], &[])])];
    assert_eq!(ask(&world), RoleAnswer::NotGranted(denied()));
    // A deny of the admin action takes only that away.
    world.denies = vec![deny(vec![data(&[LOGIN_AS_ADMIN], &[])])];
    let RoleAnswer::Granted(grant) = ask(&world) else { panic!("login is not denied") };
    assert_eq!((grant.role, grant.admin_refused), (Role::User, Some(denied())));
}

#[test]
fn of_two_denies_the_same_one_is_named() {
    let named = |id: &str| DenyAssignment { id: id.to_owned(), ..deny(vec![data(&["*"], &[])]) };
    for denies in [vec![named("d"), named("e")], vec![named("e"), named("d")]] {
        assert_eq!(ask(&RbacFacts { denies, ..facts(Vec::new()) }), RoleAnswer::NotGranted(denied()));
    }
}

#[test]
fn whom_and_where_a_deny_is_about() {
    let all = || vec![data(&["*"], &[])];
    let base = deny(all());
    let at = |text: &str| scope(text);
    let nil: ObjectId = "00000000-0000-0000-0000-000000000000".parse().unwrap();
    let cases = [
        ("as it is", base.clone(), true),
        ("other scope", DenyAssignment { scope: at("/subscriptions/S10"), ..base.clone() }, false),
        (
            "other person",
            DenyAssignment { principals: DenyPrincipals::Listed(vec![bob()]), ..base.clone() },
            false,
        ),
        ("nobody", DenyAssignment { principals: DenyPrincipals::Listed(vec![]), ..base.clone() }, false),
        ("everyone", DenyAssignment { principals: DenyPrincipals::Everyone, ..base.clone() }, true),
        (
            "everyone, as Azure spells it",
            DenyAssignment { principals: DenyPrincipals::Listed(vec![nil]), ..base.clone() },
            true,
        ),
        (
            "everyone but alice",
            DenyAssignment {
                principals: DenyPrincipals::Everyone,
                exclude_principals: vec![alice()],
                ..base.clone()
            },
            false,
        ),
        (
            "everyone but bob",
            DenyAssignment {
                principals: DenyPrincipals::Everyone,
                exclude_principals: vec![bob()],
                ..base.clone()
            },
            true,
        ),
        (
            "everyone but everyone",
            DenyAssignment {
                principals: DenyPrincipals::Everyone,
                exclude_principals: vec![nil],
                ..base.clone()
            },
            true,
        ),
        ("only above", DenyAssignment { do_not_apply_to_child_scopes: true, ..base.clone() }, false),
        (
            "only here",
            DenyAssignment {
                do_not_apply_to_child_scopes: true,
                scope: at(&NODE.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions")),
                ..base.clone()
            },
            true,
        ),
        (
            "only at a management group",
            DenyAssignment {
                do_not_apply_to_child_scopes: true,
                scope: at("/providers/Microsoft.Management/managementGroups/m"),
                ..base.clone()
            },
            false,
        ),
        ("with a condition", DenyAssignment { condition: Some("x".to_owned()), ..base.clone() }, true),
        (
            "but not of logins",
            DenyAssignment {
                permissions: vec![data(&["*"], &["*/login/action", "*/loginAsAdmin/action"])],
                ..base.clone()
            },
            false,
        ),
        (
            "the rest in a second object",
            DenyAssignment {
                permissions: vec![data(&["*"], &["*/action"]), data(&[LOGIN], &[])],
                ..base.clone()
            },
            true,
        ),
        ("of nothing", DenyAssignment { permissions: vec![], ..base }, false),
    ];
    for (name, deny, denies) in cases {
        let mut world = facts(vec![assignment(ADMIN_LOGIN)]);
        world.denies = vec![deny];
        assert_eq!(role_of(&ask(&world)), if denies { None } else { Some(Role::Admin) }, "{name}");
    }
}

/// The node resource group of a cluster is locked by a deny of control actions: not a deny of logins.
#[test]
fn node_resource_group_lockdown_does_not_lock_people_out() {
    let mut world = facts(vec![assignment(USER_LOGIN)]);
    let lock =
        Permissions { actions: texts(&["*"]), not_actions: texts(&["*/read"]), ..Permissions::default() };
    world.denies = vec![DenyAssignment { principals: DenyPrincipals::Everyone, ..deny(vec![lock]) }];
    assert_eq!(role_of(&ask(&world)), Some(Role::User));
}

#[test]
fn windows_open_and_close_to_the_second() {
    let window = |starts: Option<i64>, ends: Option<i64>| {
        ask(&facts(vec![RoleAssignment {
            starts: starts.map(|s| NOW.plus(s)),
            ends: ends.map(|e| NOW.plus(e)),
            ..assignment(USER_LOGIN)
        }]))
    };
    let open = |ends: Option<i64>| {
        let mut grant = grant(Role::User);
        grant.until = ends.map(|e| NOW.plus(e));
        (Some(Role::User), grant.until)
    };
    let until = |answer: RoleAnswer| match answer {
        RoleAnswer::Granted(grant) => (Some(grant.role), grant.until),
        _ => (None, None),
    };
    assert_eq!(until(window(Some(0), None)), open(None));
    assert_eq!(until(window(None, Some(1))), open(Some(1)));
    assert_eq!(until(window(Some(-9), Some(9))), open(Some(9)));
    let closed = |opens: Option<i64>, ended: Option<i64>| {
        RoleAnswer::NotGranted(Refused::PimNotActive {
            opens: opens.map(|s| NOW.plus(s)),
            ended: ended.map(|s| NOW.plus(s)),
        })
    };
    assert_eq!(window(Some(1), None), closed(Some(1), None));
    assert_eq!(window(Some(1), Some(5)), closed(Some(1), None));
    assert_eq!(window(None, Some(0)), closed(None, Some(0)));
    assert_eq!(window(Some(-9), Some(-3)), closed(None, Some(-3)));
    // A window that never opens is no role at all.
    assert_eq!(window(Some(5), Some(5)), RoleAnswer::NotGranted(Refused::NoAssignment));
    assert_eq!(window(Some(7), Some(5)), RoleAnswer::NotGranted(Refused::NoAssignment));
}

#[test]
fn of_several_windows_the_next_and_the_last_are_told() {
    let window = |id: &str, starts: i64, ends: i64| RoleAssignment {
        id: id.to_owned(),
        starts: Some(NOW.plus(starts)),
        ends: Some(NOW.plus(ends)),
        ..assignment(USER_LOGIN)
    };
    let past = [window("1", -90, -50), window("2", -40, -20)];
    let future = [window("3", 30, 60), window("4", 20, 40)];
    let answer = ask(&facts([past.as_slice(), future.as_slice()].concat()));
    let told = Refused::PimNotActive { opens: Some(NOW.plus(20)), ended: Some(NOW.plus(-20)) };
    assert_eq!(answer, RoleAnswer::NotGranted(told));
}

#[test]
fn the_admin_right_ends_by_itself() {
    let pim = RoleAssignment { ends: Some(NOW.plus(60)), ..assignment(ADMIN_LOGIN) };
    let RoleAnswer::Granted(grant) = ask(&facts(vec![pim.clone(), assignment(USER_LOGIN)])) else { panic!() };
    assert_eq!((grant.role, grant.until, grant.admin_until), (Role::Admin, None, Some(NOW.plus(60))));
    // An admin right never outlives the right to log in.
    let admin = RoleAssignment { id: "c".to_owned(), ..assignment(CUSTOM) };
    let mut world = facts(vec![admin, RoleAssignment { ends: Some(NOW.plus(9)), ..assignment(USER_LOGIN) }]);
    world.definitions.push(definition(CUSTOM, vec![data(&[LOGIN_AS_ADMIN], &[])]));
    let RoleAnswer::Granted(grant) = ask(&world) else { panic!() };
    assert_eq!((grant.until, grant.admin_until), (Some(NOW.plus(9)), Some(NOW.plus(9))));
    // Eligible, not activated: a user, and it is told what the admin right waits for.
    let later = RoleAssignment { starts: Some(NOW.plus(60)), ends: None, ..pim };
    let RoleAnswer::Granted(grant) = ask(&facts(vec![later, assignment(USER_LOGIN)])) else { panic!() };
    let waits = Refused::PimNotActive { opens: Some(NOW.plus(60)), ended: None };
    assert_eq!((grant.role, grant.admin_refused), (Role::User, Some(waits)));
}

#[test]
fn a_definition_that_was_not_found_is_no_denial() {
    let lost = assignment("00000000-0000-0000-0000-00000000dead");
    assert!(matches!(ask(&facts(vec![lost.clone()])), RoleAnswer::Unknown(UnknownCause::Upstream(_))));
    assert!(matches!(ask(&facts(vec![assignment("no guid")])), RoleAnswer::Unknown(_)));
    // Beside a user's grant: recorded, no admin invented.
    let RoleAnswer::Granted(grant) = ask(&facts(vec![lost.clone(), assignment(USER_LOGIN)])) else {
        panic!()
    };
    assert_eq!(grant.role, Role::User);
    assert!(grant.unknown.is_some());
    // Beside an administrator's grant it could not matter.
    let RoleAnswer::Granted(grant) = ask(&facts(vec![lost.clone(), assignment(ADMIN_LOGIN)])) else {
        panic!()
    };
    assert_eq!((grant.role, grant.unknown), (Role::Admin, None));
    // Where it could not grant anyhow, the denial stands.
    for harmless in [
        RoleAssignment { principal: bob(), ..lost.clone() },
        RoleAssignment { scope: scope("/subscriptions/S10"), ..lost.clone() },
        RoleAssignment { ends: Some(NOW), ..lost.clone() },
        RoleAssignment { starts: Some(Timestamp(NOW.0 + 1)), ..lost.clone() },
        RoleAssignment { condition: Some("x".to_owned()), ..lost.clone() },
    ] {
        assert_eq!(ask(&facts(vec![harmless])), RoleAnswer::NotGranted(Refused::NoAssignment));
    }
    let mut world = facts(vec![lost]);
    world.denies = vec![deny(vec![data(&["*"], &[])])];
    assert_eq!(ask(&world), RoleAnswer::NotGranted(denied()));
}

/// Two definitions with one id: neither is believed alone.
#[test]
fn of_two_definitions_with_one_id_both_must_grant() {
    let mut world = facts(vec![assignment(ADMIN_LOGIN)]);
    world.definitions.push(definition(ADMIN_LOGIN, vec![data(&[LOGIN], &[])]));
    assert_eq!(role_of(&ask(&world)), Some(Role::User));
    world.definitions.insert(0, definition(ADMIN_LOGIN, Vec::new()));
    assert_eq!(role_of(&ask(&world)), None);
}

#[test]
fn one_of_several_accepted_actions_is_enough_and_one_deny_too() {
    let actions = ActionSet {
        user: texts(&["Microsoft.Compute/virtualMachineScaleSets/virtualMachines/login/action", LOGIN]),
        admin: texts(&[LOGIN_AS_ADMIN]),
    };
    let mut world = facts(vec![assignment(ADMIN_LOGIN)]);
    let answer = |world: &RbacFacts| evaluate(world, &[alice()], &scope(NODE), &actions, NOW);
    assert_eq!(role_of(&answer(&world)), Some(Role::Admin));
    world.denies = vec![deny(vec![data(&["Microsoft.Compute/virtualMachineScaleSets/*"], &[])])];
    assert_eq!(answer(&world), RoleAnswer::NotGranted(denied()));
}

#[test]
fn no_configured_action_is_no_permit() {
    let none = ActionSet { user: Vec::new(), admin: texts(&[LOGIN_AS_ADMIN]) };
    let answer = evaluate(&facts(vec![assignment(ADMIN_LOGIN)]), &[alice()], &scope(NODE), &none, NOW);
    assert!(matches!(answer, RoleAnswer::Unknown(_)));
    let no_admin = ActionSet { admin: Vec::new(), ..ActionSet::azure() };
    let answer = evaluate(&facts(vec![assignment(ADMIN_LOGIN)]), &[alice()], &scope(NODE), &no_admin, NOW);
    assert_eq!(role_of(&answer), Some(Role::User));
}

#[test]
fn the_built_in_roles_are_spelt_as_azure_spells_them() {
    let roles = builtin_definitions();
    let of = |id: &str| roles.iter().find(|r| r.id == id).unwrap();
    assert_eq!(of(USER_LOGIN).name, "Virtual Machine User Login");
    assert_eq!(of(ADMIN_LOGIN).name, "Virtual Machine Administrator Login");
    assert_eq!(of(ADMIN_LOGIN).permissions[0].data_actions.len(), 4);
    assert_eq!(of(USER_LOGIN).permissions[0].data_actions.len(), 2);
    assert!(
        roles
            .iter()
            .filter(|r| r.id != USER_LOGIN && r.id != ADMIN_LOGIN)
            .all(|r| r.permissions.iter().all(|p| p.data_actions.is_empty()))
    );
}
