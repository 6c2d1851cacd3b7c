//! What renews a certificate without a page: the refresh token of a sign-in, which the kernel holds and no file ever does.
//!
//! It is held for whoever wants new certificates only, for a week after the sign-in at most, and for one folder; it is never
//! printed and never handed to another program.

use std::path::Path;
use std::time::Duration;

use nightlatch_model::{Secret, Timestamp};

use super::asked::Asked;
use super::files::{Note, WAYS, Way};
use crate::cli::output::complain;
use crate::store::{Keyring, KeyringError};

/// How long after a sign-in its certificates are renewed without a page, in seconds: a week, as long as a node takes refreshed
/// sign-ins at most.
pub(super) const HELD_S: i64 = 7 * 86_400;

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

    /// Holds what came of a sign-in for the next certificate; an earlier one is forgotten.
    pub(super) fn hold(
        &self,
        asked: &Asked,
        refresh_token: &Secret,
        signed_in: i64,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let lasts = signed_in.saturating_add(HELD_S).saturating_sub(now.0).clamp(0, HELD_S);
        let text = Secret::new(format!("{} {}", owner(asked), refresh_token.expose()));
        let lasts = Duration::from_secs(u64::try_from(lasts).unwrap_or(0));
        self.ring.put(&name(&asked.folder, asked.way()), text.expose().as_bytes(), lasts)
    }

    /// The same for a sign-in that may go without: whoever signed in is told what it means. Whether it is held.
    pub(super) fn hold_or_say(
        &self,
        asked: &Asked,
        refresh_token: &Secret,
        signed_in: i64,
        now: Timestamp,
    ) -> bool {
        let end = self.hold(asked, refresh_token, signed_in, now);
        if let Err(why) = &end {
            complain(&not_held(*why));
        }
        end.is_ok()
    }

    /// What is held for this certificate.
    pub(super) fn of(&self, asked: &Asked) -> Option<Secret> {
        let bytes = self.ring.get(&name(&asked.folder, asked.way())).ok()??;
        let token = str::from_utf8(&bytes).ok()?.strip_prefix(&owner(asked))?.strip_prefix(' ')?;
        Some(Secret::new(token.to_owned()))
    }

    /// Forgets what was held for this certificate.
    pub(super) fn forget(&self, asked: &Asked) {
        // Nothing is left to be done about one that cannot be forgotten: it ends with its time.
        let _ = self.ring.remove(&name(&asked.folder, asked.way()));
    }

    /// Forgets what was held for all certificates of a folder.
    pub(super) fn forget_all(&self, folder: &Path) -> Result<(), KeyringError> {
        WAYS.iter().try_for_each(|way| self.ring.remove(&name(folder, way)).map(drop))
    }
}

/// Whether a sign-in by this note can still be renewed without a page, as far as the clock knows.
pub(super) fn may_be_renewed(note: &Note, now: Timestamp) -> bool {
    note.held && (0..HELD_S).contains(&now.0.saturating_sub(note.signed_in))
}

/// What the person reads where the kernel holds nothing.
pub(super) fn not_held(why: KeyringError) -> String {
    format!("the next certificate will need the sign-in page again: {why}")
}

fn name(folder: &Path, way: &Way) -> String {
    format!("nightlatch {} {}", way.note, folder.display())
}

/// To what the sign-in was; a token of another tenant or application is nobody's to send there.
fn owner(asked: &Asked) -> String {
    format!("{} {}", asked.tenant, asked.client)
}

#[cfg(test)]
mod tests {
    use super::super::asked::How;
    use super::super::tests::{NOW, asking};
    use super::*;

    #[test]
    fn a_token_is_held_for_its_own_folder_tenant_application_and_kind() {
        let folder = tempfile::tempdir().unwrap();
        let (held, asked) = (Held::by_this_process(), asking(folder.path(), How::Browser));
        held.hold(&asked, &Secret::new("r3fresh".into()), NOW.0, NOW).unwrap();
        let token = |asked: &Asked| held.of(asked).map(|token| token.expose().to_owned());
        assert_eq!(token(&asked).as_deref(), Some("r3fresh"));
        let other_client = "0a990000-0000-4000-8000-000000000002".parse().unwrap();
        let other_tenant = "11111111-2222-3333-4444-555555555556".parse().unwrap();
        for other in [
            asking(&folder.path().join("x"), How::Browser),
            asking(folder.path(), How::OpenPubkey),
            Asked { client: other_client, ..asking(folder.path(), How::Browser) },
            Asked { tenant: other_tenant, ..asking(folder.path(), How::Browser) },
        ] {
            assert_eq!(token(&other), None, "{:?}", other.how);
        }
        held.hold(&asked, &Secret::new("n3xt".into()), NOW.0, NOW).unwrap();
        assert_eq!(token(&asked).as_deref(), Some("n3xt"));
        held.forget_all(folder.path()).unwrap();
        assert_eq!(token(&asked), None);
    }

    #[test]
    fn a_week_after_the_sign_in_a_page_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::Browser);
        let note = |held| Note { held, ..Note::new(&asked, "a@b", NOW) };
        assert!(may_be_renewed(&note(true), NOW.plus(HELD_S - 1)));
        assert!(!may_be_renewed(&note(true), NOW.plus(HELD_S)));
        assert!(!may_be_renewed(&note(true), NOW.plus(-1)), "a clock that was set back");
        assert!(!may_be_renewed(&note(false), NOW));
    }
}
