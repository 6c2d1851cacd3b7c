//! Class 8: times, and what is said of a token that is both expired and forged. (CVE-2024-51744: only "expired" was
//! said, and somebody forgave it.)

use nightlatch_jwt::{Expected, MAX_LIFETIME_S, Refusal};

use crate::case::{Batch, Case, user};
use crate::draft::{Draft, Signer, quoted};
use crate::kit::{BOB, OTHER_TENANT, kit, now};

pub(crate) fn cases() -> Vec<Case> {
    let mut batch = Batch::of(8);
    forged(&mut batch);
    expired(&mut batch);
    early(&mut batch);
    lifetimes(&mut batch);
    leeways(&mut batch);
    batch.done()
}

/// A draft with these times, relative to now.
fn at(iat: i64, nbf: i64, exp: i64) -> Draft {
    Draft::v2().with("iat", now() + iat).with("nbf", now() + nbf).with("exp", now() + exp)
}

/// Whatever else is wrong, a forged signature is what is said.
fn forged(batch: &mut Batch) {
    let twin = Draft::v2();
    let stranger = &kit().stranger;
    for (name, other) in [
        ("expired a minute ago", at(-7_200, -7_200, -61)),
        ("expired a year ago", at(-31_540_000, -31_540_000, -31_536_000)),
        ("expired in 1970", twin.clone().with("exp", 1)),
        ("not valid yet", at(0, 3_600, 7_200)),
        ("issued in the future", at(3_600, 3_600, 7_200)),
        ("living for ever", twin.clone().with("exp", 253_402_300_799_i64)),
        ("without exp", twin.clone().without("exp")),
        ("exp as a text", twin.clone().with("exp", "\"soon\"")),
        ("for another audience", twin.clone().with("aud", "\"https://graph.microsoft.com\"")),
        ("of another tenant", twin.clone().with("tid", quoted(OTHER_TENANT))),
        ("of another issuer", twin.clone().with("iss", "\"https://example.com/\"")),
        ("of another version", twin.clone().with("ver", "\"9.9\"")),
        ("without a scope", twin.clone().without("scp")),
        ("with oid twice", twin.clone().also("oid", quoted(BOB))),
        ("bound to a key", twin.clone().with("cnf", "{}")),
        ("of a guest", twin.clone().with("acct", 1)),
        ("of an application", Draft::app()),
        ("with a list as groups", twin.clone().with("groups", "[\"admins\"]")),
    ] {
        let hostile = other.by(Signer::Rs256(stranger));
        batch.add(format!("{name}, and forged"), &twin, &hostile, Refusal::Signature);
    }
    let old = at(-7_200, -7_200, -3_600);
    for (name, signer) in [
        ("an empty signature", Signer::Bytes(Vec::new())),
        ("256 zeros", Signer::Bytes(vec![0; 256])),
        ("PSS", Signer::Ps256(&kit().primary)),
        ("SHA-512", Signer::Rs512(&kit().primary)),
        ("another key of the set", Signer::Rs256(&kit().exact)),
    ] {
        batch.add(format!("expired, with {name}"), &twin, &old.clone().by(signer), Refusal::Signature);
    }
    let [_, fresh, _] = twin.parts();
    let [header, stale, signature] = old.parts();
    let hostile = format!("{header}.{fresh}.{signature}");
    batch.text("expired, and given new times without signing", &twin, hostile, Refusal::Signature);
    let [_, _, signature] = twin.parts();
    let hostile = format!("{header}.{stale}.{signature}");
    batch.text("expired, with the signature of a fresh one", &twin, hostile, Refusal::Signature);
    let forger = twin.clone().by(Signer::Rs256(stranger));
    for (name, payload) in [("cut off", "{\"exp\":1"), ("empty", ""), ("a list", "[]"), ("of blanks", "   ")]
    {
        let hostile = forger.sealed(twin.header.text(), payload);
        batch.text(format!("a payload {name}, and forged"), &twin, hostile, Refusal::Signature);
    }
}

