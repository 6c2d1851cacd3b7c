//! Grace, sessions that are judged again, and access that was withdrawn.

use nightlatch_model::Reason;
use nightlatch_wire::session::{NO_DIGEST, Origin, State};

use super::super::live::{Leave, Stay};
use super::*;

const ALICE: &str = "alice@contoso.com";

fn down() -> RoleAnswer {
    RoleAnswer::Unknown(UnknownCause::Upstream("down".into()))
}

impl Rig {
    /// The session that sessiond opened for the last yes.
    pub(super) fn session(&self, id: u64) -> Row {
        let pending = self.table.pending.lock().unwrap().last().unwrap().clone();
        self.row_of(id, pending)
    }

    /// The session that sessiond opened for this yes.
    pub(super) fn row_of(&self, id: u64, pending: Pending) -> Row {
        Row {
            id,
            origin: Origin::Login,
            state: State::Open,
            user: pending.user,
            uid: pending.uid,
            oid: pending.oid,
            correlation: pending.correlation,
            certificate: pending.certificate,
            rhost: pending.rhost,
            ttys: String::new(),
            monitor: pending.monitor,
            audit_session: SESSION,
            started: self.hands_wall(),
            until: pending.until,
            admin: pending.admin,
            degraded: pending.degraded,
            ended: 0,
            reason: String::new(),
            escaped: String::new(),
        }
    }

    fn hands_wall(&self) -> i64 {
        self.gate.clock().now().0
    }

    /// Judges a session again; the word of its end, or `stays`, `stays degraded`.
    pub(super) fn judge(&self, row: &Row) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let owner = self.gate.owner(row);
        let known = match &owner {
            Some(owner) => runtime.block_on(self.gate.live_roles(owner)),
            None => Known::nobody(),
        };
        match self.gate.judge_live(row, owner.as_ref(), &known) {
            Stay::Until { degraded: true, .. } => "stays degraded".into(),
            Stay::Until { .. } => "stays".into(),
            Stay::End(Leave { reason, person, .. }) => {
                format!("{reason}{}", if person { "" } else { " alone" })
            }
        }
    }

    pub(super) fn ledger(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("grace")).unwrap_or_default()
    }
}

#[test]
fn sessiond_knows_of_a_yes_before_it_leaves() {
    let rig = rig();
    rig.role(1, Role::Admin);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let pending = rig.table.pending.lock().unwrap().last().unwrap().clone();
    assert_eq!((pending.monitor, pending.user.as_str(), pending.uid), (MONITOR, ALICE, rig.uid(ALICE)));
    assert_eq!((pending.admin, pending.degraded, pending.until), (true, false, NOW.0 + 3_300));
    assert!(pending.digest != NO_DIGEST && pending.certificate.starts_with("serial "));
    assert_eq!(pending.open_within_s, 65);
    // sudo opens no session of its own.
    assert_eq!(rig.sudo(ALICE), "permit");
    assert_eq!(rig.table.pending.lock().unwrap().len(), 1);
    rig.table.down.store(true, Ordering::SeqCst);
    assert_eq!(rig.login(ALICE, 1), "sessions_down");
}

#[test]
fn grace_row_by_row() {
    let rig = rig();
    rig.role(1, Role::User);
    rig.role(2, Role::Admin);
    assert_eq!(rig.login(ALICE, 1), "permit", "fresh");
    assert_eq!(rig.login("bob@contoso.com", 2), "permit", "fresh admin");
    assert_eq!(rig.login("carol@contoso.com", 3), "no_vm_role");
    for who in 1..=3 {
        rig.answer(who, down());
    }
    rig.hands.advance(600);
    assert_eq!(rig.login(ALICE, 1), "permit", "within G");
    assert!(rig.table.pending.lock().unwrap().last().unwrap().degraded);
    assert_eq!(rig.login("bob@contoso.com", 2), "upstream_unknown", "an administrator has none");
    assert_eq!(rig.login("carol@contoso.com", 3), "upstream_unknown", "after a no");
    rig.hands.jump(-7_200);
    rig.hands.jump(7_200);
    rig.hands.advance(2_400);
    assert_eq!(rig.login(ALICE, 1), "permit", "nearly at the end of G");
    rig.answer(1, RoleAnswer::NotGranted(Refused::NoAssignment));
    assert!(rig.ledger().contains(&oid(1).to_string()));
    assert_eq!(rig.login(ALICE, 1), "no_vm_role");
    assert!(!rig.ledger().contains(&oid(1).to_string()), "the no erased it on the disk");
    rig.answer(1, down());
    assert_eq!(rig.login(ALICE, 1), "upstream_unknown", "and it stays erased");
}

