//! GUIDs as Entra prints them: tenants, people, service principals, groups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Why a text is not a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a GUID: expected 32 hexadecimal digits, with or without dashes in 8-4-4-4-12 form")]
pub struct GuidError;

/// A GUID, compared by value; printed in lower case with dashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

impl Guid {
    /// The GUID with these bytes, in the order in which they are printed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes in the order in which they are printed.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    /// Accepts the dashed form and the bare 32 digits: the policy decision point answers
    /// without dashes, everything else with them. Case does not matter.
    fn from_str(text: &str) -> Result<Self, GuidError> {
        let dashed = text.len() == 36;
        if !dashed && text.len() != 32 {
            return Err(GuidError);
        }
        let mut bytes = [0_u8; 16];
        let mut digits = 0_usize;
        for (at, byte) in text.bytes().enumerate() {
            if dashed && matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(GuidError);
                }
                continue;
            }
            let value = char::from(byte).to_digit(16).and_then(|v| u8::try_from(v).ok()).ok_or(GuidError)?;
            let slot = bytes.get_mut(digits / 2).ok_or(GuidError)?;
            *slot = (*slot << 4) | value;
            digits += 1;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! guid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Guid);

        impl FromStr for $name {
            type Err = GuidError;
            fn from_str(text: &str) -> Result<Self, GuidError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

guid_newtype! {
    /// An Entra tenant (`tid`).
    TenantId
}
guid_newtype! {
    /// A person, a service principal or a group in one tenant (`oid`).
    ObjectId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_printed_forms_are_one_value() {
        let dashed: Guid = "1C0163C0-47e6-4577-8991-ea5c82e286e4".parse().unwrap();
        let bare: Guid = "1c0163c047e645778991ea5c82e286e4".parse().unwrap();
        assert_eq!(dashed, bare);
        assert_eq!(bare.to_string(), "1c0163c0-47e6-4577-8991-ea5c82e286e4");
    }

    #[test]
    fn near_misses_are_refused() {
        for text in [
            "",
            "1c0163c0",
            "1c0163c0-47e6-4577-8991-ea5c82e286e",
            "1c0163c0-47e6-4577-8991-ea5c82e286e4 ",
            "1c0163c0_47e6_4577_8991_ea5c82e286e4",
            "1c0163c04-7e6-4577-8991-ea5c82e286e4",
            "gc0163c047e645778991ea5c82e286e4",
            "１c0163c0-47e6-4577-8991-ea5c82e286",
        ] {
            assert_eq!(text.parse::<Guid>(), Err(GuidError), "{text}");
        }
    }
}
