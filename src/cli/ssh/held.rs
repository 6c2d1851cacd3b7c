//! What renews a certificate without a page: the refresh token of a sign-in, which the kernel holds and no file ever does.
//!
//! It is held for whoever wants new certificates only, for a week after the sign-in at most, and for one folder; it is never
//! printed and never handed to another program.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_jwt::MAX_REFRESHED_S;
use nightlatch_model::{Secret, Timestamp};

use super::asked::Asked;
use super::files::{Note, Way};
use super::sign_in::random;
use crate::cli::output::complain;
use crate::store::{Keyring, KeyringError};

/// How long after a sign-in its certificates are renewed without a page, in seconds: a week, as long as a node takes refreshed
/// sign-ins at most.
pub(super) const HELD_S: i64 = MAX_REFRESHED_S;

/// The kernel's keys, as far as a certificate needs them.
pub(super) struct Held {
    ring: Keyring,
}

impl Held {
    /// What is held for whoever runs this program.
    pub(super) fn by_the_kernel() -> Result<Self, KeyringError> {
        Keyring::of_user().map(|ring| Self { ring })
    }

    #[cfg(test)]
    pub(super) fn by_this_process() -> Self {
        Self { ring: Keyring::of_process().unwrap() }
    }

    /// Holds what came of the sign-in of this note for the next certificate; an earlier one is forgotten.
    pub(super) fn hold(
        &self,
        asked: &Asked,
        note: &Note,
        refresh_token: &Secret,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let lasts = note.signed_in.saturating_add(HELD_S).saturating_sub(now.0).clamp(0, HELD_S);
        let text = Secret::new(format!("{} {}", owner(note), refresh_token.expose()));
        let lasts = Duration::from_secs(u64::try_from(lasts).unwrap_or(0));
        self.ring.put(&name(&asked.folder, asked.way()), text.expose().as_bytes(), lasts)
    }

    /// The same for a certificate that may go without: the person is told what it means. The note says whether it is held.
    pub(super) fn hold_or_say(
        &self,
        asked: &Asked,
        note: Note,
        refresh_token: Option<&Secret>,
        now: Timestamp,
    ) -> Note {
        let Some(token) = refresh_token else { return note };
        let sign_in =
            note.held.clone().or_else(|| random().map(|bytes: [u8; 16]| URL_SAFE_NO_PAD.encode(bytes)));
        let note = Note { held: sign_in, ..note };
        match self.hold(asked, &note, token, now) {
            Ok(()) => note,
            Err(why) => {
                complain(&not_held(why));
                Note { held: None, ..note }
            }
        }
    }

    /// What is held for the sign-in of this note.
    pub(super) fn of(&self, folder: &Path, way: &Way, note: &Note) -> Option<Secret> {
        note.held.as_ref()?;
        let bytes = self.ring.get(&name(folder, way)).ok()??;
        let token = str::from_utf8(&bytes).ok()?.strip_prefix(&owner(note))?.strip_prefix(' ')?;
        Some(Secret::new(token.to_owned()))
    }

    /// Forgets what is held for certificates of this way in this folder, whoever signed in. Whether there was something.
    pub(super) fn forget(&self, folder: &Path, way: &Way) -> Result<bool, KeyringError> {
        self.ring.remove(&name(folder, way))
    }
}

/// Whether the sign-in of this note can still be renewed without a page, as far as the clock knows.
pub(super) fn may_be_renewed(note: &Note, now: Timestamp) -> bool {
    note.held.is_some() && (0..HELD_S).contains(&now.0.saturating_sub(note.signed_in))
}

/// What the person reads where the kernel holds nothing.
pub(super) fn not_held(why: KeyringError) -> String {
    format!(
        "the next certificate will need the sign-in page again (`--once` if that is as it should be): {why}"
    )
}

/// One name for a folder, however it is written; a folder that is gone has the one that it had.
fn name(folder: &Path, way: &Way) -> String {
    let beside = || Some(folder.parent()?.canonicalize().ok()?.join(folder.file_name()?));
    let folder = folder.canonicalize().ok().or_else(beside).unwrap_or_else(|| folder.to_owned());
    format!("nightlatch {} {}", way.note, folder.display())
}

