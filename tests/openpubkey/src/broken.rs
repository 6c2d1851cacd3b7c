//! The single things that a client can get wrong, each with the step of the verification that it breaks.

/// One thing that is broken. Each text says what a verifier must find true and what is the case instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Nothing: the certificate that the client writes.
    Nothing,
    // The SSH certificate.
    /// The certificate's own signature verifies with its signature key. Upstream: sshd refuses it.
    CertificateSignature,
    /// The signature key is the certificate's key; here another key signed, validly.
    NotSelfSigned,
    /// The certificate is a user certificate. Upstream: sshd refuses it.
    HostCertificate,
    /// The certificate's validity has not ended. Upstream: sshd refuses it.
    CertificateExpired,
    /// The certificate's validity has begun. Upstream: sshd refuses it.
    CertificateNotYetValid,
    /// There is no critical option; here `force-command`. Upstream: sshd obeys it.
    CriticalOption,
    /// There is a principal. Clients before v0.14.0 write none: not an attack, but sshd 10.3 refuses it.
    PrincipalsEmpty,
    /// The principal is `opkssh-wildcard`; here `root` and `alice`. A client's own choice that must grant
    /// nothing.
    PrincipalsOther,
    /// Each principal is safe in a line of authorized keys; here one with a quote. Upstream: accepted up to
    /// v0.16.0.
    PrincipalUnsafe,
    /// No access token is embedded; here `openpubkey-act` is.
    AccessToken,
    /// The extension `openpubkey-pkt` is there.
    PktAbsent,
    /// An extension's data is one inner string; here the bare bytes.
    PktBare,
    /// Each extension comes once; here `openpubkey-pkt` twice.
    PktTwice,
    /// Nothing follows the certificate's signature in its blob.
    TrailingBytes,
    // The compact PK token.
    /// The count of parts is odd; here the last one is missing.
    PartMissing,
    /// There is a CIC signature.
    CicMissing,
    /// There is the identity provider's signature.
    OpMissing,
    /// The CIC signature is not empty.
    SignatureEmpty,
    /// There are exactly two signatures; here another key's valid CIC stands before the right one.
    /// Upstream: the last one wins.
    SignatureExtra,
    /// The identity provider's signature comes first. Upstream: told apart by `typ`.
    SignaturesSwapped,
    /// Each part is base64url; here a `*` is in a signature.
    MalformedBase64,
    /// Base64url is without padding; here the CIC header has it, and is signed with it.
    PaddedBase64,
    /// The token is no larger than a bound; here a claim of 60000 bytes is in the ID token.
    Oversized,
    // The CIC header and its signature.
    /// `typ` is `CIC`; here `cic`.
    CicTyp,
    /// `typ` is there.
    CicTypAbsent,
    /// The header's `alg` is that of `upk`.
    CicAlg,
    /// `alg` is a signature's; here `none`, with no signature.
    CicAlgNone,
    /// The `alg` of `upk` fits its key and the header.
    UpkAlg,
    /// `rz` is there.
    CicRzAbsent,
    /// `upk` is there.
    CicUpkAbsent,
    /// No member comes twice; here another key's `upk` comes before the right one.
    CicDuplicateMember,
    /// The CIC signature verifies.
    CicSignature,
    /// The CIC signature is made with the key in `upk`; here with another key.
    CicOtherSigner,
    /// The CIC signature is over the ID token's payload; here over another one.
    CicOtherPayload,
    /// `upk` is the certificate's key; here another key that did all else right.
    UpkOther,
    // The commitment.
    /// The header is the one committed to; here `rz` was changed after that.
    RzChanged,
    /// The committed bytes are those of the header as it stands; here a space was added after that.
    /// Upstream: re-serialised first.
    CicWhiteSpace,
    /// The nonce is the commitment; here it is that of another header.
    NonceOther,
    /// There is a nonce.
    NonceAbsent,
    /// The commitment is over the JSON text; here over its base64url.
    NonceOverBase64,
    /// The commitment is SHA3-256; here SHA-256.
    NonceSha256,
    // The ID token.
    /// The identity provider's signature verifies.
    IdTokenSignature,
    /// The payload is the one that the identity provider signed; here of another subject, with a right CIC
    /// signature.
    IdTokenPayload,
    /// The ID token's `alg` is a signature's; here `none`.
    IdTokenAlgNone,
    /// The ID token is signed with the key that it names; here with another provider's.
    IdTokenForged,
    /// `aud` is the client id.
    IdTokenOtherAudience,
    /// `iss` is a known issuer; here another tenant's, with this tenant's key.
    IdTokenOtherIssuer,
    /// The ID token is young enough; here it was issued 8 days ago. Upstream: within `never`.
    IdTokenOld,
    // The refreshed ID token.
    /// The refreshed token has three parts; here two.
    FreshMalformed,
    /// The refreshed token's signature verifies.
    FreshSignature,
    /// The refreshed token is signed with the key that it names; here with another provider's.
    FreshForged,
    /// The refreshed token's `alg` is a signature's; here `none`.
    FreshAlgNone,
    /// The refreshed token is of the same `sub`.
    FreshOtherSubject,
    /// The refreshed token is of the same `oid`; the `sub` is the same here.
    FreshOtherObject,
    /// The refreshed token is for the same `aud`.
    FreshOtherAudience,
    /// The refreshed token is of the same `iss`.
    FreshOtherIssuer,
    /// The refreshed token's nonce is absent or the original's; here another client's.
    FreshOtherNonce,
    /// The refreshed token has not expired; here it has, and so has the original.
    FreshExpired,
    /// The refreshed token was not issued before the original.
    FreshNotNewer,
}

