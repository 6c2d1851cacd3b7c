//! Why a token is not believed.

use thiserror::Error;

/// Why a token is not believed. Each has a word of its own; the sentence is for the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Longer than a token can be.
    #[error("the token is longer than 16 KiB; a token with 200 groups has 10")]
    TooLarge,
    /// Not `header.payload.signature`.
    #[error("the text is not a signed token in compact form (three parts between two dots)")]
    NotCompact,
    /// A part is not base64url as RFC 7515 §2 wants it: without padding, in the one spelling.
    #[error("a part of the token is not base64url without padding")]
    Base64,
    /// A part is not a JSON object of bounded size.
    #[error("the token's {0} is not a JSON object of bounded size")]
    Json(&'static str),
    /// A JSON object names a member twice; two readers would see two tokens.
    #[error("the token's {0} names a member twice")]
    DuplicateMember(&'static str),
    /// The algorithm is not the one that is expected here.
    #[error("the token's algorithm is not accepted here; Entra signs with RS256")]
    Algorithm,
    /// The header's `typ` is not `JWT`.
    #[error("the token's type is not JWT")]
    Type,
    /// The header has `crit`: there is an extension that must be understood.
    #[error("the token demands an extension (crit); none is understood")]
    Critical,
    /// The header brings its own key, or says where to fetch one.
    #[error("the token brings a key of its own ({0}); only keys of the issuer's key set count")]
    EmbeddedKey(&'static str),
    /// The header has a nonce: a token for Microsoft Graph, which nobody else can check.
    #[error("the token is for a Microsoft service that alone can check it (nonce in the header)")]
    HeaderNonce,
    /// The header speaks of encryption, compression or detached content.
    #[error("the token's header has `{0}`, which a signed token for this node has not")]
    HeaderMember(&'static str),
    /// No key is named, or by a name that cannot be one.
    #[error("the token does not name its key (kid) in a form that can be one")]
    KeyId,
    /// The key is not in the key set.
    #[error("the token's key is not in the issuer's key set; fetch it anew")]
    UnknownKey,
    /// The key belongs to another issuer than the token states.
    #[error("the token is signed with a key of another issuer than it states")]
    KeyIssuer,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is not there.
    #[error("the token has no claim `{0}`")]
    Missing(&'static str),
    /// A claim has another type or form than it must have.
    #[error("the token's claim `{0}` has a wrong type or form")]
    Malformed(&'static str),
    /// The issuer is not one that is accepted.
    #[error("the token's issuer is not an accepted one of this tenant; compare it to the letter")]
    Issuer,
    /// The tenant is another one.
    #[error("the token is of another tenant")]
    Tenant,
    /// The tenant of personal accounts.
    #[error("the token is of a personal Microsoft account")]
    ConsumerTenant,
    /// `ver` and the issuer do not fit together.
    #[error("the token's version does not fit its issuer")]
    Version,
    /// The audience is another one.
    #[error("the token is for another audience")]
    Audience,
    /// It was issued to another client.
    #[error("the token was issued to another application than those accepted")]
    Client,
    /// It is about another person.
    #[error("the token is about another person")]
    Person,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet; compare the clocks")]
    NotYetValid,
    /// It was issued in the future.
    #[error("the token was issued in the future; compare the clocks")]
    IssuedInFuture,
    /// It lives longer than Entra lets one live, or ends before it begins.
    #[error("the token's times cannot be Entra's: it ends before it begins, or lives more than 28 h")]
    Lifetime,
    /// An ID token where an access token is expected.
    #[error("the token says who signed in (ID token) and opens nothing; an access token is needed")]
    NotAnAccessToken,
    /// An access token where an ID token is expected.
    #[error("the token opens something (access token); the one that says who signed in (ID token) is needed")]
    NotAnIdToken,
    /// An application's token where a person's is expected.
    #[error("the token is an application's, not a person's")]
    Application,
    /// A guest where guests are off.
    #[error("the token is a guest's, and guests are not allowed")]
    Guest,
    /// The nonce is not the one of this sign-in.
    #[error("the token's nonce is not the one of this sign-in")]
    Nonce,
    /// Groups are listed and also said to be too many to list.
    #[error("the token lists groups and says that they are too many to list")]
    GroupsConflict,
    /// A name that the platform reserves.
    #[error("the token's claim `{0}` begins with `system:`, which the platform reserves")]
    ReservedName(&'static str),
    /// It is bound to a key that is not checked here.
    #[error("the token is bound to a key (cnf) and is worth nothing without its proof")]
    ProofOfPossession,
    /// Evidence that is required is not in it.
    #[error("the token does not show what is required: `{0}`")]
    Evidence(&'static str),
    /// A way of signing in that is forbidden.
    #[error("the token comes from a way of signing in that is forbidden")]
    ForbiddenMethod,
    /// The sign-in is too long ago.
    #[error("the sign-in behind the token is too long ago; sign in again")]
    AuthAge,
}

impl Refusal {
    /// The stable word: for output, records and tests.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooLarge => "token_too_large",
            Self::NotCompact => "token_not_compact",
            Self::Base64 => "token_base64",
            Self::Json(_) => "token_json",
            Self::DuplicateMember(_) => "token_duplicate_member",
            Self::Algorithm => "token_algorithm",
            Self::Type => "token_type",
            Self::Critical => "token_critical",
            Self::EmbeddedKey(_) => "token_embedded_key",
            Self::HeaderNonce => "token_header_nonce",
            Self::HeaderMember(_) => "token_header_member",
            Self::KeyId => "token_key_id",
            Self::UnknownKey => "token_unknown_key",
            Self::KeyIssuer => "token_key_issuer",
            Self::Signature => "token_bad_signature",
            Self::Missing(_) => "token_claim_missing",
            Self::Malformed(_) => "token_claim_malformed",
            Self::Issuer => "token_issuer",
            Self::Tenant => "token_tenant",
            Self::ConsumerTenant => "token_consumer_tenant",
            Self::Version => "token_version",
            Self::Audience => "token_audience",
            Self::Client => "token_client",
            Self::Person => "token_person",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::IssuedInFuture => "token_issued_in_future",
            Self::Lifetime => "token_lifetime",
            Self::NotAnAccessToken => "token_not_access",
            Self::NotAnIdToken => "token_not_id",
            Self::Application => "token_application",
            Self::Guest => "token_guest",
            Self::Nonce => "token_nonce",
            Self::GroupsConflict => "token_groups_conflict",
            Self::ReservedName(_) => "token_reserved_name",
            Self::ProofOfPossession => "token_bound_to_key",
            Self::Evidence(_) => "token_evidence",
            Self::ForbiddenMethod => "token_forbidden_method",
            Self::AuthAge => "token_auth_age",
        }
    }

    /// The part, member, claim or evidence that it is about, where there is one.
    #[must_use]
    pub const fn about(self) -> Option<&'static str> {
        match self {
            Self::Json(what)
            | Self::DuplicateMember(what)
            | Self::EmbeddedKey(what)
            | Self::HeaderMember(what)
            | Self::Missing(what)
            | Self::Malformed(what)
            | Self::ReservedName(what)
            | Self::Evidence(what) => Some(what),
            _ => None,
        }
    }
}
