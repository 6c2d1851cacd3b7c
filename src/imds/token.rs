//! The token answer that IMDS, himds and Entra share, and the token that comes out of it.
//!
//! Numbers may come as numbers or as strings: IMDS and the v1 endpoint quote them, v2 does not.

use std::time::Duration;

use nightlatch_model::{Guid, Secret, Timestamp};
use serde::Deserialize;

use crate::entra::oauth::whole;

/// The longest life that an answer is believed for, in seconds: managed identities and tokens with
/// continuous access evaluation live up to 28 hours.
pub const MAX_TOKEN_LIFE: i64 = 28 * 3600;

/// The largest token that is kept, in bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A bearer token and how long it is good for.
pub struct AccessToken {
    token: Secret,
    expires: Timestamp,
    refresh_in: Option<Duration>,
    client_id: Option<String>,
}

impl AccessToken {
    /// The token with its end.
    #[must_use]
    pub const fn new(token: Secret, expires: Timestamp) -> Self {
        Self { token, expires, refresh_in: None, client_id: None }
    }

    /// The token for who hands it on, with the advice when to ask again and the client id that the
    /// service named.
    #[must_use]
    pub fn into_parts(self) -> (Secret, Timestamp, Option<Duration>, Option<String>) {
        (self.token, self.expires, self.refresh_in, self.client_id)
    }

    /// The token itself, for an `Authorization` header.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.token
    }

    /// When it ends.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// The answer of a token endpoint.
#[derive(Deserialize)]
pub struct TokenAnswer {
    access_token: String,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    expires_in: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    expires_on: Option<i64>,
    #[serde(default, deserialize_with = "whole")]
    refresh_in: Option<i64>,
    resource: Option<String>,
    client_id: Option<String>,
    msi_res_id: Option<String>,
    mi_res_id: Option<String>,
}

impl TokenAnswer {
    /// Whether the answer names this user-assigned identity by its ARM id.
    pub(crate) fn echoes(&self, resource_id: &str) -> bool {
        let same = |id: &Option<String>| id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(resource_id));
        same(&self.msi_res_id) || same(&self.mi_res_id)
    }

    /// Whether the answer names another client than this one.
    pub(crate) fn is_of_another(&self, client_id: Guid) -> bool {
        let named = self.client_id.as_ref().and_then(|id| id.parse::<Guid>().ok());
        named.is_some_and(|named| named != client_id)
    }

    /// The token, if the answer is one that was asked for.
    ///
    /// # Errors
    /// What is wrong with it; never the token.
    pub fn into_token(self, resource: &str, now: Timestamp) -> Result<AccessToken, String> {
        let plain = !self.access_token.is_empty()
            && self.access_token.len() <= MAX_TOKEN_BYTES
            && self.access_token.bytes().all(|b| b.is_ascii_graphic());
        let token = Secret::new(self.access_token);
        if !plain {
            return Err("its token is empty, too long or not plain text".to_owned());
        }
        if self.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err("its token is not a bearer token".to_owned());
        }
        if self.resource.is_some_and(|named| named.trim_end_matches('/') != resource.trim_end_matches('/')) {
            return Err("its token is for another resource than was asked for".to_owned());
        }
        // `expires_in` needs no agreement between two clocks, so it is believed first.
        let life = match (self.expires_in, self.expires_on) {
            (Some(life), _) => life,
            (None, Some(end)) => Timestamp(end).since(now),
            (None, None) => return Err("it does not say when its token ends".to_owned()),
        };
        if life <= 0 {
            return Err("its token has ended already; compare the clocks".to_owned());
        }
        let life = life.min(MAX_TOKEN_LIFE);
        let refresh_in = self.refresh_in.filter(|at| (1..life).contains(at));
        Ok(AccessToken {
            token,
            expires: now.plus(life),
            refresh_in: refresh_in.and_then(|at| u64::try_from(at).ok()).map(Duration::from_secs),
            client_id: self.client_id.filter(|id| id.parse::<Guid>().is_ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const PDP: &str = "https://authorization.azure.net";

    fn read(text: &str) -> Result<i64, String> {
        let answer: TokenAnswer = serde_json::from_str(text).map_err(|e| e.to_string())?;
        answer.into_token(PDP, NOW).map(|t| t.expires().since(NOW))
    }

    #[test]
    fn quoted_and_bare_numbers_are_one() {
        assert_eq!(read(r#"{"access_token":"a","expires_in":"4271","token_type":"Bearer"}"#), Ok(4271));
        assert_eq!(read(r#"{"access_token":"a","expires_in":3599}"#), Ok(3599));
        assert_eq!(read(r#"{"access_token":"a","expires_on":"1800000100"}"#), Ok(100));
        let long =
            r#"{"access_token":"a","expires_in":"9999999999","resource":"https://authorization.azure.net/"}"#;
        assert_eq!(read(long), Ok(MAX_TOKEN_LIFE));
    }

    #[test]
    fn answers_that_are_no_token_are_refused() {
        for text in [
            "{}",
            r#"{"access_token":"","expires_in":1}"#,
            r#"{"access_token":"a b","expires_in":1}"#,
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","expires_in":0}"#,
            r#"{"access_token":"a","expires_in":"soon"}"#,
            r#"{"access_token":"a","expires_in":9,"token_type":"pop"}"#,
            r#"{"access_token":"a","expires_in":9,"resource":"https://management.azure.com/"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
