//! The sign-in: a browser, a loopback port, and one question to the token endpoint.

use nightlatch_jwt::ClientHeader;
use nightlatch_model::{Secret, Timestamp};

use super::key::Key;
use super::{Asked, keep};
use crate::cli::sign_in::{listen, open_browser, wait_for_browser};
use crate::entra::clouds::Cloud;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::sign_in::{Browser, Outcome, RANDOM_BYTES, Redirect, SignIn, Wish};

/// The sign-in host of a cloud.
pub(super) fn host_of(cloud: &str) -> Result<String, String> {
    let known = match cloud {
        "AzureCloud" => Cloud::Public,
        "AzureUSGovernment" => Cloud::UsGovernment,
        "AzureChinaCloud" => Cloud::China,
        other => {
            return Err(format!("`{other}` is no cloud: AzureCloud, AzureUSGovernment or AzureChinaCloud"));
        }
    };
    Ok(known.endpoints().login)
}

/// Signs the person in, and writes the files. The name that signed in.
pub(super) fn sign_in(asked: &Asked, login_hint: Option<String>, now: Timestamp) -> Result<String, String> {
    let no_random = || "there is no randomness on this machine".to_owned();
    let key = Key::generate().ok_or_else(no_random)?;
    let header = ClientHeader::ed25519(key.public(), &random().ok_or_else(no_random)?);
    let http = Http::internet(ProxyRule::Environment).map_err(|why| why.to_string())?;
    let entra = SignIn::new(http, &asked.login, asked.tenant, asked.client);
    let (listener, port) = listen().map_err(|why| why.to_string())?;
    let wish = Wish { login_hint, ..Wish::default() };
    let secrets = random::<RANDOM_BYTES>().ok_or_else(no_random)?;
    let browser = entra.browser(&wish, port, &secrets).with_nonce(header.commitment());
    open_browser(browser.url());
    let redirect = wait_for_browser(&listener).ok_or("the browser brought no answer; begin again")?;
    let (person, id_token) = redeem(&entra, &browser, &redirect, now)?;
    let to_sign = header.to_sign(id_token.expose()).ok_or("Entra's answer cannot be read; sign in again")?;
    let proof = header.proof(id_token.expose(), &key.sign(to_sign.as_bytes())).unwrap_or_default();
    let certificate = key.certificate(&proof, &random().ok_or_else(no_random)?, &person);
    let check = u32::from_be_bytes(random().ok_or_else(no_random)?);
    let private = key.private_file(check, &person).ok_or("the key cannot be written down")?;
    keep(asked, &private, &format!("{certificate}\n"), &person, now)?;
    Ok(person)
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

/// The name and the ID token of whoever signed in.
fn redeem(
    entra: &SignIn,
    browser: &Browser,
    redirect: &str,
    now: Timestamp,
) -> Result<(String, Secret), String> {
    let redirect = Redirect::read(redirect).map_err(|why| why.to_string())?;
    if !browser.is_answered_by(redirect.state.expose()) {
        return Err("the browser's answer belongs to another sign-in; begin again".into());
    }
    let code = match redirect.outcome {
        Outcome::Code(code) => code,
        Outcome::Refused { error, description } => {
            return Err(format!("Entra refused the sign-in: {description} ({error})"));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    let (person, token) =
        runtime.block_on(entra.redeem_id_token(browser, &code, now)).map_err(|why| why.sentence)?;
    Ok((person.username, token))
}
