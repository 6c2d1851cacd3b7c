//! Ends carried out on a machine of paper: what is told, what is struck, when, and what is written.

use nightlatch_wire::session::{State, Target};

use super::*;
use crate::fake::{Machine, Temper, UID, close, end, log_in, open, pending, rows};
use crate::signal::Strike;

fn stage() -> (Machine, tempfile::TempDir, Keeper) {
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let keeper = machine.keeper(folder.path());
    (machine, folder, keeper)
}

/// The signals that one process took, in order.
fn strikes(machine: &Machine, process: Parent) -> Vec<Strike> {
    let taken = &machine.state().signals;
    taken
        .iter()
        .filter(|(pid, start, _)| (*pid, *start) == (process.pid, process.start))
        .map(|s| s.2)
        .collect()
}

#[test]
fn only_a_monitor_of_sshd_is_announced() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let says = |pending: Pending| keeper.pending(pending, machine.now());
    let word = |word: &str| Message::Err(word.to_owned());
    let late = Parent { start: monitor.start + 1, ..monitor };
    assert_eq!(says(pending(late, UID)), word("no_monitor"));
    assert_eq!(says(pending(Parent { pid: 9_999, start: 1 }, UID)), word("no_monitor"));
    let shell = machine.spawn("bash", 0, UID, 7, Temper::Mild);
    assert_eq!(says(pending(shell, UID)), word("no_monitor"));
    let not_root = machine.spawn("sshd-session", UID, UID, 7, Temper::Mild);
    assert_eq!(says(pending(not_root, UID)), word("no_monitor"));
    // What is announced may be ended later: never sshd's listener, never a connection of somebody else, the
    // break-glass account's among them.
    for others in [0, 1_000, UID + 1] {
        let theirs = machine.monitor(others, 8, Temper::Mild);
        assert_eq!(says(pending(theirs, UID)), word("no_monitor"), "{others}");
    }
    let listener = machine
        .state()
        .processes
        .iter()
        .find(|(_, one)| one.cgroup.trim_end().ends_with("/ssh.service"))
        .map(|(pid, one)| Parent { pid: *pid, start: one.stat.start })
        .unwrap();
    assert_eq!(says(pending(listener, UID)), word("no_monitor"));
    let unset = machine.monitor(nightlatch_wire::NO_LOGINUID, 9, Temper::Mild);
    assert_eq!(says(pending(unset, UID)), Message::Done, "before PAM has set the login uid");
    machine.end(unset.pid);
    keeper.tick(machine.now());
    for uid in [0, 1_000, 65_534, u32::MAX] {
        assert_eq!(says(pending(monitor, uid)), word("refused"), "{uid}");
    }
    assert_eq!(says(pending(monitor, UID)), Message::Done);
    for _ in 1..crate::table::MAX_WAITING {
        let other = machine.monitor(UID, 7, Temper::Mild);
        assert_eq!(says(pending(other, UID)), Message::Done);
    }
    let one_more = machine.monitor(UID, 7, Temper::Mild);
    assert_eq!(says(pending(one_more, UID)), word("full"));
    assert_eq!(says(pending(monitor, UID)), Message::Done, "the same again takes no room");
}

#[test]
fn a_login_that_never_opens_is_ended_and_one_that_gave_up_is_forgotten() {
    let (machine, _folder, keeper) = stage();
    let (stays, leaves) = (machine.monitor(UID, 7, Temper::Mild), machine.monitor(UID, 8, Temper::Mild));
    for monitor in [stays, leaves] {
        keeper.pending(pending(monitor, UID), machine.now());
    }
    machine.end(leaves.pid);
    machine.run(&keeper, 64_000);
    assert!(machine.lives(stays));
    assert_eq!(machine.said("session never opened"), 0);
    machine.run(&keeper, 2_000);
    assert_eq!(strikes(&machine, stays), [Strike::Term]);
    assert_eq!(machine.said("session never opened"), 1);
    let late = keeper.open(&open(stays, UID, 7), machine.now());
    assert!(matches!(late, Message::Deny { code, .. } if code == "no_pending"));
}

