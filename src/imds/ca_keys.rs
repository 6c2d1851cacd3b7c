//! The keys that sign Entra's SSH certificates, as IMDS and himds publish them.
//!
//! The schema of the real answer is not public. ASSUMED: `{"keys":[{"kty":"RSA","kid":…,"n":…,
//! "e":…}]}` (RFC 7517 with base64url numbers). OpenSSH public key lines are accepted as well, bare or
//! as the strings of a JSON list. An entry that cannot be used is left out and named, and the others count: keys
//! are merged with those that are known, so it costs nobody but that key's certificates, while an answer that one
//! new kind of key spoils would close every node once the grace of the known keys is over.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

/// The most keys that one answer may hold.
pub const MAX_CA_KEYS: usize = 32;
/// The sizes of RSA modulus that are accepted, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The largest RSA exponent that is accepted, in bytes.
const MAX_EXPONENT_BYTES: usize = 4;
/// The longest OpenSSH line that is read, in bytes.
const MAX_LINE_BYTES: usize = 8192;
/// How much of a type that is not known is repeated in the error, in characters.
const MAX_SHOWN_CHARS: usize = 32;
/// The key types of OpenSSH lines.
const TYPES: [&str; 4] = ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-ed25519"];

/// A certificate authority's key, in the two words of an OpenSSH public key line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaKey {
    /// What the publisher calls it: the `kid`, or the comment of the line.
    pub id: String,
    /// `ssh-rsa` and the like.
    pub key_type: String,
    /// The key blob (RFC 4253 §6.6) in standard base64.
    pub base64: String,
}

/// What a metadata service publishes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CaKeys {
    /// The keys that can be used; at least one.
    pub keys: Vec<CaKey>,
    /// Why each other entry cannot be used.
    pub left_out: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Set { keys: Vec<Value> },
    List(Vec<Value>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Jwk { kty: String, kid: Option<String>, n: Option<String>, e: Option<String> },
    Line(String),
}

/// Reads an answer of a metadata service.
///
/// # Errors
/// What is wrong with the document, with how many entries there are, or with the first where none can be used.
pub fn parse_ca_keys(body: &[u8]) -> Result<CaKeys, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the CA keys are not text".to_owned())?.trim();
    let entries: Vec<Value> = if text.starts_with(['{', '[']) {
        match serde_json::from_str(text) {
            Ok(Document::Set { keys } | Document::List(keys)) => keys,
            Err(error) => return Err(format!("the CA keys cannot be read: {error}")),
        }
    } else {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        lines.map(Value::from).collect()
    };
    if entries.is_empty() || entries.len() > MAX_CA_KEYS {
        return Err(format!(
            "{} CA keys were named; between 1 and {MAX_CA_KEYS} are accepted",
            entries.len()
        ));
    }
    let mut found = CaKeys::default();
    for entry in entries {
        match serde_json::from_value(entry)
            .map_err(|_| "an entry is neither a key nor a line".to_owned())
            .and_then(key)
        {
            Ok(key) => found.keys.push(key),
            Err(why) => found.left_out.push(why),
        }
    }
    match found.left_out.first() {
        Some(why) if found.keys.is_empty() => Err(why.clone()),
        _ => Ok(found),
    }
}

fn key(entry: Entry) -> Result<CaKey, String> {
    match entry {
        Entry::Line(line) => from_line(&line),
        Entry::Jwk { kty, kid, n: Some(n), e: Some(e) } if kty == "RSA" => from_rsa(kid, &n, &e),
        Entry::Jwk { kty, .. } => {
            // A type is a word; whatever else stands there is not repeated at length.
            let kty: String = kty.chars().take(MAX_SHOWN_CHARS).collect();
            Err(format!("a CA key of the type {kty:?} cannot be used"))
        }
    }
}

fn from_rsa(kid: Option<String>, n: &str, e: &str) -> Result<CaKey, String> {
    let number = |text: &str| -> Result<Vec<u8>, String> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| "a CA key is not base64url".to_owned())?;
        Ok(bytes.into_iter().skip_while(|b| *b == 0).collect())
    };
    let (n, e) = (number(n)?, number(e)?);
    let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("a CA key has {bits} bits; between 2048 and 8192 are accepted"));
    }
    let odd_above_one = e.last().is_some_and(|b| b & 1 == 1) && e != [1];
    if !odd_above_one || e.len() > MAX_EXPONENT_BYTES {
        return Err("a CA key has an exponent that is not accepted".to_owned());
    }
    let mut blob = Vec::new();
    put(&mut blob, b"ssh-rsa");
    put(&mut blob, &positive(e));
    put(&mut blob, &positive(n));
    Ok(CaKey { id: kid.unwrap_or_default(), key_type: "ssh-rsa".to_owned(), base64: STANDARD.encode(blob) })
}

/// An mpint (RFC 4251 §5) is signed: a number whose top bit is set wants a zero before it.
fn positive(mut number: Vec<u8>) -> Vec<u8> {
    if number.first().is_some_and(|b| b & 0x80 != 0) {
        number.insert(0, 0);
    }
    number
}

fn put(blob: &mut Vec<u8>, bytes: &[u8]) {
    // Every piece is bounded by the sizes above, far below 4 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    blob.extend_from_slice(&length.to_be_bytes());
    blob.extend_from_slice(bytes);
}

