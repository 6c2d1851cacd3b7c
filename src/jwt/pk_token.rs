//! The proof in an OpenPubkey certificate: an ID token that commits to the client's key.
//!
//! The order is the one of its specification, but stricter than its first implementation
//! (`tests/openpubkey/FORMAT.md`): every part has its place, times are always looked at, and a refreshed ID token is
//! checked like the first. That the key is the certificate's, and that its holder is at the other end of the
//! connection, is for the caller and for sshd.

use aws_lc_rs::digest::{SHA3_256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::Timestamp;

use crate::cic::Cic;
use crate::claims::Claims;
use crate::expected::{Evidence, Expected, Kind};
use crate::key_set::KeySet;
use crate::limits::{MAX_LEEWAY_S, MAX_LIFETIME_S, MAX_PK_TOKEN_BYTES, MAX_REFRESHED_S};
use crate::pk_refusal::PkRefusal;
use crate::refusal::Refusal;
use crate::validate::{allowed, signed, validate};

/// The certificate's extension in which a proof stands (opkssh, `sshcert/sshcert.go`).
pub const PROOF_EXTENSION: &str = "openpubkey-pkt";
/// The one principal of a certificate for whatever name the ID token allows (opkssh, `commands/login.go`).
pub const WILDCARD_PRINCIPAL: &str = "opkssh-wildcard";

/// How long a sign-in is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// For this many seconds from the issue of the first ID token, whenever that token itself ends.
    AfterIssue(u32),
    /// As long as the first ID token.
    IdToken,
    /// As long as the first ID token, or the refreshed one where there is one.
    Refreshed,
}

/// A proof that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What the first ID token says.
    pub claims: Claims,
    /// The client's key, as an SSH public key blob (RFC 5656 §3.1, RFC 8709 §4).
    pub ssh_key: Vec<u8>,
    /// The first second in which the sign-in is no longer good.
    pub ends: Timestamp,
    /// Whether a refreshed ID token was looked at.
    pub refreshed: bool,
}

/// The parts of a compact token.
struct Parts<'a> {
    payload: &'a str,
    provider: [&'a str; 2],
    client: [&'a str; 2],
    fresh: Option<&'a str>,
}

fn parts(token: &str) -> Result<Parts<'_>, PkRefusal> {
    if token.len() > MAX_PK_TOKEN_BYTES {
        return Err(PkRefusal::Form);
    }
    let (proof, fresh) = token.split_once('.').map_or((token, None), |(proof, fresh)| (proof, Some(fresh)));
    let mut found = proof.split(':');
    let mut next = || found.next().ok_or(PkRefusal::Form);
    let parts = Parts { payload: next()?, provider: [next()?, next()?], client: [next()?, next()?], fresh };
    if found.next().is_some() { Err(PkRefusal::Form) } else { Ok(parts) }
}

/// Whether an OpenPubkey token proves that somebody signed in for the client's key, and who.
///
/// Of `expected` the kind and the nonce are not looked at: it must be an ID token, whose nonce is the commitment.
///
/// # Errors
/// The first step that fails.
pub fn verify_proof(
    token: &str,
    expected: &Expected,
    expiration: Expiration,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Proof, PkRefusal> {
    let parts = parts(token)?;
    let [header, signature] = parts.client;
    let client = Cic::parse(header)?;
    let signed_by_client = format!("{header}.{}", parts.payload);
    if !client.key.verifies(client.algorithm, signed_by_client.as_bytes(), signature) {
        return Err(PkRefusal::ClientSignature);
    }
    let [header, signature] = parts.provider;
    let first = format!("{header}.{}.{signature}", parts.payload);
    let id = Expected { kind: Kind::Id, nonce: None, ..expected.clone() };
    let claims = signed(&first, &id, keys, now).map_err(PkRefusal::Token)?;
    let commitment = URL_SAFE_NO_PAD.encode(digest(&SHA3_256, &client.committed));
    if claims.nonce.as_ref() != Some(&commitment) {
        return Err(PkRefusal::Commitment);
    }
    let begun = [claims.issued_at, claims.not_before]
        .into_iter()
        .all(|at| at.since(now) <= expected.leeway_s.clamp(0, MAX_LEEWAY_S));
    if !begun {
        return Err(PkRefusal::Token(Refusal::NotYetValid));
    }
    if claims.expires <= claims.issued_at || claims.expires.since(claims.issued_at) > MAX_LIFETIME_S {
        return Err(PkRefusal::Token(Refusal::Lifetime));
    }
    let also = allowed(&claims, expected, now);
    also.map_err(PkRefusal::Token)?;
    let fresh = parts.fresh.map(|fresh| refreshed(fresh, &claims, &id, keys, now)).transpose()?;
    let ends = match (expiration, fresh) {
        (Expiration::AfterIssue(seconds), _) => claims.issued_at.plus(i64::from(seconds)),
        (Expiration::Refreshed, Some(fresh)) => {
            claims.expires.max(fresh).min(claims.issued_at.plus(MAX_REFRESHED_S))
        }
        (Expiration::IdToken | Expiration::Refreshed, _) => claims.expires,
    };
    if now >= ends {
        return Err(PkRefusal::Expired);
    }
    Ok(Proof {
        claims,
        ssh_key: client.key.ssh_blob().ok_or(PkRefusal::ClientKey)?,
        ends,
        refreshed: fresh.is_some(),
    })
}

/// The end of a refreshed ID token, which must be good by itself and of the same sign-in.
fn refreshed(
    token: &str,
    first: &Claims,
    expected: &Expected,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Timestamp, PkRefusal> {
    // What the first sign-in had to show, the first token showed.
    let expected = Expected { evidence: Evidence::default(), ..expected.clone() };
    let fresh = match validate(token, &expected, keys, now) {
        // One that is over lengthens nothing, and takes nothing away.
        Err(Refusal::Expired) => return Ok(Timestamp(0)),
        other => other.map_err(PkRefusal::Refreshed)?,
    };
    let same = [
        ("iss", fresh.issuer == first.issuer),
        ("aud", fresh.audience == first.audience),
        ("sub", fresh.subject == first.subject),
        ("tid", fresh.tenant == first.tenant),
        ("oid", fresh.oid == first.oid),
        ("nonce", fresh.nonce.is_none() || fresh.nonce == first.nonce),
        ("iat", fresh.issued_at >= first.issued_at),
    ];
    match same.into_iter().find(|(_, same)| !same) {
        Some((name, _)) => Err(PkRefusal::OtherSignIn(name)),
        None => Ok(fresh.expires),
    }
}
