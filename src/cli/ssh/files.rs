//! The files of a certificate, and whether the last one is good for another while. Nobody else may read them, and no token
//! but the ID token of an OpenPubkey certificate stands in them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nightlatch_jwt::Expiration;
use nightlatch_model::{AuthContext, Secret, Timestamp};
use nightlatch_sshcert::Certificate;
use serde::{Deserialize, Serialize};

use super::asked::{Asked, How};
use super::held::HELD_S;
use super::private_file;
use crate::entra::clouds::Cloud;
use crate::store::{read_capped, replace_file};

/// The files of one way to a certificate.
pub(super) struct Way {
    pub(super) key: &'static str,
    pub(super) certificate: &'static str,
    pub(super) note: &'static str,
}

/// A person's OpenPubkey certificate, which has no end of its own.
pub(super) const BROWSER: Way =
    Way { key: "id_ed25519", certificate: "id_ed25519-cert.pub", note: "sign-in.json" };
/// A person's certificate of Entra's.
pub(super) const ENTRA: Way = Way { key: "id_rsa", certificate: "id_rsa-cert.pub", note: "entra.json" };
/// A pipeline's. In one folder with a person's the last one counts.
pub(super) const PIPELINE: Way = Way { note: "pipeline.json", ..ENTRA };
/// All of them.
pub(super) const WAYS: [&Way; 3] = [&BROWSER, &ENTRA, &PIPELINE];
/// How long before its end a certificate is made anew, in seconds; of a life that nodes count from the sign-in a quarter at
/// most.
const SPARE_S: i64 = 600;
/// How long a certificate must still be good for where none can be had, in seconds: a login takes its time.
const LAST_S: i64 = 60;
/// The largest note about a sign-in, in bytes.
const MAX_NOTE_BYTES: u64 = 4_096;
/// The largest private key file, in bytes.
const MAX_KEY_BYTES: u64 = 16 * 1024;
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
pub(super) struct Note {
    pub(super) tenant: String,
    pub(super) client: String,
    #[serde(default = "public_cloud")]
    pub(super) cloud: String,
    pub(super) name: String,
    /// By which name it was asked for, where that was given: a page may know a person by another one.
    #[serde(default)]
    pub(super) hint: Option<String>,
    /// When: of an OpenPubkey certificate what its first ID token says, from which nodes count.
    pub(super) signed_in: i64,
    /// The contexts that it satisfied.
    #[serde(default)]
    pub(super) acrs: Vec<String>,
    /// Who signed in, where that was read.
    #[serde(default)]
    pub(super) oid: Option<String>,
    /// When the newest ID token in the certificate ends, where there is one.
    #[serde(default)]
    pub(super) token_ends: Option<i64>,
    /// The kernel was given what renews it, under this word.
    #[serde(default)]
    pub(super) held: Option<String>,
}

fn public_cloud() -> String {
    Cloud::Public.to_string()
}

impl Note {
    /// About somebody who signs in now.
    pub(super) fn new(asked: &Asked, name: &str, now: Timestamp) -> Self {
        Self {
            tenant: asked.tenant.to_string(),
            client: asked.client.to_string(),
            cloud: asked.cloud.to_string(),
            name: name.to_owned(),
            hint: asked.hint.clone(),
            signed_in: now.0,
            acrs: Vec::new(),
            oid: None,
            token_ends: None,
            held: None,
        }
    }

