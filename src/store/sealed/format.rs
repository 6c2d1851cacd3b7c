//! The bytes of a sealed file: header, ciphertext, and what stands in the plaintext.
//!
//! Header: 8 bytes of magic (with kind and version), key id 16, epoch 16, generation 8 (big endian), nonce
//! 12. All of it but the nonce is authenticated, together with the machine id. The nonce is random for
//! each write (NIST SP 800-38D allows 2^32 of them for one key; one a second is 136 years).

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use super::{MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_NAME_BYTES, MAX_STORE_BYTES};

/// What the data key is derived for; another version derives another key.
const SALT: &[u8] = b"nightlatch sealed store 1";
const ID_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const HEADER_BYTES: usize = 8 + ID_BYTES + ID_BYTES + 8 + NONCE_LEN;

/// Secret things by name.
pub(super) type Entries = BTreeMap<String, Zeroizing<Vec<u8>>>;
/// Tells one beginning of a store from the next, so that a file of an earlier one never fits.
pub(super) type Epoch = [u8; ID_BYTES];

/// Which of the two files; one can never be taken for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Store,
    HighWater,
}

impl Kind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Store => b"NLsealS\x01",
            Self::HighWater => b"NLsealG\x01",
        }
    }
}

/// Why a file cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unreadable {
    /// Not one of ours, cut, or of another version.
    Form,
    /// Sealed with another key.
    OtherKey,
    /// Changed, or of another machine.
    Changed,
}

/// The key, ready for use, bound to one machine.
pub(super) struct Key {
    aead: RandomizedNonceKey,
    id: [u8; ID_BYTES],
    machine: Vec<u8>,
}

/// An opened file.
pub(super) struct Opened {
    pub(super) epoch: Epoch,
    pub(super) generation: u64,
    pub(super) plain: Zeroizing<Vec<u8>>,
}

impl Key {
    /// Derives the key; `None` when the crypto library refuses, which it has no reason to.
    pub(super) fn derive(secret: &[u8], machine: &str) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, SALT).extract(secret);
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        root.expand(&[b"data key"], HKDF_SHA256).ok()?.fill(key.as_mut_slice()).ok()?;
        let mut name = [0_u8; KEY_BYTES];
        root.expand(&[b"key id"], HKDF_SHA256).ok()?.fill(&mut name).ok()?;
        let id = *name.first_chunk()?;
        let aead = RandomizedNonceKey::new(&AES_256_GCM, key.as_slice()).ok()?;
        Some(Self { aead, id, machine: machine.as_bytes().to_vec() })
    }

    fn bound(&self, kind: Kind, epoch: &Epoch, generation: u64) -> Vec<u8> {
        let parts: [&[u8]; 4] = [kind.magic(), &self.id, epoch, &generation.to_be_bytes()];
        parts.concat()
    }

    /// Seals `plain`; `None` when the crypto library has no randomness.
    pub(super) fn seal(
        &self,
        kind: Kind,
        epoch: &Epoch,
        generation: u64,
        mut plain: Zeroizing<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let head = self.bound(kind, epoch, generation);
        let aad = [head.as_slice(), &self.machine].concat();
        let nonce = self.aead.seal_in_place_append_tag(Aad::from(aad), &mut *plain).ok()?;
        let parts: [&[u8]; 3] = [&head, nonce.as_ref(), &plain];
        Some(parts.concat())
    }

    /// Opens a file of this kind.
    pub(super) fn open(&self, kind: Kind, mut bytes: Vec<u8>) -> Result<Opened, Unreadable> {
        let (head, sealed) = bytes.split_at_mut_checked(HEADER_BYTES).ok_or(Unreadable::Form)?;
        let mut rest: &[u8] = head;
        let magic: [u8; 8] = take(&mut rest).ok_or(Unreadable::Form)?;
        let id: [u8; ID_BYTES] = take(&mut rest).ok_or(Unreadable::Form)?;
        let epoch: Epoch = take(&mut rest).ok_or(Unreadable::Form)?;
        let generation = u64::from_be_bytes(take(&mut rest).ok_or(Unreadable::Form)?);
        let nonce: [u8; NONCE_LEN] = take(&mut rest).ok_or(Unreadable::Form)?;
        if magic != *kind.magic() {
            return Err(Unreadable::Form);
        }
        if id != self.id {
            return Err(Unreadable::OtherKey);
        }
        let aad = [self.bound(kind, &epoch, generation).as_slice(), &self.machine].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain =
            self.aead.open_in_place(nonce, Aad::from(aad), sealed).map_err(|_| Unreadable::Changed)?;
        let plain = Zeroizing::new(plain.to_vec());
        zeroize::Zeroize::zeroize(&mut bytes);
        Ok(Opened { epoch, generation, plain })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*chunk)
}

/// How many bytes the entries take in the plaintext.
pub(super) fn size_of(entries: &Entries) -> usize {
    entries.iter().map(|(name, value)| 2 + name.len() + 4 + value.len()).sum::<usize>() + 4
}

/// Writes the entries; `None` when they are over a limit.
pub(super) fn encode(entries: &Entries) -> Option<Zeroizing<Vec<u8>>> {
    let size = size_of(entries);
    if entries.len() > MAX_ENTRIES || u64::try_from(size + HEADER_BYTES + 16).ok()? > MAX_STORE_BYTES {
        return None;
    }
    // Room for the tag as well: a buffer that grows leaves a copy of its secrets behind.
    let mut out = Zeroizing::new(Vec::with_capacity(size + AES_256_GCM.tag_len()));
    out.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_be_bytes());
    for (name, value) in entries {
        out.extend_from_slice(&u16::try_from(name.len()).ok()?.to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_be_bytes());
        out.extend_from_slice(value);
    }
    Some(out)
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub(super) fn decode(plain: &[u8]) -> Option<Entries> {
    let mut rest = plain;
    let count = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
    if count > MAX_ENTRIES {
        return None;
    }
    let mut entries = Entries::new();
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let (name, left) = rest.split_at_checked(length)?;
        rest = left;
        let length = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
        let (value, left) = rest.split_at_checked(length)?;
        rest = left;
        if name.len() > MAX_NAME_BYTES || value.len() > MAX_ENTRY_BYTES {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?.to_owned();
        entries.insert(name, Zeroizing::new(value.to_vec()));
    }
    (rest.is_empty() && entries.len() == count).then_some(entries)
}
