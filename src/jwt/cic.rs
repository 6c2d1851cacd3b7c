//! The client's own header in an OpenPubkey token: its key, and the commitment to it.

use crate::compact::decode;
use crate::header::Algorithm;
use crate::json::{Json, member, object, text};
use crate::key::Material;
use crate::pk_refusal::PkRefusal;

/// Length of the random part, in hexadecimal digits: 32 bytes.
const RZ_DIGITS: usize = 64;
/// The members that it has, all of them and no other.
const MEMBERS: [&str; 4] = ["alg", "rz", "typ", "upk"];

/// A header that says which key the client holds ("CIC").
#[derive(Debug)]
pub(crate) struct Cic {
    /// The client's key.
    pub(crate) key: Material,
    /// What the key signs with.
    pub(crate) algorithm: Algorithm,
    /// The bytes that the provider's nonce commits to.
    pub(crate) committed: Vec<u8>,
}

impl Cic {
    /// Reads the protected part.
    pub(crate) fn parse(part: &str) -> Result<Self, PkRefusal> {
        let committed = decode(part).map_err(|_| PkRefusal::Form)?;
        let header = object(&committed).map_err(|_| PkRefusal::ClientHeader)?;
        if header.len() != MEMBERS.len() || MEMBERS.iter().any(|name| member(&header, name).is_none()) {
            return Err(PkRefusal::ClientHeader);
        }
        if text(&header, "typ") != Some("CIC") {
            return Err(PkRefusal::ClientType);
        }
        let random = text(&header, "rz").ok_or(PkRefusal::ClientHeader)?;
        if random.len() != RZ_DIGITS || !random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(PkRefusal::ClientHeader);
        }
        let Some(Json::Object(upk)) = member(&header, "upk") else { return Err(PkRefusal::ClientHeader) };
        let key = Material::of_jwk(upk).ok_or(PkRefusal::ClientKey)?;
        let algorithm = match key {
            Material::P256 { .. } => Algorithm::Es256,
            Material::Ed25519 { .. } => Algorithm::EdDsa,
            // opkssh makes none, and it would not fit a certificate of theirs.
            Material::Rsa { .. } => return Err(PkRefusal::ClientKey),
        };
        let said = [text(&header, "alg"), text(upk, "alg")];
        if said != [Some(algorithm.name()); 2] {
            return Err(PkRefusal::ClientAlgorithm);
        }
        Ok(Self { key, algorithm, committed })
    }
}
