//! Certificates of a client that was written from the specification and shares no code with this room: the whole one
//! and its like are admitted, and each step of the verification refuses the certificate that breaks just that step.

use nightlatch_jwt::{Expected, Expiration, KeySet, Kind};
use nightlatch_model::{Reason, Timestamp};
use nightlatch_openpubkey::{Broken, Case, CertificateSpec, Client, Issuer, KeyType, case};
use nightlatch_policy::Outcome;
use nightlatch_sshcert::PublicKey;
use nightlatch_sshcert::testing::TestKey;
use nightlatch_wire::line::is_admit_line;

use super::admit::{Admission, AdmitRules, Known, Offered, admit};
use super::identity::{Extensions, IdentityMap};
use super::local::LocalNames;
use super::openpubkey::{NameClaim, ProofRules};
use super::trust::{KeySource, Revocations, TrustStore};
use super::verified::Verified;

const NOW: Timestamp = Timestamp(1_800_000_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const NAME: &str = "ada@example.com";
const HALF_A_DAY: Expiration = Expiration::AfterIssue(12 * 3_600);

struct Rig {
    issuer: Issuer,
    keys: KeySet,
    rules: AdmitRules,
    revoked: Revocations,
    trust: TrustStore,
}

/// An authority of another kind, which these certificates are not of.
fn trust() -> TrustStore {
    let mut trust = TrustStore::new(3_600);
    let key = TestKey::ed25519([7; 32]).line();
    trust.merge(KeySource::File, vec![PublicKey::from_openssh_line(&key).unwrap()], NOW);
    trust
}

fn rig(expiration: Expiration) -> Rig {
    let issuer = Issuer::new(TENANT, CLIENT).unwrap();
    let mut keys = KeySet::default();
    keys.merge(issuer.jwks().to_string().as_bytes(), NOW).unwrap();
    let tenant = TENANT.parse().unwrap();
    let expected = Expected { kind: Kind::Id, ..Expected::person(tenant, CLIENT) };
    let rules = AdmitRules {
        tenant,
        domains: vec![],
        max_lifetime: 4 * 3_600,
        extensions: Extensions::default(),
        openpubkey: Some(ProofRules { expected, expiration, name: NameClaim::Upn }),
        options: Default::default(),
        step_up_prompt: false,
        local_time: None,
    };
    Rig { issuer, keys, rules, revoked: Revocations::default(), trust: trust() }
}

impl Rig {
    fn offer(&self, user: &str, line: &str, now: Timestamp) -> Admission {
        let mut words = line.split(' ');
        let (key_type, key) = (words.next().unwrap(), words.next().unwrap());
        let known = Known {
            trust: &self.trust,
            revoked: &self.revoked,
            local: &LocalNames::from_passwd("root:x:0:0::/:/bin/sh\n"),
            map: &IdentityMap::default(),
            verified: &Verified::default(),
            access: nightlatch_policy::AccessRules::none(),
            token_keys: &self.keys,
        };
        admit(Offered { user, key_type, key, key_len: key.len() }, &self.rules, known, now)
    }

    fn reason(&self, line: &str) -> Reason {
        self.offer(NAME, line, NOW).result.unwrap_err()
    }

    /// What the rule said that refused.
    fn said(&self, line: &str) -> String {
        let admission = self.offer(NAME, line, NOW);
        let failed = admission.steps.iter().find(|step| matches!(step.outcome, Outcome::Fail(_)));
        failed.map(|step| step.input.clone()).unwrap_or_default()
    }

    fn certificate_at(&self, signed_in: i64) -> String {
        case(Broken::Nothing, KeyType::EcdsaP256, &self.issuer, signed_in).unwrap().certificate
    }
}

/// The reason, and the word of the step where `explain` shows one.
fn wanted(broken: Broken) -> (Reason, &'static str) {
    match broken {
        Broken::Nothing => (Reason::Internal, "never asked for"),
        Broken::CertificateSignature => (Reason::BadSignature, ""),
        // Without a proof, or signed by another key, it is a certificate like any other, of an unknown authority.
        Broken::NotSelfSigned | Broken::PktAbsent => (Reason::CaUnknown, ""),
        Broken::HostCertificate => (Reason::CertTypeHost, ""),
        Broken::CertificateExpired => (Reason::CertExpired, ""),
        Broken::CertificateNotYetValid => (Reason::CertNotYetValid, ""),
        Broken::CriticalOption => (Reason::CriticalOption, ""),
        Broken::PrincipalsEmpty => (Reason::NoPrincipal, ""),
        Broken::PrincipalsOther => (Reason::ManyPrincipals, ""),
        Broken::PrincipalUnsafe => (Reason::PrincipalAlphabet, ""),
        Broken::AccessToken => (Reason::AccessTokenInside, ""),
        Broken::Oversized => (Reason::CertTooLarge, ""),
        Broken::PktBare | Broken::PktTwice | Broken::TrailingBytes => (Reason::CertMalformed, ""),
        Broken::PartMissing
        | Broken::CicMissing
        | Broken::OpMissing
        | Broken::SignatureExtra
        | Broken::PaddedBase64 => (Reason::ProofMalformed, "proof_form"),
        Broken::SignaturesSwapped
        | Broken::CicTypAbsent
        | Broken::CicRzAbsent
        | Broken::CicUpkAbsent
        | Broken::CicDuplicateMember => (Reason::ProofMalformed, "proof_client_header"),
        Broken::CicTyp => (Reason::ProofMalformed, "proof_client_type"),
        Broken::CicAlg | Broken::CicAlgNone | Broken::UpkAlg => {
            (Reason::ProofMalformed, "proof_client_algorithm")
        }
        Broken::SignatureEmpty
        | Broken::MalformedBase64
        | Broken::CicSignature
        | Broken::CicOtherSigner
        | Broken::CicOtherPayload => (Reason::ProofMalformed, "proof_client_signature"),
        Broken::UpkOther => (Reason::ProofMalformed, "this one: false"),
        Broken::RzChanged
        | Broken::CicWhiteSpace
        | Broken::NonceOther
        | Broken::NonceAbsent
        | Broken::NonceOverBase64
        | Broken::NonceSha256 => (Reason::ProofMalformed, "proof_commitment"),
        Broken::IdTokenSignature | Broken::IdTokenPayload | Broken::IdTokenForged => {
            (Reason::IdTokenRefused, "token_bad_signature")
        }
        Broken::IdTokenAlgNone => (Reason::IdTokenRefused, "token_algorithm"),
        Broken::IdTokenOtherAudience => (Reason::IdTokenRefused, "token_audience"),
        Broken::IdTokenOtherIssuer => (Reason::IdTokenRefused, "token_issuer"),
        Broken::IdTokenOld => (Reason::SignInOver, "proof_expired"),
        Broken::FreshMalformed => (Reason::IdTokenRefused, "token_not_compact"),
        Broken::FreshSignature | Broken::FreshForged => (Reason::IdTokenRefused, "token_bad_signature"),
        Broken::FreshAlgNone => (Reason::IdTokenRefused, "token_algorithm"),
        Broken::FreshOtherSubject
        | Broken::FreshOtherObject
        | Broken::FreshOtherNonce
        | Broken::FreshNotNewer => (Reason::ProofMalformed, "proof_other_sign_in"),
        Broken::FreshOtherAudience => (Reason::IdTokenRefused, "token_audience"),
        Broken::FreshOtherIssuer => (Reason::IdTokenRefused, "token_issuer"),
        Broken::FreshExpired => (Reason::SignInOver, "proof_expired"),
    }
}

#[test]
fn the_whole_certificate_is_admitted_for_the_name_in_its_id_token() {
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let rig = rig(HALF_A_DAY);
        let whole = case(Broken::Nothing, key_type, &rig.issuer, NOW.0).unwrap();
        let admission = rig.offer(NAME, &whole.certificate, NOW);
        let admitted = admission.result.unwrap();
        assert!(is_admit_line(admitted.line.as_bytes()), "{}", admitted.line);
        assert!(admitted.line.contains("principals=\"opkssh-wildcard\""), "{}", admitted.line);
        assert_eq!(admitted.oid, "11111111-2222-4333-8444-555555555555".parse().ok());
        // The client's clock is Entra's: a token is dated back by five minutes.
        assert_eq!(admitted.begins, NOW.plus(-300));
        assert_eq!(admitted.ends, NOW.plus(12 * 3_600 - 300));
        assert_eq!(admission.steps.len(), 14);
        assert!(admission.steps.iter().all(|step| step.outcome == Outcome::Pass), "{:?}", admission.steps);
        for other in ["eve@example.com", "ada@example.org"] {
            assert_eq!(rig.offer(other, &whole.certificate, NOW).result.unwrap_err(), Reason::WrongPrincipal);
        }
    }
}

