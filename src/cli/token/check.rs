//! `nightlatch token check`: whether a token is what it should be, by the checks that a login runs through.
//!
//! It asks nobody and keeps nothing; the token comes on standard input, so that it stands in no list of processes.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nightlatch_jwt::{
    Algorithm, Claims, Evidence, Expected, Groups, Issuer, KeySet, Kind, MAX_JWKS_BYTES, MAX_LEEWAY_S,
    MAX_TOKEN_BYTES, Refusal, Version, validate,
};
use nightlatch_model::{ObjectId, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::cli::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say, table};
use crate::clock::Clock;
use crate::store::read_capped;

/// What the token must be.
#[derive(Debug, Args)]
pub(in crate::cli) struct Demands {
    /// The tenant.
    #[arg(long)]
    tenant: TenantId,
    /// An accepted audience: a client id, or an App ID URI to the letter; may be repeated.
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// The issuer's key set: a file with what `.../discovery/v2.0/keys` answers.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// What the token is for.
    #[arg(long, value_enum, default_value_t = For::User)]
    kind: For,
    /// An accepted issuer to the letter, instead of the public cloud's two; may be repeated.
    #[arg(long)]
    issuer: Vec<String>,
    /// An application that it may have been issued to (`azp`, `appid`); may be repeated.
    #[arg(long)]
    client: Vec<String>,
    /// The person it must be about, by object id.
    #[arg(long)]
    person: Option<ObjectId>,
    /// The nonce it must have.
    #[arg(long)]
    nonce: Option<String>,
    /// Guests of the tenant are accepted.
    #[arg(long)]
    guests: bool,
    /// A way of signing in that it must show (`mfa`); may be repeated.
    #[arg(long)]
    amr: Vec<String>,
    /// An authentication context that it must show (`c1`); may be repeated.
    #[arg(long)]
    acrs: Vec<String>,
    /// It must show a device.
    #[arg(long)]
    device: bool,
    /// How long ago the sign-in may be, in seconds.
    #[arg(long, value_name = "SECONDS")]
    max_auth_age: Option<u32>,
    /// How far clocks may differ, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(i64).range(0..=MAX_LEEWAY_S))]
    leeway: i64,
    /// Judge as of this time, in seconds since 1970, instead of now.
    #[arg(long, value_name = "SECONDS")]
    at: Option<i64>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    /// It opens something for a person.
    User,
    /// It opens something for an application.
    App,
    /// It says who signed in.
    Id,
}

impl Demands {
    fn expected(&self) -> Expected {
        let issuer = |text: &String| {
            let version = if text.ends_with("/v2.0") { Version::V2 } else { Version::V1 };
            Issuer { text: text.clone(), version }
        };
        let usual = Expected::person(self.tenant, "");
        Expected {
            issuers: if self.issuer.is_empty() {
                usual.issuers
            } else {
                self.issuer.iter().map(issuer).collect()
            },
            audiences: self.audience.clone(),
            algorithms: vec![Algorithm::Rs256],
            kind: match self.kind {
                For::User => Kind::UserAccess,
                For::App => Kind::AppAccess,
                For::Id => Kind::Id,
            },
            clients: self.client.clone(),
            person: self.person,
            nonce: self.nonce.clone(),
            guests: self.guests,
            evidence: Evidence {
                amr: self.amr.clone(),
                acrs: self.acrs.clone(),
                device: self.device,
                forbidden_amr: Vec::new(),
                max_auth_age_s: self.max_auth_age.map(i64::from),
            },
            leeway_s: self.leeway,
            ..usual
        }
    }
}

