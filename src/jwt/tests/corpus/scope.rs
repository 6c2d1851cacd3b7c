//! Classes 9 and 10: tokens for somebody else, and of somewhere else. (CVE-2024-5798, GHSA-q746-m2wv-qh4v,
//! CVE-2025-55241.)

use nightlatch_jwt::{Expected, Kind, Refusal};

use crate::algorithm::Concat as _;
use crate::case::{Batch, Case, Given, kind, user};
use crate::draft::{Draft, quoted};
use crate::kit::{APP, APP_URI, CLIENT, CONSUMERS, OTHER_CLIENT, OTHER_TENANT, TENANT, keys_and, kit};
use crate::kit::{v1_issuer, v2_issuer};

pub(crate) fn cases() -> Vec<Case> {
    let mut audience = Batch::of(9);
    audiences(&mut audience);
    graph(&mut audience);
    let mut tenant = Batch::of(10);
    v2_issuers(&mut tenant);
    v1_issuers(&mut tenant);
    tenants(&mut tenant);
    versions(&mut tenant);
    key_issuers(&mut tenant);
    [audience.done(), tenant.done()].concat_cases()
}

fn audiences(batch: &mut Batch) {
    let v2 = Draft::v2();
    let v1 = Draft::v1();
    for (twin, audience) in [
        (&v2, "00000003-0000-0000-c000-000000000000".to_owned()),
        (&v2, "797f4846-ba00-4fd7-ba43-dac1f8f63013".to_owned()),
        (&v2, "6dae42f8-4368-4678-94ff-3960e28e3630".to_owned()),
        (&v2, "ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0".to_owned()),
        (&v2, OTHER_CLIENT.to_owned()),
        (&v2, CLIENT.to_owned()),
        (&v2, TENANT.to_owned()),
        (&v2, String::new()),
        (&v2, "*".to_owned()),
        (&v2, format!("{APP} ")),
        (&v2, format!(" {APP}")),
        (&v2, format!("{APP}\n")),
        (&v2, format!("{APP}\0")),
        (&v2, format!("{APP}/")),
        (&v2, format!("{{{APP}}}")),
        (&v2, format!("spn:{APP}")),
        (&v2, format!("api://{APP}")),
        (&v2, format!("{APP},{OTHER_CLIENT}")),
        (&v2, format!("{APP} {OTHER_CLIENT}")),
        (&v2, APP[..35].to_owned()),
        (&v2, format!("{APP}0")),
        (&v2, APP.replace('-', "")),
        (&v1, "https://graph.microsoft.com".to_owned()),
        (&v1, "https://graph.microsoft.com/".to_owned()),
        (&v1, "https://graph.windows.net".to_owned()),
        (&v1, "https://management.azure.com/".to_owned()),
        (&v1, "https://management.core.windows.net/".to_owned()),
        (&v1, "https://vault.azure.net".to_owned()),
        (&v1, "https://storage.azure.com/".to_owned()),
        (&v1, "https://pas.windows.net/CheckMyAccess/Linux".to_owned()),
        (&v1, format!("{APP_URI}/")),
        (&v1, format!("{APP_URI}s")),
        (&v1, format!("{APP_URI}/../node")),
        (&v1, format!("{APP_URI}#x")),
        (&v1, format!("{APP_URI}?x")),
        (&v1, "api://nightlatch".to_owned()),
        (&v1, "api://nightlatch/".to_owned()),
        (&v1, "api://nightlatch/Node".to_owned()),
        (&v1, "API://nightlatch/node".to_owned()),
        (&v1, "api://nightlatch%2Fnode".to_owned()),
        (&v1, "api://nightlatch//node".to_owned()),
        (&v1, "api://n\u{456}ghtlatch/node".to_owned()),
        (&v1, "nightlatch/node".to_owned()),
    ] {
        let hostile = twin.clone().with("aud", quoted(&audience));
        batch.add(format!("for {audience:?}"), twin, &hostile, Refusal::Audience);
    }
    for (name, audiences) in [
        ("nothing", vec![]),
        ("an empty text", vec![String::new()]),
        ("another application", vec![OTHER_CLIENT.to_owned()]),
        ("the other spelling alone", vec![APP_URI.to_owned()]),
    ] {
        let expected = Expected { audiences, ..user() };
        batch.judged(format!("where {name} is expected"), &v2, expected, Refusal::Audience);
    }
    for (name, twin, as_kind) in
        [("ID token", Draft::id(), Kind::Id), ("application's token", Draft::app(), Kind::AppAccess)]
    {
        batch.expect(kind(as_kind));
        let hostile = twin.clone().with("aud", quoted(OTHER_CLIENT));
        batch.add(format!("an {name} for another"), &twin, &hostile, Refusal::Audience);
    }
}

