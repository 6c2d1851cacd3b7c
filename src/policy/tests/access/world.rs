//! Policies and circumstances in plain words and numbers: the model need not read what the rules are made of.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use core::net::IpAddr;
use nightlatch_model::{Guid, ObjectId, Role, Timestamp};
use nightlatch_policy::{
    AccessPolicy, AccessRule, AccessRules, Circumstances, DoorKind, Limits, Network, NodeFacts, ProofKind,
    Require, ResourcePattern, RuleEffect, Service, SignIn, When, Where, Who,
};

pub(crate) const DAY: i64 = 86_400;
/// Monday, 16 November 2026, 00:00 in UTC.
pub(crate) const MONDAY: i64 = 1_794_787_200;

pub(crate) const SERVICES: [Service; 4] = [Service::Ssh, Service::Sudo, Service::Other, Service::Live];

/// Days from Monday, first minute, minute that is no longer in, zone.
pub(crate) type Window = ([u8; 7], u16, u16, usize);

pub(crate) const WINDOWS: [Window; 10] = [
    ([1, 1, 1, 1, 1, 0, 0], 8 * 60, 18 * 60, 0),
    ([1, 1, 1, 1, 1, 0, 0], 0, 1440, 1),
    ([0, 0, 0, 0, 1, 1, 0], 22 * 60, 6 * 60, 1),
    ([1, 1, 1, 1, 1, 1, 1], 0, 0, 0),
    ([0, 1, 0, 1, 0, 1, 1], 540, 540, 2),
    ([1, 1, 1, 1, 1, 1, 1], 12 * 60, 12 * 60 - 1, 1),
    ([0, 0, 0, 0, 0, 0, 1], 20 * 60, 20 * 60 - 5, 0),
    ([1, 1, 1, 1, 1, 1, 1], 6 * 60, 22 * 60, 2),
    ([1, 1, 1, 1, 1, 1, 1], 0, 1440, 3),
    ([0, 0, 1, 1, 0, 1, 1], 23 * 60 + 59, 1440, 0),
];

/// One rule in plain words.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) name: &'static str,
    pub(crate) effect: RuleEffect,
    pub(crate) role: Option<Role>,
    pub(crate) groups: Option<Vec<u8>>,
    pub(crate) users: Option<Vec<u8>>,
    pub(crate) guests: Option<bool>,
    pub(crate) labels: Option<Vec<(&'static str, &'static str)>>,
    pub(crate) patterns: Option<Vec<&'static str>>,
    /// An index into [`WINDOWS`].
    pub(crate) window: Option<usize>,
    pub(crate) networks: Option<Vec<(IpAddr, u8)>>,
    pub(crate) proof: Option<Vec<ProofKind>>,
    pub(crate) doors: Option<Vec<DoorKind>>,
    pub(crate) amr: Vec<&'static str>,
    pub(crate) acrs: Vec<&'static str>,
    pub(crate) device: bool,
    pub(crate) max_auth_age: Option<u32>,
    pub(crate) max_age: Option<u32>,
    pub(crate) limits: Limits,
}

impl Plain {
    /// A rule about everybody.
    pub(crate) fn new(name: &'static str, effect: RuleEffect) -> Self {
        Self {
            name,
            effect,
            role: None,
            groups: None,
            users: None,
            guests: None,
            labels: None,
            patterns: None,
            window: None,
            networks: None,
            proof: None,
            doors: None,
            amr: vec![],
            acrs: vec![],
            device: false,
            max_auth_age: None,
            max_age: None,
            limits: Limits::default(),
        }
    }
}

/// Node, person and moment in plain words.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) service: Service,
    pub(crate) person: Option<u8>,
    pub(crate) role: Option<Role>,
    pub(crate) guest: Option<bool>,
    pub(crate) sign_in: Option<SignIn>,
    pub(crate) from: Option<IpAddr>,
    pub(crate) began: Option<i64>,
    pub(crate) now: i64,
    pub(crate) labels: Vec<(&'static str, &'static str)>,
    pub(crate) resources: Vec<&'static str>,
    pub(crate) half_known: bool,
    pub(crate) offsets: Vec<Option<i32>>,
}

impl Scene {
    pub(crate) fn node(&self) -> NodeFacts {
        NodeFacts {
            labels: map(&self.labels),
            resources: self.resources.iter().map(|&text| text.to_owned()).collect(),
            is_half_known: self.half_known,
        }
    }

    pub(crate) fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            service: self.service,
            oid: self.person.map(person),
            role: self.role,
            guest: self.guest,
            sign_in: self.sign_in.as_ref(),
            from: self.from,
            began: self.began.map(Timestamp),
            now: Timestamp(self.now),
        }
    }

    /// Puts it to `then` with the rules.
    pub(crate) fn with<T>(&self, policy: &AccessPolicy, then: impl FnOnce(AccessRules<'_>) -> T) -> T {
        then(AccessRules { policy, node: &self.node(), offsets: &self.offsets })
    }
}

pub(crate) fn guid(n: u8) -> Guid {
    Guid::from_bytes([n; 16])
}

pub(crate) fn person(n: u8) -> ObjectId {
    ObjectId(guid(n))
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn when((days, from_min, to_min, zone): Window) -> When {
    When { days: days.map(|day| day == 1), from_min, to_min, zone }
}

/// The rules as the code under test takes them.
pub(crate) fn policy(rules: &[Plain]) -> AccessPolicy {
    let zones = ["UTC", "Europe/Berlin", "Pacific/Chatham"].map(str::to_owned).to_vec();
    AccessPolicy { rules: rules.iter().map(rule).collect(), zones }
}

fn rule(plain: &Plain) -> AccessRule {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    AccessRule {
        name: plain.name.into(),
        effect: plain.effect,
        who: Who {
            role: plain.role,
            groups: plain.groups.as_ref().map(|list| list.iter().copied().map(guid).collect()),
            users: plain.users.as_ref().map(|list| list.iter().copied().map(person).collect()),
            guests: plain.guests,
        },
        place: Where {
            labels: plain.labels.as_deref().map(map),
            resources: plain
                .patterns
                .as_ref()
                .map(|list| list.iter().map(|text| ResourcePattern::new(text).unwrap()).collect()),
        },
        when: plain.window.map(|at| when(WINDOWS[at])),
        network: plain
            .networks
            .as_ref()
            .map(|list| list.iter().map(|&(at, prefix)| Network::new(at, prefix).unwrap()).collect()),
        proof: plain.proof.clone(),
        doors: plain.doors.clone(),
        require: Require {
            amr: texts(&plain.amr),
            acrs: texts(&plain.acrs),
            device: plain.device,
            max_auth_age: plain.max_auth_age.and_then(NonZeroU32::new),
            max_age: plain.max_age.and_then(NonZeroU32::new),
        },
        limits: plain.limits,
    }
}
