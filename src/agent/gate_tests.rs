//! The gate with real certificates, a clock that stands still, and roles from a script.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Role, Snapshot, Timestamp};
use nightlatch_policy::{BootId, Evidence, Grant, Refused, RoleAnswer, UnknownCause};
use nightlatch_sshcert::PublicKey;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_wire::session::{Pending, Row};
use nightlatch_wire::{Account, Message, NO_LOGINUID, Offer, Parent};

use super::gate::{AskRoles, Books, Gate, KeepSessions, Known, LocalFacts, Outside, RoleAsk, Time};
use super::settings::{Machine, Settings};
use super::step_up::SignInElsewhere;
use crate::accounts::{Accounts, GraceLedger, SignIns, UidOverrides, Withdrawn};
use crate::clock::{Clock, ManualClock, Mark};
use crate::config::{Config, RoleBackEnd};
use crate::login::{KeySource, TrustStore};
use crate::telemetry::{Observations, Record, Recorder};

mod hanging;
mod live;
mod rules;
mod step_up;

const NOW: Timestamp = Timestamp(1_800_000_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<ObjectId, RoleAnswer>>,
    asked: AtomicUsize,
    /// How old the answers are, in seconds.
    age: AtomicU64,
    /// No answer comes.
    hangs: AtomicBool,
}

impl AskRoles for Script {
    fn ask<'a>(&'a self, ask: RoleAsk) -> Pin<Box<dyn Future<Output = Known> + Send + 'a>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().get(&ask.oid).cloned();
        let answer = answer.unwrap_or(RoleAnswer::NotGranted(Refused::NoAssignment));
        let age = Duration::from_secs(self.age.load(Ordering::SeqCst));
        let hangs = self.hangs.load(Ordering::SeqCst);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Known { answer, age }
        })
    }
}

/// Sessiond, which remembers what it was told, or does not answer.
#[derive(Default)]
struct Table {
    pending: Mutex<Vec<Pending>>,
    /// The sessions that live.
    rows: Mutex<Vec<Row>>,
    down: AtomicBool,
}

impl KeepSessions for Table {
    fn pending<'a>(
        &'a self,
        pending: Pending,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        let down = self.down.load(Ordering::SeqCst);
        if !down {
            self.pending.lock().unwrap().push(pending);
        }
        Box::pin(async move { if down { Err("down".to_owned()) } else { Ok(()) } })
    }

    fn live<'a>(&'a self, audit_session: u32) -> Pin<Box<dyn Future<Output = Option<Row>> + Send + 'a>> {
        let rows = self.rows.lock().unwrap();
        let row = rows.iter().find(|row| row.audit_session == audit_session).cloned();
        Box::pin(async move { row })
    }
}

struct Rig {
    gate: Arc<Gate>,
    hands: Arc<ManualClock>,
    table: Arc<Table>,
    script: Arc<Script>,
    folder: tempfile::TempDir,
    ca: TestKey,
    holder: TestKey,
}

/// The audit session of whoever asks.
const SESSION: u32 = 9;
const MONITOR: Parent = Parent { pid: 100, start: 7 };

fn oid(n: u8) -> ObjectId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().unwrap()
}

fn rig_with(overrides: &[(&str, u32)]) -> Rig {
    rig_like(overrides, |_| {}, None)
}

fn rig_forwarding() -> Rig {
    rig_like(&[], |config| config.login.port_forwarding = Some(true), None)
}

