//! The last search over a finished recording. Everything in it was scrubbed before; this looks for
//! what all scrubbing could have missed, by form and by value, and trusts nothing that came before.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::scrub::guid_in;

/// The shortest secret that is searched for, in bytes.
const MIN_BYTES: usize = 6;

/// Searches for ids, tokens, addresses, and the given texts.
///
/// # Errors
/// What kind of thing was found; never the thing.
pub(super) fn check(recording: &Value, secrets: &[String]) -> Result<(), &'static str> {
    let text = recording.to_string().to_ascii_lowercase();
    if guid_in(&text).is_some() {
        return Err("an id");
    }
    if text.contains("eyj") && text.split('"').any(|part| part.starts_with("eyj")) {
        return Err("a token");
    }
    if text.split(|c: char| !c.is_ascii_digit() && c != '.').any(|word| word.parse::<Ipv4Addr>().is_ok()) {
        return Err("an IP address");
    }
    let long = |secret: &&String| secret.len() >= MIN_BYTES;
    if secrets.iter().filter(long).any(|secret| text.contains(&secret.to_ascii_lowercase())) {
        return Err("a token or a login name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_got_through_is_found_wherever_it_stands() {
        let secrets = ["Alice@contoso.com".to_owned()];
        assert_eq!(check(&json!({"a": "<guid-1>", "v": "OpenSSH_9.2p1"}), &secrets), Ok(()));
        for bad in [
            json!({"a11ce000-0000-4000-8000-000000000001": 1}),
            json!(["x A11CE000-0000-4000-8000-000000000001 y"]),
            json!({"x": "eyJhbGciOi"}),
            json!({"x": "at 10.0.0.7, y"}),
            json!({"x": "for alice@contoso.com!"}),
        ] {
            assert!(check(&bad, &secrets).is_err(), "{bad}");
        }
    }
}
