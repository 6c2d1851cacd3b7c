//! The keys of certificate authorities that this node believes, and what was taken back.
//!
//! Sources are merged, never replaced: a key that its source stops listing stays believed for a
//! bounded grace, because such lists flap. An empty or broken list changes nothing. Nothing here
//! fetches; the agent brings the lists.

use std::collections::{HashMap, HashSet};

use nightlatch_model::Timestamp;
use nightlatch_sshcert::{Certificate, PublicKey};
use serde::{Deserialize, Serialize};

/// The most CA keys that are kept.
pub const MAX_CA_KEYS: usize = 64;
/// The largest file of CA keys or revocations, in bytes.
pub const MAX_TRUST_FILE_BYTES: u64 = 256 * 1024;

/// Where a CA key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// The instance metadata service.
    Imds,
    /// The Arc agent.
    Himds,
    /// A file of the administrator: its keys belong to this tenant.
    File,
}

/// A key and when its source last listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Who listed it.
    pub source: KeySource,
    /// When it was last listed.
    pub seen: Timestamp,
}

/// A key as it is kept over a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptKey {
    /// `TYPE BASE64`.
    pub key: String,
    /// Who listed it.
    pub source: KeySource,
    /// When it was last listed.
    pub seen: Timestamp,
}

/// What this node says of the authority behind a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Believed.
    Trusted(TrustedKey),
    /// Taken back by the administrator.
    Revoked,
    /// Never listed, or not listed for longer than the grace.
    Unknown,
    /// No list was ever seen: nothing can be said.
    NoKeys,
}

/// All keys that are believed.
#[derive(Debug, Default)]
pub struct TrustStore {
    keys: HashMap<Vec<u8>, TrustedKey>,
    grace: i64,
}

impl TrustStore {
    /// An empty store whose keys outlive their listing by `grace` seconds.
    #[must_use]
    pub fn new(grace: i64) -> Self {
        Self { keys: HashMap::new(), grace }
    }

    /// Merges a fresh list. A file is the administrator's word: its keys go when they are gone
    /// from it. True when the set changed.
    pub fn merge(&mut self, source: KeySource, listed: Vec<PublicKey>, now: Timestamp) -> bool {
        let before: HashSet<Vec<u8>> = self.keys.keys().cloned().collect();
        if source == KeySource::File {
            self.keys.retain(|_, kept| kept.source != KeySource::File);
        }
        let grace = self.grace;
        self.keys.retain(|_, kept| kept.source == KeySource::File || now.since(kept.seen) <= grace);
        for key in listed {
            if self.keys.len() >= MAX_CA_KEYS {
                break;
            }
            let blob = key.blob().to_vec();
            // The administrator's word about a key is not weakened by another source.
            if self.keys.get(&blob).is_some_and(|kept| kept.source == KeySource::File) {
                continue;
            }
            self.keys.insert(blob, TrustedKey { key, source, seen: now });
        }
        before.len() != self.keys.len() || before.iter().any(|blob| !self.keys.contains_key(blob))
    }

    /// What is said of a CA key now.
    #[must_use]
    pub fn authority(&self, ca: &PublicKey, revoked: &Revocations, now: Timestamp) -> Authority {
        if revoked.keys.contains(&ca.fingerprint()) {
            return Authority::Revoked;
        }
        if self.keys.is_empty() {
            return Authority::NoKeys;
        }
        match self.keys.get(ca.blob()) {
            Some(kept) if kept.source == KeySource::File || now.since(kept.seen) <= self.grace => {
                Authority::Trusted(kept.clone())
            }
            _ => Authority::Unknown,
        }
    }