impl Broken {
    /// All of them, [`Broken::Nothing`] first.
    pub const ALL: [Self; 60] = [
        Self::Nothing,
        Self::CertificateSignature,
        Self::NotSelfSigned,
        Self::HostCertificate,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CriticalOption,
        Self::PrincipalsEmpty,
        Self::PrincipalsOther,
        Self::PrincipalUnsafe,
        Self::AccessToken,
        Self::PktAbsent,
        Self::PktBare,
        Self::PktTwice,
        Self::TrailingBytes,
        Self::PartMissing,
        Self::CicMissing,
        Self::OpMissing,
        Self::SignatureEmpty,
        Self::SignatureExtra,
        Self::SignaturesSwapped,
        Self::MalformedBase64,
        Self::PaddedBase64,
        Self::Oversized,
        Self::CicTyp,
        Self::CicTypAbsent,
        Self::CicAlg,
        Self::CicAlgNone,
        Self::UpkAlg,
        Self::CicRzAbsent,
        Self::CicUpkAbsent,
        Self::CicDuplicateMember,
        Self::CicSignature,
        Self::CicOtherSigner,
        Self::CicOtherPayload,
        Self::UpkOther,
        Self::RzChanged,
        Self::CicWhiteSpace,
        Self::NonceOther,
        Self::NonceAbsent,
        Self::NonceOverBase64,
        Self::NonceSha256,
        Self::IdTokenSignature,
        Self::IdTokenPayload,
        Self::IdTokenAlgNone,
        Self::IdTokenForged,
        Self::IdTokenOtherAudience,
        Self::IdTokenOtherIssuer,
        Self::IdTokenOld,
        Self::FreshMalformed,
        Self::FreshSignature,
        Self::FreshForged,
        Self::FreshAlgNone,
        Self::FreshOtherSubject,
        Self::FreshOtherObject,
        Self::FreshOtherAudience,
        Self::FreshOtherIssuer,
        Self::FreshOtherNonce,
        Self::FreshExpired,
        Self::FreshNotNewer,
    ];

    /// Whether upstream's own verifier, as read in its source, lets it pass: it leaves the matter to sshd, or
    /// does not look. A stricter verifier refuses it all the same. For the refreshed tokens this is the policy
    /// `oidc_refreshed`; the others hold for each policy.
    pub fn upstream_accepts(self) -> bool {
        matches!(
            self,
            Self::Nothing
                | Self::CertificateSignature
                | Self::NotSelfSigned
                | Self::HostCertificate
                | Self::CertificateExpired
                | Self::CertificateNotYetValid
                | Self::CriticalOption
                | Self::PrincipalsEmpty
                | Self::PrincipalsOther
                | Self::AccessToken
                | Self::SignatureExtra
                | Self::SignaturesSwapped
                | Self::Oversized
                | Self::CicWhiteSpace
                | Self::FreshSignature
                | Self::FreshForged
                | Self::FreshAlgNone
                | Self::FreshOtherSubject
                | Self::FreshOtherObject
                | Self::FreshOtherAudience
                | Self::FreshOtherIssuer
                | Self::FreshOtherNonce
                | Self::FreshNotNewer
        )
    }

    /// Whether it needs a refreshed ID token, which [`crate::case`] then appends.
    pub fn is_of_refresh(self) -> bool {
        matches!(
            self,
            Self::FreshMalformed
                | Self::FreshSignature
                | Self::FreshForged
                | Self::FreshAlgNone
                | Self::FreshOtherSubject
                | Self::FreshOtherObject
                | Self::FreshOtherAudience
                | Self::FreshOtherIssuer
                | Self::FreshOtherNonce
                | Self::FreshExpired
                | Self::FreshNotNewer
        )
    }
}
