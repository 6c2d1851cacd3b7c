//! What the hook was last asked on each connection, so that PAM account judges the certificate
//! that sshd verified.
//!
//! sshd runs the hook right before it checks a signature, so the *last* call of a monitor is the
//! one that was proven. Rows are keyed by (pid, start time) of the monitor: a reused pid is
//! another key. The table is bounded and filled by strangers: when it is full, rows that admitted
//! nothing or are decided make way, and no row that waits for its decision is ever evicted for a stranger.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::Reason;
use nightlatch_policy::Step;
use nightlatch_wire::Parent;

use super::admit::Admitted;

/// How long a row is kept after its last hook call: longer than any LoginGraceTime in use.
const ROW_LIFE: Duration = Duration::from_secs(600);
/// The most connections that may be between hook and account at a time.
const MAX_ROWS: usize = 4_096;
/// How often old rows are looked for while the table is full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// From here on one name may hold at most [`MAX_ROWS_OF_A_NAME`].
const CROWDED: usize = 1_024;
/// The most connections of one name between hook and account while the table is crowded.
const MAX_ROWS_OF_A_NAME: usize = 256;
/// The most hook calls that one connection may make: MaxAuthTries, twice, and then some.
const MAX_CALLS: u32 = 64;

/// The last hook call of one connection.
#[derive(Clone, Debug)]
pub struct LastCall {
    /// The login name as sshd gave it.
    pub user: String,
    /// The uid that sshd holds (`%U`).
    pub held_uid: u32,
    /// The certificate, when it was admitted; a later refused call takes it away.
    pub admitted: Option<Admitted>,
    /// SHA-256 of the certificate in base64 as sshd gave it; only when it was admitted.
    pub digest: Option<[u8; 32]>,
    /// The correlation id that all calls of this connection share.
    pub correlation: String,
    /// Every rule of the last admission, for the record of the decision.
    pub steps: Arc<[Step]>,
    /// Why the last certificate was refused, if one was.
    pub refused: Option<Reason>,
    calls: u32,
    at: Duration,
    settled: bool,
    /// A person is at a prompt on this connection: nobody's offers push it out.
    pinned: bool,
}

/// The rows of all connections that are between hook and account.
#[derive(Debug, Default)]
pub struct Monitors {
    rows: HashMap<Parent, LastCall>,
    swept: Duration,
}

/// One call of the hook, judged.
#[derive(Debug)]
pub struct Call {
    /// The login name as sshd gave it.
    pub user: String,
    /// The uid that sshd holds (`%U`).
    pub held_uid: u32,
    /// SHA-256 of the key in base64; only when it was admitted.
    pub digest: Option<[u8; 32]>,
    /// What came of it.
    pub result: Result<Box<Admitted>, Reason>,
    /// Every rule that was looked at.
    pub steps: Arc<[Step]>,
    /// The id of the connection.
    pub correlation: String,
}

/// Why a hook call was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFull {
    /// Too many connections at once.
    Rows,
    /// Too many calls on this connection.
    Calls,
}

impl Monitors {
    /// The correlation id of a connection, when it has called before.
    #[must_use]
    pub fn correlation(&self, monitor: Parent) -> Option<&str> {
        self.rows.get(&monitor).map(|row| row.correlation.as_str())
    }

    /// True when the last call of this connection admitted a certificate.
    #[must_use]
    pub fn has_admitted(&self, monitor: Parent) -> bool {
        self.rows.get(&monitor).is_some_and(|row| row.admitted.is_some())
    }

    /// True when the last call of this connection was refused, or was a bare key after one that was.
    #[must_use]
    pub fn has_refused(&self, monitor: Parent) -> bool {
        self.rows.get(&monitor).is_some_and(|row| row.refused.is_some())
    }

