//! What all tokens of the corpus share: names, the hour, key pairs made once per run, key sets, and a canary that
//! hears whether anybody follows an address out of a token.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_jwt::{KeySet, KeySetError, Merged};
use nightlatch_model::Timestamp;

use crate::draft::{Object, quoted};

pub(crate) const TENANT: &str = "5f1c8e1a-73b4-4d2e-9a61-0b8c2f4d7e90";
pub(crate) const OTHER_TENANT: &str = "c0ffee12-9d3a-4b57-8e46-51a7d2b09f33";
pub(crate) const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// Our application: what tokens are for.
pub(crate) const APP: &str = "7d3e9b52-16f8-4c0a-b7d5-2e94a1c6830f";
/// The same, as tokens of version 1.0 may name it.
pub(crate) const APP_URI: &str = "api://nightlatch/node";
/// The application that asked for the token.
pub(crate) const CLIENT: &str = "e2a4c6d8-0b1f-4e3d-8c5a-97b6d4f2e081";
pub(crate) const OTHER_CLIENT: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
pub(crate) const ALICE: &str = "1a9f3c70-5b2e-4d68-a4c1-f07e8b2d6395";
pub(crate) const BOB: &str = "b8d20e47-c61a-4f93-8b75-3a0d9e5c1f26";
pub(crate) const DEVICE: &str = "6e0d1c2b-3a49-4857-9685-a4b3c2d1e0f9";
pub(crate) const GROUP: &str = "a1b2c3d4-e5f6-4071-8293-a4b5c6d7e8f9";

/// The issuer of version 2.0 of a tenant, or of what stands in its place.
pub(crate) fn v2_issuer(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

/// The issuer of version 1.0.
pub(crate) fn v1_issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// A key pair under its key id.
pub(crate) struct Pair {
    pub(crate) kid: &'static str,
    pub(crate) private: KeyPair,
}

impl Pair {
    fn new(kid: &'static str) -> Self {
        Self { kid, private: KeyPair::generate(KeySize::Rsa2048).expect("an RSA key") }
    }

    pub(crate) fn modulus(&self) -> Vec<u8> {
        self.private.public_key().modulus().big_endian_without_leading_zero().to_vec()
    }

    pub(crate) fn exponent(&self) -> Vec<u8> {
        self.private.public_key().exponent().big_endian_without_leading_zero().to_vec()
    }

    /// The public key as `RSAPublicKey` in DER.
    pub(crate) fn pkcs1(&self) -> Vec<u8> {
        self.private.public_key().as_ref().to_vec()
    }

    /// The public key as `SubjectPublicKeyInfo` in DER.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.private.public_key().as_der().expect("SPKI");
        der.as_ref().to_vec()
    }

    /// As Entra's document of version 1.0 lists it: without an issuer.
    pub(crate) fn jwk(&self) -> Object {
        Object::default()
            .with("kty", "\"RSA\"")
            .with("use", "\"sig\"")
            .with("kid", quoted(self.kid))
            .with("x5t", quoted(self.kid))
            .with("n", quoted(&URL_SAFE_NO_PAD.encode(self.modulus())))
            .with("e", quoted(&URL_SAFE_NO_PAD.encode(self.exponent())))
            .with("x5c", "[\"MIIDBTCCAe2gAwIBAgIQ\"]")
    }

    /// As the document of version 2.0 lists it.
    pub(crate) fn jwk_of(&self, issuer: &str) -> Object {
        self.jwk().with("cloud_instance_name", "\"microsoftonline.com\"").with("issuer", quoted(issuer))
    }
}

/// A key set, the document that it comes from, and what taking the document in said.
pub(crate) struct Keys {
    pub(crate) document: String,
    pub(crate) set: KeySet,
    pub(crate) merged: Result<Merged, KeySetError>,
}

impl Keys {
    pub(crate) fn of(keys: &[Object]) -> Arc<Self> {
        let listed: Vec<String> = keys.iter().map(Object::text).collect();
        let document = format!("{{\"keys\":[{}]}}", listed.join(","));
        let mut set: KeySet = Default::default();
        let merged = set.merge(document.as_bytes(), Timestamp(now()));
        Arc::new(Self { document, set, merged })
    }
}

/// All that is made once per run.
pub(crate) struct Kit {
    /// Signs tokens of version 2.0; its issuer has `{tenantid}`.
    pub(crate) primary: Pair,
    /// Signs tokens of version 2.0; its issuer is exactly ours.
    pub(crate) exact: Pair,
    /// Signs tokens of version 1.0; has no issuer.
    pub(crate) legacy: Pair,
    /// Stands in the key set only where a case puts it there.
    pub(crate) spare: Pair,
    /// Stands in no key set.
    pub(crate) stranger: Pair,
    now: i64,
    canary: TcpListener,
}

static KIT: LazyLock<Kit> = LazyLock::new(|| {
    let canary = TcpListener::bind("127.0.0.1:0").expect("a port");
    canary.set_nonblocking(true).expect("non-blocking");
    Kit {
        primary: Pair::new("PrimaryKeyOfTheTestIssuer_1"),
        exact: Pair::new("ExactKeyOfTheTestIssuer-002"),
        legacy: Pair::new("LegacyKeyOfTheTestIssuer003"),
        spare: Pair::new("SpareKeyOfTheTestIssuer0004"),
        stranger: Pair::new("StrangersKey_NobodyKnows005"),
        now: i64::try_from(jsonwebtoken::get_current_timestamp()).expect("a time"),
        canary,
    }
});
static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| Keys::of(&issuer_keys()));

pub(crate) fn kit() -> &'static Kit {
    &KIT
}

/// The hour of the whole run. It is near the true one because bare `jsonwebtoken` reads the clock itself.
pub(crate) fn now() -> i64 {
    kit().now
}

/// The keys of the issuer as nearly all cases use them.
pub(crate) fn keys() -> Arc<Keys> {
    Arc::clone(&KEYS)
}

pub(crate) fn issuer_keys() -> Vec<Object> {
    let kit = kit();
    let template = kit.primary.jwk_of(&v2_issuer("{tenantid}"));
    vec![template, kit.exact.jwk_of(&v2_issuer(TENANT)), kit.legacy.jwk()]
}

/// The issuer's keys and one more.
pub(crate) fn keys_and(key: Object) -> Arc<Keys> {
    let mut keys = issuer_keys();
    keys.push(key);
    Keys::of(&keys)
}

impl Kit {
    /// An address that nobody may follow.
    pub(crate) fn canary_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.canary.local_addr().expect("an address"))
    }

    /// Whether nobody has followed it.
    pub(crate) fn canary_sings(&self) -> bool {
        matches!(self.canary.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}
