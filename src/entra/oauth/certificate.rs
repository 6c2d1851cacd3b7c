//! An SSH certificate in place of an access token, for an RSA key that the form describes (azure-cli-extensions, `src/ssh`).
//!
//! It is only carried here: whoever asked for it reads it. Of the tokens that come beside it only a refresh token is taken.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use nightlatch_model::Secret;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::answer::secret;
use super::grants::Form;

/// The largest certificate that is taken, in bytes of base64.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// For which key a certificate is asked for, and from whom.
pub struct CertificateAsk {
    scope: &'static str,
    cnf: String,
    key_id: String,
}

impl CertificateAsk {
    /// `scope` is the authority's ([`crate::entra::clouds::Cloud::ssh_scope`]); `n` and `e` are the key's numbers without
    /// leading zeros.
    #[must_use]
    pub fn new(scope: &'static str, n: &[u8], e: &[u8]) -> Self {
        // The numbers as az writes them: with the zero byte of ssh's integers and with padding.
        let number = |bytes: &[u8]| {
            let sign: &[u8] = if bytes.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
            URL_SAFE.encode([sign, bytes].concat())
        };
        let (n, e) = (number(n), number(e));
        let digest = Sha256::digest(format!("{n}{e}"));
        let key_id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let cnf = format!(r#"{{"kty": "RSA", "n": "{n}", "e": "{e}", "kid": "{key_id}"}}"#);
        Self { scope, cnf, key_id }
    }

    /// The scope that the authority is asked with.
    #[must_use]
    pub const fn scope(&self) -> &'static str {
        self.scope
    }

    /// A form that asks for the certificate; its scope is the caller's to write.
    #[must_use]
    pub fn on<'a>(&'a self, form: Form<'a>) -> Form<'a> {
        form.with("token_type", "ssh-cert").with("req_cnf", &self.cnf).with("key_id", &self.key_id)
    }
}

/// What Entra's authority gave.
pub struct Certified {
    /// The certificate: standard base64, not read yet.
    pub certificate: String,
    /// What the next one can be had with, for a sign-in that asked for it.
    pub refresh_token: Option<Secret>,
}

/// The certificate in a 2xx body, or what is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Certified, String> {
    #[derive(Deserialize)]
    struct Raw {
        token_type: Option<String>,
        access_token: Option<String>,
        #[serde(default, deserialize_with = "secret")]
        refresh_token: Option<Secret>,
    }
    // The parser's own words could quote the body, and there may be tokens in it.
    let raw: Raw = serde_json::from_slice(body)
        .map_err(|e| format!("it is not a token answer (line {}, column {})", e.line(), e.column()))?;
    if raw.token_type.as_deref() != Some("ssh-cert") {
        return Err("it is something else than an SSH certificate".to_owned());
    }
    let plain = |text: &String| {
        !text.is_empty() && text.len() <= MAX_CERTIFICATE_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
    };
    let certificate = raw.access_token.filter(plain).ok_or("its certificate is missing or too long")?;
    let refresh_token = raw.refresh_token.filter(|token| !token.expose().is_empty());
    Ok(Certified { certificate, refresh_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_described_as_az_describes_it() {
        let n: Vec<u8> = [&[0x80], &[7; 255][..]].concat();
        let ask = CertificateAsk::new("S", &n, &[1, 0, 1]);
        let form = ask.on(Form::new(&[("scope", ask.scope())]));
        assert_eq!((form.get("scope"), form.get("token_type")), (Some("S"), Some("ssh-cert")));
        let cnf: serde_json::Value = serde_json::from_str(form.get("req_cnf").unwrap()).unwrap();
        let text = cnf["n"].as_str().unwrap();
        // 257 bytes with the sign byte in front, in base64 with its padding.
        assert!(text.len() == 344 && text.starts_with("AIAH") && text.ends_with('='), "{text}");
        assert_eq!((cnf["kty"].as_str(), cnf["e"].as_str()), (Some("RSA"), Some("AQAB")));
        let digest: String =
            Sha256::digest(format!("{text}AQAB")).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((cnf["kid"].as_str(), form.get("key_id")), (Some(&*digest), Some(&*digest)));
    }

    #[test]
    fn only_an_answer_of_the_right_type_holds_a_certificate() {
        let good =
            br#"{"token_type":"ssh-cert","access_token":"AAAA","refresh_token":"r","expires_in":3600}"#;
        let read_good = read(good).unwrap();
        assert_eq!(read_good.certificate, "AAAA");
        assert_eq!(read_good.refresh_token.as_ref().map(Secret::expose), Some("r"));
        let alone = read(br#"{"token_type":"ssh-cert","access_token":"AAAA","refresh_token":""}"#).unwrap();
        assert!(alone.refresh_token.is_none());
        for bad in [
            r#"{"token_type":"Bearer","access_token":"SECRET"}"#,
            r#"{"access_token":"SECRET"}"#,
            r#"{"token_type":"ssh-cert"}"#,
            r#"{"token_type":"ssh-cert","access_token":""}"#,
            r#"{"token_type":"ssh-cert","access_token":"SECRET SECRET"}"#,
            r#"{"token_type":"ssh-cert","access_token":["SECRET"]}"#,
            "SECRET",
        ] {
            let why = read(bad.as_bytes()).err().unwrap();
            assert!(!why.contains("SECRET"), "{bad}: {why}");
        }
        let long = format!(r#"{{"token_type":"ssh-cert","access_token":"{}"}}"#, "A".repeat(64 * 1024 + 1));
        assert!(read(long.as_bytes()).is_err());
    }
}
