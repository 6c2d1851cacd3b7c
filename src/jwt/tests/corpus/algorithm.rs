//! Classes 2 and 3: no algorithm, another algorithm, and keys that are not what their name says. (CVE-2015-9235,
//! CVE-2026-34950, CVE-2026-22817.)

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightlatch_jwt::{Algorithm, Expected, Refusal};

use crate::case::{Batch, Case, user};
use crate::draft::{Draft, Object, Signer, base64url, quoted};
use crate::kit::{Keys, TENANT, issuer_keys, keys_and, kit, v2_issuer};

pub(crate) fn cases() -> Vec<Case> {
    let mut none = Batch::of(2);
    no_algorithm(&mut none);
    let mut confused = Batch::of(3);
    other_algorithms(&mut confused);
    confused_secrets(&mut confused);
    other_expected(&mut confused);
    odd_keys(&mut confused);
    [none.done(), confused.done()].concat_cases()
}

/// Joins what several classes yield.
pub(crate) trait Concat {
    fn concat_cases(self) -> Vec<Case>;
}

impl<const N: usize> Concat for [Vec<Case>; N] {
    fn concat_cases(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}

/// `none` in every spelling, without a signature and beside the good one.
fn no_algorithm(batch: &mut Batch) {
    let twin = Draft::v2();
    let empty = Signer::Bytes(Vec::new());
    for raw in [
        "\"none\"",
        "\"None\"",
        "\"NONE\"",
        "\"nOnE\"",
        "\"NoNe\"",
        "\"\"",
        "\" \"",
        "\"none \"",
        "\" none\"",
        "\"\\u006eone\"",
        "\"n\\u043ene\"",
        "\"none\\u0000\"",
        "\"null\"",
        "null",
        "0",
        "true",
        "[]",
        "[\"RS256\"]",
        "[\"none\",\"RS256\"]",
        "{}",
        "{\"alg\":\"RS256\"}",
    ] {
        let hostile = twin.clone().head("alg", raw);
        batch.add(format!("alg {raw}, signed"), &twin, &hostile, Refusal::Algorithm);
        let hostile = hostile.by(empty.clone());
        batch.add(format!("alg {raw}, not signed"), &twin, &hostile, Refusal::Algorithm);
    }
    // A header without alg states none that is accepted.
    let hostile = twin.clone().unhead("alg");
    batch.add("no alg, signed", &twin, &hostile, Refusal::Algorithm);
    batch.add("no alg, not signed", &twin, &hostile.by(empty), Refusal::Algorithm);
    batch.text("an empty header object", &twin, twin.sealed("{}", twin.claims.text()), Refusal::Algorithm);
}

/// Names of other algorithms, and names that are nearly RS256.
fn other_algorithms(batch: &mut Batch) {
    let twin = Draft::v2();
    for name in [
        "HS256",
        "HS384",
        "HS512",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
        "ES256K",
        "EdDSA",
        "Ed25519",
        "ML-DSA-44",
        "RS1",
        "RSA-OAEP",
        "RSA1_5",
        "A256KW",
        "dir",
        "rs256",
        "Rs256",
        "RS256 ",
        " RS256",
        "\tRS256",
        "RS256\n",
        "RS256\0",
        "RS256,HS256",
        "RS-256",
        "RSA256",
        "SHA256withRSA",
        "RS2560",
        "\u{feff}RS256",
        "\u{ff32}S256",
    ] {
        let hostile = twin.clone().head("alg", quoted(name));
        batch.add(format!("alg {name:?} over an RS256 signature"), &twin, &hostile, Refusal::Algorithm);
    }
    let pair = &kit().primary;
    for (name, signer) in
        [("RS384", Signer::Rs384(pair)), ("RS512", Signer::Rs512(pair)), ("PS256", Signer::Ps256(pair))]
    {
        let hostile = twin.clone().head("alg", quoted(name)).by(signer);
        batch.add(format!("{name}, rightly signed"), &twin, &hostile, Refusal::Algorithm);
    }
}

/// The public key as a secret, in each form in which somebody might hold it.
fn confused_secrets(batch: &mut Batch) {
    let twin = Draft::v2();
    let pair = &kit().primary;
    let lines: Vec<String> = STANDARD.encode(pair.spki()).as_bytes().chunks(64).map(text_of).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let secrets: Vec<(&str, Vec<u8>)> = vec![
        ("PEM", pem.clone().into_bytes()),
        ("PEM after a blank", format!(" {pem}").into_bytes()),
        ("PEM after a newline", format!("\n{pem}").into_bytes()),
        ("PEM without its last newline", pem.trim_end().as_bytes().to_vec()),
        ("PEM with CR LF", pem.replace('\n', "\r\n").into_bytes()),
        ("SPKI in DER", pair.spki()),
        ("PKCS#1 in DER", pair.pkcs1()),
        ("modulus", pair.modulus()),
        ("modulus in base64url", base64url(pair.modulus()).into_bytes()),
        ("exponent", pair.exponent()),
        ("JWK", pair.jwk_of(&v2_issuer("{tenantid}")).text().into_bytes()),
        ("key set", crate::kit::keys().document.clone().into_bytes()),
        ("key id", pair.kid.as_bytes().to_vec()),
        ("empty text", Vec::new()),
    ];
    for (what, secret) in secrets {
        for (name, form) in [("HS256", hmac::HMAC_SHA256), ("HS512", hmac::HMAC_SHA512)] {
            let hostile = twin.clone().head("alg", quoted(name)).by(Signer::Hmac(form, secret.clone()));
            batch.add(format!("{name} with the {what} as the secret"), &twin, &hostile, Refusal::Algorithm);
        }
        let hostile = twin.clone().by(Signer::Hmac(hmac::HMAC_SHA256, secret));
        batch.add(format!("RS256 over a MAC with the {what}"), &twin, &hostile, Refusal::Signature);
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("base64")
}

/// What is expected decides, not what is usual.
fn other_expected(batch: &mut Batch) {
    let pair = &kit().primary;
    let pss = Draft::v2().head("alg", "\"PS256\"").by(Signer::Ps256(pair));
    batch.expect(Expected { algorithms: vec![Algorithm::Ps256], ..user() });
    batch.add("RS256 where PS256 is expected", &pss, &Draft::v2(), Refusal::Algorithm);
    let hostile = pss.clone().by(Signer::Rs256(pair));
    batch.add("PS256 over an RS256 signature", &pss, &hostile, Refusal::Signature);
    batch.expect(user());
    for (name, algorithms) in [
        ("nothing", vec![]),
        ("PS256", vec![Algorithm::Ps256]),
        ("ES256", vec![Algorithm::Es256]),
        ("EdDSA", vec![Algorithm::EdDsa]),
        ("all but RS256", vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]),
    ] {
        let expected = Expected { algorithms, ..user() };
        batch.judged(format!("RS256 where {name} is accepted"), &Draft::v2(), expected, Refusal::Algorithm);
    }
}

/// Keys of the issuer's document that cannot check this token. They are left out, so their name is unknown.
fn odd_keys(batch: &mut Batch) {
    let spare = &kit().spare;
    let token = Draft::v2().under(spare);
    let good = spare.jwk_of(&v2_issuer(TENANT));
    let point = "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"";
    let other_point = "\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"";
    let no_rsa = |kty: &str| good.clone().without("n").without("e").with("kty", quoted(kty));
    // 1,024 bits: no library here signs with such a key, and its signature is not looked at.
    let short = base64url([&[0xc3][..], &[0x5a; 126], &[0x6b]].concat());
    let odd: Vec<(&str, Object)> = vec![
        ("use enc", good.clone().with("use", "\"enc\"")),
        ("use SIG", good.clone().with("use", "\"SIG\"")),
        ("use as a list", good.clone().with("use", "[\"sig\"]")),
        ("kty oct", no_rsa("oct").with("k", quoted(&base64url(spare.modulus())))),
        ("kty oct beside n and e", good.clone().with("kty", "\"oct\"").with("k", "\"AAAA\"")),
        ("kty EC beside n and e", good.clone().with("kty", "\"EC\"")),
        ("a P-256 key", no_rsa("EC").with("crv", "\"P-256\"").with("x", point).with("y", other_point)),
        ("kty rsa in small letters", good.clone().with("kty", "\"rsa\"")),
        ("no kty", good.clone().without("kty")),
        ("1,024 bits", good.clone().with("n", quoted(&short))),
        ("512 bits", good.clone().with("n", quoted(&base64url([0xc3; 64])))),
        ("an empty modulus", good.clone().with("n", "\"\"")),
        ("no modulus", good.clone().without("n")),
        ("no exponent", good.clone().without("e")),
        ("a modulus that is not base64url", good.clone().with("n", "\"!!!!\"")),
        ("a modulus that is a number", good.clone().with("n", 65_537)),
        ("alg HS256", good.clone().with("alg", "\"HS256\"")),
        ("alg none", good.clone().with("alg", "\"none\"")),
        ("alg ES256", good.clone().with("alg", "\"ES256\"")),
        ("alg RSA-OAEP", good.clone().with("alg", "\"RSA-OAEP\"")),
        ("no kid", good.clone().without("kid")),
        ("an empty kid", good.clone().with("kid", "\"\"")),
        ("a kid that is a number", good.clone().with("kid", 4)),
    ];
    for (name, key) in odd {
        let pair = [keys_and(good.clone()), keys_and(key)];
        batch.keyed(format!("a key with {name}"), &token, pair, Refusal::UnknownKey);
    }
    // A key without alg does not let the token choose.
    let hostile = token.clone().head("alg", "\"HS256\"").by(Signer::Hmac(hmac::HMAC_SHA256, spare.modulus()));
    let keys = keys_and(good.clone());
    let twin = crate::case::Given { keys: keys.clone(), ..batch.given(token.text()) };
    let odd = crate::case::Given { token: hostile.text(), ..twin.clone() };
    batch.pair("HS256 under a key without alg", twin, odd, Refusal::Algorithm);
    batch.keyed("a key that is not there", &token, [keys, Keys::of(&issuer_keys())], Refusal::UnknownKey);
}
