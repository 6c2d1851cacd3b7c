//! Our client beside one that was written from the specification and shares no code with it: the same key, the same
//! random part and the same ID token give the same text, byte for byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test binary")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_jwt::ClientHeader;
use nightlatch_openpubkey::{Client, Issuer, KeyType};

#[test]
fn two_clients_written_apart_make_the_same_proof() {
    let issuer =
        Issuer::new("11111111-2222-3333-4444-555555555555", "6dae42f8-4368-4678-94ff-3960e28e3630").unwrap();
    for _ in 0..20 {
        let other = Client::new(KeyType::Ed25519).unwrap();
        let header: serde_json::Value = serde_json::from_str(&other.cic_header()).unwrap();
        let rz = header["rz"].as_str().unwrap();
        let random: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&rz[2 * at..2 * at + 2], 16).unwrap()).collect();
        let public = URL_SAFE_NO_PAD.decode(header["upk"]["x"].as_str().unwrap()).unwrap();
        let ours = ClientHeader::ed25519(&public.try_into().unwrap(), &random.try_into().unwrap());
        assert_eq!(ours.commitment(), other.nonce());
        let id_token = issuer.id_token(&issuer.claims(&other.nonce(), 1_800_000_000)).unwrap();
        let theirs = other.pk_token(&id_token).unwrap().compact();
        let signature = URL_SAFE_NO_PAD.decode(theirs.rsplit(':').next().unwrap()).unwrap();
        assert_eq!(ours.proof(&id_token, &signature), Some(theirs));
    }
    let header = ClientHeader::ed25519(&[1; 32], &[2; 32]);
    for odd in ["", "a.b", "a.b.c.d"] {
        assert_eq!((header.to_sign(odd), header.proof(odd, b"")), (None, None), "{odd}");
    }
}
