//! Local accounts: whose uid a name has in `/etc/passwd`, and which are kept for emergencies.
//!
//! Files, not name services: this program must never wait for a responder, least of all for our own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nightlatch_model::is_our_uid;

/// The largest `/etc/passwd` that is read, in bytes.
const MAX_PASSWD_BYTES: u64 = 16 * 1024 * 1024;
/// The largest list of break-glass accounts that is read, in bytes.
const MAX_LIST_BYTES: u64 = 4 * 1024;

/// Where local accounts are written.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: PathBuf,
    /// `/etc/nightlatch/break-glass`: one name per line, `#` begins a remark.
    pub break_glass: PathBuf,
}

impl Accounts {
    /// The break-glass accounts by uid; none when there is no list. A name that is no local account, or has a
    /// uid of our people's range, is passed over.
    ///
    /// # Errors
    /// A file cannot be read, or the list is longer than 4 KiB.
    pub fn break_glass(&self) -> io::Result<BTreeMap<u32, String>> {
        let list = match read(&self.break_glass, MAX_LIST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            list => list?,
        };
        let list = String::from_utf8_lossy(&list);
        let names = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let passwd = read(&self.passwd, MAX_PASSWD_BYTES)?;
        let uids = names.into_iter().filter_map(|name| Some((uid_in(&passwd, name)?, name.to_owned())));
        Ok(uids.filter(|(uid, _)| !is_our_uid(*uid) && *uid != u32::MAX).collect())
    }
}

/// The uid of a local account; `None` when there is none of this name.
///
/// # Errors
/// The file cannot be read.
pub fn uid_of(passwd: &Path, name: &str) -> io::Result<Option<u32>> {
    Ok(uid_in(&read(passwd, MAX_PASSWD_BYTES)?, name))
}

fn uid_in(passwd: &[u8], name: &str) -> Option<u32> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next()? != name.as_bytes() {
            return None;
        }
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::other(format!("larger than {max} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn break_glass_accounts_are_local_and_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let accounts =
            Accounts { passwd: folder.path().join("passwd"), break_glass: folder.path().join("list") };
        assert!(accounts.break_glass().unwrap().is_empty(), "no list");
        let passwd = "root:x:0:0::/:\nrescue:x:1001:1::/:\nours@x.com:x:1900000000:1::/:\nodd:x:-1:1::/:\n\
                      off:x:4294967295:1::/:";
        fs::write(&accounts.passwd, passwd).unwrap();
        fs::write(
            &accounts.break_glass,
            "# kept for emergencies\n rescue # on paper\n\nroot\nnobody\nours@x.com\nodd\noff",
        )
        .unwrap();
        let found = accounts.break_glass().unwrap();
        assert_eq!(found, BTreeMap::from([(0, "root".to_owned()), (1_001, "rescue".to_owned())]));
        fs::write(&accounts.break_glass, "a\n".repeat(3_000)).unwrap();
        assert!(accounts.break_glass().unwrap_err().to_string().contains("larger than 4096 bytes"));
        assert_eq!(uid_of(&accounts.passwd, "rescue").unwrap(), Some(1_001));
        assert_eq!(uid_of(&accounts.passwd, "resc").unwrap(), None);
    }
}