#[test]
fn a_session_ends_in_steps_and_its_neighbours_live() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    let shell = machine.spawn("bash", UID, UID, 7, Temper::Stubborn);
    machine.state().processes.get_mut(&shell.pid).unwrap().stat.pts = Some(3);
    let sudo = machine.spawn("sudo", 0, UID, 7, Temper::Stubborn);
    let other_session = machine.spawn("bash", UID, UID, 8, Temper::Stubborn);
    let stranger = machine.spawn("bash", UID + 1, UID + 1, 9, Temper::Stubborn);
    assert_eq!(rows(&keeper, false)[0].ttys, "pts/3");
    assert_eq!(keeper.end(&end(Target::Session(id), 5, "no_vm_role"), machine.now()), Message::Done);
    assert_eq!(rows(&keeper, false)[0].state, State::Ending);
    machine.run(&keeper, 4_900);
    assert!([monitor, shell, sudo].iter().all(|one| machine.lives(*one)), "the grace is theirs");
    let speech = Speech { terminals: vec![3], uid: UID, text: "ended: no_vm_role".into() };
    assert_eq!(machine.state().speeches, [speech]);
    machine.run(&keeper, 200);
    assert_eq!(strikes(&machine, monitor), [Strike::Term]);
    assert_eq!((strikes(&machine, shell), strikes(&machine, sudo)), (vec![Strike::Kill], vec![Strike::Kill]));
    machine.run(&keeper, 1_200);
    let row = &rows(&keeper, true)[0];
    assert_eq!((row.id, row.reason.as_str(), row.escaped.as_str()), (id, "no_vm_role", ""));
    assert_eq!(machine.said("ended: no_vm_role (2 processes ended, 0.0 s)"), 1);
    assert!(machine.lives(other_session) && machine.lives(stranger));
    assert!(machine.lives(Parent { pid: 1, start: 100_000 }));
}

#[test]
fn a_person_ends_whatever_it_runs_as() {
    let (machine, folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Stubborn);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    let own = machine.spawn("bash", UID, UID, 7, Temper::Stubborn);
    let service = machine.spawn("systemd", UID, UID, 99, Temper::Stubborn);
    let root = machine.spawn("close-hook", 0, UID, 7, Temper::Stubborn);
    let cron = machine.spawn("job", UID, NO_LOGINUID_FOR_TEST, 12, Temper::Stubborn);
    let announced = machine.monitor(NO_LOGINUID_FOR_TEST, 0, Temper::Mild);
    keeper.pending(pending(announced, UID), machine.now());
    assert_eq!(keeper.end(&end(Target::Person(UID), 0, "disabled"), machine.now()), Message::Done);
    assert!(!machine.lives(announced), "who is not in yet gets no grace");
    machine.run(&keeper, 500);
    for gone in [own, service, cron] {
        assert!(!machine.lives(gone), "{gone:?}");
    }
    assert!(machine.lives(monitor) && machine.lives(root), "root's part has its second");
    let again = machine.monitor(UID, 20, Temper::Mild);
    assert_eq!(keeper.pending(pending(again, UID), machine.now()), Message::Err("ending".into()));
    machine.run(&keeper, 800);
    assert!(!machine.lives(monitor) && !machine.lives(root) && !machine.lives(again));
    machine.run(&keeper, 1_500);
    assert_eq!(rows(&keeper, true)[0].id, id);
    assert!(folder.path().join(UID.to_string()).exists(), "lingering is asked to end");
    let after = machine.monitor(UID, 21, Temper::Mild);
    assert_eq!(keeper.pending(pending(after, UID), machine.now()), Message::Done, "a new yes is a new login");
}

const NO_LOGINUID_FOR_TEST: u32 = nightlatch_wire::NO_LOGINUID;

#[test]
fn a_person_without_a_row_is_swept_as_well() {
    let (machine, folder, keeper) = stage();
    keeper.end(&end(Target::Person(UID), 0, "disabled"), machine.now());
    let left = machine.spawn("nohup", UID, UID, 7, Temper::Stubborn);
    machine.run(&keeper, 3_000);
    assert!(!machine.lives(left));
    assert_eq!(machine.said(&format!("everything of uid {UID} ended: disabled (1 killed)")), 1);
    assert!(rows(&keeper, true).is_empty());
    assert!(folder.path().join(UID.to_string()).exists());
}

/// Out of descriptors, the process table looks empty.
#[test]
fn what_cannot_be_looked_at_is_not_gone() {
    let (machine, _folder, keeper) = stage();
    let left = machine.spawn("nohup", UID, UID, 7, Temper::Stubborn);
    keeper.end(&end(Target::Person(UID), 0, "disabled"), machine.now());
    machine.state().blind = true;
    machine.run(&keeper, 30_000);
    assert_eq!(machine.said(&format!("everything of uid {UID} ended")), 0);
    assert!(machine.lives(left));
    machine.state().blind = false;
    machine.run(&keeper, 3_000);
    assert!(!machine.lives(left));
    assert_eq!(machine.said(&format!("everything of uid {UID} ended: disabled (1 killed)")), 1);
    // A monitor that is held needs no look: its connection is cut in time.
    let monitor = machine.monitor(UID, 8, Temper::Stubborn);
    keeper.pending(pending(monitor, UID), machine.now());
    keeper.open(&open(monitor, UID, 8), machine.now());
    machine.state().blind = true;
    keeper.end(&end(Target::Person(UID), 0, "disabled"), machine.now());
    machine.run(&keeper, 10_000);
    assert_eq!(strikes(&machine, monitor).last(), Some(&Strike::Kill));
    assert_eq!(machine.said(&format!("everything of uid {UID} ended")), 1, "only the first time");
}

