//! What nobody announced, the accounts for emergencies, and what a start takes up.

use std::fs;

use nightlatch_wire::session::{Origin, Target};
use nightlatch_wire::{Message, NO_LOGINUID};

use super::*;
use crate::fake::{BOOT, Machine, Temper, UID, end, log_in, pending, rows};

fn stage() -> (Machine, tempfile::TempDir, Keeper) {
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let keeper = machine.keeper(folder.path());
    (machine, folder, keeper)
}

#[test]
fn processes_that_no_login_explains_are_adopted_once() {
    let (machine, _folder, keeper) = stage();
    let first = machine.spawn("nohup", UID, UID, 44, Temper::Mild);
    let second = machine.spawn("sudo", 0, UID, 44, Temper::Mild);
    machine.spawn("cron", UID + 1, NO_LOGINUID, NO_LOGINUID, Temper::Mild);
    machine.spawn("zombie", UID + 2, UID + 2, 45, Temper::Mild);
    machine.state().processes.values_mut().find(|one| one.stat.comm == "zombie").unwrap().stat.dead = true;
    machine.run(&keeper, 25_000);
    let found: Vec<_> =
        rows(&keeper, false).into_iter().map(|row| (row.origin, row.uid, row.audit_session)).collect();
    assert_eq!(found, [(Origin::Adopted, UID, 44), (Origin::Adopted, UID + 1, NO_LOGINUID)]);
    machine.end(first.pid);
    machine.run(&keeper, 11_000);
    assert_eq!(rows(&keeper, false).len(), 2, "one of two is left");
    machine.end(second.pid);
    machine.run(&keeper, 11_000);
    assert_eq!(rows(&keeper, true)[0].reason, "closed");
}

#[test]
fn what_a_session_leaves_behind_is_adopted_when_it_stays_and_explained_by_the_next_login() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    log_in(&machine, &keeper, monitor, UID, 7);
    machine.spawn("nohup", UID, UID, 7, Temper::Mild);
    machine.run(&keeper, 5_000);
    machine.end(monitor.pid);
    machine.run(&keeper, 14_000);
    assert!(rows(&keeper, false).is_empty(), "a service manager may take ten seconds to leave");
    machine.run(&keeper, 11_000);
    let row = &rows(&keeper, false)[0];
    assert_eq!((row.origin, row.user.as_str()), (Origin::Adopted, format!("u{UID}@contoso.com").as_str()));
    let again = machine.monitor(UID, 8, Temper::Mild);
    assert_eq!(keeper.pending(pending(again, UID), machine.now()), Message::Done);
    machine.run(&keeper, 11_000);
    assert_eq!(rows(&keeper, false).len(), 1, "an announcement explains nothing yet");
    assert!(matches!(keeper.open(&crate::fake::open(again, UID, 8), machine.now()), Message::Opened(_)));
    machine.run(&keeper, 11_000);
    let live: Vec<_> = rows(&keeper, false).into_iter().map(|row| row.origin).collect();
    assert_eq!(live, [Origin::Login]);
    assert_eq!(rows(&keeper, true)[1].reason, "explained");
}

#[test]
fn a_login_that_is_about_to_open_is_not_adopted() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    keeper.pending(pending(monitor, UID), machine.now());
    machine.spawn("systemd", UID, UID, 8, Temper::Mild);
    machine.run(&keeper, 11_000);
    assert!(rows(&keeper, false).is_empty());
}

#[test]
fn an_adopted_row_is_ended_as_the_person_it_is() {
    let (machine, _folder, keeper) = stage();
    let left = machine.spawn("nohup", UID, NO_LOGINUID, NO_LOGINUID, Temper::Stubborn);
    machine.run(&keeper, 21_000);
    let id = rows(&keeper, false)[0].id;
    assert_eq!(keeper.end(&end(Target::Session(id), 0, "no_admit"), machine.now()), Message::Done);
    machine.run(&keeper, 3_000);
    assert!(!machine.lives(left));
    assert_eq!(rows(&keeper, true)[0].reason, "no_admit");
}