#[test]
fn each_step_refuses_the_certificate_that_breaks_it() {
    let (rig, fresh) = (rig(HALF_A_DAY), rig(Expiration::Refreshed));
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        for broken in Broken::ALL.into_iter().filter(|broken| *broken != Broken::Nothing) {
            let rig = if broken.is_of_refresh() { &fresh } else { &rig };
            let certificate = case(broken, key_type, &rig.issuer, NOW.0).unwrap().certificate;
            let twin = match broken.is_of_refresh() {
                true => Case::with_fresh(key_type, &rig.issuer, NOW.0).unwrap().certificate,
                false => case(Broken::Nothing, key_type, &rig.issuer, NOW.0).unwrap().certificate,
            };
            assert!(rig.offer(NAME, &twin, NOW).result.is_ok(), "the twin of {broken:?}");
            let (reason, word) = wanted(broken);
            let said = rig.said(&certificate);
            assert_eq!(rig.reason(&certificate), reason, "{broken:?}: {said}");
            assert!(said.contains(word), "{broken:?}: {said}");
        }
    }
}

#[test]
fn a_sign_in_is_good_until_its_policy_says_not() {
    let hour = 3_600;
    let ends = |expiration: Expiration, line: &str, rig: &Rig, after: i64| {
        let rules = ProofRules { expiration, ..rig.rules.openpubkey.clone().unwrap() };
        let rig = Rig {
            rules: AdmitRules { openpubkey: Some(rules), ..rig.rules.clone() },
            issuer: Issuer::new(TENANT, CLIENT).unwrap(),
            keys: rig.keys.clone(),
            revoked: Revocations::default(),
            trust: trust(),
        };
        rig.offer(NAME, line, NOW.plus(after)).result.map(|admitted| admitted.ends.since(NOW))
    };
    let rig = rig(HALF_A_DAY);
    let once = rig.certificate_at(NOW.0);
    // Issued at −300 s, for 3,900 s.
    for (expiration, end) in
        [(HALF_A_DAY, 12 * hour - 300), (Expiration::IdToken, hour), (Expiration::Refreshed, hour)]
    {
        assert_eq!(ends(expiration, &once, &rig, 0), Ok(end));
        assert_eq!(ends(expiration, &once, &rig, end - 1), Ok(end));
        assert_eq!(ends(expiration, &once, &rig, end), Err(Reason::SignInOver));
    }
    // Signed in two hours ago, refreshed now.
    let fresh = Case::with_fresh(KeyType::Ed25519, &rig.issuer, NOW.0).unwrap().certificate;
    assert_eq!(ends(Expiration::Refreshed, &fresh, &rig, 0), Ok(hour));
    assert_eq!(ends(Expiration::Refreshed, &fresh, &rig, hour), Err(Reason::SignInOver));
    assert_eq!(ends(Expiration::IdToken, &fresh, &rig, 0), Err(Reason::SignInOver));
    assert_eq!(ends(HALF_A_DAY, &fresh, &rig, 0), Ok(10 * hour - 300));
    // In the future, beyond what clocks may differ.
    let early = rig.certificate_at(NOW.0 + 300 + 61);
    assert_eq!(ends(HALF_A_DAY, &early, &rig, 0), Err(Reason::CertNotYetValid));
    assert!(ends(HALF_A_DAY, &rig.certificate_at(NOW.0 + 300 + 60), &rig, 0).is_ok());
}