#[test]
fn what_must_not_be_ended_is_refused() {
    let (machine, folder, keeper) = stage();
    std::fs::write(folder.path().join("break-glass"), "rescue\n").unwrap();
    std::fs::write(folder.path().join("passwd"), "rescue:x:1001:1001::/:\n").unwrap();
    let shell = machine.spawn("bash", 1_001, 1_001, 33, Temper::Mild);
    machine.run(&keeper, 1);
    let id = rows(&keeper, false)[0].id;
    let says = |target| keeper.end(&end(target, 0, "x"), machine.now());
    assert_eq!(says(Target::Session(id)), Message::Err("refused".into()));
    assert_eq!(says(Target::Session(id + 1)), Message::Err("unknown".into()));
    for uid in [0, 1_000, 1_001, 65_534, 1 << 31, u32::MAX] {
        assert_eq!(says(Target::Person(uid)), Message::Err("refused".into()), "{uid}");
    }
    machine.run(&keeper, 5_000);
    assert!(machine.lives(shell));
    assert!(machine.state().signals.is_empty());
}

#[test]
fn a_second_order_may_shorten_and_never_lengthen() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    let says = |grace, reason| keeper.end(&end(Target::Session(id), grace, reason), machine.now());
    assert_eq!(says(60, "first"), Message::Done);
    machine.run(&keeper, 10);
    assert_eq!(says(3_600, "longer"), Message::Done);
    assert_eq!(says(2, "shorter"), Message::Done);
    assert_eq!(says(3_600, "longer"), Message::Done);
    machine.run(&keeper, 1_900);
    assert!(machine.lives(monitor));
    machine.run(&keeper, 1_500);
    assert!(!machine.lives(monitor));
    assert_eq!(rows(&keeper, true)[0].reason, "shorter");
}

#[test]
fn a_fork_storm_is_outrun() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    for _ in 0..20 {
        machine.spawn("storm", UID, UID, 7, Temper::Storm(5_000));
    }
    keeper.end(&end(Target::Person(UID), 0, "revoked"), machine.now());
    machine.run(&keeper, 5_000);
    assert_eq!(rows(&keeper, true)[0].id, id);
    assert_eq!(rows(&keeper, true)[0].escaped, "");
    let left = machine.state().processes.values().filter(|one| one.owner.loginuid == UID).count();
    assert_eq!(left, 0);
}

#[test]
fn what_cannot_be_ended_is_named_and_swept_on() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Stubborn);
    let mut announced = pending(monitor, UID);
    announced.admin = true;
    keeper.pending(announced, machine.now());
    let Message::Opened(id) = keeper.open(&open(monitor, UID, 7), machine.now()) else { panic!() };
    let stuck = machine.spawn("stuck", UID, UID, 7, Temper::Immortal);
    let unit = machine.spawn("sleep", 0, nightlatch_wire::NO_LOGINUID, 0, Temper::Stubborn);
    machine.state().units = vec!["run-r123.service".into(), "run-r9.service".into()];
    let group = "0::/system.slice/run-r123.service\n".to_owned();
    machine.state().processes.get_mut(&unit.pid).unwrap().cgroup = group;
    keeper.end(&end(Target::Session(id), 0, "revoked"), machine.now());
    machine.run(&keeper, 9_000);
    assert!(rows(&keeper, true).is_empty());
    machine.run(&keeper, 3_000);
    let escaped = format!("stuck (pid {}), run-r123.service (sleep)", stuck.pid);
    assert_eq!(rows(&keeper, true)[0].escaped, escaped);
    let before = strikes(&machine, stuck).len();
    machine.run(&keeper, 5_000);
    let more = strikes(&machine, stuck).len() - before;
    assert!((4..=6).contains(&more), "{more} in 5 s");
    machine.run(&keeper, 60_000);
    let before = strikes(&machine, stuck).len();
    machine.run(&keeper, 5_000);
    assert_eq!(strikes(&machine, stuck).len(), before, "after a minute it is left alone");
    assert!(machine.lives(unit), "what no key matches is named and not struck");
}

