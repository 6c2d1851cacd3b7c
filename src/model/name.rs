//! The login names that Nightlatch answers for: `local@domain` and bare GUIDs, lower case.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;

use crate::guid::{Guid, ObjectId};

/// The longest login name, in bytes. Entra's own limit for a UPN is 113 characters.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a text is not one of our login names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Empty, or longer than [`MAX_NAME_BYTES`].
    #[error("a login name has 1 to {MAX_NAME_BYTES} bytes")]
    Length,
    /// Neither `local@domain` nor a GUID: some local account, and none of our business.
    #[error("not an Entra login name: expected `name@domain` or an application's GUID")]
    Shape,
    /// A byte outside the closed alphabet.
    #[error("a login name may hold only the letters a-z, digits and `. _ + -`, in lower case")]
    Alphabet,
}

/// A canonical login name: lower case, one `@` between a plain local part and a DNS domain, or
/// the 36 characters of a GUID.
///
/// The alphabet is closed on purpose: no quote, comma, blank, slash, colon, `#` or byte above
/// 0x7e can reach a file, a line for sshd or a journal field through a login name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LoginName(String);

impl LoginName {
    /// Takes a name that must already be canonical.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            return Err(NameError::Length);
        }
        if let Some((local, domain)) = text.split_once('@') {
            check_local(local)?;
            check_domain(domain)?;
        } else {
            if text.len() != 36 || text.parse::<Guid>().is_err() {
                return Err(NameError::Shape);
            }
            if text.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(NameError::Alphabet);
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Folds ASCII case, then parses: for principals, which Entra spells as the directory does.
    ///
    /// # Errors
    /// As [`LoginName::parse`].
    pub fn fold(text: &str) -> Result<Self, NameError> {
        Self::parse(&text.to_ascii_lowercase())
    }

    /// True for any text that sshd's `Match` block sends to us, well-formed or not: it holds an
    /// `@` or has the shape of a GUID.
    #[must_use]
    pub fn is_for_us(text: &str) -> bool {
        // sshd's `?` stands for one byte.
        let bytes = text.as_bytes();
        let guid = bytes.len() == 36 && [8, 13, 18, 23].into_iter().all(|at| bytes.get(at) == Some(&b'-'));
        guid || bytes.contains(&b'@')
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`; `None` for a GUID.
    #[must_use]
    pub fn local_part(&self) -> Option<&str> {
        self.0.split_once('@').map(|(local, _)| local)
    }

    /// The domain; `None` for a GUID.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, domain)| domain)
    }

    /// The GUID of a service principal's name; `None` for a person.
    #[must_use]
    pub fn as_object_id(&self) -> Option<ObjectId> {
        if self.domain().is_some() { None } else { self.0.parse().ok() }
    }
}

fn check_local(local: &str) -> Result<(), NameError> {
    if local.is_empty() || local.len() > 64 {
        return Err(NameError::Shape);
    }
    if !local.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'-')) {
        return Err(NameError::Alphabet);
    }
    let edge = |b: Option<u8>| matches!(b, Some(b'.' | b'-' | b'+'));
    if edge(local.bytes().next()) || local.ends_with('.') || local.contains("..") {
        return Err(NameError::Shape);
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), NameError> {
    if domain.contains('@') || !domain.contains('.') {
        return Err(NameError::Shape);
    }
    for label in domain.split('.') {
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err(NameError::Shape);
        }
        if !label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(NameError::Alphabet);
        }
        // Punycode would bring every look-alike letter back in.
        if label.starts_with("xn--") {
            return Err(NameError::Alphabet);
        }
    }
    Ok(())
}

impl fmt::Display for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LoginName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_service_principals_parse() {
        for text in [
            "alice@contoso.com",
            "a.b_c+d-e@sub.contoso.com",
            "1c0163c0-47e6-4577-8991-ea5c82e286e4",
            "_svc@contoso.onmicrosoft.com",
        ] {
            assert_eq!(LoginName::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(LoginName::fold("Alice@Contoso.COM").unwrap().as_str(), "alice@contoso.com");
    }

    /// Names that somebody could mistake for another, or that mean something to a file, a shell,
    /// sshd or the journal.
    #[test]
    fn hostile_names_are_refused() {
        let long = format!("{}@contoso.com", "a".repeat(300));
        for text in [
            "",
            "root",
            "12345",
            "Alice@contoso.com",
            "a#EXT#@contoso.com",
            "a_b.com#ext#@contoso.com",
            "-x@contoso.com",
            "-x",
            ".hidden@contoso.com",
            "a..b@contoso.com",
            "a.@contoso.com",
            "a/../b@contoso.com",
            "../../bin/cp",
            "a@b@c.com",
            "a@contoso.com.",
            "a@.contoso.com",
            "a@contoso",
            "a%40contoso.com",
            "a@contoso.com\n",
            "a@contoso.com:x",
            "a@contoso.com,root",
            "o'brien@contoso.com",
            "a b@contoso.com",
            "a\0@contoso.com",
            "a\u{1b}[31m@contoso.com",
            "a\u{2028}@contoso.com",
            "\u{212a}im@contoso.com",
            "ａlice@contoso.com",
            "alice@xn--contso-rta.com",
            "1C0163C0-47e6-4577-8991-ea5c82e286e4",
            "1c0163c047e645778991ea5c82e286e4",
            &long,
        ] {
            assert!(LoginName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_sshds_match_pattern_covers_is_for_us() {
        assert!(LoginName::is_for_us("a#EXT#@contoso.com"));
        assert!(LoginName::is_for_us("1C0163C0-47e6-4577-8991-ea5c82e286e4"));
        assert!(!LoginName::is_for_us("azureuser"));
        assert!(!LoginName::is_for_us("1c0163c047e645778991ea5c82e286e4"));
    }
}