#[test]
fn what_the_id_token_does_not_say_is_not_guessed() {
    let rig = rig(HALF_A_DAY);
    let with = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let client = Client::new(KeyType::Ed25519).unwrap();
        let mut claims = rig.issuer.claims(&client.nonce(), NOW.0);
        change(claims.as_object_mut().unwrap());
        let token = client.pk_token(&rig.issuer.id_token(&claims).unwrap()).unwrap();
        rig.reason(&client.certificate(&CertificateSpec::new(token)).unwrap())
    };
    // A client that did not ask for `profile`.
    assert_eq!(
        with(&|claims| {
            claims.remove("oid");
            claims.remove("preferred_username");
        }),
        Reason::IdTokenNoOid
    );
    // What somebody may have typed at sign-in is no name, nor is an address.
    assert_eq!(
        with(&|claims| {
            claims.remove("upn");
        }),
        Reason::IdTokenNoName
    );
    // Groups by name, as a tenant can have them: no login rests on them.
    let named = |claims: &mut serde_json::Map<String, serde_json::Value>| {
        claims.insert("groups".into(), serde_json::json!(["operators"]));
        claims.insert("preferred_username".into(), "eve@example.com".into());
    };
    let client = Client::new(KeyType::Ed25519).unwrap();
    let mut claims = rig.issuer.claims(&client.nonce(), NOW.0);
    named(claims.as_object_mut().unwrap());
    let token = client.pk_token(&rig.issuer.id_token(&claims).unwrap()).unwrap();
    let line = client.certificate(&CertificateSpec::new(token)).unwrap();
    assert!(rig.offer(NAME, &line, NOW).result.is_ok());
    assert_eq!(
        with(&|claims| {
            claims.insert("acct".into(), 1.into());
        }),
        Reason::NameNotAllowed
    );
}