fn expired(batch: &mut Batch) {
    let twin = Draft::v2();
    for seconds in [60, 61, 120, 300, 301, 3_600, 86_400] {
        let hostile = at(-seconds - 3_600, -seconds - 3_600, -seconds);
        batch.add(format!("expired {seconds} s ago"), &twin, &hostile, Refusal::Expired);
    }
    let v1 = Draft::v1();
    let hostile = v1.clone().with("exp", now() - 60);
    batch.add("version 1.0, expired 60 s ago", &v1, &hostile, Refusal::Expired);
    // The other claims do not make up for it.
    for (name, claim, raw) in [
        ("a refresh_in", "refresh_in", "86400"),
        ("an ext_expires_in", "ext_expires_in", "86400"),
        ("continuous access evaluation", "xms_cc", "[\"cp1\"]"),
        ("a second EXP", "EXP", "253402300799"),
    ] {
        let twin = twin.clone().with(claim, raw);
        let hostile = twin.clone().with("exp", now() - 60);
        batch.add(format!("expired, with {name}"), &twin, &hostile, Refusal::Expired);
    }
}

fn early(batch: &mut Batch) {
    let twin = Draft::v2();
    for seconds in [61, 120, 301, 3_600, 4_000] {
        let hostile = twin.clone().with("nbf", now() + seconds);
        batch.add(format!("valid in {seconds} s"), &twin, &hostile, Refusal::NotYetValid);
        let hostile = twin.clone().with("iat", now() + seconds);
        batch.add(format!("issued in {seconds} s"), &twin, &hostile, Refusal::IssuedInFuture);
    }
    let v1 = Draft::v1();
    let hostile = v1.clone().with("nbf", now() + 61);
    batch.add("version 1.0, valid in 61 s", &v1, &hostile, Refusal::NotYetValid);
    let hostile = v1.clone().with("iat", now() + 61);
    batch.add("version 1.0, issued in 61 s", &v1, &hostile, Refusal::IssuedInFuture);
}

fn lifetimes(batch: &mut Batch) {
    let twin = at(0, 0, MAX_LIFETIME_S);
    for more in [1, 60, 3_600, 86_400 * 365] {
        let hostile = at(0, 0, MAX_LIFETIME_S + more);
        batch.add(format!("28 h and {more} s"), &twin, &hostile, Refusal::Lifetime);
    }
    for (name, twin, hostile) in [
        ("begun long before it was issued", at(0, 0, 3_600), at(0, 3_600 - MAX_LIFETIME_S - 1, 3_600)),
        ("issued long before it began", at(0, 0, 3_600), at(3_600 - MAX_LIFETIME_S - 1, 0, 3_600)),
        ("begun and issued long ago", at(0, 0, 3_600), at(-200_000, -200_000, 3_600)),
        ("ending when it was issued", at(0, 0, 1), at(0, 0, 0)),
        ("ending before it was issued", at(-60, -60, -30), at(-10, -60, -30)),
        ("ending when it was issued, within the leeway", at(-60, -60, 30), at(30, -60, 30)),
        ("ending just before it was issued", at(-60, -60, -1), at(0, -60, -1)),
    ] {
        batch.add(name, &twin, &hostile, Refusal::Lifetime);
    }
}

/// The leeway is the caller's, and has an end.
fn leeways(batch: &mut Batch) {
    for (leeway_s, real) in
        [(0, 0), (1, 1), (299, 299), (300, 300), (301, 300), (1_000_000, 300), (i64::MAX, 300)]
    {
        batch.expect(Expected { leeway_s, ..user() });
        let twin = at(-3_600, -3_600, 1 - real);
        let name = format!("leeway {leeway_s}: expired {real} s ago");
        batch.add(name, &twin, &at(-3_600, -3_600, -real), Refusal::Expired);
        let twin = at(0, real, 4_000);
        let name = format!("leeway {leeway_s}: valid in {} s", real + 1);
        batch.add(name, &twin, &at(0, real + 1, 4_000), Refusal::NotYetValid);
        let twin = at(real, 0, 4_000);
        let name = format!("leeway {leeway_s}: issued in {} s", real + 1);
        batch.add(name, &twin, &at(real + 1, 0, 4_000), Refusal::IssuedInFuture);
    }
    for (name, token, leeway_s, wanted) in [
        ("expired 30 s ago, without leeway", at(-3_600, -3_600, -30), 0, Refusal::Expired),
        ("valid in 30 s, without leeway", at(0, 30, 3_600), 0, Refusal::NotYetValid),
        ("issued in 30 s, without leeway", at(30, 0, 3_600), 0, Refusal::IssuedInFuture),
        ("expired now, without leeway", at(-3_600, -3_600, 0), 0, Refusal::Expired),
    ] {
        batch.expect(user());
        batch.judged(name, &token, Expected { leeway_s, ..user() }, wanted);
    }
}
