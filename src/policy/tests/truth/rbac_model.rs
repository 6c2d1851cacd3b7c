//! A second evaluation of Azure RBAC, as plain as it can be, compared with the first over many worlds.
//!
//! It shares nothing with the first: places come from a table instead of text, patterns are compared
//! byte by byte with back-tracking, windows are walked second by second, and every fact about one action
//! is collected before anything is decided.

use std::collections::{BTreeMap, BTreeSet};

use nightlatch_model::{Role, Timestamp};
use nightlatch_policy::{DenyPrincipals, Permissions, Refused, RoleAnswer, UnknownCause, evaluate};

use crate::world::{AT, PLACES, World, world};

const WORLDS: u64 = 20_000;
/// Later than any window of any world.
const HORIZON: i64 = 40;

fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => fits(&pattern[1..], text) || (!text.is_empty() && fits(pattern, &text[1..])),
        (Some(p), Some(t)) if p.eq_ignore_ascii_case(t) => fits(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn at_or_above(place: usize, target: usize) -> bool {
    let mut here = Some(target);
    while let Some(at) = here {
        if at == place {
            return true;
        }
        here = PLACES[at].1;
    }
    false
}

fn set_of(permissions: &[Permissions], universe: &[String]) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for object in permissions {
        for action in universe {
            let hit =
                |list: &Vec<String>| list.iter().filter(|p| fits(p.as_bytes(), action.as_bytes())).count();
            if hit(&object.data_actions) > 0 && hit(&object.not_data_actions) == 0 {
                set.insert(action.clone());
            }
        }
    }
    set
}

/// Everything that is known about one action.
#[derive(Default)]
struct About {
    denied_by: BTreeSet<String>,
    /// The last second of each grant; the horizon when it has no end.
    granted_until: BTreeSet<i64>,
    lost: bool,
    opens: BTreeSet<i64>,
    ended: BTreeSet<i64>,
    conditional: BTreeSet<String>,
}

#[derive(PartialEq, Debug)]
enum Said {
    Yes(Option<i64>),
    No(Refused),
    Unknown,
}

fn said(list: &[String], known: &BTreeMap<String, About>) -> Said {
    let all = |f: fn(&About) -> Vec<String>| -> BTreeSet<String> {
        list.iter().flat_map(|a| f(&known[a])).collect()
    };
    let times = |f: fn(&About) -> &BTreeSet<i64>| -> BTreeSet<i64> {
        list.iter().flat_map(|a| f(&known[a]).clone()).collect()
    };
    if let Some(id) = all(|a| a.denied_by.iter().cloned().collect()).first() {
        return Said::No(Refused::DenyAssignment { id: id.clone() });
    }
    if let Some(last) = times(|a| &a.granted_until).last() {
        return Said::Yes((*last < HORIZON).then_some(last + 1));
    }
    if list.iter().any(|a| known[a].lost) {
        return Said::Unknown;
    }
    let (opens, ended) = (times(|a| &a.opens), times(|a| &a.ended));
    if !opens.is_empty() || !ended.is_empty() {
        return Said::No(Refused::PimNotActive {
            opens: opens.first().map(|s| Timestamp(*s)),
            ended: ended.last().map(|s| Timestamp(*s)),
        });
    }
    match all(|a| a.conditional.iter().cloned().collect()).first() {
        Some(assignment) => Said::No(Refused::Conditional { assignment: assignment.clone() }),
        None => Said::No(Refused::NoAssignment),
    }
}