    /// About a renewal of this sign-in, which gave a certificate for `name`.
    pub(super) fn renewed(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// Whether the sign-in satisfied this context, where one is asked for.
    pub(super) fn shows(&self, context: Option<AuthContext>) -> bool {
        context.is_none_or(|context| self.acrs.contains(&context.to_string()))
    }

    /// The name to propose on the next page.
    pub(super) fn proposed(&self) -> Option<String> {
        self.name.contains('@').then(|| self.name.clone())
    }
}

/// The note about the last sign-in, if it was to the same, and by whom it is to be.
pub(super) fn last(asked: &Asked) -> Option<Note> {
    let note = note_in(&asked.folder, asked.way()).ok()??;
    let same = note.tenant == asked.tenant.to_string()
        && note.client == asked.client.to_string()
        && note.cloud == asked.cloud.to_string();
    let names = [Some(&note.name), note.hint.as_ref()];
    let by = asked
        .hint
        .as_ref()
        .is_none_or(|hint| names.into_iter().flatten().any(|name| name.eq_ignore_ascii_case(hint)));
    (same && by).then_some(note)
}

/// The note about the last sign-in of this way, if there is one.
pub(super) fn note_in(folder: &Path, way: &Way) -> Result<Option<Note>, String> {
    let path = folder.join(way.note);
    let Some(bytes) = read_capped(&path, MAX_NOTE_BYTES).map_err(|why| with_cause(&why))? else {
        return Ok(None);
    };
    let unreadable = |why| format!("{}: no note about a sign-in ({why}); remove it", path.display());
    serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
}

/// The last sign-in, if it was to the same, its certificate is good for a while and shows what is asked for.
pub(super) fn kept(asked: &Asked, now: Timestamp) -> Option<Note> {
    if asked.fresh { None } else { good(asked, now, SPARE_S) }
}

/// The same where no other certificate can be had: if it is good for just one login.
pub(super) fn still_good(asked: &Asked, now: Timestamp) -> Option<Note> {
    good(asked, now, LAST_S)
}

fn good(asked: &Asked, now: Timestamp, spare: i64) -> Option<Note> {
    let note = last(asked)?;
    let certificate = certificate(asked).filter(|certificate| is_of_key(asked, certificate))?;
    let age = now.0.saturating_sub(note.signed_in);
    let lasts = match (&asked.how, asked.expiration) {
        (How::OpenPubkey, Expiration::AfterIssue(seconds)) => {
            let seconds = i64::from(seconds);
            (0..seconds - spare.min(seconds / 4)).contains(&age)
        }
        (How::OpenPubkey, Expiration::IdToken | Expiration::Refreshed) => {
            // However new the token, a week after the first no node takes the sign-in.
            let end = |end: i64| end.min(note.signed_in.saturating_add(HELD_S));
            age >= 0 && note.token_ends.is_some_and(|ends| now.plus(spare).0 < end(ends))
        }
        _ => {
            let is_theirs = login_name(&certificate).as_ref() == Some(&note.name);
            age >= 0 && is_theirs && !has_ended(&certificate, now.plus(spare))
        }
    };
    (lasts && note.shows(asked.context)).then_some(note)
}

/// Whether the key that lies there is the certificate's: two machines with one home may have written them.
fn is_of_key(asked: &Asked, certificate: &Certificate) -> bool {
    let own = private_key(asked).and_then(|file| private_file::public(&file));
    own.as_deref() == Some(certificate.subject_key().blob())
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

/// The certificate that lies there.
pub(super) fn certificate(asked: &Asked) -> Option<Certificate> {
    let file = asked.folder.join(asked.way().certificate);
    let text = String::from_utf8(read_capped(&file, MAX_CERTIFICATE_BYTES).ok()??).ok()?;
    let mut words = text.split_whitespace();
    Certificate::from_openssh(words.next()?, words.next()?).ok()
}

/// The private key that lies there, as text.
pub(super) fn private_key(asked: &Asked) -> Option<Secret> {
    let bytes = read_capped(&asked.folder.join(asked.way().key), MAX_KEY_BYTES).ok()??;
    String::from_utf8(bytes).ok().map(Secret::new)
}

/// An error with what is below it.
fn with_cause(why: &dyn std::error::Error) -> String {
    why.source().map_or_else(|| why.to_string(), |cause| format!("{why}: {cause}"))
}

/// Makes the folder, where there is none, for nobody but its owner.
pub(super) fn make(folder: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|why| format!("{}: {why}; name another with --folder", folder.display()))
}

/// Writes the files into a folder of the person's own; without a `key` the one that is there stays. The note comes last, so
/// that what it speaks of is there.
pub(super) fn keep(
    asked: &Asked,
    key: Option<&Secret>,
    certificate: &str,
    note: &Note,
) -> Result<(), String> {
    let (folder, way) = (&asked.folder, asked.way());
    make(folder)?;
    // With another key the certificate of before is of no use to anybody.
    for other in WAYS.into_iter().filter(|other| key.is_some() && other.key == way.key) {
        let old = folder.join(other.note);
        if old.exists() {
            std::fs::remove_file(&old).map_err(|why| format!("{}: {why}", old.display()))?;
        }
    }
    let note = serde_json::to_vec(note).map_err(|why| why.to_string())?;
    let key = key.map(|key| (way.key, key.expose().as_bytes()));
    let files = [(way.certificate, certificate.as_bytes()), (way.note, &*note)];
    for (file, bytes) in key.into_iter().chain(files) {
        replace_file(&folder.join(file), bytes, 0o600, false).map_err(|why| with_cause(&why))?;
    }
    Ok(())
}
