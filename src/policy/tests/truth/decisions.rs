//! Folding CheckAccess answers.

use nightlatch_model::{Reason, Role};
use nightlatch_policy::{
    Access, ActionKind, ActionSet, Decision, Refused, Requested, RoleAnswer, UnknownCause, fold,
    shortest_ttl_ms,
};

use crate::given::*;

fn decision(action: &str, access: &str) -> Decision {
    Decision {
        action_id: action.to_owned(),
        is_data_action: Some(true),
        access: Access::from_word(access),
        role_assignment: Some("ra".to_owned()),
        deny_assignment: (access == "Denied").then(|| "d".to_owned()),
        scope: Some("/subscriptions/S1".to_owned()),
        has_condition: false,
        ttl_ms: Some(60_000),
    }
}

fn requested() -> Vec<Requested> {
    ActionSet::azure().requested()
}

fn unknown(answer: &RoleAnswer) -> bool {
    matches!(answer, RoleAnswer::Unknown(UnknownCause::Upstream(_)))
}

/// What one action's decisions may look like.
const WORDS: [&str; 6] = ["Allowed", "NotAllowed", "Denied", "conditional", "Perhaps", "missing"];

fn one(action: &str, word: &str) -> Vec<Decision> {
    match word {
        "missing" => Vec::new(),
        "conditional" => vec![Decision { has_condition: true, ..decision(action, "Allowed") }],
        word => vec![decision(action, word)],
    }
}

fn letter(answer: &RoleAnswer) -> char {
    match answer {
        RoleAnswer::Granted(g) if g.role == Role::Admin => 'A',
        RoleAnswer::Granted(_) => 'U',
        RoleAnswer::NotGranted(Refused::DenyAssignment { .. }) => 'd',
        RoleAnswer::NotGranted(Refused::Conditional { .. }) => 'c',
        RoleAnswer::NotGranted(Refused::NoAssignment) => 'n',
        RoleAnswer::NotGranted(Refused::PimNotActive { .. }) => 'p',
        RoleAnswer::Unknown(_) => '?',
    }
}

/// Rows: the decision on `login`; columns: on `loginAsAdmin`; both in the order of `WORDS`.
#[test]
fn truth_table() {
    let table = ["AUUU??", "nnnn??", "dddddd", "cccc??", "??????", "??????"];
    for (user, row) in WORDS.iter().zip(table) {
        for (admin, want) in WORDS.iter().zip(row.chars()) {
            let decisions = [one(LOGIN, user), one(LOGIN_AS_ADMIN, admin)].concat();
            assert_eq!(letter(&fold(&requested(), &decisions)), want, "{user} {admin}");
        }
    }
}

/// Past bug: an empty array held no "denied", so it was a yes.
#[test]
fn guard_empty_array_is_no_permit() {
    assert!(unknown(&fold(&requested(), &[])));
    assert!(unknown(&fold(&[], &[])));
    assert!(unknown(&fold(&[], &[decision(LOGIN, "Allowed")])));
    let admin_only = [Requested { kind: ActionKind::Admin, id: LOGIN_AS_ADMIN.to_owned() }];
    assert!(unknown(&fold(&admin_only, &[decision(LOGIN_AS_ADMIN, "Allowed")])));
}

/// Past bug: nobody checked that every requested action has a decision.
#[test]
fn missing_decision() {
    assert!(unknown(&fold(&requested(), &[decision(LOGIN, "Allowed")])));
    assert!(unknown(&fold(&requested(), &[decision(LOGIN_AS_ADMIN, "Allowed")])));
    assert!(unknown(&fold(&requested(), &[decision(LOGIN, "NotAllowed")])));
}

/// Past bug: the first decision of the list was taken for the answer.
#[test]
fn surplus_decision() {
    let surplus = decision("Microsoft.Compute/virtualMachines/read", "Allowed");
    let no =
        [surplus.clone(), decision(LOGIN, "NotAllowed"), decision(LOGIN_AS_ADMIN, "NotAllowed"), surplus];
    assert_eq!(fold(&requested(), &no), RoleAnswer::NotGranted(Refused::NoAssignment));
    let denied_elsewhere = decision("Microsoft.Compute/virtualMachines/read", "Denied");
    let yes = [denied_elsewhere, decision(LOGIN, "Allowed"), decision(LOGIN_AS_ADMIN, "Allowed")];
    assert_eq!(role_of(&fold(&requested(), &yes)), Some(Role::Admin));
}

