//! Which sign-ins a certificate may prove by itself, from the configuration.

use nightlatch_jwt::{Algorithm, Evidence, Expected, Issuer, Kind, Version};
use nightlatch_model::{Guid, TenantId};

use super::settings::{Settings, SettingsError, span};
use crate::config::{self, Config};
use crate::entra::clouds::Endpoints;
use crate::login::{self, DEFAULT_EXPIRATION, NameClaim, ProofRules};

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
    let expiration = config.openpubkey.expiration.as_deref().unwrap_or(DEFAULT_EXPIRATION);
    let expiration = login::expiration(expiration)?;
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

/// The applications, for the list of settings.
pub(super) fn clients(settings: &Settings) -> Vec<String> {
    settings.openpubkey.as_ref().map_or_else(Vec::new, |rules| rules.expected.audiences.clone())
}