/// The right to log in, and the administrator's right by itself.
fn naive(world: &World) -> (Said, Said) {
    let universe = [world.actions.user.clone(), world.actions.admin.clone()].concat();
    let mut known: BTreeMap<String, About> = universe.iter().map(|a| (a.clone(), About::default())).collect();
    let me = |id| world.principals.contains(id);

    for (deny, place) in world.facts.denies.iter().zip(&world.denied_at) {
        let place_fits = *place == world.target
            || (!deny.do_not_apply_to_child_scopes && at_or_above(*place, world.target));
        let named = match &deny.principals {
            DenyPrincipals::Everyone => true,
            DenyPrincipals::Listed(ids) => {
                ids.iter().any(|id| me(id) || id.to_string().starts_with("00000000-"))
            }
        };
        if place_fits && named && !deny.exclude_principals.iter().any(me) {
            for action in set_of(&deny.permissions, &universe) {
                known.get_mut(&action).unwrap().denied_by.insert(deny.id.clone());
            }
        }
    }

    for (given, place) in world.facts.assignments.iter().zip(&world.assigned_at) {
        if !me(&given.principal) || !at_or_above(*place, world.target) {
            continue;
        }
        // Seconds of the window; negative ones do not occur.
        let open: Vec<i64> = (0..=HORIZON)
            .filter(|s| given.starts.is_none_or(|t| *s >= t.0) && given.ends.is_none_or(|t| *s < t.0))
            .collect();
        let roles: Vec<_> =
            world.facts.definitions.iter().filter(|d| d.id.ends_with(&given.definition)).collect();
        let Some(first) = roles.first() else {
            let lost = open.contains(&AT.0) && given.condition.is_none();
            known.values_mut().for_each(|about| about.lost |= lost);
            continue;
        };
        let mut actions = set_of(&first.permissions, &universe);
        for other in &roles[1..] {
            let also = set_of(&other.permissions, &universe);
            actions.retain(|action| also.contains(action));
        }
        for action in actions {
            let about = known.get_mut(&action).unwrap();
            if given.condition.is_some() {
                about.conditional.insert(given.id.clone());
            } else if open.contains(&AT.0) {
                about.granted_until.insert(*open.last().unwrap());
            } else if given.ends.is_some_and(|end| end <= AT) {
                about.ended.insert(given.ends.unwrap().0);
            } else if let Some(start) = open.first() {
                about.opens.insert(*start);
            }
        }
    }
    (said(&world.actions.user, &known), said(&world.actions.admin, &known))
}

fn expected(world: &World) -> String {
    let (user, admin) = naive(world);
    match (user, admin) {
        (Said::Unknown, _) => "unknown".to_owned(),
        (Said::No(why), _) => format!("no {why:?}"),
        (Said::Yes(until), Said::Yes(admin)) => {
            let shorter = admin.unwrap_or(i64::MAX).min(until.unwrap_or(i64::MAX));
            format!("admin {until:?} {:?}", Some(shorter).filter(|s| *s < i64::MAX))
        }
        (Said::Yes(until), Said::Unknown) => format!("user {until:?} unknown"),
        (Said::Yes(until), Said::No(Refused::NoAssignment)) => format!("user {until:?}"),
        (Said::Yes(until), Said::No(why)) => format!("user {until:?} {why:?}"),
    }
}

fn actual(answer: &RoleAnswer) -> String {
    match answer {
        RoleAnswer::Unknown(UnknownCause::Upstream(_)) => "unknown".to_owned(),
        RoleAnswer::Unknown(other) => format!("{other:?}"),
        RoleAnswer::NotGranted(why) => format!("no {why:?}"),
        RoleAnswer::Granted(g) => {
            let until = g.until.map(|t| t.0);
            match (g.role, &g.admin_refused, &g.unknown) {
                (Role::Admin, None, None) => format!("admin {until:?} {:?}", g.admin_until.map(|t| t.0)),
                (Role::User, None, None) => format!("user {until:?}"),
                (Role::User, None, Some(_)) => format!("user {until:?} unknown"),
                (Role::User, Some(why), None) => format!("user {until:?} {why:?}"),
                other => panic!("no such grant: {other:?}"),
            }
        }
    }
}

#[test]
fn both_evaluations_agree_on_every_world() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..WORLDS {
        let world = world(seed);
        let answer = evaluate(&world.facts, &world.principals, &world.target(), &world.actions, AT);
        let (want, got) = (expected(&world), actual(&answer));
        assert_eq!(got, want, "world {seed}: {:#?} {:?} {:?}", world.facts, world.principals, world.target());
        // Numbers and ids do not matter for which kinds of answer were seen.
        let kind: String = want.chars().filter(|c| !c.is_ascii_digit()).collect();
        *seen.entry(kind).or_default() += 1;
    }
    // The comparison is worth something only if the worlds are not all the same.
    for kind in ["admin None None", "user None", "user None unknown", "no NoAssignment", "unknown"] {
        assert!(seen.get(kind).is_some_and(|n| *n >= 50), "{kind}: {seen:#?}");
    }
    for part in
        ["DenyAssignment", "PimNotActive { opens: Some", "ended: Some", "Conditional", "admin Some() Some()"]
    {
        let n: u32 = seen.iter().filter(|(kind, _)| kind.contains(part)).map(|(_, n)| n).sum();
        assert!(n >= 100, "{part}: {seen:#?}");
    }
}