    /// Records a hook call; `boot` is the time since boot.
    ///
    /// # Errors
    /// [`TableFull`]: the caller must not admit.
    pub fn record(&mut self, monitor: Parent, call: Call, boot: Duration) -> Result<(), TableFull> {
        let idle = boot.saturating_sub(self.swept);
        if idle > ROW_LIFE / 4 || (self.rows.len() >= MAX_ROWS && idle >= SWEEP_INTERVAL) {
            self.rows.retain(|_, row| boot.saturating_sub(row.at) < ROW_LIFE);
            self.swept = boot;
        }
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&monitor) {
            // Whoever offers any key at all gets a row. That must not keep out who has a certificate.
            self.rows.retain(|_, row| row.admitted.is_some() && !row.settled);
        }
        if self.rows.len() >= CROWDED && call.result.is_ok() {
            self.make_room_for(&call.user, monitor);
        }
        let calls = self.rows.get(&monitor).map_or(0, |row| row.calls);
        if calls >= MAX_CALLS {
            // What was admitted before must not survive a call that nobody looked at.
            self.rows.entry(monitor).and_modify(|row| row.admitted = None);
            return Err(TableFull::Calls);
        }
        if calls == 0 && self.rows.len() >= MAX_ROWS {
            return Err(TableFull::Rows);
        }
        // After a refused certificate clients offer the bare key; that must not hide the reason.
        let earlier = self.rows.get(&monitor).and_then(|row| row.refused);
        let (admitted, refused) = match call.result {
            Ok(admitted) => (Some(*admitted), None),
            Err(Reason::NotACertificate) => (None, earlier.or(Some(Reason::NotACertificate))),
            Err(reason) => (None, Some(reason)),
        };
        let row = LastCall {
            user: call.user,
            held_uid: call.held_uid,
            digest: call.digest.filter(|_| admitted.is_some()),
            admitted,
            correlation: call.correlation,
            steps: call.steps,
            refused,
            calls: calls + 1,
            at: boot,
            settled: false,
            pinned: false,
        };
        self.rows.insert(monitor, row);
        Ok(())
    }

    /// A certificate can be offered by whoever has its public half, as often as they like: one name may
    /// hold only so many admitted rows, and the oldest of its own makes way. Rows that admitted nothing do
    /// not count: anybody can make those in anybody's name.
    fn make_room_for(&mut self, user: &str, monitor: Parent) {
        let own = self.rows.iter().filter(|(key, row)| {
            row.admitted.is_some() && row.user == user && !row.pinned && **key != monitor
        });
        let (count, oldest) =
            own.fold((0_usize, None::<(Duration, Parent)>), |(count, oldest), (key, row)| {
                let older = oldest.is_none_or(|(at, _)| row.at < at);
                (count + 1, if older { Some((row.at, *key)) } else { oldest })
            });
        if let (true, Some((_, oldest))) = (count >= MAX_ROWS_OF_A_NAME, oldest) {
            self.rows.remove(&oldest);
        }
    }

    /// Notes that a connection's decision was made: from now on its place is anybody's when places are
    /// short. The same question may still come again, and is answered anew.
    pub fn settle(&mut self, monitor: Parent) {
        if let Some(row) = self.rows.get_mut(&monitor) {
            row.settled = true;
        }
    }

    /// Notes that a person is at a prompt on a connection, which takes longer than others stay: it keeps its place. How many
    /// there are is for the caller to bound.
    pub fn pin(&mut self, monitor: Parent) {
        if let Some(row) = self.rows.get_mut(&monitor) {
            row.pinned = true;
        }
    }

    /// The last call of the connection that PAM's chain of parents belongs to: the nearest
    /// parent with a row. Under keyboard-interactive PAM runs in a child of the monitor.
    #[must_use]
    pub fn find(&self, parents: &[Parent], boot: Duration) -> Option<(Parent, &LastCall)> {
        parents.iter().find_map(|parent| {
            let row = self.rows.get(parent)?;
            (boot.saturating_sub(row.at) < ROW_LIFE).then_some((*parent, row))
        })
    }
}

#[cfg(test)]
mod tests {
    use nightlatch_model::{LoginName, Timestamp};

    use super::*;

    const fn parent(pid: u32, start: u64) -> Parent {
        Parent { pid, start }
    }

    fn call(monitors: &mut Monitors, monitor: Parent, boot: u64) -> Result<(), TableFull> {
        refuse(monitors, monitor, Reason::NotACertificate, boot)
    }

    fn refuse(monitors: &mut Monitors, monitor: Parent, why: Reason, boot: u64) -> Result<(), TableFull> {
        let call = Call {
            user: "a@b.c".into(),
            held_uid: 7,
            digest: None,
            result: Err(why),
            steps: Arc::default(),
            correlation: "id".into(),
        };
        monitors.record(monitor, call, Duration::from_secs(boot))
    }

    #[test]
    fn a_bare_key_does_not_hide_why_the_certificate_was_refused() {
        let mut monitors = Monitors::default();
        refuse(&mut monitors, parent(1, 1), Reason::CertExpired, 0).unwrap();
        refuse(&mut monitors, parent(1, 1), Reason::NotACertificate, 0).unwrap();
        let (_, row) = monitors.find(&[parent(1, 1)], Duration::ZERO).unwrap();
        assert_eq!(row.refused, Some(Reason::CertExpired));
    }

    #[test]
    fn the_join_takes_the_nearest_parent_with_a_row() {
        let mut monitors = Monitors::default();
        call(&mut monitors, parent(10, 1), 0).unwrap();
        let boot = Duration::from_secs(1);
        assert!(monitors.find(&[parent(11, 5), parent(10, 1)], boot).is_some());
        // The same pid, started at another time, is another process.
        assert!(monitors.find(&[parent(10, 2)], boot).is_none());
        assert!(monitors.find(&[], boot).is_none());
        assert!(monitors.find(&[parent(10, 1)], Duration::from_secs(601)).is_none());
    }

