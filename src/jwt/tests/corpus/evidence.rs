//! Classes 18, 20 and 21: evidence that is not there, tokens bound to a key, and ways of signing in that are forbidden.
//! (CVE-2025-55001, CVE-2025-6013, Storm-2372.)

use nightlatch_jwt::{Evidence, Expected, Kind, MAX_CLAIM_ITEMS, Refusal};

use crate::algorithm::Concat as _;
use crate::case::{Batch, Case, kind, user};
use crate::draft::{Draft, quoted};
use crate::kit::{DEVICE, kit, now};

pub(crate) fn cases() -> Vec<Case> {
    let mut missing = Batch::of(18);
    methods(&mut missing);
    contexts(&mut missing);
    devices(&mut missing);
    ages(&mut missing);
    capabilities(&mut missing);
    let mut bound = Batch::of(20);
    bound_to_keys(&mut bound);
    let mut phished = Batch::of(21);
    device_codes(&mut phished);
    [missing.done(), bound.done(), phished.done()].concat_cases()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn showing(evidence: Evidence) -> Expected {
    Expected { evidence, ..user() }
}

/// What is asked of both `amr` and `acrs`: `good` is in the list.
fn required(batch: &mut Batch, claim: &'static str, good: &str, other: &str) {
    let twin = Draft::v1().with(claim, format!("[{},{}]", quoted(other), quoted(good)));
    let upper = good.to_ascii_uppercase();
    for list in [
        vec![],
        vec![other],
        vec![""],
        vec![upper.as_str()],
        vec![format!("{good} ").as_str()],
        vec![format!(" {good}").as_str()],
        vec![format!("{good}0").as_str()],
        vec![&good[..good.len() - 1]],
        vec![format!("{other},{good}").as_str()],
        vec![format!("{other} {good}").as_str()],
        vec![format!("{good}\0").as_str()],
        vec![format!("[\"{good}\"]").as_str()],
        vec!["*"],
        vec![other, other, other],
    ] {
        let raw = serde_json::to_string(&list).expect("JSON");
        let hostile = twin.clone().with(claim, &raw);
        batch.add(format!("{claim} {raw}"), &twin, &hostile, Refusal::Evidence(claim));
    }
    batch.add(format!("no {claim}"), &twin, &twin.clone().without(claim), Refusal::Evidence(claim));
    let hostile = twin.clone().without(claim).with(&claim.to_ascii_uppercase(), twin.claims.raw(claim));
    batch.add(format!("{claim} in capitals"), &twin, &hostile, Refusal::Evidence(claim));
    let hostile = twin.clone().without(claim).with("x", format!("{{\"{claim}\":[{}]}}", quoted(good)));
    batch.add(format!("{claim} in another claim"), &twin, &hostile, Refusal::Evidence(claim));
    let good = quoted(good);
    for raw in [
        good.clone(),
        "null".to_owned(),
        "true".to_owned(),
        "1".to_owned(),
        format!("{{\"0\":{good}}}"),
        format!("{{{good}:true}}"),
        format!("[[{good}]]"),
        format!("[{good},null]"),
        format!("[1,{good}]"),
        format!("[{}]", vec![good.as_str(); MAX_CLAIM_ITEMS + 1].join(",")),
    ] {
        let hostile = twin.clone().with(claim, &raw);
        let shown: String = raw.chars().take(40).collect();
        batch.add(format!("{claim} as {shown}"), &twin, &hostile, Refusal::Malformed(claim));
    }
    let hostile = twin.clone().also(claim, twin.claims.raw(claim));
    batch.add(format!("{claim} twice"), &twin, &hostile, Refusal::DuplicateMember("payload"));
}

fn methods(batch: &mut Batch) {
    batch.expect(showing(Evidence { amr: texts(&["mfa"]), ..Evidence::default() }));
    required(batch, "amr", "mfa", "pwd");
    let twin = Draft::v2().with("amr", "[\"pwd\",\"mfa\"]");
    batch.add("version 2.0 without amr", &twin, &Draft::v2(), Refusal::Evidence("amr"));
    let hostile = Draft::v2().with("acr", "\"1\"").with("mfa", "true");
    batch.add("acr and another claim for amr", &twin, &hostile, Refusal::Evidence("amr"));
    batch.expect(showing(Evidence { amr: texts(&["mfa", "rsa"]), ..Evidence::default() }));
    let twin = Draft::v1().with("amr", "[\"rsa\",\"mfa\"]");
    for raw in ["[\"mfa\"]", "[\"rsa\"]", "[\"mfa\",\"pwd\"]", "[\"mfa\",\"mfa\"]"] {
        let hostile = twin.clone().with("amr", raw);
        batch.add(format!("two ways are asked for, amr {raw}"), &twin, &hostile, Refusal::Evidence("amr"));
    }
}

fn contexts(batch: &mut Batch) {
    batch.expect(showing(Evidence { acrs: texts(&["c1"]), ..Evidence::default() }));
    required(batch, "acrs", "c1", "p1");
    let twin = Draft::v2().with("acrs", "[\"c1\"]");
    for raw in ["[\"c10\"]", "[\"c2\",\"c3\"]", "[\"c01\"]", "[\"1\"]", "[\"urn:c1\"]"] {
        let hostile = twin.clone().with("acrs", raw);
        batch.add(format!("version 2.0, acrs {raw}"), &twin, &hostile, Refusal::Evidence("acrs"));
    }
    for raw in ["[\"c1\"]", "\"c1\""] {
        let hostile = Draft::v2().with("acr", raw);
        let wanted = if raw.starts_with('[') { Refusal::Malformed("acr") } else { Refusal::Evidence("acrs") };
        batch.add(format!("acr {raw} for acrs"), &twin, &hostile, wanted);
    }
}

fn devices(batch: &mut Batch) {
    batch.expect(showing(Evidence { device: true, ..Evidence::default() }));
    for (version, twin) in [("1.0", Draft::v1()), ("2.0", Draft::v2().with("deviceid", quoted(DEVICE)))] {
        let hostile = twin.clone().without("deviceid");
        batch.add(format!("version {version}: no deviceid"), &twin, &hostile, Refusal::Evidence("deviceid"));
        let hostile = twin.clone().without("deviceid").with("deviceId", quoted(DEVICE));
        batch.add(format!("version {version}: deviceId"), &twin, &hostile, Refusal::Evidence("deviceid"));
        for raw in ["\"\"", "\"laptop\"", "null", "true", "5", "[]", "{}", &format!("[{}]", quoted(DEVICE))] {
            let hostile = twin.clone().with("deviceid", raw);
            let name = format!("version {version}: deviceid {raw}");
            batch.add(name, &twin, &hostile, Refusal::Malformed("deviceid"));
        }
    }
}

fn ages(batch: &mut Batch) {
    batch.expect(showing(Evidence { max_auth_age_s: Some(3_600), ..Evidence::default() }));
    let twin = Draft::v1();
    batch.add("no auth_time", &twin, &twin.clone().without("auth_time"), Refusal::Evidence("auth_time"));
    // A minute more than the leeway, so that it does not matter whether one is granted here.
    for seconds in [3_720, 7_200, 86_400, 31_536_000] {
        let hostile = twin.clone().with("auth_time", now() - seconds);
        batch.add(format!("signed in {seconds} s ago"), &twin, &hostile, Refusal::AuthAge);
    }
    batch.add("signed in in 1970", &twin, &twin.clone().with("auth_time", 0), Refusal::AuthAge);
    for raw in ["\"\"", "null", "true", "[]", "{}", "-1", "1e3", "0.5", "18446744073709551616"] {
        let hostile = twin.clone().with("auth_time", raw);
        batch.add(format!("auth_time {raw}"), &twin, &hostile, Refusal::Malformed("auth_time"));
    }
    let hostile = twin.clone().with("auth_time", quoted(&(now() - 60).to_string()));
    batch.add("auth_time as a text", &twin, &hostile, Refusal::Malformed("auth_time"));
    let never = showing(Evidence { max_auth_age_s: Some(0), ..Evidence::default() });
    batch.judged("where one signs in each time", &twin, never, Refusal::AuthAge);
}

fn capabilities(batch: &mut Batch) {
    batch.expect(user());
    let twin = Draft::v2().with("xms_cc", "[\"cp1\"]");
    for raw in ["\"cp1\"", "null", "5", "{}", "[5]", "[[\"cp1\"]]"] {
        let hostile = twin.clone().with("xms_cc", raw);
        batch.add(format!("xms_cc {raw}"), &twin, &hostile, Refusal::Malformed("xms_cc"));
    }
}

fn bound_to_keys(batch: &mut Batch) {
    let jwk = kit().stranger.jwk().text();
    for (name, twin, as_kind) in [
        ("version 1.0", Draft::v1(), Kind::UserAccess),
        ("version 2.0", Draft::v2(), Kind::UserAccess),
        ("an ID token", Draft::id(), Kind::Id),
        ("an application's", Draft::app(), Kind::AppAccess),
    ] {
        batch.expect(kind(as_kind));
        for raw in [
            "{\"kid\":\"x\",\"xms_ksl\":\"sw\"}",
            &format!("{{\"jwk\":{jwk}}}"),
            "{\"x5t#S256\":\"x\"}",
            "{\"jkt\":\"x\"}",
            "{}",
            "null",
            "\"\"",
            "[]",
            "false",
        ] {
            let hostile = twin.clone().with("cnf", raw);
            let shown: String = raw.chars().take(40).collect();
            batch.add(format!("{name}: cnf {shown}"), &twin, &hostile, Refusal::ProofOfPossession);
        }
    }
    batch.expect(user());
    let twin = Draft::v2();
    // A signed request: the access token within, the host, the method, the hour.
    let request = twin
        .clone()
        .with("at", quoted(&twin.text()))
        .with("u", "\"node.example.com\"")
        .with("m", "\"POST\"")
        .with("ts", now());
    for typ in ["pop", "POP", "dpop+jwt", "http-signed", "pop+jwt"] {
        let hostile = request.clone().head("typ", quoted(typ));
        batch.add(format!("a signed request, typ {typ}"), &request, &hostile, Refusal::Type);
    }
    let hostile = request.clone().with("cnf", format!("{{\"jwk\":{jwk}}}"));
    batch.add("a signed request with cnf", &request, &hostile, Refusal::ProofOfPossession);
}

fn device_codes(batch: &mut Batch) {
    let forbidding = |methods: &[&str], as_kind| Expected {
        evidence: Evidence { forbidden_amr: texts(methods), ..Evidence::default() },
        ..kind(as_kind)
    };
    for (name, twin, as_kind) in [
        ("version 1.0", Draft::v1(), Kind::UserAccess),
        ("version 2.0", Draft::v2().with("amr", "[\"pwd\",\"mfa\"]"), Kind::UserAccess),
        ("an ID token", Draft::id().with("amr", "[\"pwd\",\"mfa\"]"), Kind::Id),
    ] {
        batch.expect(forbidding(&["deviceCode", "otp"], as_kind));
        for raw in [
            "[\"deviceCode\"]",
            "[\"otp\"]",
            "[\"pwd\",\"mfa\",\"deviceCode\"]",
            "[\"deviceCode\",\"pwd\",\"mfa\"]",
            "[\"deviceCode\",\"otp\"]",
            "[\"device\\u0043ode\"]",
        ] {
            let hostile = twin.clone().with("amr", raw);
            batch.add(format!("{name}: amr {raw}"), &twin, &hostile, Refusal::ForbiddenMethod);
        }
        for raw in ["\"deviceCode\"", "{\"0\":\"deviceCode\"}", "[[\"deviceCode\"]]", "null"] {
            let hostile = twin.clone().with("amr", raw);
            batch.add(format!("{name}: amr as {raw}"), &twin, &hostile, Refusal::Malformed("amr"));
        }
        let hostile = twin.clone().also("amr", "[\"deviceCode\"]");
        batch.add(format!("{name}: a second amr"), &twin, &hostile, Refusal::DuplicateMember("payload"));
        let stricter = forbidding(&["pwd"], as_kind);
        batch.judged(
            format!("{name}: where a password is forbidden"),
            &twin,
            stricter,
            Refusal::ForbiddenMethod,
        );
    }
    // What is shown does not make up for what is forbidden.
    let mut both = forbidding(&["deviceCode"], Kind::UserAccess);
    both.evidence.amr = texts(&["mfa"]);
    batch.expect(both);
    let hostile = Draft::v1().with("amr", "[\"mfa\",\"deviceCode\"]");
    batch.add("mfa beside a device code", &Draft::v1(), &hostile, Refusal::ForbiddenMethod);
}
