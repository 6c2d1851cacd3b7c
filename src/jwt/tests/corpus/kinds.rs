//! Classes 16 and 17: applications where people are expected, and tokens that are for something else: ID tokens,
//! refresh tokens, tokens of other types, tokens of another sign-in.

use nightlatch_jwt::{Expected, Kind, Refusal};

use crate::algorithm::Concat as _;
use crate::case::{Batch, Case, kind, user};
use crate::draft::{Draft, base64url, quoted};
use crate::kit::CLIENT;

pub(crate) fn cases() -> Vec<Case> {
    let mut application = Batch::of(16);
    applications(&mut application);
    scopes(&mut application);
    let mut other = Batch::of(17);
    id_as_access(&mut other);
    access_as_id(&mut other);
    types(&mut other);
    refresh_tokens(&mut other);
    nonces(&mut other);
    [application.done(), other.done()].concat_cases()
}

fn applications(batch: &mut Batch) {
    for (version, user) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        let named = |name: &str| format!("version {version}: {name}");
        let person = user.clone().with("roles", "[\"Node.Read.All\"]");
        let hostile = person.clone().without("scp");
        batch.add(named("roles and no scp"), &person, &hostile, Refusal::Application);
        let person = user.clone().with("roles", "[\"a\",\"b\",\"c\"]").with("azpacr", "\"2\"");
        let hostile = person.clone().without("scp");
        batch.add(named("three roles, a certificate and no scp"), &person, &hostile, Refusal::Application);
        let hostile = user.clone().without("scp").with("idtyp", "\"app\"");
        batch.add(named("idtyp app and no scp"), &user, &hostile, Refusal::Application);
        let person = user.clone().with("idtyp", "\"user\"");
        // Entra gives no application a scope; where a token says both, it says app.
        let hostile = user.clone().with("idtyp", "\"app\"");
        batch.add(named("idtyp app beside a scope"), &person, &hostile, Refusal::Application);
        let hostile =
            user.clone().without("scp").with("idtyp", "\"app\"").with("roles", "[\"Node.Read.All\"]");
        batch.add(named("idtyp app and roles"), &user, &hostile, Refusal::Application);
    }
    batch.add("an application's token", &Draft::v2(), &Draft::app(), Refusal::Application);
    let managed = Draft::app().with("xms_mirid", "\"/subscriptions/x/providers/Microsoft.Compute/vm\"");
    batch.add("a managed identity's token", &Draft::v2(), &managed, Refusal::Application);
    batch.expect(kind(Kind::AppAccess));
    for (name, scope) in [("a scope", "\"Node.Login\""), ("two scopes", "\"Node.Login Node.Read\"")] {
        let hostile = Draft::app().with("scp", scope);
        batch.add(
            format!("a person's where an application is expected: {name}"),
            &Draft::app(),
            &hostile,
            Refusal::NotAnAccessToken,
        );
    }
    let hostile = Draft::v2();
    batch.add(
        "a person's whole token for an application's",
        &Draft::app(),
        &hostile,
        Refusal::NotAnAccessToken,
    );
    let hostile = Draft::v2().with("roles", "[\"Node.Read.All\"]");
    batch.add(
        "a person's with roles for an application's",
        &Draft::app(),
        &hostile,
        Refusal::NotAnAccessToken,
    );
    batch.judged("an application's for a person", &Draft::app(), user(), Refusal::Application);
    batch.expect(user());
    batch.judged(
        "a person's for an application",
        &Draft::v2(),
        kind(Kind::AppAccess),
        Refusal::NotAnAccessToken,
    );
}

/// A scope that is none, and scopes that are not a text.
fn scopes(batch: &mut Batch) {
    batch.expect(user());
    for (version, twin) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        for raw in ["\"\"", "\" \"", "\"   \""] {
            let hostile = twin.clone().with("scp", raw);
            batch.add(format!("version {version}: scp {raw}"), &twin, &hostile, Refusal::NotAnAccessToken);
        }
        for raw in ["5", "true", "null", "[]", "[\"Node.Login\"]", "{}", "{\"0\":\"Node.Login\"}"] {
            let hostile = twin.clone().with("scp", raw);
            batch.add(format!("version {version}: scp {raw}"), &twin, &hostile, Refusal::Malformed("scp"));
        }
        let hostile = twin.clone().without("scp").with("scope", "\"Node.Login\"");
        batch.add(format!("version {version}: scope for scp"), &twin, &hostile, Refusal::NotAnAccessToken);
    }
}

fn id_as_access(batch: &mut Batch) {
    for (version, twin) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        let hostile = twin.clone().without("scp");
        batch.add(format!("version {version}: no scp"), &twin, &hostile, Refusal::NotAnAccessToken);
        for (name, claim, raw) in [
            ("nonce", "nonce", "\"n-0S6_WzA2Mj\""),
            ("at_hash", "at_hash", "\"77QmUPtjPfzWtF2AnpK9RQ\""),
            ("c_hash", "c_hash", "\"LDktKdoQak3Pk0cnXxCltA\""),
            ("idtyp user", "idtyp", "\"user\""),
        ] {
            let twin = twin.clone().with(claim, raw);
            let hostile = twin.clone().without("scp");
            batch.add(
                format!("version {version}: no scp, {name}"),
                &twin,
                &hostile,
                Refusal::NotAnAccessToken,
            );
        }
    }
    batch.add("an ID token whole", &Draft::v2(), &Draft::id(), Refusal::NotAnAccessToken);
    batch.expect(kind(Kind::Id));
    batch.judged("an ID token for an access token", &Draft::id(), user(), Refusal::NotAnAccessToken);
}

