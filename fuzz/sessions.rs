//! What the session keeper reads: its ledger, and the list of the accounts for emergencies.

use std::collections::BTreeMap;
use std::fs;

use nightlatch_model::is_our_uid;
use nightlatch_sessiond::accounts::Accounts;
use nightlatch_sessiond::ledger::{Keep, Ledger};
use nightlatch_sessiond::record::Line;

/// The largest list of accounts, in bytes.
const LIST_BYTES: usize = 4096;

/// Any bytes as the ledger: each whole line is either read or counted, a torn last one is cut off and nothing else, what was
/// read comes back the same after the file was written anew, and what is written next stands on a line of its own.
pub fn ledger(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger");
    fs::write(&path, data).expect("the ledger is written");
    let mut ledger = Ledger::new(path.clone(), "boot".to_owned());
    let read = |ledger: &mut Ledger| {
        let mut lines: Vec<Line> = Vec::new();
        let bad = ledger.load(&mut |line| lines.push(line)).expect("a file of ours");
        (lines, bad)
    };
    let whole = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let count = data[..whole].iter().filter(|byte| **byte == b'\n').count();
    let (lines, bad) = read(&mut ledger);
    assert_eq!(lines.len() as u64 + bad, count as u64, "each line is read or counted");
    assert_eq!(
        fs::read(&path).expect("the ledger"),
        &data[..whole],
        "a torn line is cut off, and nothing else"
    );
    let plain = |text: &[u8]| serde_json::from_slice::<Line>(text).ok();
    assert!(data[..whole].split(|byte| *byte == b'\n').filter_map(plain).eq(lines.iter().cloned()));
    ledger.rewrite(&|_| Keep::Live).expect("a folder of ours");
    let (again, bad) = read(&mut ledger);
    assert_eq!((again, bad), (lines, 0), "a file that was written anew holds what was read");
}

/// Any bytes as the list and, behind 0x01, as /etc/passwd: whoever is kept for emergencies is named in both, by the uid of
/// the first line of this name that has one, and is none of our people.
pub fn break_glass(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = data.iter().position(|byte| *byte == 1).unwrap_or(data.len());
    let (list, passwd) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let accounts = Accounts { passwd: folder.path().join("passwd"), break_glass: folder.path().join("list") };
    fs::write(&accounts.break_glass, list).expect("the list is written");
    fs::write(&accounts.passwd, passwd).expect("the accounts are written");
    let found = match accounts.break_glass() {
        Ok(found) => found,
        Err(why) => {
            assert!(list.len() > LIST_BYTES, "{why}");
            return;
        }
    };
    let text = String::from_utf8_lossy(list).into_owned();
    let named: Vec<&str> =
        text.lines().map(|line| line.split_once('#').map_or(line, |(name, _)| name).trim()).collect();
    let mut local: BTreeMap<&[u8], Option<u32>> = BTreeMap::new();
    for line in passwd.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let uid = fields.get(2).and_then(|uid| str::from_utf8(uid).ok()).and_then(|uid| uid.parse().ok());
        local.entry(fields[0]).or_insert(None);
        if let (Some(known @ None), Some(uid)) = (local.get_mut(fields[0]), uid) {
            *known = Some(uid);
        }
    }
    for (uid, name) in &found {
        assert!(named.contains(&name.as_str()) && !name.is_empty(), "{name:?}");
        assert_eq!(local.get(name.as_bytes()), Some(&Some(*uid)), "{name:?}");
        assert!(!is_our_uid(*uid) && *uid != u32::MAX);
    }
    for name in named.into_iter().filter(|name| !name.is_empty()) {
        let uid = local.get(name.as_bytes()).copied().flatten();
        let counts = uid.is_some_and(|uid| !is_our_uid(uid) && uid != u32::MAX);
        assert!(!counts || uid.is_some_and(|uid| found.contains_key(&uid)), "{name:?} is missing");
    }
}
