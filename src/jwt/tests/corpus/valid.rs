//! Tokens that must be accepted: every form that Entra gives them, every optional claim with and without, and each
//! limit on its good side.

use nightlatch_jwt::{Algorithm, Claims, Evidence, Expected, Groups, Kind, MAX_LIFETIME_S, MAX_TOKEN_BYTES};

use crate::case::{Batch, Given, kind, user};
use crate::draft::{Draft, Object, Signer, base64url, quoted};
use crate::form::padded_to;
use crate::groups::many;
use crate::kit::{
    ALICE, APP_URI, CLIENT, DEVICE, GROUP, OTHER_TENANT, TENANT, keys_and, kit, now, v1_issuer, v2_issuer,
};

/// A valid token, and what must be read from it.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) given: Given,
    pub(crate) says: fn(&Claims) -> bool,
}

/// Collects variants.
struct Variants {
    batch: Batch,
    list: Vec<Variant>,
}

impl Variants {
    fn add(&mut self, name: &str, draft: &Draft) {
        self.says(name, draft, |claims| claims.oid.to_string() == ALICE);
    }

    fn says(&mut self, name: &str, draft: &Draft, says: fn(&Claims) -> bool) {
        self.text(name, draft.text(), says);
    }

    fn text(&mut self, name: &str, token: String, says: fn(&Claims) -> bool) {
        self.list.push(Variant { name: name.to_owned(), given: self.batch.given(token), says });
    }

    fn expect(&mut self, expected: Expected) {
        self.batch.expect(expected);
    }
}

pub(crate) fn variants() -> Vec<Variant> {
    let mut all = Variants { batch: Batch::of(0), list: Vec::new() };
    forms(&mut all);
    headers(&mut all);
    spellings(&mut all);
    optional_claims(&mut all);
    groups(&mut all);
    times(&mut all);
    kinds(&mut all);
    expectations(&mut all);
    keys(&mut all);
    all.list
}

fn forms(all: &mut Variants) {
    all.says("version 1.0", &Draft::v1(), |claims| {
        claims.issuer == v1_issuer(TENANT)
            && claims.audience == APP_URI
            && claims.client.as_deref() == Some(CLIENT)
            && claims.user_name.as_deref() == Some("alice@example.com")
            && claims.amr.as_deref() == Some(&["pwd".to_owned(), "mfa".to_owned()])
            && claims.device.is_some_and(|id| id.to_string() == DEVICE)
            && claims.auth_time.is_some_and(|at| at.0 == now() - 600)
            && claims.address.as_deref() == Some("203.0.113.7")
    });
    all.says("version 2.0", &Draft::v2(), |claims| {
        claims.issuer == v2_issuer(TENANT)
            && claims.tenant.to_string() == TENANT
            && claims.client.as_deref() == Some(CLIENT)
            && claims.user_name.as_deref() == Some("alice@example.com")
            && claims.scopes == ["Node.Login"]
            && claims.groups == Groups::Unsaid
            && claims.expires.0 == now() + 4_200
            && (claims.amr.is_none() && claims.device.is_none() && claims.guest.is_none())
            && claims.token_id.as_deref() == Some("hV3kPq8sW0ePdXJmYzQAAA")
    });
    all.add("the key of our tenant alone", &Draft::v2().under(&kit().exact));
    all.add("version 2.0 for the audience as a URI", &Draft::v2().with("aud", quoted(APP_URI)));
    let bare = ["uti", "rh", "name", "azp", "azpacr", "preferred_username"];
    all.add("only what must be there", &bare.iter().fold(Draft::v2(), |draft, claim| draft.without(claim)));
    let full = padded_to(&Draft::v2(), MAX_TOKEN_BYTES);
    all.add("16 KiB to the byte", &full);
    all.add("one byte less", &padded_to(&Draft::v2(), MAX_TOKEN_BYTES - 1));
}

