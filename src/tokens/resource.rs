//! The audience of a token: what a caller calls `resource`, or `scope` with `/.default` behind it.
//!
//! Two spellings are kept. The exact one goes to the source, because Entra answers `https://x/` and
//! `https://x` with different `aud` claims; the canonical one, without the slash, is what policies
//! compare. Never a place for a path trick: what a URL parser could read differently is refused
//! (CVE-2022-23551 gave out a token because of one backslash).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest resource, in bytes.
pub const MAX_RESOURCE_BYTES: usize = 512;

/// What a scope for a whole resource ends with (Microsoft Learn, "Scopes and permissions").
const DEFAULT: &str = "/.default";

/// Why a text is no resource.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResourceError {
    /// Nothing, or too much.
    #[error("a resource has 1 to {MAX_RESOURCE_BYTES} bytes")]
    Length,
    /// A character that two readers could take for two things.
    #[error("the resource holds `{0}`, which is not accepted; write it as the service's documentation does")]
    Character(char),
    /// `//`, `.` or `..` as a part of the path, or a name and password before the host.
    #[error("the resource holds an empty, `.` or `..` path segment, or user information; write it plainly")]
    Path,
    /// A scheme without anything behind it.
    #[error("the resource names no host or application")]
    Empty,
}

/// The audience of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    exact: String,
    canonical: usize,
}

impl Resource {
    /// As it was asked for, without `/.default`.
    #[must_use]
    pub fn exact(&self) -> &str {
        &self.exact
    }

    /// Without the slash at the end: what policies compare. Host and scheme are lower case.
    #[must_use]
    pub fn canonical(&self) -> &str {
        self.exact.get(..self.canonical).unwrap_or(&self.exact)
    }

    /// The scope for the whole resource, as the v2 endpoint wants it.
    #[must_use]
    pub fn default_scope(&self) -> String {
        format!("{}{DEFAULT}", self.exact)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.canonical())
    }
}

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        if text.is_empty() || text.len() > MAX_RESOURCE_BYTES {
            return Err(ResourceError::Length);
        }
        let plain = |c: &char| c.is_ascii_alphanumeric() || "-._~:/".contains(*c);
        if let Some(strange) = text.chars().find(|c| !plain(c)) {
            return Err(ResourceError::Character(strange));
        }
        let text = text.strip_suffix(DEFAULT).unwrap_or(text);
        let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
        let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        if host.is_empty() || text.starts_with(':') {
            return Err(ResourceError::Empty);
        }
        let mut segments = path.unwrap_or_default().split('/').collect::<Vec<_>>();
        // One slash at the end is a spelling; two are not.
        if segments.last().is_some_and(|last| last.is_empty()) {
            segments.pop();
        }
        if matches!(host, "." | "..") || segments.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err(ResourceError::Path);
        }
        let exact = if scheme.is_empty() {
            text.to_owned()
        } else {
            let tail = path.map_or_else(String::new, |path| format!("/{path}"));
            format!("{}://{}{tail}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
        };
        let canonical = exact.strip_suffix('/').unwrap_or(&exact).len();
        Ok(Self { exact, canonical })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_resource_compare_as_one_and_keep_their_own_form() {
        for (text, exact) in [
            ("https://vault.azure.net", "https://vault.azure.net"),
            ("https://vault.azure.net/", "https://vault.azure.net/"),
            ("https://vault.azure.net/.default", "https://vault.azure.net"),
            ("https://vault.azure.net//.default", "https://vault.azure.net/"),
            ("HTTPS://Vault.Azure.Net", "https://vault.azure.net"),
        ] {
            let resource: Resource = text.parse().unwrap();
            assert_eq!((resource.exact(), resource.canonical()), (exact, "https://vault.azure.net"));
        }
        let app: Resource = "api://AzureADTokenExchange".parse().unwrap();
        assert_eq!(app.canonical(), "api://azureadtokenexchange");
        let id: Resource = "6dae42f8-4368-4678-94ff-3960e28e3630".parse().unwrap();
        assert_eq!(id.default_scope(), "6dae42f8-4368-4678-94ff-3960e28e3630/.default");
    }

    #[test]
    fn past_bug_50_a_resource_that_two_readers_could_read_differently_is_refused() {
        for text in [
            "",
            "https://",
            "https:///x",
            ":443",
            "https://a\\b",
            "https://a%5cb",
            "https://a/b//c",
            "https://a/../b",
            "https://a/./b",
            "..",
            "https://user@a",
            "https://user:pw@a",
            "https://a?x=y",
            "https://a#b",
            "https://a b",
            "https://ä",
            "https://a//",
            "https://a/\n",
            &"a".repeat(MAX_RESOURCE_BYTES + 1),
        ] {
            assert!(text.parse::<Resource>().is_err(), "{text:?}");
        }
    }
}
