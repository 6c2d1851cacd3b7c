//! A token before it is signed: members of header and payload as raw JSON text in their order, so that a member named
//! twice, an odd number or a blank can be written byte for byte.

use std::fmt::Display;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::kit::{ALICE, APP, APP_URI, CLIENT, DEVICE, GROUP, Pair, TENANT, kit, now, v1_issuer, v2_issuer};

/// A JSON text from a Rust one.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a JSON text")
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON object as a list of names and raw values.
#[derive(Clone, Default)]
pub(crate) struct Object(pub(crate) Vec<(String, String)>);

impl Object {
    /// This member has this value; at its place when it was there, else at the end.
    pub(crate) fn with(mut self, name: &str, raw: impl Display) -> Self {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => *value = raw.to_string(),
            None => self.0.push((name.to_owned(), raw.to_string())),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    /// One more member at the end, whether or not the name is taken.
    pub(crate) fn also(mut self, name: &str, raw: impl Display) -> Self {
        self.0.push((name.to_owned(), raw.to_string()));
        self
    }

    /// One more member at the start.
    pub(crate) fn first(mut self, name: &str, raw: impl Display) -> Self {
        self.0.insert(0, (name.to_owned(), raw.to_string()));
        self
    }

    pub(crate) fn raw(&self, name: &str) -> String {
        self.0.iter().find(|(known, _)| known == name).expect("the draft has it").1.clone()
    }

    pub(crate) fn text(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(name, raw)| format!("\"{name}\":{raw}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// What comes after the second dot.
#[derive(Clone)]
pub(crate) enum Signer {
    Rs256(&'static Pair),
    Rs384(&'static Pair),
    Rs512(&'static Pair),
    Ps256(&'static Pair),
    Hmac(hmac::Algorithm, Vec<u8>),
    /// These bytes, whatever is signed.
    Bytes(Vec<u8>),
}

impl Signer {
    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        let rsa = |pair: &Pair, form: &'static dyn RsaEncoding| {
            let mut made = vec![0_u8; pair.private.public_modulus_len()];
            pair.private.sign(form, &SystemRandom::new(), text.as_bytes(), &mut made).expect("a signature");
            made
        };
        match self {
            Self::Rs256(pair) => rsa(pair, &signature::RSA_PKCS1_SHA256),
            Self::Rs384(pair) => rsa(pair, &signature::RSA_PKCS1_SHA384),
            Self::Rs512(pair) => rsa(pair, &signature::RSA_PKCS1_SHA512),
            Self::Ps256(pair) => rsa(pair, &signature::RSA_PSS_SHA256),
            Self::Hmac(form, secret) => {
                hmac::sign(&hmac::Key::new(*form, secret), text.as_bytes()).as_ref().to_vec()
            }
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// A token of two parts that are already text.
    pub(crate) fn seal(&self, header: &str, payload: &str) -> String {
        let signed = format!("{header}.{payload}");
        let made = base64url(self.sign(&signed));
        format!("{signed}.{made}")
    }
}

/// A token before it is signed.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) header: Object,
    pub(crate) claims: Object,
    pub(crate) signer: Signer,
}

impl Draft {
    fn new(pair: &'static Pair) -> Self {
        let header =
            Object::default().with("typ", "\"JWT\"").with("alg", "\"RS256\"").with("kid", quoted(pair.kid));
        let claims = Object::default()
            .with("iat", now() - 300)
            .with("nbf", now() - 300)
            .with("exp", now() + 4_200)
            .with("tid", quoted(TENANT))
            .with("oid", quoted(ALICE))
            .with("sub", "\"Kq3vE0mJ6u2nXw1Zr8sT5yB7cD9fG4hL\"")
            .with("uti", "\"hV3kPq8sW0ePdXJmYzQAAA\"")
            .with("rh", "\"0.AXoAGo4cX7RzLk2aYQuML01-kA\"");
        Self { header, claims, signer: Signer::Rs256(pair) }
    }

    /// A person's access token of version 2.0.
    pub(crate) fn v2() -> Self {
        Self::new(&kit().primary)
            .with("iss", quoted(&v2_issuer(TENANT)))
            .with("ver", "\"2.0\"")
            .with("aud", quoted(APP))
            .with("azp", quoted(CLIENT))
            .with("azpacr", "\"0\"")
            .with("scp", "\"Node.Login\"")
            .with("name", "\"Alice Example\"")
            .with("preferred_username", "\"alice@example.com\"")
    }

    /// A person's access token of version 1.0, with what Conditional Access leaves in one.
    pub(crate) fn v1() -> Self {
        Self::new(&kit().legacy)
            .with("iss", quoted(&v1_issuer(TENANT)))
            .with("ver", "\"1.0\"")
            .with("aud", quoted(APP_URI))
            .with("appid", quoted(CLIENT))
            .with("appidacr", "\"0\"")
            .with("scp", "\"user_impersonation\"")
            .with("acr", "\"1\"")
            .with("amr", "[\"pwd\",\"mfa\"]")
            .with("acrs", "[\"p1\",\"c1\"]")
            .with("deviceid", quoted(DEVICE))
            .with("auth_time", now() - 600)
            .with("ipaddr", "\"203.0.113.7\"")
            .with("groups", format!("[{}]", quoted(GROUP)))
            .with("unique_name", "\"alice@example.com\"")
            .with("upn", "\"alice@example.com\"")
    }

    /// An ID token.
    pub(crate) fn id() -> Self {
        Self::v2().without("scp").without("azp").without("azpacr").with("nonce", "\"n-0S6_WzA2Mj\"")
    }

    /// An application's access token.
    pub(crate) fn app() -> Self {
        Self::v2()
            .without("scp")
            .without("name")
            .without("preferred_username")
            .with("sub", quoted(ALICE))
            .with("azpacr", "\"2\"")
            .with("idtyp", "\"app\"")
            .with("roles", "[\"Node.Read.All\"]")
    }

    pub(crate) fn with(mut self, claim: &str, raw: impl Display) -> Self {
        self.claims = self.claims.with(claim, raw);
        self
    }

    pub(crate) fn without(mut self, claim: &str) -> Self {
        self.claims = self.claims.without(claim);
        self
    }

    pub(crate) fn also(mut self, claim: &str, raw: impl Display) -> Self {
        self.claims = self.claims.also(claim, raw);
        self
    }

    pub(crate) fn head(mut self, member: &str, raw: impl Display) -> Self {
        self.header = self.header.with(member, raw);
        self
    }

    pub(crate) fn unhead(mut self, member: &str) -> Self {
        self.header = self.header.without(member);
        self
    }

    pub(crate) fn by(mut self, signer: Signer) -> Self {
        self.signer = signer;
        self
    }

    /// Signed by this pair and named after it.
    pub(crate) fn under(self, pair: &'static Pair) -> Self {
        self.head("kid", quoted(pair.kid)).by(Signer::Rs256(pair))
    }

    pub(crate) fn text(&self) -> String {
        self.sealed(self.header.text(), self.claims.text())
    }

    /// A token of other texts, signed as this one.
    pub(crate) fn sealed(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.signer.seal(&base64url(header), &base64url(payload))
    }

    /// The three parts of the finished token.
    pub(crate) fn parts(&self) -> [String; 3] {
        let text = self.text();
        let parts: Vec<&str> = text.split('.').collect();
        [parts[0].to_owned(), parts[1].to_owned(), parts[2].to_owned()]
    }
}
