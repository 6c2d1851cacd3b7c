//! Bugs of other programs that let somebody in, or locked everybody out, told on this node.
//!
//! Rows that have their test beside the code are not told again here.

use nightlatch_sshcert::PublicKey;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey, string};
use nightlatch_world::{Person, wait_until};

use crate::site::{SOON, Site, oid_of, site, text};

/// Offers a forged certificate through ssh, then a good one.
fn refused(name: &str, reason: &str, change: impl FnOnce(CertificateBuilder) -> CertificateBuilder) {
    let site = site();
    site.roles(&[(name, "user")]);
    let person = Person::new(&site.image).unwrap();
    let good = site.forged(&person, name);
    person.take_certificate(&change(good.clone()).line(&site.forge)).unwrap();
    site.assert_refused(&person, name, reason);
    person.take_certificate(&good.line(&site.forge)).unwrap();
    site.assert_in(&person, name);
}

#[test]
fn past_bug_row_10_another_tenants_certificate_by_our_authority() {
    let site = site();
    let name = "row10t@contoso.com";
    site.roles(&[(name, "admin")]);
    let person = site.person(name);
    for tenant in [
        "99999999-2222-3333-4444-555555555555",
        "9188040d-6c67-4c5b-b112-36a304b66dad",
        "common",
        "11111111-2222-3333-4444-555555555555/",
        "",
    ] {
        site.certify(&person, &site.spec_as(name, &oid_of(name), tenant));
        site.assert_refused(&person, name, "tenant_mismatch");
    }
    site.certify(&person, &site.spec(name));
    site.assert_in(&person, name);
}

/// An application is let in when its object id was given the role, and only then.
#[test]
fn past_bug_row_16_an_application_needs_its_own_right() {
    let site = site();
    let name = "5c0163c0-47e6-4577-8991-ea5c82e286e4";
    let person = site.person(name);
    let refused = site.assert_closed(&person, name, "no_vm_role");
    assert!(refused.stderr.contains("ServicePrincipal"), "{refused:?}");
    site.roles(&[(name, "user")]);
    site.assert_in(&person, name);
    // Another application's certificate does not open this one's name.
    site.certify(&person, &site.spec("6c0163c0-47e6-4577-8991-ea5c82e286e4"));
    site.assert_refused(&person, name, "wrong_principal");
}

#[test]
fn past_bug_row_24_a_principal_that_is_two_names_or_half_a_name() {
    let site = site();
    let name = "row24@contoso.com";
    site.roles(&[(name, "user")]);
    let person = Person::new(&site.image).unwrap();
    let good = site.forged(&person, name);
    for principal in
        [&format!("{name},root"), &format!("{name},"), &format!(",{name}"), "row24@contoso.com root"]
    {
        let line = good.clone().principals([principal]).line(&site.forge);
        person.take_certificate(&line).unwrap();
        site.assert_refused(&person, name, "principal_alphabet");
        assert!(site.hook(name, &line).stdout.is_empty(), "{principal}");
    }
    // What the client itself will not load is put to the hook by hand.
    for principal in [&b"row24@contoso.com\0x"[..], b"row24@contoso.com\n", b"row24@contoso.com\"", b""] {
        let asked = site.hook(name, &good.clone().principals([principal]).line(&site.forge));
        assert!(asked.stdout.is_empty(), "{principal:?}: {}", text(&asked));
    }
    site.assert_explained(name, "principal_alphabet");
    let many: Vec<String> =
        (0..256).map(|n| if n == 0 { name.into() } else { format!("n{n}@contoso.com") }).collect();
    person.take_certificate(&good.clone().principals(many).line(&site.forge)).unwrap();
    site.assert_refused(&person, name, "many_principals");
    person.take_certificate(&good.line(&site.forge)).unwrap();
    site.assert_in(&person, name);
}

#[test]
fn past_bug_row_38_a_forced_command_is_not_dropped() {
    refused("row38a@contoso.com", "critical_option", |cert| {
        cert.critical("force-command", string(b"/bin/true"))
    });
}

#[test]
fn past_bug_row_38_a_source_address_is_not_dropped() {
    refused("row38b@contoso.com", "critical_option", |cert| {
        cert.critical("source-address", string(b"127.0.0.1/32"))
    });
}

