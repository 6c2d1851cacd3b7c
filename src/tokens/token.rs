//! A token and what can be told about it without telling it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::{Secret, Timestamp};
use serde::Deserialize;

/// The largest payload of a token that is looked into, in bytes of base64.
const MAX_PAYLOAD_BYTES: usize = 48 * 1024;
/// The longest id that is kept from a token, in bytes.
const MAX_ID_BYTES: usize = 128;

/// How the token is to be presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenType {
    /// Whoever has it may use it.
    Bearer,
    /// Only with a request signed by the key that it names.
    Pop,
}

/// The ids in a token, for records: not verified, never decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stamp {
    /// Entra's id of this very token, the key into the sign-in logs.
    pub uti: Option<String>,
    /// The object whose token it is.
    pub oid: Option<String>,
    /// The tenant.
    pub tid: Option<String>,
    /// The application (`appid` in v1 tokens, `azp` in v2).
    #[serde(alias = "azp")]
    pub appid: Option<String>,
}

impl Stamp {
    /// Reads the ids out of a JWT; whatever cannot be read is left out.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let payload = token.split('.').nth(1).filter(|part| part.len() <= MAX_PAYLOAD_BYTES);
        let bytes = payload.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let stamp: Self = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let plain = |id: &String| {
            id.len() <= MAX_ID_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        Self {
            uti: stamp.uti.filter(plain),
            oid: stamp.oid.filter(plain),
            tid: stamp.tid.filter(plain),
            appid: stamp.appid.filter(plain),
        }
    }
}

/// A token from a source. No `Debug`, no `Clone`: it is shared by reference count and wiped at its end.
pub struct Token {
    /// The text.
    pub secret: Secret,
    /// How it is presented.
    pub kind: TokenType,
    /// When it ends, by the wall clock.
    pub expires: Timestamp,
    /// When the source advises to ask for the next one, counted from when it was got.
    pub refresh_in: Option<Duration>,
    /// The client id that the source named, for surfaces that show it.
    pub client_id: Option<String>,
    /// The ids in it.
    pub stamp: Stamp,
}

impl Token {
    /// A bearer token; its ids are read out of it.
    #[must_use]
    pub fn bearer(secret: Secret, expires: Timestamp, refresh_in: Option<Duration>) -> Self {
        let stamp = Stamp::of(secret.expose());
        let client_id = stamp.appid.clone();
        Self { secret, kind: TokenType::Bearer, expires, refresh_in, client_id, stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_everything_else_is_left_out() {
        let payload =
            URL_SAFE_NO_PAD.encode(r#"{"uti":"a_B-1","oid":"o","azp":"app","tid":"bad id","x":[1]}"#);
        let stamp = Stamp::of(&format!("h.{payload}.s"));
        assert_eq!((stamp.uti.as_deref(), stamp.oid.as_deref()), (Some("a_B-1"), Some("o")));
        assert_eq!((stamp.appid.as_deref(), stamp.tid.as_deref()), (Some("app"), None));
        for opaque in ["", "opaque", "a.b.c", "a.!!.c"] {
            assert_eq!(Stamp::of(opaque), Stamp::default());
        }
    }
}
