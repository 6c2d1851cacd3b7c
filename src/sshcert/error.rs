//! Why a certificate or key is refused: precise enough for a test, stable enough for `explain`.

use std::fmt;

use thiserror::Error;

use crate::limits::{MAX_CERT_BYTES, MAX_RSA_BITS, MIN_RSA_BITS};

/// The part of a certificate or key that an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// The name of the certificate's or key's type.
    Type,
    /// The random bytes that an authority puts first.
    Nonce,
    /// The holder's or the authority's public key.
    Key,
    /// The RSA public exponent.
    RsaExponent,
    /// The RSA modulus.
    RsaModulus,
    /// The name of an elliptic curve.
    Curve,
    /// A point of an elliptic curve, or an Ed25519 key.
    Point,
    /// The serial number.
    Serial,
    /// User or host.
    Kind,
    /// The key id.
    KeyId,
    /// The list of principals, or one of them.
    Principals,
    /// The start of the validity.
    ValidAfter,
    /// The end of the validity.
    ValidBefore,
    /// The critical options.
    CriticalOptions,
    /// The extensions.
    Extensions,
    /// The field kept for later versions of the format.
    Reserved,
    /// The authority's public key inside the certificate.
    SignatureKey,
    /// The signature.
    Signature,
    /// The whole.
    Whole,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type => "type",
            Self::Nonce => "nonce",
            Self::Key => "public key",
            Self::RsaExponent => "RSA exponent",
            Self::RsaModulus => "RSA modulus",
            Self::Curve => "curve",
            Self::Point => "public point",
            Self::Serial => "serial",
            Self::Kind => "kind",
            Self::KeyId => "key id",
            Self::Principals => "principals",
            Self::ValidAfter => "valid-after",
            Self::ValidBefore => "valid-before",
            Self::CriticalOptions => "critical options",
            Self::Extensions => "extensions",
            Self::Reserved => "reserved field",
            Self::SignatureKey => "signature key",
            Self::Signature => "signature",
            Self::Whole => "certificate",
        })
    }
}