fn rig_like(
    overrides: &[(&str, u32)],
    configure: impl FnOnce(&mut Config),
    prompt: Option<(Arc<dyn SignInElsewhere>, tokio::runtime::Handle)>,
) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let hands = ManualClock::at(NOW);
    let clock = Clock::Manual(Arc::clone(&hands));
    let mut config = Config { tenant: TENANT.parse().ok(), ..Config::default() };
    config.login.roles_from = Some(RoleBackEnd::File);
    configure(&mut config);
    let settings = Settings::resolve(config, &Machine::default()).unwrap();
    let ca = TestKey::ed25519([7; 32]);
    let mut trust = TrustStore::new(3_600);
    trust.merge(KeySource::File, vec![PublicKey::from_openssh_line(&ca.line()).unwrap()], NOW);
    let overrides =
        UidOverrides::new(overrides.iter().map(|(name, uid)| (LoginName::parse(name).unwrap(), *uid)))
            .unwrap();
    let accounts =
        Accounts::open(settings.tenant, vec![], "/bin/sh".into(), overrides, path("book"), path("snapshot"))
            .unwrap();
    let script = Arc::new(Script::default());
    let recorder = Recorder::start(path("ring"), clock.clone()).unwrap();
    let facts = LocalFacts { trust, ..LocalFacts::default() };
    let roles: Arc<dyn AskRoles> = Arc::<Script>::clone(&script);
    let table = Arc::new(Table::default());
    let sessions: Arc<dyn KeepSessions> = Arc::<Table>::clone(&table);
    let (prompt, background) = prompt.unzip();
    let outside = Outside { roles, people: None, sessions, prompt };
    let grace = GraceLedger::open(path("grace")).unwrap();
    let withdrawn = Withdrawn::open(path("withdrawn")).unwrap();
    let sign_ins = SignIns::open(folder.path().join("sign-ins.json")).unwrap();
    let books = Books { accounts, grace, withdrawn, sign_ins };
    let time = Time { clock, mark: Mark::default(), boot: BootId([1; 16]) };
    let observations = Observations::at(path("observed"));
    let gate = Gate::new(settings.gate(), time, facts, books, outside, recorder, observations);
    let gate = Arc::new(match background {
        Some(runtime) => gate.in_background(runtime),
        None => gate,
    });
    Rig { gate, hands, table, script, folder, ca, holder: TestKey::ed25519([8; 32]) }
}

fn rig() -> Rig {
    rig_with(&[])
}

impl Rig {
    fn role(&self, who: u8, role: Role) {
        let grant = Grant {
            role,
            until: None,
            admin_until: None,
            evidence: Evidence::default(),
            admin_evidence: None,
            admin_refused: None,
            unknown: None,
        };
        self.answer(who, RoleAnswer::Granted(grant));
    }

    fn answer(&self, who: u8, answer: RoleAnswer) {
        self.script.answers.lock().unwrap().insert(oid(who), answer);
    }

    fn uid(&self, name: &str) -> u32 {
        nightlatch_model::uid_of(TENANT.parse().unwrap(), &LoginName::parse(name).unwrap())
    }

    fn offer(&self, name: &str, who: u8, uid: u32, parents: &[Parent]) -> Message {
        let line = self.certificate(name, who);
        let (key_type, key) = line.split_once(' ').unwrap();
        self.offer_key(name, uid, key_type, key, parents)
    }

    /// Key type and base64 of the certificate that [`Rig::offer`] offers.
    fn certificate(&self, name: &str, who: u8) -> String {
        let at = |seconds: i64| u64::try_from(NOW.0 + seconds).unwrap();
        CertificateBuilder::new(&self.holder)
            .principals([name])
            .text_extension("oid@entra.microsoft.com", oid(who).to_string())
            .text_extension("tid@entra.microsoft.com", TENANT)
            .valid(at(-300), at(3_300))
            .line(&self.ca)
    }

    fn offer_key(&self, name: &str, uid: u32, key_type: &str, key: &str, parents: &[Parent]) -> Message {
        let offer = Offer {
            user: name.into(),
            uid,
            key_type: key_type.into(),
            key: key.into(),
            key_len: u32::try_from(key.len()).unwrap(),
            parents: parents.to_vec(),
        };
        let (answer, after) = self.gate.offer(&offer);
        self.gate.after_offer(&offer, after);
        answer
    }

