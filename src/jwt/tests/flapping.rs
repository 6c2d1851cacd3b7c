//! 140 days of a key set that behaves as Entra's was measured to (reference/04 §2.1): keys come, live for weeks, vanish
//! from the document for hours and come back. Nobody whose token is good may be refused meanwhile.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test binary: its figures are for the reader, and what it cannot make is a failed test"
)]

use std::collections::HashMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_jwt::{Algorithm, Expected, KEY_GRACE_S, KeySet, Refetch, Refusal, validate};
use nightlatch_model::Timestamp;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const AUDIENCE: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const DAYS: i64 = 140;
/// How often the document is fetched without a reason: what Microsoft's documentation advises.
const POLL: i64 = 24 * HOUR;
/// Keys of the history, as many as were seen.
const KEYS: usize = 42;
/// How often a key vanished and came back.
const FLAPS: usize = 123;
const SEED: u64 = 0x6e69_6768_746c_6174;

/// A small generator, so that the history is the same each time (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        i64::try_from(random).unwrap() % end
    }

    /// A gap: half up to 3 h, most up to 24 h, none longer than 48 h.
    fn gap(&mut self) -> i64 {
        match self.below(10) {
            0..=4 => HOUR / 2 + self.below(5 * HOUR / 2),
            5..=8 => 3 * HOUR + self.below(21 * HOUR),
            _ => 24 * HOUR + self.below(24 * HOUR),
        }
    }
}

/// A signing key, and when the document names it.
struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
    from: i64,
    to: i64,
    gaps: Vec<(i64, i64)>,
}

