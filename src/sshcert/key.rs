//! Plain public keys: the holder's and the authority's. A key is its blob: two keys are the same
//! when their bytes are, and the parser leaves each key only one spelling.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, VerificationAlgorithm,
};

use crate::base64;
use crate::error::{CertError, Field};
use crate::limits::{
    MAX_KEY_BYTES, MAX_KEY_LINE_BYTES, MAX_RSA_BITS, MAX_RSA_EXPONENT_BITS, MAX_TYPE_BYTES, MIN_RSA_BITS,
};
use crate::reader::{Reader, bits};

/// The key types that are accepted. DSA, P-521 and security keys are left out on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyType {
    /// `ssh-rsa`, 2048 to 8192 bits.
    Rsa,
    /// `ecdsa-sha2-nistp256`.
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`.
    EcdsaP384,
    /// `ssh-ed25519`.
    Ed25519,
}

impl KeyType {
    /// Every accepted type.
    pub const ALL: [Self; 4] = [Self::Rsa, Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519];

    /// The name of the plain key's type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "ssh-rsa",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::Ed25519 => "ssh-ed25519",
        }
    }

    /// The name of the certificate type for such a key.
    #[must_use]
    pub const fn cert_name(self) -> &'static str {
        match self {
            Self::Rsa => "ssh-rsa-cert-v01@openssh.com",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
        }
    }

    /// The type of a certificate's name.
    ///
    /// # Errors
    /// [`CertError::KeyUnsupported`] for a certificate of another type,
    /// [`CertError::NotACertificate`] for anything else.
    pub fn from_cert_name(name: &[u8]) -> Result<Self, CertError> {
        if let Some(found) = Self::ALL.into_iter().find(|known| known.cert_name().as_bytes() == name) {
            return Ok(found);
        }
        Err(if is_cert_name(name) { CertError::KeyUnsupported } else { CertError::NotACertificate })
    }

    const fn curve(self) -> &'static [u8] {
        match self {
            Self::EcdsaP256 => b"nistp256",
            Self::EcdsaP384 => b"nistp384",
            Self::Rsa | Self::Ed25519 => b"",
        }
    }
}

/// True for the name of any certificate type, known or not.
fn is_cert_name(name: &[u8]) -> bool {
    [&b"-cert-v01@openssh.com"[..], b"-cert-v00@openssh.com"].iter().any(|end| name.ends_with(end))
}

/// A checked public key of an accepted type and size.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    key_type: KeyType,
    bits: u32,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Reads a plain key's blob: the type's name, then the numbers, then nothing.
    ///
    /// # Errors
    /// [`CertError`] says which rule the bytes break; [`CertError::NestedCertificate`] for a
    /// certificate in place of a key.
    pub fn parse(blob: &[u8]) -> Result<Self, CertError> {
        if blob.len() > MAX_KEY_BYTES {
            return Err(CertError::FieldTooLong(Field::Key));
        }
        let mut reader = Reader::new(blob);
        let key_type = plain_type(reader.string(Field::Type, MAX_TYPE_BYTES)?)?;
        let bits = read_numbers(key_type, &mut reader)?;
        reader.end(Field::Key)?;
        Ok(Self { key_type, bits, blob: blob.to_vec() })
    }

    /// Reads one line of a `.pub` file: `type base64 [comment]`. Options in front are refused.
    ///
    /// # Errors
    /// [`CertError::KeyLine`] for another shape, else as [`PublicKey::parse`].
    pub fn from_openssh_line(line: &str) -> Result<Self, CertError> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.len() > MAX_KEY_LINE_BYTES || line.contains(['\r', '\n', '\0']) {
            return Err(CertError::KeyLine);
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let (Some(name), Some(text)) = (words.next(), words.next()) else { return Err(CertError::KeyLine) };
        let key_type = plain_type(name.as_bytes())?;
        let key = Self::parse(&base64::decode(text.as_bytes(), MAX_KEY_BYTES)?)?;
        if key.key_type == key_type { Ok(key) } else { Err(CertError::TypeMismatch) }
    }

    /// An RSA key from big-endian numbers, as a JWK spells them. Leading zero bytes are dropped.
    ///
    /// # Errors
    /// As [`PublicKey::parse`].
    pub fn rsa_from_n_e(n: &[u8], e: &[u8]) -> Result<Self, CertError> {
        if n.len() > MAX_KEY_BYTES || e.len() > MAX_KEY_BYTES {
            return Err(CertError::FieldTooLong(Field::Key));
        }
        let mut blob = Vec::with_capacity(n.len() + e.len() + 32);
        put_string(&mut blob, KeyType::Rsa.name().as_bytes());
        put_mpint(&mut blob, e);
        put_mpint(&mut blob, n);
        Self::parse(&blob)
    }

    /// The type.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The size in bits: of the RSA modulus, of the curve, 256 for Ed25519.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// The blob: what base64 hides in a `.pub` file.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The blob in base64, as a `.pub` file and an authorized_keys line carry it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::encode(&self.blob)
    }

    /// `SHA256:` and the digest of the blob, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = base64::encode(digest::digest(&digest::SHA256, &self.blob).as_ref());
        format!("SHA256:{}", text.trim_end_matches('='))
    }

    /// Exponent and modulus, for RSA.
    pub(crate) fn rsa_numbers(&self) -> Option<(&[u8], &[u8])> {
        let mut reader = self.numbers()?;
        let e = reader.positive_mpint(Field::RsaExponent, MAX_KEY_BYTES).ok()?;
        let n = reader.positive_mpint(Field::RsaModulus, MAX_KEY_BYTES).ok()?;
        (self.key_type == KeyType::Rsa).then_some((e, n))
    }

    /// The point or the Ed25519 key.
    pub(crate) fn point(&self) -> Option<&[u8]> {
        let mut reader = self.numbers()?;
        match self.key_type {
            KeyType::Rsa => return None,
            KeyType::Ed25519 => {}
            KeyType::EcdsaP256 | KeyType::EcdsaP384 => {
                reader.string(Field::Curve, MAX_TYPE_BYTES).ok()?;
            }
        }
        reader.string(Field::Point, MAX_KEY_BYTES).ok()
    }

    fn numbers(&self) -> Option<Reader<'_>> {
        let mut reader = Reader::new(&self.blob);
        reader.string(Field::Type, MAX_TYPE_BYTES).ok()?;
        Some(reader)
    }

    /// The plain key from the fields of a certificate: `numbers` are the bytes that were read from
    /// it, already checked.
    pub(crate) fn from_checked(key_type: KeyType, bits: u32, numbers: &[u8]) -> Self {
        let mut blob = Vec::with_capacity(numbers.len() + 24);
        put_string(&mut blob, key_type.name().as_bytes());
        blob.extend_from_slice(numbers);
        Self { key_type, bits, blob }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.key_type.name(), self.bits, self.fingerprint())
    }
}

fn plain_type(name: &[u8]) -> Result<KeyType, CertError> {
    if let Some(found) = KeyType::ALL.into_iter().find(|known| known.name().as_bytes() == name) {
        return Ok(found);
    }
    Err(if is_cert_name(name) { CertError::NestedCertificate } else { CertError::KeyUnsupported })
}

/// Reads and checks what follows the type's name; returns the size in bits.
pub(crate) fn read_numbers(key_type: KeyType, reader: &mut Reader<'_>) -> Result<u32, CertError> {
    match key_type {
        KeyType::Rsa => {
            let e = reader.positive_mpint(Field::RsaExponent, MAX_KEY_BYTES)?;
            let n = reader.positive_mpint(Field::RsaModulus, MAX_KEY_BYTES)?;
            let size = bits(n);
            if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&size) {
                return Err(CertError::RsaSize(size));
            }
            let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
            if !odd(n) || !odd(e) || e == [1] || bits(e) > MAX_RSA_EXPONENT_BITS {
                return Err(CertError::RsaNumbers);
            }
            Ok(size)
        }
        KeyType::EcdsaP256 => read_point(key_type, reader, &ECDSA_P256_SHA256_FIXED, 256),
        KeyType::EcdsaP384 => read_point(key_type, reader, &ECDSA_P384_SHA384_FIXED, 384),
        KeyType::Ed25519 => match reader.string(Field::Point, MAX_KEY_BYTES)?.len() {
            32 => Ok(256),
            _ => Err(CertError::PointInvalid),
        },
    }
}

fn read_point(
    key_type: KeyType,
    reader: &mut Reader<'_>,
    algorithm: &'static impl VerificationAlgorithm,
    size: u32,
) -> Result<u32, CertError> {
    if reader.string(Field::Curve, MAX_TYPE_BYTES)? != key_type.curve() {
        return Err(CertError::CurveMismatch);
    }
    let point = reader.string(Field::Point, MAX_KEY_BYTES)?;
    // RFC 5656 allows compressed points; OpenSSH takes only the uncompressed form, marked 4.
    if point.first() != Some(&4) || point.len() != (size as usize / 8) * 2 + 1 {
        return Err(CertError::PointInvalid);
    }
    ParsedPublicKey::new(algorithm, point).map_err(|_| CertError::PointInvalid)?;
    Ok(size)
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Callers pass at most MAX_KEY_BYTES; a longer text would fail the parse that follows.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_mpint(out: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let magnitude = number.split_at(start).1;
    if magnitude.first().is_some_and(|byte| *byte >= 0x80) {
        let mut padded = Vec::with_capacity(magnitude.len() + 1);
        padded.push(0);
        padded.extend_from_slice(magnitude);
        put_string(out, &padded);
    } else {
        put_string(out, magnitude);
    }
}
