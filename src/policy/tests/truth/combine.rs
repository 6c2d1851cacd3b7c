//! Several scopes, one answer.

use nightlatch_model::Role;
use nightlatch_policy::{Evidence, Grant, Refused, RoleAnswer, ScopeKind, UnknownCause, combine};

use crate::given::*;

const KINDS: &str = "AUwkDpcn?";

fn pim() -> Refused {
    Refused::PimNotActive { opens: Some(NOW.plus(5)), ended: None }
}

fn answer(kind: char) -> RoleAnswer {
    match kind {
        'A' => RoleAnswer::Granted(grant(Role::Admin)),
        'U' => RoleAnswer::Granted(grant(Role::User)),
        // A user whose admin right a deny took.
        'w' => RoleAnswer::Granted(Grant { admin_refused: Some(denied()), ..grant(Role::User) }),
        // A user of whom something could not be found out.
        'k' => RoleAnswer::Granted(Grant { unknown: Some(upstream()), ..grant(Role::User) }),
        'D' => RoleAnswer::NotGranted(denied()),
        'p' => RoleAnswer::NotGranted(pim()),
        'c' => RoleAnswer::NotGranted(Refused::Conditional { assignment: "a".to_owned() }),
        'n' => RoleAnswer::NotGranted(Refused::NoAssignment),
        _ => RoleAnswer::Unknown(upstream()),
    }
}

/// Two letters: what it is, and `?` where an unknown is recorded beside a grant.
fn shown(answer: &RoleAnswer) -> String {
    match answer {
        RoleAnswer::Granted(g) => {
            let role = match (g.role, &g.admin_refused) {
                (Role::Admin, None) => 'A',
                (Role::User, None) => 'U',
                (Role::User, Some(Refused::DenyAssignment { .. })) => 'w',
                other => panic!("no such grant: {other:?}"),
            };
            format!("{role}{}", if g.unknown.is_some() { '?' } else { ' ' })
        }
        RoleAnswer::NotGranted(Refused::DenyAssignment { .. }) => "D ".to_owned(),
        RoleAnswer::NotGranted(Refused::PimNotActive { .. }) => "p ".to_owned(),
        RoleAnswer::NotGranted(Refused::Conditional { .. }) => "c ".to_owned(),
        RoleAnswer::NotGranted(Refused::NoAssignment) => "n ".to_owned(),
        RoleAnswer::Unknown(_) => "? ".to_owned(),
    }
}

#[test]
fn full_truth_table_of_two_scopes() {
    //            A   U   w   k   D   p   c   n   ?
    let table = [
        "A  A  w  A? D  A  A  A  A? ", // A
        "A  U  w  U? D  U  U  U  U? ", // U
        "w  w  w  w? D  w  w  w  w? ", // w
        "A? U? w? U? D  U? U? U? U? ", // k
        "D  D  D  D  D  D  D  D  D  ", // D
        "A  U  w  U? D  p  p  p  ?  ", // p
        "A  U  w  U? D  p  c  c  ?  ", // c
        "A  U  w  U? D  p  c  n  ?  ", // n
        "A? U? w? U? D  ?  ?  ?  ?  ", // ?
    ];
    for (node, row) in KINDS.chars().zip(table) {
        for (at, cluster) in KINDS.chars().enumerate() {
            let want = &row[at * 3..at * 3 + 2];
            let got = combine(&[(ScopeKind::Node, answer(node)), (ScopeKind::Cluster, answer(cluster))]);
            assert_eq!(shown(&got), want, "node {node}, cluster {cluster}");
        }
    }
}

#[test]
fn one_scope_changes_nothing_and_none_is_unknown() {
    for kind in KINDS.chars() {
        let alone = combine(&[(ScopeKind::Cluster, answer(kind))]);
        assert_eq!(shown(&alone), shown(&combine(&vec![(ScopeKind::Node, answer(kind)); 2])), "{kind}");
    }
    assert!(matches!(combine(&[]), RoleAnswer::Unknown(UnknownCause::Upstream(_))));
}

