//! What a caller expects of a token. The token chooses none of it.

use nightlatch_model::{ObjectId, TenantId};

use crate::header::Algorithm;

/// Which token endpoint's form a token has (`ver`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `ver` 1.0, issuer `https://sts.windows.net/<tenant>/` with the slash at the end.
    V1,
    /// `ver` 2.0, issuer `https://login.microsoftonline.com/<tenant>/v2.0` without one.
    V2,
}

/// One accepted issuer, to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// As `iss` must spell it.
    pub text: String,
    /// What `ver` must say with it.
    pub version: Version,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It opens something for a person: has `scp`.
    UserAccess,
    /// It opens something for an application: has no `scp`, but `roles` or `idtyp` `app`.
    AppAccess,
    /// It says who signed in: no `scp`, and nothing that only access tokens have.
    Id,
}

/// Evidence that a token must show. What is not in the token is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Ways of signing in, all of which `amr` must name (`mfa`).
    pub amr: Vec<String>,
    /// Authentication contexts, all of which `acrs` must name (`c1`).
    pub acrs: Vec<String>,
    /// Whether a device id must be there.
    pub device: bool,
    /// Ways of signing in that `amr` must not name; it must be there to tell.
    pub forbidden_amr: Vec<String>,
    /// The longest time since `auth_time`, in seconds.
    pub max_auth_age_s: Option<i64>,
}

/// What a token must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The one tenant.
    pub tenant: TenantId,
    /// The accepted issuers of that tenant.
    pub issuers: Vec<Issuer>,
    /// The accepted audiences; with none no token is accepted.
    pub audiences: Vec<String>,
    /// The accepted algorithms; RS256 where nothing else is configured.
    pub algorithms: Vec<Algorithm>,
    /// What it must be for.
    pub kind: Kind,
    /// The applications it may have been issued to (`azp`, `appid`); any where the list is empty.
    pub clients: Vec<String>,
    /// The person it must be about, where the caller knows.
    pub person: Option<ObjectId>,
    /// The nonce it must have, where the caller knows.
    pub nonce: Option<String>,
    /// Whether guests of the tenant are accepted.
    pub guests: bool,
    /// What else it must show.
    pub evidence: Evidence,
    /// How far clocks may differ, in seconds; at most [`crate::MAX_LEEWAY_S`].
    pub leeway_s: i64,
}

impl Expected {
    /// A person's access token of this tenant, from the public cloud, for one audience: the common case to start from.
    #[must_use]
    pub fn person(tenant: TenantId, audience: &str) -> Self {
        let v1 = Issuer { text: format!("https://sts.windows.net/{tenant}/"), version: Version::V1 };
        let v2 =
            Issuer { text: format!("https://login.microsoftonline.com/{tenant}/v2.0"), version: Version::V2 };
        Self {
            tenant,
            issuers: vec![v1, v2],
            audiences: vec![audience.to_owned()],
            algorithms: vec![Algorithm::Rs256],
            kind: Kind::UserAccess,
            clients: Vec::new(),
            person: None,
            nonce: None,
            guests: false,
            evidence: Evidence::default(),
            leeway_s: 60,
        }
    }
}
