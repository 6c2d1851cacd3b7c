//! How long a sign-in in a certificate is good for, as it is written: the same words for the nodes that demand it and for the
//! client that goes by it.

use nightlatch_jwt::Expiration;
use nightlatch_model::Span;
use thiserror::Error;

/// What holds where nothing is written.
pub const DEFAULT_EXPIRATION: &str = "4h";
/// The shortest and the longest time since the sign-in that can be written, in seconds. Entra dates ID tokens back by five
/// minutes, so a shorter one would leave nobody the time to log in.
const AFTER_ISSUE_S: (i64, i64) = (600, 7 * 86_400);

/// Why it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpirationError {
    /// Neither a word nor a length.
    #[error("`{0}` is neither a length of time nor `oidc` nor `oidc-refreshed`")]
    Word(String),
    /// Too short or too long.
    #[error("`{}` is not between `{}` and `{}`", .0, Span(AFTER_ISSUE_S.0), Span(AFTER_ISSUE_S.1))]
    Length(Span),
}

/// Reads `4h`, `oidc` or `oidc-refreshed`.
///
/// # Errors
/// [`ExpirationError`].
pub fn expiration(text: &str) -> Result<Expiration, ExpirationError> {
    match text {
        "oidc" => return Ok(Expiration::IdToken),
        "oidc-refreshed" => return Ok(Expiration::Refreshed),
        _ => {}
    }
    let length = Span::parse(text).ok_or_else(|| ExpirationError::Word(text.to_owned()))?;
    let seconds = u32::try_from(length.0).ok();
    let seconds = seconds.filter(|_| (AFTER_ISSUE_S.0..=AFTER_ISSUE_S.1).contains(&length.0));
    seconds.map(Expiration::AfterIssue).ok_or(ExpirationError::Length(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiration_is_a_span_or_one_of_two_words() {
        assert_eq!(expiration(DEFAULT_EXPIRATION), Ok(Expiration::AfterIssue(14_400)));
        assert_eq!(expiration("1week"), Ok(Expiration::AfterIssue(604_800)));
        assert_eq!(expiration("oidc"), Ok(Expiration::IdToken));
        assert_eq!(expiration("oidc-refreshed"), Ok(Expiration::Refreshed));
        for wrong in ["never", "", "8d", "1s", "5min", "oidc_refreshed"] {
            assert!(expiration(wrong).is_err(), "{wrong}");
        }
        let why = expiration("8d").unwrap_err().to_string();
        assert_eq!(why, "`8d` is not between `10min` and `7d`");
    }
}
