//! Classes 11, 12, 22 and 23: a person is a tenant and an object id, whatever the token calls them; and a token is
//! theirs who asked, through the application that asked. (nOAuth, CVE-2024-9313, GHSA-6gp8-pp9v-gx45, CVE-2026-39388.)

use nightlatch_jwt::{Expected, Kind, Refusal};
use nightlatch_model::ObjectId;

use crate::algorithm::Concat as _;
use crate::case::{Batch, Case, kind, user};
use crate::draft::{Draft, quoted};
use crate::kit::{ALICE, APP, BOB, CLIENT, OTHER_CLIENT, OTHER_TENANT, TENANT, v2_issuer};

pub(crate) fn cases() -> Vec<Case> {
    let mut names = Batch::of(11);
    victims_names(&mut names);
    let mut again = Batch::of(12);
    names_used_again(&mut again);
    let mut cross = Batch::of(22);
    crosswise(&mut cross);
    aliases(&mut cross);
    let mut renewed = Batch::of(23);
    renewals(&mut renewed);
    clients(&mut renewed);
    [names.done(), again.done(), cross.done(), renewed.done()].concat_cases()
}

fn object(id: &str) -> ObjectId {
    id.parse().expect("a GUID")
}

fn only(id: &str) -> Expected {
    Expected { person: Some(object(id)), ..user() }
}

/// Everything in the token names Alice; only its object id does not.
fn victims_names(batch: &mut Batch) {
    batch.expect(only(ALICE));
    let victim = "alice@example.com";
    for (version, base) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        for (claim, raw) in [
            ("email", quoted(victim)),
            ("email", quoted("Alice@Example.com")),
            ("upn", quoted(victim)),
            ("unique_name", quoted(victim)),
            ("preferred_username", quoted(victim)),
            ("verified_primary_email", format!("[{}]", quoted(victim))),
            ("verified_secondary_email", format!("[{}]", quoted(victim))),
            ("email_verified", "true".to_owned()),
            ("xms_edov", "true".to_owned()),
            ("login_hint", quoted(victim)),
            ("name", quoted("Alice Example")),
            ("puid", quoted("100320012345ABCD")),
            ("altsecid", quoted("5::100320012345ABCD")),
            ("onprem_sid", quoted("S-1-5-21-1-2-3-500")),
            ("objectid", quoted(ALICE)),
            ("http://schemas.microsoft.com/identity/claims/objectidentifier", quoted(ALICE)),
            ("act", format!("{{\"oid\":{}}}", quoted(ALICE))),
            ("sub", quoted(ALICE)),
            ("sid", quoted(ALICE)),
        ] {
            let twin = base.clone().with(claim, &raw);
            let hostile = twin.clone().with("oid", quoted(BOB));
            batch.add(format!("version {version}: {claim} {raw}"), &twin, &hostile, Refusal::Person);
        }
    }
}

/// The name is the leaver's, the object id the joiner's.
fn names_used_again(batch: &mut Batch) {
    batch.expect(only(ALICE));
    for (version, twin) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        let reversed = "701c9f1a-2e5b-684d-a4c1-f07e8b2d6395";
        for (name, joiner) in [
            ("another", BOB.to_owned()),
            ("nobody", "00000000-0000-0000-0000-000000000000".to_owned()),
            ("everybody", "ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned()),
            ("one digit at the start", ALICE.replacen('1', "0", 1)),
            ("one digit at the end", format!("{}6", &ALICE[..35])),
            ("one digit in the middle", ALICE.replace("a4c1", "a4c2")),
            ("the first bytes in the other order", reversed.to_owned()),
            ("the tenant", TENANT.to_owned()),
            ("the application", APP.to_owned()),
            ("the client", CLIENT.to_owned()),
        ] {
            let hostile = twin.clone().with("oid", quoted(&joiner));
            batch.add(format!("version {version}: {name}"), &twin, &hostile, Refusal::Person);
        }
        let hostile = twin.clone().without("oid");
        batch.add(format!("version {version}: no oid at all"), &twin, &hostile, Refusal::Missing("oid"));
    }
}