fn ends(role: Role, until: Option<i64>, admin_until: Option<i64>) -> RoleAnswer {
    RoleAnswer::Granted(Grant {
        until: until.map(|s| NOW.plus(s)),
        admin_until: admin_until.map(|s| NOW.plus(s)),
        ..grant(role)
    })
}

#[test]
fn each_right_lasts_as_long_as_where_it_lasts_longest() {
    for (node, cluster, want) in [
        (ends(Role::User, Some(5), None), ends(Role::User, Some(9), None), ends(Role::User, Some(9), None)),
        (ends(Role::User, Some(5), None), ends(Role::User, None, None), ends(Role::User, None, None)),
        (ends(Role::Admin, Some(5), Some(5)), ends(Role::User, None, None), ends(Role::Admin, None, Some(5))),
        (
            ends(Role::Admin, Some(5), Some(3)),
            ends(Role::Admin, Some(9), Some(9)),
            ends(Role::Admin, Some(9), Some(9)),
        ),
        (
            ends(Role::Admin, Some(5), None),
            ends(Role::User, Some(4), None),
            ends(Role::Admin, Some(5), Some(5)),
        ),
    ] {
        let (RoleAnswer::Granted(a), RoleAnswer::Granted(b)) =
            (combine(&[(ScopeKind::Node, node), (ScopeKind::Cluster, cluster)]), want)
        else {
            panic!("granted")
        };
        assert_eq!((a.role, a.until, a.admin_until), (b.role, b.until, b.admin_until));
    }
}

#[test]
fn the_scope_that_matched_is_told() {
    let at = |answer: RoleAnswer| match answer {
        RoleAnswer::Granted(g) => (g.evidence.kind, g.admin_evidence.and_then(|e: Evidence| e.kind)),
        _ => panic!("granted"),
    };
    let both = combine(&[(ScopeKind::Node, answer('n')), (ScopeKind::Cluster, answer('A'))]);
    assert_eq!(at(both), (Some(ScopeKind::Cluster), Some(ScopeKind::Cluster)));
    let split = [
        (ScopeKind::Node, ends(Role::Admin, Some(5), Some(5))),
        (ScopeKind::Cluster, ends(Role::User, None, None)),
    ];
    assert_eq!(at(combine(&split)), (Some(ScopeKind::Cluster), Some(ScopeKind::Node)));
}

#[test]
fn causes_and_refusals_are_merged_by_weight() {
    let unknown = |a: UnknownCause, b: UnknownCause| {
        let one = [(ScopeKind::Node, RoleAnswer::Unknown(a)), (ScopeKind::Cluster, RoleAnswer::Unknown(b))];
        let two = [one[1].clone(), one[0].clone()];
        assert_eq!(combine(&one), combine(&two));
        combine(&one)
    };
    let throttled = |retry_after| UnknownCause::Throttled { retry_after };
    assert_eq!(unknown(throttled(3), throttled(9)), RoleAnswer::Unknown(throttled(9)));
    assert_eq!(unknown(upstream(), throttled(9)), RoleAnswer::Unknown(throttled(9)));
    assert_eq!(
        unknown(upstream(), UnknownCause::ScopeUnknown),
        RoleAnswer::Unknown(UnknownCause::ScopeUnknown)
    );
    assert_eq!(
        unknown(throttled(1), UnknownCause::NodeNotPermitted),
        RoleAnswer::Unknown(UnknownCause::NodeNotPermitted)
    );
    let window = |opens: Option<i64>, ended: Option<i64>| {
        RoleAnswer::NotGranted(Refused::PimNotActive {
            opens: opens.map(|s| NOW.plus(s)),
            ended: ended.map(|s| NOW.plus(s)),
        })
    };
    let both = [(ScopeKind::Node, window(Some(9), Some(-9))), (ScopeKind::Cluster, window(Some(4), None))];
    assert_eq!(combine(&both), window(Some(4), Some(-9)));
}
