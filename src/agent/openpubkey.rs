//! Which sign-ins a certificate may prove by itself, from the configuration.

use nightlatch_jwt::{Algorithm, Evidence, Expected, Expiration, Issuer, Kind, Version};
use nightlatch_model::{Guid, TenantId};

use super::settings::{Settings, SettingsError, span};
use crate::config::{self, Config, Span};
use crate::entra::clouds::Endpoints;
use crate::login::{NameClaim, ProofRules};

/// How long a sign-in is good for when nothing is configured.
pub(super) const DEFAULT_EXPIRATION: &str = "4h";
/// The shortest and the longest that can be configured, in seconds.
const EXPIRATION_S: (i64, i64) = (300, 7 * 86_400);
/// The shortest and the longest time since a sign-in that can be demanded, in seconds.
const AUTH_AGE_S: (i64, i64) = (60, 30 * 86_400);
/// How far the clocks of Entra and of the node may differ, in seconds.
const LEEWAY_S: i64 = 60;

/// The rules; `None` where no application is named.
pub(super) fn rules(
    config: &Config,
    tenant: TenantId,
    hosts: Endpoints,
) -> Result<Option<ProofRules>, SettingsError> {
    let expiration = expiration(config.openpubkey.expiration.as_deref().unwrap_or(DEFAULT_EXPIRATION))?;
    let clients = config.openpubkey.client_ids.clone().unwrap_or_default();
    if clients.is_empty() {
        return Ok(None);
    }
    // As Entra spells them in `aud`, however they were written.
    let id = |text: &String| text.parse::<Guid>().map_err(|_| SettingsError::BadClient(text.clone()));
    let clients = clients.iter().map(|text| id(text).map(|id| id.to_string())).collect::<Result<_, _>>()?;
    let name = match config.openpubkey.name_claim {
        None | Some(config::NameClaim::Upn) => NameClaim::Upn,
        Some(config::NameClaim::PreferredUsername) => NameClaim::PreferredUsername,
    };
    let issuer = Issuer { text: format!("{}/{tenant}/v2.0", hosts.login), version: Version::V2 };
    let expected = Expected {
        tenant,
        issuers: vec![issuer],
        audiences: clients,
        algorithms: vec![Algorithm::Rs256],
        kind: Kind::Id,
        clients: Vec::new(),
        person: None,
        nonce: None,
        guests: config.login.guests.unwrap_or(true),
        evidence: evidence(&config.openpubkey)?,
        leeway_s: LEEWAY_S,
    };
    Ok(Some(ProofRules { expected, expiration, name }))
}

/// What an ID token must show beside who it is about.
fn evidence(wanted: &config::OpenPubkey) -> Result<Evidence, SettingsError> {
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (least, most) = AUTH_AGE_S;
    let age = |age| span("openpubkey.max_auth_age", Some(age), age, least, most).map(|_| age.0);
    Ok(Evidence {
        amr: words(&wanted.require_amr),
        acrs: words(&wanted.require_acrs),
        device: wanted.require_device.unwrap_or(false),
        forbidden_amr: Vec::new(),
        max_auth_age_s: wanted.max_auth_age.map(age).transpose()?,
    })
}

fn expiration(text: &str) -> Result<Expiration, SettingsError> {
    match text {
        "oidc" => return Ok(Expiration::IdToken),
        "oidc-refreshed" => return Ok(Expiration::Refreshed),
        _ => {}
    }
    let given = Span::parse(text).ok_or_else(|| SettingsError::BadExpiration(text.to_owned()))?;
    let (least, most) = EXPIRATION_S;
    let age = span("openpubkey.expiration", Some(given), given, least, most)?;
    Ok(Expiration::AfterIssue(u32::try_from(age.as_secs()).unwrap_or(u32::MAX)))
}

/// The applications, for the list of settings.
pub(super) fn clients(settings: &Settings) -> Vec<String> {
    settings.openpubkey.as_ref().map_or_else(Vec::new, |rules| rules.expected.audiences.clone())
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
        for wrong in ["never", "", "8d", "1s", "oidc_refreshed"] {
            assert!(expiration(wrong).is_err(), "{wrong}");
        }
    }
}
