//! `ssh-keygen -L` as the judge: many certificates per process, one answer per line.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use nightlatch_sshcert::{CertKind, Certificate, KeyType, RawOption};

/// What ssh-keygen made of one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It took the certificate and printed this.
    Printed(Vec<u8>),
    /// It took the certificate and gave up on printing it.
    Unprintable,
    /// It refused.
    Refused,
}

/// Asks about all lines.
pub(crate) fn ask(lines: &[Vec<u8>]) -> Vec<Verdict> {
    lines.chunks(500).flat_map(ask_some).collect()
}

fn ask_some(lines: &[Vec<u8>]) -> Vec<Verdict> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&lines.join(&b'\n')).unwrap();
    file.write_all(b"\n").unwrap();
    let output = Command::new("ssh-keygen")
        .args(["-L", "-f", "-"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .stdin(Stdio::from(file.reopen().unwrap()))
        .output()
        .expect("ssh-keygen (package openssh-client) is needed");
    match output.status.code() {
        Some(0 | 1) => {
            let printed = split(&output.stdout);
            let answer = |at| printed.get(&at).cloned().map_or(Verdict::Refused, Verdict::Printed);
            (1..=lines.len()).map(answer).collect()
        }
        // It stops at an option that it cannot print, and what it printed before is lost.
        Some(255) if lines.len() == 1 => vec![Verdict::Unprintable],
        Some(255) => lines.chunks(lines.len().div_ceil(20)).flat_map(ask_some).collect(),
        other => panic!("ssh-keygen ended with {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Cuts the output at its `(stdin):LINE:` headings.
fn split(output: &[u8]) -> HashMap<usize, Vec<u8>> {
    let mut blocks = HashMap::new();
    let mut current: Option<(usize, Vec<u8>)> = None;
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        let heading = line.strip_prefix(b"(stdin):").and_then(|rest| rest.strip_suffix(b":\n"));
        match heading.and_then(|number| str::from_utf8(number).ok()?.parse().ok()) {
            Some(number) => blocks.extend(current.replace((number, Vec::new()))),
            None => current.as_mut().expect("a heading comes first").1.extend_from_slice(line),
        }
    }
    blocks.extend(current);
    blocks
}

/// What ssh-keygen should print, written from our reading of the certificate. `None` stands for
/// times beyond the year 9999, where its output is not defined.
pub(crate) fn render(cert: &Certificate) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let short = |key: KeyType| match key {
        KeyType::Rsa => "RSA",
        KeyType::EcdsaP256 | KeyType::EcdsaP384 => "ECDSA",
        KeyType::Ed25519 => "ED25519",
    };
    let (subject, ca) = (cert.subject_key(), cert.ca_key());
    let kind = if cert.kind() == CertKind::User { "user" } else { "host" };
    let name = subject.key_type().cert_name();
    writeln!(out, "        Type: {name} {kind} certificate").unwrap();
    writeln!(out, "        Public key: {}-CERT {}", short(subject.key_type()), subject.fingerprint())
        .unwrap();
    let algorithm = cert.signature_algorithm().name();
    let authority = short(ca.key_type());
    writeln!(out, "        Signing CA: {authority} {} (using {algorithm})", ca.fingerprint()).unwrap();
    out.extend([b"        Key ID: \"", cert.key_id_bytes(), b"\"\n"].concat());
    writeln!(out, "        Serial: {}", cert.serial()).unwrap();
    let valid = match (cert.valid_after(), cert.valid_before()) {
        (0, u64::MAX) => "forever".to_owned(),
        (0, before) => format!("before {}", date(before)?),
        (after, u64::MAX) => format!("after {}", date(after)?),
        (after, before) => format!("from {} to {}", date(after)?, date(before)?),
    };
    writeln!(out, "        Valid: {valid}").unwrap();
    let none = |empty: bool| if empty { "(none)\n" } else { "\n" };
    write!(out, "        Principals: {}", none(cert.principals().is_empty())).unwrap();
    for principal in cert.principals() {
        writeln!(out, "                {principal}").unwrap();
    }
    for (title, options, critical) in
        [("Critical Options", cert.critical_options(), true), ("Extensions", cert.extensions(), false)]
    {
        write!(out, "        {title}: {}", none(options.is_empty())).unwrap();
        for option in options {
            write!(out, "                {}", option.name()).unwrap();
            out.extend(value(option, critical));
            out.push(b'\n');
        }
    }
    Some(out)
}

fn value(option: &RawOption, critical: bool) -> Vec<u8> {
    let data = option.data();
    match (critical, option.name()) {
        (true, "force-command" | "source-address") => {
            let nested = data.get(4..).unwrap_or_default();
            [b" ", nested.strip_suffix(b"\0").unwrap_or(nested)].concat()
        }
        (false, "permit-pty" | "permit-user-rc" | "no-touch-required" | "permit-X11-forwarding") => {
            data.to_vec()
        }
        (false, "permit-agent-forwarding" | "permit-port-forwarding") => data.to_vec(),
        _ if data.is_empty() => b" UNKNOWN FLAG OPTION".to_vec(),
        _ => {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            format!(" UNKNOWN OPTION: {hex} (len {})", data.len()).into_bytes()
        }
    }
}

/// Unix seconds as `YYYY-MM-DDTHH:MM:SS` in UTC (days to civil date, proleptic Gregorian).
fn date(unix: u64) -> Option<String> {
    if unix > 253_402_300_799 {
        return None;
    }
    let (mut days, second) = (unix / 86_400, unix % 86_400);
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    Some(format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}", days + 1, second % 60))
}
