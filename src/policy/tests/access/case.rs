//! Random decisions: a policy and its scene, with all that a decision is made from.

use std::sync::LazyLock;
use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Reason, Role, Timestamp};
use nightlatch_policy::{
    AccessPolicy, AccessRules, BootId, Circumstances, Facts, FreshYes, Grace, GraceRule, Grant, LoginRequest,
    Moment, Refused, RoleAnswer, Ruled, Rules, Ruling, decide,
};

use crate::chance::{forwarding, rules, scene};
use crate::dice::Dice;
use crate::given::{self, BOOT, UP, good, grant, secs, tenant, upstream};
use crate::world::{Plain, Scene, person, policy};

pub(crate) const CASES: u64 = 40_000;
/// For the tests that look at each case more than once.
pub(crate) const FEWER_CASES: u64 = 16_000;

/// Everything that a decision is made from.
pub(crate) struct Case {
    pub(crate) plain: Vec<Plain>,
    pub(crate) scene: Scene,
    pub(crate) policy: AccessPolicy,
    pub(crate) request: LoginRequest,
    pub(crate) facts: Facts,
    rules: Rules,
    pub(crate) grace: GraceRule,
    pub(crate) last: Option<FreshYes>,
    pub(crate) now: Moment,
}

impl Case {
    fn decide(&self, access: AccessRules<'_>) -> Ruling {
        let Self { request, facts, rules, grace, last, now, .. } = self;
        decide(last.as_ref(), request, facts, rules, *grace, access, *now)
    }

    /// Without the policy.
    fn without(&self) -> Ruling {
        self.decide(AccessRules::none())
    }

    /// With the policy.
    pub(crate) fn by_rules(&self) -> Ruling {
        self.scene.with(&self.policy, |access| self.decide(access))
    }

    /// What the rules say of somebody with this role.
    pub(crate) fn ruled(&self, role: Option<Role>) -> Ruled {
        let about = Circumstances { role, ..self.scene.circumstances() };
        self.scene.with(&self.policy, |access| access.rule(&about))
    }
}

fn end(dice: &mut Dice, now: i64) -> Option<Timestamp> {
    dice.maybe(3, |dice| Timestamp(now + dice.between(-20, 3_000)))
}

fn roles(dice: &mut Dice, now: i64) -> RoleAnswer {
    let until = end(dice, now);
    let admin_until = end(dice, now).into_iter().chain(until).min();
    let denied = || Refused::DenyAssignment { id: "d".to_owned() };
    let half = |admin_refused| Grant { until, admin_refused, unknown: Some(upstream()), ..grant(Role::User) };
    match dice.below(16) {
        0 => RoleAnswer::NotGranted(Refused::NoAssignment),
        1 | 8 => RoleAnswer::Granted(half(None)),
        9 => RoleAnswer::Granted(half(Some(denied()))),
        10 => RoleAnswer::Granted(Grant { until, unknown: Some(upstream()), ..grant(Role::Admin) }),
        2 => RoleAnswer::Granted(Grant { until, admin_refused: Some(denied()), ..grant(Role::User) }),
        3 | 4 => RoleAnswer::Granted(Grant { until, ..grant(Role::User) }),
        5..=7 => RoleAnswer::Granted(Grant { until, admin_until, ..grant(Role::Admin) }),
        _ => RoleAnswer::Unknown(upstream()),
    }
}

/// Each case decided with the policy and without; once for all tests, and without the steps.
static BOTH: LazyLock<Vec<(Ruling, Ruling)>> = LazyLock::new(|| {
    let bare = |mut ruling: Ruling| {
        ruling.judgement.steps = vec![];
        ruling
    };
    (0..CASES).map(case).map(|case| (bare(case.by_rules()), bare(case.without()))).collect()
});

/// Every case, with the policy and without.
pub(crate) fn decided() -> impl Iterator<Item = (u64, Case, &'static Ruling, &'static Ruling)> {
    (0..).zip(BOTH.iter()).map(|(number, (with, without))| (number, case(number), with, without))
}

/// One of them.
pub(crate) fn decided_at(number: u64) -> (Case, &'static Ruling, &'static Ruling) {
    let (with, without) = &BOTH[usize::try_from(number).unwrap()];
    (case(number), with, without)
}

pub(crate) fn case(number: u64) -> Case {
    let dice = &mut Dice(number);
    let plain = rules(dice);
    let policy = policy(&plain);
    let scene = scene(dice);
    let (request, facts, mut rules) = good();
    let request = LoginRequest { service: scene.service, ..request };
    rules.guests = !dice.once_in(6);
    let now = Moment { wall: Timestamp(scene.now), boot: BOOT, since_boot: UP, suspect: dice.once_in(10) };
    let oid = scene.person.map(person);
    let last = if dice.once_in(5) { None } else { oid.map(|oid| yes(dice, &request.name, oid, now)) };
    // What a caller leaves there must not count.
    let (reason, trace) = (Reason::PolicyDenied, String::new());
    let left = Ruled::Refuses { rule: None, reason, missing: vec![], trace };
    let told = match dice.below(4) {
        0 | 1 => Some(forwarding(dice)),
        // What sshd is told before the role and the address are looked at.
        2 => {
            let early = Circumstances { role: None, from: None, ..scene.circumstances() };
            Some(scene.with(&policy, |access| access.forwarding(&early, false)))
        }
        _ => None,
    };
    let facts = Facts {
        admitted: !dice.once_in(20),
        identity: oid.map(|oid| (tenant(1), oid)),
        guest: scene.guest,
        credential_end: Some(now.wall.plus(match dice.below(12) {
            0 => 0,
            1..=5 => dice.between(1, 7_200),
            _ => dice.between(1, 200_000),
        })),
        roles: roles(dice, scene.now),
        grace: Grace::Holds { until: Timestamp(i64::MAX), role: Role::Admin },
        sign_in: scene.sign_in.clone(),
        from: scene.from,
        began: scene.began.map(Timestamp),
        told,
        access: left,
        ..facts
    };
    let grace = GraceRule::new(secs(dice.pick(&[0, 600, 3_600])), secs(dice.pick(&[0, 900, 7_200])));
    Case { plain, scene, policy, request, facts, rules, grace, last, now }
}

fn yes(dice: &mut Dice, name: &LoginName, oid: ObjectId, now: Moment) -> FreshYes {
    let role = dice.pick(&[Role::User, Role::Admin]);
    let ago = dice.pick(&[1, 59, 60, 61, 1_799, 1_801, 3_000]);
    let wall = now.wall.plus(-i64::try_from(ago).unwrap());
    let boot = if dice.once_in(10) { BootId([9; 16]) } else { BOOT };
    let at = Moment { wall, boot, since_boot: UP - Duration::from_secs(ago), suspect: false };
    let ends = end(dice, now.wall.0);
    let admin_ends = end(dice, now.wall.0).into_iter().chain(ends).min();
    // Somebody else's, now and then.
    let oid = if dice.once_in(12) { given::bob() } else { oid };
    FreshYes {
        tid: tenant(1),
        oid,
        name: if dice.once_in(12) { LoginName::parse("alice@fabrikam.com").unwrap() } else { name.clone() },
        role,
        at,
        ends,
        admin_ends: admin_ends.filter(|_| role == Role::Admin),
    }
}
