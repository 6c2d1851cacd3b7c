//! A certificate, field by field. Every field may be wrong; the signature is right unless asked.

use super::{TestKey, line, split_string, string, strings};

/// The fields of a certificate, as bytes that go out unchecked.
///
/// ```
/// use nightlatch_sshcert::{Certificate, testing::{CertificateBuilder, TestKey}};
/// let (ca, holder) = (TestKey::ed25519([1; 32]), TestKey::ed25519([2; 32]));
/// let blob = CertificateBuilder::new(&holder).principals(["alice@contoso.com"]).sign(&ca);
/// let cert = Certificate::parse(&blob).unwrap();
/// assert_eq!(cert.verify_signature(cert.ca_key()), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct CertificateBuilder {
    /// The name of the certificate type.
    pub cert_type: Vec<u8>,
    /// The nonce.
    pub nonce: Vec<u8>,
    /// The holder's key: the fields after the type's name, already encoded.
    pub numbers: Vec<u8>,
    /// The serial number.
    pub serial: u64,
    /// 1 is user, 2 is host.
    pub kind: u32,
    /// The key id.
    pub key_id: Vec<u8>,
    /// The inside of the list of principals, already encoded.
    pub principals: Vec<u8>,
    /// Unix seconds.
    pub valid_after: u64,
    /// Unix seconds.
    pub valid_before: u64,
    /// The inside of the critical options, already encoded.
    pub critical: Vec<u8>,
    /// The inside of the extensions, already encoded.
    pub extensions: Vec<u8>,
    /// The reserved field.
    pub reserved: Vec<u8>,
    /// The blob of the signature key; `None` takes the signer's.
    pub signature_key: Option<Vec<u8>>,
    /// The label of the signature; `None` takes the signer's own.
    pub algorithm: Option<String>,
}

impl CertificateBuilder {
    /// A user certificate for `holder` without principals, options and extensions, valid for ever.
    #[must_use]
    pub fn new(holder: &TestKey) -> Self {
        Self::for_blob(&holder.blob())
    }

    /// The same for a plain public key's blob, made elsewhere.
    #[must_use]
    pub fn for_blob(blob: &[u8]) -> Self {
        let (name, numbers) = split_string(blob);
        Self {
            cert_type: [name, b"-cert-v01@openssh.com"].concat(),
            nonce: vec![0x5a; 32],
            numbers: numbers.to_vec(),
            serial: 1,
            kind: 1,
            key_id: b"1c0163c0-47e6-4577-8991-ea5c82e286e4".to_vec(),
            principals: Vec::new(),
            valid_after: 0,
            valid_before: u64::MAX,
            critical: Vec::new(),
            extensions: Vec::new(),
            reserved: Vec::new(),
            signature_key: None,
            algorithm: None,
        }
    }

    /// Replaces the principals.
    #[must_use]
    pub fn principals<T: AsRef<[u8]>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.principals = strings(names);
        self
    }

    /// Sets the validity, in Unix seconds.
    #[must_use]
    pub const fn valid(mut self, after: u64, before: u64) -> Self {
        self.valid_after = after;
        self.valid_before = before;
        self
    }

    /// Appends a critical option with a raw value.
    #[must_use]
    pub fn critical(mut self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.critical.extend(strings([name.as_ref(), data.as_ref()]));
        self
    }

    /// Appends an extension with a raw value; flags such as `permit-pty` have an empty one.
    #[must_use]
    pub fn extension(mut self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.extensions.extend(strings([name.as_ref(), data.as_ref()]));
        self
    }

    /// Appends an extension whose value is one nested string.
    #[must_use]
    pub fn text_extension(self, name: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> Self {
        self.extension(name, string(text.as_ref()))
    }

    /// Appends the five extensions that ssh-keygen gives to a user certificate.
    #[must_use]
    pub fn permit_all(self) -> Self {
        ["X11-forwarding", "agent-forwarding", "port-forwarding", "pty", "user-rc"]
            .into_iter()
            .fold(self, |builder, name| builder.extension(format!("permit-{name}"), ""))
    }

    /// The bytes that get signed.
    #[must_use]
    pub fn to_be_signed(&self, ca: &TestKey) -> Vec<u8> {
        let key = self.signature_key.clone().unwrap_or_else(|| ca.blob());
        [
            string(&self.cert_type),
            string(&self.nonce),
            self.numbers.clone(),
            self.serial.to_be_bytes().to_vec(),
            self.kind.to_be_bytes().to_vec(),
            string(&self.key_id),
            string(&self.principals),
            self.valid_after.to_be_bytes().to_vec(),
            self.valid_before.to_be_bytes().to_vec(),
            string(&self.critical),
            string(&self.extensions),
            string(&self.reserved),
            string(&key),
        ]
        .concat()
    }

    /// The certificate's blob.
    #[must_use]
    pub fn sign(&self, ca: &TestKey) -> Vec<u8> {
        self.sign_edited(ca, |_| {})
    }

    /// The certificate's blob, with the bytes edited before they are signed.
    #[must_use]
    pub fn sign_edited(&self, ca: &TestKey, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut blob = self.to_be_signed(ca);
        edit(&mut blob);
        let algorithm = self.algorithm.clone().unwrap_or_else(|| ca.algorithm());
        let signature = ca.sign(&algorithm, &blob);
        blob.extend(string(&signature));
        blob
    }

    /// The certificate as `az ssh cert` writes it to a file: `type base64`, no line end.
    #[must_use]
    pub fn line(&self, ca: &TestKey) -> String {
        line(&self.sign(ca))
    }
}
