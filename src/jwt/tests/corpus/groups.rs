//! Classes 13, 14 and 15: guests where none are wanted, groups by name, and groups said to be elsewhere.
//! (CVE-2025-49012.)

use nightlatch_jwt::{Expected, Kind, MAX_CLAIM_ITEMS, Refusal};

use crate::algorithm::Concat as _;
use crate::case::{Batch, Case, kind, user};
use crate::draft::{Draft, quoted};
use crate::kit::{ALICE, CONSUMERS, GROUP, OTHER_TENANT, TENANT, kit, v1_issuer, v2_issuer};

pub(crate) fn cases() -> Vec<Case> {
    let mut guest = Batch::of(13);
    guests(&mut guest);
    guest_shapes(&mut guest);
    let mut named = Batch::of(14);
    group_names(&mut named);
    lists(&mut named);
    reserved(&mut named);
    let mut overage = Batch::of(15);
    too_many(&mut overage);
    overage_shapes(&mut overage);
    [guest.done(), named.done(), overage.done()].concat_cases()
}

/// This many groups.
pub(crate) fn many(count: usize) -> String {
    let ids: Vec<String> =
        (0..count).map(|n| quoted(&format!("{n:08x}-e5f6-4071-8293-a4b5c6d7e8f9"))).collect();
    format!("[{}]", ids.join(","))
}

fn guests(batch: &mut Batch) {
    let providers = [
        "live.com".to_owned(),
        "mail".to_owned(),
        "google.com".to_owned(),
        "facebook.com".to_owned(),
        "urn:federation:MicrosoftOnline".to_owned(),
        String::new(),
        v1_issuer(OTHER_TENANT),
        v2_issuer(OTHER_TENANT),
        v1_issuer(CONSUMERS),
        v1_issuer(&format!("{OTHER_TENANT}/{TENANT}")),
        v1_issuer(TENANT).replace("https", "http"),
        v1_issuer(TENANT).replace("sts.windows.net", "sts.windows.net.example.com"),
        v1_issuer(TENANT) + "x",
        TENANT.to_owned(),
    ];
    for (version, base) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        batch.expect(user());
        for provider in &providers {
            let hostile = base.clone().with("idp", quoted(provider));
            batch.add(format!("version {version}: idp {provider:?}"), &base, &hostile, Refusal::Guest);
        }
        let member = base.clone().with("acct", 0);
        batch.add(
            format!("version {version}: acct 1"),
            &member,
            &base.clone().with("acct", 1),
            Refusal::Guest,
        );
        let external = quoted("alice_home.example#EXT#@example.com");
        for claim in ["upn", "unique_name", "preferred_username"] {
            let member = member.clone().with(claim, &external);
            let hostile = member.clone().with("acct", 1);
            batch.add(format!("version {version}: an external {claim}"), &member, &hostile, Refusal::Guest);
        }
        // Where guests are welcome the same token is good.
        batch.expect(Expected { guests: true, ..user() });
        let guest = base.clone().with("acct", 1).with("idp", quoted(&v1_issuer(OTHER_TENANT)));
        batch.judged(
            format!("version {version}: a guest where none are wanted"),
            &guest,
            user(),
            Refusal::Guest,
        );
    }
    // The other version's spelling of our own issuer is not the token's issuer.
    batch.expect(user());
    let v1 = Draft::v1();
    let hostile = v1.clone().with("idp", quoted(&v2_issuer(TENANT)));
    batch.add("the issuer of 2.0 as idp in version 1.0", &v1, &hostile, Refusal::Guest);
    batch.expect(kind(Kind::Id));
    let id = Draft::id();
    batch.add("an ID token with acct 1", &id, &id.clone().with("acct", 1), Refusal::Guest);
    batch.add("an ID token with another idp", &id, &id.clone().with("idp", "\"live.com\""), Refusal::Guest);
    batch.expect(user());
}

