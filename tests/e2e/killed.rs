//! kill -9 of the monitor and of each of our daemons at random points of many logins: afterwards the table is
//! what really lives, and each session that a person had was recorded with one beginning and one end.
#![allow(clippy::print_stdout, reason = "the seed is for whoever wants the same rounds again")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nightlatch_world::wait_until;
use serde_json::Value;

use crate::live::{Open, lively};
use crate::site::{SOON, Site};

/// Rounds in continuous integration.
const ROUNDS: u32 = 25;
/// Rounds of `make soak`.
const SOAK_ROUNDS: u32 = 200;
/// sessiond's ledger.
const LEDGER: &str = "/var/lib/nightlatch-sessiond/sessions.jsonl";

/// Who is killed.
const VICTIMS: [&str; 4] = ["monitor", "nightlatchd", "nightlatch-sessiond", "nightlatch-userdbd"];

/// A small generator, so that a printed seed is the whole story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

impl Site {
    /// The monitors of our people's connections that live: root's sshd with a loginuid of ours, by pid.
    fn monitors(&self) -> BTreeSet<u64> {
        let script = r#"for d in /proc/[0-9]*; do read -r l <$d/loginuid || continue
            [ "$l" -ge 1879048192 ] && [ "$l" -le 2147352575 ] || continue
            [ "$(cat $d/comm)" = sshd ] && grep -q '^Uid:.0' $d/status && echo ${d#/proc/}; done 2>/dev/null; true"#;
        let said = self.node.shell(script).unwrap();
        said.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The live logins of the table, by their monitors' pids.
    fn table(&self) -> BTreeSet<u64> {
        let rows = self.sessions(false);
        rows.iter()
            .filter(|row| row["origin"] == "login")
            .filter_map(|row| row["monitor_pid"].as_u64())
            .collect()
    }

    fn strike(&self, victim: &str, dice: &mut Dice) {
        if victim != "monitor" {
            drop(self.node.exec(&["systemctl", "kill", "-s", "KILL", victim]));
            return;
        }
        // Any connection of ours, also one that has no session yet.
        let said = self.node.exec(&["pgrep", "-f", "^sshd: .*\\[priv\\]"]).unwrap().stdout;
        let pids: Vec<String> = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
        if !pids.is_empty() {
            let pid = &pids[usize::try_from(dice.below(pids.len() as u64)).unwrap()];
            drop(self.node.exec(&["kill", "-9", pid]));
        }
    }

    fn ledger(&self) -> Vec<Value> {
        let text = self.node.shell(&format!("cat {LEDGER}")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[test]
fn killed_at_random_points_the_table_is_what_lives_and_every_session_is_recorded() {
    let soak = std::env::var_os("NIGHTLATCH_SOAK").is_some();
    let rounds = if soak { SOAK_ROUNDS } else { ROUNDS };
    let seed = std::env::var("NIGHTLATCH_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    println!("seed {seed} (NIGHTLATCH_SEED), {rounds} rounds");
    let mut dice = Dice(seed);

    let site = lively("");
    let names = ["alice@contoso.com", "bob@contoso.com"];
    site.roles(&[(names[0], "user"), (names[1], "admin")]);
    let people = names.map(|name| site.person(name));
    site.node.shell("install -d -m 1777 /run/witness").unwrap();
    site.assert_in(&people[0], names[0]);
    site.assert_in(&people[1], names[1]);
    let mut struck: BTreeMap<&str, u32> = BTreeMap::new();

    for round in 0..rounds {
        let mut open = Vec::new();
        for number in 0..2 {
            let who = usize::try_from(dice.below(2)).unwrap();
            let life = dice.below(3);
            // The session's own word that it was there.
            let word = format!("cat /proc/self/sessionid >/run/witness/{round}.{number}; sleep {life}");
            open.push(Open::start(&site.node, &people[who], names[who], &[], &[&word]));
        }
        // From before the key exchange to the middle of the session.
        std::thread::sleep(Duration::from_millis(dice.below(900)));
        let victim = VICTIMS[usize::try_from(dice.below(4)).unwrap()];
        site.strike(victim, &mut dice);
        *struck.entry(victim).or_default() += 1;
        for one in open {
            one.end(SOON);
        }
        if round % 5 == 4 {
            let settled = wait_until("the table to be what lives", SOON, || {
                let lives = site.monitors();
                site.node.exec(&["nightlatch", "sessions"]).is_ok_and(|done| done.status.success())
                    && site.table() == lives
            });
            assert!(
                settled.is_ok(),
                "seed {seed}, round {round}: {:?} and {:?}",
                site.table(),
                site.monitors()
            );
        }
    }
    println!("struck: {struck:?}");

    let quiet = wait_until("everything to be over", SOON * 3, || {
        site.monitors().is_empty() && site.sessions(false).is_empty()
    });
    assert!(quiet.is_ok(), "seed {seed}: {:#?}", site.sessions(false));
    let (mut starts, mut ends, mut audit): (BTreeMap<u64, u32>, BTreeMap<u64, u32>, BTreeSet<u64>) =
        Default::default();
    for line in site.ledger() {
        let Some((kind, body)) = line_of(&line) else { continue };
        let id = body["id"].as_u64().unwrap_or(0);
        match kind {
            "start" => {
                *starts.entry(id).or_default() += 1;
                audit.extend(body["audit_session"].as_u64());
            }
            "end" => *ends.entry(id).or_default() += 1,
            _ => {}
        }
    }
    assert!(starts.len() > usize::try_from(rounds).unwrap() / 2, "seed {seed}: {} sessions", starts.len());
    assert!(starts.values().all(|count| *count == 1), "seed {seed}: {starts:?}");
    assert_eq!(starts, ends, "seed {seed}: one end for each beginning");
    let witnesses = site.node.shell("for f in /run/witness/*; do cat $f; echo; done").unwrap();
    let witnesses: BTreeSet<u64> = split_numbers(&witnesses);
    assert!(!witnesses.is_empty());
    let unrecorded: Vec<&u64> = witnesses.difference(&audit).collect();
    assert!(unrecorded.is_empty(), "seed {seed}: audit sessions {unrecorded:?} were never recorded");
    println!("{} sessions recorded, {} told of themselves", starts.len(), witnesses.len());
}

/// The kind of a ledger line and its fields.
fn line_of(line: &Value) -> Option<(&str, &Value)> {
    let (kind, body) = line["event"].as_object()?.iter().next()?;
    Some((kind, body))
}

fn split_numbers(text: &str) -> BTreeSet<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}
