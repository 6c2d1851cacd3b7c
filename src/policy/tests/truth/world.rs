//! Small random worlds of Azure RBAC, the same for the same seed.
//!
//! A place is an index into [`PLACES`], so that the naive model need not read scopes.

use nightlatch_model::{ObjectId, Timestamp};
use nightlatch_policy::{
    ActionSet, DenyAssignment, DenyPrincipals, Permissions, RbacFacts, RoleAssignment, RoleDefinition, Scope,
};

use crate::dice::Dice;
use crate::given::*;

/// Scope and the index of the place above it.
pub(crate) const PLACES: [(&str, Option<usize>); 11] = [
    ("/", None),
    ("/providers/Microsoft.Management/managementGroups/corp", Some(0)),
    ("/subscriptions/S1", Some(1)),
    ("/subscriptions/S10", Some(1)),
    ("/subscriptions/S1/resourceGroups/a", Some(2)),
    ("/subscriptions/S1/resourceGroups/ab", Some(2)),
    ("/subscriptions/S10/resourceGroups/a", Some(3)),
    ("/subscriptions/S1/resourceGroups/a/providers/Microsoft.Compute/virtualMachineScaleSets/v", Some(4)),
    (
        "/subscriptions/S1/resourceGroups/a/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0",
        Some(7),
    ),
    ("/subscriptions/S1/resourceGroups/ab/providers/Microsoft.Compute/virtualMachines/m", Some(5)),
    ("/subscriptions/S10/resourceGroups/a/providers/Microsoft.Compute/virtualMachines/m", Some(6)),
];
const TARGETS: [usize; 3] = [8, 9, 10];
pub(crate) const PATTERNS: [&str; 13] = [
    "*",
    "Microsoft.Compute/*",
    "MICROSOFT.COMPUTE/virtualMachines/*/action",
    "Microsoft.Compute/virtualMachines/login/action",
    "microsoft.compute/virtualmachines/loginasadmin/action",
    "*/login/action",
    "*Admin*",
    "Microsoft.Compute/virtualMachines/login*/action",
    "Microsoft.HybridCompute/machines/*",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/log",
    "*login",
    "",
];
/// The moment at which every world is asked.
pub(crate) const AT: Timestamp = Timestamp(10);

impl Dice {
    fn list<T>(&mut self, most: usize, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| each(self)).collect()
    }
}

/// A world, with the place of each assignment, deny and target beside it.
pub(crate) struct World {
    pub(crate) facts: RbacFacts,
    pub(crate) assigned_at: Vec<usize>,
    pub(crate) denied_at: Vec<usize>,
    pub(crate) principals: Vec<ObjectId>,
    pub(crate) target: usize,
    pub(crate) actions: ActionSet,
}

impl World {
    pub(crate) fn target(&self) -> Scope {
        scope(PLACES[self.target].0)
    }
}

fn spelt(dice: &mut Dice, place: usize) -> Scope {
    let text = PLACES[place].0;
    scope(&if dice.once_in(4) { text.to_uppercase() } else { text.to_owned() })
}

fn permissions(dice: &mut Dice, most: usize) -> Vec<Permissions> {
    dice.list(most, |dice| Permissions {
        actions: dice.list(1, |dice| dice.pick(&PATTERNS).to_owned()),
        not_actions: dice.list(1, |dice| dice.pick(&PATTERNS).to_owned()),
        data_actions: dice.list(3, |dice| dice.pick(&PATTERNS).to_owned()),
        not_data_actions: if dice.once_in(3) {
            dice.list(2, |dice| dice.pick(&PATTERNS).to_owned())
        } else {
            vec![]
        },
    })
}

fn role_id(n: usize) -> String {
    format!("00000000-0000-0000-0000-00000000000{n}")
}

fn someone(dice: &mut Dice) -> ObjectId {
    oid(dice.pick(&[0, 1, 1, 2, 2, 3, 3, 4]))
}

/// Mostly the target or a place above it.
fn near(dice: &mut Dice, target: usize) -> usize {
    if dice.once_in(5) {
        return dice.below(PLACES.len());
    }
    let mut line = vec![target];
    while let Some(above) = PLACES[line[line.len() - 1]].1 {
        line.push(above);
    }
    dice.pick(&line)
}

pub(crate) fn assignment(dice: &mut Dice, target: usize, id: &str) -> (RoleAssignment, usize) {
    let place = near(dice, target);
    let moment = |dice: &mut Dice| Timestamp(i64::try_from(dice.below(21)).unwrap());
    let made = RoleAssignment {
        id: id.to_owned(),
        principal: someone(dice),
        // Role 5 is never defined.
        definition: role_id(dice.pick(&[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])),
        scope: spelt(dice, place),
        condition: dice.once_in(6).then(|| "@x".to_owned()),
        starts: if dice.once_in(3) { Some(moment(dice)) } else { None },
        ends: if dice.once_in(3) { Some(moment(dice)) } else { None },
    };
    (made, place)
}

pub(crate) fn deny(dice: &mut Dice, target: usize, id: &str) -> (DenyAssignment, usize) {
    let place = near(dice, target);
    let made = DenyAssignment {
        id: id.to_owned(),
        principals: if dice.once_in(4) {
            DenyPrincipals::Everyone
        } else {
            DenyPrincipals::Listed(dice.list(2, someone))
        },
        exclude_principals: if dice.once_in(2) { dice.list(2, someone) } else { vec![] },
        scope: spelt(dice, place),
        do_not_apply_to_child_scopes: dice.once_in(3),
        permissions: permissions(dice, 2),
        condition: dice.once_in(5).then(|| "@x".to_owned()),
    };
    (made, place)
}

pub(crate) fn world(seed: u64) -> World {
    let mut dice = Dice(seed);
    let dice = &mut dice;
    let target = dice.pick(&TARGETS);
    let mut roles: Vec<usize> = (0..5).filter(|_| !dice.once_in(8)).collect();
    if dice.once_in(4) {
        roles.push(dice.below(5));
    }
    let definitions = roles.into_iter().map(|n| RoleDefinition {
        id: format!("/subscriptions/S1/providers/Microsoft.Authorization/roleDefinitions/{}", role_id(n)),
        name: "role".to_owned(),
        permissions: permissions(dice, 2),
    });
    let definitions = definitions.collect();
    let mut number = 0;
    let mut id = || {
        number += 1;
        format!("id{number}")
    };
    let (assignments, assigned_at) = dice.list(5, |dice| assignment(dice, target, &id())).into_iter().unzip();
    let mut denied = dice.list(2, |dice| deny(dice, target, &id()));
    if !dice.once_in(3) {
        denied.clear();
    }
    let (denies, denied_at) = denied.into_iter().unzip();
    let azure = ActionSet::azure();
    let actions = match dice.below(8) {
        0 => ActionSet::arc(),
        1 => ActionSet { user: [azure.user, ActionSet::arc().user].concat(), ..azure },
        2 => ActionSet { admin: [azure.admin, ActionSet::arc().admin].concat(), ..azure },
        3 => ActionSet { admin: vec![], ..azure },
        _ => azure,
    };
    World {
        facts: RbacFacts { definitions, assignments, denies },
        assigned_at,
        denied_at,
        // 0 is the all-zero id that means everyone in a deny; nobody has it.
        principals: (1..4).filter(|_| !dice.once_in(4)).map(oid).collect(),
        target,
        actions,
    }
}
