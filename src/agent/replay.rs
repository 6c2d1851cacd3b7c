//! What other access rules would have decided about the logins that this node remembers. Nothing changes by asking.

use nightlatch_model::Timestamp;
use nightlatch_rules::compile;

use super::admin::v1::{ReplayReply, ReplayRow, RulesFile};
use super::gate::Gate;
use crate::access::{InForce, NodeZones, Past, Replayed, Trial, replay};
use crate::telemetry::{Observation, Outcome, Record};

impl Gate {
    /// Tries these files on everything that was decided, or observed, since then. Reads the rings: not for a thread that
    /// answers others.
    pub(super) fn replay(&self, since: Timestamp, files: Vec<RulesFile>) -> ReplayReply {
        let texts: Vec<(String, String)> = files.into_iter().map(|file| (file.name, file.text)).collect();
        let rules = match compile(&texts, &NodeZones) {
            Ok(compiled) => InForce::new(compiled.policy),
            Err(cause) => return ReplayReply { error: cause.to_string(), ..ReplayReply::default() },
        };
        let decided = |record: &Record| {
            record.at >= since
                && record.outcome != Outcome::Admit
                && record.service != "hook"
                && record.service != "session"
        };
        let mut past: Vec<Past> = self.recorder.all(decided).into_iter().map(of_record).collect();
        let seen = self.observations.since(since).into_iter().filter(|one| one.verdict != "local");
        past.extend(seen.map(of_observation));
        past.sort_by_key(|one| one.at);
        let prompts = self.outside.prompt.is_some();
        reply(replay(&past, Trial { rules: &rules, node: &self.settings.node, prompts }))
    }
}

fn of_record(record: Record) -> Past {
    Past {
        at: record.at,
        user: record.user,
        rhost: record.rhost.unwrap_or_default(),
        correlation: record.correlation,
        oid: record.oid.and_then(|oid| oid.parse().ok()),
        reason: record.reason,
        input: record.access,
    }
}

fn of_observation(seen: Observation) -> Past {
    Past {
        at: seen.at,
        user: seen.user,
        rhost: seen.rhost,
        correlation: seen.correlation,
        oid: seen.oid,
        reason: (!seen.reason.is_empty()).then_some(seen.reason),
        input: seen.access,
    }
}

fn reply(found: Replayed) -> ReplayReply {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    ReplayReply {
        error: String::new(),
        looked_at: count(found.looked_at),
        unreadable: count(found.unreadable),
        oldest: found.oldest.map_or(0, |at| at.0),
        refused: count(found.refused),
        permitted: count(found.permitted),
        prompted: count(found.prompted),
        rows: found
            .differences
            .into_iter()
            .map(|one| ReplayRow {
                at: one.at.0,
                user: one.user,
                service: one.service.into(),
                rhost: one.rhost,
                was: one.was,
                now: one.now,
                rule: one.rule,
                correlation: one.correlation,
            })
            .collect(),
    }
}
