//! The line for sshd: what the printer makes and what the checker lets through.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may stop at the first surprise

use nightlatch_wire::hammer::{Xorshift, hammer};
use nightlatch_wire::line::{AdmitLine, CA_KEY_TYPES, Expiry, LineError, LineOptions, is_admit_line};

const KEY: &str = "AAAAB3NzaC1yc2EAAAADAQABAAABAQ==";
const PLAIN: &str = "restrict,pty,cert-authority,principals=\"ann@contoso.com\",expiry-time=\"20261121223000Z\" \
                     ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ==";

fn end() -> Expiry {
    Expiry::utc((2026, 11, 21, 22, 30, 0)).unwrap()
}

fn make(principal: &str, kind: &str, key: &str) -> Result<AdmitLine, LineError> {
    AdmitLine::new(LineOptions::default(), principal, end(), kind, key)
}

#[test]
fn prints_exactly_the_documented_line() {
    let line = make("ann@contoso.com", "ssh-rsa", KEY).unwrap();
    assert_eq!(line.as_str(), PLAIN);
    assert_eq!(line.to_string().as_bytes(), line.as_bytes());
    assert!(is_admit_line(line.as_bytes()));
}

#[test]
fn every_combination_of_options_and_types_passes_the_checker_once_and_in_order() {
    let mut seen = std::collections::BTreeSet::new();
    for bits in 0..8 {
        let options = LineOptions {
            port_forwarding: bits & 1 != 0,
            agent_forwarding: bits & 2 != 0,
            x11_forwarding: bits & 4 != 0,
        };
        for kind in CA_KEY_TYPES {
            for zone in [Expiry::utc, Expiry::local] {
                let expires = zone((2026, 1, 2, 3, 4, 5)).unwrap();
                let line = AdmitLine::new(options, "Ann.B+c_d-e@contoso.com", expires, kind, KEY).unwrap();
                assert!(is_admit_line(line.as_bytes()), "{line}");
                assert!(line.as_str().starts_with("restrict,pty,"), "{line}");
                assert_eq!(line.as_str().contains(",port-forwarding,"), options.port_forwarding);
                assert_eq!(line.as_str().contains(",agent-forwarding,"), options.agent_forwarding);
                assert_eq!(line.as_str().contains(",X11-forwarding,"), options.x11_forwarding);
                seen.insert(line.into_string());
            }
        }
    }
    assert_eq!(seen.len(), 8 * 4 * 2);
}

/// CVE-2026-35414: sshd split a principal at its comma.
#[test]
fn cve_2026_35414_comma_principals_are_refused() {
    for principal in ["deploy,root", "root,", ",root", ",", "ann@contoso.com,root"] {
        assert_eq!(make(principal, "ssh-rsa", KEY), Err(LineError::Principal), "{principal}");
        let forged = PLAIN.replace("ann@contoso.com", principal);
        assert!(!is_admit_line(forged.as_bytes()), "{forged}");
    }
}

/// Option injection: a quote, newline, space, backslash or control byte ends the value in sshd's parser.
#[test]
fn option_injection_through_any_value_is_refused() {
    let hostile = [
        "",
        "\"",
        "a\"",
        "a\",command=\"id",
        "a\nssh-rsa AAAA",
        "a\r",
        "a b",
        " a",
        "a\t",
        "a\\",
        "a\\\"",
        "a\0",
        "root\0x",
        "a=b",
        "a#",
        "a'",
        "a/b",
        "../a",
        "a*",
        "a?",
        "!a",
        "a%u",
        "é",
        "a\u{202e}",
        "a\u{ff20}b",
    ];
    for value in hostile {
        assert_eq!(make(value, "ssh-rsa", KEY), Err(LineError::Principal), "{value:?}");
        assert_eq!(make("a", value, KEY), Err(LineError::KeyType), "{value:?}");
        let key = format!("AAAA{value}");
        if !value.is_empty() {
            assert_eq!(make("a", "ssh-rsa", &key), Err(LineError::Key), "{value:?}");
        }
        for part in ["ann@contoso.com", "ssh-rsa", "pty", "20261121223000Z", KEY] {
            let forged = PLAIN.replacen(part, value, 1);
            // An option left out is another grammar, and refused as well.
            assert!(!is_admit_line(forged.as_bytes()), "{forged:?}");
        }
        assert_eq!(Expiry::parse(value), Err(LineError::Expiry));
    }
}

#[test]
fn lines_that_sshd_would_take_and_we_never_say_are_refused() {
    for line in [
        "",
        "\n",
        "ssh-rsa AAAA",
        "cert-authority ssh-rsa AAAA",
        "restrict,pty,cert-authority ssh-rsa AAAA",
        "restrict,pty,cert-authority,principals=\"a\" ssh-rsa AAAA",
        "pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,pty,agent-forwarding,port-forwarding,cert-authority,principals=\"a\",\
         expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,pty,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,pty,port-forwarding,port-forwarding,cert-authority,principals=\"a\",\
         expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,pty,user-rc,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\",command=\"x\" ssh-rsa AAAA",
        "restrict,pty,cert-authority,principals=\"a\",principals=\"b\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
        "restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-dss AAAA",
        "restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA comment",
        "restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA\n",
        "restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa  AAAA",
        " restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA",
    ] {
        assert!(!is_admit_line(line.as_bytes()), "{line:?}");
    }
    let good = "restrict,pty,cert-authority,principals=\"a\",expiry-time=\"20261121223000Z\" ssh-rsa AAAA";
    assert!(is_admit_line(good.as_bytes()), "the twin that all of the above differ from");
    assert!(!is_admit_line(format!("{good}\n{good}").as_bytes()));
}