fn access_as_id(batch: &mut Batch) {
    batch.expect(kind(Kind::Id));
    let twin = Draft::id();
    for (claim, raw) in [
        ("scp", "\"Node.Login\""),
        ("scp", "\"openid profile\""),
        ("scp", "\"\""),
        ("idtyp", "\"app\""),
        // What only an access token says: which application it was issued to, and how that proved itself.
        ("appid", "\"7d3e9b52-16f8-4c0a-b7d5-2e94a1c6830f\""),
        ("appidacr", "\"0\""),
        ("azpacr", "\"1\""),
    ] {
        let hostile = twin.clone().with(claim, raw);
        batch.add(format!("an ID token with {claim} {raw}"), &twin, &hostile, Refusal::NotAnIdToken);
    }
    batch.add("a person's access token", &twin, &Draft::v2(), Refusal::NotAnIdToken);
    batch.add("a person's access token of version 1.0", &twin, &Draft::v1(), Refusal::NotAnIdToken);
    batch.add("an application's access token", &twin, &Draft::app(), Refusal::NotAnIdToken);
    batch.expect(kind(Kind::AppAccess));
    let twin = Draft::app();
    let nothing = twin.clone().without("roles").without("idtyp");
    batch.add(
        "an application's token that opens nothing",
        &twin.clone().without("idtyp"),
        &nothing,
        Refusal::NotAnAccessToken,
    );
    batch.expect(user());
    batch.judged("an access token for an ID token", &Draft::v2(), kind(Kind::Id), Refusal::NotAnIdToken);
}

fn types(batch: &mut Batch) {
    batch.expect(user());
    let twin = Draft::v2();
    for raw in [
        "\"at+jwt\"",
        "\"AT+JWT\"",
        "\"application/at+jwt\"",
        "\"application/jwt\"",
        "\"pop\"",
        "\"PoP\"",
        "\"dpop+jwt\"",
        "\"id_token\"",
        "\"JOSE\"",
        "\"JOSE+JSON\"",
        "\"JWE\"",
        "\"JWS\"",
        "\"logout+jwt\"",
        "\"secevent+jwt\"",
        "\"kb+jwt\"",
        "\"oauth-authz-req+jwt\"",
        "\"client-authentication+jwt\"",
        "\"\"",
        "\"JWT \"",
        "\" JWT\"",
        "\"JWT\\u0000\"",
        "\"JWTx\"",
        "\"J\\u1e85T\"",
        "\"\\uff2aWT\"",
        "null",
        "0",
        "true",
        "[]",
        "[\"JWT\"]",
        "{}",
    ] {
        batch.add(format!("typ {raw}"), &twin, &twin.clone().head("typ", raw), Refusal::Type);
    }
    for (name, twin, as_kind) in
        [("ID", Draft::id(), Kind::Id), ("application's", Draft::app(), Kind::AppAccess)]
    {
        batch.expect(kind(as_kind));
        let hostile = twin.clone().head("typ", "\"at+jwt\"");
        batch.add(format!("typ at+jwt in an {name} token"), &twin, &hostile, Refusal::Type);
    }
}

/// Refresh tokens and codes are not signed tokens at all.
fn refresh_tokens(batch: &mut Batch) {
    batch.expect(user());
    let twin = Draft::v2();
    let blob = base64url([0x5a; 600]);
    for (name, text) in [
        ("refresh token", format!("0.{blob}")),
        ("refresh token of one part", blob.clone()),
        ("refresh token of four parts", format!("1.AXoAGo4cX7Rz.AgABAwEAAAD.{blob}")),
        ("authorization code", format!("M.C5{blob}")),
        (
            "primary refresh token cookie of five parts",
            format!("{}.{blob}.{blob}.{blob}.{blob}", twin.parts()[0]),
        ),
        ("client secret", "abc8Q~2kq3vE0mJ6u2nXw1Zr8sT5yB7cD9fG4hL".to_owned()),
    ] {
        batch.text(format!("{name} for an access token"), &twin, text, Refusal::NotCompact);
    }
    // Three parts between two dots, and the first is no header.
    let text = format!("0.AXoAGo4cX7Rz.{blob}");
    batch.text("refresh token of three parts", &twin, text, Refusal::Base64);
}

fn nonces(batch: &mut Batch) {
    let nonce = "n-0S6_WzA2Mj";
    for (name, twin, as_kind) in [
        ("an ID token", Draft::id(), Kind::Id),
        ("a token", Draft::v2().with("nonce", quoted(nonce)), Kind::UserAccess),
    ] {
        batch.expect(Expected { nonce: Some(nonce.to_owned()), ..kind(as_kind) });
        batch.add(format!("{name} without a nonce"), &twin, &twin.clone().without("nonce"), Refusal::Nonce);
        for other in [
            "",
            "n",
            "n-0S6_WzA2M",
            "n-0S6_WzA2Mjx",
            "N-0S6_WzA2Mj",
            "n-0S6_WzA2Mj ",
            "n-0S6_WzA2Mj\0",
            CLIENT,
        ] {
            let hostile = twin.clone().with("nonce", quoted(other));
            batch.add(format!("{name} with nonce {other:?}"), &twin, &hostile, Refusal::Nonce);
        }
        for raw in ["null", "5", "true", "[]", "{}", &format!("[{}]", quoted(nonce))] {
            let hostile = twin.clone().with("nonce", raw);
            batch.add(format!("{name} with nonce {raw}"), &twin, &hostile, Refusal::Malformed("nonce"));
        }
        let elsewhere = Expected { nonce: Some("another".to_owned()), ..kind(as_kind) };
        batch.judged(format!("{name} for another sign-in"), &twin, elsewhere, Refusal::Nonce);
    }
}
