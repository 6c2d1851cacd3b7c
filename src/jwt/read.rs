//! Reads claims out of a payload: the right type or nothing.

use nightlatch_model::{Guid, ObjectId, TenantId, Timestamp};

use crate::claims::Groups;
use crate::json::{Json, Object, member};
use crate::limits::{MAX_CLAIM_BYTES, MAX_CLAIM_ITEMS};
use crate::refusal::Refusal;

/// The last second of the year 9999: what is later is no date.
const LAST: i64 = 253_402_300_799;
/// The hosts under which a tenant is its own identity provider, in every cloud.
const OWN_PROVIDERS: [&str; 2] = ["https://sts.windows.net", "https://sts.chinacloudapi.cn"];
/// The length of an id with its dashes, in bytes.
const GUID_BYTES: usize = 36;
/// What no name of a person may begin with: the platform's own (Kubernetes).
const RESERVED: &str = "system:";

/// A payload, asked for one claim after the other.
pub(crate) struct Payload(pub(crate) Object);

impl Payload {
    /// Whether a claim is there, whatever it says.
    pub(crate) fn has(&self, name: &str) -> bool {
        member(&self.0, name).is_some()
    }

    /// A text, where the claim is there.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Refusal> {
        match member(&self.0, name) {
            None => Ok(None),
            Some(Json::Text(text)) if text.len() <= MAX_CLAIM_BYTES => Ok(Some(text.clone())),
            Some(_) => Err(Refusal::Malformed(name)),
        }
    }

    /// A text that must be there and say something.
    pub(crate) fn required(&self, name: &'static str) -> Result<String, Refusal> {
        let text = self.text(name)?.ok_or(Refusal::Missing(name))?;
        if text.is_empty() { Err(Refusal::Malformed(name)) } else { Ok(text) }
    }

    /// A time in seconds (RFC 7519 §2, NumericDate without fractions), where it is there.
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Refusal> {
        match member(&self.0, name) {
            None => Ok(None),
            Some(Json::Int(seconds)) if (0..=LAST).contains(seconds) => Ok(Some(Timestamp(*seconds))),
            Some(_) => Err(Refusal::Malformed(name)),
        }
    }

    /// A time that must be there.
    pub(crate) fn required_time(&self, name: &'static str) -> Result<Timestamp, Refusal> {
        self.time(name)?.ok_or(Refusal::Missing(name))
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> Result<TenantId, Refusal> {
        guid(&self.required("tid")?, "tid")?.parse().map_err(|_| Refusal::Malformed("tid"))
    }

    /// The person or application.
    pub(crate) fn oid(&self) -> Result<ObjectId, Refusal> {
        guid(&self.required("oid")?, "oid")?.parse().map_err(|_| Refusal::Malformed("oid"))
    }

    /// An id, where it is there.
    pub(crate) fn id(&self, name: &'static str) -> Result<Option<Guid>, Refusal> {
        let text = self.text(name)?;
        text.map(|text| guid(&text, name)?.parse().map_err(|_| Refusal::Malformed(name))).transpose()
    }

    /// A list of texts, where it is there.
    pub(crate) fn list(&self, name: &'static str) -> Result<Option<Vec<String>>, Refusal> {
        let items = match member(&self.0, name) {
            None => return Ok(None),
            Some(Json::List(items)) if items.len() <= MAX_CLAIM_ITEMS => items,
            Some(_) => return Err(Refusal::Malformed(name)),
        };
        let text = |item: &Json| match item {
            Json::Text(text) if text.len() <= MAX_CLAIM_BYTES => Ok(text.clone()),
            _ => Err(Refusal::Malformed(name)),
        };
        items.iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A list of ids, where it is there.
    pub(crate) fn ids(&self, name: &'static str) -> Result<Option<Vec<Guid>>, Refusal> {
        let id = |text: &String| guid(text, name)?.parse().map_err(|_| Refusal::Malformed(name));
        self.list(name)?.map(|list| list.iter().map(id).collect()).transpose()
    }

    /// The groups, or that they are too many to list. A name is no id and is refused.
    pub(crate) fn groups(&self) -> Result<Groups, Refusal> {
        let too_many = match member(&self.0, "hasgroups") {
            None => false,
            Some(Json::Bool(has)) => *has,
            Some(_) => return Err(Refusal::Malformed("hasgroups")),
        };
        let elsewhere = match member(&self.0, "_claim_names") {
            None => false,
            Some(Json::Object(names)) => member(names, "groups").is_some(),
            Some(_) => return Err(Refusal::Malformed("_claim_names")),
        };
        match (self.ids("groups")?, too_many || elsewhere) {
            (Some(_), true) => Err(Refusal::GroupsConflict),
            (Some(groups), false) => Ok(Groups::Listed(groups)),
            (None, true) => Ok(Groups::TooMany),
            (None, false) => Ok(Groups::Unsaid),
        }
    }

    /// The name by which the person is shown.
    pub(crate) fn user_name(&self) -> Result<Option<String>, Refusal> {
        let mut first = None;
        for name in ["upn", "unique_name", "preferred_username"] {
            let found = self.text(name)?;
            if found.as_deref().is_some_and(is_reserved) {
                return Err(Refusal::ReservedName(name));
            }
            first = first.or(found);
        }
        Ok(first)
    }

    /// Whether the person is a guest: `acct` says it, and an identity provider that is not the tenant's own shows it.
    pub(crate) fn guest(&self, issuer: &str, tenant: TenantId) -> Result<Option<bool>, Refusal> {
        let account = match member(&self.0, "acct") {
            None => None,
            Some(Json::Int(0)) => Some(false),
            Some(Json::Int(1)) => Some(true),
            Some(_) => return Err(Refusal::Malformed("acct")),
        };
        let known = |provider: &str| OWN_PROVIDERS.iter().any(|host| provider == format!("{host}/{tenant}/"));
        let own = |provider: String| provider == issuer || known(&provider);
        let foreign = self.text("idp")?.map(|provider| !own(provider));
        Ok(match (account, foreign) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (None, None) => None,
            _ => Some(false),
        })
    }
}

/// The one spelling that Entra's tokens have: with dashes.
fn guid<'a>(text: &'a str, name: &'static str) -> Result<&'a str, Refusal> {
    if text.len() == GUID_BYTES { Ok(text) } else { Err(Refusal::Malformed(name)) }
}

fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}
