//! The client: its key, the protected header that names the key (the client instance claims, CIC), the
//! commitment to that header, and the signature over the ID token's payload.

use aws_lc_rs::digest::{SHA3_256, SHA256, digest};

use crate::token::{Parts, tampered};
use crate::{Broken, Error, Key, KeyType, PkToken, b64url, random};

/// The commitment to a CIC header: base64url of the SHA3-256 of its JSON text.
pub fn commitment(header_json: &str) -> String {
    b64url(digest(&SHA3_256, header_json.as_bytes()))
}

/// An OpenPubkey client between its start and its certificate.
#[derive(Debug)]
pub struct Client {
    pub(crate) key: Key,
    /// A second key of the same type, for what another key must not be able to do.
    pub(crate) other: Key,
    pub(crate) broken: Broken,
    rz: String,
    /// A second random value, for a header that was changed after the commitment.
    other_rz: String,
}

impl Client {
    /// A client with a new key that does everything right.
    pub fn new(key_type: KeyType) -> Result<Self, Error> {
        Self::with(key_type, Broken::Nothing)
    }

    /// A client with a new key that breaks one thing.
    pub fn with(key_type: KeyType, broken: Broken) -> Result<Self, Error> {
        Ok(Self {
            key: Key::generate(key_type)?,
            other: Key::generate(key_type)?,
            broken,
            rz: hex(&random::<32>()?),
            other_rz: hex(&random::<32>()?),
        })
    }

    /// The key of the certificate.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The key that `upk` names and that makes the CIC signature.
    fn upk(&self) -> &Key {
        if self.broken == Broken::UpkOther { &self.other } else { &self.key }
    }