/// A revoked serial, key, key id and authority, each taken back while the daemon runs.
#[test]
fn past_bug_row_38_what_was_taken_back_is_refused() {
    let site = Site::start();
    let fingerprint = |line: &str| PublicKey::from_openssh_line(line).unwrap().fingerprint();
    // Somebody else for each row: of one name only so many refusals are recorded in a minute.
    let revoked = |name: &str, reason: &str, row: &dyn Fn(&Person, &CertificateBuilder) -> String| {
        site.roles(&[(name, "user")]);
        let person = Person::new(&site.image).unwrap();
        let mut good = site.forged(&person, name);
        good.serial = 4242;
        person.take_certificate(&good.line(&site.forge)).unwrap();
        wait_until("the role", SOON, || site.ssh(&person, name, &["true"]).is_in()).unwrap();
        let row = row(&person, &good);
        let file = format!("# taken back\n{row}\n");
        site.node.write_file("/etc/nightlatch/revoked", file.as_bytes(), 0o644, "root:root").unwrap();
        wait_until(&row, SOON, || !site.ssh(&person, name, &["true"]).is_in()).unwrap();
        site.assert_refused(&person, name, reason);
        // A line that is not understood keeps what was in force.
        let complaints = || {
            let journal = site.node.journal(&["-u", "nightlatchd"]).unwrap();
            journal.matches("line 1 is not understood").count()
        };
        let before = complaints();
        site.node.write_file("/etc/nightlatch/revoked", b"serial x\n", 0o644, "root:root").unwrap();
        wait_until("the complaint", SOON, || complaints() > before).unwrap();
        site.assert_refused(&person, name, reason);
        // Emptied by a full disk it says nothing; removed it says that nothing is taken back.
        if reason == "ca_revoked" {
            site.node.shell(": >/etc/nightlatch/revoked; sleep 5").unwrap();
            site.assert_refused(&person, name, reason);
        }
        site.node.shell("rm /etc/nightlatch/revoked").unwrap();
        wait_until("the way back", SOON, || site.ssh(&person, name, &["true"]).is_in()).unwrap();
    };
    revoked("row38c@contoso.com", "cert_revoked", &|_, _| "serial 4242".to_owned());
    revoked("row38d@contoso.com", "cert_revoked", &|person, _| {
        format!("key {}", fingerprint(&person.public_key().unwrap()))
    });
    revoked("row38e@contoso.com", "cert_revoked", &|_, good| {
        format!("key-id {}", String::from_utf8(good.key_id.clone()).unwrap())
    });
    revoked("row38f@contoso.com", "ca_revoked", &|_, _| format!("ca {}", fingerprint(&site.forge.line())));
    // The other authority's people never noticed.
    site.assert_in(&site.person("row38c@contoso.com"), "row38c@contoso.com");
}

#[test]
fn past_bug_row_39_a_certificate_is_no_authority_and_nobody_is_his_own() {
    let site = site();
    let name = "row39@contoso.com";
    site.roles(&[(name, "user")]);
    let person = Person::new(&site.image).unwrap();
    let good = site.forged(&person, name);
    // Signed by the holder of a certificate of the authority.
    let middle = TestKey::p256();
    let mut nested = good.clone();
    nested.signature_key = Some(CertificateBuilder::new(&middle).principals([name]).sign(&site.forge));
    assert!(site.hook(name, &nested.line(&middle)).stdout.is_empty());
    site.assert_explained(name, "key_unsupported");
    let by_middle = good.line(&middle);
    person.take_certificate(&by_middle).unwrap();
    site.assert_refused(&person, name, "ca_unknown");
    // The authority's key as the holder's.
    let own = CertificateBuilder { numbers: site.forge.numbers(), ..good.clone() };
    let own = CertificateBuilder { cert_type: b"ecdsa-sha2-nistp256-cert-v01@openssh.com".to_vec(), ..own };
    assert!(site.hook(name, &own.line(&site.forge)).stdout.is_empty());
    site.assert_explained(name, "ca_unknown");
    person.take_certificate(&good.line(&site.forge)).unwrap();
    site.assert_in(&person, name);
}