#[test]
fn break_glass_is_seen_told_and_let_be() {
    let (machine, folder, keeper) = stage();
    fs::write(folder.path().join("passwd"), "root:x:0:0::/:\nrescue:x:1001:1::/:\n").unwrap();
    fs::write(folder.path().join("break-glass"), "rescue # sealed envelope\n").unwrap();
    let shell = machine.spawn("bash", 1_001, 1_001, 60, Temper::Mild);
    machine.spawn("vi", 0, 1_001, 60, Temper::Mild);
    machine.spawn("bash", 1_001, 1_001, 61, Temper::Mild);
    machine.spawn("bash", 1_001, 1_001, NO_LOGINUID, Temper::Mild);
    machine.spawn("bash", 1_002, 1_002, 62, Temper::Mild);
    machine.run(&keeper, 25_000);
    let found: Vec<_> = rows(&keeper, false).into_iter().map(|row| (row.origin, row.audit_session)).collect();
    assert_eq!(found, [(Origin::BreakGlass, 60)], "one for the account, whatever it has");
    assert_eq!(machine.said("the break-glass account `rescue` is in use"), 1);
    machine.state().processes.retain(|_, one| one.owner.session != 60);
    machine.run(&keeper, 11_000);
    assert_eq!(rows(&keeper, false).len(), 1, "its other session goes on");
    machine.state().processes.retain(|_, one| one.owner.session != 61);
    machine.run(&keeper, 11_000);
    assert_eq!(rows(&keeper, true)[0].reason, "closed");
    assert!(!machine.lives(shell));
    assert!(machine.state().signals.is_empty());
    fs::write(folder.path().join("break-glass"), "x\n".repeat(4_000)).unwrap();
    machine.run(&keeper, 31_000);
    assert_eq!(machine.said("break-glass accounts are not watched"), 1, "said once");
}

#[test]
fn a_node_that_restarted_ends_what_was_before() {
    let (machine, folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    keeper.end(&end(Target::Person(UID + 9), 60, "old"), machine.now());
    drop(keeper);
    let keeper = machine.keeper_in(folder.path(), "boot-2");
    assert!(keeper.inner().table.orders.is_empty(), "an order of another boot is no order");
    let row = &rows(&keeper, true)[0];
    assert_eq!((row.id, row.reason.as_str()), (id, "node_restarted"));
    assert!(machine.lives(monitor), "the number means somebody else by now");
    drop(keeper);
    let keeper = machine.keeper_in(folder.path(), BOOT);
    assert_eq!(rows(&keeper, true).len(), 1);
}

#[test]
fn without_a_ledger_nothing_opens_and_everything_else_goes_on() {
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let missing = folder.path().join("not-there-yet");
    let keeper = machine.keeper(&missing);
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    assert_eq!(keeper.pending(pending(monitor, UID), machine.now()), Message::Done);
    let open = crate::fake::open(monitor, UID, 7);
    let denied = keeper.open(&open, machine.now());
    assert!(matches!(denied, Message::Deny { code, .. } if code == "session_not_recorded"));
    let left = machine.spawn("nohup", UID + 1, UID + 1, 9, Temper::Stubborn);
    assert_eq!(keeper.end(&end(Target::Person(UID + 1), 0, "revoked"), machine.now()), Message::Done);
    machine.run(&keeper, 15_000);
    assert!(!machine.lives(left));
    assert_eq!(machine.said("sessions cannot be recorded"), 1, "said once");
    fs::create_dir(&missing).unwrap();
    machine.run(&keeper, 11_000);
    assert_eq!(keeper.open(&open, machine.now()), Message::Opened(1));
    machine.run(&keeper, 61_000);
    keeper.end(&end(Target::Person(UID + 1), 0, "revoked"), machine.now());
    machine.run(&keeper, 5_000);
    assert_eq!(machine.said("takes records again"), 1);
}
