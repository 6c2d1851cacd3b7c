//! What `nightlatch status` shows: the health of every part, how old its knowledge is, and what would happen
//! if Azure vanished now.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nightlatch_jwt::KEY_GRACE_S;
use nightlatch_model::Role;
use nightlatch_policy::{Grace, LoginRequest, Service, grace};

use super::access_rules::AccessHealth;
use super::admin::StatusSource;
use super::admin::v1::StatusRow;
use super::broker::Health;
use super::gate::{Gate, lock};
use super::local_files::FilesHealth;
use super::rejudge::Pulse;
use super::servers::Served;
use super::settings::Settings;
use crate::config::{CaSource, Mode};
use crate::login::{KeptKey, KeySource};

/// From when on a list of CA keys is late, in seconds: it is asked for each minute.
const LATE_LIST_S: i64 = 600;

/// How long the answers on each socket take.
#[derive(Default)]
pub(super) struct DoorTimes {
    pub(super) hook: Arc<Served>,
    pub(super) account: Arc<Served>,
}

/// Where the rows come from.
pub(super) struct Parts {
    pub(super) times: DoorTimes,
    pub(super) local: FilesHealth,
    pub(super) access: AccessHealth,
    pub(super) broker: Health,
    pub(super) pulse: Arc<Pulse>,
}

fn row(part: &str, state: &str, detail: String) -> StatusRow {
    StatusRow { part: part.into(), state: state.into(), detail }
}

/// The rows, made anew at each question.
pub(super) fn source(settings: &Settings, gate: Arc<Gate>, parts: Parts) -> StatusSource {
    let settings = settings.clone();
    Box::new(move || {
        let took = |times: &Served| match (times.whole.last(), times.own.last()) {
            (Some(whole), Some(own)) => {
                let own = own.p99.as_secs_f64() * 1e6;
                format!("{whole}; from the whole question p99 {own:.1} us")
            }
            _ => "none yet".to_owned(),
        };
        let mut rows = vec![
            row("mode", "ok", format!("{:?}", settings.mode).to_lowercase()),
            row("tenant", "ok", settings.tenant.to_string()),
            row("node", "ok", format!("{:?}, {:?}", settings.kind, settings.cloud)),
            authorities(&settings, &gate),
            roles(&settings, &gate),
            access_rules(&parts.access),
            local_files(&parts.local),
            row("hook answers", "ok", took(&parts.times.hook)),
            row("account answers", "ok", took(&parts.times.account)),
            clock(&gate),
            sessions(&settings, &parts.pulse),
            without_azure(&gate, &parts.pulse),
        ];
        rows.extend(token_keys(&settings, &gate));
        rows.extend(parts.broker.rows());
        rows
    })
}

fn roles(settings: &Settings, gate: &Gate) -> StatusRow {
    let from = format!("from {:?} at {} scopes", settings.roles_from, settings.scopes.len());
    match gate.outside.roles.trouble() {
        None => row("roles", "ok", from),
        Some(why) => row("roles", "degraded", format!("{from}; what was read before stays: {why}")),
    }
}

fn access_rules(health: &AccessHealth) -> StatusRow {
    let (state, detail) = lock(health).clone();
    row("access rules", state, detail)
}

/// Whether revocations, pinned keys, the table of people and the local accounts are in force as they stand there.
fn local_files(health: &FilesHealth) -> StatusRow {
    match lock(health).clone() {
        None => row("local files", "ok", "revocations, people and local accounts are read".into()),
        Some(why) => row("local files", "degraded", why),
    }
}

