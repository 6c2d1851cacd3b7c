//! The certificate itself. It keeps the bytes it was read from: the signature is checked over
//! those and over nothing that was written anew.

use std::fmt;

use crate::base64;
use crate::error::{CertError, Field};
use crate::key::{KeyType, PublicKey, read_numbers};
use crate::limits::{
    MAX_CERT_BYTES, MAX_KEY_BYTES, MAX_KEY_ID_BYTES, MAX_NONCE_BYTES, MAX_PRINCIPAL_BYTES, MAX_PRINCIPALS,
    MAX_SIGNATURE_BYTES, MAX_TYPE_BYTES,
};
use crate::option::{RawOption, read_options};
use crate::reader::Reader;
use crate::signature::{Signature, SignatureAlgorithm};

/// Whom a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CertKind {
    /// A person or a service (type 1).
    User,
    /// A machine (type 2).
    Host,
}

/// A well-formed certificate. Its signature is not checked until
/// [`verify_signature`](Certificate::verify_signature) says so.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    raw: Vec<u8>,
    signed: usize,
    subject: PublicKey,
    serial: u64,
    kind: CertKind,
    key_id: Vec<u8>,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    critical: Vec<RawOption>,
    extensions: Vec<RawOption>,
    ca: PublicKey,
    signature: Signature,
}

impl Certificate {
    /// Reads the two words of a `-cert.pub` file, or sshd's `%t` and `%k`.
    ///
    /// # Errors
    /// [`CertError`] says which rule the text or the bytes break.
    pub fn from_openssh(cert_type: &str, text: &str) -> Result<Self, CertError> {
        KeyType::from_cert_name(cert_type.as_bytes())?;
        let raw = base64::decode(text.as_bytes(), MAX_CERT_BYTES)?;
        let inner = Reader::new(&raw).string(Field::Type, MAX_TYPE_BYTES)?;
        if inner != cert_type.as_bytes() {
            return Err(CertError::TypeMismatch);
        }
        Self::from_bytes(raw)
    }

    /// Reads a certificate's blob.
    ///
    /// # Errors
    /// [`CertError`] says which rule the bytes break.
    pub fn parse(raw: &[u8]) -> Result<Self, CertError> {
        if raw.len() > MAX_CERT_BYTES {
            return Err(CertError::TooLarge);
        }
        Self::from_bytes(raw.to_vec())
    }

    fn from_bytes(raw: Vec<u8>) -> Result<Self, CertError> {
        let mut reader = Reader::new(&raw);
        let key_type = KeyType::from_cert_name(reader.string(Field::Type, MAX_TYPE_BYTES)?)?;
        reader.string(Field::Nonce, MAX_NONCE_BYTES)?;
        let before = reader.left();
        let mut numbers = reader.clone();
        let bits = read_numbers(key_type, &mut reader)?;
        let numbers = numbers.take(before - reader.left(), Field::Key)?;
        let subject = PublicKey::from_checked(key_type, bits, numbers);
        let serial = reader.u64(Field::Serial)?;
        let kind = match reader.u32(Field::Kind)? {
            1 => CertKind::User,
            2 => CertKind::Host,
            other => return Err(CertError::KindUnknown(other)),
        };
        let key_id = reader.string(Field::KeyId, MAX_KEY_ID_BYTES)?;
        if key_id.contains(&0) {
            return Err(CertError::TextInvalid(Field::KeyId));
        }
        let principals = read_principals(reader.string(Field::Principals, MAX_CERT_BYTES)?)?;
        let valid_after = reader.u64(Field::ValidAfter)?;
        let valid_before = reader.u64(Field::ValidBefore)?;
        let critical =
            read_options(reader.string(Field::CriticalOptions, MAX_CERT_BYTES)?, Field::CriticalOptions)?;
        let extensions = read_options(reader.string(Field::Extensions, MAX_CERT_BYTES)?, Field::Extensions)?;
        if !reader.string(Field::Reserved, MAX_CERT_BYTES)?.is_empty() {
            return Err(CertError::ReservedInUse);
        }
        let ca = PublicKey::parse(reader.string(Field::SignatureKey, MAX_KEY_BYTES)?)?;
        let signed = raw.len() - reader.left();
        let signature = Signature::parse(reader.string(Field::Signature, MAX_SIGNATURE_BYTES)?, &ca)?;
        reader.end(Field::Whole)?;
        let key_id = key_id.to_vec();
        Ok(Self {
            signed,
            subject,
            serial,
            kind,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical,
            extensions,
            ca,
            signature,
            raw,
        })
    }