    fn account(&self, name: &str, service: &str, parents: &[Parent]) -> Message {
        let account = Account {
            user: name.into(),
            service: service.into(),
            rhost: "192.0.2.7".into(),
            tty: String::new(),
            loginuid: NO_LOGINUID,
            audit_session: SESSION,
            parents: parents.to_vec(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.gate.account(&account))
    }

    /// A whole login: the word of the refusal, or `permit`.
    fn login(&self, name: &str, who: u8) -> String {
        self.login_as(name, who, self.uid(name))
    }

    fn login_as(&self, name: &str, who: u8, uid: u32) -> String {
        assert!(matches!(self.offer(name, who, uid, &[MONITOR]), Message::Line(_)));
        word(self.account(name, "sshd", &[MONITOR]))
    }

    fn sudo(&self, name: &str) -> String {
        word(self.account(name, "sudo", &[Parent { pid: 900, start: 1 }]))
    }

    /// Every record, once there are so many: the recorder writes on a thread of its own.
    fn records(&self, count: usize) -> Vec<Record> {
        let kept = || self.gate.recorder().all(|_| true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..500 {
                if kept().len() >= count {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        kept()
    }

    fn snapshot(&self) -> Snapshot {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("snapshot")).unwrap()).unwrap()
    }
}

fn word(answer: Message) -> String {
    match answer {
        Message::Permit { .. } => "permit".into(),
        Message::Deny { code, .. } => code,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_yes_is_on_disk_before_it_leaves() {
    let rig = rig();
    rig.role(1, Role::Admin);
    assert_eq!(rig.login("alice@contoso.com", 1), "permit");
    let accounts = rig.snapshot().accounts;
    assert_eq!(accounts[0].unlocked_until, Some(NOW.plus(3_300)));
    assert!(accounts[0].admin);
    assert!(std::fs::read_to_string(rig.folder.path().join("book")).unwrap().contains("alice@contoso.com"));
}

#[test]
fn a_yes_that_cannot_be_written_is_a_no() {
    let rig = rig();
    rig.role(1, Role::User);
    // The folder of the snapshot is gone: nothing can be renamed into place.
    let gone = rig.folder.path().to_path_buf();
    std::fs::remove_dir_all(&gone).unwrap();
    assert_eq!(rig.login("alice@contoso.com", 1), "internal");
}

#[test]
fn no_admit_no_login() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[MONITOR])), "no_admit");
    // Somebody else's admit, another connection's admit, a connection with the same pid later.
    let uid = rig.uid("alice@contoso.com");
    rig.offer("alice@contoso.com", 1, uid, &[MONITOR]);
    assert_eq!(word(rig.account("bob@contoso.com", "sshd", &[MONITOR])), "no_admit");
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[Parent { pid: 101, start: 7 }])), "no_admit");
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[Parent { pid: 100, start: 8 }])), "no_admit");
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[])), "no_admit");
    // Under keyboard-interactive PAM runs in a child of the monitor.
    let child = [Parent { pid: 102, start: 9 }, MONITOR];
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &child)), "permit");
}

/// A client may probe one certificate and sign with another; sshd asks the hook right before it checks
/// the signature.
#[test]
fn the_certificate_of_the_last_hook_call_is_judged() {
    let rig = rig();
    rig.role(1, Role::User);
    let uid = rig.uid("alice@contoso.com");
    rig.offer("alice@contoso.com", 1, uid, &[MONITOR]);
    rig.offer("alice@contoso.com", 2, uid, &[MONITOR]);
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[MONITOR])), "no_vm_role");
    rig.offer("alice@contoso.com", 2, uid, &[MONITOR]);
    rig.offer("alice@contoso.com", 1, uid, &[MONITOR]);
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[MONITOR])), "permit");
    // A last call with a bare key takes the admission away.
    rig.offer("alice@contoso.com", 1, uid, &[MONITOR]);
    let key = rig.holder.line();
    let (key_type, key) = key.split_once(' ').unwrap();
    assert_eq!(rig.offer_key("alice@contoso.com", uid, key_type, key.trim(), &[MONITOR]), Message::None);
    assert_eq!(word(rig.account("alice@contoso.com", "sshd", &[MONITOR])), "no_admit");
}

#[test]
fn the_hook_alone_asks_nobody_and_writes_nothing() {
    let rig = rig();
    for _ in 0..20 {
        rig.offer("alice@contoso.com", 1, rig.uid("alice@contoso.com"), &[MONITOR]);
    }
    assert_eq!(rig.script.asked.load(Ordering::SeqCst), 0);
    assert!(!rig.folder.path().join("book").exists());
    assert!(rig.snapshot().accounts.is_empty());
}

#[test]
fn a_definite_no_locks_and_unknown_changes_nothing() {
    let rig = rig();
    rig.role(1, Role::Admin);
    assert_eq!(rig.login("alice@contoso.com", 1), "permit");
    rig.answer(1, RoleAnswer::Unknown(UnknownCause::Upstream("down".into())));
    assert_eq!(rig.login("alice@contoso.com", 1), "upstream_unknown");
    assert!(rig.snapshot().accounts[0].unlocked_until.is_some());
    rig.answer(1, RoleAnswer::NotGranted(Refused::DenyAssignment { id: "d".into() }));
    assert_eq!(rig.login("alice@contoso.com", 1), "deny_assignment");
    let account = rig.snapshot().accounts[0].clone();
    assert_eq!((account.unlocked_until, account.admin), (None, false));
}

