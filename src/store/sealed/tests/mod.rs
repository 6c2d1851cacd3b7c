//! The sealed store against a disk that fails at every step, and against somebody who has the disk.

pub(crate) mod disk;

use std::path::Path;

use self::disk::{Fault, Left, MemoryDisk};
use super::*;

const KEY: [u8; 32] = [7; 32];
const MACHINE: &str = "0123456789abcdef0123456789abcdef";
const STORE: &str = "/state/sealed";
const HIGH: &str = "/state/sealed.generation";

fn places() -> Places {
    Places { store: STORE.into(), high_water: HIGH.into() }
}

fn open(disk: &MemoryDisk) -> (Sealed, Found) {
    try_open(disk).unwrap()
}

fn try_open(disk: &MemoryDisk) -> Result<(Sealed, Found), SealedError> {
    Sealed::open(Arc::new(disk.clone()), places(), &KEY, SealKind::Host, MACHINE)
}

fn put(sealed: &Sealed, value: u32) -> Result<(), SealedError> {
    sealed.put("person/1000", Zeroizing::new(value.to_string().into_bytes()))
}

fn value(sealed: &Sealed) -> Option<u32> {
    sealed.get("person/1000").map(|bytes| std::str::from_utf8(&bytes).unwrap().parse().unwrap())
}

/// What a run had been told was durable, and what it had last tried.
#[derive(Clone, Copy, Default, Debug)]
struct Told {
    durable: Option<u32>,
    tried: Option<u32>,
}

/// A life of the store: writes, a restart, writes, a sign-out, writes. Ends at the first error.
fn live(disk: &MemoryDisk) -> (Told, Option<Sealed>) {
    let mut told = Told::default();
    let mut keep = None;
    for (restart, wanted) in
        [(true, Some(1)), (false, Some(2)), (true, Some(3)), (false, None), (false, Some(4)), (true, Some(5))]
    {
        if restart {
            let Ok((sealed, found)) = try_open(disk) else { return (told, None) };
            assert!(!matches!(found, Found::Discarded(_)), "{found:?}");
            keep = Some(sealed);
        }
        let sealed = keep.as_ref().unwrap();
        told.tried = wanted;
        let done = match wanted {
            Some(value) => put(sealed, value),
            None => sealed.remove("person/1000").map(drop),
        };
        if done.is_err() {
            return (told, keep);
        }
        told.durable = wanted;
    }
    (told, keep)
}

#[test]
fn every_step_of_every_write_may_fail_or_be_the_last() {
    let calm = MemoryDisk::default();
    let (told, _) = live(&calm);
    assert_eq!((told.durable, told.tried), (Some(5), Some(5)));
    let (steps, mut crashes) = (calm.steps(), 0);
    assert!(steps > 60, "{steps} steps");
    for step in 1..=steps {
        for fault in Fault::ALL {
            let disk = MemoryDisk::default();
            disk.fail_at(step, fault);
            let (told, sealed) = live(&disk);
            // The power goes right after the fault, with every part of what was not synced lost or kept.
            for names in 0..=disk.pending() {
                for left in [Left::Nothing, Left::Half, Left::All] {
                    crashes += 1;
                    let disk = disk.after_power_loss(names, left);
                    let (sealed, found) = open(&disk);
                    let what = format!("step {step}, {fault:?}, {names} names, {left:?}: {told:?}");
                    assert!(!matches!(found, Found::Discarded(_)), "{what}: {found:?}");
                    let kept = value(&sealed);
                    assert!(kept == told.durable || kept == told.tried, "{what}: {kept:?}");
                    put(&sealed, 9).unwrap();
                    assert_eq!(value(&open(&disk).0), Some(9), "{what}");
                }
            }
            // Or it stays, and the next try mends it.
            if fault != Fault::PowerOff
                && let Some(sealed) = sealed
            {
                assert_eq!(value(&sealed), told.tried);
                sealed.flush().unwrap();
                assert_eq!(value(&open(&disk).0), told.tried, "step {step}, {fault:?}");
            }
        }
    }
    assert!(crashes > 1_000, "{crashes} crashes");
}

#[test]
fn past_bug_58_an_older_sealed_file_put_back_is_discarded() {
    let disk = MemoryDisk::default();
    let (sealed, found) = open(&disk);
    assert_eq!(found, Found::Nothing);
    let mut older = Vec::new();
    for value in 1..=4 {
        put(&sealed, value).unwrap();
        older.push(disk.file(Path::new(STORE)).unwrap());
    }
    for (at, file) in older.iter().take(3).enumerate() {
        let disk = disk.after_power_loss(0, Left::All);
        disk.plant(Path::new(STORE), Some(file));
        let (sealed, found) = open(&disk);
        let found_at = at as u64 + 1;
        let rolled = Discarded::RolledBack { found: found_at, newest: 4 };
        assert_eq!((value(&sealed), found), (None, Found::Discarded(rolled)));
        assert!(rolled.to_string().contains("nightlatch login"));
        assert!(disk.file(Path::new(STORE)).is_none(), "its tokens still lie there");
        // What is signed in afterwards is kept, and the old file is refused again.
        put(&sealed, 7).unwrap();
        assert_eq!(value(&open(&disk).0), Some(7));
        disk.plant(Path::new(STORE), Some(file));
        assert!(matches!(open(&disk).1, Found::Discarded(Discarded::RolledBack { newest: 5, .. })));
    }
    // Taking the high water away, or both and then putting the store back, does not help.
    let newest = disk.file(Path::new(STORE)).unwrap();
    disk.plant(Path::new(HIGH), None);
    assert_eq!(open(&disk).1, Found::Discarded(Discarded::AgeUnknown));
    let (sealed, found) = open(&disk);
    assert_eq!(found, Found::Nothing);
    put(&sealed, 1).unwrap();
    disk.plant(Path::new(STORE), Some(&newest));
    assert!(matches!(open(&disk).1, Found::Discarded(Discarded::RolledBack { .. })));
    // A store that vanished is told, not taken for a first start.
    let (sealed, _) = open(&disk);
    put(&sealed, 1).unwrap();
    disk.plant(Path::new(STORE), None);
    assert_eq!(open(&disk).1, Found::Discarded(Discarded::Gone));
}

