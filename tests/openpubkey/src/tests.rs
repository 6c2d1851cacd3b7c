//! Self tests. What the crate writes is read by other programs (ssh-keygen, openssl, python3) and by a second
//! reader that is written here and shares no code with the writer.

mod checks;
mod programs;

use crate::{Broken, Case, Issuer, KeyType, case, commitment};

/// Some time in 2027, in seconds since 1970.
const NOW: i64 = 1_800_000_000;

fn issuer() -> Issuer {
    Issuer::new("12345678-1234-4234-8234-123456789abc", "abcdefab-cdef-4def-8def-abcdefabcdef").unwrap()
}

/// The example in upstream's own description of PK tokens: its header gives its nonce.
#[test]
fn the_commitment_is_upstreams() {
    let header = concat!(
        r#"{"alg":"ES256","rz":"b9522b5c4cff90687ec6787236184659e077a619b82827227114108440fec26a","#,
        r#""typ":"CIC","upk":{"alg":"ES256","crv":"P-256","kty":"EC","#,
        r#""x":"cvqyUFNs1OUdRcDSmzJfS7ynuTHAjlDqoeinCZy_r1Q","#,
        r#""y":"Whl5jJUIz7ujFvlB5Hzhaz6DIlpyWQmIIA3J7VMj53o"}}"#,
    );
    assert_eq!(commitment(header), "fsTLlOIUqtJHomMB2t6HymoAqJi-wORIFtg3y8c65VY");
}

/// Each thing that is broken fails the checks that it is meant to fail, and no others.
#[test]
fn each_knob_breaks_one_thing() {
    let issuer = issuer();
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        for broken in Broken::ALL {
            let case = case(broken, key_type, &issuer, NOW).unwrap();
            assert_eq!(
                checks::failing(&case, &issuer, NOW),
                checks::expected(broken),
                "{broken:?} {key_type:?}: {}",
                case.pk_token.compact()
            );
        }
    }
}

#[test]
fn a_whole_refreshed_token_fails_nothing() {
    let issuer = issuer();
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let case = Case::with_fresh(key_type, &issuer, NOW).unwrap();
        assert_eq!(checks::failing(&case, &issuer, NOW), [""; 0]);
        assert_eq!(case.pk_token.compact().split('.').count(), 4);
    }
}

/// A command line must be able to hold even the oversized one.
#[test]
fn sizes_are_of_the_order_that_is_meant() {
    let issuer = issuer();
    let common = case(Broken::Nothing, KeyType::EcdsaP256, &issuer, NOW).unwrap().certificate.len();
    assert!((2000..6000).contains(&common), "{common}");
    let large = case(Broken::Oversized, KeyType::EcdsaP256, &issuer, NOW).unwrap().certificate.len();
    assert!((90_000..128_000).contains(&large), "{large}");
}