    fn admit(monitors: &mut Monitors, monitor: Parent, boot: u64) -> Result<(), TableFull> {
        admit_as(monitors, "a@b.c", monitor, boot)
    }

    fn admit_as(monitors: &mut Monitors, user: &str, monitor: Parent, boot: u64) -> Result<(), TableFull> {
        let admitted = Admitted {
            name: LoginName::parse("a@b.c").unwrap(),
            line: String::new(),
            tid: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            oid: None,
            identity_source: "nowhere",
            begins: Timestamp(0),
            ends: Timestamp(0),
            handle: super::super::trust::Handle::default(),
            guest: None,
            sign_in: nightlatch_policy::SignIn {
                proof: nightlatch_policy::ProofKind::Entra,
                issued: Timestamp(0),
                auth_time: None,
                amr: None,
                acrs: None,
                device: None,
                groups: None,
                prompted: None,
            },
            forwarding: nightlatch_policy::Forwarding::ALL,
        };
        let call = Call {
            user: user.into(),
            held_uid: 7,
            digest: None,
            result: Ok(Box::new(admitted)),
            steps: Arc::default(),
            correlation: "id".into(),
        };
        monitors.record(monitor, call, Duration::from_secs(boot))
    }

    #[test]
    fn the_table_refuses_and_does_not_evict() {
        let mut monitors = Monitors::default();
        for pid in 0..4_096 {
            admit_as(&mut monitors, &format!("a{pid}@b.c"), parent(pid, 1), 0).unwrap();
        }
        assert_eq!(call(&mut monitors, parent(9_999, 1), 1), Err(TableFull::Rows));
        assert_eq!(admit(&mut monitors, parent(9_999, 1), 1), Err(TableFull::Rows));
        assert!(monitors.find(&[parent(0, 1)], Duration::from_secs(1)).is_some());
        admit(&mut monitors, parent(9_999, 1), 700).unwrap();
    }

    #[test]
    fn strangers_keep_nobody_out() {
        let mut monitors = Monitors::default();
        admit(&mut monitors, parent(1, 1), 0).unwrap();
        for pid in 10..20_000 {
            call(&mut monitors, parent(pid, 1), 0).unwrap();
        }
        admit(&mut monitors, parent(2, 1), 0).unwrap();
        for early in [1, 2] {
            let (_, row) = monitors.find(&[parent(early, 1)], Duration::ZERO).unwrap();
            assert!(row.admitted.is_some());
        }
        assert!(monitors.rows.len() <= 4_096);
    }

    /// Whoever has the public half of one certificate cannot fill the table with it.
    #[test]
    fn one_name_cannot_take_all_places() {
        let mut monitors = Monitors::default();
        for pid in 0..20_000 {
            admit(&mut monitors, parent(pid, 1), u64::from(pid / 1_000)).unwrap();
        }
        assert!(monitors.rows.len() < 4_096, "{}", monitors.rows.len());
        assert!(monitors.find(&[parent(19_999, 1)], Duration::from_secs(20)).is_some());
    }

    /// Nor push out who reads a prompt, with any number of offers of the same certificate.
    #[test]
    fn a_person_at_a_prompt_keeps_their_place() {
        let mut monitors = Monitors::default();
        for pid in 0..2_000 {
            admit(&mut monitors, parent(pid, 1), u64::from(pid / 100)).unwrap();
            monitors.pin(parent(0, 1));
        }
        let at = Duration::from_secs(20);
        assert!(monitors.find(&[parent(0, 1)], at).is_some());
        assert!(monitors.find(&[parent(1, 1)], at).is_none());
    }

    #[test]
    fn a_settled_connection_gives_its_place() {
        let mut monitors = Monitors::default();
        for pid in 0..4_096 {
            admit_as(&mut monitors, &format!("a{pid}@b.c"), parent(pid, 1), 0).unwrap();
        }
        monitors.settle(parent(0, 1));
        assert!(monitors.find(&[parent(0, 1)], Duration::ZERO).is_some());
        admit(&mut monitors, parent(9_999, 1), 0).unwrap();
        assert!(monitors.find(&[parent(0, 1)], Duration::ZERO).is_none());
        assert!(monitors.find(&[parent(1, 1)], Duration::ZERO).is_some());
    }

    #[test]
    fn one_connection_cannot_call_for_ever() {
        let mut monitors = Monitors::default();
        for _ in 0..64 {
            call(&mut monitors, parent(1, 1), 0).unwrap();
        }
        assert_eq!(call(&mut monitors, parent(1, 1), 0), Err(TableFull::Calls));
    }
}