#[test]
fn a_node_that_does_not_know_says_so() {
    let mut rig = rig(HALF_A_DAY);
    let line = rig.certificate_at(NOW.0);
    let stranger = Issuer::new(TENANT, CLIENT).unwrap();
    let other = case(Broken::Nothing, KeyType::Ed25519, &stranger, NOW.0).unwrap().certificate;
    assert_eq!(rig.reason(&other), Reason::TokenKeyUnknown);
    // What it is known by is taken back; what its holder could write anew says nothing.
    let handle = rig.offer(NAME, &line, NOW).result.unwrap().handle;
    assert_eq!((handle.serial, &*handle.key_id), (None, "openpubkey dXRpIG9mIGEgdG9rZW4"));
    for (line_of_file, taken) in [
        (format!("key {}", handle.fingerprint), true),
        (format!("key-id {}", handle.key_id), true),
        ("serial 0".to_owned(), false),
        ("key-id ada@example.com".to_owned(), false),
    ] {
        rig.revoked = Revocations::parse(&line_of_file).unwrap();
        let refused = rig.offer(NAME, &line, NOW).result.err();
        assert_eq!(refused, taken.then_some(Reason::CertRevoked), "{line_of_file}");
    }
    rig.revoked = Revocations::default();
    rig.keys = KeySet::default();
    assert_eq!(rig.reason(&line), Reason::TokenKeysUnknown);
    rig.rules.openpubkey = None;
    assert_eq!(rig.reason(&line), Reason::OpenpubkeyOff);
}