/// Runs `nightlatch token check`.
pub(super) fn run(check: &Demands, format: Option<Format>) -> u8 {
    let now = check.at.map_or_else(|| Clock::System.now(), Timestamp);
    let keys = match read_keys(check, now) {
        Ok(keys) => keys,
        Err(why) => {
            complain(&why);
            return UNKNOWN;
        }
    };
    let token = match read_token() {
        Ok(token) => token,
        Err(why) => {
            complain(why);
            return USAGE;
        }
    };
    match validate(&token, &check.expected(), &keys, now) {
        Ok(claims) => {
            accepted(&claims, format);
            YES
        }
        Err(refusal) => {
            refused(refusal, format);
            NO
        }
    }
}

fn read_keys(check: &Demands, now: Timestamp) -> Result<KeySet, String> {
    let path = check.keys.display();
    let bytes = read_capped(&check.keys, MAX_JWKS_BYTES as u64).map_err(|why| {
        let inner = std::error::Error::source(&why).map_or_else(String::new, |inner| format!(": {inner}"));
        format!("{why}{inner}")
    })?;
    let bytes =
        bytes.ok_or_else(|| format!("{path}: no such file; save what the issuer's `jwks_uri` answers"))?;
    let mut keys = KeySet::default();
    keys.merge(&bytes, now).map_err(|why| format!("{path}: {why}"))?;
    Ok(keys)
}

/// The token from standard input; an end of line behind it is not part of it. What is longer than a token can be is cut
/// where that shows.
fn read_token() -> Result<String, &'static str> {
    let mut text = String::new();
    let most = MAX_TOKEN_BYTES as u64 + 3;
    let read = std::io::stdin().lock().take(most).read_to_string(&mut text);
    let token = text.trim_end_matches(['\r', '\n']);
    match read {
        Err(_) => Err("standard input is not text; a token is expected there"),
        Ok(_) if token.is_empty() => Err("no token on standard input; pipe it in"),
        Ok(_) => Ok(token.to_owned()),
    }
}

fn refused(refusal: Refusal, format: Option<Format>) {
    if format == Some(Format::Json) {
        let about = refusal.about();
        let text = refusal.to_string();
        return say(
            &json!({"valid": false, "reason": refusal.word(), "about": about, "text": text}).to_string()
        );
    }
    complain(&format!("{refusal} ({})", refusal.word()));
}

fn accepted(claims: &Claims, format: Option<Format>) {
    let document = document(claims);
    if format == Some(Format::Json) {
        return say(&json!({"valid": true, "claims": document}).to_string());
    }
    let Value::Object(members) = document else { return };
    let shown = |value: &Value| match value {
        // What a token says is its issuer's text, not ours: nothing of it may move a terminal's cursor.
        Value::String(text) => text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
        other => other.to_string(),
    };
    let rows = members.iter().filter(|(_, value)| !value.is_null());
    table(&rows.map(|(name, value)| vec![name.clone(), shown(value)]).collect::<Vec<_>>());
}

/// What it says, under the names that it says it.
fn document(claims: &Claims) -> Value {
    let ids = |ids: &[nightlatch_model::Guid]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let groups = match &claims.groups {
        Groups::Unsaid => Value::Null,
        Groups::Listed(groups) => json!(ids(groups)),
        Groups::TooMany => json!("too many to list"),
    };
    json!({
        "iss": claims.issuer, "aud": claims.audience, "tid": claims.tenant.to_string(),
        "oid": claims.oid.to_string(), "sub": claims.subject,
        "iat": claims.issued_at.0, "nbf": claims.not_before.0, "exp": claims.expires.0,
        "client": claims.client, "name": claims.user_name, "scp": claims.scopes, "roles": claims.roles,
        "groups": groups, "wids": claims.directory_roles.as_deref().map(ids),
        "amr": claims.amr, "acr": claims.acr, "acrs": claims.acrs,
        "auth_time": claims.auth_time.map(|at| at.0), "deviceid": claims.device.map(|id| id.to_string()),
        "ipaddr": claims.address, "guest": claims.guest, "xms_cc": claims.client_capabilities,
        "uti": claims.token_id, "nonce": claims.nonce,
    })
}
