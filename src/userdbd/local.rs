//! The local accounts of this node, for which userdbd never answers.
//!
//! Built from `/etc/passwd` as it stands. `root` is local whatever the file says.

use std::collections::HashSet;

use nightlatch_model::{LoginName, is_our_uid};

/// The largest `/etc/passwd` that is read, in bytes.
pub(crate) const MAX_PASSWD_BYTES: u64 = 16 * 1024 * 1024;

/// The names in `/etc/passwd`, and its uids that lie in our range.
#[derive(Debug, Default)]
pub(crate) struct Local {
    names: HashSet<String>,
    uids: HashSet<u32>,
}

impl Local {
    /// Reads the lines of `/etc/passwd`. Lines that are not UTF-8 up to the first colon cannot
    /// collide with one of our names and are passed over.
    #[must_use]
    pub(crate) fn parse(passwd: &[u8]) -> Self {
        let mut local = Self::default();
        local.names.insert("root".to_owned());
        for line in passwd.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':');
            let Some(Ok(name)) = fields.next().map(std::str::from_utf8) else { continue };
            if !name.is_empty() {
                // Our names are lower case; `Alice` and `alice` must not be two people.
                local.names.insert(name.to_ascii_lowercase());
            }
            let uid = fields.nth(1).and_then(|field| std::str::from_utf8(field).ok()?.parse().ok());
            local.uids.extend(uid.filter(|uid| is_our_uid(*uid)));
        }
        local
    }

    /// True when the whole name, in any case, stands in `/etc/passwd`.
    #[must_use]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// True when the name is a local account's, or would be mistaken for one without its domain,
    /// as `root@contoso.com` would.
    #[must_use]
    pub(crate) fn hides(&self, name: &LoginName) -> bool {
        self.has(name.as_str()) || name.local_part().is_some_and(|local| self.has(local))
    }

    /// True when a local account has a uid of our range.
    #[must_use]
    pub(crate) fn owns(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uids_are_found() {
        let text = b"daemon:x:1:1::/:/bin/sh\nAzureUser:x:1000:1000::/:/bin/sh\nodd@contoso.com:x:1900000000:1::/:\n\
            \xff\xfe:x:1:1\n\n+::::::\n#comment\nshort";
        let local = Local::parse(text);
        let name = |text| LoginName::parse(text).unwrap();
        for hidden in ["root@t.com", "daemon@t.com", "azureuser@t.com", "odd@contoso.com", "short@t.com"] {
            assert!(local.hides(&name(hidden)), "{hidden}");
        }
        assert!(!local.hides(&name("alice@contoso.com")));
        assert!(!local.hides(&name("odd@fabrikam.com")));
        assert!(local.owns(1_900_000_000));
        assert!(!local.owns(1000), "uids below our range do not matter here");
    }

    #[test]
    fn root_is_local_even_in_an_empty_file() {
        assert!(Local::parse(b"").hides(&LoginName::parse("root@contoso.com").unwrap()));
    }
}