/// Past bug: the flag for data actions was lost on the way.
#[test]
fn a_decision_about_a_control_action_is_another_one() {
    let control = |action: &str| Decision { is_data_action: Some(false), ..decision(action, "Allowed") };
    assert!(unknown(&fold(&requested(), &[control(LOGIN), control(LOGIN_AS_ADMIN)])));
    let unstated = |action: &str| Decision { is_data_action: None, ..decision(action, "Allowed") };
    assert_eq!(role_of(&fold(&requested(), &[unstated(LOGIN), unstated(LOGIN_AS_ADMIN)])), Some(Role::Admin));
}

#[test]
fn of_duplicates_the_stricter_counts() {
    let ranks = ["Allowed", "conditional", "Perhaps", "NotAllowed", "Denied"];
    for (at, strict) in ranks.iter().enumerate() {
        for mild in &ranks[..=at] {
            let admin = one(LOGIN_AS_ADMIN, "NotAllowed");
            let alone = fold(&requested(), &[one(LOGIN, strict), admin.clone()].concat());
            for pair in [[strict, mild], [mild, strict]] {
                let both = [one(LOGIN, pair[0]), admin.clone(), one(LOGIN, pair[1])].concat();
                assert_eq!(fold(&requested(), &both), alone, "{pair:?}");
            }
        }
    }
}

#[test]
fn ids_are_compared_without_case_and_words_with() {
    let shout =
        [decision(&LOGIN.to_uppercase(), "Allowed"), decision(&LOGIN_AS_ADMIN.to_lowercase(), "Allowed")];
    assert_eq!(role_of(&fold(&requested(), &shout)), Some(Role::Admin));
    for word in ["", "allowed", "ALLOWED", "Allow", "True"] {
        assert_eq!(Access::from_word(word), Access::Other(word.to_owned()));
        let odd = [decision(LOGIN, word), decision(LOGIN_AS_ADMIN, "Allowed")];
        assert!(unknown(&fold(&requested(), &odd)), "{word:?}");
    }
}

/// The answers of the real PDP: a yes names its assignment, a no has none and is a definite no.
#[test]
fn the_pdps_own_answers() {
    let no = |action: &str| Decision {
        role_assignment: None,
        scope: None,
        is_data_action: None,
        ttl_ms: None,
        ..decision(action, "NotAllowed")
    };
    let RoleAnswer::NotGranted(refused) = fold(&requested(), &[no(LOGIN), no(LOGIN_AS_ADMIN)]) else {
        panic!()
    };
    assert_eq!(refused.reason(), Reason::NoVmRole);
    let RoleAnswer::Granted(grant) = fold(&requested(), &[decision(LOGIN, "Allowed"), no(LOGIN_AS_ADMIN)])
    else {
        panic!()
    };
    assert_eq!((grant.role, grant.until, grant.admin_refused), (Role::User, None, None));
    assert_eq!(grant.evidence.assignment.as_deref(), Some("ra"));
    assert_eq!(grant.evidence.scope.as_deref(), Some("/subscriptions/S1"));
}

#[test]
fn a_denied_admin_action_leaves_a_user() {
    let RoleAnswer::Granted(grant) =
        fold(&requested(), &[decision(LOGIN, "Allowed"), decision(LOGIN_AS_ADMIN, "Denied")])
    else {
        panic!()
    };
    assert_eq!((grant.role, grant.admin_refused), (Role::User, Some(denied())));
}

#[test]
fn a_deny_of_one_accepted_action_denies() {
    let other = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/login/action";
    let actions = ActionSet { user: texts(&[LOGIN, other]), admin: Vec::new() };
    let ask = |a: &str, b: &str| fold(&actions.requested(), &[decision(LOGIN, a), decision(other, b)]);
    assert_eq!(role_of(&ask("NotAllowed", "Allowed")), Some(Role::User));
    assert_eq!(ask("Allowed", "Denied"), RoleAnswer::NotGranted(denied()));
    assert_eq!(ask("Denied", "Allowed"), RoleAnswer::NotGranted(denied()));
    assert_eq!(ask("NotAllowed", "NotAllowed"), RoleAnswer::NotGranted(Refused::NoAssignment));
    assert!(unknown(&fold(&actions.requested(), &[decision(LOGIN, "Allowed")])));
}

/// Past bug: `timeToLiveInMs` ignored.
#[test]
fn the_shortest_time_to_live_counts() {
    let ttl = |action: &str, ttl_ms| Decision { ttl_ms, ..decision(action, "Allowed") };
    let all = [ttl(LOGIN, Some(60_000)), ttl(LOGIN_AS_ADMIN, Some(5_000)), ttl("other", Some(1))];
    assert_eq!(shortest_ttl_ms(&requested(), &all), Some(5_000));
    assert_eq!(shortest_ttl_ms(&requested(), &[ttl(LOGIN, None), ttl(LOGIN_AS_ADMIN, Some(7))]), Some(7));
    assert_eq!(shortest_ttl_ms(&requested(), &[ttl(LOGIN, None)]), None);
}