impl Signer {
    fn is_named(&self, at: i64) -> bool {
        (self.from..self.to).contains(&at) && !self.gaps.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    fn jwk(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let issuer = "https://login.microsoftonline.com/{tenantid}/v2.0";
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"{}","x":"{x}","issuer":"{issuer}"}}"#,
            self.kid
        )
    }

    fn token(&self, now: i64) -> String {
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = part(format!(r#"{{"typ":"JWT","alg":"EdDSA","kid":"{}"}}"#, self.kid));
        let payload = part(format!(
            r#"{{"iss":"https://login.microsoftonline.com/{TENANT}/v2.0","aud":"{AUDIENCE}","tid":"{TENANT}","ver":"2.0",
            "oid":"aaaaaaaa-0000-4000-8000-000000000001","sub":"s","scp":"user.read",
            "iat":{now},"nbf":{now},"exp":{}}}"#,
            now + HOUR
        ));
        let signed = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// The history: a key lives about 35 days, 61 at most; one comes every three days.
fn history(chance: &mut Chance) -> Vec<Signer> {
    let mut signers: Vec<Signer> = (0..KEYS)
        .map(|number| {
            let from = i64::try_from(number).unwrap() * DAYS * DAY / 42 - 20 * DAY;
            let life = if number == 7 { 14 * HOUR } else { 9 * DAY + chance.below(52 * DAY) };
            let pair = Ed25519KeyPair::generate().unwrap();
            Signer { kid: format!("key-{number:02}"), pair, from, to: from + life, gaps: Vec::new() }
        })
        .collect();
    for flap in 0..FLAPS {
        let signer = &mut signers[8 + flap % 34];
        let from = signer.from + 3 * DAY + chance.below((signer.to - signer.from - 5 * DAY).max(DAY));
        signer.gaps.push((from, from + chance.gap()));
    }
    signers
}

fn document(signers: &[Signer], at: i64) -> String {
    let named: Vec<String> = signers.iter().filter(|one| one.is_named(at)).map(Signer::jwk).collect();
    format!(r#"{{"keys":[{}]}}"#, named.join(","))
}

/// Somebody who checks tokens: fetches now and then, and when a key is unknown.
struct Checker {
    keys: KeySet,
    replaces: bool,
    refetch: Refetch,
    fetches: Vec<i64>,
    /// When a fetched document last named a key.
    seen: HashMap<String, i64>,
    refused: usize,
}

impl Checker {
    fn new(replaces: bool) -> Self {
        let (keys, refetch) = (KeySet::default(), Refetch::default());
        Self { keys, replaces, refetch, fetches: Vec::new(), seen: HashMap::new(), refused: 0 }
    }

    fn fetch(&mut self, signers: &[Signer], at: i64) {
        if self.replaces {
            self.keys = KeySet::default();
        }
        self.keys.merge(document(signers, at).as_bytes(), Timestamp(at)).unwrap();
        signers.iter().filter(|one| one.is_named(at)).for_each(|one| {
            self.seen.insert(one.kid.clone(), at);
        });
    }

    fn check(&mut self, signers: &[Signer], signer: &Signer, at: i64) -> Result<(), Refusal> {
        let tenant = TENANT.parse().unwrap();
        let expected = Expected { algorithms: vec![Algorithm::EdDsa], ..Expected::person(tenant, AUDIENCE) };
        let token = signer.token(at);
        let ask = |keys: &KeySet| validate(&token, &expected, keys, Timestamp(at)).map(drop);
        let first = ask(&self.keys);
        if first != Err(Refusal::UnknownKey) || !self.refetch.wait(at).is_zero() {
            return first;
        }
        self.refetch.took(at);
        self.fetches.push(at);
        self.fetch(signers, at);
        ask(&self.keys)
    }
}

#[test]
fn no_token_of_a_key_seen_in_72_hours_is_refused_in_140_days_of_flapping() {
    let mut chance = Chance(SEED);
    let signers = history(&mut chance);
    let (mut ours, mut baseline) = (Checker::new(false), Checker::new(true));
    let (mut asked, mut next_poll) = (0, 0);
    for at in (0..DAYS * DAY).step_by(600) {
        if at >= next_poll {
            ours.fetch(&signers, at);
            baseline.fetch(&signers, at);
            next_poll = at + POLL - HOUR + chance.below(2 * HOUR);
        }
        // Whoever is served by a front end that still signs with a key, named by the others or not.
        let living: Vec<&Signer> = signers.iter().filter(|one| (one.from..one.to).contains(&at)).collect();
        let signer = living[usize::try_from(chance.below(i64::try_from(living.len()).unwrap())).unwrap()];
        asked += 1;
        let seen = ours.seen.get(&signer.kid).is_some_and(|seen| at - seen <= KEY_GRACE_S);
        let answer = ours.check(&signers, signer, at);
        if let Err(refusal) = answer {
            assert!(!seen, "{} at {at}: {refusal}", signer.kid);
            ours.refused += 1;
        }
        baseline.refused += usize::from(baseline.check(&signers, signer, at).is_err());
    }
    let gap = |fetches: &[i64]| fetches.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(i64::MAX);
    println!(
        "{asked} tokens in {DAYS} days: merging refused {} of keys that no document had named, {} fetches; replacing \
         refused {}, {} fetches",
        ours.refused,
        ours.fetches.len(),
        baseline.refused,
        baseline.fetches.len()
    );
    assert!(gap(&ours.fetches) >= 60 && gap(&baseline.fetches) >= 60);
    assert!(baseline.refused > 20, "the baseline must show what merging is for: {}", baseline.refused);
    assert!(ours.refused * 10 < baseline.refused, "{} of {asked}", ours.refused);
    assert!(ours.keys.len() < 40, "{} keys are kept", ours.keys.len());
}

#[test]
fn a_clock_that_was_ahead_or_is_behind_empties_nothing() {
    let mut chance = Chance(SEED);
    let signers = history(&mut chance);
    let named = |at: i64| signers.iter().filter(|one| one.is_named(at)).count();
    let now = 50 * DAY;
    for wrong in [now + 5 * DAY, now + 400 * DAY, now - 5 * DAY, now - 400 * DAY] {
        let mut keys = KeySet::default();
        keys.merge(document(&signers, now).as_bytes(), Timestamp(now)).unwrap();
        keys.merge(document(&signers, now).as_bytes(), Timestamp(wrong)).unwrap();
        assert_eq!(keys.len(), named(now), "under the wrong clock");
        keys.merge(document(&signers, now + HOUR).as_bytes(), Timestamp(now + HOUR)).unwrap();
        assert!(keys.len() >= named(now + HOUR), "and after it");
        assert_eq!(keys.newest(), Some(Timestamp(now + HOUR)));
    }
}

#[test]
fn the_set_outlives_a_restart_and_a_clock_that_was_wrong() {
    let mut chance = Chance(SEED);
    let signers = history(&mut chance);
    let mut before = Checker::new(false);
    before.fetch(&signers, 50 * DAY);
    let saved = before.keys.save().unwrap();
    let signer = signers.iter().find(|one| one.is_named(50 * DAY)).unwrap();

    let mut after = Checker::new(false);
    after.refetch.took(0);
    after.keys = KeySet::restore(&saved, Timestamp(51 * DAY)).unwrap();
    assert_eq!(after.check(&signers, signer, 51 * DAY), Ok(()), "without any fetch");
    // Cut off for longer than the grace: the last document is still the last word, but not for ever.
    assert_eq!(after.check(&signers, signer, 60 * DAY), Ok(()));
    after.refetch.took(100 * DAY);
    assert_eq!(after.check(&signers, signer, 100 * DAY), Err(Refusal::UnknownKey));

    // Saved under a clock that was ahead: it counts as seen now, and is forgotten like any other.
    let mut back = KeySet::restore(&saved, Timestamp(10 * DAY)).unwrap();
    assert_eq!(back.newest(), Some(Timestamp(10 * DAY)));
    back.merge(document(&signers, 10 * DAY).as_bytes(), Timestamp(14 * DAY)).unwrap();
    assert_eq!(back.len(), signers.iter().filter(|one| one.is_named(10 * DAY)).count());

    let damaged = [&saved[..saved.len() / 2], b"", b"{\"keys\":1}", b"[]"];
    for damaged in damaged {
        assert!(KeySet::restore(damaged, Timestamp(0)).is_err());
    }
}
