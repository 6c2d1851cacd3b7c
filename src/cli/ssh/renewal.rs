//! The next certificate without a page, from what the kernel holds of the last sign-in.
//!
//! Entra says each time whether the sign-in still counts: a person who is gone, a password that changed or a policy that wants
//! more ends it, and then the page is opened. Nothing is held that was refused.

use nightlatch_jwt::{PROOF_EXTENSION, with_refreshed};
use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::Claims;

use super::asked::{Asked, How};
use super::files::{Note, certificate, keep, private_key};
use super::held::Held;
use super::key::Key;
use super::rsa::RsaKey;
use super::sign_in;
use crate::clock::Clock;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::sign_in::{NoCertificate, SignIn};

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
    let http = Http::internet(ProxyRule::Environment).map_err(|why| why.to_string())?;
    let entra = SignIn::new(http, &asked.cloud.endpoints().login, asked.tenant, asked.client);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    let end = runtime.block_on(renewed(&entra, asked, note, held, clock.now()));
    // A look-up of a name that is under way is not waited for.
    runtime.shutdown_background();
    end
}

/// The same at this application of Entra's.
pub(super) async fn renewed(
    entra: &SignIn,
    asked: &Asked,
    note: &Note,
    held: &Held,
    now: Timestamp,
) -> Result<Renewed, String> {
    let shows = asked.context.is_none_or(|context| note.acrs.contains(&context.to_string()));
    let Some(token) = held.of(asked).filter(|_| shows) else { return Ok(Renewed::Page(None)) };
    let end = match asked.how {
        How::OpenPubkey => openpubkey(entra, asked, note, held, &token, now).await,
        _ => entras(entra, asked, note, held, &token, now).await,
    };
    match end {
        Ok(done) => done.map(Renewed::Done),
        Err(NoCertificate::Transient(why)) => Ok(Renewed::Away(why)),
        Err(NoCertificate::More(claims, _)) => Ok(Renewed::Page(Some(claims))),
        Err(NoCertificate::Policy(_) | NoCertificate::Refused(_)) => {
            held.forget(asked);
            Ok(Renewed::Page(None))
        }
    }
}

/// A certificate of Entra's, for the same key.
async fn entras(
    entra: &SignIn,
    asked: &Asked,
    note: &Note,
    held: &Held,
    token: &Secret,
    now: Timestamp,
) -> Result<Result<String, String>, NoCertificate> {
    let key = RsaKey::of_last(asked).map_or_else(|| RsaKey::generate(asked.cloud.ssh_scope()), Ok);
    let key = match key {
        Ok(key) => key,
        Err(why) => return Ok(Err(why)),
    };
    let given = entra.renew_certificate(token, key.ask(), now).await?;
    Ok(key.keep(asked, &given, Some(held), Some(note), now))
}

/// The same OpenPubkey proof, with a newer ID token beside the first.
async fn openpubkey(
    entra: &SignIn,
    asked: &Asked,
    note: &Note,
    held: &Held,
    token: &Secret,
    now: Timestamp,
) -> Result<Result<String, String>, NoCertificate> {
    let unfit = |why: &str| NoCertificate::Refused(why.to_owned());
    let before = certificate(asked).ok_or_else(|| unfit("there is no certificate to renew"))?;
    let key = private_key(asked).and_then(|file| Key::read(&file));
    let key = key.ok_or_else(|| unfit("the key cannot be read"))?;
    let proof = before.extension_text(PROOF_EXTENSION).ok().flatten();
    let proof = proof.ok_or_else(|| unfit("the certificate holds no sign-in"))?;
    let signed = entra.renew_id_token(token, now).await?;
    let is_same = note.oid.as_deref() == Some(&*signed.person.object_id.to_string());
    let proof = with_refreshed(proof, signed.id_token.expose()).filter(|_| is_same);
    let proof = proof.ok_or_else(|| unfit("it is about another sign-in"))?;
    let is_held = match &signed.refresh_token {
        Some(next) => held.hold_or_say(asked, next, note.signed_in, now),
        None => true,
    };
    let line = sign_in::certificate(&key, &proof, &note.name);
    let note = Note { token_ends: Some(signed.ends.0), held: is_held, ..note.clone() };
    Ok(line.and_then(|line| keep(asked, None, &line, &note)).map(|()| note.name))
}
