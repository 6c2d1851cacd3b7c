//! The files of a certificate, and whether the last one is good for another while. Nobody else may read them, and no token
//! but the ID token of an OpenPubkey certificate stands in them.

use std::path::{Path, PathBuf};

use nightlatch_model::{Secret, Timestamp};
use nightlatch_sshcert::Certificate;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use crate::store::{read_capped, replace_file};

/// The files of one way to a certificate.
pub(super) struct Way {
    pub(super) key: &'static str,
    pub(super) certificate: &'static str,
    pub(super) note: &'static str,
    /// How long a certificate is used again without a new sign-in, in seconds; `None` where it says its own end.
    reuse_s: Option<i64>,
}

/// A sign-in in a browser, in a certificate without an end: what a node takes unless configured otherwise
/// (`openpubkey.expiration`), less some minutes.
pub(super) const BROWSER: Way = Way {
    key: "id_ed25519",
    certificate: "id_ed25519-cert.pub",
    note: "sign-in.json",
    reuse_s: Some(4 * 3_600 - 600),
};
/// A person's certificate of Entra's.
pub(super) const ENTRA: Way =
    Way { key: "id_rsa", certificate: "id_rsa-cert.pub", note: "entra.json", reuse_s: None };
/// A pipeline's. In one folder with a person's the last one counts.
pub(super) const PIPELINE: Way = Way { note: "pipeline.json", ..ENTRA };
/// All of them.
const WAYS: [&Way; 3] = [&BROWSER, &ENTRA, &PIPELINE];
/// How long before its own end a certificate is no longer used, in seconds.
pub(super) const SPARE_S: i64 = 600;
/// The largest note about a sign-in, in bytes.
const MAX_NOTE_BYTES: u64 = 4_096;
/// The largest certificate file, in bytes.
const MAX_CERTIFICATE_BYTES: u64 = 128 * 1024;

/// What ssh is given.
pub(super) struct Files {
    pub(super) key: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) name: String,
}

/// A sign-in whose certificate lies beside this note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    tenant: String,
    client: String,
    pub(super) name: String,
    signed_in: i64,
    /// The contexts that it satisfied.
    #[serde(default)]
    pub(super) acrs: Vec<String>,
}

/// The name that signed in to the same the last time, however long ago.
pub(super) fn last_name(asked: &Asked) -> Option<String> {
    let name = note(asked)?.name;
    name.contains('@').then_some(name)
}

/// The note about the last sign-in, if it was to the same.
fn note(asked: &Asked) -> Option<Note> {
    let bytes = read_capped(&asked.folder.join(asked.way().note), MAX_NOTE_BYTES).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok()?;
    let same = note.tenant == asked.tenant.to_string() && note.client == asked.client.to_string();
    same.then_some(note)
}

/// The last sign-in, if it was to the same, is not too long ago and shows what is asked for.
pub(super) fn kept(asked: &Asked, now: Timestamp) -> Option<Note> {
    if asked.fresh {
        return None;
    }
    let way = asked.way();
    let note = note(asked)?;
    let age = now.0.saturating_sub(note.signed_in);
    let whole = [way.key, way.certificate].iter().all(|name| asked.folder.join(name).is_file());
    let shows = asked.context.is_none_or(|context| note.acrs.contains(&context.to_string()));
    let lasts = match way.reuse_s {
        Some(seconds) => (0..seconds).contains(&age),
        None => age >= 0 && outlasts(&asked.folder.join(way.certificate), &note.name, now.plus(SPARE_S)),
    };
    (whole && shows && lasts).then_some(note)
}

/// Whether this is the certificate of `name`, and has not ended by then.
fn outlasts(file: &Path, name: &str, then: Timestamp) -> bool {
    let read = || {
        let text = String::from_utf8(read_capped(file, MAX_CERTIFICATE_BYTES).ok()??).ok()?;
        let mut words = text.split_whitespace();
        let certificate = Certificate::from_openssh(words.next()?, words.next()?).ok()?;
        Some(login_name(&certificate)? == name && !has_ended(&certificate, then))
    };
    read() == Some(true)
}

/// The name to log in with: a certificate's only principal, in lower case as names are on a node.
pub(super) fn login_name(certificate: &Certificate) -> Option<String> {
    match certificate.principals() {
        [name] => Some(name.to_lowercase()),
        _ => None,
    }
}

/// Whether a certificate has ended by `then`, as sshd counts it.
pub(super) fn has_ended(certificate: &Certificate, then: Timestamp) -> bool {
    i64::try_from(certificate.valid_before()).is_ok_and(|end| end <= then.0)
}

/// Writes the three files into a folder of the person's own: the note last, so that what it speaks of is there.
pub(super) fn keep(
    asked: &Asked,
    key: &Secret,
    certificate: &str,
    name: &str,
    acrs: Vec<String>,
    now: Timestamp,
) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let (folder, way) = (&asked.folder, asked.way());
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|why| format!("{}: {why}", folder.display()))?;
    for other in WAYS.into_iter().filter(|other| other.key == way.key) {
        let old = folder.join(other.note);
        if old.exists() {
            std::fs::remove_file(&old).map_err(|why| format!("{}: {why}", old.display()))?;
        }
    }
    let (tenant, client) = (asked.tenant.to_string(), asked.client.to_string());
    let note = Note { tenant, client, name: name.to_owned(), signed_in: now.0, acrs };
    let note = serde_json::to_vec(&note).map_err(|why| why.to_string())?;
    let files =
        [(way.key, key.expose().as_bytes()), (way.certificate, certificate.as_bytes()), (way.note, &*note)];
    for (file, bytes) in files {
        replace_file(&folder.join(file), bytes, 0o600, false).map_err(|why| why.to_string())?;
    }
    Ok(())
}