    /// Checks that `ca` is the authority named inside, byte for byte, and that its signature over
    /// the received bytes is right. Whether `ca` is trusted, the validity, the kind, the
    /// principals and the critical options are the caller's to judge.
    ///
    /// # Errors
    /// [`CertError::CaMismatch`] or [`CertError::BadSignature`].
    pub fn verify_signature(&self, ca: &PublicKey) -> Result<(), CertError> {
        if ca != &self.ca {
            return Err(CertError::CaMismatch);
        }
        self.signature.verify(ca, self.raw.split_at(self.signed).0)
    }

    /// Refuses a host certificate.
    ///
    /// # Errors
    /// [`CertError::HostCertificate`].
    pub const fn require_user(&self) -> Result<(), CertError> {
        match self.kind {
            CertKind::User => Ok(()),
            CertKind::Host => Err(CertError::HostCertificate),
        }
    }

    /// User or host.
    #[must_use]
    pub const fn kind(&self) -> CertKind {
        self.kind
    }

    /// The holder's plain key.
    #[must_use]
    pub const fn subject_key(&self) -> &PublicKey {
        &self.subject
    }

    /// The authority's key named inside.
    #[must_use]
    pub const fn ca_key(&self) -> &PublicKey {
        &self.ca
    }

    /// True when the holder signed the certificate with the very key it certifies.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.subject == self.ca
    }

    /// The algorithm of the signature.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.signature.algorithm
    }

    /// The serial number; zero when the authority does not number its certificates.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The key id as received: any bytes but NUL. Never print these.
    #[must_use]
    pub fn key_id_bytes(&self) -> &[u8] {
        &self.key_id
    }

    /// The key id for a log or a terminal: printable ASCII, everything else escaped (`\n`, `\xff`).
    #[must_use]
    pub fn key_id(&self) -> String {
        self.key_id.escape_ascii().to_string()
    }

    /// The principals in the order received. Empty means that the certificate names nobody:
    /// OpenSSH takes such a certificate for anybody, and a caller must refuse it.
    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// The first second of the validity, in Unix seconds.
    #[must_use]
    pub const fn valid_after(&self) -> u64 {
        self.valid_after
    }

    /// The first second after the validity, in Unix seconds; all ones means for ever.
    #[must_use]
    pub const fn valid_before(&self) -> u64 {
        self.valid_before
    }

    /// The critical options in the order received.
    #[must_use]
    pub fn critical_options(&self) -> &[RawOption] {
        &self.critical
    }

    /// The names of the critical options that are not in `known`. Whoever admits a login must
    /// refuse when one is left; this crate itself knows none.
    pub fn unknown_critical_options<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.critical.iter().map(RawOption::name).filter(|name| !known.contains(name))
    }

    /// The extensions in the order received.
    #[must_use]
    pub fn extensions(&self) -> &[RawOption] {
        &self.extensions
    }

    /// True when the extension is present, whatever its value.
    #[must_use]
    pub fn has_extension(&self, name: &str) -> bool {
        self.extensions.iter().any(|extension| extension.name() == name)
    }

    /// The text of an extension: its value must be exactly one nested string. `None` when absent.
    ///
    /// # Errors
    /// [`CertError::ExtensionValue`] when it is present and its value has another form.
    pub fn extension_text(&self, name: &str) -> Result<Option<&str>, CertError> {
        self.extensions.iter().find(|extension| extension.name() == name).map(RawOption::text).transpose()
    }

    /// The bytes as received.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("kind", &self.kind)
            .field("subject", &self.subject)
            .field("serial", &self.serial)
            .field("key_id", &self.key_id())
            .field("principals", &self.principals)
            .field("valid_after", &self.valid_after)
            .field("valid_before", &self.valid_before)
            .field("critical", &self.critical)
            .field("extensions", &self.extensions)
            .field("ca", &self.ca)
            .field("algorithm", &self.signature.algorithm)
            .finish_non_exhaustive()
    }
}

/// Strings packed in a string. CVE-2026-35414 was a principal with a comma that a later list
/// took for two names, so nothing that separates, quotes or ends a text anywhere gets through.
fn read_principals(list: &[u8]) -> Result<Vec<String>, CertError> {
    let mut reader = Reader::new(list);
    let mut principals = Vec::new();
    while reader.left() > 0 {
        if principals.len() == MAX_PRINCIPALS {
            return Err(CertError::TooManyPrincipals);
        }
        let name = reader.string(Field::Principals, MAX_PRINCIPAL_BYTES)?;
        let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\\');
        if name.is_empty() || !name.iter().all(plain) {
            return Err(CertError::PrincipalAlphabet);
        }
        principals.push(String::from_utf8(name.to_vec()).map_err(|_| CertError::PrincipalAlphabet)?);
    }
    Ok(principals)
}