fn headers(all: &mut Variants) {
    let base = Draft::v2();
    all.add("no typ", &base.clone().unhead("typ"));
    for typ in ["jwt", "Jwt", "jWT"] {
        all.add(&format!("typ {typ}"), &base.clone().head("typ", quoted(typ)));
    }
    all.add("x5t, as version 1.0 has it", &Draft::v1().head("x5t", quoted(kit().legacy.kid)));
    all.add("x5t#S256", &base.clone().head("x5t#S256", "\"abc\""));
    all.add("an unknown member", &base.clone().head("xms_x", "{\"a\":[1,2,3]}"));
    let turned = Object(base.header.0.iter().rev().cloned().collect());
    all.add("members in the other order", &Draft { header: turned, ..base.clone() });
    let escaped = base.clone().unhead("alg").head("\\u0061lg", "\"RS\\u003256\"");
    all.add("escapes in the header", &escaped);
    let header = base.header.text().replace(',', " ,\r\n\t").replace(':', " : ");
    all.text("blanks in the header", base.sealed(format!(" {header}\n"), base.claims.text()), |_| true);
}

fn spellings(all: &mut Variants) {
    let base = Draft::v2();
    let text = base.claims.text();
    all.text(
        "blanks around the claims",
        base.sealed(base.header.text(), format!("\n\t {text} \r\n")),
        |_| true,
    );
    let wide = text.replacen(",\"", " ,\n\"", 50);
    all.text("blanks between the claims", base.sealed(base.header.text(), wide), |_| true);
    let turned = Object(base.claims.0.iter().rev().cloned().collect());
    all.add("claims in the other order", &Draft { claims: turned, ..base.clone() });
    let issuer = format!("\"{}\"", v2_issuer(TENANT).replace('/', "\\/"));
    all.add("slashes with an escape", &base.clone().with("iss", issuer));
    all.add("an escape in a name", &base.clone().without("oid").with("\\u006fid", quoted(ALICE)));
    all.says(
        "names in other scripts",
        &base.clone().with("name", "\"Zoë 王小明 Ольга \u{1f642}\""),
        |_| true,
    );
    all.says("a surrogate pair", &base.clone().with("name", "\"\\ud83d\\ude42\""), |_| true);
    all.says(
        "a user name in another script",
        &base.clone().with("preferred_username", "\"ольга@example.com\""),
        |claims| claims.user_name.as_deref() == Some("ольга@example.com"),
    );
    all.add("a claim of another case", &base.clone().with("OID", "\"x\"").with("Exp", 1));
    all.add(
        "unknown claims of every type",
        &base.clone().with("x", "[null,true,1.5,-3,\"\",{},[],{\"a\":[{}]}]"),
    );
    all.add(
        "an unknown claim with 1,000 items",
        &base.clone().with("x", format!("[{}]", vec!["0"; 1_000].join(","))),
    );
    all.add("four levels", &base.clone().with("x", "{\"a\":{\"b\":{\"c\":1}}}"));
    all.add("the same name in two objects", &base.with("x", "{\"oid\":1}").with("y", "{\"oid\":2}"));
}

