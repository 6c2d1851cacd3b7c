//! Each hostile certificate here differs from the good one in exactly one respect.

use nightlatch_jwt::KeySet;
use nightlatch_model::{LoginName, Reason, Timestamp};
use nightlatch_policy::Outcome;
use nightlatch_sshcert::PublicKey;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_wire::line::is_admit_line;

use super::admit::{Admission, AdmitRules, Known, Offered, admit};
use super::identity::{Extensions, IdentityMap};
use super::local::LocalNames;
use super::trust::{KeySource, Revocations, TrustStore};
use super::verified::Verified;

const NOW: Timestamp = Timestamp(1_800_000_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OID: &str = "00000000-0000-4000-8000-000000000001";

struct Rig {
    ca: TestKey,
    holder: TestKey,
    rules: AdmitRules,
    trust: TrustStore,
    revoked: Revocations,
    local: LocalNames,
    map: IdentityMap,
    verified: Verified,
    token_keys: KeySet,
}

fn rig(source: KeySource) -> Rig {
    let ca = TestKey::ed25519([7; 32]);
    let mut trust = TrustStore::new(3_600);
    trust.merge(source, vec![PublicKey::from_openssh_line(&ca.line()).unwrap()], NOW);
    Rig {
        ca,
        holder: TestKey::ed25519([8; 32]),
        rules: AdmitRules {
            tenant: TENANT.parse().unwrap(),
            domains: vec![],
            max_lifetime: 4 * 3_600,
            extensions: Extensions::default(),
            openpubkey: None,
            options: Default::default(),
            step_up_prompt: false,
            local_time: None,
        },
        trust,
        revoked: Revocations::default(),
        local: LocalNames::from_passwd("root:x:0:0::/:/bin/sh\nazureuser:x:1000:1000::/:/bin/sh\n"),
        map: IdentityMap::default(),
        verified: Verified::default(),
        token_keys: KeySet::default(),
    }
}

impl Rig {
    fn good(&self) -> CertificateBuilder {
        let mut builder = CertificateBuilder::new(&self.holder)
            .principals(["Alice@contoso.com"])
            .text_extension("oid@entra.microsoft.com", OID)
            .text_extension("tid@entra.microsoft.com", TENANT)
            .permit_all();
        builder.valid_after = u64::try_from(NOW.0 - 300).unwrap();
        builder.valid_before = u64::try_from(NOW.0 + 3_300).unwrap();
        builder
    }

    fn offer(&self, user: &str, line: &str) -> Admission {
        self.offer_at(user, line, NOW)
    }

    fn offer_at(&self, user: &str, line: &str, now: Timestamp) -> Admission {
        let (key_type, key) = line.split_once(' ').unwrap();
        let known = Known {
            trust: &self.trust,
            revoked: &self.revoked,
            local: &self.local,
            map: &self.map,
            verified: &self.verified,
            access: nightlatch_policy::AccessRules::none(),
            token_keys: &self.token_keys,
        };
        admit(Offered { user, key_type, key: key.trim(), key_len: key.trim().len() }, &self.rules, known, now)
    }

    fn reason(&self, builder: &CertificateBuilder) -> Reason {
        self.offer("alice@contoso.com", &builder.line(&self.ca)).result.unwrap_err()
    }
}

#[test]
fn the_good_certificate_is_admitted_with_one_line() {
    let rig = rig(KeySource::Imds);
    let admission = rig.offer("alice@contoso.com", &rig.good().line(&rig.ca));
    let admitted = admission.result.unwrap();
    assert!(is_admit_line(admitted.line.as_bytes()));
    assert!(admitted.line.contains("principals=\"Alice@contoso.com\""), "as the certificate spells it");
    assert_eq!(admitted.oid, OID.parse().ok());
    assert_eq!(admitted.name, LoginName::parse("alice@contoso.com").unwrap());
    assert!(admission.steps.iter().all(|step| step.outcome == Outcome::Pass), "{:?}", admission.steps);
    assert_eq!(admission.steps.len(), 14);
}

#[test]
fn one_wrong_thing_is_named() {
    let rig = rig(KeySource::Imds);
    let at = |seconds: i64| u64::try_from(NOW.0 + seconds).unwrap();
    let with = |change: &dyn Fn(&mut CertificateBuilder)| {
        let mut builder = rig.good();
        change(&mut builder);
        rig.reason(&builder)
    };
    assert_eq!(with(&|b| b.valid_before = at(0)), Reason::CertExpired);
    assert_eq!(with(&|b| b.valid_after = at(1)), Reason::CertNotYetValid);
    assert_eq!(with(&|b| b.valid_before = at(4 * 3_600)), Reason::CertLifetime);
    // opkssh's own certificates do this: past bug row 41.
    assert_eq!(with(&|b| b.valid_before = u64::MAX), Reason::CertLifetime);
    assert_eq!(rig.reason(&rig.good().critical("force-command", b"\0\0\0\x02id")), Reason::CriticalOption);
    assert_eq!(rig.reason(&rig.good().principals::<&str>([])), Reason::NoPrincipal);
    assert_eq!(rig.reason(&rig.good().principals(["bob@contoso.com"])), Reason::WrongPrincipal);
    let two = ["alice@contoso.com", "bob@contoso.com"];
    assert_eq!(rig.reason(&rig.good().principals(two)), Reason::ManyPrincipals);
    for comma in
        ["alice@contoso.com,root", "alice@contoso.com,", ",alice@contoso.com", "alice@contoso.com\0x"]
    {
        let reason = rig.reason(&rig.good().principals([comma]));
        assert!(matches!(reason, Reason::PrincipalAlphabet | Reason::CertMalformed), "{comma:?}: {reason}");
    }
    let other = TestKey::ed25519([9; 32]);
    let foreign = rig.good().line(&other);
    assert_eq!(rig.offer("alice@contoso.com", &foreign).result.unwrap_err(), Reason::CaUnknown);
    let itself = rig.good().line(&rig.holder);
    assert_eq!(rig.offer("alice@contoso.com", &itself).result.unwrap_err(), Reason::CaUnknown);
    assert_eq!(
        rig.offer("alice@contoso.com", &rig.holder.line()).result.unwrap_err(),
        Reason::NotACertificate
    );
}

#[test]
fn past_bug_row_10_another_tenant_is_refused() {
    let rig = rig(KeySource::Imds);
    let builder = |tid: &str| {
        let mut builder = CertificateBuilder::new(&rig.holder)
            .principals(["alice@contoso.com"])
            .text_extension("oid@entra.microsoft.com", OID)
            .text_extension("tid@entra.microsoft.com", tid);
        builder.valid_after = u64::try_from(NOW.0 - 300).unwrap();
        builder.valid_before = u64::try_from(NOW.0 + 300).unwrap();
        builder
    };
    assert!(rig.offer("alice@contoso.com", &builder(TENANT).line(&rig.ca)).result.is_ok());
    for tid in ["99999999-2222-3333-4444-555555555555", "common", "", "9188040d-6c67-4c5b-b112-36a304b66dad"]
    {
        assert_eq!(rig.reason(&builder(tid)), Reason::TenantMismatch, "{tid}");
    }
}

#[test]
fn only_a_pinned_key_speaks_for_the_tenant() {
    let unnamed = |rig: &Rig| {
        let mut builder = CertificateBuilder::new(&rig.holder).principals(["alice@contoso.com"]);
        builder.valid_after = u64::try_from(NOW.0 - 300).unwrap();
        builder.valid_before = u64::try_from(NOW.0 + 300).unwrap();
        rig.offer("alice@contoso.com", &builder.line(&rig.ca))
    };
    assert_eq!(unnamed(&rig(KeySource::Imds)).result.unwrap_err(), Reason::TenantMismatch);
    let pinned = unnamed(&rig(KeySource::File)).result.unwrap();
    assert_eq!((pinned.oid, pinned.identity_source), (None, "nowhere"));
    let mut mapped = rig(KeySource::File);
    mapped.map =
        IdentityMap::parse(&format!("[[person]]\nname = \"alice@contoso.com\"\noid = \"{OID}\"\n")).unwrap();
    assert_eq!(unnamed(&mapped).result.unwrap().oid, OID.parse().ok());
}

#[test]
fn past_bug_row_38_what_was_taken_back_is_refused() {
    let mut rig = rig(KeySource::Imds);
    let ca = PublicKey::from_openssh_line(&rig.ca.line()).unwrap().fingerprint();
    let holder = PublicKey::from_openssh_line(&rig.holder.line()).unwrap().fingerprint();
    for (line, reason) in [
        (format!("ca {ca}"), Reason::CaRevoked),
        (format!("key {holder}"), Reason::CertRevoked),
        (format!("key   {holder} alice@laptop (ED25519)"), Reason::CertRevoked),
        ("serial 77".to_owned(), Reason::CertRevoked),
        ("key-id stolen laptop".to_owned(), Reason::CertRevoked),
    ] {
        rig.revoked = Revocations::parse(&format!("# lost\n\n{line}\n")).unwrap();
        let mut builder = rig.good();
        builder.serial = 77;
        builder.key_id = b"stolen laptop".to_vec();
        assert_eq!(rig.reason(&builder), reason, "{line}");
    }
    assert_eq!(Revocations::parse("serial 1\nnonsense\n"), Err(2));
    // Cut short, or of another hash: it would match nothing.
    let short = ca.get(..ca.len() - 1).unwrap();
    for line in
        [format!("ca {short}"), format!("ca {ca}="), format!("key {holder}#lost"), "ca SHA256:".into()]
    {
        assert_eq!(Revocations::parse(&line), Err(1), "{line}");
    }
}

#[test]
fn names_that_are_not_ours_are_refused_before_the_certificate_is_read() {
    let rig = rig(KeySource::Imds);
    let line = rig.good().line(&rig.ca);
    for (user, reason) in [
        ("Alice@contoso.com", Reason::NameNotAllowed),
        ("a#EXT#@contoso.com", Reason::NameNotAllowed),
        ("root@contoso.com", Reason::LocalName),
        ("azureuser@contoso.com", Reason::LocalName),
    ] {
        assert_eq!(rig.offer(user, &line).result.unwrap_err(), reason, "{user}");
    }
    let mut only = rig;
    only.rules.domains = vec!["fabrikam.com".into()];
    assert_eq!(only.offer("alice@contoso.com", &line).result.unwrap_err(), Reason::DomainNotAllowed);
}

#[test]
fn a_key_that_vanished_is_believed_for_the_grace_and_no_longer() {
    let mut rig = rig(KeySource::Imds);
    let mut builder = rig.good();
    builder.valid_before = u64::try_from(NOW.0 + 3 * 3_600).unwrap();
    let line = builder.line(&rig.ca);
    let other = PublicKey::from_openssh_line(&TestKey::ed25519([3; 32]).line()).unwrap();
    rig.trust.merge(KeySource::Imds, vec![other.clone()], NOW.plus(60));
    assert!(rig.offer_at("alice@contoso.com", &line, NOW.plus(3_600)).result.is_ok());
    let late = rig.offer_at("alice@contoso.com", &line, NOW.plus(3_601)).result;
    assert_eq!(late.unwrap_err(), Reason::CaUnknown);
    // What a restart brings back is not younger than it was.
    let kept = rig.trust.kept();
    let mut again = TrustStore::new(3_600);
    again.restore(kept, NOW.plus(60));
    rig.trust = again;
    let late = rig.offer_at("alice@contoso.com", &line, NOW.plus(3_601)).result;
    assert_eq!(late.unwrap_err(), Reason::CaUnknown);
}

#[test]
fn without_any_key_nothing_can_be_said() {
    let mut rig = rig(KeySource::Imds);
    let line = rig.good().line(&rig.ca);
    rig.trust = TrustStore::new(3_600);
    assert_eq!(rig.offer("alice@contoso.com", &line).result.unwrap_err(), Reason::CaKeysUnknown);
}

#[test]
fn a_certificate_that_was_too_large_to_pass_on_has_its_reason() {
    let rig = rig(KeySource::Imds);
    let known = Known {
        trust: &rig.trust,
        revoked: &rig.revoked,
        local: &rig.local,
        map: &rig.map,
        verified: &rig.verified,
        token_keys: &rig.token_keys,
        access: nightlatch_policy::AccessRules::none(),
    };
    let offered = Offered {
        user: "alice@contoso.com",
        key_type: "ssh-rsa-cert-v01@openssh.com",
        key: "",
        key_len: 100_000,
    };
    assert_eq!(admit(offered, &rig.rules, known, NOW).result.unwrap_err(), Reason::CertTooLarge);
}

/// OpenSSH before 9.1 reads expiry-time in local time only and refuses a line with `Z`.
#[test]
fn an_old_sshd_gets_local_time() {
    let mut rig = rig(KeySource::Imds);
    let line = rig.good().line(&rig.ca);
    let utc = rig.offer("alice@contoso.com", &line).result.unwrap().line;
    rig.rules.local_time = Some(|at| at.plus(3_600).civil());
    let local = rig.offer("alice@contoso.com", &line).result.unwrap().line;
    let stamp =
        |line: &str| line.split("expiry-time=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let end = NOW.plus(3_300);
    assert_eq!(stamp(&utc).len(), 15);
    assert!(stamp(&utc).ends_with('Z'));
    let (y, mo, d, h, mi, s) = end.plus(3_600).civil();
    assert_eq!(stamp(&local), format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}"));
    assert!(is_admit_line(local.as_bytes()));
}
