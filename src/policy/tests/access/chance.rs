//! Small random policies and circumstances, the same for the same seed.
//!
//! The alphabets are small: most conditions hold about half the time.

use std::num::NonZeroU32;
use std::time::Duration;

use core::net::IpAddr;
use nightlatch_model::{Role, Timestamp};
use nightlatch_policy::{DoorKind, Forwarding, Limits, ProofKind, RuleEffect, Service, SignIn};

use crate::dice::Dice;
use crate::world::{DAY, MONDAY, Plain, SERVICES, Scene, WINDOWS, guid};

const LABELS: [(&str, &str); 4] = [("env", "prod"), ("env", "test"), ("tier", "web"), ("tier", "db")];
const PATTERNS: [&str; 6] = [
    "/subscriptions/s1",
    "/subscriptions/*/resourceGroups/rg-*",
    "/SUBSCRIPTIONS/S2/resourcegroups/data",
    "/subscriptions/s1/resourceGroups/rg-a/providers/*/machines",
    "/subscriptions/s*/resourceGroups/*a*a*",
    "/subscriptions/s10",
];
pub(crate) const RESOURCES: [&str; 6] = [
    "/subscriptions/s1/resourceGroups/rg-a/providers/Microsoft.HybridCompute/machines/m",
    "/subscriptions/S10/resourceGroups/RG-b",
    "/subscriptions/s2/resourceGroups/data/providers/Microsoft.Kubernetes/connectedClusters/c",
    "/Subscriptions/s1",
    "/subscriptions/s2/resourceGroups/database",
    "/subscriptions/s10/resourceGroups/banana/x",
];
/// Address and prefix length.
const NETWORKS: [(&str, u8); 8] = [
    ("10.0.0.0", 8),
    ("10.1.0.0", 16),
    ("192.0.2.128", 25),
    ("10.1.2.3", 32),
    ("2001:db8::", 32),
    ("2001:db8:0:8000::", 49),
    ("::", 0),
    ("0.0.0.0", 0),
];
pub(crate) const ADDRESSES: [&str; 9] = [
    "10.1.2.3",
    "10.200.0.9",
    "::ffff:10.1.2.3",
    "192.0.2.127",
    "192.0.2.200",
    "2001:db8::1",
    "2001:db8:0:8000::1",
    "2001:db9::",
    "::ffff:192.0.2.130",
];
const AMR: [&str; 3] = ["mfa", "fido", "pwd"];
const ACRS: [&str; 2] = ["c1", "c2"];

pub(crate) fn forwarding(dice: &mut Dice) -> Forwarding {
    Forwarding { port: !dice.once_in(3), agent: dice.once_in(2), x11: dice.once_in(2) }
}

fn network(dice: &mut Dice) -> (IpAddr, u8) {
    let (text, prefix) = dice.pick(&NETWORKS);
    (text.parse().unwrap(), prefix)
}

/// One rule; `rare` is how seldom each condition is given.
fn plain(dice: &mut Dice, name: &'static str, rare: usize) -> Plain {
    use RuleEffect::{Deny, Permit, StepUp};
    let effect = dice.pick(&[Permit, Permit, Permit, Permit, StepUp, StepUp, Deny]);
    let demands = effect == StepUp || dice.once_in(2);
    let mut rule = Plain {
        role: dice.maybe(rare, |dice| dice.pick(&[Role::User, Role::Admin])),
        groups: dice.maybe(rare, |dice| dice.some(&[1, 2, 3])),
        users: dice.maybe(rare, |dice| dice.some(&[0xa1, 0xb0, 0xc0])),
        guests: dice.maybe(rare, |dice| dice.once_in(2)),
        // Two values of one label cannot both be wanted.
        labels: dice.maybe(rare, |dice| vec![dice.pick(&LABELS[..2]), dice.pick(&LABELS[2..])]),
        patterns: dice.maybe(rare, |dice| dice.some(&PATTERNS)),
        window: dice.maybe(rare, |dice| dice.below(WINDOWS.len())),
        networks: dice.maybe(rare, |dice| vec![network(dice), network(dice)]),
        proof: dice.maybe(rare * 2, |dice| dice.some(&[ProofKind::Entra, ProofKind::OpenPubkey])),
        doors: dice.maybe(rare, |dice| dice.some(&[DoorKind::Login, DoorKind::Sudo])),
        ..Plain::new(name, effect)
    };
    if let Some(labels) = rule.labels.as_mut().filter(|_| dice.once_in(2)) {
        labels.pop();
    }
    if effect != Deny && demands {
        match dice.below(6) {
            0 => rule.amr = dice.some(&AMR),
            1 => rule.acrs = dice.some(&ACRS),
            2 => rule.device = true,
            3 => rule.max_auth_age = Some(dice.pick(&[60, 900, 3_600])),
            4 => rule.max_age = Some(dice.pick(&[60, 900, 3_600])),
            _ => (rule.amr, rule.max_age) = (vec!["mfa"], Some(3_600)),
        }
    }
    if effect != Deny {
        rule.limits = Limits {
            max_session: dice.maybe(3, |dice| NonZeroU32::new(dice.pick(&[1, 600, 3_600])).unwrap()),
            forward: dice.maybe(2, forwarding),
            grace: dice.maybe(3, |dice| Duration::from_secs(dice.pick(&[0, 60, 1_800, 200_000]))),
        };
    }
    rule
}

