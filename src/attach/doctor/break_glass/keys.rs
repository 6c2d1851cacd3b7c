//! The lines of a key file as sshd(8) reads them: which of them let somebody in, and under what limits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nightlatch_model::Timestamp;

use crate::attach::glob;

/// The kinds of keys, with how many fields follow the name in the blob (RFC 4253, 5656, 8709; PROTOCOL.u2f).
const KINDS: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
    ("ssh-rsa", 2),
];

/// One key with the options before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its kind.
    pub(super) kind: &'static str,
    options: Vec<String>,
}

/// The keys of a file; lines that sshd cannot read are skipped, as it skips them.
pub(super) fn parse(text: &str) -> Vec<Key> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(key).collect()
}

fn key(line: &str) -> Option<Key> {
    if let Some(kind) = bare_key(line) {
        return Some(Key { kind, options: Vec::new() });
    }
    let (options, rest) = options(line);
    bare_key(rest.trim_start()).map(|kind| Key { kind, options })
}

/// The kind of `KIND BASE64 …`, when the blob is one of that kind.
fn bare_key(text: &str) -> Option<&'static str> {
    let mut words = text.split_whitespace();
    let (name, base64) = (words.next()?, words.next()?);
    let (kind, fields) = KINDS.into_iter().find(|(kind, _)| *kind == name)?;
    let blob = STANDARD.decode(base64).ok()?;
    let mut rest = blob.as_slice();
    if field(&mut rest)? != kind.as_bytes() {
        return None;
    }
    for _ in 0..fields {
        field(&mut rest).filter(|bytes| !bytes.is_empty())?;
    }
    rest.is_empty().then_some(kind)
}

/// Takes one length-prefixed field off the front.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (bytes, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// Splits the options off: commas part them, and a space outside of quotes ends them.
fn options(line: &str) -> (Vec<String>, &str) {
    let mut options = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            ' ' | '\t' if !quoted => return (options, line.get(at..).unwrap_or("")),
            ',' if !quoted => options.push(String::new()),
            _ => {
                quoted ^= c == '"' && !escaped;
                if let Some(last) = options.last_mut() {
                    last.push(c);
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    (options, "")
}

impl Key {
    fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| {
            let (key, value) = option.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"'))
        })
    }

    /// Why it lets nobody in.
    pub(super) fn fault(&self, algorithms: &str, now: Timestamp) -> Option<String> {
        let kind = self.kind;
        if self.options.iter().any(|option| option.eq_ignore_ascii_case("cert-authority")) {
            return Some("it signs certificates, and is no login key".to_owned());
        }
        if let Some(time) = self.value("expiry-time").filter(|time| has_passed(time, now)) {
            return Some(format!("its expiry-time {time} has passed"));
        }
        (!accepted(kind, algorithms)).then(|| format!("sshd takes no {kind} (PubkeyAcceptedAlgorithms)"))
    }

    /// What it may not do, or from where; empty when it is a plain login.
    pub(super) fn limits(&self) -> Vec<&'static str> {
        let command = self.value("command").map(|_| "command");
        let from = self.value("from").map(|_| "from");
        let expiry = self.value("expiry-time").map(|_| "expiry-time");
        command.into_iter().chain(from).chain(expiry).collect()
    }
}

/// Whether sshd would verify a signature of such a key; an RSA key signs in three ways.
fn accepted(kind: &str, algorithms: &str) -> bool {
    let ways: &[&str] =
        if kind == "ssh-rsa" { &["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"] } else { &[kind] };
    // What is not printed cannot be judged.
    algorithms.is_empty()
        || algorithms.split(',').any(|pattern| ways.iter().any(|way| glob::matches(pattern, way)))
}

/// `YYYYMMDD[HHMM[SS]][Z]`; to the day, because without `Z` it is the machine's own time.
fn has_passed(time: &str, now: Timestamp) -> bool {
    let number = |from: usize, to: usize| time.get(from..to).and_then(|digits| digits.parse::<u16>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(4, 6), number(6, 8)) else {
        // sshd refuses a key whose time it cannot read.
        return true;
    };
    let small = |value: u16| u8::try_from(value).unwrap_or(0);
    let start = Timestamp::from_civil(i64::from(year), small(month), small(day), 0, 0, 0);
    start.is_none_or(|start| now.since(start) >= 24 * 60 * 60)
}

/// A key of this kind, with fields of zeros.
#[cfg(test)]
pub(super) fn made(kind: &str) -> String {
    let fields = KINDS.into_iter().find(|(known, _)| *known == kind).map_or(1, |(_, fields)| fields);
    let mut blob = Vec::new();
    for bytes in std::iter::once(kind.as_bytes()).chain(std::iter::repeat_n([0_u8; 32].as_slice(), fields)) {
        blob.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        blob.extend(bytes);
    }
    format!("{kind} {}", STANDARD.encode(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_civil(2026, 11, 20, 12, 0, 0).unwrap()
    }

    #[test]
    fn every_kind_is_read_with_and_without_options() {
        for (kind, _) in KINDS {
            let key = made(kind);
            assert_eq!(parse(&key), [Key { kind, options: Vec::new() }]);
            let line =
                format!("restrict,command=\"echo \\\"a, b\\\"\",from=\"10.0.0.0/8\" {key} me@home # x");
            let found = parse(&line);
            assert_eq!(found.len(), 1, "{line}");
            assert_eq!(found[0].limits(), ["command", "from"]);
        }
    }

    #[test]
    fn what_is_no_key_is_skipped() {
        let good = made("ssh-ed25519");
        let base64 = good.split_once(' ').unwrap().1;
        for line in [
            "",
            "# comment",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-ed25519 not*base64",
            &format!("ssh-rsa {base64}"),
            &format!("ssh-dss {base64}"),
            &format!("ssh-ed25519 {}", base64.get(..base64.len() - 4).unwrap()),
            "command=\"x ssh-ed25519 AAAA",
        ] {
            assert_eq!(parse(line), [], "{line}");
        }
        assert_eq!(parse(&format!("garbage\n\n{good} a\n")).len(), 1);
    }

    #[test]
    fn a_key_that_lets_nobody_in_says_why() {
        let of = |options: &str, kind: &str| parse(&format!("{options}{}", made(kind))).remove(0);
        let all = "ssh-ed25519,rsa-sha2-512";
        let ed = |options: &str| of(options, "ssh-ed25519").fault(all, now());
        assert_eq!(ed(""), None);
        assert_eq!(of("", "ssh-rsa").fault(all, now()), None);
        assert_eq!(of("", "ssh-rsa").fault("", now()), None);
        assert!(of("", "ecdsa-sha2-nistp256").fault(all, now()).unwrap().contains("ecdsa-sha2-nistp256"));
        assert_eq!(of("", "ecdsa-sha2-nistp256").fault("ecdsa-*", now()), None);
        assert!(ed("cert-authority ").unwrap().contains("certificates"));
        assert!(ed("expiry-time=\"20261118\" ").unwrap().contains("has passed"));
        assert_eq!(ed("expiry-time=\"20261120\" "), None);
        assert_eq!(ed("expiry-time=\"202701011200Z\" "), None);
        assert!(ed("expiry-time=\"soon\" ").is_some());
        assert_eq!(of("expiry-time=\"20270101\" ", "ssh-rsa").limits(), ["expiry-time"]);
    }
}
