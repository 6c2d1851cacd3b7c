//! A token answer, read strictly: what cannot be an access token of the asked kind is refused here.
//!
//! The texts of tokens are never part of an error.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::{Token, TokenType};
use serde::{Deserialize, Deserializer, de};

/// The longest life that an answer is believed for, in seconds: tokens with continuous access evaluation
/// live up to 28 hours.
const MAX_LIFE: i64 = 28 * 3600;
/// The largest token that is taken, in bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// The largest `client_info`, in bytes.
const MAX_CLIENT_INFO_BYTES: usize = 4 * 1024;

/// What the token endpoint gave.
pub struct Answer {
    /// The access token.
    pub access_token: Secret,
    /// How it is presented.
    pub kind: TokenType,
    /// When it ends.
    pub expires: Timestamp,
    /// When Entra advises to ask for the next one, from now.
    pub refresh_in: Option<Duration>,
    /// The next refresh token; the one that was sent must not be kept beside it.
    pub refresh_token: Option<Secret>,
    /// Who signed in, as a JWT for this client. Not an access token.
    pub id_token: Option<Secret>,
    /// `uid` and `utid` of the person, base64url JSON, where `client_info=1` was sent.
    pub client_info: Option<String>,
    /// Whether the refresh token is one of Microsoft's family of clients.
    pub family: bool,
    /// The scopes that were granted, where the answer names them.
    pub scope: Option<String>,
}

impl Answer {
    /// The access token as the broker keeps it; the rest is dropped and wiped.
    #[must_use]
    pub fn into_token(self) -> Token {
        let bearer = Token::bearer(self.access_token, self.expires, self.refresh_in);
        Token { kind: self.kind, ..bearer }
    }
}

/// What was asked, as far as an answer must fit to it.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) kind: TokenType,
    pub(super) client_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    expires_in: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    refresh_in: Option<i64>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    id_token: Option<Secret>,
    client_info: Option<String>,
    // A number in some answers, text in others.
    #[serde(default, deserialize_with = "whole")]
    foci: Option<i64>,
    scope: Option<String>,
}

/// Reads a 2xx body.
///
/// # Errors
/// What is wrong with it, without any of its contents.
pub(super) fn read(body: &[u8], expected: Expected<'_>, now: Timestamp) -> Result<Answer, String> {
    // The parser's own words could quote the body; its place says enough.
    let raw: Raw = serde_json::from_slice(body)
        .map_err(|e| format!("it is not a token answer (line {}, column {})", e.line(), e.column()))?;
    let access_token = raw.access_token.ok_or("it holds no access token")?;
    let others = [&raw.refresh_token, &raw.id_token];
    for token in
        [Some(&access_token), raw.refresh_token.as_ref(), raw.id_token.as_ref()].into_iter().flatten()
    {
        let text = token.expose();
        if text.is_empty() || text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("one of its tokens is empty, too long or not plain text".to_owned());
        }
    }
    let same = |other: &Option<Secret>| other.as_ref().is_some_and(|o| o.expose() == access_token.expose());
    if others.into_iter().any(same) || is_id_token(access_token.expose(), expected.client_id) {
        return Err("what it calls an access token is another kind of token".to_owned());
    }
    let kind = match raw.token_type.as_deref() {
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => TokenType::Bearer,
        Some(kind) if kind.eq_ignore_ascii_case("pop") => TokenType::Pop,
        _ => return Err("its token is of an unknown type".to_owned()),
    };
    if kind != expected.kind {
        return Err(
            "its token is not of the type that was asked for (bearer or proof of possession)".to_owned()
        );
    }
    let life = raw.expires_in.ok_or("it does not say when its token ends")?.min(MAX_LIFE);
    if life <= 0 {
        return Err("its token has ended already".to_owned());
    }
    let refresh_in = raw.refresh_in.filter(|at| (1..life).contains(at)).and_then(|at| u64::try_from(at).ok());
    Ok(Answer {
        access_token,
        kind,
        expires: now.plus(life),
        refresh_in: refresh_in.map(Duration::from_secs),
        refresh_token: raw.refresh_token,
        id_token: raw.id_token,
        client_info: raw.client_info.filter(|info| info.len() <= MAX_CLIENT_INFO_BYTES),
        family: raw.foci.is_some_and(|foci| foci != 0),
        scope: raw.scope,
    })
}

/// Access tokens of Entra name the client in `appid` or `azp` (Microsoft Learn, "Access token claims
/// reference"); an ID token is for the client itself and names none.
fn is_id_token(text: &str, client_id: Option<&str>) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        aud: Option<String>,
        appid: Option<String>,
        azp: Option<String>,
    }
    let Some(client_id) = client_id else { return false };
    let payload = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<Claims>(&bytes).ok());
    claims.is_some_and(|claims| {
        claims.appid.is_none()
            && claims.azp.is_none()
            && claims.aud.is_some_and(|aud| aud.eq_ignore_ascii_case(client_id))
    })
}

pub(super) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}

/// A whole number that comes as a number or as text: IMDS and the v1 endpoint quote theirs, v2 does not.
pub(crate) fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    match Option::<Either>::deserialize(from)? {
        None => Ok(None),
        Some(Either::Number(value)) => Ok(Some(value)),
        Some(Either::Text(text)) => text.trim().parse().map(Some).map_err(de::Error::custom),
    }
}