/// Whose the token is: of this very sign-in, and nobody's to send elsewhere. Folders are shared by machines, and the kernel's
/// keys are not.
fn owner(note: &Note) -> String {
    let sign_in = note.held.as_deref().unwrap_or_default();
    format!("{} {} {} {sign_in}", note.cloud, note.tenant, note.client)
}

#[cfg(test)]
mod tests {
    use super::super::asked::How;
    use super::super::tests::{NOW, asking};
    use super::*;

    fn note(asked: &Asked) -> Note {
        Note { held: Some("id".into()), ..Note::new(asked, "a@b", NOW) }
    }

    #[test]
    fn a_token_is_held_for_its_own_sign_in_folder_and_kind() {
        let folder = tempfile::tempdir().unwrap();
        let (held, asked) = (Held::by_this_process(), asking(folder.path(), How::Browser));
        let ours = note(&asked);
        held.hold(&asked, &ours, &Secret::new("r3fresh".into()), NOW).unwrap();
        let token = |asked: &Asked, note: &Note| {
            held.of(&asked.folder, asked.way(), note).map(|token| token.expose().to_owned())
        };
        assert_eq!(token(&asked, &ours).as_deref(), Some("r3fresh"));
        for other in [asking(&folder.path().join("x"), How::Browser), asking(folder.path(), How::OpenPubkey)]
        {
            assert_eq!(token(&other, &ours), None, "{:?}", other.how);
        }
        for other in [
            Note { held: Some("i".into()), ..ours.clone() },
            Note { held: Some("id2".into()), ..ours.clone() },
            Note { held: None, ..ours.clone() },
            Note { cloud: "AzureChinaCloud".into(), ..ours.clone() },
            Note { tenant: "11111111-2222-3333-4444-555555555556".into(), ..ours.clone() },
            Note { client: "0a990000-0000-4000-8000-000000000002".into(), ..ours.clone() },
        ] {
            assert_eq!(token(&asked, &other), None, "{other:?}");
        }
        held.hold(&asked, &ours, &Secret::new("n3xt".into()), NOW).unwrap();
        assert_eq!(token(&asked, &ours).as_deref(), Some("n3xt"));
        assert_eq!(held.forget(folder.path(), asked.way()), Ok(true));
        assert_eq!((token(&asked, &ours), held.forget(folder.path(), asked.way())), (None, Ok(false)));
    }

    #[test]
    fn a_folder_has_one_name() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("nl");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, base.path().join("link")).unwrap();
        let way = asking(&folder, How::Browser).way();
        let plain = name(&folder, way);
        for other in ["nl/", "./nl", "nl/../nl", "link", "link/"] {
            assert_eq!(name(&base.path().join(other), way), plain, "{other}");
        }
        std::fs::remove_dir(&folder).unwrap();
        assert_eq!(name(&folder, way), plain, "also when it is gone");
    }

    #[test]
    fn a_week_after_the_sign_in_a_page_is_needed_however_often_it_was_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::Browser);
        let note = note(&asked);
        assert!(may_be_renewed(&note, NOW.plus(HELD_S - 1)));
        assert!(!may_be_renewed(&note, NOW.plus(HELD_S)));
        assert!(!may_be_renewed(&note, NOW.plus(-1)), "a clock that was set back");
        assert!(!may_be_renewed(&Note { held: None, ..note.clone() }, NOW));
        // The kernel keeps time as well.
        let held = Held::by_this_process();
        held.hold(&asked, &note, &Secret::new("r3fresh".into()), NOW.plus(HELD_S - 30)).unwrap();
        let keys = std::fs::read_to_string("/proc/keys").unwrap();
        let name = name(folder.path(), asked.way());
        let line = keys.lines().find(|line| line.contains(&name)).unwrap();
        let left = line.split_whitespace().nth(3).unwrap();
        let seconds: u32 = left.strip_suffix('s').and_then(|text| text.parse().ok()).unwrap_or(u32::MAX);
        assert!((1..=30).contains(&seconds), "{line}");
    }
}