#[test]
fn past_bug_row_41_a_certificate_for_ever_or_for_a_day() {
    for (name, after, before) in [("row41a@contoso.com", 0, u64::MAX), ("row41c@contoso.com", 0, 1 << 62)] {
        refused(name, "cert_lifetime", |cert| cert.valid(after, before));
    }
    refused("row41b@contoso.com", "cert_lifetime", |cert| {
        let (after, before) = (cert.valid_after, cert.valid_before);
        cert.valid(after, before + 24 * 3600)
    });
    refused("row41d@contoso.com", "cert_expired", |cert| cert.valid(0, 0));
    refused("row41e@contoso.com", "cert_not_yet_valid", |cert| cert.valid(u64::MAX - 1, u64::MAX));
}

/// Bytes that a journal, a terminal or a line-based reader would obey, in every field that a stranger
/// fills: one record each, with the fields that it always has.
#[test]
fn past_bug_row_71_nothing_in_a_certificate_forges_a_record() {
    let site = Site::start();
    let name = "row71@contoso.com";
    site.roles(&[(name, "user")]);
    let person = Person::new(&site.image).unwrap();
    let good = site.forged(&person, name);
    person.take_certificate(&good.line(&site.forge)).unwrap();
    site.assert_in(&person, name);
    wait_until("the record", SOON, || site.decisions(name).len() >= 2).unwrap();
    let fields = |records: &[serde_json::Value]| {
        let mut all: Vec<Vec<String>> = records
            .iter()
            .filter(|record| record["NIGHTLATCH_USER"] == name)
            .map(|record| {
                record
                    .as_object()
                    .unwrap()
                    .keys()
                    .filter(|key| key.starts_with("NIGHTLATCH"))
                    .cloned()
                    .collect()
            })
            .collect();
        all.sort();
        all.dedup();
        all
    };
    let before = site.records();
    let known = fields(&before);
    assert!(!known.is_empty() && known.len() <= 2, "{known:?}");

    let evil: &[u8] =
        b"x\nMESSAGE=forged\nPRIORITY=0\nNIGHTLATCH_REASON=fine\r\x1b[2J\x1b]0;owned\x07\xe2\x80\xa8";
    let mut hostile = good.clone();
    hostile.key_id = evil.to_vec();
    person.take_certificate(&hostile.line(&site.forge)).unwrap();
    site.assert_in(&person, name);
    // The same bytes where they are refused: in ids, names of options, principals.
    for line in [
        good.clone().critical("a@example.com", evil).line(&site.forge),
        good.clone().critical(evil, "").line(&site.forge),
        good.clone().extension(evil, "").line(&site.forge),
        good.clone().principals([evil]).line(&site.forge),
        hostile.clone().principals(["other71@contoso.com"]).line(&site.forge),
    ] {
        assert!(site.hook(name, &line).stdout.is_empty());
    }
    let mut tenant = good.clone();
    tenant.extensions = Vec::new();
    let tenant = tenant.text_extension("tid@entra.microsoft.com", evil);
    assert!(site.hook(name, &tenant.line(&site.forge)).stdout.is_empty());
    wait_until("the records", SOON, || site.decisions(name).len() >= 9).unwrap();

    let records = site.records();
    for record in &records {
        let message = record["MESSAGE"].as_str().unwrap_or_else(|| panic!("not plain text: {record}"));
        assert!(!message.starts_with("forged") && record["PRIORITY"] != "0", "{record}");
        assert!(message.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{record}");
        assert_ne!(record["NIGHTLATCH_REASON"], "fine");
    }
    let mut expected = known.clone();
    expected.extend(fields(&records).into_iter().filter(|set| set.contains(&"NIGHTLATCH_REASON".to_owned())));
    expected.sort();
    expected.dedup();
    assert_eq!(fields(&records), expected, "the field names are those of any yes and any refusal");
    assert!(expected.len() <= 2 + known.len(), "{expected:?}");
    let ring = site.node.shell("cat /var/lib/nightlatch/decisions.jsonl").unwrap();
    assert!(ring.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{ring}");
    let shown = site.node.exec(&["nightlatch", "explain", "--last", name]).unwrap();
    assert!(
        text(&shown).bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)),
        "{}",
        text(&shown)
    );
}
