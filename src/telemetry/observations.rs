//! What would have been decided about logins that others let in: a capped ring of its own, so that two
//! weeks of it are there when the report is wanted, whatever else the node records.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nightlatch_model::{ObjectId, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::recorder::AccessInput;
use crate::store::Ring;

/// The size of the ring, in bytes: about 50,000 logins.
const RING_BYTES: u64 = 16 * 1024 * 1024;

/// One login that somebody else decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When it was judged.
    pub at: Timestamp,
    /// The login name, cut and cleaned.
    pub user: String,
    /// `permit`, `refuse`, `unknown` or `local`.
    pub verdict: String,
    /// The reason's word; empty for a permit.
    pub reason: String,
    /// What would fix it.
    pub hint: String,
    /// How the person proved themselves, as one word.
    pub proof: String,
    /// Where the connection came from.
    pub rhost: String,
    /// The id under which the journal has it.
    pub correlation: String,
    /// What the access rules were asked with; none where it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessInput>,
    /// Who, where it was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<ObjectId>,
}

/// The same verdict about the same person, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The newest of them.
    pub newest: Observation,
    /// How many there were.
    pub logins: u32,
}

/// The ring of observations. Cloning shares it.
#[derive(Clone)]
pub struct Observations(Arc<Mutex<Ring>>);

impl Observations {
    /// The ring at `path`.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(Ring::new(path, RING_BYTES))))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one, and says it in the journal. Writes to the disk: not for a path that somebody waits on.
    pub fn keep(&self, seen: &Observation) {
        info!(
            NIGHTLATCH_USER = seen.user,
            NIGHTLATCH_REASON = seen.reason,
            NIGHTLATCH_VERDICT = seen.verdict,
            NIGHTLATCH_CORRELATION = seen.correlation,
            NIGHTLATCH_RHOST = seen.rhost,
            "observed a login of {}: {} {} (ref {})",
            seen.user,
            seen.verdict,
            seen.reason,
            seen.correlation
        );
        let Ok(line) = serde_json::to_string(seen) else { return };
        if let Err(cause) = self.ring().append(&line) {
            error!("an observed login is not kept: {cause}: {:?}", std::error::Error::source(&cause));
        }
    }

    /// Everything from `since` on, oldest first.
    #[must_use]
    pub fn since(&self, since: Timestamp) -> Vec<Observation> {
        let lines = self.ring().lines().unwrap_or_default();
        let seen = lines.iter().filter_map(|line| serde_json::from_str::<Observation>(line).ok());
        seen.filter(|one| one.at >= since).collect()
    }

    /// Everything from `since` on, by person and verdict; refusals first, the most frequent first.
    #[must_use]
    pub fn report(&self, since: Timestamp) -> Vec<Counted> {
        let mut rows: HashMap<(String, String, String), Counted> = HashMap::new();
        for one in self.since(since) {
            let key = (one.user.clone(), one.verdict.clone(), one.reason.clone());
            match rows.get_mut(&key) {
                Some(row) => *row = Counted { newest: one, logins: row.logins.saturating_add(1) },
                None => {
                    rows.insert(key, Counted { newest: one, logins: 1 });
                }
            }
        }
        let mut rows: Vec<Counted> = rows.into_values().collect();
        let order = |row: &Counted| match row.newest.verdict.as_str() {
            "refuse" => 0,
            "unknown" => 1,
            "permit" => 2,
            _ => 3,
        };
        rows.sort_by(|a, b| (order(a), b.logins, &a.newest.user).cmp(&(order(b), a.logins, &b.newest.user)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: i64, user: &str, verdict: &str, reason: &str) -> Observation {
        Observation {
            at: Timestamp(at),
            user: user.into(),
            verdict: verdict.into(),
            reason: reason.into(),
            hint: String::new(),
            proof: "certificate".into(),
            rhost: String::new(),
            correlation: String::new(),
            access: None,
            oid: None,
        }
    }

    #[test]
    fn the_report_counts_and_puts_refusals_first() {
        let folder = tempfile::tempdir().unwrap();
        let ring = Observations::at(folder.path().join("observed.jsonl"));
        ring.keep(&seen(1, "old@b.c", "refuse", "no_vm_role"));
        ring.keep(&seen(5, "bob", "local", ""));
        ring.keep(&seen(6, "a@b.c", "permit", ""));
        ring.keep(&seen(7, "d@b.c", "refuse", "cert_expired"));
        ring.keep(&seen(8, "c@b.c", "refuse", "no_vm_role"));
        ring.keep(&seen(9, "c@b.c", "refuse", "no_vm_role"));
        let rows = ring.report(Timestamp(5));
        let shown: Vec<(&str, u32)> = rows.iter().map(|r| (r.newest.user.as_str(), r.logins)).collect();
        assert_eq!(shown, [("c@b.c", 2), ("d@b.c", 1), ("a@b.c", 1), ("bob", 1)]);
        assert_eq!(rows[0].newest.at, Timestamp(9));
    }
}
