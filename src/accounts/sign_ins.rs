//! What certificates that let somebody in said of the sign-in behind them, for as long as they are good: access rules are
//! asked again while the session lives, and for `sudo`, when the certificate is no longer at hand.
//!
//! Losing an entry takes evidence away and gives none. A damaged file is an empty one.

use std::collections::HashMap;
use std::path::PathBuf;

use core::net::IpAddr;
use nightlatch_model::{ObjectId, Timestamp};
use nightlatch_policy::SignIn;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::store::{StoreError, read_capped, replace_file};

/// The most certificates that are remembered; the one that ends first makes way.
const MAX_KEPT: usize = 2_048;
/// The most of one person; the own one that ends first makes way: nobody pushes others out.
const MAX_KEPT_OF_ONE: usize = 64;
/// The largest file, in bytes: an ID token lists at most 200 groups.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// What is kept of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSignIn {
    /// By what the certificate is known; the correlation id where the login showed more than the certificate says.
    certificate: String,
    /// Who was let in.
    pub oid: ObjectId,
    /// When it was last used.
    at: Timestamp,
    /// When the certificate ends.
    pub until: Timestamp,
    /// What it said.
    pub sign_in: SignIn,
    /// From where it was last used.
    pub from: Option<IpAddr>,
    /// Whether its holder is a guest of the tenant, where it says so.
    #[serde(default)]
    pub guest: Option<bool>,
}

/// The sign-ins, with the file behind them.
pub struct SignIns {
    path: PathBuf,
    kept: HashMap<String, KeptSignIn>,
    changed: bool,
}

impl KeptSignIn {
    /// What a certificate says that ends `until`, used from an address.
    #[must_use]
    pub const fn new(
        oid: ObjectId,
        sign_in: SignIn,
        guest: Option<bool>,
        from: Option<IpAddr>,
        until: Timestamp,
    ) -> Self {
        Self { certificate: String::new(), oid, at: until, until, sign_in, from, guest }
    }
}