/// Whose certificates can be checked. A node that takes sign-ins and names no source of authorities needs none.
fn authorities(settings: &Settings, gate: &Gate) -> StatusRow {
    let now = gate.moment().wall;
    let keys = gate.facts().trust.kept();
    let age = |key: &KeptKey| now.since(key.seen);
    let oldest = keys.iter().map(age).max().unwrap_or(0);
    // Of the keys that a service lists which is asked: a list that came is the age of its youngest key.
    let asked = |source: KeySource| {
        let wanted = match source {
            KeySource::Imds => CaSource::Imds,
            KeySource::Himds => CaSource::Himds,
            KeySource::File => return false,
        };
        settings.ca_sources.contains(&wanted)
    };
    let listed = keys.iter().filter(|key| asked(key.source)).map(age).min();
    let wanted = settings.openpubkey.is_none() || settings.ca_sources != [CaSource::File];
    let (state, detail) = match (keys.len(), listed) {
        (0, _) if wanted => ("down", "0 keys: no certificate can be checked".to_owned()),
        (0, _) => ("ok", "none; only sign-ins (OpenPubkey) are taken".to_owned()),
        (count, Some(listed)) if listed > LATE_LIST_S => {
            let grace = settings.ca_grace;
            (
                "degraded",
                format!(
                    "{count} keys, last listed {listed} s ago and believed for {grace} s: see the journal"
                ),
            )
        }
        (count, _) => ("ok", format!("{count} keys, oldest seen {oldest} s ago")),
    };
    row("certificate authorities", state, detail)
}

/// Whether the sign-ins in certificates can be checked.
fn token_keys(settings: &Settings, gate: &Gate) -> Option<StatusRow> {
    settings.openpubkey.as_ref()?;
    let (keys, newest) = gate.with_facts(|facts| (facts.token_keys.len(), facts.token_keys.newest()));
    let Some(newest) = newest.filter(|_| keys > 0) else {
        return Some(row("token keys", "down", "none fetched yet: no sign-in can be checked".into()));
    };
    let age = gate.moment().wall.since(newest);
    let state = if age > KEY_GRACE_S { "degraded" } else { "ok" };
    Some(row("token keys", state, format!("{keys} keys, fetched {age} s ago")))
}

fn clock(gate: &Gate) -> StatusRow {
    let boot = gate.clock().boot();
    match gate.time.mark.at(boot) {
        None => row("clock", "ok", "nobody has told a time yet".into()),
        Some(_) if gate.moment().suspect => {
            let behind = gate.moment().wall.since(gate.clock().now());
            row("clock", "degraded", format!("{behind} s behind the time that Azure told: set it"))
        }
        Some(mark) => row(
            "clock",
            "ok",
            format!("{} s ahead of the time that Azure told", gate.clock().now().since(mark)),
        ),
    }
}

fn sessions(settings: &Settings, pulse: &Pulse) -> StatusRow {
    match &*lock(&pulse.trouble) {
        _ if settings.mode == Mode::Observe => row("sessions", "ok", "not judged while observing".into()),
        Some(trouble) => row("sessions", "down", trouble.clone()),
        None => {
            let live = pulse.live.load(Ordering::Relaxed);
            row("sessions", "ok", format!("{live} live, judged every {} s", settings.rejudge.as_secs()))
        }
    }
}

/// Who could still log in, and for how long, if nothing of Azure answered from now on.
fn without_azure(gate: &Gate, pulse: &Pulse) -> StatusRow {
    let now = gate.moment();
    let ledger = lock(&gate.grace);
    let (mut people, mut last, mut admins) = (HashSet::new(), None, 0);
    for yes in ledger.iter() {
        let request = LoginRequest { service: Service::Ssh, name: yes.name.clone() };
        let held = grace(Some(yes), (yes.tid, yes.oid), &request, gate.settings.grace, now);
        match held {
            Grace::Holds { until, .. } => {
                people.insert(yes.oid);
                last = last.max(Some(until));
            }
            Grace::Fails(_) => admins += usize::from(yes.role == Role::Admin),
        }
    }
    let by_grace = pulse.kept_by_grace.load(Ordering::Relaxed);
    let until = last.map_or_else(String::new, |until| format!(", the last until {until}"));
    let detail = format!(
        "{} people could log in by grace{until}; {admins} administrators could not; {by_grace} sessions live by grace now",
        people.len()
    );
    row("if Azure vanished", if by_grace > 0 { "degraded" } else { "ok" }, detail)
}
