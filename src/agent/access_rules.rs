//! Keeps the access rules in force fresh. A folder that turns bad changes nothing: what was in force stays, it is said
//! once in the journal, and for as long as it lasts in `status`. At the start it keeps the daemon from starting.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nightlatch_page::Warning;
use nightlatch_policy::NodeFacts;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::gate::{Gate, lock};
use super::local_files::FILE_INTERVAL;
use crate::access::{InForce, load, rule_files};
use crate::accounts::SignIns;
use crate::store::{FileStamp, read_capped, replace_file};

/// After how many looks rules that could not be used are tried again.
const RETRY_LOOKS: u32 = 15;

/// How many rules were in force, in the state folder.
const COUNT: &str = "access-rules";
/// The largest such file, in bytes: a number and a path.
const MAX_COUNT_BYTES: u64 = 4_200;

/// What the files were, or why that could not be seen.
type Stamps = Result<Vec<FileStamp>, String>;

/// What `status` says of the rules: a state and a sentence.
pub(super) type AccessHealth = Arc<Mutex<(&'static str, String)>>;

/// The folder.
pub(super) struct AccessFiles {
    folder: PathBuf,
    node: NodeFacts,
    /// How many rules were in force, over restarts: a folder that vanishes takes none of them away.
    count: Count,
    /// What was read the last time.
    seen: Option<Stamps>,
    /// Why that was of no use.
    failed: Option<String>,
    health: AccessHealth,
}

impl AccessFiles {
    /// Reads the rules for the first time.
    ///
    /// # Errors
    /// In words, with file, line and what to write instead: the daemon must not start.
    pub(super) fn open(
        folder: PathBuf,
        node: NodeFacts,
        state: &Path,
    ) -> Result<(Self, Arc<InForce>), String> {
        let mut count = Count::read(state, &folder)?;
        let seen = Some(rule_files(&folder).stamps());
        let loaded = load(&folder, count.rules > 0)?;
        count.keep(loaded.rules.policy.rules.len(), &folder);
        let files = Self { folder, node, count, seen, failed: None, health: AccessHealth::default() };
        files.told(&loaded.doubts(&files.node), loaded.summary(&files.folder));
        Ok((files, Arc::new(InForce::new(loaded.rules.policy))))
    }

    /// What `status` is to show.
    pub(super) fn health(&self) -> AccessHealth {
        Arc::clone(&self.health)
    }

    fn told(&self, doubts: &[Warning], summary: String) {
        for doubt in doubts {
            warn!("access rules: {doubt}");
        }
        *lock(&self.health) = ("ok", summary);
    }

    /// Looks at the folder every few seconds and on SIGHUP, for ever. What is being written is read when it has been still
    /// from one look to the next.
    pub(super) async fn keep_fresh(mut self, gate: Arc<Gate>) {
        let mut tick = tokio::time::interval(FILE_INTERVAL);
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut last_look = self.seen.clone();
        for look in 1_u32.. {
            let mut asked = false;
            tokio::select! {
                _ = tick.tick() => {}
                Some(()) = async { match &mut hangup { Some(signal) => signal.recv().await, None => None } } => {
                    asked = true;
                }
            }
            // What the disk did not take is tried again.
            self.count.keep(self.count.rules, &self.folder);
            let stamps = Some(rule_files(&self.folder).stamps());
            let still = std::mem::replace(&mut last_look, stamps.clone()) == stamps;
            // What failed for want of something else is tried again now and then.
            let again = self.failed.is_some() && look.is_multiple_of(RETRY_LOOKS);
            if asked || again || (still && self.seen != stamps) {
                self.look(&gate, stamps).await;
            }
        }
    }

    async fn look(&mut self, gate: &Gate, stamps: Option<Stamps>) {
        // Files are read: not on a thread that answers callers.
        let (folder, node, had_rules) = (self.folder.clone(), self.node.clone(), self.count.rules > 0);
        let compiled = tokio::task::spawn_blocking(move || {
            let loaded = load(&folder, had_rules)?;
            let told = loaded.summary(&folder);
            Ok((loaded.doubts(&node), told, Arc::new(InForce::new(loaded.rules.policy))))
        })
        .await;
        if Some(rule_files(&self.folder).stamps()) != stamps {
            // It changed while it was read; the next look sees it.
            return;
        }
        self.seen = stamps;
        match compiled.unwrap_or_else(|_| Err("the rules could not be read".to_owned())) {
            Ok((doubts, told, rules)) => {
                self.failed = None;
                self.count.keep(rules.len(), &self.folder);
                info!("access rules are in force: {told}");
                self.told(&doubts, told);
                let before =
                    gate.with_facts(|facts| std::mem::replace(&mut facts.access, Arc::clone(&rules)));
                // Who was let in by the rules of before is judged by the new ones.
                if !before.is_same_as(&rules) {
                    gate.wake.everybody();
                }
            }
            Err(why) => {
                if self.failed.as_ref() != Some(&why) {
                    warn!("the access rules stay as they were: {why}");
                }
                *lock(&self.health) = ("degraded", format!("what was read before stays: {why}"));
                self.failed = Some(why);
            }
        }
    }
}

/// How many rules were in force the last time, and from which folder, kept over restarts.
struct Count {
    file: PathBuf,
    rules: usize,
    /// What the file says, where it was written.
    written: Option<String>,
    /// That it cannot be written was said.
    told: bool,
}

impl Count {
    /// Those of `folder`: what another one held says nothing about it.
    fn read(state: &Path, folder: &Path) -> Result<Self, String> {
        let file = state.join(COUNT);
        let kept = read_capped(&file, MAX_COUNT_BYTES).map_err(|cause| cause.to_string())?;
        let rules = match kept.as_deref().map(String::from_utf8_lossy) {
            None => 0,
            Some(text) => match text.trim_end().split_once(' ') {
                Some((rules, from)) if Path::new(from) == folder => rules.parse().unwrap_or(1),
                Some((rules, _)) if rules.parse::<usize>().is_ok() => 0,
                // What cannot be read is no word that there were none.
                _ => 1,
            },
        };
        Ok(Self { file, rules, written: None, told: false })
    }

    fn keep(&mut self, rules: usize, folder: &Path) {
        self.rules = rules;
        let text = format!("{rules} {}\n", folder.display());
        if self.written.as_ref() == Some(&text) {
            return;
        }
        match replace_file(&self.file, text.as_bytes(), 0o600, true) {
            Ok(()) => (self.written, self.told) = (Some(text), false),
            Err(_) if self.told => {}
            Err(cause) => {
                self.told = true;
                warn!("how many access rules are in force is not kept over a restart yet: {cause}");
            }
        }
    }
}

/// Writes down what certificates said of their sign-ins, a moment after a login: nobody waits for it. And what took access
/// away while the disk was full.
pub(super) async fn keep_written(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(FILE_INTERVAL);
    loop {
        tick.tick().await;
        let gate = Arc::clone(&gate);
        let _ = tokio::task::spawn_blocking(move || write_down(&gate)).await;
    }
}

/// The same at once, before the daemon ends.
pub(super) fn write_down(gate: &Gate) {
    gate.write_again();
    let Some(changes) = lock(&gate.sign_ins).take_changes() else { return };
    if let Err(cause) = SignIns::write(&changes) {
        lock(&gate.sign_ins).not_written();
        warn!(
            "what certificates said is not kept over a restart: {cause}: {:?}",
            std::error::Error::source(&cause)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_held_rules_must_be_there_and_one_that_never_did_need_not() {
        let state = tempfile::tempdir().unwrap();
        let nowhere = state.path().join("policy.d");
        let why = || {
            AccessFiles::open(nowhere.clone(), NodeFacts::default(), state.path()).err().unwrap_or_default()
        };
        assert!(why().contains("no such folder"), "{}", why());
        let count = || Count::read(state.path(), &nowhere).unwrap();
        assert_eq!(count().rules, 0);
        count().keep(3, &nowhere);
        assert_eq!(count().rules, 3);
        assert!(why().contains("the folder is gone"), "{}", why());
        // Of another folder it says nothing.
        assert_eq!(Count::read(state.path(), &state.path().join("other")).unwrap().rules, 0);
        count().keep(0, &nowhere);
        assert!(why().contains("no such folder"), "{}", why());
        // What is damaged does not say that there were none; what is too large is no start.
        for damaged in ["", "-1\n", "three /x\n", "3\n", "\u{ff}"] {
            std::fs::write(state.path().join(COUNT), damaged).unwrap();
            assert!(why().contains("the folder is gone"), "{damaged:?}: {}", why());
        }
        std::fs::write(state.path().join(COUNT), "0".repeat(4_201)).unwrap();
        assert!(why().contains("larger than"), "{}", why());
    }
}