    /// Every key, for `status`, `explain` and the file that survives a restart.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptKey> {
        let mut kept: Vec<KeptKey> = self
            .keys
            .values()
            .map(|kept| KeptKey {
                key: format!("{} {}", kept.key.key_type().name(), kept.key.to_base64()),
                source: kept.source,
                seen: kept.seen,
            })
            .collect();
        kept.sort_by(|a, b| a.key.cmp(&b.key));
        kept
    }

    /// Takes back what [`TrustStore::kept`] gave, ages included; files are read anew instead.
    pub fn restore(&mut self, kept: Vec<KeptKey>, now: Timestamp) {
        for kept in kept.into_iter().filter(|kept| kept.source != KeySource::File).take(MAX_CA_KEYS) {
            if let Ok(key) = PublicKey::from_openssh_line(&kept.key) {
                // A time from the future is not younger than now.
                let seen = Timestamp(kept.seen.0.min(now.0));
                self.keys.insert(key.blob().to_vec(), TrustedKey { key, source: kept.source, seen });
            }
        }
    }
}

/// By what a certificate is known when it is taken back, at its next login and while its session lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handle {
    /// The serial number; none where its holder chose it.
    pub serial: Option<u64>,
    /// The fingerprint of its key; empty where it is not known.
    pub fingerprint: String,
    /// The issuer's id of it, printable ASCII; `openpubkey` and the ID token's `uti` where its holder signed it.
    pub key_id: String,
}

/// What the administrator took back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    keys: HashSet<String>,
    serials: HashSet<u64>,
    key_ids: HashSet<String>,
}

impl Revocations {
    /// Reads lines `ca SHA256:…`, `key SHA256:…`, `serial N`, `key-id TEXT`; `#` begins a comment line.
    /// After a fingerprint there may be more words, as `ssh-keygen -l` prints them.
    ///
    /// # Errors
    /// The number of the first line that is none of these.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut revoked = Self::default();
        for (at, line) in text.lines().enumerate() {
            revoked.take(line).ok_or(at + 1)?;
        }
        Ok(revoked)
    }

    /// What a file with bad lines says in its good ones. Revocations only take away: better the ones that
    /// can be read than none.
    #[must_use]
    pub fn readable(text: &str) -> Self {
        let mut revoked = Self::default();
        for line in text.lines() {
            let _ = revoked.take(line);
        }
        revoked
    }

    /// Adds those of `more`.
    pub fn also(&mut self, more: Self) {
        self.keys.extend(more.keys);
        self.serials.extend(more.serials);
        self.key_ids.extend(more.key_ids);
    }

    /// Adds one line; `None` when it is not understood.
    fn take(&mut self, line: &str) -> Option<()> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Some(());
        }
        let (word, value) = line.split_once(' ')?;
        let value = value.trim();
        match word {
            // Another text would be taken and match nothing: the key would stay believed.
            "ca" | "key" => self.keys.insert(fingerprint(value)?.to_owned()),
            "serial" => self.serials.insert(value.parse().ok()?),
            "key-id" if !value.is_empty() => self.key_ids.insert(value.to_owned()),
            _ => return None,
        };
        Some(())
    }

    /// True when what is known by this handle was taken back.
    #[must_use]
    pub fn names(&self, handle: &Handle) -> bool {
        handle.serial.is_some_and(|serial| self.serials.contains(&serial))
            || self.key_ids.contains(&handle.key_id)
            || self.keys.contains(&handle.fingerprint)
    }

    /// True when this certificate, or the key in it, was taken back.
    #[must_use]
    pub fn covers(&self, certificate: &Certificate) -> bool {
        self.serials.contains(&certificate.serial())
            || self.key_ids.contains(&certificate.key_id())
            || self.keys.contains(&certificate.subject_key().fingerprint())
    }
}

/// The fingerprint that a value begins with, if it has the form of one: 32 bytes in base64 without padding.
fn fingerprint(value: &str) -> Option<&str> {
    let mark = value.split_whitespace().next()?;
    let digest = mark.strip_prefix("SHA256:")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    (digest.len() == 43 && digest.bytes().all(plain)).then_some(mark)
}

/// Reads a file of CA keys: one OpenSSH public key a line, `#` comments.
///
/// # Errors
/// The number of the first line that is not a key of an accepted kind.
pub fn parse_ca_file(text: &str) -> Result<Vec<PublicKey>, usize> {
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        keys.push(PublicKey::from_openssh_line(line).map_err(|_| at + 1)?);
    }
    Ok(keys)
}
