//! `nightlatch token get`.

use serde_json::json;

use super::from_az::{self, AzError};
use super::{Wish, refused, with_broker};
use crate::broker::v1::AccessToken;
use crate::cli::output::{Format, USAGE, YES, complain, say};
use crate::cli::program::System;

use nightlatch_model::Timestamp;

/// The end of a token as `az` prints it and as RFC 3339.
pub(crate) struct ExpiryText {
    /// `2026-11-22 03:04:05.000000`, local time in `az`, UTC here: the node's zone says nothing to a program.
    pub(crate) az: String,
    /// `2026-11-22T03:04:05Z`.
    pub(crate) rfc3339: String,
}

/// Both spellings of an end.
pub(crate) fn expiry_text(seconds: i64) -> ExpiryText {
    let rfc3339 = Timestamp(seconds).to_string();
    ExpiryText { az: rfc3339.replace('T', " ").replace('Z', ".000000"), rfc3339 }
}

pub(super) fn run(wish: &Wish, force_refresh: bool, format: Option<Format>) -> u8 {
    if wish.is_of_az() {
        return of_az(wish, force_refresh, format);
    }
    let request = match wish.request(force_refresh) {
        Ok(request) => request,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let asked = with_broker(|mut broker| async move { Ok(broker.get_token(request).await?.into_inner()) });
    match asked {
        Ok(token) => {
            print(&token, format.unwrap_or(Format::Token));
            if !token.stale_reason.is_empty() {
                complain(&format!("an older token was served, {} s old: {}", token.age, token.stale_reason));
            }
            YES
        }
        Err(cause) => refused(&cause),
    }
}

fn of_az(wish: &Wish, force_refresh: bool, format: Option<Format>) -> u8 {
    match from_az::ask(&System, wish, force_refresh) {
        Ok(token) => {
            print(&token, format.unwrap_or(Format::Token));
            YES
        }
        Err(AzError::Usage(why)) => {
            complain(&why);
            USAGE
        }
        Err(AzError::Cli(cause)) => {
            complain(&cause.to_string());
            cause.exit()
        }
    }
}

fn print(token: &AccessToken, format: Format) {
    match format {
        Format::Token => say(&token.token),
        Format::Header => say(&format!("Authorization: {} {}", scheme(token), token.token)),
        // Neither a token nor a number needs quoting for a shell: their alphabets hold nothing special.
        Format::Env => {
            say(&format!("NIGHTLATCH_ACCESS_TOKEN={}", token.token));
            say(&format!("NIGHTLATCH_EXPIRES_ON={}", token.expires_on));
        }
        Format::Json => say(&document(token).to_string()),
        Format::Table => {
            let expiry = expiry_text(token.expires_on).rfc3339;
            let client = if token.client_id.is_empty() { "unknown" } else { &token.client_id };
            say(&format!("identity  {}  (client id {client})", token.identity));
            say(&format!("resource  {}", token.resource));
            say(&format!("expires   {expiry}"));
            if token.rule.is_empty() {
                say(&format!("from      {}, without the broker", token.source));
            } else {
                say(&format!("from      {}, {} s old, rule {}", token.source, token.age, token.rule));
            }
            say("the token itself: -o token, -o header, -o env or -o json");
        }
    }
}

fn scheme(token: &AccessToken) -> &'static str {
    if token.token_type.eq_ignore_ascii_case("pop") { "PoP" } else { "Bearer" }
}

/// The members of `az account get-access-token -o json`, and after them ours.
pub(super) fn document(token: &AccessToken) -> serde_json::Value {
    json!({
        "accessToken": token.token, "expiresOn": expiry_text(token.expires_on).az,
        "expires_on": token.expires_on, "tokenType": scheme(token),
        "resource": token.resource, "identity": token.identity, "clientId": token.client_id,
        "refresh_on": token.refresh_on, "source": token.source, "age": token.age,
        "staleReason": token.stale_reason, "rule": token.rule, "correlation": token.correlation,
    })
}