/// Why a certificate or a public key is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum CertError {
    /// More than [`MAX_CERT_BYTES`].
    #[error("larger than {MAX_CERT_BYTES} bytes: ask for a new certificate")]
    TooLarge,
    /// Not standard base64 with padding.
    #[error("not standard base64: copy the file again, without line breaks")]
    Base64,
    /// A public key line that is not `type base64 [comment]`.
    #[error("not one line of the form `type base64 comment`: use the .pub file as ssh-keygen writes it")]
    KeyLine,
    /// A plain key, or something else that is no certificate.
    #[error("not a certificate: offer the certificate instead of the key")]
    NotACertificate,
    /// The type in front of the base64 text differs from the type inside.
    #[error("the type in front and the type inside differ: ask for a new certificate")]
    TypeMismatch,
    /// A key or certificate type that is not accepted here (DSA, P-521, security keys, others).
    #[error("key type not accepted: use RSA, ECDSA P-256 or P-384, or Ed25519")]
    KeyUnsupported,
    /// An RSA modulus outside [`MIN_RSA_BITS`]..=[`MAX_RSA_BITS`].
    #[error("RSA key of {0} bits not accepted: use {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")]
    RsaSize(u32),
    /// An even modulus, or an exponent that is even, 1 or above 33 bits.
    #[error("the RSA key cannot be real: make a new key")]
    RsaNumbers,
    /// A point that is not on its curve, or not 32 bytes for Ed25519.
    #[error("the elliptic curve key cannot be real: make a new key")]
    PointInvalid,
    /// The curve named inside differs from the one in the type.
    #[error("the curve differs from the key type: make a new key")]
    CurveMismatch,
    /// The field ends before its declared length.
    #[error("cut short in the {0}: ask for a new certificate")]
    Truncated(Field),
    /// Bytes are left over after the field.
    #[error("bytes left over after the {0}: ask for a new certificate")]
    Trailing(Field),
    /// The field is longer than its limit.
    #[error("the {0} is too long: ask for a new certificate")]
    FieldTooLong(Field),
    /// A number that is negative, zero or padded with needless zero bytes.
    #[error("the {0} is not in its shortest form: ask the issuer for a correct certificate")]
    NotCanonical(Field),
    /// A byte that has no place in the field, or an empty text where one is needed.
    #[error("the {0} holds a character that is not accepted: ask for a new certificate")]
    TextInvalid(Field),
    /// A principal that is empty or holds a character outside printable ASCII, a blank, a comma,
    /// a quote or a backslash.
    #[error("a principal is empty or holds a character that is not accepted: sign in with another name")]
    PrincipalAlphabet,
    /// More than [`crate::MAX_PRINCIPALS`].
    #[error("too many principals: exactly one is accepted")]
    TooManyPrincipals,
    /// More than [`crate::MAX_OPTIONS`] critical options or extensions.
    #[error("too many {0}: ask for a smaller certificate")]
    TooManyOptions(Field),
    /// The same option twice.
    #[error("an option stands twice in the {0}: ask the issuer for a correct certificate")]
    DuplicateOption(Field),
    /// The options are not in lexical order.
    #[error("the {0} are not in order: ask the issuer for a correct certificate")]
    OptionOrder(Field),
    /// An extension's value is not one nested string of printable text.
    #[error("the extension's value is not one text: ask the issuer for a correct certificate")]
    ExtensionValue,
    /// The reserved field is in use: a later version of the format.
    #[error("the reserved field is not empty: a later version of the format, update this program")]
    ReservedInUse,
    /// Neither user nor host.
    #[error("kind {0} is neither user nor host: ask for a new certificate")]
    KindUnknown(u32),
    /// A host certificate where a user certificate is needed.
    #[error("a host certificate: ask for a user certificate")]
    HostCertificate,
    /// The signature key is itself a certificate.
    #[error("signed by a certificate instead of a key: chains are not accepted")]
    NestedCertificate,
    /// SHA-1, an unknown algorithm, or one that does not belong to the authority's key.
    #[error("signed with an algorithm that is not accepted: SHA-256 or better is needed")]
    SignatureAlgorithm,
    /// The signature has the wrong length or form.
    #[error("the signature has the wrong form: ask for a new certificate")]
    SignatureForm,
    /// The trusted authority is not the one named in the certificate.
    #[error("issued by another authority: sign in to the right tenant")]
    CaMismatch,
    /// The signature does not verify.
    #[error("the signature is wrong: ask for a new certificate")]
    BadSignature,
}

impl CertError {
    /// The word of Nightlatch's closed list of reasons.
    #[must_use]
    pub const fn reason_word(self) -> &'static str {
        match self {
            Self::TooLarge => "cert_too_large",
            Self::NotACertificate => "not_a_certificate",
            Self::KeyUnsupported
            | Self::RsaSize(_)
            | Self::RsaNumbers
            | Self::PointInvalid
            | Self::CurveMismatch
            | Self::NestedCertificate => "key_unsupported",
            Self::PrincipalAlphabet => "principal_alphabet",
            Self::TooManyPrincipals => "many_principals",
            Self::HostCertificate => "cert_type_host",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::CaMismatch => "ca_unknown",
            Self::BadSignature => "bad_signature",
            Self::Base64
            | Self::KeyLine
            | Self::TypeMismatch
            | Self::Truncated(_)
            | Self::Trailing(_)
            | Self::FieldTooLong(_)
            | Self::NotCanonical(_)
            | Self::TextInvalid(_)
            | Self::TooManyOptions(_)
            | Self::DuplicateOption(_)
            | Self::OptionOrder(_)
            | Self::ExtensionValue
            | Self::ReservedInUse
            | Self::KindUnknown(_)
            | Self::SignatureForm => "cert_malformed",
        }
    }
}
