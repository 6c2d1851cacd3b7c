//! Registered applications: who may ask for tokens, how they prove themselves, which resources exist.

use std::collections::BTreeSet;

use aws_lc_rs::signature;
use serde::{Deserialize, Serialize};

use crate::ids;
use crate::jwt::PublicKey;

/// One application registration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct App {
    pub(crate) client_id: String,
    pub(crate) name: String,
    /// May it use refresh tokens, codes and device codes without proving itself?
    pub(crate) public: bool,
    /// Member of Microsoft's family of client ids.
    pub(crate) family: bool,
    pub(crate) secrets: Vec<String>,
    /// PEM certificates whose keys may sign client assertions.
    pub(crate) certificates: Vec<String>,
    /// PEM authorities: a certificate that one of them signed may sign client assertions if the assertion
    /// brings it along as `x5c` ("subject name and issuer" authentication; subjects are not compared).
    pub(crate) authorities: Vec<String>,
    pub(crate) federated: Vec<Federated>,
    /// Redirect addresses; empty means loopback only, any port.
    pub(crate) redirect_uris: Vec<String>,
    /// Are access tokens for this application v2 (`requestedAccessTokenVersion`)?
    pub(crate) v2_tokens: bool,
    /// Optional claims of its ID tokens: `upn`, `acct`, `amr`, `acrs`, `auth_time`, `deviceid`,
    /// `groups`.
    pub(crate) optional_id_claims: BTreeSet<String>,
    /// Extra identifier URIs of the application as a resource.
    pub(crate) identifier_uris: Vec<String>,
    /// Graph application permissions granted, such as `User.Read.All`.
    pub(crate) graph_roles: BTreeSet<String>,
}

/// A federated credential: exact issuer, subject and audience.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Federated {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    #[serde(default = "exchange_audience")]
    pub(crate) audience: String,
}

/// An outside issuer of assertions and its keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Issuer {
    pub(crate) issuer: String,
    /// JSON Web Keys (`kid`, `n`, `e`).
    pub(crate) keys: Vec<Jwk>,
}

/// The members of an RSA JSON Web Key that matter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Jwk {
    #[serde(default)]
    pub(crate) kid: String,
    pub(crate) n: String,
    pub(crate) e: String,
}

/// `sha256WithRSAEncryption` as a DER object identifier (RFC 8017 appendix A.2.4).
const SHA256_WITH_RSA: &[u8] = &[6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 11];

/// The audience every federated assertion must carry.
pub(crate) const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";

fn exchange_audience() -> String {
    EXCHANGE_AUDIENCE.into()
}

impl Jwk {
    /// The key's numbers, if they are base64url.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        Some(PublicKey { n: stripped(ids::unbase64url(&self.n)?), e: stripped(ids::unbase64url(&self.e)?) })
    }
}

fn stripped(mut number: Vec<u8>) -> Vec<u8> {
    let zeroes = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeroes);
    number
}

/// A registered certificate: what a client assertion refers to and is checked with.
pub(crate) struct RegisteredCertificate {
    /// base64url SHA-1 of the DER (`x5t`).
    pub(crate) x5t: String,
    /// base64url SHA-256 of the DER (`x5t#S256`).
    pub(crate) x5t_s256: String,
    pub(crate) key: PublicKey,
}

impl RegisteredCertificate {
    /// Read the RSA key out of a PEM certificate.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with('-')).collect();
        Self::from_der(&ids::unbase64(&body)?)
    }

    /// Read the RSA key out of a certificate.
    pub(crate) fn from_der(der: &[u8]) -> Option<Self> {
        use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
        Some(Self {
            x5t: ids::base64url(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
            x5t_s256: ids::base64url(digest(&SHA256, der).as_ref()),
            key: certificate_key(der)?,
        })
    }

    /// Did this certificate's key sign the other one (RSA with SHA-256)?
    pub(crate) fn signed(&self, der: &[u8]) -> bool {
        let parts = || {
            let (_, certificate, _) = element(der)?;
            let (_, _, rest) = element(certificate)?;
            let tbs = certificate.get(..certificate.len() - rest.len())?;
            let (_, algorithm, rest) = element(rest)?;
            let (_, bits, _) = element(rest)?;
            algorithm.starts_with(SHA256_WITH_RSA).then_some((tbs, bits.get(1..)?))
        };
        let key = signature::RsaPublicKeyComponents { n: &self.key.n, e: &self.key.e };
        parts()
            .is_some_and(|(tbs, sign)| key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, tbs, sign).is_ok())
    }
}

// Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject,
// SEQUENCE { algorithm, BIT STRING { SEQUENCE { n, e } } } … } … } (RFC 5280 §4.1).
fn certificate_key(der: &[u8]) -> Option<PublicKey> {
    let (_, certificate, _) = element(der)?;
    let (_, mut tbs, _) = element(certificate)?;
    let (tag, _, rest) = element(tbs)?;
    if tag == 0xa0 {
        tbs = rest;
    }
    for _ in 0..5 {
        tbs = element(tbs)?.2;
    }
    let (_, key_info, _) = element(tbs)?;
    let (_, bits, _) = element(element(key_info)?.2)?;
    let (_, numbers, _) = element(bits.get(1..)?)?;
    let (_, n, rest) = element(numbers)?;
    let (_, e, _) = element(rest)?;
    Some(PublicKey { n: stripped(n.to_vec()), e: stripped(e.to_vec()) })
}

// One DER element: tag, contents, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}