/// A kept answer is no fresh yes: grace counts from the moment when Azure gave it.
#[test]
fn grace_counts_from_azures_own_answer() {
    let rig = rig();
    rig.hands.advance(10_000);
    let start = rig.gate.clock().now();
    rig.role(1, Role::User);
    rig.script.age.store(290, Ordering::SeqCst);
    let at = |rig: &Rig, passed: i64| {
        rig.hands.advance(start.plus(passed).since(rig.gate.clock().now()));
        let now = rig.gate.clock().now().0;
        let line = CertificateBuilder::new(&rig.holder)
            .principals([ALICE])
            .text_extension("oid@entra.microsoft.com", oid(1).to_string())
            .valid(u64::try_from(now - 60).unwrap(), u64::try_from(now + 3_600).unwrap())
            .line(&rig.ca);
        let (key_type, key) = line.split_once(' ').unwrap();
        rig.offer_key(ALICE, rig.uid(ALICE), key_type, key, &[MONITOR]);
        word(rig.account(ALICE, "sshd", &[MONITOR]))
    };
    assert_eq!(at(&rig, 0), "permit");
    rig.answer(1, down());
    assert_eq!(at(&rig, 3_600 - 291), "permit");
    assert_eq!(at(&rig, 3_600 - 289), "upstream_unknown");
}

#[test]
fn a_clock_that_was_set_back_gives_no_grace_and_stretches_nothing() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    rig.answer(1, down());
    rig.gate.time.mark.witness("azure", NOW.plus(200), NOW.plus(200), rig.gate.clock().boot());
    assert_eq!(rig.login(ALICE, 1), "clock_suspect", "200 s behind what Azure told");
    // Expiry is judged by the later of the two: the certificate that the clock calls valid has ended.
    rig.gate.time.mark.witness("azure", NOW.plus(4_000), NOW.plus(4_000), rig.gate.clock().boot());
    assert_eq!(rig.offer(ALICE, 1, rig.uid(ALICE), &[MONITOR]), Message::None);
    rig.hands.advance(4_000);
    rig.hands.jump(-3_950);
    assert_eq!(rig.gate.moment().wall, NOW.plus(8_000));
}

#[test]
fn a_session_ends_when_its_reason_ends() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(1);
    assert_eq!(rig.judge(&row), "stays");
    rig.answer(1, RoleAnswer::NotGranted(Refused::NoAssignment));
    assert_eq!(rig.judge(&row), "no_vm_role");
    assert_eq!(rig.snapshot().accounts[0].unlocked_until, None, "nothing of the person starts anew");
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(2);
    rig.hands.advance(3_299);
    assert_eq!(rig.judge(&row), "stays");
    rig.hands.advance(1);
    assert_eq!(rig.judge(&row), "cert_expired alone", "and other sessions of the person go on");
}

#[test]
fn an_outage_ends_no_session_before_its_time_and_takes_sudo_at_once() {
    let rig = rig();
    rig.role(2, Role::Admin);
    assert_eq!(rig.login("bob@contoso.com", 2), "permit");
    let row = rig.session(1);
    rig.answer(2, down());
    rig.hands.advance(600);
    assert_eq!(rig.judge(&row), "stays degraded", "the shell of who mends the outage");
    assert_eq!(rig.sudo("bob@contoso.com"), "upstream_unknown");
    assert!(rig.snapshot().accounts[0].admin, "an outage takes no group away");
    let mut longer = row;
    longer.until = NOW.0 + 90_000;
    rig.hands.advance(2_999);
    assert_eq!(rig.judge(&longer), "stays degraded");
    rig.hands.advance(1);
    assert_eq!(rig.judge(&longer), "upstream_unknown", "the grace of a user is over");
}

#[test]
fn losing_the_administrators_role_leaves_the_session() {
    let rig = rig();
    rig.role(1, Role::Admin);
    assert_eq!(rig.login(ALICE, 1), "permit");
    rig.role(1, Role::User);
    assert_eq!(rig.judge(&rig.session(1)), "stays");
    let account = rig.snapshot().accounts[0].clone();
    assert!(!account.admin && account.unlocked_until.is_some());
}