/// A guest must not become a member by a wrong type.
fn guest_shapes(batch: &mut Batch) {
    let twin = Draft::v2().with("acct", 0);
    for raw in ["\"1\"", "\"0\"", "true", "[1]", "{}", "1.0", "null", "-1"] {
        let hostile = twin.clone().with("acct", raw);
        batch.add(format!("acct {raw}"), &twin, &hostile, Refusal::Malformed("acct"));
    }
    let twin = Draft::v2().with("idp", quoted(&v2_issuer(TENANT)));
    for raw in ["5", "true", "[\"live.com\"]", "{\"0\":\"live.com\"}", "null"] {
        let hostile = twin.clone().with("idp", raw);
        batch.add(format!("idp {raw}"), &twin, &hostile, Refusal::Malformed("idp"));
    }
}

fn group_names(batch: &mut Batch) {
    let good = quoted(GROUP);
    for (version, base) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
        let twin = base.with("groups", format!("[{good}]"));
        for (name, raw) in [
            ("a display name", "[\"node-admins\"]".to_owned()),
            ("a display name behind a GUID", format!("[{good},\"node-admins\"]")),
            ("a display name before a GUID", format!("[\"node-admins\",{good}]")),
            ("an empty text", "[\"\"]".to_owned()),
            ("a security identifier", "[\"S-1-5-21-397955417-626881126-188441444-512\"]".to_owned()),
            ("a distinguished name", "[\"CN=node-admins,DC=example,DC=com\"]".to_owned()),
            ("domain and name", "[\"EXAMPLE\\\\node-admins\"]".to_owned()),
            ("a reserved name", "[\"system:masters\"]".to_owned()),
            ("a blank behind", format!("[{}]", quoted(&format!("{GROUP} ")))),
            ("a newline behind", format!("[{}]", quoted(&format!("{GROUP}\n")))),
            ("braces", format!("[{}]", quoted(&format!("{{{GROUP}}}")))),
            ("two in one text", format!("[{}]", quoted(&format!("{GROUP},{ALICE}")))),
            ("a digit too few", format!("[{}]", quoted(&GROUP[..35]))),
            ("a number", "[5]".to_owned()),
            ("null in the list", format!("[{good},null]")),
            ("a list in the list", format!("[[{good}]]")),
            ("an object in the list", format!("[{{\"id\":{good}}}]")),
            ("a lone text", good.clone()),
            ("an object", format!("{{\"0\":{good}}}")),
            ("null", "null".to_owned()),
            ("true", "true".to_owned()),
            ("one too many", many(MAX_CLAIM_ITEMS + 1)),
        ] {
            let hostile = twin.clone().with("groups", raw);
            batch.add(
                format!("version {version}, groups: {name}"),
                &twin,
                &hostile,
                Refusal::Malformed("groups"),
            );
        }
    }
}

/// The other lists that say what somebody may do.
fn lists(batch: &mut Batch) {
    let many = format!("[{}]", vec!["\"x\""; MAX_CLAIM_ITEMS + 1].join(","));
    for claim in ["roles", "wids"] {
        let good = quoted("62e90394-69f5-4237-9190-012177145e10");
        let twin = Draft::v2().with(claim, format!("[{good}]"));
        for raw in [
            good.clone(),
            "5".to_owned(),
            "true".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            format!("{{\"0\":{good}}}"),
            "[5]".to_owned(),
            format!("[{good},null]"),
            format!("[[{good}]]"),
            many.clone(),
        ] {
            let hostile = twin.clone().with(claim, &raw);
            let shown: String = raw.chars().take(50).collect();
            batch.add(format!("{claim} {shown}"), &twin, &hostile, Refusal::Malformed(claim));
        }
    }
    let twin = Draft::v2().with("wids", "[]");
    let hostile = twin.clone().with("wids", "[\"Global Administrator\"]");
    batch.add("a directory role by name", &twin, &hostile, Refusal::Malformed("wids"));
}

