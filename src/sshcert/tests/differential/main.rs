//! Our reading against `ssh-keygen -L`, which also checks the signature: 10,000 certificates from
//! mutated fields signed with the right key, 1,000 with bytes edited before signing, 2,000 with
//! bytes changed afterwards. Accept or refuse must agree, and so must every field; the only
//! excuse is a mark from the closed list in `refusals.rs` that also explains our error.
//!
//! Another seed: `NIGHTLATCH_SEED=7 cargo test -p nightlatch-sshcert --test differential`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

mod generate;
mod mutate;
mod oracle;
mod random;
mod refusals;

use std::collections::BTreeMap;

use generate::{Case, Keys};
use nightlatch_sshcert::{CertError, Certificate};
use oracle::Verdict;
use random::Random;
use refusals::Refusal;

const SEED: u64 = 0x6e69_6768_746c_6174;

/// Our verdict on a line: the two words, then the signature with the key named inside.
fn ours(line: &[u8]) -> Result<Certificate, CertError> {
    let text = str::from_utf8(line).map_err(|_| CertError::Base64)?;
    let (name, text) = text.split_once(' ').ok_or(CertError::KeyLine)?;
    let cert = Certificate::from_openssh(name, text)?;
    cert.verify_signature(cert.ca_key())?;
    Ok(cert)
}

#[derive(Default, Debug)]
struct Counts {
    both_accept: usize,
    both_refuse: usize,
    fields_compared: usize,
    unprintable: usize,
    deliberate: BTreeMap<Refusal, usize>,
    failures: Vec<String>,
}

fn compare(cases: &[Case]) -> Counts {
    let lines: Vec<_> = cases.iter().map(|case| case.line.clone()).collect();
    let mut counts = Counts::default();
    for (at, (case, verdict)) in cases.iter().zip(oracle::ask(&lines)).enumerate() {
        let ours = ours(&case.line);
        counts.unprintable += usize::from(verdict == Verdict::Unprintable);
        let shown = || String::from_utf8_lossy(&case.line).into_owned();
        match (&ours, &verdict) {
            (Err(_), Verdict::Refused) => counts.both_refuse += 1,
            (Err(error), _) => match case.marks.iter().find(|mark| mark.explains(*error)) {
                Some(mark) => *counts.deliberate.entry(*mark).or_default() += 1,
                None => counts.failures.push(format!("{at}: only we refuse ({error:?}): {}", shown())),
            },
            (Ok(cert), Verdict::Refused) => {
                counts.failures.push(format!("{at}: only we accept {cert:?}: {}", shown()));
            }
            (Ok(cert), Verdict::Unprintable) => {
                counts.both_accept += 1;
                assert!(!cert.critical_options().is_empty() || !cert.extensions().is_empty());
            }
            (Ok(cert), Verdict::Printed(theirs)) => {
                counts.both_accept += 1;
                if let Some(mine) = oracle::render(cert) {
                    counts.fields_compared += 1;
                    if mine != *theirs {
                        let (mine, theirs) = (mine.escape_ascii(), theirs.escape_ascii());
                        counts.failures.push(format!("{at}: fields differ:\n  {mine}\n  {theirs}"));
                    }
                }
            }
        }
    }
    counts
}

fn seed() -> u64 {
    std::env::var("NIGHTLATCH_SEED").ok().map_or(SEED, |text| text.parse().unwrap())
}

fn run(title: &str, count: usize, make: fn(&mut Random, &Keys) -> Case) -> (Counts, Vec<Case>) {
    let (seed, keys) = (seed(), Keys::new());
    let mut random = Random::new(seed);
    let cases: Vec<_> = (0..count).map(|_| make(&mut random, &keys)).collect();
    let counts = compare(&cases);
    println!("{title}: seed {seed}, {count} certificates");
    println!("  both accept {}, both refuse {}", counts.both_accept, counts.both_refuse);
    println!("  compared field by field {}, unprintable {}", counts.fields_compared, counts.unprintable);
    println!("  deliberate refusals {:?}", counts.deliberate);
    let shown = counts.failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(counts.failures.is_empty(), "{} disagreements:\n{shown}", counts.failures.len());
    (counts, cases)
}

#[test]
fn mutated_fields_agree_with_ssh_keygen() {
    let (counts, cases) = run("mutated fields", 10_000, generate::mutated);
    let deliberate: usize = counts.deliberate.values().sum();
    let accepted = counts.both_accept + deliberate;
    assert!(accepted * 10 >= 10_000 * 3, "ssh-keygen accepted only {accepted}");
    assert!(counts.both_accept * 10 >= 10_000 * 3, "both accepted only {}", counts.both_accept);
    assert!(counts.both_refuse > 1000, "both refused only {}", counts.both_refuse);
    assert!(counts.fields_compared * 2 > counts.both_accept);
    for refusal in Refusal::ALL {
        assert!(counts.deliberate.contains_key(refusal), "{refusal:?} never happened: take it off the list");
    }
    for case in &cases {
        assert!(case.marks.is_empty() || ours(&case.line).is_err(), "{:?} was accepted", case.marks);
    }
}

#[test]
fn bytes_edited_before_signing_agree_with_ssh_keygen() {
    let (counts, _) = run("edited before signing", 1_000, generate::edited);
    assert!(counts.both_accept > 200 && counts.both_refuse > 200, "{counts:?}");
}

#[test]
fn bytes_changed_after_signing_agree_with_ssh_keygen() {
    let (counts, _) = run("changed after signing", 2_000, generate::broken);
    assert!(counts.both_refuse > 1_900, "{counts:?}");
}

/// The list for people and the list for the machine are the same list.
#[test]
fn every_deliberate_refusal_is_written_down() {
    let text = include_str!("../../REFUSALS.md");
    let written: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let known: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.heading()).collect();
    assert_eq!(written, known);
}