    /// The JSON text of a header that is right, with this random value.
    fn right_header(&self, rz: &str) -> String {
        let upk = self.upk();
        format!(r#"{{"alg":"{}","rz":"{rz}","typ":"CIC","upk":{}}}"#, upk.key_type().jws_alg(), upk.jwk())
    }

    /// The JSON text of the CIC protected header, as it stands in the token.
    pub fn cic_header(&self) -> String {
        let alg = self.upk().key_type().jws_alg();
        let jwk = self.upk().jwk();
        let rz = &self.rz;
        match self.broken {
            Broken::CicTyp => format!(r#"{{"alg":"{alg}","rz":"{rz}","typ":"cic","upk":{jwk}}}"#),
            Broken::CicTypAbsent => format!(r#"{{"alg":"{alg}","rz":"{rz}","upk":{jwk}}}"#),
            Broken::CicAlg => {
                let alg = self.upk().key_type().other().jws_alg();
                format!(r#"{{"alg":"{alg}","rz":"{rz}","typ":"CIC","upk":{jwk}}}"#)
            }
            Broken::CicAlgNone => format!(r#"{{"alg":"none","rz":"{rz}","typ":"CIC","upk":{jwk}}}"#),
            Broken::UpkAlg => {
                let upk = jwk.replace(alg, self.upk().key_type().other().jws_alg());
                format!(r#"{{"alg":"{alg}","rz":"{rz}","typ":"CIC","upk":{upk}}}"#)
            }
            Broken::CicRzAbsent => format!(r#"{{"alg":"{alg}","typ":"CIC","upk":{jwk}}}"#),
            Broken::CicUpkAbsent => format!(r#"{{"alg":"{alg}","rz":"{rz}","typ":"CIC"}}"#),
            Broken::CicDuplicateMember => {
                let first = self.other.jwk();
                format!(r#"{{"alg":"{alg}","rz":"{rz}","typ":"CIC","upk":{first},"upk":{jwk}}}"#)
            }
            Broken::CicWhiteSpace => self.right_header(rz).replace("\"typ\":", "\"typ\": "),
            Broken::RzChanged => self.right_header(&self.other_rz),
            _ => self.right_header(rz),
        }
    }

    /// The commitment to hand to the identity provider as the parameter `nonce`. With
    /// [`Broken::NonceAbsent`] it is empty: ask for a token without a nonce.
    pub fn nonce(&self) -> String {
        match self.broken {
            Broken::NonceAbsent => String::new(),
            Broken::NonceOther => commitment(&self.right_header(&self.other_rz)),
            Broken::NonceOverBase64 => commitment(&b64url(self.cic_header())),
            Broken::NonceSha256 => b64url(digest(&SHA256, self.cic_header().as_bytes())),
            // Made before the header was changed.
            Broken::RzChanged | Broken::CicWhiteSpace => commitment(&self.right_header(&self.rz)),
            _ => commitment(&self.cic_header()),
        }
    }

    /// The CIC signature over a payload in base64url, with the protected header in base64url before it.
    fn cic_signature(&self, key: &Key, protected: &str, payload: &str) -> Result<String, Error> {
        Ok(b64url(key.sign(format!("{protected}.{payload}").as_bytes())?))
    }

    /// The PK token of an ID token in its compact form.
    pub fn pk_token(&self, id_token: &str) -> Result<PkToken, Error> {
        let id = Parts::of(id_token)?;
        let mut payload = id.payload.to_owned();
        let mut op = (id.protected.to_owned(), id.signature.to_owned());
        let mut protected = b64url(self.cic_header());
        if self.broken == Broken::PaddedBase64 {
            protected = padded(&protected);
        }
        let signer = if self.broken == Broken::CicOtherSigner { &self.other } else { self.upk() };
        let signature = match self.broken {
            Broken::CicOtherPayload => self.cic_signature(signer, &protected, &tampered(&payload))?,
            Broken::CicAlgNone => String::new(),
            _ => self.cic_signature(signer, &protected, &payload)?,
        };
        let mut cic = (protected, signature);
        match self.broken {
            Broken::CicSignature => cic.1 = tampered(&cic.1),
            Broken::MalformedBase64 => cic.1.insert(8, '*'),
            Broken::SignatureEmpty => cic.1.clear(),
            Broken::IdTokenSignature => op.1 = tampered(&op.1),
            Broken::IdTokenPayload => {
                payload = other_subject(&payload)?;
                cic.1 = self.cic_signature(signer, &cic.0, &payload)?;
            }
            _ => {}
        }
        let signatures = match self.broken {
            Broken::CicMissing => vec![op],
            Broken::OpMissing => vec![cic],
            Broken::SignaturesSwapped => vec![cic, op],
            Broken::SignatureExtra => {
                let header = self.right_header(&self.other_rz).replace(&self.key.jwk(), &self.other.jwk());
                let protected = b64url(header);
                let signature = self.cic_signature(&self.other, &protected, &payload)?;
                vec![op, (protected, signature), cic]
            }
            _ => vec![op, cic],
        };
        let token = PkToken::join(&payload, &signatures);
        Ok(match self.broken {
            Broken::PartMissing => PkToken::from_text(without_last_part(&token.compact())),
            _ => token,
        })
    }

    /// The text of the private key file that belongs to the certificate.
    pub fn private_key_openssh(&self) -> Result<String, Error> {
        self.key.private_key_openssh()
    }
}

/// Bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// base64url with the padding that JWS forbids. Text that needs none gets a group of none, which is as wrong.
fn padded(text: &str) -> String {
    let pad = match text.len() % 4 {
        2 => "==",
        3 => "=",
        _ => "====",
    };
    format!("{text}{pad}")
}

/// A payload of another subject, all else as it was.
fn other_subject(payload: &str) -> Result<String, Error> {
    let unreadable = Error::IdToken("its payload cannot be read");
    let Some(json) = crate::from_b64url(payload) else { return Err(unreadable) };
    let Ok(mut claims) = serde_json::from_slice::<serde_json::Value>(&json) else { return Err(unreadable) };
    if let Some(claims) = claims.as_object_mut() {
        claims.insert("sub".to_owned(), "somebody-else".into());
        claims.insert("oid".to_owned(), "99999999-9999-4999-8999-999999999999".into());
    }
    Ok(b64url(claims.to_string()))
}

/// A compact token without its last part: an even count of parts.
fn without_last_part(compact: &str) -> &str {
    compact.rsplit_once(':').map_or(compact, |(rest, _)| rest)
}