fn reserved(batch: &mut Batch) {
    for claim in ["upn", "unique_name", "preferred_username"] {
        for (name, raw) in [
            ("an administrator", "\"system:admin\""),
            ("a node", "\"system:node:n1\""),
            ("the prefix alone", "\"system:\""),
            ("a service account", "\"system:serviceaccount:kube-system:default\""),
            ("an escape", "\"\\u0073ystem:admin\""),
            ("a domain", "\"system:admin@example.com\""),
        ] {
            for (version, base) in [("1.0", Draft::v1()), ("2.0", Draft::v2())] {
                let twin = base.with(claim, "\"alice@example.com\"");
                let hostile = twin.clone().with(claim, raw);
                let name = format!("version {version}, {claim}: {name}");
                batch.add(name, &twin, &hostile, Refusal::ReservedName(claim));
            }
        }
    }
}

/// Overage alone is no reason to refuse; together with a list it is two answers to one question.
fn too_many(batch: &mut Batch) {
    let listed = format!("[{}]", quoted(GROUP));
    for (version, base) in [("1.0", Draft::v1().without("groups")), ("2.0", Draft::v2())] {
        for endpoint in [
            kit().canary_url("groups"),
            format!("https://graph.windows.net/{TENANT}/users/{ALICE}/getMemberObjects"),
            format!("https://graph.microsoft.com/v1.0/users/{ALICE}/getMemberObjects"),
            "http://169.254.169.254/metadata/identity/oauth2/token".to_owned(),
            "file:///etc/passwd".to_owned(),
            "https://graph.windows.net@example.com/".to_owned(),
            "//example.com".to_owned(),
            String::new(),
        ] {
            let source = format!("{{\"src1\":{{\"endpoint\":{}}}}}", quoted(&endpoint));
            let twin =
                base.clone().with("_claim_names", "{\"groups\":\"src1\"}").with("_claim_sources", source);
            let hostile = twin.clone().with("groups", &listed);
            let name = format!("version {version}: groups here and at {endpoint:?}");
            batch.add(name, &twin, &hostile, Refusal::GroupsConflict);
        }
        let twin = base.clone().with("hasgroups", "true");
        for (name, groups) in
            [("one group", listed.clone()), ("no group", "[]".to_owned()), ("200 groups", many(200))]
        {
            let hostile = twin.clone().with("groups", groups);
            let name = format!("version {version}: {name} and hasgroups");
            batch.add(name, &twin, &hostile, Refusal::GroupsConflict);
        }
        let twin = base.clone().with("groups", &listed);
        let hostile = twin.clone().with("hasgroups", "true");
        batch.add(
            format!("version {version}: hasgroups beside a list"),
            &twin,
            &hostile,
            Refusal::GroupsConflict,
        );
        let hostile = twin.clone().with("_claim_names", "{\"groups\":\"src1\"}");
        batch.add(format!("version {version}: a source unnamed"), &twin, &hostile, Refusal::GroupsConflict);
        let hostile = twin.clone().with("_claim_names", "{\"x\":\"src2\",\"groups\":\"src1\"}");
        batch.add(format!("version {version}: among other claims"), &twin, &hostile, Refusal::GroupsConflict);
    }
}

fn overage_shapes(batch: &mut Batch) {
    let twin = Draft::v2().with("hasgroups", "true");
    for raw in ["\"true\"", "1", "0", "[]", "[true]", "{}", "null", "\"\""] {
        let hostile = twin.clone().with("hasgroups", raw);
        batch.add(format!("hasgroups {raw}"), &twin, &hostile, Refusal::Malformed("hasgroups"));
    }
    let twin = Draft::v2().with("_claim_names", "{\"groups\":\"src1\"}");
    for raw in ["\"groups\"", "[\"groups\"]", "5", "true", "null"] {
        let hostile = twin.clone().with("_claim_names", raw);
        batch.add(format!("_claim_names {raw}"), &twin, &hostile, Refusal::Malformed("_claim_names"));
    }
}
