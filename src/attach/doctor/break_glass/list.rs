//! The names of the accounts kept for emergencies, as sessiond reads them as well. A name goes into the
//! arguments of sshd and sudo, so nothing else than a plain local name passes.

/// Where they stand.
pub const FILE: &str = "/etc/nightlatch/break-glass";
/// The largest list, in bytes.
const MAX_LIST_BYTES: usize = 4 * 1024;
/// The longest name of a local account, in bytes (useradd(8)).
const MAX_NAME_BYTES: usize = 32;
/// The most accounts that are looked at in one run: each asks sshd and sudo.
const MAX_NAMES: usize = 16;

/// Whether this may be a local account's name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= MAX_NAME_BYTES
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads the list: one name a line, `#` begins a comment; a name that comes again counts once.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    if text.len() > MAX_LIST_BYTES {
        return Err(format!("is {} bytes long: {MAX_LIST_BYTES} are read", text.len()));
    }
    let mut names: Vec<String> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or("").trim();
        if name.is_empty() || names.iter().any(|known| known == name) {
            continue;
        }
        if !is_name(name) {
            return Err(format!("line {} is not the name of one local account", at.saturating_add(1)));
        }
        names.push(name.to_owned());
    }
    if names.len() > MAX_NAMES {
        return Err(format!("names {} accounts: {MAX_NAMES} are looked at", names.len()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_a_line() {
        let names = parse("# for emergencies\n\nbreakglass # the safe's\n  root\nbreakglass\n").unwrap();
        assert_eq!(names, ["breakglass", "root"]);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        assert!(parse("a\nb c\n").unwrap_err().contains("line 2"));
        for name in ["-l", "a,b", "a=b", "alice@contoso.com", "é", ".", &"x".repeat(33), "a\u{0}"] {
            assert!(parse(name).is_err(), "{name}");
        }
        assert!(parse(&"#".repeat(4096)).is_ok());
        assert!(parse(&"#".repeat(4097)).unwrap_err().contains("4096"));
        let many = |count: u32| (0..count).map(|n| format!("a{n}\n")).collect::<String>();
        assert_eq!(parse(&many(16)).map(|names| names.len()), Ok(16));
        assert!(parse(&many(17)).unwrap_err().contains("17"));
    }
}