#[test]
fn a_high_water_of_another_time_or_kind_is_no_way_around() {
    let disk = MemoryDisk::default();
    let (sealed, _) = open(&disk);
    put(&sealed, 1).unwrap();
    let old_store = disk.file(Path::new(STORE)).unwrap();
    put(&sealed, 2).unwrap();
    let (store, high) = (disk.file(Path::new(STORE)).unwrap(), disk.file(Path::new(HIGH)).unwrap());
    // A sealed file is no high water, and the other way round.
    disk.plant(Path::new(HIGH), Some(&old_store[..old_store.len().min(256)]));
    assert!(matches!(open(&disk).1, Found::Discarded(_)));
    disk.plant(Path::new(HIGH), Some(&high));
    disk.plant(Path::new(STORE), Some(&high));
    assert_eq!(open(&disk).1, Found::Discarded(Discarded::Damaged));
    // Another key and another machine open nothing.
    let with = |key: &[u8], machine: &str| {
        let disk = MemoryDisk::default();
        disk.plant(Path::new(HIGH), Some(&high));
        disk.plant(Path::new(STORE), Some(&store));
        let (sealed, found) = Sealed::open(Arc::new(disk), places(), key, SealKind::Tpm, machine).unwrap();
        (value(&sealed), found)
    };
    assert_eq!(with(&KEY, MACHINE), (Some(2), Found::Whole));
    assert_eq!(with(&[8; 32], MACHINE), (None, Found::Discarded(Discarded::OtherKey)));
    assert_eq!(with(&KEY, "another"), (None, Found::Discarded(Discarded::Damaged)));
    for bad in [&[0; 31][..], &[0; 1025]] {
        let opened = Sealed::open(Arc::new(MemoryDisk::default()), places(), bad, SealKind::Tpm, MACHINE);
        assert!(matches!(opened, Err(SealedError::Key(_))));
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let disk = MemoryDisk::default();
    put(&open(&disk).0, 4_242_424_242).unwrap();
    let whole = disk.file(Path::new(STORE)).unwrap();
    let text = String::from_utf8_lossy(&whole);
    assert!(!text.contains("person") && !text.contains("4242424242"), "it is not sealed");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        for bytes in [bytes, whole[..at].to_vec()] {
            let disk = disk.after_power_loss(0, Left::All);
            disk.plant(Path::new(STORE), Some(&bytes));
            let (sealed, found) = open(&disk);
            assert!(matches!(found, Found::Discarded(_)) && value(&sealed).is_none(), "byte {at}");
        }
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let disk = MemoryDisk::default();
    let (sealed, _) = open(&disk);
    let large = || Zeroizing::new(vec![1; MAX_ENTRY_BYTES]);
    assert!(matches!(sealed.put("x", Zeroizing::new(vec![1; MAX_ENTRY_BYTES + 1])), Err(SealedError::Full)));
    assert!(matches!(sealed.put(&"x".repeat(MAX_NAME_BYTES + 1), large()), Err(SealedError::Full)));
    let mut kept = 0;
    while sealed.put(&format!("key/{kept}"), large()).is_ok() {
        kept += 1;
    }
    assert_eq!(kept, 63, "entries of {MAX_ENTRY_BYTES} bytes below {MAX_STORE_BYTES}");
    assert_eq!(open(&disk).0.names("key/").len(), kept);
    sealed.put("key/0", Zeroizing::new(b"small".to_vec())).unwrap();
    assert!(sealed.remove("key/1").unwrap() && !sealed.remove("key/1").unwrap());
    assert_eq!(open(&disk).0.names("key/").len(), kept - 1);
}

#[test]
fn the_real_disk_and_no_disk_keep_what_they_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let places =
        Places { store: folder.path().join("sealed"), high_water: folder.path().join("sealed.generation") };
    let open = || {
        let disk = Arc::new(crate::store::RealDisk);
        Sealed::open(disk, places.clone(), &KEY, SealKind::TpmAndHost, MACHINE).unwrap()
    };
    put(&open().0, 3).unwrap();
    let (sealed, found) = open();
    assert_eq!(
        (value(&sealed), found, sealed.kind().to_string()),
        (Some(3), Found::Whole, "host+tpm2".into())
    );
    use std::os::unix::fs::PermissionsExt;
    for path in [&places.store, &places.high_water] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let memory = Sealed::in_memory();
    put(&memory, 4).unwrap();
    assert_eq!((value(&memory), memory.kind()), (Some(4), SealKind::Unsealed));
    memory.flush().unwrap();
    assert_eq!((SealKind::of_key("tpm2"), SealKind::of_key("memory")), (Some(SealKind::Tpm), None));
}
