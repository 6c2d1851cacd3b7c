//! A certificate with kinds in place of values: which extension carries what, in which form.

use std::collections::HashSet;

use nightlatch_model::Guid;
use nightlatch_sshcert::{CertError, CertKind, Certificate, RawOption};
use serde_json::{Value, json};

use super::keys::shown;
use super::scrub::{Scrubber, whole_guid};

/// The file as it was given.
pub(super) struct Given {
    /// What `az ssh cert` wrote, byte for byte.
    pub(super) file: Vec<u8>,
}

impl Given {
    fn words(&self) -> Vec<&str> {
        str::from_utf8(&self.file).unwrap_or_default().split_ascii_whitespace().collect()
    }

    /// The certificate, as the product's own parser reads it.
    pub(super) fn parsed(&self) -> Result<Certificate, CertError> {
        match self.words()[..] {
            [kind, text, ..] => Certificate::from_openssh(kind, text),
            _ => Err(CertError::NotACertificate),
        }
    }
}

/// What the certificate is about, so that it can be recognised in its fields.
pub(super) struct About {
    /// The person's object id, when one was given.
    pub(super) person: Option<Guid>,
    /// The node's tenant, when it is known.
    pub(super) tenant: Option<Guid>,
    /// Fingerprints of the authorities' keys that the metadata services published.
    pub(super) published: HashSet<String>,
}

/// The fields.
pub(super) fn fields(scrub: &mut Scrubber, given: &Given, about: &About) -> Value {
    let words = given.words();
    let file = json!({
        "words": words.len().min(4), "ends_with_newline": given.file.ends_with(b"\n"), "bytes": given.file.len(),
    });
    let kind = words.first().map_or_else(String::new, |kind| kind.chars().take(64).collect());
    let kind =
        if kind.ends_with("-cert-v01@openssh.com") { scrub.option_name(&kind) } else { scrub.text(&kind) };
    let certificate = match given.parsed() {
        Ok(certificate) => certificate,
        Err(cause) => {
            return json!({"file": file, "type": kind, "reader": cause.to_string(), "reason": cause.reason_word()});
        }
    };
    let ca = certificate.ca_key();
    let life = certificate.valid_before().checked_sub(certificate.valid_after());
    json!({
        "file": file,
        "type": kind,
        "reader": "accepts",
        "kind": if certificate.kind() == CertKind::User { "user" } else { "host" },
        "subject": {"type": certificate.subject_key().key_type().name(), "bits": certificate.subject_key().bits()},
        "authority": shown(ca),
        "authority_is_published": about.published.contains(&ca.fingerprint()),
        "signature": certificate.signature_algorithm().name(),
        "signature_is_right": certificate.verify_signature(ca).is_ok(),
        "serial_bits": u64::BITS - certificate.serial().leading_zeros(),
        "key_id": String::from_utf8(certificate.key_id_bytes().to_vec())
            .map_or_else(|_| "<bytes>".to_owned(), |text| scrub.text(&text)),
        "principals": certificate.principals().iter().map(|name| scrub.text(name)).collect::<Vec<_>>(),
        "lifetime_s": match life {
            _ if certificate.valid_before() == u64::MAX => json!("<for ever>"),
            life => json!(life),
        },
        "critical_options": options(scrub, certificate.critical_options(), about),
        "extensions": options(scrub, certificate.extensions(), about),
    })
}

fn options(scrub: &mut Scrubber, options: &[RawOption], about: &About) -> Vec<Value> {
    options.iter().map(|option| one(scrub, option, about)).collect()
}

fn one(scrub: &mut Scrubber, option: &RawOption, about: &About) -> Value {
    let name = scrub.option_name(option.name());
    if option.data().is_empty() {
        return json!({"name": name, "form": "empty"});
    }
    let (form, text) = match (option.text(), str::from_utf8(option.data())) {
        (Ok(text), _) => ("nested string", Some(text.to_owned())),
        (Err(_), Ok(text)) if !text.chars().any(char::is_control) => ("raw text", Some(text.to_owned())),
        (Err(_), _) => ("raw bytes", None),
    };
    let bytes = <[u8; 16]>::try_from(option.data()).ok().map(Guid::from_bytes);
    let guid = text.as_deref().and_then(whole_guid).or(bytes);
    let value = match &text {
        Some(text) => scrub.text(text),
        None => format!("<{} bytes>", option.data().len()),
    };
    let is = match guid {
        Some(guid) if Some(guid) == about.person => Some("the person's object id"),
        Some(guid) if Some(guid) == about.tenant => Some("the node's tenant"),
        _ => None,
    };
    let mut out = json!({"name": name, "form": form, "value": value});
    if let (Some(is), Some(out)) = (is, out.as_object_mut()) {
        out.insert("is".to_owned(), json!(is));
    }
    out
}

/// Every text in a certificate that must not come through anywhere.
pub(super) fn guard(scrub: &mut Scrubber, certificate: &Certificate) {
    for principal in certificate.principals() {
        scrub.guard(principal);
    }
    scrub.guard(&String::from_utf8_lossy(certificate.key_id_bytes()));
    for option in certificate.extensions().iter().chain(certificate.critical_options()) {
        scrub.guard(&String::from_utf8_lossy(option.data()));
        if let Ok(text) = option.text() {
            scrub.guard(text);
        }
    }
}
