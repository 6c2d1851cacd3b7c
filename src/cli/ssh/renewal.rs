//! The next certificate without a page, from what the kernel holds of the last sign-in.
//!
//! Entra says each time whether the sign-in still counts: a person who is gone, a password that changed or a policy that wants
//! more ends it, and then the page is opened. Nothing is held that was refused.

use nightlatch_jwt::{PROOF_EXTENSION, with_refreshed};
use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::{Claims, Failure, FailureClass};

use super::asked::{Asked, How};
use super::at_entra;
use super::files::{Note, certificate, keep, private_key};
use super::held::Held;
use super::key::Key;
use super::rsa::RsaKey;
use super::sign_in;
use crate::clock::Clock;
use crate::entra::sign_in::{SignIn, challenge};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    /// The files are new; the name to log in with.
    Done(String),
    /// A page has to be opened, and satisfy these claims.
    Page(Option<Claims>),
    /// Entra cannot be asked now, in words.
    Away(String),
}

/// Renews the certificate of this note, if the kernel holds what it takes.
///
/// # Errors
/// The files cannot be written, or Entra's answer is none.
pub(super) fn renew(asked: &Asked, note: &Note, held: &Held, clock: &Clock) -> Result<Renewed, String> {
    let entra = at_entra::application(asked)?;
    at_entra::run(renewed(&entra, asked, note, held, clock.now()))?
}

/// The same at this application of Entra's.
pub(super) async fn renewed(
    entra: &SignIn,
    asked: &Asked,
    note: &Note,
    held: &Held,
    now: Timestamp,
) -> Result<Renewed, String> {
    let token = held.of(&asked.folder, asked.way(), note).filter(|_| note.shows(asked.context));
    let Some(token) = token else { return Ok(Renewed::Page(None)) };
    let renewal = Renewal { entra, asked, note, held, token: &token, now };
    let end = match asked.how {
        How::OpenPubkey => renewal.openpubkey().await,
        _ => renewal.entras().await,
    };
    let failure = match end {
        Ok(name) => return Ok(Renewed::Done(name)),
        Err(Not::Written(why)) => return Err(why),
        Err(Not::Renewable) => {
            let _ = held.forget(&asked.folder, asked.way());
            return Ok(Renewed::Page(None));
        }
        Err(Not::Given(failure)) => failure,
    };
    if failure.class == FailureClass::Transient {
        return Ok(Renewed::Away(failure.sentence));
    }
    let claims = challenge(&failure);
    // What Entra itself says no to is worth nothing any more. Of anything else, such as a wrong clock, that is not known.
    if claims.is_none() && failure.error.is_some() {
        let _ = held.forget(&asked.folder, asked.way());
    }
    Ok(Renewed::Page(claims))
}

/// Why there is no other certificate.
enum Not {
    /// Entra, or the way to it.
    Given(Failure),
    /// What is held, or what lies there, is of no use.
    Renewable,
    /// It cannot be written down.
    Written(String),
}

impl From<Failure> for Not {
    fn from(failure: Failure) -> Self {
        Self::Given(failure)
    }
}

/// What another certificate is made from.
struct Renewal<'a> {
    entra: &'a SignIn,
    asked: &'a Asked,
    note: &'a Note,
    held: &'a Held,
    token: &'a Secret,
    now: Timestamp,
}

impl Renewal<'_> {
    /// A certificate of Entra's, for the same key.
    async fn entras(&self) -> Result<String, Not> {
        let key = match RsaKey::of_last(self.asked) {
            Some(key) => key,
            None => RsaKey::generate(self.asked.cloud.ssh_scope()).map_err(Not::Written)?,
        };
        let given = self.entra.renew_certificate(self.token, key.ask(), self.now).await?;
        key.keep(self.asked, &given, Some(self.held), Some(self.note), self.now).map_err(Not::Written)
    }

    /// The same OpenPubkey proof, with a newer ID token beside the first.
    async fn openpubkey(&self) -> Result<String, Not> {
        let before = certificate(self.asked).ok_or(Not::Renewable)?;
        let key = private_key(self.asked).and_then(|file| Key::read(&file)).ok_or(Not::Renewable)?;
        if before.subject_key().blob() != key.ssh_public() {
            return Err(Not::Renewable);
        }
        let proof = before.extension_text(PROOF_EXTENSION).ok().flatten().ok_or(Not::Renewable)?;
        let signed = self.entra.renew_id_token(self.token, self.now).await?;
        let is_same = self.note.oid.as_deref() == Some(&*signed.person.object_id.to_string());
        let proof = with_refreshed(proof, signed.id_token.expose()).filter(|_| is_same);
        let proof = proof.ok_or(Not::Renewable)?;
        let line = sign_in::certificate(&key, &proof, &self.note.name).map_err(Not::Written)?;
        let note = Note { token_ends: Some(signed.ends.0), ..self.note.clone() };
        let note = self.held.hold_or_say(self.asked, note, signed.refresh_token.as_ref(), self.now);
        keep(self.asked, None, &line, &note).map_err(Not::Written)?;
        Ok(note.name)
    }
}
