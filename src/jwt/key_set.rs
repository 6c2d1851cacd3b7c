//! The issuer's keys: what its documents said, kept for a while after they stop saying it.
//!
//! Entra's front ends disagree: of 42 keys seen in 143 days, 34 vanished from the document and came back, after up to
//! 48 h (reference/04 §2.1). A set that is replaced refuses good tokens meanwhile; so documents are merged, and a
//! key is forgotten when no document has named it for [`KEY_GRACE_S`]. The age counts up to the newest document, not
//! up to now: a node that cannot fetch keeps the last that it knew, for [`MAX_STALE_S`].

use std::collections::BTreeMap;

use nightlatch_model::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::header::{Algorithm, is_kid};
use crate::json::{Json, Object, member, object};
use crate::key::Material;
use crate::limits::{KEY_GRACE_S, MAX_ISSUERS_OF_A_KEY, MAX_JWKS_BYTES, MAX_KEYS, MAX_STALE_S};

/// Where a key of Entra's stands for the tenant in its `issuer`.
const TEMPLATE: &str = "{tenantid}";

/// Why a document is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Too large.
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    /// Not a key set.
    #[error("the document is not a JSON Web Key Set")]
    Malformed,
    /// Nothing usable.
    #[error("the key set holds no key that could check a token")]
    Empty,
}

/// What a document changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Keys that were not known.
    pub added: usize,
    /// Keys that could not check a token and were left out.
    pub skipped: usize,
    /// Keys that were forgotten.
    pub dropped: usize,
}

/// One key and what the documents said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) material: Material,
    /// Whose tokens it may sign; any accepted issuer's where nothing is said.
    issuer: Option<String>,
    /// When a document named it last.
    seen: Timestamp,
}

impl Key {
    /// Whether it may sign for this issuer of this tenant.
    pub(crate) fn signs_for(&self, issuer: &str, tenant: &str) -> bool {
        self.issuer.as_deref().is_none_or(|own| own.replacen(TEMPLATE, tenant, 1) == issuer)
    }
}

/// The issuer's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    keys: BTreeMap<String, Vec<Key>>,
    newest: Option<Timestamp>,
}

impl KeySet {
    /// Takes a document in (RFC 7517 §5).
    ///
    /// # Errors
    /// [`KeySetError`]; the set is as it was.
    pub fn merge(&mut self, document: &[u8], now: Timestamp) -> Result<Merged, KeySetError> {
        if document.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document = object(document).map_err(|_| KeySetError::Malformed)?;
        let Some(Json::List(listed)) = member(&document, "keys") else { return Err(KeySetError::Malformed) };
        let read: Vec<(String, Key)> = listed.iter().filter_map(|jwk| read(jwk, now)).collect();
        if read.is_empty() {
            return Err(KeySetError::Empty);
        }
        // What was seen under a clock that was ahead was seen now: it must neither outlive nor forget the others.
        self.newest = self.newest.map(|newest| newest.min(now));
        self.keys.values_mut().flatten().for_each(|key| key.seen = key.seen.min(now));
        let skipped = listed.len() - read.len();
        let mut added = 0;
        for (kid, key) in read {
            let named = self.keys.entry(kid).or_default();
            // Of one issuer the newest document counts; more issuers than that share no key.
            if let Some(known) = named.iter_mut().find(|known| known.issuer == key.issuer) {
                *known = key;
            } else if named.len() < MAX_ISSUERS_OF_A_KEY {
                added += 1;
                named.push(key);
            }
        }
        self.newest = Some(self.newest.map_or(now, |newest| newest.max(now)));
        Ok(Merged { added, skipped, dropped: self.forget() })
    }

    /// Forgets what was not named for too long, and the oldest where there are too many.
    fn forget(&mut self) -> usize {
        let before = self.len();
        let newest = self.newest.unwrap_or(Timestamp(i64::MIN));
        self.keys.retain(|_, named| {
            named.retain(|key| newest.since(key.seen) <= KEY_GRACE_S);
            !named.is_empty()
        });
        let age = |named: &[Key]| named.iter().map(|key| key.seen).max();
        while self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, named)| age(named)).map(|(kid, _)| kid.clone());
            oldest.and_then(|kid| self.keys.remove(&kid));
        }
        before.saturating_sub(self.len())
    }

    /// The keys of this name, one for each issuer that names it; none where the newest document is too old to go by.
    pub(crate) fn named(&self, kid: &str, now: Timestamp) -> impl Iterator<Item = &Key> {
        let fresh = self.newest.is_some_and(|newest| now.since(newest) <= MAX_STALE_S);
        self.keys.get(kid).filter(|_| fresh).into_iter().flatten()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// When the newest document was taken in.
    #[must_use]
    pub const fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// The set as a text that [`KeySet::restore`] reads.
    ///
    /// # Errors
    /// Never for a set that was merged.
    pub fn save(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The set that was saved. Keys that could not have been merged are left out, and a time in the future counts as
    /// now: a clock that was set back must not keep a key for ever.
    ///
    /// # Errors
    /// [`KeySetError::TooLarge`] or [`KeySetError::Malformed`].
    pub fn restore(saved: &[u8], now: Timestamp) -> Result<Self, KeySetError> {
        if saved.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let mut set: Self = serde_json::from_slice(saved).map_err(|_| KeySetError::Malformed)?;
        set.keys.retain(|kid, named| {
            named.retain(|key| key.material.is_sound());
            named.truncate(MAX_ISSUERS_OF_A_KEY);
            is_kid(kid) && !named.is_empty()
        });
        set.keys.values_mut().flatten().for_each(|key| key.seen = key.seen.min(now));
        set.newest = set.newest.map(|newest| newest.min(now));
        set.forget();
        Ok(set)
    }
}

/// The key of a JWK that can check a token's signature; `None` for any other.
fn read(jwk: &Json, seen: Timestamp) -> Option<(String, Key)> {
    let Json::Object(jwk) = jwk else { return None };
    let kid = text(jwk, "kid").ok()??;
    let fits = |name: &str, wanted: &[&str]| {
        text(jwk, name).is_ok_and(|found| found.is_none_or(|found| wanted.contains(&found.as_str())))
    };
    let material = Material::of_jwk(jwk).filter(|_| fits("use", &["sig"]) && is_kid(&kid))?;
    // Entra names no algorithm; one that is named must be the key's.
    let named = text(jwk, "alg").ok()?;
    if named.is_some_and(|name| !Algorithm::of_name(&name).is_some_and(|algorithm| material.fits(algorithm)))
    {
        return None;
    }
    Some((kid, Key { material, issuer: text(jwk, "issuer").ok()?, seen }))
}

/// A member that is a text or is not there.
fn text(jwk: &Object, name: &str) -> Result<Option<String>, ()> {
    match member(jwk, name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text.clone())),
        Some(_) => Err(()),
    }
}
