//! Who may open, with which proof.

use super::*;
use crate::fake::{UID, open, pending};
use nightlatch_wire::session::Pending;

const NOW: Now = Now { wall_ms: 5_000, up_ms: 5_000 };
const MONITOR: Parent = Parent { pid: 70, start: 7_000 };

fn table(change: impl FnOnce(&mut Pending)) -> Table {
    let mut announced = pending(MONITOR, UID);
    change(&mut announced);
    let waiting = Waiting::new(announced, NOW);
    let waiting = BTreeMap::from([(waiting.monitor(), waiting)]);
    Table { next_id: 1, waiting, ..Table::default() }
}

fn judge(table: &Table, change: impl FnOnce(&mut Open)) -> Result<Admitted, Denied> {
    let mut asked = open(MONITOR, UID, 9);
    change(&mut asked);
    table.admit(&asked, &Forbidden::new([3, 4], 995), NOW)
}

#[test]
fn an_open_needs_its_own_announcement() {
    let table = table(|_| {});
    assert!(matches!(judge(&table, |_| {}), Ok(Admitted::New(session)) if session.uid == UID));
    let stranger = Parent { pid: 1, start: 1 };
    assert!(
        judge(&table, |open| open.parents.insert(0, stranger)).is_ok(),
        "the second parent counts as well"
    );
    for parents in [vec![], vec![stranger], vec![Parent { start: 7_001, ..MONITOR }]] {
        assert_eq!(judge(&table, |open| open.parents = parents), Err(Denied::NoPending));
    }
    assert_eq!(judge(&table, |open| open.user = "eve@contoso.com".into()), Err(Denied::User));
    for loginuid in [u32::MAX, 0, UID + 1] {
        assert_eq!(judge(&table, |open| open.loginuid = loginuid), Err(Denied::Loginuid));
    }
    for id in [u32::MAX, 0, 3, 4, 1 << 31] {
        assert_eq!(judge(&table, |open| open.audit_session = id), Err(Denied::AuditSession), "{id}");
    }
    let later = Now { up_ms: NOW.up_ms + 65_000, ..NOW };
    assert_eq!(table.admit(&open(MONITOR, UID, 9), &Forbidden::default(), later), Err(Denied::NoPending));
}

#[test]
fn the_certificate_is_the_one_that_was_judged() {
    let table = table(|pending| pending.digest = Sha256::digest(b"AAAAcert").into());
    let with = |auth: &str| judge(&table, |open| open.auth = auth.to_owned()).is_ok();
    assert!(with("publickey ssh-rsa-cert-v01@openssh.com AAAAcert"));
    assert!(with("publickey ssh-rsa-cert-v01@openssh.com AAAAcert trailing"));
    for wrong in [
        "",
        "publickey ssh-rsa-cert-v01@openssh.com AAAAother",
        "publickey AAAAcert",
        "password",
        "keyboard-interactive/pam AAAAcert AAAAcert",
        "publickey ssh-rsa AAAAother\npublickey ssh-rsa AAAAcert",
    ] {
        assert!(!with(wrong), "{wrong:?}");
    }
    assert!(with("keyboard-interactive\npublickey ssh-rsa AAAAcert"));
}

#[test]
fn words_for_people_are_printable_sentences() {
    for denied in [
        Denied::NoPending,
        Denied::User,
        Denied::Loginuid,
        Denied::AuditSession,
        Denied::Certificate,
        Denied::NotRecorded,
    ] {
        let text = denied.to_string();
        assert!(
            text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.contains("log in again"),
            "{text}"
        );
        assert!(["no_pending", "session_mismatch", "session_not_recorded"].contains(&denied.code()));
    }
}

#[test]
fn nothing_ends_twice_and_the_oldest_are_forgotten() {
    let mut table = Table { next_id: 1, ..Table::default() };
    for id in 1..=1_500 {
        table.begin(Session::found(id, Kind::Adopted, String::new(), UID, 9, NOW));
        assert!(table.finish(Finish::by_itself(id, "closed", NOW)).is_some());
        assert!(table.finish(Finish::by_itself(id, "closed", NOW)).is_none());
    }
    let rows = table.rows(List { after: 0, ended: true });
    assert_eq!((rows.len(), rows[0].id, rows[999].id), (1_000, 501, 1_500));
    assert_eq!(table.rows(List { after: 1_498, ended: true }).len(), 2);
    assert_eq!(table.next_id, 1_501);
}
