//! The sign-in: a browser, a loopback port, and one question to the token endpoint.

use nightlatch_jwt::ClientHeader;
use nightlatch_model::{AuthContext, Secret, Timestamp};

use super::asked::Asked;
use super::at_entra;
use super::challenge::{both, satisfied};
use super::files::{Note, keep};
use super::held::Held;
use super::key::Key;
use crate::cli::sign_in::{listen, open_browser, wait_for_browser};
use crate::clock::Clock;
use crate::entra::sign_in::{
    Browser, Identified, NoCertificate, Outcome, RANDOM_BYTES, Redirect, SignIn, Wish, context_claims,
};

/// Signs the person in, and writes the files. The name that signed in.
pub(super) fn sign_in(
    asked: &Asked,
    login_hint: Option<String>,
    held: Option<&Held>,
    clock: &Clock,
) -> Result<String, String> {
    let key = Key::generate().ok_or_else(no_random)?;
    let header = ClientHeader::ed25519(key.public(), &random().ok_or_else(no_random)?);
    let entra = at_entra::application(asked)?;
    let attempt = async |wish: &Wish| {
        let bind = |browser: Browser| browser.with_nonce(header.commitment());
        let (browser, code) = in_browser(&entra, wish, bind).map_err(NoCertificate::Refused)?;
        // The page took its time.
        entra.redeem_id_token(&browser, &code, clock.now()).await.map_err(NoCertificate::from)
    };
    let signed: Identified = at_entra::run(satisfied(&wish(asked, login_hint)?, attempt))??;
    write(asked, &key, &header, &signed, held, clock.now())?;
    Ok(signed.person.username)
}

/// What the sign-in is to ask for.
pub(super) fn wish(asked: &Asked, login_hint: Option<String>) -> Result<Wish, String> {
    let of_context = asked.context.map(context_claims).transpose().map_err(|why| why.to_string())?;
    let claims = match (of_context, &asked.claims) {
        (Some(context), Some(challenge)) => Some(both(&context, challenge)?),
        (context, challenge) => context.or_else(|| challenge.clone()),
    };
    let (fresh, again, once) = (asked.fresh, asked.again, !asked.hold);
    Ok(Wish { claims, login_hint, fresh, again, once, scopes: Vec::new() })
}

/// Writes the files for whoever signed in; none when the sign-in lacks the context that was asked for.
pub(super) fn write(
    asked: &Asked,
    key: &Key,
    header: &ClientHeader,
    signed: &Identified,
    held: Option<&Held>,
    now: Timestamp,
) -> Result<(), String> {
    if let Some(context) = asked.context.filter(|context| !signed.contexts.contains(context)) {
        return Err(lacking(context));
    }
    let (name, id_token) = (&signed.person.username, signed.id_token.expose());
    let to_sign = header.to_sign(id_token).ok_or("Entra's answer cannot be read; sign in again")?;
    let proof = header.proof(id_token, &key.sign(to_sign.as_bytes())).unwrap_or_default();
    let certificate = certificate(key, &proof, name)?;
    let check = u32::from_be_bytes(random().ok_or_else(no_random)?);
    let private = key.private_file(check, name).ok_or("the key cannot be written down")?;
    let note = Note {
        signed_in: signed.issued.0,
        acrs: signed.contexts.iter().map(ToString::to_string).collect(),
        oid: Some(signed.person.object_id.to_string()),
        token_ends: Some(signed.ends.0),
        ..Note::new(asked, name, now)
    };
    let note = match held {
        Some(held) => held.hold_or_say(asked, note, signed.refresh_token.as_ref(), now),
        None => note,
    };
    keep(asked, Some(&private), &certificate, &note)
}

/// The line of a certificate with this proof.
pub(super) fn certificate(key: &Key, proof: &str, name: &str) -> Result<String, String> {
    let nonce = random().ok_or_else(no_random)?;
    Ok(format!("{}\n", key.certificate(proof, &nonce, name)))
}

fn lacking(context: AuthContext) -> String {
    format!(
        "the sign-in does not carry the authentication context `{context}`; the application needs the optional claim \
         `acrs` in its ID tokens, and a Conditional Access policy must be tied to the context"
    )
}

fn no_random() -> String {
    "there is no randomness on this machine".to_owned()
}

pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

/// Has the person sign in in a browser on this machine. The sign-in, and the code that it gave.
pub(super) fn in_browser(
    entra: &SignIn,
    wish: &Wish,
    prepare: impl FnOnce(Browser) -> Browser,
) -> Result<(Browser, Secret), String> {
    let (listener, port) = listen().map_err(|why| why.to_string())?;
    let secrets = random::<RANDOM_BYTES>().ok_or_else(no_random)?;
    let browser = prepare(entra.browser(wish, port, &secrets));
    open_browser(browser.url());
    let redirect = wait_for_browser(&listener).ok_or("the browser brought no answer; begin again")?;
    let code = code_in(&browser, &redirect)?;
    Ok((browser, code))
}

/// The code in what the browser brought.
pub(super) fn code_in(browser: &Browser, redirect: &str) -> Result<Secret, String> {
    let redirect = Redirect::read(redirect).map_err(|why| why.to_string())?;
    if !browser.is_answered_by(redirect.state.expose()) {
        return Err("the browser's answer belongs to another sign-in; begin again".into());
    }
    match redirect.outcome {
        Outcome::Code(code) => Ok(code),
        Outcome::Refused { error, description } => {
            Err(format!("Entra refused the sign-in: {description} ({error})"))
        }
    }
}
