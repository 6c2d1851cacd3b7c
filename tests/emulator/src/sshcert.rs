//! OpenSSH certificates, built byte by byte as PROTOCOL.certkeys lays them out. It signs whatever it is
//! told to (expired, without principals, for a host key): judging is the business of the thing under test.

use crate::ids;
use crate::rsakey::{Digest, RsaKey};

/// Smallest RSA key the token endpoint certifies, in bits.
pub(crate) const MIN_RSA_BITS: usize = 2048;
/// Largest RSA key the token endpoint certifies, in bits (OpenSSH's own ceiling).
pub(crate) const MAX_RSA_BITS: usize = 16_384;

/// Appends SSH wire types (RFC 4251 §5).
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A length-prefixed byte string.
    pub(crate) fn string(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// A non-negative multiple-precision integer: leading zeroes dropped, one put back if the sign bit is set.
    pub(crate) fn mpint(&mut self, big_endian: &[u8]) {
        let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
        let digits = big_endian.get(start..).unwrap_or(&[]);
        let sign = if digits.first().is_some_and(|byte| byte & 0x80 != 0) { &[0][..] } else { &[] };
        self.string(&[sign, digits].concat());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A plain public key: its type name and its blob after the type string.
#[derive(Debug, Clone)]
pub(crate) struct SubjectKey {
    /// `ssh-rsa`, `ssh-ed25519`, …
    pub(crate) kind: String,
    fields: Vec<u8>,
}

impl SubjectKey {
    /// An RSA key from its numbers, big endian, any leading zeroes.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Self {
        let mut writer = Writer::default();
        writer.mpint(e);
        writer.mpint(n);
        Self { kind: "ssh-rsa".into(), fields: writer.into_bytes() }
    }

    /// A public-key line `type base64 [comment]`. Every plain type keeps its fields unchanged in its
    /// certificate form, so no type needs to be understood here.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (kind, blob) = (words.next()?, ids::unbase64(words.next()?)?);
        let (name, fields) = take_string(&blob)?;
        (name == kind.as_bytes()).then(|| Self { kind: kind.to_owned(), fields: fields.to_vec() })
    }

    /// The certificate type of this key.
    pub(crate) fn certificate_kind(&self) -> String {
        format!("{}-cert-v01@openssh.com", self.kind)
    }
}

/// Split one length-prefixed string off the front.
pub(crate) fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

/// Everything that goes into a certificate except the key and the authority.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) serial: u64,
    /// 1 user, 2 host.
    pub(crate) kind: u32,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    /// Unix seconds.
    pub(crate) valid_after: u64,
    /// Unix seconds, exclusive.
    pub(crate) valid_before: u64,
    /// Name and raw data; data of a text value is itself an SSH string.
    pub(crate) critical: Vec<(String, Vec<u8>)>,
    pub(crate) extensions: Vec<(String, Vec<u8>)>,
}

/// The signed certificate blob.
pub(crate) fn issue(subject: &SubjectKey, contents: &Contents, ca: &RsaKey, digest: Digest) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(subject.certificate_kind().as_bytes());
    body.string(&ids::random::<32>());
    body.raw(&subject.fields);
    body.raw(&contents.serial.to_be_bytes());
    body.raw(&contents.kind.to_be_bytes());
    body.string(contents.key_id.as_bytes());
    let mut principals = Writer::default();
    contents.principals.iter().for_each(|name| principals.string(name.as_bytes()));
    body.string(&principals.into_bytes());
    body.raw(&contents.valid_after.to_be_bytes());
    body.raw(&contents.valid_before.to_be_bytes());
    body.string(&options(&contents.critical));
    body.string(&options(&contents.extensions));
    body.string(&[]);
    body.string(&public_blob(ca));
    let to_sign = body.into_bytes();
    let mut signature = Writer::default();
    signature.string(match digest {
        Digest::Sha256 => b"rsa-sha2-256",
        Digest::Sha512 => b"rsa-sha2-512",
    });
    signature.string(&ca.sign(digest, &to_sign));
    let mut whole = Writer(to_sign);
    whole.string(&signature.into_bytes());
    whole.into_bytes()
}

// Names must be in byte order (PROTOCOL.certkeys), whatever order the caller gave.
fn options(list: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut sorted: Vec<_> = list.iter().collect();
    sorted.sort_by(|one, other| one.0.as_bytes().cmp(other.0.as_bytes()));
    let mut writer = Writer::default();
    for (name, data) in sorted {
        writer.string(name.as_bytes());
        writer.string(data);
    }
    writer.into_bytes()
}

/// The `ssh-rsa` public blob of a key.
pub(crate) fn public_blob(key: &RsaKey) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.string(b"ssh-rsa");
    writer.mpint(key.e());
    writer.mpint(key.n());
    writer.into_bytes()
}

/// One line of an authorized_keys or `.pub` file.
pub(crate) fn public_line(key: &RsaKey, comment: &str) -> String {
    format!("ssh-rsa {} {comment}", ids::base64(&public_blob(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpints_are_canonical() {
        let written = |bytes: &[u8]| {
            let mut writer = Writer::default();
            writer.mpint(bytes);
            writer.into_bytes()
        };
        assert_eq!(written(&[0, 0, 0x80]), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(written(&[0x7f]), [0, 0, 0, 1, 0x7f]);
        assert_eq!(written(&[0]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_line_is_read_back_and_a_lying_type_is_not() {
        let key = RsaKey::generate().unwrap();
        let line = public_line(&key, "x");
        let subject = SubjectKey::from_line(&line).unwrap();
        assert_eq!(subject.fields, SubjectKey::rsa(&[&[0], key.n()].concat(), key.e()).fields);
        assert!(SubjectKey::from_line(&line.replacen("ssh-rsa", "ssh-dss", 1)).is_none());
        assert!(take_string(&[0, 0, 0, 9, 1]).is_none());
    }
}
