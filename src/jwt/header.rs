//! The header: which key and which algorithm it says, out of those that are expected.

use crate::json::{Json, JsonError, member, object, text};
use crate::limits::MAX_KID_BYTES;
use crate::refusal::Refusal;

/// A signature algorithm that can be expected (RFC 7518 §3.1, RFC 8037 §3.1). Symmetric ones and `none` have no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what Entra signs with.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// As `alg` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one of this spelling.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa].into_iter().find(|known| known.name() == name)
    }
}

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
}

/// Members that bring a key or say where one is (RFC 7515 §4.1).
const KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];
/// Members of other kinds of tokens: encrypted, compressed, detached, nested.
const OTHERS: [&str; 11] = ["zip", "enc", "b64", "cty", "epk", "apu", "apv", "p2s", "p2c", "iv", "tag"];

impl Header {
    /// Reads a header of one of these algorithms.
    pub(crate) fn parse(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, Refusal> {
        let header = object(bytes).map_err(|error| refusal_of(error, "header"))?;
        let algorithm = text(&header, "alg").and_then(Algorithm::of_name);
        let algorithm = algorithm.filter(|one| algorithms.contains(one)).ok_or(Refusal::Algorithm)?;
        let is_jwt = |kind: &Json| matches!(kind, Json::Text(kind) if kind.eq_ignore_ascii_case("JWT"));
        if !member(&header, "typ").is_none_or(is_jwt) {
            return Err(Refusal::Type);
        }
        if member(&header, "crit").is_some() {
            return Err(Refusal::Critical);
        }
        let has = |name: &&'static str| member(&header, name).is_some();
        if let Some(name) = KEYS.into_iter().find(has) {
            return Err(Refusal::EmbeddedKey(name));
        }
        if member(&header, "nonce").is_some() {
            return Err(Refusal::HeaderNonce);
        }
        if let Some(name) = OTHERS.into_iter().find(has) {
            return Err(Refusal::HeaderMember(name));
        }
        let kid = text(&header, "kid").filter(|kid| is_kid(kid)).ok_or(Refusal::KeyId)?;
        Ok(Self { kid: kid.to_owned(), algorithm })
    }
}

/// What can be the name of a key: some graphic ASCII.
pub(crate) fn is_kid(kid: &str) -> bool {
    (1..=MAX_KID_BYTES).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The refusal for a part that is no object.
pub(crate) const fn refusal_of(error: JsonError, part: &'static str) -> Refusal {
    match error {
        JsonError::Malformed => Refusal::Json(part),
        JsonError::Duplicate => Refusal::DuplicateMember(part),
    }
}
