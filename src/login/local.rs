//! The local accounts of the node, whose names are never taken from Entra.

use std::collections::HashSet;

use nightlatch_model::LoginName;

/// The names in /etc/passwd.
#[derive(Debug, Clone, Default)]
pub struct LocalNames(HashSet<String>);

impl LocalNames {
    /// Reads the text of /etc/passwd.
    #[must_use]
    pub fn from_passwd(text: &str) -> Self {
        let names = text.lines().filter_map(|line| line.split(':').next());
        Self(names.filter(|name| !name.is_empty() && *name != "+").map(str::to_ascii_lowercase).collect())
    }

    /// Whether there is a local account of exactly this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// True when the name, or its part before the `@`, is a local account: `root@contoso.com`
    /// looks too much like root, in logs and to a person (SSSD CVE-2025-11561 and its kin).
    #[must_use]
    pub fn shadows(&self, name: &LoginName) -> bool {
        let local = name.local_part().unwrap_or_else(|| name.as_str());
        local == "root" || self.0.contains(local) || self.0.contains(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_bug_row_30_local_accounts_are_never_shadowed() {
        let local = LocalNames::from_passwd("root:x:0:0::/root:/bin/sh\nazureuser:x:1000:1000::/:/bin/sh\n");
        for name in ["root@contoso.com", "azureuser@contoso.com", "azureuser@other.example"] {
            assert!(local.shadows(&LoginName::parse(name).unwrap()), "{name}");
        }
        assert!(LocalNames::default().shadows(&LoginName::parse("root@contoso.com").unwrap()));
        assert!(!local.shadows(&LoginName::parse("alice@contoso.com").unwrap()));
    }
}