#[test]
fn dates_that_do_not_exist_are_refused_by_both_halves() {
    let cases = [
        ("20261121223000", true),
        ("20261121223000Z", true),
        ("20240229000000Z", true),
        ("20000229235959", true),
        ("19700101000000Z", true),
        ("99991231235959Z", true),
        ("20250229000000Z", false),
        ("21000229000000Z", false),
        ("20261301000000Z", false),
        ("20260001000000Z", false),
        ("20261100000000Z", false),
        ("20261131000000Z", false),
        ("20261121240000Z", false),
        ("20261121226000Z", false),
        ("20261121223060Z", false),
        ("19691231235959Z", false),
        ("2026112122300", false),
        ("202611212230000", false),
        ("20261121223000ZZ", false),
        ("20261121223000z", false),
        ("+0261121223000Z", false),
        ("2026 121223000Z", false),
        ("always", false),
        ("", false),
    ];
    for (text, sound) in cases {
        let parsed = Expiry::parse(text);
        assert_eq!(parsed.is_ok(), sound, "{text}");
        assert_eq!(is_admit_line(PLAIN.replace("20261121223000Z", text).as_bytes()), sound, "{text}");
        if let Ok(expiry) = parsed {
            assert_eq!(expiry.to_string(), text);
        }
    }
    for civil in
        [(10_000, 1, 1, 0, 0, 0), (-1, 1, 1, 0, 0, 0), (2026, 2, 30, 0, 0, 0), (i64::MAX, 1, 1, 0, 0, 0)]
    {
        assert_eq!(Expiry::utc(civil), Err(LineError::Expiry));
        assert_eq!(Expiry::local(civil), Err(LineError::Expiry));
    }
}

#[test]
fn keys_that_are_not_canonical_base64_are_refused_by_both_halves() {
    let most = "A".repeat(8 * 1024);
    let cases = [
        ("AAAA", true),
        ("AA==", true),
        ("AAA=", true),
        ("//8=", true),
        ("+/+/", true),
        (most.as_str(), true),
        ("", false),
        ("A", false),
        ("AA", false),
        ("AAA", false),
        ("AAAAA", false),
        ("A===", false),
        ("====", false),
        ("=", false),
        ("AA=A", false),
        ("AA==AAAA", false),
        ("AAAA====", false),
        ("AB==", false), // spare bits are not zero
        ("AAB=", false),
        ("AA-_", false),
        ("AAA\n", false),
    ];
    let longer = format!("{most}AAAA");
    for (key, sound) in cases.into_iter().chain([(longer.as_str(), false)]) {
        let start = key.get(..16).unwrap_or(key);
        assert_eq!(make("a", "ssh-rsa", key).is_ok(), sound, "{start:?}");
        assert_eq!(is_admit_line(PLAIN.replace(KEY, key).as_bytes()), sound, "{start:?}");
    }
}

#[test]
fn principal_length_has_its_limit_in_both_halves() {
    for (size, sound) in [(1, true), (128, true), (129, false), (4_096, false)] {
        let principal = "p".repeat(size);
        assert_eq!(make(&principal, "ssh-rsa", KEY).is_ok(), sound, "{size}");
        assert_eq!(is_admit_line(PLAIN.replace("ann@contoso.com", &principal).as_bytes()), sound, "{size}");
    }
}

#[test]
fn hostile_inputs_become_an_error_or_one_line_that_the_checker_accepts() {
    let tally = hammer(20_261_121, 100_000).unwrap();
    assert_eq!(tally.refused + tally.printed, 100_000);
    assert!(tally.printed > 5_000 && tally.refused > 40_000, "both ways were taken: {tally:?}");
    assert_eq!(hammer(20_261_121, 100_000).unwrap(), tally, "the same seed gives the same run");
}

/// A damaged line is refused, or it is a line that the printer itself would make of those values.
#[test]
fn damage_never_opens_the_grammar() {
    let mut random = Xorshift::new(3);
    let mut still_fine = 0;
    for _ in 0..20_000 {
        let mut bytes = PLAIN.as_bytes().to_vec();
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes.insert(at, random.pick(b"\",\n =Z0a\0\\")),
            _ => drop(bytes.remove(at)),
        }
        if !is_admit_line(&bytes) {
            continue;
        }
        still_fine += 1;
        let text = String::from_utf8(bytes).unwrap();
        let principal = text.split("principals=\"").nth(1).unwrap().split('"').next().unwrap();
        let end = text.split("expiry-time=\"").nth(1).unwrap().split('"').next().unwrap();
        let (kind, key) = text.rsplit_once("\" ").unwrap().1.split_once(' ').unwrap();
        let again = AdmitLine::new(LineOptions::default(), principal, Expiry::parse(end).unwrap(), kind, key);
        assert_eq!(again.unwrap().as_str(), text);
    }
    assert!(still_fine > 500, "{still_fine}");
}
