//! What stands behind a question: the certificate of the last hook call, or an account that is open.

use std::sync::Arc;

use core::net::IpAddr;
use nightlatch_model::{LoginName, ObjectId, TenantId, Timestamp};
use nightlatch_policy::{Forwarding, SignIn, Step};

use crate::accounts::{Bound, KeptSignIn};
use crate::login::{Admitted, Handle, LastCall};

/// Longest note about a certificate that sessiond keeps, in bytes.
const MAX_NOTE: usize = 300;

/// The address that PAM tells; `None` where it is a name, or nothing. A zone of a link-local address is the node's own.
pub(super) fn address(rhost: &str) -> Option<IpAddr> {
    rhost.split('%').next()?.parse().ok()
}

/// What sessiond keeps of a certificate: enough to know it again when it is taken back.
pub(super) fn note_of(admitted: &Admitted) -> String {
    // A key id is printable ASCII by now.
    let mut note = note(&admitted.handle);
    note.truncate(MAX_NOTE);
    note
}

fn note(handle: &Handle) -> String {
    let serial = handle.serial.map(|serial| format!("serial {serial} ")).unwrap_or_default();
    format!("{serial}key {} key id {}", handle.fingerprint, handle.key_id)
}

/// What a note says; one of an earlier release has no fingerprint.
pub(super) fn read_note(note: &str) -> Option<Handle> {
    let (serial, rest) = match note.strip_prefix("serial ").and_then(|rest| rest.split_once(' ')) {
        Some((serial, rest)) => (Some(serial.parse().ok()?), rest),
        None => (None, note),
    };
    let (fingerprint, rest) = match rest.strip_prefix("key ").filter(|rest| rest.starts_with("SHA256:")) {
        Some(rest) => rest.split_once(' ')?,
        None => ("", rest),
    };
    let key_id = rest.strip_prefix("key id ")?;
    Some(Handle { serial, fingerprint: fingerprint.to_owned(), key_id: key_id.to_owned() })
}

/// What stands behind a question: proven at login, remembered for sudo.
#[derive(Default)]
pub(super) struct Credential {
    /// A certificate was admitted, or the account is open.
    pub(super) admitted: bool,
    /// The tenant that the certificate or the account states.
    pub(super) tenant: Option<TenantId>,
    /// Who holds it.
    pub(super) identity: Option<(TenantId, ObjectId)>,
    /// Its beginning, where it is known.
    pub(super) begins: Option<Timestamp>,
    /// Its end.
    pub(super) ends: Option<Timestamp>,
    /// Whether its holder is a guest of the tenant, where it says so.
    pub(super) guest: Option<bool>,
    /// The uid that sshd or the audit system holds.
    pub(super) held: Option<u32>,
    /// What it says of the sign-in behind it, where that is known.
    pub(super) sign_in: Option<SignIn>,
    /// Where the connection comes from.
    pub(super) from: Option<IpAddr>,
    /// What sshd was told that the session may forward.
    pub(super) told: Option<Forwarding>,
    /// When the session began that is judged again.
    pub(super) began: Option<Timestamp>,
    /// The rules that admitted it.
    pub(super) steps: Arc<[Step]>,
}

impl Credential {
    /// The certificate of the last hook call of this connection, for this very name.
    pub(super) fn of_login(row: Option<&LastCall>, name: &LoginName) -> Self {
        match row {
            Some(row) if row.user == name.as_str() => match &row.admitted {
                Some(admitted) => Self::of_admitted(admitted, row.held_uid, row.steps.clone()),
                None => Self { steps: row.steps.clone(), ..Self::default() },
            },
            _ => Self::default(),
        }
    }

    pub(super) fn of_admitted(admitted: &Admitted, held: u32, steps: Arc<[Step]>) -> Self {
        Self {
            admitted: true,
            tenant: Some(admitted.tid),
            identity: admitted.oid.map(|oid| (admitted.tid, oid)),
            begins: Some(admitted.begins),
            ends: Some(admitted.ends),
            guest: admitted.guest,
            held: Some(held),
            sign_in: Some(admitted.sign_in.clone()),
            from: None,
            told: Some(admitted.forwarding),
            began: None,
            steps,
        }
    }

    /// The credential with which a person was let in the last time.
    pub(super) fn of_account(person: &Bound, kept: Option<&KeptSignIn>) -> Self {
        Self {
            admitted: true,
            tenant: Some(person.tid),
            identity: Some((person.tid, person.oid)),
            begins: person.credential_begins,
            ends: person.unlocked_until,
            guest: kept.map_or(person.guest, |kept| kept.guest),
            held: Some(person.uid),
            sign_in: kept.map(|kept| kept.sign_in.clone()),
            from: None,
            told: None,
            began: None,
            steps: Arc::default(),
        }
    }
}