fn optional_claims(all: &mut Variants) {
    let optional =
        ["acr", "amr", "acrs", "deviceid", "auth_time", "ipaddr", "groups", "unique_name", "upn", "appidacr"];
    for claim in optional {
        all.add(&format!("version 1.0 without {claim}"), &Draft::v1().without(claim));
    }
    for (claim, raw) in [
        ("idtyp", "\"user\""),
        ("acct", "0"),
        ("wids", "[\"62e90394-69f5-4237-9190-012177145e10\"]"),
        ("wids", "[]"),
        ("xms_cc", "[\"cp1\"]"),
        ("roles", "[\"Node.Admin\"]"),
        ("scp", "\"Node.Login Node.Read profile\""),
        ("amr", "[]"),
        ("acrs", "[\"c1\",\"c99\"]"),
        ("email", "\"alice@example.com\""),
        ("onprem_sid", "\"S-1-5-21-1-2-3-1001\""),
        ("nonce", "\"n-0S6_WzA2Mj\""),
        ("ipaddr", "\"2001:db8::7\""),
        ("upn", "\"alice@example.com\""),
        ("upn", "\"the.system:alice@example.com\""),
        ("xms_tcdt", "1500000000"),
        ("sid", "\"00208f2e-2c4b-4d5e\""),
    ] {
        all.add(&format!("version 2.0 with {claim} {raw}"), &Draft::v2().with(claim, raw));
    }
    for idp in [v2_issuer(TENANT), v1_issuer(TENANT)] {
        all.add(&format!("our own idp {idp}"), &Draft::v2().with("idp", quoted(&idp)));
    }
    all.says("three scopes", &Draft::v2().with("scp", "\"a b c\""), |claims| {
        claims.scopes == ["a", "b", "c"]
    });
    all.says("two roles", &Draft::v2().with("roles", "[\"a\",\"b\"]"), |claims| claims.roles == ["a", "b"]);
}

fn groups(all: &mut Variants) {
    fn listed(claims: &Claims) -> usize {
        if let Groups::Listed(groups) = &claims.groups { groups.len() } else { usize::MAX }
    }
    let base = Draft::v2();
    all.says("no groups", &base.clone().with("groups", many(0)), |claims| listed(claims) == 0);
    all.says("one group", &base.clone().with("groups", format!("[{}]", quoted(GROUP))), |claims| {
        listed(claims) == 1
    });
    all.says("200 groups", &base.clone().with("groups", many(200)), |claims| listed(claims) == 200);
    all.says("150 groups", &Draft::v1().with("groups", many(150)), |claims| listed(claims) == 150);
    let few = base.clone().with("groups", many(6)).with("hasgroups", "false");
    all.says("hasgroups false", &few, |claims| listed(claims) == 6);
    let too_many = |claims: &Claims| claims.groups == Groups::TooMany;
    all.says("hasgroups alone", &base.clone().with("hasgroups", "true"), too_many);
    let named = base.clone().with("_claim_names", "{\"groups\":\"src1\"}");
    all.says("groups elsewhere, nowhere said", &named, too_many);
    let source = format!("{{\"src1\":{{\"endpoint\":{}}}}}", quoted(&kit().canary_url("valid/groups")));
    all.says("groups elsewhere", &named.with("_claim_sources", source), too_many);
    let other = base.with("groups", many(2)).with("_claim_names", "{\"photo\":\"src1\"}");
    all.says("another claim elsewhere", &other, |claims| listed(claims) == 2);
}

fn times(all: &mut Variants) {
    for (name, iat, nbf, exp, leeway_s) in [
        ("expired 59 s ago", -3_600, -3_600, -59, 60),
        ("expired 299 s ago, with 300 s", -3_600, -3_600, -299, 300),
        ("expiring in a second, without leeway", -3_600, -3_600, 1, 0),
        ("valid in 60 s", 0, 60, 3_600, 60),
        ("valid in 300 s, with 300 s", 0, 300, 3_600, 300),
        ("valid now, without leeway", 0, 0, 3_600, 0),
        ("issued in 60 s", 60, 0, 3_600, 60),
        ("28 h from its issue", 0, 0, MAX_LIFETIME_S, 60),
        ("28 h from its start", 0, -3_600, MAX_LIFETIME_S - 3_600, 60),
        ("two seconds long", -1, -1, 1, 60),
        ("begun five minutes before its issue", 0, -300, 3_600, 60),
    ] {
        all.expect(Expected { leeway_s, ..user() });
        let draft = Draft::v2().with("iat", now() + iat).with("nbf", now() + nbf).with("exp", now() + exp);
        all.add(name, &draft);
    }
    all.expect(user());
}

