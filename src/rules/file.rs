//! The shape of a file of access rules, `/etc/nightlatch/policy.d/*.toml`.
//!
//! A key that is not known is an error with its line. Here a file is only read; what it means stands in `compile.rs`.

use std::collections::BTreeMap;

use nightlatch_page::{Page, PolicyError, Words};
use serde::Deserialize;
use toml::Spanned;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RulesFile {
    #[serde(default)]
    pub(super) rule: Vec<RuleText>,
}

/// One rule, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleText {
    pub(super) name: Spanned<String>,
    pub(super) effect: EffectText,
    pub(super) who: Spanned<WhoText>,
    #[serde(rename = "where")]
    pub(super) place: Option<Spanned<WhereText>>,
    pub(super) when: Option<Spanned<WhenText>>,
    pub(super) network: Option<Words>,
    pub(super) proof: Option<Spanned<Vec<ProofText>>>,
    pub(super) service: Option<Spanned<Vec<DoorText>>>,
    pub(super) require: Option<Spanned<RequireText>>,
    pub(super) max_session: Option<Spanned<String>>,
    pub(super) forward: Option<Spanned<Vec<ForwardText>>>,
    pub(super) grace: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EffectText {
    Permit,
    StepUp,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoText {
    pub(super) anyone: Option<Spanned<bool>>,
    pub(super) role: Option<RoleText>,
    pub(super) groups: Option<Words>,
    pub(super) users: Option<Words>,
    pub(super) guests: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RoleText {
    User,
    Admin,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhereText {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) resource: Option<Words>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenText {
    pub(super) days: Option<Words>,
    pub(super) from: Option<Spanned<String>>,
    pub(super) to: Option<Spanned<String>>,
    pub(super) zone: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProofText {
    Entra,
    Openpubkey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DoorText {
    Login,
    Sudo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ForwardText {
    Port,
    Agent,
    X11,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequireText {
    pub(super) amr: Option<Words>,
    pub(super) acrs: Option<Words>,
    pub(super) device: Option<Spanned<bool>>,
    pub(super) max_auth_age: Option<Spanned<String>>,
    pub(super) max_age: Option<Spanned<String>>,
}

/// What a file should look like.
const FORM: &str = "a file holds `[[rule]]` tables, each with `name`, `effect` (`permit`, `step-up` or `deny`) and \
                    `who = { ... }`";

/// Reads a file.
pub(super) fn read(page: &Page<'_>) -> Result<RulesFile, PolicyError> {
    page.read(FORM)
}
