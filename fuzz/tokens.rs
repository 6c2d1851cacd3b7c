//! Tokens: what stands in a certificate of a stranger, what the sign-in host publishes, what a caller shows.

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_jwt::{
    Algorithm, Expected, Expiration, KeySet, KeySetError, Kind, MAX_JWKS_BYTES, MAX_KEYS, MAX_TOKEN_BYTES,
    Refusal, validate, verify_proof,
};
use nightlatch_model::Timestamp;
use serde_json::Value;

/// When the samples were made.
const NOW: Timestamp = Timestamp(1_800_000_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
/// The issuer's key set that the sample of a proof was made with.
const PROOF_KEYS: &[u8] = include_bytes!("seeds/key_set/proof.json");

/// A signer, and the key set that names it.
static SIGNER: LazyLock<(Ed25519KeyPair, KeySet)> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"k","x":"{x}"}}]}}"#);
    let mut keys = KeySet::default();
    keys.merge(jwks.as_bytes(), NOW).expect("a key set");
    (pair, keys)
});

fn expected(kind: Kind) -> Expected {
    let tenant = TENANT.parse().expect("a tenant");
    let algorithms = vec![Algorithm::EdDsa, Algorithm::Rs256];
    Expected { kind, algorithms, ..Expected::person(tenant, CLIENT) }
}

/// Any bytes as a token, and as the payload of one that is rightly signed: nothing unsigned is believed, and what is
/// believed is what a plain JSON reader sees, for us, and in its time.
pub fn token(data: &[u8]) {
    let (pair, keys) = &*SIGNER;
    if let Ok(text) = str::from_utf8(data) {
        let refused = validate(text, &expected(Kind::UserAccess), keys, NOW);
        assert!(text.len() <= MAX_TOKEN_BYTES || refused == Err(Refusal::TooLarge));
    }
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"k"}"#),
        URL_SAFE_NO_PAD.encode(data)
    );
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())));
    for kind in [Kind::UserAccess, Kind::AppAccess, Kind::Id] {
        let Ok(claims) = validate(&token, &expected(kind), keys, NOW) else { continue };
        let plain: Value = serde_json::from_slice(data).expect("what is believed is JSON");
        let text = |name: &str| plain.get(name).and_then(Value::as_str);
        let time = |name: &str| plain.get(name).and_then(Value::as_i64).map(Timestamp);
        assert_eq!((text("aud"), text("tid")), (Some(CLIENT), Some(TENANT)));
        assert_eq!(text("oid").and_then(|id| id.parse().ok()), Some(claims.oid));
        assert!(text("iss").is_some_and(|issuer| issuer == claims.issuer && issuer.contains(TENANT)));
        assert_eq!((time("exp"), time("iat")), (Some(claims.expires), Some(claims.issued_at)));
        assert!(NOW.since(claims.expires) < 60 && claims.not_before.since(NOW) <= 60);
        assert_eq!(claims.scopes.is_empty(), kind != Kind::UserAccess);
        assert_ne!(claims.guest, Some(true));
    }
}

/// Any bytes as a key set: bounded, never worse than before, and the same again after a restart.
pub fn key_set(data: &[u8]) {
    let mut keys = SIGNER.1.clone();
    let before = keys.clone();
    match keys.merge(data, NOW.plus(60)) {
        Ok(merged) => {
            assert!(data.len() <= MAX_JWKS_BYTES && keys.len() <= 4 * MAX_KEYS);
            assert_eq!(keys.len() + merged.dropped, before.len() + merged.added);
            let saved = keys.save().expect("a set can be saved");
            assert_eq!(KeySet::restore(&saved, NOW.plus(60)).as_ref(), Ok(&keys));
        }
        Err(error) => {
            assert_eq!(keys, before, "{error}");
            assert!((error == KeySetError::TooLarge) == (data.len() > MAX_JWKS_BYTES));
        }
    }
    if let Ok(restored) = KeySet::restore(data, NOW) {
        assert!(restored.newest().is_none_or(|newest| newest <= NOW));
    }
}

/// Any text as the proof in a certificate: believed only while its sign-in is good, for a key that fits a certificate.
pub fn proof(data: &[u8]) {
    proof_holds(data);
}

/// The same; whether it was believed under any rule about its age.
pub fn proof_holds(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let mut keys = KeySet::default();
    keys.merge(PROOF_KEYS, NOW).expect("the sample's key set");
    let ages = [Expiration::AfterIssue(3_600), Expiration::IdToken, Expiration::Refreshed];
    let holds = ages.map(|expiration| {
        let Ok(proof) = verify_proof(text, &expected(Kind::Id), expiration, &keys, NOW) else { return false };
        assert!(proof.ends > NOW && proof.claims.audience == CLIENT);
        assert!(nightlatch_sshcert::PublicKey::parse(&proof.ssh_key).is_ok());
        true
    });
    holds.contains(&true)
}