fn kinds(all: &mut Variants) {
    all.expect(kind(Kind::Id));
    all.says("an ID token", &Draft::id(), |claims| {
        claims.nonce.as_deref() == Some("n-0S6_WzA2Mj") && claims.scopes.is_empty()
    });
    all.add("an ID token without a nonce", &Draft::id().without("nonce"));
    all.add("an ID token of version 1.0", &Draft::v1().without("scp").without("appid").without("appidacr"));
    all.add("an ID token of somebody with app roles", &Draft::id().with("roles", "[\"Node.Admin\"]"));
    all.expect(Expected { nonce: Some("n-0S6_WzA2Mj".to_owned()), ..kind(Kind::Id) });
    all.add("an ID token of this sign-in", &Draft::id());
    all.expect(kind(Kind::AppAccess));
    all.says("an application's token", &Draft::app(), |claims| {
        claims.roles == ["Node.Read.All"] && claims.scopes.is_empty()
    });
    all.add("an application's token without idtyp", &Draft::app().without("idtyp"));
    let v1 = Draft::v1()
        .without("scp")
        .without("upn")
        .without("unique_name")
        .with("roles", "[\"x\"]")
        .with("idtyp", "\"app\"");
    all.add("an application's token of version 1.0", &v1);
    all.expect(user());
}

fn expectations(all: &mut Variants) {
    let only = Some(ALICE.parse().expect("a GUID"));
    all.expect(Expected { person: only, clients: vec![CLIENT.to_owned()], ..user() });
    all.add("this person through this client, version 1.0", &Draft::v1());
    all.add("this person through this client, version 2.0", &Draft::v2());
    all.expect(Expected { guests: true, ..user() });
    all.says("a guest by acct", &Draft::v2().with("acct", 1), |claims| claims.guest == Some(true));
    let guest = Draft::v1()
        .with("idp", quoted(&v1_issuer(OTHER_TENANT)))
        .with("upn", "\"a_b.example#EXT#@example.com\"");
    all.says("a guest by idp", &guest, |claims| claims.guest == Some(true));
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let evidence = Evidence {
        amr: texts(&["mfa"]),
        acrs: texts(&["c1"]),
        device: true,
        forbidden_amr: texts(&["deviceCode"]),
        max_auth_age_s: Some(600),
    };
    all.expect(Expected { evidence, ..user() });
    all.add("all evidence", &Draft::v1());
    all.add("more evidence than is asked for", &Draft::v1().with("amr", "[\"fido\",\"mfa\",\"pwd\"]"));
    let mixed = Draft::v1().under(&kit().primary).with("iss", quoted(&v2_issuer(TENANT)));
    all.add("all evidence in version 2.0", &mixed.with("ver", "\"2.0\""));
    all.expect(user());
}

fn keys(all: &mut Variants) {
    let pair = &kit().primary;
    let pss = Draft::v2().head("alg", "\"PS256\"").by(Signer::Ps256(pair));
    all.expect(Expected { algorithms: vec![Algorithm::Ps256], ..user() });
    all.add("PS256 where it is expected", &pss);
    all.expect(Expected { algorithms: vec![Algorithm::Rs256, Algorithm::Ps256], ..user() });
    all.add("PS256 where both are expected", &pss);
    all.add("RS256 where both are expected", &Draft::v2());
    all.expect(user());
    let spare = &kit().spare;
    let good = spare.jwk_of(&v2_issuer(TENANT));
    let document = base64url(spare.spki());
    for (name, key) in [
        ("a key with alg RS256", good.clone().with("alg", "\"RS256\"")),
        ("a key without x5t and x5c", good.clone().without("x5t").without("x5c")),
        ("a key with unknown members", good.clone().with("x", "{\"a\":[1]}")),
        ("a key with a long certificate", good.clone().with("x5c", format!("[{}]", quoted(&document)))),
    ] {
        let given = Given { keys: keys_and(key), ..all.batch.given(Draft::v2().under(spare).text()) };
        all.list.push(Variant { name: name.to_owned(), given, says: |_| true });
    }
}