#[test]
fn processes_that_no_login_explains_are_judged_by_who_holds_the_uid() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let adopted = Row {
        origin: Origin::Adopted,
        user: String::new(),
        oid: String::new(),
        correlation: String::new(),
        until: 0,
        ..rig.session(1)
    };
    assert_eq!(rig.judge(&adopted), "stays");
    rig.hands.advance(3_300);
    assert_eq!(rig.judge(&adopted), "cert_expired", "all of the person: there is no session of its own");
    let nobodys = Row { uid: rig.uid("nobody@contoso.com"), ..adopted };
    assert_eq!(rig.judge(&nobodys), "no_admit");
}

#[test]
fn withdrawn_access_stays_withdrawn_until_a_new_certificate() {
    let rig = rig();
    rig.role(1, Role::Admin);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(1);
    rig.gate.withdraw(oid(1), Reason::Revoked).unwrap();
    assert_eq!(rig.judge(&row), "revoked");
    assert_eq!(rig.login(ALICE, 1), "revoked", "the certificate is from before");
    assert_eq!(rig.sudo(ALICE), "revoked");
    assert!(!rig.ledger().contains(&oid(1).to_string()));
    // One that begins later counts: the rig's begin 300 s before its NOW.
    rig.hands.advance(301);
    let at = |seconds: i64| u64::try_from(NOW.0 + seconds).unwrap();
    let line = CertificateBuilder::new(&rig.holder)
        .principals([ALICE])
        .text_extension("oid@entra.microsoft.com", oid(1).to_string())
        .valid(at(1), at(3_000))
        .line(&rig.ca);
    let (key_type, key) = line.split_once(' ').unwrap();
    rig.offer_key(ALICE, rig.uid(ALICE), key_type, key, &[MONITOR]);
    assert_eq!(word(rig.account(ALICE, "sshd", &[MONITOR])), "permit");
    assert_eq!(rig.sudo(ALICE), "permit");
    assert_eq!(rig.judge(&row), "revoked", "the old session does not come back");
}

#[test]
fn a_yes_by_grace_does_not_cut_what_a_fresh_one_gave() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    rig.answer(1, down());
    rig.hands.advance(3_000);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let account = rig.snapshot().accounts[0].clone();
    assert_eq!(account.unlocked_until, Some(NOW.plus(3_300)));
}

#[test]
fn a_certificate_that_is_taken_back_ends_its_session_and_no_other() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(1);
    let handle = super::super::credential::read_note(&row.certificate).unwrap();
    let (serial, key_id) = (handle.serial.unwrap(), &handle.key_id);
    for (line, word) in [
        (format!("serial {serial}"), "cert_revoked alone"),
        (format!("key-id {key_id}"), "cert_revoked alone"),
        (format!("key {}", handle.fingerprint), "cert_revoked alone"),
        (format!("serial {}", serial + 1), "stays"),
    ] {
        rig.gate.with_facts(|facts| facts.revoked = crate::login::Revocations::parse(&line).unwrap());
        assert_eq!(rig.judge(&row), word, "{line}");
    }
}

/// Azure may hang for as long as it likes: what the node knows by itself is looked at without asking.
#[test]
fn what_the_node_knows_by_itself_needs_no_answer_of_azure() {
    let rig = rig();
    rig.role(1, Role::User);
    assert_eq!(rig.login(ALICE, 1), "permit");
    let (row, asked) = (rig.session(1), rig.script.asked.load(Ordering::SeqCst));
    let lost = |row: &Row| rig.gate.lost_here(row, rig.gate.owner(row).as_ref()).map(|leave| leave.reason);
    assert_eq!(lost(&row), None);
    let handle = super::super::credential::read_note(&row.certificate).unwrap();
    let line = format!("serial {}", handle.serial.unwrap());
    rig.gate.with_facts(|facts| facts.revoked = crate::login::Revocations::parse(&line).unwrap());
    assert_eq!(lost(&row), Some(Reason::CertRevoked));
    rig.gate.with_facts(|facts| facts.revoked = crate::login::Revocations::default());
    rig.gate.withdraw(oid(1), Reason::SignInWithdrawn).unwrap();
    assert_eq!(lost(&row), Some(Reason::SignInWithdrawn));
    assert!(rig.snapshot().accounts[0].unlocked_until.is_none(), "and its account is locked");
    let nobodys =
        Row { uid: rig.uid("nobody@contoso.com"), origin: Origin::Adopted, user: String::new(), ..row };
    assert_eq!(lost(&nobodys), Some(Reason::NoAdmit));
    assert_eq!(rig.script.asked.load(Ordering::SeqCst), asked);
}
