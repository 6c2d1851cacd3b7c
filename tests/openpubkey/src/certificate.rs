//! The self-signed SSH certificate that carries the PK token.

use std::collections::BTreeMap;

use crate::ssh::Writer;
use crate::{Broken, Client, Error, PkToken, b64, random};

/// `valid before` of a certificate without an end.
pub const NO_END: u64 = u64::MAX;

/// The one principal that opkssh writes since v0.14.0.
pub const WILDCARD_PRINCIPAL: &str = "opkssh-wildcard";

/// The extensions without a value that the client sets.
const PERMITS: [&str; 5] = [
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];

/// What stands in a certificate.
#[derive(Debug, Clone)]
pub struct CertificateSpec {
    /// The PK token, for the extension `openpubkey-pkt`.
    pub pk_token: PkToken,
    /// The access token, for the extension `openpubkey-act`.
    pub access_token: Option<String>,
    /// The serial number.
    pub serial: u64,
    /// 1 for users, 2 for hosts.
    pub cert_type: u32,
    /// The key id.
    pub key_id: String,
    /// The principals.
    pub principals: Vec<String>,
    /// From when on it is valid, in seconds since 1970.
    pub valid_after: u64,
    /// Before when it is valid, in seconds since 1970, or [`NO_END`].
    pub valid_before: u64,
    /// Critical options with their values.
    pub critical_options: BTreeMap<String, String>,
    /// The comment behind the certificate.
    pub comment: String,
}

impl CertificateSpec {
    /// What the client writes today when it is asked for nothing special.
    pub fn new(pk_token: PkToken) -> Self {
        Self {
            key_id: pk_token.email(),
            pk_token,
            access_token: None,
            serial: 0,
            cert_type: 1,
            principals: vec![WILDCARD_PRINCIPAL.to_owned()],
            valid_after: 0,
            valid_before: NO_END,
            critical_options: BTreeMap::new(),
            comment: "openpubkey".to_owned(),
        }
    }

    /// The same with one thing broken, if it is a thing of the certificate's fields.
    fn broken(&self, broken: Broken) -> Self {
        let mut spec = self.clone();
        match broken {
            Broken::AccessToken => spec.access_token = Some("eyJ0eXAiOiJKV1QifQ.e30.not-a-secret".to_owned()),
            Broken::PrincipalsEmpty => spec.principals.clear(),
            Broken::PrincipalsOther => spec.principals = vec!["root".to_owned(), "alice".to_owned()],
            Broken::PrincipalUnsafe => spec.principals = vec!["a\",command=\"id".to_owned()],
            Broken::CriticalOption => {
                spec.critical_options.insert("force-command".to_owned(), "/bin/true".to_owned());
            }
            Broken::HostCertificate => spec.cert_type = 2,
            Broken::CertificateExpired => spec.valid_before = 1,
            Broken::CertificateNotYetValid => spec.valid_after = NO_END.saturating_sub(1),
            _ => {}
        }
        spec
    }
}

impl Client {
    /// The certificate as one line of a `-cert.pub` file, without the line's end.
    pub fn certificate(&self, spec: &CertificateSpec) -> Result<String, Error> {
        let spec = spec.broken(self.broken);
        let name = self.key.key_type().certificate_name();
        let signer = if self.broken == Broken::NotSelfSigned { &self.other } else { &self.key };
        let principals = spec.principals.iter().fold(Writer::new(), |list, name| list.string(name));
        let critical =
            spec.critical_options.iter().fold(Writer::new(), |all, (name, value)| option(all, name, value));
        let signed = Writer::new()
            .string(name)
            .string(random::<32>()?)
            .raw(&self.key.ssh_fields())
            .u64(spec.serial)
            .u32(spec.cert_type)
            .string(&spec.key_id)
            .string(principals.done())
            .u64(spec.valid_after)
            .u64(spec.valid_before)
            .string(critical.done())
            .string(self.extensions(&spec))
            .string("")
            .string(signer.ssh_blob())
            .done();
        let mut signature = signer.sign_ssh(&signed)?;
        if self.broken == Broken::CertificateSignature
            && let Some(last) = signature.last_mut()
        {
            *last ^= 1;
        }
        let mut blob = Writer::new().raw(&signed).string(signature);
        if self.broken == Broken::TrailingBytes {
            blob = blob.raw(b"more");
        }
        Ok(format!("{name} {} {}", b64(blob.done()), spec.comment).trim_end().to_owned())
    }

    /// The extensions, sorted by the bytes of their names.
    fn extensions(&self, spec: &CertificateSpec) -> Vec<u8> {
        let mut extensions: BTreeMap<&str, String> =
            PERMITS.iter().map(|permit| (*permit, String::new())).collect();
        if self.broken != Broken::PktAbsent {
            extensions.insert("openpubkey-pkt", spec.pk_token.compact());
        }
        if let Some(token) = &spec.access_token {
            extensions.insert("openpubkey-act", token.clone());
        }
        let mut all = Writer::new();
        for (name, value) in &extensions {
            if *name != "openpubkey-pkt" {
                all = option(all, name, value);
                continue;
            }
            all = match self.broken {
                Broken::PktBare => all.string(name).string(value),
                Broken::PktTwice => option(option(all, name, value), name, value),
                _ => option(all, name, value),
            };
        }
        all.done()
    }
}

/// An option's name and its data: nothing, or its value as a string in the string.
fn option(all: Writer, name: &str, value: &str) -> Writer {
    let data = if value.is_empty() { Vec::new() } else { Writer::new().string(value).done() };
    all.string(name).string(data)
}
