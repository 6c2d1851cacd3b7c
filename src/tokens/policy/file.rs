//! The shape of a policy file, `/etc/nightlatch/broker.d/*.toml`, and the errors in one.
//!
//! A key that is not known is an error with its line: a misspelt limit would otherwise be no limit.
//! Here a file is only read; what it means stands in `compile.rs`.

use nightlatch_page::{Page, PolicyError, Words};
use serde::Deserialize;
use toml::Spanned;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    #[serde(default)]
    pub(super) rule: Vec<Spanned<RuleText>>,
}

/// One rule, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleText {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) effect: Effect,
    pub(super) who: Spanned<WhoText>,
    #[serde(default)]
    pub(super) may: MayText,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Effect {
    #[default]
    Permit,
    Deny,
}

/// Whom a rule is about, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoText {
    pub(super) uid: Option<Spanned<Vec<u32>>>,
    pub(super) user: Option<Words>,
    pub(super) gid: Option<Spanned<Vec<u32>>>,
    pub(super) group: Option<Words>,
    pub(super) unit: Option<Words>,
    pub(super) slice: Option<Words>,
    pub(super) pod: Option<Words>,
    pub(super) place: Option<PlaceText>,
    pub(super) anyone: Option<Spanned<bool>>,
    /// Taken only to say why it cannot be honoured.
    pub(super) exe: Option<Spanned<toml::Value>>,
}

/// The places that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PlaceText {
    Host,
    Container,
}

/// What a rule is about, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MayText {
    pub(super) identity: Option<Words>,
    pub(super) resource: Option<Words>,
    pub(super) scope: Option<Words>,
    pub(super) cae: Option<bool>,
    pub(super) pop: Option<bool>,
    pub(super) purpose: Option<PurposeText>,
    pub(super) max_life: Option<Spanned<String>>,
    pub(super) rate: Option<Spanned<String>>,
}

/// The purposes that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PurposeText {
    Program,
    Agent,
}

/// What a file should look like.
const FORM: &str = "a file holds `[[rule]]` tables, each with `name`, `who = { ... }` and `may = { ... }`";

/// Reads a file.
pub(super) fn read(page: &Page<'_>) -> Result<PolicyFile, PolicyError> {
    page.read(FORM)
}
