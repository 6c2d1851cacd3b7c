//! What may be swept: an audit session id or a uid of our range, and nothing else.
//!
//! A sweep with the wrong key takes the node's services with it: every process without a login has the session
//! id 4294967295. Such keys cannot be made here. Sources: proc_pid_loginuid(5), the kernel's kernel/auditsc.c
//! (session ids count up from 1).

use std::collections::BTreeSet;

use nightlatch_model::is_our_uid;
use nightlatch_wire::NO_LOGINUID;

use crate::process::{Owner, Processes, Stat};

/// The process that starts all others.
const INIT: u32 = 1;
/// Audit session ids from here on are no kernel's that has run for less than some centuries.
const SESSION_END: u32 = 1 << 31;

/// Keys that would hit the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forbidden {
    sessions: BTreeSet<u32>,
    own_uid: u32,
}

impl Forbidden {
    /// Forbids these audit session ids, and our own uid.
    #[must_use]
    pub fn new(sessions: impl IntoIterator<Item = u32>, own_uid: u32) -> Self {
        Self { sessions: sessions.into_iter().collect(), own_uid }
    }

    /// The audit session ids of pid 1, of every listener of sshd and of ourselves, as they are now.
    #[must_use]
    pub fn gather(processes: &dyn Processes, own_pid: u32, own_uid: u32) -> Self {
        let listeners = processes
            .pids()
            .into_iter()
            .filter(|pid| processes.stat(*pid).is_some_and(|stat| is_listener(processes, *pid, &stat)));
        let kept = [INIT, own_pid].into_iter().chain(listeners);
        let sessions = kept.filter_map(|pid| Some(processes.owner(pid)?.session)).collect();
        Self { sessions, own_uid }
    }
}

/// What a sweep looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepKey(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Session(u32),
    Person(u32),
}

impl SweepKey {
    /// One login: every process with this audit session id. `None` for an id that is unset, the node's own or
    /// out of range.
    #[must_use]
    pub fn session(id: u32, forbidden: &Forbidden) -> Option<Self> {
        let good = id != 0 && id != NO_LOGINUID && id < SESSION_END && !forbidden.sessions.contains(&id);
        good.then_some(Self(Kind::Session(id)))
    }

    /// One person: every process with this login uid, or with it among its four uids. `None` for every uid
    /// that is not one of our people's.
    #[must_use]
    pub fn person(uid: u32, forbidden: &Forbidden) -> Option<Self> {
        (is_our_uid(uid) && uid != forbidden.own_uid).then_some(Self(Kind::Person(uid)))
    }

    /// Whether a process is one of those that are looked for.
    #[must_use]
    pub fn matches(self, owner: &Owner) -> bool {
        match self.0 {
            Kind::Session(id) => owner.session == id,
            Kind::Person(uid) => owner.loginuid == uid || owner.uids.contains(&uid),
        }
    }

    /// Whether a process is one of those, and runs with the person's own rights. Never true for a session.
    #[must_use]
    pub fn matches_own(self, owner: &Owner) -> bool {
        let [real, effective, ..] = owner.uids;
        matches!(self.0, Kind::Person(uid) if real == uid || effective == uid)
    }
}

/// Whether this process must never be signalled, whatever it matches: pid 1, ourselves, a listener of sshd.
#[must_use]
pub fn is_untouchable(processes: &dyn Processes, own_pid: u32, pid: u32, stat: &Stat) -> bool {
    pid <= INIT || pid == own_pid || is_listener(processes, pid, stat)
}

/// Whether this is the process that accepts sshd's connections. A name alone can be taken by anybody: it runs
/// as root, under pid 1, in sshd's own unit.
fn is_listener(processes: &dyn Processes, pid: u32, stat: &Stat) -> bool {
    stat.comm == "sshd"
        && stat.parent == INIT
        && processes.owner(pid).is_some_and(|owner| owner.uids == [0; 4])
        && processes.cgroup(pid).lines().any(|line| {
            line.rsplit('/').next().is_some_and(|unit| matches!(unit, "ssh.service" | "sshd.service"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_model::{ADMIN_GID, UID_HIGH, UID_LOW};

    const INITS: u32 = 3;
    const SSHDS: u32 = 7;
    const OURS: u32 = 9;

    /// Every value that would hit the node, for both kinds.
    #[test]
    fn keys_that_hit_the_node_cannot_be_made() {
        let forbidden = Forbidden::new([INITS, SSHDS, OURS, 1_000, 65_534], 995);
        for value in [u32::MAX, 0, INITS, SSHDS, OURS, 1 << 31, (1 << 31) + 1, u32::MAX - 1, 65_534, 1_000] {
            assert_eq!(SweepKey::session(value, &forbidden), None, "session {value}");
            assert_eq!(SweepKey::person(value, &forbidden), None, "person {value}");
        }
        // What is forbidden only because somebody of the node has it is an ordinary number otherwise.
        let nothing = Forbidden::new([], 995);
        for value in [u32::MAX, 0, 1 << 31, (1 << 31) + 1, u32::MAX - 1] {
            assert_eq!(SweepKey::session(value, &nothing), None, "session {value}");
        }
        for value in [INITS, 1_000, 65_534, (1 << 31) - 1] {
            assert!(SweepKey::session(value, &nothing).is_some(), "session {value}");
        }
        for value in [995, UID_LOW - 1, ADMIN_GID, UID_HIGH, UID_HIGH + 1] {
            assert_eq!(SweepKey::person(value, &nothing), None, "person {value}");
        }
        assert!(SweepKey::person(UID_LOW, &nothing).is_some());
        assert_eq!(SweepKey::person(UID_LOW, &Forbidden::new([], UID_LOW)), None, "our own uid");
    }

    #[test]
    fn a_key_matches_what_it_says() {
        let none = Forbidden::default();
        let owner = |uids, loginuid, session| Owner { uids, loginuid, session };
        let person = SweepKey::person(UID_LOW, &none).unwrap();
        let session = SweepKey::session(5, &none).unwrap();
        for at in 0..4 {
            let mut uids = [0; 4];
            uids[at] = UID_LOW;
            assert!(person.matches(&owner(uids, NO_LOGINUID, NO_LOGINUID)), "uid {at}");
            assert_eq!(person.matches_own(&owner(uids, UID_LOW, 5)), at < 2, "uid {at}");
        }
        let sudo = owner([0; 4], UID_LOW, 5);
        assert!(person.matches(&sudo) && session.matches(&sudo));
        assert!(!person.matches_own(&sudo) && !session.matches_own(&owner([UID_LOW; 4], UID_LOW, 5)));
        let init = owner([0; 4], NO_LOGINUID, NO_LOGINUID);
        assert!(!person.matches(&init) && !session.matches(&init));
    }
}