fn from_line(line: &str) -> Result<CaKey, String> {
    let bad = || "a CA key line is not `type base64 [comment]`".to_owned();
    if line.len() > MAX_LINE_BYTES || line.contains(['\n', '\r', '\0']) {
        return Err(bad());
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(key_type), Some(base64)) = (words.next(), words.next()) else { return Err(bad()) };
    if !TYPES.contains(&key_type) {
        return Err("a CA key line has a type that is not accepted".to_owned());
    }
    let blob = STANDARD.decode(base64).map_err(|_| bad())?;
    let mut start = Vec::new();
    put(&mut start, key_type.as_bytes());
    if !blob.starts_with(&start) {
        return Err("a CA key line names another type than its key has".to_owned());
    }
    Ok(CaKey {
        id: words.collect::<Vec<_>>().join(" "),
        key_type: key_type.to_owned(),
        base64: base64.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A public key made by `ssh-keygen -t ed25519`.
    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6Vw5tCnhbGmGk1JY1yIV5g9yCpk0wqIJ1b9nJcJ5eE entra ca";

    fn jwk(n: &[u8], e: &str) -> String {
        format!(r#"{{"keys":[{{"kty":"RSA","kid":"one","n":"{}","e":"{e}"}}]}}"#, URL_SAFE_NO_PAD.encode(n))
    }

    #[test]
    fn an_rsa_jwk_becomes_an_openssh_key() {
        let mut n = vec![0xc5_u8; 256];
        let keys = parse_ca_keys(jwk(&n, "AQAB").as_bytes()).unwrap().keys;
        let blob = STANDARD.decode(&keys[0].base64).unwrap();
        assert_eq!(keys[0].id, "one");
        assert_eq!(
            &blob[..22],
            b"\0\0\0\x07ssh-rsa\0\0\0\x03\x01\0\x01\0\0\x01\x01".as_slice().get(..22).unwrap()
        );
        assert_eq!(&blob[22..24], b"\0\xc5", "a zero keeps the modulus positive");
        n.insert(0, 0);
        assert_eq!(
            parse_ca_keys(jwk(&n, "AQAB").as_bytes()).unwrap().keys,
            keys,
            "a leading zero changes nothing"
        );
    }

    #[test]
    fn lines_are_read_bare_and_in_json() {
        let whole = parse_ca_keys(format!("# comment\n\n{LINE}\n").as_bytes()).unwrap();
        let keys = &whole.keys;
        assert_eq!((keys[0].id.as_str(), keys[0].key_type.as_str()), ("entra ca", "ssh-ed25519"));
        assert_eq!(parse_ca_keys(format!(r#"["{LINE}"]"#).as_bytes()).unwrap(), whole);
        assert_eq!(parse_ca_keys(format!(r#"{{"keys":["{LINE}"]}}"#).as_bytes()).unwrap(), whole);
    }

    /// A key of a kind that is not known yet must not close every node when the grace of the others is over.
    #[test]
    fn an_odd_entry_costs_nobody_else() {
        let rsa = jwk(&[0xc5; 256], "AQAB");
        let rsa = rsa.trim_start_matches(r#"{"keys":["#).trim_end_matches("]}");
        for odd in [
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
            r#"{"kid":"no type"}"#,
            r#""ecdsa-sha2-nistp521 AAAA""#,
            "7",
            "null",
            "[]",
        ] {
            for list in [format!("[{odd},{rsa}]"), format!(r#"{{"keys":[{rsa},{odd}]}}"#)] {
                let found = parse_ca_keys(list.as_bytes()).unwrap();
                assert_eq!((found.keys.len(), found.left_out.len()), (1, 1), "{list}");
                assert_eq!(found.keys[0].id, "one");
            }
            assert!(parse_ca_keys(format!("[{odd}]").as_bytes()).is_err(), "{odd}");
        }
        let lines = parse_ca_keys(format!("ssh-dss AAAA\n{LINE}\n").as_bytes()).unwrap();
        assert_eq!((lines.keys.len(), lines.left_out.len()), (1, 1));
    }

    #[test]
    fn a_complaint_stays_short() {
        let long = format!(r#"[{{"kty":"{}"}}]"#, "x".repeat(100_000));
        assert!(parse_ca_keys(long.as_bytes()).unwrap_err().len() < 100);
    }

    #[test]
    fn anything_else_is_refused() {
        let many = format!("{LINE}\n").repeat(MAX_CA_KEYS + 1);
        let wrong_type = LINE.replacen("ssh-ed25519", "ssh-rsa", 1);
        for text in [
            "",
            "{}",
            "[]",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"oct","k":"x"}]}"#,
            &jwk(&[0xff; 128], "AQAB"),
            &jwk(&[0xff; 1025], "AQAB"),
            &jwk(&[0xff; 256], "AQ"),
            &jwk(&[0xff; 256], "Ag"),
            &jwk(&[0xff; 256], "!"),
            "ssh-dss AAAA",
            "ssh-rsa",
            &wrong_type,
            &many,
        ] {
            assert!(parse_ca_keys(text.as_bytes()).is_err(), "{text}");
        }
    }
}