impl SignIns {
    /// Opens the file.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let bytes = read_capped(&path, MAX_FILE_BYTES)?.unwrap_or_default();
        let list: Vec<serde_json::Value> = match serde_json::from_slice(&bytes) {
            Err(_) if bytes.is_empty() => Vec::new(),
            list => list.unwrap_or_else(|cause| {
                warn!("`{}` is damaged, and what certificates said is forgotten: {cause}", path.display());
                Vec::new()
            }),
        };
        let read = |one| serde_json::from_value::<KeptSignIn>(one).ok();
        let kept = list.into_iter().filter_map(read).map(|one| (one.certificate.clone(), one)).collect();
        Ok(Self { path, kept, changed: false })
    }

    /// Remembers what a certificate said, or a login with it showed. Only in memory: [`SignIns::take_changes`] gives what is to be written.
    pub fn remember(&mut self, certificate: String, said: KeptSignIn, now: Timestamp) {
        self.changed = true;
        self.kept.retain(|_, one| now < one.until);
        let oid = said.oid;
        self.kept.insert(certificate.clone(), KeptSignIn { certificate, at: now, ..said });
        let own = self.kept.values().filter(|one| one.oid == oid);
        if own.clone().count() > MAX_KEPT_OF_ONE {
            let first = own.min_by_key(|one| (one.until, one.at)).map(|one| one.certificate.clone());
            first.and_then(|first| self.kept.remove(&first));
        }
        if self.kept.len() > MAX_KEPT {
            let first = self.kept.values().min_by_key(|one| one.until).map(|one| one.certificate.clone());
            first.and_then(|first| self.kept.remove(&first));
        }
    }

    /// What could not be written is to be written again.
    pub const fn not_written(&mut self) {
        self.changed = true;
    }

    /// What a session rests on: what its own login showed at the prompt as well, else what its certificate said.
    #[must_use]
    pub fn of_session(&self, correlation: &str, certificate: &str) -> Option<&KeptSignIn> {
        self.of(correlation).or_else(|| self.of(certificate))
    }

    /// What a certificate said, or a login showed.
    #[must_use]
    pub fn of(&self, known_by: &str) -> Option<&KeptSignIn> {
        self.kept.get(known_by)
    }

    /// The last one with which a person was let in, as the certificate tells it: what a login showed at the prompt was for that
    /// login.
    #[must_use]
    pub fn last(&self, oid: ObjectId) -> Option<&KeptSignIn> {
        let own = |one: &&KeptSignIn| one.oid == oid && one.sign_in.prompted.is_none();
        self.kept.values().filter(own).max_by_key(|one| (one.at, one.until))
    }

    /// The file and its new content, when something changed since the last time.
    pub fn take_changes(&mut self) -> Option<(PathBuf, Vec<u8>)> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut list: Vec<&KeptSignIn> = self.kept.values().collect();
        list.sort_by(|a, b| a.certificate.cmp(&b.certificate));
        serde_json::to_vec(&list).ok().map(|bytes| (self.path.clone(), bytes))
    }

    /// Writes what [`SignIns::take_changes`] gave.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write((path, bytes): &(PathBuf, Vec<u8>)) -> Result<(), StoreError> {
        replace_file(path, bytes, 0o600, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_policy::ProofKind;

    fn oid(n: u8) -> ObjectId {
        format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().unwrap()
    }

    fn sign_in(amr: &str) -> SignIn {
        SignIn {
            proof: ProofKind::OpenPubkey,
            issued: Timestamp(1_000),
            auth_time: Some(Timestamp(900)),
            amr: Some(vec![amr.to_owned()]),
            acrs: None,
            device: None,
            groups: None,
            prompted: None,
        }
    }

    fn said(who: u8, amr: &str, until: i64) -> KeptSignIn {
        KeptSignIn::new(oid(who), sign_in(amr), Some(false), "10.0.0.7".parse().ok(), Timestamp(until))
    }

    #[test]
    fn what_a_certificate_said_outlives_a_restart_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sign-ins.json");
        let mut book = SignIns::open(path.clone()).unwrap();
        assert_eq!(book.take_changes(), None);
        book.remember("one".into(), said(1, "mfa", 2_000), Timestamp(1_100));
        book.remember("two".into(), said(1, "pwd", 3_000), Timestamp(1_200));
        book.remember("other".into(), said(2, "rsa", 3_000), Timestamp(1_300));
        SignIns::write(&book.take_changes().unwrap()).unwrap();
        assert_eq!(book.take_changes(), None);
        book.not_written();
        assert!(book.take_changes().is_some());
        let mut again = SignIns::open(path.clone()).unwrap();
        assert_eq!(again.of("one").unwrap().sign_in, sign_in("mfa"));
        assert_eq!(again.of("one").unwrap().from, "10.0.0.7".parse().ok());
        assert_eq!((again.of("none"), again.of("one").unwrap().guest), (None, Some(false)));
        assert_eq!(again.last(oid(1)).unwrap().sign_in, sign_in("pwd"));
        // A login at a later time forgets what has ended.
        again.remember("four".into(), said(3, "mfa", 9_000), Timestamp(2_000));
        assert_eq!(again.of("one"), None);
        assert!(again.of("two").is_some());
        std::fs::write(&path, "[{").unwrap();
        assert_eq!(SignIns::open(path).unwrap().last(oid(1)), None);
    }

    #[test]
    fn what_a_login_showed_at_the_prompt_is_its_sessions_and_nobodys_last_sign_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = SignIns::open(folder.path().join("sign-ins.json")).unwrap();
        let shown = SignIn { prompted: Some(Timestamp(1_150)), ..sign_in("mfa") };
        let prompted = KeptSignIn { sign_in: shown, ..said(1, "mfa", 2_000) };
        book.remember("one".into(), said(1, "pwd", 2_000), Timestamp(1_100));
        book.remember("its-login".into(), prompted, Timestamp(1_200));
        assert!(book.of_session("its-login", "one").unwrap().sign_in.prompted.is_some());
        assert_eq!(book.of_session("another", "one").unwrap().sign_in, sign_in("pwd"));
        assert_eq!(book.of_session("", "two"), None);
        assert_eq!(book.last(oid(1)).unwrap().sign_in, sign_in("pwd"));
    }

    /// What a later release wrote beside it is no reason to forget what is known.
    #[test]
    fn an_entry_that_cannot_be_read_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sign-ins.json");
        let mut book = SignIns::open(path.clone()).unwrap();
        book.remember("one".into(), said(1, "mfa", 2_000), Timestamp(1_100));
        let (_, bytes) = book.take_changes().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let more = text.replace("[{", "[{\"certificate\": 7}, {\"later\": true,");
        std::fs::write(&path, more).unwrap();
        assert_eq!(SignIns::open(path).unwrap().of("one").unwrap().sign_in, sign_in("mfa"));
    }

    #[test]
    fn the_memory_is_bounded_and_nobody_pushes_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = SignIns::open(folder.path().join("sign-ins.json")).unwrap();
        book.remember("other".into(), said(2, "mfa", 4_000), Timestamp(1_000));
        for n in 0..i64::try_from(MAX_KEPT_OF_ONE).unwrap() + 10 {
            book.remember(n.to_string(), said(1, "mfa", 5_000 + n), Timestamp(1_000));
        }
        assert_eq!(book.kept.len(), MAX_KEPT_OF_ONE + 1);
        assert_eq!((book.of("9"), book.of("10").is_some(), book.of("other").is_some()), (None, true, true));
        let who = |n: usize| format!("00000000-0000-4000-8000-{n:012x}").parse().unwrap();
        for n in 0..MAX_KEPT + 10 {
            let one = KeptSignIn { oid: who(1_000 + n), ..said(1, "mfa", 9_000) };
            book.remember(format!("p{n}"), one, Timestamp(1_000));
        }
        assert_eq!(book.kept.len(), MAX_KEPT);
    }
}