#[test]
fn the_listener_lives_even_when_a_person_started_it() {
    let (machine, _folder, keeper) = stage();
    machine.state().processes.get_mut(&40).unwrap().owner.loginuid = UID;
    let false_name = machine.spawn("sshd", UID, UID, 7, Temper::Stubborn);
    let group = "0::/system.slice/ssh.service\n".to_owned();
    machine.state().processes.get_mut(&false_name.pid).unwrap().cgroup = group;
    keeper.end(&end(Target::Person(UID), 0, "revoked"), machine.now());
    machine.run(&keeper, 4_000);
    assert!(machine.state().processes.contains_key(&40));
    assert!(!machine.lives(false_name), "a name protects nobody");
}

#[test]
fn an_end_that_comes_by_itself_is_orderly_or_not() {
    let (machine, _folder, keeper) = stage();
    let (orderly, lost) = (machine.monitor(UID, 7, Temper::Mild), machine.monitor(UID + 1, 8, Temper::Mild));
    let ids = [log_in(&machine, &keeper, orderly, UID, 7), log_in(&machine, &keeper, lost, UID + 1, 8)];
    assert_eq!(keeper.close(&close(orderly, UID, 7), machine.now()), Message::Done);
    assert_eq!(keeper.close(&close(orderly, UID + 5, 99), machine.now()), Message::Done, "of nobody");
    machine.run(&keeper, 1_000);
    assert_eq!(rows(&keeper, false).len(), 2, "while the monitor lives the session does");
    machine.end(orderly.pid);
    machine.end(lost.pid);
    machine.run(&keeper, 10);
    let ended: Vec<_> = rows(&keeper, true).into_iter().map(|row| (row.id, row.reason)).collect();
    assert_eq!(ended, [(ids[0], "closed".to_owned()), (ids[1], "connection_lost".to_owned())]);
}

#[test]
fn who_leaves_within_the_grace_leaves_nothing_behind() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    let left = machine.spawn("nohup", UID, UID, 7, Temper::Stubborn);
    keeper.end(&end(Target::Session(id), 600, "pim_not_active"), machine.now());
    machine.run(&keeper, 1_000);
    machine.end(monitor.pid);
    machine.run(&keeper, 3_000);
    assert!(!machine.lives(left));
    assert_eq!(rows(&keeper, true)[0].reason, "pim_not_active");
}

#[test]
fn a_text_goes_to_the_terminals_of_the_session_only() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let id = log_in(&machine, &keeper, monitor, UID, 7);
    for (pts, session) in [(1, 7), (4, 7), (2, 8)] {
        let shell = machine.spawn("bash", UID, UID, session, Temper::Mild);
        machine.state().processes.get_mut(&shell.pid).unwrap().stat.pts = Some(pts);
    }
    let say = |id| keeper.say(&Say { id, text: "five minutes".into() });
    assert_eq!(say(id), Message::Done);
    assert_eq!(say(id + 1), Message::Err("unknown".into()));
    assert_eq!(machine.state().speeches.len(), 1);
    assert_eq!(machine.state().speeches[0].terminals, [1, 4]);
    assert_eq!(rows(&keeper, false)[0].ttys, "pts/1,pts/4");
}

/// A daemon that is down or hangs must not keep anybody in: the yes named its own end.
#[test]
fn a_session_past_its_certificate_is_ended_without_an_order() {
    let (machine, _folder, keeper) = stage();
    let monitor = machine.monitor(UID, 7, Temper::Mild);
    let until = machine.now().wall() + 100;
    keeper.pending(Pending { until, ..pending(monitor, UID) }, machine.now());
    assert!(matches!(keeper.open(&crate::fake::open(monitor, UID, 7), machine.now()), Message::Opened(_)));
    machine.run(&keeper, 159_000);
    assert!(machine.lives(monitor) && strikes(&machine, monitor).is_empty(), "the daemon has its turn first");
    machine.run(&keeper, 5_000);
    assert!(!machine.lives(monitor));
    let row = &rows(&keeper, true)[0];
    assert_eq!((row.reason.as_str(), row.id), ("cert_expired", 1));
    // One whose end nobody told is the daemon's alone.
    let other = machine.monitor(UID, 8, Temper::Mild);
    keeper.pending(Pending { until: 0, ..pending(other, UID) }, machine.now());
    assert!(matches!(keeper.open(&crate::fake::open(other, UID, 8), machine.now()), Message::Opened(_)));
    machine.run(&keeper, 200_000);
    assert!(machine.lives(other));
}