/// A nonce in the header: what Microsoft's own interfaces get, hashed before it was signed.
fn graph(batch: &mut Batch) {
    batch.expect(user());
    for twin in [Draft::v1(), Draft::v2()] {
        let version = twin.claims.raw("ver");
        for raw in ["\"Vd3GkRq0mZ7x\"", "\"\"", "null", "0", "[]", "{}"] {
            let hostile = twin.clone().head("nonce", raw);
            let name = format!("header nonce {raw} in version {version}");
            batch.add(name, &twin, &hostile, Refusal::HeaderNonce);
        }
    }
}

fn v2_issuers(batch: &mut Batch) {
    let twin = Draft::v2();
    let ours = v2_issuer(TENANT);
    for issuer in [
        v2_issuer(OTHER_TENANT),
        v2_issuer(CONSUMERS),
        v2_issuer("common"),
        v2_issuer("organizations"),
        v2_issuer("consumers"),
        v2_issuer("{tenantid}"),
        v2_issuer("example.com"),
        v2_issuer(""),
        v2_issuer(&TENANT.replace('-', "")),
        v2_issuer(&TENANT.to_ascii_uppercase()),
        v2_issuer(&format!("{OTHER_TENANT}/../{TENANT}")),
        v2_issuer(&format!("{TENANT}%20")),
        format!("{ours}/"),
        format!("{ours} "),
        format!(" {ours}"),
        format!("{ours}\n"),
        format!("{ours}\0"),
        format!("{ours}#x"),
        format!("{ours}?x"),
        format!("{ours}/v2.0"),
        format!("{ours},{ours}"),
        ours.replace("/v2.0", ""),
        ours.replace("/v2.0", "/v2"),
        ours.replace("/v2.0", "/V2.0"),
        ours.replace("https", "http"),
        ours.replace("https", "HTTPS"),
        ours.replace("login", "Login"),
        ours.replace("login.microsoftonline.com", "login.windows.net"),
        ours.replace("login.microsoftonline.com", "login.microsoftonline.us"),
        ours.replace("login.microsoftonline.com", "login.partner.microsoftonline.cn"),
        ours.replace("login.microsoftonline.com", "login.microsoftonline.com:443"),
        ours.replace("login.microsoftonline.com", "login.microsoftonline.com."),
        ours.replace("login.microsoftonline.com", "login.microsoftonline.com@127.0.0.1"),
        ours.replace("login.microsoftonline.com", "login.microsoftonline.com.example.com"),
        ours.replace("microsoft", "micros\u{43e}ft"),
        ours.replace("https://", "https:\\\\"),
        ours.replace("https://", "//"),
        ours.replace("https://", ""),
        TENANT.to_owned(),
        String::new(),
    ] {
        let hostile = twin.clone().with("iss", quoted(&issuer));
        batch.add(format!("version 2.0 of {issuer:?}"), &twin, &hostile, Refusal::Issuer);
    }
}

fn v1_issuers(batch: &mut Batch) {
    let twin = Draft::v1();
    let ours = v1_issuer(TENANT);
    for issuer in [
        v1_issuer(OTHER_TENANT),
        v1_issuer(CONSUMERS),
        v1_issuer("common"),
        v1_issuer("{tenantid}"),
        v1_issuer(&TENANT.to_ascii_uppercase()),
        ours.trim_end_matches('/').to_owned(),
        format!("{ours}/"),
        format!("{ours}v2.0"),
        format!("{ours} "),
        ours.replace("sts", "STS"),
        ours.replace("https", "http"),
        ours.replace("sts.windows.net", "sts.chinacloudapi.cn"),
        ours.replace("sts.windows.net", "sts.windows.net.example.com"),
        ours.replace("sts.windows.net", "login.microsoftonline.com"),
        ours.replace("net/", "net//"),
        String::new(),
    ] {
        let hostile = twin.clone().with("iss", quoted(&issuer));
        batch.add(format!("version 1.0 of {issuer:?}"), &twin, &hostile, Refusal::Issuer);
    }
    let expected = Expected { issuers: Vec::new(), ..user() };
    batch.judged("where no issuer is accepted", &twin, expected, Refusal::Issuer);
    let issuers = vec![user().issuers[1].clone()];
    let expected = Expected { issuers, ..user() };
    batch.judged("version 1.0 where only 2.0 is accepted", &twin, expected, Refusal::Issuer);
    let issuers = vec![user().issuers[0].clone()];
    let expected = Expected { issuers, ..user() };
    batch.judged("version 2.0 where only 1.0 is accepted", &Draft::v2(), expected, Refusal::Issuer);
}

