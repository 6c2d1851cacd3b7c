//! The closed list of what this crate refuses although ssh-keygen takes it. Each has its heading
//! in `REFUSALS.md`.

use nightlatch_sshcert::{CertError, Field};

macro_rules! refusals {
    ($($name:ident $heading:literal => $error:pat,)*) => {
        /// A deliberate refusal.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) enum Refusal { $($name,)* }

        impl Refusal {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The heading in `REFUSALS.md`.
            pub(crate) const fn heading(self) -> &'static str {
                match self { $(Self::$name => $heading,)* }
            }

            /// True when this refusal shows itself as `error`.
            pub(crate) const fn explains(self, error: CertError) -> bool {
                match self { $(Self::$name => matches!(error, $error),)* }
            }
        }
    };
}

refusals! {
    KeyType "key-type" => CertError::KeyUnsupported,
    TypeName "type-name" => CertError::KeyUnsupported | CertError::NotACertificate | CertError::TypeMismatch,
    RsaSize "rsa-size" => CertError::RsaSize(_) | CertError::FieldTooLong(Field::RsaModulus),
    RsaNumbers "rsa-numbers" => CertError::RsaNumbers | CertError::NotCanonical(Field::RsaExponent) | CertError::FieldTooLong(Field::RsaExponent),
    Mpint "mpint" => CertError::NotCanonical(Field::RsaExponent | Field::RsaModulus | Field::Signature),
    Size "size" => CertError::TooLarge,
    Nonce "nonce" => CertError::FieldTooLong(Field::Nonce),
    KeyId "key-id" => CertError::FieldTooLong(Field::KeyId) | CertError::TextInvalid(Field::KeyId),
    Principal "principal" => CertError::PrincipalAlphabet | CertError::FieldTooLong(Field::Principals),
    OptionName "option-name" => CertError::TextInvalid(Field::CriticalOptions | Field::Extensions),
    OptionSize "option-size" => CertError::FieldTooLong(Field::CriticalOptions | Field::Extensions) | CertError::TooManyOptions(_),
    OptionTwice "option-twice" => CertError::DuplicateOption(_),
    OptionOrder "option-order" => CertError::OptionOrder(Field::CriticalOptions),
    Reserved "reserved" => CertError::ReservedInUse,
    SignatureLabel "signature-label" => CertError::SignatureAlgorithm,
    Ed25519Scalar "ed25519-scalar" => CertError::BadSignature,
    Base64 "base64" => CertError::Base64,
}
