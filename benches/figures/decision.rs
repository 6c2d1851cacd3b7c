//! What it costs to judge a certificate with a sign-in in it: one that is good, and hostile ones that fail at the last
//! check before their refusal, on a node with a hundred access rules, which are asked about forwardings. The floor is one RSA-2048 verification, which each of them that comes so far needs.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use nightlatch::access::NodeZones;
use nightlatch::login::{
    AdmitRules, Extensions, IdentityMap, Known, LocalNames, NameClaim, Offered, ProofRules, Revocations,
    TrustStore, Verified, admit,
};
use nightlatch_jwt::{Expected, Expiration, KeySet, Kind};
use nightlatch_model::Timestamp;
use nightlatch_openpubkey::{Broken, Issuer, KeyType, case};
use nightlatch_policy::{AccessPolicy, AccessRules, NodeFacts};
use nightlatch_rules::compile;
use nightlatch_sshcert::testing::TestKey;

use crate::pairs::{AGAIN, FLOOR, Plan, measure, micros};
use crate::row::{Limit, NONE, Row};

const NOW: Timestamp = Timestamp(1_800_000_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const USER: &str = "ada@example.com";
/// What is signed of an ID token, in bytes.
const SIGNED_BYTES: usize = 900;
/// For a good one and for a hostile one.
const WARM: Limit = Limit { value: Some(300.0), ..NONE };
/// The programs behind the floor, and the rows they make.
const PROGRAMS: [(&str, Broken); 4] = [
    ("decision.claims_warm", Broken::Nothing),
    ("decision.claims_forged", Broken::IdTokenForged),
    ("decision.claims_other_key", Broken::UpkOther),
    ("decision.claims_no_form", Broken::PartMissing),
];

/// How many access rules the node has; only the last is about the person.
const ACCESS_RULES: usize = 100;

fn access_rules() -> Result<AccessPolicy, String> {
    let rule = |number: usize| {
        format!(
            "[[rule]]\nname = \"r{number}\"\neffect = \"step-up\"\nwho = {{ users = [\"{number:08x}-0000-4000-8000-000000000000\"] }}\n\
             network = [\"10.{number}.0.0/16\"]\nrequire = {{ acrs = [\"c1\"] }}\n"
        )
    };
    let mut text: String = (1..ACCESS_RULES).map(rule).collect();
    text.push_str("[[rule]]\nname = \"rest\"\neffect = \"permit\"\nwho = { anyone = true }\n");
    let compiled = compile(&[("rules.toml".to_owned(), text)], &NodeZones).map_err(|why| why.to_string())?;
    Ok(compiled.policy)
}

/// The rows.
///
/// # Errors
/// When an answer is not the one that belongs to the certificate.
pub(crate) fn rows(quick: bool) -> Result<Vec<Row>, String> {
    let words = |why: nightlatch_openpubkey::Error| why.to_string();
    let issuer = Issuer::new(TENANT, CLIENT).map_err(words)?;
    let mut keys = KeySet::default();
    keys.merge(issuer.jwks().to_string().as_bytes(), NOW).map_err(|why| why.to_string())?;
    let tenant = TENANT.parse().map_err(|_| "no tenant")?;
    let expected = Expected { kind: Kind::Id, ..Expected::person(tenant, CLIENT) };
    let rules = AdmitRules {
        tenant,
        domains: Vec::new(),
        max_lifetime: 4 * 3_600,
        extensions: Extensions::default(),
        openpubkey: Some(ProofRules {
            expected,
            expiration: Expiration::AfterIssue(14_400),
            name: NameClaim::Upn,
        }),
        options: nightlatch_wire::line::LineOptions::default(),
        step_up_prompt: false,
        local_time: None,
    };
    let (trust, revoked, map, verified) =
        (TrustStore::new(3_600), Revocations::default(), IdentityMap::default(), Verified::default());
    let local = LocalNames::from_passwd("root:x:0:0::/:/bin/sh\n");
    let policy = access_rules()?;
    let known = Known {
        trust: &trust,
        revoked: &revoked,
        local: &local,
        map: &map,
        verified: &verified,
        access: AccessRules { policy: &policy, node: &NodeFacts::default(), offsets: &[] },
        token_keys: &keys,
    };
    let mut lines = Vec::new();
    for (_, broken) in PROGRAMS {
        lines.push(case(broken, KeyType::EcdsaP256, &issuer, NOW.0).map_err(words)?.certificate);
    }

    let rsa = TestKey::rsa2048();
    let (n, e) = rsa.rsa_n_e().ok_or("no RSA key")?;
    let message = vec![0x5a; SIGNED_BYTES];
    let signature = rsa.sign_raw("rsa-sha2-256", &message);
    let floor = RsaPublicKeyComponents { n: &n, e: &e };
    let plan = if quick { Plan { runs: 5, rounds: 40 } } else { Plan { runs: 5, rounds: 1_000 } };
    let paired = measure(plan, 2 + PROGRAMS.len(), |program, _| {
        if program == FLOOR || program == AGAIN {
            let (took, done) = micros(|| floor.verify(&RSA_PKCS1_2048_8192_SHA256, &message, &signature));
            return done.map(|()| took).map_err(|_| "the floor's own signature does not verify".to_owned());
        }
        let line = lines.get(program - 2).ok_or("no such program")?;
        let mut parts = line.split(' ');
        let (Some(key_type), Some(key)) = (parts.next(), parts.next()) else { return Err("no line".into()) };
        let offered = Offered { user: USER, key_type, key, key_len: key.len() };
        let (took, admission) = micros(|| admit(offered, &rules, known, NOW));
        let good = program == 2;
        if admission.result.is_ok() == good {
            Ok(took)
        } else {
            Err(format!("{program}: {:?}", admission.result))
        }
    })?;
    let mut rows: Vec<Row> = PROGRAMS
        .iter()
        .enumerate()
        .map(|(at, (name, _))| Row::timed(name, "µs", &paired, at + 2, WARM))
        .collect();
    rows.push(Row::again("decision", "µs", &paired));
    Ok(rows)
}
