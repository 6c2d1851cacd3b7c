//! The shape of a policy file, `/etc/nightlatch/broker.d/*.toml`, and the errors in one.
//!
//! A key that is not known is an error with its line: a misspelt limit would otherwise be no limit.
//! Here a file is only read; what it means stands in `compile.rs`.

use std::fmt;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

/// The largest policy file, in bytes.
pub const MAX_POLICY_FILE_BYTES: usize = 256 * 1024;
/// The most policy files.
pub const MAX_POLICY_FILES: usize = 64;
/// The most rules in all files together.
pub const MAX_RULES: usize = 1_000;
/// The most entries in one list of a rule.
pub const MAX_LIST: usize = 256;

/// Why the policy was refused. Nothing of it is used then; the one before stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{file}`, line {line}: {problem}; {hint}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

/// Something that works, and is likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: String,
    /// What is doubtful, and what to write instead.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, line {}: rule `{}`: {}", self.file, self.line, self.rule, self.text)
    }
}

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

pub(super) type Words = Spanned<Vec<Spanned<String>>>;

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

/// A file at hand, to say where in it something stands.
pub(super) struct Page<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Page<'_> {
    /// The line of byte `at`, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at.min(self.text.len())).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    }

    /// An error at byte `at`.
    pub(super) fn error(
        &self,
        at: usize,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> PolicyError {
        PolicyError {
            file: self.file.to_owned(),
            line: self.line(at),
            problem: printable(&problem.into()),
            hint: printable(&hint.into()),
        }
    }

    /// Reads the file.
    pub(super) fn read(&self) -> Result<PolicyFile, PolicyError> {
        if self.text.len() > MAX_POLICY_FILE_BYTES {
            let problem = format!("the file has more than {MAX_POLICY_FILE_BYTES} bytes");
            return Err(self.error(0, problem, "spread the rules over several files"));
        }
        toml::from_str(self.text).map_err(|cause| {
            let at = cause.span().map_or(0, |span| span.start);
            let problem = cause.message();
            let hint = if problem.starts_with("unknown field") {
                "a key that is not known is refused, because a misspelt limit would be no limit"
            } else {
                "a file holds `[[rule]]` tables, each with `name`, `who = { ... }` and `may = { ... }`"
            };
            self.error(at, problem, hint)
        })
    }
}

/// One line of printable text: what a parser quotes may hold anything.
fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .flat_map(|c| {
            let plain = c == ' ' || c.is_ascii_graphic();
            plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        })
        .take(300)
        .collect()
}
