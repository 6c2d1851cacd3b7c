//! The compact PK token: payload, protected headers and signatures joined by `:`, and after a `.` the refreshed
//! ID token if there is one.

use serde_json::Value;

use crate::{Error, from_b64url};

/// A PK token in its compact form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkToken {
    body: String,
    fresh: Option<String>,
}

impl PkToken {
    /// The token of a payload and of the (protected header, signature) pairs over it, all in base64url.
    pub(crate) fn join(payload: &str, signatures: &[(String, String)]) -> Self {
        let mut body = payload.to_owned();
        for (protected, signature) in signatures {
            body.push(':');
            body.push_str(protected);
            body.push(':');
            body.push_str(signature);
        }
        Self { body, fresh: None }
    }

    /// A token that is any text at all, for what no knob makes.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { body: text.into(), fresh: None }
    }

    /// The token with a refreshed ID token; one that it had is dropped, as the client does.
    #[must_use]
    pub fn with_fresh(self, id_token: &str) -> Self {
        Self { fresh: Some(id_token.to_owned()), ..self }
    }

    /// The compact form: what stands in the extension `openpubkey-pkt`.
    pub fn compact(&self) -> String {
        match &self.fresh {
            Some(fresh) => format!("{}.{fresh}", self.body),
            None => self.body.clone(),
        }
    }

    /// The claim `email` of the payload: the key id that the client writes. Empty without one.
    pub(crate) fn email(&self) -> String {
        let payload = self.body.split(':').next().unwrap_or_default();
        let claims = from_b64url(payload).and_then(|json| serde_json::from_slice::<Value>(&json).ok());
        claims
            .as_ref()
            .and_then(|claims| claims.get("email"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

/// The three parts of a JWS in its compact form.
pub(crate) struct Parts<'a> {
    pub(crate) protected: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(id_token: &'a str) -> Result<Self, Error> {
        let parts: Vec<&str> = id_token.split('.').collect();
        match parts.as_slice() {
            [protected, payload, signature] => Ok(Self { protected, payload, signature }),
            _ => Err(Error::IdToken("it has not three parts")),
        }
    }
}

/// A base64url text with one character in its middle changed: still base64url, but of other bytes.
pub(crate) fn tampered(text: &str) -> String {
    let middle = text.len() / 2;
    text.char_indices()
        .map(|(at, letter)| match (at == middle, letter) {
            (true, 'A') => 'B',
            (true, _) => 'A',
            (false, _) => letter,
        })
        .collect()
}