/// One to six rules.
pub(crate) fn rules(dice: &mut Dice) -> Vec<Plain> {
    const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
    let rare = dice.pick(&[3, 5, 5, 8]);
    (0..=dice.below(NAMES.len())).map(|at| plain(dice, NAMES[at], rare)).collect()
}

/// One in five signed in at the prompt as well, by the second that it is: no throw of the dice, so that the others fall as
/// they would.
fn sign_in(dice: &mut Dice, reference: i64) -> SignIn {
    let prompted = (reference.rem_euclid(5) == 0).then_some(Timestamp(reference));
    SignIn { prompted, ..by_certificate(dice, reference) }
}

fn by_certificate(dice: &mut Dice, reference: i64) -> SignIn {
    let ago =
        |dice: &mut Dice| Timestamp(reference - dice.pick(&[-5, 0, 59, 60, 61, 900, 901, 3_600, 3_601]));
    let words = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let bare = SignIn {
        proof: ProofKind::Entra,
        issued: ago(dice),
        auth_time: None,
        amr: None,
        acrs: None,
        device: None,
        groups: None,
        prompted: None,
    };
    if dice.once_in(4) {
        // Some of them with words in them that such a certificate cannot say.
        let words_inside = dice.once_in(2);
        return SignIn {
            amr: words_inside.then(|| words(AMR.to_vec())),
            acrs: words_inside.then(|| words(ACRS.to_vec())),
            auth_time: words_inside.then_some(Timestamp(reference)),
            device: words_inside.then(|| guid(9)),
            ..bare
        };
    }
    SignIn {
        proof: ProofKind::OpenPubkey,
        auth_time: if dice.once_in(5) { None } else { Some(ago(dice)) },
        amr: if dice.once_in(5) { None } else { Some(words(dice.some(&AMR))) },
        acrs: if dice.once_in(5) { None } else { Some(words(dice.some(&ACRS))) },
        device: dice.maybe(2, |_| guid(9)),
        groups: if dice.once_in(3) {
            None
        } else {
            Some(dice.some(&[1, 2, 3, 4]).into_iter().map(guid).collect())
        },
        ..bare
    }
}

/// A moment within three weeks, half of the time at the edge of a window.
fn moment(dice: &mut Dice, offsets: &[Option<i32>]) -> i64 {
    if dice.once_in(2) {
        return MONDAY + dice.between(0, 21 * DAY);
    }
    let (_, from, to, zone) = dice.pick(&WINDOWS);
    let offset = offsets.get(zone).copied().flatten().unwrap_or(0);
    let edge = i64::from(dice.pick(&[from, to])) * 60 - i64::from(offset);
    MONDAY + dice.between(0, 20) * DAY + edge + dice.between(-1, 1)
}

/// Anything that a rule may be asked about; a part of it not known now and then.
pub(crate) fn scene(dice: &mut Dice) -> Scene {
    let berlin = dice.pick(&[3_600, 7_200]);
    let offsets = vec![Some(0), if dice.once_in(8) { None } else { Some(berlin) }, Some(45_900)];
    let now = moment(dice, &offsets);
    let service = dice.pick(&SERVICES);
    let began = if service == Service::Live || dice.once_in(8) {
        Some(now - dice.pick(&[0, 1, 599, 600, 3_600, 50_000]))
    } else {
        None
    };
    Scene {
        service,
        person: if dice.once_in(12) { None } else { Some(dice.pick(&[0xa1, 0xa1, 0xb0, 0xd0])) },
        role: dice.pick(&[None, Some(Role::User), Some(Role::User), Some(Role::Admin), Some(Role::Admin)]),
        guest: dice.pick(&[None, Some(false), Some(false), Some(true)]),
        sign_in: if dice.once_in(8) { None } else { Some(sign_in(dice, began.unwrap_or(now))) },
        from: if dice.once_in(6) { None } else { Some(dice.pick(&ADDRESSES).parse().unwrap()) },
        began,
        now,
        labels: if dice.once_in(6) { vec![] } else { vec![dice.pick(&LABELS[..2]), dice.pick(&LABELS[2..])] },
        resources: if dice.once_in(6) { vec![] } else { dice.some(&RESOURCES) },
        // Not diced, so that the other dice fall as they fell.
        half_known: now.rem_euclid(4) == 1,
        offsets,
    }
}