/// Each asks for each other's.
fn crosswise(batch: &mut Batch) {
    let people = [ALICE, BOB, TENANT, OTHER_CLIENT, "00000000-0000-0000-0000-000000000001"];
    for (version, base) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        for (asking, me) in people.into_iter().enumerate() {
            batch.expect(only(me));
            let twin = base.clone().with("oid", quoted(me));
            for (owner, you) in people.into_iter().enumerate().filter(|(owner, _)| *owner != asking) {
                let hostile = base.clone().with("oid", quoted(you));
                let name = format!("version {version}: number {asking} gets the token of number {owner}");
                batch.add(name, &twin, &hostile, Refusal::Person);
            }
        }
    }
    for (name, twin, as_kind) in
        [("ID token", Draft::id(), Kind::Id), ("application's token", Draft::app(), Kind::AppAccess)]
    {
        let expected = |id| Expected { person: Some(object(id)), ..kind(as_kind) };
        batch.expect(expected(ALICE));
        let hostile = twin.clone().with("oid", quoted(BOB));
        batch.add(format!("another's {name}"), &twin, &hostile, Refusal::Person);
        batch.judged(format!("an {name} for another's question"), &twin, expected(BOB), Refusal::Person);
    }
}

/// Bob's token, in which other claims are spelled like Alice's.
fn aliases(batch: &mut Batch) {
    batch.expect(only(ALICE));
    for name in [
        "ALICE@EXAMPLE.COM",
        "alice",
        "alice@example.com.",
        "alice%40example.com",
        "a\u{301}lice@example.com",
        "\u{ff41}lice@example.com",
        "alice@example.com#EXT#@example.com",
    ] {
        let twin = Draft::v1().with("upn", quoted(name)).with("unique_name", quoted(name));
        let hostile = twin.clone().with("oid", quoted(BOB));
        batch.add(format!("another who is called {name:?}"), &twin, &hostile, Refusal::Person);
    }
}

/// What a renewed token must still be: the same person's, for the same audience, through the same client.
fn renewals(batch: &mut Batch) {
    for (version, twin, client) in [("1.0", Draft::v1(), "appid"), ("2.0", Draft::v2(), "azp")] {
        batch.expect(Expected { clients: vec![CLIENT.to_owned()], ..only(ALICE) });
        for (name, hostile, wanted) in [
            ("another person", twin.clone().with("oid", quoted(BOB)), Refusal::Person),
            ("another client", twin.clone().with(client, quoted(OTHER_CLIENT)), Refusal::Client),
            ("no client", twin.clone().without(client), Refusal::Client),
            ("another audience", twin.clone().with("aud", quoted(OTHER_CLIENT)), Refusal::Audience),
            ("another tenant", twin.clone().with("tid", quoted(OTHER_TENANT)), Refusal::Tenant),
            ("another issuer", twin.clone().with("iss", quoted(&v2_issuer(OTHER_TENANT))), Refusal::Issuer),
        ] {
            batch.add(format!("version {version}: {name}"), &twin, &hostile, wanted);
        }
    }
    let twin = Draft::app();
    batch.expect(Expected {
        clients: vec![CLIENT.to_owned()],
        person: Some(object(ALICE)),
        ..kind(Kind::AppAccess)
    });
    let hostile = twin.clone().with("azp", quoted(OTHER_CLIENT));
    batch.add("an application's through another client", &twin, &hostile, Refusal::Client);
    batch.add("another application's", &twin, &twin.clone().with("oid", quoted(BOB)), Refusal::Person);
    let twin = Draft::id();
    batch.expect(Expected { nonce: Some("n-0S6_WzA2Mj".to_owned()), ..kind(Kind::Id) });
    let hostile = twin.clone().with("nonce", "\"of another sign-in\"");
    batch.add("an ID token of another sign-in", &twin, &hostile, Refusal::Nonce);
}

fn clients(batch: &mut Batch) {
    for (version, twin, client, other) in
        [("1.0", Draft::v1(), "appid", "azp"), ("2.0", Draft::v2(), "azp", "appid")]
    {
        batch.expect(Expected { clients: vec![CLIENT.to_owned()], ..user() });
        for name in ["", "*", &format!("{CLIENT} "), &format!("{CLIENT},{OTHER_CLIENT}"), &CLIENT[..35], APP]
        {
            let hostile = twin.clone().with(client, quoted(name));
            batch.add(format!("version {version}: client {name:?}"), &twin, &hostile, Refusal::Client);
        }
        for raw in ["5", "null", "true", "[]", "{}", &format!("[{}]", quoted(CLIENT))] {
            let hostile = twin.clone().with(client, raw);
            batch.add(
                format!("version {version}: {client} {raw}"),
                &twin,
                &hostile,
                Refusal::Malformed(client),
            );
        }
        let hostile = twin.clone().without(client).with(other, quoted(CLIENT));
        batch.add(format!("version {version}: {other} for {client}"), &twin, &hostile, Refusal::Client);
        let elsewhere = Expected { clients: vec![OTHER_CLIENT.to_owned()], ..user() };
        batch.judged(format!("version {version}: where another may"), &twin, elsewhere, Refusal::Client);
    }
}