#[test]
fn sudo_follows_the_role_within_one_session() {
    let rig = rig();
    assert_eq!(rig.sudo("alice@contoso.com"), "no_admit");
    rig.role(1, Role::Admin);
    rig.login("alice@contoso.com", 1);
    assert_eq!(rig.sudo("alice@contoso.com"), "permit");
    rig.role(1, Role::User);
    assert_eq!(rig.sudo("alice@contoso.com"), "no_admin_role");
    let account = rig.snapshot().accounts[0].clone();
    assert!(!account.admin && account.unlocked_until.is_some(), "the session goes on as a normal user");
    rig.answer(1, RoleAnswer::NotGranted(Refused::NoAssignment));
    assert_eq!(rig.sudo("alice@contoso.com"), "no_vm_role");
    assert_eq!(rig.sudo("alice@contoso.com"), "no_vm_role", "the reason stays the real one");
    rig.role(1, Role::Admin);
    assert_eq!(rig.sudo("alice@contoso.com"), "permit");
}

#[test]
fn past_bug_row_12_a_name_given_to_another_person_is_refused() {
    let rig = rig();
    rig.role(1, Role::User);
    rig.role(2, Role::User);
    assert_eq!(rig.login("alice@contoso.com", 1), "permit");
    assert_eq!(rig.login("alice@contoso.com", 2), "name_reused");
    assert_eq!(rig.login("alice@contoso.com", 1), "permit", "and nothing was taken from the owner");
}

#[test]
fn past_bug_row_32_two_people_never_share_a_uid() {
    let alice = LoginName::parse("alice@contoso.com").unwrap();
    let uid = nightlatch_model::uid_of(TENANT.parse().unwrap(), &alice);
    let rig = rig_with(&[("bob@contoso.com", uid)]);
    rig.role(1, Role::User);
    rig.role(2, Role::User);
    assert_eq!(rig.login_as("alice@contoso.com", 1, uid), "permit");
    assert_eq!(rig.login_as("bob@contoso.com", 2, uid), "uid_taken");
}

#[test]
fn a_renamed_person_keeps_the_uid_from_the_next_look_up_on() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login("alice@contoso.com", 1), "permit");
    assert_eq!(rig.login("alice.smith@contoso.com", 1), "renamed");
    let uid = rig.uid("alice@contoso.com");
    assert_eq!(rig.snapshot().accounts[0].name.as_str(), "alice.smith@contoso.com");
    assert_eq!(rig.login_as("alice.smith@contoso.com", 1, uid), "permit");
}

#[test]
fn a_uid_that_changed_under_way_is_refused() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login_as("alice@contoso.com", 1, rig.uid("alice@contoso.com") + 1), "uid_changed");
    assert!(rig.snapshot().accounts.is_empty());
}

#[test]
fn explaining_does_nothing() {
    let rig = rig();
    rig.role(1, Role::Admin);
    let line = CertificateBuilder::new(&rig.holder)
        .principals(["alice@contoso.com"])
        .text_extension("oid@entra.microsoft.com", oid(1).to_string())
        .valid(u64::try_from(NOW.0).unwrap(), u64::try_from(NOW.0 + 60).unwrap())
        .line(&rig.ca);
    let (key_type, key) = line.split_once(' ').unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let record = runtime.block_on(rig.gate.explain("alice@contoso.com", Some((key_type, key)), "sudo", ""));
    assert_eq!(record.reason, None, "{record:?}");
    assert!(record.admin && record.steps.len() > 20);
    assert!(!rig.folder.path().join("book").exists());
}

/// ssh offers the certificate, then its bare key, then the keys of an agent: the record of the first says why.
#[test]
fn bare_keys_after_a_refusal_take_no_place_among_the_records() {
    let rig = rig();
    let name = "alice@contoso.com";
    let bobs = rig.certificate("bob@contoso.com", 2);
    let bare = rig.holder.line();
    let offer = |pid: u32, line: &str| {
        let (key_type, key) = line.trim().split_once(' ').unwrap();
        let monitor = Parent { pid, start: 7 };
        assert_eq!(rig.offer_key(name, rig.uid(name), key_type, key, &[monitor]), Message::None);
    };
    for pid in 0..20 {
        offer(pid, &bobs);
        offer(pid, &bare);
        offer(pid, &bare);
    }
    // Whoever has nothing else is told so, once a connection.
    offer(20, &bare);
    offer(20, &bare);
    // A certificate after a bare key is news.
    offer(20, &bobs);
    let reasons: Vec<String> = rig.records(22).into_iter().filter_map(|record| record.reason).collect();
    let mut expected = vec!["wrong_principal"; 20];
    expected.extend(["not_a_certificate", "wrong_principal"]);
    assert_eq!(reasons, expected);
}