fn tenants(batch: &mut Batch) {
    for (version, twin, issuer) in
        [("1.0", Draft::v1(), v1_issuer as fn(&str) -> String), ("2.0", Draft::v2(), v2_issuer)]
    {
        for (name, tenant, wanted) in [
            ("another tenant", OTHER_TENANT.to_owned(), Refusal::Tenant),
            ("nobody", "00000000-0000-0000-0000-000000000000".to_owned(), Refusal::Tenant),
            ("nearly our tenant", TENANT.replace("90", "91"), Refusal::Tenant),
            ("our application", APP.to_owned(), Refusal::Tenant),
            ("personal accounts", CONSUMERS.to_owned(), Refusal::ConsumerTenant),
        ] {
            let hostile = twin.clone().with("tid", quoted(&tenant));
            batch.add(format!("version {version}, tid of {name}"), &twin, &hostile, wanted);
        }
        // The respect in which this one differs is the tenant, which stands in it twice.
        let hostile =
            twin.clone().with("tid", quoted(OTHER_TENANT)).with("iss", quoted(&issuer(OTHER_TENANT)));
        batch.add(format!("version {version}, wholly of another tenant"), &twin, &hostile, Refusal::Issuer);
        let hostile = twin.clone().with("tid", quoted(CONSUMERS)).with("iss", quoted(&issuer(CONSUMERS)));
        let name = format!("version {version}, wholly of a personal account");
        batch.add(name, &twin, &hostile, Refusal::ConsumerTenant);
    }
}

/// Version and issuer of two forms.
fn versions(batch: &mut Batch) {
    let v2 = Draft::v2();
    batch.add("ver 1.0 with the issuer of 2.0", &v2, &v2.clone().with("ver", "\"1.0\""), Refusal::Version);
    let v1 = Draft::v1();
    batch.add("ver 2.0 with the issuer of 1.0", &v1, &v1.clone().with("ver", "\"2.0\""), Refusal::Version);
    let hostile = v1.clone().with("iss", quoted(&v2_issuer(TENANT)));
    batch.add("the issuer of 2.0 with ver 1.0", &v1, &hostile, Refusal::Version);
    for (name, twin, as_kind) in
        [("ID token", Draft::id(), Kind::Id), ("application's token", Draft::app(), Kind::AppAccess)]
    {
        batch.expect(kind(as_kind));
        batch.add(
            format!("ver 1.0 in an {name} of 2.0"),
            &twin,
            &twin.clone().with("ver", "\"1.0\""),
            Refusal::Version,
        );
    }
    batch.expect(user());
}

/// Keys that speak for another issuer.
fn key_issuers(batch: &mut Batch) {
    let spare = &kit().spare;
    let token = Draft::v2().under(spare);
    let good = keys_and(spare.jwk_of(&v2_issuer(TENANT)));
    for issuer in [
        v2_issuer(OTHER_TENANT),
        v2_issuer(CONSUMERS),
        v2_issuer("common"),
        v2_issuer("{tenantId}"),
        v2_issuer("{tid}"),
        v2_issuer("*"),
        format!("{}/", v2_issuer("{tenantid}")),
        v2_issuer("{tenantid}").replace("https", "http"),
        v2_issuer("{tenantid}").replace(".com", ".us"),
        v1_issuer("{tenantid}"),
        v1_issuer(TENANT),
        "https://example.com/{tenantid}".to_owned(),
    ] {
        let bad = keys_and(spare.jwk_of(&issuer));
        batch.keyed(format!("a key of {issuer}"), &token, [good.clone(), bad], Refusal::KeyIssuer);
    }
    // The same key set; the token is signed with the key of the other tenant.
    let mixed = keys_and(spare.jwk_of(&v2_issuer(OTHER_TENANT)));
    let twin = Given { keys: mixed.clone(), ..batch.given(Draft::v2().text()) };
    let hostile = Given { token: token.text(), ..twin.clone() };
    batch.pair("another tenant's key beside ours", twin, hostile, Refusal::KeyIssuer);
}
